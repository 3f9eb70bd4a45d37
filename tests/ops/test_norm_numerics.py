"""emotion_norm against float64 where numbers are hard: offsets, magnitudes, types, NaN and infinities.

The bound is derived in docs/normalization.md. It speaks of what is stored: a half type's tokens are taken as they are.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import emogs
from emogs.ops.norm import emotion_norm_reference

U = torch.finfo(torch.float32).eps / 2
TYPES = (torch.float32, torch.bfloat16, torch.float16)


def bound(x: Tensor, scale: Tensor, shift: Tensor, weight: Tensor, bias: Tensor, kind: str, y: Tensor) -> Tensor:
    """Largest error of each element of y; all arguments and the result are float64."""
    channels = x.shape[-1]
    mean = x.mean(-1, keepdim=True) if kind == "layer" else torch.zeros(())
    deviation = ((x - mean).square().mean(-1, keepdim=True) + 1e-6).sqrt()
    n = (x - mean) / deviation
    steps = channels / 32 + 12
    delta = steps * U * mean.abs() / deviation
    n_error = U * steps * (1 + n.abs()) * (1 + delta) ** 2
    factor, offset = weight * (1 + scale[:, None]), (bias * (1 + scale[:, None])).abs() + shift[:, None].abs()
    return n_error * factor.abs() + 4 * U * ((n * factor).abs() + offset)


@pytest.mark.parametrize("kind", ["layer", "rms"])
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("channels", [1, 3, 16, 31, 33, 257, 1024, 8192])
def test_error_is_within_its_derived_bound(processor, channels, dtype, kind):
    generator = torch.Generator().manual_seed(channels)
    for offset in (0.0, 1.0, 50.0, 1e3, 1e5):
        for magnitude in (1e-3, 1.0, 1e2):
            if dtype == torch.float16 and offset * magnitude > 3e4:
                continue  # beyond the type
            x = ((torch.randn(1, 6, channels, generator=generator) + offset) * magnitude).to(processor, dtype)
            vectors = [torch.randn(1, channels, generator=generator).to(processor) for _ in range(2)]
            weight, bias = (torch.randn(channels, generator=generator).to(processor) for _ in range(2))
            y = emogs.emotion_norm(x, *vectors, weight=weight, bias=bias, kind=kind)
            exact = [t.double() for t in (x, *vectors, weight, bias)]
            expected = emotion_norm_reference(*exact[:3], weight=exact[3], bias=exact[4], kind=kind)
            allowed = bound(*exact, kind, expected) + torch.finfo(dtype).eps / 2 * expected.abs()
            allowed = allowed * 1.01 + torch.finfo(dtype).tiny  # products of errors; results below the normal numbers
            error = (y.double() - expected).abs()
            assert (error <= allowed).all(), (offset, magnitude, (error / allowed).max())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_forward_and_backward_see_the_same_residual(request, device, dtype):
    """About a mean of 50, normalizing the sum before it is rounded would cost 1% of the gradient.

    On the CPU it is the same to the bit. CUDA's kernels of different types add a row in different orders, which
    rounding to a half type shows once in thousands of gradients.
    """
    generator = torch.Generator().manual_seed(0)
    x, residual = (torch.randn(1, 8, 256, generator=generator).to(device, dtype) for _ in range(2))
    residual = residual + 50
    zero = torch.zeros(1, 256, device=device)
    leaf = x.float().requires_grad_()  # grad_x is not rounded then
    y, out = emogs.emotion_norm(leaf, zero, zero, residual=residual)
    hidden = out.detach().float().requires_grad_()
    alone = emogs.emotion_norm(hidden, zero, zero)
    same_order = request.node.callspec.params["device"] == "cpu"
    steps = 0 if same_order else 2 * (256 / 32 + 12) * U
    torch.testing.assert_close(y, alone, rtol=steps, atol=steps)
    direction = torch.randn(1, 8, 256, generator=generator).to(device)
    grads = [torch.autograd.grad(*pair, direction)[0].to(dtype) for pair in ((y, leaf), (alone, hidden))]
    equal = (grads[0] == grads[1]).double().mean()
    assert equal == 1 if same_order else equal > 0.99


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("dtype", TYPES)
def test_what_is_not_finite_stays_in_its_row(device, dtype, value):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 5, 40, generator=generator).to(device, dtype)
    vectors = [torch.randn(2, 40, generator=generator).to(device) for _ in range(2)]
    broken = x.clone()
    broken[1, 3, 7] = value
    results = []
    for tokens in (x, broken):
        leaf = tokens.clone().requires_grad_()
        y = emogs.emotion_norm(leaf, *vectors)
        results.append((y.detach(), torch.autograd.grad(y, leaf, torch.ones_like(y))[0]))
    for plain, poisoned in zip(*results, strict=True):
        assert poisoned[1, 3].isnan().all()
        poisoned[1, 3] = plain[1, 3]
        assert torch.equal(plain, poisoned)
