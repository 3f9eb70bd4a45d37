"""Pictures of head templates: one clay, one light, one camera for all, so that heads can be compared by eye."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from embreex import rtcore_scene
from embreex.mesh_construction import TriangleMesh
from numpy.typing import NDArray
from torch import Tensor

from ..emotion import EMOTIONS, expression_from_emotion
from ..head import HeadTemplate
from ..head.mesh import vertex_normals
from ..io.sheet import Picture, contact_sheet
from .clay import Clay, Floats

YAWS = (-60.0, -30.0, 0.0, 30.0, 60.0)
"""Degrees to the subject's left from which a sheet shows a head."""
_SUPERSAMPLE = 2
_DISTANCE = 12.0
"""From the camera to the face, in outer-eye distances: about a metre."""
_VIEW = 2.7
"""Height of the picture at the face, in outer-eye distances."""
_LAMPS = (((-0.5, 0.6, 0.65), 0.75, 6), ((0.8, 0.1, 0.4), 0.22, 2), ((0.0, -0.5, 0.6), 0.10, 1))
"""Directions to the lamps, fixed to the camera, their strengths, and rays from each place to each lamp: key from above
left, fill, a glow from below."""
_AMBIENT, _BACKDROP = 0.13, 0.86
_LAMP_RADIUS = math.radians(7.0)
"""Lamps are discs of this angle: their shadows have soft edges, the softer the farther they fall."""
_TURNS = 61
"""Patterns of rays to a lamp, which neighbours take in turn, so that no pixel's subsamples have the same."""
_PASSED = 0.25
"""What skin passes on of the light that does not reach it."""
_CLEAR = 0.01
"""Outer-eye distances between a place and where its rays to the lamps begin: the mesh's own facets cast no shadow."""
_GOLDEN = math.pi * (3 - math.sqrt(5))
"""The golden angle."""


class HeadView:
    """Draws one template; the camera frames the neutral face of the mean identity and then stands still."""

    def __init__(self, template: HeadTemplate, size: int) -> None:
        self.template, self.size = template, size
        self.faces = template.faces.numpy().astype(np.int32)
        self.clay = Clay(template)
        eyes = torch.from_numpy(self.clay.eyes)
        width = float((eyes[0] - eyes[1]).norm()) * 1.42  # outer corners of the mean face
        self.middle = (eyes.mean(0) - torch.tensor([0.0, 0.42, 0.35]) * width).numpy()
        self.width = width

    def draw(self, vertices: Tensor, yaw: float = 0.0) -> Picture:
        """[size, size, 3] of vertices [V, 3], seen from `yaw` degrees to the subject's left."""
        count = self.size * _SUPERSAMPLE
        turn = _about_y(math.radians(yaw))
        back = turn @ np.array([0.0, 0.0, _DISTANCE * self.width], np.float32)
        step = ((np.arange(count) + 0.5) / count - 0.5) * _VIEW * self.width
        x, y = np.meshgrid(step, -step)
        plane = np.stack([x, y, np.zeros_like(x)], -1).reshape(-1, 3).astype(np.float32) @ turn.T
        rays = plane - back
        rays /= np.linalg.norm(rays, axis=1, keepdims=True)
        scene = rtcore_scene.EmbreeScene()
        TriangleMesh(scene, vertices.numpy().astype(np.float32), self.faces)
        origin = np.broadcast_to((self.middle + back).astype(np.float32), rays.shape)
        found = scene.run(np.ascontiguousarray(origin), rays, output=1)
        hit = found["primID"] >= 0
        picture = np.full((len(rays), 3), _BACKDROP, np.float32)
        picture[hit] = self._shade(
            scene, vertices, turn, rays[hit], {name: found[name][hit] for name in ("primID", "u", "v")}
        )
        smaller = picture.reshape(self.size, _SUPERSAMPLE, self.size, _SUPERSAMPLE, 3).mean((1, 3))
        return (smaller.clip(0, 1) ** (1 / 2.2) * 255).round().astype(np.uint8)

    def _shade(self, scene: object, vertices: Tensor, turn: Floats, rays: Floats, found: dict[str, NDArray]) -> Floats:
        """Linear light [N, 3] of the places that rays met: lamps with shadows, and what light skin passes on."""
        corners = self.faces[found["primID"]]
        share = np.stack([1 - found["u"] - found["v"], found["u"], found["v"]], 1)[..., None].astype(np.float32)
        normals = vertex_normals(vertices, self.template.faces).numpy()
        normal = (normals[corners] * share).sum(1)
        normal /= np.linalg.norm(normal, axis=1, keepdims=True) + 1e-9
        normal *= np.where((normal * rays).sum(1, keepdims=True) > 0, -1, 1)
        place = (vertices.numpy()[corners] * share).sum(1)
        colour = self.clay.colour(corners, share)
        light = np.full((len(place), 1), _AMBIENT, np.float32)
        gloss = np.zeros((len(place), 1), np.float32)
        for direction, strength, samples in _LAMPS:
            toward = turn @ (np.array(direction, np.float32) / np.linalg.norm(direction))
            free = lit(scene, place + _CLEAR * self.width * normal, toward, samples)
            facing = (normal @ toward)[:, None]
            light += strength * np.clip((facing + 0.15) / 1.15, 0, None) * (_PASSED + (1 - _PASSED) * free)
            half = toward - rays
            half /= np.linalg.norm(half, axis=1, keepdims=True)
            gloss += 0.12 * strength * free * np.clip((normal * half).sum(1, keepdims=True), 0, 1) ** 30
        return (colour**2.2 * light * 1.25 + gloss).astype(np.float32)


