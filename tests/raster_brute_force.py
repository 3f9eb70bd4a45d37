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
    model: str


class Drawing(NamedTuple):
    colors: np.ndarray  # [H, W, D]
    alphas: np.ndarray  # [H, W]
    depths: np.ndarray  # [H, W], accumulated or median
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
    opacities: np.ndarray  # [V]
    opacity_errors: np.ndarray  # [V], relative
    depths: np.ndarray  # [V]
    depth_errors: np.ndarray  # [V]
    decided: bool  # no rounding decides about their order, or which are too small


def rotations(quats: np.ndarray) -> np.ndarray:
    """[N, 3, 3] by Rodrigues' formula, I + 2 w [v]x + 2 [v]x^2, from unnormalised quaternions (w, v)."""
    unit = quats / np.sqrt((quats * quats).sum(-1, keepdims=True))
    w, v = unit[:, :1, None], unit[:, 1:]
    cross = np.cross(v[:, None, :], np.eye(3)[None]).swapaxes(1, 2)  # cross @ a is v x a
    return np.eye(3) + 2 * w * cross + 2 * cross @ cross


def normals(scene: Scene) -> tuple[np.ndarray, np.ndarray]:
    """[N, 3] shortest axes, turned to the camera (in an orthographic view: against its rays), and [N] bool: whether
    neither axis nor sign is a close call."""
    axes = np.argmin(np.abs(scene.scales), axis=1)
    normal = np.take_along_axis(rotations(scene.quats), axes[:, None, None], 2)[..., 0]
    inverse = np.linalg.inv(scene.viewmat)
    ray = scene.means - inverse[:3, 3]
    if scene.model == "ortho":
        ray = np.broadcast_to(inverse[:3, 2], ray.shape)
    cosine = (normal * ray).sum(-1) / np.linalg.norm(ray, axis=-1)
    lengths = np.sort(np.abs(scene.scales), axis=1)
    clear = (lengths[:, 0] < 0.999 * lengths[:, 1]) & (np.abs(cosine) > 1e-3)
    return normal * -np.sign(cosine)[:, None], clear


class Lens(NamedTuple):
    """Where points appear, and how that changes with them."""

    pixels: np.ndarray  # [V, 2]
    pixel_errors: np.ndarray
    jacobian: np.ndarray  # [V, 2, 3]
    jacobian_errors: np.ndarray


def lens(scene: Scene, points: np.ndarray, point_errors: np.ndarray, unit: float) -> Lens:
    """The camera models. A pinhole's Jacobian is taken at the pixel clamped to the image and 15% around it (3DGS)."""
    focal, centre = np.diag(scene.K)[:2].astype(points.dtype), scene.K[:2, 2]
    across, z = points[:, :2], points[:, 2:]
    jacobian, errors = np.zeros((len(points), 2, 3), points.dtype), np.zeros((len(points), 2, 3))
    if scene.model == "ortho":
        pixels = focal * across + centre
        jacobian[:, [0, 1], [0, 1]] = focal
    elif scene.model == "pinhole":
        pixels = focal * across / z + centre
        size = np.array([scene.width, scene.height])
        clipped = np.clip(pixels, -0.15 * size, 1.15 * size)
        jacobian[:, [0, 1], [0, 1]] = focal / z
        jacobian[:, :, 2] = (centre - clipped) / z
    else:
        radius2 = (across * across).sum(-1, keepdims=True)
        radius = np.sqrt(radius2)
        distance2 = radius2 + z * z
        stretch = np.arctan2(radius, z) / radius
        pixels = focal * across * stretch + centre
        bend = (z / distance2 - stretch) / radius2
        jacobian[:, :, :2] = (stretch * np.eye(2).reshape(-1, 4) + bend * outer(across)).reshape(-1, 2, 2)
        jacobian[:, :, 2] = -across / distance2
        jacobian *= focal[:, None]
    moved = np.abs(jacobian) @ point_errors[:, :, None]
    pixel_errors = moved[..., 0] + unit * (np.abs(pixels) + np.abs(pixels - centre))
    if scene.model != "ortho":  # second derivatives of both lenses are at most 3 f / z^2
        slope = 3 * focal / z
        errors += (slope * ((point_errors / z).sum(-1, keepdims=True) + unit))[:, :, None]
        errors[:, :, 2] += (pixel_errors + np.abs(pixels - centre) * (unit + point_errors[:, 2:] / z)) / z
    return Lens(pixels, pixel_errors, jacobian, errors)


def outer(vectors: np.ndarray) -> np.ndarray:
    """[V, 4] products of the components of [V, 2]."""
    return (vectors[:, :, None] * vectors[:, None, :]).reshape(-1, 4)


