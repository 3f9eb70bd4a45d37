"""intersect_tiles on CUDA: the lists of the CPU, to the bit; places of pairs; what a workspace without room drops."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from emulation import DEVICES, on_cpu
from raster_scenes import random_scene
from test_tiles import check_places, ellipses

from emogs import CapacityError, RasterWorkspace
from emogs.ops import Splats, Tiles, blend_tiles, intersect_tiles, project_gaussians
from emogs.ops.native import needs_gradients
from emogs.ops.tiles import tile_shape

pytestmark = pytest.mark.parametrize("device", DEVICES[1:], indirect=True)


def splats_of(records: torch.Tensor) -> Splats:
    """Records [..., C, N, 8] with colours that record gradients, so that places are wanted."""
    zeros = torch.zeros(records.shape[:-2], dtype=torch.int64, device=records.device)
    colors = torch.zeros(*records.shape[:-1], 1, device=records.device, requires_grad=True)
    return Splats(records, colors, zeros, zeros)


def scene_records(count: int, *, size: tuple[int, int], cameras: int = 1, **options) -> torch.Tensor:
    scene = random_scene(count, size=size, cameras=cameras, dtype=torch.float32, **options)
    with on_cpu():
        return project_gaussians(scene.gaussians, scene.cameras).records


def ellipse_records(seed: int, count: int, long: float, thin: float) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    with on_cpu():
        return ellipses(generator, count, long=long, thin=thin, opacity=0.0, dtype=torch.float32).records


def check_lists(records: torch.Tensor, width: int, height: int, device, mask: torch.Tensor | None = None) -> Tiles:
    """With and without places, the lists are the CPU's."""
    with on_cpu():
        expected = intersect_tiles(splats_of(records), width, height, tile_mask=mask)
    moved, mask = splats_of(records.to(device)), None if mask is None else mask.to(device)
    with torch.no_grad():
        plain = intersect_tiles(moved, width, height, tile_mask=mask)
    assert plain.places is None and plain.rows is None
    tiles = intersect_tiles(moved, width, height, tile_mask=mask)
    for ours in (plain, tiles):
        assert ours.ids.device.type == ours.offsets.device.type == device.type and ours.shape == expected.shape
        assert torch.equal(ours.offsets.cpu(), expected.offsets) and torch.equal(ours.ids.cpu(), expected.ids)
    if records.numel():
        check_places(expected, tiles.places.cpu(), tiles.rows.cpu(), records.shape[:-2].numel(), records.shape[-2])
    return expected


@pytest.mark.parametrize(
    ("count", "size", "options"),
    [
        (300, (97, 51), {"scale": 0.05, "cameras": 2}),
        (1500, (128, 96), {"scale": 0.02, "cameras": 3}),
        (40, (16, 16), {}),
        (40, (1, 1), {}),
        (200, (19, 300), {"scale": 0.4, "cameras": 2}),
        (60, (400, 300), {"scale": 1.0}),
        (3, (1100, 700), {"scale": 30.0}),  # more rows than a warp has lanes, all met
        (70, (64, 48), {"spread": 3.0, "cameras": 4}),  # most are out of sight
        (50, (48, 48), {"spread": 0.0}),  # all at one depth
        (1, (33, 17), {"cameras": 2}),
        (0, (33, 17), {"cameras": 2}),
        (10, (33, 17), {"cameras": 0}),
    ],
)
def test_lists_are_those_of_the_cpu(device, count, size, options):
    records = scene_records(count, size=size, **options)
    tiles = check_lists(records, *size, device)
    assert len(tiles.ids) >= count // 4 * min(options.get("cameras", 1), 1)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("long", "thin"), [(0.5, 0), (1.5, 3), (3, 4), (4, 1)])
def test_needles_and_giants(device, seed, long, thin):
    records = ellipse_records(seed, 120, long, thin)
    generator = torch.Generator().manual_seed(seed)
    mask = torch.rand(tile_shape(records.shape[:-2], 170, 150), generator=generator) < 0.6
    whole = check_lists(records, 170, 150, device)
    masked = check_lists(records, 170, 150, device, mask)
    assert 0 < len(masked.ids) < len(whole.ids)


