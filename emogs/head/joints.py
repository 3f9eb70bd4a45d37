"""The joints of heads that come without a skeleton: neck, jaw and both eyes, placed by landmarks and parts."""

from __future__ import annotations

import torch
from torch import Tensor

from .hinges import balanced, sphere_centre
from .muscles import ramp
from .skeleton import Skeleton

JOINTS = ("neck", "jaw", "eye_left", "eye_right")
_PARENTS = (-1, 0, 0, 0)
_NECK = (0.75, 0.1)
"""Outer-eye distances below the chin where the neck begins to turn, and above which all turns."""
_JAW_DROP = 0.2
"""The jaw's axis lies this many outer-eye distances behind and below the ears' front."""


def place_joints(
    vertices: Tensor, landmarks: Tensor, jaw: Tensor, balls: tuple[Tensor, Tensor], inside: Tensor
) -> Skeleton:
    """A skeleton for a head at rest.

    Args:
        vertices: [V, 3] metres, upright, looking along +z. landmarks: [68]. jaw: [V] share of the jaw's turn.
        balls: vertices of the left and the right eye. inside: [V] bool: teeth, tongue and eyes, which bone carries.
    """
    rest = vertices.double()
    marks = rest[landmarks]
    size = (marks[45] - marks[36]).norm()
    ears = marks[[0, 16]].mean(0)
    centres = {
        "neck": torch.stack([ears[0], marks[[4, 12], 1].mean(), ears[2] - 0.3 * size]),
        "jaw": ears - torch.stack([0 * size, _JAW_DROP * size, _JAW_DROP * size]),
        "eye_left": sphere_centre(rest[balls[0]]),
        "eye_right": sphere_centre(rest[balls[1]]),
    }
    carriers = {"neck": landmarks[:17], "jaw": landmarks[:17], "eye_left": balls[0], "eye_right": balls[1]}
    regressor = torch.zeros(len(JOINTS), len(rest), dtype=torch.float64)
    for row, name in zip(regressor, JOINTS, strict=True):
        row[carriers[name]] = balanced(rest[carriers[name]], centres[name])
    height = (rest[:, 1] - marks[8, 1]) / size
    head = torch.where(inside, 1.0, ramp(height, -_NECK[0], _NECK[1]))
    weights = torch.zeros(len(rest), len(JOINTS), dtype=torch.float64)
    weights[:, 1] = jaw.double() * head
    for column, ball in zip((2, 3), balls, strict=True):
        weights[ball, column] = 1.0
    weights[:, 0] = (head - weights[:, 1:].sum(1)).clamp(min=0)
    return Skeleton(JOINTS, torch.tensor(_PARENTS), regressor.float(), weights.float())
