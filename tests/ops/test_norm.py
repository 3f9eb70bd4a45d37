"""emotion_norm: against its torch reference and torch's own norms, gradients, regions, types, edges."""

from __future__ import annotations

import itertools

import pytest
import torch
from emulation import each_device_with
from norm_arguments import FLOATS, KINDS, bound, gradients, in_double, make
from torch import Tensor

import emogs
from emogs.ops.norm import emotion_norm_reference

CHANNELS = (3, 31, 32, 33, 128, 1000)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("channels", CHANNELS)
def test_float32_matches_float64_reference(device, kind, channels):
    arguments = make(channels=channels, kind=kind, dtype=torch.float32, device=device)
    actual, expected = gradients(arguments), gradients(in_double(arguments), emotion_norm_reference)
    for name, value in actual.items():
        scale = expected[name].abs().max().item()
        torch.testing.assert_close(value.double(), expected[name], rtol=0, atol=bound(channels, torch.float32) * scale)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("given", [("residual", "gate"), ("residual",), ()])
def test_gradcheck(kind, given):
    arguments = make(tokens=4, channels=5, kind=kind)
    for name in {"residual", "gate"} - set(given):
        del arguments[name]
    names = [k for k, v in arguments.items() if isinstance(v, Tensor) and v.is_floating_point()]
    leaves = [arguments[k].requires_grad_() for k in names]
    torch.autograd.gradcheck(lambda *v: emogs.emotion_norm(**(arguments | dict(zip(names, v, strict=True)))), leaves)


@each_device_with(torch.float32, torch.float64, torch.bfloat16, torch.float16)
def test_zero_modulation_is_the_plain_norm(device, dtype):
    x, weight, bias = (make(channels=64, dtype=dtype, device=device)[k] for k in ("x", "weight", "bias"))
    zero = torch.zeros(2, 64, device=device)
    layer = emogs.emotion_norm(x, zero, zero, weight=weight, bias=bias)
    rms = emogs.emotion_norm(x, zero, zero, weight=weight, kind="rms")
    step = torch.finfo(dtype).eps
    tolerance = {"rtol": 2 * step, "atol": bound(64, min((dtype, torch.float32), key=lambda d: torch.finfo(d).eps))}
    functional = torch.nn.functional
    torch.testing.assert_close(layer, functional.layer_norm(x, (64,), weight, bias, 1e-6), **tolerance)
    torch.testing.assert_close(rms, functional.rms_norm(x, (64,), weight, 1e-6), **tolerance)
    assert torch.equal(layer, emogs.emotion_norm(x, -zero, -zero, weight=weight, bias=bias))


@pytest.mark.parametrize("offset", [0.0, 1e3, 1e5])
def test_mean_far_from_zero_loses_nothing(device, offset):
    """Deviations of 1 about a mean of 1e5 are stored in steps of 1/128; what is left of them must come out as it is."""
    x = (torch.randn(1, 4, 1024, generator=torch.Generator().manual_seed(0)) + offset).to(device)
    zero = torch.zeros(1, 1024, device=device)
    expected = torch.nn.functional.layer_norm(x.double(), (1024,), eps=1e-6)
    torch.testing.assert_close(
        emogs.emotion_norm(x, zero, zero).double(), expected, rtol=0, atol=bound(1024, torch.float32)
    )


def test_region_chooses_the_row(device):
    arguments = make(dtype=torch.float32, device=device)
    y, residual_out = emogs.emotion_norm(**arguments)
    rows = {"scale": arguments["scale"], "gate": arguments["gate"]}
    for b, t in itertools.product(range(2), range(9)):
        r = int(arguments["region"][b, t])
        chosen = {k: v[:, r] for k, v in rows.items()}
        one_y, one_out = emogs.emotion_norm(**(arguments | chosen | {"region": None}))
        assert torch.equal(y[b, t], one_y[b, t]) and torch.equal(residual_out[b, t], one_out[b, t])
    shared = arguments["region"][0]
    for actual, expected in zip(
        emogs.emotion_norm(**(arguments | {"region": shared})),
        emogs.emotion_norm(**(arguments | {"region": shared.expand(2, -1).contiguous()})),
        strict=True,
    ):
        assert torch.equal(actual, expected)


def test_region_may_be_int64(device):
    arguments = make(dtype=torch.float32, device=device)
    wide = arguments | {"region": arguments["region"].long()}
    for actual, expected in zip(gradients(wide).values(), gradients(arguments).values(), strict=True):
        assert torch.equal(actual, expected)


