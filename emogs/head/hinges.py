"""What turns in a head whose expressions are straight displacements: jaw, eyeballs and lids become hinges again.

A straight path cuts the arc: half a blink passes inside the eyeball, half an open jaw is too short. So the rotation in
each of these shapes is found (Horn's rigid registration for bone and eyeballs, the change of elevation about the eye's
axis for lids), shared out to the vertices that follow it, and taken out of the displacement. At the value 1 a shape is
what it was, to rounding; between, it follows the arc.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import roma
import torch
from torch import Tensor

from .lids import GAZE_DOWN, GAZE_OUT
from .muscles import ramp
from .template import ARKIT_NAMES, Rotation

_SIDEWAYS, _UPRIGHT = (0.0, 1.0, 0.0), (1.0, 0.0, 0.0)
_SHARE_FLOOR = 0.02
"""Shares below this are none: the linear displacement keeps what they would have done."""
_SOFT = 0.002
"""Metres of an arc below which a vertex's share of it is not trusted."""
_LID_DEPTH = (1.7, 1.35)
"""Lid skin lies within the second multiple of the ball's radius; from the first on there is none."""


@dataclass(frozen=True)
class Hinged:
    """Expressions as displacements and rotations."""

    expression: Tensor  # [52, V, 3]
    rotations: tuple[Rotation, ...]
    jaw: Tensor  # [V] share of the jaw's turn


def hinge_expressions(
    vertices: Tensor, expression: Tensor, lower_teeth: Tensor, eyes: tuple[Tensor, Tensor], skin: Tensor
) -> Hinged:
    """Takes the rotations out of linear ARKit shapes.

    Args:
        vertices: [V, 3] neutral, metres, looking along +z. expression: [52, V, 3] displacements.
        lower_teeth, eyes: [N] vertices of parts that move rigidly; the left eye comes first. skin: [V] bool.
    """
    rest, shapes = vertices.double(), expression.double().clone()
    rotations: list[Rotation] = []
    jaw = _hinge_jaw(rest, shapes, lower_teeth, torch.cat(eyes), rotations)
    for side, ball in zip(("Left", "Right"), eyes, strict=True):
        _hinge_eye(rest, shapes, ball, side, rotations)
        _hinge_lids(rest, shapes, ball, side, skin, rotations)
    return Hinged(shapes.float(), tuple(rotations), jaw.float())


def lower_teeth_of(teeth: Tensor, jaw_open: Tensor) -> Tensor:
    """[N] those of the teeth [M] that move with an opening jaw, displacements jaw_open [V, 3]."""
    travel = jaw_open[teeth].norm(dim=1)
    return teeth[travel > 0.1 * travel.amax()] if len(teeth) else teeth


def balanced(points: Tensor, centre: Tensor) -> Tensor:
    """[N] smallest weights that sum to one and whose weighted mean of points [N, 3] is `centre`."""
    system = torch.cat([points.T, torch.ones_like(points[:, :1]).T])
    wanted = torch.cat([centre, torch.ones_like(centre[:1])])
    return torch.linalg.lstsq(system, wanted[:, None], driver="gelsd").solution[:, 0]


def sphere_centre(ball: Tensor) -> Tensor:
    """[3] centre of the sphere through an eyeball [N, 3], least squares without what is not on it.

    From |p|^2 = 2 p.c + (r^2 - |c|^2), about the mean, so that nothing cancels; first through the back, where no cornea
    bulges, then through all that lies within 5% of the radius: an iris may hang inside.
    """
    middle = ball.double().mean(0)
    points = ball.double() - middle
    chosen = points[:, 2] <= points[:, 2].median()
    centre = torch.zeros_like(middle)
    for _ in range(4):
        used = points[chosen]
        system = torch.cat([2 * used, torch.ones_like(used[:, :1])], 1)
        found = torch.linalg.lstsq(system, used.square().sum(1, keepdim=True)).solution[:, 0]
        centre = found[:3]
        distance = (points - centre).norm(dim=1)
        radius = distance[chosen].median()
        chosen = (distance - radius).abs() < 0.05 * radius
    return (middle + centre).to(ball)


def _channel(name: str) -> int:
    return ARKIT_NAMES.index(name)


def _hinge_jaw(rest: Tensor, shapes: Tensor, teeth: Tensor, eyes: Tensor, rotations: list[Rotation]) -> Tensor:
    """[V] each vertex's share of the turn of the lower teeth; `jawOpen` and `mouthClose` lose it from their lines."""
    opened = shapes[_channel("jawOpen")].clone()
    share = torch.zeros(len(rest), dtype=torch.float64)
    if not len(teeth) or not opened[teeth].any():
        return share
    turn, shift = roma.rigid_points_registration(rest[teeth], rest[teeth] + opened[teeth])
    angle, axis = _axis_angle(turn)
    centre = _fixed_point(turn, shift, rest[teeth].mean(0))
    arc = (rest - centre) @ turn.T - (rest - centre)
    share = (opened * arc).sum(1) / (arc.square().sum(1) + _SOFT**2)
    share = share.clamp(0, 1)
    share[share < _SHARE_FLOOR] = 0
    share[eyes] = 0
    share[teeth] = 1
    straightened = _undo(rest + opened, share * angle, axis, centre) - rest
    straightened[teeth] = straightened[teeth].mean(0)  # bone does not bend, whatever a scan says
    closed = shapes[_channel("mouthClose")]
    both = _undo(rest + opened + closed, share * angle, axis, centre) - rest
    shapes[_channel("jawOpen")], shapes[_channel("mouthClose")] = straightened, both - straightened
    rotations.append(_rotation({"jawOpen": angle}, axis, centre, rest, teeth, share))
    return share


