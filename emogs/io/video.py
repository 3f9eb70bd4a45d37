"""Videos as H.264 in mp4, in the one pixel format that every player shows (yuv420p)."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .files import SYNTHETIC, replacing

QUALITY = 18
"""x264's constant rate factor; 18 is taken for visually lossless."""


def write_video(path: str | Path, frames: Iterable[NDArray[np.uint8]], *, frames_per_second: int = 25) -> int:
    """Encodes frames as they come, so that none need be kept.

    Args:
        path: an .mp4, replaced as a whole, or left alone if encoding fails.
        frames: [H, W, 3] uint8, all of one size; odd sizes lose their last row or column, as yuv420p needs even ones.
    Returns:
        how many frames were written.
    Raises:
        ValueError: for no frame, or frames of different sizes.
    """
    import av

    frames = iter(frames)
    first = next(frames, None)
    if first is None:
        raise ValueError("frames: there are none")
    height, width = (side // 2 * 2 for side in first.shape[:2])
    count = 0
    with replacing(path) as partial, av.open(str(partial), "w", options={"movflags": "+faststart"}) as container:
        container.metadata.update({"title": "emogs avatar", "comment": SYNTHETIC})
        stream = container.add_stream("libx264", rate=frames_per_second, width=width, height=height)
        stream.pix_fmt, stream.options = "yuv420p", {"crf": str(QUALITY)}
        for frame in chain([first], frames):
            if frame.shape != first.shape:
                raise ValueError(f"frames: expected all {list(first.shape)}, got {list(frame.shape)}")
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame[:height, :width]), format="rgb24")
            container.mux(stream.encode(picture))
            count += 1
        container.mux(stream.encode(None))
    return count