def test_masks_of_several_images(device):
    records = scene_records(200, size=(97, 51), cameras=3, scale=0.3)
    generator = torch.Generator().manual_seed(0)
    mask = torch.rand(3, 4, 7, generator=generator) < 0.5
    for part in (mask, mask[1], mask.mT.contiguous().mT, torch.zeros(1, 1, dtype=torch.bool).expand(4, 7)):
        check_lists(records, 97, 51, device, part)


@pytest.mark.parametrize("value", [float("nan"), -float("nan"), float("inf"), -float("inf"), 1e38, -1e38, 0.0])
@pytest.mark.parametrize("field", range(8))
def test_hostile_records(device, field, value):
    records = scene_records(20, size=(40, 40), cameras=2).clone()
    records[:, ::2, field] = value
    check_lists(records, 40, 40, device)


def test_records_anywhere_in_memory(device):
    """Kernels read 16 bytes at a time."""
    records = scene_records(50, size=(40, 40), cameras=2)
    expected = check_lists(records, 40, 40, device)
    shifted = torch.zeros(records.numel() + 1, device=device)[1:].view_as(records).copy_(records)
    strided = torch.stack([records, records], -1).to(device)[..., 0]
    for given in (shifted, strided):
        tiles = intersect_tiles(splats_of(given), 40, 40)
        assert torch.equal(tiles.ids.cpu(), expected.ids)


def giants(count: int, device) -> Splats:
    """Each meets every tile of an image of 16384 x 16384 pixels: 2^20."""
    records = torch.tensor([8192.0, 8192, 1, 0, 1, 1, 1, 1e6], device=device).expand(1, count, 8)
    return splats_of(records)


@pytest.mark.parametrize("count", [2048, 4100])  # 2^31 pairs, and so many that 32 bits would count 2^22
def test_too_many_pairs(device, count):
    with pytest.raises(ValueError, match="too many pairs of splat and tile over 1 images"):
        intersect_tiles(giants(count, device), 16384, 16384)


def test_too_many_tiles(device):
    nothing = splats_of(torch.zeros(4096, 0, 8, device=device))
    with pytest.raises(ValueError, match="too many tiles over 4096 images; render fewer at a time"):
        intersect_tiles(nothing, 16384, 16384)


def test_too_many_splats(device):
    records = torch.zeros(1, 1, 8, device=device).expand(2, 1 << 30, 8)
    with pytest.raises(ValueError, match="too many splats over 2 images"):
        torch.ops.emogs.intersect_tiles(records, 16, 16, None, False, -1)


def nearest(tiles: Tiles, records: torch.Tensor, capacity: int) -> tuple[torch.Tensor, torch.Tensor]:
    """offsets and ids with the `capacity` nearest pairs; splats of one depth in the order of images and indices."""
    images, count = records.shape[:-2].numel(), records.shape[-2]
    tile = torch.repeat_interleave(torch.arange(len(tiles.offsets) - 1), tiles.offsets.diff())
    splat = tile // ((len(tiles.offsets) - 1) // images) * count + tiles.ids
    by_splat = splat.argsort(stable=True)
    near_to_far = by_splat[torch.argsort(records[..., 6].flatten()[splat[by_splat]], stable=True)]
    kept = torch.zeros(len(tile), dtype=torch.bool)
    kept[near_to_far[:capacity]] = True
    counts = torch.bincount(tile[kept], minlength=len(tiles.offsets) - 1)
    return torch.cat([torch.zeros(1, dtype=torch.int64), counts.cumsum(0)]), tiles.ids[kept]


@pytest.mark.parametrize(
    ("count", "size", "options"),
    [
        (7, (40, 33), {"scale": 0.2, "cameras": 2}),
        (5, (260, 90), {"scale": 0.5}),
        (6, (33, 35), {"spread": 0.0, "scale": 0.4}),
    ],
)
def test_room_for_any_number_of_pairs(device, count, size, options):
    """The nearest pairs are kept, places and rows agree with them, and memory beyond the room stays as it is."""
    records = scene_records(count, size=size, **options)
    with on_cpu():
        exact = intersect_tiles(splats_of(records), *size)
    needed = len(exact.ids)
    assert needed > 2 * count
    for capacity in range(needed + 2):
        workspace = RasterWorkspace(capacity)
        tiles = intersect_tiles(splats_of(records.to(device)), *size, workspace=workspace)
        offsets, ids = nearest(exact, records, capacity)
        kept = min(needed, capacity)
        assert torch.equal(tiles.offsets.cpu(), offsets) and tiles.ids.shape == tiles.places.shape == (capacity,)
        assert torch.equal(tiles.ids[:kept].cpu(), ids) and (tiles.ids[kept:] == -1).all()
        listed = dataclasses.replace(tiles, offsets=offsets, ids=ids)
        check_places(listed, tiles.places[:kept].cpu(), tiles.rows.cpu(), records.shape[0], count)
        with torch.no_grad():
            plain = intersect_tiles(splats_of(records.to(device)), *size, workspace=workspace)
        assert torch.equal(plain.offsets, tiles.offsets) and torch.equal(plain.ids, tiles.ids)
        assert workspace.needed == needed
        if capacity < needed:
            with pytest.raises(CapacityError, match=rf"use RasterWorkspace\({needed}\)"):
                workspace.check()
        else:
            workspace.check()


