"""One microbenchmark a case of speed_cases.py, each beside a copy that shows what memory gave at that moment."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
import torch
from speed_cases import Work

COPY_BYTES = 32 << 20  # read, and as many written


def copy_speed(device: torch.device) -> float:
    """GB/s, read and written, of the best of five copies."""
    source = torch.zeros(COPY_BYTES, dtype=torch.uint8, device=device)
    to = torch.empty_like(source)
    times = []
    for _ in range(5):
        start = time.perf_counter()
        to.copy_(source)
        wait(device)
        times.append(time.perf_counter() - start)
    return 2e-9 * COPY_BYTES / min(times)


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def test_speed(benchmark, make: Callable[[], Work], request: pytest.FixtureRequest) -> None:
    rounds = request.config.getoption("--speed-rounds")
    device = make.keywords["device"]
    work = make()
    before = copy_speed(device)

    def call() -> None:
        work.call()
        wait(device)

    benchmark.pedantic(call, rounds=rounds, warmup_rounds=2)
    best = benchmark.stats.stats.min
    copy = max(before, copy_speed(device))
    speed = 1e-9 * work.bytes / best
    benchmark.extra_info |= {
        "bytes": work.bytes,
        "gigabytes_per_second": speed,
        "copy_gigabytes_per_second": copy,
        "of_copy": speed / copy,
    }
    if work.pairs:
        benchmark.extra_info |= {"pairs": work.pairs, "pairs_per_second": work.pairs / best}
