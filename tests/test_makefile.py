"""The Makefile's gates: what cannot be told passes, and is not forgotten."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from untold import untold_gates

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
@pytest.mark.parametrize("gate", ["cuda-gate", "speed-gate"])
def test_only_a_gate_that_cannot_tell_is_forgiven_and_remembered(tmp_path, gate):
    """In a folder with this Makefile and a Python that ends every check as the file `verdict` says."""
    shutil.copy(ROOT / "Makefile", tmp_path)
    python = tmp_path / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text('#!/bin/sh\n[ "$2" != check ] || exit "$(cat verdict)"\n')
    python.chmod(0o755)
    for name in ("pyproject.toml", "constraints.txt", ".venv/.installed"):  # in this order: nothing is to be installed
        (tmp_path / name).touch()
    untold = tmp_path / "build" / "untold" / gate
    for verdict, ends, remembered in ((77, 0, True), (0, 0, False), (77, 0, True), (1, 2, False)):
        (tmp_path / "verdict").write_text(str(verdict))
        run = subprocess.run(["make", "--silent", gate], cwd=tmp_path, capture_output=True, text=True)
        assert (run.returncode, untold.exists()) == (ends, remembered), run.stderr


def test_summary_names_what_was_not_told(tmp_path):
    assert untold_gates(tmp_path / "nowhere") == untold_gates(tmp_path) == []
    (tmp_path / "speed-gate").touch()
    assert untold_gates(tmp_path) == ["not checked: `make speed-gate` could not tell, and says why"]
