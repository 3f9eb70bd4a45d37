"""Mixes stay faces: bounded, exactly zero at neutral, compounds by their own table, antagonists never together."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from emogs.emotion import (
    EMOTIONS,
    action_units_from_emotion,
    default_tables,
    emotion_from_action_units,
    expression_from_action_units,
    expression_from_emotion,
    parse_emotion,
)
from emogs.emotion.mixing import compound_weights
from emogs.emotion.tables import UNTOUCHED
from emogs.head.template import ARKIT_NAMES

EPSILON = 1e-6  # a few roundings of float32 near 1
codes = st.lists(st.floats(0, 1, width=32), min_size=7, max_size=7).map(lambda values: torch.tensor([values]))


def channels(text):
    values = expression_from_emotion(parse_emotion(text)[None])[0]
    return {name: float(value) for name, value in zip(ARKIT_NAMES, values, strict=True) if value > EPSILON}


def unit(code, name):
    return action_units_from_emotion(code)[:, default_tables().units.index(name)]


def test_neutral_is_exactly_zero():
    assert torch.equal(expression_from_emotion(torch.zeros(3, 7)), torch.zeros(3, 52))


@given(codes)
def test_every_channel_stays_in_range_and_gaze_and_blinks_stay_zero(code):
    expression = expression_from_emotion(code)
    assert expression.amin() >= -EPSILON
    assert expression.amax() <= 1 + EPSILON
    assert not expression[:, [ARKIT_NAMES.index(name) for name in UNTOUCHED]].any()


@given(codes)
@settings(max_examples=300)
def test_compound_weights_leave_room_for_the_free_mix(code):
    weight = compound_weights(code.double(), default_tables())
    assert weight.amin() >= 0
    assert weight.sum() <= 1 + EPSILON


@pytest.mark.parametrize("intensity", [0.25, 0.5, 1.0])
@pytest.mark.parametrize("index", range(len(EMOTIONS)))
def test_one_emotion_is_its_prototype_at_its_intensity(index, intensity):
    units = action_units_from_emotion(intensity * torch.eye(7)[index, None])
    torch.testing.assert_close(units[0], intensity * default_tables().prototypes[index])


@pytest.mark.parametrize("intensity", [0.5, 1.0])
@pytest.mark.parametrize("name", default_tables().compounds)
def test_compounds_use_their_own_table(name, intensity):
    tables = default_tables()
    units = action_units_from_emotion(parse_emotion(f"{name}={intensity}")[None])
    torch.testing.assert_close(units[0], intensity * tables.compound_units[tables.compounds.index(name)])


def test_what_each_emotion_must_show():
    happy, sad, fear, anger, disgust = map(channels, ("happy", "sad", "fear", "anger", "disgust"))
    assert happy["mouthSmileLeft"] > 0.6 < happy["cheekSquintLeft"]
    assert "mouthFrownLeft" not in happy
    assert sad["browInnerUp"] > 0.6 < sad["mouthFrownLeft"]
    assert 0.1 < channels("surprise")["jawOpen"] < 0.5
    assert fear["browInnerUp"] > 0.6 < fear["eyeWideLeft"]
    assert fear["mouthStretchLeft"] > 0.5 > fear["jawOpen"]
    assert anger["browDownLeft"] > 0.8
    assert anger["mouthPressLeft"] > 0.5 < anger["eyeSquintLeft"]
    assert disgust["noseSneerLeft"] > 0.6
    assert disgust["mouthUpperUpLeft"] > 0.2
    assert set(channels("contempt")) == {"mouthSmileRight", "mouthDimpleRight"}


def test_a_free_mix_is_a_noisy_or():
    """Happiness and contempt both pull the right lip corner, and no compound is named after the two."""
    corner = unit(torch.tensor([[0.8, 0, 0, 0, 0, 0, 0.6]]), "12")[0]
    torch.testing.assert_close(corner, torch.tensor([0.8 * 0.85, 1 - (1 - 0.8 * 0.85) * (1 - 0.6 * 0.5)]))


@pytest.mark.parametrize("sad", [0.2, 0.5, 0.8])
def test_the_stronger_antagonist_wins_by_the_difference(sad):
    """Contempt pulls the right lip corner up, sadness down; the left corner knows only sadness."""
    code = torch.tensor([[0, sad, 0, 0, 0, 0, 1 - sad]])
    up, down = unit(code, "12")[0], unit(code, "15")[0]
    net = 0.5 * (1 - sad) - 0.8 * sad
    torch.testing.assert_close(up, torch.tensor([0.0, max(net, 0.0)]))
    torch.testing.assert_close(down, torch.tensor([0.8 * sad, max(-net, 0.0)]))


def test_antagonists_within_one_emotion_are_its_own_affair():
    """Fear raises and tightens the lids at once."""
    fear = parse_emotion("fear")[None]
    assert (unit(fear, "5") > 0).all()
    assert (unit(fear, "7") > 0).all()


@given(codes)
def test_moving_a_slider_never_jumps(code):
    """A channel changes at most six times as fast as a slider, relative to how much emotion there is at all."""
    total, step = float(code.sum()), 1e-4
    moved = (code + step * torch.eye(7)).clamp(0, 1)
    change = expression_from_emotion(moved.double()) - expression_from_emotion(code.double())
    assert change.abs().max() <= 6 * step * max(1.0, 1 / max(total, 1e-3))


def test_mixing_gradients():
    generator = torch.Generator().manual_seed(1)
    code = (0.05 + 0.2 * torch.rand(4, 7, dtype=torch.float64, generator=generator)).requires_grad_()
    assert torch.autograd.gradcheck(expression_from_emotion, code)


def test_gradients_are_finite_at_neutral_and_at_full():
    code = torch.cat([torch.zeros(1, 7), torch.ones(1, 7), torch.eye(7)]).requires_grad_()
    expression_from_emotion(code).sum().backward()
    assert code.grad.isfinite().all()


def test_at_neutral_gradients_are_the_slopes_of_first_emotions():
    neutral, step = torch.zeros(7, dtype=torch.float64), 1e-7
    slopes = torch.autograd.functional.jacobian(action_units_from_emotion, neutral).movedim(-1, 0)
    forward = action_units_from_emotion(step * torch.eye(7, dtype=torch.float64)) / step
    torch.testing.assert_close(slopes, forward, rtol=0, atol=1e-6)  # curvature times the step


def test_tables_first_used_without_gradients_still_have_them_later():
    fresh = default_tables.__wrapped__
    with torch.inference_mode():
        tables = fresh()
        action_units_from_emotion(torch.rand(2, 7), tables)
        emotion_from_action_units(torch.rand(2, len(tables.units), 2), tables)
    codes = torch.full((7,), 0.3, requires_grad=True)
    units = action_units_from_emotion(codes, tables)
    emotion_from_action_units(units, tables)[0].sum().backward()
    assert codes.grad.isfinite().all()


def test_wrong_shapes_are_named():
    with pytest.raises(ValueError, match=r"codes: expected \[..., 7\], got \[3, 8\]"):
        expression_from_emotion(torch.zeros(3, 8))
    with pytest.raises(ValueError, match=r"units: expected"):
        expression_from_action_units(torch.zeros(1, 3))


@given(codes, st.floats(0, 1))
def test_antagonists_never_pull_together_beyond_what_one_face_knows(code, share):
    """Compounds included: near sadly angry (frown) some happiness (smile) must not pull the corners both ways."""
    mixed = share * code + (1 - share) * parse_emotion("sadly angry=0.9,happy=0.3")[None]
    up, down = unit(mixed, "12"), unit(mixed, "15")
    assert torch.minimum(up, down).max() <= EPSILON


def test_leading_dimensions_are_kept():
    codes = torch.rand(2, 3, 7, generator=torch.Generator().manual_seed(2))
    assert torch.equal(expression_from_emotion(codes)[1, 2], expression_from_emotion(codes[1, 2]))


def test_an_empty_batch_is_fine():
    assert expression_from_emotion(torch.zeros(0, 7)).shape == (0, 52)
