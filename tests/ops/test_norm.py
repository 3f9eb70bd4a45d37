"""emotion_norm: against its torch reference, against torch's own norms, gradients, reproducibility, and every refusal.

Tolerances. The statistics of a row are sums of C terms in at least 16 running sums, so they and all that follows from
them may be off by about (C / 16 + 8) rounding steps of the largest value: `bound` (the worst seen is a third of it).
C >= 3, since with fewer channels the gradient of a row cancels to nothing.
"""

from __future__ import annotations

import itertools

import pytest
import torch
from emulation import each_device_with
from torch import Tensor

import emogs
from emogs.ops.native import _C
from emogs.ops.norm import emotion_norm_reference

KINDS = ("layer", "rms")
HALVES = (torch.bfloat16, torch.float16)
FLOATS = (torch.float32, *HALVES)
CHANNELS = (3, 31, 32, 33, 128, 1000)


def bound(channels: int, dtype: torch.dtype) -> float:
    return (channels / 16 + 8) * torch.finfo(dtype).eps


def make(
    *,
    tokens: int = 9,
    channels: int = 33,
    regions: int = 3,
    seed: int = 0,
    dtype=torch.float64,
    device="cpu",
    **options,
) -> dict:
    """Arguments of one call with everything in it: two samples, regions for scale and gate, a residual, an affine."""
    generator = torch.Generator().manual_seed(seed)

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64).to(device, dtype)

    return {
        "x": random(2, tokens, channels),
        "scale": random(2, regions, channels),
        "shift": random(2, channels),
        "weight": random(channels),
        "bias": random(channels),
        "residual": random(2, tokens, channels),
        "gate": random(2, regions, channels),
        "region": torch.randint(0, regions, (2, tokens), generator=generator, dtype=torch.int32).to(device),
    } | options


def in_double(arguments: dict) -> dict:
    return {k: v.double() if isinstance(v, Tensor) and v.is_floating_point() else v for k, v in arguments.items()}


def gradients(arguments: dict, function=emogs.emotion_norm, seed: int = 1) -> dict[str, Tensor]:
    """Outputs and gradients of every floating-point argument for a fixed random loss."""
    leaves = {
        k: v.clone().requires_grad_() for k, v in arguments.items() if isinstance(v, Tensor) and v.is_floating_point()
    }
    outputs = function(**(arguments | leaves))
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    generator = torch.Generator().manual_seed(seed)
    # Eighths: the same in every type.
    directions = [(torch.randint(-16, 17, o.shape, generator=generator) / 8).to(o) for o in outputs]
    grads = torch.autograd.grad(outputs, list(leaves.values()), directions)
    return dict(zip(["y", "residual_out"], outputs, strict=False)) | dict(zip(leaves, grads, strict=True))


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


