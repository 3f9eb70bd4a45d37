"""From a photo to a fitted head in one call."""

from __future__ import annotations

import numpy as np
import pytest
import skimage.data
import torch

from emogs.head import ARKIT_NAMES, builtin_head
from emogs.photo import PhotoError, fit_photo
from emogs.photo.face import cut_square, head_square

from .faces import ASTRONAUT

PHOTO = skimage.data.astronaut()


@pytest.fixture(scope="module")
def fit():
    return fit_photo(PHOTO)


def test_the_astronaut(fit):
    assert fit.error < 0.04
    smile = [fit.expression[ARKIT_NAMES.index(f"mouthSmile{side}")] for side in ("Left", "Right")]
    assert min(smile) > 0.4
    assert fit.crop.shape == (512, 512, 3) and fit.crop.dtype == np.uint8
    assert fit.valid.shape == (512, 512)


def test_the_head_fills_the_crop_as_promised(fit):
    template = builtin_head()
    seen = fit.vertices(template)[template.rigid] @ fit.viewmat[:3, :3].T + fit.viewmat[:3, 3]
    crown = float(((seen @ fit.K.T)[:, 1] / seen[:, 2]).min())
    chin = float(fit.landmarks[8, 1])
    assert 0.42 * 512 < chin - crown < 0.62 * 512
    assert crown > 0.03 * 512 and chin < 0.78 * 512


def test_neutral_closes_the_mouth(fit):
    template = builtin_head()
    inner = [template.landmarks[62], template.landmarks[66]]
    open_now, open_then = (
        float((v[inner[0]] - v[inner[1]]).norm()) for v in (fit.vertices(template), fit.neutral(template))
    )
    assert open_then < 0.25 * open_now


def test_mirrored_photo_gives_the_mirrored_fit(fit):
    mirrored = fit_photo(np.ascontiguousarray(PHOTO[:, ::-1]))
    assert abs(mirrored.error - fit.error) < 0.01
    swapped = {"Left": "Right", "Right": "Left"}
    for i, name in enumerate(ARKIT_NAMES):
        side = next((s for s in swapped if name.endswith(s)), None)
        twin = ARKIT_NAMES.index(name.removesuffix(side) + swapped[side]) if side else i
        assert abs(mirrored.expression[twin] - fit.expression[i]) < 0.15, name


def test_given_landmarks_are_used():
    fit = fit_photo(PHOTO, landmarks=ASTRONAUT)
    left, top, side = fit.square
    back = fit.landmarks.numpy() * side / 512 + [left, top]
    assert np.abs(back - ASTRONAUT).max() < 1e-3


def test_given_box_is_used_and_checked(fit):
    assert np.abs(fit_photo(PHOTO, box=(177, 65, 97, 97)).landmarks - fit.landmarks).mean() < 4
    with pytest.raises(PhotoError, match="at least 64"):
        fit_photo(PHOTO, box=(177, 65, 20, 20))


@pytest.mark.parametrize("name", ["grass", "gravel", "brick", "page"])
def test_a_box_without_a_face_is_refused(name):
    picture = np.repeat(getattr(skimage.data, name)()[..., None], 3, 2)
    with pytest.raises(PhotoError, match="no face can be made out"):
        fit_photo(picture, box=(40, 10, 150, 150))


def test_crop_beyond_the_photo_repeats_its_edge():
    crop, valid = cut_square(PHOTO, (-100.0, 50.0, 200.0))
    assert not valid[:, :250].any() and valid[:, 260:].all()
    assert np.abs(crop[:, :250].astype(int) - crop[:, 250:251]).max() <= 2


@pytest.mark.parametrize("side", [100.0, 512.0, 1500.0])
def test_crop_keeps_its_place_at_every_scale(side):
    """A white dot lands where its coordinates say, enlarged or reduced."""
    image = np.zeros((1600, 1600, 3), np.uint8)
    image[790:810, 690:710] = 255  # centre (700, 800)
    crop, _ = cut_square(image, (700 - side / 4, 800 - side / 2, side))
    rows, columns = np.nonzero(crop[..., 0] > 127)
    assert abs(columns.mean() + 0.5 - 128) < 1 and abs(rows.mean() + 0.5 - 256) < 1


def test_square_is_of_the_heads_size():
    left, top, side = head_square(torch.from_numpy(ASTRONAUT).float())
    assert left < ASTRONAUT[:, 0].min() and top < ASTRONAUT[:, 1].min() and 200 < side < 350
