"""What every head template offers, whatever it was made from: shape, parts, landmarks, identity and expression.

A template is data plus one function, `deform`. Linear expressions are vertex displacements; the jaw, the lids and the
eyeballs *rotate*, because a straight chord would pass through the eye or shorten the jaw: expression channels turn them
as hinges (`Rotation`), a pose turns a skeleton's joints in any direction (`Skeleton`). All lengths are metres.
Head space: +x is the subject's left, +y up, +z where the face looks; the origin lies inside the head.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import roma
import torch
from torch import Tensor

from .skeleton import Skeleton

ARKIT_NAMES = (
    "browDownLeft", "browDownRight", "browInnerUp", "browOuterUpLeft", "browOuterUpRight",
    "cheekPuff", "cheekSquintLeft", "cheekSquintRight",
    "eyeBlinkLeft", "eyeBlinkRight", "eyeLookDownLeft", "eyeLookDownRight", "eyeLookInLeft", "eyeLookInRight",
    "eyeLookOutLeft", "eyeLookOutRight", "eyeLookUpLeft", "eyeLookUpRight", "eyeSquintLeft", "eyeSquintRight",
    "eyeWideLeft", "eyeWideRight",
    "jawForward", "jawLeft", "jawOpen", "jawRight",
    "mouthClose", "mouthDimpleLeft", "mouthDimpleRight", "mouthFrownLeft", "mouthFrownRight", "mouthFunnel",
    "mouthLeft", "mouthLowerDownLeft", "mouthLowerDownRight", "mouthPressLeft", "mouthPressRight", "mouthPucker",
    "mouthRight", "mouthRollLower", "mouthRollUpper", "mouthShrugLower", "mouthShrugUpper",
    "mouthSmileLeft", "mouthSmileRight", "mouthStretchLeft", "mouthStretchRight",
    "mouthUpperUpLeft", "mouthUpperUpRight", "noseSneerLeft", "noseSneerRight", "tongueOut",
)  # fmt: skip
"""The 52 face shapes of ARKit, alphabetical by region: names and order of every template's expression channels."""


@dataclass(frozen=True)
class Rotation:
    """One rotating part: vertex v turns by `(angles @ expression) * weights[v]` about an axis through a pivot."""

    angles: Tensor
    """[E] radians at channel value 1; channels that turn the same part add up."""
    axis: Tensor
    """[3] unit vector in head space, right-handed."""
    pivot: Tensor
    """[V] weights that sum to one: the pivot is this mean of the identity's vertices, so it follows the identity."""
    weights: Tensor
    """[V] share of the angle that each vertex takes, in [0, 1]."""


