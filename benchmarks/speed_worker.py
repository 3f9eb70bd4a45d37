"""One side of a comparison: a process that has one revision's emogs, and forks one that times its benchmarks.

`python speed_worker.py SIDE THREADS full|quick`: SIDE is the folder of that revision. It reads a command a line and
answers with a line of JSON. `fork` makes a process that answers from then on, until `end`: `names`, `machine`,
`prepare NAME CALLS` (0: it finds out how many), `time`. torch is imported once, before; all that a benchmark owns is
made after, in memory of the fork's own, at places drawn by lot. With one thread it counts the processor time of its
process, in which other processes do not show; otherwise the clock's.
"""

from __future__ import annotations

import json
import os
import random
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

FINE = 1e-4  # seconds between two ticks of a clock, at most
SAMPLE = 0.01  # seconds: shorter calls are timed several at a time
LONG = 0.2  # seconds: such calls need little warming up, and average by themselves
WARM_UP = 3  # calls that fetch what memory the following ones use again
FARTHEST = 2 << 20  # bytes between neighbours in memory, at most: a huge page
ALLOCATING = {"clone", "contiguous", "empty", "empty_like", "full_like", "new_empty", "rand", "randn", "to"}


def clock_of(device: str, threads: int) -> Callable[[], float]:
    """Seconds since some instant, by which a benchmark on that device is judged: of the processor with one thread, in
    which other processes hardly show; else the wall's."""
    return time.process_time if threads == 1 and device == "cpu" and processor_clock_is_fine() else time.perf_counter


@cache
def processor_clock_is_fine() -> bool:
    """Whether processor time is counted finely enough; some sandboxes count it in hundredths of a second."""

    def step() -> float:
        start = time.process_time()
        while (now := time.process_time()) == start:
            pass
        return now - start

    return min(step() for _ in range(5)) < FINE


def claim_a_core() -> None:
    """One core, and nobody else on it, as far as the system allows: else every interruption costs the caches.

    Both sides take the same core, since they alternate. The system keeps some time for others (95% at most are given).
    """
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    except (AttributeError, OSError):
        pass


@contextmanager
def scattered() -> Iterator[list[Any]]:
    """Inside, a gap of random length goes before each tensor; gives the gaps, to be kept.

    How tensors lie to each other makes a call up to 10% slower or faster (cache sets, addresses equal modulo 4096),
    always the same within one process. Drawn by lot it is noise, which an interval over processes knows of.
    """
    import torch

    gaps: list[Any] = []
    lot = random.SystemRandom()

    def before(_: object, event: str, function: Any) -> None:
        if event == "c_call" and function.__name__ in ALLOCATING:
            gaps.append(torch.empty(lot.randrange(FARTHEST), dtype=torch.uint8))

    sys.setprofile(before)
    try:
        yield gaps
    finally:
        sys.setprofile(None)


class Worker:
    """What the commands do."""

    def __init__(self, quick: bool, threads: int) -> None:
        import speed_cases
        import torch

        torch.set_num_threads(threads)
        self.threads = threads
        self.cases = speed_cases.all_cases(speed_cases.QUICK if quick else speed_cases.FULL)

    def names(self) -> list[str]:
        return list(self.cases)

    def machine(self) -> dict[str, str]:
        from speed_machine import fingerprint

        return fingerprint()

    def prepare(self, name: str, calls: str) -> dict[str, int | bool]:
        """Makes a case, warms it up, and finds how many calls make a sample."""
        make = self.cases[name]
        self.device = make.keywords["device"].type
        self.clock = clock_of(self.device, self.threads)
        self.calls = 1
        with scattered() as self.gaps:
            self.work = make()
            self.work.call()
        seconds = self.time()
        for _ in range(WARM_UP if seconds < LONG else 0):
            seconds = self.time()
        self.calls = int(calls) or max(1, round(SAMPLE / max(seconds, 1e-6)))
        is_long = self.calls * seconds >= LONG
        return {"bytes": self.work.bytes, "pairs": self.work.pairs, "calls": self.calls, "is_long": is_long}

    def time(self) -> float:
        """Seconds of one sample, a call."""
        start = self.clock()
        for _ in range(self.calls):
            self.work.call()
        if self.device == "cuda":
            import torch

            torch.cuda.synchronize()
        return (self.clock() - start) / self.calls


def say(answer: dict[str, Any]) -> None:
    print(json.dumps(answer), flush=True)


def answer(worker: Worker, line: str) -> dict[str, Any]:
    command, *arguments = line.split()
    try:
        return {"answer": getattr(worker, command)(*arguments)}
    except Exception as error:  # the other side must hear of it, whatever it is
        return {"error": f"{type(error).__name__}: {error}"}


def work(quick: bool, threads: int) -> None:
    """A fork's life: answers until it is told to end, or nobody is left who asks."""
    try:
        worker = Worker(quick, threads)
        say({"answer": None})
    except Exception as error:
        say({"error": f"{type(error).__name__}: {error}"})
    for line in iter(sys.stdin.readline, ""):
        if line.strip() == "end":
            return
        say(answer(worker, line))


def fork(quick: bool, threads: int) -> None:
    """Lets a fork answer, and does when that ends."""
    process = os.fork()
    if process == 0:
        status = 1
        try:
            work(quick, threads)
            status = 0
        finally:
            os._exit(status)  # what the parent has open is not the fork's to close
    code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    say({"error": f"the process that times it has died (exit code {code})"} if code else {"answer": None})


def main(side: str, threads: str, size: str) -> None:
    folder, here = Path(side).resolve(), Path(__file__).resolve().parent
    own = folder / "benchmarks"
    paths = [folder, own if (own / "speed_cases.py").is_file() else here, here]
    sys.path[:0] = [str(path) for path in paths]
    if threads == "1":
        claim_a_core()
    import speed_cases  # noqa: F401  (torch and all of emogs, once for all forks)

    import emogs

    if Path(emogs.__file__).resolve().parents[1] != folder:
        sys.exit(f"speed_worker: emogs comes from {emogs.__file__}, not from {folder}")
    for line in iter(sys.stdin.readline, ""):
        if line.strip() == "fork":
            fork(size == "quick", int(threads))
        else:  # "end", of a fork that has died
            say({"answer": None})


if __name__ == "__main__":
    main(*sys.argv[1:])
