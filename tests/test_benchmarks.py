"""The benchmarks run, and leave what they promise; their figures are nobody's business here."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


def test_rasterizer_benchmark(tmp_path):
    command = [sys.executable, str(BENCHMARKS / "bench_rasterize.py"), "--quick", "--threads", "1"]
    result = subprocess.run([*command, "--out", str(tmp_path)], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "Paired ratios" in result.stdout and "forward / loop" in result.stdout
    content = json.loads((tmp_path / "rasterize.json").read_text())
    assert {"environment", "settings", "figures", "groups"} <= content.keys()
    assert {"cpu", "instruction_set", "compiler", "torch", "revision", "date"} <= content["environment"].keys()
    targets = {figure["target"] for figure in content["figures"]}
    assert {1.5, 5.0, 1.15} <= targets
    assert all(len(samples) > 1 for group in content["groups"] for samples in group["samples"].values())
    assert (tmp_path / "rasterize.png").stat().st_size > 1000


def test_norm_benchmark(tmp_path):
    command = [sys.executable, str(BENCHMARKS / "bench_norm.py"), "--quick", "--threads", "1", "--out", str(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "Paired ratios" in result.stdout and "GB/s" in result.stdout
    content = json.loads((tmp_path / "norm.json").read_text())
    assert {"environment", "settings", "figures", "groups"} <= content.keys()
    assert (tmp_path / "norm.png").stat().st_size > 1000
