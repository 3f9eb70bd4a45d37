"""ARKit's channels for a template whose expression space has no names, such as FLAME's.

No published table says which of FLAME's directions is a smile. So it is found by geometry: both heads are laid on each
other, every vertex of the face takes the displacement of the nearest place on a head that speaks ARKit, eyeballs and
jaw turn as they turn there, and least squares find the directions that explain what is left. What they cannot explain
is reported. A mapping of the user's own, from paired recordings say, is read from a file instead.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import roma
import torch
from torch import Tensor

from ..io.files import FormatError
from .builtin import builtin_head
from .fields import read_npz
from .mesh import vertex_normals
from .nearest import Feet, nearest_on_surface
from .template import ARKIT_NAMES, HeadTemplate

REACH = 0.012
"""Metres between the aligned surfaces beyond which a vertex has no counterpart."""
_FACING = 0.5
"""Least cosine between the normals of counterparts: the inside of a lip is not its outside."""
_NOISE = 0.0005
"""Metres of error expected of a counterpart's displacement: how hard the directions may work to meet it."""
_INDEPENDENT = 300
"""How many of the counterparts count as independent evidence, whatever the mesh's density."""
_ROUNDS = 30
_FEWEST = 50
_SAMPLE = 800
"""Vertices that lay the heads on each other; all of them take displacements afterwards."""
_JAW_OPEN, _MOUTH_CLOSE = ARKIT_NAMES.index("jawOpen"), ARKIT_NAMES.index("mouthClose")


@dataclass(frozen=True)
class Retargeting:
    """A template that speaks ARKit, and how well."""

    template: HeadTemplate
    weights: Tensor  # [52, E] of the template's own directions
    unexplained: (
        Tensor  # [52] RMS of the displacement that is left over that asked for; 0 for channels that ask nothing
    )
    distance: float  # metres, mean between counterparts once the heads are aligned
    counterparts: int


def retarget(target: HeadTemplate, source: HeadTemplate | None = None) -> Retargeting:
    """Finds ARKit's channels in the expression space of a template by geometry.

    Args:
        target: looks along +z and stands upright; has landmarks, or joints named eye_left and eye_right.
        source: any head that speaks ARKit; None is the built-in one.
    Raises:
        ValueError: the heads cannot be laid on each other.
    """
    source = source or builtin_head()
    if not source.speaks_arkit:
        raise ValueError(f"source: expected a head that speaks ARKit, got {source.name!r}")
    chosen, feet, turn, scale = _counterparts(target, source)
    wanted = _displacements(source, feet) @ turn / scale  # [52, N, 3] in the target's space
    pose = _joint_turns(source, target, turn)
    weights, unexplained = _explain(target, chosen, wanted, pose)
    made = _speaking(target, weights, pose)
    return Retargeting(made, weights, unexplained, float(feet.distance.mean()) / scale, len(chosen))


def read_mapping(target: HeadTemplate, path: str | Path) -> HeadTemplate:
    """A template that speaks ARKit by the user's table.

    Args:
        path: an npz with `expression` [52, E], weights of the template's directions for ARKit's channels in the order
            of `ARKIT_NAMES`, and optionally `pose` [52, J, 3], rotation vectors of its joints.
    Raises:
        emogs.io.FormatError: names the field that does not fit.
    """
    fields = read_npz(path)
    weights = fields.floats("expression", len(ARKIT_NAMES), len(target.expression_names))
    pose = None
    if "pose" in fields:
        if target.skeleton is None:
            raise FormatError(path, "pose", f"expected none, as the template {target.name!r} has no joints, got some")
        pose = fields.floats("pose", len(ARKIT_NAMES), len(target.skeleton.names), 3)
    return _speaking(target, weights, pose)


