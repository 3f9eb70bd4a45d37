"""The few vertices of a template that a landmark fit needs, as a small function of identity and expression."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import roma
import torch
from torch import Tensor

from emogs.head.template import HeadTemplate

from .contour import JAW_POINTS, JawContour, jaw_contour


@dataclass(frozen=True)
class _Turn:
    """A template's `Rotation` reduced to P points; its pivot is a linear function of the identity."""

    angles: Tensor  # [E]
    axis: Tensor  # [3]
    weights: Tensor  # [P]
    pivot: Tensor  # [3] of the mean head
    pivot_identity: Tensor  # [I, 3]

    def rotation(self, expression: Tensor) -> Tensor:
        """[P, 3, 3] of an expression [E]."""
        angle = (self.angles @ expression) * self.weights
        return roma.rotvec_to_rotmat(angle[:, None] * self.axis)


@dataclass(frozen=True)
class PointModel:
    """P points of a head: `HeadTemplate.deform` restricted to them, in float64."""

    points: Tensor  # [P, 3]
    identity: Tensor  # [I, P, 3]
    expression: Tensor  # [E, P, 3]
    turns: tuple[_Turn, ...]

    def deform(self, identity: Tensor, expression: Tensor) -> Tensor:
        """[P, 3] for identity [I] and expression [E]."""
        moved = self.points + torch.einsum("i,ipc->pc", identity, self.identity)
        moved = moved + torch.einsum("e,epc->pc", expression, self.expression)
        for turn in self.turns:
            rotation, pivot = turn.rotation(expression), turn.pivot + identity @ turn.pivot_identity
            moved = (rotation @ (moved - pivot)[..., None])[..., 0] + pivot
        return moved

    def slopes(self, identity: Tensor, expression: Tensor) -> Tensor:
        """[I + E, P, 3] derivatives of `deform` with respect to identity, then expression."""
        moved = self.points + torch.einsum("i,ipc->pc", identity, self.identity)
        moved = moved + torch.einsum("e,epc->pc", expression, self.expression)
        slope = torch.cat([self.identity, self.expression])
        for turn in self.turns:
            rotation, pivot = turn.rotation(expression), turn.pivot + identity @ turn.pivot_identity
            arm = (rotation @ (moved - pivot)[..., None])[..., 0]
            shift = torch.cat([turn.pivot_identity, slope.new_zeros(len(expression), 3)])[:, None]
            slope = torch.einsum("pij,npj->npi", rotation, slope - shift) + shift
            sweep = turn.weights[:, None] * torch.linalg.cross(turn.axis.expand_as(arm), arm)
            slope[len(identity) :] += turn.angles[:, None, None] * sweep
            moved = arm + pivot
        return slope

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

    fixed: PointModel  # 51 points
    paths: PointModel  # 17 * M points
    contour: JawContour

    def at(self, identity: Tensor, expression: Tensor, camera: Tensor) -> PointModel:
        """The 68 points as a model, the jaw's chosen for a camera centre [3] in head space."""
        candidates = self.paths.deform(identity, expression).reshape(JAW_POINTS, -1, 3)
        column = self.contour.select(candidates.float(), camera.float())
        jaw = self.paths.select(torch.arange(JAW_POINTS) * candidates.shape[1] + column)
        turns = zip(jaw.turns, self.fixed.turns, strict=True)
        return PointModel(
            torch.cat([jaw.points, self.fixed.points]),
            torch.cat([jaw.identity, self.fixed.identity], 1),
            torch.cat([jaw.expression, self.fixed.expression], 1),
            tuple(replace(a, weights=torch.cat([a.weights, b.weights])) for a, b in turns),
        )


@lru_cache(maxsize=4)
def landmark_model(template: HeadTemplate) -> LandmarkModel:
    """Reduces a template to its landmarks; kept for the last few templates."""
    contour = jaw_contour(template)
    fixed = _reduce(template, template.landmarks[JAW_POINTS:])
    return LandmarkModel(fixed, _reduce(template, contour.candidates.reshape(-1)), contour)


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
    )
    points, identity = template.vertices[rows].double(), template.identity[:, rows].double()
    return PointModel(points, identity, template.expression[:, rows].double(), turns)
