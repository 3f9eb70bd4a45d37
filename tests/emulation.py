"""Runs product code on the emulated CUDA kernels (tests/emulator): they take the native module's place in emogs.

Emulated kernels work on tensors of the CPU. `emulated` makes `emogs.ops` believe that these live on device 0 of a
native module that has nothing but CUDA kernels; `on_cpu` takes that back for a while, so that a test can compare.
"""

from __future__ import annotations

import contextlib
import importlib.util
import itertools
import os
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from emogs.ops import native

FOLDER = Path(__file__).resolve().parents[1] / "build" / "emulate"

# The order in which threads and blocks run: "forward" or "random:SEED" (tests/emulator/README.md).
ORDERS = os.environ.get("EMOGS_TEST_ORDERS", "forward random:1 random:2").split()

DEVICES = ("cpu", *(f"emulated-{order}" for order in ORDERS), "cuda")  # the parameters of the `device` fixture


def each_device_with(*dtypes: torch.dtype) -> pytest.MarkDecorator:
    """Parametrizes a test over `device` and `dtype`: float64 on the CPU only, since no CUDA kernel computes in it."""
    pairs = [(device, t) for t in dtypes for device in DEVICES if device == "cpu" or t != torch.float64]
    return pytest.mark.parametrize(("device", "dtype"), pairs, indirect=["device"])


_native_launch = native.launch


def emulated_module_file() -> Path:
    """The module that `make emulator` builds; a missing one fails the test, since CUDA would go untested in silence."""
    if sys.platform != "linux":
        pytest.skip("the emulator runs on Linux only")
    folder = Path(os.environ.get("EMOGS_EMULATOR_BUILD", FOLDER))
    files = list(folder.glob("_C.*.so"))
    if len(files) != 1:
        pytest.fail(f"no emulated CUDA kernels in {folder}: run `make emulator`", pytrace=False)
    return files[0]


@cache
def emulated_module() -> ModuleType:
    spec = importlib.util.spec_from_file_location("_C", emulated_module_file())
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _launch(like: torch.Tensor, dtype: torch.dtype | str | None = None) -> dict[str, Any]:
    return _native_launch(like, dtype) | {"device": 0, "stream": 0, "threads": 1}


def _users() -> list[ModuleType]:
    """The modules of emogs that may call native operations."""
    return [m for name, m in sys.modules.items() if name.startswith("emogs.") and m is not native]


@contextlib.contextmanager
def _in_place(module: Any, launch: Any) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        stand_ins = {"_C": module, "launch": launch, "on_cuda": lambda like: launch(like)["device"] >= 0}
        for user, name in itertools.product(_users(), stand_ins):
            if hasattr(user, name):
                patch.setattr(user, name, stand_ins[name])
        yield


@contextlib.contextmanager
def emulated(order: str = "forward") -> Iterator[None]:
    """Inside, `emogs.ops` runs CUDA kernels, threads in that order; uninitialised tensors are filled with NaN."""
    with pytest.MonkeyPatch.context() as patch, _in_place(emulated_module(), _launch), uninitialised_is_nan():
        patch.setenv("EMOGS_EMULATOR_ORDER", order)
        yield


def on_cpu() -> contextlib.AbstractContextManager[None]:
    """Inside, `emogs.ops` runs its CPU kernels again: for results to compare with."""
    return _in_place(native._C, _native_launch)


@contextlib.contextmanager
def uninitialised_is_nan() -> Iterator[None]:
    """Memory that a kernel must not read before it has written to it shows when it does."""
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(True, warn_only=True)  # fills what torch.empty gives
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
