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


def load_template(source: str | Path, landmarks: str | Path | None = None) -> HeadTemplate:
    """Any head template.

    Args:
        source: the word `builtin`; a folder of ICT-FaceKit's (OBJ files or npz); an npz by `save_template`; or a FLAME
            model (npz, safetensors, or the published pickle, of which nothing is executed).
        landmarks: FLAME's landmarks, see `load_flame`.
    Raises:
        emogs.io.FormatError: names the file, the field, what was expected and what came.

    >>> load_template("builtin").name
    'builtin'
    """
    if str(source) == BUILTIN:
        return builtin_head()
    path = Path(source)
    if path.is_dir():
        return load_ict(path)
    if not path.exists():
        raise FormatError(
            path, "file", f"no such file or folder; a template is a file, a folder or the word {BUILTIN!r}"
        )
    if path.suffix == ".npz" and "format" in (fields := read_npz(path)):
        return read_template(fields)
    return load_flame(path, landmarks)
