"""The rasterizer in plain torch: one formula after the other, every Gaussian at every pixel, with autograd.

Written from architecture section 5 and the papers, not from the native code. Slow: meant for float64 and small scenes.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from emogs import Cameras, EmotionBasis, Gaussians, RasterSettings, Rig


class Cloud(NamedTuple):
    """N Gaussians without a batch; colours are [N, D] or harmonics [N, S, 3]."""

    means: Tensor
    quats: Tensor
    scales: Tensor
    opacities: Tensor
    colors: Tensor


def quat_multiply(a: Tensor, b: Tensor) -> Tensor:
    aw, ax, ay, az = a.unbind(-1)
    bw, bx, by, bz = b.unbind(-1)
    return torch.stack(
        [
            aw * bw - ax * bx - ay * by - az * bz,
            aw * bx + ax * bw + ay * bz - az * by,
            aw * by - ax * bz + ay * bw + az * bx,
            aw * bz + ax * by - ay * bx + az * bw,
        ],
        -1,
    )


def quat_matrix(quats: Tensor) -> Tensor:
    w, x, y, z = torch.nn.functional.normalize(quats, dim=-1).unbind(-1)
    entries = [
        1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y),
        2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x),
        2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y),
    ]  # fmt: skip
    return torch.stack(entries, -1).unflatten(-1, (3, 3))


def modulate(cloud: Cloud, weights: Tensor, basis: EmotionBasis) -> Cloud:
    """The cloud under the weights [K]."""

    def total(field: Tensor | None) -> Tensor | float:
        return 0.0 if field is None else torch.tensordot(weights, field, 1)

    half = 0.5 * total(basis.rotations) + torch.zeros_like(cloud.means)
    angle = half.norm(dim=-1, keepdim=True)
    turn = torch.cat([angle.cos(), torch.sinc(angle / math.pi) * half], -1)
    colors = cloud.colors
    if basis.colors is not None and colors.dim() == 3:
        colors = torch.cat([colors[:, :1] + total(basis.colors)[:, None], colors[:, 1:]], 1)
    elif basis.colors is not None:
        colors = colors + total(basis.colors)
    scales = cloud.scales * torch.exp(total(basis.log_scales) + torch.zeros_like(cloud.scales))
    opacities = torch.sigmoid(torch.logit(cloud.opacities) + total(basis.logit_opacities))
    return Cloud(cloud.means + total(basis.means), quat_multiply(cloud.quats, turn), scales, opacities, colors)


def carry(cloud: Cloud, frames: Tensor) -> Cloud:
    """The cloud in the frames [N, 8] of its faces, into world coordinates."""
    rotation, translation, scale = frames[:, :4], frames[:, 4:7], frames[:, 7:]
    means = scale * (quat_matrix(rotation) @ cloud.means[..., None])[..., 0] + translation
    return cloud._replace(means=means, quats=quat_multiply(rotation, cloud.quats), scales=scale * cloud.scales)


def harmonics(directions: Tensor, count: int) -> Tensor:
    """[N, count] real spherical harmonics of unit directions [N, 3] by the recurrence of the Legendre functions."""
    x, y, z = directions.unbind(-1)
    values = []
    for degree in range(math.isqrt(count)):
        for order in range(-degree, degree + 1):
            m = abs(order)
            previous, legendre = torch.zeros_like(z), torch.full_like(z, math.prod(range(1, 2 * m, 2)))
            for l in range(m + 1, degree + 1):  # noqa: E741
                previous, legendre = legendre, ((2 * l - 1) * z * legendre - (l + m - 1) * previous) / (l - m)
            azimuth = torch.complex(x, y) ** m
            norm = math.sqrt((2 * degree + 1) / (4 * math.pi) * math.factorial(degree - m) / math.factorial(degree + m))
            sign = (-1) ** m * (math.sqrt(2) if m else 1.0)
            values.append(sign * norm * legendre * (azimuth.imag if order < 0 else azimuth.real))
    return torch.stack(values, -1)


class Screen(NamedTuple):
    """Splats of one camera."""

    means: Tensor  # [N, 2]
    covariances: Tensor  # [N, 2, 2], blur included
    depths: Tensor  # [N]
    opacities: Tensor
    colors: Tensor  # [N, D], or [N, D + 3] with normals


def pinhole_pixels(points: Tensor, K: Tensor, width: int, height: int) -> tuple[Tensor, Tensor]:
    """Pixels [N, 2] and Jacobians [N, 2, 3], those taken where the pixel is clamped to the enlarged image."""
    x, y, z = points.unbind(-1)
    u, v = K[0, 0] * x / z + K[0, 2], K[1, 1] * y / z + K[1, 2]
    clamped_u = u.clamp(-0.15 * width, 1.15 * width) - K[0, 2]
    clamped_v = v.clamp(-0.15 * height, 1.15 * height) - K[1, 2]
    zero = torch.zeros_like(z)
    rows = [K[0, 0] / z, zero, -clamped_u / z, zero, K[1, 1] / z, -clamped_v / z]
    return torch.stack([u, v], -1), torch.stack(rows, -1).unflatten(-1, (2, 3))


def ortho_pixel(point: Tensor, K: Tensor) -> Tensor:
    return point[:2] * K.diagonal()[:2] + K[:2, 2]


def fisheye_pixel(point: Tensor, K: Tensor) -> Tensor:
    """At a distance from the centre that is proportional to the angle to the axis; not for points on the axis."""
    radius = point[:2].norm()
    return point[:2] / radius * torch.atan2(radius, point[2]) * K.diagonal()[:2] + K[:2, 2]


def project(
    cloud: Cloud,
    view: Tensor,
    K: Tensor,
    width: int,
    height: int,
    settings: RasterSettings,
    turns: Tensor | None,
    model: str = "pinhole",
) -> Screen:
    """`turns` [N, 4]: rotations of the faces, which harmonics take part in."""
    points = cloud.means @ view[:3, :3].T + view[:3, 3]
    if model == "pinhole":
        pixels, jacobian = pinhole_pixels(points, K, width, height)
    else:
        pixel = {"ortho": ortho_pixel, "fisheye": fisheye_pixel}[model]
        pixels = torch.func.vmap(pixel, (0, None))(points, K)
        jacobian = torch.func.vmap(torch.func.jacfwd(pixel), (0, None))(points, K)
    shape = quat_matrix(cloud.quats) * cloud.scales[:, None]
    factor = jacobian @ view[:3, :3] @ shape
    sharp = factor @ factor.mT
    covariances = sharp + settings.blur * torch.eye(2, dtype=points.dtype)
    opacities = cloud.opacities
    if settings.antialiased:
        opacities = opacities * torch.sqrt(torch.linalg.det(sharp) / torch.linalg.det(covariances))
    colors = cloud.colors
    if colors.dim() == 3:
        seen = cloud.means - torch.linalg.inv(view)[:3, 3]
        if turns is not None:
            seen = (quat_matrix(turns).mT @ seen[..., None])[..., 0]
        basis = harmonics(torch.nn.functional.normalize(seen, dim=-1), colors.shape[1])
        colors = (torch.einsum("ns,nsc->nc", basis, colors) + 0.5).clamp(min=0)
    if settings.normals:
        colors = torch.cat([colors, facing_normals(cloud, view, model)], -1)
    return Screen(pixels, covariances, points[:, 2], opacities, colors)


def facing_normals(cloud: Cloud, view: Tensor, model: str) -> Tensor:
    """Shortest axes [N, 3], in the direction against the ray from the camera; orthographic rays are parallel."""
    index = cloud.scales.argmin(-1)[:, None, None].expand(-1, 3, 1)
    axes = quat_matrix(cloud.quats).gather(2, index)[..., 0]
    inverse = torch.linalg.inv(view.detach())
    rays = inverse[:3, 2].expand_as(axes) if model == "ortho" else cloud.means.detach() - inverse[:3, 3]
    return torch.where(((axes * rays).sum(-1) > 0)[:, None], -axes, axes)


def composite(screen: Screen, width: int, height: int, background: Tensor | None, settings: RasterSettings):
    """Colours [H, W, D], alphas [H, W, 1], depths [H, W, 1] of one image: medians, or sums of weight times depth."""
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    pixels = torch.stack([columns, rows], -1).to(screen.means) + 0.5
    conics = torch.linalg.inv(screen.covariances)
    transmittance = torch.ones(height, width).to(screen.means)
    is_open = torch.ones(height, width, dtype=torch.bool)
    color = torch.zeros(height, width, screen.colors.shape[-1]).to(screen.means)
    depth = torch.zeros_like(transmittance)
    for i in torch.argsort(screen.depths, stable=True).tolist():
        if not settings.near <= screen.depths[i] <= settings.far:
            continue
        offset = screen.means[i] - pixels
        sigma = 0.5 * torch.einsum("hwi,ij,hwj->hw", offset, conics[i], offset)
        alpha = (screen.opacities[i] * torch.exp(-sigma)).clamp(max=settings.alpha_ceiling)
        alpha = torch.where(alpha >= settings.alpha_cut, alpha, torch.zeros_like(alpha))
        remaining = transmittance * (1 - alpha)
        is_open = is_open & (remaining > settings.transmittance_stop)
        weight = torch.where(is_open, alpha * transmittance, torch.zeros_like(alpha))
        color = color + weight[..., None] * screen.colors[i]
        if settings.depth == "median":
            crosses = is_open & (transmittance > 0.5) & (remaining <= 0.5)
            depth = torch.where(crosses, screen.depths[i], depth)
        else:
            depth = depth + weight * screen.depths[i]
        transmittance = torch.where(is_open, remaining, transmittance)
    if background is not None:
        color[..., : len(background)] += transmittance[..., None] * background
    return color, 1 - transmittance[..., None], depth[..., None]


def render(
    gaussians: Gaussians,
    cameras: Cameras,
    emotion: Tensor | None = None,
    basis: EmotionBasis | None = None,
    rig: Rig | None = None,
    background: Tensor | None = None,
    settings: RasterSettings = RasterSettings(),
) -> tuple[Tensor, Tensor, Tensor]:
    """What `emogs.rasterize` must draw: colours (and normals behind them), alphas, accumulated depths. `background` is
    [D]."""
    colors = gaussians.sh if gaussians.colors is None else gaussians.colors
    stored = Cloud(gaussians.means, gaussians.quats, gaussians.scales, gaussians.opacities, colors)
    batches = [gaussians.batch, cameras.batch] + [
        [] if t is None else t.shape[:-k] for t, k in ((emotion, 1), (rig and rig.frames, 2))
    ]
    batch = torch.broadcast_shapes(*batches)

    def rows(tensor: Tensor, lead: torch.Size) -> Tensor:
        own = tensor.shape[len(lead) :]
        return tensor.expand(*batch, *own).reshape(batch.numel(), *own)

    images = []
    for element in range(batch.numel()):
        cloud = Cloud(*(rows(t, gaussians.batch)[element] for t in stored))
        turns = None
        if emotion is not None:
            cloud = modulate(cloud, rows(emotion, emotion.shape[:-1])[element], basis)
        if rig is not None:
            frames = rows(rig.frames, rig.frames.shape[:-2])[element, rig.binding.long()]
            cloud, turns = carry(cloud, frames), frames[:, :4]
        for view, K in zip(
            rows(cameras.viewmats, cameras.batch)[element], rows(cameras.Ks, cameras.batch)[element], strict=True
        ):
            screen = project(cloud, view, K, cameras.width, cameras.height, settings, turns, cameras.model)
            images.append(composite(screen, cameras.width, cameras.height, background, settings))
    return tuple(torch.stack(i).unflatten(0, (*batch, cameras.count)) for i in zip(*images, strict=True))
