"""Operations without the checks of their functions in front of them: what does not fit must be refused."""

from __future__ import annotations

import pytest
import torch
from raster_scenes import random_scene

import emogs
from emogs import RasterSettings
from emogs.checks import Arguments
from emogs.ops.project import make_scene
from emogs.ops.tiles import find_places


def direct_calls():
    """Changes of single arguments that the operation itself must refuse, since they would let it read out of bounds."""
    for name in ("quats", "scales", "opacities", "colors", "basis_means", "basis_rotations", "basis_log_scales",
                 "basis_logit_opacities", "basis_colors", "binding"):  # fmt: skip
        yield f"short {name}", {name: lambda t: t[..., :3] if t.shape[-1] == 4 and t.dim() < 3 else t[..., :3, :]}, name
    yield "narrow means", {"means": lambda t: t[..., :2]}, "means"
    yield "means without rows", {"means": lambda t: t[0]}, "means must have at least 2 dimensions"
    yield "flat quats", {"quats": lambda t: t[..., :3]}, "quats"
    yield "narrow colours of the basis", {"basis_colors": lambda t: t[..., :2]}, "basis_colors"
    yield "fewer weights", {"emotion": lambda t: t[..., :1]}, "basis_means"
    yield "weights without a size", {"emotion": lambda t: t[0, 0]}, "emotion must have at least 1 dimensions"
    yield "batched colours", {"colors": lambda t: t.expand(2, -1, -1)}, "colors"
    yield "small view", {"viewmats": lambda t: t[..., :3, :]}, "viewmats"
    yield "one view", {"viewmats": lambda t: t[0]}, "viewmats must have at least 3 dimensions"
    yield "one K", {"Ks": lambda t: t[:1]}, "Ks"
    yield "frames", {"frames": lambda t: t[..., :7]}, "frames"
    yield "no frames", {"frames": lambda t: None}, "binding and frames must come together"
    yield "no binding", {"binding": lambda t: None}, "binding and frames must come together"
    yield "binding out of range", {"binding": lambda t: t + 3}, r"rig.binding must be in \[0, F=3\)"
    yield "width", {"width": lambda t: -1}, "width must be an int from 1 to 16384, got -1"
    yield "model", {"model": lambda t: "lens"}, "model must be one of pinhole, ortho, fisheye, got 'lens'"


@pytest.mark.parametrize(("change", "message"), [pytest.param(*c[1:], id=c[0]) for c in direct_calls()])
def test_direct_calls_stay_in_bounds(change, message):
    scene = random_scene(4)
    arguments = make_scene(
        Arguments("test"), scene.gaussians, scene.cameras, scene.emotion, scene.basis, scene.rig, RasterSettings()
    )
    changed = arguments._replace(**{name: function(getattr(arguments, name)) for name, function in change.items()})
    with pytest.raises(ValueError, match=message):
        torch.ops.emogs.project_gaussians(*changed)
    records, colors, *_ = torch.ops.emogs.project_gaussians(*arguments)
    with pytest.raises(ValueError, match=message):
        torch.ops.emogs.project_gaussians_backward(*changed, records, records, colors, [True] * 15)


@pytest.mark.parametrize("count", [0, 2, 3, 5, 16, 17])
def test_direct_calls_with_any_number_of_harmonics(count):
    scene = random_scene(4, sh_degree=1)
    arguments = make_scene(Arguments("test"), scene.gaussians, scene.cameras, None, None, None, RasterSettings())
    changed = arguments._replace(colors=torch.zeros(4, count, 3, dtype=torch.float64))
    if count == 16:
        assert torch.ops.emogs.project_gaussians(*changed)[1].shape == (2, 4, 3)
        return
    with pytest.raises(ValueError, match="harmonics must be"):
        torch.ops.emogs.project_gaussians(*changed)


@pytest.mark.parametrize("which", [0, 1, 2])
def test_backward_with_splats_of_another_scene(which):
    scene = random_scene(4)
    arguments = make_scene(Arguments("test"), scene.gaussians, scene.cameras, None, None, None, RasterSettings())
    records, colors, *_ = torch.ops.emogs.project_gaussians(*arguments)
    given = [records, records, colors]
    given[which] = given[which][:, :3]
    with pytest.raises(ValueError, match="to fit the rest"):
        torch.ops.emogs.project_gaussians_backward(*arguments, *given, [True] * 15)


@pytest.mark.parametrize(
    ("shape", "mask", "size", "message"),
    [
        ((2, 5, 7), None, (20, 20), r"records must be \[8\]"),
        ((2, 5, 8), (2, 2), (20, 20), r"tile_mask must be \[2, 2, 2\]"),
        ((2, 5, 8), (2, 2, 1), (20, 20), r"tile_mask must be \[2, 2, 2\]"),
        ((2, 5, 8), None, (0, 20), "width must be an int from 1 to 16384, got 0"),
    ],
)
def test_direct_intersections_stay_in_bounds(shape, mask, size, message):
    mask = None if mask is None else torch.ones(mask, dtype=torch.bool)
    with pytest.raises(ValueError, match=message):
        torch.ops.emogs.intersect_tiles(torch.zeros(shape), *size, mask, False, -1)


def test_a_direct_intersection_refuses_a_capacity_beyond_its_positions():
    with pytest.raises(ValueError, match="capacity must be at most 2\\^31 - 1, got 2147483648"):
        torch.ops.emogs.intersect_tiles(torch.zeros(2, 5, 8), 20, 20, None, False, 1 << 31)


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
        ("background", lambda t: t[..., :2]),
        ("offsets", lambda t: t[:-1]),
        ("ids", lambda t: t[None]),
        ("places", lambda t: t[1:]),
        ("rows", lambda t: t[1:]),
        ("probe", lambda t: t[:, :5]),
        ("width", lambda size: 1 << 33),
        ("height", lambda size: 0),
        ("settings", lambda numbers: numbers[:2]),
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
    message = "emogs: .* must be"
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


def test_every_operation_has_kernels_for_both_devices():
    """Dispatch ends there where somebody listens (a compiler, a profiler); emulated tensors are the CPU's, so only
    the table of kernels shows a missing one."""
    names = [name for name in torch._C._dispatch_get_all_op_names() if name.startswith("emogs::")]
    assert {"emogs::rasterize", "emogs::intersect_tiles", "emogs::blend_tiles_backward"} <= set(names)
    for name in names:
        for device in ("CPU", "CUDA"):
            assert torch._C._dispatch_has_kernel_for_dispatch_key(name, device), (name, device)
