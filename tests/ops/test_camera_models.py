"""Camera models in detail: the fisheye near its axis and at wide angles, in both precisions; culling; whole images."""

from __future__ import annotations

import math

import pytest
import torch
from raster_reference import Cloud, project, render
from raster_scenes import WITHOUT_EDGES, random_scene
from torch import Tensor

import emogs
from emogs import Cameras, Gaussians, RasterSettings
from emogs.ops import project_gaussians


def lens(dtype: torch.dtype, model: str = "fisheye", focal: float = 1000.0, size: tuple[int, int] = (4096, 4096)):
    width, height = size
    K = torch.tensor([[focal, 0, width / 2], [0, 0.9 * focal, height / 2], [0, 0, 1]], dtype=dtype)
    return Cameras(torch.eye(4, dtype=dtype)[None], K[None], width, height, model)


def discs(points: Tensor, scale: float = 0.02) -> Gaussians:
    """Gaussians of three different scales, all turned alike, as large as they are far."""
    count, dtype = len(points), points.dtype
    quats = torch.tensor([0.9, 0.3, -0.2, 0.1], dtype=dtype).expand(count, 4)
    scales = scale * points.norm(dim=-1, keepdim=True) * torch.tensor([1.0, 0.5, 0.2], dtype=dtype)
    return Gaussians(points, quats, scales, torch.ones(count, dtype=dtype), torch.ones(count, 1, dtype=dtype))


def around_the_axis(angles: Tensor, depth: float = 2.0) -> Tensor:
    """Points [A * 8, 3] at these angles to the axis, in eight directions, all at one depth."""
    turns = torch.arange(8, dtype=torch.float64) * (math.pi / 4) + 0.1
    angles, turns = (t.flatten() for t in torch.meshgrid(angles, turns, indexing="ij"))
    return depth * torch.stack([angles.tan() * turns.cos(), angles.tan() * turns.sin(), torch.ones_like(turns)], -1)


# both sides of where the series takes over (tan² = 1/16, 0.245 rad), and nearly 90 degrees
ANGLES = torch.tensor([1e-9, 1e-6, 1e-3, 0.1, 0.24, 0.2449, 0.2450, 0.25, 0.5, 1.0, 1.4, 1.55], dtype=torch.float64)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_fisheye_at_every_angle(dtype):
    points = around_the_axis(ANGLES)
    out = project_gaussians(discs(points.to(dtype)), lens(dtype))
    gaussians, cameras = discs(points.to(dtype).double()), lens(torch.float64)
    cloud = Cloud(gaussians.means, gaussians.quats, gaussians.scales, gaussians.opacities, gaussians.colors)
    expected = project(cloud, cameras.viewmats[0], cameras.Ks[0], 4096, 4096, RasterSettings(), None, "fisheye")
    assert (out.radii[0, :, 0] > 0).all()
    rounding = torch.finfo(dtype).eps
    torch.testing.assert_close(out.means[0].double(), expected.means, rtol=0, atol=4096 * rounding)
    conics = torch.linalg.inv(expected.covariances)[:, [0, 0, 1], [0, 1, 1]]
    largest = conics.abs().amax(-1, keepdim=True)
    # the reference divides by the radius, twice in its derivative: its own rounding near the axis
    tolerance = 2e4 * rounding if dtype == torch.float32 else 1e-7
    assert ((out.conics[0].double() - conics).abs() / largest).max() < tolerance


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_fisheye_on_its_axis_is_a_pinhole(dtype):
    """Their Jacobians are the same there, and so are first derivatives."""
    results = []
    for model in ("fisheye", "pinhole"):
        point = torch.tensor([[0.0, 0.0, 3.0]], dtype=dtype, requires_grad=True)
        gaussians = discs(point.detach())
        out = project_gaussians(
            Gaussians(point, gaussians.quats, gaussians.scales, gaussians.opacities, gaussians.colors),
            lens(dtype, model),
        )
        (grad,) = torch.autograd.grad(out.records[..., :7].sum(), point)
        results.append((out.records, grad[:, 2]))
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=10 * torch.finfo(dtype).eps, atol=0)


def columns(model: str):
    """One splat as a function of its point, the view matrix and the intrinsics, in units that make all values alike."""

    def function(point, view, K):
        shapes = discs(torch.tensor([[0, 0, 2.0]], dtype=point.dtype))
        gaussians = Gaussians(point[None], shapes.quats, shapes.scales, shapes.opacities, shapes.colors)
        records = project_gaussians(gaussians, Cameras(view[None], K[None], 4096, 4096, model)).records[0, 0]
        return torch.cat([records[:2] * 1e-3, records[2:5] * 1e2, records[6:7]])

    return function


@pytest.mark.parametrize("model", ["ortho", "fisheye"])
@pytest.mark.parametrize("angle", [0.0, 1e-9, 1e-5, 1e-3, 0.1, 0.244, 0.246, 0.8, 1.3])
def test_gradients_at_every_angle(model, angle):
    """The Jacobian is part of the value, so these are its derivatives too; on the axis and on both sides of 0.245."""
    generator = torch.Generator().manual_seed(1)
    view = torch.eye(4, dtype=torch.float64)
    view[:3, :3] += 0.05 * torch.randn(3, 3, generator=generator, dtype=torch.float64)
    K = lens(torch.float64, focal=1000.0 if model == "fisheye" else 100.0).Ks[0]
    seen = around_the_axis(torch.tensor([angle], dtype=torch.float64))[3]
    point = torch.linalg.solve(view[:3, :3], seen)
    inputs = [t.requires_grad_() for t in (point, view, K)]
    assert columns(model)(*inputs)[5] > 0, "visible"
    assert torch.autograd.gradcheck(columns(model), inputs, eps=1e-6, atol=1e-7, rtol=1e-6)


