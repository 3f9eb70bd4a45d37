"""Where things are on a head's mesh: parts, mirror image, the lines along which lips and lids meet.

Muscles and measurements are written against these sets and the 68 landmarks only, never against vertex numbers, so that
they work on any mesh. A template that knows its loops fills them in; `find_regions` traces them between landmarks.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Regions:
    """Index sets on a head mesh; all int64. Loops run along edges, both ends included."""

    part_names: tuple[str, ...]
    vertex_part: Tensor  # [V] into part_names; a vertex that skin shares with another part is skin
    mirror: Tensor  # [V] the vertex's mirror image in x = 0
    rigid: Tensor  # [R] skull vertices, which no expression moves
    lip_upper: Tensor  # where the lips meet, right corner to left corner
    lip_lower: Tensor
    lid_upper_left: Tensor  # lid margins, outer corner to inner corner
    lid_lower_left: Tensor
    lid_upper_right: Tensor
    lid_lower_right: Tensor

    def part(self, *names: str) -> Tensor:
        """[V] bool: vertices of the named parts; names that this head lacks select nothing."""
        chosen = torch.tensor([name in names for name in self.part_names])
        return chosen[self.vertex_part]


def edges_of(faces: Tensor) -> Tensor:
    """[E, 2] the undirected edges of triangles [F, 3], each once, lower index first."""
    pairs = torch.cat([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    return torch.unique(pairs.sort(1).values, dim=0)


def find_regions(
    vertices: Tensor,
    faces: Tensor,
    face_part: Tensor,
    part_names: tuple[str, ...],
    landmarks: Tensor,
    rigid: Tensor,
) -> Regions:
    """Regions of a mesh that offers only parts and iBUG landmarks: shortest edge paths from landmark to landmark.

    Args:
        vertices: [V, 3], roughly symmetric in x. faces: [F, 3]. face_part: [F] into part_names.
        landmarks: [68] vertices. rigid: [R] vertices of the skull.
    """
    vertex_part = torch.zeros(len(vertices), dtype=torch.int64)
    for index in reversed(range(len(part_names))):  # earlier parts win shared vertices; skin comes first
        vertex_part[faces[face_part == index].unique()] = index
    neighbours = _neighbours(vertices, faces)

    def line(*points: int) -> Tensor:
        path = [int(landmarks[points[0]])]
        for point in points[1:]:
            path += _shortest_path(neighbours, path[-1], int(landmarks[point]))[1:]
        return torch.tensor(path)

    return Regions(
        part_names=part_names,
        vertex_part=vertex_part,
        mirror=_nearest(vertices * vertices.new_tensor([-1.0, 1.0, 1.0]), vertices),
        rigid=rigid,
        lip_upper=line(60, 61, 62, 63, 64),
        lip_lower=line(60, 67, 66, 65, 64),
        lid_upper_left=line(45, 44, 43, 42),
        lid_lower_left=line(45, 46, 47, 42),
        lid_upper_right=line(36, 37, 38, 39),
        lid_lower_right=line(36, 41, 40, 39),
    )


def _neighbours(vertices: Tensor, faces: Tensor) -> list[list[tuple[int, float]]]:
    edges = edges_of(faces)
    lengths = (vertices[edges[:, 0]] - vertices[edges[:, 1]]).norm(dim=1).tolist()
    table: list[list[tuple[int, float]]] = [[] for _ in range(len(vertices))]
    for (a, b), length in zip(edges.tolist(), lengths, strict=True):
        table[a].append((b, length))
        table[b].append((a, length))
    return table


def _shortest_path(neighbours: list[list[tuple[int, float]]], start: int, goal: int) -> list[int]:
    """Dijkstra, stopped at the goal."""
    best, parent, queue = {start: 0.0}, {start: start}, [(0.0, start)]
    while queue:
        distance, vertex = heapq.heappop(queue)
        if vertex == goal:
            break
        for other, length in neighbours[vertex]:
            if distance + length < best.get(other, float("inf")):
                best[other], parent[other] = distance + length, vertex
                heapq.heappush(queue, (best[other], other))
    path = [goal]
    while path[-1] != start:
        path.append(parent[path[-1]])
    return path[::-1]


def _nearest(points: Tensor, targets: Tensor) -> Tensor:
    """[N] index of the closest target of each point, in blocks that bound memory."""
    return torch.cat([torch.cdist(block, targets).argmin(1) for block in points.split(1024)])