def lit(scene: object, start: Floats, toward: Floats, samples: int) -> Floats:
    """[N, 1] share of a lamp's disc that is seen from places [N, 3]."""
    across = np.cross(toward, np.array([0.0, 1.0, 0.0], np.float32))
    across /= np.linalg.norm(across)
    plane = np.stack([across, np.cross(across, toward)])
    begin = np.ascontiguousarray(start, np.float32)
    turn = (_GOLDEN * np.arange(_TURNS)).astype(np.float32)
    seen = np.zeros(len(start), np.float32)
    for ray in range(samples):
        radius = math.tan(_LAMP_RADIUS) * math.sqrt((ray + 0.5) / samples)  # Vogel's spiral: equal areas
        spot = radius * np.stack([np.cos(turn + _GOLDEN * ray), np.sin(turn + _GOLDEN * ray)], -1) @ plane
        aim = np.resize((toward + spot).astype(np.float32), begin.shape)
        seen += scene.run(begin, aim, query="OCCLUDED") < 0  # type: ignore[attr-defined]
    return seen[:, None] / np.float32(samples)


def _about_y(angle: float) -> Floats:
    c, s = math.cos(angle), math.sin(angle)
    return np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]], np.float32)


def worn(template: HeadTemplate, code: Tensor) -> Tensor:
    """[V, 3] the mean identity with an emotion [7]."""
    if not template.speaks_arkit:
        raise ValueError(f"template {template.name!r} does not speak ARKit, so it cannot wear emotions; see `retarget`")
    return template.deform(expression=expression_from_emotion(code[None]))[0]


def views_sheet(template: HeadTemplate, code: Tensor, size: int) -> Picture:
    """One template from five sides: neutral, half the emotion, and all of it."""
    view = HeadView(template, size)
    rows = [[view.draw(worn(template, share * code), yaw) for yaw in YAWS] for share in (0.0, 0.5, 1.0)]
    return contact_sheet(rows, [f"{yaw:+.0f}°" if yaw else "front" for yaw in YAWS], ["neutral", "half", "full"])


def emotions_sheet(templates: Sequence[HeadTemplate], size: int, yaws: Sequence[float] = (0.0, 35.0)) -> Picture:
    """Templates beside each other: neutral and the seven emotions in columns, each template from each side in a row."""
    codes = [torch.zeros(len(EMOTIONS)), *torch.eye(len(EMOTIONS))]
    views = [HeadView(template, size) for template in templates]
    rows = [[view.draw(worn(view.template, code), yaw) for code in codes] for yaw in yaws for view in views]
    return contact_sheet(rows, ["neutral", *EMOTIONS], [template.name for _ in yaws for template in templates])
