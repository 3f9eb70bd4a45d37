"""`emogs bench`: the speed gate (docs/speed.md), which lives in the benchmarks folder of a checkout."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

TOOL = Path(__file__).resolve().parents[1] / "benchmarks" / "speed.py"


def main(arguments: Sequence[str]) -> None:
    """Runs the tool in a process of its own and ends with its exit code.

    Raises:
        ValueError: this emogs was not installed from a checkout that is still there.
    """
    if not TOOL.is_file():
        raise ValueError("emogs bench needs emogs installed from a checkout: pip install --editable '.[dev]' there")
    sys.exit(subprocess.run([sys.executable, str(TOOL), *arguments]).returncode)
