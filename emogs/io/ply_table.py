"""The part of the PLY format that splats use: one table of numbers behind a header of text.

Written out here because the library for it, plyfile, is under the GPL and emogs is not; the tests compare the two.
"""

from __future__ import annotations

import mmap
from pathlib import Path
from typing import Any

import numpy as np

from .files import FormatError, replacing, shown

_TYPES = {
    "char": "i1", "uchar": "u1", "short": "i2", "ushort": "u2", "int": "i4", "uint": "u4", "float": "f4",
    "double": "f8", "int8": "i1", "uint8": "u1", "int16": "i2", "uint16": "u2", "int32": "i4", "uint32": "u4",
    "float32": "f4", "float64": "f8",
}  # fmt: skip
_BYTE_ORDERS = {"binary_little_endian": "<", "binary_big_endian": ">", "ascii": "="}
_LONGEST_HEADER = 1 << 16


def write_table(path: Path, table: np.ndarray[Any, Any], comment: str) -> None:
    """Writes a structured array of float32 columns as the element `vertex`."""
    lines = ["ply", "format binary_little_endian 1.0", f"comment {comment}", f"element vertex {len(table)}"]
    lines += [f"property float {name}" for name in table.dtype.names or ()]
    with replacing(path) as partial, open(partial, "wb") as file:
        file.write("\n".join([*lines, "end_header", ""]).encode("ascii"))
        file.write(table.tobytes())


def read_table(path: Path) -> np.ndarray[Any, Any]:
    """The element `vertex` as a structured array over the mapped file; elements behind it are not read.

    Raises:
        FormatError: for anything else, whatever the bytes are.
    """
    try:
        with open(path, "rb") as file:
            content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except OSError as error:
        raise FormatError(path, "file", error.strerror or str(error)) from None
    except ValueError:
        raise FormatError(path, "file", "not a .ply: empty") from None
    lines, start = _header(path, content)
    formats = [words[1] for words in lines if words[:1] == ["format"] and words[2:] == ["1.0"]]
    if len(formats) != 1 or formats[0] not in _BYTE_ORDERS:
        raise FormatError(path, "format", f"expected one of {', '.join(_BYTE_ORDERS)}, version 1.0")
    count, columns = _vertex(path, lines)
    dtype = np.dtype([(name, _BYTE_ORDERS[formats[0]] + kind) for name, kind in columns.items()])
    if formats[0] == "ascii":
        return _text(path, content[start:], count, dtype)
    if start + count * dtype.itemsize > len(content):
        raise FormatError(path, "vertex", f"expected {count} rows of {dtype.itemsize} bytes, the file ends before")
    return np.frombuffer(content, dtype, count, start)


def _header(path: Path, content: mmap.mmap) -> tuple[list[list[str]], int]:
    """The header's lines as words, and where the data starts."""
    if content[:4] not in (b"ply\n", b"ply\r"):
        raise FormatError(path, "file", "not a .ply: it does not start with 'ply'")
    end = content.find(b"end_header", 0, _LONGEST_HEADER)
    newline = content.find(b"\n", end) if end >= 0 else -1
    if newline < 0:
        raise FormatError(path, "header", "no end_header")
    try:
        text = content[:end].decode("ascii")
    except UnicodeDecodeError:
        raise FormatError(path, "header", "not text") from None
    return [line.split() for line in text.splitlines()], newline + 1


def _text(path: Path, content: bytes, count: int, dtype: np.dtype[Any]) -> np.ndarray[Any, Any]:
    """The rows of a file whose numbers are written out."""
    rows = content.splitlines()[:count]
    if len(rows) < count:
        raise FormatError(path, "vertex", f"expected {count} rows, the file ends before")
    out = np.empty(count, dtype)
    for number, row in enumerate(rows):
        try:
            out[number] = tuple(map(float, row.split()))
        except (ValueError, OverflowError):
            expected = f"expected {len(dtype.names or ())} numbers that fit their types"
            raise FormatError(path, f"vertex row {number}", f"{expected}, got {shown(row.decode('latin1'))}") from None
    return out


def _vertex(path: Path, lines: list[list[str]]) -> tuple[int, dict[str, str]]:
    """How many rows the element `vertex` has, and of what; it must come first, as it does in every file of splats."""
    elements = [i for i, words in enumerate(lines) if words[:1] == ["element"]]
    if not elements or len(lines[elements[0]]) != 3 or lines[elements[0]][1] != "vertex":
        raise FormatError(path, "vertex", "no such element at the start")
    count = lines[elements[0]][2]
    if not (count.isdecimal() and len(count) < 16):
        raise FormatError(path, "vertex", f"expected a number of rows, got {shown(count)}")
    columns: dict[str, str] = {}
    for words in lines[elements[0] + 1 : elements[1] if len(elements) > 1 else None]:
        if words[:1] != ["property"]:
            continue
        if len(words) != 3 or words[1] not in _TYPES or words[2] in columns:
            raise FormatError(path, "vertex", f"expected a property of one number, got {shown(' '.join(words))}")
        columns[words[2]] = _TYPES[words[1]]
    if not columns:
        raise FormatError(path, "vertex", "no properties")
    return int(count), columns
