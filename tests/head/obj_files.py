"""ICT-FaceKit's folder of OBJ files, written from the npz of the test data, and a tiny one from nothing."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch

_LASHES = 2128
"""Vertices of upstream's tear film, occlusion and lashes, which come last and which the npz leaves out."""
_TINY_SHAPES = ("browInnerUp_L", "browInnerUp_R", "mouthSmile_L", "mouthSmile_R", "mouthClose", "PupilDilate_L")


def obj_text(vertices: np.ndarray, uv: np.ndarray, polygons: list[tuple[str, list[tuple[int, int]]]]) -> str:
    """An OBJ's text from (material, [(vertex, texture coordinate), ...])."""
    lines = [f"v {x:.7g} {y:.7g} {z:.7g}" for x, y, z in vertices.tolist()]
    lines += [f"vt {u:.7g} {v:.7g}" for u, v in uv.tolist()]
    material = None
    for name, corners in polygons:
        if name != material:
            lines += [f"g group_of_{name}", f"usemtl {name}"]
            material = name
        lines.append("f " + " ".join(f"{v + 1}/{t + 1}" for v, t in corners))
    return "\n".join(lines) + "\n"


def ict_obj_folder(folder: Path, source: Path, people: int, shapes: list[str]) -> None:
    """Upstream's layout with some of its directions; pairs of triangles that came from one quad become it again."""
    with np.load(source / "ict_head.npz") as file:
        data = dict(file)
    neutral = np.concatenate([data["neutral"], np.full((_LASHES, 3), 7.0, np.float32)])
    polygons = _quads(data)
    lash = len(data["neutral"])
    polygons += [("M_EyeLashes", [(lash, 0), (lash + 1, 0), (lash + 2, 0)])]
    (folder / "generic_neutral_mesh.obj").write_text(obj_text(neutral, data["uv"], polygons))
    for names, deltas in (
        ([f"identity{i:03d}" for i in range(people)], data["identity"][:people]),
        (shapes, data["expression"][[data["expression_names"].tolist().index(name) for name in shapes]]),
    ):
        for name, delta in zip(names, deltas, strict=True):
            moved = neutral.copy()
            moved[: len(delta)] += delta.astype(np.float32)
            (folder / f"{name}.obj").write_text(obj_text(moved, data["uv"][:0], []))
    indices = json.loads((source / "vertex_indices.json").read_text())
    indices["expressions"] = shapes
    (folder / "vertex_indices.json").write_text(json.dumps(indices))


def _quads(data: dict[str, np.ndarray]) -> list[tuple[str, list[tuple[int, int]]]]:
    names, material = data["material_names"].tolist(), data["face_material"].tolist()
    corners = np.stack([data["faces"], data["faces_uv"]], -1).tolist()
    polygons, i = [], 0
    while i < len(corners):
        polygon = [tuple(corner) for corner in corners[i]]
        same = i + 1 < len(corners) and material[i] == material[i + 1]
        if same and corners[i + 1][:2] == [corners[i][0], corners[i][2]]:
            polygon.append(tuple(corners[i + 1][2]))
            i += 1
        polygons.append((names[material[i]], polygon))
        i += 1
    return polygons


def tiny_ict_folder(folder: Path) -> dict[str, torch.Tensor]:
    """Twelve vertices, two quads of skin, two triangles of eyes; returns what each shape adds, metres."""
    rng = np.random.default_rng(5)
    neutral = rng.normal(size=(12, 3)).astype(np.float32).round(3)
    neutral[0, 0] = 0.1
    uv = rng.random((12, 2)).round(3)
    polygons = [
        ("M_Face", [(0, 0), (1, 1), (2, 2), (3, 3)]),
        ("M_BackHead", [(3, 3), (4, 4), (5, 5), (6, 6)]),
        ("M_ScleraLeft", [(6, 6), (7, 7), (8, 8)]),
        ("M_IrisRight", [(9, 9), (10, 10), (11, 11)]),
    ]
    (folder / "generic_neutral_mesh.obj").write_text(obj_text(neutral, uv, polygons))
    moved = {}
    for name in (*_TINY_SHAPES, "identity000", "identity001"):
        shape = (neutral + 0.1 * rng.normal(size=neutral.shape)).astype(np.float32).round(3)
        shape[0, 0] = 0.1 if name == "mouthClose" else shape[0, 0]
        (folder / f"{name}.obj").write_text(obj_text(shape, uv, polygons))
        moved[name] = torch.from_numpy(shape - neutral).float() * 0.01
    indices = {
        "expressions": list(_TINY_SHAPES),
        "idx_to_landmark_verts": [i % 12 for i in range(68)],
        "idx_to_rigid_verts": [0, 1, 2],
    }
    (folder / "vertex_indices.json").write_text(json.dumps(indices))
    return moved
