"""Scenes for benchmarks: what avatars and captured places look like to the kernels. Deterministic."""

from __future__ import annotations

import torch

import emogs


def head(count: int = 80_000, channels: int = 3) -> emogs.Gaussians:
    """Flat splats on an ellipsoid of a head's size, with some noise; their area does not depend on their number."""
    generator = torch.Generator().manual_seed(0)
    normal = torch.nn.functional.normalize(torch.randn(count, 3, generator=generator), dim=-1)
    quats = torch.nn.functional.normalize(
        torch.stack([1 + normal[:, 2], -normal[:, 1], normal[:, 0], 0 * normal[:, 0]], -1), dim=-1
    )
    size = 0.0011 * (80_000 / count) ** 0.5 * torch.exp(0.3 * torch.randn(count, 3, generator=generator))
    size[:, 2] *= 0.1
    return emogs.Gaussians(
        means=normal * torch.tensor([0.08, 0.12, 0.1]) + 0.0005 * torch.randn(count, 3, generator=generator),
        quats=quats,
        scales=size,
        opacities=0.3 + 0.69 * torch.rand(count, generator=generator),
        colors=torch.rand(count, channels, generator=generator),
    )


def head_cameras(width: int, height: int | None = None) -> emogs.Cameras:
    """One camera that sees the whole head, at any size of the image."""
    height = height or width
    view = emogs.look_at((0.25, 0.05, 1.2), (0.0, 0.0, 0.0))
    return emogs.Cameras(view[None], emogs.pinhole(width, height, 14.0)[None], width, height)


def head_basis(count: int, components: int = 16, channels: int = 3) -> emogs.EmotionBasis:
    """All five fields, small: splats stay about where they are and as large as they are."""
    generator = torch.Generator().manual_seed(1)

    def normal(deviation: float, *sizes: int) -> torch.Tensor:
        return deviation * torch.randn(components, count, *sizes, generator=generator)

    return emogs.EmotionBasis(
        means=normal(0.0002, 3),
        rotations=normal(0.02, 3),
        log_scales=normal(0.02, 3),
        logit_opacities=normal(0.05),
        colors=normal(0.05, channels),
    )


def moving_rig(count: int, batch: int, faces: int = 5000) -> emogs.Rig:
    """Every face of every batch element is turned and shifted a little."""
    generator = torch.Generator().manual_seed(2)
    frames = 0.01 * torch.randn(batch, faces, 8, generator=generator)
    frames[..., 0] = 1
    frames[..., 4:7] *= 0.02
    frames[..., 7] += 1
    return emogs.Rig(torch.randint(faces, (count,), generator=generator, dtype=torch.int32), frames)


def place(count: int = 1_000_000) -> emogs.Gaussians:
    """A captured place: splats of very different sizes through a deep volume in front of the camera."""
    generator = torch.Generator().manual_seed(3)
    depth = 1.5 * 10 ** torch.rand(count, 1, generator=generator)
    across = torch.rand(count, 2, generator=generator) * 2 - 1
    size = depth * 0.004 * torch.exp(0.8 * torch.randn(count, 3, generator=generator))
    return emogs.Gaussians(
        means=torch.cat([across * torch.tensor([1.0, 0.6]) * depth, depth], -1),
        quats=torch.randn(count, 4, generator=generator),
        scales=size,
        opacities=torch.rand(count, generator=generator),
        colors=torch.rand(count, 3, generator=generator),
    )


def place_cameras(width: int, height: int) -> emogs.Cameras:
    """Stands at the edge of `place` and looks into it."""
    return emogs.Cameras(torch.eye(4)[None], emogs.pinhole(width, height, 60.0)[None], width, height)


def modulated(gaussians: emogs.Gaussians, emotion: torch.Tensor, basis: emogs.EmotionBasis) -> emogs.Gaussians:
    """What one does without fused modulation: a changed copy of the Gaussians for each row of `emotion` [B, K]."""

    def total(field: torch.Tensor) -> torch.Tensor:
        return (emotion @ field.flatten(1)).view(len(emotion), *field.shape[1:])

    half = 0.5 * total(basis.rotations)
    angle = half.norm(dim=-1, keepdim=True)
    turn = torch.cat([angle.cos(), torch.sinc(angle / torch.pi) * half], -1)
    w, v = gaussians.quats[..., :1], gaussians.quats[..., 1:].expand_as(half)
    quats = torch.cat(
        [
            w * turn[..., :1] - (v * turn[..., 1:]).sum(-1, keepdim=True),
            w * turn[..., 1:] + turn[..., :1] * v + torch.linalg.cross(v, turn[..., 1:]),
        ],
        -1,
    )
    return emogs.Gaussians(
        means=gaussians.means + total(basis.means),
        quats=quats,
        scales=gaussians.scales * torch.exp(total(basis.log_scales)),
        opacities=torch.sigmoid(torch.logit(gaussians.opacities) + total(basis.logit_opacities)),
        colors=gaussians.colors + total(basis.colors),
    )
