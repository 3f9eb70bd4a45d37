"""From an image into template space: detection, landmarks, fitting, matting, unprojection, filling, second layer."""

from .appearance import Look, look
from .detect import find_faces, load_photo
from .errors import PhotoError
from .face import HeadFit, fit_photo
from .folds import Folds
from .landmark_files import LandmarkFile, load_landmarks
from .landmarks import Landmarks, find_landmarks
from .sequence import SequenceFit, fit_sequence
from .sequence_files import save_performance
from .shell import Shell
from .unproject import PhotoMaps
from .view import HeadView

__all__ = [
    "Folds",
    "HeadFit",
    "HeadView",
    "LandmarkFile",
    "Landmarks",
    "Look",
    "PhotoError",
    "PhotoMaps",
    "SequenceFit",
    "Shell",
    "find_faces",
    "find_landmarks",
    "fit_photo",
    "fit_sequence",
    "load_landmarks",
    "load_photo",
    "look",
    "save_performance",
]
