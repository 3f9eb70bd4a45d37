"""Baking reproduces its anchors, keeps only the components it needs, and is exactly null at the null code."""

import torch

from emogs.emotion import psi
from emogs.emotion.geometry import anchor_codes
from emogs.model.bake import MOST_COMPONENTS, TOLERANCE, bake

ATTRIBUTES = 500


def smooth_answer(rank: int):
    """A function of the code that is not linear in psi, with a known number of independent attribute directions."""
    generator = torch.Generator().manual_seed(rank)
    inner = torch.randn(7, rank, generator=generator)
    outer = torch.randn(rank, ATTRIBUTES, generator=generator)
    return lambda code: (0.3 + torch.tanh(code @ inner) @ outer)[0]


def baked(answer, code):
    null, weights, basis = bake(answer)
    return null + psi(code)[0] @ weights @ basis


def test_every_anchor_is_reproduced_to_the_tolerance():
    answer = smooth_answer(rank=6)
    for code in anchor_codes():
        error = (baked(answer, code[None]) - answer(code[None])).square().mean().sqrt()
        assert error <= 1.01 * TOLERANCE


def test_the_null_code_gives_the_null_answer_bitwise():
    answer = smooth_answer(rank=3)
    null, weights, basis = bake(answer)
    assert torch.equal(null, answer(torch.zeros(1, 7)))
    assert torch.equal(psi(torch.zeros(1, 7)) @ weights @ basis, torch.zeros(1, ATTRIBUTES))


def test_no_more_components_than_the_answers_span():
    _, weights, basis = bake(smooth_answer(rank=4))
    assert weights.shape == (35, 4) and basis.shape == (4, ATTRIBUTES)


def test_components_are_limited():
    _, weights, _ = bake(smooth_answer(rank=30))
    assert weights.shape[1] == MOST_COMPONENTS


def test_an_answer_that_ignores_the_emotion_needs_no_basis():
    _, weights, basis = bake(lambda code: torch.full((ATTRIBUTES,), 0.5))
    assert weights.shape == (35, 0) and basis.shape == (0, ATTRIBUTES)
