"""The few vertices of a template that a landmark fit needs, as a small function of identity and expression."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import torch
from torch import Tensor

from emogs.head.template import HeadTemplate

from .contour import JAW_POINTS, JawContour, jaw_contour

_FIXED = 68 - JAW_POINTS


@dataclass(frozen=True)
class _Turn:
    """A template's `Rotation` reduced to P points; its pivot is a linear function of the identity."""

    angles: Tensor  # [E]
    axis: Tensor  # [3]
    weights: Tensor  # [P]
    pivot: Tensor  # [3] of the mean head
    pivot_identity: Tensor  # [I, 3]

    def apply(self, vectors: Tensor, expression: Tensor) -> Tensor:
        """[..., P, 3] turned as the points of an expression [E] are, by Rodrigues' formula."""
        angle = ((self.angles @ expression) * self.weights)[:, None]
        along = (vectors @ self.axis)[..., None] * self.axis
        return along + angle.cos() * (vectors - along) + angle.sin() * self.across(vectors)

    def across(self, vectors: Tensor) -> Tensor:
        """[..., P, 3] cross products of the axis with vectors."""
        x, y, z = self.axis.tolist()
        return vectors @ vectors.new_tensor([[0, z, -y], [-z, 0, x], [y, -x, 0]])


@dataclass(frozen=True)
class PointModel:
    """P points of a head: `HeadTemplate.deform` restricted to them, in float64."""

    points: Tensor  # [P, 3]
    identity: Tensor  # [I, P, 3]
    expression: Tensor  # [E, P, 3]
    turns: tuple[_Turn, ...]

    def deform(self, identity: Tensor, expression: Tensor) -> Tensor:
        """[P, 3] for identity [I] and expression [E]."""
        moved = self._displaced(identity, expression)
        for turn in self.turns:
            pivot = turn.pivot + identity @ turn.pivot_identity
            moved = turn.apply(moved - pivot, expression) + pivot
        return moved

    def slopes(self, identity: Tensor, expression: Tensor) -> Tensor:
        """[I + E, P, 3] derivatives of `deform` with respect to identity, then expression."""
        moved = self._displaced(identity, expression)
        slope = torch.cat([self.identity, self.expression])
        for turn in self.turns:
            pivot = turn.pivot + identity @ turn.pivot_identity
            arm = turn.apply(moved - pivot, expression)
            shift = torch.cat([turn.pivot_identity, slope.new_zeros(len(expression), 3)])[:, None]
            slope = turn.apply(slope - shift, expression) + shift
            slope[len(identity) :] += turn.angles[:, None, None] * turn.weights[:, None] * turn.across(arm)
            moved = arm + pivot
        return slope

    def _displaced(self, identity: Tensor, expression: Tensor) -> Tensor:
        """[P, 3] with the linear displacements alone."""
        return (
            self.points + torch.tensordot(identity, self.identity, 1) + torch.tensordot(expression, self.expression, 1)
        )

    def select(self, rows: Tensor) -> PointModel:
        """The same model of some of its points, rows [Q] int64."""
        return PointModel(
            self.points[rows],
            self.identity[:, rows],
            self.expression[:, rows],
            tuple(replace(turn, weights=turn.weights[rows]) for turn in self.turns),
        )


@dataclass(frozen=True)
class LandmarkModel:
    """The 51 fixed landmarks and the candidates of the 17 that slide along the jaw's silhouette."""

    points: PointModel  # 51 fixed points, then 17 * M candidates
    paths: PointModel  # the 17 * M candidates
    contour: JawContour

    def at(self, identity: Tensor, expression: Tensor, camera: Tensor) -> PointModel:
        """The 68 points as a model, the jaw's chosen for a camera centre [3] in head space."""
        candidates = self.paths.deform(identity, expression).reshape(JAW_POINTS, -1, 3)
        column = self.contour.select(candidates.float(), camera.float())
        jaw = _FIXED + torch.arange(JAW_POINTS) * candidates.shape[1] + column
        return self.points.select(torch.cat([jaw, torch.arange(_FIXED)]))

    @property
    def fixed(self) -> PointModel:
        """The 51 landmarks that do not slide, from brows to lips."""
        return self.points.select(torch.arange(_FIXED))


@lru_cache(maxsize=4)
def landmark_model(template: HeadTemplate) -> LandmarkModel:
    """Reduces a template to its landmarks; kept for the last few templates."""
    contour = jaw_contour(template)
    points = _reduce(template, torch.cat([template.landmarks[JAW_POINTS:], contour.candidates.reshape(-1)]))
    return LandmarkModel(points, points.select(torch.arange(_FIXED, len(points.points))), contour)


def _reduce(template: HeadTemplate, rows: Tensor) -> PointModel:
    turns = tuple(
        _Turn(
            rotation.angles.double(),
            rotation.axis.double(),
            rotation.weights[rows].double(),
            rotation.pivot.double() @ template.vertices.double(),
            torch.einsum("v,ivc->ic", rotation.pivot, template.identity).double(),
        )
        for rotation in template.rotations
        if rotation.weights[rows].any()
    )
    points, identity = template.vertices[rows].double(), template.identity[:, rows].double()
    return PointModel(points, identity, template.expression[:, rows].double(), turns)
