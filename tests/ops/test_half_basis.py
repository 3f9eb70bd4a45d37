"""An emotion basis stored as float16: converted exactly, on every instruction set, and differentiated."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from raster_scenes import random_scene

import emogs
from emogs import EmotionBasis, Gaussians, RasterSettings
from emogs.checks import Arguments
from emogs.ops import project_gaussians
from emogs.ops.project import make_scene

FIELDS = [f.name for f in dataclasses.fields(EmotionBasis)]


def in_half(basis: EmotionBasis, names: list[str]) -> EmotionBasis:
    return EmotionBasis(**{name: t.half() if name in names else t for name, t in basis.given().items()})


def as_type(basis: EmotionBasis, dtype: torch.dtype) -> EmotionBasis:
    return EmotionBasis(**{name: t.to(dtype) for name, t in basis.given().items()})


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("sh_degree", [None, 1])
@pytest.mark.parametrize("names", [FIELDS, *[[name] for name in FIELDS]], ids=lambda n: n[0] if len(n) == 1 else "all")
def test_equals_the_same_basis_converted(names, sh_degree, dtype, isa):
    scene = random_scene(67, dtype=dtype, sh_degree=sh_degree, channels=5, components=3)
    half = in_half(scene.basis, names)
    results = [
        project_gaussians(scene.gaussians, scene.cameras, emotion=scene.emotion, basis=basis, rig=scene.rig)
        for basis in (half, as_type(half, dtype))
    ]
    assert torch.equal(results[0].records, results[1].records)
    assert torch.equal(results[0].colors, results[1].colors)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shift", [0, 1])  # a register's worth of patterns begins elsewhere, and the last is not full
def test_every_pattern_is_converted_exactly(dtype, shift, isa):
    """As colours of black Gaussians; infinities and NaN are culled and counted."""
    patterns = torch.arange(2**16, dtype=torch.int32).to(torch.int16).roll(shift).view(torch.float16)
    patterns = torch.cat([patterns, patterns[:1]])
    count, scene = len(patterns), random_scene(1, dtype=dtype, cameras=1, spread=0.0)
    g = scene.gaussians
    many = [t.expand(count, *t.shape[1:]) for t in (g.means, g.quats, g.scales, g.opacities)]
    black = Gaussians(*many, colors=torch.zeros(count, 1, dtype=dtype))
    basis = EmotionBasis(colors=patterns.view(1, count, 1))
    splats = project_gaussians(black, scene.cameras, emotion=torch.ones(1, dtype=dtype), basis=basis)
    finite = patterns.isfinite()
    assert splats.non_finite.item() == (~finite).sum()
    assert torch.equal(splats.colors[0, :, 0], torch.where(finite, patterns.to(dtype), 0))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("sh_degree", [None, 1])
def test_gradients_are_those_of_the_converted_basis_rounded_once(sh_degree, dtype, isa):
    scene = random_scene(67, dtype=dtype, sh_degree=sh_degree, batch=(4,))
    half, grads = in_half(scene.basis, FIELDS), []
    for basis in (half, as_type(half, dtype)):
        fields = {name: t.detach().clone().requires_grad_() for name, t in basis.given().items()}
        emotion = scene.emotion.clone().requires_grad_()
        out = emogs.rasterize(scene.gaussians, scene.cameras, emotion=emotion, basis=EmotionBasis(**fields))
        grads.append(torch.autograd.grad(out.colors.square().sum(), [emotion, *fields.values()]))
    assert torch.equal(grads[0][0], grads[1][0])
    for ours, full in zip(grads[0][1:], grads[1][1:], strict=True):
        assert ours.dtype == torch.float16 and ours.norm() > 0
        assert torch.equal(ours, full.half())


def test_operation_is_sound():
    scene = random_scene(4, dtype=torch.float32)
    g, c = scene.gaussians, scene.cameras
    fields = [t.half() for t in scene.basis.given().values()]
    tensors = [g.means, g.quats, g.scales, g.opacities, g.colors, c.viewmats, c.Ks, scene.emotion, *fields]
    tensors = [t.clone().requires_grad_() for t in tensors]
    cameras = dataclasses.replace(c, viewmats=tensors[5], Ks=tensors[6])
    gaussians, emotion, basis = Gaussians(*tensors[:5]), tensors[7], EmotionBasis(*tensors[8:])
    arguments = make_scene(Arguments("test"), gaussians, cameras, emotion, basis, scene.rig, RasterSettings())
    torch.library.opcheck(torch.ops.emogs.project_gaussians, tuple(arguments))


def test_refusals():
    scene = random_scene(5)
    with pytest.raises(TypeError, match=r"means must be float32 or float64 or float16, got bfloat16"):
        as_type(scene.basis, torch.bfloat16)
    with pytest.raises(TypeError, match=r"colors must be float64 or float16, got float32"):
        dataclasses.replace(scene.basis, colors=scene.basis.colors.float())
    single = dataclasses.replace(in_half(scene.basis, FIELDS), colors=scene.basis.colors.float())
    with pytest.raises(TypeError, match=r"basis.colors must be float64 or float16, got float32"):
        project_gaussians(scene.gaussians, scene.cameras, emotion=scene.emotion, basis=single)
