"""Eyeballs: the iris is found in the photo, and the rest of the ball is painted to match it.

A photo shows a slit of each eye. The template paints a whole one; its radial profile (pupil, iris, limbus, sclera) is
turned to where the photo's iris is and given the photo's iris and sclera colours. Both eyes look the same way.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .images import Array, smoothstep

REACH = np.radians(28)
"""How far from straight ahead an iris is looked for, sideways; half of it up and down."""
LEAST_CONTRAST = 0.04
"""Brightness by which an iris must be darker than what surrounds it, or else the gaze stays the template's."""


@dataclass(frozen=True)
class EyePaint:
    """One eyeball's texels: where they look, what the template paints, what the photo shows."""

    direction: Array  # [M, 3] unit, from the ball's centre
    albedo: Array  # [M, 3] the template's
    photo: Array  # [M, 3]
    visibility: Array  # [M]

    def iris(self) -> tuple[Array, float]:
        """The template's optical axis [3] and the angular radius of its iris."""
        light, front = self.albedo.mean(1), self.direction[:, 2] > 0.5
        ahead = np.array([0, 0, 1], np.float32)
        if not front.any() or np.ptp(light[front]) < 0.1:
            return ahead, float(np.radians(28))
        dark = front & (light <= np.percentile(light[front], 4))
        axis = _unit(self.direction[dark].mean(0))
        level = 0.5 * (light[dark].mean() + np.percentile(light[front], 90))
        area = (light[front] < level).mean() * (1 - 0.5)  # caps have areas proportional to 1 - cos
        return axis, float(np.clip(np.arccos(1 - area), np.radians(15), np.radians(40)))


def paint_eyes(eyes: list[EyePaint]) -> list[Array]:
    """Colours [M, 3] of each eyeball's texels, photographed where the photo can be trusted."""
    if not eyes:
        return []
    axes, radii = zip(*(eye.iris() for eye in eyes), strict=True)
    turn = find_gaze(eyes, axes, radii)
    painted = []
    for eye, axis, radius in zip(eyes, axes, radii, strict=True):
        gaze = _turned(axis, turn)
        base = _recoloured(eye, axis, gaze, radius)
        share = eye.visibility[:, None]
        painted.append((eye.photo * share + base * (1 - share)).astype(np.float32))
    return painted


def find_gaze(eyes: list[EyePaint], axes: tuple[Array, ...], radii: tuple[float, ...]) -> Array:
    """Angles [2] (to +x, up) that turn the template's axes onto the photo's irises; zeros if unclear."""
    best, turn = LEAST_CONTRAST, np.zeros(2, np.float32)
    for left in np.linspace(-REACH, REACH, 25):
        for up in np.linspace(-REACH / 2, REACH / 2, 13):
            candidate = np.array([left, up], np.float32)
            irises = zip(eyes, axes, radii, strict=True)
            contrasts = [_contrast(eye, _turned(axis, candidate), radius) for eye, axis, radius in irises]
            score = float(np.mean(contrasts)) - 0.1 * float((candidate**2).sum())
            if score > best:
                best, turn = score, candidate
    return turn


def _contrast(eye: EyePaint, gaze: Array, radius: float) -> float:
    """How much darker the visible texels within an iris are than those around it."""
    angle = np.arccos(np.clip(eye.direction @ gaze, -1, 1))
    light = eye.photo.mean(1)
    inside = eye.visibility * (angle < radius)
    around = eye.visibility * (angle > radius) * (angle < 1.9 * radius)
    if inside.sum() < 8 or around.sum() < 8:
        return 0.0
    return float((light * around).sum() / around.sum() - (light * inside).sum() / inside.sum())


def _recoloured(eye: EyePaint, axis: Array, gaze: Array, radius: float) -> Array:
    """The template's radial profile about `gaze`, iris and sclera brought to the photo's colours."""
    bins = np.linspace(0, np.pi, 91)
    own = np.arccos(np.clip(eye.direction @ axis, -1, 1))
    which = np.digitize(own, bins) - 1
    count = np.maximum(np.bincount(which, minlength=91)[:91], 1)[:, None]
    profile = np.stack([np.bincount(which, eye.albedo[:, k], 91)[:91] for k in range(3)], 1) / count
    known = np.bincount(which, minlength=91)[:91] > 0
    profile = np.stack([np.interp(bins, bins[known], profile[known, k]) for k in range(3)], 1)
    angle = np.arccos(np.clip(eye.direction @ gaze, -1, 1))
    base = np.stack([np.interp(angle, bins + bins[1] / 2, profile[:, k]) for k in range(3)], 1)
    iris = _gain(eye, (angle > 0.45 * radius) & (angle < 0.9 * radius), base, 50)
    sclera = _gain(eye, (angle > 1.25 * radius) & (angle < 2.2 * radius), base, 60)
    outside = smoothstep(0.92 * radius, 1.12 * radius, angle)[:, None]
    return np.clip(base * (iris * (1 - outside) + sclera * outside), 0, 1).astype(np.float32)


def _gain(eye: EyePaint, where: NDArray[np.bool_], base: Array, percentile: float) -> Array:
    """[3] photo over template colour among the visible texels of a zone; ones if hardly any is visible."""
    used = where & (eye.visibility > 0.5)
    if used.sum() < 6:
        return np.ones(3, np.float32)
    ratio = np.percentile(eye.photo[used], percentile, axis=0) / np.maximum(np.median(base[used], axis=0), 0.02)
    return np.clip(ratio, 0.2, 8).astype(np.float32)  # from brown to blue the third channel grows fivefold


def _turned(axis: Array, turn: Array) -> Array:
    """An axis turned by angles to the left (+x) and up."""
    left, up = float(turn[0]), float(turn[1])
    forward = np.array([np.sin(left) * np.cos(up), np.sin(up), np.cos(left) * np.cos(up)], np.float32)
    return _unit(axis + forward - np.array([0, 0, 1], np.float32))


def _unit(v: Array) -> Array:
    return (v / max(float(np.linalg.norm(v)), 1e-9)).astype(np.float32)
