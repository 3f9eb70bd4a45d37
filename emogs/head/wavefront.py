"""Wavefront OBJ, as much of it as head models use: positions, texture coordinates, polygons and their materials."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from ..io.files import FormatError
from .fields import reading


@dataclass(frozen=True)
class Wavefront:
    """A mesh of one file; polygons cut into triangles from their first corner."""

    vertices: NDArray[np.float32]  # [V, 3]
    uv: NDArray[np.float32]  # [T, 2]
    faces: NDArray[np.int64]  # [F, 3] into vertices
    faces_uv: NDArray[np.int64]  # [F, 3] into uv; -1 where the file gives none
    material: NDArray[np.int64]  # [F] into material_names
    material_names: tuple[str, ...]  # in the order of their first use; "" before the first `usemtl`


def read_positions(path: str | Path) -> NDArray[np.float32]:
    """[V, 3] the positions of an OBJ file alone: all that a morph target adds to its neutral mesh."""
    return _numbers(Path(path), _lines(Path(path)), b"v", 3)


def read_wavefront(path: str | Path) -> Wavefront:
    """A mesh with its texture coordinates and materials.

    Raises:
        FormatError: names the line that is no number, no polygon, or names what does not exist.
    """
    path = Path(path)
    lines = _lines(path)
    vertices, uv = _numbers(path, lines, b"v", 3), _numbers(path, lines, b"vt", 2)
    triangles: list[list[tuple[int, int]]] = []
    material: list[int] = []
    names: dict[str, int] = {}
    current = ""
    for number, line in enumerate(lines, 1):
        if line.startswith(b"usemtl"):
            current = line[6:].strip().decode("utf-8", "replace")
        elif line.startswith(b"f "):
            corners = [_corner(path, number, word, len(vertices), len(uv)) for word in line.split()[1:]]
            if len(corners) < 3:
                _fail(path, number, "a polygon of three corners or more", line)
            for second, third in pairwise(corners[1:]):
                triangles.append([corners[0], second, third])
                material.append(names.setdefault(current, len(names)))
    index = np.array(triangles, np.int64).reshape(-1, 3, 2)
    return Wavefront(vertices, uv, index[..., 0], index[..., 1], np.array(material, np.int64), tuple(names))


def _lines(path: Path) -> list[bytes]:
    with reading(path):
        return path.read_bytes().splitlines()


def _numbers(path: Path, lines: list[bytes], keyword: bytes, width: int) -> NDArray[np.float32]:
    """[N, width] the leading numbers of the lines that begin with a keyword."""
    start = keyword + b" "
    rows = [line.split()[1 : 1 + width] for line in lines if line.startswith(start)]
    try:
        with np.errstate(over="ignore"):
            values: NDArray[Any] = np.array(rows, dtype="S32").reshape(-1, width).astype(np.float32)
    except ValueError:
        values = np.full((1, width), np.nan, np.float32)
    if not np.isfinite(values).all():
        for number, line in enumerate(lines, 1):
            if line.startswith(start) and not _are_numbers(line.split()[1 : 1 + width], width):
                _fail(path, number, f"{width} finite numbers", line)
    return values


def _are_numbers(words: list[bytes], width: int) -> bool:
    try:
        return len(words) == width and all(abs(float(word)) <= float(np.finfo(np.float32).max) for word in words)
    except ValueError:
        return False


def _corner(path: Path, number: int, word: bytes, vertices: int, texture: int) -> tuple[int, int]:
    """(vertex, texture coordinate), from 0, of `v`, `v/t`, `v//n` or `v/t/n`, which count from 1, or back from -1."""
    try:
        written = [int(part) if part else 0 for part in word.split(b"/")[:2]]
    except ValueError:
        written = [0]
    found = []
    for index, count in zip(written, (vertices, texture), strict=False):
        found.append(index - 1 if index > 0 else index + count if index < 0 else -1)
        if found[-1] >= count or (index < 0 and found[-1] < 0):
            _fail(path, number, f"indices of the file's {vertices} vertices and {texture} texture coordinates", word)
    if found[0] < 0:
        _fail(path, number, "corners such as 1/2/3", word)
    return found[0], found[1] if len(found) > 1 else -1


def _fail(path: Path, number: int, expected: str, got: bytes) -> NoReturn:
    raise FormatError(path, f"line {number}", f"expected {expected}, got {got[:60].decode('utf-8', 'replace')!r}")
