"""Covariances in place of quaternions and scales, with gradients that are right for repeated and zero eigenvalues too.

An eigenvalue decomposition gives the projection its quaternions and scales, but gradients must not go back through it:
it has no derivative where eigenvalues meet. With the covariance M Mᵀ, though, and G the gradient to it, backward of the
projection leaves 2 G M as the gradient of a shape M, and G does not depend on M when the splats are given. So a second
backward of the same splats with the shape diag(1, √2, √3) tells all of G.
"""

from __future__ import annotations

import dataclasses

import roma
import torch
from torch import Tensor

from emogs.cameras import Cameras
from emogs.checks import Arguments
from emogs.gaussians import Gaussians
from emogs.ops.project import make_scene
from emogs.ops.settings import RasterSettings

_SQUARES = (1.0, 2.0, 3.0)  # of the scales that read G off


@torch.no_grad()
def decompose(covars: Tensor) -> tuple[Tensor, Tensor]:
    """Quaternions wxyz and scales of covariances [..., 3, 3], of which the upper triangles are read; no gradients.

    >>> decompose(torch.diag(torch.tensor([1.0, 4.0, 9.0])))[1]
    tensor([1., 2., 3.])
    """
    is_finite = covars.isfinite().all(-1).all(-1)[..., None]
    values, vectors = torch.linalg.eigh(torch.where(is_finite[..., None], covars, 0), UPLO="U")
    vectors = vectors * torch.linalg.det(vectors)[..., None, None].sign()  # a rotation
    quats = roma.rotmat_to_unitquat(vectors).roll(1, -1)
    return quats, torch.where(is_finite, values.clamp(min=0).sqrt(), torch.nan)  # NaN: culled


def attach(
    records: Tensor, covars: Tensor, means: Tensor, opacities: Tensor, cameras: Cameras, settings: RasterSettings
) -> Tensor:
    """The splats' records [..., C, N, 8], whose gradients now reach the upper triangles of `covars` [..., N, 3, 3]."""
    return _Attached.apply(records, covars, means, opacities, cameras, settings)


class _Attached(torch.autograd.Function):
    @staticmethod
    def forward(ctx, records, covars, means, opacities, cameras, settings):  # type: ignore[no-untyped-def]
        ctx.save_for_backward(records, means, opacities, cameras.viewmats, cameras.Ks)
        ctx.rest = (cameras.width, cameras.height, cameras.model, settings)
        return records.view_as(records)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad_records):  # type: ignore[no-untyped-def]
        records, means, opacities, viewmats, Ks = ctx.saved_tensors
        width, height, model, settings = ctx.rest
        count = means.shape[:-1]
        quats = means.new_tensor([1.0, 0, 0, 0]).expand(*count, 4)
        scales = means.new_tensor(_SQUARES).sqrt().expand(*count, 3)
        gaussians = Gaussians(means, quats, scales, opacities, colors=opacities[..., None])
        cameras = Cameras(viewmats, Ks, width, height, model)
        classic = dataclasses.replace(settings, antialiased=False)
        scene = make_scene(Arguments("rasterization"), gaussians, cameras, None, None, None, classic)
        needed = [name in ("quats", "scales") for name in scene._fields[: len(scene.tensors)]]
        given = grad_records
        if settings.antialiased:
            given = _without_compensation(records, grad_records, opacities, settings.blur)
        grads = torch.ops.emogs.project_gaussians_backward(
            *scene, records, given, torch.zeros_like(records[..., :1]), needed
        )
        return grad_records, _read_off(grads[1], grads[2]), None, None, None, None


def _without_compensation(records: Tensor, grad_records: Tensor, opacities: Tensor, blur: float) -> Tensor:
    """`grad_records`, with what opacities o' = o sqrt(det A / det S) owe to the shape moved to the conics S⁻¹.

    With S = A + blur and the gradient g of o', the conics' share is -g o' / 2 blur (1 + blur A⁻¹).
    """
    a, b, c = records[..., 2:5].unbind(-1)
    visible = records[..., 7] > 0
    det = 1 / torch.where(visible, a * c - b * b, 1)
    sharp_det = det * torch.where(visible, records[..., 5] / opacities.unsqueeze(-2), 1).square()
    share = -0.5 * blur * grad_records[..., 5] * records[..., 5]
    slope = share * blur / sharp_det  # of the adjugate of A
    pull = [share + slope * (a * det - blur), 2 * slope * b * det, share + slope * (c * det - blur)]
    grad = grad_records.clone()
    grad[..., 2:5] += torch.stack(pull, -1)
    return grad


def _read_off(grad_quats: Tensor, grad_scales: Tensor) -> Tensor:
    """The gradient of the upper triangles, 2 G beside the diagonal, from those of unit quaternions and `_SQUARES`.

    d / d scale_i = 2 G_ii scale_i; d / d (x, y, z) = 4 (G_12 (s_1 - s_2), G_02 (s_2 - s_0), G_01 (s_0 - s_1)) with the
    squares s.
    """
    s0, s1, s2 = _SQUARES
    grad = torch.zeros(*grad_scales.shape, 3, dtype=grad_scales.dtype, device=grad_scales.device)
    grad.diagonal(dim1=-2, dim2=-1).copy_(grad_scales / (2 * grad_scales.new_tensor(_SQUARES).sqrt()))
    grad[..., 1, 2] = grad_quats[..., 1] / (2 * (s1 - s2))
    grad[..., 0, 2] = grad_quats[..., 2] / (2 * (s2 - s0))
    grad[..., 0, 1] = grad_quats[..., 3] / (2 * (s0 - s1))
    return grad
