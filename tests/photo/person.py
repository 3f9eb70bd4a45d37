"""A person whose photo, matte and texture are known: the built-in head, a cap of hair and a torso before a wall."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch

from emogs.head import builtin_head
from emogs.photo import HeadView

SIZE = 512
HAIR = np.array([0.25, 0.15, 0.08])
CLOTH = np.array([0.15, 0.25, 0.5])


@dataclass(frozen=True)
class Person:
    """A synthetic photo and what is true of it."""

    view: HeadView
    crop: torch.Tensor  # [S, S, 3]
    alpha: np.ndarray  # [S, S] bool


def paint(uv: np.ndarray) -> np.ndarray:
    """The person's true skin texture [..., 3] at texture coordinates [..., 2]: smooth, mirror symmetric."""
    u, v = 2 * np.abs(uv[..., 0] - 0.5), uv[..., 1]
    light = 0.8 + 0.1 * np.sin(9 * v + 5 * u) + 0.08 * np.cos(14 * u)
    return light[..., None] * np.array([0.85, 0.65, 0.55])


def head_view(yaw: float = 0.0, size: int = SIZE) -> HeadView:
    """The mean neutral head a metre and a half away, turned about the vertical by `yaw` degrees."""
    template = builtin_head()
    turn = np.radians(yaw)
    spin = np.array([[np.cos(turn), 0, np.sin(turn)], [0, 1, 0], [-np.sin(turn), 0, np.cos(turn)]])
    viewmat = np.eye(4)
    viewmat[:3, :3] = np.diag([1.0, -1.0, -1.0]) @ spin
    marks = template.vertices[template.landmarks].numpy().mean(0)
    viewmat[:3, 3] = [0, 0, 1.5] - viewmat[:3, :3] @ marks + [0, 0.01, 0]
    focal = 1.5 * size / 0.42
    K = torch.tensor([[focal, 0, size / 2], [0, focal, size / 2], [0, 0, 1]], dtype=torch.float32)
    matrix = torch.from_numpy(viewmat).float()
    return HeadView(template, template.vertices, template.vertices, matrix, K, size)


def photograph(yaw: float = 0.0, wall: np.ndarray | None = None, bald: bool = False) -> Person:
    """Renders the person before a wall [S, S, 3] (light grey if not given)."""
    view = head_view(yaw)
    image = np.full((SIZE, SIZE, 3), 0.75) if wall is None else wall.copy()
    centre = view.project(view.camera_vertices[view.template.rigid.numpy()].mean(0))
    grain = 0.03 * np.random.default_rng(0).normal(size=(SIZE, SIZE, 1))
    alpha = np.zeros((SIZE, SIZE), np.uint8)
    if not bald:
        cv2.ellipse(alpha, (int(centre[0]), int(centre[1])), (118, 128), 0, 0, 360, 1, -1)
        image = np.where(alpha[..., None] > 0, HAIR + grain, image)
    torso = cv2.ellipse(np.zeros_like(alpha), (SIZE // 2, SIZE), (200, 120), 0, 0, 360, 1, -1)
    image = np.where(torso[..., None] > 0, CLOTH + grain, image)
    face, uv = _hits(view)
    image = np.where((face >= 0)[..., None], paint(uv), image)
    solid = (alpha > 0) | (torso > 0) | (face >= 0)
    return Person(view, torch.from_numpy(np.clip(image, 0, 1)).float(), solid)


def _hits(view: HeadView) -> tuple[np.ndarray, np.ndarray]:
    """Triangle [S, S] and texture coordinates [S, S, 2] that each pixel sees."""
    rays = view.rays(SIZE).reshape(-1, 3)
    found = view.first_hits(np.zeros_like(rays), rays)
    face = found["primID"].astype(np.int64)
    weight = np.stack([1 - found["u"] - found["v"], found["u"], found["v"]], 1)[..., None]
    corners = view.template.uv.numpy()[view.template.faces_uv.numpy()[face.clip(0)]]
    return face.reshape(SIZE, SIZE), (corners * weight).sum(1).reshape(SIZE, SIZE, 2)


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    """Intersection over union of two mattes."""
    return float(np.minimum(a, b).sum() / np.maximum(a, b).sum())
