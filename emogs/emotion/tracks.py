"""Files of emotions over time: CSV and JSON of codes, action units, ARKit shapes and more, in and out.

Columns are found by name, in any order; those of trackers are known too (OpenFace's `AU12_r`, Live Link Face's
`MouthSmileLeft` and `Timecode`). Reading runs no code, and whatever is wrong with a file is one FormatError that says
where it is, what was expected there and what came.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..io.files import FormatError, replacing, shown
from ..io.text import csv_rows, parse_json, read_text
from .checks import check_floats, check_range
from .languages import Language, find_language, languages
from .tables import EmotionTables, default_tables
from .trajectories import EASES, Ease, Trajectory, check_clock
from .votes import dataset_of_votes

LARGEST_FILE = 256 * 2**20
"""Bytes; a larger file is refused before it is read."""

LATEST = 1e9
"""Seconds; a time beyond it, before or after zero, is no time."""

_OPEN_SIZES = {"regions": "R", "action units": "U"}  # tables decide these, which a track does not know
_SECONDS = ("time", "timestamp", "seconds")
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,4})?", re.ASCII)
_TIMECODE = re.compile(r"([0-9]{1,3}):([0-9]{1,2}):([0-9]{1,2})[:;]([0-9]{1,4}(?:\.[0-9]{1,6})?)", re.ASCII)


@dataclass(frozen=True, eq=False)
class Track:
    """Values over time in one language.

    Raises:
        TypeError, ValueError: the language is unknown, or times and values are not what its files could hold.

    >>> Track("emotion", torch.tensor([0.0, 0.5]), torch.full((2, 7), 1.5))
    Traceback (most recent call last):
    ValueError: values: expected numbers from 0 to 1 for emotion, got 1.5
    """

    language: str
    """Which, see `languages()`."""
    times: Tensor
    """[T] float64 seconds, increasing; T is at least 1."""
    values: Tensor
    """[T, ...] float32 as the language has them: emotion [T, 7], action units [T, U, 2], arkit [T, 52]."""
    ease: Ease = "linear"
    """How values change in between."""
    ignored: tuple[str, ...] = ()
    """Columns of the file that are not of this language."""
    skipped: int = 0
    """Rows that the tracker itself marked as failed (OpenFace's `success` 0), which are left out."""

    def __post_init__(self) -> None:
        spoken = find_language(self.language)
        object.__setattr__(self, "language", spoken.name)
        check_floats("times", self.times)
        check_floats("values", self.values)
        self._check_sizes(spoken)
        check_clock(self.times, self.ease)
        check_range("times", self.times, -LATEST, LATEST)
        check_range("values", self.values, spoken.low / spoken.scale, spoken.high / spoken.scale, f" for {spoken.name}")

    def _check_sizes(self, spoken: Language) -> None:
        sizes = (_OPEN_SIZES.get(spoken.name, spoken.shape[0]), *spoken.shape[1:]) if spoken.shape else ()
        found = list(self.values.shape)
        fits = len(found) == 1 + len(sizes) and self.times.ndim == 1 and 0 < len(self.times) == found[0]
        if not fits or any(isinstance(size, int) and size != have for size, have in zip(sizes, found[1:], strict=True)):
            raise ValueError(
                f"Track: expected times [T] and values [{', '.join(map(str, ('T', *sizes)))}] for {spoken.name}, "
                f"T at least 1, got {list(self.times.shape)} and {found}"
            )

    def trajectory(self) -> Trajectory:
        """The same as a Trajectory over flattened values [T, D]."""
        return Trajectory(self.times, self.values.reshape(len(self.times), -1), self.ease)

    def resampled(self, fps: float) -> Track:
        """At a frame rate, from the first instant to the last; exact at instants that both have."""
        trajectory = self.trajectory()
        values = trajectory.frames(fps)
        times = self.times[0] + torch.arange(len(values), dtype=torch.float64) / fps
        return replace(self, times=times, values=values.reshape(len(values), *self.values.shape[1:]), ease="linear")


def load_track(
    path: str | Path, language: str | None = None, fps: float | None = None, tables: EmotionTables | None = None
) -> Track:
    """Reads a .csv or .json file.

    A CSV file has a head of names, then rows of numbers. Seconds are in `time` or `timestamp`; without such a column
    rows are frames at `fps`, counted by `frame` or `Timecode` if there is one. Missing columns are zero. A JSON file is
    an object of `language`, `ease` and `frames`, each of a `time` and `values`: an object of numbers by name, or a text
    such as "happy=0.7".

    Args:
        language: what the columns mean; None asks the names.
        fps: frames a second, for files that only count.
        tables: None is emogs' own.
    Raises:
        FormatError: the file is not that; it names file, row, column, what was expected and what was found.
        OSError: it cannot be read.
    """
    path, tables = Path(path), tables or default_tables()
    if fps is not None and not 0 < fps < math.inf:
        raise ValueError(f"fps: expected a number above 0, got {fps!r}")
    chosen = None if language is None else find_language(language, tables)
    if path.suffix.lower() not in _READERS:
        raise FormatError(path, "name", f"expected a file .csv or .json, got {path.suffix or 'no ending'!r}")
    if path.stat().st_size > LARGEST_FILE:
        raise FormatError(path, "size", f"expected at most {LARGEST_FILE} bytes, got {path.stat().st_size}")
    return _READERS[path.suffix.lower()](path, read_text(path), chosen, fps, tables)


def save_track(path: str | Path, track: Track, tables: EmotionTables | None = None) -> None:
    """Writes a .csv or .json file that `load_track` reads back to the same float32 numbers; replaced as a whole.

    Raises:
        ValueError: the file's ending is another, or the tables have another number of regions or action units.
    """
    path, spoken = Path(path), find_language(track.language, tables or default_tables())
    if path.suffix.lower() not in _READERS:
        raise ValueError(f"{path}: expected a file .csv or .json, got {path.suffix or 'no ending'!r}")
    rows = track.values.detach().cpu().reshape(len(track.times), -1).float()
    rows = rows.clamp(spoken.low / spoken.scale, spoken.high / spoken.scale)  # rounding
    if rows.shape[1] != len(spoken.columns):
        raise ValueError(f"values: expected {list(spoken.shape)} for {spoken.name}, got {list(track.values.shape[1:])}")
    written = [[_shortest(value, spoken.scale) for value in row] for row in rows.numpy()]
    times = [repr(time).removesuffix(".0") for time in track.times.double().tolist()]
    if path.suffix.lower() == ".csv":
        lines = [",".join(("time", *spoken.columns))]
        lines += [",".join((time, *row)) for time, row in zip(times, written, strict=True)]
    else:
        frames = [
            _json_frame(time, dict(zip(spoken.columns, row, strict=True)))
            for time, row in zip(times, written, strict=True)
        ]
        head = f'{{"language": {json.dumps(spoken.name)}, "ease": {json.dumps(track.ease)}, "frames": ['
        lines = [head, ",\n".join(frames), "]}"]
    with replacing(path) as partial:
        partial.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _read_csv(path: Path, text: str, chosen: Language | None, fps: float | None, tables: EmotionTables) -> Track:
    rows = csv_rows(path, text)
    line, head = next(rows, (1, []))
    names = [name.strip() for name in head]
    if not any(names):
        raise FormatError(path, f"row {line}", "expected a head of column names, got nothing")
    if dataset := dataset_of_votes(names):
        raise FormatError(path, "head", f"holds votes on pictures ({dataset}), not over time; load_votes reads it")
    spoken = chosen or _guess(path, names, tables)
    places = _places(path, names, spoken)
    clock = _Clock(path, [name.lower() for name in names], fps)
    success = next((i for i, name in enumerate(names) if name.lower() == "success"), None)
    times: list[float] = []
    values: list[list[float]] = []
    skipped = 0
    for line, row in rows:
        if len(row) != len(names):
            raise FormatError(path, f"row {line}", f"expected {len(names)} columns as in the head, got {len(row)}")
        if success is not None and row[success].strip() in ("0", "0.0"):
            skipped += 1
            continue
        out = [0.0] * len(spoken.columns)
        for column, targets in places.items():
            value = _number(row[column], spoken, path, f"row {line}, column {names[column]!r}")
            for target in targets:
                out[target] = value
        times.append(clock.seconds(line, row, len(times) + skipped))
        if not abs(times[-1]) <= LATEST:
            raise FormatError(
                path, f"row {line}", f"expected seconds up to {LATEST:g}, got {times[-1]:g} at fps={fps:g}"
            )
        if len(times) > 1 and times[-1] <= times[-2]:
            raise FormatError(path, f"row {line}", f"expected a time after {times[-2]:g} s, got {times[-1]:g} s")
        values.append(out)
    if not times:
        raise FormatError(path, "rows", "expected at least one row of numbers, got none")
    read = {i for i in (*places, clock.column, success) if i is not None}
    ignored = tuple(name for i, name in enumerate(names) if i not in read and name)
    return _track(spoken, times, values, "linear", ignored, skipped)


def _read_json(path: Path, text: str, chosen: Language | None, fps: float | None, tables: EmotionTables) -> Track:
    data = parse_json(path, text)
    if not isinstance(data, dict) or not isinstance(data.get("frames"), list):
        raise FormatError(path, "frames", f"expected an object with a list of frames, got {shown(data)}")
    if not data["frames"]:
        raise FormatError(path, "frames", "expected at least one frame, got none")
    spoken = chosen
    if spoken is None:
        try:
            spoken = find_language(data.get("language", ""), tables)
        except ValueError as error:
            raise FormatError(path, "language", str(error)) from None
    ease: Any = data.get("ease", "linear")
    if ease not in EASES:
        raise FormatError(path, "ease", f"expected one of {', '.join(EASES)}, got {shown(ease)}")
    times: list[float] = []
    values: list[list[float]] = []
    for i, frame in enumerate(data["frames"]):
        where = f"frame {i}"
        if not isinstance(frame, dict) or not frame.keys() <= {"time", "values"} or "values" not in frame:
            raise FormatError(path, where, f"expected an object of time and values, got {shown(frame)}")
        if "time" not in frame and fps is None:
            raise FormatError(path, where, "expected a time in seconds, or frames at a known rate: give fps")
        time = _json_number(frame.get("time", i / (fps or 1)), path, f"{where}, time", -LATEST, LATEST)
        if times and time <= times[-1]:
            raise FormatError(path, f"{where}, time", f"expected a time after {times[-1]:g} s, got {time:g} s")
        times.append(time)
        values.append(_json_values(frame["values"], spoken, path, where))
    return _track(spoken, times, values, ease, (), 0)


_READERS = {".csv": _read_csv, ".json": _read_json}


class _Clock:
    """Seconds of the rows of a CSV file, by the column that tells them."""

    def __init__(self, path: Path, names: list[str], fps: float | None) -> None:
        self.path, self.fps = path, fps
        order = (*_SECONDS, "frame", "timecode")
        self.column = min(
            (i for i, name in enumerate(names) if name in order), default=None, key=lambda i: order.index(names[i])
        )
        self.name = None if self.column is None else names[self.column]
        if self.name not in _SECONDS and fps is None:
            raise FormatError(
                path, "head", f"expected a column {' or '.join(_SECONDS)}, or frames at a known rate: give fps"
            )

    def seconds(self, line: int, row: list[str], index: int) -> float:
        if self.column is None:
            return index / (self.fps or 1)
        where, text = f"row {line}, column {self.name!r}", row[self.column].strip()
        if self.name == "timecode":
            parts = _TIMECODE.fullmatch(text)
            if parts is None:
                raise FormatError(self.path, where, f"expected hours:minutes:seconds:frames, got {shown(text)}")
            hours, minutes, seconds, frames = (float(part) for part in parts.groups())
            return 3600 * hours + 60 * minutes + seconds + frames / (self.fps or 1)
        value = float(text) if _NUMBER.fullmatch(text) else math.nan
        if not abs(value) <= LATEST:
            raise FormatError(self.path, where, f"expected seconds or a frame number, got {shown(text)}")
        return value / (self.fps or 1) if self.name == "frame" else value


def _track(
    spoken: Language, times: list[float], values: list[list[float]], ease: Ease, ignored: tuple[str, ...], skipped: int
) -> Track:
    rows = torch.tensor(values, dtype=torch.float64) / spoken.scale
    return Track(
        spoken.name,
        torch.tensor(times, dtype=torch.float64),
        rows.float().reshape(len(times), *spoken.shape),
        ease,
        ignored,
        skipped,
    )


def _guess(path: Path, names: list[str], tables: EmotionTables) -> Language:
    """The language of which most columns are."""
    counts = {spoken: sum(bool(spoken.find(name)) for name in names) for spoken in languages(tables).values()}
    spoken = max(counts, key=lambda known: counts[known])
    if not counts[spoken]:
        known = "; ".join(f"{language.name}: {', '.join(language.columns[:3])}, ..." for language in counts)
        raise FormatError(path, "head", f"expected columns of one of these languages: {known}; got {shown(names)}")
    return spoken


def _places(path: Path, names: list[str], spoken: Language) -> dict[int, tuple[int, ...]]:
    """Which numbers of the language each column holds."""
    found = {i: spoken.find(name) for i, name in enumerate(names) if spoken.find(name)}
    if not found:
        raise FormatError(path, "head", f"expected columns such as {', '.join(spoken.columns[:3])}, got {shown(names)}")
    taken: dict[int, str] = {}
    for i, targets in found.items():
        for target in targets:
            if target in taken:
                raise FormatError(
                    path, "head", f"expected {spoken.columns[target]} once, got {taken[target]!r} and {names[i]!r}"
                )
            taken[target] = names[i]
    return found


def _number(text: str, spoken: Language, path: Path, where: str) -> float:
    text = text.strip()
    value = float(text) if _NUMBER.fullmatch(text) else math.nan
    if not spoken.low <= value <= spoken.high:
        raise FormatError(path, where, f"expected a number from {spoken.low:g} to {spoken.high:g}, got {shown(text)}")
    return value


def _json_number(value: object, path: Path, where: str, low: float, high: float) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
        raise FormatError(path, where, f"expected a number from {low:g} to {high:g}, got {shown(value)}")
    return float(value)


def _json_values(values: object, spoken: Language, path: Path, where: str) -> list[float]:
    """The numbers of one frame, on the file's scale."""
    if isinstance(values, str):
        try:
            return (spoken.parse(values).double() * spoken.scale).flatten().tolist()
        except ValueError as error:
            raise FormatError(path, where, str(error)) from None
    if not isinstance(values, dict):
        raise FormatError(path, f"{where}, values", f"expected a text or an object of numbers, got {shown(values)}")
    out = [0.0] * len(spoken.columns)
    taken: set[int] = set()
    for name, value in values.items():
        targets = spoken.find(name)
        if not targets or taken & set(targets):
            what = "expected each name once" if targets else f"expected a name such as {', '.join(spoken.columns[:3])}"
            raise FormatError(path, f"{where}, values", f"{what}, got {shown(name)}")
        taken |= set(targets)
        for target in targets:
            out[target] = _json_number(value, path, f"{where}, {shown(name)}", spoken.low, spoken.high)
    return out


def _json_frame(time: str, row: dict[str, str]) -> str:
    numbers = ", ".join(f"{json.dumps(name)}: {value}" for name, value in row.items() if value != "0")
    return f'{{"time": {time}, "values": {{{numbers}}}}}'


def _shortest(value: np.float32, scale: float) -> str:
    """The fewest digits, on the file's scale, that read back as the same float32."""
    exact = float(value) * scale
    short = str(np.float32(exact))
    return (short if np.float32(float(short) / scale) == value else repr(exact)).removesuffix(".0")
