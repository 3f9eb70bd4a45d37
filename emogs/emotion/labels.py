"""Data sets' class labels: what their numbers mean, and how one data set's classes become another's - by name.

The same number is happiness in one data set and sadness in the next, so nothing here ever maps an index to an index.
The orders and their sources are in labels.json.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from ..io.files import shown
from .checks import check_floats, check_number
from .mixing import compound_weights
from .tables import EMOTIONS, EmotionTables, default_tables

LABELS_FILE = Path(__file__).with_name("labels.json")
SHOWN_AS_NEUTRAL = {"calm": "neutral"}
"""Classes without a counterpart among the seven emotions, and what stands in for them."""


@dataclass(frozen=True)
class LabelSet:
    """The classes of a data set, in its own order."""

    name: str
    source: str
    ids: tuple[str, ...]  # as the data set writes them: "0", "01", "angry"
    classes: tuple[str, ...]  # what the data set calls them
    emotions: tuple[str, ...]  # what emogs calls them: an emotion, a compound, "neutral" or "calm"
    no_emotion: tuple[str, ...] = ()  # columns of votes that stand for no emotion
    levels: int = 1  # how many levels of intensity the data set knows

    def index(self, label: int | str) -> int:
        """Which class a label means: its id, as a number or as text, or its name.

        Raises:
            ValueError: it is none of them; the message lists them.
        """
        text = str(label).strip()
        if text in self.ids:
            return self.ids.index(text)
        if isinstance(label, int) and not isinstance(label, bool):
            numbers = [int(name) if name.isdecimal() else None for name in self.ids]
            if label in numbers:
                return numbers.index(label)
        for names in (self.classes, self.emotions):
            if text.lower() in names:
                return names.index(text.lower())
        known = ", ".join(f"{i} {name}" if i != name else i for i, name in zip(self.ids, self.classes, strict=True))
        raise ValueError(f"{self.name}: {shown(label)} is no label; known: {known}")


class Remapped(NamedTuple):
    """Probabilities over another data set's classes."""

    probabilities: Tensor
    """[..., C] of the target; sums to 1 less what is lost."""
    lost: Tensor
    """[...] probability of classes that the target does not have."""


@cache
def label_sets() -> dict[str, LabelSet]:
    """The data sets that emogs knows, by name.

    >>> list(label_sets())
    ['affectnet-8', 'fer2013', 'fer+', 'raf-db', 'raf-db-compound', 'ravdess', 'mead']
    """
    aliases = default_tables().aliases
    return {
        name: LabelSet(
            name=name,
            source=entry["source"],
            ids=tuple(entry["classes"]),
            classes=tuple(entry["classes"].values()),
            emotions=tuple(aliases.get(label, label) for label in entry["classes"].values()),
            no_emotion=tuple(entry.get("no_emotion", ())),
            levels=entry.get("levels", 1),
        )
        for name, entry in json.loads(LABELS_FILE.read_text(encoding="utf-8")).items()
    }


def label_set(name: str | LabelSet) -> LabelSet:
    """A data set by its name. Raises ValueError that lists the names."""
    if isinstance(name, LabelSet):
        return name
    if not isinstance(name, str) or name not in label_sets():
        raise ValueError(f"data set {shown(name)} is unknown; known: {', '.join(label_sets())}")
    return label_sets()[name]


def emotion_from_labels(
    labels: Sequence[int | str], dataset: str | LabelSet, levels: Sequence[int] | None = None
) -> Tensor:
    """Emotion codes of a data set's labels: the full emotion or compound, or a level's share of it.

    Lost: `calm` becomes neutral.

    Args:
        labels: B ids or names.
        dataset: its name, see `label_sets`.
        levels: B numbers from 1 to the data set's levels (MEAD: 3); None is full intensity.
    Returns:
        [B, 7] float32.
    Raises:
        ValueError: a label or a level is unknown.

    >>> emotion_from_labels([4, 7], "raf-db")[:, 0]
    tensor([1., 0.])
    """
    known = label_set(dataset)
    strength = torch.ones(len(labels))
    if levels is not None:
        if len(levels) != len(labels):
            raise ValueError(f"levels: expected {len(labels)}, one a label, got {len(levels)}")
        for level in levels:
            if not isinstance(level, int) or not 1 <= level <= known.levels:
                raise ValueError(f"levels: {known.name} has levels 1 to {known.levels}, got {level!r}")
        strength = torch.tensor(list(levels), dtype=torch.float32) / known.levels
    rows = [known.index(label) for label in labels]
    return strength[:, None] * class_codes(known)[rows]


