"""Landmarks over time in files as trackers and scripts write them: npz, npy, csv, json. Read, checked, no code run.

* npz, npy: `landmarks` [T, P, 2 or more] (an npz's only array may have any name); `visibility` [T, P], `fps`, `size`.
* csv, a row a frame: `x_0`, `y_0`, ... (OpenFace's; also `x0`, `landmark_0_x`); `v_0`, ... (visibility);
  `timestamp` or `frame`; `success`.
* csv, a row a point: `frame`, `landmark`, `x`, `y`; `visibility`.
* json: a list of frames, or an object of `frames`, `fps`, `size`. A frame is null, a list of points, or an object of
  `landmarks` or `face_landmarks` (MediaPipe's; the first face) and `time`. A point is [x, y] or {"x": , "y": }.

Frames in which a tracker found nothing are NaN. Frames that a clock skips become frames without landmarks.
"""

from __future__ import annotations

import csv
import io
import json
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..head.fields import read_npz, reading
from ..io.files import FormatError, shown

LARGEST_FILE = 2**30
"""Bytes; a larger file is refused before it is read."""
MOST_FRAMES, MOST_POINTS = 1_000_000, 10_000
_COLUMN = re.compile(r"(?:(?:landmark|point|lm|p)?_?([0-9]{1,4})_?([xyv])|([xyv])_?([0-9]{1,4}))", re.ASCII)
_SECONDS = ("time", "timestamp", "seconds")

Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class LandmarkFile:
    """Landmarks over time, as a file has them."""

    landmarks: Tensor  # [T, P, 2] float64, NaN where missing
    visibility: Tensor | None  # [T, P] float64 in [0, 1]
    fps: float | None
    size: tuple[float, float] | None
    """Of the picture in pixels."""


def load_landmarks(path: str | Path, fps: float | None = None) -> LandmarkFile:
    """Reads a file of one of the forms above.

    Args:
        fps: frames a second; goes before what the file says. Needed to place rows whose file has only seconds in time
            if these are uneven; otherwise the rate is that of the median step.
    Raises:
        FormatError: the file is not that; names file, frame or row, what was expected and what was found.
        OSError: it cannot be read.
    """
    path = Path(path)
    kind = path.suffix.lower()
    if kind not in _READERS:
        raise FormatError(path, "name", f"expected a file {', '.join(_READERS)}, got {kind or 'no ending'!r}")
    if path.stat().st_size > LARGEST_FILE:
        raise FormatError(path, "size", f"expected at most {LARGEST_FILE} bytes, got {path.stat().st_size}")
    read = _READERS[kind](path)
    read.fps = fps or read.fps
    points, visibility = _by_clock(path, read) if read.times is not None else (read.points, read.visibility)
    if not len(points) or not points.shape[1]:
        raise FormatError(path, "frames", f"expected frames of points, got {list(points.shape)}")
    return LandmarkFile(
        torch.from_numpy(np.ascontiguousarray(points[..., :2])),
        None if visibility is None else torch.from_numpy(np.ascontiguousarray(visibility)),
        read.fps,
        read.size,
    )


@dataclass
class _Read:
    """What a reader found."""

    points: Numbers  # [T, P, 2 or more]
    visibility: Numbers | None = None  # [T, P]
    times: Numbers | None = None  # [T] seconds, or frames' numbers
    counted: bool = False  # whether times are frames' numbers
    fps: float | None = None
    size: tuple[float, float] | None = None


