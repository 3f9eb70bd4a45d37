"""Identity as anthropometry: each direction is one measurement of the head, at one standard deviation of adults.

Deviations follow, rounded and pooled over sexes, what surveys print: ANSUR II (US Army, 2012) for head, jaw, ear and
neck; Farkas, Anthropometry of the Head and Face (1994) for nose, lips, eyes and heights; soft tissue depths from
forensic tables; slopes, prominences and asymmetries, which surveys rarely print, are estimates. They set how far a
standard deviation goes, not who is typical. Directions are taken as independent, which people's measurements are not.
A direction is a smooth, symmetric displacement field, scaled so that it changes its own measurement by that much.
Bone fields move teeth and tongue along; eyeballs only ever translate, and their lids with them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from .face import Eye, Face
from .lids import lid_turns
from .measures import (
    Measure,
    along,
    ear,
    ear_breadth,
    extent,
    eye_above_nose,
    eye_behind_nasion,
    neck_girth,
    neck_zone,
    pupils_apart,
    sides_apart,
    skull,
)
from .muscles import falloff, piecewise, pressure, ramp
from .regions import Regions


@dataclass(frozen=True)
class Measurement:
    """One identity direction."""

    name: str
    deviation: float
    """Standard deviation of the measurement, millimetres."""
    measure: Measure
    """The measurement of a head whose vertices are [V, 3], in millimetres; the face tells what lies where."""
    field: Callable[[Face], Tensor]
    """[V, 3] displacement that increases it, of any size."""
    bone: bool = True
    """Whether what lies under the skin moves along."""
    lids: bool = False
    """Whether it reshapes the eye's opening; other directions carry lids along with the ball."""
    symmetric: bool = True


def build_identity(
    vertices: Tensor, faces: Tensor, landmarks: Tensor, regions: Regions
) -> tuple[Tensor, tuple[str, ...]]:
    """The identity directions of a neutral head.

    Args:
        vertices: [V, 3] float32, metres. faces: [F, 3] int64. landmarks: [68] int64, iBUG. regions: of the same mesh.
    Returns:
        [I, V, 3] displacement at one standard deviation, metres, and the names of the measurements.
    """
    face = Face(vertices, faces, landmarks, regions)
    directions = torch.stack([_direction(face, measurement) for measurement in MEASUREMENTS])
    return (directions * face.unit).to(vertices.dtype), tuple(m.name for m in MEASUREMENTS)


def _direction(face: Face, measurement: Measurement) -> Tensor:
    field = measurement.field(face)
    if not measurement.bone:
        field = field * face.skin[:, None]
    for eye in (face.left_eye, face.right_eye):
        field = _slide_lids(face, eye, field) if measurement.lids else _carry_eye(face, eye, field)
    if measurement.symmetric:
        field = 0.5 * (field + face.mirrored(field))
    before = measurement.measure(face, face.points)
    for _ in range(3):  # nearly linear, so that a few secant steps settle it
        change = measurement.measure(face, face.points + field) - before
        field = field * (measurement.deviation / change)
    return field


def _carry_eye(face: Face, eye: Eye, field: Tensor) -> Tensor:
    """The ball translates by the mean of the field around it; lids go with it, skin farther away goes its own way."""
    distance = (face.points - eye.centre).norm(dim=1)
    socket = face.skin & (distance < 1.5 * eye.radius)
    shift = field[socket].mean(0)
    share = ramp(distance, 2.0 * eye.radius, 1.2 * eye.radius) * face.skin
    share[eye.vertices] = 1.0
    other = face.left_eye if eye is face.right_eye else face.right_eye
    share[other.vertices] = 0.0
    return field + share[:, None] * (shift - field)


def _slide_lids(face: Face, eye: Eye, field: Tensor) -> Tensor:
    """Lids glide on the ball, which stays: no radial part near it, so that either sign stays outside."""
    arm = face.points - eye.centre
    distance = arm.norm(dim=1, keepdim=True).clamp(min=1e-9)
    outward = arm / distance
    radial = (field * outward).sum(1, keepdim=True) * outward
    field = field - radial * ramp(distance, 1.8 * eye.radius, 1.3 * eye.radius)
    return field.index_fill(0, eye.vertices, 0.0)


