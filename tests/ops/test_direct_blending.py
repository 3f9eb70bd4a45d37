"""`emogs::blend_tiles` and its backward without `blend_tiles` in front of them: errors, or the results that
emogs/ops/blend.py defines."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from emulation import on_cpu
from raster_scenes import random_scene

import emogs
from emogs import RasterSettings
from emogs.ops.tiles import find_places

BEYOND = 2**31 - 1
BEFORE = -(2**31)


@pytest.fixture
def blend_call():
    """The arguments of `emogs::blend_tiles_backward` by name; those of `emogs::blend_tiles` come first."""
    scene = random_scene(6, size=(19, 17))
    splats = emogs.ops.project_gaussians(scene.gaussians, scene.cameras)
    tiles = emogs.ops.intersect_tiles(splats, 19, 17)
    places, rows = find_places(tiles.offsets, tiles.ids, 2, 6)
    call = {
        "records": splats.records, "colors": splats.colors, "background": torch.zeros(2, 3, dtype=torch.float64),
        "offsets": tiles.offsets, "ids": tiles.ids, "places": places, "rows": rows,
        "probe": torch.zeros(2, 6, 4, dtype=torch.float64),
        "width": 19, "height": 17, "settings": RasterSettings().blending, "depth": 2,
    }  # fmt: skip
    colors, alphas, depths, *state = torch.ops.emogs.blend_tiles(*call.values(), True)
    call |= dict(zip(("transmittances", "last", "medians", "checkpoints"), state, strict=True))
    return call | {"grad_colors": colors, "grad_alphas": alphas, "grad_depths": depths}


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("records", lambda t: t[:, :4]),
        ("records", lambda t: t[..., :7]),
        ("colors", lambda t: t[:1]),
        ("colors", lambda t: t[..., :0]),
        ("colors", lambda t: t[..., :1].expand(-1, -1, 2**21)),
        ("background", lambda t: t[..., :2]),
        ("offsets", lambda t: t[:-1]),
        ("ids", lambda t: t[None]),
        ("ids", lambda t: t[:1].expand(2**31)),
        ("places", lambda t: t[1:]),
        ("rows", lambda t: t[1:]),
        ("probe", lambda t: t[:, :5]),
        ("width", lambda size: 1 << 33),
        ("height", lambda size: 0),
        ("settings", lambda numbers: numbers[:2]),
        ("settings", lambda numbers: [0.0, *numbers[1:]]),
        ("settings", lambda numbers: [numbers[0], float("nan"), numbers[2]]),
        ("settings", lambda numbers: [*numbers[:2], -1e-4]),
        ("depth", lambda mode: 3),
        ("transmittances", lambda t: t[..., :0]),
        ("last", lambda t: t[:1]),
        ("medians", lambda t: t[..., :0]),
        ("grad_colors", lambda t: t[..., :1]),
        ("grad_alphas", lambda t: t[:, :3]),
        ("grad_depths", lambda t: t[..., 0]),
    ],
)
def test_direct_blending_stays_in_bounds(blend_call, name, change):
    inputs = list(blend_call)[:12]
    changed = blend_call | {name: change(blend_call[name])}
    message = "(emogs|RasterSettings): .* must be"
    if name in inputs:
        with pytest.raises(ValueError, match=message):
            torch.ops.emogs.blend_tiles(*(changed[n] for n in inputs), True)
    with pytest.raises(ValueError, match=message):
        torch.ops.emogs.blend_tiles_backward(*changed.values())


def test_lists_too_long_for_positions_in_float32():
    """Beyond 2^24 positions would round, and gradients go to the wrong splats."""
    splats = torch.zeros(1, 1, 8), torch.zeros(1, 1, 1)
    offsets, ids = torch.tensor([0, 2**24 + 1]), torch.zeros(2**24 + 1, dtype=torch.int32)
    with pytest.raises(ValueError, match=r"lists of at most 2\^24 splats in float32, got 16777217 in a tile"):
        torch.ops.emogs.blend_tiles(*splats, None, offsets, ids, *[None] * 3, 9, 7, RasterSettings().blending, 0, False)


SIZE = (37, 21)


class Blending:
    """A call of the operations with lists of more than a bucket of CUDA's, and what comes of it on a device."""

    def __init__(self, device, channels=3, depth=1, count=500):
        scene = random_scene(count, cameras=1, channels=channels, size=SIZE, dtype=torch.float32)
        with on_cpu():
            splats = emogs.ops.project_gaussians(scene.gaussians, scene.cameras)
            tiles = emogs.ops.intersect_tiles(splats, *SIZE)
        self.lengths = tiles.offsets.diff()
        assert self.lengths.max() > 256
        self.device, self.tiles = device, tiles
        self.tensors = [splats.records, splats.colors, scene.background[None], tiles.offsets, tiles.ids]
        self.rest = (*SIZE, RasterSettings().blending, depth)

    def inputs(self):
        tensors = [t.to(self.device) for t in self.tensors]
        return *tensors, *find_places(*tensors[3:], 1, tensors[0].shape[1]), None, *self.rest

    def forward(self):
        return [t.cpu() for t in torch.ops.emogs.blend_tiles(*self.inputs(), True)]

    def backward(self, change=lambda transmittances, last, medians: (transmittances, last, medians)):
        colors, alphas, depths, *state, checkpoints = torch.ops.emogs.blend_tiles(*self.inputs(), True)
        state = change(*state)
        grads = torch.ops.emogs.blend_tiles_backward(
            *self.inputs(), *state, checkpoints, colors, alphas, depths if self.rest[-1] else None
        )
        return [t.cpu() for t in grads]

    def length_of_lists(self):
        """[1, H, W]: of each pixel's tile."""
        width, height = SIZE
        lengths = self.lengths.view(1, *self.tiles.shape[-2:]).int()
        each = lengths.repeat_interleave(16, 1).repeat_interleave(16, 2)
        return each[:, :height, :width].contiguous().to(self.device)


