"""What every file format here shares: one error type, and writing that never leaves half a file."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SYNTHETIC = "Synthetic: rendered by emogs from a generated head. What it appears to feel, nobody felt."
"""Written into every picture, video and cloud that leaves emogs."""


class FormatError(ValueError):
    """A file is not what its reader expects: which file, which field, and why."""

    def __init__(self, path: str | Path, field: str, reason: str) -> None:
        super().__init__(f"{path}: {field}: {reason}")
        self.path, self.field, self.reason = Path(path), field, reason


def shown(value: object, letters: int = 80) -> str:
    """A short form of what came instead of what was expected, on one line."""
    text = repr(value)
    return text if len(text) <= letters else text[: letters - 3] + "..."


def reason_of(error: BaseException, letters: int = 200) -> str:
    """What another library says about a file, on one line; some of them quote all of it."""
    return " ".join(str(error).split())[:letters] or type(error).__name__


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """A name beside `path` to write to; the file takes its place when the block succeeds and is removed when it fails.

    The ending stays the same, since some writers choose the format by it.
    """
    path = Path(path)
    partial = path.with_name(f".{path.stem}.partial{path.suffix}")
    try:
        yield partial
        os.replace(partial, path)
    except OSError as error:
        if str(error.filename) != str(partial):
            raise
        raise OSError(error.errno, error.strerror, str(path)) from None  # nobody asked for the name beside it
    finally:
        partial.unlink(missing_ok=True)
