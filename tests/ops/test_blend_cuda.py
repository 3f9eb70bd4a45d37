"""blend_tiles on CUDA, on a GPU or emulated: images as on the CPU, gradients as near to float64 as the CPU's are.

Emulated kernels take the CPU's polynomial for the exponential and do each pixel's operations in its order: images are
equal to the bit. A GPU's own exponential is off by 2^-22.
"""

from __future__ import annotations

import dataclasses
import os
from contextlib import nullcontext

import pytest
import torch
from emulation import DEVICES, emulated, on_cpu
from raster_scenes import random_scene

from emogs import RasterSettings
from emogs.ops import Splats, Tiles, blend, intersect_tiles, project_gaussians

SIZE = (37, 21)  # three by two tiles, neither side a multiple of eight
EX2_ERROR = 2.0**-21  # of alpha: of the GPU's exponential and of its argument
ROUNDING = 2.0**-24

pytestmark = pytest.mark.parametrize("device", DEVICES[1:], indirect=True)


@dataclasses.dataclass(frozen=True)
class Call:
    """The arguments of `emogs::blend_tiles`, on the CPU."""

    splats: Splats
    tiles: Tiles
    background: torch.Tensor | None
    settings: RasterSettings
    size: tuple[int, int]

    def forward(self, device, save=True, dtype=torch.float32):
        return blend.blend_native(*self.inputs(device, dtype), save)

    def gradients(self, device, grads, dtype=torch.float32, probe=True, places=(None, None)):
        """Of records, colours, background and probe, for gradients of colours, alphas and depths or None."""
        zeros = torch.zeros(*self.splats.records.shape[:-1], 4) if probe else None
        inputs = list(self.inputs(device, dtype, zeros))
        inputs[5:7] = places
        grads = [None if g is None else g.to(device, dtype) for g in grads]
        return blend._backward(*inputs, *blend.blend_native(*inputs, True)[3:], *grads)

    def image_gradients(self, seed=0):
        generator = torch.Generator().manual_seed(seed)
        shape = (*self.splats.records.shape[:-2], *self.size[::-1])
        sizes = (self.splats.colors.shape[-1], 1, 1) if self.settings.depth_mode else (self.splats.colors.shape[-1], 1)
        grads = [torch.randn(*shape, size, generator=generator) for size in sizes]
        return grads + [None] * (3 - len(grads))

    def inputs(self, device, dtype=torch.float32, probe=None):
        def to(tensor):
            return None if tensor is None else tensor.to(device, dtype if tensor.is_floating_point() else tensor.dtype)

        tensors = (self.splats.records, self.splats.colors, self.background, self.tiles.offsets, self.tiles.ids)
        return *map(to, tensors), None, None, to(probe), *self.size, self.settings.blending, self.settings.depth_mode


def scene_call(count=300, channels=3, settings=RasterSettings(), size=SIZE, background=True, mask=None, **options):
    """With lists as the CPU makes them."""
    options = {"cameras": 2, "dtype": torch.float32} | options
    scene = random_scene(count, channels=channels, size=size, **options)
    with on_cpu():
        splats = project_gaussians(scene.gaussians, scene.cameras, settings=settings)
        tiles = intersect_tiles(splats, *size, tile_mask=mask)
    ground = scene.background.expand(len(splats.records), -1).contiguous() if background else None
    return Call(splats, tiles, ground, settings, size)


def assert_same_images(call: Call, device: torch.device) -> None:
    """Colours, alphas, depths, transmittances and medians; `last` may be earlier, by pairs that do not touch."""
    for save in (True, False):
        ours = [t.cpu() for t in call.forward(device, save)]
        with on_cpu():
            theirs = call.forward("cpu", save)
        for a, b in zip(ours[:4], theirs[:4], strict=True):
            if device.type == "cpu":
                assert torch.equal(a, b)
            else:
                torch.testing.assert_close(a, b, rtol=0, atol=float(call.tiles.counts.max()) * EX2_ERROR)
        assert (ours[4] <= theirs[4]).all() and torch.equal(ours[5], theirs[5])


@pytest.mark.parametrize("depth", ["none", "accumulated", "median"])
@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5, 31, 32, 33, 64, 100])
def test_images(channels, depth, device):
    assert_same_images(scene_call(channels=channels, settings=RasterSettings(depth=depth), seed=channels), device)


