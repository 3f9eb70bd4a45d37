"""Calls of emotion_norm for its tests: arguments with everything in them, their gradients, and what may be lost.

`bound`: the statistics of a row are sums of C terms in at least 16 running sums, so they and all that follows from them
may be off by about (C / 16 + 8) rounding steps of the largest value (the worst seen is a third of it). C >= 3, since
with fewer channels the gradient of a row cancels to nothing.
"""

from __future__ import annotations

import torch
from torch import Tensor

import emogs

KINDS = ("layer", "rms")
HALVES = (torch.bfloat16, torch.float16)
FLOATS = (torch.float32, *HALVES)


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


def gradients_of_ones(arguments: dict) -> dict[str, Tensor]:
    leaves = {k: arguments[k].clone().requires_grad_() for k in ("x", "residual") if k in arguments}
    outputs = emogs.emotion_norm(**(arguments | leaves))
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    grads = torch.autograd.grad(outputs, list(leaves.values()), [torch.ones_like(o) for o in outputs])
    return dict(zip(["y", "residual_out"], outputs, strict=False)) | dict(zip(leaves, grads, strict=True))
