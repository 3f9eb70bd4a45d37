"""Random calls of emogs.emotion's functions with arguments that do not belong: one seed, one call.

As for the rasterizer (tests/raster_hostile.py): a call starts valid; some arguments become something of another shape,
dtype, device, type or value. What comes of it is an answer, or a ValueError or TypeError that begins with the name of
the argument.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from raster_hostile import Parameters, mutate, other_strides, other_values, pick

from emogs import emotion as module
from emogs.emotion import Track, default_tables

UNITS = len(default_tables().units)
NAMED = re.compile(r"[a-zA-Z_][a-zA-Z_+ 0-9-]*[:\[( ]")


def units() -> torch.Tensor:
    return torch.rand(2, UNITS, 2)


def codes() -> torch.Tensor:
    return torch.rand(2, 7)


def votes() -> torch.Tensor:
    return torch.randint(0, 5, (2, 10)).float()


def probabilities() -> torch.Tensor:
    return torch.rand(2, 8).softmax(-1)


def times() -> torch.Tensor:
    return torch.arange(3, dtype=torch.float64)


CALLS: dict[str, Callable[[], Parameters]] = {
    "action_units_from_emotion": lambda: {"codes": codes()},
    "action_units_from_expression": lambda: {"expression": torch.rand(2, 52)},
    "action_units_from_pain": lambda: {"score": 16 * torch.rand(3)},
    "affect_from_emotion": lambda: {"codes": codes()[:, :6].repeat(1, 2)[:, :7] * torch.tensor([1.0] * 6 + [0.0])},
    "agreement": lambda: {"probabilities": probabilities()},
    "distribution_from_emotion": lambda: {"codes": codes(), "dataset": "affectnet-8"},
    "distribution_from_votes": lambda: {"votes": votes(), "dataset": "fer+"},
    "distribution_loss": lambda: {
        "logits": torch.randn(2, 8), "probabilities": probabilities(), "reliability": torch.rand(2)
    },
    "emotion_from_action_units": lambda: {"units": units()},
    "emotion_from_affect": lambda: {"affect": 2 * torch.rand(2, 3) - 1},
    "emotion_from_distribution": lambda: {"probabilities": probabilities(), "dataset": "affectnet-8"},
    "emotion_from_expression": lambda: {"expression": torch.rand(2, 52)},
    "emotion_from_labels": lambda: {"labels": [1, 2], "dataset": "mead", "levels": [1, 3]},
    "emotion_from_regions": lambda: {"codes": torch.rand(2, 3, 7)},
    "expression_from_action_units": lambda: {"units": units()},
    "expression_from_emotion": lambda: {"codes": codes()},
    "expression_from_regions": lambda: {"codes": torch.rand(2, 3, 7)},
    "find_episode": lambda: {"times": times(), "intensity": torch.tensor([0.0, 1.0, 0.0])},
    "format_action_units": lambda: {"units": units()[0], "letters": False},
    "format_emotion": lambda: {"code": codes()[0]},
    "format_regions": lambda: {"codes": torch.rand(3, 7)},
    "frame_times": lambda: {"fps": 25.0, "duration": 0.2},
    "intensities_from_levels": lambda: {"levels": 5 * torch.rand(3)},
    "labels_from_emotion": lambda: {"codes": codes(), "dataset": "raf-db", "neutral_below": 0.5},
    "levels_from_intensities": lambda: {"units": units()},
    "pain_from_action_units": lambda: {"units": units()},
    "parse_action_units": lambda: {"text": "6C+12D", "unscored": "C"},
    "parse_emotion": lambda: {"text": "happy=0.5"},
    "parse_regions": lambda: {"text": "brow: sad"},
    "psi": lambda: {"codes": codes()},
    "pulse": lambda: {"code": codes()[0], "onset": 0.5, "apex": 1.0, "offset": 0.5, "start": 0.0},
    "remap_probabilities": lambda: {"probabilities": probabilities(), "source": "affectnet-8", "target": "raf-db"},
    "split_articulation": lambda: {"expression": torch.rand(2, 52)},
    "temper": lambda: {"probabilities": probabilities(), "temperature": 2.0},
    "Trajectory": lambda: {"times": times(), "values": torch.rand(3, 7), "ease": "linear"},
    "convert": lambda: {"track": Track("emotion", times(), torch.rand(3, 7)), "target": "arkit"},
    "load_tables": lambda: {"path": "no such file"},
    "find_language": lambda: {"name": "arkit"},
    "label_set": lambda: {"name": "fer+"},
}  # fmt: skip


def emotion_call(seed: int) -> tuple[str, Callable[[], Any]]:
    """A function's name, and the call."""
    random = np.random.default_rng(seed)
    torch.manual_seed(seed)
    name = pick(random, sorted(CALLS))
    parameters = CALLS[name]()
    for victim in random.choice(sorted(parameters), min(len(parameters), int(random.integers(1, 3))), replace=False):
        value = parameters[victim]
        hurt = other_values if isinstance(value, torch.Tensor) and random.random() < 0.3 else mutate
        parameters[victim] = hurt(random, value)
        if isinstance(parameters[victim], torch.Tensor) and random.random() < 0.3:
            parameters[victim] = other_strides(random, parameters[victim])
    return name, lambda: getattr(module, name)(**parameters)


def meet_emotion_call(seed: int) -> str:
    """`answered`, or `refused` by an error that names an argument; else an AssertionError."""
    name, call = emotion_call(seed)
    try:
        call()
    except FileNotFoundError:
        return "refused"
    except (TypeError, ValueError) as error:
        assert NAMED.match(str(error)) and "not supported" not in str(error), f"seed {seed}, {name}: {error!r}"
        return "refused"
    except Exception as error:
        raise AssertionError(f"seed {seed}, {name}: {error!r}") from error
    return "answered"
