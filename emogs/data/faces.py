"""Labelled synthetic faces: any head template, ray cast in random guise, with its 68 landmarks.

A face is drawn in two steps: `random_face` chooses what is known afterwards (identity, expression, camera), and
`FaceRenderer.render` dresses, lights and photographs it. The same seed gives the same picture. Shards are plain npy
files, so a stopped run continues where it was. The light is linear until the last step; rays are 1.5 x 1.5 to a pixel.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import skimage.data
import torch
from embreex import rtcore_scene
from embreex.mesh_construction import TriangleMesh

from emogs.data.face_paint import Painter
from emogs.data.face_props import CLOTH, HAIR, HairGrid, Prop, clothes, glasses
from emogs.data.face_surface import FIELDS, survey
from emogs.head.mesh import vertex_normals
from emogs.head.template import ARKIT_NAMES, HeadTemplate
from emogs.photo.contour import JAW_POINTS, jaw_contour

_BACKDROPS = ("coffee", "chelsea", "rocket", "hubble_deep_field", "grass", "gravel", "brick", "retina", "camera")
_SUPERSAMPLE = 1.5
_FLIP = np.diag([1.0, -1.0, -1.0])
"""Head space (y up, z to the viewer) to OpenCV camera axes (y down, z away)."""

EXPRESSIONS = {
    "happy": {
        "mouthSmile": 1,
        "cheekSquint": 0.8,
        "mouthUpperUp": 0.6,
        "mouthLowerDown": 0.5,
        "jawOpen": 0.3,
        "eyeSquint": 0.4,
    },
    "sad": {"browInnerUp": 1, "browDown": 0.3, "mouthFrown": 0.9, "mouthShrugLower": 0.4, "eyeLookDown": 0.3},
    "surprise": {"browInnerUp": 1, "browOuterUp": 1, "eyeWide": 0.9, "jawOpen": 0.6},
    "fear": {
        "browInnerUp": 1,
        "browOuterUp": 0.4,
        "browDown": 0.4,
        "eyeWide": 0.9,
        "mouthStretch": 0.8,
        "jawOpen": 0.4,
    },
    "anger": {
        "browDown": 1,
        "eyeSquint": 0.6,
        "mouthPress": 0.6,
        "noseSneer": 0.5,
        "mouthRollLower": 0.3,
        "jawForward": 0.3,
    },
    "disgust": {"noseSneer": 1, "mouthUpperUp": 0.7, "mouthFrown": 0.5, "browDown": 0.5, "eyeSquint": 0.5},
    "speech": {
        "jawOpen": 0.5,
        "mouthFunnel": 0.5,
        "mouthPucker": 0.4,
        "mouthUpperUp": 0.3,
        "mouthLowerDown": 0.4,
        "mouthClose": 0.3,
    },
    "kiss": {"mouthPucker": 1, "mouthFunnel": 0.3},
    "yawn": {"jawOpen": 1, "eyeSquint": 0.8, "mouthStretch": 0.3},
}
"""What faces do together; each channel is scaled at random, so the table says direction and not strength."""


@dataclass(frozen=True)
class Face:
    """What is known about a picture: the truth that a landmark network or a fit is judged by."""

    identity: np.ndarray  # [I] standard deviations
    expression: np.ndarray  # [52] ARKit values
    viewmat: np.ndarray  # [4, 4] head space to OpenCV camera, metres
    K: np.ndarray  # [3, 3] pixels
    size: int  # the picture is size x size


@dataclass(frozen=True)
class Picture:
    """A rendered face and its labels."""

    face: Face
    image: np.ndarray  # [S, S, 3] uint8
    landmarks: np.ndarray  # [68, 2] pixels, pixel centres at +0.5; the jaw follows the visible contour


class FaceRenderer:
    """Renders random guises of one template's faces. Setting up takes a few seconds, a picture about 0.1 s."""

    def __init__(self, template: HeadTemplate):
        self.template = template
        self.surface = survey(template)
        self.contour = jaw_contour(template)
        self.hair = HairGrid(template, self.surface)
        backdrops = [getattr(skimage.data, name)() for name in _BACKDROPS]
        self.backdrops = [cv2.cvtColor(b, cv2.COLOR_GRAY2RGB) if b.ndim == 2 else b[..., :3] for b in backdrops]

    def random_face(self, rng: np.random.Generator, size: int = 144, zoom: float = 1.75) -> Face:
        """A random identity, expression and camera; the landmarks' box fills about 1 / zoom of the picture."""
        identity = (
            rng.normal(size=len(self.template.identity))
            * rng.uniform(0.5, 1.3)
            * (rng.random(len(self.template.identity)) < 0.7)
        )
        expression = random_expression(rng)
        yaw, pitch, roll = np.clip(rng.normal(size=3) * [0.36, 0.18, 0.14], [-1.05, -0.6, -0.5], [1.05, 0.6, 0.5])
        distance = np.exp(rng.uniform(np.log(0.35), np.log(2.5)))
        viewmat = camera_at(self.surface.landmarks[27:36].mean(0), yaw, pitch, roll, distance)
        face = Face(identity, expression, viewmat, np.diag([distance, distance, 1.0]), size)
        flat = self._landmarks(face, self._vertices(face))
        low, high = flat.min(0), flat.max(0)
        extent = (high - low).max() * zoom * np.exp(rng.uniform(-0.12, 0.12))
        middle = (low + high) / 2 + rng.uniform(-0.06, 0.06, 2) * extent
        focal = distance * size / extent
        K = np.array(
            [
                [focal, 0, size / 2 - middle[0] * size / extent],
                [0, focal, size / 2 - middle[1] * size / extent],
                [0, 0, 1],
            ]
        )
        return Face(identity, expression, viewmat, K, size)

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
            return self.template.deform(*known)[0].numpy()

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
        albedo = Painter(self.surface, rng).paint(kind, fields)
        seen = _Seen(place, normal, view, fields[:, FIELDS.index("occlusion")], kind)
        diffuse, specular = _light(scene, seen, rotation, rng)
        return _develop(albedo * diffuse + specular, rng), hit.reshape(rays, rays)

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


