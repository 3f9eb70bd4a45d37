"""A posed head in front of the crop's camera: projection, and what each pixel sees first and last of its mesh.

Rays are cast with Embree in camera coordinates with directions of unit z, so that ray length is depth. The buffers lie
on a coarse grid over the crop (GRID x GRID cells), which is where hair is told from skin and the shell is built.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch
from embreex import rtcore_scene
from embreex.mesh_construction import TriangleMesh
from numpy.typing import NDArray
from torch import Tensor

from ..head.mesh import vertex_normals
from ..head.template import HeadTemplate
from .images import Array

if TYPE_CHECKING:
    from .face import HeadFit

GRID = 256
"""Cells along a side of the buffers."""


@dataclass(frozen=True)
class Buffer:
    """Per cell: the triangle a ray meets, where in it, and how deep."""

    face: NDArray[np.int64]  # [GRID, GRID], -1 where the ray misses
    barycentric: Array  # [GRID, GRID, 3]
    depth: Array  # [GRID, GRID] metres along the camera's axis, inf where the ray misses

    @property
    def hit(self) -> NDArray[np.bool_]:
        """[GRID, GRID] whether the mesh is there."""
        return self.face >= 0

    def paint(self, faces: NDArray[np.int64], values: Array, background: float = 0.0) -> Array:
        """Per-vertex values [V] or [V, D] as an image [GRID, GRID(, D)]."""
        corners = values[faces[self.face.clip(0)]]
        weight = self.barycentric.reshape(*self.barycentric.shape, *([1] * (values.ndim - 1)))
        image = (corners * weight).sum(2)
        image[~self.hit] = background
        return image.astype(np.float32)


@dataclass(frozen=True)
class HeadView:
    """A template's mesh as a photo shows it, and the camera of the photo's square crop.

    Attributes:
        vertices: [V, 3] the person with the photo's expression, head space, metres.
        neutral: [V, 3] the same person without expression.
        viewmat: [4, 4] head space to OpenCV camera; rigid.
        K: [3, 3] intrinsics in pixels of the crop; pixel centres at +0.5.
        size: side of the crop in pixels.
        valid: [S, S] False where the crop reaches beyond the photo; None if it does not.
        expression: [E] the photo's expression; None if it is not known.
    """

    template: HeadTemplate
    vertices: Tensor
    neutral: Tensor
    viewmat: Tensor
    K: Tensor
    size: int
    valid: Tensor | None = None
    expression: Tensor | None = None

    @classmethod
    def from_fit(cls, template: HeadTemplate, fit: HeadFit) -> HeadView:
        """The view of a head that `fit_photo` found."""
        valid = torch.from_numpy(fit.valid)
        vertices, neutral = fit.vertices(template), fit.neutral(template)
        return cls(template, vertices, neutral, fit.viewmat, fit.K, fit.width, valid, fit.expression)

    @cached_property
    def faces(self) -> NDArray[np.int64]:
        """[F, 3]"""
        return self.template.faces.numpy()

    @cached_property
    def camera_vertices(self) -> Array:
        """[V, 3] the photographed mesh in camera coordinates."""
        return self.to_camera(self.vertices.numpy())

    @cached_property
    def normals(self) -> Array:
        """[V, 3] unit vertex normals of the photographed mesh in head space."""
        return vertex_normals(self.vertices, self.template.faces).numpy()

    @cached_property
    def front(self) -> Buffer:
        """The nearest surface per cell."""
        rays = self.rays(GRID)
        return self._buffer(np.zeros_like(rays), rays, lambda length: length)

    @cached_property
    def back(self) -> Buffer:
        """The farthest surface per cell, seen from behind."""
        rays, far = self.rays(GRID), float(self.camera_vertices[:, 2].max()) + 1.0
        return self._buffer(rays * far, -rays, lambda length: far - length)

    def to_camera(self, points: Array) -> Array:
        """Head space [..., 3] to camera coordinates."""
        viewmat = self.viewmat.numpy()
        return (points @ viewmat[:3, :3].T + viewmat[:3, 3]).astype(np.float32)

    def to_head(self, points: Array) -> Array:
        """Camera coordinates [..., 3] to head space."""
        viewmat = self.viewmat.numpy()
        return ((points - viewmat[:3, 3]) @ viewmat[:3, :3]).astype(np.float32)

    def project(self, camera_points: Array) -> Array:
        """Camera coordinates [..., 3] to pixels [..., 2] of the crop."""
        image = camera_points @ self.K.numpy().T
        return (image[..., :2] / np.maximum(image[..., 2:], 1e-6)).astype(np.float32)

    def rays(self, grid: int) -> Array:
        """[grid, grid, 3] directions with z = 1 through the centres of a grid x grid division of the crop."""
        centre = (np.arange(grid) + 0.5) * (self.size / grid)
        return self.directions(np.stack(np.meshgrid(centre, centre), -1))

    def directions(self, pixels: Array) -> Array:
        """Directions [..., 3] with z = 1 through pixels [..., 2]."""
        homogeneous = np.concatenate([pixels, np.ones_like(pixels[..., :1])], -1)
        return (homogeneous @ np.linalg.inv(self.K.numpy().astype(np.float64)).T).astype(np.float32)

    def first_hits(self, origins: Array, directions: Array) -> dict[str, NDArray]:
        """Embree's `primID`, `u`, `v`, `tfar` for rays [N, 3] in camera coordinates."""
        return self._scene.run(
            np.ascontiguousarray(origins, np.float32), np.ascontiguousarray(directions, np.float32), output=1
        )

    @cached_property
    def _scene(self) -> rtcore_scene.EmbreeScene:
        scene = rtcore_scene.EmbreeScene()
        TriangleMesh(scene, self.camera_vertices, self.faces.astype(np.int32))
        return scene

    def _buffer(self, origins: Array, rays: Array, depth: Callable[[Array], Array]) -> Buffer:
        found = self.first_hits(origins.reshape(-1, 3), rays.reshape(-1, 3))
        face = found["primID"].reshape(GRID, GRID).astype(np.int64)
        u, v = found["u"].reshape(GRID, GRID), found["v"].reshape(GRID, GRID)
        distance = np.where(face >= 0, depth(found["tfar"].reshape(GRID, GRID)), np.inf)
        return Buffer(face, np.stack([1 - u - v, u, v], -1).astype(np.float32), distance.astype(np.float32))
