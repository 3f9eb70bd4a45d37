"""One way in for every head template: by name, file or folder."""

from __future__ import annotations

from pathlib import Path

from ..io.files import FormatError
from .builtin import builtin_head
from .fields import read_npz
from .flame import load_flame
from .ict import load_ict
from .template import HeadTemplate
from .template_file import read_template

BUILTIN = "builtin"
_ENDINGS = (".npz", ".safetensors", ".pkl", ".pickle")


def load_template(source: str | Path, landmarks: str | Path | None = None) -> HeadTemplate:
    """Any head template.

    Args:
        source: the word `builtin`; a folder of ICT-FaceKit's (OBJ files or npz); an npz by `save_template`; or a FLAME
            model (npz, safetensors, or the published pickle, of which nothing is executed).
        landmarks: FLAME's landmarks, see `load_flame`.
    Raises:
        emogs.io.FormatError: names the file, the field, what was expected and what came.
        TypeError: the source is no path.
        ValueError: landmarks for a template that has its own, or an empty name.

    >>> load_template("builtin").name
    'builtin'
    """
    if not isinstance(source, (str, Path)):
        raise TypeError(f"source: expected a path or the word {BUILTIN!r}, got {type(source).__name__}")
    if not str(source):
        raise ValueError(f"source: expected a file, a folder or the word {BUILTIN!r}, got an empty name")
    path = Path(source)
    if str(source) != BUILTIN and not path.exists():
        raise FormatError(
            path, "file", f"no such file or folder; a template is a file, a folder or the word {BUILTIN!r}"
        )
    head = _with_its_landmarks(path)
    if head is None:
        return load_flame(path, landmarks)
    if landmarks is not None:
        raise ValueError(f"landmarks: expected none, since {source} has its own; got {landmarks}")
    return head


def _with_its_landmarks(path: Path) -> HeadTemplate | None:
    """The template, unless it is FLAME's."""
    if str(path) == BUILTIN:
        return builtin_head()
    if path.is_dir():
        return load_ict(path)
    if path.suffix == ".npz" and "format" in (fields := read_npz(path)):
        return read_template(fields)
    if path.suffix.lower() not in _ENDINGS:
        raise FormatError(path, "name", f"expected a file {', '.join(_ENDINGS)}, got {path.suffix or 'no ending'!r}")
    return None
