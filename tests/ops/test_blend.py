"""blend_tiles alone: against the compositor of the reference, every gradient, the rules of cut, ceiling and stop."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from blend_scenes import SIZE, blend_kept, splats_and_tiles
from raster_reference import Screen, composite
from raster_scenes import WITHOUT_EDGES, random_scene

from emogs import Cameras, Gaussians, RasterSettings, rasterize
from emogs.ops import Splats, Tiles, blend_tiles, intersect_tiles, project_gaussians


def screens(splats: Splats) -> list[Screen]:
    a, b, c = splats.conics.unbind(-1)
    covariances = torch.linalg.inv(torch.stack([a, b, b, c], -1).unflatten(-1, (2, 2)))
    return [
        Screen(splats.means[i], covariances[i], splats.depths[i], splats.opacities[i], splats.colors[i])
        for i in range(len(splats.records))
    ]


@pytest.mark.parametrize(
    ("channels", "depth"),
    [
        (1, "none"),
        (1, "median"),
        (2, "none"),
        (2, "accumulated"),
        (3, "none"),
        (3, "expected"),
        (4, "none"),
        (3, "median"),
        (7, "accumulated"),
        (8, "median"),
        (33, "none"),
    ],
)
@pytest.mark.parametrize("edges", [False, True])
def test_against_the_compositor(channels, depth, edges, isa):
    settings = dataclasses.replace(RasterSettings() if edges else WITHOUT_EDGES, depth=depth)
    splats, tiles, background = splats_and_tiles(channels=channels, settings=settings)
    colors, alphas, depths = blend_tiles(splats, tiles, *SIZE, background=background, settings=settings)
    assert colors.shape == (2, 18, 21, channels) and alphas.shape == (2, 18, 21, 1)
    for image, screen in enumerate(screens(splats)):
        expected = composite(screen, *SIZE, background, settings)
        torch.testing.assert_close(colors[image], expected[0], rtol=0, atol=1e-11)
        torch.testing.assert_close(alphas[image], expected[1], rtol=0, atol=1e-11)
        if depth == "none":
            assert depths is None
        else:
            sums = depths[image] * alphas[image].clamp(min=1e-10) if depth == "expected" else depths[image]
            torch.testing.assert_close(sums, expected[2], rtol=0, atol=1e-10)


@pytest.mark.parametrize(
    ("channels", "depth"),
    [
        *((1, "none"), (1, "median"), (2, "none"), (2, "expected"), (3, "none"), (3, "expected"), (3, "median")),
        *((4, "none"), (4, "median"), (6, "expected"), (19, "median")),
    ],
)
def test_gradients(channels, depth):
    settings = dataclasses.replace(WITHOUT_EDGES, depth=depth)
    splats, tiles, background = splats_and_tiles(count=3, channels=channels, cameras=1)

    def images(records, colors, background):
        given = Splats(records, colors, splats.outside, splats.non_finite)
        out = blend_tiles(given, tiles, *SIZE, background=background, settings=settings)
        return out[:2] if out[2] is None else (*out[:2], out[2][out[1] > 1e-3])  # elsewhere the mean depth is 0 / 0

    inputs = [t.clone().requires_grad_() for t in (splats.records, splats.colors, background)]
    assert torch.autograd.gradcheck(images, inputs, atol=1e-6)


def test_gradients_when_only_alpha_matters():
    splats, tiles, _ = splats_and_tiles(count=4, cameras=1)
    records = splats.records.clone().requires_grad_()
    colors = splats.colors.clone().requires_grad_()
    blend_tiles(Splats(records, colors, splats.outside, splats.non_finite), tiles, *SIZE)[1].sum().backward()
    assert (colors.grad == 0).all() and (records.grad != 0).any() and (records.grad[..., 6:] == 0).all()


def one_pixel(opacities: list[float], **options) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Colour, alpha and colour gradient of a pixel right under splats of these opacities and of colour one."""
    count = len(opacities)
    records = torch.zeros(1, count, 8, dtype=torch.float64)
    records[0, :, :5] = torch.tensor([0.5, 0.5, 1.0, 0, 1.0])
    records[0, :, 5] = torch.tensor(opacities)
    records[0, :, 6] = torch.arange(count) + 1.0
    records[0, :, 7] = 1.0
    colors = torch.ones(1, count, 1, dtype=torch.float64, requires_grad=True)
    tiles = Tiles(torch.tensor([0, count]), torch.arange(count, dtype=torch.int32), torch.Size([1, 1, 1]))
    zeros = torch.zeros(1, dtype=torch.int64)
    out = blend_tiles(Splats(records, colors, zeros, zeros), tiles, 1, 1, settings=RasterSettings(**options))
    out[0].sum().backward()
    return out[0].item(), out[1].item(), colors.grad[0, :, 0]


