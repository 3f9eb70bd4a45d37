"""The operations of emotion-conditioned normalization that torch sees, and the way from them to the kernel.

`emogs::emotion_norm`, the same into given buffers, and `emogs::emotion_norm_backward`: each with a native
implementation and a shape function. Each checks its arguments itself, so that no caller makes it read out of bounds.
"""

from __future__ import annotations

import torch
from torch import Tensor

from emogs.checks import FLOATS, HALVES, Arguments
from emogs.ops.native import _C, launch, new_empty, routed

_FLOATS = FLOATS + HALVES
_NAMES = {dtype: str(dtype).removeprefix("torch.") for dtype in _FLOATS}

_TENSORS = ("x", "scale", "shift", "weight", "bias", "residual", "gate", "region")
_VECTORS = "Tensor scale, Tensor shift, Tensor? weight, Tensor? bias"
_SETTINGS = "Tensor? gate, Tensor? region, bool rms, float eps"
torch.library.define(
    "emogs::emotion_norm", f"(Tensor x, {_VECTORS}, Tensor? residual, {_SETTINGS}) -> (Tensor, Tensor)"
)
torch.library.define(
    "emogs::emotion_norm_out",
    f"(Tensor x, {_VECTORS}, Tensor? residual, {_SETTINGS}, Tensor(a!) out, Tensor(b!)? residual_out) -> ()",
)
torch.library.define(
    "emogs::emotion_norm_backward",
    f"(Tensor grad_y, Tensor? grad_residual_out, Tensor hidden, Tensor? x, {_VECTORS}, {_SETTINGS}) -> "
    "(Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)",
)


def _check(x, scale, shift, weight, bias, residual, gate, region, eps):
    arguments = Arguments("emotion_norm")
    arguments.check("x", x, "B T C", _FLOATS)
    by_region = False
    for name, value in (("scale", scale), ("shift", shift), ("gate", gate)):
        if value is None and name == "gate":
            continue
        rows = isinstance(value, Tensor) and value.dim() == 3
        by_region |= rows
        arguments.check(name, value, "B R C" if rows else "B C", _FLOATS)
        if rows and region is None:
            raise arguments.fail(name, "[B, C] without a region", list(value.shape))
        if rows and value.shape[1] == 0:
            raise arguments.fail(name, "[B, R, C] with R at least 1", list(value.shape))
    if weight is not None:
        arguments.check("weight", weight, "C", _FLOATS)
    if bias is not None:
        arguments.check("bias", bias, "C", _FLOATS)
    if residual is not None:
        arguments.check("residual", residual, "B T C", _FLOATS)
    elif gate is not None:
        raise arguments.fail("gate", "None without a residual", list(gate.shape))
    if region is not None:
        one_for_all = isinstance(region, Tensor) and region.dim() == 1
        arguments.check("region", region, "T" if one_for_all else "B T", (torch.int32, torch.int64))
        if not by_region:
            raise arguments.fail("region", "None where scale, shift and gate are all [B, C]", list(region.shape))
    arguments.check_eps(eps)


def _check_out(x, residual, out, residual_out):
    arguments = Arguments("emotion_norm")
    for name, value, like in (("out", out, x), ("residual_out", residual_out, residual)):
        if like is None:
            if value is not None:
                raise arguments.fail(name, "None without a residual", list(value.shape))
            continue
        arguments.check_type(name, value, Tensor)
        if value.dtype != like.dtype:
            raise TypeError(f"emotion_norm: {name} must be {_NAMES[like.dtype]}, got {value.dtype}")
        if value.shape != like.shape or value.device != like.device or not value.is_contiguous():
            strides = "" if value.is_contiguous() else f" with strides {list(value.stride())}"
            expected = f"contiguous, {list(like.shape)} on {like.device}"
            raise arguments.fail(name, expected, f"{list(value.shape)} on {value.device}{strides}")


