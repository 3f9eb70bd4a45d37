"""RasterSettings.antialiased and radius_clip: what they are for, thin splats, limits."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from raster_reference import render
from raster_scenes import WITHOUT_EDGES, random_scene

import emogs
from emogs import Cameras, Gaussians, RasterSettings, look_at, pinhole
from emogs.ops import project_gaussians

ANTIALIASED = RasterSettings(antialiased=True)


def one(scales, opacity: float = 0.9, dtype: torch.dtype = torch.float32, quat=(0.9, 0.2, 0.3, 0.1)) -> Gaussians:
    rows = [torch.tensor([v], dtype=dtype) for v in ((0.1, 0.05, 0.0), quat, scales)]
    return Gaussians(*rows, torch.tensor([opacity], dtype=dtype), torch.ones(1, 1, dtype=dtype))


def camera(distance: float, dtype: torch.dtype = torch.float32, size: int = 64) -> Cameras:
    view = look_at((0.0, 0.0, distance), (0.0, 0.0, 0.0)).to(dtype)
    return Cameras(view[None], pinhole(size, size, 40).to(dtype)[None], size, size)


@pytest.mark.parametrize("distance", [2.0, 8.0, 32.0])
def test_light_is_kept_at_any_distance(distance):
    """The sum of alpha over a faint splat is its opacity times its true area on the screen, 2 pi sqrt(det)."""
    faint = dataclasses.replace(ANTIALIASED, alpha_cut=1e-12)
    gaussians = one((0.04, 0.03, 0.05), opacity=1e-3, dtype=torch.float64)
    alphas = emogs.rasterize(gaussians, camera(distance, torch.float64), settings=faint).alphas
    sharp = dataclasses.replace(faint, blur=0.0)
    a, b, c = project_gaussians(gaussians, camera(distance, torch.float64), settings=sharp).conics[0, 0]
    area = 2 * torch.pi / (a * c - b * b).sqrt()
    assert alphas.sum() == pytest.approx(1e-3 * area.item(), rel=0.02)  # sums over pixel centres, not integrals


def test_images_and_gradients_equal_the_reference():
    scene = random_scene(12, size=(37, 29), sh_degree=2, scale=0.05)
    settings = dataclasses.replace(WITHOUT_EDGES, antialiased=True)
    out = emogs.rasterize(scene.gaussians, scene.cameras, **scene.all, settings=settings)
    expected = render(scene.gaussians, scene.cameras, **scene.all, settings=settings)
    for ours, theirs in zip((out.colors, out.alphas, out.depths), expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-10)


def test_without_blur_it_changes_nothing():
    scene = random_scene(50)
    plain, antialiased = (
        project_gaussians(scene.gaussians, scene.cameras, settings=RasterSettings(blur=0.0, antialiased=value))
        for value in (False, True)
    )
    torch.testing.assert_close(plain.records, antialiased.records, rtol=1e-15, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("scales", [(0.0, 0.0, 0.0), (0.1, 0.0, 0.0), (1e-20, 1e-20, 1e-20), (1e-6, 0.1, 1e-6)])
def test_splats_without_area_disappear(dtype, scales):
    """Not even NaN is left, in the gradients neither."""
    gaussians = one(scales, dtype=dtype)
    scale = gaussians.scales.clone().requires_grad_()
    out = project_gaussians(dataclasses.replace(gaussians, scales=scale), camera(2.0, dtype), settings=ANTIALIASED)
    assert out.outside.item() == 1 and (out.records == 0).all()
    out.records[..., :7].sum().backward()
    assert (scale.grad == 0).all()
    assert project_gaussians(gaussians, camera(2.0, dtype)).outside.item() == 0


@pytest.mark.parametrize("thin", [1e-2, 1e-4, 1e-6])
def test_thin_splats_in_float32(thin):
    """The determinant is the square of a cross product: a tenth of a pixel wide or a thousandth, nothing cancels."""
    grads, records = [], []
    for dtype in (torch.float32, torch.float64):
        gaussians = one((0.3, thin, thin), dtype=dtype)
        inputs = [getattr(gaussians, n).clone().requires_grad_() for n in ("means", "quats", "scales", "opacities")]
        settings = RasterSettings(antialiased=True, alpha_cut=1e-12)
        out = project_gaussians(Gaussians(*inputs, gaussians.colors), camera(2.0, dtype), settings=settings)
        records.append(out.records[0, 0].detach().double())
        grads.append([g.double() for g in torch.autograd.grad(out.opacities.log().sum(), inputs)])
    assert records[1][5] > 0
    torch.testing.assert_close(records[0][5], records[1][5], rtol=1e-5, atol=0)
    for ours, theirs in zip(*grads, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4 * theirs.abs().max().item())


def test_the_reach_is_that_of_the_lowered_opacity():
    plain, antialiased = (
        project_gaussians(one((0.02, 0.02, 0.02)), camera(4.0), settings=RasterSettings(antialiased=value))
        for value in (False, True)
    )
    assert (antialiased.radii < plain.radii).all() and (antialiased.radii > 0).all()
    assert torch.equal(plain.conics, antialiased.conics)
    faint = project_gaussians(one((1e-3, 1e-3, 1e-3)), camera(8.0), settings=ANTIALIASED)
    assert faint.outside.item() == 1, "below the cut at its centre"


def test_radius_clip_culls_what_is_small_both_ways():
    scene = random_scene(300, size=(64, 48), scale=0.05)
    whole = project_gaussians(scene.gaussians, scene.cameras)
    clip = whole.radii[whole.radii[..., 0] > 0].median().item()
    clipped = project_gaussians(scene.gaussians, scene.cameras, settings=RasterSettings(radius_clip=clip))
    keeps = (whole.radii > clip).any(-1)
    assert 0.2 < keeps.double().mean() < 0.9
    assert torch.equal(clipped.records, torch.where(keeps[..., None], whole.records, 0))
    assert torch.equal(clipped.colors, torch.where(keeps[..., None], whole.colors, 0))
    assert torch.equal(clipped.outside, whole.outside + ((whole.radii[..., 0] > 0) & ~keeps).sum(-1))
