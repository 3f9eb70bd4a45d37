"""Unprojection of a rendered head gives its texture back, and says truthfully what is visible."""

from functools import cache

import numpy as np
import pytest
import torch

from emogs.head import builtin_head
from emogs.head.uv import TexelMap, texel_map
from emogs.photo import Look, look
from emogs.photo.unproject import BEHIND, mirror_texels

from .person import Person, head_view, paint, photograph

YAWS = [0.0, 30.0]


@cache
def texels() -> TexelMap:
    return texel_map(builtin_head())


@cache
def seen(yaw: float) -> tuple[Person, Look]:
    person = photograph(yaw, bald=True)
    return person, look(person.crop, person.view, texels())


def texel_uv() -> np.ndarray:
    """[M, 2] of the texel centres."""
    return np.stack([texels().column + 0.5, texels().row + 0.5], 1) / texels().size


@pytest.mark.parametrize("yaw", YAWS)
def test_visible_texels_hold_the_texture(yaw: float) -> None:
    _, found = seen(yaw)
    colour, visibility = (texels().sample(image).numpy() for image in (found.maps.colour, found.maps.visibility))
    trusted = (visibility[:, 0] > 0.9) & (builtin_head().face_part[texels().face].numpy() == 0)
    error = np.abs(colour - paint(texel_uv())).max(1)[trusted]
    assert trusted.sum() > 0.15 * len(trusted)
    assert np.percentile(error, 99) < 0.03  # a pixel off, where the texture is steepest


@pytest.mark.parametrize("yaw", YAWS)
def test_visibility_is_what_rays_say(yaw: float) -> None:
    """Judged by the depth buffer, which is a ray cast through cells and not through texels."""
    person, found = seen(yaw)
    view = person.view
    point = view.to_camera(texels().interpolate(view.template.faces, view.vertices).numpy())
    cell = (view.project(point) * (256 / view.size)).astype(int).clip(0, 255)
    around = np.stack([view.front.depth[(cell[:, 1] + dy).clip(0, 255), (cell[:, 0] + dx).clip(0, 255)]
                       for dy in (-1, 0, 1) for dx in (-1, 0, 1)])  # fmt: skip
    visibility = texels().sample(found.maps.visibility)[:, 0].numpy()
    hidden = around.max(0) < point[:, 2] - 2 * BEHIND
    assert not (visibility[hidden] > 0).any()
    assert hidden.mean() > 0.15
    normal = texels().sample(found.maps.normal).numpy()
    toward = -(point @ view.viewmat[:3, :3].numpy()) / np.linalg.norm(point, axis=1, keepdims=True)
    frontal = (around.min(0) > point[:, 2] - BEHIND) & ((normal * toward).sum(1) > 0.8)
    assert np.median(visibility[frontal]) > 0.95


def test_a_turned_head_shows_its_other_side_in_the_mirror() -> None:
    _, found = seen(30.0)
    maps = found.maps
    gained = (maps.mirror_visibility > 0.9) & (maps.visibility < 0.1)
    assert gained.float().mean() > 0.05
    flipped = torch.flip(maps.visibility, [1])
    twin = maps.mirror_visibility > 0
    assert torch.equal(maps.mirror_visibility[twin], flipped[twin])
    pair = twin.expand(-1, -1, 3)
    assert torch.equal(maps.mirror[pair], torch.flip(maps.colour, [1])[pair])


def test_mirror_texels_are_mutual() -> None:
    there, other = mirror_texels(head_view(), texels())
    assert there.mean() > 0.9
    paired = there > 0
    assert np.array_equal(other[other[paired]], np.nonzero(paired)[0])


def test_stack_is_what_the_encoder_reads() -> None:
    _, found = seen(0.0)
    stack = found.maps.stack()
    assert stack.shape == (11, 256, 256) and stack.dtype == torch.float32
    unseen = found.maps.visibility[..., 0] == 0
    assert not stack[:3, unseen].any()
    assert torch.isfinite(stack).all()
