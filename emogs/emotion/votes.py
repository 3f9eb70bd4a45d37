"""Files of annotators' votes on pictures, such as FER+'s fer2013new.csv (Barsoum et al. 2016).

A row is a picture, a column of votes one class of the data set. Columns are found by name, in any order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ..io.files import FormatError, shown
from ..io.text import csv_rows, read_text
from .distributions import LabelDistribution, distribution_from_votes
from .labels import LabelSet, label_set, label_sets

LARGEST_FILE = 256 * 2**20
"""Bytes; a larger file is refused before it is read. FER+'s has 2 MB."""
MOST_VOTES = 1_000_000
_IMAGE = ("image name", "image", "file", "name")
_USAGE = ("usage", "split", "subset")


@dataclass(frozen=True, eq=False)
class VoteTable:
    """Votes on pictures."""

    dataset: str
    """Whose classes the columns are, see `label_sets()`."""
    votes: Tensor
    """[B, C] or, with the columns that stand for no emotion, [B, C + N] float32 counts."""
    images: tuple[str, ...]
    """B names; "" where the file gives none, as FER+ for pictures that show no face."""
    usages: tuple[str, ...]
    """B subsets, as the file calls them (FER+: Training, PublicTest, PrivateTest); "" without such a column."""

    def distribution(self) -> LabelDistribution:
        """Probabilities [B, C] and reliability [B], see `distribution_from_votes`."""
        return distribution_from_votes(self.votes, self.dataset)


def load_votes(path: str | Path, dataset: str | LabelSet = "fer+") -> VoteTable:
    """Reads a .csv file of votes: FER+'s own fer2013new.csv, or one of another data set's classes.

    The head names a column for each class (FER+: neutral, happiness, ..., contempt), maybe those that stand for no
    emotion (unknown, NF), the picture (`Image name`) and its subset (`Usage`); other columns are left out. Capitals
    do not matter. A vote is a whole number.

    Raises:
        FormatError: the file is not that; it names file, row, column, what was expected and what was found.
        ValueError: there is no such data set.
        OSError: the file cannot be read.
    """
    path, known = Path(path), label_set(dataset)
    if path.stat().st_size > LARGEST_FILE:
        raise FormatError(path, "size", f"expected at most {LARGEST_FILE} bytes, got {path.stat().st_size}")
    rows = csv_rows(path, read_text(path))
    _, head = next(rows, (1, []))
    names = [name.strip().lower() for name in head]
    columns = _vote_columns(path, names, known)
    image, usage = (next((names.index(name) for name in some if name in names), None) for some in (_IMAGE, _USAGE))
    votes: list[list[int]] = []
    images, usages = [], []
    for line, row in rows:
        if len(row) != len(names):
            raise FormatError(path, f"row {line}", f"expected {len(names)} columns as in the head, got {len(row)}")
        votes.append([_count(row[i], path, f"row {line}, column {head[i].strip()!r}") for i in columns])
        images.append("" if image is None else row[image].strip())
        usages.append("" if usage is None else row[usage].strip())
    if not votes:
        raise FormatError(path, "rows", "expected a picture at least, got none")
    return VoteTable(known.name, torch.tensor(votes, dtype=torch.float32), tuple(images), tuple(usages))


def dataset_of_votes(head: Sequence[str]) -> str | None:
    """The data set whose votes a CSV file with these column names holds: all classes and those of no emotion.

    >>> classes = "neutral,happiness,surprise,sadness,anger,disgust,fear,contempt"
    >>> dataset_of_votes(["Usage", "Image name", *classes.split(","), "unknown", "NF"])
    'fer+'
    """
    names = {name.strip().lower() for name in head}
    for name, known in label_sets().items():
        if known.no_emotion and {column.lower() for column in (*known.classes, *known.no_emotion)} <= names:
            return name
    return None


def _vote_columns(path: Path, names: list[str], known: LabelSet) -> list[int]:
    """Where the classes' votes are, in the data set's order; those of no emotion behind them, all or none."""
    wanted = [name.lower() for name in known.classes]
    beside = [name.lower() for name in known.no_emotion]
    wanted += beside if set(beside) & set(names) else []
    missing = [name for name in wanted if name not in names]
    if missing:
        raise FormatError(path, "head", f"expected {known.name}'s column {missing[0]!r}, got {shown(names)}")
    twice = [name for name in wanted if names.count(name) > 1]
    if twice:
        raise FormatError(path, "head", f"expected the column {twice[0]!r} once, got it {names.count(twice[0])} times")
    return [names.index(name) for name in wanted]


def _count(text: str, path: Path, where: str) -> int:
    text = text.strip()
    if not (text.isascii() and text.isdecimal() and len(text) < 10 and int(text) <= MOST_VOTES):
        raise FormatError(path, where, f"expected a whole number of votes from 0 to {MOST_VOTES}, got {shown(text)}")
    return int(text)
