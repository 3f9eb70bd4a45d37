"""The languages that emotions over time are written in: their numbers, the names of their columns, their text.

A language's numbers are a tensor of a fixed shape per instant. Files name them by columns; a column may stand for
several numbers (AU12 for both sides).
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from ..head.template import ARKIT_NAMES
from ..io.files import shown
from .action_units import LEVELS, format_action_units, parse_action_units
from .affect import AFFECT_NAMES
from .codes import format_emotion, parse_emotion
from .pain import HIGHEST_PAIN
from .regions import format_regions, parse_regions
from .tables import EMOTIONS, EmotionTables, default_tables

TRACKER_RANGE = 2.0
"""ARKit values lie in [0, 1]; trackers leave it at times. Beyond this in size they are on another scale."""

_UNIT = re.compile(r"(?:AU([LR]?)|([LR])(?:AU)?)0*([0-9]{1,3})(?:_r)?", re.ASCII)


@dataclass(frozen=True, eq=False)
class Language:
    """One way of writing down what a face feels or shows at an instant."""

    name: str
    means: str
    shape: tuple[int, ...]
    """Of the tensor of one instant."""
    columns: tuple[str, ...]
    """Names of its numbers, flattened."""
    low: float
    high: float
    """The range of numbers in files, which are tensors times `scale`."""
    scale: float = 1.0
    others: dict[str, tuple[int, ...]] = field(default_factory=dict)
    """Other names of columns in lower case, and which numbers they stand for."""
    reader: Callable[[str], Tensor] | None = None
    """Of text, if the language has one of its own."""
    writer: Callable[[Tensor], str] | None = None

    def parse(self, text: str) -> Tensor:
        """The tensor of one instant that a text means; without a text of its own, `name=number, name=number`.

        Raises:
            ValueError: that says what is wrong with the text.
        """
        return self.reader(text) if self.reader else self._parse_numbers(text)

    def format(self, value: Tensor) -> str:
        """The text of one instant, which `parse` reads back: exactly, but for action units' letters."""
        if self.writer:
            return self.writer(value)
        numbers = zip(self.columns, (value.detach().float().flatten() * self.scale).tolist(), strict=True)
        return ",".join(f"{name}={np.float32(number)!s}" for name, number in numbers if number) or "neutral"

    def find(self, column: str) -> tuple[int, ...]:
        """The numbers that a column of a file stands for; none if it is not of this language."""
        name = column.strip()
        return self.others.get(name.lower(), self._units(name))

    def _parse_numbers(self, text: str) -> Tensor:
        values, given = torch.zeros(len(self.columns)), set()
        for term in [] if text.strip().lower() == "neutral" else text.split(","):
            name, _, number = term.partition("=")
            places = self.find(name)
            if not places or places in given:
                some = ", ".join(f"{column}=0.5" for column in self.columns[:2])
                wanted = "each name once" if places else f"names and numbers such as {some}"
                close = difflib.get_close_matches(name.strip().lower()[:80], [c.lower() for c in self.columns], n=1)
                hint = f" (did you mean {self.columns[self.find(close[0])[0]]!r}?)" if close and not places else ""
                raise ValueError(f"{self.name} {shown(text)}: expected {wanted}, got {shown(term.strip())}{hint}")
            try:
                value = float(number)
            except ValueError:
                value = math.nan
            if not self.low <= value <= self.high:
                limits = f"{self.low:g} to {self.high:g}"
                raise ValueError(f"{self.name} {shown(text)}: {shown(number.strip())} is not a number from {limits}")
            given.add(places)
            values[list(places)] = value / self.scale
        return values.reshape(self.shape)

    def _units(self, name: str) -> tuple[int, ...]:
        """Action units by a coder's or OpenFace's name; its `_c`, presence, is no intensity."""
        match = _UNIT.fullmatch(name) if self.name == "action units" else None
        if match is None:
            return ()
        sides = (match[1] or match[2],) if match[1] or match[2] else ("L", "R")
        columns = [f"{side}{int(match[3])}" for side in sides]
        return tuple(self.columns.index(column) for column in columns if column in self.columns)


def languages(tables: EmotionTables | None = None) -> dict[str, Language]:
    """All languages, by name.

    >>> list(languages())
    ['emotion', 'regions', 'action units', 'arkit', 'valence arousal', 'affect', 'pain']
    """
    tables = tables or default_tables()
    known = [
        _language(
            "emotion",
            "intensities of seven emotions",
            EMOTIONS,
            (len(EMOTIONS),),
            parse=lambda text: parse_emotion(text, tables),
            format=format_emotion,
            aliases=tables.aliases,
        ),
        _language(
            "regions",
            "emotions of brow, eyes and mouth",
            [f"{region} {emotion}" for region in tables.regions for emotion in EMOTIONS],
            (len(tables.regions), len(EMOTIONS)),
            parse=lambda text: parse_regions(text, tables),
            format=lambda codes: format_regions(codes, tables),
        ),
        _language(
            "action units",
            "FACS action units, 0 to 5 or A to E, left and right",
            [f"{side}{unit}" for unit in tables.units for side in "LR"],
            (len(tables.units), 2),
            high=LEVELS,
            scale=LEVELS,
            parse=lambda text: parse_action_units(text, tables),
            format=lambda units: format_action_units(units, tables),
        ),
        _language("arkit", "ARKit's 52 face shapes", ARKIT_NAMES, (52,), low=-TRACKER_RANGE, high=TRACKER_RANGE),
        _language("valence arousal", "the circumplex, -1 to 1", AFFECT_NAMES[:2], (2,), low=-1),
        _language("affect", "valence, arousal and dominance, -1 to 1", AFFECT_NAMES, (3,), low=-1),
        _language("pain", "PSPI, 0 to 16", ["pspi"], (), high=HIGHEST_PAIN),
    ]
    return {language.name: language for language in known}


def find_language(name: object, tables: EmotionTables | None = None) -> Language:
    """A language by its name; hyphens and underscores are as good as spaces. Raises ValueError that lists them."""
    known = languages(tables)
    wanted = " ".join(str(name).lower().replace("-", " ").replace("_", " ").split())
    if not isinstance(name, str) or wanted not in known:
        raise ValueError(f"language {str(name)[:80]!r} is unknown; known: {', '.join(known)}")
    return known[wanted]


def _language(
    name: str,
    means: str,
    columns: tuple[str, ...] | list[str],
    shape: tuple[int, ...],
    *,
    low: float = 0.0,
    high: float = 1.0,
    scale: float = 1.0,
    parse: Callable[[str], Tensor] | None = None,
    format: Callable[[Tensor], str] | None = None,
    aliases: dict[str, str] | None = None,
) -> Language:
    places: dict[str, tuple[int, ...]] = {column.lower(): (i,) for i, column in enumerate(columns)}
    places |= {alias: places[column] for alias, column in (aliases or {}).items()}
    return Language(name, means, shape, tuple(columns), low, high, scale, places, parse, format)
