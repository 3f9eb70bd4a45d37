"""Folds of the photographed expression: taken out where it moves the skin, whole again when it is worn again."""

from functools import lru_cache

import numpy as np
import pytest
import torch

from emogs.head import TexelMap, builtin_head, texel_map
from emogs.photo import HeadView
from emogs.photo.folds import Folds, find_folds
from emogs.photo.zones import find_zones

from .person import head_view

SKIN = torch.tensor([0.8, 0.6, 0.5])
FOLD = 0.0025
"""Metres: half the breadth of the painted folds."""


@lru_cache
def texels() -> TexelMap:
    return texel_map(builtin_head())


def beside_mouth(x: float = 0.034, reach: float = FOLD) -> torch.Tensor:
    """[S, S] bool: a strip down either cheek, `x` metres from the middle, from the nose's wings to the mouth."""
    head = builtin_head()
    marks = head.vertices[head.landmarks]
    place = texels().interpolate(head.faces, head.vertices)
    strip = (place[:, 0].abs() - x).abs() < reach
    strip &= (place[:, 1] < marks[33, 1]) & (place[:, 1] > marks[48, 1]) & (place[:, 2] > 0)
    strip &= head.face_part[texels().face] == head.part_names.index("skin")
    return texels().image(strip[:, None].float())[..., 0] > 0


def left_half() -> torch.Tensor:
    """[S, S] bool: the person's left."""
    place = texels().interpolate(builtin_head().faces, builtin_head().vertices)
    return texels().image((place[:, :1] > 0).float())[..., 0] > 0


def texture(darkness: float = 0.3) -> torch.Tensor:
    """[S, S, 3] even skin with a dark strip on either cheek."""
    return torch.where(beside_mouth()[..., None], SKIN * np.exp(-darkness), SKIN.expand(256, 256, 3))


def smile(left: float = 0.6, right: float = 0.6) -> torch.Tensor:
    expression = torch.zeros(52)
    expression[builtin_head().channel("mouthSmileLeft")] = left
    expression[builtin_head().channel("mouthSmileRight")] = right
    return expression


def folds(expression: torch.Tensor | None, painted: torch.Tensor) -> Folds | None:
    view = head_view()
    view = HeadView(view.template, view.vertices, view.neutral, view.viewmat, view.K, view.size, None, expression)
    return find_folds(view, texels(), painted, find_zones(view.template))


def test_a_smile_leaves_its_folds_and_takes_them_up_again() -> None:
    painted, strip = texture(), beside_mouth()
    assert strip.sum() > 100
    found = folds(smile(), painted)
    left = (found.relaxed / SKIN).log()  # of a darkness of 0.3
    assert -0.3 * 0.3 < left[strip].mean() <= 0.01
    assert -0.3 * 0.15 < left[beside_mouth(reach=0.4 * FOLD)].mean() <= 0.01
    worn = (smile() @ found.response).clamp(0, 1)
    torch.testing.assert_close(worn, torch.ones(2), rtol=0, atol=1e-6)
    again = found.relaxed + (worn[:, None, None, None] * found.colours).sum(0)
    torch.testing.assert_close(again, painted, rtol=0, atol=1e-6)


def test_lips_and_what_does_not_move_keep_the_colour_they_have() -> None:
    noise = torch.rand(256, 256, 3, generator=torch.Generator().manual_seed(0))
    found, head = folds(smile(), noise), builtin_head()
    place = texels().interpolate(head.faces, head.vertices)
    marks = head.vertices[head.landmarks]
    lips = torch.cdist(place[:, :2], marks[48:68, :2]).amin(1) < 0.002
    still = texels().interpolate(
        head.faces, (head.deform(expression=smile()[None])[0] - head.vertices).norm(dim=1)[:, None]
    )
    kept = texels().image((lips | (still[:, 0] < 0.0005))[:, None].float())[..., 0] > 0
    assert torch.equal(found.relaxed[kept], noise[kept])
    assert not torch.equal(found.relaxed, noise)


def test_half_a_smile_has_folds_on_one_side() -> None:
    painted = texture()
    found = folds(smile(right=0), painted)
    changed = (found.relaxed - painted).abs().amax(-1) > 0.01
    assert changed[left_half()].any() and not changed[~left_half()].any()
    assert not found.colours[1].any()
    worn = smile(0.3, 0.9) @ found.response
    torch.testing.assert_close(worn, torch.tensor([0.5, 0.0]), rtol=0, atol=1e-6)


def test_what_is_darker_than_a_fold_stays() -> None:
    painted = texture(darkness=1.5)  # a moustache, the rim of glasses
    middle = beside_mouth(reach=0.4 * FOLD)
    torch.testing.assert_close(folds(smile(), painted).relaxed[middle], painted[middle], rtol=0, atol=0.02)


@pytest.mark.parametrize("expression", [None, torch.zeros(52), smile(0.05, 0.05)])
def test_a_face_at_rest_has_folds_of_its_own(expression: torch.Tensor | None) -> None:
    assert folds(expression, texture()) is None
