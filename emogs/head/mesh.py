"""What follows from a triangle mesh alone."""

from __future__ import annotations

import torch
from torch import Tensor


def vertex_normals(vertices: Tensor, faces: Tensor) -> Tensor:
    """Area-weighted unit normals [V, 3] of a mesh with vertices [V, 3] and faces [F, 3]."""
    a, b, c = vertices[faces].unbind(1)
    normal = torch.linalg.cross(b - a, c - a)
    total = torch.zeros_like(vertices)
    for corner in faces.unbind(1):
        total.index_add_(0, corner, normal)
    return torch.nn.functional.normalize(total, dim=1)
