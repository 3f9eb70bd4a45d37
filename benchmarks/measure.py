"""Interleaved timing: on a shared machine only ratios of neighbours in time mean anything.

All cases of a group run in turn, round after round, every second round backwards. A ratio is taken within each round;
its median over the rounds is reported with a bootstrap interval.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch

Case = Callable[[], object]


@dataclass
class Figure:
    """A ratio of two cases of a group, or one case's time."""

    name: str
    median: float
    low: float
    high: float
    """Bounds of the 95% interval of the median."""
    target: float | None = None
    unit: str = "x"
    larger_is_better: bool = False

    @property
    def met(self) -> bool | None:
        """Whether the median reaches the target; None without one."""
        if self.target is None:
            return None
        return self.median >= self.target if self.larger_is_better else self.median <= self.target


@dataclass
class Group:
    """Cases measured together."""

    name: str
    samples: dict[str, list[float]]
    """Seconds, by case, one a round."""
    notes: dict[str, object] = field(default_factory=dict)

    def milliseconds(self, case: str) -> Figure:
        return Figure(case, *(1e3 * v for v in bootstrap(np.array(self.samples[case]))), unit="ms")

    def best(self, case: str) -> float:
        """Milliseconds of the fastest round."""
        return 1e3 * min(self.samples[case])

    def ratio(
        self, name: str, case: str, base: str, target: float | None = None, larger_is_better: bool = False
    ) -> Figure:
        """`case` in units of `base`, paired by rounds."""
        ratios = np.array(self.samples[case]) / np.array(self.samples[base])
        return Figure(name, *bootstrap(ratios), target=target, larger_is_better=larger_is_better)


def bootstrap(samples: np.ndarray, draws: int = 2000, confidence: float = 0.95) -> tuple[float, float, float]:
    """The median and its interval under resampling."""
    random = np.random.default_rng(0)
    medians = np.median(random.choice(samples, (draws, len(samples))), axis=1)
    low, high = np.quantile(medians, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(np.median(samples)), float(low), float(high)


def seconds_of(case: Case, clock: Callable[[], float] = time.perf_counter) -> float:
    start = clock()
    case()
    return clock() - start


def interleave(
    name: str,
    cases: dict[str, Case],
    rounds: int,
    warmup: int = 2,
    seconds: Callable[[Case], float] = seconds_of,
    **notes: object,
) -> Group:
    """Measures a group: `warmup` rounds that do not count, then `rounds` that do.

    `seconds` runs a case and says how long it took.
    """
    group = Group(name, {case: [] for case in cases}, dict(notes))
    for turn in range(-warmup, rounds):
        for case in list(cases)[:: -1 if turn % 2 else 1]:
            sample = max(round(seconds(cases[case]), 7), 1e-7)  # a clock may not see a call at all
            if turn >= 0:
                group.samples[case].append(sample)
    return group


def with_threads(threads: int, case: Case) -> Case:
    """The case on that many threads; setting them costs microseconds."""

    def run() -> None:
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        case()
        torch.set_num_threads(before)

    return run
