"""intersect_tiles: nothing that could touch a pixel is dropped, lists are in depth order, and no thread shows."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from raster_scenes import random_scene

from emogs import Cameras, Gaussians
from emogs.ops import Splats, Tiles, blend_tiles, intersect_tiles, project_gaussians
from emogs.ops.tiles import TILE_SIZE, find_places, tile_count

CUT = 1 / 255
SIZE = (170, 150)  # eleven by ten tiles: more than a box of bits holds


def pairs_of(tiles: Tiles, images: int, width: int, height: int) -> list[list[list[int]]]:
    """ids by image and tile."""
    ids, offsets, count = tiles.ids.tolist(), tiles.offsets.tolist(), tile_count(width, height)
    assert len(offsets) == images * count + 1 and offsets[-1] == len(ids)
    lists = [ids[begin:end] for begin, end in itertools.pairwise(offsets)]
    return [lists[i * count : (i + 1) * count] for i in range(images)]


def check_places(tiles: Tiles, places: torch.Tensor, rows: torch.Tensor, images: int, splats: int) -> None:
    """Places number the pairs so that those of a splat, in the order of tiles, stand together in its row."""
    offsets, ids = tiles.offsets, tiles.ids.long()
    tiles_per_image = max((len(offsets) - 1) // max(images, 1), 1)
    image = torch.repeat_interleave(torch.arange(len(offsets) - 1) // tiles_per_image, offsets.diff())
    assert places.dtype == rows.dtype == torch.int32 and rows.shape == (images * splats, 2)
    assert torch.equal(places.sort().values, torch.arange(len(ids), dtype=torch.int32))
    pairs = {}
    for owner, place in zip((image * splats + ids).tolist(), places.tolist(), strict=True):
        pairs.setdefault(owner, []).append(place)
    for owner, (begin, end) in enumerate(rows.tolist()):
        assert pairs.get(owner, []) == list(range(begin, end)) and (begin < end or begin == end == 0)


def largest_alphas(splats: Splats, width: int, height: int) -> torch.Tensor:
    """[N, T] in float64, from the conics as they are stored: the largest alpha at any pixel centre of each tile."""
    x, y, a, b, c, opacity = splats.records[0, :, :6].double().unbind(-1)
    dx = x[:, None] - (torch.arange(width) + 0.5)
    dy = y[:, None] - (torch.arange(height) + 0.5)
    sigma = 0.5 * (a[:, None, None] * dx[:, None] ** 2 + c[:, None, None] * dy[:, :, None] ** 2)
    sigma = sigma + b[:, None, None] * dx[:, None] * dy[:, :, None]
    alphas = opacity[:, None, None] * torch.exp(-sigma)
    pad = (0, -width % TILE_SIZE, 0, -height % TILE_SIZE)
    return torch.nn.functional.max_pool2d(torch.nn.functional.pad(alphas, pad), TILE_SIZE).flatten(1)


def check_sufficient(splats: Splats, width: int, height: int) -> tuple[int, int]:
    """Every dropped pair is below the cut at all pixel centres of its tile; returns how many are kept and touch."""
    lists = pairs_of(intersect_tiles(splats, width, height), 1, width, height)[0]
    kept = torch.zeros(splats.records.shape[-2], len(lists), dtype=torch.bool)
    for tile, ids in enumerate(lists):
        assert len(set(ids)) == len(ids)
        kept[ids, tile] = True
        depths = splats.depths[0, ids]
        assert (depths[1:] >= depths[:-1]).all(), "near to far"
    touches = largest_alphas(splats, width, height) >= CUT
    assert not (touches & ~kept & (splats.radii[0, :, :1] > 0)).any()
    return int(kept.sum()), int(touches.sum())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("scale", [0.003, 0.02, 0.1, 0.5])
@pytest.mark.parametrize("size", [(128, 96), (97, 51), (16, 16), (1, 1)])
def test_dropped_pairs_touch_nothing(dtype, scale, size):
    scene = random_scene(300, dtype=dtype, scale=scale, size=size, spread=0.5, cameras=1)
    kept, touching = check_sufficient(project_gaussians(scene.gaussians, scene.cameras), *size)
    assert kept <= touching * 1.3 + 50, "and little more than necessary is kept"


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("long", [9.0, 60.0])  # pixels: 4 by 4 tiles, and more than a box of bits holds
def test_a_slanted_needle_is_not_listed_all_over_its_box(dtype, long):
    """Half to a fifth of the tiles in its bounding box are touched; the lists hold few others."""
    generator = torch.Generator().manual_seed(0)
    splats = torch.zeros(1, 40, 8, dtype=torch.float64)
    splats[0, :, :2] = torch.tensor(SIZE) / 2 + 32 * torch.rand(40, 2, generator=generator, dtype=torch.float64)
    mean, difference = 0.5 * (1 + long**-2), 0.5 * (1 - long**-2)  # of the conic's eigenvalues
    splats[0, :, 2:5] = torch.tensor([mean, difference, mean])
    splats[0, :, 5:7] = 1
    splats[0, :, 7] = math.sqrt(2 * math.log(1 / CUT) * mean * long**2)
    records = splats.to(dtype)
    zeros = torch.zeros(1, dtype=torch.int64)
    kept, touching = check_sufficient(Splats(records, records[..., :1], zeros, zeros), *SIZE)
    assert kept <= 1.25 * touching


@given(
    angle=st.floats(0, math.pi),
    long=st.floats(-1, 3),
    thin=st.floats(-1, 2),
    x=st.floats(-30, 130),
    y=st.floats(-30, 110),
    opacity=st.floats(CUT, 1),
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_needles_at_any_angle(dtype, angle, long, thin, x, y, opacity):
    """Deviations of 10^long and 10^(long - thin) pixels; the conic is what projection makes of that in this dtype."""
    scene = random_scene(1, dtype=dtype, size=(100, 80), cameras=1)
    cameras = scene.cameras
    cameras.viewmats[0] = torch.eye(4, dtype=dtype)
    focal = cameras.Ks[0, 0, 0]
    depth = 10.0
    g = scene.gaussians
    g.means[0] = torch.tensor([(x - 50) * depth / focal, (y - 40) * depth / (1.1 * focal), depth])
    g.quats[0] = torch.tensor([math.cos(angle / 2), 0, 0, math.sin(angle / 2)])
    g.scales[0] = torch.tensor([10**long, 10 ** (long - thin), 10 ** (long - thin)]) * depth / focal
    g.opacities[0] = opacity
    check_sufficient(project_gaussians(g, cameras), 100, 80)


def ellipses(generator: torch.Generator, count: int, *, long: float, thin: float, opacity: float, dtype: torch.dtype):
    """What `project_gaussians` makes of `count` Gaussians around an image of SIZE: standard deviations up to 10^long
    pixels, 10^-thin times that across, at any angle; opacities between the cut and cut^opacity."""

    def uniform(low: float, high: float) -> torch.Tensor:
        return low + (high - low) * torch.rand(count, generator=generator, dtype=torch.float64)

    angle, length = uniform(0, math.pi), 10 ** uniform(-1.5, long)
    width = length * 10 ** -uniform(0, thin)
    zero = torch.zeros(count, dtype=torch.float64)
    depth = uniform(1, 2)
    middle = torch.stack([uniform(-60, SIZE[0] + 60), uniform(-60, SIZE[1] + 60)], -1)
    gaussians = Gaussians(
        means=torch.cat([middle - torch.tensor(SIZE) / 2, torch.ones(count, 1)], -1).to(dtype)
        * depth[:, None].to(dtype),
        quats=torch.stack([(angle / 2).cos(), zero, zero, (angle / 2).sin()], -1).to(dtype),
        scales=(depth * torch.stack([length, width, width])).mT.to(dtype),
        opacities=(CUT ** uniform(opacity, 1)).clamp(CUT, 1).to(dtype),
        colors=uniform(0, 1)[:, None].to(dtype),
    )
    K = torch.tensor([[1.0, 0, SIZE[0] / 2], [0, 1.0, SIZE[1] / 2], [0, 0, 1]], dtype=dtype)
    return project_gaussians(gaussians, Cameras(torch.eye(4, dtype=dtype)[None], K[None], *SIZE))


@given(
    seed=st.integers(0, 2**30),
    long=st.floats(-1, 4),
    thin=st.floats(0, 4),
    opacity=st.floats(0, 0.999999),
    masked=st.booleans(),
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_no_shape_of_ellipse_loses_a_pixel(dtype, seed, long, thin, opacity, masked):
    """Tiny, huge, thin, oblique, nearly invisible: none misses a tile it touches, and images are those of lists that
    hold every splat in every tile, bit for bit."""
    generator = torch.Generator().manual_seed(seed)
    splats = ellipses(generator, 40, long=long, thin=thin, opacity=opacity, dtype=dtype)
    check_sufficient(splats, *SIZE)
    shape = torch.Size([1, -(-SIZE[1] // TILE_SIZE), -(-SIZE[0] // TILE_SIZE)])
    mask = torch.rand(shape, generator=generator) < 0.7 if masked else torch.ones(shape, dtype=torch.bool)
    order = torch.argsort(splats.depths[0], stable=True).int()
    offsets = torch.cat([torch.zeros(1, dtype=torch.int64), (mask.flatten() * 40).cumsum(0)])
    everything = Tiles(offsets, order.repeat(int(mask.sum())), shape)
    for ours, theirs in zip(
        blend_tiles(splats, intersect_tiles(splats, *SIZE, tile_mask=mask), *SIZE),
        blend_tiles(splats, everything, *SIZE),
        strict=True,
    ):
        assert torch.equal(ours, theirs)


def test_lists_are_a_subset_of_gsplats():
    gsplat = pytest.importorskip("gsplat.cuda._torch_impl", reason="gsplat is not installed")
    scene = random_scene(400, scale=0.05, size=(97, 83), cameras=1, dtype=torch.float32)
    g, cameras = scene.gaussians, scene.cameras
    covariances, _ = gsplat._quat_scale_to_covar_preci(g.quats, g.scales, compute_preci=False)
    radii, means, depths, _, _ = gsplat._fully_fused_projection(
        g.means, covariances, cameras.viewmats, cameras.Ks, 97, 83
    )
    _, keys, ids = gsplat._isect_tiles(means, radii, depths, TILE_SIZE, 7, 6)
    theirs = set(zip((keys >> 32).tolist(), ids.tolist(), strict=True))
    splats = project_gaussians(g, cameras)
    lists = pairs_of(intersect_tiles(splats, 97, 83), 1, 97, 83)[0]
    ours = {(tile, i) for tile, ids in enumerate(lists) for i in ids}
    assert ours < theirs and len(ours) > 400


def test_masked_tiles_stay_empty_and_the_others_stay_as_they_are():
    scene = random_scene(200, scale=0.3, size=(97, 51), cameras=2, dtype=torch.float32)
    splats = project_gaussians(scene.gaussians, scene.cameras)
    whole = intersect_tiles(splats, 97, 51)
    assert whole.counts.shape == (2, 4, 7) and whole.counts.dtype == torch.int64
    assert whole.counts.flatten().tolist() == [len(ids) for image in pairs_of(whole, 2, 97, 51) for ids in image]
    mask = torch.rand(2, 4, 7, generator=torch.Generator().manual_seed(0)) < 0.6
    for part in (mask, mask[1], mask.mT.contiguous().mT, torch.zeros(1, 1, dtype=torch.bool).expand(4, 7)):
        full = part.expand(2, 4, 7)
        expected = [
            [ids if shown else [] for ids, shown in zip(image, row, strict=True)]
            for image, row in zip(pairs_of(whole, 2, 97, 51), full.flatten(1).tolist(), strict=True)
        ]
        assert pairs_of(intersect_tiles(splats, 97, 51, tile_mask=part), 2, 97, 51) == expected


def test_ties_in_depth_keep_the_order_of_splats():
    scene = random_scene(40, spread=0.0, cameras=1, size=(20, 20))
    tiles = intersect_tiles(project_gaussians(scene.gaussians, scene.cameras), 20, 20)
    for ids in pairs_of(tiles, 1, 20, 20)[0]:
        assert ids == sorted(ids)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_depths_of_any_size_sort(dtype):
    scene = random_scene(64, dtype=dtype, cameras=1, size=(20, 20))
    splats = project_gaussians(scene.gaussians, scene.cameras)
    records = splats.records.clone()
    records[0, :, 0:6] = torch.tensor([10, 10, 0.01, 0, 0.01, 0.5])
    records[0, :, 6] = torch.randn(64, dtype=dtype) * 10.0 ** torch.randint(-30, 30, (64,))
    records[0, :, 7] = 30.0
    ids = pairs_of(
        intersect_tiles(Splats(records, splats.colors, splats.outside, splats.non_finite), 20, 20), 1, 20, 20
    )[0][0]
    assert ids == torch.argsort(records[0, :, 6], stable=True).tolist()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_lists_do_not_depend_on_threads_or_batches(isa, dtype):
    scene = random_scene(18000, scale=0.02, size=(128, 96), cameras=3, dtype=dtype)
    splats = project_gaussians(scene.gaussians, scene.cameras)
    single = [Splats(*(t[i : i + 1] for t in vars(splats).values())) for i in range(3)]
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        expected = intersect_tiles(splats, 128, 96)
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            together, alone = intersect_tiles(splats, 128, 96), [intersect_tiles(s, 128, 96) for s in single]
            assert torch.equal(together.ids, expected.ids) and torch.equal(together.offsets, expected.offsets)
            assert torch.equal(torch.cat([t.ids for t in alone]), expected.ids)
            assert torch.equal(torch.cat([t.counts for t in alone]), expected.counts)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("cameras", [1, 2])
def test_places_of_pairs(cameras):
    scene = random_scene(60, scale=0.2, size=(97, 51), cameras=cameras, dtype=torch.float32)
    tiles = intersect_tiles(project_gaussians(scene.gaussians, scene.cameras), 97, 51)
    assert tiles.places is None and tiles.rows is None and len(tiles.ids) > 200
    check_places(tiles, *find_places(tiles.offsets, tiles.ids, cameras, 60), cameras, 60)
    nothing = torch.zeros(0, dtype=torch.int32)
    for images, splats in ((2, 3), (0, 3), (2, 0)):
        places, rows = find_places(torch.zeros(images * 4 + 1, dtype=torch.int64), nothing, images, splats)
        assert places.shape == (0,) and torch.equal(rows, torch.zeros(images * splats, 2, dtype=torch.int32))


def test_no_splats():
    empty = random_scene(0)
    tiles = intersect_tiles(project_gaussians(empty.gaussians, empty.cameras), 19, 17)
    assert tiles.offsets.tolist() == [0] * (2 * 4 + 1) and tiles.ids.shape == (0,)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 1e38, -1e38])
@pytest.mark.parametrize("field", range(8))
def test_hostile_records_stay_in_bounds(field, value):
    """Hand-made records may hold anything; every id and tile stays valid, and blending reads nothing else."""
    scene = random_scene(20, dtype=torch.float32, size=(40, 40))
    splats = project_gaussians(scene.gaussians, scene.cameras)
    records = splats.records.clone()
    records[:, ::2, field] = value
    given = Splats(records, splats.colors, splats.outside, splats.non_finite)
    tiles = intersect_tiles(given, 40, 40)
    assert tiles.ids.numel() == tiles.offsets[-1] and (tiles.ids < 20).all()
    assert blend_tiles(given, tiles, 40, 40)[0].shape == (2, 40, 40, 3)


def test_operation_is_sound():
    scene = random_scene(6)
    splats = project_gaussians(scene.gaussians, scene.cameras)
    masks = (None, torch.tensor([[True, False], [False, True]]).expand(2, 2, 2))
    for mask, rows, capacity in itertools.product(masks, (False, True), (-1, 1000)):
        torch.library.opcheck(torch.ops.emogs.intersect_tiles, (splats.records, 19, 17, mask, rows, capacity))


@pytest.mark.parametrize(
    ("records", "width", "message"),
    [
        (torch.zeros(2, 3, 7), 8, r"splats.records must be \[..., N=3, 8\], got \[2, 3, 7\]"),
        (torch.zeros(2, 3, 8, dtype=torch.float16), 8, "splats.records must be float32 or float64, got float16"),
        (torch.zeros(2, 3, 8, device="meta"), 8, "splats.records must be on a device that holds data, got on meta"),
        (torch.zeros(2, 3, 8), 0, "width must be an int from 1 to 16384, got 0"),
    ],
)
def test_refusals(records, width, message):
    nothing = torch.zeros(0)
    with pytest.raises((TypeError, ValueError), match=message):
        intersect_tiles(Splats(records, nothing, nothing, nothing), width, 8)


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (torch.zeros(2, 3), "tile_mask must be bool, got float32"),
        ([[True]], "tile_mask must be a tensor, got list"),
        (torch.zeros(3, 2, dtype=torch.bool), r"tile_mask must be \[..., TH=2, TW=3\], got \[3, 2\]"),
        (torch.zeros(5, 2, 3, dtype=torch.bool), r"tile_mask must be broadcastable to \[4, 2, 3\], got \[5, 2, 3\]"),
        (torch.zeros(2, 3, dtype=torch.bool, device="meta"), "tile_mask must be on cpu like splats.records, got meta"),
    ],
)
def test_refused_masks(mask, message):
    nothing = torch.zeros(0)
    with pytest.raises((TypeError, ValueError), match=message):
        intersect_tiles(Splats(torch.zeros(4, 3, 8), nothing, nothing, nothing), 48, 20, tile_mask=mask)
