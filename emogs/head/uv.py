"""Texture space: which triangle covers a texel, and values carried between vertices and texels."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from .template import HeadTemplate


@dataclass(frozen=True)
class TexelMap:
    """The texels of an S x S texture that some triangle covers, in row-major order; M of them."""

    size: int
    row: Tensor  # [M] int64
    column: Tensor  # [M] int64
    face: Tensor  # [M] int64 the covering triangle
    barycentric: Tensor  # [M, 3] of the texel centre within it

    def interpolate(self, faces: Tensor, values: Tensor) -> Tensor:
        """Per-vertex values [..., V, D] to per-texel values [..., M, D]; `faces` [F, 3] indexes the vertices."""
        corners = values[..., faces[self.face], :]
        return (corners * self.barycentric[..., None]).sum(-2)

    def image(self, values: Tensor, background: float = 0.0) -> Tensor:
        """Per-texel values [M, D] as an image [S, S, D]."""
        out = values.new_full((self.size, self.size, values.shape[-1]), background)
        out[self.row, self.column] = values
        return out

    def sample(self, image: Tensor) -> Tensor:
        """An image [S, S, D] as per-texel values [M, D]."""
        return image[self.row, self.column]


def texel_map(template: HeadTemplate, size: int = 256) -> TexelMap:
    """Rasterizes the template's texture triangles at texel centres; where triangles overlap the lower index wins."""
    corners = (template.uv[template.faces_uv] * size).double()  # [F, 3, 2] in texels
    low = (corners.amin(1) - 0.5).ceil().long().clamp(0, size - 1)
    extent = ((corners.amax(1) - 0.5).floor().long().clamp(0, size - 1) - low + 1).clamp_min(0)
    a, b, c = corners.unbind(1)
    area = _cross(b - a, c - a)
    candidates = torch.where(area.abs() > 1e-12, extent.prod(1), 0)  # texel centres in each triangle's box
    f = torch.arange(len(corners)).repeat_interleave(candidates)
    place = torch.arange(len(f)) - (candidates.cumsum(0) - candidates)[f]
    texel = low[f] + torch.stack([place % extent[f, 0], place // extent[f, 0]], -1)
    p = texel + 0.5
    w = torch.stack([_cross(b[f] - p, c[f] - p), _cross(c[f] - p, a[f] - p), _cross(a[f] - p, b[f] - p)], -1)
    w = w / area[f, None]
    inside = (w >= -1e-9).all(1)
    f, w, texel = f[inside], w[inside], texel[inside, 1] * size + texel[inside, 0]
    owner = torch.full((size * size,), len(corners)).scatter_reduce(0, texel, f, "amin")
    kept = owner[texel] == f
    key, order = texel[kept].sort()
    return TexelMap(size, key // size, key % size, f[kept][order], w[kept][order].to(template.vertices.dtype))


def _cross(a: Tensor, b: Tensor) -> Tensor:
    return a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]


def triangle_cells(count: int) -> tuple[Tensor, Tensor]:
    """A texture for `count` triangles that have none: two to a square cell, with a margin between them.

    Returns:
        uv [3 count, 2] and faces_uv [count, 3], as in `HeadTemplate`.
    """
    side = max(math.ceil(math.sqrt((count + 1) // 2)), 1)
    index = torch.arange(count)
    cell = torch.stack([index // 2 % side, index // 2 // side], -1)
    lower = torch.tensor([[0.05, 0.05], [0.05, 0.85], [0.85, 0.05]])  # counter-clockwise with v downwards
    upper = 1 - lower
    corners = torch.where((index % 2 == 0)[:, None, None], lower, upper)
    return ((cell[:, None] + corners) / side).reshape(-1, 2), index[:, None] * 3 + torch.arange(3)
