"""Processes that time both sides in turns: a new pair of them for every ratio."""

from __future__ import annotations

import json
import os
import select
import signal
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from speed_side import Broken, Side

WORKER = Path(__file__).with_name("speed_worker.py")
PATIENCE = 600  # seconds for one answer; the slowest take some seconds, and a minute on a machine that is very busy
TURNS = 5  # of a pair of processes: base, head, head, base; one where a call takes long
SETTLED = {
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",  # with small pages, caches collide by the lot of the system
    "OPENBLAS_NUM_THREADS": "1",  # no threads before a fork
}


class Process:
    """A worker that has one side loaded (speed_worker.py)."""

    def __init__(self, side: Side, threads: int, quick: bool) -> None:
        self.side = side
        self.command = [sys.executable, str(WORKER), str(side.folder), str(threads), "quick" if quick else "full"]
        self.process = self.begin()

    def begin(self) -> subprocess.Popen[str]:
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | SETTLED
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        return subprocess.Popen(self.command, **pipes, env=environment, cwd=self.side.folder, start_new_session=True)

    def ask(self, line: str) -> Any:
        """The answer to a command. After a worker that hangs another one begins, so that the rest can be asked.

        Raises:
            Broken: the worker died, refuses, or says nothing for PATIENCE seconds.
        """
        assert self.process.stdin and self.process.stdout
        try:
            self.process.stdin.write(line + "\n")
            self.process.stdin.flush()
            if not select.select([self.process.stdout], [], [], PATIENCE)[0]:
                self.kill()
                self.process = self.begin()
                what = f"no answer to {line!r} in {PATIENCE} s: the process that times it hangs"
                raise Broken(f"{self.side.name}: {what}")
            said = self.process.stdout.readline()
        except BrokenPipeError:
            said = ""
        if not said:
            raise Broken(f"{self.side.name}: the process that times it has died (exit code {self.process.wait()})")
        answer = json.loads(said)
        if "error" in answer:
            raise Broken(f"{self.side.name}: {answer['error']}")
        return answer["answer"]

    def kill(self) -> None:
        """Ends the worker and its fork."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.communicate()

    def close(self) -> None:
        try:
            self.process.communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            self.kill()


class Pair:
    """Both sides, loaded, forked anew for every ratio."""

    def __init__(self, base: Side, head: Side, threads: int, quick: bool) -> None:
        self.base, self.head, self.start = base, head, lambda side: Process(side, threads, quick)
        self.processes = [self.start(base), self.start(head)]
        self.name, self.calls, self.turns, self.batches = "", 0, TURNS, 0
        self.done: Callable[[float], object] = lambda ratio: None
        """Is called after each ratio, to show that something happens."""

    def __enter__(self) -> Pair:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.processes:
            process.close()

    @contextmanager
    def forks(self) -> Iterator[None]:
        """Inside, a new process answers for each side."""
        try:
            for process in self.processes:
                process.ask("fork")
            yield
        finally:
            for process in self.processes:
                process.ask("end")

    def ask(self, line: str) -> list[Any]:
        """What base and head answer."""
        with self.forks():
            return [process.ask(line) for process in self.processes]

    def prepare(self, name: str) -> str | None:
        """Chooses a benchmark. Says so where the work is not the same on both sides."""
        theirs, ours = self.ask(f"prepare {name} 0")
        self.name, self.calls, self.batches = name, max(ours["calls"], theirs["calls"]), 0
        self.turns = 1 if ours["is_long"] or theirs["is_long"] else TURNS
        other = [f"{what} {theirs[what]} / {ours[what]}" for what in ("bytes", "pairs") if theirs[what] != ours[what]]
        return ", ".join(other) or None

    def ratio(self) -> float:
        """Head / base: the median turn of two new processes."""
        with self.forks():
            base, head = self.processes
            for process in self.processes:
                process.ask(f"prepare {self.name} {self.calls}")
            turns = []
            for _ in range(self.turns):
                times = [process.ask("time") for process in (base, head, head, base)]
                turns.append((times[1] + times[2]) / (times[0] + times[3]))
        return statistics.median(turns)

    def batch(self, count: int) -> list[float]:
        """So many ratios. A benchmark's second batch and every later one load both sides anew: they confirm the first,
        so nothing that lasts may be common to them (where the system puts libraries and the stack).
        """
        if self.batches:
            self.__exit__()
            self.processes = [self.start(side) for side in (self.base, self.head)]
        self.batches += 1
        ratios = []
        for _ in range(count):
            ratios.append(self.ratio())
            self.done(ratios[-1])
        return ratios
