"""Campaigns of hurt files against every reader: `python tests/fuzz/campaign.py [LOADER ...] --count 100000`.

File number i of a loader is the same in every run, so a campaign goes on where the last one stopped, and a fault is
met again by `--replay LOADER I`. Files run in a process of their own with little memory and a time limit: one that
crashes or hangs it is a fault like any other, and the campaign goes on behind it. Faulty files are kept in
build/fuzz/faults, counts in build/fuzz/LOADER.json; `--write` sums them up in tests/fuzz/results.json.
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(HERE))
OUT = ROOT / "build" / "fuzz"
RESULTS = HERE / "results.json"
MEMORY = 2 * 2**30
"""Bytes that a file may make a reader ask for, beyond what the process has once everything is imported."""
SECONDS = 20
"""Of a processor, for one file, which takes milliseconds; on a busy machine a clock would call a slow process hung."""
PATIENCE = 3600
"""Seconds by the clock, for a process that waits and computes nothing."""
LOOK = 10
"""Seconds between two looks at how much a silent process has computed."""
BATCH = 20_000
"""Files for one process."""
SAVED = 1000
"""Files between two looks at the state on disk."""


def main() -> int:
    arguments = _arguments()
    if arguments.work:
        return work(*arguments.work[:1], *map(int, arguments.work[1:]))
    if arguments.replay:
        return replay(arguments.replay[0], int(arguments.replay[1]))
    names = arguments.loaders or _names()
    if unknown := set(names) - set(_names()):
        print(f"unknown: {', '.join(sorted(unknown))}; loaders: {', '.join(_names())}")
        return 2
    if arguments.recheck:
        for name in names:
            State(name).recheck()
    elif not arguments.write:
        _run_all(names, arguments.count)
    return _report(arguments.write)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("loaders", nargs="*", metavar="LOADER", help="which; all of them without")
    parser.add_argument("--count", type=int, default=100_000, help="files for each, those of earlier runs included")
    parser.add_argument("--replay", nargs=2, metavar=("LOADER", "I"), help="meet one file again, with a traceback")
    parser.add_argument("--recheck", action="store_true", help="meet the faults of earlier runs again")
    parser.add_argument("--write", action="store_true", help="write the counts so far to tests/fuzz/results.json")
    parser.add_argument("--work", nargs=3, metavar=("LOADER", "FIRST", "LAST"), help=argparse.SUPPRESS)
    return parser.parse_args()


def _names() -> list[str]:
    from loaders import LOADERS

    return list(LOADERS)


# One process that meets files ----------------------------------------------------------------------------------------


def scratch() -> str | None:
    """Where files are written and read again thousands of times: memory, where there is such a folder."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


def work(name: str, first: int, last: int) -> int:
    """Meets files `first` to `last` and prints a line of JSON for each."""
    from loaders import Case

    with tempfile.TemporaryDirectory(dir=scratch()) as folder:
        case = Case.of(name, Path(folder))
        case.loader.load(case.sources[0][0])  # what is imported late or cached counts for nobody
        limit = _used() + MEMORY
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        for index in range(first, last):
            print(json.dumps([index, case.outcome(index).replace(folder, "")[:300]]), flush=True)
    return 0


def _used() -> int:
    """Bytes of address space."""
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


def replay(name: str, index: int) -> int:
    """Meets one file again and lets its error through."""
    from loaders import Case

    with tempfile.TemporaryDirectory() as folder:
        case = Case.of(name, Path(folder))
        path, data = case.hurt(index)
        print(f"{path.name}: {len(data)} bytes; {case.outcome(index)}", flush=True)
        path.write_bytes(data)
        print(case.loader.load(path))
    return 0


# The campaign --------------------------------------------------------------------------------------------------------


def _run_all(names: list[str], count: int) -> None:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns) as progress:
        for name in names:
            state = State(name)
            task = progress.add_task(name, total=count, completed=state.files)
            while state.files < count:
                state.advance(
                    min(count, state.files + BATCH), lambda done, task=task: progress.update(task, completed=done)
                )


