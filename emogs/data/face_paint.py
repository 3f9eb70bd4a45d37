"""Random complexions, make-up, brows, beards, eyes and hair: albedo per pixel from the painter's fields.

Variety matters more than beauty here: a landmark network meets real photos only through what these pixels vary.
Colours are linear light.
"""

from __future__ import annotations

import numpy as np

from emogs.data.face_props import CLOTH, FRAME, HAIR, LENS, PROPS
from emogs.data.face_surface import FIELDS, Surface

_TONES = (
    np.array(
        [(255, 228, 212), (245, 205, 180), (226, 178, 140), (200, 144, 104), (150, 96, 62), (96, 60, 42), (52, 33, 26)]
    )
    / 255.0
)
_HAIR = (
    np.array(
        [
            (14, 12, 12),
            (40, 27, 20),
            (84, 56, 35),
            (132, 92, 55),
            (200, 165, 110),
            (120, 50, 22),
            (135, 135, 135),
            (225, 222, 215),
        ]
    )
    / 255.0
)
_IRIS = np.array([(60, 36, 20), (95, 62, 34), (92, 100, 62), (80, 118, 150), (120, 150, 170), (35, 24, 18)]) / 255.0
_OWN_TEXTURE = 0.3
"""How often a template that brings a painted texture wears it."""

Fields = dict[str, np.ndarray]
"""The painter's fields by name, each [N]."""


def to_linear(display: np.ndarray) -> np.ndarray:
    """Display values in [0, 1] to linear light (the usual power of 2.2)."""
    return np.clip(display, 0, 1) ** 2.2


