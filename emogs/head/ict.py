"""ICT-FaceKit Light (MIT) as a template, from the common npz. emogs ships none of its data."""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch

from ..io.files import FormatError
from .template import ARKIT_NAMES, HeadTemplate

_PARTS = {
    "M_Face": "skin", "M_BackHead": "skin", "M_GumsTongue": "tongue", "M_Teeth": "teeth",
    "M_ScleraLeft": "eye_left", "M_IrisLeft": "eye_left", "M_ScleraRight": "eye_right", "M_IrisRight": "eye_right",
}  # fmt: skip
_PART_NAMES = ("skin", "eye_left", "eye_right", "teeth", "tongue")
_CENTIMETRE = 0.01
_FIELDS = (
    "neutral", "faces", "uv", "faces_uv", "face_material", "material_names", "expression", "expression_names",
    "identity",
)  # fmt: skip


def load_ict(folder: str | Path) -> HeadTemplate:
    """Reads `ict_head.npz` and `vertex_indices.json` from a folder. Jaw and lids are linear here, as upstream's are.

    Raises:
        emogs.io.FormatError: a file is missing, damaged, or lacks a field.
    """
    folder = Path(folder)
    with _reading(folder / "ict_head.npz") as path, np.load(path, allow_pickle=False) as file:
        data = {name: file[name] for name in _FIELDS}
    with _reading(folder / "vertex_indices.json") as path:
        indices = json.loads(path.read_text())
        landmarks, rigid = (torch.tensor(indices[f"idx_to_{name}_verts"]) for name in ("landmark", "rigid"))
    materials = [str(name) for name in data["material_names"]]
    part = np.array([_PART_NAMES.index(_PARTS[m]) if m in _PARTS else -1 for m in materials])[data["face_material"]]
    keep = part >= 0
    uv = torch.from_numpy(data["uv"].astype(np.float32))
    return HeadTemplate(
        name="ict",
        vertices=torch.from_numpy(data["neutral"].astype(np.float32)) * _CENTIMETRE,
        faces=torch.from_numpy(data["faces"][keep].astype(np.int64)),
        uv=torch.stack([uv[:, 0], 1 - uv[:, 1]], 1),
        faces_uv=torch.from_numpy(data["faces_uv"][keep].astype(np.int64)),
        face_part=torch.from_numpy(part[keep].astype(np.int64)),
        part_names=_PART_NAMES,
        landmarks=landmarks,
        rigid=rigid,
        identity=torch.from_numpy(data["identity"].astype(np.float32)) * _CENTIMETRE,
        identity_names=tuple(f"identity{i:03d}" for i in range(len(data["identity"]))),
        expression=_arkit(data) * _CENTIMETRE,
        albedo=torch.full((256, 256, 3), 0.6),
    )


@contextmanager
def _reading(path: Path) -> Iterator[Path]:
    """Whatever goes wrong with a file's bytes, said as a FormatError."""
    try:
        yield path
    except OSError as error:
        raise FormatError(path, "file", error.strerror or str(error)) from None
    except KeyError as error:
        raise FormatError(path, str(error.args[0]), "missing") from None
    except (ValueError, TypeError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise FormatError(path, "file", f"not readable: {error}") from None


def _arkit(data: Mapping[str, np.ndarray]) -> torch.Tensor:
    """[52, V, 3]: ICT's shapes under ARKit's names; shapes that ICT splits into sides are put together again."""
    names = [str(name) for name in data["expression_names"]]
    out = np.zeros((len(ARKIT_NAMES), *data["neutral"].shape), np.float32)
    for name, delta in zip(names, data["expression"], strict=True):
        arkit = name.replace("_L", "Left").replace("_R", "Right")
        whole = arkit.removesuffix("Left").removesuffix("Right")
        for candidate in (arkit, whole):
            if candidate in ARKIT_NAMES:
                out[ARKIT_NAMES.index(candidate)] += delta
                break
    return torch.from_numpy(out)
