"""Emotion tables as tensors, from one data file that names its sources; a caller may load a file of their own instead.

An action unit is a facial muscle group of FACS, active on the subject's left and right: units are [U, 2] (left, right).
In the file "12" is both sides, "L12" and "R12" one side. An inconsistent file is a `ValueError` that says where.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..head.template import ARKIT_NAMES
from ..io.files import FormatError, shown
from ..io.text import parse_json, read_text

TABLES_FILE = Path(__file__).with_name("tables.json")

EMOTIONS = ("happy", "sad", "surprise", "fear", "anger", "disgust", "contempt")
"""The seven emotions, in the order of every code."""

UNTOUCHED = tuple(name for name in ARKIT_NAMES if name.startswith(("eyeLook", "eyeBlink")))
"""Gaze and blinks are articulation: no emotion may move these channels."""


@dataclass(frozen=True, eq=False)
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
    articulation_units: tuple[int, ...]  # indices into units: what speech, gaze and blinks move
    articulation_shapes: tuple[int, ...]  # indices into ARKIT_NAMES, likewise
    reading_order: tuple[int, ...]  # units in the order in which they are read off shapes; the rest never are
    regions: tuple[str, ...]  # [R] parts of a face that may feel different things
    unit_regions: Tensor  # [U] int64 into regions
    shape_regions: Tensor  # [52] int64 into regions
    landmark_regions: Tensor  # [68] int64 into regions, -1 for iBUG landmarks that mark no region
    affect: Tensor  # [7, 3] valence, arousal, dominance of a full emotion, in [-1, 1]; NaN where none is known

    def with_affect(self, emotion: str, valence: float, arousal: float, dominance: float = 0.0) -> EmotionTables:
        """These tables with another place for an emotion, such as contempt, for which no citable value is known.

        Raises:
            ValueError: the emotion is unknown, or a number is not in [-1, 1].

        >>> tables = default_tables().with_affect("contempt", -0.5, 0.1, 0.4)
        """
        affect = self.affect.clone()
        affect[_index(EMOTIONS, emotion)] = _point(emotion, [valence, arousal, dominance])
        return replace(self, affect=affect)

    def with_shapes(self, unit: str, shapes: dict[str, float]) -> EmotionTables:
        """These tables with other ARKit shapes for an action unit; names without a side stand for both.

        Raises:
            ValueError: the unit or a shape is unknown, or an emotion would now move gaze or lids.

        >>> tables = default_tables().with_shapes("10", {"mouthShrugUpper": 1.0})  # as ICT-FaceKit has it
        """
        changed = self.shapes.clone()
        changed[_index(self.units, unit)] = _shapes(unit, shapes)
        tables = replace(self, shapes=changed)
        _check(tables)
        return replace(tables, unit_regions=_unit_regions(tables))


def load_tables(path: str | Path = TABLES_FILE) -> EmotionTables:
    """Reads and checks a table file of the form of `tables.json`.

    Raises:
        emogs.io.FormatError: a ValueError that names the file, the table and what is wrong with it.
        OSError: the file cannot be read.
    """
    path = Path(path)
    tables = _read(path, parse_json(path, read_text(path)))
    with _section(path, "tables"):
        _check(tables)
    return replace(tables, unit_regions=_unit_regions(tables))


def _read(path: Path, data: Any) -> EmotionTables:
    """Every field but `unit_regions`, section by section."""
    with _section(path, "emotions"):
        if tuple(data["emotions"]["names"]) != EMOTIONS:
            raise ValueError(f"emotions must be {', '.join(EMOTIONS)}, in this order")
    with _section(path, "aliases"):
        aliases = dict(data["aliases"]["names"])
    with _section(path, "action_units"):
        listed = data["action_units"]["units"]
        units, unit_names = tuple(listed), tuple(str(unit["name"]) for unit in listed.values())
        shapes = torch.stack([_shapes(unit, listed[unit]["shapes"]) for unit in units])
    with _section(path, "prototypes"):
        prototypes = torch.stack([_intensities(data["prototypes"]["units"], name, units) for name in EMOTIONS])
    with _section(path, "compounds"):
        named = data["compounds"]["names"]
        mixes = torch.stack([_mix(named, name) for name in named])
        compound_units = torch.stack([_intensities(named[name], "units", units) for name in named])
    with _section(path, "antagonists"):
        pairs = tuple((_index(units, a), _index(units, b)) for a, b in data["antagonists"]["pairs"])
    with _section(path, "articulation"):
        speaking = tuple(_index(units, unit) for unit in data["articulation"]["units"])
        spoken = _channels(data["articulation"]["shapes"])
    with _section(path, "reading"):
        order = tuple(_index(units, unit) for unit in data["reading"]["order"])
    with _section(path, "regions"):
        parts = data["regions"]["parts"]
        shape_regions, landmark_regions = _shape_regions(parts), _landmark_regions(parts)
    with _section(path, "affect"):
        affect = torch.stack([_point(name, data["affect"]["points"][name]) for name in EMOTIONS])
    return EmotionTables(
        aliases=aliases,
        units=units,
        unit_names=unit_names,
        prototypes=prototypes,
        compounds=tuple(named),
        compound_mixes=mixes,
        compound_units=compound_units,
        antagonists=pairs,
        shapes=shapes,
        articulation_units=speaking,
        articulation_shapes=spoken,
        reading_order=order,
        regions=tuple(parts),
        unit_regions=torch.zeros(len(units), dtype=torch.int64),
        shape_regions=shape_regions,
        landmark_regions=landmark_regions,
        affect=affect,
    )


@contextmanager
def _section(path: Path, name: str) -> Iterator[None]:
    """Whatever a table of the file makes its reader stumble over, as an error that names both."""
    try:
        yield
    except KeyError as error:
        raise FormatError(path, name, f"{error} is missing") from None
    except ValueError as error:
        raise FormatError(path, name, str(error).replace("\n", " ")) from None
    except (TypeError, AttributeError, RecursionError, IndexError, RuntimeError) as error:
        raise FormatError(path, name, f"expected the form of emogs' tables.json ({str(error)[:80]})") from None


@cache
@torch.inference_mode(False)
def default_tables() -> EmotionTables:
    """The tables that emogs brings, loaded once."""
    return load_tables()


def _intensities(table: dict[str, dict[str, float]], name: str, units: tuple[str, ...]) -> Tensor:
    """[U, 2] from {"12": 0.8, "R14": 0.5}."""
    out = torch.zeros(len(units), 2)
    for key, value in table[name].items():
        _share(value, f"{name}: intensity of unit {shown(key)}")
        side = {"L": slice(0, 1), "R": slice(1, 2)}.get(key[0], slice(0, 2))
        out[_index(units, key.lstrip("LR")), side] = value
    return out


def _mix(compounds: dict[str, dict[str, dict[str, float]]], name: str) -> Tensor:
    """[7] code of a full compound."""
    out = torch.zeros(len(EMOTIONS))
    for emotion, share in compounds[name]["mix"].items():
        out[_index(EMOTIONS, emotion)] = _share(share, f"compound {shown(name)}: share of {shown(emotion)}")
    if abs(float(out.sum()) - 1) > 1e-6:
        raise ValueError(f"compound {shown(name)}: expected shares that sum to 1, got {float(out.sum()):g}")
    return out


def _shapes(unit: str, shapes: dict[str, float]) -> Tensor:
    """[2, 52] from {"mouthSmile": 1.0}; a name that ARKit splits into sides stands for both."""
    out = torch.zeros(2, len(ARKIT_NAMES))
    for name, value in shapes.items():
        _share(value, f"unit {shown(unit)}: {shown(name)}")
        for channel in (name,) if name in ARKIT_NAMES else (f"{name}Left", f"{name}Right"):
            if channel not in ARKIT_NAMES:
                raise ValueError(f"unit {unit}: {shown(name)} is no ARKit shape")
            sides = [1.0, 0.0] if channel.endswith("Left") else [0.0, 1.0] if channel.endswith("Right") else [0.5, 0.5]
            out[:, ARKIT_NAMES.index(channel)] = value * torch.tensor(sides)
    return out


def _channels(beginnings: list[str]) -> tuple[int, ...]:
    """Indices of the ARKit shapes whose names begin so."""
    for beginning in beginnings:
        if not any(name.startswith(beginning) for name in ARKIT_NAMES):
            raise ValueError(f"no ARKit shape begins with {shown(beginning)}")
    return tuple(i for i, name in enumerate(ARKIT_NAMES) if name.startswith(tuple(beginnings)))


def _shape_regions(parts: dict[str, dict[str, list[str]]]) -> Tensor:
    """[52] the one region that claims each shape."""
    claims = torch.zeros(len(parts), len(ARKIT_NAMES), dtype=torch.bool)
    for claim, part in zip(claims, parts.values(), strict=True):
        claim[list(_channels(part["shapes"]))] = True
    if (wrong := (claims.sum(0) != 1).nonzero()).numel():
        raise ValueError(f"regions: {ARKIT_NAMES[int(wrong[0])]} must belong to exactly one region")
    return claims.int().argmax(0)


def _landmark_regions(parts: dict[str, dict[str, list[list[int]]]]) -> Tensor:
    """[68] the region that each iBUG landmark marks, or -1."""
    out = torch.full((68,), -1)
    for index, part in enumerate(parts.values()):
        for first, last in part["landmarks"]:
            if not 0 <= first <= last < len(out):
                raise ValueError(f"regions: landmarks {first} to {last} are not among 0 to 67")
            out[first : last + 1] = index
    return out


def _unit_regions(tables: EmotionTables) -> Tensor:
    """[U] the region in which each unit moves most."""
    moved = tables.shapes.sum(1)
    of_region = [moved[:, tables.shape_regions == region].sum(1) for region in range(len(tables.regions))]
    return torch.stack(of_region, 1).argmax(1)


def _point(emotion: str, point: list[float] | None) -> Tensor:
    """[3] an emotion's valence, arousal and dominance; NaN for None."""
    if point is None:
        return torch.full((3,), torch.nan)
    if len(point) != 3 or not all(isinstance(x, (int, float)) and -1 <= x <= 1 for x in point):
        raise ValueError(f"affect of {emotion}: expected valence, arousal, dominance from -1 to 1, got {shown(point)}")
    return torch.tensor(point)


def _share(value: object, what: str) -> float:
    """A number from 0 to 1, which NaN is not."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
        raise ValueError(f"{what} is {shown(value)}, expected a number from 0 to 1")
    return value


def _index(names: tuple[str, ...], name: str) -> int:
    if name not in names:
        raise ValueError(f"{shown(name)} is unknown; known: {', '.join(map(str, names))[:400]}")
    return names.index(name)


def _check(tables: EmotionTables) -> None:
    """What must hold across tables."""
    for alias, emotion in tables.aliases.items():
        if emotion not in EMOTIONS or alias in EMOTIONS:
            raise ValueError(f"alias {shown(alias)} must stand for one of {', '.join(EMOTIONS)}")
    untouched = torch.tensor([name in UNTOUCHED for name in ARKIT_NAMES])
    moves = tables.shapes[..., untouched].amax(2) > 0
    for names, used in ((EMOTIONS, tables.prototypes), (tables.compounds, tables.compound_units)):
        for name, intensities in zip(names, used, strict=True):
            if (intensities[moves] > 0).any():
                raise ValueError(f"{shown(name)} moves gaze or lids shut, which are articulation")
