"""Hostile arguments: a public operation either draws what can be drawn or says which argument is wrong.

The rule for values: a Gaussian that is not finite, or becomes so under its emotion, in its frame or before its camera,
is left out and counted, and leaves no trace in any image or gradient. Finite numbers of any size draw finite images.
EMOGS_TEST_EFFORT=20 makes 10,000 calls.
"""

from __future__ import annotations

import dataclasses
import math
from collections import Counter

import pytest
import torch
from raster_extremes import seeds
from raster_hostile import meet_hostile_call
from raster_leaves import change, everything
from raster_scenes import RandomScene, random_scene

import emogs
from emogs import EmotionBasis, Rig


def test_hostile_calls():
    """Named errors, finite images, and a backward pass that returns; a crash would end the run."""
    outcomes = Counter(meet_hostile_call(seed) for seed in seeds(500))
    assert all(outcomes[kind] > 0.1 * len(seeds(500)) for kind in ("drawn", "differentiated", "refused")), outcomes


COUNT, VICTIM = 12, 5


def copy_of(scene: RandomScene) -> RandomScene:
    """A scene whose Gaussians, basis and frames can be written to."""
    basis = EmotionBasis(**{name: value.clone() for name, value in scene.basis.given().items()})
    rig = Rig(scene.rig.binding, scene.rig.frames.clone())
    return dataclasses.replace(scene, gaussians=change(scene.gaussians, torch.clone), basis=basis, rig=rig)


def without_victim(scene: RandomScene) -> RandomScene:
    """The scene without one Gaussian and its face."""
    kept = torch.arange(COUNT) != VICTIM
    basis = EmotionBasis(**{name: value[:, kept] for name, value in scene.basis.given().items()})
    rig = Rig(torch.arange(COUNT - 1, dtype=torch.int32), scene.rig.frames[:, kept])
    return dataclasses.replace(scene, gaussians=change(scene.gaussians, lambda t: t[kept]), basis=basis, rig=rig)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("sh_degree", [None, 2])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    "field", ["means", "quats", "scales", "opacities", "colors", "frames", "d means", "d rotations", "d colors"]
)
def test_a_non_finite_gaussian_leaves_no_trace(field, dtype, sh_degree, value):
    """Images to the bit; its own gradients are zero, the others' and those of cameras and weights as without it."""
    scene = random_scene(COUNT, dtype=dtype, sh_degree=sh_degree, faces=COUNT, size=(33, 20))
    scene = copy_of(dataclasses.replace(scene, rig=Rig(torch.arange(COUNT, dtype=torch.int32), scene.rig.frames)))
    expected = everything(without_victim(scene))
    if field == "frames":
        scene.rig.frames[:, VICTIM] = value
    elif field.startswith("d "):
        getattr(scene.basis, field.removeprefix("d "))[0, VICTIM] = value
    else:
        getattr(scene.gaussians, "sh" if field == "colors" and sh_degree is not None else field)[VICTIM] = value
    results, kept = everything(scene), torch.arange(COUNT) != VICTIM
    axes = {"Gaussians": 0, "EmotionBasis": 1, "Rig": 1}
    for name, theirs in expected.items():
        axis = axes.get(name.split(".")[0])
        ours = results[name] if axis is None else results[name].movedim(axis, 0)[kept].movedim(0, axis)
        assert axis is None or (results[name].select(axis, VICTIM) == 0).all(), name
        if name in ("colors", "alphas", "depths"):
            assert torch.equal(ours, theirs), name
        else:
            tolerance = 1e3 * torch.finfo(dtype).eps * theirs.abs().max().item()
            torch.testing.assert_close(ours, theirs, rtol=0, atol=tolerance, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.parametrize("field", ["viewmats", "Ks"])
@pytest.mark.parametrize("value", [math.nan, math.inf, 0.0])
def test_a_broken_camera_draws_the_background(field, value):
    """Beside a sound one, which draws what it draws alone; a singular view matrix too, harmonics included."""
    scene = random_scene(COUNT, sh_degree=1)
    expected = emogs.rasterize(scene.gaussians, scene.cameras, background=scene.background)
    broken = getattr(scene.cameras, field).clone()
    broken[0] = value
    cameras = dataclasses.replace(scene.cameras, **{field: broken.requires_grad_()})
    out = emogs.rasterize(scene.gaussians, cameras, background=scene.background)
    if not (field == "Ks" and value == 0):  # everything falls on one pixel corner
        assert torch.equal(out.colors[0], scene.background.expand_as(out.colors[0]))
    assert torch.equal(out.colors[1], expected.colors[1])
    out.colors.sum().backward()
    assert broken.grad[1].isfinite().all() and (broken.grad[1] != 0).any()
