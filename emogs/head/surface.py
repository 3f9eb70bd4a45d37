"""The subdivided surface of the cage: vertices as a linear function of the authored points, triangles of mixed fineness."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from .subdivide import Refinement, refine

_PULLS = 4
"""Steps of the iteration that pulls the surface to the authored points: more would follow them closer and ripple more."""


@dataclass(frozen=True)
class Surface:
    """Triangles over the vertices that are in use. Vertex i is the cage's point i for i < N."""

    triangles: np.ndarray  # [T, 3]; triangle i + T / 2 mirrors triangle i
    quad_of: np.ndarray  # [T] the cage's quad
    used: np.ndarray  # [V] the second level's vertices in use
    mirror: np.ndarray  # [V]
    split: np.ndarray  # [4F, 4] bool: the first level's quad has a finer neighbour across this side
    first: Refinement
    second: Refinement

    def spread(self, values: Tensor) -> Tensor:
        """Values at the authored points [N, D] spread smoothly over the vertices [V, D]; linear and symmetric."""
        values = values.double()
        top = self.first.count
        control = values
        for _ in range(_PULLS):
            control = control + values - self._smooth(control)[:top]
        return self._smooth(control)[torch.from_numpy(self.used)]

    def loop(self, ring: np.ndarray, closed: bool = True) -> np.ndarray:
        """All vertices along a polyline of cage points joined by edges, in order."""
        ids = list(ring) + ([ring[0]] if closed else [])
        number = {int(v): i for i, v in enumerate(self.used)}
        out: list[int] = []
        for level in (self.first, self.second):
            middles = _middles(level)
            finer = [ids[0]]
            for a, b in zip(ids, ids[1:]):
                finer += [middles[min(a, b), max(a, b)], b]
            ids = finer
        out = [number[v] for v in ids if v in number]
        return np.array(out[:-1] if closed else out)

    def _smooth(self, control: Tensor) -> Tensor:
        return self.second.smooth(self.first.smooth(control))


def subdivide(quads: np.ndarray, mirror: np.ndarray, fine: np.ndarray, like: Surface | None = None) -> Surface:
    """Two levels of Catmull-Clark; quads that are not fine keep one, with fans where they meet finer neighbours.

    Args:
        quads: [F, 4] with quad i + F / 2 the mirror image of quad i, its corners reversed after the first.
        mirror: [N] the mirrored point.
        fine: [F] bool; neighbours may differ.
        like: the surface whose triangles these must match, corner by corner, where quads that are neighbours there are
            none here: a texture chart has seams.
    """
    first = refine(quads, len(mirror))
    second = refine(first.quads, first.total)
    fine = np.repeat(fine, 4)
    split = like.split if like else _split(second, fine)
    corners, owner = [], []
    for i in range(len(first.quads) // 2):
        for triangle in _fine(second, i) if fine[i] else _coarse(first, second, i, split[i]):
            corners.append(triangle)
            owner.append(i // 4)
    faces = np.roll(np.arange(len(quads)), len(quads) // 2)
    children = (4 * faces[:, None] + [0, 3, 2, 1]).ravel()
    mirrored = _mirror(second, _mirror(first, mirror, faces), children)
    left = np.array(corners)
    used, triangles = np.unique(np.concatenate([left, mirrored[left[:, [0, 2, 1]]]]), return_inverse=True)
    renumber = np.full(second.total, -1)
    renumber[used] = np.arange(len(used))
    return Surface(
        triangles=triangles.reshape(-1, 3),
        quad_of=np.concatenate([owner, np.array(owner) + len(quads) // 2]),
        used=used,
        mirror=renumber[mirrored[used]],
        split=split,
        first=first,
        second=second,
    )


def _mirror(level: Refinement, points: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """The mirror map of a refinement's vertices from those of the points and faces that it refined."""
    middles = _middles(level)
    pairs = np.sort(points[level.edges], 1)
    edges = np.array([middles[a, b] for a, b in pairs.tolist()])
    return np.concatenate([points, edges, len(points) + len(edges) + faces])


def _middles(level: Refinement) -> dict[tuple[int, int], int]:
    """The new vertex in the middle of each old edge."""
    count = level.count
    return {(a, b): count + i for i, (a, b) in enumerate(level.edges.tolist())}


def _split(second: Refinement, fine: np.ndarray) -> np.ndarray:
    edges = np.zeros(len(second.edges), bool)
    edges[second.edge_of[fine].ravel()] = True
    return edges[second.edge_of]


# Child j keeps its parent's corner j; the diagonals of odd children start one corner later, so that all of a quad's
# diagonals run the same way: vertices of alternating valence would show as ribs in the shading.


def _fine(second: Refinement, quad: int) -> list[tuple[int, int, int]]:
    children = second.quads[4 * quad : 4 * quad + 4]
    return [triangle for j, child in enumerate(children) for triangle in _halves(np.roll(child, -(j % 2)))]


def _halves(quad: np.ndarray) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
    a, b, c, d = quad.tolist()
    return (a, b, c), (a, c, d)


def _coarse(first: Refinement, second: Refinement, quad: int, split: np.ndarray) -> list[tuple[int, int, int]]:
    """A quad of the first level that stays whole, with the middles of those edges that a finer neighbour has split."""
    count = first.total
    ring: list[int] = []
    for corner, edge, middle in zip(first.quads[quad], second.edge_of[quad], split):
        ring += [corner, count + edge] if middle else [corner]
    start = next((i for i, vertex in enumerate(ring) if vertex >= count), quad % 2)
    ring = ring[start:] + ring[:start]
    return [(ring[0], b, c) for b, c in zip(ring[1:], ring[2:])]
