"""MediaPipe's 478 face landmarks as the 68 that a fit takes.

For each of iBUG's points the vertex of MediaPipe's canonical face mesh at the same place, by names where the mesh has
a corner or an edge of its own and by distance from the built-in head elsewhere. The jaw is the mesh's rim, which is
not the silhouette of a turned face. Of the irises' ten points, which come last, the two
middles tell gaze.
"""

from __future__ import annotations

from torch import Tensor

from .errors import PhotoError

VERTICES = (
    127, 234, 93, 132, 172, 136, 149, 148, 152, 377, 378, 365, 397, 361, 323, 454, 356,
    71, 63, 105, 66, 107, 336, 296, 334, 293, 301,
    168, 197, 5, 4, 98, 97, 2, 326, 327,
    33, 160, 158, 133, 153, 144, 362, 385, 387, 263, 373, 380,
    61, 39, 37, 0, 267, 269, 291, 405, 314, 17, 84, 181,
    78, 81, 13, 311, 308, 402, 14, 178,
)  # fmt: skip
"""[68] MediaPipe's vertex of each iBUG point."""
IRISES = (473, 468)
"""The middles of the subject's left and right iris."""


def from_mediapipe(points: Tensor, width: float = 1.0, height: float = 1.0) -> Tensor:
    """The 68 landmarks among MediaPipe's.

    Args:
        points: [478, D] or, without irises, [468, D], D at least 2; x and y in [0, 1] of the picture.
        width, height: of the picture in pixels.
    Returns:
        [68, 2] pixels in the iBUG order.
    Raises:
        PhotoError: another shape, or a coordinate that is not finite.
    """
    if points.ndim != 2 or points.shape[0] not in (468, 478) or points.shape[1] < 2:
        raise PhotoError(f"points: expected [478, 2] or [468, 2] of MediaPipe's landmarks, got {list(points.shape)}")
    if not points.isfinite().all():
        raise PhotoError("points: expected finite coordinates, got others")
    return points[list(VERTICES), :2] * points.new_tensor([width, height])
