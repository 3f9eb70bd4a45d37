"""From an image into template space: detection, landmarks, fitting, matting, unprojection, filling, second layer."""

from .appearance import Look, look
from .shell import Shell
from .unproject import PhotoMaps
from .view import HeadView

__all__ = ["HeadView", "Look", "PhotoMaps", "Shell", "look"]
