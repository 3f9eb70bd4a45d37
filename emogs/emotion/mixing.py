"""From emotion codes to faces: code -> action units -> ARKit shapes. Zero is exactly zero; nothing leaves [0, 1].

Expressions do not add: two emotions that both raise the brows do not raise them twice, and lip corners cannot go up and
down. Free mixes are therefore a noisy-or over emotions, per action unit, after antagonists have fought it out between
emotions. Named compounds are faces of their own: a mix that comes near one blends into its table, and what antagonists
the blend brings together fight it out too.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from .checks import check_floats
from .tables import EMOTIONS, EmotionTables, default_tables


def action_units_from_emotion(codes: Tensor, tables: EmotionTables | None = None) -> Tensor:
    """Action unit intensities of emotion codes.

    Args:
        codes: [..., 7] in [0, 1]; not checked, as in `psi`, and what comes out means nothing beyond.
        tables: None is emogs' own.
    Returns:
        [..., U, 2] in [0, 1], for each unit of `tables.units` the subject's left and right; differentiable.
    """
    tables = tables or default_tables()
    check_floats("codes", codes, len(EMOTIONS))
    rows = codes.reshape(-1, len(EMOTIONS))
    fixed = _constants(tables, codes.dtype, codes.device)
    weight = compound_weights(rows, tables)  # [B, C]
    free = (1 - weight.sum(1))[:, None, None] * _free_mix(rows, fixed)
    weight = weight * rows.sum(1, keepdim=True).clamp_max(1)
    units = (weight @ fixed.faces.flatten(1)).view_as(free) + free
    for pair, (one, other), shared in zip(fixed.pairs, tables.antagonists, fixed.shared, strict=True):
        # Faces that know both by themselves keep both; what only the blend brings together cancels.
        own = weight @ shared + torch.minimum(free[:, one], free[:, other])
        clash = torch.minimum(units[:, one], units[:, other]) - own  # [B, 2], not negative: min is concave
        units = units.index_add(1, pair, -clash.clamp_min(0)[:, None].expand(-1, 2, -1))
    units = units.clamp_min(0)  # rounding
    return units.reshape(*codes.shape[:-1], len(tables.units), 2)


def expression_from_action_units(units: Tensor, tables: EmotionTables | None = None) -> Tensor:
    """ARKit channels of action units; units sharing a channel saturate, they do not add.

    Lost: what ARKit has no shape for, such as the sides of units whose shapes have none (1, 17, 18, 22, 25 to 28).

    Args:
        units: [..., U, 2] in [0, 1], left and right.
    Returns:
        [..., 52] in [0, 1], in the order of ARKIT_NAMES; differentiable.
    """
    tables = tables or default_tables()
    check_floats("units", units, len(tables.units), 2)
    return _noisy_or(torch.einsum("...us,use->...ue", units, tables.shapes.to(units)), dim=-2)


def expression_from_emotion(codes: Tensor, tables: EmotionTables | None = None) -> Tensor:
    """ARKit channels [..., 52] in [0, 1] of emotion codes [..., 7] in [0, 1], unchecked; gaze and blinks stay zero.

    Lost: sides of units whose shapes have none; mixes in which antagonists cancel look like others.

    Example:
        >>> import torch
        >>> from emogs.head.template import ARKIT_NAMES
        >>> expression = expression_from_emotion(torch.eye(7))
        >>> float(expression[0, ARKIT_NAMES.index("mouthSmileLeft")]) > 0.5
        True
    """
    return expression_from_action_units(action_units_from_emotion(codes, tables), tables)


class _Constants(NamedTuple):
    """What of the tables a mix computes with."""

    prototypes: Tensor  # [E, U, 2]
    faces: Tensor  # [C, U, 2] of the compounds
    mixes: Tensor  # [C, E]
    reach: Tensor  # [C] distance on the simplex to the nearest other named face
    pairs: tuple[Tensor, ...]  # [2] antagonists
    shared: tuple[Tensor, ...]  # [C, 2] what of each pair the compounds show together
    pulled: Tensor  # [P] the antagonists one by one
    against: Tensor  # [P] and the antagonist of each


@lru_cache(maxsize=16)
@torch.inference_mode(False)
def _constants(tables: EmotionTables, dtype: torch.dtype, device: torch.device) -> _Constants:
    faces, mixes = tables.compound_units.to(device, dtype), tables.compound_mixes.to(device, dtype)
    apart = _simplex_distance(mixes, torch.cat([torch.eye(len(EMOTIONS)).to(mixes), mixes]))
    pairs = torch.tensor(tables.antagonists, dtype=torch.int64, device=device).reshape(-1, 2)
    return _Constants(
        prototypes=tables.prototypes.to(device, dtype),
        faces=faces,
        mixes=mixes,
        reach=apart.masked_fill(apart == 0, torch.inf).amin(1),
        pairs=tuple(pairs),
        shared=tuple(torch.minimum(faces[:, one], faces[:, other]) for one, other in tables.antagonists),
        pulled=pairs.flatten(),
        against=pairs.flip(1).flatten(),
    )


def _free_mix(codes: Tensor, fixed: _Constants) -> Tensor:
    """[B, U, 2] noisy-or of the prototypes at their intensities, antagonists resolved."""
    spared = 1 - codes[:, :, None, None] * fixed.prototypes  # [B, E, U, 2] what each emotion leaves of a unit's rest
    mixed = 1 - spared.prod(1)
    # Only other emotions oppose: fear itself raises and tightens the lids.
    opposing = 1 - _product_of_others(spared[:, :, fixed.against])  # [B, E, P, 2]
    own = 1 - spared[:, :, fixed.pulled]
    # Where nothing pulls yet, a first emotion meets no opposition: the slope there is its own.
    pull = torch.where((own > 0) | (opposing > 0), (own - opposing).clamp_min(0), own)
    return mixed.index_copy(1, fixed.pulled, 1 - (1 - pull).prod(1))


def compound_weights(codes: Tensor, tables: EmotionTables) -> Tensor:
    """[B, C] how far a mix is a named compound: 1 at its proportions, linearly to 0 at the nearest other named face.

    Proportions s = e / sum(e) lie on a simplex; the distance is half the L1 distance there. Since no hat reaches beyond
    another's centre, the weights of the bundled compounds never sum to more than 1 (a test holds them to it).
    """
    fixed = _constants(tables, codes.dtype, codes.device)
    proportions = codes / codes.sum(1, keepdim=True).clamp_min(torch.finfo(codes.dtype).tiny)
    return (1 - _simplex_distance(proportions, fixed.mixes) / fixed.reach).clamp_min(0)


def _simplex_distance(a: Tensor, b: Tensor) -> Tensor:
    """[A, B] half the L1 distance between rows: 0 for equal proportions, 1 for proportions without a common emotion."""
    return 0.5 * (a[:, None] - b[None]).abs().sum(-1)


def _product_of_others(values: Tensor) -> Tensor:
    """[B, E, ...]: the product of all but itself along dimension 1; values may be zero, so nothing is divided."""
    one = torch.ones_like(values[:, :1])
    before = torch.cat([one, values[:, :-1]], 1).cumprod(1)
    behind = torch.cat([one, values[:, 1:].flip(1)], 1).cumprod(1).flip(1)
    return before * behind


def _noisy_or(values: Tensor, dim: int) -> Tensor:
    """1 - prod(1 - x): what at least one of several independent causes brings about."""
    return 1 - (1 - values).prod(dim)
