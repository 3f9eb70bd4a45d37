"""One microbenchmark a case of speed_cases.py, each beside a copy that shows what memory gave at that moment."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
import torch
from speed_cases import Work

COPY_BYTES = 32 << 20  # read, and as many written
LONGEST = 10.0  # seconds for the rounds of one benchmark, after three


def copy_speed(device: torch.device) -> float:
    """GB/s, read and written, of the best of five copies."""
    source = torch.zeros(COPY_BYTES, dtype=torch.uint8, device=device)
    to = torch.empty_like(source)

    def copy() -> None:
        to.copy_(source)
        wait(device)

    return 2e-9 * COPY_BYTES / best_of(copy)


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def best_of(call: Callable[[], object], rounds: int = 5) -> float:
    """Seconds of the fastest."""
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return min(times)


def beside_limit(work: Work, best: float, of_copy: float) -> dict[str, object]:
    """The ratio to what cannot be beaten: the bare pair loop where there is one, else a copy of the bytes."""
    if work.limit is None:
        return {"limit": "copy", "of_limit": of_copy}
    try:
        return {"limit": "pair loop", "of_limit": best_of(work.limit) / best}
    except RuntimeError as error:  # no compiler for it
        return {"limit": "copy", "of_limit": of_copy, "no_pair_loop": str(error).splitlines()[0]}


def test_speed(benchmark, make: Callable[[], Work], request: pytest.FixtureRequest) -> None:
    rounds = request.config.getoption("--speed-rounds")
    device = make.keywords["device"]
    work = make()
    before = copy_speed(device)

    def call() -> None:
        work.call()
        wait(device)

    call()
    rounds = min(rounds, max(3, int(LONGEST / best_of(call, 1))))
    benchmark.pedantic(call, rounds=rounds)
    best = benchmark.stats.stats.min
    copy = max(before, copy_speed(device))
    speed = 1e-9 * work.bytes / best
    benchmark.extra_info |= {
        "bytes": work.bytes,
        "gigabytes_per_second": speed,
        "copy_gigabytes_per_second": copy,
        "of_copy": speed / copy,
        **beside_limit(work, best, speed / copy),
    }
    if work.pairs:
        benchmark.extra_info |= {"pairs": work.pairs, "pairs_per_second": work.pairs / best}
