"""The subdivided surface of the cage: vertices as a linear function of its points, triangles of mixed fineness."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from .subdivide import Refinement, refine

_PULLS = 4
"""Steps of the iteration that pulls the surface to the points: more would follow them closer and ripple more."""


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

    def spread(self, values: np.ndarray) -> np.ndarray:
        """Values at the authored points [N, D] drawn smoothly through them over the vertices [V, D]; linear."""
        control = values
        for _ in range(_PULLS):
            control = control + values - self._refined(control)[: len(values)]
        return self._refined(control)[self.used]

    def smooth(self, values: np.ndarray) -> np.ndarray:
        """Values at the cage's points [N, D] smoothed over the vertices [V, D]; never beyond the values' range."""
        return self._refined(values)[self.used]

    def loop(self, ring: np.ndarray) -> np.ndarray:
        """All vertices along a line of cage points joined by edges, both ends included, in order."""
        for level in (self.first, self.second):
            middles = level.middles(np.stack([ring[:-1], ring[1:]], -1))
            ring = np.append(np.stack([ring[:-1], middles], -1).ravel(), ring[-1])
        place = np.searchsorted(self.used, ring).clip(max=len(self.used) - 1)
        return place[self.used[place] == ring]

    def _refined(self, control: np.ndarray) -> np.ndarray:
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
    return np.concatenate([points, level.middles(points[level.edges]), len(points) + len(level.edges) + faces])


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
    for corner, edge, middle in zip(first.quads[quad], second.edge_of[quad], split, strict=True):
        ring += [corner, count + edge] if middle else [corner]
    start = next((i for i, vertex in enumerate(ring) if vertex >= count), quad % 2)
    ring = ring[start:] + ring[:start]
    return [(ring[0], b, c) for b, c in pairwise(ring[1:])]
