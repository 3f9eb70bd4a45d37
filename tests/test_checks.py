"""The wording of argument errors: what was expected, and what came instead."""

from __future__ import annotations

import pytest
import torch

from emogs.checks import Arguments


@pytest.fixture
def arguments() -> Arguments:
    arguments = Arguments("paint")
    arguments.check("x", torch.zeros(2, 5, 3), "B T 3")
    return arguments


def test_accepts_what_fits(arguments):
    arguments.check("y", torch.zeros(2, 5), "B T")
    arguments.check("z", torch.zeros(7, 9, 2, 3), "... B 3")


@pytest.mark.parametrize(
    ("value", "shape", "error", "message"),
    [
        ([1.0], "B", TypeError, "paint: y must be a tensor, got list"),
        (torch.zeros(2, dtype=torch.int64), "B", TypeError, "paint: y must be float32 or float64, got int64"),
        (torch.zeros(2, 4), "B T", ValueError, "paint: y must be [B=2, T=5], got [2, 4]"),
        (torch.zeros(2), "B T", ValueError, "paint: y must be [B=2, T=5], got [2]"),
        (torch.zeros(2, 4), "B 3", ValueError, "paint: y must be [B=2, 3], got [2, 4]"),
        (torch.zeros(3), "... N 3", ValueError, "paint: y must be [..., N, 3], got [3]"),
        (torch.zeros(2, device="meta"), "B", ValueError, "paint: y must be on cpu like x, got meta"),
    ],
)
def test_says_what_was_expected_and_what_came(arguments, value, shape, error, message):
    with pytest.raises(error) as raised:
        arguments.check("y", value, shape)
    assert str(raised.value) == message


@pytest.mark.parametrize("value", [None, "7", [1.0], torch.zeros(2), True])
def test_numbers(arguments, value):
    arguments.check_number("eps", 1e-6)
    arguments.check_number("eps", 1)
    with pytest.raises(TypeError, match=f"paint: eps must be an int or a float, got {type(value).__name__}"):
        arguments.check_number("eps", value)
