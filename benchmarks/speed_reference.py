"""The committed reference of the CPU kernels: their machine code as hashes, and how many instructions they execute.

The JSON is written by `speed_check.py accept`, never by hand. It holds for one compiler; where that is another, nothing
can be told.
"""

from __future__ import annotations

import json
import platform
import re
import shlex
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from cuda_kernels import code_flags, portable
from gate import Broken, run
from speed_code import kernel_hashes
from speed_count import Count, driver_hash

PATH = Path(__file__).with_name("speed_reference.json")


@dataclass
class Reference:
    """The whole file."""

    machine: str = ""
    """Processor architecture and compiler, as the latter writes it into what it makes."""
    flags: dict[str, str] = field(default_factory=dict)
    """Compiler options by instruction set."""
    counter: dict[str, str] = field(default_factory=dict)
    """What counts depend on beside the code."""
    driver: str = ""
    """A hash of the program that calls the kernels."""
    kernels: dict[str, str] = field(default_factory=dict)
    """A hash of the machine code, by kernel file and instruction set, such as "norm_cpu v4"."""
    counts: dict[str, Count] = field(default_factory=dict)

    @staticmethod
    def of(build: Path) -> Reference:
        """What is built in a CMake build folder, brought up to date; without counts.

        Raises:
            Broken: it has no object files of the kernels, or does not build.
        """
        targets = [path.name.removesuffix(".dir") for path in build.glob("CMakeFiles/cpu_*.dir")]
        if not targets:
            raise Broken(f"{build} has no object files of the CPU kernels: `make build` makes them")
        run(["cmake", "--build", str(build), "--target", *targets])
        objects = sorted(build.glob("CMakeFiles/cpu_*.dir/csrc/*/*_cpu.cpp.o"))
        machine = f"{platform.machine()}, {', '.join(sorted({compiler_of(path) for path in objects}))}"
        return Reference(machine, flags_of(build), driver=driver_hash(), kernels=kernel_hashes(build))

    @staticmethod
    def load(path: Path) -> Reference:
        """An empty one where there is no file."""
        if not path.exists():
            return Reference()
        try:
            content = json.loads(path.read_text())
            content["counts"] = {name: Count(**count) for name, count in content["counts"].items()}
            return Reference(**content)
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise Broken(
                f"{path}: expected a reference that `accept` wrote, got what does not read: {error!r}"
            ) from None

    def save(self, path: Path) -> None:
        text = json.dumps(asdict(self), indent=1, sort_keys=True)
        counts = re.compile(r'\{\s*("instructions"[^{}]*)\}')  # one case is one line
        path.write_text(counts.sub(lambda m: "{" + " ".join(m[1].split()) + "}", text) + "\n")


def compiler_of(file: Path) -> str:
    """What the compiler wrote about itself into an object file; "unknown compiler" if nothing."""
    said = re.search(rb"(?:GCC: \([^)]*\) [\d.]+|[\w ]*clang version [\d.]+)", file.read_bytes())
    return said[0].decode() if said else "unknown compiler"


def flags_of(build: Path) -> dict[str, str]:
    """Compiler options of the kernels by instruction set: no folders, no launcher.

    Raises:
        Broken: files of one instruction set have different ones.
    """
    flags: dict[str, str] = {}
    for entry in json.loads((build / "compile_commands.json").read_text()):
        isa = re.search(r"-DEMOGS_ISA=(\w+)", entry["command"])
        if isa is None or not entry["file"].endswith("_cpu.cpp"):
            continue
        options = [word for word in shlex.split(code_flags(portable(entry["command"]))) if word.startswith("-")]
        text = " ".join(word for word in options if not word.startswith("-DEMOGS_ISA="))
        if flags.setdefault(isa[1], text) != text:
            raise Broken(f"kernel files are compiled with different flags for {isa[1]}: {flags[isa[1]]!r}, {text!r}")
    return flags


def come_and_gone(was: Mapping[str, object], now: Mapping[str, object]) -> list[str]:
    """One line for what is in one of the two only."""
    lines = [f"{name}: new, not in the reference" for name in now if name not in was]
    return lines + [f"{name}: in the reference, but gone" for name in was if name not in now]
