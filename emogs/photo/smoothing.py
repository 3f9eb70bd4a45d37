"""All frames of a clip fitted together, held to move smoothly.

To the cost of `frames` comes that of second differences d of pose and channels, in units of what is usual:

    sum_tc  b_c^2 (sqrt(1 + (d_tc / (b_c s_c))^2) - 1)

Near zero this is a random acceleration's (a Gauss-Markov prior; its most likely course is what a Rauch-Tung-Striebel
smoother finds); far from it, it grows as |d| only (Charbonnier et al. 1997), so that lids and eyes may jump. A frame
without landmarks costs nothing but this, and is thereby filled. Second differences reach over three frames: the normal
equations are banded, and are solved by a banded Cholesky factorisation in time proportional to the clip's length.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import roma
import scipy.linalg
import torch
from numpy.typing import NDArray
from torch import Tensor

from .channels import Channels
from .frames import POSE, Fit, Frames

ITERATIONS = 12
_ATTEMPTS = 6
_ENOUGH = 3e-4
"""Share of the cost that a step must gain, or it is the last."""
_TURN, _SHIFT = 0.004, 0.0008
"""Radians and metres: usual second differences of a head's pose at 30 frames a second; a metre a second squared."""
_USUAL = (
    ("eyeBlink", 0.1, 0.2), ("eyeWide", 0.1, 1.0), ("eyeSquint", 0.1, 1.0), ("eyeLook", 0.03, 0.25),
    ("jaw", 0.08, 1.0), ("mouth", 0.08, 1.0), ("brow", 0.05, 1.0), ("cheek", 0.05, 1.0), ("nose", 0.05, 1.0),
    ("expression", 0.15, 1.0), ("eye_", 0.015, 0.25),
)  # fmt: skip
"""By the beginning of channels' names: usual second differences, and where in these their cost stops growing as the
square. What jumps bends early, as in l1 trend filtering (Kim et al. 2009): noise is smoothed, jumps are left."""
_BEND_POSE = 3.0
_DRIFT = 50.0
"""Usual first differences, in usual second ones: only where landmarks are missing for long does this count."""
_REST = 30.0
"""The frame rate at which second differences are usual."""


@dataclass(frozen=True)
class Stiffness:
    """What is usual of second differences [6 + E], and where they bend."""

    usual: Tensor
    bend: Tensor

    @classmethod
    def at(cls, channels: Channels, fps: float) -> Stiffness:
        """At a frame rate: the variance of a random acceleration's second difference grows as the cube of the step."""
        own = [next((row[1:] for row in _USUAL if name.startswith(row[0])), (0.1, 1.0)) for name in channels.names]
        usual = torch.tensor([_TURN] * 3 + [_SHIFT] * 3 + [usual for usual, _ in own], dtype=torch.float64)
        bend = torch.tensor([_BEND_POSE] * POSE + [bend for _, bend in own], dtype=torch.float64)
        return cls(usual * (_REST / fps) ** 1.5, bend)


def smooth(fit: Fit, state: Frames, stiffness: Stiffness, free: Tensor, still: Tensor, cuts: Tensor) -> Frames:
    """Frames that fit and move smoothly.

    Args:
        state: where to start, without an identity of its own.
        free: [6 + E] which unknowns of a frame move. still: [T] frames that stay as they are.
        cuts: [T] frames that do not continue the one before.
    """
    channels, damping = fit.model.channels, 1e-3
    joined = _joined(cuts)
    for _ in range(ITERATIONS):
        points = fit.points(state)
        distance = fit.distance(state, points)
        weight = fit.robust(state, distance)
        system = fit.system(state, points, distance, weight)
        rough = _Roughness.of(state, stiffness, joined)
        gradient = system.gradient + rough.gradient()
        rows = fit.movable(state, gradient, free) & ~still[:, None]
        before = float(fit.cost(state, points, weight).sum()) + rough.cost()
        for _ in range(_ATTEMPTS):
            step = _solve(system.hessian, gradient, rough, rows, damping)
            trial = state.moved(step, state.identity, channels.low, channels.high)
            after = float(fit.cost(trial, points, weight).sum()) + _Roughness.of(trial, stiffness, joined).cost()
            if after < before:
                break
            damping *= 10
        else:
            return state
        state, damping = trial, max(damping / 10, 1e-6)
        if before - after < _ENOUGH * before:
            break
    return state


