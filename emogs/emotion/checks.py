"""The checks that every converter of emotions makes: a tensor's type and trailing sizes, a text, a number, by name."""

from __future__ import annotations

import math

from torch import Tensor


def check_floats(name: str, value: object, *sizes: int | tuple[int, ...]) -> Tensor:
    """The value, if it is a floating-point tensor [..., *sizes]; a tuple of sizes allows each of them.

    Raises:
        TypeError: it is no tensor, or its numbers are no floats.
        ValueError: its last sizes are others.
    """
    if not isinstance(value, Tensor):
        raise TypeError(f"{name}: expected a tensor, got {type(value).__name__}")
    if not value.is_floating_point():
        raise TypeError(f"{name}: expected floating-point numbers, got {value.dtype}")
    allowed = [size if isinstance(size, tuple) else (size,) for size in sizes]
    if value.is_meta:
        raise ValueError(f"{name}: expected numbers, got a tensor on meta, which has none")
    found = value.shape[value.ndim - len(sizes) :]
    if value.ndim < len(sizes) or any(size not in ok for size, ok in zip(found, allowed, strict=True)):
        wanted = ", ".join(" or ".join(map(str, size)) for size in allowed)
        raise ValueError(f"{name}: expected [..., {wanted}], got {list(value.shape)}")
    return value


def check_text(name: str, value: object) -> str:
    """The value, if it is a text. Raises TypeError."""
    if not isinstance(value, str):
        raise TypeError(f"{name}: expected a text, got {type(value).__name__}")
    return value


def check_number(name: str, value: object, low: float = -math.inf) -> float:
    """The value, if it is a finite number of at least `low`. Raises TypeError or ValueError."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name}: expected a number, got {type(value).__name__}")
    if not low <= value < math.inf or value == -math.inf:
        wanted = "a finite number" if low == -math.inf else f"a finite number from {low:g}"
        raise ValueError(f"{name}: expected {wanted}, got {value!r}")
    return value


ROUNDING = 1e-6
"""How far a number may leave its range by mere arithmetic."""


def check_range(name: str, value: Tensor, low: float, high: float, of: str = "") -> None:
    """Raises ValueError if a number is outside [low, high], beyond rounding, or NaN; synchronises on a GPU.

    `of` says whose range it is, such as " for emotion".
    """
    fine = (value >= low - ROUNDING) & (value <= high + ROUNDING)
    if not bool(fine.all()):
        wrong = value[~fine].flatten()[0]
        raise ValueError(f"{name}: expected numbers from {low:g} to {high:g}{of}, got {float(wrong):g}")
