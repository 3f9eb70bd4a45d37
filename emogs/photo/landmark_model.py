"""The few points of a template that a landmark fit needs, as a small function of identity and channel values.

Points are the 68 landmarks, the jaw's chosen for a view, and the middles of both irises. Functions take any leading
dimensions, so that all frames of a clip are deformed in one call.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

import roma
import torch
from torch import Tensor

from emogs.head import builtin_head
from emogs.head.hinges import balanced, sphere_centre
from emogs.head.skeleton import chain_motions
from emogs.head.template import HeadTemplate

from .channels import Channels, channels_of
from .contour import JAW_POINTS, JawContour, jaw_contour

IDENTITIES = 50
"""Identity directions that take part: those beyond are finer than 68 points."""
IRISES = 2
_FIXED = 68 - JAW_POINTS
_AROUND_POLE = 16
"""Vertices of an eyeball whose combination is its foremost point."""


@dataclass(frozen=True)
class _Turn:
    """A template's `Rotation` reduced to P points; its pivot is a linear function of the identity."""

    angles: Tensor  # [E]
    axis: Tensor  # [3]
    weights: Tensor  # [..., P]
    pivot: Tensor  # [3] of the mean head
    pivot_identity: Tensor  # [I, 3]

    def angle(self, values: Tensor) -> Tensor:
        """[..., P, 1] radians by which each point turns for values [..., E]."""
        return ((values @ self.angles)[..., None] * self.weights)[..., None]

    def apply(self, vectors: Tensor, angle: Tensor) -> Tensor:
        """Vectors [..., P, 3] turned by angles [..., P, 1], by Rodrigues' formula."""
        along = (vectors @ self.axis)[..., None] * self.axis
        return along + angle.cos() * (vectors - along) + angle.sin() * self.across(vectors)

    def across(self, vectors: Tensor) -> Tensor:
        """[..., P, 3] cross products of the axis with vectors."""
        return vectors @ self._across

    @cached_property
    def _across(self) -> Tensor:
        x, y, z = self.axis.tolist()
        return self.axis.new_tensor([[0, z, -y], [-z, 0, x], [y, -x, 0]])

    def wearing(self, identity: Tensor) -> _Turn:
        """The same of one identity."""
        pivot = self.pivot + identity @ self.pivot_identity
        return replace(self, pivot=pivot, pivot_identity=self.pivot_identity[:0])

    @cached_property
    def part(self) -> tuple[Tensor, _Turn]:
        """The points that turn in any frame, and the same turn of these alone."""
        rows = self.weights.reshape(-1, self.weights.shape[-1]).any(0).nonzero()[:, 0]
        return rows, replace(self, weights=self.weights[..., rows])


