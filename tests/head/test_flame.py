"""FLAME's file in each of its forms, and what it makes of parameters, against the published formulas."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from flame_files import flame_arrays, tiny_arrays, write_pickle
from safetensors.numpy import save_file

from emogs.head import HeadTemplate, load_flame, load_template
from emogs.head.flame import JOINTS
from emogs.io import FormatError


@pytest.fixture(scope="module")
def flame(tmp_path_factory) -> HeadTemplate:
    path = tmp_path_factory.mktemp("flame") / "model.npz"
    np.savez(path, **flame_arrays())
    return load_flame(path)


def write(kind: str, folder, arrays):
    """A model file of a kind."""
    path = folder / f"model.{kind.partition(' ')[0]}"
    if kind == "npz":
        np.savez(path, **arrays)
    elif kind == "safetensors":
        save_file({name: np.ascontiguousarray(value) for name, value in arrays.items()}, path)
    else:
        write_pickle(path, arrays, python2=kind == "pkl 2")
    return path


def test_true_dimensions(flame: HeadTemplate):
    assert flame.vertices.shape == (5023, 3) and flame.faces.shape == (9976, 3)
    assert flame.identity.shape == (300, 5023, 3) and flame.expression.shape == (100, 5023, 3)
    assert flame.skeleton.names == JOINTS and flame.skeleton.correctives.shape == (36, 5023, 3)
    assert [(flame.face_part == part).sum().item() for part in range(3)] == [7800, 1088, 1088]
    assert not flame.speaks_arkit and len(flame.landmarks) == 0 and len(flame.rigid) > 100


@pytest.mark.parametrize("kind", ["safetensors", "pkl 2", "pkl 3"])
def test_every_form_of_the_file_is_the_same_head(flame: HeadTemplate, tmp_path, kind: str):
    other = load_template(write(kind, tmp_path, flame_arrays()))
    for field in ("vertices", "faces", "face_part", "identity", "expression", "rigid"):
        assert torch.equal(getattr(other, field), getattr(flame, field)), field
    for field in ("weights", "correctives"):
        assert torch.equal(getattr(other.skeleton, field), getattr(flame.skeleton, field)), field
    torch.testing.assert_close(other.skeleton.regressor, flame.skeleton.regressor, rtol=1e-6, atol=1e-9)


def published(arrays, shape, expression, pose):
    """FLAME's vertices [V, 3] in numpy, float64, with homogeneous matrices (Li et al. 2017, equations 1 to 5)."""
    coefficients = np.concatenate([shape, expression])
    shaped = arrays["v_template"] + arrays["shapedirs"] @ coefficients
    joints = arrays["J_regressor"] @ shaped
    rotations = np.stack([rodrigues(vector) for vector in pose])
    posed = shaped + arrays["posedirs"] @ (rotations[1:] - np.eye(3)).ravel()
    chain = []
    for j, parent in enumerate([-1, 0, 1, 1, 1]):
        local = np.eye(4)
        local[:3, :3] = rotations[j]
        local[:3, 3] = joints[j] - (joints[parent] if parent >= 0 else 0)
        chain.append(local if parent < 0 else chain[parent] @ local)
    for j, matrix in enumerate(chain):
        matrix[:3, 3] -= matrix[:3, :3] @ joints[j]
    blended = np.einsum("vj,jrc->vrc", arrays["weights"], np.stack(chain))
    return (blended @ np.c_[posed, np.ones(len(posed))][..., None])[:, :3, 0]


def rodrigues(vector):
    angle = np.linalg.norm(vector)
    x, y, z = vector / angle
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross


def test_vertices_are_those_of_the_published_formulas(flame: HeadTemplate):
    rng = np.random.default_rng(1)
    for _ in range(3):
        shape, expression, pose = rng.normal(size=300), rng.normal(size=100), 0.4 * rng.normal(size=(5, 3))
        wanted = published(flame_arrays(), shape, expression, pose)
        got = flame.deform(*(torch.from_numpy(x).float()[None] for x in (shape, expression, pose)))[0]
        assert np.abs(got.numpy() - wanted).max() < 1e-5  # metres; displacements are of 0.1


