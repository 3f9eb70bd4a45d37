"""When, where and of which revision figures were taken: what every file of `emogs bench` carries, by the same names."""

from __future__ import annotations

import os
import re
from datetime import datetime, timezone
from pathlib import Path

import speed_machine
from gate import Broken, run

import emogs


def machine(quick: bool) -> dict[str, object]:
    """Only what times depend on, no name of the machine; how busy it was, and whether the sizes are toys."""
    return {"emogs": speed_machine.fingerprint(), "load": round(os.getloadavg()[0], 2), "quick": quick}


def commit(package: str | Path = emogs.__file__) -> dict[str, object]:
    """Of the emogs that is imported, wherever the call came from; of an unpacked revision by its folder's name, as
    `compare` builds it."""
    folder = Path(package).resolve().parent

    def git(*arguments: str) -> str:
        try:
            return run(["git", "-C", str(folder), *arguments]).strip()
        except Broken:  # no repository, no such name, or no git
            return ""

    is_tracked = bool(git("ls-files", "__init__.py"))
    name = "HEAD" if is_tracked else folder.parent.name
    known = git("rev-parse", "--verify", "--quiet", f"{name}^{{commit}}")
    if not is_tracked and not (re.fullmatch("[0-9a-f]{7,40}", name) and known.startswith(name)):
        known = ""  # some branch of that name, or a wheel
    return {
        "id": known or "unknown",
        "time": git("log", "-1", "--format=%cI", known) if known else "",
        "dirty": is_tracked and bool(git("status", "--porcelain", "-uno")),
    }


def stamp(quick: bool) -> dict[str, object]:
    """As pytest-benchmark names them."""
    date = datetime.now(timezone.utc).isoformat(timespec="seconds")
    return {"machine_info": machine(quick), "commit_info": commit(), "datetime": date}
