"""ARKit's channels found by geometry: on a head made of the source's own, and on ICT-FaceKit, where truth is known."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import roma
import torch
from flame_files import flame_arrays

from emogs.emotion import EMOTIONS, expression_from_emotion
from emogs.head import ARKIT_NAMES, HeadTemplate, builtin_head, load_flame, load_ict
from emogs.head.retarget import read_mapping, retarget
from emogs.io import FormatError


@pytest.fixture(scope="module")
def flame(tmp_path_factory) -> HeadTemplate:
    path = tmp_path_factory.mktemp("flame") / "model.npz"
    np.savez(path, **flame_arrays())
    return load_flame(path)


@pytest.fixture(scope="module")
def found(flame: HeadTemplate):
    return retarget(flame)


def test_channels_are_found_again_in_a_mixed_space(found):
    """The directions are mixtures of the source's channels: little may remain, but where the grid cuts lids."""
    assert found.distance < 3e-4 and found.counterparts > 1500
    lids = torch.tensor([name.startswith(("eye", "jawOpen", "mouthClose")) for name in ARKIT_NAMES])
    print(f"median unexplained {found.unexplained[~lids].median():.3f}, worst {found.unexplained[~lids].max():.3f}")
    assert found.unexplained[~lids].max() < 0.08 and found.unexplained[~lids].median() < 0.04
    assert found.template.speaks_arkit and found.template.expression.shape == (52, 5023, 3)


def test_jaw_and_eyes_turn_as_the_source_turns_them(found):
    """Radians within a degree of the source's: 21 of the jaw, 30 sideways and 25 up and down of the eyes."""
    joints = found.template.skeleton.names
    pose = torch.rad2deg(found.template.skeleton.driven)
    for channel, joint, wanted in (
        ("jawOpen", "jaw", (21, 0, 0)),
        ("eyeLookOutLeft", "eye_left", (0, 30, 0)),
        ("eyeLookInRight", "eye_right", (0, 30, 0)),
        ("eyeLookDownLeft", "eye_left", (25, 0, 0)),
        ("eyeLookUpRight", "eye_right", (-25, 0, 0)),
    ):
        got = pose[ARKIT_NAMES.index(channel), joints.index(joint)]
        torch.testing.assert_close(got, torch.tensor(wanted).float(), atol=1.0, rtol=0)
    smile = pose[ARKIT_NAMES.index("mouthSmileLeft")]
    assert not smile.any()


def test_a_turned_and_scaled_head_is_found_too(flame: HeadTemplate, found):
    turn = roma.rotvec_to_rotmat(torch.tensor([0.1, -0.15, 0.05]))
    moved = dataclasses.replace(
        flame,
        vertices=1.2 * flame.vertices @ turn.T + torch.tensor([0.02, 0.1, -0.05]),
        expression=1.2 * flame.expression @ turn.T,
        skeleton=dataclasses.replace(flame.skeleton, correctives=None),
    )
    again = retarget(moved)
    smile = torch.zeros(1, 52)
    smile[0, ARKIT_NAMES.index("mouthSmileLeft")] = 1
    shown = (again.template.deform(expression=smile)[0] - moved.vertices) @ turn / 1.2
    wanted = found.template.deform(expression=smile)[0] - flame.vertices
    assert (shown - wanted).norm() < 0.1 * wanted.norm()


def test_emotions_move_icts_face_as_its_own_shapes_do(ict_folder):
    """ICT without its names: what geometry says the seven emotions are, beside what its artists made of them.

    Built-in and ICT channels differ, so this is no 1. The cosine is over all vertices of upstream's face area.
    """
    ict = load_ict(ict_folder)
    named = ict.deform(expression=torch.eye(52)) - ict.vertices
    moving = named.flatten(1).norm(dim=1) > 0
    mixed, _ = torch.linalg.qr(torch.randn(52, 52, generator=torch.Generator().manual_seed(0)))
    nameless = dataclasses.replace(
        ict,
        expression=torch.einsum("ab,bvc->avc", mixed, named),
        expression_names=tuple(f"direction{i}" for i in range(52)),
        rotations=(),
        skeleton=None,
    )
    found = retarget(nameless)
    codes = expression_from_emotion(torch.eye(len(EMOTIONS)))
    face = slice(0, 9409)
    theirs = (ict.deform(expression=codes) - ict.vertices)[:, face].flatten(1)
    ours = (found.template.deform(expression=codes) - ict.vertices)[:, face].flatten(1)
    cosine = torch.cosine_similarity(ours, theirs)
    ratio = ours.norm(dim=1) / theirs.norm(dim=1)
    for name, c, r in zip(EMOTIONS, cosine.tolist(), ratio.tolist(), strict=True):
        print(f"{name}: cosine {c:.2f}, magnitude {r:.2f}")
    print(f"median unexplained {found.unexplained[moving].median():.2f}, apart {1000 * found.distance:.2f} mm")
    assert cosine.min() > 0.8 and cosine.mean() > 0.9
    assert ratio.min() > 0.65 and ratio.max() < 1.2


def test_a_mapping_of_the_users_own(flame: HeadTemplate, tmp_path):
    rng = np.random.default_rng(0)
    weights, pose = rng.normal(size=(52, 100)), rng.normal(size=(52, 5, 3))
    np.savez(tmp_path / "mapping.npz", expression=weights, pose=pose)
    mapped = read_mapping(flame, tmp_path / "mapping.npz")
    values = torch.from_numpy(rng.random((1, 52))).float()
    by_hand = flame.deform(
        None,
        values @ torch.from_numpy(weights).float(),
        torch.einsum("be,ejc->bjc", values, torch.from_numpy(pose).float()),
    )
    torch.testing.assert_close(mapped.deform(expression=values), by_hand, atol=1e-5, rtol=0)
    np.savez(tmp_path / "mapping.npz", expression=weights[:, :50])
    with pytest.raises(
        FormatError, match=r"mapping\.npz: expression: expected numbers \[52, 100\], got float64 \[52, 50\]"
    ):
        read_mapping(flame, tmp_path / "mapping.npz")
    np.savez(tmp_path / "mapping.npz", expression=weights, pose=pose)
    with pytest.raises(FormatError, match="pose: expected none, as the template 'flame' has no joints"):
        read_mapping(dataclasses.replace(flame, skeleton=None), tmp_path / "mapping.npz")


def test_heads_that_cannot_be_laid_on_each_other_are_refused(flame: HeadTemplate):
    with pytest.raises(ValueError, match=r"only \d+ vertices of its skin come within 12 mm"):
        retarget(dataclasses.replace(flame, vertices=flame.vertices * torch.tensor([1.0, -1.0, -1.0])))
    with pytest.raises(ValueError, match="source: expected a head that speaks ARKit, got 'flame'"):
        retarget(builtin_head(), flame)
