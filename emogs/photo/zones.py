"""Where on a template a hairline, a bare face and the neck are: soft weights per vertex, from the 68 landmarks alone.

The proportions are those of the canons that portrait painters use: the hairline lies one third of the face above the
brows, the thirds being hairline - brow - nose base - chin; behind the ears it descends to the nape at mouth height.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..head.template import HeadTemplate
from .images import Array, smoothstep


@dataclass(frozen=True)
class Zones:
    """Weights in [0, 1] per vertex [V] of the mean neutral head."""

    scalp: Array
    """Where hair grows."""
    bare: Array
    """The middle of the face, which no hair covers as far as the textures are concerned."""
    tone: Array
    """Cheeks, nose and lower forehead: where the colour of the skin is measured."""
    neck: Array
    """Everything below the jaw."""
    bust: Array
    """The lower neck and what is below it, where clothes may be."""
    lips: Array
    """Around the line where the lips meet."""


def find_zones(template: HeadTemplate) -> Zones:
    """Measures the template's landmarks and lays the zones over its vertices."""
    p = template.vertices.numpy()
    marks = p[template.landmarks.numpy()]
    brow, nose_base, mouth, chin = marks[17:27, 1].mean(), marks[33, 1], marks[48:60, 1].mean(), marks[8, 1]
    eye, third = marks[36:48, 1].mean(), brow - nose_base
    ear_z, brow_z, ear_x = marks[[0, 16], 2].mean(), marks[17:27, 2].mean(), np.abs(marks[[0, 16], 0]).mean()
    back_z = p[p[:, 1] > nose_base, 2].min()
    x, y, z = np.abs(p[:, 0]), p[:, 1], p[:, 2]

    behind = ear_z - 0.35 * (ear_z - back_z)
    depths = np.array([back_z, behind, ear_z - 0.002, 0.5 * (ear_z + brow_z), brow_z])
    heights = np.array([mouth, nose_base, brow + 0.1 * third, brow + 0.55 * third, brow + 0.95 * third])
    scalp = smoothstep(-0.006, 0.006, y - np.interp(z, depths, heights))
    scalp *= 1 - smoothstep(0.004, 0.008, x - ear_x) * smoothstep(-0.02, 0, brow + 0.4 * third - y) * (z > behind)

    jaw = np.concatenate([marks[:9], marks[8:17]])
    order = np.argsort(jaw[:, 1])
    width = np.interp(y, jaw[order, 1], np.abs(jaw[order, 0]))
    inner = 1 - smoothstep(0.82, 0.95, x / np.maximum(width, 1e-3))
    bare = inner * smoothstep(0.3, 0.1, (y - brow) / third) * smoothstep(chin - 0.01, chin, y)
    bare *= smoothstep(ear_z, ear_z + 0.02, z)
    tone = bare * smoothstep(1.1, 0.6, np.abs(y - (eye + mouth) / 2) / third) * _away_from_features(p, marks)
    neck = smoothstep(chin - 0.005, chin - 0.025, y + 0.35 * np.maximum(marks[8, 2] - z, 0))
    bust = smoothstep(0.03, 0.05, chin - y)
    lips = smoothstep(0.2, 0.12, _distance(p, marks[60:68]) / np.linalg.norm(marks[45] - marks[36]))
    return Zones(*(zone.astype(np.float32) for zone in (scalp, bare, tone, neck, bust, lips)))


def _distance(p: Array, points: Array) -> Array:
    """[V] metres from the nearest of some points, seen from the front."""
    return np.linalg.norm(p[:, None, :2] - points[None, :, :2], axis=-1).min(1)


def _away_from_features(p: Array, marks: Array) -> Array:
    """0 on eyes, brows, nostrils and mouth, 1 some way off."""
    clear = np.ones(len(p), np.float32)
    scale = np.linalg.norm(marks[45] - marks[36])
    features = (((36, 42), 0.22), ((42, 48), 0.22), ((48, 60), 0.32), ((17, 27), 0.14), ((31, 36), 0.12))
    for group, reach in features:
        distance = _distance(p, marks[slice(*group)]) / scale
        clear = np.minimum(clear, smoothstep(reach * 0.6, reach, distance))
    return clear