def blend_gradients(records: torch.Tensor, tiles_of, size: tuple[int, int]) -> list[torch.Tensor]:
    """Image, alphas and the gradients of records and colours, with the lists that `tiles_of` makes."""
    generator = torch.Generator().manual_seed(5)
    colors = torch.rand(*records.shape[:-1], 3, generator=generator).to(records).requires_grad_()
    records = records.clone().requires_grad_()
    weights = torch.randn(len(records), *size[::-1], 3, generator=generator).to(records)
    splats = dataclasses.replace(splats_of(records), colors=colors)
    image, alphas, _ = blend_tiles(splats, tiles_of(splats), *size)
    grads = torch.autograd.grad((image * weights).sum() + alphas.sum(), (records, colors))
    return [t.detach().cpu() for t in (image, alphas, *grads)]


def test_gradients_of_what_there_was_room_for(device):
    """Images are those of the nearest pairs' lists; gradients are nearly as near to float64 as the CPU's."""
    size = (40, 33)
    records = scene_records(7, size=size, scale=0.2, cameras=2)
    with on_cpu():
        exact = intersect_tiles(splats_of(records), *size)
    for capacity in range(len(exact.ids) + 2):
        workspace = RasterWorkspace(capacity)
        ours = blend_gradients(records.to(device), lambda s, w=workspace: intersect_tiles(s, *size, workspace=w), size)
        listed = Tiles(*nearest(exact, records, capacity), exact.shape)
        with on_cpu():
            cpu, double = (blend_gradients(r, lambda s, t=listed: t, size) for r in (records, records.double()))
        for mine, theirs in zip(ours[:2], cpu[:2], strict=True):
            torch.testing.assert_close(mine, theirs, rtol=0, atol=0 if device.type == "cpu" else 1e-5)
        for mine, theirs, true in zip(ours[2:], cpu[2:], double[2:], strict=True):
            error, allowed = (mine.double() - true).norm(), (theirs.double() - true).norm()
            assert error <= 4 * allowed + 16 * 2.0**-24 * true.norm()  # as in test_blend_cuda.py
            assert (true.norm() > 0) == (capacity > 0)


def test_room_where_nothing_is_met(device):
    workspace = RasterWorkspace(3)
    for records in (torch.zeros(2, 0, 8), torch.zeros(2, 5, 8), torch.zeros(0, 5, 8)):
        tiles = intersect_tiles(splats_of(records.to(device)), 33, 17, workspace=workspace)
        assert (tiles.offsets == 0).all() and (tiles.ids == -1).all() and workspace.needed == 0


def test_a_workspace_says_when_no_room_would_do(device):
    workspace = RasterWorkspace(10)
    tiles = intersect_tiles(giants(4100, device), 16384, 16384, workspace=workspace)
    assert tiles.offsets[-1] == 10 and (tiles.ids == 0).all()
    with pytest.raises(CapacityError, match=r"meet more than 2\^31 tiles, but there is room for 10; render fewer"):
        workspace.check()


def test_operation_is_sound(device):
    records = scene_records(6, size=(19, 17), cameras=2).to(device)
    assert not needs_gradients(records)
    for rows in (False, True):
        for capacity in (-1, 0, 1000):
            torch.library.opcheck(torch.ops.emogs.intersect_tiles, (records, 19, 17, None, rows, capacity))


def test_float64_has_no_kernel(device):
    with pytest.raises(ValueError, match=r"intersect_tiles_order.*no CUDA kernel for float64"):
        intersect_tiles(splats_of(torch.zeros(1, 3, 8, dtype=torch.float64, device=device)), 16, 16)
