"""RasterSettings.normals: which axis, which side, of which pose; blending; gradients."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from raster_leaves import leaves_of
from raster_reference import render
from raster_scenes import WITHOUT_EDGES, random_scene

import emogs
from emogs import Cameras, EmotionBasis, Gaussians, RasterSettings, Rig, look_at, orthographic, pinhole
from emogs.ops import project_gaussians
from emogs.ops.native import _C

NORMALS = RasterSettings(normals=True)
SMOOTH = dataclasses.replace(WITHOUT_EDGES, normals=True)
MODELS = ("pinhole", "ortho", "fisheye")


def disc(normal_axis: int, mean=(0.0, 0.0, 0.0), quat=(1.0, 0, 0, 0), thin: float = 0.01) -> Gaussians:
    scales = torch.full((1, 3), 0.2)
    scales[0, normal_axis] = thin
    return Gaussians(torch.tensor([mean]), torch.tensor([quat]), scales, torch.ones(1), colors=torch.ones(1, 3))


def camera(eye, model: str = "pinhole", up=(0.0, 1.0, 0.0)) -> Cameras:
    K = orthographic(64, 64, 4.0) if model == "ortho" else pinhole(64, 64, 60)
    return Cameras(look_at(eye, (0.0, 0.0, 0.0), up)[None], K[None], 64, 64, model)


def normal_of(gaussians: Gaussians, cameras: Cameras, **options) -> list[float]:
    out = project_gaussians(gaussians, cameras, settings=NORMALS, **options)
    assert out.colors.shape[-1] == gaussians.colors.shape[-1] + 3
    return out.colors[0, 0, -3:].tolist()


@pytest.mark.parametrize("model", MODELS)
def test_the_shortest_axis_faces_the_camera(model):
    for axis in range(3):
        for side in (1.0, -1.0):
            eye = [0.3, 0.2, 0.1]
            eye[axis] = 2.0 * side
            expected = [0.0, 0.0, 0.0]
            expected[axis] = side
            assert normal_of(disc(axis), camera(eye, model, up=(0.3, 0.9, 0.5))) == pytest.approx(expected, abs=1e-6)


def test_equal_scales_have_the_first_axis_and_signs_do_not_matter():
    ball = dataclasses.replace(disc(0), scales=torch.full((1, 3), 0.1))
    assert normal_of(ball, camera((2.0, 0, 0.1))) == pytest.approx([1, 0, 0])
    negative = dataclasses.replace(disc(1), scales=torch.tensor([[0.2, 0.1, -0.01]]))
    assert normal_of(negative, camera((0.3, 0.0, 2))) == pytest.approx([0, 0, 1])


def test_the_side_is_that_of_the_ray_not_of_the_view_axis():
    """A disc beside the axis, tilted so that the axis and the ray to it see different sides."""
    c, s = torch.tensor(0.15).cos().item(), torch.tensor(0.15).sin().item()
    tilted = disc(0, mean=(0.9, 0.0, 0.0), quat=(c, 0.0, s, 0.0), thin=0.02)  # its x axis turned 0.3 rad about y
    axis = torch.tensor([0.9553, 0.0, -0.2955])
    eye = torch.tensor([0.0, 0.0, 2.0])
    assert (axis @ (tilted.means[0] - eye)) > 0 and (axis @ torch.tensor([0.0, 0, -1])) > 0
    assert normal_of(tilted, camera(eye)) == pytest.approx((-axis).tolist(), abs=1e-4)
    far = disc(0, mean=(0.9, 0.0, 0.0), quat=(c, 0.0, -s, 0.0), thin=0.02)
    axis = torch.tensor([0.9553, 0.0, 0.2955])
    assert (axis @ (far.means[0] - eye)) > 0 and (axis @ torch.tensor([0.0, 0, -1])) < 0
    assert normal_of(far, camera(eye)) == pytest.approx((-axis).tolist(), abs=1e-4)
    assert normal_of(far, camera(eye, "ortho")) == pytest.approx(axis.tolist(), abs=1e-4)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("stretch", [(1.0, 1, 1), (-1.0, 1, 1), (2.0, 0.5, 1), (1.0, 1, 3)])
def test_general_affine_views(model, stretch):
    """Mirrored and stretched views show the same sides of the same world: those whose front the rays meet."""
    scene = random_scene(100, model=model, size=(64, 48), cameras=1, spread=0.2)
    viewmats = torch.diag(torch.tensor([*stretch, 1.0], dtype=torch.float64)) @ scene.cameras.viewmats
    cameras = dataclasses.replace(scene.cameras, viewmats=viewmats)
    plain, changed = (project_gaussians(scene.gaussians, c, settings=NORMALS) for c in (scene.cameras, cameras))
    both = (plain.radii[0, :, 0] > 0) & (changed.radii[0, :, 0] > 0)
    assert both.sum() > 50
    torch.testing.assert_close(changed.colors[0, both, 3:], plain.colors[0, both, 3:])


def test_after_emotion_and_rig():
    quarter = torch.tensor([[[0.0, torch.pi / 2, 0]]])
    eye = camera((2.0, 0.1, 0.05))
    turned = EmotionBasis(rotations=quarter)
    assert normal_of(disc(2), eye, emotion=torch.ones(1), basis=turned) == pytest.approx([1, 0, 0], abs=1e-6)
    thinner = EmotionBasis(log_scales=torch.tensor([[[-5.0, 0, 0]]]))
    assert normal_of(disc(2), eye, emotion=torch.ones(1), basis=thinner) == pytest.approx([1, 0, 0], abs=1e-6)
    frame = torch.tensor([[0.7071, 0, 0.7071, 0, 0, 0, 0, 1]])
    rig = Rig(torch.zeros(1, dtype=torch.int32), frame)
    assert normal_of(disc(2), eye, rig=rig) == pytest.approx([1, 0, 0], abs=1e-3)


def test_zero_where_culled_and_nothing_else_changes():
    scene = random_scene(200, size=(48, 40), spread=0.8, sh_degree=1)
    bad = scene.gaussians.means.clone()
    bad[3] = float("nan")
    gaussians = dataclasses.replace(scene.gaussians, means=bad)
    plain = project_gaussians(gaussians, scene.cameras)
    out = project_gaussians(gaussians, scene.cameras, settings=NORMALS)
    assert torch.equal(out.records, plain.records) and torch.equal(out.colors[..., :3], plain.colors)
    lengths = out.colors[..., 3:].norm(dim=-1)
    torch.testing.assert_close(lengths, (out.radii[..., 0] > 0).double())
    assert 0 < lengths.sum() < lengths.numel()


@pytest.mark.parametrize("sh_degree", [None, 1])
@pytest.mark.parametrize("model", MODELS)
def test_images_and_gradients_equal_the_reference(sh_degree, model):
    scene = random_scene(12, sh_degree=sh_degree, channels=4, size=(33, 21), model=model, seed=5)
    results = []
    for renderer in (emogs.rasterize, render):
        copies, leaves = leaves_of(
            scene.gaussians, scene.cameras, scene.emotion, scene.basis, scene.rig, scene.background
        )
        g, cameras, emotion, basis, rig, background = copies
        out = renderer(g, cameras, emotion=emotion, basis=basis, rig=rig, background=background, settings=SMOOTH)
        if renderer is emogs.rasterize:
            assert (out.normals.norm(dim=-1, keepdim=True) <= out.alphas + 1e-12).all()
            image = torch.cat([out.colors, out.normals], -1)
        else:
            image = out[0]
        weight = torch.randn(image.shape, generator=torch.Generator().manual_seed(0), dtype=image.dtype)
        grads = torch.autograd.grad((weight * image).sum(), leaves.values())
        results.append({"image": image.detach(), **dict(zip(leaves, grads, strict=True))})
    for name, ours in results[0].items():
        theirs = results[1][name]
        if name == "Cameras.viewmats":
            ours, theirs = ours[..., :3, :], theirs[..., :3, :]
        scale = theirs.abs().max().item()
        torch.testing.assert_close(ours, theirs, rtol=1e-8, atol=1e-9 * scale, msg=lambda m, n=name: f"{n}: {m}")


def test_the_background_has_no_normal():
    scene = random_scene(5, size=(40, 30), spread=0.1)
    out = emogs.rasterize(scene.gaussians, scene.cameras, background=scene.background, settings=NORMALS)
    plain = emogs.rasterize(scene.gaussians, scene.cameras, background=scene.background)
    assert plain.normals is None and out.normals.shape == (2, 30, 40, 3)
    assert (out.normals[(out.alphas == 0).expand_as(out.normals)] == 0).all() and (out.alphas == 0).any()
    torch.testing.assert_close(out.colors, plain.colors)
    torch.testing.assert_close(out.depths, plain.depths)


def test_only_rotations_get_a_gradient_from_normals_of_one_splat():
    gaussians = disc(2, mean=(0.1, 0.2, 0.0), quat=(0.9, 0.3, 0.2, 0.1))
    (g,), leaves = leaves_of(gaussians)
    out = project_gaussians(g, camera((0.2, 0.1, 2.0)), settings=NORMALS)
    out.colors[..., -3:].mul(torch.tensor([1.0, 2.0, 3.0])).sum().backward()
    assert (leaves["Gaussians.quats"].grad != 0).any()
    assert all((leaves[f"Gaussians.{n}"].grad == 0).all() for n in ("means", "scales", "opacities", "colors"))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("model", MODELS)
def test_instruction_sets_and_threads_do_not_show(dtype, model):
    scene = random_scene(5000, size=(64, 48), model=model, dtype=dtype, scale=0.02)
    settings = RasterSettings(normals=True, antialiased=True)
    isa, threads, results = _C.isa_in_use(), torch.get_num_threads(), []
    try:
        for name in _C.supported_isas()[1:]:  # those with fused multiply-add
            for count in (1, 3):
                _C.use_isa(name)
                torch.set_num_threads(count)
                (g, cameras), leaves = leaves_of(scene.gaussians, scene.cameras)
                out = project_gaussians(g, cameras, settings=settings)
                loss = out.records[..., :7].square().sum() + (out.colors * torch.arange(6)).sum()
                results.append([out.records, out.colors, *torch.autograd.grad(loss, leaves.values())])
    finally:
        _C.use_isa(isa)
        torch.set_num_threads(threads)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


def test_compiles():
    scene = random_scene(4, size=(9, 7))

    def loss(quats):
        gaussians = dataclasses.replace(scene.gaussians, quats=quats)
        return emogs.rasterize(gaussians, scene.cameras, background=scene.background, settings=NORMALS).normals.sum()

    quats = scene.gaussians.quats.clone().requires_grad_()
    (expected,) = torch.autograd.grad(loss(quats), quats)
    (compiled,) = torch.autograd.grad(torch.compile(loss, backend="aot_eager", fullgraph=True)(quats), quats)
    torch.testing.assert_close(compiled, expected)
