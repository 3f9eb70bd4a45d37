"""What a fit moves besides the pose: a template's expression channels, joints that are free, and what is usual of them.

ARKit's channels lie in [0, 1] and cost what `expression_prior` says. Directions without names, such as FLAME's, are
standard deviations; with them jaw and eyes are turned by joints that no channel drives, so that their rotation vectors
become channels of the fit.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from emogs.head.template import ARKIT_NAMES, HeadTemplate

from .expression_prior import UNSEEN, ExpressionPrior, arkit_prior, ridge_prior

GAZE = "eyeLook"
"""Beginning of the channels that only irises show."""
_FREE_JOINTS = {
    "jaw": ((-0.05, 0.7, 0.3), (-0.2, 0.2, 0.05), (-0.2, 0.2, 0.05)),
    "eye_left": ((-0.6, 0.6, 0.2), (-0.8, 0.8, 0.2)),
    "eye_right": ((-0.6, 0.6, 0.2), (-0.8, 0.8, 0.2)),
}
"""Of each joint's axes x, y, z: least, most and usual radians. The jaw opens about +x; eyes do not roll."""
_WIDEST = 6.0
"""Standard deviations that a direction without a name may take."""


@dataclass(frozen=True)
class Channels:
    """E numbers of a frame that a fit may move."""

    names: tuple[str, ...]
    expressions: int
    """The first so many are the template's own; rotation vectors of joints follow."""
    low: Tensor  # [E] float64
    high: Tensor  # [E]
    seen: Tensor  # [E] whether 68 landmarks show it
    gaze: Tensor  # [E] whether irises show it
    prior: ExpressionPrior
    driven: Tensor | None
    """[E, J, 3] radians by which a channel at 1 turns the skeleton's joints; None if it turns none."""

    @property
    def blinks(self) -> tuple[int, int] | None:
        """Where the left and the right lid's closing are."""
        names = ("eyeBlinkLeft", "eyeBlinkRight")
        return (self.names.index(names[0]), self.names.index(names[1])) if names[0] in self.names else None

    def split(self, values: Tensor) -> tuple[Tensor, Tensor | None]:
        """Expression [..., N] and pose [..., J, 3] that `HeadTemplate.deform` takes; None if no joint is free."""
        expression = values[..., : self.expressions]
        if self.driven is None or self.expressions == len(self.names):
            return expression, None
        return expression, torch.tensordot(values[..., self.expressions :], self.driven[self.expressions :], 1)


def channels_of(template: HeadTemplate) -> Channels:
    """The channels of any template: ARKit's with or without joints behind them, or directions and free joints."""
    if template.speaks_arkit:
        return _arkit(template)
    count, joints = len(template.expression_names), template.skeleton.names if template.skeleton else ()
    free = [(joint, axis, *limits) for joint in joints for axis, limits in enumerate(_FREE_JOINTS.get(joint, ()))]
    driven = torch.zeros(count + len(free), len(joints), 3, dtype=torch.float64)
    for row, (joint, axis, *_) in enumerate(free, count):
        driven[row, joints.index(joint), axis] = 1
    names = (*template.expression_names, *(f"{joint}.{'xyz'[axis]}" for joint, axis, *_ in free))
    low, high, usual = ([float(row[2 + k]) for row in free] for k in range(3))
    eyes = torch.tensor([name.startswith("eye_") for name in names])
    return Channels(
        names=names,
        expressions=count,
        low=torch.tensor([-_WIDEST] * count + low, dtype=torch.float64),
        high=torch.tensor([_WIDEST] * count + high, dtype=torch.float64),
        seen=~eyes,
        gaze=eyes,
        prior=ridge_prior(torch.tensor([1.0] * count + [1 / s**2 for s in usual], dtype=torch.float64)),
        driven=driven if free else None,
    )


def _arkit(template: HeadTemplate) -> Channels:
    driven = template.skeleton.driven if template.skeleton else None
    gaze = torch.tensor([name.startswith(GAZE) for name in ARKIT_NAMES])
    unseen = torch.tensor([name.startswith(UNSEEN) for name in ARKIT_NAMES])
    return Channels(
        names=ARKIT_NAMES,
        expressions=len(ARKIT_NAMES),
        low=torch.zeros(len(ARKIT_NAMES), dtype=torch.float64),
        high=torch.ones(len(ARKIT_NAMES), dtype=torch.float64),
        seen=~unseen & ~gaze,
        gaze=gaze,
        prior=arkit_prior(),
        driven=None if driven is None else driven.double(),
    )