@pytest.mark.parametrize("channels", [3, 8])
def test_last_beyond_the_list_is_its_end(device, channels):
    call = Blending(device, channels)
    lengths = call.length_of_lists()
    expected = call.backward(lambda t, last, medians: (t, lengths, medians))
    assert not torch.equal(expected[0], call.backward()[0])  # or it would not matter
    for beyond in (lengths + 1, torch.full_like(lengths, BEYOND)):
        ours = call.backward(lambda t, last, medians, beyond=beyond: (t, beyond, medians))
        assert all(torch.equal(a, b) for a, b in zip(ours, expected, strict=True))


@pytest.mark.parametrize("channels", [3, 8])
def test_a_negative_last_is_none(device, channels):
    call = Blending(device, channels)
    for before in (-1, BEFORE):
        grads = call.backward(lambda t, last, medians, value=before: (t, torch.full_like(last, value), medians))
        assert (grads[0] == 0).all() and (grads[1] == 0).all()


@pytest.mark.parametrize("channels", [3, 8])
def test_medians_outside_the_list_are_none(device, channels):
    call = Blending(device, channels, depth=2)
    expected = call.backward(lambda t, last, medians: (t, last, torch.zeros_like(medians)))
    assert not torch.equal(expected[0], call.backward()[0])
    lengths = call.length_of_lists()
    for wrong in (lengths + 1, torch.full_like(lengths, BEYOND), torch.full_like(lengths, BEFORE), -lengths):
        ours = call.backward(lambda t, last, medians, wrong=wrong: (t, last, wrong))
        assert all(torch.equal(a, b) for a, b in zip(ours, expected, strict=True))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("channels", [3, 8])
def test_a_colour_that_is_not_finite_stays_in_its_tiles(device, channels, value):
    """The pixels that it touches, which show where its colour counts, are not finite; other tiles, alphas and what
    backward keeps are as they were, and backward returns."""
    call = Blending(device, channels, count=300)
    before = call.forward()
    call.tensors[1] = call.tensors[1].clone()
    call.tensors[1][0, 7] += 1
    lighter = call.forward()[0]
    call.tensors[1][0, 7] = value
    colors, *others = call.forward()
    touched = (lighter != before[0]).any(-1)
    assert touched.any() and not colors[touched].isfinite().any()
    offsets, ids = call.tiles.offsets.tolist(), call.tiles.ids
    listed = torch.tensor([bool((ids[a:b] == 7).any()) for a, b in pairwise(offsets)])
    assert listed.any() and not listed.all()
    in_its_tiles = listed.view(call.tiles.shape[-2:]).repeat_interleave(16, 0).repeat_interleave(16, 1)
    elsewhere = ~in_its_tiles[None, : SIZE[1], : SIZE[0]]
    assert torch.equal(colors[elsewhere], before[0][elsewhere])
    checkpoints = others.pop()  # sums of colours behind a bucket, on CUDA
    assert checkpoints.shape == before[-1].shape
    assert all(torch.equal(a, b) for a, b in zip(others, before[1:-1], strict=True))
    assert [t.shape for t in call.backward()[:2]] == [t.shape for t in call.tensors[:2]]


@pytest.mark.parametrize("channels", [3, 8])
@pytest.mark.parametrize(
    "wrong",
    [
        lambda offsets: offsets.flip(0),
        lambda offsets: offsets + 1,
        lambda offsets: offsets * 0 + 2**62,
        lambda offsets: offsets * 0 - 2**63,
        lambda offsets: torch.where(torch.arange(len(offsets)) % 2 == 0, offsets, -(2**63)),
        lambda offsets: torch.where(torch.arange(len(offsets)) % 2 == 0, offsets, 2**63 - 1),
    ],
)
def test_lists_outside_the_pairs_are_empty_on_cuda(device, channels, wrong):
    """Where the CPU refuses them: CUDA kernels draw the background there, read nothing and return."""
    call = Blending(device, channels)
    call.tensors[3] = wrong(call.tensors[3])
    if device.type == "cpu" and not blend_runs_on_cuda():
        with pytest.raises(ValueError, match=r"tiles\.offsets must be rising from 0 to M="):
            call.forward()
        return
    colors = call.forward()[0]
    begins, ends = call.tensors[3][:-1], call.tensors[3][1:]
    empty = (begins < 0) | (ends > len(call.tensors[4])) | (ends <= begins)
    shown = empty.view(call.tiles.shape[-2:]).repeat_interleave(16, 0).repeat_interleave(16, 1)[: SIZE[1], : SIZE[0]]
    assert empty.any() and torch.equal(colors[0][shown], call.tensors[2].expand_as(colors[0][shown]))
    assert [t.shape for t in call.backward()[:2]] == [t.shape for t in call.tensors[:2]]


def blend_runs_on_cuda() -> bool:
    """Under the emulator, too."""
    return emogs.ops.blend.on_cuda(torch.zeros(0))