@dataclass(frozen=True)
class _Joints:
    """A template's `Skeleton` reduced to P points; the joints' places are linear in identity and values."""

    parents: Tensor  # [J]
    weights: Tensor  # [..., P, J]
    mean: Tensor  # [J, 3] places on the mean head
    identity: Tensor  # [I, J, 3]
    expression: Tensor  # [E, J, 3]
    driven: Tensor  # [E, J, 3] radians at value 1
    correctives: Tensor | None  # [9 (J - 1), ..., P, 3]

    def apply(self, moved: Tensor, identity: Tensor, values: Tensor) -> Tensor:
        """Points [..., P, 3] carried by the joints."""
        return self._posed(moved, self._places(identity, values), torch.tensordot(values, self.driven, 1))

    def slopes(self, moved: Tensor, slope: Tensor, identity: Tensor, values: Tensor) -> Tensor:
        """[..., I + E, P, 3] derivatives of `apply`, given those of `moved`.

        For fixed rotations it is linear in points and places, so that directions are carried as points are; what the
        rotations add comes by forward differentiation along each of the joints' axes.
        """
        places, rotations = self._places(identity, values), torch.tensordot(values, self.driven, 1)
        turns = roma.rotvec_to_rotmat(rotations)[..., None, :, :, :]
        directions = torch.cat([self.identity, self.expression])
        out = _carried(slope, directions, turns, self.parents, self.weights[..., None, :, :])

        def along(axis: Tensor) -> Tensor:
            tangent = axis.expand_as(rotations).contiguous()
            return torch.func.jvp(lambda r: self._posed(moved, places, r), (rotations,), (tangent,))[1]

        driven = self.driven.flatten(1)
        turning = driven.any(0).nonzero()[:, 0]
        axes = torch.eye(driven.shape[1], dtype=driven.dtype)[turning].reshape(-1, *self.driven.shape[1:])
        by_turn = torch.stack([along(axis) for axis in axes], -3)  # [..., M, P, 3]
        out[..., len(identity) :, :, :] += torch.einsum("em,...mpc->...epc", driven[:, turning], by_turn)
        return out

    def select(self, rows: Tensor) -> _Joints:
        """The same of some of the points, rows [..., Q]."""
        correctives = None if self.correctives is None else self.correctives[:, rows]
        return replace(self, weights=self.weights[rows], correctives=correctives)

    def wearing(self, identity: Tensor) -> _Joints:
        """The same of one identity."""
        return replace(self, mean=self.mean + torch.tensordot(identity, self.identity, 1), identity=self.identity[:0])

    def _places(self, identity: Tensor, values: Tensor) -> Tensor:
        by_identity = torch.tensordot(identity, self.identity, 1)
        return self.mean + by_identity + torch.tensordot(values, self.expression, 1)

    def _posed(self, moved: Tensor, places: Tensor, rotations: Tensor) -> Tensor:
        turns = roma.rotvec_to_rotmat(rotations)
        if self.correctives is not None:
            change = (turns[..., 1:, :, :] - torch.eye(3, dtype=turns.dtype)).flatten(-3)
            moved = moved + torch.einsum("...m,m...pc->...pc", change, self.correctives)
        return _carried(moved, places, turns, self.parents, self.weights)


def _carried(points: Tensor, places: Tensor, turns: Tensor, parents: Tensor, weights: Tensor) -> Tensor:
    """Linear blend skinning of points [..., P, 3] by joints at places [..., J, 3] that turn [..., J, 3, 3]."""
    linear, offset = chain_motions(parents, places, turns)
    change = torch.einsum("...pj,...jrc->...prc", weights, linear - torch.eye(3, dtype=linear.dtype))
    return points + (change @ points[..., None])[..., 0] + torch.einsum("...pj,...jc->...pc", weights, offset)


@dataclass(frozen=True)
class PointModel:
    """P points of a head: `HeadTemplate.deform` restricted to them, in float64.

    Values are those of the fit's channels (`Channels`): the template's own, and joints that the template leaves free.
    """

    points: Tensor  # [..., P, 3]
    identity: Tensor  # [..., I, P, 3]
    expression: Tensor  # [..., E, P, 3]
    turns: tuple[_Turn, ...]
    joints: _Joints | None = None

    def deform(self, identity: Tensor, values: Tensor) -> Tensor:
        """[..., P, 3] for identity [I] and values [..., E]."""
        moved = self._displaced(identity, values)
        for turn in self.turns:
            rows, part = turn.part
            pivot = turn.pivot + identity @ turn.pivot_identity
            moved[..., rows, :] = part.apply(moved[..., rows, :] - pivot, part.angle(values)) + pivot
        return moved if self.joints is None else self.joints.apply(moved, identity, values)

    def slopes(self, identity: Tensor, values: Tensor) -> Tensor:
        """[..., I + E, P, 3] derivatives of `deform` with respect to identity, then values."""
        moved = self._displaced(identity, values)
        slope = torch.cat([self.identity, self.expression], -3).expand(*moved.shape[:-2], -1, -1, -1).clone()
        for turn in self.turns:
            rows, part = turn.part
            angle, pivot = part.angle(values), turn.pivot + identity @ turn.pivot_identity
            arm = part.apply(moved[..., rows, :] - pivot, angle)
            shift = torch.cat([turn.pivot_identity, slope.new_zeros(len(turn.angles), 3)])[:, None]
            bent = part.apply(slope[..., rows, :] - shift, angle[..., None, :, :]) + shift
            across = part.weights[..., None, :, None] * part.across(arm)[..., None, :, :]
            bent[..., len(identity) :, :, :] += turn.angles[:, None, None] * across
            slope[..., rows, :] = bent
            moved[..., rows, :] = arm + pivot
        return slope if self.joints is None else self.joints.slopes(moved, slope, identity, values)

    def _displaced(self, identity: Tensor, values: Tensor) -> Tensor:
        """[..., P, 3] with the linear displacements alone."""
        by_identity = torch.einsum("i,...ipc->...pc", identity, self.identity)
        return self.points + by_identity + torch.einsum("...e,...epc->...pc", values, self.expression)

    def wearing(self, identity: Tensor) -> PointModel:
        """The model of one identity [I], whose own identity is empty."""
        return PointModel(
            self.points + torch.einsum("i,...ipc->...pc", identity, self.identity),
            self.identity[..., :0, :, :],
            self.expression,
            tuple(turn.wearing(identity) for turn in self.turns),
            self.joints and self.joints.wearing(identity),
        )

    def select(self, rows: Tensor) -> PointModel:
        """The same model of some of its points, rows [..., Q] int64 of a model without leading dimensions."""
        turns = (replace(turn, weights=turn.weights[rows]) for turn in self.turns)
        return PointModel(
            self.points[rows],
            self.identity[:, rows].movedim(0, -3),
            self.expression[:, rows].movedim(0, -3),
            tuple(turn for turn in turns if turn.weights.any()),
            self.joints and self.joints.select(rows),
        )


