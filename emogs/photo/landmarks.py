"""68 facial landmarks (iBUG order) in a photo, by a small convolutional network trained on rendered faces.

The network answers for a square crop around the face; the crop then follows the answer, and the median over shifted,
scaled and mirrored crops removes most of what is accidental. The jaw is the visible contour, so it moves with the view.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

Image = NDArray[np.uint8]
Pixels = NDArray[np.float64]
Box = tuple[float, float, float, float]
"""Left, top, width, height in pixels; brows to chin and cheek to cheek, as Haar cascades frame a face."""
Jitter = tuple[tuple[float, float, float], ...]

INPUT_SIZE = 112
CROP_PER_BOX = 1.4
"""Side of the crop over the longer side of the landmarks' bounding box."""
MIRRORED = (
    *range(16, -1, -1), *range(26, 16, -1), 27, 28, 29, 30, 35, 34, 33, 32, 31,
    45, 44, 43, 42, 47, 46, 39, 38, 37, 36, 41, 40,
    54, 53, 52, 51, 50, 49, 48, 59, 58, 57, 56, 55, 64, 63, 62, 61, 60, 67, 66, 65,
)  # fmt: skip
"""Landmark i of a mirrored face is landmark MIRRORED[i] of the original."""
GROUPS = {
    "jaw": slice(0, 17),
    "brow": slice(17, 27),
    "nose": slice(27, 36),
    "eye": slice(36, 48),
    "mouth": slice(48, 68),
}
"""The groups by which landmark errors are reported."""
WEIGHTS = Path(__file__).parent / "weights" / "landmarks.safetensors"

_JITTER = ((0.0, 0.0, 1.0), *((x, y, s) for x in (-0.04, 0.04) for y in (-0.04, 0.04) for s in (0.93, 1.07)))
_ROUNDS = (_JITTER[:1], _JITTER[:1], _JITTER)
"""Shifts (shares of the side) and zooms of the crops looked at in turn; each is looked at mirrored too."""
_SCAN_SCALES, _SCAN_STEP, _SCAN_STRIDE, _SCAN_BEST = 5, 1.4, 0.2, 6
_CROP_PER_WIDTH, _MIDDLE_OF_BOX = 1.35, 0.69  # a Haar box ends above the chin


@dataclass(frozen=True)
class Landmarks:
    """Where the 68 points are and how far they may be off."""

    points: NDArray[np.float32]  # [68, 2] pixels, pixel centres at +0.5
    spread: NDArray[np.float32]  # [68] pixels: the network's own expected error, or the jitter's deviation where larger

    @property
    def extent(self) -> float:
        """Longer side of their bounding box, pixels."""
        return float((self.points.max(0) - self.points.min(0)).max())

    @property
    def doubt(self) -> float:
        """Mean spread over the extent: up to 0.03 on 60 rendered faces, 0.05 and more on what is none."""
        return float(self.spread.mean()) / max(self.extent, 1e-6)


class _Convolution(nn.Sequential):
    def __init__(self, inputs: int, outputs: int, stride: int = 1):
        convolution = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        super().__init__(convolution, nn.BatchNorm2d(outputs), nn.SiLU())