def _speaking(target: HeadTemplate, weights: Tensor, pose: Tensor | None) -> HeadTemplate:
    return replace(
        target,
        expression=torch.einsum("ce,evx->cvx", weights, target.expression),
        expression_names=ARKIT_NAMES,
        skeleton=replace(target.skeleton, driven=pose) if target.skeleton else None,
    )


# Laying two heads on each other --------------------------------------------------------------------------------------


def _counterparts(target: HeadTemplate, source: HeadTemplate) -> tuple[Tensor, Feet, Tensor, float]:
    """Vertices of the target [N], their places on the source, and the rotation and scale from target to source."""
    skin = target.faces[target.face_part == target.part_names.index("skin")].unique()
    triangles = (source.face_part == source.part_names.index("skin")).nonzero()[:, 0]
    normals = vertex_normals(target.vertices, target.faces)
    source_normals = vertex_normals(source.vertices, source.faces)
    turn, shift, scale = _first_guess(target, source)
    sample = skin[:: max(1, len(skin) // _SAMPLE)]
    for rows in [sample] * _ROUNDS + [skin]:
        points = scale * target.vertices[rows] @ turn.T + shift
        feet = nearest_on_surface(points, source.vertices, source.faces[triangles])
        feet = replace(feet, face=triangles[feet.face])
        facing = (feet.carry(source.faces, source_normals) * (normals[rows] @ turn.T)).sum(1)
        kept = (feet.distance < REACH) & (facing > _FACING) & _in_face(points, source)
        if kept.sum() < _FEWEST:
            raise ValueError(
                f"template {target.name!r}: only {int(kept.sum())} vertices of its skin come within"
                f" {1000 * REACH:.0f} mm of the face of {source.name!r}; expected an upright head that looks along +z"
            )
        if rows is not skin:
            places = feet.carry(source.faces, source.vertices)
            turn, shift, scale = _similarity(target.vertices[rows[kept]], places[kept])
    return skin[kept], Feet(feet.face[kept], feet.barycentric[kept], feet.distance[kept]), turn, scale


def _similarity(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, float]:
    turn, shift, scale = roma.rigid_points_registration(x.double(), y.double(), compute_scaling=True)
    return turn.float(), shift.float(), float(scale)


def _first_guess(target: HeadTemplate, source: HeadTemplate) -> tuple[Tensor, Tensor, float]:
    """By landmarks where both have them; else by the eyes, with both heads upright."""
    if len(target.landmarks) and len(source.landmarks):
        return _similarity(target.vertices[target.landmarks[17:]], source.vertices[source.landmarks[17:]])
    ours, theirs = _eyes(target), _eyes(source)
    scale = float((theirs[0] - theirs[1]).norm() / (ours[0] - ours[1]).norm().clamp_min(1e-9))
    return torch.eye(3), theirs.mean(0) - scale * ours.mean(0), scale


def _eyes(template: HeadTemplate) -> Tensor:
    """[2, 3] centres of the left and the right eyeball."""
    if template.skeleton and "eye_left" in template.skeleton.names:
        joints = template.skeleton.regressor @ template.vertices
        return joints[[template.skeleton.names.index(f"eye_{side}") for side in ("left", "right")]]
    return torch.stack([template.vertices[_part(template, f"eye_{side}")].mean(0) for side in ("left", "right")])


def _part(template: HeadTemplate, name: str) -> Tensor:
    """[N] the vertices of a part."""
    if name not in template.part_names:
        raise ValueError(
            f"template {template.name!r}: expected landmarks, or joints or a part named {name}, got neither"
        )
    return template.faces[template.face_part == template.part_names.index(name)].unique()


def _in_face(points: Tensor, source: HeadTemplate) -> Tensor:
    """[N] bool: before the ears and above the neck of the source."""
    marks = source.vertices[source.landmarks]
    size = (marks[45] - marks[36]).norm()
    return (points[:, 2] > marks[[0, 16], 2].mean()) & (points[:, 1] > marks[8, 1] - 0.3 * size)


# What a channel does -------------------------------------------------------------------------------------------------


def _displacements(source: HeadTemplate, feet: Feet) -> Tensor:
    """[52, N, 3] metres: what each channel at 1 does at places on the source; `mouthClose` beside an open jaw."""
    worn = torch.eye(len(ARKIT_NAMES))
    worn[_MOUTH_CLOSE, _JAW_OPEN] = 1.0
    moved = torch.stack([source.deform(expression=row[None])[0] for row in worn])
    shown = feet.carry(source.faces, moved - source.vertices)
    shown[_MOUTH_CLOSE] -= shown[_JAW_OPEN]
    return shown


def _joint_turns(source: HeadTemplate, target: HeadTemplate, turn: Tensor) -> Tensor | None:
    """[52, J, 3] rotation vectors of the target's joints: those by which the source's rigid parts turn."""
    if target.skeleton is None:
        return None
    pose = torch.zeros(len(ARKIT_NAMES), len(target.skeleton.names), 3)
    rigid = {"eye_left": "eye_left", "eye_right": "eye_right", "jaw": "teeth_lower"}
    for joint, part in rigid.items():
        if joint not in target.skeleton.names or part not in source.part_names:
            continue
        rows = _part(source, part)
        rest = source.vertices[rows].double()
        for channel in range(len(ARKIT_NAMES)):
            moved = source.deform(expression=torch.eye(len(ARKIT_NAMES))[channel : channel + 1])[0, rows].double()
            if not torch.equal(moved, rest):
                found, _ = roma.rigid_points_registration(rest, moved)
                pose[channel, target.skeleton.names.index(joint)] = roma.rotmat_to_rotvec(found).float() @ turn
    return torch.where(pose.norm(dim=-1, keepdim=True) > 1e-3, pose, 0.0)


def _explain(target: HeadTemplate, chosen: Tensor, wanted: Tensor, pose: Tensor | None) -> tuple[Tensor, Tensor]:
    """[52, E] weights of the target's directions and [52] what they leave, by ridge regression.

    A direction's unit is one standard deviation, so it costs 1/2 w^2; a displacement of _NOISE left over costs 1/2.
    """
    directions = target.expression[:, chosen].double()  # [E, N, 3]
    strength = min(_INDEPENDENT / len(chosen), 1.0) / _NOISE**2
    weights = torch.zeros(len(ARKIT_NAMES), len(directions))
    unexplained = torch.zeros(len(ARKIT_NAMES))
    rest = target.vertices[chosen].double()
    for channel in range(len(ARKIT_NAMES)):
        posed, by_pose = directions, torch.zeros_like(rest)
        joints = None if pose is None else pose[_JAW_OPEN if channel == _MOUTH_CLOSE else channel]
        if joints is not None and joints.any():
            moved = target.deform(pose=joints[None])[0, chosen].double()
            posed = _turned(target, chosen, joints, directions)
            by_pose = torch.zeros_like(rest) if channel == _MOUTH_CLOSE else moved - rest
        left = (wanted[channel].double() - by_pose).flatten()
        system = posed.flatten(1)
        normal = strength * system @ system.T + torch.eye(len(system), dtype=torch.float64)
        found = torch.linalg.solve(normal, strength * system @ left)
        asked = wanted[channel].norm()
        weights[channel] = found.float()
        unexplained[channel] = float((left - found @ system).norm() / asked) if asked > 1e-6 else 0.0
    return weights, unexplained


def _turned(target: HeadTemplate, chosen: Tensor, joints: Tensor, directions: Tensor) -> Tensor:
    """[E, N, 3] directions as the joints turn them: the derivative of the posed vertices."""
    assert target.skeleton is not None
    change, _ = target.skeleton.motions(target.vertices[None], joints[None])
    linear = change[0, chosen].double() + torch.eye(3, dtype=torch.float64)
    return (linear @ directions[..., None])[..., 0]