def test_second_derivative_is_refused():
    x = torch.randn(1, 2, 4, dtype=torch.float64, requires_grad=True)
    vectors = torch.zeros(1, 4, dtype=torch.float64)
    (grad,) = torch.autograd.grad(emogs.emotion_norm(x, vectors, vectors).square().sum(), x, create_graph=True)
    with pytest.raises(NotImplementedError, match="second derivatives"):
        grad.sum().backward()


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


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("channels", [64, 31])
def test_halves_convert_exactly(isa, dtype, channels):
    """All 65,536 patterns to float32 and float32 to the nearest: residual_out = -0 + x is the conversion itself."""
    patterns = torch.arange(-(2**15), 2**15).to(torch.int16)
    patterns = torch.nn.functional.pad(patterns, (0, -len(patterns) % channels)).view(1, -1, channels)
    zero = torch.zeros(1, channels)
    half = patterns.view(dtype)
    _, wide = emogs.emotion_norm(half, zero, zero, residual=torch.full(half.shape, -0.0))
    assert torch.equal(wide.nan_to_num(7.0).view(torch.int32), half.float().nan_to_num(7.0).view(torch.int32))
    assert torch.equal(wide.isnan(), half.isnan())

    exact = half.float()
    near = torch.cat([exact * factor for factor in (1, 1 + 2**-12, 1 - 2**-12, 1 + 2**-9, 1 + 2**-11, 1 + 3 * 2**-11)])
    ties = (exact + half.float().roll(1)) / 2  # halfway between neighbours
    values = torch.cat([near, ties[None, 0]]).reshape(1, -1, channels)
    _, narrow = emogs.emotion_norm(values, zero, zero, residual=torch.full(values.shape, -0.0, dtype=dtype))
    expected = values.to(dtype)
    same = narrow.view(torch.int16) == expected.view(torch.int16)
    assert (same | (narrow.isnan() & expected.isnan())).all()


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


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("x", (*FLOATS, torch.float64))
@pytest.mark.parametrize("channels", [7, 32, 100])
def test_bits_do_not_depend_on_threads_or_instruction_set(kind, x, channels):
    arguments = make(tokens=70_000 // channels, channels=channels, kind=kind, dtype=torch.float32)
    arguments["x"] = arguments["x"].to(x)
    threads, isa = torch.get_num_threads(), _C.isa_in_use()
    results = {}
    try:
        for name, count in itertools.product(_C.supported_isas(), (1, 2, 3)):
            _C.use_isa(name)
            torch.set_num_threads(count)
            results[name, count] = gradients(arguments)
    finally:
        _C.use_isa(isa)
        torch.set_num_threads(threads)
    for (name, count), result in results.items():
        # Sets with fused multiply-add agree with each other, the baseline of x86 (SSE2) with itself.
        first = results[name if name == "baseline" else _C.supported_isas()[-1], 1]
        for output, value in result.items():
            assert torch.equal(value, first[output]), (name, count, output)


@pytest.mark.parametrize("channels", [*range(1, 33), 2048])
def test_a_token_knows_nothing_of_its_neighbours(isa, channels):
    """Tokens of few channels share registers, and those of very many share passes; the bits are those of each alone."""
    arguments = make(tokens=300 if channels < 100 else 21, channels=channels, dtype=torch.float32)
    together = gradients_of_ones(arguments)
    for t in (0, 1, 15, 16, 20, arguments["x"].shape[1] - 1):
        one = {k: arguments[k][:, t : t + 1].contiguous() for k in ("x", "residual", "region")}
        alone = gradients_of_ones(arguments | one)
        assert all(torch.equal(together[k][:, t : t + 1], alone[k]) for k in alone), t


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("given", [True, False])
@pytest.mark.parametrize(("tokens", "channels"), [(4200, 1024), (180_000, 24)])
def test_large_results_are_written_past_the_caches(isa, dtype, given, tokens, channels):
    """The same bits as those of a part of the tokens, whose results are small enough for the caches."""
    arguments = make(tokens=tokens, channels=channels, dtype=dtype)
    if not given:
        del arguments["residual"], arguments["gate"]
    part = {k: arguments[k][:, :100].contiguous() for k in ("x", "residual", "region") if k in arguments}
    names = ("y", "residual_out", "x", "residual")
    whole, small = gradients_of_ones(arguments), gradients_of_ones(arguments | part)
    assert all(torch.equal(whole[k][:, :100], small[k]) for k in names if k in whole)


def gradients_of_ones(arguments: dict) -> dict[str, Tensor]:
    leaves = {k: arguments[k].clone().requires_grad_() for k in ("x", "residual") if k in arguments}
    outputs = emogs.emotion_norm(**(arguments | leaves))
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    grads = torch.autograd.grad(outputs, list(leaves.values()), [torch.ones_like(o) for o in outputs])
    return dict(zip(["y", "residual_out"], outputs, strict=False)) | dict(zip(leaves, grads, strict=True))


def test_results_go_where_they_are_told(device):
    arguments = make(dtype=torch.bfloat16, device=device)
    y, residual_out = emogs.emotion_norm(**arguments)
    buffers = {"out": torch.empty_like(y), "residual_out": torch.empty_like(residual_out)}
    assert all(a is b for a, b in zip(emogs.emotion_norm(**arguments, **buffers), buffers.values(), strict=True))
    assert torch.equal(buffers["out"], y) and torch.equal(buffers["residual_out"], residual_out)
    in_place = {"out": arguments["x"], "residual_out": arguments["residual"]}
    emogs.emotion_norm(**arguments, **in_place)
    assert torch.equal(arguments["x"], y) and torch.equal(arguments["residual"], residual_out)


def test_given_buffers_compile():
    arguments = make(dtype=torch.float32)
    expected = emogs.emotion_norm(**arguments)
    buffers = {"out": torch.empty_like(arguments["x"]), "residual_out": torch.empty_like(arguments["x"])}
    torch.compile(emogs.emotion_norm, fullgraph=True, backend="aot_eager")(**arguments, **buffers)
    assert torch.equal(buffers["out"], expected[0]) and torch.equal(buffers["residual_out"], expected[1])


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


@pytest.mark.parametrize("kind", KINDS)
def test_opcheck(device, kind):
    a = make(dtype=torch.float32, device=device)
    for name in ("x", "scale", "shift", "weight", "bias", "residual", "gate"):
        a[name].requires_grad_()
    whole = (a["x"], a["scale"], a["shift"], a["weight"], a["bias"], a["residual"], a["gate"], a["region"])
    torch.library.opcheck(torch.ops.emogs.emotion_norm, (*whole, kind == "rms", 1e-6))
    plain = (a["x"], a["shift"], a["shift"], None, None, None, None, None)
    torch.library.opcheck(torch.ops.emogs.emotion_norm, (*plain, kind == "rms", 1e-6))


def test_direct_calls_of_the_operations_are_checked():
    """The operations underneath are reachable too; they must not read out of bounds."""
    a = make(dtype=torch.float32)
    vectors = (a["scale"], a["shift"], a["weight"], a["bias"])
    settings = (a["gate"], a["region"], False, 1e-6)
    with pytest.raises(ValueError, match=r"shift must be \[B=2, R=3, C=33\], got \[2, 2, 33\]"):
        shift = a["scale"][:, :2].contiguous()
        torch.ops.emogs.emotion_norm(a["x"], a["scale"], shift, None, None, a["residual"], *settings)
    with pytest.raises(ValueError, match=r"residual must be \[B=2, T=9, C=33\]"):
        torch.ops.emogs.emotion_norm(a["x"], *vectors, a["residual"][:, :5], *settings)
    backward = torch.ops.emogs.emotion_norm_backward
    for change, message in {
        0: r"grad_y must be \[B=2, T=9, C=33\]",
        1: r"grad_residual_out must be \[B=2, T=9, C=33\]",
        3: r"x must be \[B=2, T=9, C=33\]",
    }.items():
        tokens = [a["x"], a["x"], a["residual"], a["x"]]
        tokens[change] = tokens[change][:, :5]
        with pytest.raises(ValueError, match=message):
            backward(*tokens, *vectors, *settings)
    with pytest.raises(ValueError, match="x must be a tensor where there is a gate"):
        backward(a["x"], None, a["residual"], None, *vectors, *settings)
    with pytest.raises(ValueError, match=r"out must be contiguous, \[2, 9, 33\]"):
        torch.ops.emogs.emotion_norm_out(
            a["x"], *vectors, a["residual"], *settings, a["x"][:, :5], torch.empty_like(a["x"])
        )


def test_traces_without_a_break():
    arguments = make(dtype=torch.float32)
    compiled = torch.compile(emogs.emotion_norm, fullgraph=True, backend="aot_eager")
    expected = gradients(arguments)
    for name, value in gradients(arguments, compiled).items():
        torch.testing.assert_close(value, expected[name])


def zeros(*shape: int, dtype=torch.float32, device="cpu") -> Tensor:
    return torch.zeros(*shape, dtype=dtype, device=device)


def same_buffers() -> dict:
    buffer = zeros(2, 9, 33)
    return {"out": buffer, "residual_out": buffer}


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"x": [1.0]}, TypeError, "x must be a tensor, got list"),
        ({"x": zeros(2, 9, 33, dtype=torch.int64)}, TypeError, "x must be float32 or .*, got int64"),
        ({"x": zeros(9, 33)}, ValueError, r"x must be \[B, T, C.*\], got \[9, 33\]"),
        ({"scale": zeros(3, 33)}, ValueError, r"scale must be \[B=2, C=33\], got \[3, 33\]"),
        ({"scale": zeros(2, 3, 32)}, ValueError, r"scale must be \[B=2, R=3, C=33\], got \[2, 3, 32\]"),
        ({"shift": zeros(2, 4, 33)}, ValueError, r"shift must be \[B=2, R=3, C=33\], got \[2, 4, 33\]"),
        ({"shift": zeros(2, 33, device="meta")}, ValueError, "shift must be on cpu like x, got meta"),
        ({"shift": zeros(2, 33, dtype=torch.int32)}, TypeError, "shift must be float32 or .*, got int32"),
        ({"scale": zeros(2, 0, 33), "gate": None}, ValueError, r"scale must be \[B, R, C\] with R at least 1, got"),
        ({"region": None}, ValueError, r"scale must be \[B, C\] without a region, got \[2, 3, 33\]"),
        ({"weight": zeros(32)}, ValueError, r"weight must be \[C=33\], got \[32\]"),
        ({"bias": zeros(1, 33)}, ValueError, r"bias must be \[C=33\], got \[1, 33\]"),
        ({"residual": zeros(2, 8, 33)}, ValueError, r"residual must be \[B=2, T=9, C=33\], got \[2, 8, 33\]"),
        ({"residual": None}, ValueError, "gate must be None without a residual"),
        ({"gate": zeros(2, 5, 33)}, ValueError, r"gate must be \[B=2, R=3, C=33\], got \[2, 5, 33\]"),
        ({"region": zeros(2, 9, dtype=torch.int64)}, TypeError, "region must be int32, got int64"),
        ({"region": zeros(8, dtype=torch.int32)}, ValueError, r"region must be \[T=9\], got \[8\]"),
        ({"region": zeros(2, 9, dtype=torch.int32) + 3}, ValueError, r"region must be in \[0, 3\), got 3 at \[0, 0\]"),
        ({"region": zeros(2, 9, dtype=torch.int32) - 1}, ValueError, r"region must be in \[0, 3\), got -1 at \[0, 0\]"),
        ({"scale": zeros(2, 33), "gate": None}, ValueError, "region must be None where scale, shift and gate are all"),
        ({"kind": "batch"}, ValueError, 'kind must be "layer" or "rms", got \'batch\''),
        ({"eps": None}, TypeError, "eps must be an int or a float, got NoneType"),
        ({"kind": torch.zeros(2)}, ValueError, 'kind must be "layer" or "rms", got tensor'),
        ({"eps": -1.0}, ValueError, "eps must be at least 0, got -1.0"),
        ({"eps": float("nan")}, ValueError, "eps must be at least 0, got nan"),
        ({"out": zeros(2, 9, 32)}, ValueError, r"out must be contiguous, \[2, 9, 33\] on cpu, got \[2, 9, 32\] on cpu"),
        ({"out": zeros(2, 9, 33).half()}, TypeError, "out must be float32, got torch.float16"),
        ({"out": [1.0]}, TypeError, "out must be Tensor, got list"),
        ({"residual_out": zeros(2, 33, 9).mT}, ValueError, r"residual_out must be contiguous, \[2, 9, 33\]"),
        (
            {"residual": None, "gate": None, "residual_out": zeros(2, 9, 33)},
            ValueError,
            "residual_out must be None wit",
        ),
        (same_buffers(), ValueError, "residual_out must be another tensor than out, got the same"),
        (
            {"x": zeros(2, 9, 33).requires_grad_(), "out": zeros(2, 9, 33)},
            ValueError,
            "out must be None where gradient",
        ),
    ],
)
def test_refusals_name_what_does_not_fit(change, error, message):
    with pytest.raises(error, match=f"emotion_norm: {message}"):
        emogs.emotion_norm(**(make(dtype=torch.float32) | change))


