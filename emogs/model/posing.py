"""What the rasterizer does to Gaussians before it projects them, in plain torch, for files and viewers.

The formulas are those of csrc/math/emotion.h and csrc/math/rig.h; the tests hold the two together.
"""

from __future__ import annotations

import roma
import torch
from torch import Tensor
from torch.nn import functional

from ..gaussians import EmotionBasis, Gaussians


def modulate(gaussians: Gaussians, basis: EmotionBasis, weights: Tensor) -> Gaussians:
    """Gaussians N under weights [K] of a basis."""
    change = {name: torch.tensordot(weights, field, 1) for name, field in basis.given().items()}
    quats, scales, opacities = gaussians.quats, gaussians.scales, gaussians.opacities
    if "rotations" in change:
        quats = multiply(quats, roma.quat_xyzw_to_wxyz(roma.rotvec_to_unitquat(change["rotations"])))
    if "log_scales" in change:
        scales = scales * change["log_scales"].exp()
    if "logit_opacities" in change:
        opacities = torch.sigmoid(torch.logit(opacities) + change["logit_opacities"])
    return Gaussians(
        means=gaussians.means + change.get("means", 0.0),
        quats=quats,
        scales=scales,
        opacities=opacities,
        colors=None if gaussians.colors is None else gaussians.colors + change.get("colors", 0.0),
    )


def carry(gaussians: Gaussians, frames: Tensor) -> Gaussians:
    """Gaussians N moved from their triangles' coordinates to head space by one frame each [N, 8]."""
    rotation, translation, scale = frames.split([4, 3, 1], -1)
    return Gaussians(
        means=scale * rotate(rotation, gaussians.means) + translation,
        quats=multiply(rotation, gaussians.quats),
        scales=scale * gaussians.scales,
        opacities=gaussians.opacities,
        colors=gaussians.colors,
    )


def multiply(a: Tensor, b: Tensor) -> Tensor:
    """Product of quaternions wxyz [..., 4]; the rotation b happens first."""
    return roma.quat_xyzw_to_wxyz(roma.quat_product(roma.quat_wxyz_to_xyzw(a), roma.quat_wxyz_to_xyzw(b)))


def rotate(quats: Tensor, vectors: Tensor) -> Tensor:
    """Vectors [..., 3] turned by quaternions wxyz [..., 4], which need not be normalised."""
    return roma.quat_action(roma.quat_wxyz_to_xyzw(functional.normalize(quats, dim=-1)), vectors)
