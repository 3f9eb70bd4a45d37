"""gsplat 1.5.3's `rasterization` on emogs kernels, so that a script written for gsplat changes one import line.

It runs the three public stages one by one, because gsplat's third result, `meta`, holds what passes between them, and
its densification strategies read gradients there (compat/gsplat_meta.py). docs/gsplat.md says what is equal and what
differs. gsplat itself is not needed.
"""

from __future__ import annotations

import dataclasses
import math
from enum import Enum
from typing import Any, Literal, cast

import torch
from torch import Tensor

from emogs.cameras import CameraModel, Cameras
from emogs.checks import Arguments
from emogs.compat.gsplat_covars import attach, decompose
from emogs.compat.gsplat_mcmc import mcmc_on_cpu
from emogs.compat.gsplat_meta import SplatNodes, list_tiles
from emogs.gaussians import Gaussians
from emogs.ops.blend import blend_tiles
from emogs.ops.project import Splats, project_gaussians
from emogs.ops.settings import RasterSettings
from emogs.ops.tiles import TILE_SIZE, intersect_tiles

__all__ = ["RollingShutterType", "mcmc_on_cpu", "rasterization"]


class RollingShutterType(Enum):
    """The shutters supported; gsplat's own enum is accepted too, by the names of its members."""

    GLOBAL = 4