@dataclass(frozen=True, eq=False)
class HeadTemplate:
    """A head with a fixed mesh: neutral shape, identity directions, expressions, texture coordinates, landmarks.

    `expression` holds the linear displacements of the channels (zero rows for channels that only rotate). They are the
    52 of ARKit, but for a model with an expression space of its own, such as FLAME: see `speaks_arkit`.
    `albedo` is a generic face painted in texture space: what a part looks like where no photo shows it.
    """

    name: str
    vertices: Tensor  # [V, 3] neutral shape, metres
    faces: Tensor  # [F, 3] int64, counter-clockwise seen from outside
    uv: Tensor  # [T, 2] in [0, 1]; (0, 0) is the top-left corner of the texture (row = v * height)
    faces_uv: Tensor  # [F, 3] int64 into uv
    face_part: Tensor  # [F] int64 into part_names
    part_names: tuple[str, ...]
    landmarks: Tensor  # [68] int64 vertices, in the iBUG order; [0] where the model's file has none
    rigid: Tensor  # [R] int64 vertices of the skull, which no expression moves
    identity: Tensor  # [I, V, 3] displacement at one standard deviation
    identity_names: tuple[str, ...]
    expression: Tensor  # [E, V, 3] linear displacement at channel value 1
    albedo: Tensor  # [S, S, 3] linear in display values, [0, 1]
    expression_names: tuple[str, ...] = ARKIT_NAMES
    rotations: tuple[Rotation, ...] = field(default=())
    skeleton: Skeleton | None = None

    @property
    def speaks_arkit(self) -> bool:
        """Whether the expression channels are ARKit's, so that emotions can be worn."""
        return self.expression_names == ARKIT_NAMES

    def deform(
        self, identity: Tensor | None = None, expression: Tensor | None = None, pose: Tensor | None = None
    ) -> Tensor:
        """Vertices of an identity wearing an expression in a pose.

        Args:
            identity: [B, I] standard deviations; None is the mean identity.
            expression: [B, E] channel values, ARKit's usually in [0, 1]; None is neutral.
            pose: [B, J, 3] rotation vectors of the skeleton's joints relative to their parents, radians; None is rest.
        Returns:
            [B, V, 3] metres, differentiable in all arguments. B is 1 if all are None; a B of 1 broadcasts.
        Raises:
            TypeError: an argument is no tensor of the template's dtype.
            ValueError: it has another shape or device; a pose for a template without a skeleton.
        """
        self._check(identity, expression, pose)
        person = self.vertices[None]
        if identity is not None:
            person = person + torch.einsum("bi,ivc->bvc", identity, self.identity)
        moved = person
        if expression is not None:
            moved = person + torch.einsum("be,evc->bvc", expression, self.expression)
            for rotation in self.rotations:
                moved = _rotate(rotation, moved, person, expression)
        turns = self._turns(expression, pose)
        return moved if turns is None or self.skeleton is None else self.skeleton.pose(moved, turns)

    def _check(self, identity: Tensor | None, expression: Tensor | None, pose: Tensor | None) -> None:
        """Raises the errors of `deform`."""
        if pose is not None and self.skeleton is None:
            raise ValueError(f"pose: the template {self.name!r} has no skeleton")
        joints = self.skeleton.names if self.skeleton else ()
        batches: dict[str, int] = {}
        for name, value, sizes in (
            ("identity", identity, (len(self.identity),)),
            ("expression", expression, (len(self.expression),)),
            ("pose", pose, (len(joints), 3)),
        ):
            if value is None:
                continue
            if not isinstance(value, Tensor):
                raise TypeError(f"{name}: expected a tensor, got {type(value).__name__}")
            if value.dtype != self.vertices.dtype:
                raise TypeError(f"{name}: expected {self.vertices.dtype} as the template's, got {value.dtype}")
            if value.shape[1:] != sizes or value.ndim != 1 + len(sizes):
                wanted = f"[B, {', '.join(map(str, sizes))}]" + (f" ({', '.join(joints)})" if name == "pose" else "")
                raise ValueError(f"{name}: expected {wanted}, got {list(value.shape)}")
            if value.device != self.vertices.device:
                raise ValueError(f"{name}: expected to be on {self.vertices.device}, got {value.device}")
            for other, batch in batches.items():
                if 1 not in (batch, len(value)) and batch != len(value):
                    raise ValueError(f"{name}: expected a batch of 1 or, as {other}, {batch}, got {len(value)}")
            batches[name] = len(value)

    def _turns(self, expression: Tensor | None, pose: Tensor | None) -> Tensor | None:
        """[B, J, 3] the joints' rotation vectors by pose and expression; None where nothing turns a joint."""
        if self.skeleton is None:
            return None
        if expression is None or self.skeleton.driven is None:
            return pose
        driven = torch.einsum("be,ejc->bjc", expression, self.skeleton.driven)
        return driven if pose is None else driven + pose

    def channel(self, name: str) -> int:
        """Index of an expression channel by its ARKit name."""
        try:
            return self.expression_names.index(name)
        except ValueError:
            raise ValueError(
                f"expression {name!r} is unknown; valid names: {', '.join(self.expression_names)}"
            ) from None


def _rotate(rotation: Rotation, moved: Tensor, person: Tensor, expression: Tensor) -> Tensor:
    """Turns the vertices that take part by their share of the angle. What does not turn stays as it is, bit for bit."""
    part = rotation.weights.nonzero()[:, 0]
    pivot = torch.einsum("v,bvc->bc", rotation.pivot, person)[:, None]
    angle = (expression @ rotation.angles)[:, None] * rotation.weights[part]
    turn = roma.rotvec_to_rotmat(angle[..., None] * rotation.axis)
    change = turn - torch.eye(3).to(turn)
    return moved.index_add(1, part, (change @ (moved[:, part] - pivot)[..., None])[..., 0])
