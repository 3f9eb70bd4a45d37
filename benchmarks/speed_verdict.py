"""From paired times to a verdict: slower, not slower, or cannot tell."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from measure import bootstrap

SLOWER, FINE, UNSURE = "slower", "not slower", "cannot tell"
CONFIDENCE = 0.99  # of one interval; a failure needs two that agree
DRAWS = 4000


@dataclass
class Paired:
    """Head in units of base, a ratio for each pair of processes.

    The interval is over processes, not over calls: what one process has of its own (where its data lies) is the same in
    all of its calls, and can be larger than the difference that is looked for.
    """

    ratios: list[float] = field(default_factory=list)

    def interval(self) -> tuple[float, float, float]:
        """Median, and the bootstrap bounds of it."""
        return bootstrap(np.array(self.ratios), DRAWS, CONFIDENCE)

    def __str__(self) -> str:
        median, low, high = self.interval()
        return f"{median:.3f} times base [{low:.3f}, {high:.3f}], {len(self.ratios)} pairs of processes"

    def verdict(self, tolerance: float) -> str:
        """Slower if all of the interval lies above 1 + tolerance, not slower if none of it does."""
        _, low, high = self.interval()
        return SLOWER if low > 1 + tolerance else FINE if high <= 1 + tolerance else UNSURE


def decide(measure: Callable[[int], list[float]], tolerance: float, rounds: int, most: int = 16) -> tuple[str, Paired]:
    """Measures until it can tell. Each batch is as large as all before it, so that it can confirm them by itself.

    Args:
        measure: gives so many ratios.
        tolerance: by how much head may be slower.
        rounds: ratios of the first batch, and of the second.
        most: times as many are taken at most; after those there is no answer.
    Returns:
        The verdict, and all ratios. "slower" needs a batch that says so by itself, after all before it said so.
    """
    everything, before = Paired(), ""
    while len(everything.ratios) < most * rounds:
        batch = Paired(measure(len(everything.ratios) or rounds))
        everything.ratios += batch.ratios
        alone, together = batch.verdict(tolerance), everything.verdict(tolerance)
        if alone == before == SLOWER:
            return SLOWER, everything
        if together == FINE and SLOWER not in (alone, before):
            return FINE, everything
        before = together
    return UNSURE, everything
