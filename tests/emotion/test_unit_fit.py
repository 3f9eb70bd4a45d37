"""The fit of emotion codes to action units: what it skips, what it is the minimum of, and its gradient."""

from __future__ import annotations

import pytest
import torch

from emogs.emotion import (
    action_units_from_emotion,
    default_tables,
    emotion_from_action_units,
    emotion_from_expression,
    expression_from_emotion,
    unit_fit,
)
from emogs.emotion.mixing import _product_of_others

TABLES = default_tables()
NAMED = torch.cat([torch.eye(7), TABLES.compound_mixes]).double()


def between(seed: int) -> torch.Tensor:
    """Action units [U, 2] of a mix of three, and something that no code explains."""
    generator = torch.Generator().manual_seed(seed)
    mix = torch.rand(7, generator=generator, dtype=torch.float64) * (torch.rand(7, generator=generator).argsort() < 3)
    units = action_units_from_emotion(0.8 * mix / mix.sum())
    return (units + 0.06 * torch.rand(units.shape, generator=generator) * (units > 0)).clamp(0, 1)


def test_named_faces_need_no_descent(monkeypatch):
    """They are compared with first, and explain everything."""

    def never(*_):
        raise AssertionError("descended")

    monkeypatch.setattr(unit_fit, "_descend", never)
    codes = 0.7 * NAMED
    read = emotion_from_action_units(action_units_from_emotion(codes)).codes
    torch.testing.assert_close(read, codes, atol=1e-6, rtol=0)


@pytest.mark.parametrize("seed", range(4))
def test_no_code_nearby_is_better(seed):
    """Of the priced squares; the price is that of the fit without one."""
    units = between(seed)
    tables, used = unit_fit_tables()
    wanted = units[used][None]
    with torch.no_grad():
        found = unit_fit._solve(wanted, tables)
    price = unit_fit._PRICE * cost(found.unpriced, wanted, tables).sqrt()
    least = cost(found.codes, wanted, tables) + price * found.codes.sum(1)
    generator = torch.Generator().manual_seed(seed)
    nearby = (found.codes + 0.02 * torch.randn(300, 7, generator=generator, dtype=torch.float64)).clamp(0, 1)
    assert (cost(nearby, wanted, tables) + price * nearby.sum(1) >= least - 1e-7).all()


def unit_fit_tables():
    from emogs.emotion.reading import _used_units

    return _used_units(TABLES)


def cost(codes, wanted, tables):
    return unit_fit._misses(action_units_from_emotion(codes, tables) - wanted, tables).square().sum(-1)


@pytest.mark.parametrize("seed", [4, 5])
def test_codes_have_gradients(seed):
    """By differences of solutions; those are good to 1e-8, hence the step."""
    units = between(seed)
    shown = (units > 0).nonzero()[:6]

    def read(values):
        return emotion_from_action_units(units.index_put(tuple(shown.T), values)).codes

    start = units[tuple(shown.T)].clone().requires_grad_()
    assert torch.autograd.gradcheck(read, start, eps=1e-4, atol=1e-3, rtol=1e-2)


def test_what_is_left_has_gradients_too():
    """codes, articulation and lost put the units together again, whatever these are: the derivative is the identity."""
    units = between(1).requires_grad_()
    read = emotion_from_action_units(units)
    whole = action_units_from_emotion(read.codes) + read.articulation + read.lost
    torch.testing.assert_close(whole, units, atol=1e-12, rtol=0)
    weight = torch.rand(units.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    (gradient,) = torch.autograd.grad((whole * weight).sum(), units)
    torch.testing.assert_close(gradient, weight, atol=1e-9, rtol=0)


def test_a_face_can_be_led_to_an_emotion():
    """Some steps down the gradient of ARKit shapes make a sad face less sad and happier."""
    face = expression_from_emotion(torch.tensor([0.15, 0.6, 0.0, 0.0, 0.0, 0.0, 0.0])).double()
    before = emotion_from_expression(face).codes
    for _ in range(6):
        face = face.detach().requires_grad_()
        codes = emotion_from_expression(face).codes
        (gradient,) = torch.autograd.grad(codes[0] - codes[1], face)
        assert gradient.isfinite().all()
        face = (face + 0.05 * gradient / gradient.norm().clamp_min(1e-9)).clamp(0, 1)
    after = emotion_from_expression(face.detach()).codes
    assert after[0] - after[1] > before[0] - before[1] + 0.05


def test_neutral_has_a_gradient_of_zero():
    units = torch.zeros(3, len(TABLES.units), 2, requires_grad=True)
    emotion_from_action_units(units).codes.sum().backward()
    assert not units.grad.any()


def test_product_of_others_with_zeros():
    values = torch.tensor([[2.0, 3.0, 4.0], [0.0, 3.0, 4.0], [0.0, 0.0, 4.0]])
    assert _product_of_others(values).tolist() == [[12, 8, 6], [12, 0, 0], [0, 0, 0]]
