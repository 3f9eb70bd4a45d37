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

_MISSING = 0.3
"""Weight of a squared difference where articulation shows less than an emotion would; where it shows more, none."""
_STARTS, _STEPS = 4, 10
_PRICE = 0.3
"""Of intensity, relative to the size of what no code explains."""
_LEVELS = (0.2, 0.4, 0.6, 0.8, 1.0)
_ROWS = 512
"""Codes that are fitted at once: bounds the memory."""
_NOTHING = 1e-6
"""Intensities below this are rounding of the fit."""


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
    units that no code shows, in `lost` and `articulation`. It takes about ten milliseconds a face.

    Args:
        units: [..., U, 2] in [0, 1], those of articulation included.
        tables: None is emogs' own.
    Returns:
        EmotionReading with [..., U, 2]; not differentiable. A face without expressive units has the code zero, exactly.
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
    with torch.no_grad():
        rows = units.detach()[..., used.to(units.device), :].reshape(-1, len(used), 2)
        codes = rows.new_zeros(len(rows), len(EMOTIONS))
        felt = split_articulation(rows, shown)[0].flatten(1).any(1).nonzero()[:, 0]
        for block in felt.split(_ROWS) if len(felt) else ():
            codes[block] = _fit(rows[block].double(), shown).to(codes)
        codes = codes.reshape(*units.shape[:-2], len(EMOTIONS))
        rest = units.detach() - action_units_from_emotion(codes, tables)
        lost, articulation = split_articulation(rest, tables)
    return EmotionReading(codes, articulation, lost)


def emotion_from_expression(expression: Tensor, tables: EmotionTables | None = None) -> EmotionReading:
    """The emotion code of ARKit shapes, by way of their action units.

    `GeometryPath` adds an emotion to an articulation just so: the codes with `articulation + lost` as its input show
    the same face. Lost: as for `action_units_from_expression` and `emotion_from_action_units`.

    Args:
        expression: [..., 52].
    Returns:
        EmotionReading with [..., 52]; not differentiable.

    >>> from emogs.emotion import expression_from_emotion, parse_emotion, format_emotion
    >>> face = expression_from_emotion(parse_emotion("awed"))
    >>> face[ARKIT_NAMES.index("eyeBlinkLeft")] = 1.0  # a blink is no emotion
    >>> reading = emotion_from_expression(face)
    >>> [round(float(intensity), 2) for intensity in reading.codes], float(reading.articulation.max())
    ([0.0, 0.0, 0.75, 0.25, 0.0, 0.0, 0.0], 1.0)
    """
    tables = tables or default_tables()
    check_floats("expression", expression, len(ARKIT_NAMES))
    read = action_units_from_expression(expression.detach(), tables)
    codes = emotion_from_action_units((read.units + read.articulation).clamp(0, 1), tables).codes
    rest = expression.detach() - expression_from_emotion(codes, tables)
    speaking = _mask(len(ARKIT_NAMES), tables.articulation_shapes, rest)
    return EmotionReading(codes, torch.where(speaking, rest, 0), torch.where(speaking, 0, rest))


def _fit(units: Tensor, tables: EmotionTables) -> Tensor:
    """[B, 7] codes of units [B, U, 2]: the best of a few descents from the nearest faces, then as few emotions as do.

    What no code explains, many faint emotions together seem to explain in part. So a last descent puts a price on
    intensity, in proportion to what is left unexplained: where a code explains everything, it costs nothing.
    """
    starts, faces = (table.to(units.device) for table in _library(tables))
    cost = torch.stack([_misses(faces - face, tables).square().sum(-1) for face in units])  # [B, L]
    nearest = cost.topk(_STARTS, largest=False).indices
    free = units.new_zeros(len(units) * _STARTS)
    codes, cost = _descend(starts[nearest].flatten(0, 1), units.repeat_interleave(_STARTS, 0), free, tables)
    named, named_cost = _nearest_named(units, tables)
    found = torch.cat([codes.reshape(-1, _STARTS, len(EMOTIONS)), named[:, None]], 1)
    costs = torch.cat([cost.reshape(-1, _STARTS), named_cost[:, None] - _NOTHING**2], 1)
    cost, best = costs.min(1)
    codes, _ = _descend(found[torch.arange(len(units)), best], units, _PRICE * cost.clamp_min(0).sqrt(), tables)
    return torch.where(codes > _NOTHING, codes, 0)


