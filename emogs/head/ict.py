"""ICT-FaceKit Light (Li et al. 2020, MIT) as a template: upstream's folder of OBJ files, or an npz. Neither is shipped.

Shapes that upstream splits into sides are put together where ARKit has one (`browInnerUp`, `cheekPuff`), `_L` and `_R`
become Left and Right, correctives (`mouthClose`, made to be worn with `jawOpen`) keep their meaning. Lashes, tear film
and eye occlusion are left out: they are cards for a game engine's shaders. Upstream's materials have a texture each,
their coordinates one over the other or a tile further right: here they share one texture.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..io.files import FormatError
from ..io.text import parse_json, read_text
from .fields import Fields, read_npz, reading
from .hinges import hinge_expressions, lower_teeth_of
from .joints import place_joints
from .template import ARKIT_NAMES, HeadTemplate
from .wavefront import read_positions, read_wavefront

_PARTS = {
    "M_Face": "skin", "M_BackHead": "skin", "M_GumsTongue": "tongue", "M_Teeth": "teeth",
    "M_ScleraLeft": "eye_left", "M_IrisLeft": "eye_left", "M_ScleraRight": "eye_right", "M_IrisRight": "eye_right",
}  # fmt: skip
_CELLS = {
    "M_Face": (0.0, 0.0, 0.75), "M_BackHead": (0.75, 0.0, 0.25), "M_GumsTongue": (0.75, 0.25, 0.25),
    "M_Teeth": (0.75, 0.5, 0.25), "M_ScleraLeft": (0.0, 0.75, 0.25), "M_IrisLeft": (0.25, 0.75, 0.25),
    "M_ScleraRight": (0.5, 0.75, 0.25), "M_IrisRight": (0.75, 0.75, 0.25),
}  # fmt: skip
"""Left, top and side of each material's square in the texture; the face gets nine times the area of another."""
_MARGIN = 0.02
"""Of a square's side, on each side: filtering at a border must not find the neighbour."""
_PART_NAMES = ("skin", "eye_left", "eye_right", "teeth", "tongue")
_CENTIMETRE = 0.01
_NEUTRAL, _INDICES, _NPZ = "generic_neutral_mesh.obj", "vertex_indices.json", "ict_head.npz"
_FIELDS = (
    "neutral", "faces", "uv", "faces_uv", "face_material", "material_names", "expression", "expression_names",
    "identity",
)  # fmt: skip


def load_ict(folder: str | Path) -> HeadTemplate:
    """Reads `vertex_indices.json` and, from the same folder, `ict_head.npz` or upstream's OBJ files.

    Upstream's folder (FaceXModel) holds `generic_neutral_mesh.obj`, `identity000.obj` and so on, and one OBJ for each
    expression that `vertex_indices.json` lists. Jaw, eyeballs and lids turn, and arrive where upstream's straight
    shapes do.

    Raises:
        emogs.io.FormatError: a file is missing, damaged, or lacks a field.
    """
    folder = Path(folder)
    if folder.is_dir() and not any((folder / name).exists() for name in (_NEUTRAL, _NPZ)):
        raise FormatError(folder, "folder", f"expected {_NEUTRAL} or {_NPZ} of ICT-FaceKit, found neither")
    fields = _read_folder(folder) if (folder / _NEUTRAL).exists() else read_npz(folder / _NPZ, _FIELDS.__contains__)
    count, triangles, corners = fields.rows("neutral"), fields.rows("faces"), fields.rows("uv")
    shapes, people = fields.rows("expression"), fields.rows("identity")
    materials = fields.names("material_names")
    material = fields.indices("face_material", triangles, below=len(materials))
    part = torch.tensor([_PART_NAMES.index(_PARTS[m]) if m in _PARTS else -1 for m in materials])[material]
    kept = part >= 0
    if not kept.any():
        fields.fail("material_names", f"some of {', '.join(_PARTS)}", ", ".join(materials))
    faces = fields.indices("faces", triangles, 3, below=count)[kept]
    used = int(faces.max()) + 1  # what is left out comes last
    uv, faces_uv = _one_texture(
        fields.floats("uv", corners, 2),
        fields.indices("faces_uv", triangles, 3, below=corners)[kept],
        torch.tensor([list(_CELLS).index(m) if m in _CELLS else -1 for m in materials])[material][kept],
    )
    landmarks, rigid = _index_lists(folder / _INDICES, used)
    template = HeadTemplate(
        name="ict",
        vertices=fields.floats("neutral", count, 3)[:used] * _CENTIMETRE,
        faces=faces,
        uv=uv,
        faces_uv=faces_uv,
        face_part=part[kept],
        part_names=_PART_NAMES,
        landmarks=landmarks,
        rigid=rigid,
        identity=fields.floats("identity", people, count, 3)[:, :used] * _CENTIMETRE,
        identity_names=tuple(f"identity{i:03d}" for i in range(people)),
        expression=_arkit(
            fields.floats("expression", shapes, count, 3)[:, :used], fields.names("expression_names", shapes)
        )
        * _CENTIMETRE,
        albedo=torch.full((256, 256, 3), 0.6),
    )
    return _turning(template)


