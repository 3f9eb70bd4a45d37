"""Gaussians on the head's surface: one flat disc per texel, bound to its triangle, written in that triangle's frame.

A disc lies in the tangent plane. Its two axes follow the texture's footprint on the surface (the singular vectors of
d position / d texel), wide enough to close the gaps between neighbours; its thickness is a fraction of them, and its
third axis points out of the head.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import roma
import torch
from scipy.spatial import cKDTree
from torch import Tensor

from ..head.template import HeadTemplate
from ..head.uv import TexelMap
from .posing import rotate

OVERLAP = 0.9
"""Standard deviation of a disc in texel spacings. 0.75 closes the surface at rest, but a smile pulls slits into it."""
RIM_OVERLAP = 0.65
"""The same at the rims of lips and lids: wider discs would hang over teeth and eyes and halve a smile."""
RIM_REACH = 0.004
"""Metres from a rim over which the one becomes the other."""
FLATNESS = 0.1
"""Thickness of a disc relative to the smaller of its axes."""
AXES = (1e-4, 4e-3)
"""Metres; the least axis, for slivers of triangles would give invisible dust, and the greatest at full overlap."""
WIDE_OVERLAP = 0.5
"""Overlap of axes beyond the greatest. Crown and shoulders have texels of a centimetre; nothing pulls them apart, and
wider discs would blur the outline."""
NEEDLE = 0.5
"""Greatest such axis in longest edges of the disc's triangle: slivers would give long needles."""
ASPECT = 4.0
"""Greatest axis in the plane over the least, so that no disc is a needle."""
CLOSING = 0.5
"""Least axis in the gap that opens beside a disc's triangle as expressions stretch it: discs stay together in their
triangle, which grows away from the next one by (stretch - 1) of its breadth."""
WIDEST_CLOSING = 0.25
"""The same in breadths of the triangle, however far it stretches."""
UNMOVED = 1e-6
"""Metres below which an expression has not moved a vertex."""
LINING = "mouth_socket"
"""The part that hangs behind the lips, from their rims on: wide discs of it, sorted by their centres, show through."""
CLEARANCE, LEAST_CLEARANCE = 0.35, 8e-4
"""Greatest axis of its discs in distances from the skin, and metres that it may have at the very rim."""
SURFACE_OPACITY = 0.99


@dataclass(frozen=True)
class Surface:
    """Gaussians in the coordinates of the triangles they are bound to (N of them)."""

    means: Tensor  # [N, 3] metres
    quats: Tensor  # [N, 4] wxyz
    scales: Tensor  # [N, 3] metres
    binding: Tensor  # [N] int32 triangle

    @property
    def normals(self) -> Tensor:
        """[N, 3] unit normals in the triangles' coordinates."""
        return rotate(self.quats, self.means.new_tensor([0.0, 0.0, 1.0]).expand_as(self.means))


def texel_surface(template: HeadTemplate, texels: TexelMap, person: Tensor) -> Surface:
    """Discs on every texel of a neutral head.

    Args:
        person: [V, 3] the identity's neutral vertices, metres.
    """
    tangents = _texel_tangents(template, texels, person)
    u, extent, _ = torch.linalg.svd(tangents, full_matrices=True)
    edges = person[template.faces].roll(-1, 1) - person[template.faces]
    outward = torch.linalg.cross(edges[:, 0], edges[:, 1])[texels.face]
    first, second = u[..., 0], u[..., 1]
    normal = torch.linalg.cross(first, second)
    facing = torch.where((normal * outward).sum(1, keepdim=True) < 0, -1.0, 1.0)
    axes = torch.stack([first, facing * second, facing * normal], -1)
    points = texels.interpolate(template.faces, person)
    overlap = OVERLAP + (RIM_OVERLAP - OVERLAP) * _at_rims(template, person, points)[:, None]
    reach = NEEDLE * edges.norm(dim=2).amax(1)[texels.face, None]
    sides = torch.maximum((overlap * extent).clamp(*AXES), torch.minimum(WIDE_OVERLAP * extent, reach))
    longer = sides[:, 0]
    least = torch.minimum(_closing(template, texels.face, person, second), longer).clamp_max(AXES[1])
    least = torch.maximum(least, longer / ASPECT)
    sides = torch.stack([longer, torch.maximum(sides[:, 1], least)], 1)
    sides = torch.minimum(sides, _clearance(template, texels.face, person, points))
    scales = torch.cat([sides, FLATNESS * sides[:, 1:]], 1)
    quats = roma.quat_xyzw_to_wxyz(roma.rotmat_to_unitquat(axes))
    return bind(points, quats, scales, texels.face, template, person)