def test_cut_ceiling_and_stop():
    color, alpha, grad = one_pixel([1 / 256, 0.5, 1 / 254])
    assert grad.tolist() == pytest.approx([0, 0.5, 0.5 / 254]) and color == pytest.approx(alpha)
    assert one_pixel([1.0])[1] == pytest.approx(0.999)
    # the second leaves 1e-6 < 1e-4: it is left out and ends the pixel, so that the faint third does not count either
    color, alpha, grad = one_pixel([1.0, 1.0, 0.01])
    assert grad.tolist() == [0.999, 0, 0] and alpha == pytest.approx(0.999)
    color, alpha, grad = one_pixel([1.0, 1.0, 0.01], transmittance_stop=0.0)
    assert grad[1] > 0 and grad[2] > 0


def test_no_gradient_through_the_ceiling():
    splats, tiles, _ = splats_and_tiles(count=1, cameras=1, spread=0.0, settings=RasterSettings())
    records = splats.records.clone()
    records[..., 5] = 2.0  # alpha is above the ceiling near the centre
    records.requires_grad_()
    out = blend_tiles(Splats(records, splats.colors, splats.outside, splats.non_finite), tiles, *SIZE)
    assert (out[1] == 1 - (1 - 0.999)).sum() > 5
    out[1][out[1] > 0.9989].sum().backward()
    assert (records.grad == 0).all()


def test_thousands_of_splats_on_a_pixel_stay_accurate():
    """Backward rebuilds transmittance by division: its float32 gradients against float64 ones, over long lists."""
    grads = {}
    for dtype in (torch.float32, torch.float64):
        splats, _, _ = splats_and_tiles(count=3000, cameras=1, scale=0.5, settings=RasterSettings())
        records = splats.records.clone()
        records[..., 5] *= 0.01
        colors = splats.colors.to(dtype).requires_grad_()
        records = records.to(dtype).requires_grad_()
        given = Splats(records, colors, splats.outside, splats.non_finite)
        out = blend_tiles(given, intersect_tiles(given, *SIZE), *SIZE)
        out[0].square().sum().backward()
        grads[dtype] = records.grad.double(), colors.grad.double()
    for single, double in zip(grads[torch.float32], grads[torch.float64], strict=True):
        error = (single - double).norm() / double.norm()
        assert error < 1e-4, error


@pytest.mark.parametrize("opacity", [0.2, 0.6, 0.9])
def test_pixels_that_never_end_keep_their_gradients(opacity, isa):
    """Without a stop, transmittance would fall to denormal numbers in float32, and backward could not retrace it."""
    count, grads = 1000, []
    for dtype in (torch.float32, torch.float64):
        records = torch.tensor([0.5, 0.5, 1.0, 0, 1.0, opacity, 1.0, 1.0], dtype=dtype).repeat(1, count, 1)
        colors = torch.linspace(0, 1, count, dtype=dtype).view(1, count, 1)
        tiles = Tiles(torch.tensor([0, count]), torch.arange(count, dtype=torch.int32), torch.Size([1, 1, 1]))
        zeros = torch.zeros(1, dtype=torch.int64)
        splats = Splats(records.requires_grad_(), colors, zeros, zeros)
        blend_tiles(splats, tiles, 1, 1, settings=RasterSettings(transmittance_stop=0.0))[0].sum().backward()
        grads.append(records.grad[..., 5].double())
    torch.testing.assert_close(grads[0], grads[1], rtol=0, atol=1e-5 * grads[1].abs().max().item())


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5])
def test_probe(channels, isa):
    """Its gradients against autograd of the compositor, one pixel at a time."""
    splats, tiles, background = splats_and_tiles(count=5, cameras=1, channels=channels, settings=RasterSettings())
    generator = torch.Generator().manual_seed(1)
    weights = torch.randn(*reversed(SIZE), channels, generator=generator, dtype=torch.float64)
    probe = torch.zeros(1, 5, 4, dtype=torch.float64, requires_grad=True)
    colors = splats.colors.clone().requires_grad_()
    given = dataclasses.replace(splats, colors=colors)
    image = blend_tiles(given, tiles, *SIZE, background=background, probe=probe)[0]
    (image[0] * weights).sum().backward()
    screen = screens(splats)[0]
    means = screen.means.clone().requires_grad_()
    reference = composite(screen._replace(means=means), *SIZE, background, RasterSettings())[0] * weights
    terms = torch.stack([torch.autograd.grad(t.sum(), means, retain_graph=True)[0] for t in reference.flatten(0, 1)])
    torch.testing.assert_close(probe.grad[0], torch.cat([terms.sum(0), terms.abs().sum(0)], -1), rtol=0, atol=1e-11)
    expected = torch.autograd.grad((blend_tiles(given, tiles, *SIZE)[0][0] * weights).sum(), colors)[0]
    assert torch.equal(colors.grad, expected)  # the probe changes nothing else


