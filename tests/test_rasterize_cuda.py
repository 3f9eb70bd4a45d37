"""emogs.rasterize on CUDA, on a GPU or emulated: the images and gradients of the CPU, calls without waiting, graphs."""

from __future__ import annotations

import contextlib
import dataclasses

import pytest
import torch
from emulation import DEVICES, emulated, on_cpu
from raster_leaves import everything, images, leaves_of
from raster_scenes import RandomScene, random_scene

import emogs
from emogs import CapacityError, RasterSettings, RasterWorkspace
from emogs.compat.gsplat import rasterization
from emogs.ops.tiles import tile_shape

pytestmark = pytest.mark.parametrize("device", DEVICES[1:], indirect=True)

EX2_ERROR = 2.0**-21  # of alpha: of a GPU's exponential; emulated ones are the CPU's
SHARED = ("Cameras", "Rig", "tensor")  # views and intrinsics; frames; emotion and background
CANCELLATION = 4.0  # of the terms that splats add to these, over their sum
CASES = {
    "plain": {"channels": 3},
    "harmonics": {"sh_degree": 3, "batch": (3,)},
    "many channels": {"channels": 37, "cameras": 1},
    "four channels": {"channels": 4, "model": "ortho"},
    "fisheye": {"channels": 32, "model": "fisheye"},
    "long lists": {"count": 500, "scale": 0.3, "size": (33, 20), "cameras": 1},
}
SETTINGS = {
    "default": RasterSettings(),
    "all": RasterSettings(antialiased=True, normals=True, depth="expected"),
    "median": RasterSettings(depth="median", transmittance_stop=0.0),
}


def scene_of(count: int = 60, size: tuple[int, int] = (53, 37), **options) -> RandomScene:
    return random_scene(count, size=size, dtype=torch.float32, **options)


def moved(value, to):
    """Tensors, and what holds them, on a device or in a dtype; integers keep theirs."""
    if isinstance(value, torch.Tensor):
        return value if isinstance(to, torch.dtype) and not value.is_floating_point() else value.to(to)
    if not dataclasses.is_dataclass(value):
        return value
    fields = {f.name: moved(getattr(value, f.name), to) for f in dataclasses.fields(value)}
    return dataclasses.replace(value, **fields)


def on_the_cpu(scene: RandomScene, **more) -> dict[str, torch.Tensor]:
    with on_cpu():
        return everything(scene, **more)


def assert_as_good(ours: dict, cpu: dict, exact: dict, device: torch.device, longest: int) -> None:
    """Images are the CPU's, to the bit where emulated. Gradients, in the Euclidean norm, are at most a few times as far
    from float64's as the CPU's, plus rounding: what lies behind a bucket of blending is a difference of running sums,
    which every pair of the list has rounded (test_blend_cuda.py). What all splats share adds their gradients up, which
    cancel: rounding counts by the terms there."""
    extra = (16 + longest / 16) * 2.0**-24 + (device.type == "cuda") * longest**0.5 * EX2_ERROR
    for name in ("colors", "alphas", "depths"):
        if device.type == "cpu":
            assert torch.equal(ours[name], cpu[name]), name
        else:
            torch.testing.assert_close(ours[name].cpu(), cpu[name], rtol=0, atol=3 * longest * EX2_ERROR)
    for name in exact.keys() - {"colors", "alphas", "depths"}:
        assert ours[name].dtype == torch.float32 and ours[name].shape == exact[name].shape
        error, allowed = ((grads[name].cpu().double() - exact[name]).norm() for grads in (ours, cpu))
        terms = CANCELLATION if name.startswith(SHARED) else 1.0
        assert error <= 4 * allowed + terms * extra * exact[name].norm(), name
        assert exact[name].norm() > 0, name


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("case", CASES)
def test_images_and_all_gradients(device, case, settings):
    scene, settings = scene_of(**CASES[case]), SETTINGS[settings]
    ours = everything(moved(scene, device), settings=settings)
    exact = on_the_cpu(moved(scene, torch.float64), settings=settings)
    assert_as_good(ours, on_the_cpu(scene, settings=settings), exact, device, longest=500)