class State:
    """What is known of a loader, on disk after every batch."""

    def __init__(self, name: str) -> None:
        self.name, self.path = name, OUT / f"{name}.json"
        known = json.loads(self.path.read_text()) if self.path.exists() else {}
        self.files: int = known.get("files", 0)
        self.outcomes = Counter(known.get("outcomes", {}))
        self.faults: dict[str, str] = known.get("faults", {})
        self.seconds: float = known.get("seconds", 0.0)

    def command(self, last: int) -> list[str]:
        """What meets the files up to `last`."""
        return [sys.executable, str(Path(__file__)), "--work", self.name, str(self.files), str(last)]

    def advance(self, last: int, show: Any) -> None:
        """Meets files up to `last`; one that ends the process is a fault, and the next process starts behind it."""
        begin = time.perf_counter()
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        with subprocess.Popen(self.command(last), stdout=subprocess.PIPE, env=environment, text=True) as process:
            lines = _lines_of(process)
            limit = 10 * SECONDS  # for the first, with all imports
            while self.files < last:
                try:
                    line = _next(lines, process.pid, limit)
                except queue.Empty:
                    process.send_signal(signal.SIGKILL)
                    self._count(self.files, "no answer")
                    break
                if line is None:
                    break
                limit = SECONDS
                index, outcome = json.loads(line)
                self._count(index, outcome)
                show(self.files)
                if self.files % SAVED == 0:
                    begin = self._save(begin)
        if process.returncode > 0:
            raise SystemExit(f"{self.name}: the campaign's own process failed at file {self.files}")
        if process.returncode < 0 and self.files < last and process.returncode != -signal.SIGKILL:
            self._count(self.files, f"crash: {signal.Signals(-process.returncode).name}")
        self._save(begin)

    def recheck(self) -> None:
        """Faults that are mended count as what comes of their files now, and as mended."""
        from loaders import Case

        with tempfile.TemporaryDirectory() as folder:
            case = Case.of(self.name, Path(folder)) if self.faults else None
            for index in list(self.faults) if case else ():
                outcome = case.outcome(int(index)) if case else ""
                if outcome in ("read", "refused"):
                    self.outcomes.update({outcome: 1, "fault": -1, "mended": 1})
                    del self.faults[index]
        self.outcomes = +self.outcomes
        if self.files:
            self._save(time.perf_counter())

    def _count(self, index: int, outcome: str) -> None:
        self.files = index + 1
        kind = outcome if outcome in ("read", "refused") else "fault"
        self.outcomes[kind] += 1
        if kind == "fault":
            self.faults[str(index)] = outcome
            self._keep(index)

    def _keep(self, index: int) -> None:
        """The faulty file itself."""
        from loaders import Case

        with tempfile.TemporaryDirectory() as folder:
            path, data = Case.of(self.name, Path(folder)).hurt(index)
        (OUT / "faults").mkdir(parents=True, exist_ok=True)
        (OUT / "faults" / f"{self.name}-{index}{path.suffix}").write_bytes(data)

    def _save(self, begin: float) -> float:
        """Returns when the next stretch of time begins."""
        now = time.perf_counter()
        self.seconds += now - begin
        OUT.mkdir(parents=True, exist_ok=True)
        known = {"files": self.files, "outcomes": self.outcomes, "faults": self.faults, "seconds": self.seconds}
        self.path.write_text(json.dumps(known, indent=1))
        return now


def _next(lines: queue.Queue[str | None], pid: int, limit: float) -> str | None:
    """A process's next line; queue.Empty once it has computed for `limit` seconds, or waited for `PATIENCE`."""
    begin = _computed(pid)
    for _ in range(PATIENCE // LOOK):
        try:
            return lines.get(timeout=LOOK)
        except queue.Empty:
            if _computed(pid) - begin > limit:
                raise
    raise queue.Empty


def _computed(pid: int) -> float:
    """Seconds of a processor that a process has used (its `utime` and `stime`)."""
    user, system = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def _lines_of(process: subprocess.Popen[str]) -> queue.Queue[str | None]:
    """A process's lines as they come, then None; a queue can be waited for with a limit."""
    lines: queue.Queue[str | None] = queue.Queue()

    def read() -> None:
        for line in process.stdout or ():
            lines.put(line)
        lines.put(None)

    threading.Thread(target=read, daemon=True).start()
    return lines


def _report(write: bool) -> int:
    """A table of all campaigns so far; 1 if there was a fault."""
    from rich.console import Console
    from rich.table import Table

    states = [state for state in map(State, _names()) if state.files]
    table = Table("loader", "files", "read", "refused", "faults", "ms each", title="hurt files", title_justify="left")
    for state in states:
        milliseconds = f"{1000 * state.seconds / state.files:.1f}"
        counts = (state.files, *(state.outcomes[kind] for kind in ("read", "refused", "fault")))
        table.add_row(state.name, *(f"{count:,}" for count in counts), milliseconds)
    console = Console()
    console.print(table)
    faults = [(state.name, index, outcome) for state in states for index, outcome in state.faults.items()]
    for name, index, outcome in faults[:20]:
        console.print(f"{name} {index}: {outcome}", soft_wrap=True, markup=False, highlight=False)
    if write:
        kinds = ("read", "refused", "fault", "mended")
        summary = {s.name: {"files": s.files, **{kind: s.outcomes[kind] for kind in kinds}} for s in states}
        RESULTS.write_text(json.dumps(summary, indent=1) + "\n")
        console.print(f"{RESULTS.relative_to(ROOT)}: {sum(state.files for state in states):,} files")
    return int(bool(faults))


if __name__ == "__main__":
    sys.exit(main())