@pytest.mark.parametrize("depth", ["none", "accumulated", "median"])
@pytest.mark.parametrize("channels", [3, 6])
def test_without_gradients_the_same_images(channels, depth, isa):
    settings = RasterSettings(depth=depth)
    splats, tiles, background = splats_and_tiles(count=200, channels=channels, settings=settings)
    options = {"background": background, "settings": settings}
    alone = blend_tiles(splats, tiles, *SIZE, **options)
    given = dataclasses.replace(splats, records=splats.records.clone().requires_grad_())
    for ours, theirs in zip(alone, blend_tiles(given, tiles, *SIZE, **options), strict=True):
        assert (ours is None and theirs is None) or torch.equal(ours, theirs)
    with torch.no_grad():
        assert torch.equal(blend_tiles(given, tiles, *SIZE, **options)[0], alone[0])
    kept = blend_kept(given.records, splats, tiles, settings, 0, False)
    assert all(len(t) == 0 for t in kept[3:])
    with pytest.raises(RuntimeError, match="save=True"):
        kept[0].sum().backward()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_leaving_out_blocks_changes_nothing(dtype, isa):
    """A splat visits the 4x4 blocks that it can touch. With a reach far too long it visits all, bitwise alike."""
    generator = torch.Generator().manual_seed(0)
    count = 4000

    def uniform(low, high):
        return low + (high - low) * torch.rand(count, generator=generator, dtype=torch.float64)

    turn, long, thin = uniform(0, 3.2), 10 ** uniform(-0.3, 2), 10 ** uniform(-0.3, 0.5)  # down to 300 times as long
    axis = torch.stack([turn.cos(), turn.sin()], -1)
    covariances = long[:, None, None] ** 2 * axis[:, :, None] * axis[:, None] + thin[:, None, None] ** 2 * torch.eye(2)
    a, b, _, c = torch.linalg.inv(covariances).flatten(1).unbind(-1)
    opacity = 10 ** uniform(-2.4, 0)
    reach_y = 1.001 * (2 * (opacity * 255).log().clamp(min=0) * covariances[:, 1, 1]).sqrt()
    records = torch.stack([uniform(-5, 53), uniform(-5, 53), a, b, c, opacity, uniform(1, 2), reach_y], -1)
    colors = torch.rand(1, count, 3, generator=generator, dtype=torch.float64).to(dtype)
    zeros = torch.zeros(1, dtype=torch.int64)
    splats = Splats(records[None].to(dtype), colors, zeros, zeros)
    tiles = intersect_tiles(splats, 48, 48)

    def images_and_gradients(reach):
        records = splats.records.clone()
        records[..., 7] *= reach
        inputs = records.requires_grad_(), colors.clone().requires_grad_()
        image = blend_tiles(Splats(*inputs, zeros, zeros), tiles, 48, 48)[0]
        return image, *torch.autograd.grad(image.square().sum(), inputs)

    for ours, theirs in zip(images_and_gradients(1), images_and_gradients(1e9), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize(("blur", "tolerance"), [(0.3, 1e-4), (0.01, 0.05)])
@pytest.mark.parametrize("thin", [1e-2, 1e-3, 1e-4])
def test_gradients_of_needles_are_as_exact_as_the_settings_say(thin, blur, tolerance):
    """Float32 against float64, both of the same numbers."""
    scene = random_scene(40, size=(64, 64), cameras=1, dtype=torch.float32)
    scene.gaussians.scales[:, 1:] *= thin
    found = []
    for dtype in (torch.float32, torch.float64):
        names = ("means", "quats", "scales", "opacities", "colors")
        leaves = {name: getattr(scene.gaussians, name).detach().to(dtype).clone().requires_grad_() for name in names}
        cameras = Cameras(scene.cameras.viewmats.to(dtype), scene.cameras.Ks.to(dtype), 64, 64)
        colors = rasterize(Gaussians(**leaves), cameras, settings=RasterSettings(blur=blur)).colors
        direction = torch.randn(colors.shape, generator=torch.Generator().manual_seed(0)).to(dtype)
        found.append(torch.autograd.grad(colors, list(leaves.values()), direction))
    for ours, exact in zip(*found, strict=True):
        assert (ours - exact).norm() < tolerance * exact.norm()


def test_waves_of_tiles_change_nothing():
    """Backward bounds its memory by taking tiles in waves of 2^17 pairs. Images in one call cross several waves, image
    by image there is one."""
    scene = random_scene(3000, size=(96, 80), cameras=3, dtype=torch.float32, scale=0.2)
    splats = project_gaussians(scene.gaussians, scene.cameras)
    tiles = intersect_tiles(splats, 96, 80)
    assert len(tiles.ids) > 2**17 and tiles.offsets.diff().reshape(3, -1).sum(-1).max() < 2**17

    def gradients(which):
        records, colors = (t[which].clone().requires_grad_() for t in (splats.records, splats.colors))
        given = Splats(records, colors, splats.outside[which], splats.non_finite[which])
        out = blend_tiles(given, intersect_tiles(given, 96, 80), 96, 80)
        return torch.autograd.grad(out[0].square().sum() + out[2].sum(), (records, colors))

    together = gradients(slice(0, 3))
    for image in range(3):
        for ours, theirs in zip(gradients(slice(image, image + 1)), together, strict=True):
            assert torch.equal(ours[0], theirs[image])