@dataclass(frozen=True)
class LandmarkModel:
    """51 fixed landmarks, the irises if the template has eyes that turn, and the 17 that slide along the jaw."""

    points: PointModel  # 51 fixed points, two irises if any, then 17 * M candidates
    paths: PointModel  # the 17 * M candidates
    contour: JawContour
    channels: Channels
    has_irises: bool

    def at(self, identity: Tensor, values: Tensor, camera: Tensor, irises: bool = False) -> PointModel:
        """The 68 points as a model, and the irises where asked, the jaw's chosen for camera centres [..., 3]."""
        candidates = self.paths.deform(identity, values)
        candidates = candidates.reshape(*candidates.shape[:-2], JAW_POINTS, -1, 3)
        column = self.contour.select(candidates.float(), camera.float())
        jaw = self._others + torch.arange(JAW_POINTS) * candidates.shape[-2] + column
        others = torch.arange(_FIXED + IRISES if irises else _FIXED).expand(*jaw.shape[:-1], -1)
        return self.points.select(torch.cat([jaw, others], -1))

    def wearing(self, identity: Tensor) -> LandmarkModel:
        """The model of one identity [I], whose own identity is empty."""
        return replace(self, points=self.points.wearing(identity), paths=self.paths.wearing(identity))

    @property
    def fixed(self) -> PointModel:
        """The 51 landmarks that do not slide, from brows to lips."""
        return self.points.select(torch.arange(_FIXED))

    @property
    def irises(self) -> PointModel:
        """The middles of the left and the right iris, of a template that has them."""
        return self.points.select(torch.arange(_FIXED, self._others))

    @property
    def _others(self) -> int:
        return _FIXED + IRISES * self.has_irises


def check_template(template: object) -> HeadTemplate:
    """The template, the built-in one for None. Raises TypeError if it is another thing."""
    if template is None:
        return builtin_head()
    if not isinstance(template, HeadTemplate):
        wanted = "expected a HeadTemplate, as emogs.head.load_template reads by name"
        raise TypeError(f"template: {wanted}, got {type(template).__name__}")
    return template


@lru_cache(maxsize=4)
@torch.inference_mode(False)
def landmark_model(template: HeadTemplate) -> LandmarkModel:
    """Reduces a template to its landmarks; kept for the last few templates.

    Raises:
        ValueError: the template has no landmarks (FLAME's come in a file of their own).
    """
    if len(template.landmarks) != 68:
        raise ValueError(
            f"template {template.name!r}: expected 68 landmarks, got {len(template.landmarks)}; FLAME's come from its"
            " landmark embedding or from a text file of 68 vertex numbers"
        )
    channels, contour = channels_of(template), jaw_contour(template)
    fixed, poles = template.landmarks[JAW_POINTS:], _iris_weights(template)
    rows = torch.cat([fixed, *(vertices for vertices, _ in poles), contour.candidates.reshape(-1)])
    points = _reduce(template, channels, rows)
    if poles:
        points = _with_irises(points, [weights for _, weights in poles])
    others = _FIXED + len(poles)
    paths = points.select(torch.arange(others, len(points.points)))
    return LandmarkModel(points, paths, contour, channels, bool(poles))


