"""For pytest under a sanitizer (sanitize.py): which tests run, on which native module, and what they have launched.

EMOGS_NATIVE_MODULE    a built `_C*.so`, taken for `emogs._C`
EMOGS_RECORD           a folder: `calls` receives the name of each native function that was called; `launches`, from
                       the emulator, the kernels; `tests`, with EMOGS_RECORD_TESTS=1, what each test has launched
EMOGS_ONLY             a file of tests to run, or a number: so many of each test function, spread over its parameters
"""

from __future__ import annotations

import importlib.util
import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

FOLDER = Path(os.environ.get("EMOGS_RECORD", "."))
ONLY = os.environ.get("EMOGS_ONLY", "")
EACH_TEST = "EMOGS_RECORD_TESTS" in os.environ


def plain_name(name: str) -> str:
    """A test's, without the order that it runs in."""
    return re.sub(r"emulated-[a-z]+(:\d+)?", "emulated", name)


def recorded(name: str, function: Callable[..., Any], called: set[str]) -> Callable[..., Any]:
    def call(*arguments: Any, **fields: Any) -> Any:
        if fields and name not in called:
            called.add(name)
            with (FOLDER / "calls").open("a") as file:
                file.write(f"{name}\n")
        return function(*arguments, **fields)

    return call


def take_module(path: str) -> ModuleType:
    """The module as `emogs._C`, before anybody imports that."""
    spec = importlib.util.spec_from_file_location("emogs._C", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    called: set[str] = set()
    for name in [name for name in dir(module) if callable(getattr(module, name)) and not name.startswith("_")]:
        setattr(module, name, recorded(name, getattr(module, name), called))
    sys.modules["emogs._C"] = module
    return module


if "EMOGS_NATIVE_MODULE" in os.environ:
    torch.get_num_threads()  # torch's OpenMP comes first, as in emogs/ops/native.py
    native = take_module(os.environ["EMOGS_NATIVE_MODULE"])
    import emogs

    emogs._C = native  # type: ignore[attr-defined]


def pytest_configure() -> None:
    os.environ["EMOGS_EMULATOR_RECORD"] = str(FOLDER / "launches")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if not ONLY:
        return
    if ONLY.isdigit():
        functions: dict[str, list[pytest.Item]] = {}
        for item in items:
            functions.setdefault(item.nodeid.partition("[")[0], []).append(item)
        kept = {id(item) for each in functions.values() for item in spread(each, int(ONLY))}
        items[:] = [item for item in items if id(item) in kept]
        return
    wanted = set(Path(ONLY).read_text().split("\n")) - {""}
    items[:] = [item for item in items if plain_name(item.nodeid) in wanted]
    if gone := wanted - {plain_name(item.nodeid) for item in items}:
        (FOLDER / "gone").write_text("\n".join(sorted(gone)))


def spread(items: list[Any], count: int) -> list[Any]:
    """So many of them, at equal distances."""
    return items if len(items) <= count else [items[i * len(items) // count] for i in range(count)]


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    if not EACH_TEST:
        yield
        return
    path = FOLDER / f"launches-{time.monotonic_ns()}"  # the emulator writes a kernel once to each file
    os.environ["EMOGS_EMULATOR_RECORD"] = str(path)
    start = time.process_time()
    yield
    seconds = time.process_time() - start
    kernels = path.read_text().split() if path.exists() else []
    path.unlink(missing_ok=True)
    with (FOLDER / "tests").open("a") as file:
        file.write(f"{plain_name(item.nodeid)}\t{seconds:.3f}\t{' '.join(kernels)}\n")
