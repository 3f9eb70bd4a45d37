"""Brute force: every Gaussian at every pixel, in numpy, with a bound on what rounding may do to the kernels' result.

Independent of the native code and of raster_reference.py: the projection runs in extended precision and inverts the
covariance as it stands; nothing is culled but by depth. Forward error analysis to first order rides along: beside every
value stands the error that a kernel of the given machine precision may make. Where that error decides between two
outcomes (the alpha cut, the transmittance stop) the pixel is `undecided`, and no comparison is made there.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from emogs import RasterSettings

ROUNDINGS = 4.0
"""Roundings that a kernel may make in one of the sums below: the length of their expressions, with some room."""


class Scene(NamedTuple):
    """N Gaussians, one camera; float64 arrays that hold exactly what the kernels are given."""

    means: np.ndarray  # [N, 3]
    quats: np.ndarray  # [N, 4]
    scales: np.ndarray  # [N, 3]
    opacities: np.ndarray  # [N]
    colors: np.ndarray  # [N, D]
    viewmat: np.ndarray  # [4, 4]
    K: np.ndarray  # [3, 3]
    background: np.ndarray  # [D]
    width: int
    height: int


class Drawing(NamedTuple):
    colors: np.ndarray  # [H, W, D]
    alphas: np.ndarray  # [H, W]
    depths: np.ndarray  # [H, W], accumulated
    color_errors: np.ndarray  # [H, W, D] bounds, and so on
    alpha_errors: np.ndarray
    depth_errors: np.ndarray
    undecided: np.ndarray  # [H, W] bool: rounding decides this pixel


class Splats(NamedTuple):
    """Visible splats, near to far."""

    index: np.ndarray  # [V] which Gaussian
    means: np.ndarray  # [V, 2]
    mean_errors: np.ndarray  # [V, 2]
    conics: np.ndarray  # [V, 2, 2]
    covariance_errors: np.ndarray  # [V, 2, 2]
    determinant_errors: np.ndarray  # [V], relative
    depths: np.ndarray  # [V]
    depth_errors: np.ndarray  # [V]
    ordered: bool  # no two depths are so close that rounding orders them


def rotations(quats: np.ndarray) -> np.ndarray:
    """[N, 3, 3] by Rodrigues' formula, I + 2 w [v]x + 2 [v]x^2, from unnormalised quaternions (w, v)."""
    unit = quats / np.sqrt((quats * quats).sum(-1, keepdims=True))
    w, v = unit[:, :1, None], unit[:, 1:]
    cross = np.cross(v[:, None, :], np.eye(3)[None]).swapaxes(1, 2)  # cross @ a is v x a
    return np.eye(3) + 2 * w * cross + 2 * cross @ cross


def project(scene: Scene, settings: RasterSettings, rounding: float) -> Splats:
    """Perspective EWA projection with 3DGS's clamped Jacobian."""
    long, unit = np.longdouble, ROUNDINGS * rounding
    linear, translation = scene.viewmat[:3, :3].astype(long), scene.viewmat[:3, 3].astype(long)
    points = scene.means.astype(long) @ linear.T + translation
    point_errors = unit * (np.abs(scene.means) @ np.abs(scene.viewmat[:3, :3]).T + np.abs(scene.viewmat[:3, 3]))
    kept = (points[:, 2] >= settings.near) & (points[:, 2] <= settings.far)
    order = np.argsort(points[kept, 2], kind="stable")
    index = np.flatnonzero(kept)[order]
    points, point_errors, z = points[index], point_errors[index], points[index, 2:]
    focal, centre = np.diag(scene.K)[:2].astype(long), scene.K[:2, 2].astype(long)
    size = np.array([scene.width, scene.height])
    means = focal * points[:, :2] / z + centre
    depth_errors = point_errors[:, 2:] / z
    mean_errors = focal * point_errors[:, :2] / z + np.abs(means - centre) * depth_errors + unit * np.abs(means)
    offsets = np.clip(means, -0.15 * size, 1.15 * size) - centre
    jacobian = np.zeros((len(index), 2, 3), long)
    jacobian[:, [0, 1], [0, 1]] = focal / z
    jacobian[:, :, 2] = -offsets / z
    scales = scene.scales[index].astype(long)
    factor = jacobian @ linear @ (rotations(scene.quats[index].astype(long)) * scales[:, None, :])
    lengths = np.abs(jacobian) @ np.abs(linear) @ np.broadcast_to(np.abs(scales)[:, None, :], (len(index), 3, 3))
    slack = (np.abs(np.clip(means, -0.15 * size, 1.15 * size)) + mean_errors / unit) / z  # of the offsets themselves
    lengths += (slack[:, :, None] * np.abs(linear[2]).sum()) * np.abs(scales)[:, None, :]
    factor_errors = (unit + depth_errors[:, :, None]) * lengths
    covariances = factor @ factor.swapaxes(1, 2) + settings.blur * np.eye(2)
    crossed = factor_errors @ np.abs(factor).swapaxes(1, 2)
    covariance_errors = crossed + crossed.swapaxes(1, 2)
    a, b, c = covariances[:, 0, 0], covariances[:, 0, 1], covariances[:, 1, 1]
    determinants = a * c - b * b
    areas = np.sqrt(np.maximum(determinants - settings.blur * (a + c - settings.blur), 0))
    determinant_errors = unit * (1 + 2 * np.sqrt(a * c) * areas / determinants)
    conics = np.stack([c, -b, -b, a], -1).reshape(-1, 2, 2) / determinants[:, None, None]
    gaps, errors = np.diff(z[:, 0]), point_errors[1:, 2] + point_errors[:-1, 2]
    tied = (np.diff(scene.means[index], axis=0) == 0).all(-1)  # the same arithmetic gives the same depth
    as_double = (means, mean_errors, conics, covariance_errors, determinant_errors, z[:, 0], point_errors[:, 2])
    return Splats(index, *(v.astype(np.float64) for v in as_double), bool((tied | (gaps > errors)).all()))


