"""Emotion-conditioned normalization: layer or RMS norm with a scale, shift and gate per sample or per face region.

`emotion_norm` is what callers use. Below it stand the two torch operations `emogs::emotion_norm` and
`emogs::emotion_norm_backward`, each with a native implementation and a shape function, and a plain torch reference.
The arithmetic is in csrc/math/norm.h.
"""

from __future__ import annotations

from typing import Literal, overload

import torch
from torch import Tensor

from emogs.ops.checks import FLOATS, HALVES, Arguments
from emogs.ops.native import _C, launch

Kind = Literal["layer", "rms"]

# Pieces into which backward cuts the tokens of a sample, summed in order (EmotionNormBackward::chunks). Enough for all
# workers, and few, since each holds its own sums. Never derived from the number of threads: the bits would follow it.
_CHUNKS = {"cpu": 64, "cuda": 512}


@overload
def emotion_norm(
    x: Tensor,
    scale: Tensor,
    shift: Tensor,
    *,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    kind: Kind = "layer",
    eps: float = 1e-6,
    residual: None = None,
    gate: None = None,
    region: Tensor | None = None,
) -> Tensor: ...


@overload
def emotion_norm(
    x: Tensor,
    scale: Tensor,
    shift: Tensor,
    *,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    kind: Kind = "layer",
    eps: float = 1e-6,
    residual: Tensor,
    gate: Tensor | None = None,
    region: Tensor | None = None,
) -> tuple[Tensor, Tensor]: ...


def emotion_norm(
    x: Tensor,
    scale: Tensor,
    shift: Tensor,
    *,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    kind: Kind = "layer",
    eps: float = 1e-6,
    residual: Tensor | None = None,
    gate: Tensor | None = None,
    region: Tensor | None = None,
) -> Tensor | tuple[Tensor, Tensor]:
    """Normalizes tokens and modulates them by an emotion: `(norm(x) * weight + bias) * (1 + scale) + shift`.

    With a residual, `residual_out = residual + (1 + gate) * x` is what is normalized, and it is returned too. Zero
    scale, shift and gate give the plain normalization. Differentiable once, in every tensor but `region`.

    Args:
        x: [B, T, C] tokens; float32, bfloat16, float16 or, on the CPU only, float64. Arithmetic is float32, for float64
            tokens float64.
        scale: [B, C], or [B, R, C] where `region` chooses among R rows; any of the dtypes.
        shift: [B, C] or [B, R, C], likewise.
        weight: [C], ones if None.
        bias: [C], zeros if None.
        kind: "layer" subtracts the mean, "rms" does not.
        eps: added to the variance ("rms": to the mean square); at least 0.
        residual: [B, T, C], any of the dtypes.
        gate: [B, C] or [B, R, C]; only with a residual, zeros if None.
        region: [B, T] or [T] int32 rows in [0, R).
    Returns:
        y [B, T, C] in the dtype of x; with a residual (y, residual_out), the latter in the residual's dtype.
    Raises:
        TypeError, ValueError: an argument does not fit; the message says how. A region out of range is found on the
            CPU; on CUDA, where looking would wait for the device, such tokens become NaN.

    >>> x, scale, shift = torch.randn(2, 5, 8), torch.zeros(2, 8), torch.ones(2, 8)
    >>> emotion_norm(x, scale, shift).mean(-1).round(decimals=4).unique()
    tensor([1.])
    """
    _check(x, scale, shift, weight, bias, kind, eps, residual, gate, region)
    if region is not None and region.dim() == 1:
        region = region.expand(x.shape[0], -1)
    y, residual_out = torch.ops.emogs.emotion_norm(
        x, scale, shift, weight, bias, residual, gate, region, kind == "rms", eps
    )
    return y if residual is None else (y, residual_out)


def emotion_norm_reference(
    x: Tensor,
    scale: Tensor,
    shift: Tensor,
    *,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    kind: Kind = "layer",
    eps: float = 1e-6,
    residual: Tensor | None = None,
    gate: Tensor | None = None,
    region: Tensor | None = None,
) -> Tensor | tuple[Tensor, Tensor]:
    """`emotion_norm` in plain torch: slow, in the dtype of its arguments, differentiable by autograd."""

    def per_token(vectors: Tensor) -> Tensor:
        if vectors.dim() == 2:
            return vectors[:, None]
        assert region is not None
        rows = region.expand(x.shape[0], -1).long()
        return vectors.gather(1, rows[..., None].expand(-1, -1, x.shape[2]))

    hidden = x
    if residual is not None:
        hidden = residual + (x if gate is None else (1 + per_token(gate)) * x)
    if kind == "layer":
        normalized = torch.nn.functional.layer_norm(hidden, hidden.shape[-1:], weight, bias, eps)
    else:
        normalized = torch.nn.functional.rms_norm(hidden, hidden.shape[-1:], weight, eps)
        normalized = normalized if bias is None else normalized + bias
    y = normalized * (1 + per_token(scale)) + per_token(shift)
    return y if residual is None else (y, hidden)


