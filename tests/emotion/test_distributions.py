"""Votes: probabilities, agreement, temperature, and a loss that trusts the reliable."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from strategies import codes, tensors

from emogs.emotion import (
    agreement,
    distribution_from_emotion,
    distribution_from_votes,
    distribution_loss,
    emotion_from_distribution,
    remap_probabilities,
    temper,
)

EPSILON = 1e-6
ballots = st.lists(st.integers(0, 10), min_size=10, max_size=10).map(lambda v: torch.tensor(v, dtype=torch.float32))
distributions = tensors(8, low=0.0).map(lambda p: torch.softmax(6 * p.double(), -1))


@given(ballots)
def test_votes_become_probabilities(votes):
    p, trust = distribution_from_votes(votes)
    torch.testing.assert_close(p.sum(), torch.tensor(1.0))
    assert 0 <= trust <= 1
    if votes[:8].sum():
        torch.testing.assert_close(p * votes[:8].sum(), votes[:8])
    else:
        assert trust == 0


@given(ballots, st.permutations(range(8)))
def test_reliability_does_not_depend_on_the_order_of_classes(votes, order):
    moved = torch.cat([votes[list(order)], votes[8:]])
    torch.testing.assert_close(distribution_from_votes(moved).reliability, distribution_from_votes(votes).reliability)


@pytest.mark.parametrize("unknown", range(10))
def test_every_unknown_vote_lowers_reliability(unknown):
    votes = torch.zeros(2, 10)
    votes[:, 1] = 10 - unknown
    votes[0, 8], votes[1, 9] = unknown, unknown
    torch.testing.assert_close(distribution_from_votes(votes).reliability, torch.full((2,), 1 - unknown / 10))


def test_disagreement_lowers_reliability():
    votes = torch.tensor([[10.0, 0, 0, 0, 0, 0, 0, 0], [6, 4, 0, 0, 0, 0, 0, 0], [3, 3, 2, 2, 0, 0, 0, 0], [1.0] * 8])
    trust = distribution_from_votes(votes).reliability
    assert trust[0] == 1
    assert (trust.diff() < 0).all()
    assert abs(trust[3]) < EPSILON


@given(distributions, st.floats(0.2, 5))
def test_temperature_is_undone_by_its_inverse(p, temperature):
    torch.testing.assert_close(temper(temper(p, temperature), 1 / temperature), p, atol=1e-9, rtol=0)


@given(distributions, st.floats(0.2, 1), st.floats(0.2, 1))
def test_cooler_is_more_agreed(p, one, other):
    cool, warm = sorted((one, other))
    assert agreement(temper(p, cool)) >= agreement(temper(p, warm)) - EPSILON


def test_what_is_impossible_stays_so_and_ties_stay_ties():
    p = torch.tensor([0.0, 0.5, 0.5, 0.0])
    for temperature in (0.01, 1.0, 100.0):
        torch.testing.assert_close(temper(p, temperature), p)


def test_a_row_of_zeros_is_tempered_to_zeros_and_has_a_gradient():
    """As `remap_probabilities` leaves where the target has none of the classes."""
    p = torch.tensor([[0.0, 0.0, 0.0], [0.2, 0.0, 0.8]], requires_grad=True)
    sharper = temper(p, 0.5)
    torch.testing.assert_close(sharper, torch.tensor([[0.0, 0.0, 0.0], [0.04 / 0.68, 0.0, 0.64 / 0.68]]))
    (slope,) = torch.autograd.grad(sharper[:, 2].sum(), p)
    assert slope.isfinite().all() and slope[1, 2] > 0


@pytest.mark.parametrize("wrong", [-0.1, float("nan"), float("inf")])
def test_what_is_no_probability_is_refused(wrong):
    p = torch.tensor([0.5, wrong])
    with pytest.raises(ValueError, match="probabilities: expected numbers from 0 to 1"):
        agreement(p)
    with pytest.raises(
        ValueError, match=f"probabilities: expected finite numbers that are not negative, got {wrong:g}"
    ):
        temper(p, 2.0)


@pytest.mark.parametrize("call", [agreement, lambda p: temper(p, 2.0)])
def test_one_number_is_no_distribution(call):
    with pytest.raises(ValueError, match=r"probabilities: expected \[..., C\], got \[\]"):
        call(torch.tensor(0.5))


def test_counts_have_no_agreement():
    with pytest.raises(ValueError, match="probabilities: expected numbers from 0 to 1, got 9"):
        agreement(torch.tensor([9.0, 1.0]))


@given(codes)
def test_codes_up_to_one_come_back(code):
    code = code / code.sum().clamp_min(1)
    for dataset in ("affectnet-8", "fer+", "mead"):
        p = distribution_from_emotion(code, dataset)
        torch.testing.assert_close(p.sum(), torch.tensor(1.0))
        torch.testing.assert_close(emotion_from_distribution(p, dataset), code, atol=EPSILON, rtol=0)


def test_neutral_is_no_emotion_bit_for_bit():
    p = distribution_from_emotion(torch.zeros(7), "affectnet-8")
    assert torch.equal(p, torch.eye(8)[0])
    assert not emotion_from_distribution(p, "affectnet-8").any()


def test_compound_classes_show_their_mixes():
    code = emotion_from_distribution(torch.eye(11)[0], "raf-db-compound")
    assert code.tolist() == [0.5, 0, 0.5, 0, 0, 0, 0]


def test_the_order_of_the_data_set_does_not_matter():
    p = torch.softmax(torch.arange(8.0), 0)
    same = remap_probabilities(p, "affectnet-8", "fer+").probabilities
    torch.testing.assert_close(emotion_from_distribution(same, "fer+"), emotion_from_distribution(p, "affectnet-8"))


def test_the_loss_is_least_at_the_target_and_trusts_the_reliable():
    p = torch.softmax(torch.randn(5, 8, generator=torch.Generator().manual_seed(0)), -1)
    wrong = p.roll(1, 1)
    assert distribution_loss(p.log(), p) < distribution_loss(wrong.log(), p)
    trust = torch.tensor([1.0, 0, 0, 0, 0])
    torch.testing.assert_close(distribution_loss(wrong.log(), p, trust), distribution_loss(wrong.log()[:1], p[:1]))
    assert distribution_loss(wrong.log(), p, 0 * trust) == 0


def test_gradients():
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(3, 8, dtype=torch.float64, generator=generator, requires_grad=True)
    p = torch.softmax(torch.randn(3, 8, dtype=torch.float64, generator=generator), -1).requires_grad_()
    trust = torch.rand(3, dtype=torch.float64, generator=generator)
    assert torch.autograd.gradcheck(lambda logits, p: distribution_loss(logits, p, trust), (logits, p))
    assert torch.autograd.gradcheck(lambda p: temper(p, 0.7), p)
    impossible = torch.tensor([0.0, 0.4, 0.6], requires_grad=True)
    assert torch.autograd.grad(temper(impossible, 2.0)[1], impossible)[0].isfinite().all()
    assert torch.autograd.gradcheck(agreement, p)
    assert torch.autograd.gradcheck(lambda p: emotion_from_distribution(p, "fer+"), p)
    code = (0.05 + 0.05 * torch.rand(2, 7, dtype=torch.float64, generator=generator)).requires_grad_()
    assert torch.autograd.gradcheck(lambda code: distribution_from_emotion(code, "fer+"), code)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: distribution_from_votes(torch.full((8,), -1.0)), "finite counts that are not negative, got -1"),
        (lambda: distribution_from_votes(torch.full((8,), torch.inf)), "finite counts that are not negative, got inf"),
        (lambda: distribution_from_votes(torch.full((8,), torch.nan)), "finite"),
        (lambda: distribution_from_votes(torch.zeros(9)), r"votes: expected \[..., 8 or 10\], got \[9\]"),
        (lambda: temper(torch.ones(3) / 3, 0), "temperature: expected a number above 0, got 0"),
        (lambda: distribution_from_emotion(torch.zeros(7), "raf-db-compound"), "has compounds"),
        (lambda: distribution_loss(torch.zeros(2, 3), torch.zeros(2, 4)), r"expected \[2, 3\] like logits"),
        (
            lambda: distribution_loss(torch.zeros(2, 3), torch.zeros(2, 3), torch.ones(3)),
            r"reliability: expected \[2\]",
        ),
    ],
)
def test_wrong_distributions_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
