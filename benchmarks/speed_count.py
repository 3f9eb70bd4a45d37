"""How many instructions the CPU kernels execute, counted by valgrind: the same number in every run, however busy the
machine is.

A native program (benchmarks/native) calls the AVX2 kernels of a build, forward and backward, on fixed inputs and with
one thread; callgrind collects inside of these calls only. What a count cannot see: caches, memory, waiting, threads,
and how long an instruction takes.
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from gate import ROOT, Broken, CannotTell, run
from speed_code import changed, kernel_hashes

TOLERANCE = 0.01  # a count has no noise; this leaves room for a compiler that numbers its registers another way
ISA = "v3"  # what cmake/instructions.cmake links
TARGET = "count_instructions"
FUNCTION = "emogs_counted"  # benchmarks/native/main.cpp


@dataclass(frozen=True)
class Count:
    """One kernel call."""

    instructions: int
    work: int
    unit: str
    """What `work` counts: elements, pairs, gaussians, faces."""


@dataclass(frozen=True)
class Change:
    """One kernel call whose count, or whose work, is not what it was."""

    name: str
    was: Count
    now: Count

    @property
    def ratio(self) -> float:
        return self.now.instructions / self.was.instructions

    @property
    def same_work(self) -> bool:
        return (self.was.work, self.was.unit) == (self.now.work, self.now.unit)

    def __str__(self) -> str:
        if not self.same_work:
            works = f"{self.now.work} {self.now.unit}, was {self.was.work} {self.was.unit}"
            return f"{self.name}: does other work, {works}"
        return (
            f"{self.name}: {self.now.instructions:,} instructions, was {self.was.instructions:,} "
            f"({self.ratio:.3f} times; at most {1 + TOLERANCE:.3f})"
        )


def counter() -> dict[str, str]:
    """What a count depends on beside the code: valgrind, and the C library, whose copies and fills are counted too.

    Raises:
        CannotTell: instructions cannot be counted here.
    """
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        raise CannotTell(
            f"instructions are counted on Linux x86_64 only, here is {platform.system()} {platform.machine()}"
        )
    if not shutil.which("valgrind"):
        raise CannotTell("valgrind, which counts instructions, is not on PATH")
    return {
        "valgrind": run(["valgrind", "--version"]).strip().removeprefix("valgrind-"),
        "C library": " ".join(platform.libc_ver()),
    }


def driver_hash(root: Path = ROOT) -> str:
    """Of the sources of the program that calls the kernels: others, and its counts may mean something else."""
    digest = hashlib.sha256()
    for path in sorted((root / "benchmarks" / "native").glob("*.[ch]*")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]


def count(build: Path, operation: str = "") -> dict[str, Count]:
    """Instructions by case, such as "blend_tiles/window64-3channels/float32/forward".

    Args:
        build: A CMake build folder; what is not built there is built.
        operation: Only cases whose name begins with this.
    Raises:
        CannotTell: there is no valgrind here, no such program in this revision, or no AVX2.
        Broken: it does not build or run.
    """
    counter()
    return count_program(make_driver(build), operation)


def make_driver(build: Path) -> Path:
    if not (build / "CMakeCache.txt").is_file():
        raise CannotTell(f"{build} has no object files of the kernels")
    if TARGET not in run(["cmake", "--build", str(build), "--target", "help"]):
        raise CannotTell(f"what is built in {build} has no program that calls its kernels")
    run(["cmake", "--build", str(build), "--target", TARGET])
    return build / TARGET


def count_program(program: Path, operation: str = "") -> dict[str, Count]:
    """Runs a program that calls kernels through `emogs_counted` and prints a line after each call."""
    options = [f"--toggle-collect={FUNCTION}", f"--dump-after={FUNCTION}", "--callgrind-out-file=counts"]
    command = ["valgrind", "-q", "--tool=callgrind", *options, str(program.resolve()), operation]
    kept = {name: os.environ[name] for name in ("PATH", "VALGRIND_LIB") if name in os.environ}
    with tempfile.TemporaryDirectory() as folder:
        result = subprocess.run(command, cwd=folder, env=kept, capture_output=True, text=True)
        if result.returncode == -signal.SIGILL:
            raise CannotTell(f"{program.name}: this processor, or valgrind, lacks an instruction of the kernels")
        if result.returncode:
            raise Broken(f"{program.name} under valgrind failed:\n{(result.stdout + result.stderr)[-4000:]}")
        lines = [line.split() for line in result.stdout.splitlines()]
        parts = [Path(folder, f"counts.{number + 1}") for number in range(len(lines))]
        if not all(part.is_file() for part in parts) or Path(folder, f"counts.{len(lines) + 1}").exists():
            raise Broken(f"{program.name}: callgrind has not written one result for each of {len(lines)} calls")
        totals = [re.search(r"^totals: (\d+)$", part.read_text(), re.MULTILINE) for part in parts]
    return {
        name: Count(int(total[1]) if total else 0, int(work), unit)
        for (name, work, unit), total in zip(lines, totals, strict=True)
    }


def counted_hashes(build: Path) -> dict[str, str]:
    """The machine code of the kernels that are counted.

    Raises:
        CannotTell: there is none: the build is gone, or another kind of machine's.
    """
    hashes = {name: code for name, code in kernel_hashes(build).items() if name.endswith(f" {ISA}")}
    if not hashes:
        counter()
        raise CannotTell(f"{build} has no object files of x86-64-{ISA} kernels")
    return hashes


def changes(base: dict[str, Count], head: dict[str, Count]) -> list[Change]:
    """Of the cases that both have, those that differ."""
    return [Change(name, base[name], head[name]) for name in base if name in head and base[name] != head[name]]


def verdicts(base: Path, head: Path, kernels: Mapping[str, Sequence[str]]) -> Iterator[tuple[str, str, str]]:
    """Compares the builds of two revisions, where a kernel's machine code is not the same.

    Args:
        base, head: Their CMake build folders.
        kernels: The kernel files of each operation that matters, such as {"blend_tiles": ["blend_cpu"]}.
    Yields:
        A mark, a case and a line: "FAILED": more instructions; "hole": cannot be compared, to be accepted or to fail;
        "passed": all else.
    Raises:
        CannotTell: instructions cannot be counted here, or not on base.
        Broken: head's cannot be counted, but base's.
    """
    hashes = [counted_hashes(build) for build in (base, head)]
    moved = {name.split()[0] for name in changed(*hashes)}
    wanted = {operation for operation, files in kernels.items() if moved.intersection(files)}
    if not wanted:
        return
    try:
        before = {name: c for name, c in count(base).items() if name.split("/")[0] in wanted}
    except Broken as error:
        raise CannotTell(f"base: {error}") from None
    after = {name: c for name, c in count(head).items() if name.split("/")[0] in wanted}
    for name in sorted(before.keys() | after.keys()):
        if name not in before or name not in after:
            yield "hole", name, f"{name}: instructions counted in {'head' if name in after else 'base'} only"
            continue
        change = Change(name, before[name], after[name])
        worse = change.ratio > 1 + TOLERANCE
        yield "hole" if not change.same_work else "FAILED" if worse else "passed", name, str(change)
