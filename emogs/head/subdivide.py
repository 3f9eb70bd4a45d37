"""Catmull-Clark subdivision of quad meshes (Catmull and Clark 1978), applied to any values at the vertices."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Refinement:
    """One level. New vertices are numbered old vertices, edges, faces; child 4f+j keeps corner j of quad f."""

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

    def middles(self, ends: np.ndarray) -> np.ndarray:
        """The new vertices [K] in the middle of the edges between old vertices [K, 2]."""
        keys = self.edges @ [self.count, 1]  # ascending, as the edges are
        return self.count + np.searchsorted(keys, np.sort(ends, 1) @ [self.count, 1])

    def smooth(self, values: np.ndarray) -> np.ndarray:
        """Values at the old vertices [V, D] to the new ones [V + E + F, D]; a linear map."""
        faces = values[self.parents].mean(1)
        middles = values[self.edges].mean(1)
        beside = _gather(self.edge_of, faces, len(middles)) / 2
        inner = np.where(self.on_rim[:, None], middles, (middles + beside) / 2)
        valence = np.bincount(self.edges.ravel(), minlength=self.count)[:, None]
        around = _gather(self.parents, faces, self.count) / valence
        touching = _gather(self.edges, middles, self.count) / valence
        moved = (around + 2 * touching + (valence - 3) * values) / valence
        rim = self.edges[self.on_rim]
        along = _gather(rim, middles[self.on_rim], self.count)
        on_rim = np.isin(np.arange(self.count), rim)[:, None]
        return np.concatenate([np.where(on_rim, values / 2 + along / 4, moved), inner, faces])


def _gather(index: np.ndarray, values: np.ndarray, count: int) -> np.ndarray:
    """[count, D] sums of values [N, D], each added at all its indices [N, K]."""
    out = np.zeros((count, values.shape[1]))
    np.add.at(out, index, values[:, None])
    return out


def refine(quads: np.ndarray, count: int) -> Refinement:
    """Splits each of quads [F, 4] over `count` vertices into four. Every vertex must be used."""
    sides = np.sort(np.stack([quads, np.roll(quads, -1, 1)], -1).reshape(-1, 2), 1)
    edges, edge_of, uses = np.unique(sides, axis=0, return_inverse=True, return_counts=True)
    edge_of = edge_of.reshape(quads.shape)
    middle = count + edge_of
    centre = np.broadcast_to(count + len(edges) + np.arange(len(quads))[:, None], quads.shape)
    children = np.stack([quads, middle, centre, np.roll(middle, 1, 1)], -1).reshape(-1, 4)
    return Refinement(quads, count, children, edges, edge_of, uses == 1)
