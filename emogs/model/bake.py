"""Baking: an encoder's answers at 36 emotions become a small basis that the rasterizer blends at full speed.

The answers are written as components of psi (see emogs/emotion/codes.py). At the null code, the seven full intensities,
the seven halves and the twenty-one pairs of halves the system is triangular, so the components reproduce these anchors
exactly. A singular value decomposition then keeps as few directions as the tolerance allows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..emotion import EMOTIONS, psi
from ..emotion.geometry import anchor_codes
from ..gaussians import EmotionBasis

TOLERANCE = 1 / 512
"""Root mean square over an anchor that the reduction may lose: half a step of an 8-bit colour."""
MOST_COMPONENTS = 16


@dataclass(frozen=True)
class BakedBasis:
    """What emotion and expression change about N Gaussians: K components, and how much of each a face asks for."""

    basis: EmotionBasis  # [K, N, ...]
    weights: Tensor  # [35, K] from psi
    response: Tensor | None = None  # [52, K] from the channels of the expression; None if they change nothing

    @property
    def count(self) -> int:
        """K"""
        return self.weights.shape[1]

    def mix(self, codes: Tensor, expression: Tensor) -> Tensor:
        """Weights [B, K] of the components at codes [B, 7] and the expressions [B, 52] that they bring about.

        Differentiable. Intensities that sum to more than one are scaled to one: psi, whose terms meet their anchors up
        to pairs of halves, extrapolates badly beyond (happy=1,sad=1 would count the pair of halves four times).
        """
        total = codes.sum(-1, keepdim=True)
        weights = psi(torch.where(total > 1, codes / total.clamp_min(1), codes)) @ self.weights
        return weights if self.response is None else weights + (expression @ self.response).clamp(0, 1)


def bake(
    answer: Callable[[Tensor], Tensor], progress: Callable[[Iterable], Iterable] = iter
) -> tuple[Tensor, Tensor, Tensor]:
    """A function of the code as a constant and a basis.

    Args:
        answer: code [1, 7] to attributes [P]; it is called once for each of the 36 anchors.
        progress: wraps the iteration over the anchors, e.g. `rich.progress.track`.
    Returns:
        null [P] at the null code; weights [35, K]; basis [K, P], such that
        `answer(e) = null + psi(e) @ weights @ basis` at the anchors, to the tolerance, and in between approximately.
        K is 0 if no anchor differs from null.
    """
    codes = anchor_codes()
    with torch.no_grad():
        null = answer(torch.zeros(1, len(EMOTIONS)))
        changes = torch.stack([answer(code[None]) - null for code in progress(codes)])
    components = torch.linalg.solve(psi(codes.double()), changes.double())
    weights = _leading_directions(components, TOLERANCE, MOST_COMPONENTS)
    return null, weights.to(null.dtype), (weights.T @ components).to(null.dtype)


def _leading_directions(components: Tensor, tolerance: float, most: int) -> Tensor:
    """[35, K] orthonormal directions of the component space that carry all but `tolerance` of the anchors' change."""
    energy, directions = torch.linalg.eigh(components @ components.T / components.shape[1])
    energy, directions = energy.flip(0).clamp_min(0), directions.flip(1)
    anchors = psi(anchor_codes().double()) @ directions  # [35 anchors, 35 directions]
    contribution = anchors.square() * energy
    lost = contribution.sum(1, keepdim=True) - contribution.cumsum(1)
    worst = torch.cat([contribution.sum(1).amax()[None], lost.amax(0)]).clamp_min(0).sqrt()
    enough = (worst <= tolerance).nonzero()
    count = min(int(enough[0]) if len(enough) else len(energy), most)
    return directions[:, :count]
