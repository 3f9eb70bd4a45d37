"""What faces usually do: the cost of ARKit values e in [0, 1] when 68 landmarks must be explained.

    cost(e) = sum_j c_j e_j  +  1/2 e' A e  +  1/2 sum_ij x_ij e_i e_j  +  c/2 max(e_mouthClose - e_jawOpen, 0)^2

The first term makes a face neutral unless the landmarks say otherwise; A holds a ridge and ties left to right; x keeps
antagonists apart; `mouthClose` corrects an open jaw and means nothing without one.
"""

from __future__ import annotations

import torch
from torch import Tensor

from emogs.head.template import ARKIT_NAMES

UNSEEN = ("eyeLook", "tongueOut", "cheekPuff", "jawForward", "cheekSquint")
"""Beginnings of the channels that 68 landmarks cannot show; they stay 0."""

_SPARSITY = 2.0
_FACTORS = (
    (("jawLeft", "jawRight", "mouthLeft", "mouthRight"), 4.0),  # faces are seldom awry; a slightly wrong yaw looks so
    (("noseSneer", "mouthDimple", "mouthRoll", "mouthShrug", "mouthStretch", "mouthPress", "eyeWide", "eyeBlink"), 2.0),
    (("mouthLowerDown",), 0.3),
    (("mouthSmile",), 0.25),  # the face of most photos; else mouth breadth, an identity, takes part of it
)
"""How much rarer or commoner than others channels are, as factors of sparsity and ridge."""
_RIDGE = 1.0
_COUPLING = 30.0
_EXCLUSION = 20.0
_OPPOSITE = 200.0
_CLOSING = 100.0
_ANTAGONISTS = (
    ("eyeBlink", "eyeWide"), ("browDown", "browOuterUp"), ("mouthSmile", "mouthFrown"), ("mouthPucker", "mouthStretch"),
    ("mouthPucker", "mouthSmile"), ("mouthFunnel", "mouthSmile"), ("mouthRollLower", "mouthLowerDown"),
    ("mouthRollUpper", "mouthUpperUp"), ("mouthPress", "mouthLowerDown"), ("mouthPress", "jawOpen"),
    ("mouthShrugLower", "jawOpen"), ("mouthPucker", "mouthLowerDown"), ("mouthFunnel", "mouthLowerDown"),
)  # fmt: skip
_JAW_OPEN, _MOUTH_CLOSE = ARKIT_NAMES.index("jawOpen"), ARKIT_NAMES.index("mouthClose")


def cost(e: Tensor) -> Tensor:
    """The cost of values [52], a scalar in float64."""
    closing = (e[_MOUTH_CLOSE] - e[_JAW_OPEN]).clamp_min(0)
    return _COST @ e + 0.5 * e @ (_QUADRATIC + _EXCLUDED) @ e + 0.5 * _CLOSING * closing.square()


def gradient(e: Tensor) -> Tensor:
    """[52] gradient of `cost`."""
    out = _COST + (_QUADRATIC + _EXCLUDED) @ e
    closing = _CLOSING * (e[_MOUTH_CLOSE] - e[_JAW_OPEN]).clamp_min(0)
    out[_MOUTH_CLOSE] += closing
    out[_JAW_OPEN] -= closing
    return out


def curvature(e: Tensor) -> Tensor:
    """[52, 52] positive semidefinite part of the second derivative of `cost`: the exclusions are left out."""
    out = _QUADRATIC.clone()
    if e[_MOUTH_CLOSE] > e[_JAW_OPEN]:
        pair = torch.tensor([_MOUTH_CLOSE, _JAW_OPEN])
        out[pair[:, None], pair] += _CLOSING * torch.tensor([[1.0, -1.0], [-1.0, 1.0]], dtype=torch.float64)
    return out


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
            right = ARKIT_NAMES.index(name.removesuffix("Left") + "Right")
            pair = torch.tensor([left, right])
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


_COST, _QUADRATIC, _EXCLUDED = _SPARSITY * _rarity(), _quadratic(), _excluded()
