"""Fixtures that every test may use: the devices that exist here, and data that only some machines have."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from hypothesis import settings

from emogs.ops.native import _C

settings.register_profile("emogs", deadline=None)  # the first example pays for imports; machines are shared
settings.load_profile("emogs")


def _why_no_cuda() -> str | None:
    if _C.cuda_architectures is None:
        return "emogs was built without CUDA"
    if not torch.cuda.is_available():
        return "torch sees no CUDA device"
    return None


@pytest.fixture(params=["cpu", "cuda"])
def device(request: pytest.FixtureRequest) -> torch.device:
    """Each device in turn; CUDA is skipped, saying why, where it cannot run."""
    if request.param == "cuda" and (reason := _why_no_cuda()):
        pytest.skip(reason)
    return torch.device(request.param)


@pytest.fixture(params=_C.supported_isas())
def isa(request: pytest.FixtureRequest):
    """Each instruction set that this machine runs, in use while the test runs."""
    before = _C.isa_in_use()
    _C.use_isa(request.param)
    yield request.param
    _C.use_isa(before)


@pytest.fixture(scope="session")
def ict_folder() -> Path:
    """ICT-FaceKit data: `ict_facekit` in $EMOGS_TEST_DATA or in ../shared/data beside the checkout."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("EMOGS_TEST_DATA", beside)) / "ict_facekit"
    if not folder.is_dir():
        pytest.skip(f"no ICT-FaceKit data at {folder}; set EMOGS_TEST_DATA to the folder that holds ict_facekit")
    return folder
