"""blend_tiles as torch and its callers meet it: strides, nothing to blend, the operation underneath, every refusal."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from blend_scenes import SIZE, blend_kept, splats_and_tiles
from raster_scenes import WITHOUT_EDGES

from emogs import RasterSettings
from emogs.ops import Splats, Tiles, blend_tiles
from emogs.ops.tiles import find_places


def test_strided_arguments():
    splats, tiles, _ = splats_and_tiles(count=4)

    def strided(tensor):
        return tensor.mT.contiguous().mT

    def gradients(change):
        records, colors = (change(t).requires_grad_() for t in (splats.records.clone(), splats.colors.clone()))
        every_other = [torch.stack([t, t], -1)[:, 0] if change is strided else t for t in (tiles.offsets, tiles.ids)]
        lists = Tiles(*every_other, tiles.shape)
        out = blend_tiles(Splats(records, colors, splats.outside, splats.non_finite), lists, *SIZE)
        return torch.autograd.grad(out[0].square().sum(), (records, colors))

    for ours, theirs in zip(gradients(strided), gradients(lambda t: t), strict=True):
        assert torch.equal(ours, theirs)


def test_nothing_to_blend():
    splats, tiles, background = splats_and_tiles(count=0)
    colors, alphas, depths = blend_tiles(splats, tiles, *SIZE, background=background)
    assert torch.equal(colors, background.expand_as(colors)) and (alphas == 0).all() and (depths == 0).all()


def test_operation_is_sound():
    splats, tiles, background = splats_and_tiles(count=4, cameras=1)
    records, colors = splats.records.clone().requires_grad_(), splats.colors.clone().requires_grad_()
    background = background[None].clone().requires_grad_()
    probe = torch.zeros(1, 4, 4, dtype=torch.float64, requires_grad=True)
    lists = (tiles.offsets, tiles.ids, *find_places(tiles.offsets, tiles.ids, 1, 4))
    for ground, probing, depth in ((background, probe, 2), (background, None, 1), (None, None, 0)):
        arguments = (records, colors, ground, *lists, probing, *SIZE, WITHOUT_EDGES.blending, depth, True)
        torch.library.opcheck(torch.ops.emogs.blend_tiles, arguments)


def test_refusals():
    splats, tiles, background = splats_and_tiles(count=4)
    refusals = [
        (
            (dataclasses.replace(splats, records=splats.records[..., :7]), tiles, *SIZE),
            {},
            r"splats.records must be \[..., N=4, 8\]",
        ),
        (
            (dataclasses.replace(splats, colors=splats.colors.float()), tiles, *SIZE),
            {},
            "splats.colors must be float64",
        ),
        ((splats, dataclasses.replace(tiles, ids=tiles.ids.long()), *SIZE), {}, "tiles.ids must be int32, got int64"),
        (
            (splats, dataclasses.replace(tiles, places=tiles.ids[1:], rows=torch.zeros(8, 2).int()), *SIZE),
            {},
            r"tiles.places must be \[M=",
        ),
        ((splats, dataclasses.replace(tiles, rows=torch.zeros(8, 2)), *SIZE), {}, "tiles.places must be a tensor"),
        (
            (splats, dataclasses.replace(tiles, places=tiles.ids), *SIZE),
            {},
            "tiles.rows must be a tensor, got NoneType",
        ),
        ((splats, tiles, -21, 18), {}, "width must be an int from 1 to 16384, got -21"),
        ((splats, tiles, 21, 18.0), {}, "height must be an int from 1 to 16384, got 18.0"),
        ((splats, tiles, 16, 18), {}, r"tiles.offsets must be \[5\], got \[9\]"),
        ((splats, tiles, 16, 50), {}, r"tiles.shape must be \[2, 4, 1\], got \[2, 2, 2\]"),
        (
            (splats, dataclasses.replace(tiles, ids=tiles.ids + 1), *SIZE),
            {},
            r"tiles.ids must be in \[0, N=4\), got 1 to 4",
        ),
        (
            (splats, dataclasses.replace(tiles, offsets=tiles.offsets + 1), *SIZE),
            {},
            "tiles.offsets must be rising from 0 to M=",
        ),
        (
            (splats, tiles, *SIZE),
            {"probe": torch.zeros(2, 3, 4, dtype=torch.float64)},
            r"probe must be \[..., N=4, 4\], got \[2, 3, 4\]",
        ),
        (
            (splats, tiles, *SIZE),
            {"probe": torch.zeros(4, 4, dtype=torch.float64)},
            r"probe must be \[2, 4, 4\], got \[4, 4\]",
        ),
        ((splats, tiles, *SIZE), {"probe": torch.zeros(2, 4, 4)}, "probe must be float64, got float32"),
        ((splats, tiles, *SIZE), {"background": background[:2]}, r"background must be \[..., D=3\], got \[2\]"),
        (
            (dataclasses.replace(splats, colors=splats.colors[:1]), tiles, *SIZE),
            {},
            r"splats.colors must be \[2, N, D\] like splats.records, got \[1, 4, 3\]",
        ),
        ((splats, dataclasses.replace(tiles, shape=None), *SIZE), {}, "tiles.shape must be tuple, got NoneType"),
        (
            (splats, tiles, *SIZE),
            {"background": background.expand(5, 3)},
            r"background must be broadcastable to \[2, 3\]",
        ),
    ]
    for arguments, options, message in refusals:
        with pytest.raises((TypeError, ValueError), match=message):
            blend_tiles(*arguments, **options)


@pytest.mark.parametrize("compiled", [False, True])
def test_lists_that_point_nowhere(compiled):
    """The operation itself checks what it reads, compiled or not, forward and backward."""
    splats, tiles, _ = splats_and_tiles(count=40)

    def blend(offsets, ids):
        given = dataclasses.replace(splats, records=splats.records.clone().requires_grad_())
        return blend_tiles(given, dataclasses.replace(tiles, offsets=offsets, ids=ids), *SIZE)[0]

    call = torch.compile(blend, backend="eager", dynamic=False) if compiled else blend
    far, negative = tiles.ids.clone(), tiles.ids.clone()
    far[-1], negative[0] = 40, -1
    for ids in (far, negative):
        with pytest.raises(ValueError, match=r"tiles.ids must be in \[0, N=40\)"):
            call(tiles.offsets, ids)
    for offsets in (tiles.offsets + 1, tiles.offsets.flip(0), tiles.offsets * 2):
        with pytest.raises(ValueError, match=r"tiles.offsets must be rising from 0 to M="):
            call(offsets, tiles.ids)
    kept = blend_kept(splats.records, splats, tiles, RasterSettings(), 2, True)[3:]
    for offsets, ids, name in ((tiles.offsets, negative, "tiles.ids"), (tiles.offsets + 1, tiles.ids, "tiles.offsets")):
        with pytest.raises(ValueError, match=name):
            torch.ops.emogs.blend_tiles_backward(
                splats.records, splats.colors, None, offsets, ids, *[None] * 3, *SIZE, RasterSettings().blending, 2,
                *kept, torch.ones(2, 18, 21, 3, dtype=torch.float64), None, None,
            )  # fmt: skip


def test_second_derivatives_are_refused():
    splats, tiles, _ = splats_and_tiles(count=3)
    records = splats.records.clone().requires_grad_()
    out = blend_tiles(Splats(records, splats.colors, splats.outside, splats.non_finite), tiles, *SIZE)
    (grad,) = torch.autograd.grad(out[0].square().sum(), records, create_graph=True)
    with pytest.raises(NotImplementedError, match="second derivatives"):
        grad.sum().backward()
