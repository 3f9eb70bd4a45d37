"""One check per argument at the Python border: name, expected shape, dtype and device, and what came instead."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor

FLOATS = (torch.float32, torch.float64)
HALVES = (torch.bfloat16, torch.float16)
_LARGEST_FLOAT32 = torch.finfo(torch.float32).max
MAX_SIZE = 16384  # pixels; coordinates of larger images would round by more than kPixelMargin (math/splat.h)


class Arguments:
    """Checks the tensors of one call against shapes in letters; a letter means the same size wherever it stands.

    >>> arguments = Arguments("blur")
    >>> arguments.check("image", torch.zeros(4, 5, 3), "H W 3")
    >>> arguments.check("mask", torch.zeros(4, 6), "H W")
    Traceback (most recent call last):
    ValueError: blur: mask must be [H=4, W=5], got [4, 6]
    """

    def __init__(self, function: str) -> None:
        self.function = function
        self.sizes: dict[str, int] = {}
        self.first: tuple[str, torch.device] | None = None

    def check(self, name: str, value: object, shape: str, dtypes: Sequence[torch.dtype] = FLOATS) -> None:
        """Checks one tensor.

        Args:
            name: the argument's public name.
            value: what the caller gave.
            shape: sizes separated by spaces, each a letter, a number, or a first `...` for any leading sizes.
            dtypes: those accepted.
        Raises:
            TypeError: not a tensor, or another dtype.
            ValueError: another shape, or another device than the first tensor of this call.
        """
        if not isinstance(value, Tensor):
            raise TypeError(f"{self.function}: {name} must be a tensor, got {type(value).__name__}")
        if value.dtype not in dtypes:
            names = " or ".join(str(dtype).removeprefix("torch.") for dtype in dtypes)
            raise TypeError(f"{self.function}: {name} must be {names}, got {str(value.dtype).removeprefix('torch.')}")
        if self.first is None:
            self.first = (name, value.device)
        elif value.device != self.first[1]:
            raise ValueError(
                f"{self.function}: {name} must be on {self.first[1]} like {self.first[0]}, got {value.device}"
            )
        symbols = shape.split()
        actual = list(value.shape)
        if symbols[0] == "...":
            symbols = symbols[1:]
            leading = max(len(actual) - len(symbols), 0)
            actual = actual[leading:]
        fits = len(actual) == len(symbols)
        for symbol, size in zip(symbols, actual, strict=False):
            fits = fits and size == (int(symbol) if symbol.isdigit() else self.sizes.setdefault(symbol, size))
        if not fits:
            raise ValueError(f"{self.function}: {name} must be [{self._describe(shape)}], got {list(value.shape)}")

    def check_type(self, name: str, value: object, expected: type) -> None:
        """Checks what is not a tensor.

        Raises:
            TypeError: `value` is not an instance of `expected`.
        """
        if not isinstance(value, expected):
            raise TypeError(f"{self.function}: {name} must be {expected.__name__}, got {type(value).__name__}")

    def check_number(self, name: str, value: object) -> None:
        """Checks a Python number.

        Raises:
            TypeError: it is neither, or a bool.
        """
        if not isinstance(value, (int, float)) or isinstance(value, bool):
            raise TypeError(f"{self.function}: {name} must be an int or a float, got {type(value).__name__}")

    def check_eps(self, value: object) -> None:
        """Checks what a norm adds to a variance: anything infinite, also once it is float32, would give zeros.

        Raises:
            TypeError: not a number.
            ValueError: negative, NaN, or not finite in float32.
        """
        self.check_number("eps", value)
        if not 0 <= cast(float, value) <= _LARGEST_FLOAT32:
            raise self.fail("eps", "at least 0 and finite in float32", value)

    def check_indices(self, name: str, value: Tensor, symbol: str, size: int) -> None:
        """Checks that all of a CPU tensor lies in [0, size); inside an operation, so that compiled code checks it too.

        Raises:
            ValueError: some value does not.
        """
        if value.numel():
            low, high = value.aminmax()
            if low < 0 or high >= size:
                raise self.fail(name, f"in [0, {symbol}={size})", f"{int(low)} to {int(high)}")

    def check_size(self, width: object, height: object) -> None:
        """Checks the size of an image, pixels.

        Raises:
            ValueError: not an int, or out of range.
        """
        for name, size in {"width": width, "height": height}.items():
            if not isinstance(size, int) or isinstance(size, bool) or not 0 < size <= MAX_SIZE:
                raise self.fail(name, f"an int from 1 to {MAX_SIZE}", repr(size))

    def fail(self, name: str, expected: str, got: object) -> ValueError:
        """The error for a value that no shape or dtype describes."""
        return ValueError(f"{self.function}: {name} must be {expected}, got {got}")

    def _describe(self, shape: str) -> str:
        return ", ".join(f"{s}={self.sizes[s]}" if s in self.sizes else s for s in shape.split())
