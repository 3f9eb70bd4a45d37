"""The native operations: checks, autograd, shape functions and torch references, one file each."""

from emogs.ops.blend import blend_tiles
from emogs.ops.norm import emotion_norm
from emogs.ops.project import Splats, project_gaussians
from emogs.ops.renorm import emotion_renorm
from emogs.ops.rig import rig_frames
from emogs.ops.settings import RasterSettings
from emogs.ops.tiles import Tiles, intersect_tiles

__all__ = [
    "RasterSettings",
    "Splats",
    "Tiles",
    "blend_tiles",
    "emotion_norm",
    "emotion_renorm",
    "intersect_tiles",
    "project_gaussians",
    "rig_frames",
]
