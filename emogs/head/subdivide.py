"""Catmull-Clark subdivision of quad meshes (Catmull and Clark 1978), applied to any values at the vertices."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Refinement:
    """One level. New vertices are numbered old vertices, then edges, then faces; child 4f+j keeps corner j of quad f."""

    parents: np.ndarray  # [F, 4] the quads that were refined
    count: int  # of the old vertices
    quads: np.ndarray  # [4F, 4]
    edges: np.ndarray  # [E, 2] old vertices, the lower first
    edge_of: np.ndarray  # [F, 4] the edge from corner j to corner j+1
    on_rim: np.ndarray  # [E] bool: only one quad uses the edge

    @property
    def total(self) -> int:
        """Number of new vertices."""
        return self.count + len(self.edges) + len(self.parents)

    def smooth(self, values: Tensor) -> Tensor:
        """Values at the old vertices [V, D] to the new ones [V + E + F, D]; a linear map."""
        quads, edges, edge_of, on_rim = (
            torch.from_numpy(a) for a in (self.parents, self.edges, self.edge_of, self.on_rim)
        )
        faces = values[quads].mean(1)
        middles = values[edges].mean(1)
        beside = torch.zeros_like(middles).index_add(0, edge_of.flatten(), faces.repeat_interleave(4, 0)) / 2
        inner = torch.where(on_rim[:, None], middles, (middles + beside) / 2)
        valence = torch.bincount(edges.flatten(), minlength=self.count).to(values.dtype)[:, None]
        around = torch.zeros_like(values).index_add(0, quads.flatten(), faces.repeat_interleave(4, 0)) / valence
        touching = torch.zeros_like(values).index_add(0, edges.flatten(), middles.repeat_interleave(2, 0)) / valence
        moved = (around + 2 * touching + (valence - 3) * values) / valence
        rim = edges[on_rim]
        along = torch.zeros_like(values).index_add(0, rim.flatten(), middles[on_rim].repeat_interleave(2, 0))
        rim_vertex = torch.zeros(self.count, 1, dtype=torch.bool)
        rim_vertex[rim] = True
        return torch.cat([torch.where(rim_vertex, values / 2 + along / 4, moved), inner, faces])


def refine(quads: np.ndarray, count: int) -> Refinement:
    """Splits each of quads [F, 4] over `count` vertices into four. Every vertex must be used."""
    sides = np.sort(np.stack([quads, np.roll(quads, -1, 1)], -1).reshape(-1, 2), 1)
    edges, edge_of, uses = np.unique(sides, axis=0, return_inverse=True, return_counts=True)
    edge_of = edge_of.reshape(quads.shape)
    middle = count + edge_of
    centre = np.broadcast_to(count + len(edges) + np.arange(len(quads))[:, None], quads.shape)
    children = np.stack([quads, middle, centre, np.roll(middle, 1, 1)], -1).reshape(-1, 4)
    return Refinement(quads, count, children, edges, edge_of, uses == 1)
