"""The page without a browser: it starts, its sliders move the Gaussians, and a taken port is explained."""

import contextlib
import socket

import numpy as np
import pytest
import torch

from emogs.emotion import EMOTIONS, parse_emotion
from emogs.head.template import ARKIT_NAMES
from emogs.viewer.page import UNITS_PER_METRE, AvatarPage, splat_arrays

from .fakes import FakeAvatar

HALF = 2e-3  # relative rounding of viser's half-precision covariances, and of their sums


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def page():
    for _ in range(10):
        with contextlib.suppress(ValueError):  # another process has taken the port since it was free
            page = AvatarPage(FakeAvatar(), free_port())
            break
    yield page
    page.stop()


def height(page):
    return float(page.splats.centers[0, 1])


def test_moving_a_slider_moves_the_gaussians(page):
    assert height(page) == 0
    page.emotions["happy"].value = 0.7
    page.show()
    assert height(page) == pytest.approx(0.7)
    page.articulations["open jaw"].value = 1.0
    page.show()
    assert height(page) == pytest.approx(0.8)


def test_every_emotion_has_a_slider(page):
    assert tuple(page.emotions) == EMOTIONS


def test_presets_and_reset(page):
    page.set_emotion(parse_emotion("happily surprised"))
    assert torch.equal(page.code, parse_emotion("happily surprised"))
    assert height(page) == pytest.approx(1.0)
    page.own.value = 1.0
    page.turn.value = 20.0
    page.reset()
    assert not page.code.any()
    assert not page.articulation.any()
    assert height(page) == 0
    np.testing.assert_allclose(page.splats.wxyz, [1, 0, 0, 0])


def test_looking_left_and_right_are_different_channels(page):
    page.articulations["look left"].value = -0.5
    moved = {ARKIT_NAMES[i] for i in page.articulation.nonzero()[:, 0]}
    assert moved == {"eyeLookInLeft", "eyeLookOutRight"}


def test_splats_are_in_centimetres_and_survive_half_precision():
    arrays = splat_arrays(FakeAvatar().posed())
    variance = (UNITS_PER_METRE * torch.tensor([0.001, 0.002, 0.003])).square().numpy()
    np.testing.assert_allclose(arrays["covariances"][0].astype(np.float16), np.diag(variance), rtol=HALF)
    np.testing.assert_allclose(
        arrays["covariances"][1], np.diag(variance[[1, 0, 2]]), atol=1e-6
    )  # a quarter turn about z
    assert arrays["rgbs"].max() == 1


def test_a_taken_port_is_explained(page):
    port = page.server.get_port()
    with pytest.raises(ValueError, match=f"port {port} on 127.0.0.1 is taken; choose another with --port"):
        AvatarPage(FakeAvatar(), port)


def test_an_impossible_port_is_explained():
    with pytest.raises(ValueError, match="expected 1 to 65535, got 70000"):
        AvatarPage(FakeAvatar(), 70000)
