"""The second layer: hair and shoulders, which the template's mesh does not have, as Gaussians on a closed shell.

The sheets (see sheets.py) are sampled evenly on their surface by flat discs. Hair follows the skull and shoulders the
base of the neck, both rigidly: no expression moves them.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import roma
import torch
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from torch import Tensor

from .cover import Cover
from .images import Array, inside_distance, resize, sample, smoothstep
from .matte import Matte
from .sheets import Sheet, body_sheets, cell_metres, hair_sheets
from .view import GRID, HeadView
from .zones import Zones

MOST = 40_000
"""Gaussians at most, hair and body together."""
FINEST = 0.7
"""Spacing of samples in cells, where their number allows it."""
MOST_PER_SIDE = 6
"""Samples along a side of a cell, however steep."""
LEAST_ALPHA = 0.02
"""What is thinner than this is not worth a Gaussian."""
LEAST_BODY = 0.002
"""Share of the crop that a body beside the mesh must fill to be lifted."""
OVERLAP = 0.65
"""Standard deviation of a Gaussian in sample spacings."""
FLATNESS = 0.25
"""Thickness of a Gaussian relative to the smaller of its other two axes."""
CROP_FADE = 0.04
"""Share of the crop over which the shell fades out at its sides and bottom: there the photo ends, not the person."""


@dataclass(frozen=True)
class Shell:
    """Gaussians in the space of the neutral head; each follows one triangle of the template rigidly."""

    means: Tensor  # [M, 3] metres
    quats: Tensor  # [M, 4] wxyz, unit
    scales: Tensor  # [M, 3] metres; the last is the thickness
    opacities: Tensor  # [M]
    colors: Tensor  # [M, 3]
    binding: Tensor  # [M] int64 triangle


def build_shell(view: HeadView, matte: Matte, cover: Cover, zones: Zones) -> Shell:
    """Lifts the person's pixels beside the head, and the hair on it, to a closed shell of Gaussians."""
    hair = hair_sheets(view, matte, cover, zones) if cover.has_hair else []
    body = body_sheets(view, matte, cover) if (cover.body > 0.5).mean() > LEAST_BODY else []
    groups = [(sheet, _skull_faces(view)) for sheet in hair] + [(sheet, _base_faces(view)) for sheet in body]
    if not groups:
        empty = torch.zeros(0, 3)
        return Shell(empty, torch.zeros(0, 4), empty, torch.zeros(0), empty, torch.zeros(0, dtype=torch.int64))
    fade = crop_fade(matte.valid)
    lattices = [_lattice(view, sheet, fade) for sheet, _ in groups]
    spacing = _affordable_spacing(lattices, FINEST * cell_metres(view))
    parts = [
        _splats(view, sheet, fade, lattice, spacing, faces)
        for (sheet, faces), lattice in zip(groups, lattices, strict=True)
    ]
    return Shell(*(torch.from_numpy(np.concatenate(columns)) for columns in zip(*parts, strict=True)))


@dataclass(frozen=True)
class Lattice:
    """The cells of a sheet that are to be sampled: L of them, each `stride` grid cells wide."""

    stride: int
    origin: NDArray[np.int64]  # [L, 2] row and column of the upper left corner
    right: Array  # [L, 3] displacement across the cell, camera coordinates
    down: Array  # [L, 3]
    detail: float

    def samples(self, spacing: float) -> NDArray[np.int64]:
        """[L, 2] samples to the right and down, so that none are much more than `spacing` apart."""
        lengths = np.stack([np.linalg.norm(self.right, axis=1), np.linalg.norm(self.down, axis=1)], 1)
        return np.clip(np.round(lengths * (self.detail / spacing)), 1, MOST_PER_SIDE).astype(np.int64)


def _lattice(view: HeadView, sheet: Sheet, fade: Array) -> Lattice:
    """Lays cells over a sheet, coarser ones for a sheet of less detail."""
    stride = max(1, round(1 / sheet.detail))
    points = (view.rays(GRID) * sheet.depth[..., None])[::stride, ::stride]
    right = 0.5 * (np.diff(points[:-1], axis=1) + np.diff(points[1:], axis=1))
    down = 0.5 * (np.diff(points[:, :-1], axis=0) + np.diff(points[:, 1:], axis=0))
    reach = np.ones((stride + 1, stride + 1), np.uint8)
    alpha = cv2.dilate(sheet.alpha * fade, reach, anchor=(0, 0))[::stride, ::stride]
    row, column = np.nonzero(alpha[: right.shape[0], : right.shape[1]] > LEAST_ALPHA)
    origin = np.stack([row, column], 1) * stride
    return Lattice(stride, origin, right[row, column], down[row, column], sheet.detail)


