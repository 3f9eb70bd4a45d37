"""The benchmarks run, and leave what they promise; their figures are nobody's business here."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


def assert_not_judged(printed, content):
    """At toy sizes a target means nothing."""
    assert not {"met", "missed"} & set(printed.split()) and "these figures mean nothing" in printed
    assert all(figure["target"] is None and figure["met"] is None for figure in content["figures"])


def test_rasterizer_benchmark(tmp_path):
    command = [sys.executable, str(BENCHMARKS / "bench_rasterize.py"), "--quick", "--threads", "1"]
    result = subprocess.run([*command, "--out", str(tmp_path)], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "Paired ratios" in result.stdout and "forward / loop" in result.stdout
    content = json.loads((tmp_path / "rasterize.json").read_text())
    assert {"environment", "settings", "figures", "groups"} <= content.keys()
    assert {"cpu", "instruction_set", "compiler", "torch", "revision", "date"} <= content["environment"].keys()
    assert_not_judged(result.stdout, content)
    assert all(len(samples) > 1 for group in content["groups"] for samples in group["samples"].values())
    assert (tmp_path / "rasterize.png").stat().st_size > 1000


def test_norm_benchmark(tmp_path):
    command = [sys.executable, str(BENCHMARKS / "bench_norm.py"), "--quick", "--threads", "1", "--out", str(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "Paired ratios" in result.stdout and "GB/s" in result.stdout
    content = json.loads((tmp_path / "norm.json").read_text())
    assert {"environment", "settings", "figures", "groups"} <= content.keys()
    assert_not_judged(result.stdout, content)
    assert (tmp_path / "norm.png").stat().st_size > 1000