def _check(x, scale, shift, weight, bias, kind, eps, residual, gate, region):
    arguments = Arguments("emotion_norm")
    floats = FLOATS + HALVES
    arguments.check("x", x, "B T C", floats)
    vectors = {"scale": scale, "shift": shift} | ({} if gate is None else {"gate": gate})
    by_region = False
    for name, value in vectors.items():
        rows = isinstance(value, Tensor) and value.dim() == 3
        by_region |= rows
        arguments.check(name, value, "B R C" if rows else "B C", floats)
        if rows and region is None:
            raise arguments.fail(name, "[B, C] without a region", list(value.shape))
        if rows and value.shape[1] == 0:
            raise arguments.fail(name, "[B, R, C] with R at least 1", list(value.shape))
    for name, value in {"weight": weight, "bias": bias}.items():
        if value is not None:
            arguments.check(name, value, "C", floats)
    if residual is not None:
        arguments.check("residual", residual, "B T C", floats)
    elif gate is not None:
        raise arguments.fail("gate", "None without a residual", list(gate.shape))
    if region is not None:
        one_for_all = isinstance(region, Tensor) and region.dim() == 1
        arguments.check("region", region, "T" if one_for_all else "B T", (torch.int32,))
        if not by_region:
            raise arguments.fail("region", "None where scale, shift and gate are all [B, C]", list(region.shape))
    if kind not in ("layer", "rms"):
        raise arguments.fail("kind", '"layer" or "rms"', repr(kind))
    if not eps >= 0:
        raise arguments.fail("eps", "at least 0", eps)


torch.library.define(
    "emogs::emotion_norm",
    "(Tensor x, Tensor scale, Tensor shift, Tensor? weight, Tensor? bias, Tensor? residual, Tensor? gate, "
    "Tensor? region, bool rms, float eps) -> (Tensor, Tensor)",
)
torch.library.define(
    "emogs::emotion_norm_backward",
    "(Tensor grad_y, Tensor? grad_residual_out, Tensor hidden, Tensor? x, Tensor scale, Tensor? weight, Tensor? gate, "
    "Tensor? region, int regions, bool rms, float eps) -> (Tensor, Tensor, Tensor)",
)


@torch.library.impl("emogs::emotion_norm", ("cpu", "cuda"))
def _forward(x, scale, shift, weight, bias, residual, gate, region, rms, eps):
    dtype = _kernel_dtype(x, residual)
    x_in, residual_in = _dense(x, dtype), _dense(residual, dtype)
    y = torch.empty_like(x_in)
    residual_out = None if residual is None else torch.empty_like(x_in)
    regions = max(_rows(scale), _rows(shift), _rows(gate))
    common, vector = _common(dtype, x_in, scale, weight, gate, region, regions, rms, eps)
    invalid = _C.emotion_norm_forward(
        **common,
        x=x_in,
        residual=residual_in,
        shift=_dense(shift, vector),
        shift_rows=_rows(shift),
        bias=_dense(bias, vector),
        folded=x.new_empty((2, x.shape[0], regions, x.shape[2]), dtype=vector),
        y=y,
        residual_out=residual_out,
    )
    _raise_if_invalid(invalid, region, regions)
    return y.to(x.dtype), x.new_empty(0) if residual is None else residual_out.to(residual.dtype)


@torch.library.register_fake("emogs::emotion_norm")
def _forward_fake(x, scale, shift, weight, bias, residual, gate, region, rms, eps):
    y = x.new_empty(x.shape)
    return y, x.new_empty(0) if residual is None else residual.new_empty(residual.shape)


@torch.library.impl("emogs::emotion_norm_backward", ("cpu", "cuda"))
def _backward(grad_y, grad_residual_out, hidden, x, scale, weight, gate, region, regions, rms, eps):
    """Gradients of what was normalized and of x (empty without a gate), and the sums [B, 2 or 3, R, C]."""
    dtype = _kernel_dtype(hidden, x)
    batch, tokens, channels = hidden.shape
    common, vector = _common(dtype, hidden, scale, weight, gate, region, regions, rms, eps)
    chunks = max(1, min(tokens, _CHUNKS[hidden.device.type]))
    sums = hidden.new_empty((batch, 2 if gate is None else 3, regions, channels), dtype=vector)
    grad_hidden = hidden.new_empty(hidden.shape, dtype=dtype)
    grad_x = None if gate is None else torch.empty_like(grad_hidden)
    invalid = _C.emotion_norm_backward(
        **common,
        x=None if gate is None else _dense(x, dtype),
        chunks=chunks,
        hidden=_dense(hidden, dtype),
        grad_y=_dense(grad_y, dtype),
        grad_residual_out=_dense(grad_residual_out, dtype),
        folded=hidden.new_empty((batch, regions, channels), dtype=vector),
        partial=hidden.new_empty((chunks, *sums.shape), dtype=vector),
        grad_hidden=grad_hidden,
        grad_x=grad_x,
        sums=sums,
    )
    _raise_if_invalid(invalid, region, regions)
    return grad_hidden, hidden.new_empty(0, dtype=dtype) if grad_x is None else grad_x, sums


