"""Emotion codes: seven intensities over neutral, as text and as what networks see of them.

A code e is [7] or [B, 7], each intensity in [0, 1], in the order of EMOTIONS; zeros are neutral.
"""

from __future__ import annotations

import difflib

import numpy as np
import torch
from torch import Tensor

from ..io.files import shown
from .checks import check_floats, check_text
from .tables import EMOTIONS, EmotionTables, default_tables

PSI_WIDTH = len(EMOTIONS) * (len(EMOTIONS) + 3) // 2
"""How many numbers psi makes of a code: seven intensities, seven half terms, twenty-one pairs."""
_FIRST, _SECOND = torch.combinations(torch.arange(len(EMOTIONS))).unbind(1)
_ROUNDING = 1e-6  # of a sum of shares that is meant to be 1


def parse_emotion(text: str, tables: EmotionTables | None = None) -> Tensor:
    """The code of a description such as `happy=0.7,surprise=0.2`.

    Args:
        text: comma-separated `name` or `name=intensity`; a bare name means 1. Names are the emotions, their aliases
            ("sadness") and the named compounds ("happily surprised", "awed"); case does not matter, and spaces,
            hyphens and underscores are alike. `neutral` stands alone.
        tables: where the names come from; None is emogs' own.
    Returns:
        [7] float32.
    Raises:
        ValueError: that lists the valid names and the range.

    Example:
        >>> parse_emotion("happy=0.5, surprise=0.25")
        tensor([0.5000, 0.0000, 0.2500, 0.0000, 0.0000, 0.0000, 0.0000])
        >>> parse_emotion("awed")
        tensor([0.0000, 0.0000, 0.7500, 0.2500, 0.0000, 0.0000, 0.0000])
    """
    tables = tables or default_tables()
    check_text("text", text)
    code = torch.zeros(len(EMOTIONS))
    seen: set[str] = set()
    terms = text.split(",")
    for term in terms:
        name, intensity = _term(term, tables)
        if name in seen or (name == "neutral" and len(terms) > 1):
            raise ValueError(
                f"emotion {shown(text)}: {name} " + ("is given twice" if name in seen else "must stand alone")
            )
        seen.add(name)
        if name in tables.compounds:
            code += intensity * tables.compound_mixes[tables.compounds.index(name)]
        elif name != "neutral":
            code[EMOTIONS.index(name)] += intensity
    if code.amax() > 1 + _ROUNDING:
        worst = int(code.argmax())
        raise ValueError(f"emotion {shown(text)}: {EMOTIONS[worst]} adds up to {code[worst]:g}, more than 1")
    return code.clamp_max(1)


def format_emotion(code: Tensor) -> str:
    """The shortest description of a code [7] that `parse_emotion` reads back to the same float32 numbers."""
    check_floats("code", code, len(EMOTIONS))
    if code.ndim != 1:
        raise ValueError(f"code: expected [{len(EMOTIONS)}], got {list(code.shape)}")
    values = code.detach().cpu().numpy().astype(np.float32)
    terms = [
        f"{name}={np.format_float_positional(x, trim='-')}" for name, x in zip(EMOTIONS, values, strict=True) if x != 0
    ]
    return ",".join(terms) or "neutral"


def psi(codes: Tensor) -> Tensor:
    """What networks see of a code: `[e_i; 4 e_i (1 - e_i); 4 e_i e_j]`, pairs i < j in lexicographic order.

    The three groups are 1 at a full emotion, at a half and at a pair of halves. psi of neutral is exactly zero, so a
    network of psi without biases leaves neutral alone.

    Args:
        codes: [..., 7], meant to be in [0, 1]. Not checked: it would keep a GPU waiting, and optimisers step beyond.
    Returns:
        [..., 35], differentiable.
    """
    check_floats("codes", codes, len(EMOTIONS))
    pairs = codes[..., _FIRST.to(codes.device)] * codes[..., _SECOND.to(codes.device)]
    return torch.cat([codes, 4 * codes * (1 - codes), 4 * pairs], -1)


def _term(term: str, tables: EmotionTables) -> tuple[str, float]:
    """One `name=intensity` as a known name and a number in [0, 1]."""
    written, equals, value = term.partition("=")
    name = " ".join(written.lower().replace("_", " ").replace("-", " ").split())
    name = tables.aliases.get(name, name)
    if name not in (*EMOTIONS, *tables.compounds, "neutral"):
        raise ValueError(_unknown(written.strip(), name, tables))
    try:
        intensity = float(value) if equals else 1.0
    except ValueError:
        intensity = float("nan")
    if not 0 <= intensity <= 1:
        raise ValueError(f"emotion {name!r}: intensity {shown(value.strip())} is not a number from 0 to 1")
    return name, intensity


def _unknown(written: str, name: str, tables: EmotionTables) -> str:
    known = (*EMOTIONS, *tables.aliases, *tables.compounds, "neutral")
    close = difflib.get_close_matches(name, known, n=1)
    return (
        f"emotion {shown(written)} is unknown" + (f" (did you mean {close[0]!r}?)" if close else "") + "; "
        f"valid: {', '.join(EMOTIONS)}, neutral; compounds: {', '.join(tables.compounds)}; "
        "each may have an intensity from 0 to 1, as in happy=0.7,surprise=0.2"
    )
