"""What became of a benchmark over revisions: one line a machine, in units of a copy, as geometry for a picture.

Lines of different machines never meet. A run that lacks the benchmark is a hole: the line stops before it, and a mark
stands at its place.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from speed_files import Benchmark, Run

WIDTH, HEIGHT = 320.0, 120.0
LEFT, RIGHT, TOP, BOTTOM = 42.0, 12.0, 10.0, 20.0
LEAST_SPAN = 1.5  # of an axis, largest by smallest, so that noise does not fill the picture


@dataclass(frozen=True)
class Point:
    x: float
    y: float
    top: float
    """Where the median is; the point itself is the best."""
    said: str


@dataclass
class Line:
    """One machine."""

    machine: int
    segments: list[list[Point]] = field(default_factory=list)
    holes: list[Point] = field(default_factory=list)


@dataclass(frozen=True)
class Chart:
    name: str
    lines: list[Line]
    ticks: list[tuple[float, str]]
    """Height and label."""
    places: list[tuple[float, str]]
    """Of some of the runs, with their revisions."""
    width: float = WIDTH
    height: float = HEIGHT


def machines_of(runs: Sequence[Run]) -> list[tuple[tuple[str, str], ...]]:
    """Fingerprints, in the order of their first run."""
    return list(dict.fromkeys(run.origin.machine for run in runs))


def short(value: float) -> str:
    """Three digits, and no more zeros than needed."""
    return f"{value:.3g}" if value < 1000 else f"{value:,.0f}"


def chart(name: str, runs: Sequence[Run]) -> Chart:
    """A benchmark over all runs, the oldest first; those on machines that never had it have no line."""
    machines = machines_of(runs)
    known = [(place, run) for place, run in enumerate(runs) if name in run.benchmarks]
    values = [run.benchmarks[name].copies(s) for _, run in known for s in bounds(run.benchmarks[name])]
    low, high = spread(min(values), max(values))

    def x(place: int) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * (place / (len(runs) - 1) if len(runs) > 1 else 0.5)

    def y(value: float) -> float:
        return TOP + (HEIGHT - TOP - BOTTOM) * math.log(high / value) / math.log(high / low)

    lines = []
    for number, machine in enumerate(machines):
        own = [(place, run) for place, run in enumerate(runs) if run.origin.machine == machine]
        if any(name in run.benchmarks for _, run in own):
            lines.append(line_of(name, number, own, x, y))
    ticks = [(y(value), short(value)) for value in (low, math.sqrt(low * high), high)]
    shown = sorted({0, len(runs) - 1})
    return Chart(name, lines, ticks, [(x(place), runs[place].origin.revision[:7]) for place in shown])


def bounds(benchmark: Benchmark) -> tuple[float, float]:
    return benchmark.best, benchmark.median


def spread(low: float, high: float) -> tuple[float, float]:
    """The ends of a logarithmic axis."""
    low, high = low / 1.05, high * 1.05
    if high / low < LEAST_SPAN:
        middle = math.sqrt(low * high)
        low, high = middle / math.sqrt(LEAST_SPAN), middle * math.sqrt(LEAST_SPAN)
    return low, high


def line_of(name: str, number: int, own: Sequence[tuple[int, Run]], x, y) -> Line:
    """A machine's line through its own runs, from the first that has the benchmark."""
    line, segment = Line(number), []
    for place, run in own:
        said = f"{run.origin.revision}, {run.origin.date:%Y-%m-%d %H:%M}"
        if name in run.benchmarks:
            made = run.benchmarks[name]
            best, median = (made.copies(seconds) for seconds in bounds(made))
            text = f"{said}: {short(1e3 * made.best)} ms, {short(best)} copies (median {short(median)})"
            segment.append(Point(x(place), y(best), y(median), text))
            continue
        if segment:
            line.segments.append(segment)
            segment = []
        line.holes.append(Point(x(place), HEIGHT - BOTTOM, HEIGHT - BOTTOM, f"{said}: not measured"))
    if segment:
        line.segments.append(segment)
    return line
