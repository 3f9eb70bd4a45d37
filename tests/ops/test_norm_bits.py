"""emotion_norm gives the same bits on any number of threads, on v3 and v4, beside any other tokens, in any storage."""

from __future__ import annotations

import itertools

import pytest
import torch
from norm_arguments import FLOATS, HALVES, KINDS, gradients, gradients_of_ones, make

import emogs
from emogs.ops.native import _C


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
