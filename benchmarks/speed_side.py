"""One of the two things to compare: a git revision, the folder of a built checkout, or a wheel."""

from __future__ import annotations

import ast
import hashlib
import os
import sys
import sysconfig
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

from gate import ROOT, Broken, run
from packaging.tags import sys_tags
from packaging.utils import InvalidWheelFilename, parse_wheel_filename
from speed_code import code_hash, module_hash

BUILDS = ROOT / "build" / "speed"


def command(arguments: Sequence[str], folder: Path, **environment: str) -> str:
    """What it prints, in a folder and with more of an environment. Raises Broken: it fails, or is not there."""
    return run(arguments, cwd=folder, env=os.environ | environment)


@dataclass(frozen=True)
class Side:
    """One revision, built."""

    name: str
    folder: Path

    @staticmethod
    def of(revision: str) -> Side:
        """A folder with a built checkout as it is; a wheel, or a git revision, in a folder of its own (kept for later).

        Raises:
            ValueError: there is no such revision, or the wheel is none for this Python.
            Broken: it does not build.
        """
        if (Path(revision) / "emogs").is_dir():
            return Side(revision, Path(revision).resolve())
        if Path(revision).is_file() or revision.endswith(".whl"):
            return Side(revision, unpacked(Path(revision)))
        try:
            commit = command(["git", "rev-parse", "--verify", f"{revision}^{{commit}}"], ROOT).strip()
        except Broken:
            what = "a git revision, a wheel or the folder of a built checkout"
            raise ValueError(f"{revision}: expected {what}") from None
        folder = BUILDS / commit[:16]
        if native_module(folder) is None:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(suffix=".tar") as archive:
                command(["git", "archive", "-o", archive.name, commit], ROOT)
                with tarfile.open(archive.name) as files:
                    # A filter is asked for from Python 3.12 on; Python 3.10 and 3.11 learned of it in patch releases.
                    files.extractall(folder, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))
            command([sys.executable, "setup.py", "--quiet", "build_ext", "--inplace"], folder)
        return Side(revision, folder)

    def build(self) -> Path:
        """Where CMake left the object files of the module for this Python."""
        return self.folder / "build" / f"cmake-{sysconfig.get_config_var('SOABI')}"

    def python(self) -> str:
        """A hash of the Python around the kernels, without comments and docstrings."""
        parts = []
        for path in sorted([*self.folder.glob("emogs/*.py"), *self.folder.glob("emogs/ops/*.py")]):
            parts.append(path.name + ast.dump(without_docstrings(ast.parse(path.read_text()))))
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()

    def bindings(self) -> str | None:
        """A hash of the machine code between Python and the kernels; None without object files, as in a wheel."""
        objects = sorted(self.build().glob("CMakeFiles/_C.dir/csrc/**/*.o"))
        parts = [path.name + code_hash(path) for path in objects]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest() if objects else None

    def module(self) -> str | None:
        """A hash of the whole native module; None if there is none, or it is no ELF file."""
        try:
            module = native_module(self.folder)
            return module and module_hash(module)
        except ValueError:
            return None


def native_module(folder: Path) -> Path | None:
    """The compiled module of a checkout or wheel; its stub, `_C.pyi`, lies beside it also before it is built."""
    return next((path for suffix in EXTENSION_SUFFIXES for path in folder.glob(f"emogs/_C{suffix}")), None)


def unpacked(wheel: Path) -> Path:
    """Where a wheel's files are.

    Raises:
        ValueError: it is not there, no wheel of emogs, damaged, or for another Python or system than this one.
    """
    try:
        name, _, _, tags = parse_wheel_filename(wheel.name)
        content = wheel.read_bytes()
    except (InvalidWheelFilename, OSError) as error:
        raise ValueError(f"{wheel}: expected a wheel; {error}") from None
    if name != "emogs":
        raise ValueError(f"{wheel}: expected a wheel of emogs, got one of {name}")
    if not tags.intersection(sys_tags()):
        got, here = ", ".join(sorted(map(str, tags))), next(iter(sys_tags()))
        raise ValueError(f"{wheel}: expected a wheel for this Python and system, such as {here}; this is for {got}")
    folder = BUILDS / hashlib.sha256(content).hexdigest()[:16]
    if not folder.is_dir():
        BUILDS.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=BUILDS) as half:
            extract(wheel, Path(half, "wheel"))
            Path(half, "wheel").rename(folder)
    return folder


def extract(wheel: Path, folder: Path) -> None:
    try:
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(folder)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, OSError) as error:
        raise ValueError(f"{wheel}: expected a wheel, which is a zip file; {error}") from None
    if native_module(folder) is None:
        raise ValueError(f"{wheel}: expected a wheel with the native module emogs/_C, found none in it")


def without_docstrings(tree: ast.Module) -> ast.Module:
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    for node in ast.walk(tree):
        if isinstance(node, documented) and ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:]
    return tree