@pytest.mark.parametrize("name", ["x", "scale", "shift", "weight", "bias", "residual", "gate"])
def test_out_is_refused_whichever_tensor_records_gradients(name):
    given = {"x": torch.randn(2, 3, 8), "residual": torch.randn(2, 3, 8)}
    given |= {vector: torch.randn(2, 8) for vector in ("scale", "shift", "gate")}
    given |= {vector: torch.randn(8) for vector in ("weight", "bias")}
    given[name].requires_grad_()
    out = torch.empty(2, 3, 8)
    with pytest.raises(ValueError, match="out must be None where gradients are recorded"):
        emogs.emotion_norm(**given, out=out)
    with torch.no_grad():
        assert emogs.emotion_norm(**given, out=out)[0] is out


@pytest.mark.parametrize(
    "norm", [emogs.emotion_norm, lambda x, s, t: emogs.emotion_renorm(x, s, s, t)], ids=["norm", "renorm"]
)
def test_transforms_are_refused_by_name(norm):
    x, zero = torch.randn(1, 4, 8), torch.zeros(1, 8)
    for transformed in (
        lambda: torch.func.jvp(lambda x: norm(x, zero, zero), (x,), (x,)),
        lambda: torch.func.grad(lambda x: norm(x, zero, zero).sum())(x),
    ):
        with pytest.raises(NotImplementedError, match=r"emotion_(re)?norm: torch.func's transforms"):
            transformed()
