"""compat.gsplat.rasterization with covariances: images, gradients where eigenvalues meet or vanish, reproducibility."""

from __future__ import annotations

import pytest
import torch
from gsplat_reference import SCENES, TOLERANCE, gsplat_torch, random_arguments, reference_images, weighted

from emogs.compat.gsplat import rasterization


def with_covars(arguments: dict, kind: str = "general") -> dict:
    """The arguments with covariances alone; the lower triangles hold nonsense, which nobody may read."""
    scales = arguments["scales"]
    if kind == "round":  # all eigenvalues alike
        scales = scales[..., :1].expand_as(scales)
    elif kind == "spheroids":
        scales = torch.cat([scales[..., :1], scales[..., 1:2], scales[..., 1:2]], -1)
    elif kind == "flat":
        scales = scales * torch.tensor([1.0, 1.0, 0.0])
    elif kind == "needles":
        scales = scales * torch.tensor([1.0, 0.0, 0.0])
    covars = gsplat_torch()._quat_scale_to_covar_preci(arguments["quats"], scales, compute_preci=False)[0]
    nonsense = torch.full_like(covars, 1e3).tril(-1)
    return arguments | {"quats": None, "scales": None, "covars": covars.triu() + nonsense}


KINDS = ("general", "round", "spheroids", "flat", "needles")


@pytest.mark.parametrize("scene", ["plain", "camera harmonics", "fisheye", "batches"])
@pytest.mark.parametrize("kind", KINDS)
def test_covars(scene, kind):
    arguments = with_covars(random_arguments(**SCENES[scene]), kind)
    tolerance = TOLERANCE[arguments["camera_model"]]
    torch.testing.assert_close(rasterization(**arguments)[0], reference_images(arguments)[0], rtol=0, atol=tolerance)


@pytest.mark.parametrize(
    "scene, kind",
    [(scene, kind) for scene in ("plain", "camera harmonics", "ortho", "batches") for kind in KINDS]
    + [("antialiased", kind) for kind in KINDS if kind != "needles"],  # needles have no area: their opacity is zero
)
def test_gradients_through_covars(scene, kind):
    """Also where eigenvalues meet or are zero, and of everything else beside them."""
    arguments = with_covars(random_arguments(12, **SCENES[scene]), kind)
    names, results = ("means", "covars", "opacities", "colors", "viewmats"), []
    for draw in (lambda a: rasterization(**a)[:2], reference_images):
        leaves = {n: arguments[n].clone().requires_grad_() for n in names}
        results.append(
            torch.autograd.grad(weighted(draw(arguments | leaves | {"render_mode": "RGB+D"})), leaves.values())
        )
    for name, ours, theirs in zip(names, *results, strict=True):
        if name == "viewmats":
            ours, theirs = ours[..., :3, :], theirs[..., :3, :]
        tolerance = 1e-7 * theirs.abs().max().item()
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=tolerance, msg=lambda m, n=name: f"{n}: {m}")


def test_covars_that_are_not_finite_are_culled():
    arguments = with_covars(random_arguments(dtype=torch.float32))
    arguments["covars"][3, 0, 1], arguments["covars"][5, 2, 2] = float("nan"), float("inf")
    arguments["covars"].requires_grad_()
    colors, _, meta = rasterization(**arguments, packed=False)
    assert (meta["radii"][:, [3, 5]] == 0).all() and colors.isfinite().all()
    colors.sum().backward()
    grad = arguments["covars"].grad
    assert grad.isfinite().all() and (grad[[3, 5]] == 0).all() and (grad.tril(-1) == 0).all()


@pytest.mark.parametrize("packed", [True, False])
def test_threads_do_not_show(packed):
    arguments = with_covars(random_arguments(3000, size=(100, 90), dtype=torch.float32, scale=0.03)) | {"absgrad": True}
    leaves = {n: arguments[n].requires_grad_() for n in ("means", "covars", "opacities", "colors", "viewmats")}
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            colors, _, meta = rasterization(**arguments, packed=packed)
            meta["means2d"].retain_grad()
            colors.square().sum().backward()
            absgrad = meta["means2d"].absgrad
            results.append([colors, meta["isect_ids"], meta["flatten_ids"], meta["means2d"].grad, absgrad])
            results[-1] += [leaf.grad for leaf in leaves.values()]
            for leaf in leaves.values():
                leaf.grad = None
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(a, b) for other in results[1:] for a, b in zip(results[0], other, strict=True))
