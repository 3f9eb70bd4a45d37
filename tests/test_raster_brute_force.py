"""The rasterizer against brute force over thousands of extreme scenes: images within their rounding, gradients too."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from raster_brute_force import draw, normals
from raster_extremes import CHANNELS, EFFORT, extreme_scene, seeds, to_torch
from raster_reference import render
from raster_scenes import random_scene

import emogs
from emogs import Gaussians, RasterSettings

DTYPES = {torch.float64: np.float64, torch.float32: np.float32}


@pytest.mark.parametrize(("dtype", "undecided"), [(torch.float64, 1e-4), (torch.float32, 0.03)])
def test_images_are_within_rounding_of_brute_force(dtype, undecided):
    """`undecided` bounds the share of pixels left out because rounding decides them: needles and giants in float32."""
    left_out = pixels = unordered = 0
    rounding = np.finfo(DTYPES[dtype]).eps / 2
    for seed in seeds(1000):
        scene, settings = extreme_scene(seed, DTYPES[dtype])
        expected = draw(scene, settings, rounding)
        if expected is None:
            unordered += 1
            continue
        gaussians, cameras, background = to_torch(scene, dtype)
        out = emogs.rasterize(gaussians, cameras, background=background, settings=settings)
        assert out.info.splats.non_finite.item() == 0
        decided = ~expected.undecided
        pairs = {
            "colors": (out.colors[0], expected.colors, expected.color_errors),
            "alphas": (out.alphas[0, ..., 0], expected.alphas, expected.alpha_errors),
            "depths": (out.depths[0, ..., 0], expected.depths, expected.depth_errors),
        }
        for name, (ours, theirs, bound) in pairs.items():
            error = np.abs(ours.double().numpy() - theirs)[decided]
            assert (error <= bound[decided]).all(), f"seed {seed}: {name} off by {error.max()}"
        left_out, pixels = left_out + int(expected.undecided.sum()), pixels + decided.size
    assert left_out < undecided * pixels and unordered <= 10 * max(EFFORT, 1)


def test_the_bound_is_tight():
    """A blur wrong by a millionth shows in most scenes: the comparison above is no formality."""
    caught = 0
    for seed in range(40):
        scene, settings = extreme_scene(seed)
        wrong = dataclasses.replace(settings, blur=settings.blur * (1 + 1e-6))
        expected = draw(scene, wrong, np.finfo(np.float64).eps / 2)
        gaussians, cameras, background = to_torch(scene, torch.float64)
        out = emogs.rasterize(gaussians, cameras, background=background, settings=settings)
        error = np.abs(out.alphas[0, ..., 0].numpy() - expected.alphas)
        caught += bool((error > expected.alpha_errors)[~expected.undecided].any())
    assert caught > 20


@pytest.mark.parametrize("dtype", DTYPES)
def test_normals_are_within_rounding_of_brute_force(dtype):
    """Of the Gaussians whose normal is no close call: blended like three more channels over black."""
    compared = 0
    for seed in seeds(100):
        scene, settings = extreme_scene(seed, DTYPES[dtype])
        _, clear = normals(scene)
        kept = {name: getattr(scene, name)[clear] for name in ("means", "quats", "scales", "opacities", "colors")}
        scene = scene._replace(**kept)
        as_colors = scene._replace(colors=normals(scene)[0], background=np.zeros(3))
        expected = draw(as_colors, settings, np.finfo(DTYPES[dtype]).eps / 2)
        if expected is None:
            continue
        gaussians, cameras, background = to_torch(scene, dtype)
        settings = dataclasses.replace(settings, normals=True)
        out = emogs.rasterize(gaussians, cameras, background=background, settings=settings)
        error = np.abs(out.normals[0].double().numpy() - expected.colors)[~expected.undecided]
        assert (error <= 2 * expected.color_errors[~expected.undecided]).all(), f"seed {seed}: off by {error.max()}"
        compared += np.count_nonzero(expected.colors)
    assert compared > 5e3 * min(EFFORT, 1)


def gradients(renderer, scene, settings, names) -> dict[str, torch.Tensor]:
    gaussians, cameras, background = to_torch(scene, torch.float64)
    leaf = {f: getattr(gaussians, f).requires_grad_() for f in ("means", "quats", "scales", "opacities", "colors")}
    cameras = dataclasses.replace(cameras, viewmats=cameras.viewmats.requires_grad_(), Ks=cameras.Ks.requires_grad_())
    leaf |= {"viewmats": cameras.viewmats, "Ks": cameras.Ks, "background": background.requires_grad_()}
    out = renderer(gaussians, cameras, background=background, settings=settings)
    generator = torch.Generator().manual_seed(1)
    loss = sum((o * torch.randn(o.shape, generator=generator, dtype=o.dtype)).sum() for o in out)
    grads = torch.autograd.grad(loss, [leaf[n] for n in names], allow_unused=True, materialize_grads=True)
    return dict(zip(names, grads, strict=True))


def test_gradients_equal_autograd_through_the_reference():
    """Of extreme scenes, Gaussian by Gaussian; the reference inverts needles' covariances with cancellation."""
    names = ("means", "quats", "scales", "opacities", "colors", "viewmats", "Ks", "background")
    compared = 0
    for seed in seeds(150):
        scene, settings = extreme_scene(seed)
        settings = dataclasses.replace(settings, radius_clip=0.0)  # which the reference does not have
        if len(scene.means) == 0:
            continue  # the reference needs some
        ours = gradients(lambda *a, **k: rendered(emogs.rasterize(*a, **k)), scene, settings, names)
        theirs = gradients(render, scene, settings, names)
        for name in names:
            a, b = ours[name], theirs[name]
            assert a.isfinite().all(), f"seed {seed}: {name}"
            if not b.isfinite().all():
                continue  # autograd's 0 times infinity, at the root of a flat splat's area
            if name == "viewmats":
                a, b = a[..., :3, :], b[..., :3, :]
            largest = b.abs().amax(-1, keepdim=True) if name in ("means", "quats", "scales", "colors") else b.abs()
            overall = b.abs().max() if b.numel() else 0
            assert ((a - b).abs() <= 1e-5 * largest + 1e-7 * overall + 1e-9).all(), f"seed {seed}: {name}"
            compared += b.count_nonzero().item()
    assert compared > 1e4 * min(EFFORT, 1)


