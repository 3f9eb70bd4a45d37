"""Eyeballs, teeth, gums and tongue of the built-in head, from measured sections. Millimetres, head space."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from . import cage_points as points

IRIS_RADIUS, PUPIL_RADIUS = 6.0, 2.2
_CORNEA = 0.4  # how far the cornea bulges; less than life, so that the closing lid clears it
_EYE_RINGS = (9, 18, 25.4, 33, 46, 63, 86, 116, 150)  # degrees from the pupil's axis; 25.4 is the limbus
_EYE_SECTORS = 20

# Crown width and height from the midline outwards, upper and lower (Wheeler's averages, rounded).
_TEETH_UPPER = ((8.5, 10.5), (6.6, 9.3), (7.6, 10), (7, 8.5), (6.8, 8.3), (10, 7.5))
_TEETH_LOWER = ((5.2, 8.8), (5.7, 9), (6.8, 9.5), (7, 8.7), (7.1, 8), (11, 7.5))
_GROOVE, _NOTCH = 1.0, 0.07
"""Where two teeth meet: depth of the groove between them, mm; share of the crown by which their edges give way."""
_ARCH_UPPER, _ARCH_LOWER = (107.6, 29.0), (104.8, 27.0)
"""The dental arches: how far forward they reach and half their breadth."""
_TEETH_LEVELS = (0, 0.36, 0.7, 0.8, 1)
"""Where the rows of a crown's profile lie in its chart: two thirds in front; none on the centres of texels, where the
triangles above and below would tie."""
_ROUNDED = 3
"""From the midline outwards, crowns whose sides are rounded; those behind are seen too little to be worth vertices."""


@dataclass(frozen=True)
class Organ:
    """A closed or open triangle mesh with its own texture chart."""

    vertices: np.ndarray  # [V, 3]
    faces: np.ndarray  # [F, 3]
    chart: np.ndarray  # [V, 2] in [0, 1], to be placed into its rectangle of the texture
    mirror: np.ndarray  # [V] the mirrored vertex, of the other eye for eyes


def eyeball(side: int) -> Organ:
    """The left (+1) or right (-1) eyeball; vertex 0 is the pupil's centre, the last vertex the back pole."""
    ring = np.radians(np.array(_EYE_RINGS))[:, None]
    sector = np.linspace(0, 2 * np.pi, _EYE_SECTORS, endpoint=False)[None]
    angle = np.concatenate([[0.0], np.repeat(ring, _EYE_SECTORS), [np.pi]])
    turn = np.concatenate([[0.0], np.broadcast_to(sector, (len(ring), _EYE_SECTORS)).ravel(), [0.0]])
    limbus = np.arcsin(IRIS_RADIUS / points.EYE_RADIUS)
    radius = points.EYE_RADIUS + _CORNEA * np.clip(1 - (angle / limbus) ** 2, 0, 1)
    direction = np.stack([np.sin(angle) * np.cos(turn), np.sin(angle) * np.sin(turn), np.cos(angle)], -1)
    vertices = direction * radius[:, None] + points.EYE_CENTRE
    spread = np.interp(angle, [0, limbus, np.radians(63), np.pi], [0, 0.26, 0.43, 0.5])
    chart = 0.5 + spread[:, None] * np.stack([np.cos(turn), -np.sin(turn)], -1)
    chart[-1] = chart[-1] * 0 + [1.0, 0.5]
    faces = _closed_tube(len(_EYE_RINGS), _EYE_SECTORS)
    faces = faces[(faces != len(vertices) - 1).all(1)]  # the back pole would need a seam; nobody sees it
    vertices, chart = vertices[:-1], chart[:-1]
    if side < 0:
        vertices, chart, faces = vertices * [-1, 1, 1], chart * [-1, 1] + [1, 0], faces[:, [0, 2, 1]]
    return Organ(vertices, faces, chart, np.arange(len(vertices)))


