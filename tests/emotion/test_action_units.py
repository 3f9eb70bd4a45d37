"""Coders' text and levels: there and back, sides kept, letters rounded as they say, and messages that help."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from strategies import tensors

from emogs.emotion import (
    default_tables,
    format_action_units,
    intensities_from_levels,
    levels_from_intensities,
    parse_action_units,
)

COUNT = len(default_tables().units)
levels = st.lists(st.integers(0, 5), min_size=2 * COUNT, max_size=2 * COUNT)


def level(units, name):
    return (5 * units[default_tables().units.index(name)]).tolist()


@given(levels)
def test_letters_come_back(values):
    units = torch.tensor(values).reshape(COUNT, 2) / 5
    assert torch.equal(parse_action_units(format_action_units(units)), units)


@given(tensors(COUNT, 2))
def test_without_letters_every_float_comes_back(units):
    assert torch.equal(parse_action_units(format_action_units(units, letters=False)), units)


@given(tensors(COUNT, 2))
def test_letters_lose_at_most_half_a_level(units):
    assert (parse_action_units(format_action_units(units)) - units).abs().max() <= 0.1 + 1e-6


@given(st.permutations(["6C", "12D", "R14A", "L1=2.5"]))
def test_order_does_not_matter(terms):
    assert torch.equal(parse_action_units("+".join(terms)), parse_action_units("6C+12D+R14A+L1=2.5"))


@pytest.mark.parametrize("text", ["AU12C, R14A", "12c+r14a", "AU12C AUR14A", " au12C ,RAU14A,", "AU012C R14A"])
def test_spellings(text):
    units = parse_action_units(text)
    assert level(units, "12") == [3, 3]
    assert level(units, "14") == [0, 1]
    assert format_action_units(units) == "12C+R14A"


def test_sides_may_differ():
    units = parse_action_units("L12B+R12D")
    assert level(units, "12") == [2, 4]
    assert format_action_units(units) == "L12B+R12D"


def test_units_without_a_letter():
    assert level(parse_action_units("12"), "12") == [3, 3]
    assert level(parse_action_units("12", unscored="e"), "12") == [5, 5]


def test_neutral():
    assert format_action_units(torch.zeros(COUNT, 2)) == "neutral"
    assert not parse_action_units(" Neutral ").any()


@given(tensors(3, COUNT, 2))
def test_levels_are_a_fifth_each(units):
    torch.testing.assert_close(intensities_from_levels(levels_from_intensities(units)), units)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "cannot read ''"),
        ("AU", "cannot read 'AU'"),
        ("12F", "intensity A to E"),
        ("LR12", "cannot read 'LR12'"),
        ("LAUR12", "cannot read 'LAUR12'"),
        ("99", "unit 99 is unknown; known: 1, 2, 4"),
        ("12=6", "level '6' of unit 12 is not a number from 0 to 5"),
        ("12=e", "level 'e'"),
        ("12=-1", "level '-1'"),
        ("12=", "cannot read"),
        ("12C,12D", "12D is given twice"),
        ("12C+R12D", "R12D is given twice"),
        ("neutral+12", "cannot read 'neutral'"),
    ],
)
def test_wrong_text_is_explained(text, message):
    with pytest.raises(ValueError, match=message):
        parse_action_units(text)


@pytest.mark.parametrize("unscored", ["", "F", "AB"])
def test_the_default_letter_is_checked(unscored):
    with pytest.raises(ValueError, match="unscored"):
        parse_action_units("12", unscored=unscored)


@given(st.text() | st.text(alphabet="AULRB0123456789CDE=.,+ -e"))
def test_any_text_gives_units_or_a_value_error(text):
    try:
        units = parse_action_units(text)
    except ValueError:
        return
    assert ((units >= 0) & (units <= 1)).all()


def test_wrong_shapes_are_named():
    with pytest.raises(ValueError, match=rf"units: expected \[..., {COUNT}, 2\], got \[3\]"):
        format_action_units(torch.zeros(3))
    with pytest.raises(ValueError, match=rf"units: expected \[{COUNT}, 2\], got \[1, "):
        format_action_units(torch.zeros(1, COUNT, 2))
    with pytest.raises(TypeError, match="levels: expected floating-point"):
        intensities_from_levels(torch.ones(2, dtype=torch.int64))
