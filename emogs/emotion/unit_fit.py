"""Least squares from action units to an emotion code: a nonlinear fit in [0, 1]^7, batched, with gradients.

Levenberg and Marquardt's descent from the nearest of some hundred faces; rows leave the batch when they are done. The
gradient is that of the solution's optimality condition (implicit function theorem), not of the steps that led there.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from .mixing import action_units_from_emotion
from .tables import EMOTIONS, EmotionTables

_MISSING = 0.3
"""Weight of a squared difference where articulation shows less than an emotion would; where it shows more, none."""
_STARTS, _STEPS = 4, 14
_RACE = 8
"""Steps after which only the best of a face's descents goes on."""
_PRICE = 0.3
"""Of intensity, relative to the size of what no code explains."""
_LEVELS = (0.2, 0.4, 0.6, 0.8, 1.0)
_NOTHING = 1e-6
"""Intensities below this are rounding of the fit."""
_EXACT = 1e-16
"""A sum of squares below this is rounding."""
_GAIN = 1e-7
"""Least relative gain of a step that is followed by another."""
_STIFF = 10.0
"""Damping at which a row is stuck, at a kink of the mixing rules."""
_BLOCK = 64
"""Faces that are compared with the library at once: what that takes stays in the cache."""


class _Solution(NamedTuple):
    codes: Tensor  # [B, 7]
    unpriced: Tensor  # [B, 7] before intensity had a price


def fit_codes(units: Tensor, tables: EmotionTables) -> Tensor:
    """[B, 7] codes of units [B, U, 2], float64: the best of a few descents, then as few emotions as do.

    What no code explains, many faint emotions together seem to explain in part. So a last descent puts a price on
    intensity, in proportion to what is left unexplained: where a code explains everything, it costs nothing.
    Differentiable in units where the mixing rules are smooth: not at a named compound or another exact kink.
    """
    with torch.no_grad():
        solutions = [_solve(block, tables) for block in units.detach().split(_BLOCK)]
    found = _Solution(*map(torch.cat, zip(*solutions, strict=True)))
    if torch.is_grad_enabled() and units.requires_grad:
        return _with_gradient(found, units, tables)
    return found.codes


def _solve(units: Tensor, tables: EmotionTables) -> _Solution:
    codes, cost = _nearest_named(units, tables)
    cost = cost - _NOTHING**2  # a descent stops short of such kinks: they win ties
    free = (cost > 0).nonzero()[:, 0]
    if len(free):
        wanted = units[free]
        starts = _starts(wanted, tables).flatten(0, 1)
        family = torch.arange(len(free), device=units.device).repeat_interleave(_STARTS)
        tried, reached = _descend(starts, wanted, torch.zeros_like(cost[free]), family, tables)
        reached, best = reached.reshape(-1, _STARTS).min(1)
        tried = tried.reshape(-1, _STARTS, len(EMOTIONS))[torch.arange(len(free)), best]
        better = reached < cost[free]
        codes[free] = torch.where(better[:, None], tried, codes[free])
        cost[free] = torch.where(better, reached, cost[free])
    unpriced = codes.clone()
    dear = (cost > _EXACT).nonzero()[:, 0]
    if len(dear):
        family = torch.arange(len(dear), device=units.device)
        price = _PRICE * cost[dear].sqrt()
        codes[dear], _ = _descend(codes[dear], units[dear], price, family, tables)
    return _Solution(torch.where(codes > _NOTHING, codes, 0), unpriced)


class _State(NamedTuple):
    """Rows of a descent that are not done."""

    row: Tensor  # [A] where the result goes
    family: Tensor  # [A]
    codes: Tensor  # [A, 7]
    miss: Tensor  # [A, M]
    slope: Tensor  # [A, M, 7]
    cost: Tensor  # [A]
    damping: Tensor  # [A]

    def keep(self, rows: Tensor) -> _State:
        return _State(*(value[rows] for value in self))


