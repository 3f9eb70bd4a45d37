"""Valence, arousal, dominance: exact for what the table names, continuous everywhere, honest about the rest."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from emogs.emotion import (
    AFFECT_NAMES,
    EMOTIONS,
    affect_from_emotion,
    default_tables,
    emotion_from_affect,
)

ROUNDING = 1e-5
PLACED = [name for name in EMOTIONS if name != "contempt"]
coordinates = st.floats(-1, 1, width=32)
mixes = st.lists(st.floats(0, 1, width=32), min_size=6, max_size=6).map(lambda values: torch.tensor([*values, 0.0]))


def steepest(size):
    """How far a code may move for each unit of affect: the fan's narrowest cone, measured once and rounded up."""
    return {2: 40, 3: 200}[size]


@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize("intensity", [0.25, 1.0])
@pytest.mark.parametrize("name", PLACED)
def test_single_emotions_come_back(name, intensity, size):
    code = intensity * torch.eye(7)[EMOTIONS.index(name)]
    back = emotion_from_affect(affect_from_emotion(code)[:size])
    torch.testing.assert_close(back, code, atol=ROUNDING, rtol=0)


@pytest.mark.parametrize("size", [2, 3])
def test_neutral_is_the_origin_bit_for_bit(size):
    assert torch.equal(affect_from_emotion(torch.zeros(2, 7)), torch.zeros(2, 3))
    assert torch.equal(emotion_from_affect(torch.zeros(2, size)), torch.zeros(2, 7))


@given(mixes)
def test_affect_stays_in_its_square(code):
    assert affect_from_emotion(code).abs().max() <= 1


@pytest.mark.parametrize("size", [2, 3])
@given(point=st.lists(coordinates, min_size=3, max_size=3).map(torch.tensor))
def test_codes_are_sparse_and_a_second_round_trip_loses_nothing(point, size):
    code = emotion_from_affect(point[:size].double())
    assert code.min() >= 0
    assert code.sum() <= 1 + ROUNDING
    assert (code > ROUNDING).sum() <= size
    reached = affect_from_emotion(code)[:size]
    torch.testing.assert_close(affect_from_emotion(emotion_from_affect(reached))[:size], reached, atol=1e-4, rtol=0)


@pytest.mark.parametrize("size", [2, 3])
@given(
    point=st.lists(coordinates, min_size=3, max_size=3).map(torch.tensor),
    direction=st.lists(coordinates, min_size=3, max_size=3).map(torch.tensor),
)
def test_a_small_move_is_a_small_change(point, direction, size):
    step = 1e-6
    here = point[:size].double()
    there = (here + step * direction[:size]).clamp(-1, 1)
    change = (emotion_from_affect(there) - emotion_from_affect(here)).abs().max()
    assert change <= steepest(size) * step + 1e-9


@given(st.lists(coordinates, min_size=2, max_size=2).map(torch.tensor), st.floats(0, 1))
def test_intensity_is_the_distance_from_neutral(point, share):
    full = emotion_from_affect(point.double())
    if float(full.sum()) < 1 - ROUNDING:
        torch.testing.assert_close(emotion_from_affect(share * point.double()), share * full, atol=1e-9, rtol=0)


@pytest.mark.parametrize("size", [2, 3])
def test_points_inside_the_fan_are_met(size):
    """Mixes of neighbours, by the table's own directions in the plane."""
    generator = torch.Generator().manual_seed(0)
    points = 2 * torch.rand(4000, size, dtype=torch.float64, generator=generator) - 1
    codes = emotion_from_affect(points)
    inside = ((codes > 0).sum(1) == size) & (codes.sum(1) < 1 - ROUNDING)
    assert inside.sum() > 50
    torch.testing.assert_close(affect_from_emotion(codes[inside])[:, :size], points[inside], atol=1e-9, rtol=0)


def test_what_the_seven_cannot_say_is_nearly_neutral():
    """Content and calm: pleasant, quiet. There is no emotion for it among the seven."""
    assert emotion_from_affect(torch.tensor([0.3, -0.6])).sum() < 0.1


def test_contempt_must_be_placed_by_the_user():
    contempt = torch.eye(7)[6]
    with pytest.raises(ValueError, match=r"contempt has no valence .*with_affect\('contempt'"):
        affect_from_emotion(contempt)
    tables = default_tables().with_affect("contempt", -0.5, -0.1, 0.4)
    torch.testing.assert_close(affect_from_emotion(0.5 * contempt, tables), torch.tensor([-0.25, -0.05, 0.2]))
    torch.testing.assert_close(emotion_from_affect(torch.tensor([-0.5, -0.1]), tables), contempt, atol=1e-5, rtol=0)
    assert default_tables().affect[6].isnan().all()


@pytest.mark.parametrize(("name", "point"), [("contempt", (2, 0, 0)), ("bored", (0, 0, 0)), ("sad", (0, 0, "x"))])
def test_places_are_checked(name, point):
    with pytest.raises(ValueError, match=r"from -1 to 1|unknown"):
        default_tables().with_affect(name, *point)


def test_gradients():
    generator = torch.Generator().manual_seed(1)
    code = (0.05 + 0.1 * torch.rand(4, 7, dtype=torch.float64, generator=generator)).requires_grad_()
    placed = torch.ones(7, dtype=torch.float64)
    placed[6] = 0
    assert torch.autograd.gradcheck(lambda code: affect_from_emotion(code * placed), code)
    point = torch.tensor([[0.3, 0.3], [-0.3, 0.28], [-0.4, 0.1]], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(emotion_from_affect, point)


@pytest.mark.parametrize("shape", [(0, 2), (3, 2), (2, 3, 3)])
def test_batches(shape):
    assert emotion_from_affect(torch.zeros(shape)).shape == (*shape[:-1], 7)
    assert affect_from_emotion(torch.zeros(*shape[:-1], 7)).shape == (*shape[:-1], len(AFFECT_NAMES))


@pytest.mark.parametrize(
    ("affect", "error", "message"),
    [
        (torch.tensor([0.0, -2.0]), ValueError, "affect: expected numbers from -1 to 1, got -2"),
        (torch.tensor([0.0, torch.nan]), ValueError, "got nan"),
        (torch.zeros(4), ValueError, r"expected \[..., 2 or 3\], got \[4\]"),
        (torch.zeros(2, dtype=torch.int64), TypeError, "floating-point"),
        ([0.0, 0.0], TypeError, "expected a tensor, got list"),
    ],
)
def test_wrong_points_are_named(affect, error, message):
    with pytest.raises(error, match=message):
        emotion_from_affect(affect)
