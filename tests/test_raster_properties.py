"""What may change about a scene without changing its image, each to the bit where that is so, else to rounding.

Bitwise: the order of Gaussians, a power of two in the world's units, in a quaternion's norm or in the colours, a crop
at the right and the bottom, a basis of weight zero. To rounding: a rigid motion of everything, a crop at the left and
the top, a basis against Gaussians modulated beforehand.
"""

from __future__ import annotations

import dataclasses

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from raster_extremes import seeds
from raster_leaves import assert_same, change, everything, images, leaves_of
from raster_reference import Cloud, harmonics, modulate, quat_matrix, quat_multiply
from raster_scenes import WITHOUT_EDGES, RandomScene, random_scene

import emogs
from emogs import Cameras, EmotionBasis, Gaussians, RasterSettings, Rig

FLOATS = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])


# ---- bitwise ----


@given(seed=st.integers(0, 2**20), sh_degree=st.sampled_from([None, 2]))
@FLOATS
def test_order_of_gaussians(dtype, seed, sh_degree):
    """Distinct depths; gradients of the Gaussians follow the order to the bit, sums over Gaussians to rounding."""
    scene = random_scene(40, seed=seed, dtype=dtype, sh_degree=sh_degree, size=(33, 20))
    order = torch.randperm(40, generator=torch.Generator().manual_seed(seed))
    moved = dataclasses.replace(
        scene,
        gaussians=change(scene.gaussians, lambda t: t[order]),
        basis=EmotionBasis(**{name: t[:, order] for name, t in scene.basis.given().items()}),
        rig=Rig(scene.rig.binding[order], scene.rig.frames),
    )
    here, there = everything(scene), everything(moved)
    for name, value in here.items():
        if name.startswith("Gaussians"):
            assert torch.equal(value[order], there[name]), name
        elif name.startswith("EmotionBasis"):
            assert torch.equal(value[:, order], there[name]), name
        elif name in ("colors", "alphas", "depths", "tensor 6"):
            assert torch.equal(value, there[name]), name
        else:
            tolerance = 1e4 * torch.finfo(dtype).eps * value.abs().max().item()
            torch.testing.assert_close(there[name], value, rtol=0, atol=tolerance)


@pytest.mark.parametrize("factor", [0.25, 2.0, 64.0])
@FLOATS
def test_units_of_the_world(dtype, factor):
    """A power of two: everything scales exactly."""
    scene = random_scene(60, dtype=dtype, size=(40, 33), sh_degree=2)
    views = scene.cameras.viewmats.clone()
    views[..., :3, 3] *= factor
    settings = RasterSettings(near=0.01 * factor, far=1e6 * factor)
    scaled = change(scene.gaussians, lambda t: t * factor, "means", "scales")
    here = emogs.rasterize(scene.gaussians, scene.cameras, settings=RasterSettings(far=1e6))
    there = emogs.rasterize(scaled, dataclasses.replace(scene.cameras, viewmats=views), settings=settings)
    assert_same(images(there), [here.colors, here.alphas, here.depths * factor])


@pytest.mark.parametrize("factor", [-1.0, 0.125, 4.0])
@FLOATS
def test_norm_and_sign_of_quaternions(dtype, factor):
    scene = random_scene(60, dtype=dtype, size=(40, 33))
    here = emogs.rasterize(scene.gaussians, scene.cameras)
    there = emogs.rasterize(change(scene.gaussians, lambda t: t * factor, "quats"), scene.cameras)
    assert_same(images(here), images(there))


@FLOATS
def test_scale_of_colors(dtype):
    scene = random_scene(60, dtype=dtype, size=(40, 33), channels=5)
    here = emogs.rasterize(scene.gaussians, scene.cameras, background=scene.background)
    doubled = change(scene.gaussians, lambda t: t * 2, "colors")
    there = emogs.rasterize(doubled, scene.cameras, background=scene.background * 2)
    assert torch.equal(here.colors * 2, there.colors)