def _descend(codes: Tensor, wanted: Tensor, price: Tensor, tables: EmotionTables) -> tuple[Tensor, Tensor]:
    """Least `|miss|^2 + price sum(e)` by Levenberg and Marquardt, in [0, 1]: codes [N, 7] and their cost [N]."""

    def total(codes: Tensor, miss: Tensor) -> Tensor:
        return miss.square().sum(-1) + price * codes.sum(-1)

    damping = codes.new_full((len(codes), 1, 1), 1e-3)
    miss, slope = _slopes(codes, wanted, tables)
    cost = total(codes, miss)
    for _ in range(_STEPS):
        downhill = (slope.mT @ miss[..., None])[..., 0] + 0.5 * price[:, None]
        stuck = ((codes <= 0) & (downhill > 0)) | ((codes >= 1) & (downhill < 0))  # at the edge of what is allowed
        moving = slope.masked_fill(stuck[:, None], 0)
        normal = moving.mT @ moving + damping * torch.eye(len(EMOTIONS)).to(codes)
        step = torch.linalg.solve(normal, downhill.masked_fill(stuck, 0)[..., None])[..., 0]
        tried = (codes - step).clamp(0, 1)
        tried_miss, tried_slope = _slopes(tried, wanted, tables)
        tried_cost = total(tried, tried_miss)
        better = tried_cost < cost
        codes = torch.where(better[:, None], tried, codes)
        miss = torch.where(better[:, None], tried_miss, miss)
        slope = torch.where(better[:, None, None], tried_slope, slope)
        cost = torch.where(better, tried_cost, cost)
        damping = torch.where(better[:, None, None], damping * 0.1, damping * 10).clamp(1e-12, 1e6)
    return codes, cost


def _nearest_named(units: Tensor, tables: EmotionTables) -> tuple[Tensor, Tensor]:
    """[B, 7] the nearest face of one emotion or named compound and its cost [B]; a descent stops short at such kinks.

    Their units are proportional to intensity, so the best intensity is a quotient; articulation is left out of it.
    """
    named = torch.cat([torch.eye(len(EMOTIONS)), tables.compound_mixes]).to(units)
    faces = split_articulation(torch.cat([tables.prototypes, tables.compound_units]).to(units), tables)[0]
    level = torch.einsum("bus,nus->bn", units, faces) / faces.square().sum((1, 2)).clamp_min(_NOTHING)
    codes = level.clamp(0, 1)[..., None] * named
    cost = _misses(action_units_from_emotion(codes, tables) - units[:, None], tables).square().sum(-1)
    best, index = cost.min(1)
    return codes[torch.arange(len(units)), index], best


def _slopes(codes: Tensor, wanted: Tensor, tables: EmotionTables) -> tuple[Tensor, Tensor]:
    """Misses [B, M] of codes and their derivatives [B, M, 7] by differences, which stay inside [0, 1]."""
    small = 1e-7
    steps = torch.where(codes > 0.5, -small, small)
    moved = codes[:, None] + torch.cat([torch.zeros_like(codes)[:, None], torch.diag_embed(steps)], 1)
    misses = _misses(action_units_from_emotion(moved, tables) - wanted[:, None], tables)
    return misses[:, 0], ((misses[:, 1:] - misses[:, :1]) / steps[..., None]).mT


def _misses(difference: Tensor, tables: EmotionTables) -> Tensor:
    """[..., 2 U] how far shown units are from wanted ones; articulation may have added to them at no cost."""
    speaking = _mask(len(tables.units), tables.articulation_units, difference)[:, None]
    return torch.where(speaking, _MISSING**0.5 * difference.clamp_min(0), difference).flatten(-2)


@lru_cache(maxsize=8)
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


@lru_cache(maxsize=8)
def _library(tables: EmotionTables) -> tuple[Tensor, Tensor]:
    """Codes [L, 7] from which a fit may start, and their units [L, U, 2]: emotions, compounds, pairs at some levels."""
    single = torch.eye(len(EMOTIONS), dtype=torch.float64)
    first, second = torch.combinations(torch.arange(len(EMOTIONS))).unbind(1)
    pairs = [share * single[first] + (1 - share) * single[second] for share in (0.3, 0.5, 0.7)]
    kinds = torch.cat([single, tables.compound_mixes.double(), *pairs])
    codes = torch.cat([torch.zeros(1, len(EMOTIONS)).double(), *(level * kinds for level in _LEVELS)])
    return codes, action_units_from_emotion(codes, tables)


def _mask(count: int, indices: tuple[int, ...], like: Tensor) -> Tensor:
    """[count] bool, true at the indices."""
    mask = torch.zeros(count, dtype=torch.bool, device=like.device)
    mask[list(indices)] = True
    return mask
