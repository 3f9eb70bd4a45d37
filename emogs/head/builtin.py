"""The head that comes with emogs: built from authored points at first use, no data file, no download."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial

import numpy as np
import torch
from torch import Tensor

from . import organs, paint
from .anatomy import landmark_vertices, regions_of
from .anthropometry import build_identity
from .cage import Cage, build_cage
from .expressions import build_expressions
from .joints import place_joints
from .regions import Regions
from .surface import Surface, subdivide
from .template import ARKIT_NAMES, HeadTemplate
from .unwrap import SIZE, place, skin_chart, socket_chart
from .uv import texel_map

_MILLIMETRE = 0.001
_PARTS = ("skin", "eye_left", "eye_right", "teeth_upper", "teeth_lower", "gums", "tongue", "mouth_socket")


@cache
@torch.inference_mode(False)
def builtin_head() -> HeadTemplate:
    """The built-in head with its expressions and identity directions; made once per process."""
    neutral, regions = neutral_head()
    expression, rotations = build_expressions(neutral.vertices, neutral.faces, neutral.landmarks, regions)
    identity, names = build_identity(neutral.vertices, neutral.faces, neutral.landmarks, regions)
    skeleton = place_joints(
        neutral.vertices,
        neutral.landmarks,
        rotations[0].weights,  # the jaw's
        (regions.part("eye_left").nonzero()[:, 0], regions.part("eye_right").nonzero()[:, 0]),
        ~regions.part("skin"),
    )
    return replace(
        neutral,
        expression=expression,
        rotations=rotations,
        identity=identity,
        identity_names=tuple(names),
        skeleton=skeleton,
    )


def neutral_head() -> tuple[HeadTemplate, Regions]:
    """The built-in head without expressions and identity directions, and its named vertices."""
    cage = build_cage()
    surface = subdivide(cage.quads, cage.mirror, cage.fine)
    mesh = _Assembly()
    mesh.add_skin(cage, surface)
    for name, organ in _organs().items():
        mesh.add_organ(name, organ)
    vertices, faces, face_part, mirror = (
        np.concatenate(a) for a in (mesh.vertices, mesh.faces, mesh.part, mesh.mirror)
    )
    vertex_part = np.zeros(len(vertices), np.int64)
    for part in reversed(range(len(_PARTS))):  # the skin keeps the vertices that it shares with the mouth socket
        vertex_part[faces[face_part == part]] = part
    rigid = _skull(vertices[: len(surface.used)])
    template = HeadTemplate(
        name="builtin",
        vertices=torch.from_numpy(vertices * _MILLIMETRE).float(),
        faces=torch.from_numpy(faces),
        uv=torch.from_numpy(np.concatenate(mesh.uv)).float(),
        faces_uv=torch.from_numpy(np.concatenate(mesh.faces_uv)),
        face_part=torch.from_numpy(face_part),
        part_names=_PARTS,
        landmarks=torch.from_numpy(landmark_vertices(cage, surface, vertices[: len(surface.used)])),
        rigid=torch.from_numpy(rigid),
        identity=torch.zeros(0, len(vertices), 3),
        identity_names=(),
        expression=torch.zeros(len(ARKIT_NAMES), len(vertices), 3),
        albedo=torch.zeros(SIZE, SIZE, 3),
    )
    regions = regions_of(cage, surface, mirror, vertex_part, _PARTS, rigid)
    return replace(template, albedo=_albedo(template, cage, surface)), regions


class _Assembly:
    """Collects the meshes that make up the head."""

    def __init__(self) -> None:
        self.vertices: list[np.ndarray] = []
        self.faces: list[np.ndarray] = []
        self.uv: list[np.ndarray] = []
        self.faces_uv: list[np.ndarray] = []
        self.part: list[np.ndarray] = []
        self.mirror: list[np.ndarray] = []

    def add_skin(self, cage: Cage, surface: Surface) -> None:
        points = surface.spread(cage.points)
        uv, faces_uv = _skin_texture(cage, surface)
        self.vertices.append(_symmetric(points, surface.mirror))
        self.faces.append(surface.triangles)
        self.uv.append(uv)
        self.faces_uv.append(faces_uv)
        self.part.append(np.where(cage.socket[surface.quad_of], _PARTS.index("mouth_socket"), _PARTS.index("skin")))
        self.mirror.append(surface.mirror)

    def add_organ(self, name: str, organ: organs.Organ) -> None:
        start = sum(map(len, self.vertices))
        swap = {"eye_left": len(organ.vertices), "eye_right": -len(organ.vertices)}.get(name, 0)
        self.faces.append(organ.faces + start)
        self.faces_uv.append(organ.faces + sum(map(len, self.uv)))
        self.vertices.append(organ.vertices)
        self.uv.append(place(organ.chart, name))
        self.part.append(np.full(len(organ.faces), _PARTS.index("gums" if name.startswith("gums") else name)))
        self.mirror.append(organ.mirror + start + swap)


def _organs() -> dict[str, organs.Organ]:
    return {
        "eye_left": organs.eyeball(1),
        "eye_right": organs.eyeball(-1),
        "teeth_upper": organs.teeth(upper=True),
        "teeth_lower": organs.teeth(upper=False),
        "gums_upper": organs.gums(upper=True),
        "gums_lower": organs.gums(upper=False),
        "tongue": organs.tongue(),
    }


def _symmetric(vertices: np.ndarray, mirror: np.ndarray) -> np.ndarray:
    """The left half and its exact mirror image; rounding made them differ in the last bits."""
    out = np.where((vertices[:, 0] < 0)[:, None], vertices[mirror] * [-1, 1, 1], vertices)
    return np.where((mirror == np.arange(len(mirror)))[:, None], out * [0, 1, 1], out)


def _skin_texture(cage: Cage, surface: Surface) -> tuple[np.ndarray, np.ndarray]:
    """Texture coordinates [T, 2] of skin and mouth socket and their triangles [F, 3].

    Both sides of a seam (skin | socket, and the midline of crown and back) get points of their own.
    """
    half = len(cage.quads) // 2
    left, socket = cage.quads[:half], cage.socket[:half]
    charts = np.concatenate([skin_chart(cage), socket_chart(cage)])
    in_use, left = np.unique(left + len(cage.points) * socket[:, None], return_inverse=True)
    left, charts = left.reshape(-1, 4), charts[in_use]
    centre = np.where(in_use < len(cage.points), 0.5, place(np.array([[0.5, 0.5]]), "mouth_socket")[0, 0])
    alone = charts[:, 0] != centre
    mirror = np.arange(len(charts))
    mirror[alone] = len(charts) + np.arange(alone.sum())
    quads = np.concatenate([left, mirror[left[:, [0, 3, 2, 1]]]])
    reflected = np.stack([2 * centre - charts[:, 0], charts[:, 1]], -1)[alone]
    mirror = np.concatenate([mirror, np.flatnonzero(alone)])
    chart = subdivide(quads, mirror, cage.fine, like=surface)
    return chart.smooth(np.concatenate([charts, reflected])), chart.triangles


def _skull(skin: np.ndarray) -> np.ndarray:
    """Vertices that no expression moves: the vault of the skull and the back of the head above the neck."""
    ear = np.abs(skin[:, 0]) > 79
    return np.flatnonzero((skin[:, 1] > 92) | ((skin[:, 2] < -8) & (skin[:, 1] > 10) & ~ear))


def _albedo(template: HeadTemplate, cage: Cage, surface: Surface) -> Tensor:
    """[S, S, 3] paint where there is a part, the nearest paint elsewhere."""
    texels = texel_map(template, SIZE)
    position = texels.interpolate(template.faces, template.vertices).double().numpy() / _MILLIMETRE
    part = template.face_part[texels.face].numpy()
    masks = torch.zeros(len(template.vertices), 3, dtype=torch.float64)
    masks[: len(surface.used)] = _masks(cage, surface)
    rings = texels.interpolate(template.faces, masks.float()).double().numpy()
    colour = np.zeros_like(position)
    painters: dict[str, Callable[[np.ndarray], np.ndarray]] = {
        "eye_left": paint.eyeball, "eye_right": paint.eyeball,
        "teeth_upper": partial(paint.teeth, upper=True), "teeth_lower": partial(paint.teeth, upper=False),
        "gums": paint.gum, "tongue": paint.tongue, "mouth_socket": paint.socket,
    }  # fmt: skip
    for i, name in enumerate(_PARTS):
        here = part == i
        colour[here] = paint.skin(position[here], rings[here]) if name == "skin" else painters[name](position[here])
    image = np.full((SIZE, SIZE, 3), np.nan)
    image[texels.row.numpy(), texels.column.numpy()] = colour
    return torch.from_numpy(np.clip(_spill(image), 0, 1)).float()


def _masks(cage: Cage, surface: Surface) -> Tensor:
    """[V, 3] smooth masks over the skin: red of the lips, edge of the lids, depth of the openings."""
    values = np.zeros((len(cage.points), 3))
    for column, ring, value in (
        (0, "vermilion", 0.55), (0, "lip_full", 1), (0, "lip_contact", 1), (0, "lip_inner", 1),
        (1, "lid_front", 0.7), (1, "lid_back", 1), (1, "lid_under", 1),
        (2, "nostril_deep", 1), (2, "nostril", 0.5), (2, "lid_under", 0.6), (2, "lip_inner", 0.6),
        (2, "scapha", 0.3), (2, "concha", 0.35), (2, "ear_canal", 0.7),
    ):  # fmt: skip
        values[cage.named[ring], column] = value
    values = np.maximum(values, values[cage.mirror])
    return torch.from_numpy(surface.smooth(values))


def _spill(image: np.ndarray) -> np.ndarray:
    """Grows the painted texels (the empty are nan) by four, so that filtering at a chart's border finds paint."""
    for _ in range(4):
        total, count = np.zeros_like(image), np.zeros_like(image)
        for axis, step in ((0, 1), (0, -1), (1, 1), (1, -1)):
            near = np.roll(image, step, axis)
            total += np.nan_to_num(near)
            count += np.isfinite(near)
        image = np.where(np.isnan(image) & (count > 0), total / np.maximum(count, 1), image)
    return np.where(np.isnan(image), paint.SKIN, image)