def bind(
    points: Tensor, quats: Tensor, scales: Tensor, face: Tensor, template: HeadTemplate, person: Tensor
) -> Surface:
    """Gaussians given in head space, rewritten in the coordinates of the triangles `face` [N] of a neutral head.

    A face's coordinates have head space's axes and the neutral triangle's centroid as origin; see `rig_frames`.
    """
    centroids = person[template.faces[face]].mean(1)
    return Surface(points - centroids, quats, scales, face.int())


def _at_rims(template: HeadTemplate, person: Tensor, points: Tensor) -> Tensor:
    """[N] 1 at points [N, 3] on the line where lips or lids meet, 0 from RIM_REACH on."""
    share = torch.linspace(0, 1, 9)[:-1, None, None]
    rims = [person[template.landmarks[first:last]] for first, last in ((36, 42), (42, 48), (60, 68))]
    lines = torch.cat([(rim * (1 - share) + rim.roll(-1, 0) * share).reshape(-1, 3) for rim in rims])
    return (1 - torch.cdist(points, lines).amin(1) / RIM_REACH).clamp_min(0)


def _closing(template: HeadTemplate, face: Tensor, person: Tensor, across: Tensor) -> Tensor:
    """[N] metres of the least axis, `across` [N, 3], that closes what single expressions open beside triangles [N]."""
    along = (person[template.faces[face]] @ across[..., None])[..., 0]
    share = (CLOSING * (_greatest_stretch(template)[face] - 1)).clamp(0, WIDEST_CLOSING)
    return share * (along.amax(1) - along.amin(1))


@lru_cache(maxsize=1)
@torch.inference_mode(False)
def _greatest_stretch(template: HeadTemplate) -> Tensor:
    """[F] how much longer any expression alone, at 1, makes a line in a triangle of the mean head.

    The square of the greatest stretch is the larger eigenvalue of G G0^-1, where G and G0 are the inner products of two
    edges, worn and at rest. Most channels leave most triangles alone, which are skipped.
    """
    faces, rest = template.faces, template.vertices
    p, q, r = _edge_products(rest[faces])
    area = p * r - q * q
    worn = template.deform(expression=torch.eye(len(template.expression)).to(rest))
    moved = (worn - rest).abs().amax(-1) > UNMOVED
    channel, face = (moved[:, faces].any(-1) & (area > 0)).nonzero(as_tuple=True)
    a, b, c = _edge_products(worn[channel[:, None], faces[face]])
    p, q, r, area = p[face], q[face], r[face], area[face]
    half = 0.5 * (a * r - 2 * b * q + c * p) / area
    largest = half + (half.square() - (a * c - b * b) / area).clamp_min(0).sqrt()
    return rest.new_ones(len(faces)).scatter_reduce(0, face, largest.sqrt(), "amax")


def _edge_products(corners: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """u . u, u . v and v . v [T] of the edges u, v from the first of a triangle's corners [T, 3, 3]."""
    u, v = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    return (u * u).sum(-1), (u * v).sum(-1), (v * v).sum(-1)


def _clearance(template: HeadTemplate, face: Tensor, person: Tensor, points: Tensor) -> Tensor:
    """[N, 1] metres that an axis may have at points [N, 3] on triangles [N]: in the mouth's lining what CLEARANCE says,
    elsewhere as much as it likes."""
    limit = torch.full((len(points), 1), float("inf"))
    if LINING in template.part_names and "skin" in template.part_names:
        within = template.face_part[face] == template.part_names.index(LINING)
        skin = person[template.faces[template.face_part == template.part_names.index("skin")].unique()]
        distance = cKDTree(skin.numpy()).query(points[within].numpy())[0]
        limit[within, 0] = torch.from_numpy(distance).to(limit).mul(CLEARANCE).clamp_min(LEAST_CLEARANCE)
    return limit


def _texel_tangents(template: HeadTemplate, texels: TexelMap, person: Tensor) -> Tensor:
    """[N, 3, 2] displacement on the surface for one texel to the right and one down."""
    flat = template.uv[template.faces_uv] * texels.size
    corners = person[template.faces]
    edges = torch.stack([corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]], -1)
    steps = torch.stack([flat[:, 1] - flat[:, 0], flat[:, 2] - flat[:, 0]], -1)
    used = texels.face
    return edges[used] @ torch.linalg.inv(steps[used])
