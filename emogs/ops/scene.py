"""The tensors that projection reads, in the order of every operation's schema, and how their batches combine."""

from __future__ import annotations

from functools import lru_cache
from typing import Literal, NamedTuple

import torch
from torch import Tensor

CameraModel = Literal["pinhole", "ortho", "fisheye"]
"""How points reach the image, in the order of csrc/math/camera.h's CameraModel; see `emogs.Cameras`."""

SCHEMA = (
    "Tensor means, Tensor quats, Tensor scales, Tensor opacities, Tensor colors, Tensor viewmats, Tensor Ks, "
    "Tensor? emotion, Tensor? basis_means, Tensor? basis_rotations, Tensor? basis_log_scales, "
    "Tensor? basis_logit_opacities, Tensor? basis_colors, Tensor? binding, Tensor? frames, "
    "bool sh, int width, int height, str model, float[] settings, bool antialiased"
)
"""`Scene` as the leading arguments of an operation."""


class Scene(NamedTuple):
    """Everything that decides where splats land and what colours they have. Shapes as in `Gaussians`, `Cameras`,
    `EmotionBasis` and `Rig`; `colors` holds the harmonics where `sh` is true; `settings` are
    `RasterSettings.projection`."""

    means: Tensor
    quats: Tensor
    scales: Tensor
    opacities: Tensor
    colors: Tensor
    viewmats: Tensor
    Ks: Tensor
    emotion: Tensor | None
    basis_means: Tensor | None
    basis_rotations: Tensor | None
    basis_log_scales: Tensor | None
    basis_logit_opacities: Tensor | None
    basis_colors: Tensor | None
    binding: Tensor | None
    frames: Tensor | None
    sh: bool
    width: int
    height: int
    model: str
    settings: list[float]
    antialiased: bool

    @property
    def tensors(self) -> tuple[Tensor | None, ...]:
        return self[:15]

    @property
    def batches(self) -> tuple[torch.Size, torch.Size, torch.Size, torch.Size]:
        """The leading sizes of Gaussians, cameras, emotion and rig."""
        return (
            self.means.shape[:-2],
            self.viewmats.shape[:-3],
            torch.Size() if self.emotion is None else self.emotion.shape[:-1],
            torch.Size() if self.frames is None else self.frames.shape[:-2],
        )

    @property
    def batch(self) -> torch.Size:
        """Their broadcast: the leading sizes of what comes out."""
        batch = torch.Size()
        for other in self.batches:
            if other != batch and other:  # torch's own function takes 5 us, and most scenes have one batch
                batch = torch.broadcast_shapes(batch, other) if batch else other
        return batch

    @property
    def images(self) -> torch.Size:
        """[..., C]."""
        return torch.Size((*self.batch, self.viewmats.shape[-3]))

    @property
    def gaussians(self) -> int:
        """N."""
        return self.means.shape[-2]

    @property
    def channels(self) -> int:
        """Channels of the colours that come out."""
        return self.colors.shape[-1]


SCENE_SIZE = len(Scene._fields)


def split_scene(inputs: tuple) -> tuple[tuple, tuple, tuple]:
    """The arguments of an operation that begins with a scene: its tensors, the rest of it, and what follows."""
    return inputs[:15], inputs[15:SCENE_SIZE], inputs[SCENE_SIZE:]


@lru_cache(maxsize=64)
def broadcast_rows(batches: tuple[torch.Size, ...]) -> Tensor:
    """[len(batches), P] int32: which flattened row of each batch every element of their flattened broadcast uses.

    >>> broadcast_rows((torch.Size([2]), torch.Size([])))
    tensor([[0, 1],
            [0, 0]], dtype=torch.int32)
    """
    batch = torch.broadcast_shapes(*batches)
    rows = [torch.arange(b.numel(), dtype=torch.int32).view(b).expand(batch).reshape(-1) for b in batches]
    return torch.stack(rows)