def teeth(upper: bool) -> Organ:
    """One row of twelve teeth along the dental arch: a strip of crowns, narrowed where two teeth meet."""
    crowns = _TEETH_UPPER if upper else _TEETH_LOWER
    along, narrow, height = _tooth_columns(crowns)
    position, outward = _arch(along, *(_ARCH_UPPER if upper else _ARCH_LOWER))
    base, down = (-25.7, -1.0) if upper else (-43.4, 1.0)
    # Profile: outward offset, share of the height; from the gum in front over the edge to the gum behind.
    profile = ((-0.4, -0.1), (0.5, 0.35), (-0.1, 0.97), (-1.5, 1.0), (-4.5, 0.45))
    rows = []
    for offset, share in profile:
        inset = np.where(share < 0, 0, narrow) * (_GROOVE if offset > -1 else 0.3)
        level = base + down * height * share * (1 - _NOTCH * narrow * (share > 0.9))
        rows.append(np.column_stack([position[:, 0], level, position[:, 1]]) + _lift(outward, offset - inset))
    return _strip(np.stack(rows), flip=not upper, levels=_TEETH_LEVELS)


def beside_gap(position: np.ndarray, upper: bool) -> np.ndarray:
    """[M] millimetres along the dental arch from points [M, 3] to where the nearest two teeth meet."""
    widths = np.array([width for width, _ in (_TEETH_UPPER if upper else _TEETH_LOWER)])
    gaps = np.concatenate([-np.cumsum(widths)[::-1], [0.0], np.cumsum(widths)])
    fine = np.linspace(-50, 50, 2001)
    line, _ = _arch(fine, *(_ARCH_UPPER if upper else _ARCH_LOWER))
    nearest = np.square(position[:, None, [0, 2]] - line[None]).sum(-1).argmin(1)
    return np.abs(fine[nearest][:, None] - gaps).min(1)


def gums(upper: bool) -> Organ:
    """The gum in front of and behind one row of teeth."""
    along, narrow, _ = _tooth_columns(_TEETH_UPPER if upper else _TEETH_LOWER)
    along = along[narrow == 1]
    position, outward = _arch(along, *(_ARCH_UPPER if upper else _ARCH_LOWER))
    base, up = (-25.7, 1.0) if upper else (-43.4, -1.0)
    rows = []
    for offset, level in ((-7.0, 1.5), (-4.8, -2.5), (0.3, -0.6), (0.9, 2.5), (-1.5, 7.5)):
        height = np.full(len(along), base + up * level)
        rows.append(
            np.column_stack([position[:, 0], height, position[:, 1]]) + _lift(outward, np.full(len(along), offset))
        )
    return _strip(np.stack(rows)[::-1], flip=not upper)


def tongue() -> Organ:
    """A tongue at rest behind the lower teeth: a tube of sections from the root to the tip."""
    # z, middle height, half width, half thickness
    sections = ((42, -44, 15, 9), (54, -41, 18, 9.5), (66, -40, 19, 9), (78, -40.5, 18, 8), (88, -41.5, 15.5, 6.5),
                (95, -42.3, 11.5, 4.6), (98.6, -42.8, 6.5, 2.6))  # fmt: skip
    turn = np.linspace(0, 2 * np.pi, 12, endpoint=False)
    furrow = 1.2 * np.exp(-((np.sin(turn) / 0.25) ** 2)) * (np.cos(turn) > 0)
    rings = [np.stack([a * np.sin(turn), y + b * np.cos(turn) - furrow, np.full(12, z)], -1) for z, y, a, b in sections]
    vertices = np.concatenate([[[0, -43, 99.8]], *rings[::-1]])
    spread = np.concatenate([[0.0], np.repeat(np.linspace(0.1, 0.5, len(sections)), 12)])
    around = np.concatenate([[0.0], np.tile(turn, len(sections))])
    chart = 0.5 + spread[:, None] * np.stack([np.sin(around), np.cos(around)], -1)
    mirror = np.concatenate([[0], (1 + 12 * np.arange(len(sections))[:, None] + (-np.arange(12)) % 12).ravel()])
    faces = _closed_tube(len(sections), 12)
    faces = faces[(faces < len(vertices)).all(1)][:, [0, 2, 1]]
    return Organ(_even(vertices, mirror), faces, chart, mirror)


