"""Random arguments for gsplat's `rasterization`, and its results from gsplat's own torch code, image by image."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from raster_reference import Screen, composite
from raster_scenes import random_scene
from torch import Tensor

from emogs import RasterSettings

FIELDS = ("means", "quats", "scales", "opacities", "colors", "viewmats", "Ks")

SCENES = {
    "plain": {},
    "harmonics": {"sh_degree": 3},
    "many channels": {"channels": 40},
    "camera colours": {"per_camera": True, "background": True},
    "camera harmonics": {"per_camera": True, "sh_degree": 2},
    "ortho": {"model": "ortho", "sh_degree": 1},
    "fisheye": {"model": "fisheye", "per_camera": True},
    "antialiased": {"antialiased": True, "scale": 0.02},
    "batch": {"batch": (2,), "background": True},
    "batches": {"batch": (2, 1), "per_camera": True, "sh_degree": 1},
}

# gsplat adds 1e-7 to lengths in a fisheye projection, so that it is off by that times the focal length
TOLERANCE = {"pinhole": 1e-9, "ortho": 1e-9, "fisheye": 1e-4}


def gsplat_torch() -> Any:
    return pytest.importorskip("gsplat.cuda._torch_impl", reason="gsplat is not installed")


def random_arguments(
    count: int = 25,
    *,
    batch: tuple[int, ...] = (),
    cameras: int = 2,
    sh_degree: int | None = None,
    per_camera: bool = False,
    size: tuple[int, int] = (37, 29),
    dtype: torch.dtype = torch.float64,
    background: bool = False,
    model: str = "pinhole",
    antialiased: bool = False,
    **scene_options: Any,
) -> dict[str, Any]:
    """Keyword arguments for `rasterization`; every batch element is another scene, every camera has its own colours."""
    options = {
        "cameras": cameras,
        "sh_degree": sh_degree,
        "size": size,
        "dtype": dtype,
        "model": model,
        **scene_options,
    }
    scenes = [random_scene(count, seed=seed, **options) for seed in range(torch.Size(batch).numel())]

    def stack(pick) -> Tensor:
        stacked = torch.stack([pick(scene) for scene in scenes])
        return stacked.view(*batch, *stacked.shape[1:])

    arguments = {name: stack(lambda s, n=name: getattr(s.gaussians, n)) for name in FIELDS[:4]}
    arguments |= {name: stack(lambda s, n=name: getattr(s.cameras, n)) for name in FIELDS[5:]}
    colors = stack(lambda s: s.gaussians.colors if sh_degree is None else s.gaussians.sh)
    if per_camera:
        factors = torch.linspace(0.6, 1.0, cameras, dtype=dtype)
        colors = torch.stack([factor * colors for factor in factors], len(batch))
    arguments |= {"colors": colors, "width": size[0], "height": size[1], "camera_model": model}
    if sh_degree is not None:
        arguments["sh_degree"] = sh_degree
    if antialiased:
        arguments["rasterize_mode"] = "antialiased"
    if background:
        arguments["backgrounds"] = stack(
            lambda s: torch.stack([s.background * (k + 1) / cameras for k in range(cameras)])
        )
    return arguments


def reference_projection(a: dict[str, Any]) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """means2d, conics, opacities, depths and colours [..., C, N, ...] before any culling."""
    gsplat = gsplat_torch()
    if "covars" in a:
        covars = a["covars"].triu() + a["covars"].triu(1).mT
    else:
        covars, _ = gsplat._quat_scale_to_covar_preci(a["quats"], a["scales"], compute_preci=False)
    antialiased = a.get("rasterize_mode", "classic") == "antialiased"
    _, means2d, depths, conics, compensations = gsplat._fully_fused_projection(
        a["means"], covars, a["viewmats"], a["Ks"], a["width"], a["height"], a.get("eps2d", 0.3),
        calc_compensations=antialiased, camera_model=a.get("camera_model", "pinhole"),
    )  # fmt: skip
    opacities = a["opacities"].unsqueeze(-2).expand(depths.shape)
    if antialiased:
        opacities = opacities * compensations
    colors, degree, lead = a["colors"], a.get("sh_degree"), a["means"].dim() - 2
    if colors.dim() == a["means"].dim() + (degree is not None):  # one cloud for all cameras
        colors = colors.unsqueeze(lead).expand(*depths.shape, *colors.shape[lead + 1 :])
    if degree is not None:
        eyes = torch.inverse(a["viewmats"])[..., :3, 3]
        directions = a["means"].unsqueeze(-3) - eyes.unsqueeze(-2)
        colors = (gsplat._spherical_harmonics(degree, directions, colors) + 0.5).clamp(min=0)
    return means2d, conics, opacities, depths, colors


def reference_images(a: dict[str, Any], projected: tuple[Tensor, ...] | None = None) -> tuple[Tensor, Tensor]:
    """What `rasterization(**a)` must draw: colours and alphas."""
    means2d, conics, opacities, depths, colors = projected or reference_projection(a)
    mode, width, height = a.get("render_mode", "RGB"), a["width"], a["height"]
    settings = RasterSettings(near=a.get("near_plane", 0.01), far=a.get("far_plane", 1e10))
    images = []
    flat = [t.flatten(0, -k) for t, k in ((means2d, 3), (conics, 3), (depths, 2), (opacities, 2), (colors, 3))]
    backgrounds = a.get("backgrounds")
    for i, (mean, conic, depth, opacity, color) in enumerate(zip(*flat, strict=True)):
        covariance = torch.linalg.inv(conic[:, [0, 1, 1, 2]].unflatten(-1, (2, 2)))
        background = None if backgrounds is None else backgrounds.flatten(0, -2)[i]
        rgb, alpha, z = composite(Screen(mean, covariance, depth, opacity, color), width, height, background, settings)[
            :3
        ]
        if mode.endswith("ED"):
            z = z / alpha.clamp(min=1e-10)
        images.append((rgb if mode == "RGB" else z if "RGB" not in mode else torch.cat([rgb, z], -1), alpha))
    shape = (*depths.shape[:-1], height, width)
    return tuple(torch.stack(i).view(*shape, -1) for i in zip(*images, strict=True))


def weighted(outputs: tuple[Tensor, ...]) -> Tensor:
    """A loss that every value of the outputs enters with a random weight of its own."""
    generator = torch.Generator().manual_seed(0)
    return sum((o * torch.randn(o.shape, generator=generator, dtype=o.dtype)).sum() for o in outputs)
