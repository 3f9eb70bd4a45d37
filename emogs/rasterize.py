"""Gaussians to images: `rasterize`, the one call that a renderer or a training loop needs.

It crosses into torch as one operation, `emogs::rasterize` (ops/raster.py), made of the three stages that `emogs.ops`
offers singly.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from emogs.cameras import Cameras
from emogs.checks import Arguments
from emogs.gaussians import EmotionBasis, Gaussians, Rig
from emogs.ops.blend import check_probe, expand_background, finish_depth
from emogs.ops.project import Splats, make_scene
from emogs.ops.raster import rasterize_scene
from emogs.ops.settings import RasterSettings
from emogs.ops.tiles import Tiles, capacity_of, expand_tile_mask, make_tiles, tile_shape
from emogs.workspace import RasterWorkspace

__all__ = ["RasterSettings", "Rendering", "rasterize"]


@dataclass(frozen=True)
class RasterInfo:
    """What happened on the way. Nothing here carries gradients."""

    splats: Splats
    """The splats of every camera, with the counts of those that were culled."""
    tiles: Tiles
    """Which splats reached which tiles; `tiles.counts` [..., C, TH, TW] says how many."""


@dataclass(frozen=True)
class Rendering:
    """Images of C cameras; the leading sizes are those of Gaussians, cameras, emotion and rig, broadcast."""

    colors: Tensor
    """[..., C, H, W, D]."""
    alphas: Tensor
    """[..., C, H, W, 1] in [0, 1)."""
    depths: Tensor | None
    """[..., C, H, W, 1] as `RasterSettings.depth` says; None for "none"."""
    normals: Tensor | None
    """[..., C, H, W, 3] if `RasterSettings.normals`, else None: the splats' normals in world axes, blended as colours
    are, but over no background.

    A Gaussian's normal is its shortest axis, after emotion and rig, in the direction that faces the camera. The sums
    are not normalised: their length is at most alpha, and less where normals differ. Gradients flow to rotations:
    `quats`, the basis' and the frames'."""
    info: RasterInfo


def rasterize(
    gaussians: Gaussians,
    cameras: Cameras,
    *,
    emotion: Tensor | None = None,
    basis: EmotionBasis | None = None,
    rig: Rig | None = None,
    background: Tensor | None = None,
    tile_mask: Tensor | None = None,
    probe: Tensor | None = None,
    settings: RasterSettings = RasterSettings(),
    workspace: RasterWorkspace | None = None,
) -> Rendering:
    """Renders Gaussians, under an emotion and carried by a rig, with every camera.

    Leading sizes broadcast: one cloud with `emotion [B, K]` and C cameras gives images [B, C, H, W, D]. The emotion is
    applied while projecting: no modulated copy of the Gaussians is made, and basis components whose weights are all
    zero are not read. A zero emotion draws exactly what no emotion draws. Results do not depend on the thread count.
    Gradients flow to Gaussians, basis, emotion, frames, background, view matrices and intrinsics.

    Args:
        gaussians: N of them.
        cameras: C of them; float dtype and device as the Gaussians'.
        emotion: [..., K] weights of the basis components; needs `basis`.
        basis: K components over the N Gaussians; without an emotion it does nothing.
        rig: the faces that carry the Gaussians; means are then in face coordinates.
        background: [..., C, D] broadcast, seen through what is left of the transmittance; black if None.
        tile_mask: [..., C, TH, TW] bool, broadcast; TH = ceil(height / 16), TW = ceil(width / 16). Where it is False, a
            tile shows the background alone, with alpha and depth 0, and costs next to nothing.
        probe: [..., C, N, 4] zeros that require gradients, for densification. Backward leaves there, in pixels, the
            loss's gradients of each splat's x and y, and the sums over pixels of the magnitudes of their terms.
        settings: see `RasterSettings`.
        workspace: room for pairs of splat and tile, so that a call on CUDA need not wait for the GPU; see
            `RasterWorkspace`.
    Returns:
        `Rendering`; Gaussians with infinities or NaN are left out and counted in `info.splats.non_finite`.
    Raises:
        TypeError, ValueError: an argument does not fit; the message names it, what was expected and what came.
        CapacityError: on the CPU, if the workspace is too small; on CUDA `workspace.check()` tells.

    Method: 3D Gaussian splatting (Kerbl et al. 2023) by EWA projection, with gsplat 1.5.3's conventions and defaults.

    >>> import emogs, torch
    >>> origin, upright, ones = torch.zeros(1, 3), torch.tensor([[1.0, 0, 0, 0]]), torch.ones(1, 3)
    >>> cloud = emogs.Gaussians(origin, upright, scales=ones, opacities=ones[:, 0], colors=ones)
    >>> camera = emogs.Cameras(emogs.look_at((0, 0, 4.0), (0, 0, 0.0))[None], emogs.pinhole(64, 48, 40)[None], 64, 48)
    >>> darker = emogs.EmotionBasis(colors=-torch.ones(1, 1, 3))
    >>> emogs.rasterize(cloud, camera, emotion=torch.tensor([[0.0], [0.5]]), basis=darker).colors[:, 0, 24, 32, 0]
    tensor([0.9990, 0.4995])
    """
    arguments = Arguments("rasterize")
    scene = make_scene(arguments, gaussians, cameras, emotion, basis, rig, settings)
    background = expand_background(arguments, background, scene.images, scene.colors)
    if settings.normals and background is not None:
        background = torch.nn.functional.pad(background, (0, 3))
    tile_grid = tile_shape(scene.images, scene.width, scene.height)
    tile_mask = expand_tile_mask(arguments, tile_mask, tile_grid)
    check_probe(arguments, probe, (*scene.images, scene.gaussians), scene.means.dtype)
    capacity = capacity_of(arguments, workspace)
    out = rasterize_scene(scene, background, tile_mask, probe, settings, capacity)
    colors, alphas, depths, records, splat_colors, outside, non_finite, *rest = out
    info = RasterInfo(Splats(records, splat_colors, outside, non_finite), make_tiles(tile_grid, workspace, *rest[:5]))
    colors, normals = colors.split([scene.colors.shape[-1], 3], -1) if settings.normals else (colors, None)
    return Rendering(colors, alphas, finish_depth(depths, alphas, settings), normals, info)
