"""Valence, arousal and dominance: where an emotion lies in affect space, and which emotions make up a point of it.

Anchors are the table's points of full emotions; neutral is the origin. A code lies at the intensity-weighted mean of
its anchors. The way back divides the space into cones between neighbouring anchors (the facets of the hull of their
directions), so that each point has one answer, of two emotions in the plane and of three in space, and moving the
point moves the answer continuously. Source of the circumplex: Russell 1980; of the anchors: the table file.
"""

from __future__ import annotations

from itertools import combinations

import torch
from torch import Tensor

from .checks import check_floats, check_range
from .tables import EMOTIONS, EmotionTables, default_tables

AFFECT_NAMES = ("valence", "arousal", "dominance")
"""Of what a point in affect space tells, in order; the first two alone are the circumplex."""

_ROUNDING = 1e-5  # of a point that lies on a facet of the hull


def affect_from_emotion(codes: Tensor, tables: EmotionTables | None = None) -> Tensor:
    """Valence, arousal and dominance of emotion codes: `sum_k e_k a_k / max(1, sum_k e_k)`.

    Lost: which emotions they were, since seven intensities become three numbers.

    Args:
        codes: [..., 7] in [0, 1].
        tables: None is emogs' own.
    Returns:
        [..., 3] in [-1, 1], neutral at the origin; differentiable.
    Raises:
        ValueError: a code holds an emotion that has no place in the table (contempt, until you set one).

    >>> affect_from_emotion(torch.tensor([0.5, 0, 0, 0, 0, 0, 0]))
    tensor([0.4050, 0.2550, 0.2300])
    """
    tables = tables or default_tables()
    check_floats("codes", codes, len(EMOTIONS))
    placed = tables.affect.isfinite().all(1)
    for index in (~placed).nonzero()[:, 0].tolist():
        if bool((codes[..., index] != 0).any()):
            name = EMOTIONS[index]
            raise ValueError(
                f"codes: {name} has no valence and arousal with a citable source; "
                f"choose your own with default_tables().with_affect({name!r}, valence, arousal, dominance)"
            )
    anchors = tables.affect.nan_to_num(0.0).to(codes)
    return codes @ anchors / codes.sum(-1, keepdim=True).clamp_min(1)


def emotion_from_affect(affect: Tensor, tables: EmotionTables | None = None) -> Tensor:
    """The emotion code of a point in affect space, of as few neighbouring emotions as there are coordinates.

    A full emotion's point gives that emotion, a point half way to it half the intensity. Lost: points beyond the
    anchors are drawn back to full intensity, and points between anchors more than half a turn apart (calm, content:
    pleasant and quiet, for which the seven emotions have no name) go to the nearest point that some mix has.

    Args:
        affect: [..., 2] valence and arousal, or [..., 3] with dominance, in [-1, 1].
        tables: None is emogs' own. Emotions without a place there are never answered.
    Returns:
        [..., 7] in [0, 1], summing to at most 1; continuous, differentiable almost everywhere.
    Raises:
        ValueError: a coordinate is outside [-1, 1] (AffectNet marks missing ones by -2: leave those out).

    >>> emotion_from_affect(torch.tensor([-0.6, 0.35, 0.11]))[5]
    tensor(1.)
    """
    tables = tables or default_tables()
    check_floats("affect", affect, (2, 3))
    check_range("affect", affect, -1, 1)
    points = affect.reshape(-1, affect.shape[-1])
    mixes = _mixes(tables.affect[:, : affect.shape[-1]].double())
    shares = torch.einsum("fkd,bd->bfk", mixes.to(points), points)  # [B, F, 7] least squares on every face
    anchors = tables.affect[:, : affect.shape[-1]].nan_to_num(0.0).to(points)
    miss = (shares.clamp_min(0) @ anchors - points[:, None]).square().sum(-1)  # the best face needs no cutting off
    best = miss.argmin(1)[:, None, None].expand(-1, 1, len(EMOTIONS))
    nearest = shares.clamp_min(0).gather(1, best)[:, 0]
    return (nearest / nearest.sum(-1, keepdim=True).clamp_min(1)).reshape(*affect.shape[:-1], len(EMOTIONS))


def _mixes(anchors: Tensor) -> Tensor:
    """[F, 7, D] for each face of the fan around neutral the matrix that gives a point's shares; the last is zero.

    Faces are those of the facets of the hull of the anchors' directions: subsets of 1 to D neighbours.
    """
    placed = [i for i, row in enumerate(anchors) if bool(row.isfinite().all()) and bool(row.any())]
    directions = torch.nn.functional.normalize(anchors, dim=1)
    faces: set[tuple[int, ...]] = {(i,) for i in placed}
    for facet in combinations(placed, anchors.shape[1]):
        corners = directions[list(facet)]
        if corners.det().abs() < _ROUNDING:
            continue
        plane = torch.linalg.solve(corners, corners.new_ones(len(facet)))
        if (directions[placed] @ plane <= 1 + _ROUNDING).all():  # no other anchor lies beyond
            faces |= {face for size in range(2, len(facet) + 1) for face in combinations(facet, size)}
    mixes = anchors.new_zeros(len(faces) + 1, *anchors.shape)
    for mix, face in zip(mixes, sorted(faces, key=lambda face: (-len(face), face)), strict=False):
        mix[list(face)] = torch.linalg.pinv(anchors[list(face)].T)
    return mixes
