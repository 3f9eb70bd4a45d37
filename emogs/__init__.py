"""emogs: Gaussian heads whose emotion is a control signal of its own."""

from importlib.metadata import version

from emogs.cameras import Cameras, look_at, pinhole
from emogs.gaussians import EmotionBasis, Gaussians, Rig
from emogs.ops.norm import emotion_norm
from emogs.rasterize import RasterSettings, Rendering, rasterize

__all__ = [
    "Cameras",
    "EmotionBasis",
    "Gaussians",
    "RasterSettings",
    "Rendering",
    "Rig",
    "emotion_norm",
    "look_at",
    "pinhole",
    "rasterize",
]

__version__ = version("emogs")