def rasterization(
    means: Tensor,
    quats: Tensor,
    scales: Tensor,
    opacities: Tensor,
    colors: Tensor,
    viewmats: Tensor,
    Ks: Tensor,
    width: int,
    height: int,
    near_plane: float = 0.01,
    far_plane: float = 1e10,
    radius_clip: float = 0.0,
    eps2d: float = 0.3,
    sh_degree: int | None = None,
    packed: bool = True,
    tile_size: int = 16,
    backgrounds: Tensor | None = None,
    render_mode: Literal["RGB", "D", "ED", "RGB+D", "RGB+ED"] = "RGB",
    sparse_grad: bool = False,
    absgrad: bool = False,
    rasterize_mode: Literal["classic", "antialiased"] = "classic",
    channel_chunk: int = 32,
    distributed: bool = False,
    camera_model: Literal["pinhole", "ortho", "fisheye", "ftheta"] = "pinhole",
    segmented: bool = False,
    covars: Tensor | None = None,
    with_ut: bool = False,
    with_eval3d: bool = False,
    radial_coeffs: Tensor | None = None,
    tangential_coeffs: Tensor | None = None,
    thin_prism_coeffs: Tensor | None = None,
    ftheta_coeffs: object | None = None,
    rolling_shutter: Any = RollingShutterType.GLOBAL,
    viewmats_rs: Tensor | None = None,
) -> tuple[Tensor, Tensor, dict[str, Any]]:
    """Draws N Gaussians with C cameras: gsplat 1.5.3's function of the same name, argument for argument.

    Gradients flow to all float tensors, intrinsics included. Results do not depend on the thread count.

    Args:
        means: [..., N, 3] centres, world units; float32 or float64, as all tensors here.
        quats: [..., N, 4] rotations wxyz, of any norm but zero; not read if `covars` is given.
        scales: [..., N, 3] standard deviations; not read if `covars` is given.
        opacities: [..., N] in [0, 1].
        colors: [..., N, D], or [..., C, N, D] for colours of each camera's own; with `sh_degree` harmonics
            [..., N, S, 3] or [..., C, N, S, 3].
        viewmats: [..., C, 4, 4] world to camera, OpenCV axes.
        Ks: [..., C, 3, 3] intrinsics, pixels.
        width, height: pixels.
        near_plane, far_plane: depths outside are culled.
        radius_clip: Gaussians whose radii are at most this are culled, pixels.
        eps2d: variance added to both screen axes, pixels squared.
        sh_degree: harmonics up to this degree are used, 0 to 4; None: `colors` are colours.
        packed: whether `meta` lists the visible splats only, or all of them; images are the same.
        tile_size: without effect: tiles are 16x16 pixels and `meta` says so.
        backgrounds: [..., C, D].
        render_mode: colours ("RGB"), accumulated ("D") or expected ("ED") depth, or both with the depth last.
        absgrad: backward also leaves `meta["means2d"].absgrad`, the sums of absolute gradients over pixels.
        rasterize_mode: "antialiased" lowers the opacity of Gaussians that `eps2d` widens.
        channel_chunk, segmented: without effect: all channels are drawn in one pass.
        camera_model: "pinhole", "ortho" or "fisheye".
        covars: [..., N, 3, 3] covariances in place of `quats` and `scales`; upper triangles are read.
        sparse_grad, distributed, with_ut, with_eval3d, radial_coeffs, tangential_coeffs, thin_prism_coeffs,
            ftheta_coeffs, rolling_shutter, viewmats_rs: not supported; only gsplat's defaults are accepted.
    Returns:
        colours [..., C, H, W, D] (D + 1 with a depth, 1 for depth alone), alphas [..., C, H, W, 1], and gsplat's
        `meta`, whose float tensors are what the image is blended from: `retain_grad` works on each, and
        `meta["means2d"].grad` is in pixels.
    Raises:
        TypeError, ValueError: an argument does not fit; the message names it.
        NotImplementedError: an argument asks for what is not supported; the message names it.

    >>> means, quats, ones = torch.zeros(1, 3), torch.tensor([[1.0, 0, 0, 0]]), torch.ones(1, 3)
    >>> viewmats, Ks = torch.eye(4)[None], torch.tensor([[[40.0, 0, 32.5], [0, 40, 24.5], [0, 0, 1]]])
    >>> viewmats[:, 2, 3] = 4  # the Gaussian is four units in front of the camera
    >>> out = rasterization(means, quats, ones, ones[:, 0], ones, viewmats, Ks, 64, 48, render_mode="RGB+ED")
    >>> out[0][0, 24, 32]  # colour and depth at the centre
    tensor([0.9990, 0.9990, 0.9990, 4.0000])
    >>> out[2]["means2d"], out[2]["radii"]
    (tensor([[32.5000, 24.5000]]), tensor([[34, 34]], dtype=torch.int32))
    """
    _refuse(
        sparse_grad=(sparse_grad, False),
        distributed=(distributed, False),
        camera_model=(
            "ftheta" if isinstance(camera_model, str) and camera_model == "ftheta" else None,
            "pinhole, ortho and fisheye",
        ),
        with_ut=(with_ut, False),
        with_eval3d=(with_eval3d, False),
        radial_coeffs=(radial_coeffs, None),
        tangential_coeffs=(tangential_coeffs, None),
        thin_prism_coeffs=(thin_prism_coeffs, None),
        ftheta_coeffs=(ftheta_coeffs, None),
        rolling_shutter=(getattr(rolling_shutter, "name", rolling_shutter), "GLOBAL"),
        viewmats_rs=(viewmats_rs, None),
    )
    arguments = Arguments("rasterization")
    arguments.check_size(width, height)
    _check_choices(arguments, render_mode=render_mode, rasterize_mode=rasterize_mode, camera_model=camera_model)
    _check_positive(arguments, tile_size=tile_size, channel_chunk=channel_chunk)
    settings = _settings(near_plane, far_plane, eps2d, radius_clip, rasterize_mode)
    tensors = {"opacities": opacities, "viewmats": viewmats, "Ks": Ks}
    tensors |= {"quats": quats, "scales": scales} if covars is None else {"covars": covars}
    per_camera = _check_tensors(arguments, means, tensors, colors, sh_degree, backgrounds)

    if covars is not None:
        quats, scales = decompose(covars)
    cameras = Cameras(viewmats, Ks, width, height, cast(CameraModel, camera_model))
    if "RGB" not in render_mode:
        colors, sh_degree, per_camera = opacities[..., None].detach(), None, False  # nobody sees them
    elif sh_degree is not None:
        colors = colors[..., : (sh_degree + 1) ** 2, :]
    gaussians = _gaussians((means, quats, scales, opacities, colors), sh_degree, cameras.count if per_camera else None)
    splats = _project(gaussians, cameras, settings)
    if covars is not None and covars.requires_grad:
        records = attach(splats.records, covars, means, opacities, cameras, settings)
        splats = dataclasses.replace(splats, records=records)
    nodes = SplatNodes.of(splats, packed)
    records = nodes.records()
    splats = dataclasses.replace(splats, records=records, colors=_channels(splats.colors, records, render_mode))
    tiles = intersect_tiles(splats, width, height)
    background, probe = _background(backgrounds, render_mode), nodes.probe() if absgrad else None
    images, alphas, _ = blend_tiles(splats, tiles, width, height, background=background, probe=probe, settings=settings)
    if render_mode in ("ED", "RGB+ED"):
        images = torch.cat([images[..., :-1], images[..., -1:] / alphas.clamp(min=1e-10)], -1)
    sizes = {"width": width, "height": height, "tile_size": TILE_SIZE}
    counts = {"n_batches": math.prod(cameras.batch), "n_cameras": cameras.count}
    return images, alphas, nodes.meta() | list_tiles(nodes, tiles, width, height) | sizes | counts


def _refuse(**given: tuple[object, object]) -> None:
    """Raises for the first argument whose value is not its only supported one."""
    for name, (value, supported) in given.items():
        plain = isinstance(value, (bool, int, float, str))
        if value is not None and not (plain and value == supported):
            shown = type(value).__name__ if isinstance(value, Tensor) else repr(value)
            raise NotImplementedError(
                f"rasterization: {name} is not supported by emogs beyond {supported}, got {shown}"
            )


_CHOICES = {
    "render_mode": ("RGB", "D", "ED", "RGB+D", "RGB+ED"),
    "rasterize_mode": ("classic", "antialiased"),
    "camera_model": ("pinhole", "ortho", "fisheye"),
}