# Fields --------------------------------------------------------------------------------------------------------------


def _press(f: Face, centre: Tensor, size: tuple[float, float, float], x: float, y: float, z: float) -> Tensor:
    """A soft push, without the limits that expressions have: bones move too."""
    return pressure(f.points, centre, f.vector(*size), f.vector(x, y, z))


def _vector(x: Tensor | float, y: Tensor | float, z: Tensor | float, like: Tensor) -> Tensor:
    return torch.stack([torch.as_tensor(value, dtype=like.dtype).expand(len(like)) for value in (x, y, z)], 1)


def _head_breadth(f: Face) -> Tensor:
    p = f.points
    wide = ramp(p[:, 1], float(f.at(33)[1]), float(f.at(24)[1]) + 15)
    return _vector(p[:, 0] * wide * ramp(p[:, 2], float(f.at(27)[2]), float(f.at(16)[2])), 0, 0, p)


def _head_length(f: Face) -> Tensor:
    p = f.points
    return _vector(0, 0, -ramp(p[:, 2], float(f.at(16)[2]) - 10, float(p[f.skin, 2].amin())) * _above_neck(f), p)


def _above_neck(f: Face) -> Tensor:
    return ramp(f.points[:, 1], float(f.at(8)[1]) - 30, float(f.at(33)[1]))


def _head_height(f: Face) -> Tensor:
    return _vector(0, ramp(f.points[:, 1], float(f.at(24)[1]), float(f.points[f.skin, 1].amax())), 0, f.points)


def _face_height(f: Face) -> Tensor:
    """Everything below the nasion sinks, in proportion; the neck takes it up."""
    p = f.points
    top, bottom = f.at(27)[1], f.at(8)[1]
    share = ((top - p[:, 1]) / (top - bottom)).clamp(0, 1)
    before = ramp(p[:, 2], float(f.at(16)[2]) - 25, float(f.at(16)[2]) + 15)
    return _vector(0, -share * ramp(p[:, 1], float(bottom) - 70, float(bottom)) * before, 0, p)


def _cheekbones(f: Face) -> Tensor:
    """Breadth over the cheekbones; the ears and the eyes give way a little."""
    p = f.points
    level = falloff((p[:, 1] - f.at(15)[1] - 5) / 55)
    return _vector(p[:, 0].abs().pow(1.5) * p[:, 0].sign() * level * _face_side(f), 0, 0, p)


def _face_side(f: Face) -> Tensor:
    return ramp(f.points[:, 2], float(f.at(16)[2]) - 70, float(f.at(16)[2]) - 5)


def _jaw_breadth(f: Face) -> Tensor:
    p = f.points
    level = falloff((p[:, 1] - f.at(12)[1]) / 50)
    return _vector(p[:, 0].abs().pow(1.5) * p[:, 0].sign() * level * _face_side(f), 0, 0, p)


def _lower_front(f: Face) -> Tensor:
    """[V, 1] share of the lower face: 1 at the chin, 0 at the nose's base, the ears and the neck."""
    p = f.points
    down = ramp(p[:, 1], float(f.at(33)[1]), float(f.at(57)[1]) - 10)
    front = ramp(p[:, 2], float(f.at(14)[2]), float(f.at(10)[2]))
    return (down * front * ramp(p[:, 1], float(f.at(8)[1]) - 45, float(f.at(8)[1]) - 8))[:, None]


