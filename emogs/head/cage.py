"""The control cage: authored points and rings (`cage_points.py`) joined into one quad mesh, mirrored to both sides.

Skin and mouth socket are one mesh, so that lips and socket stay joined when the mouth opens. The left half's quads come
first, then their mirror images in the same order.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from . import cage_points as points

_COLUMNS = 13
_FINE_COLUMNS = 4
_FINE_RINGS = (
    "crease", "lid_crest", "lid_front", "lid_back", "lip_skin", "vermilion", "lip_full", "lip_contact",
    "nostril", "helix", "helix_inner",
)  # fmt: skip
"""Rings whose outer strip is subdivided twice."""
_FINE_ROWS = ("brow", "chin_top")
"""The rows' quads between these rows and in these first columns are subdivided twice, the others once."""


@dataclass(frozen=True)
class Cage:
    """A quad mesh with named points."""

    points: np.ndarray  # [N, 3] float64 millimetres, on the surface
    quads: np.ndarray  # [F, 4] counter-clockwise from outside; quad i + F / 2 mirrors quad i
    mirror: np.ndarray  # [N] the mirrored point
    socket: np.ndarray  # [F] bool: mouth socket, else skin
    fine: np.ndarray  # [F] bool: subdivided twice, else once
    named: dict[str, np.ndarray]  # rows and rings of the left half -> point indices, -1 where a row has an opening


def build_cage() -> Cage:
    """Joins the authored rows and rings."""
    builder = _Builder()
    builder.head()
    builder.eye()
    builder.mouth()
    builder.nostril()
    builder.ear()
    return builder.mirrored()


