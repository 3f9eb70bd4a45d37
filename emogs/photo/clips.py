"""A clip's landmarks as a fit takes them: checked, 68 points and perhaps the irises, pixels, weights."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from numbers import Real

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from .errors import PhotoError
from .fit import face_size
from .mediapipe import IRISES, VERTICES

MOST_FRAMES = 1_000_000
_FEWEST_POINTS = 20
"""Landmarks that a frame must have to count as seen."""
_COUNTS = {68: "iBUG's 68", 468: "MediaPipe's 468", 478: "MediaPipe's 478"}


@dataclass(frozen=True)
class Clip:
    """T frames of landmarks."""

    found: Tensor  # [T, P, 2] float64 pixels, finite; anything where the weight is 0
    weight: Tensor  # [T, P] float64 in [0, 1]
    given: Tensor  # [T, P, 2] as found, NaN where missing
    fps: float
    middle: tuple[float, float]
    """Pixels of the optical axis."""

    def __len__(self) -> int:
        return len(self.found)


def check_clip(
    landmarks: ArrayLike | Tensor,
    fps: float,
    size: tuple[float, float] | None,
    visibility: ArrayLike | Tensor | None,
    irises: bool,
) -> Clip:
    """The arguments of `fit_sequence` as a Clip; PhotoError or ValueError says what is wrong with them."""
    points = _numbers("landmarks", landmarks)
    if points.ndim != 3 or points.shape[1] not in _COUNTS or points.shape[2] < 2:
        kinds = ", ".join(f"[T, {count}, 2] ({name})" for count, name in _COUNTS.items())
        raise PhotoError(f"landmarks: expected {kinds}, more coordinates allowed, got {list(points.shape)}")
    if not 1 <= len(points) <= MOST_FRAMES:
        raise PhotoError(f"landmarks: expected 1 to {MOST_FRAMES} frames, got {len(points)}")
    if isinstance(fps, bool) or not isinstance(fps, Real) or not 1 <= fps <= 1000:
        raise ValueError(f"fps: expected 1 to 1000 frames a second, got {fps!r}")
    weight = _weights(visibility, points)
    chosen = _chosen(points.shape[1], irises)
    points, weight = points[:, chosen, :2], weight[:, chosen]
    there = points.isfinite().all(-1)
    if (points[there].abs() > 1e6).any():
        frame = int((torch.where(there[..., None], points, 0.0).abs().amax((1, 2)) > 1e6).nonzero()[0, 0])
        raise PhotoError(f"landmarks: frame {frame} lies beyond a million pixels")
    points = _in_pixels(points, there, size)
    weight = torch.where(there, weight, 0.0)
    weight[(weight[:, :68] > 0).sum(1) < _FEWEST_POINTS] = 0
    seen = (weight[:, :68] > 0).any(1)
    if not seen.any():
        raise PhotoError(f"landmarks: none of {len(points)} frames has {_FEWEST_POINTS} or more finite points")
    found = _without_holes(points, weight)
    sizes = face_size(found)
    if (seen & (sizes < 1)).any():
        frame = int((seen & (sizes < 1)).nonzero()[0, 0])
        raise PhotoError(f"landmarks: those of frame {frame} all lie in one place")
    marks = found[seen, :68]
    middle = (marks.amin((0, 1)) + marks.amax((0, 1))) / 2 if size is None else torch.tensor(size) / 2
    given = torch.where(weight[..., None] > 0, points, torch.nan)
    return Clip(found, weight, given, float(fps), (float(middle[0]), float(middle[1])))


def _numbers(name: str, values: ArrayLike | Tensor) -> Tensor:
    try:
        out = torch.as_tensor(values, dtype=torch.float64)
    except (TypeError, ValueError, RuntimeError):
        raise PhotoError(f"{name}: expected an array of numbers, got {type(values).__name__}") from None
    return out.detach().cpu()


def _weights(visibility: ArrayLike | Tensor | None, points: Tensor) -> Tensor:
    if visibility is None:
        return torch.ones(points.shape[:2], dtype=torch.float64)
    weight = _numbers("visibility", visibility)
    if weight.shape != points.shape[:2]:
        raise PhotoError(f"visibility: expected {list(points.shape[:2])}, got {list(weight.shape)}")
    known = weight[weight.isfinite()]
    if ((known < 0) | (known > 1)).any():
        raise PhotoError(f"visibility: expected 0 to 1, got {float(known.min()):g} to {float(known.max()):g}")
    return weight.nan_to_num(0.0)


def _chosen(count: int, irises: bool) -> list[int]:
    """Which points the fit takes."""
    if count == 68:
        return list(range(68))
    return [*VERTICES, *IRISES] if irises and count == 478 else list(VERTICES)


def _in_pixels(points: Tensor, there: Tensor, size: tuple[float, float] | None) -> Tensor:
    """[T, P, 2] pixels; MediaPipe's coordinates are shares of the picture's width and height."""
    sides = tuple(size) if isinstance(size, Iterable) else (size,)
    if size is not None and not (len(sides) == 2 and all(isinstance(x, Real) and 0 < x < 1e6 for x in sides)):
        raise PhotoError(f"size: expected the picture's width and height in pixels, got {size!r}")
    if not there.any() or (points[there].abs() > 4).any():
        return points
    if size is None:
        raise PhotoError("size: the landmarks are shares of the picture (all within 4 of 0); give its width and height")
    return points * torch.tensor(size, dtype=torch.float64)


def _without_holes(points: Tensor, weight: Tensor) -> Tensor:
    """[T, P, 2] with the mean of a frame's points where one is missing, so that sizes stay sizes."""
    there = (weight > 0)[..., None]
    mean = torch.where(there, points, 0.0).sum(1, keepdim=True) / there.sum(1, keepdim=True).clamp_min(1)
    return torch.where(there, points, mean)