def test_the_same_bits_every_time(device):
    """In whatever order threads and blocks run."""
    scene = moved(scene_of(200, scale=0.2), device)
    first = everything(scene)
    for seed in range(3):
        with emulated(f"random:{40 + seed}") if device.type == "cpu" else contextlib.nullcontext():
            again = everything(scene)
        assert all(torch.equal(again[name], value) for name, value in first.items())


def test_gsplats_signature(device):
    """Its `meta` too, with the gradients that strategies read."""
    scene = scene_of(80)
    g, cameras = scene.gaussians, scene.cameras
    results = []
    for to, where in ((device, contextlib.nullcontext()), (torch.device("cpu"), on_cpu())):
        with where:
            leaves = [
                moved(t, to).clone().requires_grad_() for t in (g.means, g.quats, g.scales, g.opacities, g.colors)
            ]
            view, K = moved(cameras.viewmats, to), moved(cameras.Ks, to)
            image, alphas, meta = rasterization(*leaves, view, K, 53, 37, packed=False, absgrad=True)
            meta["means2d"].retain_grad()
            (image.square().sum() + alphas.sum()).backward()
            names = ("radii", "depths", "tiles_per_gauss", "isect_ids", "flatten_ids", "isect_offsets")
            grads = [t.grad for t in (*leaves, meta["means2d"])] + [meta["means2d"].absgrad]
            results.append([image.detach(), *grads, *(meta[name].detach() for name in names)])
    for ours, theirs in zip(*results, strict=True):
        assert ours.device.type == device.type and ours.dtype == theirs.dtype and theirs.any()
        tolerance = 1e-5 * float(theirs.abs().max()) if theirs.is_floating_point() else 0
        torch.testing.assert_close(ours.cpu(), theirs, rtol=0, atol=tolerance)


def test_masks_and_probes(device):
    scene = scene_of(100, scale=0.2)
    shape = tile_shape(torch.Size([2, 2]), 53, 37)
    mask = torch.rand(shape, generator=torch.Generator().manual_seed(1)) < 0.6
    results = []
    for to in (device, "cpu", torch.float64):
        probe = moved(torch.zeros(2, 2, 100, 4), to).requires_grad_()
        given, shown = moved(scene, to), mask if isinstance(to, torch.dtype) else mask.to(to)
        with on_cpu() if to != device or len(results) else torch.enable_grad():
            grads = everything(given, tile_mask=shown, probe=probe)
            out = emogs.rasterize(given.gaussians, given.cameras, **given.all, tile_mask=shown, probe=probe)
            grads["probe"] = torch.autograd.grad(out.colors.square().sum(), probe)[0]
        results.append(grads)
    assert_as_good(*results, device, longest=100)


def test_nothing_to_draw(device):
    scene = scene_of(0)
    ours, cpu = everything(moved(scene, device)), on_the_cpu(scene)
    for name, value in cpu.items():
        rounding = 53 * 37 * 2.0**-24 if name == "tensor 6" else 0.0  # of a sum over pixels: the background's gradient
        torch.testing.assert_close(ours[name].cpu(), value, rtol=rounding, atol=0)


def test_a_workspace_with_room_changes_nothing(device):
    scene = moved(scene_of(), device)
    exact = everything(scene)
    workspace = RasterWorkspace(10_000)
    ours = everything(scene, workspace=workspace)
    assert all(torch.equal(ours[name], value) for name, value in exact.items())
    workspace.check()
    with torch.no_grad():
        out = emogs.rasterize(scene.gaussians, scene.cameras, **scene.all, workspace=workspace)
        again = emogs.rasterize(scene.gaussians, scene.cameras, **scene.all)
    assert all(torch.equal(a, b) for a, b in zip(images(out), images(again), strict=True))
    assert len(again.info.tiles.ids) == workspace.needed


