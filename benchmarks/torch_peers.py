"""The operations as one writes them in torch: what `emogs bench peers` and `ratios` measure emogs against.

Each is vectorised as far as torch's operators go, differentiable by autograd, and compiles under torch.compile.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import roma
import torch
from torch import Tensor
from torch.nn import functional

from emogs.ops import RasterSettings, Tiles
from emogs.ops.tiles import TILE_SIZE


def plain_norm(x: Tensor, scale: Tensor, shift: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Layer norm with a scale and shift [B, C] for each sample, in the type of x [B, T, C]."""
    normalized = functional.layer_norm(x, x.shape[-1:], weight.to(x.dtype), bias.to(x.dtype), 1e-6)
    return normalized * (1 + scale[:, None].to(x.dtype)) + shift[:, None].to(x.dtype)


def rig_frames(vertices: Tensor, faces: Tensor, rest: Tensor) -> Tensor:
    """[B, F, 8] rotation wxyz, centroid and scale of every face as csrc/math/rig.h defines them; none is degenerate."""

    def edges(points: Tensor) -> Tensor:
        a, b, c = points[..., faces, :].unbind(-2)
        return torch.stack([b - a, c - a], -1)  # [..., F, 3, 2]

    def around(gradients: Tensor) -> Tensor:
        for _ in range(2):
            at_vertices = gradients.new_zeros(*gradients.shape[:-3], len(rest), 3, 3)
            at_vertices = at_vertices.index_add(-3, faces.flatten(), gradients.repeat_interleave(3, -3))
            gradients = at_vertices[..., faces, :, :].sum(-3)
        return gradients

    before, after = edges(rest), edges(vertices)
    first, second = before.unbind(-1)
    own = torch.linalg.cross(first, second)
    unit = functional.normalize(own, dim=-1)
    weights = torch.stack([torch.linalg.cross(second, unit), torch.linalg.cross(unit, first)], -2)  # [F, 2, 3]
    rest_sums, sums = around(before @ weights), around(after @ weights)
    size = rest_sums.flatten(-2).norm(dim=-1)
    rows = (rest_sums / size[:, None, None]).unbind(-2)
    cofactors = torch.stack([torch.linalg.cross(rows[i - 2], rows[i - 1]) for i in range(3)], -2)
    z = functional.normalize((cofactors @ own[..., None])[..., 0], dim=-1)
    x = functional.normalize(first - (first * z).sum(-1, keepdim=True) * z, dim=-1)
    tangents = torch.stack([x, torch.linalg.cross(z, x)], -1)

    def axes(moved: Tensor) -> tuple[Tensor, Tensor]:
        a, b = moved.unbind(-1)
        normal = functional.normalize(torch.linalg.cross(a, b), dim=-1)
        along = functional.normalize(a + torch.linalg.cross(b, normal), dim=-1)
        return torch.stack([along, torch.linalg.cross(normal, along), normal], -1), moved.square().sum((-2, -1))

    (from_axes, from_stretch), (to_axes, to_stretch) = axes(rest_sums @ tangents), axes(sums @ tangents)
    quats = roma.quat_xyzw_to_wxyz(roma.rotmat_to_unitquat(to_axes @ from_axes.mT))
    quats = torch.where(quats[..., :1] < 0, -quats, quats)
    area, grown = own.square().sum(-1), torch.linalg.cross(*after.unbind(-1)).square().sum(-1)
    share = (size / 4096).square()
    scale = ((grown + share * (to_stretch / from_stretch).square()) / (area + share)) ** 0.25
    return torch.cat([quats, vertices[..., faces, :].mean(-2), scale[..., None]], -1)


@dataclass(frozen=True)
class TileGroup:
    """Tiles whose lists are padded to one length L."""

    tiles: Tensor
    """[G] which; the number of tiles where the group itself is padded."""
    ids: Tensor
    """[G, L] splats, near to far."""
    is_pair: Tensor
    """[G, L] False in the padding."""


def tile_groups(lists: Tiles, least: int = 256, elements: int = 1 << 21) -> list[TileGroup]:
    """The lists of one image for `blend`: lengths are powers of two from `least`, and groups of a length have one size
    of about `elements` pixels, since a compiler starts anew for every shape."""
    groups, lengths = [], lists.offsets.diff()
    rounded = 2 ** torch.ceil(torch.log2(lengths.clamp(min=least))).long()
    for length in rounded[lengths > 0].unique().tolist():
        members = torch.nonzero((rounded == length) & (lengths > 0))[:, 0]
        size = max(1, elements // (length * TILE_SIZE**2))
        steps = torch.arange(length, device=members.device)
        for tiles in members.split(size):
            is_pair = steps < lengths[tiles, None]
            ids = lists.ids[lists.offsets[tiles, None] + torch.where(is_pair, steps, 0)].long()
            rest = (0, 0, 0, size - len(tiles))
            padded = functional.pad(tiles, rest[2:], value=len(lengths))
            groups.append(TileGroup(padded, functional.pad(ids, rest), functional.pad(is_pair, rest)))
    return groups


def blend_group(records: Tensor, colors: Tensor, group: TileGroup, columns: int, settings: RasterSettings) -> Tensor:
    """[G, 256, D] colours of a group's pixels: the sum over i of c_i alpha_i T_i, T_i = product of 1 - alpha before."""
    splats = records[group.ids]
    steps = torch.arange(TILE_SIZE, device=records.device)
    x = TILE_SIZE * (group.tiles % columns)[:, None] + steps.repeat(TILE_SIZE) + 0.5
    y = TILE_SIZE * (group.tiles // columns)[:, None] + steps.repeat_interleave(TILE_SIZE) + 0.5
    dx, dy = splats[..., 0, None] - x[:, None], splats[..., 1, None] - y[:, None]
    a, b, c, opacity = (splats[..., k, None] for k in (2, 3, 4, 5))
    alpha = (opacity * torch.exp(-0.5 * (a * dx * dx + c * dy * dy) - b * dx * dy)).clamp(max=settings.alpha_ceiling)
    alpha = torch.where((alpha >= settings.alpha_cut) & group.is_pair[..., None], alpha, 0)
    after = torch.cumprod(1 - alpha, 1)
    before = torch.cat([torch.ones_like(after[:, :1]), after[:, :-1]], 1)
    weights = torch.where(after > settings.transmittance_stop, alpha * before, 0)
    return weights.mT @ colors[group.ids]


def blend(
    records: Tensor,
    colors: Tensor,
    groups: list[TileGroup],
    width: int,
    height: int,
    settings: RasterSettings,
    blend_group: Callable[..., Tensor] = blend_group,
) -> Tensor:
    """[H, W, D] of one image from records [N, 8] and colours [N, D]."""
    columns, rows = -(-width // TILE_SIZE), -(-height // TILE_SIZE)
    image = colors.new_zeros(columns * rows + 1, TILE_SIZE**2, colors.shape[-1])
    parts = [blend_group(records, colors, group, columns, settings) for group in groups]
    if parts:
        image = image.index_copy(0, torch.cat([group.tiles for group in groups]), torch.cat(parts))
    tiled = image[:-1].view(rows, columns, TILE_SIZE, TILE_SIZE, -1).transpose(1, 2)
    return tiled.reshape(rows * TILE_SIZE, columns * TILE_SIZE, -1)[:height, :width]
