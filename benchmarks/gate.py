"""What the gates have in common: how they say that they cannot tell, that something is broken, and how they end."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from rich.console import Console

ROOT = Path(__file__).resolve().parents[1]
PASSED, FAILED, BAD_INPUT = 0, 1, 2
CANNOT_TELL = 77  # by the convention of test harnesses: skipped

console = Console(highlight=False, soft_wrap=True)


class CannotTell(Exception):
    """The tools are not there, or not those that the committed figures were made with."""


class BadInput(Exception):
    """Arguments that a command cannot take; one line."""


class Broken(Exception):
    """Something does not compile or run, or cannot be judged."""


def run(command: Sequence[str], with_errors: bool = False, **options: Any) -> str:
    """What the program prints, with what it prints as errors if asked for. It may come with this Python, as cmake does
    in an environment that is not activated.

    Raises:
        Broken: it fails or is not there; the message has what it said.
    """
    name, *arguments = command
    program = shutil.which(name, path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
    if program is None:
        raise Broken(f"{name} is not on PATH")
    result = subprocess.run([program, *arguments], capture_output=True, text=True, **options)
    if result.returncode:
        raise Broken(f"{Path(name).name} failed:\n{result.stdout[-2000:]}{result.stderr[-4000:]}")
    return result.stdout + (result.stderr if with_errors else "")


def own_arguments() -> ModuleType:
    """How `emogs` reads its arguments (emogs/cli_arguments.py of this checkout): without the rest of emogs, since gates
    need neither torch nor a build, and since what is measured may be another emogs on PYTHONPATH."""
    spec = importlib.util.spec_from_file_location("cli_arguments", ROOT / "emogs" / "cli_arguments.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def main(subject: str, commands: dict[str, Callable[..., int]], description: str | None) -> None:
    """Runs the command that the arguments name; the process ends with its verdict."""
    read = own_arguments()
    try:
        with read.until_nobody_reads():
            sys.exit(read.run_command(commands, Path(sys.argv[0]).name, description or "", sys.argv[1:]))
    except CannotTell as reason:
        console.print(f"{subject}: cannot tell: {reason}", markup=False)
        sys.exit(CANNOT_TELL)
    except (BadInput, read.UsageError) as error:
        console.print(f"{subject}: {error}", markup=False)
        sys.exit(BAD_INPUT)
    except Broken as error:
        console.print(f"{subject}: {error}", markup=False)
        sys.exit(1)
