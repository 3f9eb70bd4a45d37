"""Projected splats and their tiles, small enough to be composited one pixel at a time."""

from __future__ import annotations

from raster_scenes import WITHOUT_EDGES, random_scene

from emogs.ops import intersect_tiles, project_gaussians

SIZE = (21, 18)  # two by two tiles, neither side a multiple of sixteen


def splats_and_tiles(count=30, settings=WITHOUT_EDGES, **options):
    scene = random_scene(count, size=SIZE, **options)
    splats = project_gaussians(scene.gaussians, scene.cameras, settings=settings)
    return splats, intersect_tiles(splats, *SIZE), scene.background
