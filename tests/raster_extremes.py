"""Random scenes with everything that a rasterizer may meet: needles, dust and giants, opacities of exactly 0 and 1,
Gaussians behind the camera, on the near plane and far outside, images of a single pixel. One seed, one scene.

EMOGS_TEST_EFFORT=10 makes the tests that draw from here draw ten times as many.
"""

from __future__ import annotations

import os

import numpy as np
import torch
from raster_brute_force import Scene

from emogs import Cameras, Gaussians, RasterSettings

EFFORT = float(os.environ.get("EMOGS_TEST_EFFORT", "1"))
SIZES = (1, 2, 5, 15, 16, 17, 31, 33, 48)
CHANNELS = (1, 2, 3, 4, 5, 7, 32, 33)
COUNTS = (0, 1, 2, 3, 8, 20, 50)


def seeds(count: int, first: int = 0) -> range:
    """`count` seeds times the effort."""
    return range(first, first + max(1, round(count * EFFORT)))


def extreme_scene(seed: int, dtype: type[np.floating] = np.float64) -> tuple[Scene, RasterSettings]:
    """A scene whose numbers are exact in `dtype`, and settings to draw it with."""
    random = np.random.default_rng(seed)
    width, height = random.choice(SIZES, 2)
    count, channels = random.choice(COUNTS), random.choice(CHANNELS)
    focal = random.uniform(0.5, 2, 2) * max(width, height, 8)
    centre = np.array([width, height]) * (0.5 if random.random() < 0.7 else random.uniform(-0.5, 1.5, 2))
    settings = extreme_settings(random)
    calm = settings.blur == 0 or random.random() < 0.3
    model = random.choice(["pinhole", "pinhole", "ortho", "fisheye"])
    points, scales = cloud(random, count, np.array([width, height]), focal, centre, settings.near, calm)
    if model == "ortho":
        points[:, :2] /= np.abs(points[:, 2:])  # where the pinhole would draw them
        scales /= np.abs(points[:, 2:])
    view = np.eye(4)
    view[:3, :3] = np.linalg.qr(random.normal(size=(3, 3)))[0]
    if random.random() < 0.3:
        view[:3, :3] += 0.1 * random.normal(size=(3, 3))  # a general affine map
    view[:3, 3] = random.normal(size=3)
    view = view.astype(dtype).astype(np.float64)
    means = np.linalg.solve(view[:3, :3], (points - view[:3, 3]).T).T
    if count > 2 and random.random() < 0.2:
        means[1] = means[0]  # a tie in depth
    opacities = random.uniform(0, 1, count)
    special = random.random(count)
    opacities[special < 0.1], opacities[special > 0.9] = 0, 1
    faint = (special > 0.4) & (special < 0.5)
    opacities[faint] = settings.alpha_cut * random.choice([0.99, 1.01], faint.sum())
    K = np.array([[focal[0], 0, centre[0]], [0, focal[1], centre[1]], [0, 0, 1]])
    arrays = {
        "means": means,
        "quats": random.normal(size=(count, 4)) * 10.0 ** random.uniform(-3, 3, (count, 1)),
        "scales": scales,
        "opacities": np.minimum(opacities, 1),
        "colors": random.uniform(-1, 2, (count, channels)),
        "viewmat": view,
        "K": K,
        "background": random.uniform(0, 1, channels) * (random.random() < 0.5),
    }
    arrays = {name: value.astype(dtype).astype(np.float64) for name, value in arrays.items()}
    return Scene(**arrays, width=int(width), height=int(height), model=str(model)), settings


def extreme_settings(random: np.random.Generator) -> RasterSettings:
    """Mostly the defaults."""
    if random.random() < 0.6:
        return RasterSettings()
    return RasterSettings(
        alpha_cut=random.choice([1e-12, 1 / 255, 0.1]),
        alpha_ceiling=random.choice([0.6, 0.99, 0.999, 1 - 1e-6]),
        transmittance_stop=random.choice([0.0, 1e-4, 0.3]),
        blur=random.choice([0.0, 0.05, 0.3, 3.0]),
        near=random.choice([0.01, 0.5]),
        far=random.choice([3.0, 1e10]),
        depth=str(random.choice(["accumulated", "median"])),
        antialiased=bool(random.random() < 0.3),
        radius_clip=random.choice([0.0, 0.0, 1.5]),
    )


def cloud(random, count, size, focal, centre, near, calm) -> tuple[np.ndarray, np.ndarray]:
    """Camera-space points [N, 3] and scales [N, 3]; `calm` leaves the extremes out."""
    reach = np.where(random.random((count, 1)) < (0.0 if calm else 0.15), 40.0, 1.0)
    pixels = centre + (random.uniform(-0.3, 1.3, (count, 2)) - centre / size) * size * reach
    z = 10 ** random.uniform(-0.5, 1.5, count)
    kind = random.random(count) * (0.6 if calm else 1)
    on_near, behind = kind > 0.92, (kind > 0.84) & (kind < 0.92)
    z[on_near] = near * random.uniform(0.95, 1.2, on_near.sum())
    z[behind] *= -1
    points = np.concatenate([(pixels - centre) / focal * z[:, None], z[:, None]], 1)
    extents = 10 ** random.uniform(-0.5, 0.9, (count, 1)) * 10 ** random.uniform(-0.3, 0.3, (count, 3))
    if not calm:
        shape = random.random(count)
        extents[shape < 0.1] *= 1e-5
        extents[(shape > 0.1) & (shape < 0.2)] *= 1e3
        extents[(shape > 0.2) & (shape < 0.35)] *= np.array([30.0, 1e-3, 1e-3])
        extents[(shape > 0.35) & (shape < 0.45)] *= np.array([1.0, 1.0, 0.0])
        extents[(shape > 0.45) & (shape < 0.5)] = 0
    return points, extents * np.abs(z)[:, None] / focal.mean()


def to_torch(scene: Scene, dtype: torch.dtype) -> tuple[Gaussians, Cameras, torch.Tensor]:
    """Gaussians, one camera and the background."""
    means, quats, scales, opacities, colors, view, K, background = (
        torch.from_numpy(value).to(dtype) for value in scene[:8]
    )
    cameras = Cameras(view[None], K[None], scene.width, scene.height, scene.model)
    return Gaussians(means, quats, scales, opacities, colors), cameras, background
