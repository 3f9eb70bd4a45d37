"""Any template as one npz file: named arrays, no pickles, every one checked when it is read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..io.files import replacing
from .fields import Fields, read_npz
from .skeleton import Skeleton
from .template import HeadTemplate, Rotation

FORMAT = "emogs-template-1"


def save_template(template: HeadTemplate, path: str | Path) -> None:
    """Writes a template's npz, compressed; `load_template` reads it back exactly. The file is replaced as a whole."""
    arrays: dict[str, Any] = {"format": np.array([FORMAT]), "name": np.array([template.name])}
    for name in ("part_names", "identity_names", "expression_names"):
        arrays[name] = np.array(getattr(template, name), dtype=np.str_)
    for name in (
        "vertices",
        "faces",
        "uv",
        "faces_uv",
        "face_part",
        "landmarks",
        "rigid",
        "identity",
        "expression",
        "albedo",
    ):
        arrays[name] = _stored(getattr(template, name))
    if template.rotations:
        for name in ("angles", "axis", "pivot", "weights"):
            arrays[f"rotations.{name}"] = _stored(torch.stack([getattr(turn, name) for turn in template.rotations]))
    if template.skeleton:
        skeleton = template.skeleton
        arrays["skeleton.names"] = np.array(skeleton.names, dtype=np.str_)
        for name in ("parents", "regressor", "weights", "driven", "correctives"):
            value = getattr(skeleton, name)
            if value is not None:
                arrays[f"skeleton.{name}"] = _stored(value)
    with replacing(path) as partial, partial.open("wb") as file:
        np.savez_compressed(file, **arrays)


def read_template(fields: Fields) -> HeadTemplate:
    """A template from the arrays of its npz.

    Raises:
        emogs.io.FormatError: an array is missing or not what its place asks for.
    """
    found = fields.names("format", 1)[0]
    if found != FORMAT:
        fields.fail("format", repr(FORMAT), repr(found))
    count, triangles = fields.rows("vertices"), fields.rows("faces")
    corners, channels = fields.rows("uv"), fields.rows("expression")
    parts = fields.names("part_names")
    landmarks = fields.indices("landmarks", None, below=count)
    if len(landmarks) not in (0, 68):
        fields.fail("landmarks", "68 vertices or none", len(landmarks))
    size = fields.rows("albedo")
    return HeadTemplate(
        name=fields.names("name", 1)[0],
        vertices=fields.floats("vertices", count, 3),
        faces=fields.indices("faces", triangles, 3, below=count),
        uv=fields.floats("uv", corners, 2),
        faces_uv=fields.indices("faces_uv", triangles, 3, below=corners),
        face_part=fields.indices("face_part", triangles, below=len(parts)),
        part_names=parts,
        landmarks=landmarks,
        rigid=fields.indices("rigid", None, below=count),
        identity=fields.floats("identity", None, count, 3),
        identity_names=fields.names("identity_names", fields.rows("identity")),
        expression=fields.floats("expression", channels, count, 3),
        expression_names=fields.names("expression_names", channels),
        albedo=fields.floats("albedo", size, size, 3),
        rotations=_rotations(fields, count, channels),
        skeleton=_skeleton(fields, count, channels),
    )


def read_template_npz(path: str | Path) -> HeadTemplate:
    """`read_template` of a file."""
    return read_template(read_npz(path))


def _stored(value: Tensor) -> NDArray[Any]:
    array = value.detach().cpu().numpy()
    return array.astype(np.int32) if array.dtype == np.int64 else array


def _rotations(fields: Fields, count: int, channels: int) -> tuple[Rotation, ...]:
    if "rotations.angles" not in fields:
        return ()
    hinges = fields.rows("rotations.angles")
    shapes = {"angles": channels, "axis": 3, "pivot": count, "weights": count}
    read = {name: fields.floats(f"rotations.{name}", hinges, size) for name, size in shapes.items()}
    return tuple(Rotation(**{name: rows[i] for name, rows in read.items()}) for i in range(hinges))


def _skeleton(fields: Fields, count: int, channels: int) -> Skeleton | None:
    if "skeleton.names" not in fields:
        return None
    names = fields.names("skeleton.names")
    parents = fields.whole("skeleton.parents", len(names))
    if (parents < -1).any() or (parents >= torch.arange(len(names))).any():
        fields.fail("skeleton.parents", "-1 or an earlier joint for each", str(parents.tolist()))

    def optional(name: str, *shape: int) -> Tensor | None:
        return fields.floats(name, *shape) if name in fields else None

    return Skeleton(
        names=names,
        parents=parents,
        regressor=fields.floats("skeleton.regressor", len(names), count),
        weights=fields.floats("skeleton.weights", count, len(names)),
        driven=optional("skeleton.driven", channels, len(names), 3),
        correctives=optional("skeleton.correctives", 9 * (len(names) - 1), count, 3),
    )
