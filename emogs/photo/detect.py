"""Reading a photo and finding the one face that is meant, by OpenCV's bundled cascades; errors say what would help."""

from __future__ import annotations

import io
import math
import os
import warnings
from collections.abc import Sequence
from functools import lru_cache, partial
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from ..io.files import reason_of
from .errors import PhotoError
from .landmarks import Box, box_around, find_landmarks, scan_for_faces

SMALLEST_FACE = 64
"""Pixels across a face below which an avatar would be a blur."""
LONGEST_SIDE = 2048
MOST_PIXELS = 100_000_000
"""Of a picture that is decoded as a whole: 400 MB. A JPEG is decoded at a fraction of its size."""
MOST_BYTES = 2**29
"""Of a picture's file: more than pixels of 16 bits need."""
_DETECTOR_SIDE = 800
_CASCADES = (("frontalface_default", 6), ("frontalface_default", 3), ("profileface", 3), ("frontalface_alt2", 1))
"""OpenCV's cascades and how many windows must agree, asked in turn until one finds a face."""
_DOUBT = 0.032
"""Where the landmarks' doubt is this large a cascade was wrong."""
_BYSTANDER = 0.5
"""A face less than this share as wide as the widest stands in the background and is not asked about."""


def load_photo(path: str | Path) -> NDArray[np.uint8]:
    """A photo as [H, W, 3] RGB, upright, without transparency (shown on white), at most 2048 pixels a side.

    Raises:
        PhotoError: naming the file and what is wrong with it, whatever its bytes are.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow remarks on metadata that nobody needs here, already when it opens
            with Image.open(_held(path)) as opened:
                opened.draft("RGB", (LONGEST_SIDE, LONGEST_SIDE))  # lets JPEG decode at a fraction of its size
                if opened.width * opened.height > MOST_PIXELS:
                    raise PhotoError(f"{opened.width} x {opened.height} pixels, expected at most {MOST_PIXELS:,}")
                image = _eight_bit(ImageOps.exif_transpose(opened))
    except FileNotFoundError:
        raise PhotoError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise PhotoError(f"{path}: is a folder, not a photo") from None
    except UnidentifiedImageError:  # its message shows where in memory the bytes are
        raise PhotoError(f"{path}: is no picture in a format known here") from None
    except Exception as reason:  # Pillow's plugins raise a dozen types on damaged files
        raise PhotoError(f"{path}: cannot be read as a photo ({reason_of(reason)})") from None
    image.thumbnail((LONGEST_SIDE, LONGEST_SIDE), Image.Resampling.LANCZOS)
    white = Image.new("RGBA", image.size, "white")
    return np.array(Image.alpha_composite(white, image).convert("RGB"))


def _held(path: str | Path) -> io.BytesIO:
    """A file's bytes. Pillow asks for as many as a chunk says it has: from a file that means memory for all of them."""
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size > MOST_BYTES:
            raise PhotoError(f"{size:,} bytes, expected at most {MOST_BYTES:,}")
        return io.BytesIO(file.read(size))


def _eight_bit(image: Image.Image) -> Image.Image:
    """Any Pillow mode as RGBA; 16 bits and more are scaled to the range of the type, floats to [0, 1]."""
    if image.mode.startswith("I;16") or image.mode == "I":
        return Image.fromarray((np.asarray(image).clip(0, 65535) / 257).astype(np.uint8)).convert("RGBA")
    if image.mode == "F":
        return Image.fromarray((np.nan_to_num(np.asarray(image)).clip(0, 1) * 255).astype(np.uint8)).convert("RGBA")
    return image.convert("RGBA")


def check_photo(image: object) -> NDArray[np.uint8]:
    """The array itself if it is a photo: [H, W, 3] uint8; PhotoError otherwise."""
    if not isinstance(image, np.ndarray) or image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        got = f"{image.dtype} {list(image.shape)}" if isinstance(image, np.ndarray) else type(image).__name__
        raise PhotoError(f"a photo is a uint8 array [H, W, 3] (RGB); got {got}")
    if min(image.shape[:2]) < SMALLEST_FACE:
        height, width = image.shape[:2]
        raise PhotoError(f"the photo is {width} x {height} pixels; a face needs at least {SMALLEST_FACE} across")
    return image


