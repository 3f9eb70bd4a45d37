"""One side of a comparison: a process that has one revision's emogs and times its benchmarks on demand.

`python speed_worker.py SIDE THREADS full|quick`: SIDE is the folder of that revision. It reads a command a line and
answers with a line of JSON: `names`, `machine`, `prepare NAME`, `calls_are COUNT`, `time`. With one thread it counts
the processor time of its process, in which other processes do not show; otherwise the clock's.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

SAMPLE = 0.01  # seconds: shorter calls are timed several at a time


def clock_of(device: str, threads: int) -> Callable[[], float]:
    """Seconds since some instant, by which a benchmark on that device is judged."""
    return time.process_time if threads == 1 and device == "cpu" else time.perf_counter


class Worker:
    """What the commands do."""

    def __init__(self, quick: bool, threads: int) -> None:
        import speed_cases

        self.threads = threads
        self.cases = speed_cases.all_cases(speed_cases.QUICK if quick else speed_cases.FULL)

    def names(self) -> list[str]:
        return list(self.cases)

    def machine(self) -> dict[str, str]:
        from speed_machine import fingerprint

        return fingerprint()

    def prepare(self, name: str) -> dict[str, int]:
        """Makes a case, warms it up, and finds how many calls make a sample."""
        make = self.cases[name]
        self.work, self.device = make(), make.keywords["device"].type
        self.clock = clock_of(self.device, self.threads)
        self.calls = 1
        for _ in range(2):
            self.time()
        self.calls = max(1, round(SAMPLE / max(self.time(), 1e-6)))
        return {"bytes": self.work.bytes, "pairs": self.work.pairs, "calls": self.calls}

    def calls_are(self, count: str) -> None:
        """Both sides make as many."""
        self.calls = int(count)

    def time(self) -> float:
        """Seconds of one sample, a call."""
        start = self.clock()
        for _ in range(self.calls):
            self.work.call()
        if self.device == "cuda":
            import torch

            torch.cuda.synchronize()
        return (self.clock() - start) / self.calls


def answer(worker: Worker, line: str) -> dict[str, Any]:
    command, *arguments = line.split()
    try:
        return {"answer": getattr(worker, command)(*arguments)}
    except Exception as error:  # the other side must hear of it, whatever it is
        return {"error": f"{type(error).__name__}: {error}"}


def main(side: str, threads: str, size: str) -> None:
    folder, here = Path(side).resolve(), Path(__file__).resolve().parent
    own = folder / "benchmarks"
    paths = [folder, own if (own / "speed_cases.py").is_file() else here, here]
    sys.path[:0] = [str(path) for path in paths]
    import torch

    import emogs

    if Path(emogs.__file__).resolve().parents[1] != folder:
        sys.exit(f"speed_worker: emogs comes from {emogs.__file__}, not from {folder}")
    torch.set_num_threads(int(threads))
    worker = Worker(size == "quick", int(threads))
    for line in sys.stdin:
        print(json.dumps(answer(worker, line)), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