def _check_memory(tensors, out, residual_out):
    """Refuses results that would be written over what is still to be read: all but x and the residual themselves.

    Only where the kernel runs: a tensor that is traced has no address. What is not contiguous is copied before.
    """
    read = [(name, t, t.data_ptr()) for name, t in zip(_TENSORS, tensors, strict=True) if t is not None]
    for result, written in (("out", out), ("residual_out", residual_out)):
        if written is None:
            continue
        begin = written.data_ptr()
        end = begin + written.nbytes
        for name, tensor, first in read:
            if first >= end or first + tensor.nbytes <= begin or not tensor.is_contiguous():
                continue
            may_be = name in ("x", "residual")
            if may_be and first == begin and tensor.dtype == written.dtype:  # of the same shape, so the same throughout
                continue
            expected = f"{name} itself or in other memory than {name}" if may_be else f"in other memory than {name}"
            shared = min(end, first + tensor.nbytes) - max(begin, first)
            raise Arguments("emotion_norm").fail(result, expected, f"{shared} bytes in common")
        read.insert(0, ("out", written, begin))


def _write_into(x, scale, shift, weight, bias, residual, gate, region, rms, eps, out, residual_out):
    """The kernel into the caller's tensors, checked but for their memory."""
    tensors = (x, scale, shift, weight, bias, residual, gate, region)
    _check_memory(tensors, out, residual_out)
    _write(*tensors, rms, eps, out, residual_out)


def _write(x, scale, shift, weight, bias, residual, gate, region, rms, eps, y, residual_out):
    """The kernel, into tensors that the caller has; checked and on one device."""
    name, token, stream = _storage(x.dtype, None if residual is None else residual.dtype)
    common, vector = _common(name, token, x, scale, shift, weight, bias, gate, region, rms, eps)
    y_as = y if y.dtype == token else torch.empty_like(x, dtype=token, memory_format=torch.contiguous_format)
    out_as = residual_out
    if residual is not None and residual_out.dtype != stream:
        out_as = torch.empty_like(residual, dtype=stream, memory_format=torch.contiguous_format)
    invalid = _C.emotion_norm_forward(
        **common,
        x=_dense(x, token),
        residual=_dense(residual, stream),
        shift=_dense(shift, vector),
        y=y_as,
        residual_out=out_as,
    )
    if invalid >= 0:
        _raise_invalid(invalid, region, x.shape[1], common["regions"])
    if y_as is not y:
        y.copy_(y_as)
    if out_as is not residual_out:
        residual_out.copy_(out_as)


def _forward(x, scale, shift, weight, bias, residual, gate, region, rms, eps):
    """y and residual_out, the latter None without a residual."""
    _check(x, scale, shift, weight, bias, residual, gate, region, eps)
    y = new_empty(x, x.shape)
    residual_out = None if residual is None else new_empty(residual, residual.shape)
    _write(x, scale, shift, weight, bias, residual, gate, region, rms, eps, y, residual_out)
    return y, residual_out


def _empty_for_none(tensors, like):
    return tuple(like.new_empty(0) if t is None else t for t in tensors)


@torch.library.impl("emogs::emotion_norm", ("cpu", "cuda"))
def _forward_op(x, *rest):
    return _empty_for_none(_forward(x, *rest), x)


@torch.library.register_fake("emogs::emotion_norm")
def _forward_fake(x, scale, shift, weight, bias, residual, gate, region, rms, eps):
    _check(x, scale, shift, weight, bias, residual, gate, region, eps)
    return x.new_empty(x.shape), x.new_empty(0) if residual is None else residual.new_empty(residual.shape)


def norm_into(tensors, rms, eps, out, residual_out):
    """`emotion_norm` into given buffers, of which one may be None."""
    _check(*tensors, eps)
    x, residual = tensors[0], tensors[5]
    if torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors[:7]):
        raise Arguments("emotion_norm").fail("out", "None where gradients are recorded", "a tensor")
    out = x.new_empty(x.shape) if out is None else out
    if residual is not None and residual_out is None:
        residual_out = residual.new_empty(residual.shape)
    _check_out(x, residual, out, residual_out)
    _emotion_norm_out(*tensors, rms, eps, out, residual_out)
    return out if residual is None else (out, residual_out)


@torch.library.impl("emogs::emotion_norm_out", ("cpu", "cuda"))
def _forward_out(x, scale, shift, weight, bias, residual, gate, region, rms, eps, out, residual_out):
    tensors = (x, scale, shift, weight, bias, residual, gate, region)
    _check(*tensors, eps)
    _check_out(x, residual, out, residual_out)
    _write_into(*tensors, rms, eps, out, residual_out)


