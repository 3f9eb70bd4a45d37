"""Hurt files and hostile calls, a few hundred of each: an answer or an error that says what is wrong, and nothing else.

EMOGS_TEST_EFFORT=50 meets more; `python tests/fuzz/campaign.py` is for a hundred thousand.
"""

from __future__ import annotations

import json
import os
import queue
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import campaign
import numpy as np
import pytest
from emotion_calls import meet_emotion_call
from head_files import flame_npz, flame_pickle, flame_safetensors
from loaders import LOADERS, Case, Loader, message_fault

from emogs.head import load_template
from emogs.head.fields import read_npz
from emogs.io import FormatError

EFFORT = float(os.environ.get("EMOGS_TEST_EFFORT", "1"))
FILES = max(20, round(150 * EFFORT))


@pytest.mark.parametrize("name", LOADERS)
def test_hurt_files(tmp_path, name):
    case = Case.of(name, tmp_path)
    case.loader.check(case.loader.load(case.sources[0][0]))
    outcomes = [case.outcome(index) for index in range(FILES)]
    faults = {index: what for index, what in enumerate(outcomes) if what not in ("read", "refused")}
    assert not faults
    assert min(outcomes.count("read"), outcomes.count("refused")) > 0.02 * FILES  # the hurts reach what is read


def test_hostile_calls():
    outcomes = Counter(meet_emotion_call(seed) for seed in range(round(600 * EFFORT)))
    assert min(outcomes["answered"], outcomes["refused"]) > 100 * EFFORT


@pytest.mark.parametrize("make", [flame_npz, flame_safetensors, flame_pickle], ids=lambda make: make.__name__)
def test_files_in_each_others_place(tmp_path, make):
    """A reader that meets another format's file says so, or reads what the file is."""
    original = make(tmp_path)[0]
    for ending in (".npz", ".safetensors", ".pkl", ".obj"):
        copy = Path(shutil.copy(original, tmp_path / f"copy{ending}"))
        try:
            assert load_template(copy).name == "flame"
        except FormatError as error:
            assert not message_fault(str(error), copy)


# The campaign finds what it is for -----------------------------------------------------------------------------------


def raises(error: Exception):
    def load(path: Path) -> None:
        raise type(error)(str(error).format(path=path))

    return load


@pytest.mark.parametrize(
    ("load", "outcome"),
    [
        (lambda path: 1, "read"),
        (lambda path: 0, "accepted what cannot be used"),
        (raises(TypeError("x")), "TypeError: x"),
        (raises(ValueError("{path}: no")), "refused"),
        (raises(UnicodeError("{path}: no")), "UnicodeError"),
        (raises(ValueError("no")), "names no file"),
        (raises(ValueError("{path}:\nno")), "takes several lines"),
        (raises(ValueError("{path}: " + "x" * 2000)), "letters"),
        (raises(ValueError("{path}: not readable: Unable to allocate 3 GiB")), "hides that memory ran out"),
    ],
)
def test_faults_are_told_from_errors(tmp_path, load, outcome):
    (tmp_path / "a").write_bytes(b"sound")
    loader = Loader("x", lambda folder: [folder / "a"], load, (lambda data, rng: b"hurt",), bool, ValueError)
    case = Case(loader, [(tmp_path / "a", b"sound")])
    assert outcome in case.outcome(0)
    assert (tmp_path / "a").read_bytes() == b"sound"


def test_the_same_number_is_the_same_file(tmp_path):
    one, other = (Case.of("ply", tmp_path / name) for name in "ab")
    assert [one.hurt(index)[1] for index in range(20)] == [other.hurt(index)[1] for index in reversed(range(20))][::-1]


class Answers(queue.Queue):
    """What a worker says of two files, and then what its end looks like; no clock runs."""

    def __init__(self, end: Callable[[], str | None]):
        super().__init__()
        self.rest = [json.dumps([index, "refused"]) for index in range(2)]
        self.end = end

    def get(self, block: bool = True, timeout: float | None = None) -> str | None:
        return self.rest.pop(0) if self.rest else self.end()


def crashes() -> None:
    """Its output ends."""


def hangs() -> str:
    raise queue.Empty


@pytest.mark.parametrize(
    ("script", "end", "fault"),
    [
        ("import os; os.kill(os.getpid(), 11)", crashes, "crash: SIGSEGV"),
        ("import time; time.sleep(600)", hangs, "no answer"),
    ],
)
def test_a_crash_and_a_hang_are_faults_and_the_campaign_goes_on(tmp_path, monkeypatch, script, end, fault):
    """A worker that meets two files and ends badly at the third; the next one starts behind it."""
    monkeypatch.setattr(campaign, "OUT", tmp_path)
    monkeypatch.setattr(campaign, "_lines_of", lambda process: Answers(end))
    monkeypatch.setattr(campaign.State, "command", lambda self, last: [sys.executable, "-c", script])
    state = campaign.State("ply")
    state.advance(5, lambda done: None)
    assert (state.files, state.outcomes["refused"], state.faults) == (3, 2, {"2": fault})
    assert (tmp_path / "faults" / "ply-2.ply").exists()
    again = campaign.State("ply")
    assert (again.files, again.faults) == (3, {"2": fault})
    again.recheck()  # the reader itself did nothing wrong
    assert (again.faults, again.outcomes["refused"] + again.outcomes["read"], again.outcomes["mended"]) == ({}, 3, 1)


def test_what_computes_little_is_slow_and_what_computes_much_hangs(monkeypatch):
    """Whatever a clock says: a busy machine gives a sound process little."""
    course, looks = iter([0.0, 1.0, 5.0, 11.0]), []
    monkeypatch.setattr(campaign, "_computed", lambda pid: next(course))

    def look() -> str:
        looks.append(1)
        raise queue.Empty

    answers = Answers(look)
    answers.rest = []
    with pytest.raises(queue.Empty):
        campaign._next(answers, 0, 10)
    assert len(looks) == 3


def test_a_process_s_computing_is_measured():
    computed = campaign._computed(os.getpid())
    assert 0 < computed <= campaign._computed(os.getpid())


def test_a_worker_s_lines_come_as_it_writes_them_and_then_the_end():
    with subprocess.Popen([sys.executable, "-c", "print(1); print(2)"], stdout=subprocess.PIPE, text=True) as process:
        lines = campaign._lines_of(process)
        assert [lines.get(), lines.get(), lines.get()] == ["1\n", "2\n", None]


def test_a_worker_says_one_line_for_each_file(capsys, monkeypatch):
    monkeypatch.setattr(campaign.resource, "setrlimit", lambda *_: None)  # this process has other tests to run
    campaign.work("landmark-points", 3, 6)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(",")[0] for line in lines] == ["[3", "[4", "[5"]


def test_archives_that_promise_too_much_are_refused_before_memory_is_asked_for(tmp_path, monkeypatch):
    monkeypatch.setattr("emogs.head.fields.MOST_BYTES", 1000)
    np.savez(tmp_path / "one.npz", a=np.zeros(200))
    np.savez(tmp_path / "many.npz", **{f"a{i}": np.zeros(50) for i in range(3)})
    for name in ("one", "many"):
        with pytest.raises(FormatError, match="expected at most 1000 bytes of arrays"):
            read_npz(tmp_path / f"{name}.npz")
    np.savez(tmp_path / "small.npz", a=np.zeros(50), b=np.zeros(50))
    assert sorted(read_npz(tmp_path / "small.npz").arrays) == ["a", "b"]
