"""Lids and eyeballs turn about the eye's centre: a straight path from open to closed would pass through the ball.

A lid vertex turns about the horizontal axis by the angle that its own place along the margin has to travel, so that the
whole margin arrives on one line, the corners stay, and the skin above unrolls. Gaze turns the balls and takes the lids
along; widening and squinting use the same turn with smaller or opposite angles. Turns about one axis add up exactly.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .face import Eye, Face
from .muscles import falloff, piecewise, ramp
from .template import ARKIT_NAMES, Rotation

_MEET = 0.12
"""Where the lids meet, as a share of the opening, from the lower margin."""
_UPPER_SKIN, _LOWER_SKIN = 21.0, 44.0
"""Degrees of skin beyond the margin over which the lid's turn fades out; the upper lid's ends in its crease."""
_UPPER_DEPTH, _LOWER_DEPTH = (1.15, 1.34), (1.15, 1.65)
"""Lid skin lies within the first multiple of the ball's radius; from the second on there is brow, nose or cheek."""
_OVERLAP = 1.08
"""Closing goes this far beyond the meeting of the margins' inner edges: outer edges meet, and wider eyes close too."""
_CLEARANCE = 0.35
"""Least distance, mm, of a lid in motion from the sphere on which the cornea sweeps."""

# Channel: turn of the upper and of the lower lid, each as a share of its own closing turn (positive closes).
_LIDS = {
    "eyeBlink": (1.0, 1.0),
    "eyeSquint": (0.20, 1.6),
    "eyeWide": (-0.42, -0.5),
    "cheekSquint": (0.05, 1.2),
    "eyeLookUp": (-0.34, 1.2),
    "eyeLookDown": (0.68, -1.8),
}
GAZE_OUT = {"eyeLookIn": -30.0, "eyeLookOut": 30.0}
GAZE_DOWN = {"eyeLookUp": -25.0, "eyeLookDown": 25.0}
"""Degrees by which a ball turns; right-handed about +y for the left eye and about +x."""


def eye_rotations(face: Face) -> tuple[Rotation, ...]:
    """Rotations of both eyes' balls and lids."""
    sideways, upright = torch.tensor([0.0, 1.0, 0.0]), torch.tensor([1.0, 0.0, 0.0])
    rotations = []
    for side, eye, sign in (("Left", face.left_eye, 1.0), ("Right", face.right_eye, -1.0)):
        pivot = face.pivot(eye.centre, eye.vertices).float()
        ball = torch.zeros(len(face.points))
        ball[eye.vertices] = 1.0
        out = {f"{name}{side}": sign * math.radians(degrees) for name, degrees in GAZE_OUT.items()}
        down = {f"{name}{side}": math.radians(degrees) for name, degrees in GAZE_DOWN.items()}
        rotations.append(Rotation(channel_angles(out), sideways, pivot, ball))
        rotations.append(Rotation(channel_angles(down), upright, pivot, ball))
        for which, turn in enumerate(lid_turns(face, side)):
            largest = (1.0, -1.0)[which] * float(turn.amax())
            angles = {f"{name}{side}": largest * shares[which] for name, shares in _LIDS.items()}
            rotations.append(Rotation(channel_angles(angles), upright, pivot, (turn / turn.amax()).float()))
    return tuple(rotations)


def channel_angles(radians: dict[str, float]) -> Tensor:
    """[52] radians by channel."""
    return torch.tensor([radians.get(name, 0.0) for name in ARKIT_NAMES])


def lid_turns(face: Face, side: str) -> tuple[Tensor, Tensor]:
    """([V], [V]) radians by which skin turns when the upper lid comes down and the lower lid up to close the eye."""
    if side == "Right":
        upper, lower = lid_turns(face, "Left")
        return face.mirrored(upper), face.mirrored(lower)
    regions, eye = face.regions, face.left_eye
    across, elevation = _spherical(face.points, eye)
    top = piecewise(across, across[regions.lid_upper_left], elevation[regions.lid_upper_left])
    bottom = piecewise(across, across[regions.lid_lower_left], elevation[regions.lid_lower_left])
    opening = _OVERLAP * (top - bottom).clamp(min=0)
    depth = (face.points - eye.centre).norm(dim=1) / eye.radius
    here = face.skin * (face.points[:, 2] > eye.centre[2])
    middle = (top + bottom) / 2
    above = torch.rad2deg(elevation - top).clamp(min=0)
    below = torch.rad2deg(bottom - elevation).clamp(min=0)
    upper = (elevation > middle) * falloff(above / _UPPER_SKIN) * opening * (1 - _MEET)
    lower = (elevation < middle) * falloff(below / _LOWER_SKIN) * opening * _MEET
    return upper * here * ramp(depth, *_UPPER_DEPTH[::-1]), lower * here * ramp(depth, *_LOWER_DEPTH[::-1])


def lid_lift(face: Face) -> Tensor:
    """[V, 3] how far a closing left lid rises so that the cornea, wherever it looks, never comes through."""
    upper, _ = lid_turns(face, "Left")
    eye = face.left_eye
    arm = face.points - eye.centre
    distance = arm.norm(dim=1)
    moving = ramp(upper / upper.amax(), 0.0, 0.4)
    lift = (eye.cornea + _CLEARANCE - distance).clamp(min=0) * moving
    return (lift / distance)[:, None] * arm


def _spherical(points: Tensor, eye: Eye) -> tuple[Tensor, Tensor]:
    """Sideways position and elevation angle about the eye's horizontal axis."""
    arm = points - eye.centre
    return arm[:, 0], torch.atan2(arm[:, 1], arm[:, 2])
