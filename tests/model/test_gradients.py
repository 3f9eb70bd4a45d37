"""Gradients of an avatar's pictures by emotion, articulation, Gaussians, identity: those of float64 differences."""

from copy import deepcopy
from dataclasses import fields, is_dataclass, replace

import pytest
import torch

FEWER = 40
"""One Gaussian of so many is drawn, six times as large: what is tested does not need them all."""
STEP = 1e-6
"""So short that between two pictures no splats change places in depth, and none a pixel's list."""


def doubled(value):
    """The same in float64, all through."""
    if isinstance(value, torch.nn.Module):
        return deepcopy(value).double()
    if isinstance(value, torch.Tensor):
        return value.double() if value.is_floating_point() else value
    if isinstance(value, tuple):
        return tuple(map(doubled, value))
    if is_dataclass(value):
        return replace(value, **{field.name: doubled(getattr(value, field.name)) for field in fields(value)})
    return value


@pytest.fixture(scope="module")
def exact(avatar):
    """The avatar in float64, of fewer Gaussians."""

    def some(record, rows):
        present = {f.name: getattr(record, f.name) for f in fields(record) if getattr(record, f.name) is not None}
        return replace(record, **{name: value[rows] for name, value in present.items()})

    cloud = some(avatar.gaussians, slice(None, None, FEWER))
    basis = some(avatar.baked.basis, (slice(None), slice(None, None, FEWER)))
    return doubled(
        replace(
            avatar,
            gaussians=replace(cloud, scales=6 * cloud.scales),
            binding=avatar.binding[::FEWER],
            baked=replace(avatar.baked, basis=basis),
        )
    )


def random(*shape, seed):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def brightness(avatar, emotion, articulation):
    """One number of a picture, in which every pixel counts otherwise."""
    cameras = doubled(avatar.orbit(20.0, size=48))
    return (avatar.render(cameras, emotion, articulation).colors * random(48, 48, 3, seed=0)).sum()


def mixed():
    """A code and an articulation away from the kinks of mixing and of [0, 1]."""
    code = torch.tensor([0.31, 0.05, 0.17, 0.08, 0.11, 0.03, 0.02], dtype=torch.float64)
    return code, 0.05 + 0.3 * random(52, seed=1)


@pytest.mark.parametrize("seed", range(3))
def test_by_emotion_and_articulation(exact, seed):
    inputs = [value.requires_grad_() for value in mixed()]
    grads = torch.autograd.grad(brightness(exact, *inputs), inputs)
    along = [random(*value.shape, seed=seed) - 0.5 for value in inputs]
    with torch.no_grad():
        ahead, behind = (
            brightness(exact, *(value + sign * STEP * way for value, way in zip(inputs, along, strict=True)))
            for sign in (1, -1)
        )
    slope = sum((grad * way).sum() for grad, way in zip(grads, along, strict=True))
    torch.testing.assert_close(slope, (ahead - behind) / (2 * STEP), rtol=1e-5, atol=1e-5)


def test_at_rest_they_are_the_slopes_of_first_emotions_and_first_movements(exact):
    """Intensities begin at zero, so differences are taken to one side."""
    still = [torch.zeros(size, dtype=torch.float64, requires_grad=True) for size in (7, 52)]
    grads = torch.cat(torch.autograd.grad(brightness(exact, *still), still))
    moved = [*range(7), *(7 + exact.template.channel(name) for name in ("jawOpen", "eyeBlinkLeft", "mouthSmileRight"))]
    with torch.no_grad():
        rest, first = brightness(exact, *still), STEP * torch.eye(59, dtype=torch.float64)[moved]
        slopes = torch.stack([brightness(exact, row[:7], row[7:]) - rest for row in first]) / STEP
    torch.testing.assert_close(grads[moved], slopes, rtol=1e-4, atol=1e-3)  # curvature times the step


def test_meshes_and_frames_have_them_too(exact):
    for place in (exact.expression, exact.vertices, exact.frames):
        code, articulation = (value.requires_grad_() for value in mixed())
        out = place(code, articulation)
        way = random(*out.shape, seed=2)
        grads = torch.autograd.grad((out * way).sum(), (code, articulation))
        for grad, (value, other), first in zip(
            grads, ((code, articulation), (articulation, code)), (True, False), strict=True
        ):
            along = random(*value.shape, seed=3) - 0.5

            def at(step, value=value, other=other, along=along, first=first, place=place, way=way):
                moved = value + step * along
                return (place(*((moved, other) if first else (other, moved))) * way).sum()

            with torch.no_grad():
                slope = (at(STEP) - at(-STEP)) / (2 * STEP)
            torch.testing.assert_close((grad * along).sum(), slope, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("seed", range(2))
def test_by_identity(exact, seed):
    """Of a face in motion: the mesh and what it was at rest both follow the identity."""
    identity, along = exact.identity.clone().requires_grad_(), random(len(exact.identity), seed=seed) - 0.5
    (grad,) = torch.autograd.grad(brightness(replace(exact, identity=identity), *mixed()), identity)
    with torch.no_grad():
        ahead, behind = (
            brightness(replace(exact, identity=identity + step * along), *mixed()) for step in (STEP, -STEP)
        )
    torch.testing.assert_close((grad * along).sum(), (ahead - behind) / (2 * STEP), rtol=1e-5, atol=1e-5)


def test_by_gaussians(exact):
    means = exact.gaussians.means.clone().requires_grad_()
    along = 1e-3 * (random(*means.shape, seed=4) - 0.5)

    def at(places):
        return brightness(replace(exact, gaussians=replace(exact.gaussians, means=places)), *mixed())

    (grad,) = torch.autograd.grad(at(means), means)
    with torch.no_grad():
        slope = (at(means + STEP * along) - at(means - STEP * along)) / (2 * STEP)
    torch.testing.assert_close((grad * along).sum(), slope, rtol=1e-4, atol=1e-5)


def test_splats_have_them(exact):
    code, articulation = (value.requires_grad_() for value in mixed())
    means = exact.posed(code, articulation).means
    assert all(grad.any() for grad in torch.autograd.grad(means.sum(), (code, articulation)))


def test_trained_parts_have_them_and_nothing_else_keeps_a_graph(avatar):
    cameras = avatar.orbit(size=32)
    assert not avatar.render(cameras, "happy").colors.requires_grad
    trained = replace(avatar, geometry=deepcopy(avatar.geometry).requires_grad_())
    (grad,) = torch.autograd.grad(trained.render(cameras, "happy").colors.sum(), trained.geometry.offset)
    assert grad.any()
