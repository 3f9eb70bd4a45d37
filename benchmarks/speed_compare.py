"""Two revisions of emogs side by side: what changed, which benchmarks exist on both, and their paired times."""

from __future__ import annotations

import ast
import hashlib
import json
import os
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from speed_code import changed, code_hash, kernel_hashes

ROOT = Path(__file__).resolve().parents[1]
BUILDS = ROOT / "build" / "speed"
WORKER = Path(__file__).with_name("speed_worker.py")
KERNELS = {
    "emotion_norm": ["norm_cpu"],
    "EmotionNorm": ["norm_cpu"],
    "emotion_renorm": ["renorm_cpu"],
    "rig_frames": ["rig_cpu"],
    "project_gaussians": ["project_cpu", "project_backward_cpu"],
    "intersect_tiles": ["tiles_cpu"],
    "blend_tiles": ["blend_cpu"],
    "rasterize": ["project_cpu", "project_backward_cpu", "tiles_cpu", "blend_cpu"],
}
"""The kernel files behind each operation; one that is not here is always timed."""


class Broken(RuntimeError):
    """A side cannot be built or run."""


def command(arguments: Sequence[str], folder: Path, **environment: str) -> str:
    """What it prints.

    Raises:
        Broken: it fails; the message has what it said.
    """
    result = subprocess.run(arguments, cwd=folder, env=os.environ | environment, capture_output=True, text=True)
    if result.returncode:
        raise Broken(f"{' '.join(arguments)} failed in {folder}:\n{(result.stdout + result.stderr)[-4000:]}")
    return result.stdout


@dataclass(frozen=True)
class Side:
    """One revision, built."""

    name: str
    folder: Path

    @staticmethod
    def of(revision: str) -> Side:
        """A folder with a built checkout as it is, or a git revision, built into a folder of its own (kept for later).

        Raises:
            ValueError: there is no such revision.
            Broken: it does not build.
        """
        if (Path(revision) / "emogs").is_dir():
            return Side(revision, Path(revision).resolve())
        try:
            commit = command(["git", "rev-parse", "--verify", f"{revision}^{{commit}}"], ROOT).strip()
        except Broken:
            raise ValueError(f"{revision}: expected a git revision or the folder of a built checkout") from None
        folder = BUILDS / commit[:16]
        if not list(folder.glob("emogs/_C.*")):
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(suffix=".tar") as archive:
                command(["git", "archive", "-o", archive.name, commit], ROOT)
                with tarfile.open(archive.name) as files:
                    files.extractall(folder, filter="data")
            command([sys.executable, "setup.py", "--quiet", "build_ext", "--inplace"], folder)
        return Side(revision, folder)

    def build(self) -> Path:
        """Where CMake left the object files."""
        return next(iter(self.folder.glob("build/cmake-*")), self.folder / "build")

    def host(self) -> str:
        """A hash of what runs around the kernels: Python without comments and docstrings, and the bindings."""
        parts = []
        for path in sorted([*self.folder.glob("emogs/*.py"), *self.folder.glob("emogs/ops/*.py")]):
            parts.append(path.name + ast.dump(without_docstrings(ast.parse(path.read_text()))))
        objects = sorted(self.build().glob("CMakeFiles/_C.dir/csrc/**/*.o"))
        if not objects:
            return f"not known of {self.folder}"
        parts += [path.name + code_hash(path) for path in objects]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def without_docstrings(tree: ast.Module) -> ast.Module:
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    for node in ast.walk(tree):
        if isinstance(node, documented) and ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:]
    return tree


def unchanged(base: Side, head: Side, isa: str) -> set[str]:
    """Operations whose machine code and Python are the same on both sides."""
    if base.host() != head.host():
        return set()
    ours, theirs = kernel_hashes(head.build()), kernel_hashes(base.build())
    moved = changed(theirs, ours)
    return {
        operation
        for operation, files in KERNELS.items()
        if all(f"{file} {isa}" in ours and f"{file} {isa}" not in moved for file in files)
    }


class Process:
    """A worker that has one side loaded (speed_worker.py)."""

    def __init__(self, side: Side, threads: int, quick: bool) -> None:
        self.side = side
        arguments = [sys.executable, str(WORKER), str(side.folder), str(threads), "quick" if quick else "full"]
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        self.process = subprocess.Popen(
            arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment, cwd=side.folder
        )

    def ask(self, line: str) -> Any:
        """The answer to a command.

        Raises:
            Broken: the worker died or refuses.
        """
        assert self.process.stdin and self.process.stdout
        try:
            self.process.stdin.write(line + "\n")
            self.process.stdin.flush()
            said = self.process.stdout.readline()
        except BrokenPipeError:
            said = ""
        if not said:
            raise Broken(f"{self.side.name}: the process that times it has died (exit code {self.process.wait()})")
        answer = json.loads(said)
        if "error" in answer:
            raise Broken(f"{self.side.name}: {answer['error']}")
        return answer["answer"]

    def close(self) -> None:
        self.process.communicate()


class Pair:
    """Both sides, loaded and alternating."""

    def __init__(self, base: Side, head: Side, threads: int, quick: bool) -> None:
        self.base, self.head = Process(base, threads, quick), Process(head, threads, quick)

    def __enter__(self) -> Pair:
        return self

    def __exit__(self, *_: object) -> None:
        self.base.close(), self.head.close()

    def prepare(self, name: str) -> str | None:
        """Makes a benchmark on both sides. Says so where the work is not the same."""
        ours, theirs = self.head.ask(f"prepare {name}"), self.base.ask(f"prepare {name}")
        for process in (self.base, self.head):
            process.ask(f"calls_are {max(ours['calls'], theirs['calls'])}")
        other = [f"{what} {theirs[what]} / {ours[what]}" for what in ("bytes", "pairs") if theirs[what] != ours[what]]
        return ", ".join(other) or None

    def ratios(self, rounds: int) -> list[float]:
        """Head / base, of each A B B A."""
        ratios = []
        for _ in range(rounds):
            times = [process.ask("time") for process in (self.base, self.head, self.head, self.base)]
            ratios.append((times[1] + times[2]) / (times[0] + times[3]))
        return ratios
