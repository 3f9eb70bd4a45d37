"""Performances whose truth is known: blinks, gaze, speech and head turns of a template, seen as landmarks."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch

from emogs.data.faces import camera_at
from emogs.head import ARKIT_NAMES, HeadTemplate
from emogs.photo.landmark_model import landmark_model
from emogs.photo.mediapipe import IRISES, VERTICES

SIZE = (640, 480)
FOCAL = 560.0
FPS = 30.0
BLINK = (0.35, 0.9, 1.0, 0.7, 0.35, 0.1)
"""Lids over the frames of one blink, at 30 a second."""
LOOKS = ("eyeLookInLeft", "eyeLookOutLeft", "eyeLookUpLeft", "eyeLookDownLeft")


@dataclass(frozen=True)
class Performance:
    """T frames, and what is true of them."""

    identity: torch.Tensor  # [I]
    values: torch.Tensor  # [T, 52]
    viewmats: torch.Tensor  # [T, 4, 4]
    landmarks: torch.Tensor  # [T, 70, 2] pixels, irises last
    eyes: float  # outer-eye distance in pixels, mean

    def noisy(self, share: float, seed: int = 0) -> torch.Tensor:
        """Landmarks off by a share of the outer-eye distance in each coordinate."""
        generator = torch.Generator().manual_seed(seed)
        return self.landmarks + share * self.eyes * torch.randn(self.landmarks.shape, generator=generator)


def as_mediapipe(points: torch.Tensor) -> torch.Tensor:
    """[T, 478, 2] in [0, 1] of the picture, NaN where no fit looks."""
    out = torch.full((len(points), 478, 2), torch.nan, dtype=torch.float64)
    out[:, [*VERTICES, *IRISES]] = points.double() / torch.tensor(SIZE)
    return out


def channel(name: str) -> int:
    return ARKIT_NAMES.index(name)


def blink_frames(frames: int) -> list[int]:
    """Where blinks begin."""
    return list(range(20, frames - len(BLINK), 55))


def speech_gaze_blinks(frames: int, emotion: torch.Tensor | None = None) -> torch.Tensor:
    """[T, 52] a face that talks, looks around and blinks; with an emotion's shapes [52] on top."""
    seconds = torch.arange(frames) / FPS
    values = torch.zeros(frames, len(ARKIT_NAMES))
    loud = (0.5 + 0.5 * torch.sin(2 * math.pi * 0.5 * seconds)).clamp(0, 1)
    values[:, channel("jawOpen")] = 0.35 * loud * (0.5 - 0.5 * torch.cos(2 * math.pi * 3.5 * seconds))
    values[:, channel("mouthFunnel")] = 0.3 * loud * (0.5 + 0.5 * torch.sin(2 * math.pi * 1.3 * seconds))
    across, up = 0.7 * torch.sin(2 * math.pi * 0.4 * seconds), 0.4 * torch.sin(2 * math.pi * 0.23 * seconds)
    across = torch.where(seconds % 4 > 3, 0.4 * torch.ones(()), across)  # saccades to and from a fixed point
    for name, course in (("In", (-across).clamp(0)), ("Out", across.clamp(0))):
        other = {"In": "Out", "Out": "In"}[name]
        values[:, channel(f"eyeLook{name}Left")] = course
        values[:, channel(f"eyeLook{other}Right")] = course
    for side in ("Left", "Right"):
        values[:, channel(f"eyeLookUp{side}")] = up.clamp(0)
        values[:, channel(f"eyeLookDown{side}")] = (-up).clamp(0)
        for begin in blink_frames(frames):
            values[begin : begin + len(BLINK), channel(f"eyeBlink{side}")] = torch.tensor(BLINK)
    return values if emotion is None else torch.maximum(values, emotion)


def perform(
    head: HeadTemplate, values: torch.Tensor, turn: float = 30.0, seed: int = 1, spread: float = 0.7
) -> Performance:
    """Landmarks of a person who wears values [T, 52] while the head turns to both sides by `turn` degrees."""
    seconds = torch.arange(len(values)) / FPS
    model = landmark_model(head)
    generator = torch.Generator().manual_seed(seed)
    identity = spread * torch.randn(model.points.identity.shape[0], generator=generator, dtype=torch.float64)
    yaw = math.radians(turn) * torch.sin(2 * math.pi * 0.5 * seconds)
    pitch, roll = 0.12 * torch.sin(2 * math.pi * 0.35 * seconds), 0.1 * torch.sin(2 * math.pi * 0.2 * seconds)
    matrices = [
        camera_at(np.array([0.02 * math.sin(0.9 * t), 0.0, 0.09]), float(y), float(p), float(r), 0.8)
        for t, y, p, r in zip(seconds.tolist(), yaw, pitch, roll, strict=True)
    ]
    viewmats = torch.from_numpy(np.stack(matrices)).double()
    rotation, shift = viewmats[:, :3, :3], viewmats[:, :3, 3]
    centres = -(rotation.mT @ shift[..., None])[..., 0]
    points = model.at(identity, values.double(), centres, irises=True).deform(identity, values.double())
    seen = points @ rotation.mT + shift[:, None]
    flat = seen[..., :2] / seen[..., 2:] * FOCAL + torch.tensor(SIZE) / 2
    eyes = float((flat[:, 45] - flat[:, 36]).norm(dim=1).max())
    return Performance(identity, values, viewmats, flat, eyes)


def gaze_degrees(head: HeadTemplate, values: torch.Tensor) -> torch.Tensor:
    """[T, 2, 2] degrees to the left and up in which the left and the right eyeball look."""
    model = landmark_model(head)
    identity = torch.zeros(model.points.identity.shape[0], dtype=torch.float64)
    only = torch.zeros_like(values)
    for i, name in enumerate(ARKIT_NAMES):
        if name.startswith("eyeLook"):
            only[:, i] = values[:, i]
    moved, rest = model.irises.deform(identity, only.double()), model.irises.deform(identity, 0 * only[:1].double())
    centre = rest - torch.tensor([0.0, 0.0, 0.012])
    arm = moved - centre
    return torch.rad2deg(
        torch.stack([torch.atan2(arm[..., 0], arm[..., 2]), torch.atan2(arm[..., 1], arm[..., 2])], -1)
    )
