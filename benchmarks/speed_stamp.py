"""When, where and of which revision figures were taken: what every file of `emogs bench` carries, by the same names."""

from __future__ import annotations

import os
import subprocess
from datetime import datetime, timezone

import speed_machine

import emogs


def machine(quick: bool) -> dict[str, object]:
    """Only what times depend on, no name of the machine; how busy it was, and whether the sizes are toys."""
    return {"emogs": speed_machine.fingerprint(), "load": round(os.getloadavg()[0], 2), "quick": quick}


def commit() -> dict[str, object]:
    """Of the emogs that is imported, wherever the call came from."""
    folder = os.path.dirname(emogs.__file__)

    def git(*arguments: str) -> str:
        return subprocess.run(["git", "-C", folder, *arguments], capture_output=True, text=True).stdout.strip()

    return {
        "id": git("rev-parse", "HEAD") or "unknown",
        "time": git("log", "-1", "--format=%cI"),
        "dirty": bool(git("status", "--porcelain", "-uno")),
    }


def stamp(quick: bool) -> dict[str, object]:
    """As pytest-benchmark names them."""
    date = datetime.now(timezone.utc).isoformat(timespec="seconds")
    return {"machine_info": machine(quick), "commit_info": commit(), "datetime": date}
