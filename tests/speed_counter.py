"""The worker of the speed gate (benchmarks/speed_worker.py) with a clock that counts calls of the native module.

Runs in its place, as `python speed_counter.py SIDE THREADS full|quick`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import cache, wraps
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))

import speed_worker

calls = 0


def counted(function: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(function)
    def call(*arguments: Any, **named: Any) -> Any:
        global calls
        calls += 1
        return function(*arguments, **named)

    return call


@cache
def clock_of(device: str, threads: int) -> Callable[[], float]:
    """A hundredth of a second a call."""
    from emogs.ops.native import _C

    for name, value in vars(_C).copy().items():
        if callable(value) and not isinstance(value, type):
            setattr(_C, name, counted(value))
    return lambda: 0.01 * calls


if __name__ == "__main__":
    speed_worker.clock_of = clock_of
    speed_worker.main(*sys.argv[1:])
