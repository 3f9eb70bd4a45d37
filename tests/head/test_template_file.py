"""The common npz: every template comes back exactly, and what is wrong in a file is named."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from flame_files import tiny_arrays

from emogs.head import HeadTemplate, builtin_head, load_flame, load_ict, load_template, save_template
from emogs.head.template_file import FORMAT
from emogs.io import FormatError


def same(a: object, b: object) -> bool:
    """Equal tensors, names and nested parts, to the bit."""
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and a.dtype == b.dtype and torch.equal(a, b)
    if dataclasses.is_dataclass(a):
        return all(same(getattr(a, field.name), getattr(b, field.name)) for field in dataclasses.fields(a))
    if isinstance(a, tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


def tiny_flame(folder) -> HeadTemplate:
    np.savez(folder / "flame.npz", **tiny_arrays())
    return load_flame(folder / "flame.npz")


def test_builtin_and_flame_come_back_to_the_bit(tmp_path):
    for template in (builtin_head(), tiny_flame(tmp_path)):
        save_template(template, tmp_path / "template.npz")
        assert same(load_template(tmp_path / "template.npz"), template)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["flame.npz", "template.npz"]


def test_ict_comes_back_to_the_bit(tmp_path, ict_folder):
    ict = load_ict(ict_folder)
    save_template(ict, tmp_path / "ict.npz")
    assert same(load_template(tmp_path / "ict.npz"), ict)


@pytest.fixture
def arrays(tmp_path):
    save_template(tiny_flame(tmp_path), tmp_path / "template.npz")
    with np.load(tmp_path / "template.npz") as file:
        return dict(file)


CHANGES = [
    ("format", lambda a: np.array(["emogs-template-0"]), f"format: expected '{FORMAT}', got 'emogs-template-0'"),
    ("vertices", lambda a: a * np.inf, "vertices: expected finite numbers"),
    ("vertices", lambda a: a.astype("U9"), r"vertices: expected numbers \[12, 3\], got <U9"),
    ("faces", lambda a: a + 12, r"faces: expected indices in \[0, 12\)"),
    ("faces_uv", lambda a: a - 1, r"faces_uv: expected indices in \[0, 18\), got -1 to"),
    ("face_part", lambda a: a + 3, r"face_part: expected indices in \[0, 3\)"),
    ("part_names", lambda a: a[[0, 0, 0]], "part_names: expected different names"),
    ("landmarks", lambda a: np.zeros(67, int), "landmarks: expected 68 vertices or none, got 67"),
    ("identity", lambda a: a[:, :5], r"identity: expected numbers \[any, 12, 3\], got float32 \[300, 5, 3\]"),
    ("identity_names", lambda a: a[:9], r"identity_names: expected texts \[300\]"),
    ("expression_names", lambda a: a[:9], r"expression_names: expected texts \[100\]"),
    ("albedo", lambda a: a[:, :3], r"albedo: expected numbers \[256, 256, 3\]"),
    ("skeleton.parents", lambda a: a[::-1], "skeleton.parents: expected -1 or an earlier joint for each"),
    ("skeleton.weights", lambda a: a[:, :2], r"skeleton.weights: expected numbers \[12, 5\]"),
    ("skeleton.correctives", lambda a: a[:5], r"skeleton.correctives: expected numbers \[36, 12, 3\]"),
]


@pytest.mark.parametrize(("field", "change", "message"), CHANGES, ids=[f"{c[0]}-{i}" for i, c in enumerate(CHANGES)])
def test_a_wrong_field_is_named(tmp_path, arrays, field, change, message):
    arrays[field] = change(arrays[field])
    np.savez(tmp_path / "bad.npz", **arrays)
    with pytest.raises(FormatError, match=rf"bad\.npz: {message}"):
        load_template(tmp_path / "bad.npz")


OPTIONAL = ("skeleton.correctives", "skeleton.names", "format")
"""Without a format it is taken for a FLAME model."""


def test_every_field_is_needed(tmp_path, arrays):
    for field in arrays:
        if field not in OPTIONAL:
            np.savez(tmp_path / "bad.npz", **{name: value for name, value in arrays.items() if name != field})
            with pytest.raises(FormatError, match=rf"bad\.npz: {field}: missing"):
                load_template(tmp_path / "bad.npz")


def test_pickled_arrays_and_false_sizes_are_refused(tmp_path, arrays):
    np.savez(tmp_path / "bad.npz", **arrays | {"vertices": np.array([{}, None], dtype=object)})
    with pytest.raises(FormatError, match="vertices: expected numbers or text, got object"):
        load_template(tmp_path / "bad.npz")
    header = (
        np.lib.format.magic(1, 0)
        + b"v\x00"
        + f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({10**12}, 3)}}".ljust(117).encode()
        + b"\n"
    )
    import zipfile

    with zipfile.ZipFile(tmp_path / "bad.npz", "w") as archive:
        archive.writestr("vertices.npy", header)
    with pytest.raises(FormatError, match="vertices: expected 12000000000000 bytes by its header, got 0"):
        load_template(tmp_path / "bad.npz")


@pytest.mark.parametrize("name", ["nowhere.npz", "nowhere"])
def test_nothing_there_is_said(tmp_path, name):
    with pytest.raises(FormatError, match="no such file or folder; a template is"):
        load_template(tmp_path / name)


def test_no_name_and_what_is_none():
    with pytest.raises(ValueError, match="source: expected a file, a folder or the word 'builtin', got an empty name"):
        load_template("")
    for source in (5, None, b"builtin"):
        kind = type(source).__name__
        with pytest.raises(TypeError, match=f"source: expected a path or the word 'builtin', got {kind}"):
            load_template(source)