def labels_from_emotion(codes: Tensor, dataset: str | LabelSet, neutral_below: float = 0.5) -> list[str]:
    """The label of a data set that comes nearest to each code.

    A code is the compound whose mix it is nearest to, if the data set has it, else its strongest emotion. Lost:
    intensity, every emotion but that one; emotions that the data set lacks count for nothing.

    Args:
        codes: [B, 7].
        neutral_below: an intensity (of the compound: the sum) below which a face is neutral, if the data set has it.
    Returns:
        B ids, as the data set writes them.

    >>> labels_from_emotion(torch.eye(7)[[0, 4]], "ravdess")
    ['03', '05']
    """
    known = label_set(dataset)
    check_floats("codes", codes, len(EMOTIONS))
    if codes.ndim != 2:
        raise ValueError(f"codes: expected [B, {len(EMOTIONS)}], got {list(codes.shape)}")
    check_number("neutral_below", neutral_below)
    scores = _class_scores(codes, known)
    best, index = scores.max(1)
    if "neutral" in known.emotions:
        index = torch.where(best >= neutral_below, index, known.emotions.index("neutral"))
    return [known.ids[i] for i in index.tolist()]


def remap_probabilities(probabilities: Tensor, source: str | LabelSet, target: str | LabelSet) -> Remapped:
    """Probabilities over one data set's classes as those over another's, by name.

    Lost: what belongs to classes that the target lacks, counted in `lost` and not spread over others. `calm` counts
    as neutral where there is no calm.

    Args:
        probabilities: [..., C] of the source, or votes.
    Returns:
        Remapped; linear, so differentiable.

    >>> remap_probabilities(torch.eye(8), "affectnet-8", "raf-db").lost  # which has no contempt
    tensor([0., 0., 0., 0., 0., 0., 0., 1.])
    """
    old, new = label_set(source), label_set(target)
    check_floats("probabilities", probabilities, len(old.emotions))
    table = probabilities.new_zeros(len(old.emotions), len(new.emotions))
    for i, emotion in enumerate(old.emotions):
        name = emotion if emotion in new.emotions else SHOWN_AS_NEUTRAL.get(emotion, emotion)
        if name in new.emotions:
            table[i, new.emotions.index(name)] = 1
    return Remapped(probabilities @ table, probabilities @ (1 - table.sum(1)))


def class_codes(dataset: str | LabelSet, tables: EmotionTables | None = None) -> Tensor:
    """[C, 7] the code of each class of a data set at full intensity."""
    tables = tables or default_tables()
    known = label_set(dataset)
    out = torch.zeros(len(known.emotions), len(EMOTIONS))
    for row, name in zip(out, known.emotions, strict=True):
        if name in EMOTIONS:
            row[EMOTIONS.index(name)] = 1
        elif name in tables.compounds:
            row += tables.compound_mixes[tables.compounds.index(name)]
        elif SHOWN_AS_NEUTRAL.get(name, name) != "neutral":
            raise ValueError(f"{known.name}: class {name!r} is no emotion, compound or neutral of the tables")
    return out


def _class_scores(codes: Tensor, known: LabelSet) -> Tensor:
    """[B, C] how far each class speaks from a code: an emotion's intensity, or a compound's share of the whole."""
    tables = default_tables()
    named = compound_weights(codes, tables) * codes.sum(1, keepdim=True).clamp_max(1)
    scores = codes.new_zeros(len(codes), len(known.emotions))
    for i, name in enumerate(known.emotions):
        if name in EMOTIONS:
            scores[:, i] = codes[:, EMOTIONS.index(name)]
        elif name in tables.compounds:
            scores[:, i] = named[:, tables.compounds.index(name)]
    return scores
