"""Action units as coders write them: "6C+12D", "AU12C, R14A", and their 0 to 5 scale.

FACS (Ekman, Friesen & Hager 2002) scores a unit A trace, B slight, C marked, D severe, E maximum. Data sets such as
DISFA count them as 1 to 5, and 0 for absent. The letters are ordered, their distances are not known: equal steps, a
letter a fifth of the way to maximum, are the usual convention and that of this file.
"""

from __future__ import annotations

import re

import numpy as np
import torch
from torch import Tensor

from ..io.files import shown
from .checks import check_floats, check_range, check_text
from .tables import EmotionTables, default_tables

LETTERS = "ABCDE"
"""FACS intensities from trace to maximum; LETTERS[i] is level i + 1."""
LEVELS = len(LETTERS)
"""The highest level, at which an intensity is 1."""

_TERM = re.compile(r"([LRB]?)(?:AU)?([LRB]?)([0-9]{1,3})([A-E]?|=[0-9.eE+-]{1,32})", re.ASCII | re.IGNORECASE)


def levels_from_intensities(units: Tensor) -> Tensor:
    """Levels in [0, 5] of unit intensities in [0, 1], any shape. Nothing is lost."""
    return check_floats("units", units) * LEVELS


def intensities_from_levels(levels: Tensor) -> Tensor:
    """Unit intensities in [0, 1] of levels in [0, 5], any shape. Nothing is lost."""
    return check_floats("levels", levels) / LEVELS


def parse_action_units(text: str, tables: EmotionTables | None = None, unscored: str = "C") -> Tensor:
    """The action units of a coder's text.

    Args:
        text: units separated by commas, plus signs or spaces: a side (L, R, or both without one), AU if you like, the
            number, and an intensity A to E or `=` and a level from 0 to 5: `AU12C, R14A`, `6+12D`, `L4=2.5`. The same
            unit may stand once for each side. `neutral` stands alone.
        tables: None is emogs' own.
        unscored: the letter that a unit without one gets.
    Returns:
        [U, 2] float32 intensities in [0, 1], of each unit of `tables.units` the subject's left and right.
    Raises:
        ValueError: that says what a term should look like, or which units there are.

    >>> units = parse_action_units("6C+12D, R14A")
    >>> format_action_units(units)
    '6C+12D+R14A'
    """
    tables = tables or default_tables()
    check_text("text", text)
    if len(check_text("unscored", unscored)) != 1 or unscored.upper() not in LETTERS:
        raise ValueError(f"unscored: expected a letter from A to E, got {unscored!r}")
    units = torch.zeros(len(tables.units), 2)
    given = torch.zeros(len(tables.units), 2, dtype=torch.bool)
    if text.strip().lower() == "neutral":
        return units
    for term in re.split(r"[\s,+]+", text.strip(" \t\r\n,+")):
        unit, sides, level = _term(term, text, tables, unscored.upper())
        if given[unit, sides].any():
            raise ValueError(f"action units {shown(text)}: {term} is given twice")
        units[unit, sides], given[unit, sides] = level / LEVELS, True
    return units


def format_action_units(units: Tensor, tables: EmotionTables | None = None, letters: bool = True) -> str:
    """A coder's text of action units [U, 2], which `parse_action_units` reads back.

    Args:
        letters: round to the nearest of A to E (below half a trace is absent); false writes levels, and loses nothing.
    """
    tables = tables or default_tables()
    check_floats("units", units, len(tables.units), 2)
    if units.ndim != 2:
        raise ValueError(f"units: expected [{len(tables.units)}, 2], got {list(units.shape)}")
    check_range("units", units, 0, 1)
    terms = []
    for name, (left, right) in zip(tables.units, units.detach().double().tolist(), strict=True):
        sides = [("", left)] if left == right else [("L", left), ("R", right)]
        written = [(side, _intensity(value, letters)) for side, value in sides]
        if len(written) == 2 and written[0][1] == written[1][1]:
            written = [("", written[0][1])]
        terms += [f"{side}{name}{intensity}" for side, intensity in written if intensity]
    return "+".join(terms) or "neutral"


def _intensity(value: float, letters: bool) -> str:
    """ "C" or "=2.5" for an intensity in [0, 1]; nothing for none."""
    if not letters:
        return f"={_level(value)}" if value else ""
    level = min(int(value * LEVELS + 0.5), LEVELS)
    return LETTERS[level - 1] if level > 0 else ""


def _level(value: float) -> str:
    """The level of an intensity, in as few digits as `parse_action_units` needs to find the same float32."""
    exact = value * LEVELS
    short = str(np.float32(exact))
    return (short if np.float32(float(short) / LEVELS) == np.float32(value) else repr(exact)).removesuffix(".0")


def _term(term: str, text: str, tables: EmotionTables, unscored: str) -> tuple[int, slice, float]:
    """One unit as its index, its sides and its level."""
    match = _TERM.fullmatch(term)
    if match is None or (match[1] and match[2]):
        raise ValueError(
            f"action units {shown(text)}: cannot read {shown(term)}; expected a unit such as 12, AU12C, R14A or "
            "L4=2.5: a side L or R or none, a number, an intensity A to E or = and a level from 0 to 5"
        )
    name = str(int(match[3]))
    if name not in tables.units:
        raise ValueError(f"action units {shown(text)}: unit {name} is unknown; known: {', '.join(tables.units)}")
    sides = {"L": slice(0, 1), "R": slice(1, 2)}.get((match[1] or match[2]).upper(), slice(0, 2))
    if not match[4].startswith("="):
        return tables.units.index(name), sides, LETTERS.index((match[4] or unscored).upper()) + 1
    try:
        level = float(match[4][1:])
    except ValueError:
        level = float("nan")
    if not 0 <= level <= LEVELS:
        raise ValueError(
            f"action units {shown(text)}: level {match[4][1:]!r} of unit {name} is not a number from 0 to 5"
        )
    return tables.units.index(name), sides, level