def _by_clock(path: Path, read: _Read) -> tuple[Numbers, Numbers | None]:
    """Frames at their place in time; what a clock skips is NaN. Sets the rate if nobody knows it."""
    times = read.times
    assert times is not None
    steps = np.diff(times)
    bad = np.flatnonzero(~(steps > 0))
    if len(bad) or not np.isfinite(times).all():
        where = int(bad[0]) + 1 if len(bad) else int(np.flatnonzero(~np.isfinite(times))[0])
        raise FormatError(path, f"frame {where}", "expected a time after that of the frame before")
    if read.counted:
        places = times - times[0]
    else:
        read.fps = read.fps or (1 / float(np.median(steps)) if len(steps) else None)
        with np.errstate(all="ignore"):  # what overflows is refused below
            places = (times - times[0]) * (read.fps or 1)
    most = min(MOST_FRAMES, 200 * len(times) + 10_000)  # a few rows and a distant one would ask for gigabytes
    if len(places) and not 0 <= places[-1] < most:  # before it becomes a whole number, which has an end
        raise FormatError(
            path, "time", f"expected at most {most} frames for {len(times)} rows, got {float(places[-1]):g}"
        )
    rows = np.rint(places).astype(np.int64)
    if (np.diff(rows) == 0).any():
        where = int(np.flatnonzero(np.diff(rows) == 0)[0]) + 1
        raise FormatError(path, f"frame {where}", f"expected one frame at a time at {read.fps:g} a second, got two")

    def placed(values: Numbers | None) -> Numbers | None:
        if values is None:
            return None
        out = np.full((int(rows[-1]) + 1, *values.shape[1:]), np.nan)
        out[rows] = values
        return out

    points = placed(read.points)
    assert points is not None
    return points, placed(read.visibility)


