"""Emotion tables as tensors, from one data file that names its sources; a caller may load a file of their own instead.

An action unit is a facial muscle group of FACS, active on the subject's left and right: units are [U, 2] (left, right).
In the file "12" is both sides, "L12" and "R12" one side. An inconsistent file is a `ValueError` that says where.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from ..head.template import ARKIT_NAMES

TABLES_FILE = Path(__file__).with_name("tables.json")

EMOTIONS = ("happy", "sad", "surprise", "fear", "anger", "disgust", "contempt")
"""The seven emotions, in the order of every code."""

UNTOUCHED = tuple(name for name in ARKIT_NAMES if name.startswith(("eyeLook", "eyeBlink")))
"""Gaze and blinks are articulation: no emotion may move these channels."""


@dataclass(frozen=True)
class EmotionTables:
    """What each of the seven emotions does to a face; C named compounds, U action units, 52 ARKit channels."""

    aliases: dict[str, str]  # other names of single emotions
    units: tuple[str, ...]  # [U] FACS numbers
    unit_names: tuple[str, ...]  # [U] what FACS calls them
    prototypes: Tensor  # [7, U, 2] unit intensities of a full emotion, in [0, 1]
    compounds: tuple[str, ...]  # [C]
    compound_mixes: Tensor  # [C, 7] the code of a full compound; rows sum to 1
    compound_units: Tensor  # [C, U, 2] unit intensities of a full compound
    antagonists: tuple[tuple[int, int], ...]  # index pairs into units
    shapes: Tensor  # [U, 2, 52] ARKit value at unit intensity 1 of one side; shapes without a side get a half from each


def load_tables(path: str | Path = TABLES_FILE) -> EmotionTables:
    """Reads and checks a table file of the form of `tables.json`. Raises ValueError naming the file and the place."""
    try:
        data = json.loads(Path(path).read_text(encoding="utf-8"))
        if tuple(data["emotions"]["names"]) != EMOTIONS:
            raise ValueError(f"emotions must be {', '.join(EMOTIONS)}, in this order")
        units = tuple(data["action_units"]["units"])
        compounds = data["compounds"]["names"]
        tables = EmotionTables(
            aliases=dict(data["aliases"]["names"]),
            units=units,
            unit_names=tuple(unit["name"] for unit in data["action_units"]["units"].values()),
            prototypes=torch.stack([_intensities(data["prototypes"]["units"], name, units) for name in EMOTIONS]),
            compounds=tuple(compounds),
            compound_mixes=torch.stack([_mix(compounds, name) for name in compounds]),
            compound_units=torch.stack([_intensities(compounds[name], "units", units) for name in compounds]),
            antagonists=tuple((_index(units, a), _index(units, b)) for a, b in data["antagonists"]["pairs"]),
            shapes=torch.stack([_shapes(unit, data["action_units"]["units"][unit]["shapes"]) for unit in units]),
        )
        _check(tables)
    except KeyError as error:
        raise ValueError(f"{path}: {error} is missing") from None
    except (ValueError, TypeError, AttributeError) as error:
        raise ValueError(f"{path}: {error}") from None
    return tables


@cache
def default_tables() -> EmotionTables:
    """The tables that emogs brings, loaded once."""
    return load_tables()


def _intensities(table: dict[str, dict[str, float]], name: str, units: tuple[str, ...]) -> Tensor:
    """[U, 2] from {"12": 0.8, "R14": 0.5}."""
    out = torch.zeros(len(units), 2)
    for key, value in table[name].items():
        if not isinstance(value, (int, float)) or not 0 <= value <= 1:
            raise ValueError(f"{name}: intensity of unit {key} is {value!r}, expected a number from 0 to 1")
        side = {"L": slice(0, 1), "R": slice(1, 2)}.get(key[0], slice(0, 2))
        out[_index(units, key.lstrip("LR")), side] = value
    return out


def _mix(compounds: dict[str, dict[str, dict[str, float]]], name: str) -> Tensor:
    """[7] code of a full compound."""
    out = torch.zeros(len(EMOTIONS))
    for emotion, share in compounds[name]["mix"].items():
        out[_index(EMOTIONS, emotion)] = share
    if abs(float(out.sum()) - 1) > 1e-6 or (out < 0).any():
        raise ValueError(f"compound {name!r}: shares of its mix must be positive and sum to 1")
    return out


def _shapes(unit: str, shapes: dict[str, float]) -> Tensor:
    """[2, 52] from {"mouthSmile": 1.0}; a name that ARKit splits into sides stands for both."""
    out = torch.zeros(2, len(ARKIT_NAMES))
    for name, value in shapes.items():
        for channel in (name,) if name in ARKIT_NAMES else (f"{name}Left", f"{name}Right"):
            if channel not in ARKIT_NAMES:
                raise ValueError(f"unit {unit}: {name!r} is no ARKit shape")
            sides = [1.0, 0.0] if channel.endswith("Left") else [0.0, 1.0] if channel.endswith("Right") else [0.5, 0.5]
            out[:, ARKIT_NAMES.index(channel)] = value * torch.tensor(sides)
    return out


def _index(names: tuple[str, ...], name: str) -> int:
    if name not in names:
        raise ValueError(f"{name!r} is unknown; known: {', '.join(names)}")
    return names.index(name)


def _check(tables: EmotionTables) -> None:
    """What must hold across tables."""
    for alias, emotion in tables.aliases.items():
        if emotion not in EMOTIONS or alias in EMOTIONS:
            raise ValueError(f"alias {alias!r} must stand for one of {', '.join(EMOTIONS)}")
    untouched = torch.tensor([name in UNTOUCHED for name in ARKIT_NAMES])
    moves = tables.shapes[..., untouched].amax(2) > 0
    for names, used in ((EMOTIONS, tables.prototypes), (tables.compounds, tables.compound_units)):
        for name, intensities in zip(names, used, strict=True):
            if (intensities[moves] > 0).any():
                raise ValueError(f"{name!r} moves gaze or lids shut, which are articulation")
