"""Nothing but the scene decides an image and its gradients, to the bit: not runs, threads, batches, storage or the
width of registers. Inputs stay untouched, and empty ones are valid.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from raster_extremes import extreme_scene, seeds, to_torch
from raster_leaves import assert_same, everything, images, leaves_of, stored
from raster_scenes import random_scene

import emogs
from emogs import Cameras, Gaussians, Rig
from emogs.ops.native import _C

FLOATS = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])


def element(value, index: tuple[int, ...]):
    """Of a dataclass or tensor with two leading sizes."""
    if isinstance(value, torch.Tensor):
        return value[index]
    own = [f.name for f in dataclasses.fields(value) if f.name not in ("binding", "width", "height", "model")]
    tensors = {name: getattr(value, name) for name in own}
    return dataclasses.replace(value, **{n: t if t is None else t[index] for n, t in tensors.items()})


@pytest.mark.parametrize("sh_degree", [None, 1])
@FLOATS
def test_batch_element_is_as_if_alone(dtype, sh_degree):
    """Images and the gradients of all that has the batch's sizes; [B, C] images are a loop over both."""
    scenes = [random_scene(50, seed=s, dtype=dtype, sh_degree=sh_degree, size=(37, 21), batch=()) for s in range(6)]

    def stack(get):
        return torch.stack([get(s) for s in scenes]).unflatten(0, (2, 3))

    gaussians = Gaussians(**{n: stack(lambda s, n=n: stored(s.gaussians)[n]) for n in stored(scenes[0].gaussians)})
    cameras = dataclasses.replace(
        scenes[0].cameras, viewmats=stack(lambda s: s.cameras.viewmats), Ks=stack(lambda s: s.cameras.Ks)
    )
    rig = Rig(scenes[0].rig.binding, stack(lambda s: s.rig.frames))
    batch = (gaussians, cameras, stack(lambda s: s.emotion), rig, stack(lambda s: s.background)[..., None, :])

    def run(g, c, emotion, rig, background):
        copies, leaves = leaves_of(g, c, emotion, rig, background)
        g, c, emotion, rig, background = copies
        out = emogs.rasterize(g, c, emotion=emotion, basis=scenes[0].basis, rig=rig, background=background)
        return images(out), list(torch.autograd.grad(out.colors.square().sum(), leaves.values()))

    together, grads = run(*batch)
    for index in [(i, j) for i in range(2) for j in range(3)]:
        alone, own_grads = run(*(element(part, index) for part in batch))
        assert_same([t[index] for t in together], alone)
        assert_same([t[index] for t in grads], own_grads)
        one_camera = Cameras(cameras.viewmats[index][1:], cameras.Ks[index][1:], 37, 21)
        single, _ = run(element(gaussians, index), one_camera, *(element(part, index) for part in batch[2:]))
        assert_same([t[1:] for t in alone], single)


def test_runs_threads_and_instruction_sets():
    """Bitwise forward and backward over extreme scenes; the baseline to a quantile, with its flips counted."""
    before, threads = _C.isa_in_use(), torch.get_num_threads()
    names = [n for n in _C.supported_isas() if n != "baseline"]
    flips = pixels = 0
    try:
        for seed in seeds(60):
            scene, settings = extreme_scene(seed, np.float32)
            gaussians, cameras, background = to_torch(scene, torch.float32)
            results = {}
            for isa, count in [*((n, t) for n in names for t in (1, 2, 3, 1)), ("baseline", 1), ("baseline", 3)]:
                _C.use_isa(isa)
                torch.set_num_threads(count)
                (g, c, b), leaves = leaves_of(gaussians, cameras, background)
                asked = dataclasses.replace(settings, deterministic=count == 3)  # changes nothing here
                out = emogs.rasterize(g, c, background=b, settings=asked)
                loss = out.colors.square().sum() + out.alphas.sum()
                result = [*images(out), *torch.autograd.grad(loss, leaves.values())]
                group = "baseline" if isa == "baseline" else "fused"
                for ours, theirs in zip(result, results.setdefault(group, result), strict=True):
                    assert torch.equal(ours, theirs), (seed, isa, count)
            if "fused" in results:
                error = (results["fused"][1] - results["baseline"][1]).abs()
                flips, pixels = flips + int((error > 1e-3).sum()), pixels + error.numel()
    finally:
        _C.use_isa(before)
        torch.set_num_threads(threads)
    assert flips <= 1e-3 * pixels, f"{flips} flips in {pixels} pixels"