def draw(scene: Scene, settings: RasterSettings, rounding: float) -> Drawing | None:
    """What a kernel of this machine precision must draw; None where rounding decides the order of the splats."""
    splats = project(scene, settings, rounding)
    if not splats.ordered:
        return None
    rows, columns = np.mgrid[: scene.height, : scene.width] + 0.5
    transmittance, closed = np.ones_like(rows), np.zeros(rows.shape, bool)
    transmittance_error, undecided = np.zeros_like(rows), np.zeros(rows.shape, bool)
    sums = np.zeros((*rows.shape, scene.colors.shape[-1] + 1))  # depth comes last
    sum_errors = np.zeros_like(sums)
    for v, i in enumerate(splats.index):
        dx, dy = splats.means[v, 0] - columns, splats.means[v, 1] - rows
        sigma, sigma_error, own_error = falloff(splats, v, dx, dy, rounding)
        opacity = scene.opacities[i]
        raw = opacity * np.exp(-sigma)
        raw_error = raw * np.minimum(np.expm1(np.minimum(sigma_error, 50.0)) + ROUNDINGS * rounding, 1e3)
        touched = raw >= settings.alpha_cut
        doubtful = np.abs(raw - settings.alpha_cut) <= raw_error
        doubtful |= (sigma < own_error) & touched  # an exponent that rounds to above zero does not touch
        alpha = np.where(touched, np.minimum(raw, settings.alpha_ceiling), 0)
        alpha_error = np.where(touched, np.minimum(raw_error, 1), 0)
        remaining = transmittance * (1 - alpha)
        error = (1 - alpha) * transmittance_error + transmittance * alpha_error + ROUNDINGS * rounding * remaining
        doubtful |= touched & (np.abs(remaining - settings.transmittance_stop) <= error)
        undecided |= doubtful & ~closed
        closed |= touched & (remaining <= settings.transmittance_stop)
        drawn = touched & ~closed
        weight = np.where(drawn, alpha * transmittance, 0)[..., None]
        weight_error = np.where(drawn, transmittance * alpha_error + alpha * transmittance_error, 0)[..., None]
        values = np.append(scene.colors[i], splats.depths[v])
        sums += weight * values
        sum_errors += (weight_error + ROUNDINGS * rounding * weight) * np.abs(values)
        sum_errors[..., -1:] += weight * splats.depth_errors[v]
        transmittance = np.where(drawn, remaining, transmittance)
        transmittance_error = np.where(drawn, error, transmittance_error)
    colors = sums[..., :-1] + transmittance[..., None] * scene.background
    slack = ROUNDINGS * rounding
    color_errors = sum_errors[..., :-1] + (transmittance_error + slack)[..., None] * np.abs(scene.background) + slack
    return Drawing(
        colors, 1 - transmittance, sums[..., -1],
        color_errors, transmittance_error + slack, sum_errors[..., -1] + slack, undecided,
    )  # fmt: skip


def falloff(splats: Splats, v: int, dx: np.ndarray, dy: np.ndarray, rounding: float) -> tuple[np.ndarray, ...]:
    """sigma = d'Cd/2 for the conic C, what may be wrong with it, and what of that comes from evaluating it alone.

    With w = C d: an error e of the mean changes sigma by w.e, an error E of the covariance by w'Ew/2.
    """
    (a, b), (_, c) = splats.conics[v]
    wx, wy = a * dx + b * dy, b * dx + c * dy
    sigma = np.maximum(0.5 * (wx * dx + wy * dy), 0)
    own = ROUNDINGS * rounding * (0.5 * (abs(a) * dx * dx + abs(c) * dy * dy) + np.abs(b * dx * dy))
    (xx, xy), (_, yy) = splats.covariance_errors[v]
    wx, wy = np.abs(wx), np.abs(wy)
    error = own + wx * splats.mean_errors[v, 0] + wy * splats.mean_errors[v, 1]
    error += 0.5 * (wx * wx * xx + wy * wy * yy) + wx * wy * xy + sigma * splats.determinant_errors[v]
    return sigma, error, own
