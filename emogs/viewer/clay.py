"""What heads are made of in pictures: clay, and as much paint as one needs to read a face - brows, lips, irises.

The paint lies where the 68 landmarks of the mean head at rest are, so that all templates wear the same and none is
flattered; it is looked up in that head, for every place that is drawn, and moves with the skin.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..head import HeadTemplate
from ..head.mesh import vertex_normals
from ..head.regions import edges_of

Floats = NDArray[np.float32]

_CLAY = {
    "skin": (0.74, 0.62, 0.55), "eye": (0.90, 0.90, 0.89), "teeth": (0.93, 0.90, 0.84), "gums": (0.66, 0.38, 0.37),
    "tongue": (0.72, 0.42, 0.41), "mouth_socket": (0.25, 0.11, 0.11),
}  # fmt: skip
_BROW, _LIP, _SEAM = (0.48, 0.38, 0.33), (0.71, 0.53, 0.48), (0.46, 0.30, 0.27)
_IRIS, _RIM, _PUPIL = (0.25, 0.33, 0.38), (0.13, 0.17, 0.20), (0.03, 0.03, 0.04)
_IRIS_ANGLE, _PUPIL_ANGLE, _EDGE = 26.0, 10.5, 2.5
"""Degrees about an eyeball's axis that iris and pupil reach, and over which one becomes the other."""
_GROOVE = 0.55
"""How much darker teeth are in the grooves between them, where clay would hold no light."""
_BROW_HALF, _BROW_SOFT = (0.014, 0.036, 0.048, 0.052, 0.040), 0.022
"""In outer-eye distances, half breadths of a brow at its landmarks, from the temple in, and breadth of its edge."""
_LIP_SOFT = 0.016
"""Outer-eye distances over which skin becomes lip."""
_SEAM_SOFT = 0.034
"""Outer-eye distances over which the dark line between closed lips fades out."""
_REACH = 0.1
"""Outer-eye distances from their landmarks within which places are looked at for paint."""
_BROWS, _LIPS = ((17, 18, 19, 20, 21), (26, 25, 24, 23, 22)), tuple(range(48, 60))
_SEAMS = ((48, 60, 61, 62, 63, 64, 54), (48, 60, 67, 66, 65, 64, 54))


class Clay:
    """The colour of a template's surface."""

    def __init__(self, template: HeadTemplate) -> None:
        self.rest: Floats = template.vertices.numpy()
        marks = self.rest[template.landmarks.numpy()]
        self.marks, self.width = marks, float(np.linalg.norm(marks[45] - marks[36]))
        self.base = np.zeros((len(self.rest), 3), np.float32)
        self.skin = np.zeros(len(self.rest), bool)
        for index, name in reversed(list(enumerate(template.part_names))):
            kind = next((kind for kind in _CLAY if name.startswith(kind)), "skin")
            here = template.faces[template.face_part == index].unique().numpy()
            self.base[here], self.skin[here] = _CLAY[kind], kind == "skin"
            if kind == "teeth":
                self.base[here] *= 1 - _GROOVE * _hollow(template, here)
        balls = [_ball(template, side).numpy() for side in ("left", "right")]
        self.eyes = np.stack([(self.rest[ball].min(0) + self.rest[ball].max(0)) / 2 for ball in balls])
        """[2, 3] the middles of the boxes around the eyeballs, whose vertices are denser in front."""
        self.axis = np.full(len(self.rest), 180.0, np.float32)  # degrees from an eyeball's axis
        for ball, centre in zip(balls, self.eyes, strict=True):
            arm = self.rest[ball] - centre
            self.axis[ball] = np.degrees(np.arctan2(np.hypot(arm[:, 0], arm[:, 1]), arm[:, 2]))

    def colour(self, corners: NDArray[np.int32], share: Floats) -> Floats:
        """[N, 3] linear in the display's gamma, of places given by triangles [N, 3] and shares [N, 3, 1] in them."""
        colour = (self.base[corners] * share).sum(1)
        angle = (self.axis[corners] * share[..., 0]).sum(1)
        colour = _blend(colour, _RIM, _below(angle, _IRIS_ANGLE, _EDGE))
        colour = _blend(colour, _IRIS, _below(angle, _IRIS_ANGLE - 1.5 * _EDGE, 2 * _EDGE))
        colour = _blend(colour, _PUPIL, _below(angle, _PUPIL_ANGLE, _EDGE))
        place = (self.rest[corners] * share).sum(1)
        skin = self.skin[corners].all(1)
        for marks, paint, cover in (
            (range(17, 27), _BROW, self._brow),
            (_LIPS, _LIP, self._lip),
            (_LIPS, _SEAM, self._seam),
        ):
            there = self.marks[list(marks)]
            low, high = there.min(0) - _REACH * self.width, there.max(0) + _REACH * self.width
            near = np.flatnonzero(skin & ((place > low) & (place < high)).all(1))
            colour[near] = _blend(colour[near], paint, cover(place[near]))
        return colour

    def _brow(self, place: Floats) -> Floats:
        """[N] how much brow lies on places [N, 3]."""
        cover = np.zeros(len(place), np.float32)
        for brow in _BROWS:
            distance, along = _from_line(place, self.marks[list(brow)])
            half = np.interp(along, np.arange(len(brow)), _BROW_HALF).astype(np.float32)
            cover = np.maximum(cover, _below(distance / self.width, half, _BROW_SOFT))
        return cover

    def _lip(self, place: Floats) -> Floats:
        """[N] how much lip lies on places [N, 3]: inside the outer contour, seen from in front."""
        contour = self.marks[list(_LIPS), :2]
        following = np.roll(contour, -1, 0)
        inside = np.zeros(len(place), bool)
        for a, b in zip(contour, following, strict=True):
            if a[1] != b[1]:
                crossing = (a[1] > place[:, 1]) != (b[1] > place[:, 1])
                inside ^= crossing & (place[:, 0] < a[0] + (place[:, 1] - a[1]) / (b[1] - a[1]) * (b[0] - a[0]))
        distance = _from_line(place[:, :2], np.concatenate([contour, contour[:1]]))[0]
        return _below(np.where(inside, -distance, distance).astype(np.float32) / self.width, 0.0, _LIP_SOFT)

    def _seam(self, place: Floats) -> Floats:
        """[N] how near to the line between the lips places [N, 3] are."""
        upper, lower = (_from_line(place, self.marks[list(seam)])[0] for seam in _SEAMS)
        distance: Floats = np.minimum(upper, lower)
        return 0.7 * _below(distance / self.width, 0.0, 2 * _SEAM_SOFT)


