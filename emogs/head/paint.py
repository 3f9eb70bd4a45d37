"""A generic face painted in texture space: what the built-in head looks like before it has seen a photo."""

from __future__ import annotations

import numpy as np

from . import cage_points as points
from . import organs

SKIN = (0.78, 0.60, 0.51)
LIP = (0.70, 0.42, 0.39)
BROW = (0.30, 0.22, 0.17)
CHEEK = (0.80, 0.53, 0.46)
SOCKET = (0.22, 0.08, 0.08)
GUM = (0.72, 0.42, 0.41)
TONGUE = (0.70, 0.39, 0.38)
TOOTH = (0.88, 0.84, 0.76)
SCLERA = (0.90, 0.88, 0.86)
IRIS = (0.36, 0.27, 0.19)
IRIS_RIM = (0.16, 0.12, 0.09)
PUPIL = (0.03, 0.03, 0.03)
CARUNCLE = (0.78, 0.50, 0.47)
LID_MARGIN = (0.74, 0.50, 0.45)
LASHES = (0.24, 0.17, 0.14)
_BITE = -34.8
"""Height at which upper and lower teeth meet, mm."""


def skin(position: np.ndarray, rings: np.ndarray) -> np.ndarray:
    """Colours [M, 3] at skin positions [M, 3] in millimetres; `rings` [M, 3] mask lips, lid edges and depth."""
    x, y, z = np.abs(position[:, 0]), position[:, 1], position[:, 2]
    lips, margin, deep = rings.T
    colour = np.tile(SKIN, (len(position), 1))
    colour = _blend(colour, CHEEK, 0.45 * _bump(x - 44, y - 0, z - 90, (20, 18, 40)))
    colour = _blend(colour, CHEEK, 0.35 * _bump(x, y - 2, z - 128, (14, 10, 14)))
    colour = _blend(colour, (0.70, 0.50, 0.44), 0.5 * _bump(x - 31, y - 36, z - 92, (19, 13, 16)))
    colour = _blend(colour, LIP, _step(lips, 0.35, 0.75))
    colour = _blend(colour, BROW, 0.85 * _brow(x, y, z))
    colour = _blend(colour, LID_MARGIN, _step(margin, 0.3, 0.8))
    upper = _step(margin, 0.2, 0.6) * (1 - _step(margin, 0.6, 0.95)) * _step(y, 33.5, 36)
    colour = _blend(colour, LASHES, 0.8 * upper)
    return colour * (1 - 0.8 * _step(deep, 0.1, 0.95))[:, None]


def eyeball(position: np.ndarray) -> np.ndarray:
    """Colours [M, 3] at positions [M, 3] on an eyeball."""
    offset = position * [1, 1, 1]
    offset[:, 0] = np.abs(offset[:, 0])
    offset = offset - points.EYE_CENTRE
    radius = np.where(offset[:, 2] > 0, np.hypot(offset[:, 0], offset[:, 1]), 99.0)
    colour = _blend(np.tile(SCLERA, (len(position), 1)), (0.80, 0.66, 0.62), 0.7 * _step(radius, 9, 14))
    colour = _blend(colour, CARUNCLE, _bump(offset[:, 0] + 12.6, offset[:, 1] + 2.8, 0, (2.2, 2.2, 1)))
    colour = _blend(colour, IRIS_RIM, 1 - _step(radius, organs.IRIS_RADIUS - 0.6, organs.IRIS_RADIUS + 0.6))
    turn = np.arctan2(offset[:, 1], offset[:, 0])
    fibre = 1 + 0.12 * np.sin(23 * turn) + 0.08 * np.sin(41 * turn + 1)
    inner = 1 - _step(radius, organs.IRIS_RADIUS - 1.6, organs.IRIS_RADIUS - 0.3)
    colour = colour * (1 - inner[:, None]) + inner[:, None] * np.array(IRIS) * fibre[:, None]
    return _blend(colour, PUPIL, 1 - _step(radius, organs.PUPIL_RADIUS - 0.3, organs.PUPIL_RADIUS + 0.3))


def teeth(position: np.ndarray, upper: bool) -> np.ndarray:
    """Colours [M, 3] of a row: darker towards the back of the mouth and where two meet, yellower towards the gum."""
    root = _step(np.abs(position[:, 1] - _BITE), 3.0, 9.0)
    colour = _blend(np.tile(TOOTH, (len(position), 1)), (0.86, 0.77, 0.62), 0.5 * root)
    colour = colour * (1 - 0.25 * (1 - _step(organs.beside_gap(position, upper), 0.0, 0.5)))[:, None]
    return colour * (0.45 + 0.55 * _step(position[:, 2], 66, 104))[:, None]


def gum(position: np.ndarray) -> np.ndarray:
    """Colours [M, 3] of gums."""
    return np.array(GUM) * (0.4 + 0.6 * _step(position[:, 2], 66, 104))[:, None]


def tongue(position: np.ndarray) -> np.ndarray:
    """Colours [M, 3] of the tongue: darker towards the root and along the furrow."""
    shade = (0.35 + 0.65 * _step(position[:, 2], 45, 98)) * (1 - 0.12 * np.exp(-((position[:, 0] / 2) ** 2)))
    return np.array(TONGUE) * shade[:, None]


def socket(position: np.ndarray) -> np.ndarray:
    """Colours [M, 3] of the mouth's lining, nearly black in its depth."""
    return np.array(SOCKET) * (0.25 + 1.6 * _step(position[:, 2], 60, 110))[:, None]


def _brow(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Density of the brow's hair: a tapering band along the orbit's upper edge."""
    middle = np.interp(x, [12, 22, 34, 46, 58], [51.5, 55, 58.5, 57.5, 50])
    half = np.interp(x, [12, 18, 30, 46, 59], [3.0, 4.2, 4.2, 3.0, 1.0])
    ends = _step(x, 10, 15) * (1 - _step(x, 54, 60))
    return ends * (1 - _step(np.abs(y - middle), 0.35 * half, 1.3 * half)) * (z > 40)


def _blend(colour: np.ndarray, other: tuple[float, float, float], share: np.ndarray) -> np.ndarray:
    return colour + share[:, None] * (np.array(other) - colour)


def _step(value: np.ndarray, low: float, high: float) -> np.ndarray:
    t = np.clip((value - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


def _bump(x: np.ndarray, y: np.ndarray, z: np.ndarray | float, width: tuple[float, float, float]) -> np.ndarray:
    return np.exp(-((x / width[0]) ** 2) - (y / width[1]) ** 2 - (z / width[2]) ** 2)
