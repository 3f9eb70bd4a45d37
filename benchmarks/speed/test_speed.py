"""One microbenchmark a case of speed_cases.py, each beside a copy that shows what memory gave at that moment."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
import torch
from speed_cases import Work

COPY_BYTES = 32 << 20  # read, and as many written
Timer = Callable[[], float]
LONGEST = 10.0  # seconds for the rounds of one benchmark, after three


def copy_speed(device: torch.device, timer: Timer) -> float:
    """GB/s, read and written, of the best of five copies."""
    source = torch.zeros(COPY_BYTES, dtype=torch.uint8, device=device)
    to = torch.empty_like(source)

    def copy() -> None:
        to.copy_(source)
        wait(device)

    return 2e-9 * COPY_BYTES / best_of(copy, timer)


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def best_of(call: Callable[[], object], timer: Timer, rounds: int = 5) -> float:
    """Seconds of the fastest."""
    times = []
    for _ in range(rounds):
        start = timer()
        call()
        times.append(timer() - start)
    return min(times)


def beside_limit(work: Work, timer: Timer, best: float, of_copy: float) -> dict[str, object]:
    """The ratio to what cannot be beaten: the bare pair loop where there is one, else a copy of the bytes."""
    if work.limit is None:
        return {"limit": "copy", "of_limit": of_copy}
    try:
        return {"limit": "pair loop", "of_limit": best_of(work.limit, timer) / best}
    except RuntimeError as error:  # no compiler for it
        return {"limit": "copy", "of_limit": of_copy, "no_pair_loop": str(error).splitlines()[0]}


def test_speed(benchmark, make: Callable[[], Work], request: pytest.FixtureRequest) -> None:
    rounds = request.config.getoption("--speed-rounds")
    device, timer = make.keywords["device"], request.node.get_closest_marker("benchmark").kwargs["timer"]
    work = make()
    before = copy_speed(device, timer)

    def call() -> None:
        work.call()
        wait(device)

    call()
    rounds = min(rounds, max(3, int(LONGEST / best_of(call, timer, 1))))
    benchmark.pedantic(call, rounds=rounds)
    best = benchmark.stats.stats.min
    copy = max(before, copy_speed(device, timer))
    speed = 1e-9 * work.bytes / best
    benchmark.extra_info |= {
        "bytes": work.bytes,
        "gigabytes_per_second": speed,
        "copy_gigabytes_per_second": copy,
        "of_copy": speed / copy,
        **beside_limit(work, timer, best, speed / copy),
        "clock": "processor" if timer is time.process_time else "wall",
    }
    if work.pairs:
        benchmark.extra_info |= {"pairs": work.pairs, "pairs_per_second": work.pairs / best}