def random_expression(rng: np.random.Generator) -> np.ndarray:
    """ARKit values [52]: an emotion-like pattern, a few random channels, gaze and blinks, now and then nothing."""
    value = np.zeros(len(ARKIT_NAMES))
    if rng.random() < 0.12:
        return value
    if rng.random() < 0.7:
        pattern = list(EXPRESSIONS.values())[
            rng.choice(len(EXPRESSIONS), p=np.array([4, 1, 1.5, 1, 1.5, 1, 3, 1, 0.5]) / 14.5)
        ]
        strength, lean = rng.uniform(0.2, 1.2), rng.normal() * 0.15
        for name, amount in pattern.items():
            _add(value, name, strength * amount * rng.uniform(0.3, 1.3), lean)
    if rng.random() < 0.6:
        for name in rng.choice(ARKIT_NAMES, rng.integers(1, 6), replace=False):
            both = name.replace("Left", "").replace("Right", "") if rng.random() < 0.6 and "Look" not in name else name
            _add(value, both, rng.random() ** 1.5, 0.0)
    if rng.random() < 0.2:
        _add(value, "eyeBlink", rng.choice([1.0, rng.random()]), 0.0)
    if rng.random() < 0.6:
        right, up = rng.normal(size=2) * 0.35
        for name, amount in (
            ("eyeLookOutRight", right),
            ("eyeLookInLeft", right),
            ("eyeLookInRight", -right),
            ("eyeLookOutLeft", -right),
        ):
            _add(value, name, max(amount, 0), 0.0)
        _add(value, "eyeLookUp" if up > 0 else "eyeLookDown", abs(up), 0.0)
    value = np.clip(value, 0, 1)
    value[ARKIT_NAMES.index("mouthClose")] *= value[ARKIT_NAMES.index("jawOpen")]
    return value


def _add(value: np.ndarray, name: str, amount: float, lean: float) -> None:
    """Adds to a channel, or to both its sides with a lean towards the left."""
    if name in ARKIT_NAMES:
        value[ARKIT_NAMES.index(name)] += amount
        return
    for side, share in (("Left", 1 + lean), ("Right", 1 - lean)):
        if name + side in ARKIT_NAMES:
            value[ARKIT_NAMES.index(name + side)] += amount * share


@dataclass(frozen=True)
class _Seen:
    """The N points that rays met, in head space."""

    place: np.ndarray  # [N, 3]
    normal: np.ndarray  # [N, 3] towards the camera's side
    view: np.ndarray  # [N, 3] unit, towards the camera
    occlusion: np.ndarray  # [N]
    kind: np.ndarray  # [N] material names


