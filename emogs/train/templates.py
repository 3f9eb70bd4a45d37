"""The heads that training renders: any template, made to speak ARKit where it does not, and where its pictures go."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any

from torch import Tensor

from emogs.data import faces
from emogs.head.loading import load_template
from emogs.head.retarget import retarget
from emogs.head.template import HeadTemplate
from emogs.photo import contour

_DIGITS = 10
_RESOLUTION = 1e-7
"""Metres, or shares of a colour: what differs by less is no other head."""


def speaking_template(source: str) -> HeadTemplate:
    """The template of a name, file or folder; one with an expression space of its own is mapped by geometry.

    Raises:
        emogs.io.FormatError: the file is not one.
        ValueError: no mapping can be found.
    """
    head = load_template(source)
    return head if head.speaks_arkit else retarget(head).template


def pictures_of(work: Path, head: HeadTemplate) -> Path:
    """The folder of a head's rendered pictures, which must not be taken for those of another.

    A head that has changed, or another of the same name, has a folder of its own, and so has whatever a changed
    renderer draws: the name ends in a digest of the head's numbers and of the source code that draws them.
    """
    digest = hashlib.sha256(_renderer())
    for part in _bytes_of(head):
        digest.update(part)
    return work / f"{head.name}-{digest.hexdigest()[:_DIGITS]}"


@cache
def _renderer() -> bytes:
    """The source code of pictures and their labels."""
    code = [*sorted(Path(faces.__file__).parent.glob("face*.py")), Path(contour.__file__)]
    return b"".join(file.read_bytes() for file in code)


def _bytes_of(value: Any) -> Iterator[bytes]:
    """All that a template holds, numbers to 0.1 micrometres."""
    if isinstance(value, Tensor):
        yield f"{value.dtype} {list(value.shape)}".encode()
        if value.is_floating_point():  # sums of many terms may differ in their last bits each time that a head is made
            value = (value.detach().double() / _RESOLUTION).round().long()
        yield value.cpu().contiguous().numpy().tobytes()
    elif is_dataclass(value):
        for field in fields(value):
            yield field.name.encode()
            yield from _bytes_of(getattr(value, field.name))
    elif isinstance(value, tuple):
        for item in value:
            yield from _bytes_of(item)
    else:
        yield repr(value).encode()
