"""Light on a rendered face, and what a camera makes of it: sky, lamps with soft shadows, gloss, exposure, gamma."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from embreex import rtcore_scene

from emogs.data.face_props import CLOTH


@dataclass(frozen=True)
class Seen:
    """The N points that rays met, in head space."""

    place: np.ndarray  # [N, 3]
    normal: np.ndarray  # [N, 3] towards the camera's side
    view: np.ndarray  # [N, 3] unit, towards the camera
    occlusion: np.ndarray  # [N]
    kind: np.ndarray  # [N] material names


def light(
    scene: rtcore_scene.EmbreeScene, seen: Seen, rotation: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """What falls on each pixel: (diffuse [N, 3] to multiply with the albedo, specular [N, 3] to add)."""
    sky = rng.normal(size=3)
    sky = rotation.T @ (sky / np.linalg.norm(sky))
    warm = np.exp(rng.normal(size=3) * 0.1)
    closed = 1 - rng.uniform(0.6, 1) * (1 - seen.occlusion[:, None])
    ambient = np.clip(1 + rng.uniform(0, 0.7) * (seen.normal @ sky), 0.1, None) * rng.uniform(0.15, 0.8)
    diffuse = ambient[:, None] * warm * closed
    specular = np.zeros_like(diffuse)
    oily, power = rng.uniform(0, 0.12), rng.uniform(6, 50)
    gloss = np.where(np.char.startswith(seen.kind, "eye"), 0.8, np.where(seen.kind == CLOTH, 0.01, oily))[:, None]
    for lamp in range(rng.integers(1, 4)):
        direction = rng.normal(size=3) * [1, 0.8, 0.6] + [0, -0.35, -0.5]  # camera axes: from above and in front
        direction /= np.linalg.norm(direction)
        color = np.exp(rng.normal(size=3) * 0.12) * rng.uniform(0.2, 1.1) * (1 if lamp == 0 else 0.5)
        soft = rng.uniform(0.02, 0.35)
        rays = direction @ rotation + soft * rng.normal(size=seen.place.shape) * 0.5
        rays /= np.linalg.norm(rays, axis=1, keepdims=True)
        lit = np.ones(len(seen.place))
        if lamp == 0 and rng.random() < 0.65:
            start = seen.place + 1e-3 * seen.normal
            hidden = scene.run(start.astype(np.float32), rays.astype(np.float32), query="OCCLUDED") >= 0
            lit = np.where(hidden, rng.uniform(0, 0.3), rng.uniform(0.7, 1))
        facing = (seen.normal * (direction @ rotation)).sum(1)
        wrap = rng.uniform(0, 0.3) * np.array([1.0, 0.5, 0.4])  # light bleeds through skin, red farthest
        diffuse += np.clip((facing[:, None] + wrap) / (1 + wrap), 0, None) * lit[:, None] * color * np.sqrt(closed)
        half = rays + seen.view
        half /= np.linalg.norm(half, axis=1, keepdims=True) + 1e-9
        sharp = np.clip((seen.normal * half).sum(1), 0, 1) ** np.where(gloss[:, 0] > 0.5, 150, power)
        specular += gloss * (sharp * lit * (facing > 0))[:, None] * color * 4
    return diffuse, specular


def develop(linear: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Exposure, a film-like shoulder and gamma: linear light [N, 3] to display values in [0, 1]."""
    middle = np.median(linear) + 1e-4
    linear = linear * (rng.uniform(0.08, 0.45) / middle) ** rng.uniform(0.4, 1)
    linear = linear * (1 + linear * 0.1) / (1 + linear * 0.35)
    return np.clip(linear, 0, 1) ** (1 / 2.2)