@torch.library.register_fake("emogs::emotion_norm_backward")
def _backward_fake(grad_y, grad_residual_out, hidden, x, scale, weight, gate, region, regions, rms, eps):
    dtype = _kernel_dtype(hidden, x)
    grad_hidden = hidden.new_empty(hidden.shape, dtype=dtype)
    sums = hidden.new_empty(
        (hidden.shape[0], 2 if gate is None else 3, regions, hidden.shape[2]), dtype=_vector_dtype(dtype)
    )
    return grad_hidden, hidden.new_empty(0, dtype=dtype) if gate is None else torch.empty_like(grad_hidden), sums


def _save(ctx, inputs, output):
    x, scale, shift, weight, bias, residual, gate, region, ctx.rms, ctx.eps = inputs
    hidden = x if residual is None else output[1]
    ctx.save_for_backward(hidden, None if gate is None else x, scale, weight, bias, gate, region)
    ctx.regions = max(_rows(scale), _rows(shift), _rows(gate))
    ctx.dtypes = [None if t is None else t.dtype for t in inputs[:7]]
    ctx.shift_dim = shift.dim()


def _differentiate(ctx, grad_y, grad_residual_out):
    hidden, x, scale, weight, bias, gate, region = ctx.saved_tensors
    x_dtype, scale_dtype, shift_dtype, weight_dtype, bias_dtype, residual_dtype, gate_dtype = ctx.dtypes
    if residual_dtype is None:
        grad_residual_out = None
    grad_hidden, grad_x, sums = torch.ops.emogs.emotion_norm_backward(
        grad_y, grad_residual_out, hidden, x, scale, weight, gate, region, ctx.regions, ctx.rms, ctx.eps
    )
    grad_sum, product_sum = sums[:, 0], sums[:, 1]  # each [B, R, C]
    grad_scale = product_sum if weight is None else product_sum * weight
    if bias is not None:
        grad_scale = grad_scale + grad_sum * bias
    factor = 1 + (scale[:, None] if scale.dim() == 2 else scale).to(sums.dtype)  # a half type would round 1 + scale
    return (
        (grad_hidden if gate is None else grad_x).to(x_dtype),
        _of_vector(grad_scale, scale.dim()).to(scale_dtype),
        _of_vector(grad_sum, ctx.shift_dim).to(shift_dtype),
        None if weight is None else (product_sum * factor).sum((0, 1)).to(weight_dtype),
        None if bias is None else (grad_sum * factor).sum((0, 1)).to(bias_dtype),
        None if residual_dtype is None else grad_hidden.to(residual_dtype),
        None if gate is None else _of_vector(sums[:, 2], gate.dim()).to(gate_dtype),
        None,
        None,
        None,
    )


def _refuse_second_derivative(ctx, *grads):
    raise NotImplementedError("emotion_norm: second derivatives are not supported")


torch.library.register_autograd("emogs::emotion_norm", _differentiate, setup_context=_save)
torch.library.register_autograd("emogs::emotion_norm_backward", _refuse_second_derivative)


def _kernel_dtype(tokens: Tensor, others: Tensor | None) -> torch.dtype:
    """Which kernel runs: half types only on CUDA and only if x and residual agree; float64 if any of the two is."""
    dtypes = {tokens.dtype} | (set() if others is None else {others.dtype})
    if torch.float64 in dtypes:
        return torch.float64
    return tokens.dtype if tokens.is_cuda and len(dtypes) == 1 else torch.float32


def _vector_dtype(kernel: torch.dtype) -> torch.dtype:
    return torch.float64 if kernel == torch.float64 else torch.float32


def _dense(tensor: Tensor | None, dtype: torch.dtype) -> Tensor | None:
    return None if tensor is None else tensor.to(dtype).contiguous()


def _rows(vectors: Tensor | None) -> int:
    return vectors.shape[1] if vectors is not None and vectors.dim() == 3 else 1


def _of_vector(sums: Tensor, dim: int) -> Tensor:
    """[B, R, C] sums as the gradient of a vector of [B, R, C] (dim 3) or [B, C] (dim 2)."""
    return sums if dim == 3 else sums.sum(1)


def _common(dtype, like, scale, weight, gate, region, regions, rms, eps):
    vector = _vector_dtype(dtype)
    batch, tokens, channels = like.shape
    return {
        **launch(like, dtype),
        "batch": batch,
        "tokens": tokens,
        "channels": channels,
        "regions": regions,
        "scale": _dense(scale, vector),
        "scale_rows": _rows(scale),
        "weight": _dense(weight, vector),
        "gate": _dense(gate, vector),
        "gate_rows": _rows(gate),
        "region": _dense(region, torch.int32),
        "rms": rms,
        "eps": eps,
    }, vector


def _raise_if_invalid(token: int, region: Tensor | None, regions: int) -> None:
    if token >= 0:
        assert region is not None
        b, t = divmod(token, region.shape[1])
        raise ValueError(f"emotion_norm: region must be in [0, {regions}), got {int(region[b, t])} at [{b}, {t}]")
