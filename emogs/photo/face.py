"""One photo, one face: find it, place its landmarks, fit the head, cut the square that the avatar is made from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from emogs.head.template import HeadTemplate

from .detect import check_box, check_photo, choose_face, find_faces
from .errors import PhotoError
from .fit import check_landmarks, solve
from .landmark_model import check_template
from .landmarks import find_landmarks
from .opening import hidden_lips

CROP_SIZE = 512
_CROWN = 1.75
"""Height of a head with hair, in units from chin to brows."""
_FILL = 0.575
"""Share of the crop's height that this head takes; above it is a quarter of the rest, below it room for shoulders."""
_HEADROOM = 0.12
_DOUBT = 0.06
"""Landmarks so doubtful are not used even in a box that the user insists on; the detector asks for less."""
_OPENINGS = 2
"""Times that the fit is repeated with the lips' hidden part allowed for."""
_WIDEST = 0.95
"""Chin to brows over the jaw's width: a face that looks up or down is measured by its width instead."""


@dataclass(frozen=True)
class HeadFit:
    """A head in a square crop of a photo, 512 x 512 pixels; the pose is in `viewmat`, the head stays in head space."""

    identity: Tensor  # [I] float32 standard deviations
    expression: Tensor  # [E] float32; ARKit's 52 values are in [0, 1]
    viewmat: Tensor  # [4, 4] float32 head space to OpenCV camera, metres
    K: Tensor  # [3, 3] float32 crop pixels
    width: int  # 512
    height: int  # 512
    landmarks: Tensor  # [68, 2] float32 found, crop pixels
    fitted: Tensor  # [68, 2] float32 of the fitted template, crop pixels
    error: float  # mean distance between the two over the outer-eye distance
    crop: NDArray[np.uint8]  # [512, 512, 3] RGB; where the photo ends its edge is repeated
    valid: NDArray[np.bool_]  # [512, 512] False where the photo had ended
    square: tuple[float, float, float]  # left, top, side of the crop in the photo's pixels
    pose: Tensor | None = None  # [J, 3] float32 rotation vectors of joints that no channel drives, as FLAME's jaw

    def vertices(self, template: HeadTemplate) -> Tensor:
        """[V, 3] of the template as it is in the photo, head space."""
        pose = None if self.pose is None else self.pose[None]
        return template.deform(self.identity[None], self.expression[None], pose)[0]

    def neutral(self, template: HeadTemplate) -> Tensor:
        """[V, 3] of the same person without expression, head space."""
        return template.deform(self.identity[None])[0]


def fit_photo(
    image: NDArray[np.uint8],
    *,
    face: int | None = None,
    box: Sequence[float] | None = None,
    landmarks: NDArray | None = None,
    template: HeadTemplate | None = None,
) -> HeadFit:
    """Fits a head to the one face in a photo that is meant.

    Args:
        image: [H, W, 3] uint8 RGB.
        face: 1-based number among the faces found, needed if there are several.
        box: left, top, width, height in pixels instead of the detector's: brows to chin, cheek to cheek.
        landmarks: [68, 2] pixels (pixel centres at +0.5, iBUG order) instead of detector and landmark network.
        template: the head; None is the built-in one.
    Raises:
        PhotoError: no face, several, too small, or landmarks that are not a face's; the message says what would help.
        TypeError: the template is no HeadTemplate.

    Example:
        >>> import skimage.data
        >>> fit = fit_photo(skimage.data.astronaut())
        >>> fit.crop.shape, fit.error < 0.06
        ((512, 512, 3), True)
    """
    image, head = check_photo(image), check_template(template)
    spread = None
    if landmarks is None:
        found = find_landmarks(image, check_box(box) if box is not None else choose_face(find_faces(image), face))
        if not found.doubt < _DOUBT:
            raise PhotoError("no face can be made out in that box; give another, or 68 points with --landmarks")
        landmarks, spread = found.points, torch.from_numpy(found.spread)
    return _fit_landmarks(image, check_landmarks(landmarks).float(), spread, head)


def _fit_landmarks(image: NDArray[np.uint8], points: Tensor, spread: Tensor | None, template: HeadTemplate) -> HeadFit:
    square = head_square(points)
    left, top, side = square
    scale = CROP_SIZE / side
    crop, valid = cut_square(image, square)
    placed = (points - points.new_tensor([left, top])) * scale
    spread = None if spread is None else spread * scale
    solution = solve(placed, template, size=CROP_SIZE, spread=spread)
    for _ in range(_OPENINGS):
        hidden = hidden_lips(placed, template, solution, CROP_SIZE)
        if not hidden.any():
            break
        solution = solve(placed - hidden, template, size=CROP_SIZE, spread=spread)
    return HeadFit(
        identity=solution.identity,
        expression=solution.expression,
        viewmat=solution.viewmat,
        K=solution.K,
        width=CROP_SIZE,
        height=CROP_SIZE,
        landmarks=placed,
        fitted=solution.fitted,
        error=solution.error,
        crop=crop,
        valid=valid,
        square=square,
        pose=solution.pose,
    )


def head_square(points: Tensor) -> tuple[float, float, float]:
    """Left, top, side of the square around a head whose landmarks [68, 2] are known: hair above, shoulders below."""
    chin, brow = points[8], points[17:27].mean(0)
    width = float((points[16] - points[0]).norm())
    up = brow - chin
    tall = max(float(up.norm()), _WIDEST * width)
    side = _CROWN / _FILL * tall
    # From the crop's middle up to the crown is (1/2 - headroom) of the side; the chin lies a head below that.
    raised = _CROWN * tall - (0.5 - _HEADROOM) * side
    low, high = points.amin(0), points.amax(0)
    middle_x = float(low[0] + high[0]) / 2
    middle_y = float(chin[1] + up[1] / up.norm().clamp_min(1e-6) * raised)
    return middle_x - side / 2, middle_y - side / 2, side


def cut_square(
    image: NDArray[np.uint8], square: tuple[float, float, float]
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """The square as [512, 512, 3], with the photo's edge repeated beyond it, and where it is the photo [512, 512]."""
    left, top, side = square
    scale = CROP_SIZE / side
    if scale < 0.75:
        height, width = image.shape[:2]
        image = cv2.resize(image, (round(width * scale), round(height * scale)), interpolation=cv2.INTER_AREA)
        left, top, scale = left * image.shape[1] / width, top * image.shape[0] / height, scale * width / image.shape[1]
    matrix = np.array([[scale, 0, 0.5 * scale - 0.5 - left * scale], [0, scale, 0.5 * scale - 0.5 - top * scale]])
    size, flags = (CROP_SIZE, CROP_SIZE), cv2.INTER_CUBIC
    crop = cv2.warpAffine(image, matrix, size, flags=flags, borderMode=cv2.BORDER_REPLICATE)
    inside = cv2.warpAffine(np.ones(image.shape[:2], np.float32), matrix, size, flags=cv2.INTER_LINEAR)
    return crop, inside > 0.5
