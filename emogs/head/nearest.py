"""The nearest place on a triangle mesh: how surfaces are compared, and how one finds its counterpart on another."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

_CANDIDATES = 12
"""Triangles tried per point, those whose centres are nearest: enough where triangles are of similar size."""
_BLOCK = 512


@dataclass(frozen=True)
class Feet:
    """For N points, the nearest places on a mesh."""

    face: Tensor  # [N] int64
    barycentric: Tensor  # [N, 3] within the triangle
    distance: Tensor  # [N]

    def carry(self, faces: Tensor, values: Tensor) -> Tensor:
        """Per-vertex values [..., V, D] at these places, [..., N, D]."""
        return (values[..., faces[self.face], :] * self.barycentric[..., None]).sum(-2)


def nearest_on_surface(points: Tensor, vertices: Tensor, faces: Tensor) -> Feet:
    """Nearest places for points [N, 3] on triangles faces [F, 3] of vertices [V, 3]; F at least 1."""
    triangles = vertices[faces]
    if not len(points):
        return Feet(faces.new_zeros(0), points.new_zeros(0, 3), points.new_zeros(0))
    found = [_nearest(block, triangles) for block in points.split(_BLOCK)]
    face, barycentric, distance = (torch.cat(parts) for parts in zip(*found, strict=True))
    return Feet(face, barycentric, distance)


def _nearest(points: Tensor, triangles: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    count = min(_CANDIDATES, len(triangles))
    candidates = torch.cdist(points, triangles.mean(1)).topk(count, largest=False).indices
    corners = triangles[candidates]  # [N, C, 3, 3]
    barycentric = _closest(points[:, None], corners)
    distance = ((barycentric[..., None] * corners).sum(-2) - points[:, None]).norm(dim=-1)
    best = distance.argmin(1, keepdim=True)
    return (
        candidates.gather(1, best)[:, 0],
        barycentric.gather(1, best[..., None].expand(-1, -1, 3))[:, 0],
        distance.gather(1, best)[:, 0],
    )


def _closest(points: Tensor, corners: Tensor) -> Tensor:
    """[..., 3] barycentric coordinates of the closest points: inside the triangle, or on the best of its sides."""
    a, b, c = corners.unbind(-2)
    inside = _plane(points - a, b - a, c - a)
    options = [inside, *(_side(points, corners, i) for i in range(3))]
    stacked = torch.stack(options)
    distance = ((stacked[..., None] * corners).sum(-2) - points).square().sum(-1)
    distance[0] = torch.where((inside >= 0).all(-1), distance[0], torch.inf)
    best = distance.argmin(0)
    return stacked.gather(0, best[None, ..., None].expand(1, *best.shape, 3))[0]


def _plane(p: Tensor, u: Tensor, v: Tensor) -> Tensor:
    """Barycentric coordinates of the foot on the plane of edges u and v; negative where it lies outside."""
    uu, uv, vv = (u * u).sum(-1), (u * v).sum(-1), (v * v).sum(-1)
    pu, pv = (p * u).sum(-1), (p * v).sum(-1)
    area = uu * vv - uv * uv
    sound = area > 1e-6 * uu * vv
    area = torch.where(sound, area, 1.0)
    s, t = (vv * pu - uv * pv) / area, (uu * pv - uv * pu) / area
    s = torch.where(sound, s, -1.0)  # a sliver has only sides
    return torch.stack([1 - s - t, s, t], -1)


def _side(points: Tensor, corners: Tensor, i: int) -> Tensor:
    """Barycentric coordinates of the closest point on the side from corner i to the next."""
    j = (i + 1) % 3
    edge = corners[..., j, :] - corners[..., i, :]
    share = ((points - corners[..., i, :]) * edge).sum(-1) / edge.square().sum(-1).clamp_min(1e-30)
    share = share.clamp(0, 1)
    out = [torch.zeros_like(share)] * 3
    out[i], out[j] = 1 - share, share
    return torch.stack(out, -1)
