"""Frames of mesh faces in plain torch, for what the operation leaves out: their gradient by the mesh at rest.

The formulas are those of csrc/math/rig.h and are explained there; a test holds the two together.
"""

from __future__ import annotations

import roma
import torch
from torch import Tensor

DEGENERATE = 1e-6
"""kDegenerate of csrc/math/rig.h"""
AREA_SHARE = 1 / 4096
"""kAreaShare of csrc/math/rig.h"""


def with_rest_gradient(frames: Tensor, vertices: Tensor, faces: Tensor, rest: Tensor) -> Tensor:
    """The very frames [B, F, 8], with a gradient by `rest` besides those that they have."""
    known = faces.long().clamp(0, len(rest) - 1)  # frames of others are NaN already
    again = frames_by_torch(vertices.detach(), known, rest)
    # q and -q are one rotation; which of them is the operation's choice
    flipped = (again[..., :4] * frames[..., :4]).sum(-1, keepdim=True).detach() < 0
    again = torch.cat([torch.where(flipped, -again[..., :4], again[..., :4]), again[..., 4:]], -1)
    return frames + (again - again.detach())


def frames_by_torch(vertices: Tensor, faces: Tensor, rest: Tensor) -> Tensor:
    """`rig_frames` [B, F, 8], differentiable by autograd in vertices and rest, but for the signs of quaternions."""
    home, corners = rest[faces], vertices[:, faces]  # [F, 3, 3], [B, F, 3, 3] corner, then coordinate
    weights = _corner_weights(home)
    home_sums = _around(_gradients(home[None], weights), faces, len(rest))[0]
    sums = _around(_gradients(corners, weights), faces, len(rest))

    size = torch.linalg.vector_norm(home_sums, dim=(-2, -1))  # [F]
    sound = size > 0
    home_sums, sums = (m / torch.where(sound, size, 1)[:, None, None] for m in (home_sums, sums))
    tangents = _tangents(_patch_normal(home_sums, _area_vector(home)))
    before, before_stretch, flat_before = _axes(home_sums @ tangents)
    after, after_stretch, flat_after = _axes(sums @ tangents)
    fallen = flat_before | flat_after
    turn = torch.where(fallen[..., None, None], torch.eye(3).to(rest), after @ before.mT)
    rotation = roma.quat_xyzw_to_wxyz(roma.rotmat_to_unitquat(turn))

    shared = (AREA_SHARE * size).square()
    around = after_stretch / torch.where(sound, before_stretch, 1)
    area, home_area = (_area_vector(mesh).square().sum(-1) for mesh in (corners, home))
    power = (area + shared * around.square()) / torch.where(sound, home_area + shared, 1)
    alive = sound & (power > 0)  # a point has no gradient
    scale = torch.where(alive, torch.where(alive, power, 1) ** 0.25, (~sound).to(power))
    return torch.cat([rotation, corners.mean(2), scale[..., None]], -1)


def _corner_weights(home: Tensor) -> Tensor:
    """[F, 2, 3] gradients of the second and third barycentric coordinates, times twice the area; 0 for a line."""
    first, second = home[:, 1] - home[:, 0], home[:, 2] - home[:, 0]
    normal = torch.linalg.cross(first, second)
    bound = DEGENERATE * (first.square().sum(-1) * second.square().sum(-1)).detach().sqrt()
    sound = (normal.detach().norm(dim=-1) > bound)[:, None]
    unit = _unit(torch.where(sound, normal, 1))
    weights = torch.stack([torch.linalg.cross(second, unit), torch.linalg.cross(unit, first)], 1)
    return torch.where(sound[..., None], weights, 0)


def _gradients(corners: Tensor, weights: Tensor) -> Tensor:
    """[B, F, 3, 3] deformation gradients times twice the rest area."""
    return (corners[..., 1:, :] - corners[..., :1, :]).mT @ weights


def _around(gradients: Tensor, faces: Tensor, count: int) -> Tensor:
    """[B, F, 3, 3] summed at vertices, around faces, and both again."""
    for _ in range(2):
        at_vertices = gradients.new_zeros(len(gradients), count, 3, 3)
        for corner in faces.unbind(1):
            at_vertices = at_vertices.index_add(1, corner, gradients)
        gradients = at_vertices[:, faces].sum(2)
    return gradients


def _patch_normal(sums: Tensor, own: Tensor) -> Tensor:
    """[F, 3] the unit direction that sums [F, 3, 3] take nearest to zero, the nearest to the triangle's own normal."""
    one, two, three = sums.unbind(1)
    rows = torch.stack(
        [torch.linalg.cross(two, three), torch.linalg.cross(three, one), torch.linalg.cross(one, two)], 1
    )
    squared = rows.square().sum(-1)
    longest = squared.argmax(1, keepdim=True)
    row = rows.gather(1, longest[..., None].expand(-1, 1, 3))[:, 0]
    near = (rows @ own[..., None])[..., 0]
    clear = near.square().sum(-1) > 0.01 * squared.amax(1) * own.square().sum(-1)
    return _unit(torch.where(clear[:, None], near, row))


def _tangents(normal: Tensor) -> Tensor:
    """[F, 3, 2] unit vectors across a normal [F, 3]; frames do not depend on which."""
    axis = torch.eye(3).to(normal)[normal.detach().abs().argmin(-1)]
    x = _unit(torch.linalg.cross(axis, normal))
    return torch.stack([x, torch.linalg.cross(normal, x)], -1)


def _axes(tangents: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Where tangents [..., 3, 2] went: the nearest rotation [..., 3, 3], squared stretch, whether it is a line."""
    a, b = tangents.unbind(-1)
    normal, stretch = torch.linalg.cross(a, b), tangents.square().sum((-2, -1))
    flat = ~(normal.detach().norm(dim=-1) > DEGENERATE * stretch.detach())
    z = _unit(torch.where(flat[..., None], 1, normal))
    x = _unit(torch.where(flat[..., None], 1, a + torch.linalg.cross(b, z)))
    return torch.stack([x, torch.linalg.cross(z, x), z], -1), stretch, flat


def _area_vector(triangles: Tensor) -> Tensor:
    """[..., 3] along the normals of triangles [..., 3, 3], twice their area long."""
    a, b, c = triangles.unbind(-2)
    return torch.linalg.cross(b - a, c - a)


def _unit(vectors: Tensor) -> Tensor:
    """[..., 3] in the same directions; zero stays zero."""
    length = torch.linalg.vector_norm(vectors, dim=-1, keepdim=True)
    return vectors / torch.where(length > 0, length, 1)
