"""Measuring heads: distances, extents and girths between landmarks and zones of the skin, in millimetres.

Every measure takes the face at rest, which tells what lies where, and the vertices [V, 3] to be measured.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from .face import Eye, Face
from .muscles import ramp

Measure = Callable[[Face, Tensor], Tensor]


def point(face: Face, points: Tensor, landmark: int) -> Tensor:
    return points[face.landmarks[landmark]]


def along(axis: int, a: int, b: int | tuple[int, int]) -> Measure:
    """Landmark a beyond landmark b, or beyond the middle of two, along x, y or z."""

    def measure(f: Face, p: Tensor) -> Tensor:
        base = point(f, p, b) if isinstance(b, int) else (point(f, p, b[0]) + point(f, p, b[1])) / 2
        return (point(f, p, a) - base)[axis]

    return measure


def extent(axis: int, zone: Callable[[Face], Tensor]) -> Measure:
    """Breadth of a zone of the skin along an axis."""

    def measure(f: Face, p: Tensor) -> Tensor:
        inside = p[zone(f), axis]
        return inside.amax() - inside.amin()

    return measure


def sides_apart(anchor: Callable[[Face], Tensor], axis: int = 0) -> Measure:
    """Where the skin vertex that rests nearest to an anchor lies along an axis; in x, between both sides."""

    def measure(f: Face, p: Tensor) -> Tensor:
        here = torch.where(f.skin, (f.points - anchor(f)).norm(dim=1), torch.inf).argmin()
        return 2 * p[here, 0] if axis == 0 else p[here, axis]

    return measure


def ball(points: Tensor, eye: Eye) -> Tensor:
    return points[eye.vertices].mean(0)


def pupils_apart(f: Face, p: Tensor) -> Tensor:
    return ball(p, f.left_eye)[0] - ball(p, f.right_eye)[0]


def eye_above_nose(f: Face, p: Tensor) -> Tensor:
    return ball(p, f.left_eye)[1] - point(f, p, 33)[1]


def eye_behind_nasion(f: Face, p: Tensor) -> Tensor:
    return point(f, p, 27)[2] - ball(p, f.left_eye)[2]


def ear_breadth(f: Face, p: Tensor) -> Tensor:
    """How far the left ear stands out beyond the front of its root."""
    return p[ear(f) > 0.5, 0].amax() - point(f, p, 16)[0]


def neck_zone(f: Face) -> Tensor:
    below = f.at(8)[1] - f.points[:, 1]
    return f.skin & (below > 28) & (below < 48) & (f.points[:, 2] < f.at(8)[2])


def neck_girth(f: Face, p: Tensor) -> Tensor:
    """Girth of the ellipse with the neck's breadth and depth."""
    neck = p[neck_zone(f)]
    half = (neck.amax(0) - neck.amin(0)) / 2
    return 2 * torch.pi * ((half[0] ** 2 + half[2] ** 2) / 2).sqrt()


def skull(f: Face) -> Tensor:
    """Skin of the braincase: above the brows or behind, over the ears."""
    return f.skin & (f.points[:, 1] > f.at(24)[1] + 10)


def ear(f: Face) -> Tensor:
    """[V] how much a left vertex belongs to the ear: what stands out beside the head, behind the jaw's upper end."""
    root = f.at(16)
    arm = f.points - root
    near = ramp((f.points[:, 1] - root[1] + 15).abs(), 60.0, 45.0) * ramp(arm[:, 2], 8.0, 0.0)
    return ramp(arm[:, 0], 0.0, 10.0) * near * f.skin