def _descend(
    codes: Tensor, wanted: Tensor, price: Tensor, family: Tensor, tables: EmotionTables
) -> tuple[Tensor, Tensor]:
    """Least `|miss|^2 + price sum(e)` in [0, 1]: codes [N, 7] and their cost [N].

    Row n fits wanted[family[n]] at price[family[n]]. Of a family the best goes on alone after some steps, or at once
    when it explains everything.
    """
    miss, slope = _slopes(codes, wanted[family], tables)
    cost = miss.square().sum(-1) + price[family] * codes.sum(-1)
    best, least = codes.clone(), cost.clone()
    rows = torch.arange(len(codes), device=codes.device)
    state = _State(rows, family, codes, miss, slope, cost, torch.full_like(cost, 1e-3))
    for step in range(_STEPS):
        state, done = _step(state, wanted, price, tables)
        best[state.row], least[state.row] = state.codes, state.cost
        leader = torch.full_like(price, torch.inf).scatter_reduce(0, state.family, state.cost, "amin")[state.family]
        done = done | (leader < _EXACT)
        if step + 1 >= _RACE:
            done = done | (state.cost > leader)
        left = (~done).nonzero()[:, 0]
        if not len(left):
            break
        state = state.keep(left) if len(left) < len(state.row) else state
    return best, least


def _step(state: _State, wanted: Tensor, price: Tensor, tables: EmotionTables) -> tuple[_State, Tensor]:
    """One step, and which rows [A] are done with it."""
    _, family, codes, miss, slope, cost, damping = state
    due = price[family]
    downhill = (slope.mT @ miss[..., None])[..., 0] + 0.5 * due[:, None]
    stuck = ((codes <= 0) & (downhill > 0)) | ((codes >= 1) & (downhill < 0))  # at the edge of what is allowed
    moving = slope.masked_fill(stuck[:, None], 0)
    normal = moving.mT @ moving + torch.diag_embed(damping[:, None].expand_as(codes))
    tried = (codes - torch.linalg.solve(normal, downhill.masked_fill(stuck, 0))).clamp(0, 1)
    tried_miss, tried_slope = _slopes(tried, wanted[family], tables)
    tried_cost = tried_miss.square().sum(-1) + due * tried.sum(-1)
    better = tried_cost < cost
    done = torch.where(better, cost - tried_cost <= _GAIN * cost, damping >= _STIFF)
    return state._replace(
        codes=torch.where(better[:, None], tried, codes),
        miss=torch.where(better[:, None], tried_miss, miss),
        slope=torch.where(better[:, None, None], tried_slope, slope),
        cost=torch.where(better, tried_cost, cost),
        damping=torch.where(better, damping * 0.1, damping * 10).clamp_min(1e-12),
    ), done


def _with_gradient(found: _Solution, units: Tensor, tables: EmotionTables) -> Tensor:
    """The codes [B, 7] with the derivative of the solution by units [B, U, 2].

    Where an intensity lies inside (0, 1), the slope of the priced squares is zero and stays so as units change:
    d e = -H^-1 d(slope), H being the squares' second derivative by those intensities. The others stay where they are.
    """
    codes = found.codes.detach().requires_grad_()
    with torch.enable_grad():
        misses = _misses(action_units_from_emotion(codes, tables) - units.detach(), tables)
        (slope,) = torch.autograd.grad(0.5 * misses.square().sum(), codes, create_graph=True)
        count = range(len(EMOTIONS))
        curvature = torch.stack([torch.autograd.grad(slope[:, i].sum(), codes, retain_graph=True)[0] for i in count], 1)
    _, jacobian = _slopes(found.codes, units.detach(), tables)
    left = _misses(action_units_from_emotion(found.codes, tables) - units, tables)
    before = _misses(action_units_from_emotion(found.unpriced, tables) - units, tables).square().sum(-1)
    price = _PRICE * torch.where(before > _EXACT, before, 1).sqrt() * (before > _EXACT)
    change = (jacobian.mT @ left[..., None])[..., 0] + 0.5 * price[:, None]
    inside = (found.codes > 0) & (found.codes < 1)
    both = inside[:, :, None] & inside[:, None]
    curvature = torch.where(both, curvature, torch.eye(len(EMOTIONS)).to(curvature)).detach()
    inverse = torch.linalg.pinv(curvature, rtol=1e-6, hermitian=True)
    moved = (inverse @ torch.where(inside, change - change.detach(), 0)[..., None])[..., 0]
    return found.codes - moved