def _hinge_eye(rest: Tensor, shapes: Tensor, ball: Tensor, side: str, rotations: list[Rotation]) -> None:
    """The eyeball turns about +y for looks in and out, about +x for looks up and down.

    Shapes that leave the ball where it is, as ICT-FaceKit's do, get the built-in head's angles.
    """
    centre = _ball_centre(rest, shapes, ball, side)
    everything = torch.zeros(len(rest), dtype=torch.float64)
    everything[ball] = 1
    outwards = 1.0 if side == "Left" else -1.0
    for axis, looks in (
        (_SIDEWAYS, {name: outwards * degrees for name, degrees in GAZE_OUT.items()}),
        (_UPRIGHT, GAZE_DOWN),
    ):
        direction = torch.tensor(axis, dtype=torch.float64)
        angles = {}
        for look, degrees in looks.items():
            shape, angle = shapes[_channel(look + side)], math.radians(degrees)
            if shape[ball].any():
                turn, _ = roma.rigid_points_registration(rest[ball], rest[ball] + shape[ball])
                angle = float(roma.rotmat_to_rotvec(turn) @ direction)
                shape[ball] = _undo(rest[ball] + shape[ball], angle, direction, centre) - rest[ball]
            angles[look + side] = angle
        rotations.append(_rotation(angles, direction, centre, rest, ball, everything))


def _hinge_lids(rest: Tensor, shapes: Tensor, ball: Tensor, side: str, skin: Tensor, rotations: list[Rotation]) -> None:
    """Lids turn about the ball's horizontal axis: the upper one down, the lower one up."""
    name = f"eyeBlink{side}"
    shape = shapes[_channel(name)]
    centre = _ball_centre(rest, shapes, ball, side)
    radius = (rest[ball] - centre).norm(dim=1).median()
    arm, moved = rest - centre, rest + shape - centre
    change = torch.atan2(arm[:, 1], arm[:, 2]) - torch.atan2(moved[:, 1], moved[:, 2])  # positive: downwards
    near = ramp(arm.norm(dim=1) / radius, *_LID_DEPTH) * skin * (arm[:, 2] > 0) * (moved[:, 2] > 0)
    axis = torch.tensor(_UPRIGHT, dtype=torch.float64)
    for sign in (1.0, -1.0):
        turn = (sign * change).clamp(min=0) * near
        largest = float(turn.amax())
        if largest > 1e-3:
            share = turn / largest
            share[share < _SHARE_FLOOR] = 0
            shape[:] = _undo(rest + shape, sign * largest * share, axis, centre) - rest
            rotations.append(_rotation({name: sign * largest}, axis, centre, rest, ball, share))


def _ball_centre(rest: Tensor, shapes: Tensor, ball: Tensor, side: str) -> Tensor:
    """[3] the point about which the looks turn the ball, or its middle where none does."""
    normal, right = torch.zeros(3, 3, dtype=torch.float64), torch.zeros(3, dtype=torch.float64)
    for look in ("In", "Out", "Up", "Down"):
        shape = shapes[_channel(f"eyeLook{look}{side}"), ball]
        if shape.norm(dim=1).amax() > _SOFT:
            turn, shift = roma.rigid_points_registration(rest[ball], rest[ball] + shape)
            system = torch.eye(3, dtype=torch.float64) - turn
            normal, right = normal + system.T @ system, right + system.T @ shift
    ridge = 1e-4 * torch.eye(3, dtype=torch.float64)
    return torch.linalg.solve(normal + ridge, right + ridge @ sphere_centre(rest[ball]))


def _axis_angle(turn: Tensor) -> tuple[float, Tensor]:
    vector = roma.rotmat_to_rotvec(turn)
    angle = float(vector.norm())
    return angle, vector / angle


def _fixed_point(turn: Tensor, shift: Tensor, near: Tensor) -> Tensor:
    """[3] the point of the axis of x -> R x + t that is nearest to `near`; a slide along the axis is left out."""
    still = torch.eye(3, dtype=torch.float64) - turn
    return near + torch.linalg.pinv(still, rtol=1e-6) @ (shift - still @ near)


def _undo(points: Tensor, angle: Tensor | float, axis: Tensor, centre: Tensor) -> Tensor:
    """Points [N, 3] turned back by angles [N] (or one) about an axis."""
    angles = torch.as_tensor(angle, dtype=points.dtype).expand(len(points))
    back = roma.rotvec_to_rotmat(-angles[:, None] * axis)
    return (back @ (points - centre)[..., None])[..., 0] + centre


def _rotation(
    angles: dict[str, float], axis: Tensor, centre: Tensor, rest: Tensor, carriers: Tensor, share: Tensor
) -> Rotation:
    pivot = torch.zeros(len(rest), dtype=torch.float64)
    pivot[carriers] = balanced(rest[carriers], centre)
    return Rotation(
        angles=torch.tensor([angles.get(name, 0.0) for name in ARKIT_NAMES]),
        axis=axis.float(),
        pivot=pivot.float(),
        weights=share.float(),
    )