def _light(
    scene: rtcore_scene.EmbreeScene, seen: _Seen, rotation: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """What falls on each pixel: (diffuse [N, 3] to multiply with the albedo, specular [N, 3] to add)."""
    sky = rng.normal(size=3)
    sky = rotation.T @ (sky / np.linalg.norm(sky))
    warm = np.exp(rng.normal(size=3) * 0.1)
    closed = 1 - rng.uniform(0.6, 1) * (1 - seen.occlusion[:, None])
    ambient = np.clip(1 + rng.uniform(0, 0.7) * (seen.normal @ sky), 0.1, None) * rng.uniform(0.15, 0.8)
    diffuse = ambient[:, None] * warm * closed
    specular = np.zeros_like(diffuse)
    oily, power = rng.uniform(0, 0.12), rng.uniform(6, 50)
    gloss = np.where(np.char.startswith(seen.kind, "eye"), 0.8, np.where(seen.kind == CLOTH, 0.01, oily))[:, None]
    for lamp in range(rng.integers(1, 4)):
        direction = rng.normal(size=3) * [1, 0.8, 0.6] + [0, -0.35, -0.5]  # camera axes: from above and in front
        direction /= np.linalg.norm(direction)
        color = np.exp(rng.normal(size=3) * 0.12) * rng.uniform(0.2, 1.1) * (1 if lamp == 0 else 0.5)
        soft = rng.uniform(0.02, 0.35)
        rays = direction @ rotation + soft * rng.normal(size=seen.place.shape) * 0.5
        rays /= np.linalg.norm(rays, axis=1, keepdims=True)
        lit = np.ones(len(seen.place))
        if lamp == 0 and rng.random() < 0.65:
            start = seen.place + 1e-3 * seen.normal
            hidden = scene.run(start.astype(np.float32), rays.astype(np.float32), query="OCCLUDED") >= 0
            lit = np.where(hidden, rng.uniform(0, 0.3), rng.uniform(0.7, 1))
        facing = (seen.normal * (direction @ rotation)).sum(1)
        wrap = rng.uniform(0, 0.3) * np.array([1.0, 0.5, 0.4])  # light bleeds through skin, red farthest
        diffuse += np.clip((facing[:, None] + wrap) / (1 + wrap), 0, None) * lit[:, None] * color * np.sqrt(closed)
        half = rays + seen.view
        half /= np.linalg.norm(half, axis=1, keepdims=True) + 1e-9
        sharp = np.clip((seen.normal * half).sum(1), 0, 1) ** np.where(gloss[:, 0] > 0.5, 150, power)
        specular += gloss * (sharp * lit * (facing > 0))[:, None] * color * 4
    return diffuse, specular


def _develop(linear: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Exposure, a film-like shoulder and gamma: linear light [N, 3] to display values in [0, 1]."""
    middle = np.median(linear) + 1e-4
    linear = linear * (rng.uniform(0.08, 0.45) / middle) ** rng.uniform(0.4, 1)
    linear = linear * (1 + linear * 0.1) / (1 + linear * 0.35)
    return np.clip(linear, 0, 1) ** (1 / 2.2)


def write_shard(renderer: FaceRenderer, folder: Path, shard: int, count: int, *, seed: int = 0) -> Path:
    """Renders `count` pictures into folder/faces-NNN.npz (image, landmarks, expression, viewmat, K), unless it exists.

    The file is written whole or not at all, so a stopped run is continued by calling again.
    """
    path = folder / f"faces-{shard:03d}.npz"
    if path.exists():
        return path
    folder.mkdir(parents=True, exist_ok=True)
    pictures = []
    for index in range(shard * count, (shard + 1) * count):
        rng = np.random.default_rng([seed, index])
        pictures.append(renderer.render(renderer.random_face(rng), rng))
    unfinished = path.with_suffix(".part")
    with unfinished.open("wb") as file:
        np.savez(
            file,
            image=np.stack([p.image for p in pictures]),
            landmarks=np.stack([p.landmarks for p in pictures]).astype(np.float32),
            expression=np.stack([p.face.expression for p in pictures]).astype(np.float32),
            viewmat=np.stack([p.face.viewmat for p in pictures]),
            K=np.stack([p.face.K for p in pictures]),
        )
    return unfinished.rename(path)