@FLOATS
def test_colors_of_one_draw_alpha(dtype):
    scene = random_scene(60, dtype=dtype, size=(40, 33))
    out = emogs.rasterize(change(scene.gaussians, torch.ones_like, "colors"), scene.cameras)
    tolerance = 30 * torch.finfo(dtype).eps
    torch.testing.assert_close(out.colors, out.alphas.expand_as(out.colors), rtol=0, atol=tolerance)
    assert (out.alphas >= 0).all() and (out.alphas < 1).all()


def inside_clamp(scene: RandomScene, width: int, height: int) -> Gaussians:
    """The Gaussians whose Jacobian is not clamped in the corner [0, width) x [0, height) of the image."""
    means = emogs.ops.project_gaussians(scene.gaussians, scene.cameras).means
    low = means > torch.tensor([-0.1 * width, -0.1 * height])
    high = means < torch.tensor([1.1 * width, 1.1 * height])
    kept = (low & high).all(-1).all(0)
    assert kept.sum() > 20
    return change(scene.gaussians, lambda t: t[kept])


@FLOATS
def test_crop_at_the_right_and_the_bottom(dtype):
    """Bitwise: the pixels that stay see the same numbers."""
    scene = random_scene(200, dtype=dtype, size=(70, 60), scale=0.04, spread=0.2)
    gaussians = inside_clamp(scene, 51, 45)
    whole = emogs.rasterize(gaussians, scene.cameras)
    part = emogs.rasterize(gaussians, dataclasses.replace(scene.cameras, width=51, height=45))
    assert_same([t[:, :45, :51] for t in images(whole)], images(part))


@pytest.mark.parametrize("shift", [(16, 32), (5, 3)])
@FLOATS
def test_crop_at_the_left_and_the_top(dtype, shift):
    """To the rounding of coordinates, which are smaller then; pixels where a cut flips are counted."""
    scene = random_scene(200, dtype=dtype, size=(70, 60), scale=0.04, spread=0.2)
    right, down = shift
    Ks = scene.cameras.Ks.clone()
    Ks[..., 0, 2] -= right
    Ks[..., 1, 2] -= down
    mirrored = dataclasses.replace(scene, cameras=dataclasses.replace(scene.cameras, Ks=Ks))
    gaussians = inside_clamp(mirrored, 70 - right, 60 - down)
    whole = emogs.rasterize(gaussians, scene.cameras)
    part = emogs.rasterize(gaussians, Cameras(scene.cameras.viewmats, Ks, 70 - right, 60 - down))
    error = (whole.colors[:, down:, right:] - part.colors).abs().amax(-1)
    tolerance = 1e4 * torch.finfo(dtype).eps
    assert (error > tolerance).sum() <= 2 and error.max() < 1.01 / 255


@FLOATS
def test_basis_of_weight_zero(dtype):
    """Images to the bit; gradients of everything but the weights to the last digits."""
    for seed in seeds(4):
        scene = random_scene(80, seed=seed, dtype=dtype, size=(40, 33), sh_degree=seed % 3 if seed % 2 else None)
        (g, cameras, rig, background), leaves = leaves_of(scene.gaussians, scene.cameras, scene.rig, scene.background)
        drawn, grads = [], []
        for options in ({}, {"emotion": torch.zeros(2, 2, dtype=dtype), "basis": scene.basis}):
            out = emogs.rasterize(g, cameras, rig=rig, background=background, **options)
            drawn.append(images(out))
            grads.append(torch.autograd.grad(out.colors.square().sum(), leaves.values()))
        assert_same(*drawn)
        for ours, theirs in zip(*grads, strict=True):
            tolerance = 4 * torch.finfo(dtype).eps * theirs.abs().max().item()
            torch.testing.assert_close(ours, theirs, rtol=0, atol=tolerance)


# ---- to rounding ----


