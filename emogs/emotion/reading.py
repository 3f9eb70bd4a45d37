"""The way back: from ARKit shapes to action units, and from either to an emotion code, with what no emotion explains.

Articulation never becomes emotion. Speaking, looking and blinking may add to what an emotion shows, so that nothing
they do is evidence for one; what an emotion leaves over of their units and shapes is handed back as articulation.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from ..head.template import ARKIT_NAMES
from .checks import check_floats, check_range
from .mixing import action_units_from_emotion, expression_from_action_units, expression_from_emotion
from .tables import EMOTIONS, EmotionTables, default_tables
from .unit_fit import fit_codes


class UnitReading(NamedTuple):
    """Action units of a face. `expression_from_action_units(units + articulation) + lost` is the face again."""

    units: Tensor
    """[..., U, 2] what may be emotion; zero in the units of articulation."""
    articulation: Tensor
    """[..., U, 2] jaw, gaze, blinks and speech; zero in all other units."""
    lost: Tensor
    """[..., 52] ARKit values that no unit has: mouthClose, mouthLeft, mouthRight, mouthShrugUpper, tongueOut, lips
    rolled in unequally (28 rolls both), and values outside [0, 1]."""


class EmotionReading(NamedTuple):
    """Emotion in a face; the face is what the codes show, plus articulation, plus what is lost."""

    codes: Tensor
    """[..., 7] in [0, 1]."""
    articulation: Tensor
    """Like the face: what the codes leave over in the units or shapes of articulation; negative where it is less."""
    lost: Tensor
    """Like the face: what they do not explain elsewhere."""


def action_units_from_expression(expression: Tensor, tables: EmotionTables | None = None) -> UnitReading:
    """Action units of ARKit shapes: units are taken off in the table's order, each as strong as all its shapes allow.

    Back in ARKit shapes the result is the same face. Lost from units to shapes and back: sides of units whose shapes
    have none come back equal; of units with the same shapes the first in the order comes back (10 for 11, 45 for 43, 26
    and 27 for a wide 26); three or more units that share shapes may come back as others that look the same.

    Args:
        expression: [..., 52] in the order of ARKIT_NAMES. Trackers leave [0, 1] at times: what is outside is lost.
        tables: None is emogs' own.
    Returns:
        UnitReading; differentiable almost everywhere.

    >>> face = torch.zeros(52)
    >>> face[ARKIT_NAMES.index("mouthSmileLeft")] = 0.6
    >>> from emogs.emotion import format_action_units
    >>> format_action_units(action_units_from_expression(face).units)
    'L12C'
    """
    tables = tables or default_tables()
    check_floats("expression", expression, len(ARKIT_NAMES))
    rest = expression.clamp(0, 1)
    read = [expression.new_zeros(*expression.shape[:-1], 2)] * len(tables.units)
    for unit in tables.reading_order:
        shapes = tables.shapes[unit].to(expression)  # [2, 52]
        bound = (rest / shapes.sum(0).clamp_min(torch.finfo(rest.dtype).tiny)).clamp_max(1)
        sides = [bound[..., side > 0].amin(-1) if side.any() else rest[..., 0] * 0 for side in shapes]
        read[unit] = torch.stack(sides, -1)
        taken = read[unit] @ shapes
        # The noisy-or of `expression_from_action_units`, undone.
        full = taken >= 1
        rest = torch.where(full, 0, (rest - taken) / torch.where(full, 1, 1 - taken)).clamp_min(0)
    every = torch.stack(read, -2)
    units, articulation = split_articulation(every, tables)
    return UnitReading(units, articulation, expression - expression_from_action_units(every, tables))


def split_articulation(units: Tensor, tables: EmotionTables | None = None) -> tuple[Tensor, Tensor]:
    """Action units [..., U, 2] as those that may be emotion and those of articulation; their sum is what came in."""
    tables = tables or default_tables()
    check_floats("units", units, len(tables.units), 2)
    speaking = _mask(len(tables.units), tables.articulation_units, units)[:, None]
    return torch.where(speaking, 0, units), torch.where(speaking, units, 0)


def emotion_from_action_units(units: Tensor, tables: EmotionTables | None = None) -> EmotionReading:
    """The emotion code whose face is nearest to action units, by least squares.

    Single emotions and named compounds come back exactly, at their intensity. So do nine mixes in ten; where
    antagonists or neighbouring compounds make two mixes look alike, a similar one may come back: of mixes of three
    emotions one in a hundred is off by over 0.2. Faces that no code explains give as few emotions as will do. Lost:
    units that no code shows, in `lost` and `articulation`. A face takes a few milliseconds, in a batch one or two.

    Args:
        units: [..., U, 2] in [0, 1], those of articulation included.
        tables: None is emogs' own.
    Returns:
        EmotionReading with [..., U, 2]; differentiable almost everywhere (implicit function theorem): not at faces
        that are exactly an emotion's or a named compound's, where the mixing rules have kinks. A face without
        expressive units has the code zero, exactly.
    Raises:
        ValueError: an intensity is outside [0, 1].

    >>> from emogs.emotion import parse_action_units
    >>> reading = emotion_from_action_units(parse_action_units("6=4,12=4.25,25=2.5,26=3"))  # smiling, and talking
    >>> [round(float(intensity), 2) for intensity in reading.codes]
    [1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]
    """
    tables = tables or default_tables()
    check_floats("units", units, len(tables.units), 2)
    check_range("units", units, 0, 1)
    shown, used = _used_units(tables)
    rows = units[..., used.to(units.device), :].reshape(-1, len(used), 2)
    felt = split_articulation(rows.detach(), shown)[0].flatten(1).any(1).nonzero()[:, 0]
    codes = rows.flatten(1)[:, : len(EMOTIONS)] * 0  # with a gradient, of zero
    if len(felt):
        codes = codes.index_copy(0, felt, fit_codes(rows[felt].double(), shown).to(codes))
    codes = codes.reshape(*units.shape[:-2], len(EMOTIONS))
    lost, articulation = split_articulation(units - action_units_from_emotion(codes, tables), tables)
    return EmotionReading(codes, articulation, lost)


def emotion_from_expression(expression: Tensor, tables: EmotionTables | None = None) -> EmotionReading:
    """The emotion code of ARKit shapes, by way of their action units.

    `GeometryPath` adds an emotion to an articulation just so: the codes with `articulation + lost` as its input show
    the same face. Lost: as for `action_units_from_expression` and `emotion_from_action_units`.

    Args:
        expression: [..., 52].
    Returns:
        EmotionReading with [..., 52]; differentiable like `emotion_from_action_units`.

    >>> from emogs.emotion import expression_from_emotion, parse_emotion, format_emotion
    >>> face = expression_from_emotion(parse_emotion("awed"))
    >>> face[ARKIT_NAMES.index("eyeBlinkLeft")] = 1.0  # a blink is no emotion
    >>> reading = emotion_from_expression(face)
    >>> [round(float(intensity), 2) for intensity in reading.codes], float(reading.articulation.max())
    ([0.0, 0.0, 0.75, 0.25, 0.0, 0.0, 0.0], 1.0)
    """
    tables = tables or default_tables()
    check_floats("expression", expression, len(ARKIT_NAMES))
    read = action_units_from_expression(expression, tables)
    codes = emotion_from_action_units((read.units + read.articulation).clamp(0, 1), tables).codes
    rest = expression - expression_from_emotion(codes, tables)
    speaking = _mask(len(ARKIT_NAMES), tables.articulation_shapes, rest)
    return EmotionReading(codes, torch.where(speaking, rest, 0), torch.where(speaking, 0, rest))


@lru_cache(maxsize=8)
@torch.inference_mode(False)
def _used_units(tables: EmotionTables) -> tuple[EmotionTables, Tensor]:
    """The tables with those units only that an emotion or a compound moves, and their indices: a fit sees no others."""
    used = torch.cat([tables.prototypes, tables.compound_units]).amax((0, 2)).nonzero()[:, 0]
    kept = used.tolist()
    fewer = replace(
        tables,
        units=tuple(tables.units[i] for i in kept),
        prototypes=tables.prototypes[:, used],
        compound_units=tables.compound_units[:, used],
        antagonists=tuple((kept.index(a), kept.index(b)) for a, b in tables.antagonists if a in kept and b in kept),
        articulation_units=tuple(kept.index(i) for i in tables.articulation_units if i in kept),
    )
    return fewer, used


def _mask(count: int, indices: tuple[int, ...], like: Tensor) -> Tensor:
    """[count] bool, true at the indices."""
    mask = torch.zeros(count, dtype=torch.bool, device=like.device)
    mask[list(indices)] = True
    return mask
