"""Fits with templates whose jaw and eyes are turned by joints: FLAME's dimensions, with and without ARKit channels."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch
from head.flame_files import flame_arrays

from emogs.data.faces import camera_at
from emogs.head import ARKIT_NAMES, HeadTemplate, builtin_head, load_flame
from emogs.head.retarget import retarget
from emogs.photo import fit_photo
from emogs.photo.channels import channels_of
from emogs.photo.contour import JAW_POINTS, jaw_contour
from emogs.photo.fit import solve
from emogs.photo.landmark_model import IDENTITIES, landmark_model

SIZE, FOCAL = 512, 1440.0
OPEN = 0.3
"""Radians by which the true jaw is open."""


@pytest.fixture(scope="module")
def flame(tmp_path_factory) -> HeadTemplate:
    """A head of FLAME's dimensions; its landmarks are the vertices nearest to the built-in head's."""
    folder, arrays = tmp_path_factory.mktemp("flame"), flame_arrays()
    np.savez(folder / "flame.npz", **arrays)
    skin = torch.from_numpy(arrays["v_template"][arrays["weights"][:, 3:].sum(1) == 0]).float()
    marks = builtin_head().vertices[builtin_head().landmarks]
    nearest = torch.cdist(marks, skin).argmin(1)
    (folder / "landmarks.txt").write_text(" ".join(str(int(i)) for i in nearest))
    return load_flame(folder / "flame.npz", folder / "landmarks.txt")


@cache
def speaking(flame: HeadTemplate) -> HeadTemplate:
    return retarget(flame).template


def seen(template: HeadTemplate, vertices: torch.Tensor, yaw: float = 0.2) -> torch.Tensor:
    """[68, 2] exact landmarks of vertices [V, 3], the jaw's on the silhouette."""
    viewmat = torch.from_numpy(camera_at(np.array([0.0, 0.0, 0.09]), yaw, 0.1, 0.0, 0.8)).float()
    contour, chosen = jaw_contour(template), template.landmarks.clone()
    column = contour.select(vertices[contour.candidates], -viewmat[:3, :3].T @ viewmat[:3, 3])
    chosen[:JAW_POINTS] = contour.candidates[torch.arange(JAW_POINTS), column]
    points = vertices[chosen] @ viewmat[:3, :3].T + viewmat[:3, 3]
    return points[:, :2] / points[:, 2:] * FOCAL + SIZE / 2


def open_jaw(flame: HeadTemplate, turn: float) -> torch.Tensor:
    pose = torch.zeros(1, 5, 3)
    pose[0, 2, 0] = turn
    return flame.deform(pose=pose)[0]


@pytest.mark.parametrize("turn", [0.0, OPEN])
def test_the_jaw_of_flame_is_found(flame: HeadTemplate, turn: float):
    fit = solve(seen(flame, open_jaw(flame, turn)), flame, size=SIZE)
    assert fit.error < 0.01
    assert fit.pose is not None and fit.pose.shape == (5, 3)
    # This head's directions move a chin as readily as its jaw does, so they share it; FLAME's own move it less.
    assert 0.5 * turn - 0.01 < float(fit.pose[2, 0]) < turn + 0.01
    assert not fit.pose[[0, 1]].any(), "root and neck belong to the head's pose"
    assert not fit.pose[[3, 4]].any(), "68 landmarks do not show where eyes look"
    whole = fit.vertices(flame)[flame.landmarks] @ fit.viewmat[:3, :3].T + fit.viewmat[:3, 3]
    flat = (whole @ fit.K.T)[:, :2] / whole[:, 2:]
    assert (flat - fit.fitted)[JAW_POINTS:].abs().max() < 0.01


def test_flame_that_speaks_arkit_is_fitted_through_its_joints(flame: HeadTemplate):
    head = speaking(flame)
    worn = torch.zeros(1, 52)
    worn[0, ARKIT_NAMES.index("jawOpen")] = 0.7
    fit = solve(seen(head, head.deform(expression=worn)[0]), head, size=SIZE)
    assert fit.pose is None and fit.expression.shape == (52,)
    assert abs(float(fit.expression[ARKIT_NAMES.index("jawOpen")]) - 0.7) < 0.2
    assert fit.error < 0.01


def test_a_photo_takes_any_template(flame: HeadTemplate):
    landmarks = seen(flame, open_jaw(flame, OPEN)).numpy()
    fit = fit_photo(np.full((SIZE, SIZE, 3), 128, np.uint8), landmarks=landmarks, template=flame)
    assert fit.error < 0.01 and fit.pose is not None
    fallen = (fit.vertices(flame) - fit.neutral(flame))[flame.landmarks[8]]
    assert fallen[1] < -0.005, "the chin is lower than on the neutral face"


def test_point_model_is_flame_and_its_slopes_are_the_derivative(flame: HeadTemplate):
    model = landmark_model(flame)
    generator = torch.Generator().manual_seed(0)
    identity = torch.randn(IDENTITIES, generator=generator, dtype=torch.float64)
    values = 0.3 * torch.randn(len(model.channels.names), generator=generator, dtype=torch.float64)
    expression, pose = model.channels.split(values)
    assert pose is not None
    whole = torch.cat([identity, torch.zeros(250)]).float()
    vertices = flame.deform(whole[None], expression.float()[None], pose.float()[None])[0]
    found = model.points.deform(identity, values)
    assert (found[:51] - vertices[flame.landmarks[JAW_POINTS:]]).abs().max() < 1e-6
    slopes = torch.cat(torch.autograd.functional.jacobian(model.points.deform, (identity, values)), -1)
    assert (model.points.slopes(identity, values) - slopes.permute(2, 0, 1)).abs().max() < 1e-12
    several = torch.stack([values, 0 * values])
    alone = model.points.wearing(identity)
    expected = model.points.slopes(identity, several)
    assert torch.equal(expected[0], model.points.slopes(identity, values))
    torch.testing.assert_close(alone.slopes(identity[:0], several), expected[:, IDENTITIES:])


@pytest.mark.parametrize("name", ["builtin", "flame"])
def test_irises_are_the_eyeballs_foremost_points(flame: HeadTemplate, name: str):
    template = builtin_head() if name == "builtin" else flame
    model, channels = landmark_model(template), channels_of(template)
    rest = model.irises.deform(
        torch.zeros(model.points.identity.shape[0]).double(), torch.zeros(len(channels.names)).double()
    )
    for side, point in zip(("left", "right"), rest, strict=True):
        ball = template.faces[template.face_part == template.part_names.index(f"eye_{side}")].unique()
        assert float(point[2]) > float(template.vertices[ball, 2].max()) - 0.001  # the cornea bulges
        assert (point[:2] - template.vertices[ball, :2].mean(0)).norm() < 0.002


def test_a_template_without_landmarks_is_refused(flame: HeadTemplate):
    from dataclasses import replace

    bare = replace(flame, landmarks=torch.zeros(0, dtype=torch.int64))
    with pytest.raises(ValueError, match="expected 68 landmarks, got 0"):
        solve(seen(flame, flame.vertices), bare, size=SIZE)
