"""emotion_norm as torch and its callers meet it: buffers, compilation, the operations underneath, every refusal."""

from __future__ import annotations

import pytest
import torch
from norm_arguments import KINDS, gradients, make
from torch import Tensor

import emogs


def test_second_derivative_is_refused():
    x = torch.randn(1, 2, 4, dtype=torch.float64, requires_grad=True)
    vectors = torch.zeros(1, 4, dtype=torch.float64)
    (grad,) = torch.autograd.grad(emogs.emotion_norm(x, vectors, vectors).square().sum(), x, create_graph=True)
    with pytest.raises(NotImplementedError, match="second derivatives"):
        grad.sum().backward()


def test_results_go_where_they_are_told(device):
    arguments = make(dtype=torch.bfloat16, device=device)
    y, residual_out = emogs.emotion_norm(**arguments)
    buffers = {"out": torch.empty_like(y), "residual_out": torch.empty_like(residual_out)}
    assert all(a is b for a, b in zip(emogs.emotion_norm(**arguments, **buffers), buffers.values(), strict=True))
    assert torch.equal(buffers["out"], y) and torch.equal(buffers["residual_out"], residual_out)
    in_place = {"out": arguments["x"], "residual_out": arguments["residual"]}
    emogs.emotion_norm(**arguments, **in_place)
    assert torch.equal(arguments["x"], y) and torch.equal(arguments["residual"], residual_out)


@pytest.mark.parametrize("channels", [33, 200])
@pytest.mark.parametrize("swapped", [False, True])
def test_results_may_replace_x_and_residual(device, channels, swapped):
    arguments = make(dtype=torch.float32, channels=channels, device=device)
    y, residual_out = emogs.emotion_norm(**arguments)
    targets = (arguments["residual"], arguments["x"]) if swapped else (arguments["x"], arguments["residual"])
    emogs.emotion_norm(**arguments, out=targets[0].view_as(y), residual_out=targets[1])
    assert torch.equal(targets[0], y) and torch.equal(targets[1], residual_out)


SAMPLE = 9 * 33  # of two; places count numbers, what is shared counts bytes
OVERLAPS = {
    "both results in one place": (
        "residual_out",
        "in other memory than out",
        {"out": 0, "residual_out": 0},
        8 * SAMPLE,
    ),
    "a token apart": ("residual_out", "in other memory than out", {"out": 0, "residual_out": 33}, 8 * SAMPLE - 4 * 33),
    "a sample behind x": ("out", "x itself or in other memory than x", {"x": 0, "out": SAMPLE}, 4 * SAMPLE),
    "a sample before x": ("out", "x itself or in other memory than x", {"x": SAMPLE, "out": 0}, 4 * SAMPLE),
    "the residual moved by one": ("out", "residual itself or in .*", {"residual": 1, "out": 0}, 8 * SAMPLE - 4),
    "the last of x": ("residual_out", "x itself or in .*", {"x": 2 * SAMPLE - 1, "residual_out": 0}, 4),
    "weight": ("out", "in other memory than weight", {"weight": SAMPLE, "out": 0}, 4 * 33),
    "scale": ("out", "in other memory than scale", {"scale": 0, "out": 0}, 4 * 2 * 3 * 33),
    "gate": ("residual_out", "in other memory than gate", {"gate": 0, "residual_out": 0}, 4 * 2 * 3 * 33),
    "region": ("out", "in other memory than region", {"region": 0, "out": 17}, 4),
}


@pytest.mark.parametrize("name", OVERLAPS)
def test_results_over_what_is_read_are_refused(name):
    result, expected, places, shared = OVERLAPS[name]
    arguments, memory = make(dtype=torch.float32), torch.zeros(1200)
    arguments |= {"out": torch.zeros(2, 9, 33), "residual_out": torch.zeros(2, 9, 33)}
    for name, first in places.items():
        like = arguments[name]
        part = memory[first : first + like.numel()].view_as(like)
        arguments[name] = part if name != "region" else part.view(torch.int32)
    message = f"emotion_norm: {result} must be {expected}, got {shared} bytes in common"
    with pytest.raises(ValueError, match=message):
        emogs.emotion_norm(**arguments)
    names = ("x", "scale", "shift", "weight", "bias", "residual", "gate", "region")
    buffers = arguments["out"], arguments["residual_out"]
    with pytest.raises(ValueError, match=message):
        torch.ops.emogs.emotion_norm_out(*(arguments[name] for name in names), False, 1e-6, *buffers)


def test_neighbours_in_memory_and_what_is_copied_anyway_do_not_overlap():
    arguments, memory = make(dtype=torch.float32), torch.zeros(3, 2, 9, 33)
    for name, place in zip(("x", "out", "residual_out"), memory, strict=True):
        arguments[name] = place.copy_(arguments[name]) if name == "x" else place
    expected = emogs.emotion_norm(**{k: v for k, v in arguments.items() if "out" not in k})
    assert all(map(torch.equal, emogs.emotion_norm(**arguments), expected))
    x = memory.view(2, 27, 33)[:, ::3]  # with gaps, so that kernels read a copy
    expected = emogs.emotion_norm(x.clone(), arguments["shift"], arguments["shift"])
    assert torch.equal(emogs.emotion_norm(x, arguments["shift"], arguments["shift"], out=memory[0]), expected)


