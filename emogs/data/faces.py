"""Labelled synthetic faces: any head template, ray cast in random guise, with its 68 landmarks.

A face is drawn in two steps: `random_face` chooses what is known afterwards (identity, expression, camera), and
`FaceRenderer.render` dresses, lights and photographs it. The same seed gives the same picture. Shards are plain npy
files, so a stopped run continues where it was. The light is linear until the last step; rays are 1.5 x 1.5 to a pixel.
Skin, eyes and mouth are painted by the landmarks, or wear the template's own texture in a random complexion.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import skimage.data
import torch
from embreex import rtcore_scene
from embreex.mesh_construction import TriangleMesh

from emogs.data.face_expressions import random_expression
from emogs.data.face_light import Seen, develop, light
from emogs.data.face_paint import Painter, to_linear
from emogs.data.face_props import HAIR, HairGrid, Prop, clothes, glasses
from emogs.data.face_surface import FIELDS, survey
from emogs.head.mesh import vertex_normals
from emogs.head.template import HeadTemplate
from emogs.photo.contour import JAW_POINTS, jaw_contour

_BACKDROPS = ("coffee", "chelsea", "rocket", "hubble_deep_field", "grass", "gravel", "brick", "retina", "camera")
_SUPERSAMPLE = 1.5
_FLIP = np.diag([1.0, -1.0, -1.0])
"""Head space (y up, z to the viewer) to OpenCV camera axes (y down, z away)."""
_REMAP_ROWS = 30000  # cv2 addresses pictures by 16 bits
_WAVES, _WAVE_LENGTHS = 6, (0.05, 0.2)
_WAVE_HEIGHT = 0.011
"""Of a warp's waves, metres to a metre of wave length, at one standard deviation."""


@dataclass(frozen=True)
class Face:
    """What is known about a picture: the truth that a landmark network or a fit is judged by."""

    identity: np.ndarray  # [I] standard deviations
    expression: np.ndarray  # [52] ARKit values
    viewmat: np.ndarray  # [4, 4] head space to OpenCV camera, metres
    K: np.ndarray  # [3, 3] pixels
    size: int  # the picture is size x size
    warp: np.ndarray = field(default_factory=lambda: np.zeros((0, 7)))  # [W, 7] see `warped`


@dataclass(frozen=True)
class Picture:
    """A rendered face and its labels."""

    face: Face
    image: np.ndarray  # [S, S, 3] uint8
    landmarks: np.ndarray  # [68, 2] pixels, pixel centres at +0.5; the jaw follows the visible contour


