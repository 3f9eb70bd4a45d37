"""Texture space: which triangle covers a texel, and values carried between vertices and texels."""

from __future__ import annotations

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
    owner = torch.full((size * size,), -1, dtype=torch.int64)
    weight = torch.zeros(size * size, 3, dtype=torch.float64)
    low = (corners.amin(1) - 0.5).ceil().long().clamp(0, size - 1)
    extent = (corners.amax(1) - 0.5).floor().long().clamp(0, size - 1) - low + 1
    a, b, c = corners.unbind(1)
    area = _cross(b - a, c - a)
    usable = (extent > 0).all(1) & (area.abs() > 1e-12)
    reach = int(extent[usable].max()) if usable.any() else 0
    for dy in range(reach):
        for dx in range(reach):
            f = (usable & (extent[:, 0] > dx) & (extent[:, 1] > dy)).nonzero()[:, 0]
            if f.numel() == 0:
                continue
            texel = low[f] + torch.tensor([dx, dy])
            p = texel + 0.5
            w = torch.stack([_cross(b[f] - p, c[f] - p), _cross(c[f] - p, a[f] - p), _cross(a[f] - p, b[f] - p)], -1)
            w = w / area[f, None]
            inside = (w >= -1e-9).all(1)
            f, w, key = f[inside].flip(0), w[inside].flip(0), (texel[inside, 1] * size + texel[inside, 0]).flip(0)
            better = (owner[key] < 0) | (f < owner[key])
            owner[key[better]], weight[key[better]] = f[better], w[better]
    key = (owner >= 0).nonzero()[:, 0]
    return TexelMap(size, key // size, key % size, owner[key], weight[key].to(template.vertices.dtype))


def _cross(a: Tensor, b: Tensor) -> Tensor:
    return a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]
