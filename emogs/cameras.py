"""Cameras, in the conventions of OpenCV: x right, y down, z forward, pixel centres at +0.5."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import get_args

import torch
from torch import Tensor

from emogs.ops.checks import Arguments
from emogs.ops.scene import CameraModel


@dataclass(frozen=True)
class Cameras:
    """C cameras of one image size and model, with any leading batch.

    A world point goes through the view matrix to a camera-space point (x, y, z), and from there to the pixel

        pinhole:  (fx x/z + cx, fy y/z + cy)
        ortho:    (fx x + cx, fy y + cy), parallel rays: fx, fy are pixels per world unit
        fisheye:  (fx theta x/r + cx, fy theta y/r + cy), with r = hypot(x, y) and theta = atan2(r, z), the angle to
                  the axis: the equidistant projection, without distortion; fx, fy are pixels per radian

    Every model draws what lies between the depths z `RasterSettings.near` and `far`: a fisheye sees less than 180
    degrees. Spherical harmonics are seen from the camera's position, the world point at camera-space zero, with an
    orthographic camera too.

    Raises:
        TypeError, ValueError: an argument does not fit; the message says how.

    >>> camera = Cameras(look_at((0, 0, 1), (0, 0, 0))[None], pinhole(64, 64, field_of_view=40)[None], 64, 64)
    >>> camera.count
    1
    """

    viewmats: Tensor
    """[..., C, 4, 4] world to camera, any affine map; gradients flow to it."""
    Ks: Tensor
    """[..., C, 3, 3] intrinsics in pixels, of which fx, fy, cx, cy are read; gradients flow to them."""
    width: int
    """Pixels."""
    height: int
    """Pixels."""
    model: CameraModel = "pinhole"
    """How points reach the image."""

    def __post_init__(self) -> None:
        arguments = Arguments("Cameras")
        arguments.check("viewmats", self.viewmats, "... C 4 4")
        arguments.check("Ks", self.Ks, "... C 3 3")
        if self.Ks.dtype != self.viewmats.dtype:
            raise TypeError(f"Cameras: Ks must be {self.viewmats.dtype} like viewmats, got {self.Ks.dtype}")
        if self.Ks.shape[:-3] != self.batch:
            raise arguments.fail(
                "Ks", f"[{', '.join(map(str, self.batch))}, C, 3, 3] like viewmats", list(self.Ks.shape)
            )
        arguments.check_size(self.width, self.height)
        if self.model not in get_args(CameraModel):
            raise arguments.fail("model", " or ".join(map(repr, get_args(CameraModel))), repr(self.model))

    @property
    def count(self) -> int:
        """C."""
        return self.viewmats.shape[-3]

    @property
    def batch(self) -> torch.Size:
        """The leading sizes."""
        return self.viewmats.shape[:-3]


def look_at(eye: object, target: object, up: object = (0.0, 1.0, 0.0)) -> Tensor:
    """View matrix [..., 4, 4] of an upright camera at `eye` that looks at `target`, both [..., 3] in world units.

    It is singular where `target` is `eye`, or lies straight along `up` from it. The dtype is float32 or that of the
    tensors given, the wider.

    >>> look_at((0.0, 0.0, 2.0), (0.0, 0.0, 0.0))[:3, 3]  # the world's origin is two units in front
    tensor([0., 0., 2.])
    """
    given = [v for v in (eye, target, up) if isinstance(v, Tensor)]
    dtype = functools.reduce(torch.promote_types, (v.dtype for v in given), torch.float32)
    device = given[0].device if given else None
    eye, target, up = (torch.as_tensor(v, dtype=dtype, device=device) for v in (eye, target, up))
    forward = torch.nn.functional.normalize(target - eye, dim=-1)
    right = torch.nn.functional.normalize(torch.linalg.cross(forward, up.expand_as(forward)), dim=-1)
    rotation = torch.stack([right, torch.linalg.cross(forward, right), forward], -2)
    view = torch.zeros(*rotation.shape[:-2], 4, 4, dtype=rotation.dtype, device=rotation.device)
    view[..., :3, :3] = rotation
    view[..., :3, 3] = -(rotation @ eye[..., None])[..., 0] + 0.0  # no negative zeros
    view[..., 3, 3] = 1
    return view


def pinhole(width: int, height: int, field_of_view: float) -> Tensor:
    """Intrinsics [3, 3] of square pixels and a centred axis; `field_of_view` is vertical, degrees.

    Raises:
        ValueError: a size or the angle is out of range.

    >>> pinhole(64, 48, field_of_view=90)[:2]
    tensor([[24.,  0., 32.],
            [ 0., 24., 24.]])
    """
    arguments = Arguments("pinhole")
    arguments.check_size(width, height)
    if not 0 < field_of_view < 180:
        raise arguments.fail("field_of_view", "between 0 and 180 degrees", field_of_view)
    focal = 0.5 * height / float(torch.tan(torch.deg2rad(torch.tensor(field_of_view / 2.0, dtype=torch.float64))))
    return torch.tensor([[focal, 0.0, width / 2], [0.0, focal, height / 2], [0.0, 0.0, 1.0]])