def _check_choices(arguments: Arguments, **given: object) -> None:
    for name, value in given.items():
        if not isinstance(value, str) or value not in _CHOICES[name]:
            raise arguments.fail(name, " or ".join(map(repr, _CHOICES[name])), repr(value))


def _check_positive(arguments: Arguments, **given: object) -> None:
    for name, value in given.items():
        if not isinstance(value, int) or value < 1:
            raise arguments.fail(name, "an int above 0", repr(value))


def _settings(near_plane: float, far_plane: float, eps2d: float, radius_clip: float, mode: str) -> RasterSettings:
    """gsplat clips radii that it has rounded up: r <= clip for a whole r is r <= floor(clip)."""
    given = {"near_plane": near_plane, "far_plane": far_plane, "eps2d": eps2d, "radius_clip": radius_clip}
    ours = {"near": "near_plane", "far": "far_plane", "blur": "eps2d", "radius_clip": "radius_clip"}
    if isinstance(radius_clip, float) and math.isfinite(radius_clip):
        given["radius_clip"] = math.floor(radius_clip)
    values: dict[str, Any] = {name: given[theirs] for name, theirs in ours.items()}
    try:
        return RasterSettings(**values, antialiased=mode == "antialiased", depth="none")
    except (TypeError, ValueError) as error:
        name = str(error).split()[1]
        message = str(error).replace(f"RasterSettings: {name}", f"rasterization: {ours[name]}", 1)
        raise type(error)(message) from None


_SHAPES = {
    "quats": "N 4",
    "scales": "N 3",
    "covars": "N 3 3",
    "opacities": "N",
    "viewmats": "C 4 4",
    "Ks": "C 3 3",
}


def _check_tensors(
    arguments: Arguments,
    means: Tensor,
    tensors: dict[str, Tensor],
    colors: Tensor,
    sh_degree: int | None,
    backgrounds: Tensor | None,
) -> bool:
    """Whether every camera has colours of its own."""
    arguments.check("means", means, "... N 3")
    lead, dtype = " ".join(map(str, means.shape[:-2])), (means.dtype,)
    for name, value in tensors.items():
        arguments.check(name, value, f"{lead} {_SHAPES[name]}", dtype)
    arguments.check_type("colors", colors, Tensor)
    rest = "N D" if sh_degree is None else "N S 3"
    per_camera = colors.dim() > means.dim() - 2 + len(rest.split())
    arguments.check("colors", colors, f"{lead} C {rest}" if per_camera else f"{lead} {rest}", dtype)
    if sh_degree is not None:
        most = min(4, math.isqrt(colors.shape[-2]) - 1)
        if not isinstance(sh_degree, int) or not 0 <= sh_degree <= most:
            raise arguments.fail("sh_degree", f"an int from 0 to {most}, since S={colors.shape[-2]}", repr(sh_degree))
    if backgrounds is not None:
        arguments.check("backgrounds", backgrounds, f"{lead} C {'D' if sh_degree is None else 3}", dtype)
    return per_camera


def _gaussians(tensors: tuple[Tensor, ...], sh_degree: int | None, cameras: int | None) -> Gaussians:
    """Of means, quats, scales, opacities and colours. If `cameras` C is given, each has its own: [..., C, N, ...]."""
    *shared, colors = tensors
    if cameras is not None:
        at = shared[0].dim() - 2
        shared = [t.unsqueeze(at).expand(*t.shape[:at], cameras, *t.shape[at:]) for t in shared]
    means, quats, scales, opacities = shared
    field = "colors" if sh_degree is None else "sh"
    return Gaussians(means, quats, scales, opacities, **{field: colors})


def _project(gaussians: Gaussians, cameras: Cameras, settings: RasterSettings) -> Splats:
    """[..., C, N, ...], from one cloud for all cameras or from one a camera."""
    if gaussians.batch == cameras.batch:
        return project_gaussians(gaussians, cameras, settings=settings)
    each = Cameras(
        cameras.viewmats[..., None, :, :], cameras.Ks[..., None, :, :], cameras.width, cameras.height, cameras.model
    )
    splats = project_gaussians(gaussians, each, settings=settings)
    return Splats(
        splats.records.squeeze(-3), splats.colors.squeeze(-3), splats.outside.squeeze(-1), splats.non_finite.squeeze(-1)
    )


def _channels(colors: Tensor, records: Tensor, render_mode: str) -> Tensor:
    """What is blended: the colours, the depths, or both with the depth last."""
    depths = records[..., 6:7]
    return colors if render_mode == "RGB" else depths if "RGB" not in render_mode else torch.cat([colors, depths], -1)


def _background(backgrounds: Tensor | None, render_mode: str) -> Tensor | None:
    """Depth has the background zero."""
    if backgrounds is None or "RGB" not in render_mode:
        return None
    return backgrounds if render_mode == "RGB" else torch.nn.functional.pad(backgrounds, (0, 1))