def _joined(cuts: Tensor) -> tuple[Tensor, Tensor]:
    """[T - 1, 1] and [T - 2, 1]: 1 where a first or second difference lies within one take, else 0."""
    within = (~cuts[1:]).double()[:, None]
    return within, within[1:] * within[:-1]


@dataclass(frozen=True)
class _Roughness:
    """First and second differences of T frames, in usual second ones."""

    first: Tensor  # [T - 1, N]
    second: Tensor  # [T - 2, N]
    usual: Tensor  # [N]
    bend: Tensor  # [N]
    joined: tuple[Tensor, Tensor]

    @classmethod
    def of(cls, state: Frames, stiffness: Stiffness, joined: tuple[Tensor, Tensor]) -> _Roughness:
        turn = roma.rotmat_to_rotvec(state.rotation[1:] @ state.rotation[:-1].mT)
        first = torch.cat([turn, state.translation.diff(dim=0), state.values.diff(dim=0)], 1) / stiffness.usual
        return cls(first, first.diff(dim=0), stiffness.usual, stiffness.bend, joined)

    def cost(self) -> float:
        slow = 0.5 * (self.joined[0] * (self.first / _DRIFT).square()).sum()
        root = (1 + (self.second / self.bend).square()).sqrt()
        return float(slow + (self.joined[1] * self.bend.square() * (root - 1)).sum())

    @property
    def _curve(self) -> Tensor:
        """[T - 2, N] weights that make the cost of second differences quadratic."""
        return self.joined[1] * (1 + (self.second / self.bend).square()).rsqrt()

    def gradient(self) -> Tensor:
        """[T, N]"""
        out = torch.zeros(len(self.first) + 1, self.first.shape[1], dtype=torch.float64)
        slow, bent = self.joined[0] * self.first / _DRIFT**2 / self.usual, self._curve * self.second / self.usual
        out[1:] += slow
        out[:-1] -= slow
        out[2:] += bent
        out[1:-1] -= 2 * bent
        out[:-2] += bent
        return out

    def bands(self) -> tuple[Tensor, Tensor, Tensor]:
        """Curvature [T, N], its coupling to the next frame [T - 1, N] and to the one after that [T - 2, N]."""
        bent = self._curve / self.usual.square()
        slow = (self.joined[0] / _DRIFT**2 / self.usual.square()).expand_as(self.first)
        own = torch.zeros(len(slow) + 1, slow.shape[1], dtype=torch.float64)
        own[1:] += slow
        own[:-1] += slow
        own[2:] += bent
        own[1:-1] += 4 * bent
        own[:-2] += bent
        near = -slow
        near[1:] -= 2 * bent
        near[:-1] -= 2 * bent
        return own, near, bent


def _solve(hessian: Tensor, gradient: Tensor, rough: _Roughness, rows: Tensor, damping: float) -> Tensor:
    """[T, N] the step -H^-1 g of the unknowns [T, N] that may move; H is banded, frame by frame."""
    used = rows.any(0).nonzero()[:, 0]
    frames, count = len(rows), len(used)
    moving = rows[:, used].double()
    own, near, far = (band[:, used] for band in rough.bands())
    blocks = hessian[:, used][:, :, used] * moving[:, :, None] * moving[:, None, :]
    diagonal = (blocks.diagonal(dim1=1, dim2=2) + own * moving) * (1 + damping) + (1 - moving)
    filled = blocks.diagonal_scatter(diagonal, dim1=1, dim2=2).numpy()
    band: NDArray[np.float64] = np.zeros((2 * count + 1, frames * count))  # lower form: band[i - j, j] = H[i, j]
    for column in range(count):
        band[: count - column, column::count] = filled[:, column:, column].T
    band[count, : (frames - 1) * count] += (near * moving[1:] * moving[:-1]).numpy().ravel()
    band[2 * count, : (frames - 2) * count] += (far * moving[2:] * moving[:-2]).numpy().ravel()
    right = (gradient[:, used] * moving).numpy().ravel()
    solved = scipy.linalg.solveh_banded(band, right, overwrite_ab=True, lower=True, check_finite=False)
    step = torch.zeros_like(gradient)
    step[:, used] = -torch.from_numpy(solved).reshape(frames, count)
    return step


def easier(fit: Fit, factor: float) -> Fit:
    """The same fit, but lids cost `factor` as much to close: over a clip they are seen open and closed."""
    blinks = fit.model.channels.blinks
    if blinks is None:
        return fit
    lids = torch.zeros(len(fit.model.channels.names), dtype=torch.bool)
    lids[list(blinks)] = True
    return replace(fit, prior=fit.prior.easier(lids, factor))