def rotate_harmonics(sh: torch.Tensor, turn: torch.Tensor) -> torch.Tensor:
    """Coefficients [N, S, 3] of the function turned by `turn` [3, 3], fitted through 200 directions: exact, since
    harmonics of a degree turn into each other."""
    directions = torch.nn.functional.normalize(
        torch.randn(200, 3, generator=torch.Generator().manual_seed(0), dtype=sh.dtype), dim=-1
    )
    values = harmonics(directions @ turn, sh.shape[1])  # the turned function at d is the old one at turn^T d
    matrix = torch.linalg.lstsq(harmonics(directions, sh.shape[1]), values).solution
    return torch.einsum("st,ntc->nsc", matrix, sh)


@given(seed=st.integers(0, 2**20), degree=st.integers(0, 4))
def test_rigid_motion_of_scene_and_camera(seed, degree):
    scene = random_scene(12, seed=seed, sh_degree=degree)
    generator = torch.Generator().manual_seed(seed)
    quat = torch.nn.functional.normalize(torch.randn(4, generator=generator, dtype=torch.float64), dim=0)
    turn, shift = quat_matrix(quat), 3 * torch.randn(3, generator=generator, dtype=torch.float64)
    motion = torch.eye(4, dtype=torch.float64)
    motion[:3, :3], motion[:3, 3] = turn, shift
    g = scene.gaussians
    quats = quat_multiply(quat.expand_as(g.quats), g.quats)
    moved = Gaussians(g.means @ turn.T + shift, quats, g.scales, g.opacities, sh=rotate_harmonics(g.sh, turn))
    cameras = dataclasses.replace(scene.cameras, viewmats=scene.cameras.viewmats @ torch.linalg.inv(motion))
    here = emogs.rasterize(g, scene.cameras, settings=WITHOUT_EDGES)
    there = emogs.rasterize(moved, cameras, settings=WITHOUT_EDGES)
    for ours, theirs in zip(images(there), images(here), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-8)


@given(seed=st.integers(0, 2**20), weight=st.floats(-2, 2), sh_degree=st.sampled_from([None, 2]))
def test_one_component_is_modulation_beforehand(seed, weight, sh_degree):
    scene = random_scene(12, seed=seed, components=1, sh_degree=sh_degree)
    g = scene.gaussians
    weights = torch.tensor([weight], dtype=torch.float64)
    colors = g.colors if sh_degree is None else g.sh
    means, quats, scales, opacities, colors = modulate(
        Cloud(g.means, g.quats, g.scales, g.opacities, colors), weights, scene.basis
    )
    before = Gaussians(means, quats, scales, opacities, **{"colors" if sh_degree is None else "sh": colors})
    here = emogs.rasterize(g, scene.cameras, emotion=weights, basis=scene.basis, settings=WITHOUT_EDGES)
    there = emogs.rasterize(before, scene.cameras, settings=WITHOUT_EDGES)
    for ours, theirs in zip(images(here), images(there), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-10)


@FLOATS
def test_opacities_of_exactly_zero_and_one(dtype):
    """Zero draws nothing, one hides at the ceiling; under any logit shift both stay, and all gradients are finite."""
    scene = random_scene(40, dtype=dtype, size=(33, 20), spread=0.15)
    opacities = torch.tensor([0.0, 1.0, 1.0, 0.0], dtype=dtype).repeat(10)
    scene.basis.logit_opacities.mul_(50)
    extreme = dataclasses.replace(scene, gaussians=dataclasses.replace(scene.gaussians, opacities=opacities))
    results = everything(extreme)
    for name, value in results.items():
        assert value.isfinite().all(), name
    one = dataclasses.replace(
        extreme,
        gaussians=change(extreme.gaussians, lambda t: t[opacities == 1]),
        basis=EmotionBasis(**{n: t[:, opacities == 1] for n, t in scene.basis.given().items()}),
        rig=Rig(scene.rig.binding[opacities == 1], scene.rig.frames),
    )
    opaque = everything(one)
    for name in ("colors", "alphas", "depths"):
        assert torch.equal(results[name], opaque[name])
    assert results["alphas"].max() < 1
