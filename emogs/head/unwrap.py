"""Texture coordinates of the built-in head: an authored layout in texels of a 256 x 256 texture.

The skin is one cylinder-like chart, its rows horizontal, symmetric about u = 1/2 and cut along the midline of the crown
and the back. Columns and rows get texels by how much one looks at them: the front of the face nine tenths of a
millimetre each, the back of the head five. Rings around openings shrink towards the opening's centre; they nest, so
nothing overlaps. Eyeballs, teeth, gums, tongue and mouth socket lie in a band below.
"""

from __future__ import annotations

import numpy as np

from . import cage_points as points
from .cage import Cage

SIZE = 256
_CENTRE = SIZE / 2
_COLUMNS = (0, 13, 25, 41, 56, 71, 84, 95, 103, 111, 118, 123, 127)  # texels from the middle
_ROWS = {
    "hairline": 17, "forehead_high": 24, "forehead_low": 32, "brow": 41, "eye": 62, "orbit": 84, "nose": 93,
    "supratip": 100, "tip": 108, "columella": 116, "lip_top": 122, "mouth": 146, "chin_top": 170, "chin": 178,
    "jaw": 187, "under_jaw": 193, "throat": 198, "neck": 203, "neck_low": 207, "collar": 210, "rim": 213,
}  # fmt: skip
_CROWN = (
    (14, 1),
    (38, 1),
    (64, 1),
    (90, 1),
    (114, 1),
)  # the crown's midline, from the front: texels from the middle, row
_RINGS: dict[str, dict[str, tuple[float, float]]] = {  # rim -> ring -> width and height as shares of the rim's
    "eye_rim": {
        "socket": (0.86, 0.80), "crease": (0.70, 0.55), "lid_crest": (0.63, 0.45), "lid_front": (0.59, 0.36),
        "lid_back": (0.55, 0.29), "lid_under": (0.50, 0.20),
    },
    "mouth_rim": {
        "lip_skin": (0.86, 0.78), "vermilion": (0.72, 0.52), "lip_full": (0.66, 0.33), "lip_contact": (0.61, 0.17),
        "lip_inner": (0.55, 0.07),
    },
    "nostril_rim": {"nostril": (0.62, 0.62), "nostril_deep": (0.3, 0.3)},
    "ear_rim": {
        "ear_root": (0.92, 0.94), "helix": (0.76, 0.82), "helix_inner": (0.64, 0.72), "scapha": (0.48, 0.56),
        "antihelix": (0.34, 0.40), "concha": (0.18, 0.22),
    },
}  # fmt: skip
_EAR_CANAL = ((0.0, -0.05), (0.0, 0.05))
_SOCKET = {"lip_inner": 0.5, "vestibule": 0.4, "cheek_inside": 0.27, "pharynx": 0.14}  # radii in the unit square
_SOCKET_END = ((0, -0.06), (0, 0), (0, 0.06), (0.06, 0))
CHARTS: dict[str, tuple[float, float, float, float]] = {  # left, top, width, height in texels
    "eye_right": (1, 216, 39, 39),
    "mouth_socket": (42, 216, 39, 39),
    "teeth_upper": (83, 216, 90, 11),
    "teeth_lower": (83, 229, 90, 11),
    "gums_upper": (83, 242, 90, 6),
    "gums_lower": (83, 249.5, 90, 5.5),
    "tongue": (175, 216, 39, 39),
    "eye_left": (216, 216, 39, 39),
}


def place(chart: np.ndarray, name: str) -> np.ndarray:
    """Coordinates [N, 2] in the unit square moved into a part's place in the texture."""
    left, top, width, height = CHARTS[name]
    return (chart * [width, height] + [left, top]) / SIZE


def skin_chart(cage: Cage) -> np.ndarray:
    """[N, 2] texture coordinates of the left half's skin; the other points stay at zero."""
    texel = np.zeros((len(cage.points), 2))
    for name, height in _ROWS.items():
        there = cage.named[name] >= 0
        texel[cage.named[name][there]] = np.stack(
            [_CENTRE + np.array(_COLUMNS)[there], np.full(there.sum(), height)], -1
        )
    for i, (offset, height) in enumerate(_CROWN):
        inner, outer = np.array([_CENTRE + offset, height]), texel[cage.named["hairline"][4 + i]]
        texel[cage.named[f"crown{i}"]] = inner + np.linspace(0, 2 / 3, 3)[:, None] * (outer - inner)
    for rim, rings in _RINGS.items():
        border = texel[cage.named[rim]]
        hub = (border.min(0) + border.max(0)) / 2
        if rim == "mouth_rim":
            hub = np.array([_CENTRE, _ROWS["mouth"]])
        for name, share in rings.items():
            texel[cage.named[name]] = hub + share * (border - hub)
        if rim == "ear_rim":
            texel[cage.named["ear_canal"]] = hub + _EAR_CANAL * np.ptp(border, axis=0)
    return texel / SIZE


def socket_chart(cage: Cage) -> np.ndarray:
    """[N, 2] texture coordinates of the left half's mouth socket, its rings circles around the throat; others zero."""
    chart = np.zeros((len(cage.points), 2))
    for ring, radius in _SOCKET.items():
        turn = np.linspace(0, np.pi, len(points.SOCKET_RINGS["vestibule"]))
        chart[cage.named[ring]] = radius * np.stack([np.sin(turn), -np.cos(turn)], -1)
    chart[cage.named["socket_end"]] = _SOCKET_END
    return place(chart + 0.5, "mouth_socket")
