"""Small image tools that several steps share: soft steps, a guided filter, distances, sampling."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]
Mask = NDArray[np.bool_]


def smoothstep(low: float, high: float, x: Array) -> Array:
    """0 below `low`, 1 above `high` (or the reverse if low > high), a cubic between."""
    t = np.clip((x - low) / (high - low), 0, 1)
    return (t * t * (3 - 2 * t)).astype(np.float32)


def guided_filter(guide: Array, target: Array, radius: int, epsilon: float) -> Array:
    """Makes target [H, W] follow the colour edges of guide [H, W, 3] (He et al., Guided Image Filtering, 2010)."""

    def box(x: Array) -> Array:
        return cv2.blur(x, (2 * radius + 1, 2 * radius + 1), borderType=cv2.BORDER_REFLECT)

    mean, mean_target = box(guide), box(target)
    products = np.stack([guide[..., i] * guide[..., j] for i in range(3) for j in range(3)], -1)
    second = np.concatenate([box(products[..., k : k + 3]) for k in (0, 3, 6)], -1).reshape(*target.shape, 3, 3)
    covariance = second - mean[..., :, None] * mean[..., None, :] + epsilon * np.eye(3, dtype=np.float32)
    cross = box(guide * target[..., None]) - mean * mean_target[..., None]
    slope = np.linalg.solve(covariance, cross[..., None])[..., 0]
    offset = mean_target - (slope * mean).sum(-1)
    return ((box(slope.astype(np.float32)) * guide).sum(-1) + box(offset.astype(np.float32))).astype(np.float32)


def nearest(mask: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.int64], Array]:
    """Row, column and distance in pixels of each pixel's nearest pixel in a mask [H, W] that is not empty."""
    distance, label = cv2.distanceTransformWithLabels(
        (~mask).astype(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
    )
    rows, columns = np.nonzero(mask)
    of_label = np.empty(label.max() + 1, np.int64)
    of_label[label[mask]] = np.arange(len(rows))
    index = of_label[label]
    return rows[index], columns[index], distance


def inside_distance(mask: NDArray[np.bool_]) -> Array:
    """Distance [H, W] in pixels to the nearest pixel outside a mask; the image's border does not count as outside."""
    if mask.all():
        return np.full(mask.shape, float(max(mask.shape)), np.float32)
    return cv2.distanceTransform(mask.astype(np.uint8), cv2.DIST_L2, 5)


def sample(image: Array, pixels: Array) -> Array:
    """Bilinear values [..., D] of an image [H, W(, D)] at pixels [..., 2] (centres at +0.5); the border repeats."""
    flat = np.ascontiguousarray(pixels.reshape(-1, 1, 2), np.float32) - np.float32(0.5)
    rows = []
    for start in range(0, len(flat), 30000):  # remap takes at most 32767 rows
        part = flat[start : start + 30000]
        rows.append(cv2.remap(image, part, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE))
    out = np.concatenate(rows) if rows else np.zeros((0, 1, *image.shape[2:]), image.dtype)
    return out.reshape(*pixels.shape[:-1], *image.shape[2:])


def resize(image: Array, size: int) -> Array:
    """Square image at another size: averaged when smaller, linear when larger."""
    smaller = size < image.shape[0]
    return cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA if smaller else cv2.INTER_LINEAR)