STORAGES = {
    "transposed": lambda t: t.mT.contiguous().mT if t.dim() > 1 else t.repeat_interleave(2)[::2],
    "strided": lambda t: t.repeat_interleave(3, -1)[..., ::3],
    "offset": lambda t: torch.cat([t.reshape(-1)[:1], t.reshape(-1)])[1:].view(t.shape) if t.numel() else t,
    "expanded": lambda t: t[:1].expand(t.shape),
}


@pytest.mark.parametrize("storage", STORAGES)
@FLOATS
def test_storage_of_inputs(dtype, storage):
    """Bitwise the same as contiguous copies, gradients included; the offset breaks alignment to registers."""
    scene = random_scene(30, dtype=dtype, size=(35, 20))
    store = STORAGES[storage]
    results = []
    for contiguous in (False, True):
        (g, cameras, emotion, basis, rig, background), leaves = leaves_of(
            scene.gaussians, scene.cameras, scene.emotion, scene.basis, scene.rig, scene.background
        )

        def seen(value, contiguous=contiguous):
            return store(value).contiguous().clone() if contiguous else store(value)

        def map_fields(item, seen=seen):
            fields = {f.name: getattr(item, f.name) for f in dataclasses.fields(item)}
            tensors = {n: seen(v) for n, v in fields.items() if isinstance(v, torch.Tensor) and n != "binding"}
            return dataclasses.replace(item, **tensors)

        out = emogs.rasterize(
            map_fields(g), map_fields(cameras), emotion=seen(emotion), basis=map_fields(basis), rig=map_fields(rig),
            background=seen(background),
        )  # fmt: skip
        weights = torch.linspace(-1, 1, out.colors.numel(), dtype=dtype).view(out.colors.shape).mT.contiguous().mT
        grads = torch.autograd.grad((out.colors * weights).sum(), leaves.values())
        results.append([*images(out), *grads])
    assert_same(*results)


@FLOATS
def test_inputs_stay_as_they_are(dtype):
    scene = random_scene(30, dtype=dtype, size=(35, 20))
    parts = (scene.gaussians, scene.cameras, scene.emotion, scene.basis, scene.rig, scene.background)
    _, before = leaves_of(*parts)
    copies, leaves = leaves_of(*parts)
    g, cameras, emotion, basis, rig, background = copies
    versions = {name: value._version for name, value in leaves.items()}
    out = emogs.rasterize(g, cameras, emotion=emotion, basis=basis, rig=rig, background=background)
    outputs = [t.detach().clone() for t in images(out)]
    grad = torch.randn_like(out.colors)
    given_grad = grad.clone()
    out.colors.backward(grad)
    assert torch.equal(grad, given_grad)
    assert_same(outputs, images(out))
    for name, value in leaves.items():
        assert torch.equal(value, before[name]) and value._version == versions[name], name


@pytest.mark.parametrize("empty", ["N", "B", "C", "N and C", "K"])
def test_nothing_of_something(empty):
    count, cameras = 0 if "N" in empty else 4, 0 if "C" in empty else 2
    scene = random_scene(
        count, cameras=cameras, batch=(0,) if empty == "B" else (3,), components=0 if empty == "K" else 2
    )
    results = everything(scene)
    assert results["colors"].shape == (0 if empty == "B" else 3, cameras, 17, 19, 3)
    if "N" in empty:
        assert torch.equal(results["colors"], scene.background.expand_as(results["colors"]))
    for name, value in results.items():
        assert value.isfinite().all(), name
    if empty != "K":
        assert (results["Gaussians.means"] == 0).all()