def _sink(f: Face, nose: float, mouth: float, lower_lip: float) -> Tensor:
    """Lowers the nose's base, the mouth's line and the lower lip's border by these shares; nasion and chin stay."""
    p = f.points
    heights = torch.stack([f.at(k)[1] for k in (27, 33, 51, 57, 8)]).flip(0)
    shares = p.new_tensor([0.0, lower_lip, mouth, nose, 0.0])
    beside = ramp(p[:, 0].abs(), float(f.at(14)[0]), 0.2 * float(f.at(14)[0]))
    front = ramp(p[:, 2], float(f.at(13)[2]), float(f.at(54)[2]))
    return _vector(0, -piecewise(p[:, 1], heights, shares) * beside * front, 0, p)


def _turn_nose_tip(f: Face) -> Tensor:
    return _press(f, f.at(30), (26, 18, 30), 0, 1, 0) + _press(f, f.at(33), (24, 10, 20), 0, 0.25, 0)


def _mouth_at(f: Face, x: float = 0, y: float = 0, z: float = 0) -> Tensor:
    return (f.at(62) + f.at(66)) / 2 + f.vector(x, y, z)


def _mouth_breadth(f: Face) -> Tensor:
    p = f.points
    arm = (p - _mouth_at(f)) / f.vector(44, 26, 46)
    away = (p[:, 0] / f.at(54)[0]).clamp(-1, 1)
    return _vector(away, 0, -0.35 * away.abs(), p) * falloff(arm.norm(dim=1, keepdim=True))


def _lip(f: Face, lip: Tensor, border: int, down: float) -> Tensor:
    """Thickens one lip: its outer border moves away from the line where the lips meet, its red swells."""
    swell = pressure(f.points, f.at(border), f.vector(26, 13, 20), f.vector(0, down, 0.5))
    return lip * swell * (1 - f.near_lips(0.0, 10.0))


def _eye_apart(f: Face) -> Tensor:
    left = _press(f, f.left_eye.centre + f.vector(0, 2, 10), (26, 34, 34), 1, 0, 0)
    return left + f.mirrored(left)


def _fissure_height(f: Face) -> Tensor:
    """The lids' own turns, apart: the upper takes three quarters."""
    upper, lower = lid_turns(f, "Left")
    arm = f.points - f.left_eye.centre
    tangent = torch.stack([torch.zeros_like(upper), arm[:, 2], -arm[:, 1]], 1)
    turn = 0.75 * upper / upper.amax() - 0.25 * lower / lower.amax()
    left = turn[:, None] * tangent
    return left + f.mirrored(left)


def _fissure_length(f: Face) -> Tensor:
    left = _press(f, f.at(45, 1, 0, 0), (16, 12, 18), 1, 0, -0.8) + _press(f, f.at(42), (10, 9, 14), -0.6, 0, 0)
    return left + f.mirrored(left)


def _both(
    centre: Callable[[Face], Tensor], size: tuple[float, float, float], x: float, y: float, z: float
) -> Callable[[Face], Tensor]:
    """A push on the left side and its mirror image."""

    def field(f: Face) -> Tensor:
        left = _press(f, centre(f), size, x, y, z)
        return left + f.mirrored(left)

    return field


def _middle(
    centre: Callable[[Face], Tensor], size: tuple[float, float, float], x: float, y: float, z: float
) -> Callable[[Face], Tensor]:
    """A push on the midline."""
    return lambda f: _press(f, centre(f), size, x, y, z)


def _skew(f: Face, centre: Tensor, size: tuple[float, float, float]) -> Tensor:
    left = _press(f, centre, size, 0, 1, 0)
    return left - f.mirrored(left)


def _eye_front(f: Face) -> Tensor:
    return f.left_eye.centre + f.vector(0, 0, 6)


def _forehead_slope(f: Face) -> Tensor:
    p = f.points
    up = ramp(p[:, 1], float(f.at(24)[1]) - 5, float(f.at(24)[1]) + 95)
    return _vector(0, 0, -up * ramp(p[:, 2], float(f.at(16)[2]) - 30, float(f.at(24)[2])), p)


def _forehead_top(f: Face) -> Tensor:
    return f.at(27, 0, 60, -10)


def _temple(f: Face) -> Tensor:
    return f.at(26, 6, 12, -14)


