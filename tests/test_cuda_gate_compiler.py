"""The static CUDA gate with the real compiler: every seeded regression gets its message, the command its exit code."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from cuda_budget import Budget, changes, judged
from cuda_kernels import CannotTell, Tools, compile_file

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def tools() -> Tools:
    try:
        return Tools.find()
    except CannotTell as reason:
        pytest.skip(str(reason))


TINY = """
__global__ void __launch_bounds__({bounds}) tiny_kernel(const float* from, float* to, int n) {{
  {body}
}}
"""
BASE = "const int i = blockIdx.x * 256 + threadIdx.x; if (i < n) to[i] = from[i] * 1.5f;"


def compiled(tools, folder, body, bounds="256"):
    (folder / "tiny.cu").write_text(TINY.format(body=body, bounds=bounds))
    kernels = compile_file(tools, folder / "tiny.cu", ["-O3", "-std=c++17"], 90)
    assert list(kernels) == ["tiny_kernel"]
    return judged({"tiny.cu": {"tiny_kernel": {"": {"sm_90": kernels["tiny_kernel"]}}}}, Budget())


MANY = """
  float a[64];
  #pragma unroll
  for (int k = 0; k < 64; ++k) a[k] = from[k * n + i];
  __syncthreads();
  #pragma unroll
  for (int k = 0; k < 64; ++k) to[k * n + i] = a[k] * a[63 - k];
"""
INDEXED = "float a[64]; for (int k = 0; k < 64; ++k) a[k ^ n & 63] = from[k * n] * k; to[n] = a[int(from[n]) & 63];"
REGRESSIONS = {
    "a double constant": ("double", BASE.replace("1.5f", "1.1"), "256"),
    "an array indexed at run time": ("local", BASE + INDEXED, "256"),
    "too few registers": ("spills", BASE + MANY, "256, 8"),
    "many registers": ("registers", BASE + MANY, "256"),
    "narrow loads": ("global_loads_1", BASE + "for (int k = 0; k < 4; ++k) to[k] = ((const char*)from)[k + n];", "256"),
    "shared memory": ("static_shared", "__shared__ float s[256]; s[threadIdx.x] = n; " + BASE + "to[n] = s[n];", "256"),
    "a barrier": ("barriers", "__syncthreads(); " + BASE, "256"),
}


@pytest.fixture(scope="module")
def base(tools, tmp_path_factory) -> Budget:
    return Budget(files=compiled(tools, tmp_path_factory.mktemp("base"), BASE))


@pytest.mark.parametrize("name", REGRESSIONS)
def test_seeded_regressions_are_found(tools, base, tmp_path, name):
    figure, body, bounds = REGRESSIONS[name]
    found = [change for change in changes(base, compiled(tools, tmp_path, body, bounds)) if change.beyond]
    lines = [str(change) for change in found if change.limit.figure == figure]
    assert len(lines) == 1 and lines[0].startswith(f"tiny.cu: tiny_kernel on sm_90: {figure} ")


def test_machine_code_depends_on_the_code_alone(tools, base, tmp_path):
    """Not on folders or comments, so that an unchanged kernel is recognised anywhere."""
    again = compiled(tools, tmp_path, BASE + "  // a comment")
    assert again == base.files
    other = compiled(tools, tmp_path, BASE.replace("1.5f", "1.6f"))["tiny.cu"]["tiny_kernel"].variants[""]["sm_90"]
    assert other["code"] != base.files["tiny.cu"]["tiny_kernel"].variants[""]["sm_90"]["code"]


def gate(*arguments, **environment) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "benchmarks" / "cuda_gate.py"), *map(str, arguments)]
    return subprocess.run(command, env=os.environ | environment, capture_output=True, text=True)


def test_the_whole_command(tools, tmp_path):
    path = tmp_path / "budget.json"
    run = gate("accept", "csrc/renorm", "--budget", path)
    assert "emotion_renorm_forward_kernel<float> on sm_80: new, not in the budget" in run.stdout
    reason = ["--why", "seen by a test"] if run.returncode else []
    assert gate("accept", "csrc/renorm", "--budget", path, *reason).returncode == 0
    run = gate("check", "csrc/renorm", "--budget", path)
    assert run.returncode == 0 and "complaints: 0" in run.stdout, run.stdout
    content = json.loads(path.read_text())
    variants = content["files"]["csrc/renorm/renorm_cuda.cu"]["emotion_renorm_forward_kernel"]["variants"]
    variants["<float>"]["sm_120"]["registers"] -= 8
    path.write_text(json.dumps(content))
    run = gate("check", "csrc/renorm", "--budget", path)
    assert run.returncode == 1
    assert "csrc/renorm/renorm_cuda.cu: emotion_renorm_forward_kernel<float> on sm_120: registers" in run.stdout
    run = gate("check", "csrc/nothing", "--budget", path)
    assert run.returncode == 1 and "no kernel file's path contains 'csrc/nothing'" in run.stdout
    content["tools"]["nvcc"] = "12.0.1"
    path.write_text(json.dumps(content))
    run = gate("check", "csrc/renorm", "--budget", path)
    assert run.returncode == 77 and "cannot tell: the budget was made with nvcc 12.0.1, here is" in run.stdout


def test_without_a_compiler_it_says_so_in_one_line():
    run = gate("check", PATH="/nowhere", CUDACXX="")
    assert run.returncode == 77
    assert (
        run.stdout == "CUDA kernels: cannot tell: no CUDA compiler here: nvcc is not on PATH and CUDACXX names none\n"
    )
