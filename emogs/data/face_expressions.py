"""Random facial expressions in ARKit's channels: what emotions show by the package's tables, speech, gaze, blinks."""

from __future__ import annotations

from functools import cache

import numpy as np
import torch

from emogs.emotion import (
    action_units_from_emotion,
    default_tables,
    expression_from_action_units,
    parse_action_units,
)
from emogs.emotion.tables import EMOTIONS
from emogs.head.template import ARKIT_NAMES

MOUTHS = ("10=1.5,16=2,22=2.5,25=2.5,26=2.5", "16=2,25=3,26=1.5", "18=5,22=1.5", "7=4,20=1.5,25=3,27=5", "17=2,24=3")
"""Action units, 0 to 5, of what mouths do beside emotion: rounded and open speech, a kiss, a yawn, lips pressed."""
_NEUTRAL, _EMOTION, _MOUTH, _STRAY, _BLINK, _LOOK = 0.12, 0.6, 0.25, 0.6, 0.2, 0.6
"""How often a face has no expression at all, and else each of these."""


def random_expression(rng: np.random.Generator) -> np.ndarray:
    """ARKit values [52] in [0, 1]: an emotion, a mouth, a few channels at random, gaze, blinks; sometimes nothing."""
    value = np.zeros(len(ARKIT_NAMES))
    if rng.random() < _NEUTRAL:
        return value
    units = np.zeros((len(default_tables().units), 2))
    if rng.random() < _EMOTION:
        units = np.maximum(units, _feeling(rng))
    if rng.random() < _MOUTH:
        units = np.maximum(units, _mouths()[rng.integers(len(MOUTHS))] * rng.uniform(0.2, 1.2))
    if units.any():
        lean = 1 + rng.normal() * 0.15 * np.array([1, -1])
        units = (units * rng.uniform(0.3, 1.3, (len(units), 1)) * lean).clip(0, 1)
        value += expression_from_action_units(torch.from_numpy(units)).numpy()
    if rng.random() < _STRAY:
        for name in rng.choice(ARKIT_NAMES, rng.integers(1, 6), replace=False):
            both = rng.random() < 0.6 and "Look" not in name
            _add(value, name.replace("Left", "").replace("Right", "") if both else name, rng.random() ** 1.5)
    if rng.random() < _BLINK:
        _add(value, "eyeBlink", rng.choice([1.0, rng.random()]))
    if rng.random() < _LOOK:
        _look(value, *(rng.normal(size=2) * 0.35))
    value = np.clip(value, 0, 1)
    value[ARKIT_NAMES.index("mouthClose")] *= value[ARKIT_NAMES.index("jawOpen")]
    return value


def _feeling(rng: np.random.Generator) -> np.ndarray:
    """Action units [U, 2] of one emotion, a named compound, or a mix of two."""
    tables = default_tables()
    choice = rng.random()
    if choice < 0.6:
        code = np.eye(len(EMOTIONS))[rng.integers(len(EMOTIONS))]
    elif choice < 0.8:
        code = tables.compound_mixes[rng.integers(len(tables.compounds))].numpy().astype(np.float64)
    else:
        code = np.zeros(len(EMOTIONS))
        code[rng.choice(len(EMOTIONS), 2, replace=False)] = rng.random(2)
    return action_units_from_emotion(torch.from_numpy(code * rng.uniform(0.2, 1))).numpy()


@cache
def _mouths() -> np.ndarray:
    """[M, U, 2]"""
    return torch.stack([parse_action_units(mouth) for mouth in MOUTHS]).double().numpy()


def _look(value: np.ndarray, right: float, up: float) -> None:
    """Turns both eyes, 1 being as far as they go."""
    for name, amount in (
        ("eyeLookOutRight", right), ("eyeLookInLeft", right), ("eyeLookInRight", -right), ("eyeLookOutLeft", -right),
    ):  # fmt: skip
        _add(value, name, max(amount, 0))
    _add(value, "eyeLookUp" if up > 0 else "eyeLookDown", abs(up))


def _add(value: np.ndarray, name: str, amount: float) -> None:
    """Adds to a channel, or to both its sides."""
    for channel in (name,) if name in ARKIT_NAMES else (f"{name}Left", f"{name}Right"):
        value[ARKIT_NAMES.index(channel)] += amount
