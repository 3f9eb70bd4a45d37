"""Training crops for the landmark network: rendered pictures as camera, detector and a bad day would deliver them."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from torch import Tensor

from emogs.photo.landmarks import INPUT_SIZE, MIRRORED

Batch = tuple[Tensor, Tensor]
"""Pictures [B, 3, 112, 112] in [0, 1] and landmarks [B, 68, 2] in crop units."""

_TIGHTEST, _LOOSEST = 1.2, 1.65
"""Range of the crops' side over the landmarks' box: the detector's crop is rough, later ones are not."""


def augmented(images: np.ndarray, landmarks: np.ndarray, rng: np.random.Generator) -> Batch:
    """A batch as camera, detector and a bad day would give it: [B, 3, 112, 112], targets [B, 68, 2] in crop units."""
    crops, targets = [], []
    for image, points in zip(images, landmarks, strict=True):
        size = extent(points)
        side = size * np.exp(rng.uniform(np.log(_TIGHTEST), np.log(_LOOSEST)))
        place = middle(points) + rng.normal(size=2) * 0.05 * size
        cut, target = crop(image, points, place, side, rng.normal() * 0.2)
        if rng.random() < 0.35:
            cut = _degrade(cut, rng)
        if rng.random() < 0.3:
            cut = _occlude(cut, rng)
        if rng.random() < 0.5:
            cut, target = cut[:, ::-1], np.stack([1 - target[:, 0], target[:, 1]], 1)[list(MIRRORED)]
        crops.append(cut)
        targets.append(target)
    batch = _exposed(tensor(np.stack(crops)), rng)
    return batch, torch.from_numpy(np.stack(targets))


def _exposed(image: Tensor, rng: np.random.Generator) -> Tensor:
    """Gamma, contrast, brightness, tint, sometimes grey, and grain, each picture its own."""

    def normal(*shape: int) -> Tensor:
        return torch.from_numpy(rng.normal(size=(len(image), *shape)).astype(np.float32))

    image = image ** (normal(1, 1, 1) * 0.3).exp()
    level = image.mean((1, 2, 3), keepdim=True)
    image = (image - level) * (1 + 0.25 * normal(1, 1, 1)) + level + 0.07 * normal(1, 1, 1) + 0.03 * normal(3, 1, 1)
    grey = torch.from_numpy(rng.random(len(image)) < 0.15)[:, None, None, None]
    image = torch.where(grey, image.mean(1, keepdim=True), image)
    grain = torch.randn(image.shape, generator=torch.Generator().manual_seed(int(rng.integers(2**62))))
    return (image + grain * (normal(1, 1, 1).abs() * 0.02)).clamp(0, 1)


def middle(points: np.ndarray) -> np.ndarray:
    """Of the landmarks' bounding box, [2] pixels."""
    return (points.min(0) + points.max(0)) / 2


def extent(points: np.ndarray) -> float:
    """Longer side of the landmarks' bounding box, pixels."""
    return float((points.max(0) - points.min(0)).max())


def crop(
    image: np.ndarray, points: np.ndarray, place: np.ndarray, side: float, turn: float
) -> tuple[np.ndarray, np.ndarray]:
    """The turned square around a place, [112, 112, 3], and its landmarks in crop units."""
    cos, sin = np.cos(turn), np.sin(turn)
    rotation = np.array([[cos, -sin], [sin, cos]])
    scale = INPUT_SIZE / side
    matrix = np.c_[rotation * scale, INPUT_SIZE / 2 - 0.5 - scale * rotation @ (place - 0.5)]
    size = (INPUT_SIZE, INPUT_SIZE)
    cut = cv2.warpAffine(image, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
    return cut, ((points - place) @ rotation.T / side + 0.5).astype(np.float32)


def _degrade(cut: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Blur, low resolution or JPEG."""
    choice = rng.random()
    if choice < 0.35:
        return cv2.GaussianBlur(cut, (0, 0), rng.uniform(0.4, 1.8))
    if choice < 0.7:
        small = int(rng.integers(32, 90))
        reduced = cv2.resize(cut, (small, small), interpolation=cv2.INTER_AREA)
        return cv2.resize(reduced, cut.shape[:2], interpolation=cv2.INTER_LINEAR)
    code = cv2.imencode(".jpg", cut, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(15, 70))])[1]
    return np.asarray(cv2.imdecode(code, cv2.IMREAD_COLOR))


def _occlude(cut: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Something in front: an ellipse of one colour or of another part of the picture."""
    mask = np.zeros(cut.shape[:2], np.uint8)
    place, axes = rng.integers(0, INPUT_SIZE, 2).tolist(), rng.integers(5, 26, 2).tolist()
    cv2.ellipse(mask, place, axes, float(rng.uniform(0, 180)), 0, 360, 1, -1)
    front = np.roll(cut, tuple(rng.integers(20, 90, 2)), (0, 1)) if rng.random() < 0.5 else rng.integers(0, 256, 3)
    return np.where(mask[..., None] > 0, front, cut).astype(np.uint8)


def tensor(crops: np.ndarray) -> Tensor:
    """Pictures [B, S, S, 3] uint8 as the network takes them, [B, 3, S, S] in [0, 1]."""
    return torch.from_numpy(np.ascontiguousarray(crops.transpose(0, 3, 1, 2))).float() / 255