@torch.library.register_fake("emogs::emotion_norm_out")
def _forward_out_fake(x, scale, shift, weight, bias, residual, gate, region, rms, eps, out, residual_out):
    _check(x, scale, shift, weight, bias, residual, gate, region, eps)
    _check_out(x, residual, out, residual_out)


def _backward(grad_y, grad_residual_out, hidden, x, scale, shift, weight, bias, gate, region, rms, eps):
    """Gradients of x, residual, scale, shift, weight, bias and gate.

    That of x is None where it is that of the residual (no gate, the same type); those of what is None are None. The
    vectors' are of the kernel's type.
    """
    _check(hidden, scale, shift, weight, bias, hidden, gate, region, eps)
    arguments = Arguments("emotion_norm_backward")
    arguments.check("hidden", hidden, "B T C", _FLOATS)
    arguments.check("grad_y", grad_y, "B T C", _FLOATS)
    for name, value in (("grad_residual_out", grad_residual_out), ("x", x)):
        if value is not None:
            arguments.check(name, value, "B T C", _FLOATS)
    if gate is not None and x is None:
        raise arguments.fail("x", "a tensor where there is a gate", None)
    name, token, stream = _storage(grad_y.dtype, hidden.dtype)
    common, vector = _common(name, token, hidden, scale, shift, weight, bias, gate, region, rms, eps)
    batch, tokens, channels = hidden.shape
    regions = common["regions"]
    chunks = _chunks(hidden, regions)
    grad_hidden = new_empty(hidden, hidden.shape, stream)
    grad_x = new_empty(hidden, hidden.shape, token) if gate is not None or token != stream else None
    vectors = [None if v is None else v.new_empty(v.shape, dtype=vector) for v in (scale, shift, weight, bias, gate)]
    invalid = _C.emotion_norm_backward(
        **common,
        x=None if gate is None else _dense(x, token),
        chunks=chunks,
        hidden=_dense(hidden, stream),
        grad_y=_dense(grad_y, token),
        grad_residual_out=_dense(grad_residual_out, stream),
        partial=scale.new_empty((batch, chunks, 2 if gate is None else 3, regions, channels), dtype=vector),
        grad_hidden=grad_hidden,
        grad_x=grad_x,
        grad_scale=vectors[0],
        grad_shift=vectors[1],
        grad_weight=vectors[2],
        grad_bias=vectors[3],
        grad_gate=vectors[4],
    )
    if invalid >= 0:
        _raise_invalid(invalid, region, tokens, regions)
    return grad_x, grad_hidden, *vectors


@torch.library.impl("emogs::emotion_norm_backward", ("cpu", "cuda"))
def _backward_op(grad_y, *rest):
    return _empty_for_none(_backward(grad_y, *rest), grad_y)


@torch.library.register_fake("emogs::emotion_norm_backward")
def _backward_fake(grad_y, grad_residual_out, hidden, x, scale, shift, weight, bias, gate, region, rms, eps):
    _, token, stream = _storage(grad_y.dtype, hidden.dtype)
    vector = torch.float64 if token == torch.float64 else torch.float32
    grad_hidden = hidden.new_empty(hidden.shape, dtype=stream)
    grad_x = hidden.new_empty(hidden.shape, dtype=token) if gate is not None or token != stream else None
    vectors = [None if v is None else v.new_empty(v.shape, dtype=vector) for v in (scale, shift, weight, bias, gate)]
    return _empty_for_none((grad_x, grad_hidden, *vectors), grad_y)


def _save(ctx, inputs, output):
    x, scale, shift, weight, bias, residual, gate, region, ctx.rms, ctx.eps = inputs
    hidden = x if residual is None else output[1]
    ctx.save_for_backward(hidden, None if gate is None else x, scale, shift, weight, bias, gate, region)
    ctx.x_dtype, ctx.has_residual = x.dtype, residual is not None
    ctx.set_materialize_grads(False)


