"""How every `emogs` command reads its arguments: by tyro, whose boxes about wrong ones become one line."""

from __future__ import annotations

import functools
import io
import os
import re
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr
from pathlib import Path
from typing import Any, TextIO

import tyro

_KINDS = {"INT": "a whole number", "FLOAT": "a number", "STR": "a text", "PATH": "a path"}
_UNREAD = 128 + 13
"""Exit code: 13 is SIGPIPE."""
_WIDE = "4000"
"""Columns of a box that nobody sees, so that it breaks no line of its own."""


class UsageError(ValueError):
    """Arguments that a command cannot take; one line."""


def check_output(name: str, path: Path, *endings: str) -> None:
    """Says before the work, not after it, that a file cannot be written or has no ending that is known.

    Raises:
        UsageError: naming the argument.
    """
    if path.suffix.lower() not in endings:
        raise UsageError(f"{name} {path}: expected a name that ends in {' or '.join(endings)}")
    if path.is_dir():
        raise UsageError(f"{name} {path}: is a folder, expected a file")
    folder = path.absolute().parent
    if not folder.is_dir():
        raise UsageError(f"{name} {path}: no such folder")
    if not takes_files(folder):
        raise UsageError(f"{name} {path}: {folder} cannot be written to")


@contextmanager
def said_of_options(*names: str) -> Iterator[None]:
    """What a function says of its arguments, said of the command's options of the same names.

    >>> with said_of_options("size"):
    ...     raise ValueError("size: expected pixels")
    Traceback (most recent call last):
    ...
    emogs.cli_arguments.UsageError: --size: expected pixels
    """
    try:
        yield
    except ValueError as error:
        if str(error).partition(":")[0] not in names:
            raise
        raise UsageError(f"--{error}") from None


@contextmanager
def until_nobody_reads() -> Iterator[None]:
    """Ends the process quietly where the reader of its output has gone, as in `emogs --help | head -1`.

    The exit code is that of a process that SIGPIPE ended, which Python turns into an error, here and again when it
    flushes at exit. Pipes to anything else than the reader of the output stay errors.
    """
    try:
        try:
            yield
        finally:
            if sys.stdout is not None:  # as in `emogs info >&-`
                sys.stdout.flush()
    except BrokenPipeError:
        unread = [stream for stream in (sys.stdout, sys.stderr) if stream is not None and _is_unread(stream)]
        if not unread:
            raise
        for stream in unread:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        sys.exit(_UNREAD)


def _is_unread(stream: TextIO) -> bool:
    """Whether what a stream holds back has no reader any more."""
    try:
        stream.flush()
    except BrokenPipeError:
        return True
    return False


def takes_files(folder: Path) -> bool:
    """Whether files can be made in a folder; tried, since permissions do not tell of /proc or a read-only disk."""
    try:
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def run_command(commands: dict[str, Callable[..., Any]], prog: str, description: str, arguments: Sequence[str]) -> Any:
    """Runs the command that the arguments name, and returns its answer.

    Raises:
        UsageError: they name none, or do not fit it.
    """
    later = {name: _later(function) for name, function in commands.items()}
    parse = functools.partial(tyro.extras.subcommand_cli_from_dict, prog=prog, description=description)
    return _read(lambda: parse(later, args=list(arguments)), prog, arguments)()


def read_settings(kind: Callable[..., Any], prog: str, arguments: Sequence[str]) -> Any:
    """An object of settings, a dataclass, from the arguments. Raises UsageError."""
    return _read(lambda: tyro.cli(kind, prog=prog, args=list(arguments)), prog, arguments)


def _later(function: Callable[..., Any]) -> Callable[..., Callable[[], Any]]:
    """The function's arguments now, its work when the answer is called: what it prints is not to be caught."""

    @functools.wraps(function)
    def take(*arguments: Any, **settings: Any) -> Callable[[], Any]:
        return lambda: function(*arguments, **settings)

    return take


def _read(parse: Callable[[], Any], prog: str, arguments: Sequence[str]) -> Any:
    """What tyro makes of the arguments. Help is tyro's own."""
    if {"-h", "--help"} & set(arguments):
        return parse()
    said, columns = io.StringIO(), os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = _WIDE
    try:
        with redirect_stderr(said):
            return parse()
    except SystemExit as ending:
        if ending.code != 2:
            sys.stderr.write(said.getvalue())
            raise
        raise UsageError(_line(said.getvalue(), prog, arguments)) from None
    finally:
        os.environ.pop("COLUMNS")
        if columns is not None:
            os.environ["COLUMNS"] = columns


def _line(box: str, prog: str, arguments: Sequence[str]) -> str:
    """A box's message on one line: which argument, what was expected, what came."""
    drawn = re.sub(r"\x1b\[[0-9;]*m", "", box).splitlines()[1:]  # below the title; terminals without UTF-8 get no frame
    lines = [line[2:].rstrip("│ ") for line in drawn if line.strip("│─╰╯- ")]
    message, own = " ".join(lines[0].split()) if lines else "wrong arguments", prog.removeprefix("emogs").lstrip()
    items = [line.strip() for line in lines[1:] if re.match(r" {4}\S", line)]
    known = next((line.partition(":")[2].strip() for line in lines if "Available subcommands:" in line), "")
    if choices := re.fullmatch(r"Expected one of \{(.*)\}\.", message):
        return f"{own}: expected one of {choices[1]}, got nothing".removeprefix(": ")
    if missing := re.fullmatch(r"Missing from (.*):", message):
        where = missing[1].removeprefix("emogs ")
        if items[0].startswith("{"):
            return f"{where}: expected one of {items[0].strip('{}').replace(',', ', ')}, got nothing"
        return f"{where}: {items[0]} is missing; {missing[1]} --help says what it takes"
    if wrong := re.match(r"Error parsing (\S+?):", message):
        return f"{wrong[1]}: expected {_kind(items)}, got {_given(wrong[1], message, arguments)}"
    if message == "Unrecognized or misplaced options:":
        message = "Unrecognized options: " + lines[1].split()[0]
    if unknown := re.match(r"Unrecognized options: ([^,\s]+)", message):
        close = [item.split()[0] for item in items if unknown[1][:2] == item[:2] == "--"]
        hint = f"; did you mean {close[0]}?" if close else f"; known: {known}" if known else ""
        return f"{own}: {unknown[1]} is unknown{hint}".removeprefix(": ")
    if choice := re.match(r"invalid choice '(.*)' for argument '(.*)'\. Expected one of \((.*?),?\)", message):
        return f"{choice[2]}: expected {choice[3]}, got {choice[1]!r}"
    return message


def _kind(items: list[str]) -> str:
    """`--pulse {None}|{FLOAT FLOAT FLOAT}` in words."""
    written = " ".join(items[0].split()[1:]) if items else ""
    words = re.sub(r"\{None\}\|", "", written).strip("{}").split()
    if len(words) > 1 and len(set(words)) == 1 and words[0] in _KINDS:
        return f"{len(words)} {_KINDS[words[0]].removeprefix('a ').removeprefix('whole ')}s"
    return _KINDS.get(words[0], " ".join(words)) if words else "something else"


def _given(name: str, message: str, arguments: Sequence[str]) -> str:
    """What was written behind an argument's name."""
    for place, word in enumerate(arguments):
        if word.partition("=")[0].replace("_", "-") == name and "=" in word:
            return repr(word.partition("=")[2])
        if word.replace("_", "-") == name:
            rest = arguments[place + 1 :]
            end = next((i for i, other in enumerate(rest) if other.startswith("--")), len(rest))
            return repr(" ".join(rest[:end]))
    return message.rpartition(": ")[2]