def _starts(units: Tensor, tables: EmotionTables) -> Tensor:
    """[B, 4, 7] the library's codes whose faces are nearest."""
    codes, faces = (table.to(units.device) for table in _library(tables))
    cost = _misses(units[:, None] - faces, tables).square().sum(-1)  # [B, L]
    return codes[cost.topk(_STARTS, largest=False).indices]


def _nearest_named(units: Tensor, tables: EmotionTables) -> tuple[Tensor, Tensor]:
    """[B, 7] the nearest face of one emotion or named compound and its cost [B].

    Their units are proportional to intensity, so the best intensity is a quotient; articulation is left out of it.
    """
    named = torch.cat([torch.eye(len(EMOTIONS)), tables.compound_mixes]).to(units)
    faces = torch.cat([tables.prototypes, tables.compound_units]).to(units)
    felt = faces * (1 - _speaking(tables, units))
    level = torch.einsum("bus,nus->bn", units, felt) / felt.square().sum((1, 2)).clamp_min(_NOTHING)
    level = level.clamp(0, 1)
    cost = _misses(level[..., None, None] * faces - units[:, None], tables).square().sum(-1)
    best, index = cost.min(1)
    rows = torch.arange(len(units), device=units.device)
    return level[rows, index, None] * named[index], best


def _slopes(codes: Tensor, wanted: Tensor, tables: EmotionTables) -> tuple[Tensor, Tensor]:
    """Misses [B, M] of codes and their derivatives [B, M, 7] by differences, which stay inside [0, 1]."""
    small = 1e-7
    steps = torch.where(codes > 0.5, -small, small)
    moved = codes[:, None] + torch.cat([torch.zeros_like(codes)[:, None], torch.diag_embed(steps)], 1)
    misses = _misses(action_units_from_emotion(moved, tables) - wanted[:, None], tables)
    return misses[:, 0], ((misses[:, 1:] - misses[:, :1]) / steps[..., None]).mT


def _misses(difference: Tensor, tables: EmotionTables) -> Tensor:
    """[..., 2 U] how far shown units are from wanted ones; articulation may have added to them at no cost."""
    speaking = _speaking(tables, difference)
    return torch.where(speaking > 0, _MISSING**0.5 * difference.clamp_min(0), difference).flatten(-2)


def _speaking(tables: EmotionTables, like: Tensor) -> Tensor:
    """[U, 1] one at the units of articulation, zero elsewhere."""
    return _articulation(tables, like.dtype, like.device)


@lru_cache(maxsize=16)
@torch.inference_mode(False)
def _articulation(tables: EmotionTables, dtype: torch.dtype, device: torch.device) -> Tensor:
    mask = torch.zeros(len(tables.units), 1, dtype=dtype, device=device)
    mask[list(tables.articulation_units)] = 1
    return mask


@lru_cache(maxsize=8)
@torch.inference_mode(False)
def _library(tables: EmotionTables) -> tuple[Tensor, Tensor]:
    """Codes [L, 7] from which a fit may start, and their units [L, U, 2]: emotions, compounds, pairs at some levels."""
    single = torch.eye(len(EMOTIONS), dtype=torch.float64)
    first, second = torch.combinations(torch.arange(len(EMOTIONS))).unbind(1)
    pairs = [share * single[first] + (1 - share) * single[second] for share in (0.3, 0.5, 0.7)]
    kinds = torch.cat([single, tables.compound_mixes.double(), *pairs])
    codes = torch.cat([torch.zeros(1, len(EMOTIONS)).double(), *(level * kinds for level in _LEVELS)])
    return codes, action_units_from_emotion(codes, tables)
