"""What a researcher holds: Gaussians, how an emotion changes them, and the mesh faces that carry them."""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from emogs.checks import FLOATS, Arguments
from emogs.tensor_fields import TensorFields


@dataclass(frozen=True)
class Gaussians(TensorFields):
    """N Gaussians with any leading batch; all tensors share their leading sizes, dtype (float32 or float64) and device.

    Without a rig means are in world units; with one they are in the coordinates of their face (see `Rig`).

    Raises:
        TypeError, ValueError: a tensor does not fit the others; the message says how.

    >>> quats = torch.tensor([1.0, 0, 0, 0]).repeat(5, 1)
    >>> cloud = Gaussians(torch.zeros(5, 3), quats, torch.ones(5, 3), torch.ones(5), colors=torch.rand(5, 3))
    >>> cloud.count, cloud.batch
    (5, torch.Size([]))
    """

    means: Tensor
    """[..., N, 3] centres."""
    quats: Tensor
    """[..., N, 4] rotations wxyz, of any norm but zero: they are normalised inside, gradient included."""
    scales: Tensor
    """[..., N, 3] standard deviations along the rotated axes."""
    opacities: Tensor
    """[..., N] in [0, 1]."""
    colors: Tensor | None = None
    """[..., N, D] any number of channels; exactly one of `colors` and `sh` is given."""
    sh: Tensor | None = None
    """[..., N, (L + 1)^2, 3] spherical harmonics of degree L 0 to 4, in 3DGS order; the colour is max(sum + 0.5, 0)."""

    def __post_init__(self) -> None:
        arguments = Arguments("Gaussians")
        if (self.colors is None) == (self.sh is None):
            raise arguments.fail("colors, sh", "one given and one None", "both" if self.sh is not None else "neither")
        shapes = {"means": "N 3", "quats": "N 4", "scales": "N 3", "opacities": "N", "colors": "N D", "sh": "N S 3"}
        for name, shape in shapes.items():
            value = getattr(self, name)
            if value is None and name in ("colors", "sh"):
                continue
            arguments.check(name, value, f"... {shape}")
            if value.dtype != self.means.dtype:
                raise TypeError(f"Gaussians: {name} must be {self.means.dtype} like means, got {value.dtype}")
            if value.shape[: value.dim() - len(shape.split())] != self.batch:
                raise arguments.fail(name, f"[{', '.join(map(str, self.batch))}, ...] like means", list(value.shape))
        if self.sh is not None and self.sh.shape[-2] not in (1, 4, 9, 16, 25):
            raise arguments.fail("sh", "[..., N, S, 3] with S one of 1, 4, 9, 16, 25", list(self.sh.shape))
        if self.colors is not None and self.colors.shape[-1] == 0:
            raise arguments.fail("colors", "[..., N, D] with D at least 1", list(self.colors.shape))

    @property
    def count(self) -> int:
        """N."""
        return self.means.shape[-2]

    @property
    def batch(self) -> torch.Size:
        """The leading sizes."""
        return self.means.shape[:-2]


@dataclass(frozen=True)
class EmotionBasis(TensorFields):
    """How each of K components changes N Gaussians at weight one; a field that is None changes nothing.

    Components add up before they act. With weights e_k and sums over k:

        mean + sum e_k dmean_k, quat * exp(1/2 sum e_k drotation_k), scale * exp(sum e_k dlog_scale_k),
        sigmoid(logit(opacity) + sum e_k dlogit_k), colour + sum e_k dcolour_k

    With a rig, all of it happens in the face's coordinates. Components may be emotions, correctives or articulation.

    Fields have the dtype of the Gaussians or, any of them, float16: half the memory and traffic. The rasterizer
    converts them exactly as it reads them; their gradients are summed in the Gaussians' dtype and rounded at the end:
    those below 6e-8 become 0, so scale up the loss (a mean over pixels makes small ones), and Adam's eps.

    Raises:
        TypeError, ValueError: a tensor does not fit the others; the message says how.

    >>> EmotionBasis(colors=torch.zeros(2, 5, 3)).components
    2
    """

    means: Tensor | None = None
    """[K, N, 3] added, in the units of the Gaussians' means."""
    rotations: Tensor | None = None
    """[K, N, 3] rotation vectors in the Gaussian's own axes, radians."""
    log_scales: Tensor | None = None
    """[K, N, 3] natural logarithms of factors."""
    logit_opacities: Tensor | None = None
    """[K, N] added to the opacity's logit; opacities of exactly 0 and 1 stay."""
    colors: Tensor | None = None
    """[K, N, D] added to the colours, or [K, N, 3] added to the first harmonic."""

    def __post_init__(self) -> None:
        arguments = Arguments("EmotionBasis")
        shapes = {
            "means": "K N 3",
            "rotations": "K N 3",
            "log_scales": "K N 3",
            "logit_opacities": "K N",
            "colors": "K N D",
        }
        for name, value in self.given().items():
            arguments.check(name, value, shapes[name], (*FLOATS, torch.float16))
        full = next((t.dtype for t in self.given().values() if t.dtype in FLOATS), torch.float16)
        for name, value in self.given().items():
            arguments.check(name, value, shapes[name], (full, torch.float16))
        if not self.given():
            raise arguments.fail("at least one field", "given", "none")

    def given(self) -> dict[str, Tensor]:
        """The fields that are not None, by name."""
        return {f.name: getattr(self, f.name) for f in fields(self) if getattr(self, f.name) is not None}

    @property
    def components(self) -> int:
        """K."""
        return next(iter(self.given().values())).shape[0]

    @property
    def count(self) -> int:
        """N."""
        return next(iter(self.given().values())).shape[1]


@dataclass(frozen=True)
class Rig(TensorFields):
    """Binds each Gaussian to a face of rotation R (quaternion q), translation t and scale s (`emogs.ops.rig_frames`).

    `mean = s R mean_i + t`, `quat = q * quat_i`, `scale = s scale_i`; harmonics turn with the face too.

    Raises:
        TypeError, ValueError: a tensor does not fit, or a binding names no face.

    >>> rest = torch.tensor([[1.0, 0, 0, 0, 0, 0, 0, 1]])  # one face: no rotation, no translation, scale 1
    >>> Rig(torch.zeros(5, dtype=torch.int32), rest).frames.shape
    torch.Size([1, 8])
    """

    binding: Tensor
    """[N] int32 face of each Gaussian."""
    frames: Tensor
    """[..., F, 8] quaternion wxyz (any norm but zero), translation, scale."""

    def __post_init__(self) -> None:
        arguments = Arguments("Rig")
        arguments.check("binding", self.binding, "N", (torch.int32,))
        arguments.check("frames", self.frames, "... F 8")
        if self.binding.device.type == "cpu" and not torch.compiler.is_compiling():  # the operation looks again
            arguments.check_indices("binding", self.binding, "F", self.frames.shape[-2])