def _one_texture(uv: Tensor, faces_uv: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
    """Upstream's coordinates uv [T, 2] (v upwards) and triangles [F, 3] over them, in the squares [F] of one texture.

    A material that fills more than a tile is drawn smaller. What two materials share is there twice.
    """
    keys, triangles = torch.unique(faces_uv + len(uv) * cell[:, None], return_inverse=True)
    places, owner = uv[keys % len(uv)] * torch.tensor([1.0, -1.0]), keys // len(uv)
    out = torch.zeros_like(places)
    for index, (left, top, side) in enumerate(_CELLS.values()):
        here = owner == index
        if here.any():
            tile = places[here].amin(0).floor()
            inside = (places[here] - tile) / (places[here] - tile).amax().clamp_min(1)
            out[here] = torch.tensor([left, top]) + side * (_MARGIN + (1 - 2 * _MARGIN) * inside)
    return out, triangles


def _turning(template: HeadTemplate) -> HeadTemplate:
    """Upstream's shapes are straight; jaw, eyeballs and lids turn instead and arrive at the same places."""
    part = {name: template.faces[template.face_part == i].unique() for i, name in enumerate(template.part_names)}
    skin = torch.zeros(len(template.vertices), dtype=torch.bool)
    skin[part["skin"]] = True
    balls = (part["eye_left"], part["eye_right"])
    if not all(map(len, balls)):
        return template
    opened = template.expression[template.channel("jawOpen")]
    teeth = lower_teeth_of(part["teeth"], opened)
    hinged = hinge_expressions(template.vertices, template.expression, teeth, balls, skin)
    return replace(
        template,
        expression=hinged.expression,
        rotations=hinged.rotations,
        skeleton=place_joints(template.vertices, template.landmarks, hinged.jaw, balls, ~skin),
    )


def _read_folder(folder: Path) -> Fields:
    """Upstream's OBJ files as the arrays that the npz has."""
    neutral = read_wavefront(folder / _NEUTRAL)
    if (neutral.faces_uv < 0).any():
        raise FormatError(folder / _NEUTRAL, "f", "expected texture coordinates at every corner, got some without")
    people = sorted(folder.glob("identity[0-9]*.obj"))
    if not people:
        raise FormatError(folder, "identity000.obj", "missing; expected a file for each identity direction")
    listed = _index_file(folder / _INDICES).get("expressions")
    if not isinstance(listed, list) or not listed or not all(isinstance(n, str) and len(n) < 100 for n in listed):
        raise FormatError(folder / _INDICES, "expressions", "expected a list of names")

    def deltas(paths: list[Path]) -> np.ndarray:
        out = np.zeros((len(paths), *neutral.vertices.shape), np.float32)
        for place, path in zip(out, paths, strict=True):
            positions = read_positions(path)
            if positions.shape != neutral.vertices.shape:
                raise FormatError(path, "v", f"expected {len(neutral.vertices)} vertices, got {len(positions)}")
            place[...] = positions - neutral.vertices
        return out

    return Fields(
        folder / _NEUTRAL,
        {
            "neutral": neutral.vertices,
            "faces": neutral.faces,
            "uv": neutral.uv,
            "faces_uv": neutral.faces_uv,
            "face_material": neutral.material,
            "material_names": np.array(neutral.material_names, np.str_),
            "expression": deltas([folder / f"{Path(name).name}.obj" for name in listed]),
            "expression_names": np.array(listed, np.str_),
            "identity": deltas(people),
        },
    )


def _index_file(path: Path) -> dict[str, object]:
    with reading(path):
        content = parse_json(path, read_text(path))
    if not isinstance(content, dict):
        raise FormatError(path, "file", f"expected an object of lists, got {type(content).__name__}")
    return content


def _index_lists(path: Path, count: int) -> tuple[Tensor, Tensor]:
    """The 68 landmarks and the vertices of the skull."""
    lists = {}
    for name, size in (("idx_to_landmark_verts", 68), ("idx_to_rigid_verts", None)):
        content = _index_file(path)
        if name not in content:
            raise FormatError(path, name, "missing")
        with reading(path):
            lists[name] = Fields(path, {name: np.array(content[name], np.float64)}).indices(name, size, below=count)
    return lists["idx_to_landmark_verts"], lists["idx_to_rigid_verts"]


def _arkit(shapes: Tensor, names: tuple[str, ...]) -> Tensor:
    """[52, V, 3]: ICT's shapes under ARKit's names; shapes that ICT splits into sides are put together again."""
    out = torch.zeros(len(ARKIT_NAMES), *shapes.shape[1:])
    for name, delta in zip(names, shapes, strict=True):
        arkit = name.replace("_L", "Left").replace("_R", "Right")
        whole = arkit.removesuffix("Left").removesuffix("Right")
        for candidate in (arkit, whole):
            if candidate in ARKIT_NAMES:
                out[ARKIT_NAMES.index(candidate)] += delta
                break
    return out