def assert_near_gradients(call: Call, device: torch.device, grads=None, probe=True) -> None:
    """In the Euclidean norm, records and probes column by column: at most a few times the CPU's error against float64,
    plus rounding. What lies behind a bucket is a difference of running sums, which every pair of the list has rounded.
    """
    grads = grads or call.image_gradients()
    ours = call.gradients(device, grads, probe=probe)
    with on_cpu():
        theirs = call.gradients("cpu", grads, probe=probe)
        exact = call.gradients("cpu", grads, torch.float64, probe=probe)
    longest = float(call.tiles.counts.max())
    extra = (16 + longest / 16) * ROUNDING + (device.type == "cuda") * longest**0.5 * EX2_ERROR
    for i, (a, b, truth) in enumerate(zip(ours, theirs, exact, strict=True)):
        assert a.shape == truth.shape and a.isfinite().all()
        if truth.numel() == 0:
            continue
        scale = truth.flatten(0, -2).norm(dim=0)
        if i in (1, 2):  # channels are alike, and a small one may be what is left of large terms
            scale = scale.max()
        error, yardstick = ((t.cpu() - truth).flatten(0, -2).norm(dim=0) for t in (a, b))
        assert (error <= 4 * yardstick + extra * scale).all(), (error / scale, yardstick / scale)


@pytest.mark.parametrize("depth", ["none", "accumulated", "median"])
@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5, 32, 33, 64, 100])
def test_gradients(channels, depth, device):
    call = scene_call(channels=channels, settings=RasterSettings(depth=depth), seed=channels)
    assert_near_gradients(call, device)


@pytest.mark.parametrize("channels", [3, 20])
def test_gradients_of_some_outputs(channels, device):
    call = scene_call(120, channels=channels, settings=RasterSettings(depth="accumulated"), background=False)
    grads = call.image_gradients()
    for kept in range(3):
        some = [g if i == kept else None for i, g in enumerate(grads)]
        assert_near_gradients(call, device, some, probe=False)


@pytest.mark.parametrize("channels", [3, 20])
def test_gradients_of_many_lengths(channels, device):
    """Lists that end within a group, a strip, a bucket or behind it; ended early by opaque splats, or never."""
    for count in (1, 9, 128, 129, 700):
        options = {"scale": 0.4, "channels": channels, "cameras": 1, "size": (16, 16)}
        assert_near_gradients(scene_call(count, **options), device)
        endless = RasterSettings(transmittance_stop=0.0, depth="accumulated")
        assert_near_gradients(scene_call(count, settings=endless, **options), device)


@pytest.mark.parametrize("channels", [3, 20])
def test_gradients_of_splats_over_many_tiles(channels, device):
    """The rows of a splat over more than 64 tiles are dealt to all lanes of a warp."""
    call = scene_call(12, channels=channels, size=(170, 130), scale=0.3, spread=0.5, cameras=1)
    assert torch.bincount(call.tiles.ids).max() > 64 > torch.bincount(call.tiles.ids).min()
    assert_near_gradients(call, device)


def test_gradients_that_begin_anywhere(device):
    """The gradient of a concatenation is a view into a longer one; kernels read 16 bytes of it at a time."""
    call = scene_call(60, channels=32, settings=RasterSettings(depth="accumulated"))
    grads = call.image_gradients()
    shifted = [torch.cat([torch.zeros(1), g.flatten()]).to(device)[1:].view(g.shape) for g in grads]
    assert all(g.is_contiguous() and g.data_ptr() % 16 == 4 for g in shifted)
    for ours, expected in zip(call.gradients(device, shifted), call.gradients(device, grads), strict=True):
        assert torch.equal(ours, expected)


def test_gradients_of_nothing(device):
    mask = torch.zeros(2, 2, 3, dtype=torch.bool)
    for call in (scene_call(mask=mask), scene_call(0)):
        records, colors, background, probe = call.gradients(device, call.image_gradients())
        assert (records == 0).all() and (colors == 0).all() and (probe == 0).all()
        expected = call.image_gradients()[0].sum((1, 2)).to(device)
        torch.testing.assert_close(background, expected, rtol=1e-5, atol=1e-4)


def test_more_images_than_a_grid_has_rows(device):
    """Of a grid's sizes only the first may exceed 65,535."""
    if os.environ.get("EMOGS_EMULATOR_ORDER", "forward") != "forward":
        pytest.skip("the order of threads does not matter to it, and it takes seconds")
    images = 65_537
    splats = torch.zeros(images, 0, 8), torch.zeros(images, 0, 3), torch.zeros(images, 3)
    lists = torch.zeros(images + 1, dtype=torch.int64), torch.zeros(0, dtype=torch.int32)
    last = torch.zeros(images, 1, 1, dtype=torch.int32)
    state = torch.ones(images, 1, 1), last, last.new_empty(0), torch.zeros(0, 4, 256)
    grads = torch.arange(images * 3.0, device=device).view(images, 1, 1, 3)
    inputs = [t.to(device) for t in (*splats, *lists)]
    inputs += [None, None, None, 1, 1, RasterSettings().blending, 0, *(t.to(device) for t in state)]
    background = blend._backward(*inputs, grads, None, None)[2]
    assert torch.equal(background, grads[:, 0, 0])