class Painter:
    """One random person's colours. `paint` may be called for any number of pixels."""

    def __init__(self, surface: Surface, rng: np.random.Generator):
        self.surface, self.rng = surface, rng
        tone = rng.uniform(0, len(_TONES) - 1)
        mix = np.array([np.interp(tone, np.arange(len(_TONES)), channel) for channel in _TONES.T])
        self.skin = to_linear(mix * rng.uniform(0.92, 1.08) * rng.uniform(0.96, 1.04, 3))
        self.hair = to_linear(_HAIR[rng.integers(len(_HAIR))] * rng.uniform(0.7, 1.3) * rng.uniform(0.95, 1.05, 3))
        if rng.random() < 0.05:
            self.hair = rng.random(3) ** 2  # dyed
        self.brow = self.hair * rng.uniform(0.3, 0.9) if rng.random() < 0.8 else to_linear(_HAIR[rng.integers(4)])
        self.iris = to_linear(_IRIS[rng.integers(len(_IRIS))] * rng.uniform(0.7, 1.3))

    def paint(self, kind: np.ndarray, fields: np.ndarray, texture: np.ndarray | None = None) -> np.ndarray:
        """Albedo [N, 3] of pixels whose material names are kind [N] and whose fields are [N, 9].

        A texture [N, 3], linear, is what a template itself wears there; some people wear it, in their own complexion.
        """
        worn = texture if texture is not None and self.rng.random() < _OWN_TEXTURE else None
        albedo = np.empty((len(kind), 3), np.float32)
        painters = {
            "skin": self._skin,
            "eye_left": self._eye,
            "eye_right": self._eye,
            HAIR: self._hair,
            CLOTH: self._cloth,
        }
        for name in np.unique(kind):
            here = kind == name
            if worn is not None and name not in PROPS:
                albedo[here] = self._worn(str(name), worn[here], fields[here].T)
            else:
                albedo[here] = painters[name](fields[here].T) if name in painters else self._plain(str(name))
        return albedo

    def _worn(self, name: str, texture: np.ndarray, field: np.ndarray) -> np.ndarray:
        """The template's own paint; skin in this person's tone, with its own contrast, under hair and beard."""
        if name != "skin":
            return texture * self.rng.uniform(0.7, 1.15)
        tone = np.median(texture, 0)
        color = self.skin * (texture / tone) ** self.rng.uniform(0.6, 1.4)
        value = dict(zip(FIELDS, field, strict=True))
        place = field[:3].T / self.surface.scale
        return self._beard(self._scalp(self._flushed(color, place), value, place), value, place)

    def _plain(self, name: str) -> np.ndarray:
        rng = self.rng
        if name.startswith("teeth"):
            return to_linear(np.array([0.93, 0.9, 0.82]) * rng.uniform(0.75, 1.05))
        if name == FRAME:
            return rng.random(3) * 0.5 if rng.random() < 0.3 else np.full(3, rng.choice([0.005, 0.02, 0.3]))
        if name == LENS:
            return np.full(3, rng.uniform(0.005, 0.06))
        return to_linear(np.array([0.62, 0.3, 0.3]) * rng.uniform(0.6, 1.1))  # gums, tongue, mouth socket

    def _skin(self, field: np.ndarray) -> np.ndarray:
        rng, unit = self.rng, self.surface.scale
        value = dict(zip(FIELDS, field, strict=True))
        place = field[:3].T / unit
        color = self._flushed(np.tile(self.skin, (len(place), 1)), place)
        if rng.random() < 0.25:
            spots = _smooth(noise(rng, place, 8, 30), 0.6, 0.9) * rng.uniform(0.1, 0.5)
            color = color * (1 - spots[:, None] * np.array([0.5, 0.8, 1]))
        eye = np.abs(value["eye"]) / unit
        color = (
            color * (1 - rng.uniform(0, 0.4) * np.exp(-((value["eye"] / unit / rng.uniform(0.08, 0.2)) ** 2)))[:, None]
        )
        color = self._scalp(color, value, place)
        color = self._beard(color, value, place)
        color = self._lips(color, value)
        upper = _smooth(value["y"] - np.interp(value["x"], *self._eye_line()), -0.01 * unit, 0.02 * unit)
        lash = np.exp(-((eye / rng.uniform(0.012, 0.035)) ** 2)) * (
            upper * rng.uniform(0.2, 0.95) + rng.uniform(0, 0.35)
        )
        if rng.random() < 0.2:  # eye shadow
            tint = to_linear(rng.random(3)) if rng.random() < 0.5 else self.skin * 0.4
            color = _mix(color, tint, rng.uniform(0.1, 0.6) * np.exp(-((eye / 0.1) ** 2)) * upper)
        color = _mix(color, np.full(3, 0.01), np.clip(lash, 0, 1))
        return self._brows(color, value, place)

    def _flushed(self, color: np.ndarray, place: np.ndarray) -> np.ndarray:
        """Lighter and darker, redder and paler in patches."""
        rng = self.rng
        color = color * np.exp(0.10 * noise(rng, place, 4, 1.5) + 0.06 * noise(rng, place, 6, 12))[:, None]
        flush = noise(rng, place, 4, 2.5)[:, None] * np.array([0.2, -1, -0.8])
        return color * np.exp(rng.uniform(0, 0.25) * flush)

    def _eye_line(self) -> tuple[np.ndarray, np.ndarray]:
        corner = self.surface.landmarks[[36, 39, 42, 45]]
        return corner[:, 0], corner[:, 1]

    def _brows(self, color: np.ndarray, value: Fields, place: np.ndarray) -> np.ndarray:
        rng, unit = self.rng, self.surface.scale
        along, above = value["brow_along"], value["brow_above"] / unit - rng.normal() * 0.012
        half = rng.uniform(0.02, 0.07) * np.interp(along, [-0.3, 0, 0.6, 1, 1.25], [0.7, 1, 0.9, 0.5, 0.2])
        start, end = rng.uniform(-0.2, 0.1), rng.uniform(0.85, 1.2)
        arch = rng.normal() * 0.02 * np.sin(np.clip(along, 0, 1) * np.pi)
        blur = rng.uniform(0.15, 0.8)
        inside = 1 - _smooth(np.abs(above - arch) / half, 1 - blur, 1 + blur)
        ends = _smooth(along, start - 0.08, start + 0.08) * (1 - _smooth(along, end - 0.12, end + 0.08))
        lean = np.stack([along * rng.uniform(0.3, 1) + above * rng.uniform(-1, 2), 0.15 * above, 0 * along], 1)
        strands = 0.75 + rng.uniform(0, 0.7) * noise(rng, lean, 7, rng.uniform(15, 60))
        return _mix(color, self.brow, np.clip(inside * ends * strands * rng.uniform(0.05, 1.5), 0, 1))

    def _lips(self, color: np.ndarray, value: Fields) -> np.ndarray:
        rng, unit = self.rng, self.surface.scale
        lip = _smooth(value["lip"] / unit, -0.012, 0.008 + rng.uniform(0, 0.01))
        tint = self.skin * np.array([0.85, 0.5, 0.5]) * rng.uniform(0.6, 1.15)
        if rng.random() < 0.3:
            tint = to_linear(np.array([1, rng.uniform(0.05, 0.5), rng.uniform(0.1, 0.5)]) * rng.uniform(0.3, 0.95))
        return _mix(color, tint, lip * rng.uniform(0.15, 1))

    def _beard(self, color: np.ndarray, value: Fields, place: np.ndarray) -> np.ndarray:
        """Stubble to full beard below a random line from the sideburns over the cheeks to the moustache."""
        rng, unit, mark = self.rng, self.surface.scale, self.surface.landmarks
        if rng.random() > 0.4:
            return color
        knots_x = np.abs(mark[[33, 54, 10, 13, 16], 0]) * np.array([0, 1.2, 1.3, 1, 1])
        nose, mouth, chin, ear = mark[33, 1], mark[54, 1], mark[8, 1], mark[16, 1]
        heights = [
            rng.choice([nose, mouth - 0.08 * unit]),
            rng.uniform(mouth - 0.2 * unit, nose),
            rng.uniform(chin, nose),
            rng.uniform(chin, nose + 0.1 * unit),
            rng.uniform(chin - 0.5 * unit, ear),
        ]
        edge = np.interp(np.abs(value["x"]), np.sort(knots_x), heights)
        soft = unit * rng.uniform(0.02, 0.25)
        mask = 1 - _smooth(value["y"] - edge + 0.04 * unit * noise(rng, place, 5, 15), -soft, soft)
        mask = (
            mask
            * _smooth(value["y"], chin - 0.7 * unit, chin - 0.2 * unit)
            * (value["z"] > mark[[0, 16], 2].mean() - 0.1 * unit)
        )
        grain = 0.7 + 0.3 * noise(rng, place * np.array([1, 0.3, 1]), 8, 40)
        return _mix(color, self.hair, np.clip(mask * grain * rng.uniform(0.1, 1.0), 0, 1))

    def _scalp(self, color: np.ndarray, value: Fields, place: np.ndarray) -> np.ndarray:
        """Hair too short to stand off: the skull is painted above a random hairline."""
        rng, unit, mark = self.rng, self.surface.scale, self.surface.landmarks
        if rng.random() < 0.15:
            return color
        line = (
            mark[17:27, 1].mean()
            + unit * rng.uniform(0.35, 0.8)
            - unit * rng.uniform(-0.1, 0.3) * (value["x"] / unit) ** 2
        )
        behind = mark[[0, 16], 2].mean() + unit * rng.uniform(-0.15, 0.2)
        rough = 0.05 * unit * noise(rng, place, 6, 12)
        over = np.maximum(value["y"] - line, np.minimum(behind - value["z"], value["y"] - mark[2, 1] - 0.2 * unit))
        soft = unit * rng.uniform(0.01, 0.12)
        return _mix(color, self.hair, _smooth(over + rough, -soft, soft) * rng.uniform(0.5, 1))

    def _eye(self, field: np.ndarray) -> np.ndarray:
        rng, unit = self.rng, self.surface.scale
        radius = field[FIELDS.index("iris")] / unit
        limit, pupil = rng.uniform(0.058, 0.068), rng.uniform(0.02, 0.038)
        white = to_linear(np.array([0.93, 0.9, 0.88]) * rng.uniform(0.75, 1.05))
        color = _mix(np.tile(white, (len(radius), 1)), self.iris, 1 - _smooth(radius, limit - 0.004, limit + 0.004))
        color = _mix(color, self.iris * 0.3, np.exp(-(((radius - limit) / 0.008) ** 2)) * 0.7)
        return _mix(color, np.full(3, 0.004), 1 - _smooth(radius, pupil - 0.004, pupil + 0.004))

    def _hair(self, field: np.ndarray) -> np.ndarray:
        rng = self.rng
        across = np.stack([field[0], 0.04 * field[1], 0 * field[0]], 1) / self.surface.scale
        streaks = noise(rng, across, 10, rng.uniform(20, 80))
        broad = noise(rng, across, 4, 6)
        return self.hair * np.exp(rng.uniform(0.3, 1.1) * streaks + 0.3 * broad)[:, None]

    def _cloth(self, field: np.ndarray) -> np.ndarray:
        rng, place = self.rng, field[:3].T / self.surface.scale
        one, two = to_linear(rng.random((2, 3)))
        if rng.random() < 0.35:
            one = np.full(3, rng.random() ** 2)
        pattern = noise(rng, place * rng.uniform(0.1, 1, 3), int(rng.integers(1, 7)), rng.uniform(1, 25))
        return _mix(np.tile(one, (len(place), 1)), two, _smooth(pattern, -0.1, 0.1) * rng.choice([0, 0.2, 1]))


def noise(rng: np.random.Generator, place: np.ndarray, waves: int, frequency: float) -> np.ndarray:
    """Band-limited random field in [-1, 1], [N] at places [N, 3]: a sum of plane waves around one frequency."""
    direction = rng.normal(size=(3, waves)) * frequency * np.exp(rng.uniform(-0.5, 0.5, waves))
    return np.sin((place @ direction + rng.uniform(0, 2 * np.pi, waves)).astype(np.float32)).mean(1)


def _smooth(value: np.ndarray, low: float, high: float) -> np.ndarray:
    """Smoothstep from 0 at low to 1 at high."""
    t = np.clip((value - low) / max(high - low, 1e-9), 0, 1)
    return t * t * (3 - 2 * t)


def _mix(color: np.ndarray, tint: np.ndarray, share: np.ndarray) -> np.ndarray:
    return color + (tint - color) * share[:, None]