def _affordable_spacing(lattices: list[Lattice], finest: float) -> float:
    """Metres between samples: `finest`, or more if there would be more than MOST."""
    spacing = finest
    while sum(int(lattice.samples(spacing).prod(1).sum()) for lattice in lattices) > MOST and spacing < 100 * finest:
        spacing *= 1.05
    return spacing


def _splats(
    view: HeadView, sheet: Sheet, fade: Array, lattice: Lattice, spacing: float, faces: NDArray[np.int64]
) -> tuple[NDArray, ...]:
    """The columns of a Shell for one sheet, sampled evenly on its surface, however steep it is."""
    wanted = lattice.samples(spacing)
    cell, place = _places(wanted)
    pixel = (lattice.origin[cell][:, ::-1] + 0.5 + place * lattice.stride).astype(np.float32) * (view.size / GRID)
    at = lambda image: sample(image, pixel * (image.shape[0] / view.size))  # noqa: E731
    alpha = at(sheet.alpha * fade)
    kept = alpha > LEAST_ALPHA
    cell, pixel, alpha = cell[kept], pixel[kept], alpha[kept]
    right, down = lattice.right[cell] / wanted[cell, :1], lattice.down[cell] / wanted[cell, 1:]
    sides = OVERLAP * np.stack([np.linalg.norm(right, axis=1), np.linalg.norm(down, axis=1)], 1)
    scales = np.concatenate([sides, FLATNESS * sides.min(1, keepdims=True)], 1)
    means = view.to_head(view.directions(pixel) * at(sheet.depth)[:, None])
    opacity = 1 - np.sqrt(1 - np.clip(alpha, 0, 0.995))  # about two neighbours share a place
    columns = (means, _frames(view, right, down), scales, opacity, np.clip(at(sheet.colour), 0, 1))
    return *(column.astype(np.float32) for column in columns), _bind(view, means, faces)


def _places(counts: NDArray[np.int64]) -> tuple[NDArray[np.int64], Array]:
    """A grid of counts [L, 2] samples in each of L cells: the samples' cells [M] and places within [M, 2] in (0, 1)."""
    total = counts.prod(1)
    cell = np.repeat(np.arange(len(counts)), total)
    order = np.arange(total.sum()) - np.repeat(np.cumsum(total) - total, total)
    columns = counts[cell, 0]
    place = np.stack([(order % columns + 0.5) / columns, (order // columns + 0.5) / counts[cell, 1]], 1)
    return cell, place.astype(np.float32)


def crop_fade(valid: NDArray[np.bool_]) -> Array:
    """[GRID, GRID] 1, falling to 0 where the photo ends at the left, right and bottom of the crop."""
    inside = resize(valid.astype(np.float32), GRID) > 0.99
    inside = np.pad(inside, ((0, 1), (1, 1)))  # nothing is missing above
    inside[: 1 + inside.any(1).argmax()] |= inside.any(0)
    return smoothstep(0, CROP_FADE * GRID, inside_distance(inside)[:-1, 1:-1])


def _frames(view: HeadView, right: Array, down: Array) -> Array:
    """Quaternions wxyz [M, 4] in head space whose first two axes span the surface."""
    rotation = view.viewmat.numpy()[:3, :3]
    first = torch.from_numpy(right @ rotation)
    normal = torch.linalg.cross(first, torch.from_numpy(down @ rotation))
    first, normal = (torch.nn.functional.normalize(x, dim=1) for x in (first, normal))
    axes = torch.stack([first, torch.linalg.cross(normal, first), normal], -1)
    return roma.quat_xyzw_to_wxyz(roma.rotmat_to_unitquat(axes)).numpy()


def _skull_faces(view: HeadView) -> NDArray[np.int64]:
    """Triangles of the skull, which no expression moves."""
    rigid = np.zeros(len(view.vertices), bool)
    rigid[view.template.rigid.numpy()] = True
    whole = np.nonzero(rigid[view.faces].all(1))[0]
    return whole if len(whole) else np.array([0])


def _base_faces(view: HeadView) -> NDArray[np.int64]:
    """Triangles at the base of the neck that no expression moves: the stillest of the lowest tenth."""
    template = view.template
    moved = template.expression.norm(dim=-1).sum(0)
    for rotation in template.rotations:
        moved = moved + rotation.weights * rotation.angles.abs().sum()
    height = template.vertices[template.faces][..., 1].mean(1)
    low = (height <= torch.quantile(height, 0.1)).nonzero()[:, 0]
    motion = moved[template.faces[low]].sum(1)
    return low[motion <= motion.min() + 1e-6].numpy()


def _bind(view: HeadView, means: Array, faces: NDArray[np.int64]) -> NDArray[np.int64]:
    """The triangle [M] among `faces` whose middle is nearest."""
    middle = view.neutral.numpy()[view.faces[faces]].mean(1)
    return faces[cKDTree(middle).query(means)[1]]
