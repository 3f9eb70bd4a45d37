"""The matte on people whose outline is known, before plain, busy and treacherous walls."""

import dataclasses

import numpy as np
import pytest
import torch

from emogs.photo.matte import clean_colours, matte_person

from .person import HAIR, SIZE, overlap, photograph

LEAST_OVERLAP = 0.97
"""The outline is about 1800 pixels long; a soft edge of two pixels on each side would cost 3%."""


def wall(kind: str) -> np.ndarray:
    rng = np.random.default_rng(1)
    if kind == "busy":
        return np.kron(rng.random((16, 16, 3)) * [0.3, 0.9, 0.5], np.ones((32, 32, 1)))
    if kind == "like hair":
        return HAIR + 0.12 + 0.02 * rng.normal(size=(SIZE, SIZE, 1))
    return np.full((SIZE, SIZE, 3), 0.75)


@pytest.mark.parametrize("kind", ["plain", "busy", "like hair"])
def test_matte_finds_the_person(kind: str) -> None:
    person = photograph(wall=wall(kind))
    matte = matte_person(person.crop.numpy(), person.view)
    assert overlap(matte.alpha, person.alpha) > LEAST_OVERLAP


def test_colours_lose_the_background() -> None:
    """A brown disc blurred into a bright wall: within the soft edge the colours stay brown."""
    y, x = np.mgrid[:200, :200] - 100.0
    alpha = np.clip((70 - np.hypot(x, y)) / 8 + 0.5, 0, 1).astype(np.float32)
    crop = (alpha[..., None] * HAIR + (1 - alpha[..., None]) * [0.9, 0.95, 1.0]).astype(np.float32)
    clean = clean_colours(crop, alpha)
    edge = (alpha > 0.05) & (alpha < 0.95)
    assert np.abs(crop[edge] - HAIR).mean() > 0.3
    assert np.abs(clean[edge] - HAIR).mean() < 0.05


def test_nothing_is_kept_beyond_the_photo() -> None:
    person = photograph()
    valid = torch.ones(SIZE, SIZE, dtype=torch.bool)
    valid[440:] = False
    crop = person.crop.clone()
    crop[440:] = crop[439]
    matte = matte_person(crop.numpy(), dataclasses.replace(person.view, valid=valid))
    assert not matte.alpha[440:].any()
    assert overlap(matte.alpha[:440], person.alpha[:440]) > LEAST_OVERLAP


@pytest.mark.parametrize("level", [0.0, 0.5, 1.0])
def test_a_crop_of_one_colour_gives_the_head(level: float) -> None:
    person = photograph()
    matte = matte_person(np.full((SIZE, SIZE, 3), level, np.float32), person.view)
    assert np.isfinite(matte.alpha).all() and np.isfinite(matte.foreground).all()
    middle = (
        person.view.project(person.view.camera_vertices[person.view.template.landmarks.numpy()]).mean(0).astype(int)
    )
    assert matte.alpha[middle[1], middle[0]] == 1
