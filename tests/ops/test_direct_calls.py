"""Operations without the checks of their functions in front of them: what does not fit must be refused."""

from __future__ import annotations

import pytest
import torch
from emulation import emulated
from raster_scenes import random_scene

from emogs import RasterSettings
from emogs.checks import Arguments
from emogs.ops.native import _C, launch
from emogs.ops.project import make_scene


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
    yield "no emotion", {"emotion": lambda t: None}, "a basis needs an emotion"
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


def test_every_operation_has_kernels_for_both_devices():
    """Dispatch ends there where somebody listens (a compiler, a profiler); emulated tensors are the CPU's, so only
    the table of kernels shows a missing one."""
    names = [name for name in torch._C._dispatch_get_all_op_names() if name.startswith("emogs::")]
    assert {"emogs::rasterize", "emogs::intersect_tiles", "emogs::blend_tiles_backward"} <= set(names)
    for name in names:
        for device in ("CPU", "CUDA"):
            assert torch._C._dispatch_has_kernel_for_dispatch_key(name, device), (name, device)


@pytest.mark.parametrize("count", [0, 14, 16])
def test_backward_with_another_number_of_wishes(count):
    scene = random_scene(4)
    arguments = make_scene(Arguments("test"), scene.gaussians, scene.cameras, None, None, None, RasterSettings())
    records, colors, *_ = torch.ops.emogs.project_gaussians(*arguments)
    with pytest.raises(ValueError, match=r"needed must be \[15\] to fit the rest"):
        torch.ops.emogs.project_gaussians_backward(*arguments, records, records, colors, [True] * count)


@pytest.fixture
def rig_call():
    """The arguments of `emogs::rig_frames_backward` by name; those of `emogs::rig_frames` come first."""
    call = {
        "vertices": torch.rand(2, 5, 3, generator=torch.Generator().manual_seed(0)),
        "faces": torch.tensor([[0, 1, 2], [2, 1, 3], [3, 4, 2]]),
        "rest": torch.rand(5, 3, generator=torch.Generator().manual_seed(1)),
    }
    frames, gradients, lists = torch.ops.emogs.rig_frames(*call.values())
    return call | {"gradients": gradients, "vertex_lists": lists, "grad_frames": torch.ones_like(frames)}


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("vertices", lambda t: t[:, :4]),
        ("vertices", lambda t: t[0]),
        ("faces", lambda t: t[:, :2]),
        ("faces", lambda t: t[0]),
        ("rest", lambda t: t[:4]),
        ("rest", lambda t: t[:, :2]),
        ("gradients", lambda t: t[1:]),
        ("vertex_lists", lambda t: t[1:]),
        ("vertex_lists", lambda t: t + 9),
        ("vertex_lists", lambda t: t - 1),
        ("grad_frames", lambda t: t[..., :7]),
    ],
)
def test_direct_frames_stay_in_bounds(rig_call, name, change):
    inputs, changed = list(rig_call)[:3], rig_call | {name: change(rig_call[name])}
    message = f"{name} must be|vertices must be|rest must be"  # V is that of `rest`
    if name in inputs:
        with pytest.raises(ValueError, match=message):
            torch.ops.emogs.rig_frames(*(changed[n] for n in inputs))
    with pytest.raises(ValueError, match=message):
        torch.ops.emogs.rig_frames_backward(*changed.values())


def test_lists_that_are_not_forwards_add_nothing_in_emulated_kernels(rig_call):
    """There nobody looks at them before the kernels do."""
    lists = rig_call["vertex_lists"]
    for wrong in (lists + 2**40, lists - 2**40, torch.full_like(lists, -1), lists * 0 + 9):
        with emulated():
            grads = torch.ops.emogs.rig_frames_backward(*(rig_call | {"vertex_lists": wrong}).values())
        assert (grads == 0).all()


class Elsewhere(torch.Tensor):
    """A tensor that says to be on the second GPU."""

    def get_device(self):
        return 1


def test_a_tensor_on_another_device_is_refused_by_name():
    """The host's memory, read by a GPU, would end the process."""
    given = {name: torch.zeros(2, 4) for name in ("center", "scale", "shift")}
    params, out = torch.zeros(2, 3, 4), torch.zeros(2, 3, 4)
    call = {**launch(params), "batch": 2, "frames": 3, "width": 4, "params": params, "channels": None, "valid": None}
    _C.emotion_renorm_forward(**call, **given, out=out)
    given["scale"] = given["scale"].as_subclass(Elsewhere)
    with pytest.raises(ValueError, match="emotion_renorm_forward: scale must be on cpu, got cuda:1"):
        _C.emotion_renorm_forward(**call, **given, out=out)
