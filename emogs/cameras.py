"""Cameras, in the conventions of OpenCV: x right, y down, z forward, pixel centres at +0.5."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from emogs.checks import Arguments
from emogs.tensor_fields import TensorFields

CameraModel = Literal["pinhole", "ortho", "fisheye"]
"""How points reach the image, in the order of csrc/math/camera.h's CameraModel; see `Cameras`."""


@dataclass(frozen=True)
class Cameras(TensorFields):
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
        if not isinstance(self.model, str) or self.model not in get_args(CameraModel):
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

    The dtype is float32 or that of the tensors given, the wider.

    Raises:
        TypeError: an argument is not made of numbers.
        ValueError: it is no point, or `target` is `eye` or lies straight along `up` from it, which leaves the sides
            undecided. Compiled code, and tensors that are not on the CPU, get a singular matrix instead of the latter.

    >>> look_at((0.0, 0.0, 2.0), (0.0, 0.0, 0.0))[:3, 3]  # the world's origin is two units in front
    tensor([0., 0., 2.])
    """
    arguments = Arguments("look_at")
    given = [v for v in (eye, target, up) if isinstance(v, Tensor)]
    dtype = functools.reduce(torch.promote_types, (v.dtype for v in given), torch.float32)
    device = given[0].device if given else None
    named = {"eye": eye, "target": target, "up": up}
    eye, target, up = (_point(arguments, name, value, dtype, device) for name, value in named.items())
    try:
        torch.broadcast_shapes(eye.shape, target.shape, up.shape)
    except RuntimeError:
        raise arguments.fail(
            "eye, target, up", "[..., 3] that broadcast", [list(v.shape) for v in (eye, target, up)]
        ) from None
    forward = torch.nn.functional.normalize(target - eye, dim=-1)
    up = torch.nn.functional.normalize(up, dim=-1)
    right = torch.linalg.cross(forward, up.expand_as(forward))
    known = right.device.type == "cpu" and not torch.compiler.is_compiling()
    if known and not (right.norm(dim=-1) > 8 * torch.finfo(dtype).eps).all():  # the sine of the angle to `up`
        raise arguments.fail("target", "apart from eye, and not straight along up from it", target)
    right = torch.nn.functional.normalize(right, dim=-1)
    rotation = torch.stack([right, torch.linalg.cross(forward, right), forward], -2)
    view = torch.zeros(*rotation.shape[:-2], 4, 4, dtype=rotation.dtype, device=rotation.device)
    view[..., :3, :3] = rotation
    view[..., :3, 3] = -(rotation @ eye[..., None])[..., 0] + 0.0  # no negative zeros
    view[..., 3, 3] = 1
    return view


def _point(arguments: Arguments, name: str, value: object, dtype: torch.dtype, device: torch.device | None) -> Tensor:
    try:
        point = torch.as_tensor(value, dtype=dtype, device=device)
    except (TypeError, ValueError, RuntimeError):
        raise TypeError(f"look_at: {name} must be a tensor or three numbers, got {value!r}") from None
    arguments.check(name, point, "... 3")
    return point


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
    arguments.check_number("field_of_view", field_of_view)
    if not 0 < field_of_view < 180:
        raise arguments.fail("field_of_view", "between 0 and 180 degrees", field_of_view)
    return _centred(width, height, 0.5 * height / math.tan(math.radians(field_of_view / 2)))


def orthographic(width: int, height: int, view_height: float) -> Tensor:
    """Intrinsics [3, 3] for `model="ortho"` of square pixels; `view_height` world units fill the image's height.

    Raises:
        ValueError: a size or the height is out of range.

    >>> orthographic(64, 48, view_height=0.5)[:2]
    tensor([[96.,  0., 32.],
            [ 0., 96., 24.]])
    """
    arguments = Arguments("orthographic")
    arguments.check_size(width, height)
    arguments.check_number("view_height", view_height)
    if not 0 < view_height < math.inf:
        raise arguments.fail("view_height", "finite and above 0", view_height)
    return _centred(width, height, height / view_height)


def fisheye(width: int, height: int, field_of_view: float) -> Tensor:
    """Intrinsics [3, 3] for `model="fisheye"`, pixels per radian; `field_of_view` is vertical, degrees.

    Raises:
        ValueError: a size or the angle is out of range.

    >>> fisheye(64, 64, field_of_view=180)[0, 0]  # 90 degrees from the centre to the upper edge
    tensor(20.3718)
    """
    arguments = Arguments("fisheye")
    arguments.check_size(width, height)
    arguments.check_number("field_of_view", field_of_view)
    if not 0 < field_of_view <= 360:
        raise arguments.fail("field_of_view", "above 0 and at most 360 degrees", field_of_view)
    return _centred(width, height, height / math.radians(field_of_view))


def _centred(width: int, height: int, focal: float) -> Tensor:
    return torch.tensor([[focal, 0.0, width / 2], [0.0, focal, height / 2], [0.0, 0.0, 1.0]])
