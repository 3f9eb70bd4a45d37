"""`make sanitize` as far as that goes without sanitizers: who is a kernel, which tests launch it, what is said of one
that none does."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import sys
from collections import Counter
from pathlib import Path

import pytest
import torch
from direct_calls import meet_direct_call
from emulation import FOLDER, emulated
from raster_extremes import seeds

import emogs

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

import sanitize  # noqa: E402
from sanitize_plugin import plain_name, spread  # noqa: E402

ROOT = HERE.parents[1]
BUILD = dataclasses.replace(sanitize.PLAIN, folder=Path(os.environ.get("EMOGS_EMULATOR_BUILD", FOLDER)))

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the emulator runs on Linux only")


@pytest.fixture(scope="module")
def kernels() -> dict[int, str]:
    if shutil.which("nm") is None:
        pytest.skip("needs nm")
    return sanitize.kernels(BUILD)


def test_every_kernel_of_the_budget_is_found(kernels):
    budget = json.loads((ROOT / "benchmarks" / "cuda_budget.json").read_text())["files"]
    known = {
        kernel + variant for file in budget.values() for kernel, entry in file.items() for variant in entry["variants"]
    }
    assert sorted(kernels.values()) == sorted(known)


def test_a_launch_is_recorded_once_and_has_a_name(kernels, tmp_path, monkeypatch):
    record = tmp_path / "launches"
    monkeypatch.setenv("EMOGS_EMULATOR_RECORD", str(record))
    with emulated():
        for _ in range(2):
            emogs.emotion_renorm(torch.zeros(1, 2, 3), *torch.zeros(3, 1, 3))
    assert [kernels[int(line, 16)] for line in record.read_text().split()] == ["emotion_renorm_forward_kernel<float>"]


def test_a_kernel_that_no_test_has_launched_is_named(kernels, tmp_path, monkeypatch):
    """And a native function of the CPU's that none has called."""
    monkeypatch.setattr(sanitize, "kernels", lambda build: kernels)
    first, second, *others = kernels
    build = dataclasses.replace(BUILD, folder=tmp_path)
    (tmp_path / "launches").write_text("".join(f"{at:#x}\n" for at in others))
    assert sanitize.not_run(build) == sorted(f"no test has launched {kernels[at]}" for at in (first, second))
    build = dataclasses.replace(sanitize.BUILDS["cpu"], folder=tmp_path)
    names = {name.removeprefix("no test has called ") for name in sanitize.not_run(build)}
    assert {"blend_tiles_forward", "intersect_tiles_fill", "rig_frames_backward"} <= names
    assert not names & {"use_isa", "intersect_tiles_emit"}
    (tmp_path / "calls").write_text("\n".join(names - {"rig_frames_backward"}))
    assert sanitize.not_run(build) == ["no test has called rig_frames_backward"]


def test_chosen_tests_launch_every_kernel():
    launches = {
        "a::test[1]": (1.0, {1}), "a::test[2]": (2.0, {1, 2}), "a::test[3]": (3.0, {2}),
        "b::test[1]": (9.0, {3, 4}), "b::test[2]": (5.0, {3}), "c::test": (1.0, set()),
    }  # fmt: skip
    chosen = sanitize.chosen(launches, {1, 2, 3, 4, 5})  # nobody launches 5
    assert chosen == ["a::test[1]", "a::test[2]", "b::test[1]", "b::test[2]", "c::test"]


def test_chosen_tests_are_there():
    """`python tests/emulator/sanitize.py choose` writes the list anew."""
    names = sanitize.CHOSEN.read_text().split("\n")[:-1]
    functions = {name.partition("[")[0] for name in names}
    assert len(names) == len(set(names)) > 80
    for path, _, function in (name.partition("::") for name in functions):
        assert f"def {function.rpartition('::')[2]}(" in (ROOT / path).read_text(), path


def test_a_test_has_one_name_in_every_order():
    assert plain_name("a.py::test[emulated-random:12-3]") == plain_name("a.py::test[emulated-forward-3]")
    assert spread([1, 2, 3], 2) == [1, 2] and spread(list(range(100)), 4) == [0, 25, 50, 75] and spread([1], 3) == [1]


def test_hostile_calls_of_the_operations_themselves():
    """Errors of a few types, results, and a process that goes on."""
    outcomes = Counter(meet_direct_call(seed) for seed in seeds(150))
    with emulated():
        outcomes += Counter(meet_direct_call(seed) for seed in seeds(50))
    assert all(outcomes[kind] > 0.2 * outcomes.total() for kind in ("answered", "refused")), outcomes
