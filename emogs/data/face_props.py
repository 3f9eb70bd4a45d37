"""Things a head wears: hair, clothes, glasses, as loose triangle meshes around a template's deformed vertices."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from emogs.data.face_surface import FIELDS, Surface
from emogs.head.template import HeadTemplate
from emogs.photo.contour import outermost

HAIR, CLOTH, FRAME, LENS = "hair", "cloth", "frame", "lens"
PROPS = (HAIR, CLOTH, FRAME, LENS)
_COLUMNS = 128
_CAP_ROWS = 40
_DROP_ROWS = 14


@dataclass(frozen=True)
class Prop:
    """One worn mesh. Its fields x, y, z are the painter's coordinates on it, not positions."""

    kind: str
    vertices: np.ndarray  # [N, 3] float32, head space
    faces: np.ndarray  # [F, 3] int32
    fields: np.ndarray  # [N, 9] float32


class HairGrid:
    """Cap of the skull as a grid of columns (azimuth, 0 = front) by rows (crown to temples), found once a template."""

    def __init__(self, template: HeadTemplate, surface: Surface):
        eyes = surface.landmarks[36:48].mean(0)
        self.centre = eyes + surface.scale * np.array([0, 0.12, -0.85], np.float32)
        self.azimuth = np.linspace(-np.pi, np.pi, _COLUMNS, endpoint=False)
        elevation = np.radians(np.linspace(86, -2, _CAP_ROWS))
        a, e = np.meshgrid(self.azimuth, elevation)
        directions = np.stack([np.sin(a) * np.cos(e), np.sin(e), np.cos(a) * np.cos(e)], -1).astype(np.float32)
        skin = template.faces[template.face_part == template.part_names.index("skin")].unique()
        found = outermost(
            template.vertices[skin], torch.from_numpy(self.centre), torch.from_numpy(directions.reshape(-1, 3))
        )
        self.base = skin[found].numpy().reshape(_CAP_ROWS, _COLUMNS)
        self.rest = template.vertices.numpy()[self.base]
        self.directions = directions

    def grow(self, vertices: np.ndarray, surface: Surface, rng: np.random.Generator) -> Prop:
        """Hair of a random style on a deformed head [V, 3]."""
        unit = surface.scale
        side = np.abs(self.azimuth)
        wave = _periodic(rng, self.azimuth, 5, 1.2)
        hairline = surface.landmarks[17:27, 1].mean() + unit * (rng.uniform(0.12, 0.75) + 0.12 * wave)
        if rng.random() < 0.3:  # a fringe, swept or straight
            hairline = hairline - unit * rng.uniform(0.1, 0.5) * (
                np.sin(self.azimuth * rng.uniform(0.5, 2) + rng.uniform(0, 6)) > 0
            )
        hairline = hairline + unit * 0.05 * rng.normal(size=_COLUMNS)
        opening = (
            rng.uniform(0.75, 1.75) + 0.1 * wave + 0.03 * rng.normal(size=_COLUMNS)
        )  # half angle of the face's window
        cap_kept = (self.rest[..., 1] > hairline) | (side > opening)
        margin = np.maximum((self.rest[..., 1] - hairline) / unit, (side - opening) * 0.8)
        depth = unit * np.exp(rng.uniform(np.log(0.02), np.log(0.4)))
        relief = (
            1
            + 0.35 * _periodic(rng, self.azimuth, 9, 1.0)
            + 0.2 * np.sin(np.arange(_CAP_ROWS)[:, None] * rng.uniform(0.1, 0.6))
        )
        thickness = unit * 0.015 + depth * relief * np.clip(margin / rng.uniform(0.05, 0.6), 0, 1)
        crown = vertices[self.base] + thickness[..., None] * self.directions
        # Below the temples hair hangs: every row goes down from the last, a little in or out.
        length = rng.choice([0.0, rng.uniform(0.1, 0.8), rng.uniform(0.8, 4.0)], p=[0.35, 0.3, 0.35]) * unit
        t = np.linspace(0, 1, _DROP_ROWS + 1)[1:, None]
        edge = crown[-1] - self.centre
        spread = (
            1 + t * rng.uniform(-0.25, 0.35) * min(length / unit, 1) + 0.05 * t * _periodic(rng, self.azimuth, 12, 1.0)
        )
        fall = (
            np.stack([edge[:, 0] * spread, edge[:, 1] - t * length * (1 + 0.1 * wave), edge[:, 2] * spread], -1)
            + self.centre
        )
        curl = unit * rng.uniform(0, 0.12) * np.sin(t * rng.uniform(3, 25) + rng.uniform(0, 6, _COLUMNS))
        fall = fall + curl[..., None] * np.stack([np.sin(self.azimuth), 0 * self.azimuth, np.cos(self.azimuth)], -1)
        drop_kept = np.broadcast_to(side > opening + t * rng.uniform(-0.35, 0.35), (_DROP_ROWS, _COLUMNS)) & (
            length > 0
        )
        points = np.concatenate([crown, fall]).astype(np.float32)
        faces = _grid_faces(len(points), _COLUMNS, np.concatenate([cap_kept, drop_kept]))
        fields = _blank(points.shape[0] * _COLUMNS)
        fields[:, 0] = np.tile(self.azimuth * 0.08, len(points))
        fields[:, 1] = np.repeat(np.linspace(0, 0.15 + length, len(points)), _COLUMNS)
        return Prop(HAIR, points.reshape(-1, 3), faces, fields)


