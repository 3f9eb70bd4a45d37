"""Emotion-conditioned normalization: layer or RMS norm with a scale, shift and gate per sample or per face region.

`emotion_norm` is what callers use, `emotion_norm_reference` the same in plain torch. The operations that torch sees are
in norm_op.py, the arithmetic in csrc/math/norm.h.
"""

from __future__ import annotations

from typing import Literal, overload

import torch
from torch import Tensor

from emogs.checks import Arguments
from emogs.ops.norm_op import int32_rows, norm, norm_into

Kind = Literal["layer", "rms"]


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
    out: Tensor | None = None,
    residual_out: None = None,
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
    out: Tensor | None = None,
    residual_out: Tensor | None = None,
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
    out: Tensor | None = None,
    residual_out: Tensor | None = None,
) -> Tensor | tuple[Tensor, Tensor]:
    """Normalizes tokens and modulates them by an emotion: `(norm(x) * weight + bias) * (1 + scale) + shift`.

    With a residual, `residual_out = residual + (1 + gate) * x`, rounded as it is stored, is what is normalized; it is
    returned too. Zero scale, shift and gate give the plain normalization. Differentiable once, in every tensor but
    `region`.

    Args:
        x: [B, T, C] tokens; float32, bfloat16, float16 or, on the CPU only, float64. Arithmetic is float32; float64
            where x or residual is.
        scale: [B, C], or [B, R, C] where `region` chooses among R rows; any of the dtypes.
        shift: [B, C] or [B, R, C], likewise.
        weight: [C], ones if None.
        bias: [C], zeros if None.
        kind: "layer" subtracts the mean, "rms" does not.
        eps: added to the variance ("rms": to the mean square); at least 0, and finite in float32.
        residual: [B, T, C], any of the dtypes.
        gate: [B, C] or [B, R, C]; only with a residual, zeros if None.
        region: [B, T] or [T] rows in [0, R); int32, or int64, of which a copy is made.
        out: a contiguous tensor like x for y, which saves its allocation; it may be x or the residual itself, and
            shares no memory with the rest. Only where no gradients are recorded.
        residual_out: likewise, like the residual, for residual_out.
    Returns:
        y [B, T, C] in the dtype of x; with a residual (y, residual_out), the latter in the residual's dtype.
    Raises:
        TypeError, ValueError: an argument does not fit; the message says how. A region out of range is found on the
            CPU; on CUDA, where looking would wait for the device, such tokens become NaN.

    >>> x, scale, shift = torch.randn(2, 5, 8), torch.zeros(2, 8), torch.ones(2, 8)
    >>> emotion_norm(x, scale, shift).mean(-1).round(decimals=4).unique()
    tensor([1.])
    """
    tensors = (x, scale, shift, weight, bias, residual, gate, int32_rows(region))
    if not isinstance(kind, str) or kind not in ("layer", "rms"):
        raise Arguments("emotion_norm").fail("kind", '"layer" or "rms"', repr(kind))
    if out is not None or residual_out is not None:
        return norm_into(tensors, kind == "rms", eps, out, residual_out)
    y, hidden = norm(*tensors, kind == "rms", eps)
    return y if residual is None else (y, hidden)


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
