"""The heads that training renders: any template, made to speak ARKit where it does not."""

from __future__ import annotations

from emogs.head.loading import load_template
from emogs.head.retarget import retarget
from emogs.head.template import HeadTemplate


def speaking_template(source: str) -> HeadTemplate:
    """The template of a name, file or folder; one with an expression space of its own is mapped by geometry.

    Raises:
        emogs.io.FormatError: the file is not one.
        ValueError: no mapping can be found.
    """
    head = load_template(source)
    return head if head.speaks_arkit else retarget(head).template
