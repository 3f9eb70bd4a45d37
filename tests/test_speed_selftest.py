"""`emogs bench selftest`: counts right verdicts, keeps what it has, and fails where the gate is wrong.

What it finds out takes a quarter of an hour and is nothing for a test; here its sides count calls of kernels.
"""

from __future__ import annotations

import dataclasses
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import speed_cases
import speed_pair
import speed_selftest
import torch
from gate import Broken
from rich.console import Console
from speed_selftest import SLOWDOWNS, Verdict
from speed_verdict import FINE, SLOWER, UNSURE

ROOT = Path(__file__).resolve().parents[1]
SAME = Verdict("identical", FINE, FINE, 1.0, 0.99, 1.01, 15, 20.0, 1.0)
MORE = Verdict("slower", SLOWER, SLOWER, 1.1, 1.08, 1.12, 30, 40.0, 1.0)


@pytest.fixture
def selftest(monkeypatch, tmp_path):
    """The self-test on this checkout as all three sides, wherever its files come from."""
    monkeypatch.setattr(speed_selftest, "built", lambda *_: ROOT)
    monkeypatch.setattr(speed_selftest, "tracked", lambda: [Path("setup.py")])
    threads = torch.get_num_threads()
    monkeypatch.setattr(speed_pair, "WORKER", Path(__file__).with_name("speed_counter.py"))

    def run(each: int, name: str = "selftest.json") -> tuple[int, str, dict]:
        output, out = io.StringIO(), tmp_path / "results" / name
        code = speed_selftest.selftest("norm", out, each, 0.05, 2, Console(file=output, width=200))
        return code, output.getvalue(), json.loads(out.read_text())

    yield run
    torch.set_num_threads(threads)


def test_a_slowdown_that_is_not_found_fails(selftest):
    """Normalizing a token twice is no further call of a kernel, so the counting clock cannot see it."""
    code, said, content = selftest(1)
    assert code == 1
    assert "1 of 1 are 'not slower'; ratios from 1.000 to 1.000" in said
    assert "slower: 0 of 1 are 'slower'" in said
    assert content["machine"]["threads"] == "1" and content["twice"] == 0.2
    kinds = [(verdict["name"], verdict["verdict"], verdict["pairs"]) for verdict in content["verdicts"]]
    assert kinds == [("identical", FINE, 2), ("slower", FINE, 2)]


def test_what_was_stopped_goes_on(selftest, monkeypatch):
    asked = []

    def ask(case, sides, kind, *_):
        if len(asked) == 3:
            raise KeyboardInterrupt
        asked.append(kind)
        return {"identical": SAME, "slower": MORE}[kind]

    monkeypatch.setattr(speed_selftest, "ask", ask)
    with pytest.raises(KeyboardInterrupt):
        selftest(2)
    del asked[:2]
    code, said, content = selftest(2)
    assert code == 0 and len(content["verdicts"]) == 4 and asked == ["identical", "slower"]
    assert said.count("(stored)") == 3 and "slower: 2 of 2 are 'slower'; ratios from 1.100 to 1.100" in said
    with pytest.raises(KeyboardInterrupt):  # finished: begins anew
        selftest(2)


def test_only_verdicts_of_the_same_run_are_kept(tmp_path):
    about, out = {"settings": {"each": 2}, "sources": "a"}, tmp_path / "x.json"
    assert speed_selftest.stored(out, about) == []
    speed_selftest.write(out, about | {"verdicts": [dataclasses.asdict(SAME)]})
    assert speed_selftest.stored(out, about) == [SAME]
    assert speed_selftest.stored(out, about | {"sources": "b"}) == []
    for damaged in ("", "[]", '{"verdicts": [{}]}', '{"settings": {"each": 2}, "sources": "a", "verdicts": 1}'):
        out.write_text(damaged)
        assert speed_selftest.stored(out, about) == []


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        (dataclasses.replace(SAME, verdict=SLOWER), "identical: 1 of 2 are 'not slower'"),
        (dataclasses.replace(SAME, verdict=UNSURE), "identical: 1 of 2 are 'not slower'"),
        (dataclasses.replace(MORE, verdict=FINE), "slower: 1 of 2 are 'slower'"),
    ],
)
def test_one_wrong_verdict_fails(wrong, text):
    output = io.StringIO()
    assert speed_selftest.judge([SAME, MORE, wrong], Console(file=output, width=200)) == 1
    assert text in output.getvalue()
    assert speed_selftest.judge([SAME, MORE], Console(file=output, width=200)) == 0


@pytest.mark.parametrize("name", SLOWDOWNS)
def test_the_slower_side_is_this_checkout_with_one_statement_run_again(tmp_path, monkeypatch, name):
    built, slowdown = [], SLOWDOWNS[name]
    monkeypatch.setattr(speed_selftest, "command", lambda arguments, folder, **_: built.append(folder))
    sources = [Path("setup.py"), slowdown.file]
    speed_selftest.built(tmp_path / "base", sources)
    for _ in range(2):
        speed_selftest.built(tmp_path / "slower", sources, slowdown)
    assert built == [tmp_path / "base", tmp_path / "slower"]  # once each
    same, slower = ((tmp_path / folder / slowdown.file).read_text() for folder in ("base", "slower"))
    assert same == (ROOT / slowdown.file).read_text()
    assert slower == same.replace(slowdown.statement, slowdown.slower) != same
    assert slowdown.case in speed_cases.all_cases(speed_cases.FULL)
    gone = dataclasses.replace(slowdown, statement="no_such_call();")
    with pytest.raises(Broken, match="expected, once, what the self-test makes slower"):
        speed_selftest.built(tmp_path / "other", sources, gone)
    assert not (tmp_path / "other" / "built").exists()


def test_the_other_process_ends(monkeypatch):
    monkeypatch.setattr(speed_selftest, "BUSY", "import os, sys, time; time.sleep(600)")
    started = []
    start = speed_selftest.subprocess.Popen
    monkeypatch.setattr(speed_selftest.subprocess, "Popen", lambda *a: started.append(start(*a)) or started[-1])
    with pytest.raises(ZeroDivisionError), speed_selftest.keeping_busy():
        os.kill(started[0].pid, 0)  # runs
        raise ZeroDivisionError
    assert started[0].returncode is not None


def test_the_other_process_outlives_nobody():
    """Its parent starts it and ends at once."""
    code = "import os, subprocess, sys; subprocess.Popen([sys.executable, '-c', sys.argv[1], str(os.getpid())])"
    command = [sys.executable, "-c", code, speed_selftest.BUSY]
    subprocess.run(command, check=True, stdout=subprocess.PIPE)  # until both have closed it
