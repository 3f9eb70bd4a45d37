"""What faces usually do: the cost of ARKit values e in [0, 1] when landmarks must be explained.

    cost(e) = sum_j c_j e_j  +  1/2 e' A e  +  1/2 sum_ij x_ij e_i e_j  +  c/2 max(e_mouthClose - e_jawOpen, 0)^2

The first term makes a face neutral unless the landmarks say otherwise; A holds a ridge and ties left to right, eyes to
look the same way; x keeps antagonists apart; `mouthClose` corrects an open jaw and means nothing without one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache

import torch
from torch import Tensor

from emogs.head.template import ARKIT_NAMES

UNSEEN = ("tongueOut", "cheekPuff", "jawForward", "cheekSquint")
"""Beginnings of the channels that neither 68 landmarks nor irises show; they stay 0."""

_SPARSITY = 2.0
_FACTORS = (
    (("jawLeft", "jawRight", "mouthLeft", "mouthRight"), 4.0),  # faces are seldom awry; a slightly wrong yaw looks so
    (("noseSneer", "mouthDimple", "mouthRoll", "mouthShrug", "mouthStretch", "mouthPress", "eyeWide", "eyeBlink"), 2.0),
    (("mouthLowerDown",), 0.3),
    (("mouthSmile",), 0.25),  # the face of most photos; else mouth breadth, an identity, takes part of it
    (("eyeLook",), 0.02),  # eyes look anywhere
)
"""How much rarer or commoner than others channels are, as factors of sparsity and ridge."""
_RIDGE = 1.0
_COUPLING = 30.0
_EXCLUSION = 20.0
_OPPOSITE = 200.0
_CLOSING = 100.0
_ANTAGONISTS = (
    ("eyeLookIn", "eyeLookOut"), ("eyeLookUp", "eyeLookDown"),
    ("eyeBlink", "eyeWide"), ("browDown", "browOuterUp"), ("mouthSmile", "mouthFrown"), ("mouthPucker", "mouthStretch"),
    ("mouthPucker", "mouthSmile"), ("mouthFunnel", "mouthSmile"), ("mouthRollLower", "mouthLowerDown"),
    ("mouthRollUpper", "mouthUpperUp"), ("mouthPress", "mouthLowerDown"), ("mouthPress", "jawOpen"),
    ("mouthShrugLower", "jawOpen"), ("mouthPucker", "mouthLowerDown"), ("mouthFunnel", "mouthLowerDown"),
)  # fmt: skip
_OTHER_LOOK = {"eyeLookInLeft": "eyeLookOutLeft", "eyeLookOutLeft": "eyeLookInLeft"}
"""Both eyes look to one side: what the right one does when the left one does that, named as of the left."""
_JAW_OPEN, _MOUTH_CLOSE = ARKIT_NAMES.index("jawOpen"), ARKIT_NAMES.index("mouthClose")


@dataclass(frozen=True)
class ExpressionPrior:
    """The cost of values e [..., E] and its derivatives; float64."""

    linear: Tensor  # [E]
    quadratic: Tensor  # [E, E] positive semidefinite
    excluded: Tensor  # [E, E] what antagonists cost together; its curvature is left out
    closing: tuple[int, int] | None
    """Where `mouthClose` and `jawOpen` are."""

    def cost(self, e: Tensor) -> Tensor:
        """[...]"""
        out = e @ self.linear + 0.5 * ((e @ (self.quadratic + self.excluded)) * e).sum(-1)
        return out if self.closing is None else out + 0.5 * _CLOSING * self._over(e).square()

    def gradient(self, e: Tensor) -> Tensor:
        """[..., E] gradient of `cost`."""
        out = self.linear + e @ (self.quadratic + self.excluded)
        if self.closing is not None:
            close, jaw = self.closing
            out[..., close] += _CLOSING * self._over(e)
            out[..., jaw] -= _CLOSING * self._over(e)
        return out

    def curvature(self, e: Tensor) -> Tensor:
        """[..., E, E] positive semidefinite part of the second derivative of `cost`: the exclusions are left out."""
        out = self.quadratic.expand(*e.shape, -1).clone()
        if self.closing is not None:
            pair = torch.tensor(self.closing)
            over = (self._over(e) > 0)[..., None, None]
            out[..., pair[:, None], pair] += _CLOSING * over * torch.tensor([[1.0, -1.0], [-1.0, 1.0]])
        return out

    def _over(self, e: Tensor) -> Tensor:
        """[...] how much further a mouth is closed than its jaw is open."""
        close, jaw = self.closing or (0, 0)
        return (e[..., close] - e[..., jaw]).clamp_min(0)

    def easier(self, channels: Tensor, factor: float) -> ExpressionPrior:
        """The same, but channels [E] bool cost `factor` as much to move."""
        scale = torch.where(channels, factor, 1.0).double()
        root = scale.sqrt()
        return replace(self, linear=self.linear * scale, quadratic=root[:, None] * self.quadratic * root)


@cache
@torch.inference_mode(False)
def arkit_prior() -> ExpressionPrior:
    """Of ARKit's 52 channels."""
    return ExpressionPrior(_SPARSITY * _rarity(), _quadratic(), _excluded(), (_MOUTH_CLOSE, _JAW_OPEN))


def ridge_prior(curvature: Tensor) -> ExpressionPrior:
    """Of directions that are independent and usually small: 1/2 sum_j curvature_j e_j^2."""
    nothing = torch.zeros(len(curvature), len(curvature), dtype=torch.float64)
    return ExpressionPrior(nothing[0], curvature.diag(), nothing, None)


def _channels(name: str) -> list[int]:
    """A channel, or its two sides."""
    return [i for i, channel in enumerate(ARKIT_NAMES) if channel in (name, name + "Left", name + "Right")]


def _rarity() -> Tensor:
    out = torch.ones(len(ARKIT_NAMES), dtype=torch.float64)
    for beginnings, factor in _FACTORS:
        out[[channel.startswith(beginnings) for channel in ARKIT_NAMES]] *= factor
    return out


def _quadratic() -> Tensor:
    out = (_RIDGE * _rarity()).diag()
    for left, name in enumerate(ARKIT_NAMES):
        if name.endswith("Left") and name not in ("jawLeft", "mouthLeft"):  # those two are opposites, not sides
            other = _OTHER_LOOK.get(name, name).removesuffix("Left") + "Right"
            pair = torch.tensor([left, ARKIT_NAMES.index(other)])
            out[pair[:, None], pair] += _COUPLING * torch.tensor([[1.0, -1.0], [-1.0, 1.0]], dtype=torch.float64)
    return out


def _excluded() -> Tensor:
    out = torch.zeros(len(ARKIT_NAMES), len(ARKIT_NAMES), dtype=torch.float64)
    for one, other in _ANTAGONISTS:
        for i in _channels(one):
            for j in _channels(other):
                if {ARKIT_NAMES[i][-4:], ARKIT_NAMES[j][-4:]} != {"Left", "ight"}:  # a wink may face a wide eye
                    out[i, j] = out[j, i] = _EXCLUSION
    for name in ("mouth", "jaw"):
        i, j = ARKIT_NAMES.index(name + "Left"), ARKIT_NAMES.index(name + "Right")
        out[i, j] = out[j, i] = _OPPOSITE
    return out
