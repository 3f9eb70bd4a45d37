"""Projected splats and their tiles, small enough to be composited one pixel at a time."""

from __future__ import annotations

import torch
from raster_scenes import WITHOUT_EDGES, random_scene

from emogs.ops import intersect_tiles, project_gaussians

SIZE = (21, 18)  # two by two tiles, neither side a multiple of sixteen


def splats_and_tiles(count=30, settings=WITHOUT_EDGES, **options):
    scene = random_scene(count, size=SIZE, **options)
    splats = project_gaussians(scene.gaussians, scene.cameras, settings=settings)
    return splats, intersect_tiles(splats, *SIZE), scene.background


def blend_kept(records, splats, tiles, settings, depth, save):
    """All that the operation returns, what it keeps for backward behind the images."""
    given = (records, splats.colors, None, tiles.offsets, tiles.ids, None, None, None)
    return torch.ops.emogs.blend_tiles(*given, *SIZE, settings.blending, depth, save)