def clothes(surface: Surface, rng: np.random.Generator) -> Prop:
    """A collar and shoulders: a surface of revolution, wider than deep."""
    unit, chin, count = surface.scale, surface.landmarks[8], 64
    top = chin[1] - unit * rng.uniform(0.15, 1.0)
    neck = unit * rng.uniform(0.62, 1.15)
    angle = np.linspace(0, 2 * np.pi, count, endpoint=False)
    heights = top - unit * np.cumsum([0, rng.uniform(0.05, 0.4), rng.uniform(0.1, 0.5), rng.uniform(0.5, 1.0), 3])
    widths = np.array(
        [neck, neck * rng.uniform(1, 1.5), unit * rng.uniform(1.3, 2.0), unit * rng.uniform(2, 2.7), unit * 2.8]
    )
    depths = widths * np.array([1, 1, rng.uniform(0.6, 1), 0.55, 0.5])
    axis = surface.landmarks[[0, 16], 2].mean() - unit * rng.uniform(0.2, 0.45)
    dip = unit * rng.uniform(0, 0.8) * np.exp(-((angle - np.pi / 2) ** 2) / 0.3)  # a neckline lower in front
    rows = []
    for i, (height, width, depth) in enumerate(zip(heights, widths, depths, strict=True)):
        low = dip * (1 - i / 4)
        rows.append(np.stack([width * np.cos(angle), height - low, axis + depth * np.sin(angle)], -1))
    points = np.stack(rows).astype(np.float32)
    fields = _blank(points.shape[0] * count)
    fields[:, :3] = points.reshape(-1, 3)
    return Prop(CLOTH, points.reshape(-1, 3), _grid_faces(5, count, np.ones((5, count), bool)), fields)