class _Builder:
    """Collects the left half."""

    def __init__(self) -> None:
        self.positions: list[tuple[float, ...]] = []
        self.quads: list[tuple[int, ...]] = []
        self.socket: list[bool] = []
        self.fine: list[bool] = []
        self.named: dict[str, np.ndarray] = {}

    def add(self, name: str, row: list) -> np.ndarray:
        if name in self.named:
            raise ValueError(f"two rows or rings are named {name!r}")
        ids = []
        for point in row:
            ids.append(-1 if point is None else len(self.positions))
            if point is not None:
                self.positions.append(tuple(float(value) for value in point))
        self.named[name] = np.array(ids)
        return self.named[name]

    def quad(self, *corners: int, socket: bool = False, fine: bool = True) -> None:
        self.quads.append(tuple(int(c) for c in corners))
        self.socket.append(socket)
        self.fine.append(fine)

    def strip(self, outer: np.ndarray, inner: np.ndarray, *, clockwise: bool, closed: bool, **marks: bool) -> None:
        """Quads between two rings; `clockwise` says how their numbers run, seen from outside the head."""
        for i in range(len(outer) - (not closed)):
            j = (i + 1) % len(outer)
            corners = (outer[i], inner[i], inner[j], outer[j])
            self.quad(*(corners if clockwise else corners[::-1]), **marks)

    def head(self) -> None:
        rows = {name: self.add(name, row) for name, row in points.ROWS.items()}
        names = list(rows)
        nostril = (("tip", 1), ("columella", 1))
        first, last = (names.index(name) for name in _FINE_ROWS)
        for upper, lower in pairwise(names):
            for c in range(_COLUMNS - 1):
                corners = (rows[upper][c], rows[lower][c], rows[lower][c + 1], rows[upper][c + 1])
                if min(corners) >= 0 and (upper, c) not in nostril:
                    fine = c < _FINE_COLUMNS and first <= names.index(upper) < last
                    self.quad(*corners, fine=fine)
        self._crown(rows["hairline"])

    def _crown(self, hairline: np.ndarray) -> None:
        inner = [self.add(f"crown{i}", row) for i, row in enumerate(points.CROWN)]
        across = [hairline[:4], *(np.append(row, hairline[4 + i]) for i, row in enumerate(inner)), hairline[:8:-1]]
        for front, back in pairwise(across):
            for c in range(3):
                self.quad(back[c], front[c], front[c + 1], back[c + 1], fine=False)

    def eye(self) -> None:
        n = self.named
        rim = np.concatenate([n["eye"][[2]], n["brow"][2:7], n["eye"][[6]], n["orbit"][6:1:-1]])
        rings: dict[str, list] = {**points.EYE_RINGS}
        rings |= {
            name: [_on_eyeball(xy, clearance) for xy in ring] for name, (clearance, ring) in points.EYE_SEATED.items()
        }
        self.named["eye_rim"] = rim
        for name, ring in rings.items():
            inner = self.add(name, ring)
            self.strip(rim, inner, clockwise=True, closed=True, fine=name in _FINE_RINGS)
            rim = inner

    def mouth(self) -> None:
        n = self.named
        rim = np.concatenate([n["lip_top"][:4], n["mouth"][[3]], n["chin_top"][3::-1]])
        self.named["mouth_rim"] = rim
        for name, ring in points.MOUTH_RINGS.items():
            inner = self.add(name, ring)
            self.strip(rim, inner, clockwise=True, closed=False, fine=name in _FINE_RINGS)
            rim = inner
        for name, ring in points.SOCKET_RINGS.items():
            inner = self.add(name, ring)
            self.strip(rim, inner, clockwise=True, closed=False, socket=True, fine=False)
            rim = inner
        top, middle, bottom, side = self.add("socket_end", points.SOCKET_END)
        r = rim
        for corners in (
            (r[0], top, r[2], r[1]), (top, middle, side, r[2]), (middle, bottom, r[6], side),
            (bottom, r[8], r[7], r[6]), (side, r[6], r[5], r[4]), (side, r[4], r[3], r[2]),
        ):  # fmt: skip
            self.quad(*corners, socket=True, fine=False)

    def nostril(self) -> None:
        n = self.named
        rim = np.array(
            [n["tip"][1], n["tip"][2], n["columella"][2], n["lip_top"][2], n["lip_top"][1], n["columella"][1]]
        )
        self.named["nostril_rim"] = rim
        for name, ring in points.NOSTRIL_RINGS.items():
            inner = self.add(name, ring)
            self.strip(rim, inner, clockwise=True, closed=True, fine=name in _FINE_RINGS)
            rim = inner
        self.quad(rim[0], rim[5], rim[2], rim[1], fine=False)
        self.quad(rim[5], rim[4], rim[3], rim[2], fine=False)

    def ear(self) -> None:
        n = self.named
        front, back = (np.array([n[row][c] for row in ("orbit", "nose", "supratip", "tip")]) for c in (8, 10))
        rim = np.concatenate([front, n["tip"][[9]], back[::-1], n["orbit"][[9]]])
        self.named["ear_rim"] = rim
        for name, ring in points.EAR_RINGS.items():
            inner = self.add(name, ring)
            self.strip(rim, inner, clockwise=False, closed=True, fine=name in _FINE_RINGS)
            rim = inner
        high, low = self.add("ear_canal", points.EAR_CANAL)
        r = rim
        for corners in ((r[0], r[1], high, r[9]), (r[9], high, r[7], r[8]), (r[1], r[2], low, high),
                        (high, low, r[6], r[7]), (r[2], r[3], r[4], low), (low, r[4], r[5], r[6])):  # fmt: skip
            self.quad(*corners, fine=False)

    def mirrored(self) -> Cage:
        left = np.array(self.positions)
        count, middle = len(left), left[:, 0] == 0
        mirror = np.arange(count)
        mirror[~middle] = count + np.arange((~middle).sum())
        mirror = np.concatenate([mirror, np.flatnonzero(~middle)])
        quads = np.array(self.quads)
        return Cage(
            points=np.concatenate([left, left[~middle] * [-1, 1, 1]]),
            quads=np.concatenate([quads, mirror[quads[:, [0, 3, 2, 1]]]]),
            mirror=mirror,
            socket=np.tile(self.socket, 2),
            fine=np.tile(self.fine, 2),
            named=self.named,
        )


def _on_eyeball(xy: tuple[float, ...], clearance: float) -> tuple[float, ...]:
    """The point in front of the eyeball at (x, y), `clearance` outside its sphere; a whole point stays as it is."""
    if len(xy) == 3:
        return xy
    x, y, z = points.EYE_CENTRE
    radius = points.EYE_RADIUS + clearance
    return (*xy, z + max(radius**2 - (xy[0] - x) ** 2 - (xy[1] - y) ** 2, 4.0) ** 0.5)
