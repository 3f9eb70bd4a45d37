"""ICT-FaceKit Light (MIT) as a template, from the common npz. emogs ships none of its data."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from .template import ARKIT_NAMES, HeadTemplate

_PARTS = {
    "M_Face": "skin", "M_BackHead": "skin", "M_GumsTongue": "tongue", "M_Teeth": "teeth",
    "M_ScleraLeft": "eye_left", "M_IrisLeft": "eye_left", "M_ScleraRight": "eye_right", "M_IrisRight": "eye_right",
}  # fmt: skip
_PART_NAMES = ("skin", "eye_left", "eye_right", "teeth", "tongue")
_CENTIMETRE = 0.01


def load_ict(folder: str | Path) -> HeadTemplate:
    """Reads `ict_head.npz` and `vertex_indices.json` from a folder. Jaw and lids are linear here, as upstream's are."""
    folder = Path(folder)
    data = np.load(folder / "ict_head.npz", allow_pickle=False)
    indices = json.loads((folder / "vertex_indices.json").read_text())
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
        landmarks=torch.tensor(indices["idx_to_landmark_verts"]),
        rigid=torch.tensor(indices["idx_to_rigid_verts"]),
        identity=torch.from_numpy(data["identity"].astype(np.float32)) * _CENTIMETRE,
        identity_names=tuple(f"identity{i:03d}" for i in range(len(data["identity"]))),
        expression=_arkit(data) * _CENTIMETRE,
        albedo=torch.full((256, 256, 3), 0.6),
    )


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