def _tooth_columns(crowns: tuple[tuple[float, float], ...]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Arc length from the midline, narrowness (1 between teeth) and crown height, from right to left."""
    along, narrow, height, start = [0.0], [1.0], [crowns[0][1]], 0.0
    for i, (width, tall) in enumerate(crowns):
        following = crowns[min(i + 1, len(crowns) - 1)][1]
        shares, profile = ([0.1, 0.35, 0.65, 0.9], [0.3, 0, 0, 0.3]) if i < _ROUNDED else ([0.14, 0.86], [0, 0])
        along += [start + share * width for share in (*shares, 1.0)]
        narrow += [*profile, 1.0]
        height += [*[tall] * len(shares), (tall + following) / 2]
        start += width
    a, n, h = np.array(along), np.array(narrow), np.array(height)
    return np.concatenate([-a[:0:-1], a]), np.concatenate([n[:0:-1], n]), np.concatenate([h[:0:-1], h])


def _arch(along: np.ndarray, front: float, half_width: float) -> tuple[np.ndarray, np.ndarray]:
    """Points (x, z) [M, 2] at arc lengths along the dental arch, half an ellipse, and its outward normals."""
    depth = 46.0
    t = np.linspace(-np.pi / 2, np.pi / 2, 801)
    curve = np.stack([half_width * np.sin(t), front - depth + depth * np.cos(t)], -1)
    length = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(curve, axis=0), axis=1))])
    at = np.interp(along, length - length[400], t)
    point = np.stack([half_width * np.sin(at), front - depth + depth * np.cos(at)], -1)
    normal = np.stack([np.sin(at) / half_width, np.cos(at) / depth], -1)
    return point, normal / np.linalg.norm(normal, axis=1, keepdims=True)


def _lift(outward: np.ndarray, offset: np.ndarray) -> np.ndarray:
    """[M, 2] horizontal normals times offsets [M] as displacements [M, 3]."""
    return np.column_stack([outward[:, 0], np.zeros(len(outward)), outward[:, 1]]) * offset[:, None]


def _strip(rows: np.ndarray, flip: bool, levels: tuple[float, ...] | None = None) -> Organ:
    """Rows [R, M, 3] of points as a mesh; the chart runs along the rows, which lie at even or the given levels."""
    height, width = rows.shape[:2]
    index = np.arange(height * width).reshape(height, width)
    a, b, c, d = index[:-1, :-1], index[1:, :-1], index[1:, 1:], index[:-1, 1:]
    left = np.arange(width - 1) < (width - 1) // 2  # diagonals mirror
    first = np.where(left, np.stack([a, b, c]), np.stack([a, b, d]))
    second = np.where(left, np.stack([a, c, d]), np.stack([b, c, d]))
    faces = np.concatenate([first.reshape(3, -1).T, second.reshape(3, -1).T])
    u, v = np.meshgrid(np.linspace(0, 1, width), np.linspace(0, 1, height) if levels is None else levels)
    mirror = index[:, ::-1].ravel()
    vertices = _even(rows.reshape(-1, 3), mirror)
    return Organ(vertices, faces[:, [0, 2, 1]] if flip else faces, np.stack([u.ravel(), v.ravel()], -1), mirror)


def _even(vertices: np.ndarray, mirror: np.ndarray) -> np.ndarray:
    """Makes vertices exactly symmetric."""
    other = vertices[mirror] * [-1, 1, 1]
    even = np.where((np.arange(len(mirror)) < mirror)[:, None], vertices, other)
    even[np.arange(len(mirror)) == mirror] = (vertices * [0, 1, 1])[np.arange(len(mirror)) == mirror]
    return even


def _closed_tube(rings: int, sectors: int) -> np.ndarray:
    """Triangles of a pole (vertex 0), rings of vertices, and a last pole."""
    j = np.arange(sectors)
    k = (j + 1) % sectors
    faces = [np.stack([0 * j, 1 + j, 1 + k], -1)]
    for r in range(rings - 1):
        a, b = 1 + r * sectors + j, 1 + r * sectors + k
        faces += [np.stack([a, a + sectors, b + sectors], -1), np.stack([a, b + sectors, b], -1)]
    last = 1 + (rings - 1) * sectors
    faces.append(np.stack([last + j, 0 * j + last + sectors, last + k], -1))
    return np.concatenate(faces)
