"""What the rasterizer's stages can be told, in one place."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Real
from typing import Literal, get_args

DepthMode = Literal["none", "accumulated", "expected", "median"]
_DEPTHS = get_args(DepthMode)


@dataclass(frozen=True)
class RasterSettings:
    """Settings of `emogs.rasterize`; the defaults draw what gsplat 1.5.3 draws.

    Raises:
        TypeError, ValueError: a value is not a number, or out of its range.
    """

    alpha_cut: float = 1.0 / 255.0
    """A splat does not touch pixels where its alpha is below this; in [1e-38, 1], since float32 has no less."""
    alpha_ceiling: float = 0.999
    """Larger alphas are set to this, without a gradient; in (0, 1)."""
    transmittance_stop: float = 1e-4
    """A splat that would leave a pixel this much transmittance or less is left out and ends the pixel; in [0, 1), where
    less than 1e-30 (float64: 1e-290) counts as that."""
    blur: float = 0.3
    """Variance added to both screen axes of a splat, pixels squared: keeps thin splats visible, and their gradients in
    float32 exact: with 0.01 those of needles, however thin, are within 5%; much below, needles a thousand times as long
    as wide have no digit that is right, and need float64."""
    near: float = 0.01
    """Gaussians nearer than this camera-space depth are culled."""
    far: float = 1e10
    """Gaussians farther than this camera-space depth are culled."""
    antialiased: bool = False
    """Lowers the opacity of a splat by what `blur` adds to its area (the 2D filter of Mip-Splatting, Yu et al. 2024):
    times sqrt(det S / det(S + blur I)) for its covariance S on the screen. Thin splats then keep their brightness at
    any distance, instead of growing."""
    radius_clip: float = 0.0
    """Gaussians whose half width and half height on the screen both are at most this are culled, pixels."""
    normals: bool = False
    """Blend normals too: `Rendering.normals`."""
    deterministic: bool = False
    """The same bits in every run, gradients included. That always holds, whether asked for or not: on the CPU for any
    number of threads, and on CUDA, where sums have a fixed order too."""
    depth: DepthMode = "accumulated"
    """`Rendering.depths`: sums of weight times depth, those divided by alpha ("expected"), the depth of the splat at
    which the transmittance falls to one half or below ("median"; 0 where it never does), or nothing. Alpha has steps of
    6e-8 in float32: an `alpha_cut` below 1e-5 lets pixels be so faint that "expected" divides by little more than one
    step, and is rough there."""

    def __post_init__(self) -> None:
        for name in ("alpha_cut", "alpha_ceiling", "transmittance_stop", "blur", "near", "far", "radius_clip"):
            if not isinstance(getattr(self, name), Real):
                raise TypeError(f"RasterSettings: {name} must be a number, got {getattr(self, name)!r}")
        for name in ("antialiased", "normals", "deterministic"):
            if not isinstance(getattr(self, name), bool):
                raise TypeError(f"RasterSettings: {name} must be True or False, got {getattr(self, name)!r}")
        ranges = {
            "alpha_cut": ("in [1e-38, 1]", 1e-38 <= self.alpha_cut <= 1),
            "alpha_ceiling": ("in (0, 1)", 0 < self.alpha_ceiling < 1),
            "transmittance_stop": ("in [0, 1)", 0 <= self.transmittance_stop < 1),
            "blur": ("at least 0", 0 <= self.blur < float("inf")),
            "near": ("a number above 0", 0 < self.near < float("inf")),
            "far": ("finite and above near", self.near < self.far < float("inf")),
            "radius_clip": ("at least 0", 0 <= self.radius_clip < float("inf")),
            "depth": (" or ".join(map(repr, _DEPTHS)), isinstance(self.depth, str) and self.depth in _DEPTHS),
        }
        for name, (expected, fits) in ranges.items():
            if not fits:
                raise ValueError(f"RasterSettings: {name} must be {expected}, got {getattr(self, name)!r}")

    @property
    def projection(self) -> list[float]:
        """What projection takes: alpha_cut, blur, near, far, radius_clip."""
        return [float(x) for x in (self.alpha_cut, self.blur, self.near, self.far, self.radius_clip)]

    @property
    def blending(self) -> list[float]:
        """What `emogs::blend_tiles` takes: alpha_cut, alpha_ceiling, transmittance_stop."""
        return [float(x) for x in (self.alpha_cut, self.alpha_ceiling, self.transmittance_stop)]

    @property
    def depth_mode(self) -> int:
        """What `emogs::blend_tiles` takes: 0 for no depth, 1 for sums, 2 for medians."""
        return {"none": 0, "accumulated": 1, "expected": 1, "median": 2}[self.depth]
