"""Contact sheets that lay templates beside each other: emotions, half intensities, one side of the face, compounds."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from ..emotion import (
    EMOTIONS,
    expression_from_action_units,
    expression_from_emotion,
    parse_action_units,
    parse_emotion,
)
from ..emotion.tables import default_tables
from ..head import HeadTemplate
from ..io.sheet import PAPER, Picture, contact_sheet
from .heads import HeadView, emotions_sheet

INTENSITIES = (0.5, 1.0)
ONE_SIDED = {
    "left smile": "L6D+L12E", "left brow": "L2E+L5C", "left frown": "L4E", "left sneer": "L9E+L10D",
    "left wink": "L6D+L45E", "left corner": "L15E", "left stretch": "L20E", "contempt, left": "L12D+L14E",
}  # fmt: skip
"""Action units on the subject's left, which is to the viewer's right."""
_COLUMNS = 9
"""Compounds in one line of their sheet."""


def intensities_sheet(templates: Sequence[HeadTemplate], size: int) -> Picture:
    """The seven emotions, in columns, at half and full intensity; of each one row a template."""
    views = [HeadView(template, size) for template in templates]
    rows = [
        _drawn(view, expression_from_emotion(share * torch.eye(len(EMOTIONS))))
        for share in INTENSITIES
        for view in views
    ]
    return contact_sheet(rows, EMOTIONS, [f"{view.template.name} {share:g}" for share in INTENSITIES for view in views])


def sides_sheet(templates: Sequence[HeadTemplate], size: int) -> Picture:
    """Action units on one side of the face: what is asked of the left must leave the right alone."""
    views = [HeadView(template, size) for template in templates]
    codes = torch.stack([expression_from_action_units(parse_action_units(units)) for units in ONE_SIDED.values()])
    return contact_sheet([_drawn(view, codes) for view in views], [*ONE_SIDED], [view.template.name for view in views])


def compounds_sheet(templates: Sequence[HeadTemplate], size: int) -> Picture:
    """The named compounds, each by its own table, nine to a line; in each line one row a template."""
    views = [HeadView(template, size) for template in templates]
    lines = []
    compounds = list(default_tables().compounds)
    for names in (compounds[i : i + _COLUMNS] for i in range(0, len(compounds), _COLUMNS)):
        codes = expression_from_emotion(torch.stack([parse_emotion(name) for name in names]))
        rows = [_drawn(view, codes) for view in views]
        lines.append(contact_sheet(rows, names, [view.template.name for view in views]))
    width = max(line.shape[1] for line in lines)
    return np.concatenate(
        [np.pad(line, ((0, 0), (0, width - line.shape[1]), (0, 0)), constant_values=PAPER[0]) for line in lines]
    )


SHEETS: dict[str, Callable[[Sequence[HeadTemplate], int], Picture]] = {
    "emotions": emotions_sheet, "intensities": intensities_sheet, "sides": sides_sheet, "compounds": compounds_sheet,
}  # fmt: skip


def _drawn(view: HeadView, expressions: Tensor) -> list[Picture]:
    """The mean identity with expressions [N, 52], from in front."""
    return [view.draw(vertices) for vertices in view.template.deform(expression=expressions)]
