"""The shipped landmark network: accuracy on a real photo, steadiness, symmetry, and its own bookkeeping."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest
import skimage.data
import torch

from emogs.photo import find_landmarks
from emogs.photo.landmarks import GROUPS, MIRRORED, WEIGHTS, LandmarkNet, landmark_net

from .faces import ASTRONAUT, error_by_group

PHOTO = skimage.data.astronaut()
BOX = (177.0, 65.0, 97.0, 97.0)
EYES = float(np.linalg.norm(ASTRONAUT[36] - ASTRONAUT[45]))

ALL_BOUND = 0.045
GROUP_BOUNDS = {"jaw": 0.05, "brow": 0.085, "nose": 0.03, "eye": 0.04, "mouth": 0.04}
"""Shares of the outer-eye distance; the hand-made truth is itself good to about 0.02."""


@pytest.fixture(scope="module")
def found():
    return find_landmarks(PHOTO, BOX)


def test_error_on_a_real_photo(found):
    error = error_by_group(found.points, ASTRONAUT, GROUPS)
    assert error["all"] < ALL_BOUND
    assert all(error[name] < bound for name, bound in GROUP_BOUNDS.items()), error


def test_mirrored_photo_gives_mirrored_landmarks(found):
    left, top, width, height = BOX
    mirrored = find_landmarks(np.ascontiguousarray(PHOTO[:, ::-1]), (512 - left - width, top, width, height))
    back = mirrored.points[list(MIRRORED)] * [-1, 1] + [512, 0]
    # Not exact: the crops start from the same box but follow their own answers before they are averaged.
    assert np.linalg.norm(back - found.points, axis=1).mean() < 0.01 * EYES


def test_steady_under_resolution_exposure_and_rough_boxes(found):
    half = cv2.resize(PHOTO, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    others = [find_landmarks(half, tuple(v / 2 for v in BOX)).points * 2]
    others += [find_landmarks((PHOTO * gain).clip(0, 255).astype(np.uint8), BOX).points for gain in (0.8, 1.2)]
    others += [find_landmarks(PHOTO, (BOX[0] + 8, BOX[1] - 8, 110, 110)).points]
    for points in others:
        assert np.linalg.norm(points - found.points, axis=1).mean() < 0.03 * EYES


def test_large_photos_are_sampled_without_aliasing(found):
    large = cv2.resize(PHOTO, None, fx=4, fy=4, interpolation=cv2.INTER_CUBIC)
    points = find_landmarks(large, tuple(4 * v for v in BOX)).points / 4
    assert np.linalg.norm(points - found.points, axis=1).mean() < 0.02 * EYES


def test_spread_is_of_the_errors_size(found):
    assert found.spread.shape == (68,) and (found.spread > 0).all()
    assert found.spread.mean() < 0.15 * EYES


def test_mirroring_twice_is_nothing():
    assert [MIRRORED[MIRRORED[i]] for i in range(68)] == list(range(68))


def test_the_network_moves_with_the_picture():
    """Shifting the input by one cell of the vote's grid shifts the answer by as much, up to the border."""
    net, crop = landmark_net(), torch.from_numpy(PHOTO[50:178, 160:288].copy()).permute(2, 0, 1)[None].float() / 255
    with torch.no_grad():
        here, there = net(crop[..., 8:120, 8:120])[0], net(crop[..., 8:120, :112])[0]
    assert (there - here - torch.tensor([8 / 112, 0])).norm(dim=-1).mean() < 0.02


def test_the_log_describes_the_weights():
    log = json.loads(WEIGHTS.with_suffix(".json").read_text())
    assert "ICT-FaceKit" in log["credit"] and "MIT" in log["credit"]
    assert log["parameters"] == sum(p.numel() for p in LandmarkNet().parameters())
    assert WEIGHTS.stat().st_size < 4e6
    assert set(log["held_out_error"]) == {"all", *GROUPS}


def test_the_log_of_the_network_of_the_builtin_head_is_of_the_same_recipe():
    """Its weights are not shipped, its errors are quoted in docs/heads.md."""
    log = json.loads(WEIGHTS.with_name("landmarks-builtin.json").read_text())
    assert log["credit"] == "trained on renders of builtin"
    assert log["parameters"] == sum(p.numel() for p in LandmarkNet().parameters())
    assert len(log["history"]) == log["config"]["epochs"]
    assert log["held_out_error"] == log["history"][-1]["held_out_error"]
