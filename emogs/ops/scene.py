"""The tensors that projection reads, in the order of every operation's schema, and how their batches combine."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple, get_args

import torch
from torch import Tensor

from emogs.cameras import CameraModel
from emogs.checks import Arguments

SCHEMA = (
    "Tensor means, Tensor quats, Tensor scales, Tensor opacities, Tensor colors, Tensor viewmats, Tensor Ks, "
    "Tensor? emotion, Tensor? basis_means, Tensor? basis_rotations, Tensor? basis_log_scales, "
    "Tensor? basis_logit_opacities, Tensor? basis_colors, Tensor? binding, Tensor? frames, "
    "bool sh, int width, int height, str model, float[] settings, bool antialiased, bool normals"
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
    normals: bool

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
        """Columns of the colours that come out: D, and three more for normals."""
        return self.colors.shape[-1] + 3 * self.normals


SCENE_SIZE = len(Scene._fields)


def check_fit(name: str, shape: torch.Size | None, expected: tuple[int, ...]) -> None:
    """One tensor of an operation that is called directly.

    Raises:
        ValueError: it is given, with another shape.
    """
    if shape is not None and tuple(shape) != expected:
        raise ValueError(f"emogs: {name} must be {list(expected)} to fit the rest, got {list(shape)}")


def check_scene(scene: Scene) -> None:
    """Refuses shapes that would let a kernel read out of bounds. For operations that are called directly: otherwise
    `make_scene` has been here and explains itself better.

    Raises:
        ValueError: arguments do not fit each other.
    """
    _check_shapes(tuple([None if t is None else t.shape for t in scene.tensors]), *scene[15:19])


@lru_cache(maxsize=64)  # 14 us otherwise, at every call
def _check_shapes(shapes: tuple[torch.Size | None, ...], sh: bool, width: int, height: int, model: str) -> None:
    given = dict(zip(Scene._fields, shapes, strict=False))
    fewest = {"means": 2, "colors": 3 if sh else 2, "viewmats": 3, "emotion": 1, "frames": 2}
    for name, dimensions in fewest.items():
        if (shape := given[name]) is not None and len(shape) < dimensions:
            raise ValueError(f"emogs: {name} must have at least {dimensions} dimensions, got {list(shape)}")
    means, colors, viewmats = shapes[0], shapes[4], shapes[5]
    assert means is not None and colors is not None and viewmats is not None  # the schema says so
    cloud, cameras = tuple(means[:-1]), tuple(viewmats[:-2])
    color = tuple(colors[-2:] if sh else colors[-1:])
    emotion, frames = given["emotion"], given["frames"]
    basis = (*(() if emotion is None else emotion[-1:]), means[-2])
    expected = {
        "means": (*cloud, 3), "quats": (*cloud, 4), "scales": (*cloud, 3), "opacities": cloud,
        "colors": (*cloud, *color), "viewmats": (*cameras, 4, 4), "Ks": (*cameras, 3, 3),
        "basis_means": (*basis, 3), "basis_rotations": (*basis, 3), "basis_log_scales": (*basis, 3),
        "basis_logit_opacities": basis, "basis_colors": (*basis, color[-1]), "binding": (means[-2],),
        "frames": None if frames is None else (*frames[:-1], 8),
    }  # fmt: skip
    if emotion is None and any(given[name] is not None for name in expected if name.startswith("basis_")):
        raise ValueError("emogs: a basis needs an emotion")
    for name, fitting in expected.items():
        if fitting is not None:
            check_fit(name, given[name], fitting)
    if sh and (color[0] not in (1, 4, 9, 16, 25) or color[1] != 3):
        raise ValueError(f"emogs: harmonics must be [..., 1, 4, 9, 16 or 25, 3], got {list(colors)}")
    if (given["binding"] is None) != (frames is None):
        raise ValueError("emogs: binding and frames must come together")
    if model not in get_args(CameraModel):
        raise ValueError(f"emogs: model must be one of {', '.join(get_args(CameraModel))}, got {model!r}")
    Arguments("emogs").check_size(width, height)


def split_scene(inputs: tuple) -> tuple[tuple, tuple, tuple]:
    """The arguments of an operation that begins with a scene: its tensors, the rest of it, and what follows."""
    return inputs[:15], inputs[15:SCENE_SIZE], inputs[SCENE_SIZE:]


# Kept for good: making them would wait for the device at every call, and a CUDA graph goes on reading those it met.
_ROWS: dict[tuple[tuple[torch.Size, ...], torch.device], Tensor] = {}


def broadcast_rows(batches: tuple[torch.Size, ...], device: torch.device) -> Tensor:
    """[len(batches), P] int32: which flattened row of each batch every element of their flattened broadcast uses.

    >>> broadcast_rows((torch.Size([2]), torch.Size([])), torch.device("cpu"))
    tensor([[0, 1],
            [0, 0]], dtype=torch.int32)
    """
    if (known := _ROWS.get((batches, device))) is not None:
        return known
    # In a capture nothing may come from the host: kernels of the graph make them, in memory that is the graph's own.
    capturing = device.type == "cuda" and torch.cuda.is_current_stream_capturing()
    batch, where = torch.broadcast_shapes(*batches), device if capturing else torch.device("cpu")
    each = [torch.arange(b.numel(), dtype=torch.int32, device=where).view(b).expand(batch).reshape(-1) for b in batches]
    rows = torch.stack(each).to(device)
    if not capturing:
        _ROWS[batches, device] = rows
    return rows