def test_two_calls_before_their_backward_passes(device):
    """What backward reads is a call's own, not the workspace's."""
    workspace = RasterWorkspace(5000)
    scenes = [moved(scene_of(seed=seed), device) for seed in (1, 2)]
    means = [s.gaussians.means.clone().requires_grad_() for s in scenes]
    outs = [
        emogs.rasterize(dataclasses.replace(s.gaussians, means=m), s.cameras, workspace=workspace)
        for s, m in zip(scenes, means, strict=True)
    ]
    grads = [torch.autograd.grad(o.colors.sum(), m)[0] for o, m in zip(outs, means, strict=True)]
    for s, m, grad in zip(scenes, means, grads, strict=True):
        alone = emogs.rasterize(dataclasses.replace(s.gaussians, means=m), s.cameras)
        assert torch.equal(torch.autograd.grad(alone.colors.sum(), m)[0], grad)


def drawn(gaussians: emogs.Gaussians, cameras: emogs.Cameras, **more) -> list[torch.Tensor]:
    """Images and the gradients of the Gaussians."""
    (gaussians,), leaves = leaves_of(gaussians)
    out = emogs.rasterize(gaussians, cameras, **more)
    loss = out.colors.square().sum() + out.alphas.sum()
    return [*images(out), *torch.autograd.grad(loss, leaves.values())]


def test_too_little_room_draws_the_nearest(device):
    """Every capacity from none to more than enough. Of one camera's splats, each with one tile, those with room are the
    nearest: images and gradients are those of a scene without the others."""
    scene = scene_of(9, size=(16, 16), cameras=1)
    with on_cpu():
        exact = emogs.rasterize(scene.gaussians, scene.cameras)
    near_to_far, scene = exact.info.tiles.ids.tolist(), moved(scene, device)
    assert len(near_to_far) > 5
    for capacity in range(len(near_to_far) + 2):
        workspace = RasterWorkspace(capacity)
        ours = drawn(scene.gaussians, scene.cameras, workspace=workspace)
        fewer = scene.gaussians.opacities.clone()
        fewer[near_to_far[capacity:]] = 0.0
        theirs = drawn(dataclasses.replace(scene.gaussians, opacities=fewer), scene.cameras)
        assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
        assert workspace.needed == len(near_to_far)
        if capacity < workspace.needed:
            with pytest.raises(CapacityError, match=rf"room for {capacity}; use RasterWorkspace\({workspace.needed}\)"):
                workspace.check()
        else:
            workspace.check()


def test_captured_in_a_graph(device):
    """Replays draw what the tensors hold by then, and count what they need. There are no graphs but on a GPU."""
    if device.type != "cuda":
        pytest.skip("CUDA graphs need a GPU")
    scene = moved(scene_of(), device)
    workspace, means = RasterWorkspace(20_000), scene.gaussians.means.clone().requires_grad_()
    moving = dataclasses.replace(scene.gaussians, means=means)

    def step():
        out = emogs.rasterize(moving, scene.cameras, **scene.all, workspace=workspace)
        return out.colors, torch.autograd.grad(out.colors.square().sum(), means)[0]

    with pytest.raises(RuntimeError, match="once before capturing"), torch.cuda.graph(torch.cuda.CUDAGraph()):
        emogs.rasterize(moving, scene.cameras, workspace=RasterWorkspace(10))
    warm_up = torch.cuda.Stream()
    with torch.cuda.stream(warm_up):
        step()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = step()
    for seed in (3, 4):
        with torch.no_grad():
            means.copy_(scene_of(seed=seed).gaussians.means.to(device))
        graph.replay()
        for ours, alone in zip(captured, step(), strict=True):
            assert torch.equal(ours, alone)
    workspace.check()
    with torch.no_grad():
        scene.gaussians.scales.mul_(50)
    graph.replay()
    with pytest.raises(CapacityError):
        workspace.check()
