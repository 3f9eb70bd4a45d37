"""PSPI: the published sum, its scale, and faces that score what they were asked to."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from strategies import tensors

from emogs.emotion import (
    HIGHEST_PAIN,
    action_units_from_pain,
    default_tables,
    pain_from_action_units,
    parse_action_units,
)

COUNT = len(default_tables().units)


@pytest.mark.parametrize(
    ("text", "score"),
    [
        ("neutral", 0),
        ("4E", 5),
        ("6C+7E", 5),
        ("9A+10B", 2),
        ("43E", 1),
        ("45E", 0),  # a blink is no closed eye
        ("12E+25E", 0),
        ("L4C", 3),
        ("4E+6E+9E+43E", HIGHEST_PAIN),
    ],
)
def test_scores(text, score):
    assert float(pain_from_action_units(parse_action_units(text))) == score


@given(st.floats(0, 16, width=32))
def test_a_face_in_pain_scores_what_was_asked(score):
    wanted = torch.tensor(score)
    units = action_units_from_pain(wanted)
    assert units.min() >= 0 and units.max() <= 1
    torch.testing.assert_close(pain_from_action_units(units), wanted, atol=1e-5, rtol=0)


@given(tensors(COUNT, 2), tensors(COUNT, 2))
def test_more_is_never_less(units, more):
    assert pain_from_action_units(torch.maximum(units, more)) >= pain_from_action_units(units)
    assert 0 <= pain_from_action_units(units) <= HIGHEST_PAIN


@given(tensors(COUNT, 2))
def test_sides_do_not_matter(units):
    assert torch.equal(pain_from_action_units(units.flip(1)), pain_from_action_units(units))


def test_no_pain_is_zero_bit_for_bit():
    assert not action_units_from_pain(torch.zeros(3)).any()
    assert action_units_from_pain(torch.zeros(2, 0)).shape == (2, 0, COUNT, 2)


def test_gradients():
    units = 0.1 + 0.3 * torch.rand(2, COUNT, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert torch.autograd.gradcheck(pain_from_action_units, units.requires_grad_())


@pytest.mark.parametrize("score", [-1.0, 17.0, torch.nan])
def test_wrong_scores_are_named(score):
    with pytest.raises(ValueError, match="score: expected numbers from 0 to 16"):
        action_units_from_pain(torch.tensor(score))
    with pytest.raises(ValueError, match="units: expected numbers from 0 to 1"):
        pain_from_action_units(torch.full((COUNT, 2), score))