def find_faces(image: NDArray[np.uint8]) -> list[Box]:
    """Boxes of the upright faces in a photo [H, W, 3] from left to right; bystanders far behind are left out.

    The cascades propose, the landmark network disposes: where it is unsure of its landmarks there is no face. Where no
    cascade proposes anything good, the network looks for itself.
    """
    image = check_photo(image)
    factor = min(1.0, _DETECTOR_SIDE / max(image.shape[:2]))
    small = cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
    for propose in (*(partial(_proposals, small, *cascade) for cascade in _CASCADES), partial(scan_for_faces, small)):
        boxes: list[Box] = []
        for x, y, w, h in propose():
            box = _vetted(image, (x / factor, y / factor, w / factor, h / factor))
            if box is not None and not any(_same(box, other) for other in boxes):
                boxes.append(box)
        if boxes:
            widest = max(width for _, _, width, _ in boxes)
            return sorted(box for box in boxes if box[2] >= _BYSTANDER * widest)
    return []


def _proposals(image: NDArray[np.uint8], name: str, neighbours: int) -> list[Box]:
    """What a cascade takes for faces; the profile cascade knows one side only, so it looks at the mirror image too."""
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    found = list(_cascade(name).detectMultiScale(grey, 1.08, neighbours, minSize=(28, 28)))
    if name == "profileface":
        mirrored = _cascade(name).detectMultiScale(cv2.flip(grey, 1), 1.08, neighbours, minSize=(28, 28))
        found += [(grey.shape[1] - x - w, y, w, h) for x, y, w, h in mirrored]
    return [(float(x), float(y), float(w), float(h)) for x, y, w, h in found]


@lru_cache
def _cascade(name: str) -> cv2.CascadeClassifier:
    return cv2.CascadeClassifier(str(Path(cv2.__file__).parent / "data" / f"haarcascade_{name}.xml"))


def _vetted(image: NDArray[np.uint8], box: Box) -> Box | None:
    """The box moved onto the landmarks found in it; None if these are too doubtful for a face."""
    found = find_landmarks(image, box)
    if not found.doubt < _DOUBT:
        return None
    return box_around((found.points.min(0) + found.points.max(0)) / 2, found.extent)


def _same(one: Box, other: Box) -> bool:
    """Whether two boxes frame one face: their middles are nearer than half a width."""
    (x, y, w, h), (u, v, s, t) = one, other
    return max(abs(x + w / 2 - u - s / 2), abs(y + h / 2 - v - t / 2)) < min(w, s) / 2


def choose_face(faces: Sequence[Box], face: int | None = None) -> Box:
    """The face that is meant.

    Args:
        faces: boxes as `find_faces` gives them.
        face: 1-based number among them; needed if there are several.
    Raises:
        PhotoError: no face; several and none chosen (the boxes are listed); no such number; too small.
    """
    if not faces:
        raise PhotoError("no upright face found; if there is one, say where with --box LEFT,TOP,WIDTH,HEIGHT")
    if face is None and len(faces) > 1:
        raise PhotoError(f"{len(faces)} faces found; choose one with --face N: {_listed(faces)}")
    if face is not None and not 1 <= face <= len(faces):
        raise PhotoError(f"there is no face {face}; the photo has {_listed(faces)}")
    return check_box(faces[(face or 1) - 1])


def check_box(box: Sequence[float]) -> Box:
    """A box of four finite numbers, wide enough; PhotoError otherwise."""
    values = tuple(float(value) for value in box)
    if len(values) != 4 or not all(math.isfinite(value) for value in values):
        raise PhotoError(f"a box is LEFT,TOP,WIDTH,HEIGHT in pixels; got {list(box)}")
    left, top, width, height = values
    if min(width, height) < SMALLEST_FACE:
        raise PhotoError(
            f"the face is {width:.0f} x {height:.0f} pixels; it needs at least {SMALLEST_FACE} x {SMALLEST_FACE}"
        )
    return left, top, width, height


def _listed(faces: Sequence[Box]) -> str:
    rows = (f"{n} (left {x:.0f}, top {y:.0f}, {w:.0f} x {h:.0f} pixels)" for n, (x, y, w, h) in enumerate(faces, 1))
    return ", ".join(rows)
