"""Keeps CUDA kernels as good as they are, without a GPU: `python benchmarks/cuda_gate.py check`.

Every kernel file is compiled for sm_80, sm_90 and sm_120; registers, spills, memory, instruction mix and occupancy are
compared with cuda_budget.json. The same compiler gives the same machine code, hence always the same verdict. What is
new, gone, worse than the budget or bad without a reason fails.

    check    exit code 0: within the budget; 1: not, and what; 2: no such budget;
             77: cannot tell (no nvcc here, or another one)
    accept   rewrites the budget after an intended change and prints what moved
    table    prints all figures
"""

from __future__ import annotations

import time
from pathlib import Path

from cuda_budget import PATH, Budget, Entry, changes, come_and_gone, judged, places, unexplained
from cuda_kernels import (
    ARCHITECTURES,
    EXEMPT,
    Figures,
    Tools,
    build_flags,
    code_flags,
    measure,
)
from gate import ROOT, BadInput, Broken, CannotTell, console, main
from rich.console import Console
from rich.table import Table
from tyro.conf import Positional

FOLDER = ROOT / "build" / "cuda-gate"


def check(only: Positional[str] = "", budget: Path = PATH) -> int:
    """Compare all kernels with the budget.

    Args:
        only: Look only at kernel files whose path contains this.
        budget: The file with the figures.
    """
    start = time.perf_counter()
    if not budget.is_file():
        raise BadInput(f"--budget {budget}: no such file")
    tools, was = Tools.find(), Budget.load(budget)
    for name, version in was.tools.items():
        if tools.versions[name] != version:
            raise CannotTell(f"the budget was made with {name} {version}, here is {tools.versions[name]}")
    files, flags = _measure(tools, was, only)
    was.files = {name: kernels for name, kernels in was.files.items() if only in name}
    moved = changes(was, files)
    beyond = come_and_gone(was, files) + [str(change) for change in moved if change.beyond] + unexplained(files)
    if was.flags != flags:
        beyond.insert(0, f"compiler flags are {flags!r}, were {was.flags!r}")
    for line in beyond:
        console.print(line)
    codes = {place: figures["code"] for place, figures in places(was.files)}
    now = dict(places(files))
    same = sum(codes.get(place) == figures["code"] for place, figures in now.items())
    console.print(
        f"CUDA kernels: {len(now)} on sm_{', sm_'.join(map(str, ARCHITECTURES))}; {same} are the same machine code as "
        f"in the budget; complaints: {len(beyond)}; nvcc {tools.versions['nvcc']}, {time.perf_counter() - start:.0f} s"
    )
    for name, why in EXEMPT.items():
        if (ROOT / name).exists() and only in name:
            console.print(f"not judged: {name} ({why})")
    if beyond:
        console.print(f"If this is meant, `python {Path(__file__).relative_to(ROOT)} accept` makes it the budget.")
    return 1 if beyond else 0


def accept(only: Positional[str] = "", budget: Path = PATH, why: str = "") -> int:
    """Make what the compiler says now the budget, and print what that changes.

    Args:
        only: Take only kernel files whose path contains this; the others keep their budget.
        budget: The file with the figures.
        why: The reason to give for bad figures that have none yet.
    """
    tools, was = Tools.find(), Budget.load(budget)
    files, flags = _measure(tools, was, only)
    if only and was.files and (was.tools, was.flags) != (tools.versions, flags):
        raise Broken("another compiler or other flags: accept all files together")
    kept = {name: kernels for name, kernels in was.files.items() if only not in name}
    was.files = {name: kernels for name, kernels in was.files.items() if only in name}
    for line in [*come_and_gone(was, files), *map(str, changes(was, files))]:
        console.print(line)
    for kernels in files.values():
        for entry in kernels.values():
            if why and unexplained({"": {"": entry}}):
                entry.why = entry.why or why
    Budget(tools.versions, flags, kept | files).save(budget)
    lines = unexplained(files)
    for line in lines:
        console.print(line)
    count = sum(1 for _ in places(files))
    console.print(f"Accepted: {count} kernels in {budget.name}" + ("; add what is missing there." if lines else "."))
    return 1 if lines else 0


def table(only: Positional[str] = "", architecture: int = 90, budget: Path = PATH) -> int:
    """Print the figures of all kernels on one architecture.

    Args:
        only: Only of kernel files whose path contains this.
        architecture: 80, 90 or 120.
        budget: Where `dynamic_shared` comes from, which the occupancy depends on.
    """
    files, _ = _measure(Tools.find(), Budget.load(budget), only)
    sheet = Table(title=f"sm_{architecture}", title_justify="left", box=None)
    sheet.add_column("kernel", no_wrap=True)
    for column in COLUMNS.split():
        sheet.add_column(column.replace("_", " "), justify="right")
    for (_, kernel, variant, where), figures in places(files):
        if where == f"sm_{architecture}":
            sheet.add_row(kernel + variant, *_cells(figures))
    Console(width=max(console.width, 260)).print(sheet)
    return 0


COLUMNS = (
    "threads registers spills shared occupancy limited_by instructions single special loads_16/8/4/2/1_B "
    "stores_16/8/4/2/1_B shared_loads/stores atomics barriers shuffles local double"
)


def _cells(f: Figures) -> list[str]:
    """The figures under COLUMNS."""

    def counts(*names: str) -> str:
        return "/".join(str(f.get(name, 0)) for name in names)

    loads, stores = (counts(*(f"global_{way}_{n}" for n in (16, 8, 4, 2, 1))) for way in ("loads", "stores"))
    memory = str(f["static_shared"] + f["dynamic_shared"])
    return [
        *(counts(name) for name in ("threads", "registers", "spills")),
        *(memory, f"{f['occupancy']}%", f["limit"]),
        *(counts(name) for name in ("instructions", "single", "special")),
        *(loads, stores, counts("shared_loads", "shared_stores")),
        *(counts(name) for name in ("atomics", "barriers", "shuffles", "local", "double")),
    ]


def _measure(tools: Tools, was: Budget, only: str) -> tuple[dict[str, dict[str, Entry]], str]:
    """The kernels of the chosen files, and the flags that are common to all files."""
    flags = {name: options for name, options in build_flags(tools, FOLDER).items() if name not in EXEMPT}
    common = {code_flags(options) for options in flags.values()}
    if len(common) != 1:
        raise Broken(f"kernel files are compiled with different flags: {sorted(common)}")
    chosen = {name: options for name, options in flags.items() if only in name}
    if not chosen:
        raise Broken(f"no kernel file's path contains {only!r}")
    return judged(measure(tools, chosen, FOLDER), was), common.pop()


if __name__ == "__main__":
    main("CUDA kernels", {"check": check, "accept": accept, "table": table}, __doc__)