def test_rest_pose_changes_nothing(flame: HeadTemplate):
    identity = torch.randn(2, 300, generator=torch.Generator().manual_seed(0))
    assert torch.equal(flame.deform(identity, pose=torch.zeros(2, 5, 3)), flame.deform(identity))


@pytest.mark.parametrize("field", list(tiny_arrays()))
def test_a_missing_field_is_named(tmp_path, field: str):
    arrays = tiny_arrays()
    del arrays[field]
    with pytest.raises(FormatError, match=rf"model\.npz: {field}: missing"):
        load_flame(write("npz", tmp_path, arrays))


@pytest.mark.parametrize(
    ("field", "change", "message"),
    [
        ("v_template", lambda a: a[:, :2], r"v_template: expected numbers \[12, 3\], got float64 \[12, 2\]"),
        ("v_template", lambda a: a * np.nan, "v_template: expected finite numbers"),
        ("f", lambda a: a + 9, r"f: expected indices in \[0, 12\), got 9 to 20"),
        ("f", lambda a: a + 0.5, "f: expected whole numbers"),
        (
            "shapedirs",
            lambda a: a[..., :390],
            r"shapedirs: expected numbers \[12, 3, 400\], got float64 \[12, 3, 390\]",
        ),
        ("posedirs", lambda a: a[..., :9], r"posedirs: expected numbers \[12, 3, 36\]"),
        ("J_regressor", lambda a: a.T, r"J_regressor: expected numbers \[5, 12\], got float64 \[12, 5\]"),
        ("weights", lambda a: a * 2, "weights: expected shares of at least 0 that sum to 1"),
        ("kintree_table", lambda a: a[:, ::-1], "kintree_table: expected parents"),
        ("kintree_table", lambda a: a.astype("U9"), "kintree_table: expected whole numbers"),
    ],
)
def test_a_wrong_field_is_named_with_what_it_should_be(tmp_path, field, change, message):
    arrays = tiny_arrays()
    arrays[field] = change(arrays[field])
    with pytest.raises(FormatError, match=rf"model\.npz: {message}"):
        load_flame(write("npz", tmp_path, arrays))


def test_landmarks_of_an_embedding_and_of_a_list(flame: HeadTemplate, tmp_path):
    model = write("npz", tmp_path, tiny_arrays())
    faces = np.arange(68) % 6
    np.savez(
        tmp_path / "embedding.npz",
        full_lmk_faces_idx=faces[None],
        full_lmk_bary_coords=np.tile([0.2, 0.7, 0.1], (1, 68, 1)),
    )
    template = load_flame(model, tmp_path / "embedding.npz")
    assert torch.equal(template.landmarks, template.faces[faces, 1])
    (tmp_path / "list.txt").write_text("\n".join(str(i % 12) for i in range(68)))
    assert load_flame(model, tmp_path / "list.txt").landmarks.tolist() == [i % 12 for i in range(68)]
    (tmp_path / "short.txt").write_text("1 2 3")
    with pytest.raises(FormatError, match=r"short\.txt: landmarks: expected whole numbers \[68\], got"):
        load_flame(model, tmp_path / "short.txt")


def test_a_pose_must_fit(flame: HeadTemplate):
    with pytest.raises(ValueError, match=r"pose: expected \[B, 5, 3\] \(root, neck, jaw"):
        flame.deform(pose=torch.zeros(1, 4, 3))
    with pytest.raises(ValueError, match="pose: the template 'flame' has no skeleton"):
        dataclasses.replace(flame, skeleton=None).deform(pose=torch.zeros(1, 5, 3))


def test_gradients_reach_every_argument(tmp_path):
    template = load_flame(write("npz", tmp_path, tiny_arrays()))
    double = dataclasses.replace(
        template,
        **{name: getattr(template, name).double() for name in ("vertices", "identity", "expression")},
        skeleton=dataclasses.replace(
            template.skeleton,
            **{name: getattr(template.skeleton, name).double() for name in ("regressor", "weights", "correctives")},
        ),
    )
    generator = torch.Generator().manual_seed(2)
    arguments = [
        (0.3 * torch.randn(shape, generator=generator, dtype=torch.float64)).requires_grad_()
        for shape in ((2, 300), (2, 100), (2, 5, 3))
    ]
    assert torch.autograd.gradcheck(double.deform, arguments, fast_mode=True)