def test_given_buffers_compile():
    arguments = make(dtype=torch.float32)
    expected = emogs.emotion_norm(**arguments)
    buffers = {"out": torch.empty_like(arguments["x"]), "residual_out": torch.empty_like(arguments["x"])}
    compiled = torch.compile(emogs.emotion_norm, fullgraph=True, backend="aot_eager")
    compiled(**arguments, **buffers)
    assert torch.equal(buffers["out"], expected[0]) and torch.equal(buffers["residual_out"], expected[1])
    with pytest.raises(ValueError, match="residual_out must be in other memory than out"):
        compiled(**arguments, **same_buffers())


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
        ({"region": zeros(2, 9)}, TypeError, "region must be int32 or int64, got float32"),
        ({"region": [0] * 9}, TypeError, "region must be a tensor, got list"),
        ({"region": zeros(8, dtype=torch.int32)}, ValueError, r"region must be \[T=9\], got \[8\]"),
        ({"region": zeros(2, 9, dtype=torch.int32) + 3}, ValueError, r"region must be in \[0, 3\), got 3 at \[0, 0\]"),
        ({"region": zeros(2, 9, dtype=torch.int64) - 5}, ValueError, r"region must be in \[0, 3\), got -5 at \[0, 0\]"),
        (
            {"region": zeros(9, dtype=torch.int64) + 2**32},
            ValueError,
            r"region must be in \[0, 3\), got .* at \[0, 0\]",
        ),
        ({"region": zeros(2, 9, dtype=torch.int32) - 1}, ValueError, r"region must be in \[0, 3\), got -1 at \[0, 0\]"),
        ({"scale": zeros(2, 33), "gate": None}, ValueError, "region must be None where scale, shift and gate are all"),
        ({"kind": "batch"}, ValueError, 'kind must be "layer" or "rms", got \'batch\''),
        ({"eps": None}, TypeError, "eps must be an int or a float, got NoneType"),
        ({"kind": torch.zeros(2)}, ValueError, 'kind must be "layer" or "rms", got tensor'),
        ({"eps": True}, TypeError, "eps must be an int or a float, got bool"),
        ({"eps": -1.0}, ValueError, "eps must be at least 0 and finite in float32, got -1.0"),
        ({"eps": float("nan")}, ValueError, "eps must be at least 0 and finite in float32, got nan"),
        ({"eps": float("inf")}, ValueError, "eps must be at least 0 and finite in float32, got inf"),
        ({"eps": 1e39}, ValueError, r"eps must be at least 0 and finite in float32, got 1e\+39"),
        ({"out": zeros(2, 9, 32)}, ValueError, r"out must be contiguous, \[2, 9, 33\] on cpu, got \[2, 9, 32\] on cpu"),
        ({"out": zeros(2, 9, 33).half()}, TypeError, "out must be float32, got torch.float16"),
        ({"out": [1.0]}, TypeError, "out must be Tensor, got list"),
        (
            {"residual_out": zeros(2, 33, 9).mT},
            ValueError,
            r"residual_out must be contiguous, \[2, 9, 33\] on cpu, got \[2, 9, 33\] on cpu with strides \[297, 1, 9\]",
        ),
        (
            {"residual": None, "gate": None, "residual_out": zeros(2, 9, 33)},
            ValueError,
            "residual_out must be None wit",
        ),
        (same_buffers(), ValueError, "residual_out must be in other memory than out, got 2376 bytes in common"),
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
def test_derivatives_of_transforms_are_refused_by_name(norm):
    x, zero = torch.randn(1, 4, 8), torch.zeros(1, 8)
    for transformed in (
        lambda: torch.func.jvp(lambda x: norm(x, zero, zero), (x,), (x,)),
        lambda: torch.func.grad(lambda x: norm(x, zero, zero).sum())(x),
    ):
        with pytest.raises(NotImplementedError, match=r"emotion_(re)?norm: torch.func's derivatives"):
            transformed()


@pytest.mark.parametrize(
    "norm", [emogs.emotion_norm, lambda x, s, t: emogs.emotion_renorm(x, s, s, t)], ids=["norm", "renorm"]
)
def test_vmap_is_a_loop(norm):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(3, 2, 4, 8, generator=generator).requires_grad_()
    scale, shift = torch.randn(3, 2, 8, generator=generator), torch.randn(2, 8, generator=generator)
    whole = torch.func.vmap(norm, (0, 0, None))(x, scale, shift)
    each = torch.stack([norm(x[i], scale[i], shift) for i in range(3)])
    assert torch.equal(whole, each)
    (expected,) = torch.autograd.grad(each.square().sum(), x)
    assert torch.equal(torch.autograd.grad(whole.square().sum(), x)[0], expected)