def project(scene: Scene, settings: RasterSettings, rounding: float) -> Splats:
    """EWA projection of the Gaussians between the near and the far plane, in extended precision."""
    long, unit = np.longdouble, ROUNDINGS * rounding
    linear = scene.viewmat[:3, :3].astype(long)
    points = scene.means.astype(long) @ linear.T + scene.viewmat[:3, 3]
    point_errors = unit * (np.abs(scene.means) @ np.abs(scene.viewmat[:3, :3]).T + np.abs(scene.viewmat[:3, 3]))
    kept = np.flatnonzero((points[:, 2] >= settings.near) & (points[:, 2] <= settings.far))
    index = kept[np.argsort(points[kept, 2], kind="stable")]
    points, point_errors = points[index], point_errors[index]
    pixels, pixel_errors, jacobian, jacobian_errors = lens(scene, points, point_errors, unit)

    scales = scene.scales[index].astype(long)
    factor = jacobian @ linear @ (rotations(scene.quats[index].astype(long)) * scales[:, None, :])
    slack = jacobian_errors + unit * np.abs(jacobian)
    factor_errors = (slack @ np.abs(linear)).sum(-1, keepdims=True) * np.abs(scales)[:, None, :]
    sharp = factor @ factor.swapaxes(1, 2)
    crossed = factor_errors @ np.abs(factor).swapaxes(1, 2)
    covariances = sharp + settings.blur * np.eye(2)
    a, b, c = covariances[:, 0, 0], covariances[:, 0, 1], covariances[:, 1, 1]
    determinants = a * c - b * b
    lengths = np.sqrt(sharp[:, 0, 0] * sharp[:, 1, 1])
    areas = np.linalg.norm(np.cross(factor[:, 0], factor[:, 1]), axis=-1)  # the root of the sharp determinant
    determinant_errors = unit * (1 + 2 * lengths * areas / determinants)
    opacities, opacity_errors = scene.opacities[index], np.zeros(len(index))
    if settings.antialiased:
        opacities = opacities * areas / np.sqrt(determinants)
        wrong = np.linalg.norm(factor_errors, axis=-1)[:, ::-1] * np.linalg.norm(factor, axis=-1)
        shares = (wrong.sum(-1) + unit * lengths) / np.maximum(areas, 1e-300)
        changes = (wrong.sum(-1) * areas + settings.blur * np.einsum("vii->v", crossed)) / determinants
        opacity_errors = np.minimum(unit + shares + changes + determinant_errors, 1e3)

    conics = np.stack([c, -b, -b, a], -1).reshape(-1, 2, 2) / determinants[:, None, None]
    tied = (np.diff(scene.means[index], axis=0) == 0).all(-1)  # the same arithmetic gives the same depth
    apart = np.diff(points[:, 2]) > point_errors[1:, 2] + point_errors[:-1, 2]
    extents = np.sqrt(2 * np.log(np.maximum(opacities / settings.alpha_cut, 1)) * np.maximum(a, c))
    big, fuzzy = extents > settings.radius_clip, np.abs(extents - settings.radius_clip) < 1e-3 * settings.radius_clip
    values = (
        index, pixels, pixel_errors, conics, crossed + crossed.swapaxes(1, 2), determinant_errors,
        opacities, opacity_errors, points[:, 2], point_errors[:, 2],
    )  # fmt: skip
    drawn = (value[big].astype(value.dtype if value is index else np.float64) for value in values)
    return Splats(*drawn, decided=bool((tied | apart).all() and not fuzzy.any()))


def draw(scene: Scene, settings: RasterSettings, rounding: float) -> Drawing | None:
    """What a kernel of this machine precision must draw; None where rounding decides the order of the splats."""
    splats = project(scene, settings, rounding)
    if not splats.decided:
        return None
    rows, columns = np.mgrid[: scene.height, : scene.width] + 0.5
    transmittance, closed = np.ones_like(rows), np.zeros(rows.shape, bool)
    transmittance_error, undecided = np.zeros_like(rows), np.zeros(rows.shape, bool)
    sums = np.zeros((*rows.shape, scene.colors.shape[-1] + 1))  # depth comes last
    sum_errors = np.zeros_like(sums)
    median, median_error = np.zeros_like(rows), np.zeros_like(rows)
    for v, i in enumerate(splats.index):
        dx, dy = splats.means[v, 0] - columns, splats.means[v, 1] - rows
        sigma, sigma_error, own_error = falloff(splats, v, dx, dy, rounding)
        raw = splats.opacities[v] * np.exp(-sigma)
        relative = np.expm1(np.minimum(sigma_error, 50.0)) + splats.opacity_errors[v] + ROUNDINGS * rounding
        raw_error = raw * np.minimum(relative, 1e3)
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
        if settings.depth == "median":
            half = drawn & (remaining <= 0.5) & (median == 0)
            undecided |= drawn & (median == 0) & (np.abs(remaining - 0.5) <= error)
            median = np.where(half, splats.depths[v], median)
            median_error = np.where(half, splats.depth_errors[v], median_error)
        values = np.append(scene.colors[i], splats.depths[v])
        sums += weight * values
        sum_errors += (weight_error + ROUNDINGS * rounding * weight) * np.abs(values)
        sum_errors[..., -1:] += weight * splats.depth_errors[v]
        transmittance = np.where(drawn, remaining, transmittance)
        transmittance_error = np.where(drawn, error, transmittance_error)
    colors = sums[..., :-1] + transmittance[..., None] * scene.background
    slack = ROUNDINGS * rounding
    color_errors = sum_errors[..., :-1] + (transmittance_error + slack)[..., None] * np.abs(scene.background) + slack
    if settings.depth == "median":
        sums[..., -1], sum_errors[..., -1] = median, median_error
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
