"""Where open lips are seen to end: lips are round, and hide the line on which they meet.

In a photo the inner lip landmarks mark the last visible red before the teeth. On the template they lie where the lips
touch when they close, which an open mouth turns away from the camera. The difference is measured with rays.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ..head.template import HeadTemplate
from .fit import Solution
from .view import HeadView

_COLUMNS = ((50, 61, 67, 58), (51, 62, 66, 57), (52, 63, 65, 56))  # outer upper, inner upper, inner lower, outer lower
_SAMPLES = 128
_LEAST_OPENING = 0.04
"""Gap between the lips found, in widths of the mouth, below which the mouth may be closed."""


def hidden_lips(found: Tensor, template: HeadTemplate, solution: Solution, size: int) -> Tensor:
    """Pixels [68, 2] from each landmark of a solution to where the surface's outline shows it.

    Zeros but for the six inner lip landmarks of a mouth that is open both in the photo and on the mesh.

    Args:
        found: [68, 2] landmarks in the photo.
        solution: what was fitted to them.
        size: side of the picture.
    """
    offset = torch.zeros_like(found)
    width = (found[54] - found[48]).norm()
    gaps = torch.stack([(found[up] - found[down]).norm() for _, up, down, _ in _COLUMNS])
    if gaps.min() < _LEAST_OPENING * width or "skin" not in template.part_names:
        return offset
    vertices = solution.vertices(template)
    view = HeadView(template, vertices, vertices, solution.viewmat, solution.K, size)
    skin = template.part_names.index("skin")
    for top, up, down, bottom in _COLUMNS:
        share = torch.linspace(0, 1, _SAMPLES)[:, None]
        line = (solution.fitted[top] * (1 - share) + solution.fitted[bottom] * share).numpy()
        rays = view.directions(line)
        face = view.first_hits(np.zeros_like(rays), rays)["primID"].astype(np.int64)
        within = np.nonzero((face >= 0) & (template.face_part.numpy()[face.clip(0)] != skin))[0]
        if len(within) == 0:
            return torch.zeros_like(found)
        offset[up] = torch.from_numpy(line[within[0]]) - solution.fitted[up]
        offset[down] = torch.from_numpy(line[within[-1]]) - solution.fitted[down]
    offset[:, 0] = 0  # along the lips nothing is hidden
    return offset