class FaceRenderer:
    """Renders random guises of one template's faces. Setting up takes a few seconds, a picture about 0.1 s."""

    def __init__(self, template: HeadTemplate):
        """Surveys a template.

        Raises:
            ValueError: it has no landmarks, lacks skin or eyes, or its expression channels are not ARKit's.
        """
        _check(template)
        self.template = template
        self.surface = survey(template)
        self.contour = jaw_contour(template)
        self.hair = HairGrid(template, self.surface)
        paint = template.albedo.numpy()
        self.texture = to_linear(paint) if np.ptp(paint, (0, 1)).max() > 0 else None  # one colour is no face
        backdrops = [getattr(skimage.data, name)() for name in _BACKDROPS]
        self.backdrops = [cv2.cvtColor(b, cv2.COLOR_GRAY2RGB) if b.ndim == 2 else b[..., :3] for b in backdrops]

    def random_face(
        self,
        rng: np.random.Generator,
        size: int = 144,
        zoom: float = 1.75,
        *,
        expression: np.ndarray | None = None,
        yaw: float | None = None,
    ) -> Face:
        """A random identity, expression and camera; the landmarks' box fills about 1 / zoom of the picture.

        Args:
            expression: [52] ARKit values instead of random ones.
            yaw: radians instead of a random angle.
        """
        count = len(self.template.identity)
        identity = rng.normal(size=count) * rng.uniform(0.5, 1.3) * (rng.random(count) < 0.7)
        warp = random_warp(rng) * rng.uniform(0, 1.3)
        worn = random_expression(rng)
        turn, pitch, roll = np.clip(rng.normal(size=3) * [0.36, 0.18, 0.14], [-1.05, -0.6, -0.5], [1.05, 0.6, 0.5])
        distance = np.exp(rng.uniform(np.log(0.35), np.log(2.5)))
        target = self.surface.landmarks[27:36].mean(0)
        viewmat = camera_at(target, turn if yaw is None else yaw, pitch, roll, distance)
        K = np.diag([distance, distance, 1.0])
        face = Face(identity, worn if expression is None else expression, viewmat, K, size, warp)
        flat = self._landmarks(face, self._vertices(face))
        low, high = flat.min(0), flat.max(0)
        extent = (high - low).max() * zoom * np.exp(rng.uniform(-0.12, 0.12))
        middle = (low + high) / 2 + rng.uniform(-0.06, 0.06, 2) * extent
        focal, (x, y) = distance * size / extent, size / 2 - middle * size / extent
        return replace(face, K=np.array([[focal, 0, x], [0, focal, y], [0, 0, 1]]))

    def render(self, face: Face, rng: np.random.Generator) -> Picture:
        """Photographs a face in a random guise: complexion, hair, clothes, glasses, light, backdrop, lens."""
        vertices = self._vertices(face)
        landmarks = vertices[self.template.landmarks.numpy()]
        props: list[Prop] = []
        if rng.random() < 0.88:
            props.append(self.hair.grow(vertices, self.surface, rng))
        if rng.random() < 0.85:
            props.append(clothes(self.surface, rng))
        if rng.random() < 0.16:
            props.extend(glasses(landmarks, self.surface, rng))
        rays = round(face.size * _SUPERSAMPLE)
        color, hit = self._shade(face, vertices, props, rays, rng)
        image = self._backdrop(rays, rng)
        image[hit] = color
        if rng.random() < 0.3:
            image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.4, 1.6) * rays / 216)
        image = cv2.resize(image, (face.size, face.size), interpolation=cv2.INTER_AREA)
        image = image + rng.normal(size=image.shape) * rng.choice([0, 0.01, 0.03])
        return Picture(face, (np.clip(image, 0, 1) * 255).round().astype(np.uint8), self._landmarks(face, vertices))

    def _vertices(self, face: Face) -> np.ndarray:
        with torch.no_grad():
            known = (torch.from_numpy(face.identity).float()[None], torch.from_numpy(face.expression).float()[None])
            vertices = self.template.deform(*known)[0].numpy()
        return vertices + warped(face.warp, self.template.vertices.numpy())

    def _landmarks(self, face: Face, vertices: np.ndarray) -> np.ndarray:
        rotation, translation = face.viewmat[:3, :3], face.viewmat[:3, 3]
        camera = torch.from_numpy(-rotation.T @ translation).float()
        paths = self.contour.candidates
        seen = self.contour.select(torch.from_numpy(vertices)[paths], camera)
        chosen = self.template.landmarks.clone()
        chosen[:JAW_POINTS] = paths[torch.arange(JAW_POINTS), seen]
        return project(vertices[chosen.numpy()], face)

    def _shade(
        self, face: Face, vertices: np.ndarray, props: list[Prop], rays: int, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Display colours [N, 3] of the pixels of a rays x rays picture that hit something, and which [rays, rays]."""
        rotation, translation = face.viewmat[:3, :3], face.viewmat[:3, 3]
        origin = -rotation.T @ translation
        step = (np.arange(rays) + 0.5) * face.size / rays
        u, v = np.meshgrid((step - face.K[0, 2]) / face.K[0, 0], (step - face.K[1, 2]) / face.K[1, 1])
        toward = np.stack([u, v, np.ones_like(u)], -1).reshape(-1, 3)
        toward = (toward / np.linalg.norm(toward, axis=1, keepdims=True) @ rotation).astype(np.float32)
        faces, positions, normals, fields, kind = self._assemble(vertices, props)
        scene = rtcore_scene.EmbreeScene()
        TriangleMesh(scene, positions, faces)
        found = scene.run(np.tile(origin.astype(np.float32), (len(toward), 1)), toward, output=1)
        hit = found["primID"] >= 0
        triangle = found["primID"][hit]
        weight = np.stack([1 - found["u"] - found["v"], found["u"], found["v"]], 1)[hit, :, None]
        at = lambda values: (values[faces[triangle]] * weight).sum(1)  # noqa: E731
        normal, view = at(normals), -toward[hit]
        kind, fields = kind[triangle], at(fields)
        roughen = np.where(kind == HAIR, rng.uniform(0.2, 0.6), 0.02)[:, None]
        normal = normal + roughen * rng.normal(size=normal.shape)
        normal /= np.linalg.norm(normal, axis=1, keepdims=True) + 1e-9
        normal *= np.where((normal * view).sum(1, keepdims=True) < 0, -1, 1)
        place = origin + toward[hit] * found["tfar"][hit, None]
        texture = None if self.texture is None else self._wear(triangle, weight[..., 0])
        albedo = Painter(self.surface, rng).paint(kind, fields, texture)
        seen = Seen(place, normal, view, fields[:, FIELDS.index("occlusion")], kind)
        diffuse, specular = light(scene, seen, rotation, rng)
        return develop(albedo * diffuse + specular, rng), hit.reshape(rays, rays)

    def _wear(self, triangle: np.ndarray, weight: np.ndarray) -> np.ndarray:
        """The texture's colours [N, 3], linear, in triangles [N] at barycentric weights [N, 3]; black on props."""
        assert self.texture is not None
        color = np.zeros((len(triangle), 3), np.float32)
        own = triangle < len(self.template.faces)
        corners = self.template.uv.numpy()[self.template.faces_uv.numpy()[triangle[own]]]
        place = (corners * weight[own, :, None]).sum(1) * self.texture.shape[:2][::-1] - 0.5
        maps = place.astype(np.float32)[:, None]
        for rows in range(0, len(maps), _REMAP_ROWS):
            part = maps[rows : rows + _REMAP_ROWS]
            sampled = cv2.remap(self.texture, part, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
            color[np.flatnonzero(own)[rows : rows + _REMAP_ROWS]] = sampled[:, 0]
        return color

    def _assemble(self, vertices: np.ndarray, props: list[Prop]) -> tuple[np.ndarray, ...]:
        """One mesh from head and props: faces, positions, normals, fields, and the material name of each triangle."""
        faces, positions, fields = [self.surface.faces], [vertices], [self.surface.fields]
        normals = [vertex_normals(torch.from_numpy(vertices), self.template.faces).numpy()]
        kind = [np.array(self.surface.part_names)[self.surface.part].astype("<U16")]
        offset = len(vertices)
        for prop in props:
            faces.append(prop.faces + offset)
            positions.append(prop.vertices)
            fields.append(prop.fields)
            normals.append(vertex_normals(torch.from_numpy(prop.vertices), torch.from_numpy(prop.faces).long()).numpy())
            kind.append(np.full(len(prop.faces), prop.kind, "<U16"))
            offset += len(prop.vertices)
        return tuple(np.concatenate(part) for part in (faces, positions, normals, fields, kind))

    def _backdrop(self, size: int, rng: np.random.Generator) -> np.ndarray:
        choice = rng.random()
        if choice < 0.55:
            source = self.backdrops[rng.integers(len(self.backdrops))]
            height, width = source.shape[:2]
            side = int(rng.integers(60, min(height, width)))
            top, left = rng.integers(0, height - side + 1), rng.integers(0, width - side + 1)
            image = (
                cv2.resize(source[top : top + side, left : left + side], (size, size), interpolation=cv2.INTER_LINEAR)
                / 255.0
            )
            if rng.random() < 0.5:
                image = cv2.GaussianBlur(image, (0, 0), rng.uniform(1, 12))
            image = np.roll(image, rng.integers(0, 3), 2) * rng.uniform(0.3, 1.1) if rng.random() < 0.5 else image
        else:
            cells = (*rng.integers(1, 6, 2), 3)
            image = cv2.resize(rng.random(cells), (size, size), interpolation=cv2.INTER_CUBIC)
            if rng.random() < 0.5:
                image = image.mean(2, keepdims=True) * np.ones(3) * rng.uniform(0.6, 1.2, 3)
        return np.clip(image, 0, 1).reshape(size, size, 3)


def random_warp(rng: np.random.Generator) -> np.ndarray:
    """Waves [W, 7] that make a head another person's, wider than a template's identities: see `warped`."""
    short, long = np.log(_WAVE_LENGTHS)
    length = np.exp(rng.uniform(short, long, _WAVES))
    across = rng.normal(size=(_WAVES, 3))
    across *= (2 * np.pi / length / np.linalg.norm(across, axis=1))[:, None]
    height = rng.normal(size=(_WAVES, 3)) * _WAVE_HEIGHT * length[:, None]
    return np.concatenate([across, rng.uniform(0, 2 * np.pi, (_WAVES, 1)), height], 1)


def warped(waves: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Smooth displacements [N, 3] of points [N, 3] by waves [W, 7]: wave vector, phase, height; the same on both sides.

    What they move sideways fades within a centimetre of the middle, so that the halves do not part.
    """
    side = np.tanh(points[:, :1] / 0.01)
    mirrored = points * [1, 1, 1]
    mirrored[:, 0] = np.abs(mirrored[:, 0])
    moved = np.sin(mirrored @ waves[:, :3].T + waves[:, 3]) @ waves[:, 4:]
    moved[:, :1] *= side
    return moved.astype(np.float32)


def _check(template: HeadTemplate) -> None:
    if len(template.landmarks) != 68:
        raise ValueError(f"template: {template.name!r} has no landmarks, which label its pictures")
    if not template.speaks_arkit:
        raise ValueError(
            f"template: the channels of {template.name!r} are not ARKit's; see emogs.head.retarget.retarget"
        )
    for part in ("skin", "eye_left", "eye_right"):
        if part not in template.part_names:
            raise ValueError(f"template: {template.name!r} has no part {part!r}, got {', '.join(template.part_names)}")


def camera_at(target: np.ndarray, yaw: float, pitch: float, roll: float, distance: float) -> np.ndarray:
    """View matrix [4, 4] of a camera that sees a target [3] from a distance, the head turned (radians)."""
    cy, sy, cp, sp, cr, sr = np.cos(yaw), np.sin(yaw), np.cos(pitch), np.sin(pitch), np.cos(roll), np.sin(roll)
    turn = np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])
    turn = turn @ np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]]) @ np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    viewmat = np.eye(4)
    viewmat[:3, :3] = _FLIP @ turn
    viewmat[:3, 3] = -viewmat[:3, :3] @ target + [0, 0, distance]
    return viewmat


def project(points: np.ndarray, face: Face) -> np.ndarray:
    """Pixels [N, 2] of points [N, 3] in head space."""
    seen = (points @ face.viewmat[:3, :3].T + face.viewmat[:3, 3]) @ face.K.T
    return seen[:, :2] / seen[:, 2:]


def shard_path(folder: Path, shard: int, count: int, seed: int) -> Path:
    """The file of a shard, named by its pictures: the seed, the first number and the last."""
    return folder / f"faces-{seed}-{shard * count:06d}-{(shard + 1) * count - 1:06d}.npz"


def write_shard(renderer: FaceRenderer, folder: Path, shard: int, count: int, *, seed: int = 0) -> Path:
    """Renders `count` pictures into the file of `shard_path`, unless it exists.

    Its fields are `image`, `landmarks` and what `Face` says of each. The file is written whole or not at all, so a
    stopped run is continued by calling again.
    """
    path = shard_path(folder, shard, count, seed)
    if path.exists():
        return path
    pictures = []
    for index in range(shard * count, (shard + 1) * count):
        rng = np.random.default_rng([seed, index])
        pictures.append(renderer.render(renderer.random_face(rng), rng))
    return save_pictures(path, pictures)


def save_pictures(path: Path, pictures: list[Picture]) -> Path:
    """Writes pictures of one size and their labels as npz, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    labels: dict[str, Any] = {
        name: np.stack([getattr(picture.face, name) for picture in pictures])
        for name in ("identity", "expression", "warp", "viewmat", "K")
    }
    landmarks = np.stack([picture.landmarks for picture in pictures]).astype(np.float32)
    unfinished = path.with_suffix(".part")
    with unfinished.open("wb") as file:
        np.savez(file, image=np.stack([picture.image for picture in pictures]), landmarks=landmarks, **labels)
    return unfinished.rename(path)
