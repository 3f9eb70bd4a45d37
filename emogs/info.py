"""What this installation of emogs can do: `emogs info`."""

from __future__ import annotations

import platform
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

import emogs
from emogs.ops.native import _C


def info() -> dict[str, Any]:
    """Facts about the build and the machine, as plain values (None: there is none).

    Returns:
        version, python, torch: version numbers.
        backends: "cpu" and, if compiled in, "cuda".
        cuda_architectures: what the CUDA backend was built for, in CMake's form.
        instruction_set: the one in use; instruction_sets: those that this machine runs (EMOGS_ISA forces one).
        threads: how many the CPU operations use (torch.set_num_threads); openmp: whether they can use more than one.
        gpus: names of the CUDA devices that torch sees.

    >>> info()["backends"][0]
    'cpu'
    """
    return {
        "version": emogs.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "backends": ["cpu"] if _C.cuda_architectures is None else ["cpu", "cuda"],
        "cuda_architectures": _C.cuda_architectures,
        "instruction_set": _C.isa_in_use(),
        "instruction_sets": _C.supported_isas(),
        "threads": torch.get_num_threads(),
        "openmp": _C.openmp,
        "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
    }


def main() -> None:
    """Prints `info()` as a table."""
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    for name, value in info().items():
        text = ", ".join(value) if isinstance(value, list) else value
        table.add_row(name.replace("_", " "), "none" if text in (None, "") else str(text))
    Console().print(table)
