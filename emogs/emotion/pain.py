"""The PSPI pain score of Prkachin & Solomon (2008), from action units and back.

    PSPI = AU4 + max(AU6, AU7) + max(AU9, AU10) + AU43

on the scale 0 to 16: units count 0 to 5 (A to E), closed eyes 0 or 1. Pain is no emotion code: a face in pain goes
through action units, and its closed eyes are articulation there.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .action_units import LEVELS
from .checks import check_floats, check_range
from .tables import EmotionTables, default_tables

HIGHEST_PAIN = 16
"""The top of the scale."""
_EYES_CLOSE_AT = 8
"""Chosen for emogs: the score from which a synthesized face in pain closes its eyes."""


def pain_from_action_units(units: Tensor, tables: EmotionTables | None = None) -> Tensor:
    """The PSPI pain score, 0 to 16, of action units.

    The stronger side of a unit counts (the score has no sides), and eyes count as closed where 43 is at least 0.5. A
    tracker's closed lids are read as blinks, 45, which do not count: set 43 where they stay closed. Lost: everything
    but one number.

    Args:
        units: [..., U, 2] intensities in [0, 1].
        tables: None is emogs' own.
    Returns:
        [...] in [0, 16]; differentiable almost everywhere but in 43.

    >>> from emogs.emotion import parse_action_units
    >>> float(pain_from_action_units(parse_action_units("4B+6C+7D+10E+43")))  # 2 + 4 + 5 + 1
    12.0
    """
    tables = tables or default_tables()
    check_floats("units", units, len(tables.units), 2)
    check_range("units", units, 0, 1)
    at = {name: LEVELS * units[..., _unit(tables, name), :].amax(-1) for name in ("4", "6", "7", "9", "10", "43")}
    closed = (at["43"] >= LEVELS / 2).to(units)
    return at["4"] + torch.maximum(at["6"], at["7"]) + torch.maximum(at["9"], at["10"]) + closed


def action_units_from_pain(score: Tensor, tables: EmotionTables | None = None) -> Tensor:
    """Action units of a face in pain: 4, 6, 7, 9 and 10 equally strong on both sides, eyes closed from a score of 8.

    `pain_from_action_units` gives the score back. Equal strength is chosen for emogs, since the score does not tell.

    Args:
        score: [...] in [0, 16].
    Returns:
        [..., U, 2] in [0, 1]; jumps at 8.
    """
    tables = tables or default_tables()
    check_floats("score", score)
    check_range("score", score, 0, HIGHEST_PAIN)
    closed = (score >= _EYES_CLOSE_AT).to(score)
    strength = ((score - closed) / (HIGHEST_PAIN - 1)).clamp(0, 1)
    units = score.new_zeros(*score.shape, len(tables.units), 2)
    for name in ("4", "6", "7", "9", "10"):
        units[..., _unit(tables, name), :] = strength[..., None]
    units[..., _unit(tables, "43"), :] = closed[..., None]
    return units


def _unit(tables: EmotionTables, name: str) -> int:
    if name not in tables.units:
        raise ValueError(f"tables: the pain score needs action unit {name}")
    return tables.units.index(name)
