"""What a time depends on besides the code: times are comparable only where all of this is equal."""

from __future__ import annotations

import platform
import re
from pathlib import Path

import torch

from emogs.info import info
from emogs.ops.native import _C


def fingerprint() -> dict[str, str]:
    """CPU, instruction set, threads, compiler of the native module, torch, and the GPUs with their driver."""
    about = info()
    facts = {
        "cpu": cpu_name(),
        "system": f"{platform.system()} {platform.machine()}",
        "instruction_set": about["instruction_set"],
        "threads": about["threads"],
        "compiler": compiler_of(Path(_C.__file__)),
        "torch": about["torch"],
        "gpus": ", ".join(about["gpus"]) or "none",
        "cuda": torch.version.cuda if about["gpus"] else "none",
    }
    return {name: str(value) for name, value in facts.items()}


def cpu_name() -> str:
    """As the system calls it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{names[0]}, {len(names)} logical cores" if names else platform.machine()


def compiler_of(library: Path) -> str:
    """What the compiler wrote about itself into a file that it made; "unknown" if nothing."""
    said = re.findall(rb"(?:GCC: \([^)]*\) [\d.]+|clang version [\d.]+)", library.read_bytes())
    return ", ".join(sorted({text.decode() for text in said})) or "unknown"


def differences(base: dict[str, str], head: dict[str, str]) -> list[str]:
    """One line for each fact that is not the same."""
    names = sorted(base.keys() | head.keys())
    return [
        f"{name}: {base.get(name, 'not recorded')} / {head.get(name, 'not recorded')}"
        for name in names
        if base.get(name) != head.get(name)
    ]