def _ear_length(f: Face) -> Tensor:
    middle = f.at(16)[1] - 12
    left = _vector(0, (f.points[:, 1] - middle) * ear(f), 0, f.points)
    return left + f.mirrored(left)


def _ear_protrusion(f: Face) -> Tensor:
    out = (f.points[:, 0] - f.at(16)[0]).clamp(min=0) * ear(f)
    left = _vector(out, 0, 0.3 * out, f.points)
    return left + f.mirrored(left)


def _neck(f: Face) -> Tensor:
    p = f.points
    zone = p[neck_zone(f), 2]
    axis = (zone.amax() + zone.amin()) / 2
    chin = float(f.at(8)[1])
    share = ramp(p[:, 1], chin + 25, chin - 28) * ramp(p[:, 1], chin - 110, chin - 60)
    share = share * ramp(p[:, 2], float(f.at(8)[2]), float(f.at(8)[2]) - 35)
    return _vector(p[:, 0] * share, 0, (p[:, 2] - axis) * share, p)


def _cheek(f: Face) -> Tensor:
    return f.at(13, -6, 6, 12)


def _malar(f: Face) -> Tensor:
    return f.at(46, 6, -16, -4)


_Y, _Z = 1, 2

MEASUREMENTS = (
    Measurement("head breadth", 5.7, extent(0, skull), _head_breadth),
    Measurement("head length", 7.2, extent(_Z, lambda f: f.skin & (f.points[:, 1] > f.at(33)[1] + 30)), _head_length),
    Measurement("head height", 6.5, extent(_Y, skull), _head_height),
    Measurement("face height", 6.9, along(_Y, 27, 8), _face_height),
    Measurement("face depth", 4.5, along(_Z, 33, (0, 16)), _middle(lambda f: f.at(33), (62, 70, 75), 0, 0, 1)),
    Measurement("bizygomatic breadth", 5.7, along(0, 15, 1), _cheekbones),
    Measurement("bigonial breadth", 7.5, along(0, 12, 4), _jaw_breadth),
    Measurement("jaw angle height", 4.0, along(_Y, 27, 4), _both(lambda f: f.at(12), (40, 38, 44), 0, -1, 0)),
    Measurement("chin prominence", 3.8, along(_Z, 8, 33), lambda f: _lower_front(f) * f.vector(0, 0, 1)),
    Measurement("chin height", 3.4, along(_Y, 57, 8), _middle(lambda f: f.at(8, 0, -4, 0), (44, 30, 50), 0, -1, 0)),
    Measurement("chin breadth", 4.0, along(0, 10, 6), _both(lambda f: f.at(10), (26, 26, 34), 1, 0, 0)),
    Measurement("nose length", 3.4, along(_Y, 27, 33), lambda f: _sink(f, 1.0, 0.6, 0.6)),
    Measurement("nose breadth", 3.2, along(0, 35, 31),
                _both(lambda f: f.at(35, 1, 3, 0), (15, 17, 18), 1, 0, 0), bone=False),
    Measurement("nose protrusion", 2.4, along(_Z, 30, 33),
                _middle(lambda f: f.at(30), (22, 30, 26), 0, 0, 1), bone=False),
    Measurement("nose tip angle", 1.8, along(_Y, 30, 33), _turn_nose_tip, bone=False),
    Measurement("nasal bridge", 2.2, along(_Z, 27, (39, 42)),
                _middle(lambda f: f.at(27), (13, 24, 24), 0, 0, 1), bone=False),
    Measurement("nasal hump", 1.4, along(_Z, 28, (27, 30)),
                _middle(lambda f: f.at(28), (12, 13, 18), 0, 0, 1), bone=False),
    Measurement("mouth breadth", 3.8, along(0, 54, 48), _mouth_breadth, bone=False),
    Measurement("mouth corner height", 1.5, along(_Y, 54, 62),
                _both(lambda f: f.at(54), (26, 22, 30), 0, 1, 0), bone=False),
    Measurement("mouth corner depth", 2.0, along(_Z, 62, 54),
                _both(lambda f: f.at(54, 4, 0, -2), (28, 28, 34), 0, 0, -1)),
    Measurement("upper lip height", 2.6, along(_Y, 33, 62), lambda f: _sink(f, 0.0, 1.0, 0.9)),
    Measurement("upper vermilion", 1.5, along(_Y, 51, 62), lambda f: _lip(f, f.upper, 51, 1.0), bone=False),
    Measurement("lower vermilion", 1.6, along(_Y, 66, 57), lambda f: _lip(f, f.lower, 57, -1.0), bone=False),
    Measurement("lip protrusion", 1.8, along(_Z, 62, 33),
                _middle(lambda f: _mouth_at(f, 0, -4, -6), (46, 27, 60), 0, 0, 1)),
    Measurement("interpupillary distance", 3.6, pupils_apart, _eye_apart),
    Measurement("eye height", 2.0, eye_above_nose, _both(_eye_front, (36, 36, 44), 0, 1, 0)),
    Measurement("eye depth", 1.5, eye_behind_nasion, _both(_eye_front, (30, 32, 44), 0, 0, -1)),
    Measurement("palpebral fissure length", 1.2, along(0, 45, 42), _fissure_length, bone=False, lids=True),
    Measurement("palpebral fissure height", 0.8, along(_Y, 44, 46), _fissure_height, bone=False, lids=True),
    Measurement("canthal tilt", 1.3, along(_Y, 45, 42),
                _both(lambda f: f.at(45, 1, 0, 0), (15, 12, 18), 0, 1, 0), bone=False, lids=True),
    Measurement("brow height", 2.5, along(_Y, 24, 45),
                _both(lambda f: f.at(24, -2, 8, 0), (36, 22, 36), 0, 1, 0), bone=False),
    Measurement("brow slope", 2.0, along(_Y, 26, 22),
                _both(lambda f: f.at(26, 0, 2, 0), (26, 18, 30), 0, 1, 0), bone=False),
    Measurement("brow ridge", 1.4, along(_Z, 24, (36, 45)),
                _both(lambda f: f.at(23, 2.7, -6, -0.5), (34, 15, 34), 0, 0, 1), bone=False),
    Measurement("forehead slope", 3.5, lambda f, p: -sides_apart(_forehead_top, _Z)(f, p), _forehead_slope),
    Measurement("forehead breadth", 5.0, sides_apart(_temple), _both(_temple, (40, 52, 55), 1, 0, 0)),
    Measurement("cheekbone prominence", 2.0, sides_apart(_malar, _Z),
                _both(_malar, (38, 34, 44), 0.4, 0, 1), bone=False),
    Measurement("cheek fullness", 5.0, sides_apart(_cheek), _both(_cheek, (44, 50, 50), 1, 0, 0.5), bone=False),
    Measurement("ear length", 4.2, extent(_Y, lambda f: ear(f) > 0.5), _ear_length, bone=False),
    Measurement("ear protrusion", 2.8, ear_breadth, _ear_protrusion, bone=False),
    Measurement("neck girth", 25.0, neck_girth, _neck),
    Measurement("nose deviation", 1.0, along(0, 30, (27, 33)),
                _middle(lambda f: f.at(30), (22, 24, 24), 1, 0, 0), bone=False, symmetric=False),
    Measurement("chin deviation", 1.5, along(0, 8, 27),
                lambda f: _lower_front(f) * f.vector(1, 0, 0), symmetric=False),
    Measurement("mouth tilt", 1.2, along(_Y, 54, 48),
                lambda f: _skew(f, f.at(54), (26, 24, 30)), bone=False, symmetric=False),
    Measurement("brow difference", 1.2, along(_Y, 24, 19),
                lambda f: _skew(f, f.at(24, 0, 6, 0), (36, 20, 36)), bone=False, symmetric=False),
)  # fmt: skip
"""All identity directions, in the order of their coefficients; the last four are asymmetries."""
