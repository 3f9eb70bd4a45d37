"""`emogs bench report`: one HTML page of everything that the other commands measured, without scripts and network.

speed_files.py reads, speed_history.py draws, speed_page.html.j2 is the page; here the figures are put into its words.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
import speed_history
from measure import Group
from speed_contests import EMOGS
from speed_files import Benchmark, Found, Run
from speed_ratios import ABOVE, TOY, UNSURE, WITHIN

HERE = Path(__file__).resolve().parent
MARKS = {WITHIN: "good", ABOVE: "bad", UNSURE: "unsure", TOY: "muted"}


@dataclass(frozen=True)
class Row:
    """A benchmark as the table has it."""

    size: str
    direction: str
    times: tuple[str, str]
    speed: str
    of_limit: str
    bar: float
    """Percent of a full one, which is the limit."""
    limit: str
    pairs: str


def named(benchmark: Benchmark) -> tuple[str, str]:
    """The size with its type and device, and the direction."""
    *size, direction, device = benchmark.name.split("/")[1:] or [benchmark.name, "", ""]
    return " ".join([*size, *([] if device == "cpu" else [device])]), direction


def row_of(benchmark: Benchmark) -> Row:
    size, direction = named(benchmark)
    pairs = "" if benchmark.pairs_per_second is None else speed_history.short(1e-6 * benchmark.pairs_per_second)
    times = tuple(speed_history.short(1e3 * seconds) for seconds in (benchmark.best, benchmark.median))
    speed, share = speed_history.short(benchmark.gigabytes_per_second), benchmark.of_limit
    return Row(size, direction, times, speed, f"{share:.2f}", min(100.0, 100 * share), benchmark.limit, pairs)


def tables(run: Run) -> dict[str, list[Row]]:
    """Rows by operation."""
    found: dict[str, list[Row]] = {}
    for benchmark in run.benchmarks.values():
        found.setdefault(benchmark.operation, []).append(row_of(benchmark))
    return found


def latest(runs: Iterable[Run]) -> list[Run]:
    """The last of every machine, the newest first; toy sizes only where there is nothing else."""
    found: dict[object, Run] = {}
    for run in sorted(runs, key=lambda run: (not run.origin.quick, run.origin.order)):
        found[run.origin.machine] = run
    return sorted(found.values(), key=lambda run: run.origin.date, reverse=True)


def bars(contest: dict[str, Any]) -> list[dict[str, Any]]:
    """By direction, every way in units of emogs; lengths in percent of the slowest."""
    found = []
    for direction, samples in contest["seconds"].items():
        if EMOGS not in samples:
            continue
        group = Group(direction, samples)
        ratios = {way: group.ratio(way, way, EMOGS) for way in samples}
        most = max(ratio.median for ratio in ratios.values())
        ways = [
            {
                "way": way,
                "milliseconds": speed_history.short(1e3 * statistics.median(samples[way])),
                "times": "" if way == EMOGS else f"{speed_history.short(ratio.median)}x",
                "interval": "" if way == EMOGS else f"{ratio.low:.2f} to {ratio.high:.2f}",
                "length": max(0.6, 100 * ratio.median / most),
                "is_faster": way != EMOGS and ratio.median < 1,
            }
            for way, ratio in ratios.items()
        ]
        found.append({"direction": direction, "ways": ways})
    return found


def contests_of(found: Found) -> list[dict[str, Any]]:
    """The contests of the last file of peers of every machine."""
    last = {peers.origin.machine: peers for peers in sorted(found.peers, key=lambda peers: peers.origin.date)}
    return [
        {
            "origin": peers.origin,
            "contests": [contest | {"bars": bars(contest)} for contest in peers.contests],
            "means": means(peers.contests),
        }
        for peers in last.values()
    ]


def means(contests: Sequence[dict[str, Any]]) -> list[tuple[str, str, str, int]]:
    """Way, direction, the geometric mean of its time in units of emogs, over how many."""
    logs: dict[tuple[str, str], list[float]] = {}
    for contest in contests:
        for direction, samples in contest["seconds"].items():
            for way in samples:
                if way != EMOGS and EMOGS in samples:
                    median = Group(direction, samples).ratio(way, way, EMOGS).median
                    logs.setdefault((way, direction), []).append(math.log(median))
    return [
        (way, direction, f"{math.exp(statistics.fmean(values)):.1f}", len(values))
        for (way, direction), values in logs.items()
    ]


def ratios_of(found: Found) -> list[dict[str, Any]]:
    """The last file of ratios of every machine; positions are percents of 1.25 times the bound."""
    last = {ratios.origin.machine: ratios for ratios in sorted(found.ratios, key=lambda ratios: ratios.origin.date)}

    def drawn(ratio: dict[str, Any]) -> dict[str, Any]:
        full = 1.25 * ratio["bound"] if ratio["bound"] else 1.0
        low, median, high = (min(100.0, 100 * ratio[key] / full) for key in ("low", "median", "high"))
        return ratio | {"mark": MARKS[ratio["verdict"]], "at": {"low": low, "median": median, "high": high}}

    def count(ratios: Sequence[dict[str, Any]]) -> dict[str, int]:
        return {v: n for v in MARKS if (n := sum(ratio["verdict"] == v for ratio in ratios))}

    return [
        {"origin": each.origin, "ratios": [drawn(r) for r in each.ratios], "count": count(each.ratios)}
        for each in last.values()
    ]


def forest(test: dict[str, Any]) -> dict[str, Any]:
    """The gate's verdicts on itself, identical code first; where intervals are, in percent of an axis of ratios."""
    rows = sorted(test["verdicts"], key=lambda row: (row["name"], row["ratio"]))
    ends = [1.0, 1 + test["tolerance"], *(row[key] for row in rows for key in ("low", "high"))]
    low, high = min(ends) - 0.01, max(ends) + 0.01

    def at(ratio: float) -> float:
        return 100 * (ratio - low) / (high - low)

    lines = [row | {"at": {key: at(row[key]) for key in ("low", "ratio", "high")}} for row in rows]
    return {"rows": lines, "one": at(1.0), "allowed": at(1 + test["tolerance"])}


