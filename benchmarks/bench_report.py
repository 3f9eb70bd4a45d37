"""What a benchmark leaves behind: a table on the terminal, every sample as JSON, the scaling as a picture."""

from __future__ import annotations

import dataclasses
import json
import platform
import re
from datetime import datetime, timezone
from pathlib import Path

import speed_stamp
from matplotlib.figure import Figure as Canvas
from measure import Figure, Group
from pair_loop import PairLoop
from rich.console import Console
from rich.table import Table
from speed_machine import cpu_name

from emogs.info import info


def environment(loop: PairLoop | None = None) -> dict[str, object]:
    """Where and on what this ran; no names of machines or paths."""
    about = info() | {"cpu": cpu_name(), "system": f"{platform.system()} {platform.machine()}"}
    about |= {"revision": revision(), "date": datetime.now(timezone.utc).isoformat(timespec="seconds")}
    if loop is not None:
        about |= {"compiler": loop.version(), "compiler_flags": loop.flags}
    return about


def revision() -> str:
    """The commit of the emogs that is measured, with "+" where files differ from it."""
    commit = speed_stamp.commit()
    return f"{str(commit['id'])[:7]}{'+' if commit['dirty'] else ''}"


def print_table(where: dict[str, object], groups: list[Group], figures: list[Figure], quick: bool) -> None:
    """Times of every case, then ratios with their intervals and targets; a quick run says what it is."""
    console = Console(width=110)
    console.print(
        f"emogs {where['version']} ({where['revision']}), [bold]{where['instruction_set']}[/], "
        f"{where['threads']} threads, {where['cpu']}; torch {where['torch']}; {where.get('compiler', '')}"
    )
    times = Table("case", "median ms", "best ms", title="Times (a shared machine: only the ratios below mean much)")
    for group in groups:
        notes = ", ".join(f"{name} {value}" for name, value in group.notes.items() if name not in ("axis", "value"))
        times.add_section()
        times.add_row(f"[bold]{group.name}[/] ({notes})", "", "")
        for case in group.samples:
            times.add_row(f"  {case}", f"{group.milliseconds(case).median:.2f}", f"{group.best(case):.2f}")
    console.print(times)
    ratios = Table("figure", "median", "95% interval", "target", "", title="Paired ratios")
    for figure in figures:
        sign = ">=" if figure.larger_is_better else "<="
        target = "" if figure.target is None else f"{sign} {figure.target:g} {figure.unit}"
        verdict = {None: "", True: "[green]met[/]", False: "[red]missed[/]"}[figure.met]
        interval = "" if figure.low == figure.high else f"{figure.low:.2f} to {figure.high:.2f}"
        ratios.add_row(figure.name, f"{figure.median:.2f} {figure.unit}", interval, target, verdict)
    console.print(ratios)
    if quick:
        console.print("--quick only shows that everything runs: these figures mean nothing.")


def results(quick: bool) -> Path:
    """Where files go by default: those of a smoke run must not replace a measurement."""
    folder = Path(__file__).with_name("results")
    return folder / "quick" if quick else folder


def write(
    folder: Path,
    name: str,
    where: dict[str, object],
    settings: dict[str, object],
    groups: list[Group],
    figures: list[Figure],
) -> None:
    """`name`.json, and `name`.png where there is scaling to show."""
    folder.mkdir(parents=True, exist_ok=True)
    content = {
        "environment": where,
        "settings": settings,
        "figures": [dataclasses.asdict(figure) | {"met": figure.met} for figure in figures],
        "groups": [dataclasses.asdict(group) for group in groups],
    }
    text = json.dumps(content, indent=1)
    numbers = re.compile(r"\[[\s\d.,e-]+\]")  # a list of samples stays on one line
    (folder / f"{name}.json").write_text(numbers.sub(lambda m: " ".join(m.group().split()), text) + "\n")
    if any("axis" in group.notes for group in groups):
        draw_scaling(folder / f"{name}.png", where, groups)


def draw_scaling(path: Path, where: dict[str, object], groups: list[Group]) -> None:
    """Best times over each axis, log-log, one panel an axis; the grey line is proportional."""
    axes: dict[str, list[Group]] = {}
    for group in groups:
        if "axis" in group.notes:
            axes.setdefault(str(group.notes["axis"]), []).append(group)
    canvas = Canvas(figsize=(4 * len(axes), 3.6), layout="constrained")
    panels = canvas.subplots(1, len(axes), squeeze=False)
    for panel, (axis, members) in zip(panels[0], axes.items(), strict=True):
        values = [member.notes["value"] for member in members]
        for case in members[0].samples:
            panel.loglog(values, [member.best(case) for member in members], "o-", label=case, markersize=3)
        first = members[0].best("forward")
        panel.loglog(values, [first * v / values[0] for v in values], color="0.8", zorder=0, label="proportional")
        panel.set_xlabel(axis)
        panel.grid(True, which="both", linewidth=0.3)
    panels[0][0].set_ylabel("best of the rounds, ms")
    panels[0][0].legend(fontsize=7)
    title = f"emogs.rasterize, {where['instruction_set']}, {where['threads']} threads, {where['cpu']}"
    canvas.suptitle(title, fontsize=9)
    canvas.savefig(path, dpi=130)