def rendered(out: emogs.Rendering) -> tuple[torch.Tensor, ...]:
    return out.colors, out.alphas, out.depths


@pytest.mark.parametrize("channels", CHANNELS)
def test_channels_do_not_see_each_other(channels):
    """Bitwise: every channel of D is what it is alone, and its gradient is."""
    scene = random_scene(200, channels=channels, size=(49, 35), dtype=torch.float32)
    g = scene.gaussians
    colors = g.colors.clone().requires_grad_()
    together = emogs.rasterize(dataclasses.replace(g, colors=colors), scene.cameras, background=scene.background)
    together.colors.square().sum().backward()
    for c in {0, channels // 2, channels - 1}:
        alone = g.colors[:, c : c + 1].clone().requires_grad_()
        one = Gaussians(g.means, g.quats, g.scales, g.opacities, alone)
        out = emogs.rasterize(one, scene.cameras, background=scene.background[c : c + 1])
        assert torch.equal(out.colors[..., 0], together.colors[..., c])
        out.colors.square().sum().backward()
        assert torch.equal(alone.grad[:, 0], colors.grad[:, c])


def at_depth(z: float, dtype: torch.dtype) -> torch.Tensor:
    """The alpha in the middle of the image of one Gaussian straight ahead."""
    scene = random_scene(1, cameras=1, dtype=dtype)
    gaussians = dataclasses.replace(
        scene.gaussians, means=torch.tensor([[0, 0, z]], dtype=dtype), scales=torch.full((1, 3), abs(z), dtype=dtype)
    )
    cameras = dataclasses.replace(scene.cameras, viewmats=torch.eye(4, dtype=dtype)[None])
    return emogs.rasterize(gaussians, cameras, settings=RasterSettings(near=0.5, far=8.0)).alphas[0, 8, 9, 0]


@pytest.mark.parametrize("dtype", DTYPES)
def test_near_and_far_planes_belong_to_what_is_seen(dtype):
    below, above = (torch.nextafter(torch.tensor(z, dtype=dtype), torch.tensor(0.0, dtype=dtype)) for z in (0.5, 8.0))
    assert at_depth(0.5, dtype) > 0.1 and at_depth(8.0, dtype) > 0.1 and at_depth(above.item(), dtype) > 0.1
    beyond = torch.nextafter(torch.tensor(8.0, dtype=dtype), torch.tensor(9.0, dtype=dtype))
    for z in (below.item(), beyond.item(), 0.0, -0.5, -8.0):
        assert at_depth(z, dtype) == 0
