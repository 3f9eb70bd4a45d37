"""csrc/math/functions.h: errors against float64, edges, and the same bits from scalars and from registers."""

from __future__ import annotations

import ctypes
import math
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from emogs.ops.native import _C

ROOT = Path(__file__).resolve().parents[2]
FLAGS = ["-std=c++17", "-O2", "-fPIC", "-shared", "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math"]
NUMPY = {
    "exp": np.exp,
    "expm1": np.expm1,
    "log": np.log,
    "sin": np.sin,
    "cos": np.cos,
    "atan": np.arctan,
    "sqrt": np.sqrt,
}
REGISTER = 64  # every register's count divides it


@pytest.fixture(scope="module", params=_C.supported_isas())
def library(request, tmp_path_factory):
    """tests/math/functions.cpp compiled as the kernels of one instruction set are."""
    if shutil.which("g++") is None:
        pytest.skip("needs g++")
    isa, path = request.param, tmp_path_factory.mktemp("functions") / "functions.so"
    march = [] if isa == "baseline" else [f"-march=x86-64-{isa}"]
    source = Path(__file__).with_name("functions.cpp")
    command = ["g++", *FLAGS, *march, f"-DEMOGS_ISA={isa}", f"-I{ROOT / 'csrc'}", str(source), "-o", str(path)]
    subprocess.run(command, check=True)
    return ctypes.CDLL(str(path))


def call(library, name: str, *inputs: np.ndarray) -> np.ndarray:
    padded = [np.ascontiguousarray(np.resize(x, -(-len(x) // REGISTER) * REGISTER)) for x in inputs]
    out = np.empty_like(padded[0])
    pointers = [ctypes.c_void_p(x.ctypes.data) for x in (*padded, out)]
    library[name](ctypes.c_int64(len(out)), *pointers)
    return out[: len(inputs[0])]


def every_magnitude(dtype=np.float32, count: int = 400_000) -> np.ndarray:
    """Random bits: all exponents, both signs, denormals, infinities and NaN."""
    rng = np.random.default_rng(0)
    unsigned = np.uint32 if dtype == np.float32 else np.uint64
    random = rng.integers(0, np.iinfo(unsigned).max, count, dtype=unsigned, endpoint=True).view(dtype)
    edges = [0.0, -0.0, math.inf, -math.inf, math.nan, 1.0, -1.0, np.finfo(dtype).tiny, np.finfo(dtype).max]
    return np.concatenate([random, np.array(edges, dtype), np.array([1, 2**31 + 1], unsigned).view(dtype)])


def units(got: np.ndarray, exact: np.ndarray) -> np.ndarray:
    """Errors in units in the last place of the exact result, denormals included; infinity counts as 2^128."""
    largest = np.finfo(np.float32).max
    with np.errstate(all="ignore"):
        spacing = np.spacing(np.minimum(np.abs(exact), largest).astype(np.float32))
        error = np.abs(np.clip(got.astype(np.float64), -(2.0**128), 2.0**128) - np.clip(exact, -(2.0**128), 2.0**128))
    return np.where(np.isnan(got) & np.isnan(exact), 0, np.nan_to_num(error / spacing, nan=np.inf))


# Found by the dense sampling below, rounded up; fused (v3, v4) and not (baseline) alike.
BOUNDS = {"exp": 1.5, "expm1": 2.5, "log": 1.5, "atan": 3, "sqrt": 0.5}
DENSE = {"exp": (-104, 89), "expm1": (-20, 89), "log": (0, 100), "atan": (-20, 20), "sqrt": (0, 100)}


@pytest.mark.parametrize("name", BOUNDS)
def test_errors_in_units_in_the_last_place(library, name):
    x = np.concatenate([np.linspace(*DENSE[name], 1_000_001, dtype=np.float32), every_magnitude()])
    with np.errstate(all="ignore"):
        exact = NUMPY[name](x.astype(np.float64))
    assert units(call(library, f"{name}_lanes_float32", x), exact).max() <= BOUNDS[name]


@pytest.mark.parametrize("name", ["sin", "cos"])
def test_absolute_errors_of_sine_and_cosine(library, name):
    """Near their zeros only the absolute error is small; the reductions change at 8192."""
    x = np.concatenate([np.linspace(-10, 10, 1_000_001), np.linspace(-9000, 9000, 1_000_001), [1e10, -3e38]])
    x = np.concatenate([x.astype(np.float32), every_magnitude()])
    got = call(library, f"{name}_lanes_float32", x)
    with np.errstate(all="ignore"):
        exact = NUMPY[name](x.astype(np.float64))
    assert (np.isnan(got) == np.isnan(exact)).all()
    assert np.nanmax(np.abs(got - exact)) < 1.2e-7


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", NUMPY)
def test_registers_and_scalars_give_the_same_bits(library, name, dtype):
    x = every_magnitude(dtype)
    left, right = (call(library, f"{name}_{kind}_{np.dtype(dtype).name}", x) for kind in ("scalar", "lanes"))
    assert np.array_equal(left, right, equal_nan=True)
    assert np.array_equal(np.signbit(left[~np.isnan(left)]), np.signbit(right[~np.isnan(right)]))


def test_exact_where_emotion_is_zero(library):
    zero = np.zeros(1, np.float32)
    assert [call(library, f"{name}_lanes_float32", zero)[0] for name in ("exp", "cos", "expm1", "sin")] == [1, 1, 0, 0]


def test_atan2_in_every_quadrant(library):
    rng = np.random.default_rng(0)
    y, x = (rng.standard_normal(200_000) * 10.0 ** rng.uniform(-30, 30, 200_000) for _ in range(2))
    edges = [0.0, -0.0, 1.0, -1.0, math.inf, -math.inf, math.nan]
    pairs = np.array([(a, b) for a in edges for b in edges])
    y, x = (np.concatenate([v, e]).astype(np.float32) for v, e in ((y, pairs[:, 0]), (x, pairs[:, 1])))
    got, exact = call(library, "atan2_lanes", y, x), np.arctan2(y.astype(np.float64), x.astype(np.float64))
    assert (np.isnan(got) == np.isnan(exact)).all()
    assert (np.signbit(got) == np.signbit(exact))[~np.isnan(exact)].all()
    assert np.nanmax(np.abs(got - exact)) < 3e-7