def _differentiate(ctx, grad_y, grad_residual_out):
    saved = ctx.saved_tensors
    hidden, _, scale, shift, weight, bias, gate, _ = saved
    grad_residual_out = grad_residual_out if ctx.has_residual else None
    if grad_y is None:
        grad_y = hidden.new_zeros(hidden.shape, dtype=ctx.x_dtype)
    grad_x, grad_hidden, *vectors = _emotion_norm_backward(grad_y, grad_residual_out, *saved, ctx.rms, ctx.eps)
    grad_x = grad_hidden if grad_x is None or not grad_x.numel() else grad_x
    grads = [
        None if vector is None else grad.to(vector.dtype)
        for grad, vector in zip(vectors, (scale, shift, weight, bias, gate), strict=True)
    ]
    return (
        grad_x.to(ctx.x_dtype),
        *grads[:4],
        grad_hidden.to(hidden.dtype) if ctx.has_residual else None,
        grads[4],
        None,
        None,
        None,
    )


def _refuse_second_derivative(ctx, *grads):
    raise NotImplementedError("emotion_norm: second derivatives are not supported")


torch.library.register_autograd("emogs::emotion_norm", _differentiate, setup_context=_save)
torch.library.register_autograd("emogs::emotion_norm_backward", _refuse_second_derivative)
norm = routed("emotion_norm", _forward, _save, _differentiate)
_emotion_norm_out = routed("emotion_norm_out", _write_into)
_emotion_norm_backward = routed("emotion_norm_backward", _backward)


def _storage(x: torch.dtype, residual: torch.dtype | None) -> tuple[str, torch.dtype, torch.dtype]:
    """The kernel, and the types in which it stores x and the residual (csrc/norm/norm.h). Both only ever grow."""
    if residual is None or x == residual:
        return _NAMES[x], x, x
    if torch.float64 in (x, residual):
        return "float64", torch.float64, torch.float64
    token = x if residual == torch.float32 else torch.float32
    return f"{_NAMES[token]} with {_NAMES[residual]}", token, residual


def _chunks(like: Tensor, regions: int) -> int:
    """Into how many pieces backward cuts the tokens of a sample (EmotionNormBackward::chunks).

    Enough for all workers, and few, since each holds its own sums, one for every region. Never derived from the number
    of threads: the bits would follow it.
    """
    least, most = (32, 1 << 14) if like.is_cuda else (8, 64)  # tokens a piece, pieces
    return max(1, min(like.shape[1] // (least * regions), most))


def _dense(tensor: Tensor | None, dtype: torch.dtype) -> Tensor | None:
    if tensor is None:
        return None
    return (tensor if tensor.dtype == dtype else tensor.to(dtype)).contiguous()


def int32_rows(region: Tensor | None) -> Tensor | None:
    """What the kernels read; numbers beyond int32 stay out of range instead of wrapping around."""
    if not isinstance(region, Tensor) or region.dtype != torch.int64:
        return region
    limits = torch.iinfo(torch.int32)
    return region.clamp(limits.min, limits.max).to(torch.int32)


def _rows(vectors: Tensor | None) -> int:
    return vectors.shape[1] if vectors is not None and vectors.dim() == 3 else 1


def _common(name, token, like, scale, shift, weight, bias, gate, region, rms, eps):
    vector = torch.float64 if token == torch.float64 else torch.float32
    batch, tokens, channels = like.shape
    scale_rows, shift_rows, gate_rows = _rows(scale), _rows(shift), _rows(gate)
    regions = max(scale_rows, shift_rows, gate_rows)
    return {
        **launch(like, name),
        "batch": batch,
        "tokens": tokens,
        "channels": channels,
        "regions": regions,
        "scale_rows": scale_rows,
        "shift_rows": shift_rows,
        "gate_rows": gate_rows,
        "region_rows": 1 if region is None or region.dim() == 1 else batch,
        "scale": _dense(scale, vector),
        "weight": _dense(weight, vector),
        "bias": _dense(bias, vector),
        "gate": _dense(gate, vector),
        "region": _dense(int32_rows(region), torch.int32),
        "folded": like.new_empty((3, batch, regions, channels), dtype=vector),
        "rms": rms,
        "eps": eps,
    }, vector


def _raise_invalid(token: int, region: Tensor, tokens: int, regions: int) -> None:
    b, t = divmod(token, tokens)
    value = int(region[t] if region.dim() == 1 else region[b, t])
    raise ValueError(f"emotion_norm: region must be in [0, {regions}), got {value} at [{b}, {t}]")
