"""`emogs bench selftest`: may the gate be trusted here? Of code that is the same it must say so, and of a kernel that
does 10% more work that it is slower, every time, while another process keeps memory and a core busy.

Three copies of this checkout are built in folders of different names: base, the same once more, and one that blends
12% of the tiles twice. The clock alone decides; the layers before it would tell them apart at once.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from gate import ROOT, Broken
from rich.console import Console
from rich.progress import Progress, TimeElapsedColumn
from speed_cases import Scene, projected
from speed_machine import fingerprint
from speed_pair import Pair
from speed_side import BUILDS, Side, command
from speed_verdict import FINE, SLOWER, decide

from emogs.ops import intersect_tiles

CASE = "blend_tiles/head80000-3channels/float32/forward/cpu"
TWICE = 118  # of 1000 tiles, spread over the image; splats are cached the second time, so that is 10% more time
SPREAD = 617  # without a divisor in common with 1000
FOLDERS = {
    "base": "base",
    "identical": "built_from_the_same_code_once_more",
    "slower": "some_tiles_twice",
}
KERNEL = Path("csrc", "blend", "blend_cpu.cpp")
LOOP = "for (int64_t tile = 0; tile < tiles; tile++) valid = blend_tile<kChannels, kNote>(p, tile, settings) && valid;"
SLOWER_LOOP = f"""for (int64_t tile = 0; tile < tiles; tile++)
    for (int again = tile * {SPREAD} % 1000 < {TWICE}; again >= 0; again--)
      valid = blend_tile<kChannels, kNote>(p, tile, settings) && valid;"""
BUSY = """
import os, sys
here, there = bytes(1 << 26), bytearray(1 << 26)
while os.getppid() == int(sys.argv[1]):
    there[:] = here
