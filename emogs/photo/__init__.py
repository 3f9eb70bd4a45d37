"""From an image into template space: detection, landmarks, fitting, matting, unprojection, filling, second layer."""

from .appearance import Look, look
from .detect import find_faces, load_photo
from .errors import PhotoError
from .face import HeadFit, fit_photo
from .landmarks import Landmarks, find_landmarks
from .shell import Shell
from .unproject import PhotoMaps
from .view import HeadView

__all__ = [
    "HeadFit",
    "HeadView",
    "Landmarks",
    "Look",
    "PhotoError",
    "PhotoMaps",
    "Shell",
    "find_faces",
    "find_landmarks",
    "fit_photo",
    "load_photo",
    "look",
]