@pytest.mark.parametrize("angle", [0.0, 1e-4, 0.1, 0.24, 0.26, 0.8, 1.3])
def test_float32_gradients_at_every_angle(angle):
    grads = []
    for dtype in (torch.float32, torch.float64):
        view = torch.eye(4, dtype=dtype)
        point = around_the_axis(torch.tensor([angle], dtype=torch.float64))[3].float().to(dtype).requires_grad_()
        records = columns("fisheye")(point, view, lens(dtype).Ks[0])
        (grad,) = torch.autograd.grad(records @ torch.arange(1, 7).to(dtype), point)
        grads.append(grad.double())
    assert (grads[0] - grads[1]).norm() < 1e-4 * grads[1].norm()


def test_fisheye_far_off_the_axis_is_finite():
    """Beside the camera, 1e10 away and beyond the range of squares: never a splat at the image's centre."""
    points = torch.tensor([[1e4, 0, 0.01], [1e10, 1e9, 0.01], [0, 1e10, 1e10], [1e18, 0, 0.01], [1e30, 0, 1.0]])
    out = project_gaussians(discs(points), lens(torch.float32))
    expected = torch.tensor([[math.pi / 2 * 1000 + 2048, 2048.0], [1.0, 0.0], [2048, math.pi / 4 * 900 + 2048]])
    torch.testing.assert_close(out.means[0, [0, 2]], expected[[0, 2]], rtol=1e-5, atol=0)
    assert (out.radii[0, :3, 0] > 0).all() and (out.records[0, 3:] == 0).all()
    assert out.non_finite.item() == 2


@pytest.mark.parametrize("model", ["pinhole", "ortho", "fisheye"])
def test_depths_out_of_range_are_culled(model):
    points = torch.tensor([[0.0, 0, -1], [0.0, 0, 0], [0, 0, 0.5], [0, 0, 2], [0, 0, 6], [3.0, 0, -0.1]])
    out = project_gaussians(discs(points), lens(torch.float32, model), settings=RasterSettings(near=1.0, far=5.0))
    assert (out.radii[0, :, 0] > 0).tolist() == [False, False, False, True, False, False]
    assert out.outside.item() == 5


@pytest.mark.parametrize("model", ["ortho", "fisheye"])
@pytest.mark.parametrize("sh_degree", [None, 2])
def test_images_and_gradients_equal_the_reference(model, sh_degree):
    """Emotion, rig and background included."""
    scene = random_scene(12, sh_degree=sh_degree, size=(37, 29), model=model, seed=2)
    out = emogs.rasterize(scene.gaussians, scene.cameras, **scene.all, settings=WITHOUT_EDGES)
    expected = render(scene.gaussians, scene.cameras, **scene.all, settings=WITHOUT_EDGES)
    assert out.alphas.max() > 0.5
    for ours, theirs in zip((out.colors, out.alphas, out.depths), expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-10)


@pytest.mark.parametrize("model", ["ortho", "fisheye"])
def test_a_view_without_an_inverse(model):
    """All depths alike: colours and their gradients need no camera position, harmonics do and are culled."""
    scene = random_scene(20, size=(40, 30), cameras=1, model=model, spread=0.1)
    view = torch.eye(4, dtype=torch.float64)
    view[2, 2:] = torch.tensor([0.0, 2.0])
    cameras = Cameras(view[None].requires_grad_(), scene.cameras.Ks, 40, 30, model)
    out = emogs.rasterize(scene.gaussians, cameras, settings=RasterSettings(normals=True))
    assert out.alphas.max() > 0.5 and out.normals.isfinite().all()
    (out.colors.sum() + out.depths.sum() + out.normals.sum()).backward()
    assert cameras.viewmats.grad.isfinite().all() and (cameras.viewmats.grad != 0).any()
    seen = random_scene(20, size=(40, 30), cameras=1, spread=0.1, sh_degree=1).gaussians
    assert project_gaussians(seen, cameras).non_finite.item() == 20


def test_an_orthographic_image_does_not_depend_on_distance():
    scene = random_scene(30, size=(40, 30), cameras=1, model="ortho", dtype=torch.float64)
    moved = scene.cameras.viewmats.clone()
    moved[:, 2, 3] += 7.0
    near, far = (
        emogs.rasterize(scene.gaussians, Cameras(v, scene.cameras.Ks, 40, 30, "ortho"))
        for v in (scene.cameras.viewmats, moved)
    )
    assert torch.equal(near.colors, far.colors)
    torch.testing.assert_close(far.depths, near.depths + 7.0 * near.alphas)


@pytest.mark.parametrize("model", ["ortho", "fisheye"])
def test_compiles(model):
    scene = random_scene(4, size=(9, 7), model=model)

    def loss(means):
        gaussians = Gaussians(means, *(getattr(scene.gaussians, n) for n in ("quats", "scales", "opacities", "colors")))
        return emogs.rasterize(gaussians, scene.cameras).colors.sum()

    means = scene.gaussians.means.clone().requires_grad_()
    (expected,) = torch.autograd.grad(loss(means), means)
    (compiled,) = torch.autograd.grad(torch.compile(loss, backend="aot_eager", fullgraph=True)(means), means)
    torch.testing.assert_close(compiled, expected)
