"""Scenes as dictionaries of tensors: all fields, leaves to differentiate by, images with all gradients."""

from __future__ import annotations

import dataclasses

import torch
from raster_scenes import RandomScene

import emogs
from emogs import Gaussians

FIELDS = ("means", "quats", "scales", "opacities")


def images(out: emogs.Rendering) -> list[torch.Tensor]:
    return [out.colors, out.alphas, out.depths]


def assert_same(left, right) -> None:
    assert len(left) == len(right)
    for a, b in zip(left, right, strict=True):
        assert a.shape == b.shape and torch.equal(a, b)


def stored(gaussians: Gaussians) -> dict[str, torch.Tensor]:
    tensors = {name: getattr(gaussians, name) for name in (*FIELDS, "colors", "sh")}
    return {name: value for name, value in tensors.items() if value is not None}


def change(gaussians: Gaussians, function, *names: str) -> Gaussians:
    """The Gaussians with `function` applied to the named fields, or to all."""
    return Gaussians(**{n: function(v) if not names or n in names else v for n, v in stored(gaussians).items()})


def leaves_of(*objects) -> tuple[list, dict[str, torch.Tensor]]:
    """Copies whose floating tensors are leaves, and these by class and field."""
    copies, leaves = [], {}
    for item in objects:
        if isinstance(item, torch.Tensor):
            copies.append(item.detach().clone().requires_grad_())
            leaves[f"tensor {len(copies)}"] = copies[-1]
            continue
        new = {}
        for field in dataclasses.fields(item):
            value = getattr(item, field.name)
            if isinstance(value, torch.Tensor) and value.is_floating_point():
                new[field.name] = leaves[f"{type(item).__name__}.{field.name}"] = (
                    value.detach().clone().requires_grad_()
                )
        copies.append(dataclasses.replace(item, **new))
    return copies, leaves


def everything(scene: RandomScene, **more) -> dict[str, torch.Tensor]:
    """Images and all gradients of a scene, by name."""
    (g, cameras, emotion, basis, rig, background), leaves = leaves_of(
        scene.gaussians, scene.cameras, scene.emotion, scene.basis, scene.rig, scene.background
    )
    out = emogs.rasterize(g, cameras, emotion=emotion, basis=basis, rig=rig, background=background, **more)
    loss = out.colors.square().sum() + out.alphas.sum() + out.depths.sum()
    grads = dict(zip(leaves, torch.autograd.grad(loss, leaves.values()), strict=True))
    return dict(zip(("colors", "alphas", "depths"), images(out), strict=True)) | grads