def glasses(landmarks: np.ndarray, surface: Surface, rng: np.random.Generator) -> list[Prop]:
    """Rims, bridge and temples on deformed landmarks [68, 3]; dark lenses now and then."""
    unit, radius = surface.scale, surface.scale * rng.uniform(0.008, 0.028)
    angle = np.linspace(0, 2 * np.pi, 36, endpoint=False)
    power = rng.uniform(0.5, 1)  # 1 is an ellipse, less is squarer
    wide, tall = unit * rng.uniform(0.24, 0.33), unit * rng.uniform(0.16, 0.28)
    shape = np.stack(
        [wide * _signed_power(np.cos(angle), power), tall * _signed_power(np.sin(angle), power), 0 * angle], -1
    )
    props, dark = [], rng.random() < 0.2
    centres = [landmarks[36:42].mean(0), landmarks[42:48].mean(0)]
    front = max(landmarks[27, 2], centres[0][2] + 0.1 * unit) + 0.03 * unit
    inner = []
    for centre, outward, ear in zip(centres, (-1, 1), (landmarks[0], landmarks[16]), strict=True):
        middle = np.array([centre[0] + outward * 0.03 * unit, centre[1] - 0.03 * unit, front])
        rim = middle + shape - np.array([0, 0, 1]) * (0.35 * (shape[:, :1] * outward + wide) / wide * 0.25 * unit)
        props.append(_tube(rim, radius, closed=True))
        hinge, tip = (
            rim[np.abs(angle - (0.2 if outward > 0 else np.pi - 0.2)).argmin()],
            ear + np.array([outward * 0.08, 0.1, 0]) * unit,
        )
        props.append(_tube(np.linspace(hinge, tip, 6), radius, closed=False))
        inner.append(rim[np.abs(angle - (np.pi - 0.3 if outward > 0 else 0.3)).argmin()])
        if dark:
            disc = np.concatenate([rim.mean(0)[None], rim]).astype(np.float32)
            i = np.arange(36)
            props.append(Prop(LENS, disc, np.stack([0 * i, i + 1, (i + 1) % 36 + 1], 1).astype(np.int32), _blank(37)))
    bridge = (
        np.linspace(inner[0], inner[1], 7)
        + np.array([0, 0.03, 0.02]) * unit * np.sin(np.linspace(0, np.pi, 7))[:, None]
    )
    return [*props, _tube(bridge, radius, closed=False)]


def _tube(path: np.ndarray, radius: float, *, closed: bool) -> Prop:
    """A six-sided tube along a path [N, 3]."""
    ahead = np.roll(path, -1, 0) - np.roll(path, 1, 0) if closed else np.gradient(path, axis=0)
    ahead = ahead / (np.linalg.norm(ahead, axis=1, keepdims=True) + 1e-9)
    side = np.cross(ahead, [0.1, 0.2, 1.0])
    side /= np.linalg.norm(side, axis=1, keepdims=True) + 1e-9
    other = np.cross(ahead, side)
    turn = np.linspace(0, 2 * np.pi, 6, endpoint=False)
    ring = path[:, None] + radius * (np.cos(turn)[:, None] * side[:, None] + np.sin(turn)[:, None] * other[:, None])
    if closed:
        ring = np.concatenate([ring, ring[:1]])
    faces = _grid_faces(len(ring), 6, np.ones((len(ring), 6), bool))
    return Prop(FRAME, ring.reshape(-1, 3).astype(np.float32), faces, _blank(ring.shape[0] * 6))


def _grid_faces(rows: int, columns: int, kept: np.ndarray) -> np.ndarray:
    """Triangles of a grid closed around its columns, where all three corners are kept [rows, columns]."""
    index = np.arange(rows * columns).reshape(rows, columns)
    here, right = index[:-1], np.roll(index, -1, 1)[:-1]
    below, diagonal = index[1:], np.roll(index, -1, 1)[1:]
    faces = np.concatenate(
        [np.stack([here, below, right], -1).reshape(-1, 3), np.stack([right, below, diagonal], -1).reshape(-1, 3)]
    )
    return faces[kept.reshape(-1)[faces].all(1)].astype(np.int32)


def _blank(count: int) -> np.ndarray:
    fields = np.zeros((count, len(FIELDS)), np.float32)
    fields[:, FIELDS.index("occlusion")] = 0.85
    return fields


def _periodic(rng: np.random.Generator, angle: np.ndarray, waves: int, decay: float) -> np.ndarray:
    """Smooth noise around a circle: [N] for angles [N], roughly within +-1."""
    order = np.arange(1, waves + 1)
    weight = rng.normal(size=waves) / order**decay
    return (weight * np.sin(order * angle[:, None] + rng.uniform(0, 2 * np.pi, waves))).sum(1)


def _signed_power(value: np.ndarray, power: float) -> np.ndarray:
    return np.sign(value) * np.abs(value) ** power