def _iris_weights(template: HeadTemplate) -> list[tuple[Tensor, Tensor]]:
    """Vertices [N] of the left and the right eyeball, and the weights [N] by which they make its foremost point."""
    out = []
    for name in ("eye_left", "eye_right"):
        if name not in template.part_names:
            return []
        ball = template.faces[template.face_part == template.part_names.index(name)].unique()
        if len(ball) < _AROUND_POLE:
            return []
        points = template.vertices[ball].double()
        centre = sphere_centre(points)
        pole = centre + torch.tensor([0.0, 0.0, 1.0]) * (points - centre).norm(dim=1).median()
        near = (points - pole).norm(dim=1).topk(_AROUND_POLE, largest=False).indices
        out.append((ball[near], balanced(points[near], pole)))
    return out


def _with_irises(points: PointModel, weights: list[Tensor]) -> PointModel:
    """The rows behind the fixed landmarks, of vertices of the eyeballs, made one row an eyeball."""
    first, count = _FIXED, sum(len(w) for w in weights)
    mix = torch.zeros(len(points.points) - count + IRISES, len(points.points), dtype=torch.float64)
    mix[range(first), range(first)] = 1
    mix[range(first + IRISES, len(mix)), range(first + count, mix.shape[1])] = 1
    for i, own in enumerate(weights):
        mix[first + i, first + sum(len(w) for w in weights[:i]) :][: len(own)] = own
    joints = points.joints and replace(
        points.joints,
        weights=mix @ points.joints.weights,
        correctives=None if points.joints.correctives is None else mix @ points.joints.correctives,
    )
    turns = tuple(replace(turn, weights=mix @ turn.weights) for turn in points.turns)
    return PointModel(mix @ points.points, mix @ points.identity, mix @ points.expression, turns, joints)


def _reduce(template: HeadTemplate, channels: Channels, rows: Tensor) -> PointModel:
    extra = len(channels.names) - len(template.expression_names)

    def with_extra(directions: Tensor) -> Tensor:
        """Channels of free joints displace nothing by themselves."""
        return torch.cat([directions.double(), directions.new_zeros(extra, *directions.shape[1:])])

    turns = tuple(
        _Turn(
            with_extra(rotation.angles),
            rotation.axis.double(),
            rotation.weights[rows].double(),
            rotation.pivot.double() @ template.vertices.double(),
            torch.einsum("v,ivc->ic", rotation.pivot, template.identity[:IDENTITIES]).double(),
        )
        for rotation in template.rotations
        if rotation.weights[rows].any()
    )
    points, identity = template.vertices[rows].double(), template.identity[:IDENTITIES, rows].double()
    joints = _reduce_joints(template, channels, rows, with_extra(template.expression[:, :0]).shape[0])
    return PointModel(points, identity, with_extra(template.expression[:, rows]), turns, joints)


def _reduce_joints(template: HeadTemplate, channels: Channels, rows: Tensor, count: int) -> _Joints | None:
    skeleton = template.skeleton
    if skeleton is None or channels.driven is None:
        return None
    expression = torch.zeros(count, len(skeleton.names), 3, dtype=torch.float64)
    expression[: len(template.expression)] = torch.einsum("jv,evc->ejc", skeleton.regressor, template.expression)
    return _Joints(
        parents=skeleton.parents,
        weights=skeleton.weights[rows].double(),
        mean=(skeleton.regressor @ template.vertices).double(),
        identity=torch.einsum("jv,ivc->ijc", skeleton.regressor, template.identity[:IDENTITIES]).double(),
        expression=expression,
        driven=channels.driven,
        correctives=None if skeleton.correctives is None else skeleton.correctives[:, rows].double(),
    )
