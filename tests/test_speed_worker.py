"""The speed gate's worker: where it puts a benchmark's data, how it asks for a core, and what it answers."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import speed_pair
import speed_worker
import torch
from speed_side import Broken, Side

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


def test_gaps_of_random_length_go_before_tensors():
    lengths = []
    for _ in range(2):
        with speed_worker.scattered() as gaps:
            first = torch.randn(5)
            first.clone()
            torch.add(first, 1)  # not of those that make a benchmark's data
        lengths.append([len(gap) for gap in gaps])
        assert len(gaps) == 2 and all(len(gap) < speed_worker.FARTHEST for gap in gaps)
    assert lengths[0] != lengths[1]
    torch.randn(5)
    assert len(gaps) == 2  # only inside


def test_a_benchmark_that_fails_while_it_is_made_leaves_no_gaps_behind():
    with pytest.raises(ZeroDivisionError), speed_worker.scattered() as gaps:
        raise ZeroDivisionError
    torch.randn(5)
    assert gaps == []


@pytest.mark.skipif(not hasattr(os, "sched_setscheduler"), reason="this system has no such call")
def test_a_core_is_claimed_where_that_is_allowed(monkeypatch):
    asked = []
    monkeypatch.setattr(os, "sched_setscheduler", lambda *arguments: asked.append(arguments[:2]))
    monkeypatch.setattr(os, "sched_setaffinity", lambda *arguments: asked.append(arguments))
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {1, 5, 3})
    speed_worker.claim_a_core()
    assert asked == [(0, os.SCHED_FIFO), (0, {5})]

    def refuse(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "sched_setscheduler", refuse)
    speed_worker.claim_a_core()
    assert len(asked) == 2  # not bound to a core that others use too
    monkeypatch.delattr(os, "sched_setscheduler")
    speed_worker.claim_a_core()


BEGIN = """
import sys
import speed_worker

if sys.argv[4:]:
    speed_worker.Worker = lambda *_: 1 / 0
speed_worker.main(*sys.argv[1:4])
"""


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        ([], [{"answer": None}, {"error": "KeyError: 'no-such-case'"}, {"answer": None}]),
        (["broken"], [{"error": "ZeroDivisionError: division by zero"}, {"answer": None}]),
    ],
)
def test_a_fork_answers_until_it_is_told_to_end(broken, said):
    """One that cannot begin says so, and neither ends the worker."""
    lines = ["fork", "end"] if broken else ["fork", "prepare no-such-case 0", "end"]
    command = [sys.executable, "-c", BEGIN, str(BENCHMARKS.parent), "1", "quick", *broken]
    environment = os.environ | {"PYTHONPATH": str(BENCHMARKS)}
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        for line, expected in zip(2 * lines + ["end"], 2 * said + [{"answer": None}], strict=True):
            print(line, file=process.stdin, flush=True)
            assert json.loads(process.stdout.readline()) == expected
    assert process.returncode == 0


HANGS = """
import json, os, sys, time

for line in iter(sys.stdin.readline, ""):
    if line == "time\\n":
        os.fork()
        time.sleep(600)
    print(json.dumps({"answer": line.strip()}), flush=True)
"""


@pytest.fixture
def process(tmp_path, monkeypatch):
    """A worker that hangs, with its fork, when it is asked for a time."""
    worker = tmp_path / "worker.py"
    worker.write_text(HANGS)
    monkeypatch.setattr(speed_pair, "WORKER", worker)
    return speed_pair.Process(Side("base", tmp_path), 1, True)


def test_a_worker_that_hangs_is_given_up_and_the_next_one_answers(process, monkeypatch):
    hung = process.process
    assert process.ask("names") == "names"
    with monkeypatch.context() as patch, pytest.raises(Broken) as caught:
        patch.setattr(speed_pair, "PATIENCE", 0)
        process.ask("time")
    assert str(caught.value) == "base: no answer to 'time' in 0 s: the process that times it hangs"
    assert hung.returncode == -signal.SIGKILL and hung.stdout.closed  # which its fork had open too
    assert process.ask("end") == "end"
    process.close()
    assert process.process.returncode == 0


def test_a_worker_that_hangs_at_the_end_is_ended(process, monkeypatch):
    print("time", file=process.process.stdin, flush=True)
    monkeypatch.setattr(speed_pair, "PATIENCE", 0)
    process.close()
    assert process.process.returncode == -signal.SIGKILL
