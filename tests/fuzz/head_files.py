"""Sound files of head templates in every format, small, and what must hold of what is read from them."""

from __future__ import annotations

import random
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from emotion_files import finite
from mutators import hurt_json, hurt_words
from safetensors.numpy import save_file

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "head"))

from flame_files import tiny_arrays, write_pickle
from obj_files import tiny_ict_folder

from emogs.head import load_flame, load_template, save_template


def flame_npz(folder: Path) -> list[Path]:
    np.savez(folder / "model.npz", **tiny_arrays())
    return [folder / "model.npz"]


def flame_safetensors(folder: Path) -> list[Path]:
    save_file(tiny_arrays(), folder / "model.safetensors")
    return [folder / "model.safetensors"]


def flame_pickle(folder: Path) -> list[Path]:
    arrays = tiny_arrays() | {"shapedirs": np.zeros((12, 3, 400), np.float16)}
    return [write_pickle(folder / f"model{version}.pkl", arrays, version == 2) for version in (2, 3)]


def flame_landmarks(folder: Path) -> list[Path]:
    """Beside a model: embeddings in triangles, in vertices, and a text of numbers."""
    flame_npz(folder)
    rng = np.random.default_rng(0)
    places = {"full_lmk_faces_idx": rng.integers(0, 6, 68), "full_lmk_bary_coords": rng.dirichlet([1] * 3, 68)}
    np.savez(folder / "embedding.npz", **places)
    np.savez(folder / "vertices.npz", landmarks=rng.integers(0, 12, 68))
    (folder / "numbers.txt").write_text(", ".join(map(str, rng.integers(0, 12, 68))))
    return [folder / "embedding.npz", folder / "vertices.npz", folder / "numbers.txt"]


def common_npz(folder: Path) -> list[Path]:
    """A skeleton with correctives, as FLAME has it, and hinges, as the built-in head has them."""
    head = load_flame(flame_npz(folder)[0])
    kept = replace(head, expression=head.expression[:5], expression_names=head.expression_names[:5])
    save_template(replace(kept, identity=head.identity[:3], identity_names=("a", "b", "c")), folder / "head.npz")
    built = tiny_ict_folder(folder)  # its hinges need eyeballs, which the tiny folder has
    assert built
    save_template(load_template(folder), folder / "hinged.npz")
    return [folder / "head.npz", folder / "hinged.npz"]


def ict_folder(folder: Path) -> list[Path]:
    tiny_ict_folder(folder)
    names = ("generic_neutral_mesh.obj", "mouthClose.obj", "identity001.obj", "vertex_indices.json")
    return [folder / name for name in names]


def ict_words(data: bytes, rng: random.Random) -> bytes:
    """The indices are JSON, the meshes lines of words."""
    return hurt_json(data, rng) if data[:1] == b"{" else hurt_words(data, rng)


def ict_npz(folder: Path) -> list[Path]:
    """As `ict_head.npz` has it, with the tiny folder's content."""
    from emogs.head.ict import _read_folder

    tiny_ict_folder(folder)
    np.savez(folder / "ict_head.npz", **_read_folder(folder).arrays)
    (folder / "generic_neutral_mesh.obj").unlink()
    return [folder / "ict_head.npz"]


def mapping_npz(folder: Path) -> list[Path]:
    flame_npz(folder)
    rng = np.random.default_rng(0)
    np.savez(folder / "mapping.npz", expression=rng.normal(size=(52, 100)), pose=0.1 * rng.normal(size=(52, 5, 3)))
    return [folder / "mapping.npz"]


def sound_head(head: Any) -> bool:
    worn = torch.full((1, len(head.expression)), 0.5)
    moved = head.deform(torch.ones(1, len(head.identity)), worn)
    return finite(head.vertices, head.uv, head.albedo, moved) and len(head.landmarks) in (0, 68)


@cache
def tiny_flame(path: Path) -> Any:
    return load_flame(path)