def test_region_that_no_token_has_gets_zero_gradient():
    arguments = make(region=torch.zeros(2, 9, dtype=torch.int32))
    grads = gradients(arguments)
    assert not grads["scale"][:, 1:].any() and grads["scale"][:, 0].all()


def test_null_gate_keeps_the_branch(device):
    arguments = make(dtype=torch.float32, device=device)
    _, without = emogs.emotion_norm(**(arguments | {"gate": None}))
    _, zero = emogs.emotion_norm(**(arguments | {"gate": torch.zeros_like(arguments["gate"])}))
    assert torch.equal(without, arguments["residual"] + arguments["x"]) and torch.equal(zero, without)


@pytest.mark.parametrize("residual", FLOATS)
@pytest.mark.parametrize("x", FLOATS)
def test_mixed_types(device, x, residual):
    """float32 vectors beside x and residual of any two types: each output has its partner's, a gradient its input's.

    Rounding residual_out to its type comes first, so what follows is checked from there. What is left is one rounding
    of each output, and of hidden's gradient in the sums of the gate.
    """
    arguments = make(dtype=torch.float32, device=device)
    arguments["x"], arguments["residual"] = arguments["x"].to(x), arguments["residual"].to(residual)
    actual, exact = gradients(arguments), gradients(in_double(arguments), emotion_norm_reference)
    assert actual["y"].dtype == x and actual["residual_out"].dtype == residual
    assert all(value.dtype == arguments[name].dtype for name, value in actual.items() if name in arguments)
    torch.testing.assert_close(
        actual["residual_out"].double(), exact["residual_out"], rtol=torch.finfo(residual).eps, atol=1e-5
    )
    rounded = in_double(arguments | {"x": actual["residual_out"], "residual": None, "gate": None})
    hidden = gradients(rounded, emotion_norm_reference)
    for name in ("y", "scale", "shift", "weight", "bias"):
        step = torch.finfo(x if name == "y" else torch.float32).eps
        error = (actual[name].double() - hidden[name]).abs().max() / hidden[name].abs().max()
        assert error < bound(33, torch.float32) + step, name


def test_half_scale_does_not_round_the_factor(device):
    """1.003 is 1 in bfloat16: the gradients of weight and bias must come from float32 factors, as y does."""
    arguments = make(dtype=torch.float32, device=device, residual=None, gate=None)
    arguments["scale"] = torch.full_like(arguments["scale"], 0.003).bfloat16()
    actual, expected = gradients(arguments), gradients(in_double(arguments), emotion_norm_reference)
    for name in ("weight", "bias"):
        scale = expected[name].abs().max().item()
        torch.testing.assert_close(actual[name].double(), expected[name], rtol=0, atol=bound(33, torch.float32) * scale)


def test_one_channel_has_no_deviation(device):
    x, shift = torch.randn(2, 3, 1, device=device), torch.randn(2, 1, device=device)
    assert torch.equal(emogs.emotion_norm(x, torch.zeros_like(shift), shift), shift[:, None].expand(2, 3, 1))


@pytest.mark.parametrize(("batch", "tokens"), [(0, 4), (2, 0), (0, 0)])
def test_empty(device, batch, tokens):
    x = torch.zeros(batch, tokens, 8, device=device, requires_grad=True)
    vectors = torch.zeros(batch, 8, device=device, requires_grad=True)
    y = emogs.emotion_norm(x, vectors, vectors)
    assert y.shape == x.shape
    y.sum().backward()
    assert x.grad.shape == x.shape and not vectors.grad.any()


def test_non_contiguous_and_nan_stay_where_they_are(device):
    arguments = make(dtype=torch.float32, device=device, residual=None, gate=None)
    arguments["x"][1, 3, 2] = float("nan")
    y = emogs.emotion_norm(**arguments)
    broken = y.isnan().any(-1)
    assert broken[1, 3] and broken.sum() == 1
    strided = arguments["x"].transpose(1, 2).contiguous().transpose(1, 2)
    assert torch.equal(y.nan_to_num(), emogs.emotion_norm(**(arguments | {"x": strided})).nan_to_num())


def test_one_output_without_gradient():
    """A loss may use y alone, or residual_out alone."""
    arguments = make(tokens=3, channels=5)
    for used in (0, 1):
        leaves = {k: arguments[k].clone().requires_grad_() for k in ("x", "residual", "gate")}
        grads, expected = (
            torch.autograd.grad(f(**(arguments | leaves))[used].square().sum(), list(leaves.values()))
            for f in (emogs.emotion_norm, emotion_norm_reference)
        )
        for grad, reference in zip(grads, expected, strict=True):
            torch.testing.assert_close(grad, reference)
