"""The head that a command line names, with ARKit's channels."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .head import HeadTemplate


def speaking(source: str, mapping: Path | None, landmarks: Path | None) -> HeadTemplate:
    """A template whose channels are ARKit's: its own, by the user's table, or found by geometry."""
    from .head import load_template

    head = load_template(source, landmarks)
    return head if head.speaks_arkit and mapping is None else with_arkit(head, mapping)


def with_arkit(head: HeadTemplate, mapping: Path | None) -> HeadTemplate:
    """The template with ARKit's channels by the user's table, or by geometry with a word on how well that went."""
    from .head.retarget import read_mapping, retarget

    if mapping is not None:
        return read_mapping(head, mapping)
    found = retarget(head)
    left = 100 * found.unexplained[found.unexplained > 0].median()
    print(
        f"{head.name}: ARKit's channels found by geometry from the built-in head's at {found.counterparts} vertices,"
        f" {1000 * found.distance:.1f} mm apart; {left:.0f}% of a channel's displacement is left unexplained (median)"
    )
    return found.template
