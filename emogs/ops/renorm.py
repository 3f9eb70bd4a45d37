"""Emotion-conditioned renormalization of head-model parameters over time: the geometry path's operation.

Parameters of a face are a few hundred numbers a frame, so this is plain torch: there is nothing to gain from a kernel.
"""

from __future__ import annotations

import torch
from torch import Tensor

from emogs.ops.checks import Arguments


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

    At zero scale and shift the result is params, bit for bit. Differentiable in every tensor but `frames`.

    Args:
        params: [B, T, P] parameters over time, float32 or float64.
        center: [B, P] what the performance moves about; like scale and shift it holds for all T frames.
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
    arguments = Arguments("emotion_renorm")
    arguments.check("params", params, "B T P")
    for name, vector in {"center": center, "scale": scale, "shift": shift}.items():
        arguments.check(name, vector, "B P", (params.dtype,))
    if channels is not None:
        arguments.check("channels", channels, "P", (params.dtype,))
    if frames is not None:
        arguments.check("frames", frames, "B T", (torch.bool,))

    # An invalid frame may hold NaN, whose gradient a mask after the arithmetic would not stop.
    valid = params if frames is None else torch.where(frames[..., None], params, 0)
    change = (valid - center[:, None]) * scale[:, None] + shift[:, None]
    if channels is not None:
        change = channels * change
    if frames is not None:
        change = torch.where(frames[..., None], change, 0)
    return params + change
