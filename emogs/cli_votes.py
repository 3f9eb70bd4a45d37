"""`emogs emotion convert` of votes on pictures: a line, or a row of a CSV file, for each picture."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from .emotion import VoteTable

NO_NAME = "(no name)"


def dataset_of_file(what: str, source: str | None) -> str | None:
    """The data set of whose votes a .csv file is one: by its columns, or because `--source` says so."""
    if not (what.lower().endswith(".csv") and Path(what).is_file()):
        return None
    from .emotion import dataset_of_votes, label_sets

    if source is not None:
        return source if source in label_sets() else None
    with open(what, encoding="utf-8-sig", errors="replace", newline="") as file:
        return dataset_of_votes(file.readline(10_000).strip().split(","))


def convert_votes(path: str, dataset: str, to: str, out: Path | None) -> list[str]:
    """Prints each picture's reliability and what its votes mean in a language or as another data set's label, or
    writes them. Returns what was lost.

    Raises:
        ValueError: labels are asked for in a file, or the language holds no single faces.
    """
    import torch

    from .emotion import Track, emotion_from_distribution, label_sets, languages, load_votes
    from .emotion.converters import CONVERTERS, convert

    if out is not None and (to in label_sets() or out.suffix.lower() != ".csv"):
        raise ValueError("--out: expected a .csv for votes, which are not over time; labels are printed")
    table = load_votes(path, dataset)
    probabilities, reliability = table.distribution()
    loses = [f"{c.source} -> {c.target} loses {c.loses}" for c in CONVERTERS if c.source == "votes"]
    if to in label_sets():
        said = _labels(probabilities, dataset, to)
        _print(table, reliability, said)
        return [*loses, f"distribution -> {to} loses every class but the most probable"]
    codes = emotion_from_distribution(probabilities, dataset)
    answer = convert(Track("emotion", torch.arange(len(codes), dtype=torch.float64), codes), to)
    loses += [f"{c.source} -> {c.target} loses {c.loses}" for c in CONVERTERS if c.source == "distribution"][:1]
    loses += [f"{step.source} -> {step.target} loses {step.loses}" for step in answer.steps]
    spoken, values = languages()[answer.track.language], answer.track.values
    if out is None:
        _print(table, reliability, [spoken.format((1000 * value.double()).round() / 1000) for value in values])
    else:
        _write(out, table, reliability, spoken.columns, values.flatten(1) * spoken.scale)
        print(f"{out}: {len(codes)} pictures in {answer.track.language}, with the reliability of each")
    return loses


def _labels(probabilities: Tensor, source: str, target: str) -> list[str]:
    """The most probable class of the target; one that it lacks is said to be missing."""
    from .emotion import label_set, remap_probabilities

    known = label_set(target)
    mapped, lost = remap_probabilities(probabilities, source, target)
    best, index = mapped.max(1)
    return [
        f"{known.ids[i]} {known.classes[i]}" if strong > missing else "none: most votes name no class of it"
        for strong, i, missing in zip(best.tolist(), index.tolist(), lost.tolist(), strict=True)
    ]


def _print(table: VoteTable, reliability: Tensor, said: list[str]) -> None:
    for image, trust, text in zip(table.images, reliability.tolist(), said, strict=True):
        print(f"{image or NO_NAME}  reliability {trust:.2f}  {text if trust else 'nobody agrees on an emotion'}")


def _write(path: Path, table: VoteTable, reliability: Tensor, columns: tuple[str, ...], values: Tensor) -> None:
    from .io.files import replacing

    with replacing(path) as partial, partial.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(["image", "usage", "reliability", *columns])
        for image, usage, trust, row in zip(
            table.images, table.usages, reliability.tolist(), values.tolist(), strict=True
        ):
            rows.writerow([image, usage, f"{trust:.4f}", *(f"{value:.6g}" for value in row)])