class _Residual(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.body = nn.Sequential(
            _Convolution(width, width), nn.Conv2d(width, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width)
        )

    def forward(self, x: Tensor) -> Tensor:
        return functional.silu(x + self.body(x))


class LandmarkNet(nn.Module):
    """Every cell of a 14 x 14 grid votes for each landmark: a weight and an offset; the landmark is the weighted mean.

    About 0.7M parameters. The vote ties a landmark to what is seen near it; a coarser level adds context.
    """

    def __init__(self, points: int = 68):
        super().__init__()
        self.points = points
        self.fine = nn.Sequential(
            _Convolution(3, 24, 2), _Convolution(24, 48, 2), _Convolution(48, 80, 2), _Residual(80)
        )
        self.coarse = nn.Sequential(_Convolution(80, 128, 2), _Residual(128))
        self.context = nn.Conv2d(128, 80, 1)
        self.merge = _Convolution(80, 80)
        self.votes = nn.Conv2d(80, 3 * points, 1)
        self.doubt = nn.Linear(128, points)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Landmarks in a crop.

        Args:
            image: [B, 3, 112, 112] in [0, 1].
        Returns:
            points [B, 68, 2] in crop units (0 is its left or top edge, 1 the other), and the expected distance from the
            truth [B, 68] in the same unit.
        """
        fine = self.fine(image * 2 - 1)
        coarse = self.coarse(fine)
        merged = self.merge(fine + functional.interpolate(self.context(coarse), scale_factor=2))
        votes = self.votes(merged).float()
        batch, _, height, width = votes.shape
        weight, offset = votes.reshape(batch, self.points, 3, height * width).split([1, 2], 2)
        rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
        cell = torch.stack([(columns + 0.5) / width, (rows + 0.5) / height]).reshape(2, -1).to(votes)
        points = (weight.softmax(-1) * (cell + offset / width)).sum(-1)
        return points, functional.softplus(self.doubt(coarse.mean((2, 3))).float() - 4)


@lru_cache(maxsize=1)
@torch.inference_mode(False)
def landmark_net() -> LandmarkNet:
    """The shipped network, read once, in evaluation mode."""
    net = LandmarkNet()
    net.load_state_dict(load_file(WEIGHTS))
    return net.eval().requires_grad_(False)


def find_landmarks(image: Image, box: Box, net: LandmarkNet | None = None) -> Landmarks:
    """Landmarks of the face in a box.

    Args:
        image: [H, W, 3] RGB.
        box: where the face is, roughly.
        net: another network than the shipped one.
    """
    left, top, width, height = box
    middle, side = np.array([left + width / 2, top + _MIDDLE_OF_BOX * height]), _CROP_PER_WIDTH * width
    for crops in _ROUNDS:
        points, spread = _vote(net or landmark_net(), image, middle, side, crops)
        low, high = points.min(0), points.max(0)
        middle, side = (low + high) / 2, CROP_PER_BOX * (high - low).max()
    return Landmarks(points.astype(np.float32), spread.astype(np.float32))


def box_around(middle: Pixels, extent: float) -> Box:
    """The box of landmarks whose bounding box has a middle [2] and a longer side: `find_landmarks` starts there."""
    width = CROP_PER_BOX / _CROP_PER_WIDTH * extent
    return float(middle[0]) - width / 2, float(middle[1]) - _MIDDLE_OF_BOX * width, width, width


def scan_for_faces(image: Image) -> list[Box]:
    """Where in a photo the network doubts least, a few boxes; slower than a cascade and blind to small faces.

    Windows from the photo's shorter side down to a quarter of it, at steps of a fifth of their side.
    """
    height, width = image.shape[:2]
    found: list[tuple[float, Box]] = []
    for side in min(height, width) / _SCAN_STEP ** np.arange(_SCAN_SCALES):
        source, shrink = _shrunk(image, side)
        columns, rows = (np.arange(0, length - side + 1, _SCAN_STRIDE * side) for length in (width, height))
        corners = np.stack(np.meshgrid(columns, rows), -1).reshape(-1, 2)
        crops = np.stack([cut(source, corner * shrink, side * shrink) for corner in corners])
        with torch.no_grad():
            points, doubt = landmark_net()(torch.from_numpy(crops).permute(0, 3, 1, 2).float() / 255)
        low, high = points.amin(1).numpy(), points.amax(1).numpy()
        extents = (high - low).max(1)
        for corner, middle, extent, mean in zip(
            corners, (low + high) / 2, extents, doubt.mean(1).tolist(), strict=True
        ):
            found.append((mean / extent, box_around(corner + middle * side, extent * side)))
    return [box for _, box in sorted(found)[:_SCAN_BEST]]


def _vote(net: LandmarkNet, image: Image, middle: Pixels, side: float, jitter: Jitter) -> tuple[Pixels, Pixels]:
    """Median points [68, 2] and spread [68] over jittered crops and their mirror images."""
    source, shrink = _shrunk(image, side)
    extents = side * np.array([zoom for _, _, zoom in jitter])
    corners = middle + side * np.array([(x, y) for x, y, _ in jitter]) - extents[:, None] / 2
    crops = [cut(source, corner * shrink, extent * shrink) for corner, extent in zip(corners, extents, strict=True)]
    batch = torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2).float() / 255
    with torch.no_grad():
        points, doubt = net(torch.cat([batch, batch.flip(3)]))
    straight, mirrored = points.chunk(2)
    mirrored = torch.stack([1 - mirrored[..., 0], mirrored[..., 1]], -1)[:, list(MIRRORED)]
    doubts = torch.stack([doubt[: len(jitter)], doubt[len(jitter) :, list(MIRRORED)]]).numpy() * extents[:, None]
    placed = corners[:, None] + torch.stack([straight, mirrored]).numpy() * extents[:, None, None]
    placed = placed.reshape(-1, *placed.shape[2:])
    scatter = np.linalg.norm(placed.std(0), axis=1)
    return np.median(placed, 0), np.maximum(np.median(doubts.reshape(-1, len(scatter)), 0), scatter)


def _shrunk(image: Image, side: float) -> tuple[Image, float]:
    """The image reduced so that a crop of `side` pixels is sampled without aliasing, and the factor."""
    factor = min(1.0, 1.5 * INPUT_SIZE / side)
    if factor > 0.75:
        return image, 1.0
    height, width = image.shape[:2]
    small = cv2.resize(
        image, (max(1, round(width * factor)), max(1, round(height * factor))), interpolation=cv2.INTER_AREA
    )
    return small, small.shape[1] / width


def cut(image: Image, corner: Pixels, extent: float) -> Image:
    """The square [112, 112, 3] of an image whose top-left corner and side are given in pixels; edges are repeated."""
    scale = INPUT_SIZE / extent
    # cv2 counts from pixel centres: its 0 is our 0.5.
    shift = 0.5 * scale - 0.5 - corner * scale
    matrix = np.array([[scale, 0, shift[0]], [0, scale, shift[1]]])
    return cv2.warpAffine(
        image, matrix, (INPUT_SIZE, INPUT_SIZE), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
