"""The emulator catches every seeded bug (bugs/*.cu) where README.md says it does, and nothing where there is none.

`python tests/emulator/test_seeded_bugs.py` runs all bugs in all builds that are there and prints README.md's table.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

README = Path(__file__).with_name("README.md")
BUILD = Path(__file__).resolve().parents[2] / "build"
BUILDS = {"": BUILD / "emulate", "thread": BUILD / "emulate-thread", "address": BUILD / "emulate-address"}
SANITIZER = os.environ.get("EMOGS_SANITIZE", "")  # `make sanitize` sets it, having built that one
SEEDS = range(1, 6)

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the emulator runs on Linux only")


def run(bug: str, on: bool, sanitizer: str = "", order: str = "forward") -> str:
    """What came of it: "right", "wrong", "error" (of the launch), "report" (of a sanitizer), "crash"."""
    environment = os.environ | {"EMOGS_EMULATOR_ORDER": order, "EMOGS_EMULATOR_THREADS": "1"}
    command = [BUILDS[sanitizer] / "seeded_bugs", bug, "on" if on else "off"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    if re.search("Sanitizer|runtime error", done.stderr):
        return "report"
    return "crash" if done.returncode < 0 else {0: "right", 1: "wrong", 2: "error"}[done.returncode]


@cache
def names(sanitizer: str = "") -> tuple[str, ...]:
    path = BUILDS[sanitizer] / "seeded_bugs"
    if not path.exists():
        return ()
    return tuple(subprocess.run([path], capture_output=True, text=True, check=True).stdout.splitlines())


def measure(bug: str, sanitizer: str) -> list[str]:
    """The cells of the bug's row that this build can fill: empty where it is not caught."""
    caught = run(bug, on=True, sanitizer=sanitizer)
    cells = ["" if caught == "right" else caught]
    if not sanitizer:
        seeds = [run(bug, on=True, order=f"random:{seed}") for seed in SEEDS]
        count = len(seeds) - seeds.count("right")
        cells.append(f"{count} of {len(seeds)}" if count else "")
    return cells


def stated(sanitizer: str) -> dict[str, list[str]]:
    """The same cells in README.md."""
    rows = [line.strip("| ").split("|") for line in README.read_text().splitlines() if line.startswith("| bug: ")]
    columns = {"": slice(1, 3), "thread": slice(3, 4), "address": slice(4, 5)}[sanitizer]
    table = {}
    for row in rows:
        cells = [cell.strip() for cell in row] + [""] * (5 - len(row))
        table[cells[0].removeprefix("bug: ")] = cells[columns]
    return table


def test_every_bug_is_in_the_table_and_caught_somewhere():
    assert names(), "no seeded bugs: run `make emulator`"
    tables = [stated(sanitizer) for sanitizer in BUILDS]
    assert sorted(tables[0]) == sorted(names())
    assert all(any("".join(table[bug]) for table in tables) for bug in names())


@pytest.mark.parametrize("bug", names(SANITIZER))
def test_caught_as_stated(bug):
    assert measure(bug, SANITIZER) == stated(SANITIZER)[bug]


@pytest.mark.parametrize("bug", names(SANITIZER))
def test_nothing_is_found_without_the_bug(bug):
    assert run(bug, on=False, sanitizer=SANITIZER) == "right"
    assert SANITIZER or run(bug, on=False, order="random:1") == "right"


def test_too_much_shared_memory_is_named():
    """The driver's own words are "invalid argument", whatever is wrong."""
    command = [BUILDS[SANITIZER] / "seeded_bugs", "more shared memory than a block can have", "on"]
    said = subprocess.run(command, capture_output=True, text=True)
    assert "kernel with 102400 bytes of shared memory: invalid argument" in said.stdout + said.stderr


def print_table() -> None:
    print("| | forward order | random orders | ThreadSanitizer | AddressSanitizer, UBSan |\n|---|---|---|---|---|")
    for bug in names():
        cells = [cell for sanitizer in BUILDS for cell in (measure(bug, sanitizer) if names(sanitizer) else ["?"])]
        print(f"| bug: {bug} | {' | '.join(cells)} |")


if __name__ == "__main__":
    sys.exit(print_table())