def _rate(path: Path, value: Any, name: str = "fps") -> float | None:
    """A number above 0, or None for none."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < 1e6:
        raise FormatError(path, name, f"expected a number above 0, got {shown(value)}")
    return float(value)


def _size(path: Path, values: Any) -> tuple[float, float] | None:
    if values is None:
        return None
    if not isinstance(values, (list, tuple)) or len(values) != 2:
        raise FormatError(path, "size", f"expected width and height in pixels, got {shown(values)}")
    width, height = (_rate(path, value, "size") for value in values)
    return (width, height) if width and height else None


# Arrays ---------------------------------------------------------------------------------------------------------------


def _read_npz(path: Path) -> _Read:
    arrays = dict(read_npz(path).arrays)
    names: list[str] = [name for name in ("landmarks", "points") if name in arrays] or [*arrays]
    if len(names) != 1 and "landmarks" not in names:
        raise FormatError(path, "landmarks", f"missing; the file has {', '.join(names[:20]) or 'nothing'}")
    points = _array(path, names[0], arrays[names[0]], 3)
    seen = arrays.get("visibility")
    visibility = None if seen is None else _array(path, "visibility", seen, 2)
    if visibility is not None and visibility.shape != points.shape[:2]:
        raise FormatError(path, "visibility", f"expected {list(points.shape[:2])}, got {list(visibility.shape)}")
    fps, size = arrays.get("fps"), arrays.get("size")
    return _Read(
        points,
        visibility,
        fps=_rate(path, None if fps is None else fps.tolist()),
        size=_size(path, None if size is None else size.tolist()),
    )


def _read_npy(path: Path) -> _Read:
    with reading(path):
        return _Read(_array(path, "landmarks", np.load(path, allow_pickle=False), 3))


def _array(path: Path, name: str, array: NDArray[Any], dimensions: int) -> Numbers:
    if array.ndim != dimensions or array.dtype.kind not in "fiu" or (dimensions == 3 and array.shape[2] < 2):
        wanted = "[frames, points, 2 or more]" if dimensions == 3 else "[frames, points]"
        raise FormatError(path, name, f"expected numbers {wanted}, got {array.dtype} {list(array.shape)}")
    return array.astype(np.float64)


# CSV ------------------------------------------------------------------------------------------------------------------


def _read_csv(path: Path) -> _Read:
    names, rows = _table(path)
    if {"frame", "x", "y"} <= set(names):
        return _long(path, names, rows)
    columns: dict[str, dict[int, int]] = {"x": {}, "y": {}, "v": {}}
    for i, name in enumerate(names):
        match = _COLUMN.fullmatch(name)  # in this case: OpenFace's X_0 are three-dimensional
        if match:
            columns[(match[2] or match[3])][int(match[1] or match[4])] = i
    count = len(columns["x"])
    if not count or any(sorted(columns[axis]) != list(range(count)) for axis in "xy"):
        raise FormatError(
            path, "head", f"expected x_0, y_0 to x_N, y_N, or frame, landmark, x, y; got {shown(names[:6])}"
        )
    points = np.stack([rows[:, [columns[axis][i] for i in range(count)]] for axis in "xy"], -1)
    failed = np.zeros(len(rows), bool)
    for name in ("success", "valid"):
        if name in names:
            failed |= rows[:, names.index(name)] == 0
    points[failed] = np.nan
    visibility = None
    if columns["v"]:
        if sorted(columns["v"]) != list(range(count)):
            raise FormatError(path, "head", f"expected v_0 to v_{count - 1} or none of them")
        visibility = np.nan_to_num(rows[:, [columns["v"][i] for i in range(count)]])
    seconds = next((name for name in _SECONDS if name in names), None)
    clock = seconds or ("frame" if "frame" in names else None)
    times = None if clock is None else rows[:, names.index(clock)]
    return _Read(points, visibility, times, counted=clock == "frame")


def _long(path: Path, names: list[str], rows: Numbers) -> _Read:
    """A row a point."""
    index = next((name for name in ("landmark", "index", "point", "id") if name in names), None)
    if index is None:
        raise FormatError(path, "head", f"expected a column landmark beside frame, x, y; got {shown(names)}")
    frames, points = (rows[:, names.index(name)] for name in ("frame", index))
    for name, column, most in (("frame", frames, MOST_FRAMES), (index, points, MOST_POINTS)):
        wrong = np.flatnonzero(~((column == np.rint(column)) & (column >= 0) & (column < most)))
        if len(wrong):
            raise FormatError(
                path, f"row {wrong[0] + 2}, column {name!r}", f"expected a count, got {column[wrong[0]]:g}"
            )
    first = int(frames.min())
    shape = (int(frames.max()) - first + 1, int(points.max()) + 1)
    if shape[0] * shape[1] > 200 * len(rows) + 10_000:
        raise FormatError(path, "frame", f"expected rows for most frames and points, got {len(rows)} for {shape}")
    place = (frames.astype(int) - first, points.astype(int))
    out = np.full((*shape, 2), np.nan)
    out[place] = rows[:, [names.index("x"), names.index("y")]]
    if "visibility" not in names:
        return _Read(out)
    visibility = np.zeros(shape)
    visibility[place] = rows[:, names.index("visibility")]
    return _Read(out, visibility)


def _table(path: Path) -> tuple[list[str], Numbers]:
    """Names, those that are no points' in lower case, and numbers; an empty cell is NaN."""
    with reading(path):
        text = path.read_bytes().decode("utf-8-sig")
    reader = csv.reader(io.StringIO(text, newline=""))
    with reading(path):
        head = [name.strip() for name in next(reader, [])]
        lines = [(reader.line_num, row) for row in reader if any(cell.strip() for cell in row)]
    if len(set(head)) != len(head):
        raise FormatError(path, "head", "expected each name once")
    if not lines:
        raise FormatError(path, "rows", "expected at least one row of numbers, got none")
    head = [name.lower() if name.lower() in _KNOWN else name for name in head]
    used = {i for i, name in enumerate(head) if _COLUMN.fullmatch(name) or name in _KNOWN}
    out = np.full((len(lines), len(head)), np.nan)
    for k, (line, row) in enumerate(lines):
        if len(row) != len(head):
            raise FormatError(path, f"row {line}", f"expected {len(head)} columns as in the head, got {len(row)}")
        for i in used:
            try:
                out[k, i] = float(row[i]) if row[i].strip() else math.nan
            except ValueError:
                expected = f"expected a number or nothing, got {shown(row[i])}"
                raise FormatError(path, f"row {line}, column {head[i]!r}", expected) from None
    return head, out


