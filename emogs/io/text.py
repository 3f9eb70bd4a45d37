"""Text, CSV and JSON of a file that nobody vouches for: what is wrong with it is said by line and column."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .files import FormatError, shown


def read_text(path: str | Path) -> str:
    """A file's UTF-8 text, without a byte order mark.

    Raises:
        FormatError: it is not UTF-8.
        OSError: it cannot be read.
    """
    data = Path(path).read_bytes()
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise FormatError(
            path, f"byte {error.start}", f"expected UTF-8 text, got {shown(data[error.start :][:8])}"
        ) from None


def parse_json(path: str | Path, text: str) -> Any:
    """The content of a JSON text whose objects name each thing once, and whose numbers are numbers.

    Raises:
        FormatError: with line and column, what was expected there and what came.
    """
    try:
        return json.loads(text, parse_constant=_refuse_constant, object_pairs_hook=_without_repeats)
    except json.JSONDecodeError as error:
        rest = text[error.pos :].partition("\n")[0]
        came = shown(rest, 40) if rest else "the end of the line" if text[error.pos :] else "the end of the file"
        expected = re.sub("^Expecting", "expected", error.msg)
        raise FormatError(path, f"JSON: line {error.lineno}, column {error.colno}", f"{expected}, got {came}") from None
    except (ValueError, RecursionError) as error:
        raise FormatError(path, "JSON", str(error)) from None


def csv_rows(path: str | Path, text: str) -> Iterator[tuple[int, list[str]]]:
    """Rows of a CSV text that are not empty, with their line numbers. Raises FormatError."""
    reader = csv.reader(io.StringIO(text, newline=""))
    try:
        for row in reader:
            if any(cell.strip() for cell in row):
                yield reader.line_num, row
    except csv.Error as error:
        raise FormatError(path, f"row {reader.line_num}", str(error)) from None


def _refuse_constant(name: str) -> float:
    raise ValueError(f"expected numbers, got {name}")


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    out = dict(pairs)
    if len(out) != len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"expected each name once, got {shown(next(n for n in names if names.count(n) > 1))} again")
    return out