@pytest.mark.parametrize("channels", [3, 20])
def test_the_same_bits_in_every_run_and_order(channels, device):
    call = scene_call(channels=channels)
    grads = call.image_gradients()
    first = call.gradients(device, grads)
    orders = [emulated("random:7"), emulated("forward")] if device.type == "cpu" else [nullcontext()] * 2
    for order in orders:
        with order:
            for a, b in zip(first, call.gradients(device, grads), strict=True):
                assert torch.equal(a, b)


def test_places_of_the_lists_and_found_ones_agree(device):
    """`intersect_tiles` gives places and rows; for lists made elsewhere they are found by sorting."""
    call = scene_call(channels=3)
    splats = Splats(*(t.to(device) for t in dataclasses.astuple(call.splats)))
    records = splats.records.clone().requires_grad_()
    tiles = intersect_tiles(dataclasses.replace(splats, records=records), *SIZE)
    assert torch.equal(tiles.ids.cpu(), call.tiles.ids)
    grads = call.image_gradients()
    given = call.gradients(device, grads, places=(tiles.places, tiles.rows))
    for a, b in zip(given, call.gradients(device, grads), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("channels", [3, 20])
def test_lists_of_many_lengths(channels, device):
    """Shorter than a group, as long as a bucket, longer; ended early by opaque splats, or never."""
    for count in (1, 7, 127, 128, 129, 700):
        options = {"scale": 0.4, "channels": channels, "cameras": 1, "size": (16, 16)}
        assert_same_images(scene_call(count, **options), device)
        endless = RasterSettings(transmittance_stop=0.0, depth="median")
        assert_same_images(scene_call(count, settings=endless, **options), device)


@pytest.mark.parametrize("channels", [3, 20])
def test_empty_lists_and_masks(channels, device):
    mask = torch.tensor([[[True, False, True], [False, False, True]]]).expand(2, -1, -1)
    assert_same_images(scene_call(channels=channels, mask=mask), device)
    assert_same_images(scene_call(channels=channels, background=False), device)
    assert_same_images(scene_call(0, channels=channels), device)
    assert_same_images(scene_call(channels=channels, cameras=1, size=(1, 1)), device)


def test_large_and_thin_splats_reach_every_pixel_that_they_touch(device):
    """Needles across tiles, whose regions are found by the exact maximum of the exponent."""
    generator = torch.Generator().manual_seed(0)
    count, size = 600, (48, 48)

    def uniform(low, high):
        return low + (high - low) * torch.rand(count, generator=generator, dtype=torch.float64)

    turn, long, thin = uniform(0, 3.2), 10 ** uniform(-0.3, 2), 10 ** uniform(-0.3, 0.5)
    axis = torch.stack([turn.cos(), turn.sin()], -1)
    covariances = long[:, None, None] ** 2 * axis[:, :, None] * axis[:, None] + thin[:, None, None] ** 2 * torch.eye(2)
    a, b, _, c = torch.linalg.inv(covariances).flatten(1).unbind(-1)
    opacity = 10 ** uniform(-2.4, 0)
    reach_y = 1.001 * (2 * (opacity * 255).log().clamp(min=0) * covariances[:, 1, 1]).sqrt()
    records = torch.stack([uniform(-5, 53), uniform(-5, 53), a, b, c, opacity, uniform(1, 2), reach_y], -1)[None]
    colors = torch.rand(1, count, 3, generator=generator)
    zeros = torch.zeros(1, dtype=torch.int64)
    splats = Splats(records.float(), colors, zeros, zeros)
    with on_cpu():
        tiles = intersect_tiles(splats, *size)
    assert_same_images(Call(splats, tiles, None, RasterSettings(), size), device)


@pytest.mark.parametrize("channels", [3, 20])
def test_hostile_lists_stay_in_bounds(channels, device):
    """What does not exist is left out; nothing waits for the device to look first."""
    call = scene_call(60, channels=channels)
    for change in (lambda t: t + 1000, lambda t: -1 - t, lambda t: torch.full_like(t, 2**31 - 1)):
        hostile = dataclasses.replace(call, tiles=dataclasses.replace(call.tiles, ids=change(call.tiles.ids)))
        colors, alphas, *_ = hostile.forward(device)
        assert all((grad == 0).all() for grad in hostile.gradients(device, call.image_gradients())[:2])
        assert torch.equal(colors, call.background.to(device)[:, None, None].expand_as(colors)) and (alphas == 0).all()
    for change in (lambda t: t + 10**12, lambda t: -t, lambda t: t * 3, lambda t: t.flip(0)):
        offsets = change(call.tiles.offsets)
        hostile = dataclasses.replace(call, tiles=dataclasses.replace(call.tiles, offsets=offsets))
        assert hostile.forward(device)[1].isfinite().all()
        hostile.gradients(device, call.image_gradients())
    places = torch.full_like(call.tiles.ids, 2**31 - 1), torch.tensor([[-5, 2**31 - 1]], dtype=torch.int32)
    rows = places[1].expand(2 * 60, -1).contiguous()
    call.gradients(device, call.image_gradients(), places=(places[0].to(device), rows.to(device)))
