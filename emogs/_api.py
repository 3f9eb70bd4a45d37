"""The names that `import emogs` offers."""

from emogs import nn
from emogs.cameras import Cameras, fisheye, look_at, orthographic, pinhole
from emogs.gaussians import EmotionBasis, Gaussians, Rig
from emogs.ops.norm import emotion_norm
from emogs.ops.renorm import emotion_renorm
from emogs.rasterize import RasterSettings, Rendering, rasterize
from emogs.workspace import CapacityError, RasterWorkspace

__all__ = [
    "Cameras",
    "CapacityError",
    "EmotionBasis",
    "Gaussians",
    "RasterSettings",
    "RasterWorkspace",
    "Rendering",
    "Rig",
    "emotion_norm",
    "emotion_renorm",
    "fisheye",
    "look_at",
    "nn",
    "orthographic",
    "pinhole",
    "rasterize",
]
