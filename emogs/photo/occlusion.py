"""How open each vertex of a template is to its surroundings: ambient occlusion of the mean neutral head."""

from __future__ import annotations

import numpy as np
from embreex import rtcore_scene
from embreex.mesh_construction import TriangleMesh

from ..head.mesh import vertex_normals
from ..head.template import HeadTemplate
from .images import Array

DIRECTIONS = 32
REACH = 0.05
"""Metres; what is farther away takes no light."""
LIFT = 0.0005
"""Metres above the surface where rays start."""


def openness(template: HeadTemplate, directions: int = DIRECTIONS, reach: float = REACH) -> Array:
    """[V] share of the light of an even sky that reaches a vertex past what is within `reach` metres (0.1 s).

    Args:
        directions: rays from each vertex.
    """
    vertices, faces = template.vertices.numpy(), template.faces.numpy()
    normals = vertex_normals(template.vertices, template.faces).numpy()
    scene = rtcore_scene.EmbreeScene()
    TriangleMesh(scene, vertices, faces.astype(np.int32))
    toward = normals[:, None] * 1.001 + _sphere(directions)  # cosine-weighted, by Malley's method in space
    toward /= np.linalg.norm(toward, axis=-1, keepdims=True)
    origins = np.broadcast_to((vertices + LIFT * normals)[:, None], toward.shape)
    rays = (np.ascontiguousarray(x.reshape(-1, 3), np.float32) for x in (origins, toward))
    found = scene.run(*rays, output=1)
    free = (found["primID"] < 0) | (found["tfar"] > reach)
    return free.reshape(len(vertices), directions).mean(1).astype(np.float32)


def _sphere(count: int) -> Array:
    """Evenly spread unit vectors [count, 3]: a Fibonacci spiral."""
    index = np.arange(count) + 0.5
    height, turn = 1 - 2 * index / count, np.pi * (1 + 5**0.5) * index
    radius = np.sqrt(1 - height**2)
    return np.stack([radius * np.cos(turn), radius * np.sin(turn), height], 1).astype(np.float32)
