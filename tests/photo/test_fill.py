"""The filled texture: the photo where it was seen, near the truth elsewhere, and no seams between."""

from functools import cache

import numpy as np
import pytest
import torch

from emogs.head import builtin_head
from emogs.head.uv import TexelMap, texel_map
from emogs.photo import Look, look
from emogs.photo.eyes import EyePaint, find_gaze, paint_eyes
from emogs.photo.occlusion import openness

from .person import SIZE, head_view, paint, photograph


@cache
def texels() -> TexelMap:
    return texel_map(builtin_head())


@cache
def seen(yaw: float) -> Look:
    person = photograph(yaw, bald=True)
    return look(person.crop, person.view, texels())


def truth() -> np.ndarray:
    """[256, 256, 3]"""
    centre = (np.arange(256) + 0.5) / 256
    return paint(np.stack(np.meshgrid(centre, centre), -1))


def skin() -> np.ndarray:
    """[256, 256] the skin's texels above the bust."""
    head = builtin_head()
    height = texels().interpolate(head.faces, head.vertices)[:, 1:2]
    inside = (head.face_part[texels().face] == 0)[:, None] & (height > head.vertices[head.landmarks[8], 1])
    return texels().image(inside.float()).numpy()[..., 0] > 0


def test_the_photo_stays_where_it_was_seen() -> None:
    found = seen(0.0)
    kept = (found.maps.visibility[..., 0] > 0.999).numpy() & skin()
    lips = np.abs(found.texture.numpy() - found.maps.colour.numpy()).max(-1) > 1e-3  # refused as too pale for lips
    assert (lips & kept).sum() < 0.05 * kept.sum()


@pytest.mark.parametrize("yaw", [0.0, 30.0])
def test_the_fill_is_near_the_truth(yaw: float) -> None:
    found = seen(yaw)
    error = np.abs(found.texture.numpy() - truth()).mean(-1)[skin()]
    assert np.isfinite(error).all()
    assert error.mean() < 0.06 and np.percentile(error, 95) < 0.2


def test_the_border_is_continuous() -> None:
    """Between neighbours across the border of the visible the texture steps no more than within the photo."""
    found = seen(30.0)
    colour, visibility = found.texture.numpy(), found.maps.visibility[..., 0].numpy()
    inside = skin()
    inside[:, :40] = inside[:, -40:] = False  # ears hide parts of themselves in every texel
    step = np.abs(np.diff(colour, axis=1)).max(-1)
    both = inside[:, 1:] & inside[:, :-1]
    border = both & ((visibility[:, 1:] > 0) ^ (visibility[:, :-1] > 0))
    within = both & (visibility[:, 1:] > 0.9) & (visibility[:, :-1] > 0.9)
    assert border.sum() > 100
    assert np.percentile(step[border], 90) < np.percentile(step[within], 99) + 0.03


def test_a_black_and_white_photo_gives_a_black_and_white_head() -> None:
    person = photograph(bald=True)
    grey = person.crop.mean(-1, keepdim=True).expand(-1, -1, 3)
    texture = look(grey, person.view, texels()).texture
    assert (texture.amax(-1) - texture.amin(-1)).max() < 0.01  # lips, eyes and mouth too, which the template paints


@pytest.mark.parametrize("level", [0.0, 1.0])
def test_a_meaningless_photo_gives_a_plain_head(level: float) -> None:
    found = look(torch.full((SIZE, SIZE, 3), level), head_view(), texels())
    for image in (found.texture, found.opacity, found.matte, found.foreground, found.maps.stack()):
        assert torch.isfinite(image).all()
        assert image.abs().amax() <= 1 + 1e-6  # normals are rounded


def test_looking_checks_its_crop() -> None:
    with pytest.raises(ValueError, match=r"crop: expected \[512, 512, 3\], got \[100, 512, 3\]"):
        look(torch.zeros(100, 512, 3), head_view())


def eyeball(left: float) -> EyePaint:
    """An eye that looks to its left by some radians; its slit shows a third of the front."""
    direction = np.random.default_rng(2).normal(size=(4000, 3)).astype(np.float32)
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)

    def coloured(axis: np.ndarray, iris: list[float]) -> np.ndarray:
        inside = np.arccos(np.clip(direction @ axis, -1, 1)) < 0.45
        return np.where(inside[:, None], iris, [0.9, 0.88, 0.86]).astype(np.float32)

    ahead, aside = np.array([0, 0, 1.0]), np.array([np.sin(left), 0, np.cos(left)])
    slit = ((direction[:, 2] > 0.4) & (np.abs(direction[:, 1]) < 0.15)).astype(np.float32)
    return EyePaint(direction, coloured(ahead, [0.3, 0.2, 0.1]), coloured(aside, [0.2, 0.3, 0.5]), slit)


@pytest.mark.parametrize("left", [-0.3, 0.0, 0.25])
def test_gaze_is_found_and_the_hidden_iris_takes_its_colour(left: float) -> None:
    eye = eyeball(left)
    axis, radius = eye.iris()
    assert abs(find_gaze([eye], (axis,), (radius,))[0] - left) < 0.08  # two steps of the search
    (painted,) = paint_eyes([eye])
    gaze = np.array([np.sin(left), 0, np.cos(left)])
    angle = np.arccos(np.clip(eye.direction @ gaze, -1, 1))
    hidden = (angle > 0.2) & (angle < 0.32) & (eye.visibility == 0)
    assert hidden.any()
    assert np.abs(painted[hidden] - [0.2, 0.3, 0.5]).mean() < 0.06


def test_openness_knows_inside_from_outside() -> None:
    head = builtin_head()
    light = openness(head)
    tip, tongue = head.landmarks[30], head.faces[head.face_part == head.part_names.index("tongue")].unique()
    assert light[tip] > 0.9
    assert light[tongue].mean() < 0.3