def charts(runs: Sequence[Run]) -> dict[str, list[speed_history.Chart]]:
    """By operation, a chart for every benchmark, where two runs can be compared; toy sizes are no history."""
    real = [run for run in runs if not run.origin.quick]
    if len(real) < 2:
        return {}
    found: dict[str, list[speed_history.Chart]] = {}
    for name in dict.fromkeys(name for run in reversed(real) for name in run.benchmarks):
        found.setdefault(name.split("/")[0], []).append(speed_history.chart(name, real))
    return found


Machine = tuple[tuple[str, str], ...]


def legend(machines: Sequence[Machine]) -> list[str]:
    """Of the lines: each in a few words, and what else tells it from the others."""
    told = ("cpu", "instruction_set", "threads", "gpus")
    others = sorted({name for machine in machines for name, _ in machine} - set(told))
    other = [name for name in others if len({dict(machine).get(name) for machine in machines}) > 1]
    return [
        ", ".join([label(machine), *(f"{name} {dict(machine).get(name, 'not recorded')}" for name in other)])
        for machine in machines
    ]


def label(machine: Machine) -> str:
    """A machine in a few words."""
    facts = dict(machine)
    gpus = "" if facts.get("gpus", "none") == "none" else f", {facts['gpus']}"
    return (
        f"{facts.get('cpu', 'unknown')}, {facts.get('instruction_set', '?')}, {facts.get('threads', '?')} threads{gpus}"
    )


@cache
def template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"label": label, "short": speed_history.short}
    return environment.get_template("speed_page.html.j2")


def page(found: Found) -> str:
    """The whole page; equal files give equal bytes."""
    real = [run for run in found.runs if not run.origin.quick]
    newest = latest(found.runs)
    origins = [each.origin for each in (*newest, *found.peers, *found.ratios)]
    counts = found.counts[-1][1] if found.counts else None
    return template().render(
        newest=[(run, tables(run)) for run in newest],
        machines=legend(speed_history.machines_of(real)),
        charts=charts(found.runs),
        runs=real,
        peers=contests_of(found),
        ratios=ratios_of(found),
        selftests=[content | {"picture": forest(content)} for _, content in found.selftests],
        counts=counts,
        latest=max(origins, key=lambda origin: origin.date) if origins else None,
        quick=any(origin.quick for origin in origins),
        crowded=[origin for origin in origins if origin.is_crowded],
        emogs=EMOGS,
    )
