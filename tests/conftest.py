"""Fixtures that every test may use: the devices that exist here, and data that only some machines have."""

from __future__ import annotations

import contextlib
import os
import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from emulation import DEVICES, emulated
from hypothesis import HealthCheck, settings
from untold import untold_gates

from emogs.ops.native import _C

os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")  # no processes that outlive a test

# The same examples everywhere and in every run, and no limits on time: the first example pays for imports, and machines
# are shared. EMOGS_TEST_EFFORT, which looks for more than regressions, draws others every time.
settings.register_profile(
    "emogs",
    derandomize="EMOGS_TEST_EFFORT" not in os.environ,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("emogs")


def _seed(seed: int) -> None:
    torch.manual_seed(seed)
    np.random.seed(seed)
    random.seed(seed)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """What is drawn without a seed does not depend on which tests ran before."""
    _seed(1)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_call() -> None:
    """Nor on which fixtures were made for other tests."""
    _seed(2)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for line in untold_gates():
        terminalreporter.write_line(line, yellow=True)


def _why_no_cuda() -> str | None:
    if _C.cuda_architectures is None:
        return "emogs was built without CUDA"
    if not torch.cuda.is_available():
        return "torch sees no CUDA device"
    return None


@contextlib.contextmanager
def _on(name: str) -> Iterator[torch.device]:
    kind, _, detail = name.partition("-")
    if kind == "cuda":
        if reason := _why_no_cuda():
            pytest.skip(reason)
        yield torch.device("cuda")
    elif kind == "emulated":
        with emulated(detail):
            yield torch.device("cpu")
    else:
        with _in_use(detail or _C.isa_in_use()):
            yield torch.device("cpu")


@contextlib.contextmanager
def _in_use(isa: str) -> Iterator[None]:
    before = _C.isa_in_use()
    _C.use_isa(isa)
    yield
    _C.use_isa(before)


@pytest.fixture(params=DEVICES)
def device(request: pytest.FixtureRequest) -> Iterator[torch.device]:
    """Each device in turn: the CPU; the CUDA kernels without a GPU, on tensors of the CPU, in several orders
    (tests/emulation.py); CUDA itself, skipped, saying why, where it cannot run."""
    with _on(request.param) as device:
        yield device


@pytest.fixture(params=[*(f"cpu-{isa}" for isa in _C.supported_isas()), *DEVICES[1:]])
def processor(request: pytest.FixtureRequest) -> Iterator[torch.device]:
    """The same, and the CPU with each instruction set that this machine runs."""
    with _on(request.param) as device:
        yield device


@pytest.fixture(params=_C.supported_isas())
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    """Each instruction set that this machine runs, in use while the test runs."""
    with _in_use(request.param):
        yield request.param


@pytest.fixture(scope="session")
def ict_folder() -> Path:
    """ICT-FaceKit data: `ict_facekit` in $EMOGS_TEST_DATA or in ../shared/data beside the checkout."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("EMOGS_TEST_DATA", beside)) / "ict_facekit"
    if not folder.is_dir():
        pytest.skip(f"no ICT-FaceKit data at {folder}; set EMOGS_TEST_DATA to the folder that holds ict_facekit")
    return folder