def _hollow(template: HeadTemplate, vertices: NDArray[np.int64]) -> Floats:
    """[N, 1] how far, up to 1, vertices [N] lie in a groove: below their neighbours' mean by a tenth of an edge."""
    edges = edges_of(template.faces)
    arm = template.vertices[edges[:, 1]] - template.vertices[edges[:, 0]]
    normals = vertex_normals(template.vertices, template.faces)
    rise, length = torch.zeros(2, len(normals))
    for end, sign in ((0, 1.0), (1, -1.0)):
        rise.index_add_(0, edges[:, end], sign * (arm * normals[edges[:, end]]).sum(1))
        length.index_add_(0, edges[:, end], arm.norm(dim=1))
    return (10 * rise / length.clamp(min=1e-9)).clamp(0, 1)[vertices, None].numpy()


def _ball(template: HeadTemplate, side: str) -> Tensor:
    name = f"eye_{side}"
    if name not in template.part_names:
        raise ValueError(f"template {template.name!r}: expected a part named {name}, got {template.part_names}")
    return template.faces[template.face_part == template.part_names.index(name)].unique()


def _from_line(place: Floats, line: Floats) -> tuple[Floats, Floats]:
    """Distances [N] of places [N, D] from a line of points [M, D], and where along it, 0 to M - 1, it is nearest."""
    nearest, at = np.full(len(place), np.inf, np.float32), np.zeros(len(place), np.float32)
    for index, (a, b) in enumerate(pairwise(line)):
        along = np.clip((place - a) @ (b - a) / ((b - a) @ (b - a)), 0, 1)
        distance = np.linalg.norm(place - a - along[:, None] * (b - a), axis=1)
        at = np.where(distance < nearest, index + along, at)
        nearest = np.minimum(nearest, distance)
    return nearest, at


def _below(value: Floats, limit: float | Floats, edge: float) -> Floats:
    """1 where value is below limit, 0 from `edge` above it on, smooth between."""
    t = np.clip((limit + edge / 2 - value) / edge, 0, 1)
    return (t * t * (3 - 2 * t)).astype(np.float32)


def _blend(colour: Floats, other: tuple[float, float, float], share: Floats) -> Floats:
    return colour + share[:, None] * (np.array(other, np.float32) - colour)
