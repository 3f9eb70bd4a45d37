"""The 68 landmarks name the same places on every template: a network trained on one head finds them on another."""

from __future__ import annotations

import torch

from emogs.head.builtin import builtin_head
from emogs.head.ict import load_ict

FIXED = slice(27, 68)
"""Nose, eyes and mouth, by which the heads are laid on each other."""


def test_landmarks_lie_where_those_of_ict_do(ict_folder):
    """In units of the outer-eye distance; neighbouring vertices of the forehead and the jaw are .06 to .13 apart."""
    builtin, ict = (head.vertices[head.landmarks] for head in (builtin_head(), load_ict(ict_folder)))
    aligned = _aligned(builtin, ict)
    apart = (aligned - ict).norm(dim=1) / (ict[45] - ict[36]).norm()
    assert apart.max() < 0.06
    assert apart[FIXED].mean() < 0.02
    assert apart.mean() < 0.03


def test_landmarks_of_the_jaw_are_as_evenly_spaced_as_those_of_ict(ict_folder):
    """Shares of the line from ear to ear."""
    shares = []
    for head in (builtin_head(), load_ict(ict_folder)):
        jaw = head.vertices[head.landmarks[:17]]
        length = (jaw[1:] - jaw[:-1]).norm(dim=1).cumsum(0)
        shares.append(length / length[-1])
    assert (shares[0] - shares[1]).abs().max() < 0.015


def _aligned(points: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Points [68, 3] by the similarity that lays their fixed ones on the target's (Umeyama 1991)."""
    middle, goal = points[FIXED].mean(0), target[FIXED].mean(0)
    x, y = points[FIXED] - middle, target[FIXED] - goal
    u, s, vt = torch.linalg.svd(y.T @ x)
    sign = torch.ones(3)
    sign[2] = torch.linalg.det(u @ vt).sign()
    scale = (s * sign).sum() / x.square().sum()
    return scale * (points - middle) @ (u @ sign.diag() @ vt).T + goal
