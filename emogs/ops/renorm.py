"""Emotion-conditioned renormalization of head-model parameters over time: the geometry path's operation.

`emotion_renorm` is what callers use. Below it stand the operations `emogs::emotion_renorm` and
`emogs::emotion_renorm_backward`; the arithmetic is in csrc/math/renorm.h.
"""

from __future__ import annotations

import torch
from torch import Tensor

from emogs.checks import FLOATS, HALVES, Arguments
from emogs.ops.native import _C, launch, new_empty, routed

# Pieces into which backward cuts the frames of a sample, summed in order; never derived from the number of threads.
_MOST_CHUNKS, _LEAST_FRAMES = 64, 64


def emotion_renorm(
    params: Tensor,
    center: Tensor,
    scale: Tensor,
    shift: Tensor,
    *,
    channels: Tensor | None = None,
    frames: Tensor | None = None,
) -> Tensor:
    """Renormalizes a performance: `params + channels * ((params - center) * scale + shift)`.

    At zero scale and shift the result is params, bit for bit. Differentiable once, in every tensor but `frames`.

    Args:
        params: [B, T, P] parameters over time; float32, bfloat16, float16 or, on the CPU only, float64. Arithmetic is
            float32, for float64 parameters float64.
        center: [B, P] what the performance moves about; like scale and shift it holds for all T frames, and may be of
            any of the dtypes.
        scale: [B, P] how much wider the movement becomes; 0 leaves it.
        shift: [B, P] by how much the center moves; 0 leaves it.
        channels: [P] share of the change that each parameter takes; all of it if None.
        frames: [B, T] bool, false where a frame is invalid: it is left untouched, and may hold anything; all if None.
    Returns:
        [B, T, P] in the dtype of params.
    Raises:
        TypeError, ValueError: an argument does not fit; the message says how.

    >>> params, zero = torch.rand(1, 10, 52), torch.zeros(1, 52)
    >>> torch.equal(emotion_renorm(params, zero, zero, zero), params)
    True
    """
    return _emotion_renorm(params, center, scale, shift, channels, frames)


def emotion_renorm_reference(
    params: Tensor,
    center: Tensor,
    scale: Tensor,
    shift: Tensor,
    *,
    channels: Tensor | None = None,
    frames: Tensor | None = None,
) -> Tensor:
    """`emotion_renorm` in plain torch: in the dtype of its arguments, differentiable by autograd."""
    # An invalid frame may hold NaN, whose gradient a mask after the arithmetic would not stop.
    valid = params if frames is None else torch.where(frames[..., None], params, 0)
    change = (valid - center[:, None]) * scale[:, None] + shift[:, None]
    if channels is not None:
        change = channels * change
    if frames is not None:
        change = torch.where(frames[..., None], change, 0)
    return params + change


_ARGUMENTS = "Tensor params, Tensor center, Tensor scale, Tensor shift, Tensor? channels, Tensor? frames"
torch.library.define("emogs::emotion_renorm", f"({_ARGUMENTS}) -> Tensor")
torch.library.define(
    "emogs::emotion_renorm_backward",
    f"(Tensor grad_out, {_ARGUMENTS}) -> (Tensor, Tensor, Tensor, Tensor, Tensor)",
)


def _check(params, center, scale, shift, channels, frames) -> Arguments:
    arguments, floats = Arguments("emotion_renorm"), FLOATS + HALVES
    arguments.check("params", params, "B T P", floats)
    for name, vector in (("center", center), ("scale", scale), ("shift", shift)):
        arguments.check(name, vector, "B P", floats)
    if channels is not None:
        arguments.check("channels", channels, "P", floats)
    if frames is not None:
        arguments.check("frames", frames, "B T", (torch.bool,))
    return arguments


def _common(params, center, scale, shift, channels, frames):
    vector = torch.float64 if params.dtype == torch.float64 else torch.float32
    batch, count, width = params.shape
    vectors = {"center": center, "scale": scale, "shift": shift, "channels": channels}
    return {
        **launch(params),
        "batch": batch,
        "frames": count,
        "width": width,
        "params": params.contiguous(),
        **{name: None if v is None else v.to(vector).contiguous() for name, v in vectors.items()},
        "valid": None if frames is None else frames.contiguous(),
    }


def _forward(*tensors):
    _check(*tensors)
    out = new_empty(tensors[0], tensors[0].shape)
    _C.emotion_renorm_forward(**_common(*tensors), out=out)
    return out


@torch.library.register_fake("emogs::emotion_renorm")
def _forward_fake(*tensors):
    _check(*tensors)
    return tensors[0].new_empty(tensors[0].shape)


def _gradients(params, center, scale, shift, channels):
    """Where backward writes: of params, center, scale, shift and channels (empty without)."""
    vector = torch.float64 if params.dtype == torch.float64 else torch.float32
    vectors = [params.new_empty(v.shape, dtype=vector) for v in (center, scale, shift)]
    grad_channels = params.new_empty(0 if channels is None else channels.shape, dtype=vector)
    return params.new_empty(params.shape), *vectors, grad_channels


def _backward(grad_out, *tensors):
    params, channels = tensors[0], tensors[4]
    _check(*tensors).check("grad_out", grad_out, "B T P", (params.dtype,))
    grads = _gradients(*tensors[:5])
    batch, count, width = params.shape
    chunks = max(1, min(count // _LEAST_FRAMES, _MOST_CHUNKS))
    _C.emotion_renorm_backward(
        **_common(*tensors),
        chunks=chunks,
        grad_out=grad_out.contiguous(),
        partial=grads[1].new_empty((batch, chunks, 2, width)),
        grad_params=grads[0],
        grad_center=grads[1],
        grad_scale=grads[2],
        grad_shift=grads[3],
        grad_channels=None if channels is None else grads[4],
    )
    return grads


@torch.library.register_fake("emogs::emotion_renorm_backward")
def _backward_fake(grad_out, *tensors):
    return _gradients(*tensors[:5])


def _save(ctx, inputs, output):
    ctx.save_for_backward(*inputs)


def _differentiate(ctx, grad_out):
    grads = _emotion_renorm_backward(grad_out, *ctx.saved_tensors)
    inputs = ctx.saved_tensors[:5]
    return *(None if t is None else g.to(t.dtype) for g, t in zip(grads, inputs, strict=True)), None


def _refuse_second_derivative(ctx, *grads):
    raise NotImplementedError("emotion_renorm: second derivatives are not supported")


torch.library.impl("emogs::emotion_renorm", ("cpu", "cuda"), _forward)
torch.library.impl("emogs::emotion_renorm_backward", ("cpu", "cuda"), _backward)
torch.library.register_autograd("emogs::emotion_renorm", _differentiate, setup_context=_save)
torch.library.register_autograd("emogs::emotion_renorm_backward", _refuse_second_derivative)
_emotion_renorm = routed("emotion_renorm", _forward, _save, _differentiate)
_emotion_renorm_backward = routed("emotion_renorm_backward", _backward)
