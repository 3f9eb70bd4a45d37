"""emotion_renorm: its formula, the identity at zero, invalid frames, gradients, and every refusal."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import emogs


def make(**changes) -> dict:
    generator = torch.Generator().manual_seed(0)

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    arguments = {"params": random(2, 5, 7), "center": random(2, 7), "scale": random(2, 7), "shift": random(2, 7)}
    frames = torch.rand(2, 5, generator=generator) < 0.7
    return arguments | {"channels": random(7), "frames": frames} | changes


def test_formula(device):
    arguments = {k: v.to(device) for k, v in make().items()}
    out = emogs.emotion_renorm(**arguments)
    params, channels = arguments["params"], arguments["channels"]
    for b in range(2):
        for t in range(5):
            p = params[b, t]
            change = (p - arguments["center"][b]) * arguments["scale"][b] + arguments["shift"][b]
            expected = p + channels * change if arguments["frames"][b, t] else p
            torch.testing.assert_close(out[b, t], expected, rtol=1e-14, atol=1e-14)


def test_zero_scale_and_shift_are_the_identity(device):
    arguments = {k: v.to(device) for k, v in make().items()}
    zero = torch.zeros_like(arguments["scale"])
    out = emogs.emotion_renorm(**(arguments | {"scale": zero, "shift": zero}))
    assert torch.equal(out, arguments["params"])


def test_invalid_frames_poison_nothing(device):
    arguments = {k: v.to(device) for k, v in make().items()}
    arguments["params"][~arguments["frames"]] = float("nan")
    scale = arguments["scale"].requires_grad_()
    out = emogs.emotion_renorm(**arguments)
    assert torch.equal(out.isnan().any(-1), ~arguments["frames"])
    out[arguments["frames"]].sum().backward()
    assert scale.grad.isfinite().all()


def test_gradcheck():
    arguments = make()
    names = [name for name in arguments if name != "frames"]
    leaves = [arguments[name].requires_grad_() for name in names]
    assert torch.autograd.gradcheck(
        lambda *v: emogs.emotion_renorm(**(arguments | dict(zip(names, v, strict=True)))), leaves
    )


@pytest.mark.parametrize("shape", [(0, 5, 7), (2, 0, 7), (2, 5, 0)])
def test_empty(shape):
    vector = torch.zeros(shape[0], shape[2])
    assert emogs.emotion_renorm(torch.zeros(shape), vector, vector, vector).shape == shape


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"params": torch.zeros(5, 7)}, ValueError, r"params must be \[B, T, P.*\], got \[5, 7\]"),
        ({"params": torch.zeros(2, 5, 7).int()}, TypeError, "params must be float32 or float64, got int32"),
        ({"center": torch.zeros(7).double()}, ValueError, r"center must be \[B=2, P=7\], got \[7\]"),
        ({"scale": torch.zeros(2, 7)}, TypeError, "scale must be float64, got float32"),
        ({"shift": torch.zeros(2, 6).double()}, ValueError, r"shift must be \[B=2, P=7\], got \[2, 6\]"),
        ({"channels": torch.zeros(6).double()}, ValueError, r"channels must be \[P=7\], got \[6\]"),
        ({"frames": torch.ones(2, 5)}, TypeError, "frames must be bool, got float32"),
        ({"frames": torch.ones(5).bool()}, ValueError, r"frames must be \[B=2, T=5\], got \[5\]"),
    ],
)
def test_refusals_name_what_does_not_fit(change, error, message):
    with pytest.raises(error, match=f"emotion_renorm: {message}"):
        emogs.emotion_renorm(**make(**change))