_KNOWN = {"frame", "landmark", "index", "point", "id", "x", "y", "visibility", "success", "valid", *_SECONDS}


# JSON -----------------------------------------------------------------------------------------------------------------


def _read_json(path: Path) -> _Read:
    with reading(path, "JSON"):
        data = json.loads(path.read_bytes().decode("utf-8-sig"))
    told = data if isinstance(data, dict) else {}
    frames = told.get("frames") if isinstance(data, dict) else data
    if not isinstance(frames, list) or not frames:
        raise FormatError(path, "frames", f"expected a list of frames, got {shown(frames)}")
    found = [_json_frame(path, f"frame {i}", frame) for i, frame in enumerate(frames)]
    count = max((len(points) for points, _, _ in found), default=0)
    values = np.full((len(found), count, 3), np.nan)
    for i, (points, _, _) in enumerate(found):
        if len(points) not in (0, count):
            raise FormatError(path, f"frame {i}", f"expected {count} points as in other frames, got {len(points)}")
        values[i, : len(points)] = np.array(points, np.float64).reshape(-1, 3)
    seen = any(has for _, has, _ in found)
    times = [time for _, _, time in found]
    timed = all(time is not None for time in times)
    return _Read(
        values[..., :2],
        np.nan_to_num(values[..., 2]) if seen else None,
        np.array(times, np.float64) if timed else None,
        fps=_rate(path, told.get("fps")),
        size=_size(path, told.get("size")),
    )


def _json_frame(path: Path, where: str, frame: Any) -> tuple[list[tuple[float, float, float]], bool, float | None]:
    """x, y and visibility of a frame's points, whether it tells visibility, and its time in seconds."""
    time = None
    if isinstance(frame, dict):
        time = frame.get("time", frame.get("timestamp"))
        if time is not None and (isinstance(time, bool) or not isinstance(time, (int, float)) or not abs(time) < 1e9):
            raise FormatError(path, where, f"expected a time in seconds, got {shown(time)}")
        names = ("landmarks", "face_landmarks", "faceLandmarks")
        frame = next((frame[name] for name in names if name in frame), frame)
    while isinstance(frame, list) and frame and isinstance(frame[0], list) and frame[0] and _is_point(frame[0][0]):
        frame = frame[0]  # several faces: the first
    if frame is None:
        frame = []
    if not isinstance(frame, list):
        raise FormatError(path, where, f"expected null or a list of points, got {shown(frame)}")
    points, seen = [], False
    for k, point in enumerate(frame):
        x, y, visibility = _json_point(path, f"{where}, point {k}", point)
        seen |= visibility is not None
        points.append((x, y, 1.0 if visibility is None else visibility))
    return points, seen, time


def _is_number(value: Any) -> bool:
    """Whether a float can hold it; JSON's whole numbers have no bound."""
    return type(value) is float or (type(value) is int and abs(value) < 2**1000)


def _is_point(value: Any) -> bool:
    return isinstance(value, (dict, list))


def _json_point(path: Path, where: str, point: Any) -> tuple[float, float, float | None]:
    """x, y and visibility. MediaPipe writes a visibility of 0 where it does not tell any."""
    if point is None:
        return math.nan, math.nan, None
    values = [point.get("x"), point.get("y")] if isinstance(point, dict) else point
    seen = (point.get("visibility") or None) if isinstance(point, dict) else None
    if not isinstance(values, list) or len(values) < 2 or not all(map(_is_number, values[:2])):
        raise FormatError(path, where, f'expected [x, y] or {{"x": , "y": }}, got {shown(point)}')
    if seen is not None and (isinstance(seen, bool) or not isinstance(seen, (int, float)) or not 0 <= seen <= 1):
        raise FormatError(path, where, f"expected a visibility from 0 to 1, got {shown(seen)}")
    return float(values[0]), float(values[1]), seen


_READERS = {".npz": _read_npz, ".npy": _read_npy, ".csv": _read_csv, ".json": _read_json}
