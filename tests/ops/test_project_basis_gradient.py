"""Gradients of the emotion basis are written, not added to zeros: none may be left as the memory was."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from emulation import uninitialised_is_nan
from raster_scenes import random_scene

from emogs import EmotionBasis, Gaussians, Rig
from emogs.ops import project_gaussians


def basis_gradients(scene, gaussians: Gaussians, emotion: torch.Tensor) -> dict[str, torch.Tensor]:
    fields = {name: t.clone().requires_grad_() for name, t in scene.basis.given().items()}
    with uninitialised_is_nan():
        splats = project_gaussians(gaussians, scene.cameras, emotion=emotion, basis=EmotionBasis(**fields))
        loss = splats.records[..., :7].sum() + splats.colors.square().sum()
        return dict(zip(fields, torch.autograd.grad(loss, list(fields.values())), strict=True))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("sh_degree", [None, 1])
@pytest.mark.parametrize("cameras", [1, 2])
@pytest.mark.parametrize("batch", [1, 3])
def test_every_number_is_written(batch, cameras, sh_degree, dtype, isa):
    """Culled Gaussians and weights of zero, too. Each element of a batch alone is the first of its own call."""
    shape = {"sh_degree": sh_degree, "channels": 5, "cameras": cameras, "components": 3, "batch": (batch,)}
    scene = random_scene(150, dtype=dtype, **shape)
    scene.gaussians.means[::4, 2] = 9  # behind the cameras
    scene.gaussians.means[128:140, 2] = 9
    scene.emotion[0, 1] = 0
    scene.emotion[-1, 2] = 0
    together = basis_gradients(scene, scene.gaussians, scene.emotion)
    alone = [basis_gradients(scene, scene.gaussians, emotion) for emotion in scene.emotion.split(1)]
    tolerance = {"rtol": 1e-4, "atol": 1e-4} if dtype == torch.float32 else {"rtol": 1e-10, "atol": 1e-10}
    for name, grad in together.items():
        total = sum(each[name] for each in alone)
        torch.testing.assert_close(grad, total, **tolerance, msg=lambda message, name=name: f"{name}: {message}")
        assert (grad[:, scene.gaussians.means[:, 2] == 9] == 0).all() and grad.norm() > 0
        assert (alone[0][name][1] == 0).all() and (alone[-1][name][2] == 0).all()


@pytest.mark.parametrize("empty", ["batch", "cameras"])
def test_zeros_where_nothing_runs(empty):
    batch, cameras = (0, 1) if empty == "batch" else (2, 0)
    scene = random_scene(5, cameras=cameras, batch=(batch,))
    assert all((grad == 0).all() for grad in basis_gradients(scene, scene.gaussians, scene.emotion).values())


def test_a_weight_of_zero_times_infinity_is_zero():
    """Of the gradients of one call, not only of those that are added to."""
    scene = random_scene(20, dtype=torch.float32, cameras=1, components=2, batch=(1,))
    scene.emotion[0, 1] = 0
    fields = {name: t.clone().requires_grad_() for name, t in scene.basis.given().items()}
    with uninitialised_is_nan():
        splats = project_gaussians(scene.gaussians, scene.cameras, emotion=scene.emotion, basis=EmotionBasis(**fields))
        grads = torch.autograd.grad(splats.colors, list(fields.values()), torch.full_like(splats.colors, torch.inf))
    assert grads[-1][0].isinf().any() and all((grad[1] == 0).all() for grad in grads)


def test_gradients_past_the_caches_are_the_same(isa):
    """Those of many Gaussians are streamed, whole cache lines at a time; of a few at a time they are stored."""
    count, components = 20_011, 18  # rows begin anywhere in a cache line
    scene = random_scene(count, dtype=torch.float32, cameras=1, components=components, batch=(1,))
    scene.gaussians.means[::4, 2] = 9  # behind the camera
    scene.emotion[0, 1] = 0
    together = basis_gradients(scene, scene.gaussians, scene.emotion)
    assert sum(grad.nbytes for grad in together.values()) > 16 << 20
    parts = []
    for part in (slice(0, 9001), slice(9001, count)):
        own = {name: t[part] for name, t in vars(scene.gaussians).items() if isinstance(t, torch.Tensor)}
        basis = EmotionBasis(**{name: t[:, part].contiguous() for name, t in scene.basis.given().items()})
        fewer = dataclasses.replace(scene, gaussians=Gaussians(**own), basis=basis)
        parts.append(basis_gradients(fewer, fewer.gaussians, scene.emotion))
    for name, grad in together.items():
        assert torch.equal(grad, torch.cat([part[name] for part in parts], 1)), name


@pytest.mark.parametrize("sh_degree", [None, 1])
@pytest.mark.parametrize("cameras", [1, 2])
def test_gradients_of_shared_gaussians_are_written_those_of_their_own_added(cameras, sh_degree, isa):
    """One row of Gaussians for three elements, or a copy for each: the first comes uninitialised."""
    scene = random_scene(150, cameras=cameras, sh_degree=sh_degree, components=3, batch=(3,))
    scene.gaussians.means[::4, 2] = 9  # behind the cameras
    given = {name: t for name, t in vars(scene.gaussians).items() if isinstance(t, torch.Tensor)}
    found = []
    for leading in ((), (3,)):
        own = {name: t.expand(*leading, *t.shape).clone().requires_grad_() for name, t in given.items()}
        frames = scene.rig.frames.clone().requires_grad_()
        arguments = {"emotion": scene.emotion, "basis": scene.basis, "rig": Rig(scene.rig.binding, frames)}
        with uninitialised_is_nan():
            splats = project_gaussians(Gaussians(**own), scene.cameras, **arguments)
            loss = splats.records[..., :7].sum() + splats.colors.square().sum()
            grads = torch.autograd.grad(loss, [*own.values(), frames])
        names = [*own, "frames"]
        found.append({n: g.sum(0) if leading and n in own else g for n, g in zip(names, grads, strict=True)})
    torch.testing.assert_close(*found, rtol=1e-10, atol=1e-10)
    assert all(grad.isfinite().all() and grad.norm() > 0 for grad in found[0].values())
