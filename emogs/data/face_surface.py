"""What a painter needs to know about a template's surface: where brows, lips, eyes and beard lie, and what is shaded.

Everything is a field over the vertices of the mean neutral head, so it follows identity and expression; a renderer
interpolates the fields to a pixel and paints there, finer than the mesh.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from emogs.head.template import HeadTemplate
from emogs.photo.occlusion import openness

FIELDS = ("x", "y", "z", "lip", "eye", "brow_along", "brow_above", "iris", "occlusion")
"""Metres, except `brow_along` (0 inner end, 1 outer end) and `occlusion` (1 where the whole sky is seen)."""
_FAR = 1.0
_SKY_RAYS = 96
_INSIDE = 0.55
"""Least ambient visibility of teeth, tongue and eyes: the neutral mouth is shut over them, an open one is not."""


@dataclass(frozen=True)
class Surface:
    """A template's triangles, their parts, and the painter's fields at their corners."""

    faces: np.ndarray  # [F, 3] int32
    part: np.ndarray  # [F] int64 into part_names
    part_names: tuple[str, ...]
    fields: np.ndarray  # [V, 9] float32, columns as FIELDS
    landmarks: np.ndarray  # [68, 3] of the mean neutral head
    scale: float  # outer-eye distance, metres: the ruler for everything anatomical


def survey(template: HeadTemplate) -> Surface:
    """Measures a template once; takes a second or two."""
    vertices = template.vertices.numpy().astype(np.float32)
    faces = template.faces.numpy().astype(np.int32)
    part = template.face_part.numpy()
    landmarks = vertices[template.landmarks.numpy()]
    scale = float(np.linalg.norm(landmarks[45] - landmarks[36]))
    front = _front_skin(vertices, faces, part, template.part_names, landmarks)
    columns = {name: np.full(len(vertices), _FAR, np.float32) for name in FIELDS}
    columns["x"], columns["y"], columns["z"] = vertices.T
    flat = vertices[front, :2]
    columns["lip"][front] = -_outside(flat, landmarks[48:60, :2])
    eyes = [_outside(flat, landmarks[first : first + 6, :2]) for first in (36, 42)]
    columns["eye"][front] = np.minimum(*eyes)
    columns["lip"][~front] = -_FAR
    along, above = _brow_coordinates(flat, landmarks[22:27, :2], landmarks[21:16:-1, :2])
    columns["brow_along"][front], columns["brow_above"][front] = along, above
    for side in ("eye_left", "eye_right"):
        ball = np.unique(faces[part == template.part_names.index(side)])
        columns["iris"][ball] = _distance_from_pole(vertices[ball])
    columns["occlusion"] = openness(template, _SKY_RAYS, reach=np.inf)
    inside = np.unique(faces[part != template.part_names.index("skin")])
    columns["occlusion"][inside] = np.maximum(columns["occlusion"][inside], _INSIDE)
    fields = np.stack([columns[name] for name in FIELDS], 1).astype(np.float32)
    return Surface(faces, part, template.part_names, fields, landmarks, scale)


def _front_skin(
    vertices: np.ndarray, faces: np.ndarray, part: np.ndarray, part_names: tuple[str, ...], landmarks: np.ndarray
) -> np.ndarray:
    """Which vertices are skin of the face proper, not of the mouth's inside or the skull."""
    skin = np.zeros(len(vertices), bool)
    skin[np.unique(faces[part == part_names.index("skin")])] = True
    return skin & (vertices[:, 2] > landmarks[[0, 16], 2].mean())


def _outside(points: np.ndarray, polygon: np.ndarray) -> np.ndarray:
    """Signed distance [N] of points [N, 2] from a closed polygon [K, 2]: negative inside."""
    start, end = polygon, np.roll(polygon, -1, 0)
    edge, arm = end - start, points[:, None] - start
    share = np.clip((arm * edge).sum(-1) / (edge**2).sum(-1), 0, 1)
    distance = np.linalg.norm(arm - share[..., None] * edge, axis=-1).min(1)
    crosses = (start[:, 1] > points[:, 1, None]) != (end[:, 1] > points[:, 1, None])
    at = start[:, 0] + (points[:, 1, None] - start[:, 1]) * edge[:, 0] / np.where(edge[:, 1] == 0, 1e-9, edge[:, 1])
    inside = (crosses & (points[:, 0, None] < at)).sum(1) % 2 == 1
    return np.where(inside, -distance, distance)


def _brow_coordinates(points: np.ndarray, *brows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Position along (0 inner, 1 outer, beyond at the ends) and height above the nearer brow line, each [N]."""
    along, above, best = (np.full(len(points), _FAR) for _ in range(3))
    for brow in brows:
        for i, (start, end) in enumerate(pairwise(brow)):
            edge, arm = end - start, points - start
            share = (arm * edge).sum(-1) / (edge**2).sum()
            held = np.clip(share, -0.6 if i == 0 else 0, 1.6 if i == len(brow) - 2 else 1)
            offset = arm - held[:, None] * edge
            distance = np.linalg.norm(offset, axis=1)
            nearer = distance < best
            best[nearer] = distance[nearer]
            along[nearer] = (i + held[nearer]) / (len(brow) - 1)
            above[nearer] = np.copysign(distance, offset[:, 1])[nearer]
    return along, above


def _distance_from_pole(ball: np.ndarray) -> np.ndarray:
    """Distance [N] of an eyeball's vertices from the axis through its foremost point; far behind its equator."""
    pole = ball[ball[:, 2].argmax()]
    distance = np.linalg.norm((ball - pole)[:, :2], axis=1)
    return np.where(ball[:, 2] > ball[:, 2].mean(), distance, _FAR)
