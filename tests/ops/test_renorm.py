"""emotion_renorm: its formula, the identity at zero, invalid frames, types, gradients, and every refusal."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import emogs
from emogs.ops.native import _C
from emogs.ops.renorm import emotion_renorm_reference

HALVES = (torch.bfloat16, torch.float16)


def make(**changes) -> dict:
    generator = torch.Generator().manual_seed(0)

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    arguments = {"params": random(2, 5, 7), "center": random(2, 7), "scale": random(2, 7), "shift": random(2, 7)}
    frames = torch.rand(2, 5, generator=generator) < 0.7
    return arguments | {"channels": random(7), "frames": frames} | changes


def test_formula():
    arguments = make()
    out = emogs.emotion_renorm(**arguments)
    params, channels = arguments["params"], arguments["channels"]
    for b in range(2):
        for t in range(5):
            p = params[b, t]
            change = (p - arguments["center"][b]) * arguments["scale"][b] + arguments["shift"][b]
            expected = p + channels * change if arguments["frames"][b, t] else p
            torch.testing.assert_close(out[b, t], expected, rtol=1e-14, atol=1e-14)


def on(device, dtype=torch.float32, **changes) -> dict:
    return {k: v.to(device, dtype if v.is_floating_point() else None) for k, v in make(**changes).items()}


@pytest.mark.parametrize("dtype", [torch.float32, *HALVES])
def test_zero_scale_and_shift_are_the_identity(device, dtype):
    """To the bit, minus zero too."""
    arguments = on(device, dtype)
    arguments["params"][0, 0] = -0.0
    zero = torch.zeros_like(arguments["scale"])
    out = emogs.emotion_renorm(**(arguments | {"scale": zero, "shift": -zero}))
    bits = torch.int32 if dtype == torch.float32 else torch.int16
    assert torch.equal(out.view(bits), arguments["params"].view(bits))


@pytest.mark.parametrize("dtype", [torch.float32, *HALVES])
@pytest.mark.parametrize("width", [1, 7, 52, 100])
def test_matches_float64_reference(processor, dtype, width):
    """Values and gradients: each result is a few float32 operations and one rounding to its type."""
    generator = torch.Generator().manual_seed(1)
    arguments = {"params": torch.randn(2, 300, width, generator=generator).to(processor, dtype)}
    for name in ("center", "scale", "shift"):
        arguments[name] = torch.randn(2, width, generator=generator).to(processor)
    arguments["channels"] = torch.randn(width, generator=generator).to(processor)
    frames = (torch.rand(2, 300, generator=generator) < 0.7).to(processor)
    direction = (torch.randint(-8, 9, (2, 300, width), generator=generator) / 8).to(processor)

    def values(function, cast) -> list[Tensor]:
        leaves = {k: cast(v).requires_grad_() for k, v in arguments.items()}
        out = function(**leaves, frames=frames)
        return [out.detach(), *torch.autograd.grad(out, list(leaves.values()), direction.to(out.dtype))]

    actual = values(emogs.emotion_renorm, lambda v: v.clone())
    expected = values(emotion_renorm_reference, lambda v: v.double())
    for value, exact, given in zip(actual, expected, [arguments["params"], *arguments.values()], strict=True):
        assert value.dtype == given.dtype
        # 300 terms in up to 4 pieces: at most (300 / 4 + 8) roundings of a sum no larger than 20 of its terms.
        tolerance = torch.finfo(value.dtype).eps + 83 * torch.finfo(torch.float32).eps
        assert (value - exact).abs().max() <= tolerance * exact.abs().max().clamp(min=20)


def test_bits_do_not_depend_on_threads_or_instruction_set():
    params, vector = torch.randn(3, 2000, 53), torch.randn(3, 53)
    threads, isa = torch.get_num_threads(), _C.isa_in_use()
    results: dict[bool, list[Tensor]] = {}
    try:
        for name in _C.supported_isas():
            for count in (1, 2, 3):
                _C.use_isa(name)
                torch.set_num_threads(count)
                leaves = [t.clone().requires_grad_() for t in (params, vector, vector, vector)]
                out = emogs.emotion_renorm(*leaves)
                now = [out, *torch.autograd.grad(out.square().sum(), leaves)]
                first = results.setdefault(name == "baseline", now)  # x86's baseline does not fuse multiply-adds
                assert all(torch.equal(a, b) for a, b in zip(now, first, strict=True)), (name, count)
    finally:
        _C.use_isa(isa)
        torch.set_num_threads(threads)


def test_second_derivative_is_refused():
    arguments = make()
    params = arguments["params"].requires_grad_()
    (grad,) = torch.autograd.grad(emogs.emotion_renorm(**arguments).square().sum(), params, create_graph=True)
    with pytest.raises(NotImplementedError, match="second derivatives"):
        grad.sum().backward()


def test_opcheck(device):
    arguments = on(device)
    for name in ("params", "center", "scale", "shift", "channels"):
        arguments[name].requires_grad_()
    torch.library.opcheck(torch.ops.emogs.emotion_renorm, tuple(arguments.values()))


def test_traces_without_a_break():
    arguments = make()
    leaf = arguments["params"].requires_grad_()
    compiled = torch.compile(emogs.emotion_renorm, fullgraph=True, backend="aot_eager")
    actual, expected = (
        torch.autograd.grad(function(**arguments).square().sum(), leaf)[0]
        for function in (compiled, emogs.emotion_renorm)
    )
    assert torch.equal(actual, expected)


def test_direct_calls_of_the_operations_are_checked():
    a = make()
    with pytest.raises(ValueError, match=r"grad_out must be \[B=2, T=5, P=7\]"):
        torch.ops.emogs.emotion_renorm_backward(a["params"][:, :2], *a.values())
    with pytest.raises(ValueError, match=r"center must be \[B=2, P=7\]"):
        torch.ops.emogs.emotion_renorm(a["params"], a["center"][:1], *list(a.values())[2:])


def test_invalid_frames_poison_nothing(device):
    arguments = on(device)
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
        ({"params": torch.zeros(2, 5, 7).int()}, TypeError, "params must be float32 or .*, got int32"),
        ({"center": torch.zeros(7).double()}, ValueError, r"center must be \[B=2, P=7\], got \[7\]"),
        ({"scale": torch.zeros(2, 7).int()}, TypeError, "scale must be float32 or .*, got int32"),
        ({"shift": torch.zeros(2, 6).double()}, ValueError, r"shift must be \[B=2, P=7\], got \[2, 6\]"),
        ({"channels": torch.zeros(6).double()}, ValueError, r"channels must be \[P=7\], got \[6\]"),
        ({"frames": torch.ones(2, 5)}, TypeError, "frames must be bool, got float32"),
        ({"frames": torch.ones(5).bool()}, ValueError, r"frames must be \[B=2, T=5\], got \[5\]"),
    ],
)
def test_refusals_name_what_does_not_fit(change, error, message):
    with pytest.raises(error, match=f"emotion_renorm: {message}"):
        emogs.emotion_renorm(**make(**change))