"""
EXPECTED = {"identical": FINE, "slower": SLOWER}


@dataclass(frozen=True)
class Verdict:
    """What the gate said once."""

    name: str
    """identical or slower."""
    verdict: str
    expected: str
    ratio: float
    low: float
    high: float
    pairs: int
    seconds: float
    load: float
    """Processes that wanted to run, in the mean of the last minute."""

    @property
    def right(self) -> bool:
        return self.verdict == self.expected

    def __str__(self) -> str:
        figures = f"{self.ratio:.3f} times base [{self.low:.3f}, {self.high:.3f}], {self.pairs} pairs of processes"
        return f"{self.name}: {self.verdict}, {figures}, {self.seconds:.0f} s, load {self.load:.1f}"


def selftest(out: Path, each: int, tolerance: float, rounds: int, console: Console) -> int:
    """Asks the gate `each` times of both kinds of code, and prints and stores all that it says.

    An unfinished file of the same code, machine and settings is gone on with. Exit code 0: all verdicts are right.
    """
    torch.set_num_threads(1)
    sources = tracked()
    sides = {name: Side(name, built(BUILDS / "selftest" / folder, sources, name)) for name, folder in FOLDERS.items()}
    about = {
        "benchmark": CASE,
        "settings": {"each": each, "tolerance": tolerance, "rounds": rounds, "twice": TWICE},
        "machine": fingerprint(),
        "sources": digest(sources),
        "more_pairs": round(share_twice(), 4),
    }
    verdicts = stored(out, about)
    console.print(f"{CASE}; slower blends {about['more_pairs']:.1%} more pairs of a splat and a tile", markup=False)
    for number, verdict in enumerate(verdicts, 1):
        console.print(f"{number:2} {verdict} (stored)", markup=False)
    with keeping_busy(), Progress(*Progress.get_default_columns(), TimeElapsedColumn(), console=console) as bar:
        task = bar.add_task("verdicts", total=2 * each, completed=len(verdicts))
        while len(verdicts) < 2 * each:
            verdicts.append(ask(sides, list(EXPECTED)[len(verdicts) % 2], tolerance, rounds))
            bar.console.print(f"{len(verdicts):2} {verdicts[-1]}", markup=False)
            bar.advance(task)
            write(out, about | {"verdicts": [asdict(verdict) for verdict in verdicts]})
    return judge(verdicts, console)


def ask(sides: dict[str, Side], name: str, tolerance: float, rounds: int) -> Verdict:
    """One verdict."""
    start = time.monotonic()
    with Pair(sides["base"], sides[name], threads=1, quick=False) as pair:
        if other := pair.prepare(CASE):
            raise Broken(f"{CASE}: the sides do other work, {other}")
        verdict, paired = decide(pair.batch, tolerance, rounds)
    figures = [round(figure, 4) for figure in paired.interval()]
    seconds = round(time.monotonic() - start, 1)
    load = round(os.getloadavg()[0], 1)
    return Verdict(name, verdict, EXPECTED[name], *figures, len(paired.ratios), seconds, load)


def judge(verdicts: list[Verdict], console: Console) -> int:
    for name, expected in EXPECTED.items():
        asked = [verdict for verdict in verdicts if verdict.name == name]
        ratios = sorted(verdict.ratio for verdict in asked)
        right = sum(verdict.right for verdict in asked)
        console.print(
            f"{name}: {right} of {len(asked)} are {expected!r}; ratios from {ratios[0]:.3f} to {ratios[-1]:.3f}"
        )
    return 0 if all(verdict.right for verdict in verdicts) else 1


@contextmanager
def keeping_busy() -> Iterator[None]:
    """Inside, a process copies 64 MB after 64 MB. It ends with this one, however that ends."""
    process = subprocess.Popen([sys.executable, "-c", BUSY, str(os.getpid())])
    try:
        yield
    finally:
        process.kill()
        process.wait()


def share_twice() -> float:
    """How many more pairs the slower kernel goes over: those of the tiles that it blends twice."""
    scene = Scene(80_000)
    lists = intersect_tiles(projected(scene, torch.device("cpu")), *scene.pixels)
    pairs = lists.offsets.flatten().diff(append=torch.tensor([len(lists.ids)]))  # of each tile
    twice = torch.arange(len(pairs)) * SPREAD % 1000 < TWICE
    return float(pairs[twice].sum() / pairs.sum())


def tracked() -> list[Path]:
    """What a build and its benchmarks need of this checkout."""
    parts = ["CMakeLists.txt", "LICENSE", "README.md", "cmake", "csrc", "emogs", "pyproject.toml", "setup.py"]
    listed = command(["git", "ls-files", *parts, "benchmarks/*.py", "benchmarks/native", "benchmarks/*.cpp"], ROOT)
    return [Path(line) for line in listed.splitlines()]


def digest(sources: list[Path]) -> str:
    hashed = hashlib.sha256()
    for path in sources:
        hashed.update(f"{path}\0".encode() + (ROOT / path).read_bytes())
    return hashed.hexdigest()[:16]


def built(folder: Path, sources: list[Path], name: str) -> Path:
    """A copy of the sources, built there; the slower one is changed before."""
    mark, wanted = folder / "built", digest(sources) + SLOWER_LOOP
    if mark.is_file() and mark.read_text() == wanted:
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    for path in sources:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / path, folder / path)
    if name == "slower":
        text = (folder / KERNEL).read_text()
        if text.count(LOOP) != 1:
            raise Broken(f"{KERNEL}: expected the loop over tiles that the self-test makes slower:\n{LOOP}")
        (folder / KERNEL).write_text(text.replace(LOOP, SLOWER_LOOP))
    command([sys.executable, "setup.py", "--quiet", "build_ext", "--inplace"], folder, EMOGS_CUDA="off")
    mark.write_text(wanted)
    return folder


def stored(out: Path, about: dict[str, Any]) -> list[Verdict]:
    """Verdicts of a run like this one that was not finished; none otherwise."""
    try:
        content = json.loads(out.read_text())
        verdicts = [Verdict(**verdict) for verdict in content.pop("verdicts")]
    except (OSError, ValueError, KeyError, TypeError):
        return []
    return verdicts if content == about and len(verdicts) < 2 * about["settings"]["each"] else []


def write(out: Path, content: dict[str, Any]) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    half = out.with_suffix(".half")
    half.write_text(json.dumps(content, indent=1) + "\n")
    half.replace(out)
