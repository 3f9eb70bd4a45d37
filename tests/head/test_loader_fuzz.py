"""Mutated template files: a template or a FormatError comes out, never anything else, whatever the bytes.

EMOGS_TEST_EFFORT=50 makes more than 10,000 files for each loader.
"""

from __future__ import annotations

import os
import random
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from flame_files import tiny_arrays, write_pickle
from obj_files import tiny_ict_folder
from safetensors.numpy import save_file

from emogs.head import HeadTemplate, load_flame, load_template, save_template
from emogs.io import FormatError

FILES = max(20, round(220 * float(os.environ.get("EMOGS_TEST_EFFORT", "1"))))


def flame_npz(folder: Path) -> Path:
    np.savez(folder / "model.npz", **tiny_arrays())
    return folder / "model.npz"


def flame_safetensors(folder: Path) -> Path:
    save_file(tiny_arrays(), folder / "model.safetensors")
    return folder / "model.safetensors"


def flame_pickle(folder: Path) -> Path:
    return write_pickle(folder / "model.pkl", tiny_arrays() | {"shapedirs": np.zeros((12, 3, 400), np.float16)})


def common_npz(folder: Path) -> Path:
    save_template(load_flame(flame_npz(folder)), folder / "template.npz")
    return folder / "template.npz"


def ict_mesh(folder: Path) -> Path:
    tiny_ict_folder(folder)
    return folder / "generic_neutral_mesh.obj"


def ict_shape(folder: Path) -> Path:
    tiny_ict_folder(folder)
    return folder / "mouthClose.obj"


def ict_indices(folder: Path) -> Path:
    tiny_ict_folder(folder)
    return folder / "vertex_indices.json"


KINDS = (flame_npz, flame_safetensors, flame_pickle, common_npz, ict_mesh, ict_shape, ict_indices)


def mutated(data: bytes, rng: random.Random) -> bytes:
    """One to four hurts: flipped bits, foreign bytes, holes, repetitions, an early end. Half of them near the start."""
    out = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(min(len(out), 400) if rng.random() < 0.5 else len(out)) if out else 0
        span = rng.choice((1, 2, 4, 8, 64))
        match rng.randrange(6):
            case 0:
                out[at : at + 1] = bytes([(out[at] if out else 0) ^ (1 << rng.randrange(8))])
            case 1:
                out[at : at + span] = rng.randbytes(span)
            case 2:
                del out[at : at + span]
            case 3:
                out[at:at] = out[at : at + span]
            case 4:
                out[at : at + span] = rng.choice((b"\0", b"\xff", b"9", b"-", b"e", b".")) * span
            case 5:
                del out[at:]
    return bytes(out)


def loads_or_refuses(source: Path) -> bool:
    try:
        template = load_template(source)
    except FormatError as error:
        assert str(error) and error.field
        return False
    assert isinstance(template, HeadTemplate)
    assert torch.isfinite(template.deform(torch.zeros(1, len(template.identity)))).all()
    return True


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_damaged_bytes(tmp_path, kind):
    path = kind(tmp_path)
    whole, rng = path.read_bytes(), random.Random(kind.__name__)
    source = tmp_path if kind.__name__.startswith("ict") else path
    refused = 0
    for _ in range(FILES):
        path.write_bytes(mutated(whole, rng))
        refused += not loads_or_refuses(source)
    assert refused > FILES // 10  # the hurts reach what the loader reads


def wrong_array(value: np.ndarray, rng: random.Random) -> np.ndarray:
    """An array of another shape, type or content."""
    bad = rng.choice((np.nan, np.inf, -1, 2**40, 1e300, 0.5))
    match rng.randrange(7):
        case 0:
            return value[..., :-1]
        case 1:
            return value[None]
        case 2:
            return value.ravel()
        case 3:
            return (
                value.astype(rng.choice(("U4", "f2", "f8", "?", "c8", "i1"))) if value.dtype.kind != "U" else value[:0]
            )
        case 4:
            return np.zeros((0, *value.shape[1:]), value.dtype)
        case 5:
            return np.array(rng.choice((0, 1.5, "text", b"bytes")))
    out = value.astype(float) if value.dtype.kind in "fiu" else np.zeros(value.shape)
    if out.size:
        out.flat[rng.randrange(out.size)] = bad
    return out


@pytest.mark.parametrize("kind", [flame_npz, common_npz], ids=lambda kind: kind.__name__)
def test_sound_archives_of_wrong_arrays(tmp_path, kind):
    """Damage behind the archive's check sums."""
    path = kind(tmp_path)
    with np.load(path) as file:
        arrays = dict(file)
    rng = random.Random(1)
    with np.errstate(all="ignore"):
        for _ in range(FILES):
            name = rng.choice(list(arrays))
            np.savez(path, **arrays | {name: wrong_array(arrays[name], rng)})
            loads_or_refuses(path)


def test_files_in_each_others_place(tmp_path):
    """A loader that meets another format's file says so."""
    for kind in KINDS[:4]:
        folder = tmp_path / kind.__name__
        folder.mkdir()
        original = kind(folder)
        for ending in (".npz", ".safetensors", ".pkl", ".obj"):
            copy = shutil.copy(original, folder / f"copy{ending}")
            loads_or_refuses(Path(copy))
