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

YAWS = (-60.0, -30.0, 0.0, 30.0, 60.0)
"""Degrees to the subject's left from which a sheet shows a head."""
_SUPERSAMPLE = 2
_DISTANCE = 12.0
"""From the camera to the face, in outer-eye distances: about a metre."""
_VIEW = 2.7
"""Height of the picture at the face, in outer-eye distances."""
_LAMPS = (((-0.5, 0.6, 0.65), 0.75), ((0.8, 0.1, 0.4), 0.22), ((0.0, -0.5, 0.6), 0.10))
"""Directions to the lamps, fixed to the camera, and their strengths: key from above left, fill, a glow from below."""
_AMBIENT, _BACKDROP = 0.13, 0.86
_CLAY = {
    "skin": (0.74, 0.62, 0.55), "eye": (0.90, 0.90, 0.89), "teeth": (0.93, 0.90, 0.84), "gums": (0.66, 0.38, 0.37),
    "tongue": (0.72, 0.42, 0.41), "mouth_socket": (0.25, 0.11, 0.11),
}  # fmt: skip
_CLEAR = 0.01
"""Outer-eye distances between a place and where its rays to the lamps begin: the mesh's own facets cast no shadow."""
_IRIS, _PUPIL = (0.25, 0.33, 0.38), (0.04, 0.04, 0.05)
_IRIS_ANGLE, _PUPIL_ANGLE = 28.0, 11.0
"""Degrees about an eyeball's axis that iris and pupil reach."""

Floats = NDArray[np.float32]


class HeadView:
    """Draws one template; the camera frames the neutral face of the mean identity and then stands still."""

    def __init__(self, template: HeadTemplate, size: int) -> None:
        self.template, self.size = template, size
        self.faces = template.faces.numpy().astype(np.int32)
        self.colour = self._colour()
        rest = template.vertices
        eyes = torch.stack([_centre(rest[self._ball(side)]) for side in ("left", "right")])
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
        colour = (self.colour[corners] * share).sum(1)
        light = np.full((len(place), 1), _AMBIENT, np.float32)
        gloss = np.zeros((len(place), 1), np.float32)
        for direction, strength in _LAMPS:
            toward = turn @ (np.array(direction, np.float32) / np.linalg.norm(direction))
            start = (place + _CLEAR * self.width * normal).astype(np.float32)
            aim = np.ascontiguousarray(np.broadcast_to(toward, start.shape), np.float32)
            free = (scene.run(start, aim, query="OCCLUDED") < 0)[:, None]  # type: ignore[attr-defined]
            facing = (normal @ toward)[:, None]
            light += strength * np.clip((facing + 0.15) / 1.15, 0, None) * np.where(free, 1.0, 0.25)
            half = toward - rays
            half /= np.linalg.norm(half, axis=1, keepdims=True)
            gloss += 0.12 * strength * free * np.clip((normal * half).sum(1, keepdims=True), 0, 1) ** 30
        return (colour**2.2 * light * 1.25 + gloss).astype(np.float32)

    def _colour(self) -> Floats:
        """[V, 3] clay by part, with lips a little darker and irises about the eyeballs' axes."""
        template = self.template
        colour = np.zeros((len(template.vertices), 3), np.float32)
        for index, name in reversed(list(enumerate(template.part_names))):
            kind = next((kind for kind in _CLAY if name.startswith(kind)), "skin")
            colour[template.faces[template.face_part == index].unique().numpy()] = _CLAY[kind]
        for side in ("left", "right"):
            ball = self._ball(side)
            arm = template.vertices[ball] - _centre(template.vertices[ball])
            angle = torch.rad2deg(torch.atan2(arm[:, :2].norm(dim=1), arm[:, 2])).numpy()
            colour[ball.numpy()[angle < _IRIS_ANGLE]] = _IRIS
            colour[ball.numpy()[angle < _PUPIL_ANGLE]] = _PUPIL
        return colour

    def _ball(self, side: str) -> Tensor:
        name = f"eye_{side}"
        if name not in self.template.part_names:
            raise ValueError(
                f"template {self.template.name!r}: expected a part named {name}, got {self.template.part_names}"
            )
        return self.template.faces[self.template.face_part == self.template.part_names.index(name)].unique()


def _centre(points: Tensor) -> Tensor:
    """[3] the middle of the box around points [N, 3]: an eyeball's vertices are denser in front."""
    return (points.amin(0) + points.amax(0)) / 2


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
