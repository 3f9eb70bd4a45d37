"""Reads what `emogs bench` leaves: runs, peers, ratios, the gate's test of itself, instruction counts.

A file is recognised by what it holds, not by its name. What does not fit is a ValueError that names file and field.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import speed_peers
import speed_ratios

LONGEST = 64 << 20  # bytes of a file
LEAST, MOST = 1e-12, 1e15  # of anything that is measured


@dataclass(frozen=True)
class Origin:
    """Where, when and of which revision figures are."""

    path: Path
    machine: tuple[tuple[str, str], ...]
    """The fingerprint; runs belong together only where it is the same."""
    load: float
    quick: bool
    revision: str
    commit_time: datetime | None
    date: datetime

    @property
    def cores(self) -> int:
        """As the fingerprint has them; 1 if it does not."""
        words = dict(self.machine).get("cpu", "").split()
        return int(words[-3]) if words[-2:] == ["logical", "cores"] and words[-3].isdigit() else 1

    @property
    def is_crowded(self) -> bool:
        """Others had more than half a core when it began."""
        return self.load > 0.5

    @property
    def order(self) -> tuple[float, float]:
        """Of a history: by commit, then by time."""
        return (self.commit_time or self.date).timestamp(), self.date.timestamp()


@dataclass(frozen=True)
class Benchmark:
    """One line of a run."""

    name: str
    best: float
    """Seconds."""
    median: float
    bytes: float
    gigabytes_per_second: float
    copy: float
    """GB/s beside it."""
    of_copy: float
    of_limit: float
    limit: str
    pairs_per_second: float | None

    @property
    def operation(self) -> str:
        return self.name.split("/")[0]

    def copies(self, seconds: float) -> float:
        """In units of a copy of as many bytes."""
        return seconds * self.copy * 1e9 / self.bytes


@dataclass(frozen=True)
class Run:
    origin: Origin
    benchmarks: dict[str, Benchmark]


@dataclass(frozen=True)
class Peers:
    origin: Origin
    contests: list[dict[str, Any]]


@dataclass(frozen=True)
class Ratios:
    origin: Origin
    ratios: list[dict[str, Any]]


@dataclass
class Found:
    """All files of a report."""

    runs: list[Run] = field(default_factory=list)
    peers: list[Peers] = field(default_factory=list)
    ratios: list[Ratios] = field(default_factory=list)
    selftests: list[tuple[Path, dict[str, Any]]] = field(default_factory=list)
    counts: list[tuple[Path, dict[str, Any]]] = field(default_factory=list)


class Fields:
    """An object of a file, whose fields are checked as they are read."""

    def __init__(self, path: Path, place: str, content: object) -> None:
        self.path, self.place = path, place
        if not isinstance(content, dict):
            raise self.error("", "an object", content)
        self.content: dict[str, Any] = content

    def error(self, name: str, expected: str, got: object) -> ValueError:
        where = ".".join(part for part in (self.place, name) if part) or "the whole"
        return ValueError(f"{self.path}: {where}: expected {expected}, got {repr(got)[:80]}")

    def text(self, name: str) -> str:
        value = self.content.get(name)
        if not isinstance(value, str) or not value or len(value) > 4000:
            raise self.error(name, "text", value)
        return value

    def number(self, name: str, least: float = 0.0) -> float:
        """A finite number of at least `least`."""
        value = self.content.get(name)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not least <= value <= MOST:
            raise self.error(name, f"a number from {least:g} to {MOST:g}", value)
        return float(value)

    def flag(self, name: str) -> bool:
        value = self.content.get(name)
        if not isinstance(value, bool):
            raise self.error(name, "true or false", value)
        return value

    def date(self, name: str) -> datetime:
        try:
            value = datetime.fromisoformat(self.text(name).replace("Z", "+00:00"))
        except ValueError:
            raise self.error(name, "a date with its time zone", self.content.get(name)) from None
        if value.tzinfo is None:
            raise self.error(name, "a date with its time zone", self.content[name])
        return value

    def object(self, name: str) -> Fields:
        return Fields(self.path, ".".join(filter(None, (self.place, name))), self.content.get(name))

    def objects(self, name: str) -> list[Fields]:
        value = self.content.get(name)
        if not isinstance(value, list):
            raise self.error(name, "a list", value)
        return [Fields(self.path, f"{self.place}{name}[{i}]", each) for i, each in enumerate(value)]

    def numbers(self, name: str) -> list[float]:
        value = self.content.get(name)
        if not isinstance(value, list) or not value:
            raise self.error(name, "a list of numbers", value)
        row = Fields(self.path, f"{self.place}.{name}", {str(i): each for i, each in enumerate(value)})
        return [max(row.number(key), 1e-7) for key in row.content]  # as times are rounded

    def texts(self) -> dict[str, str]:
        """All of it, by name."""
        return {name: self.text(name) for name in self.content}


def read_json(path: Path) -> dict[str, Any]:
    """The object in a file.

    Raises:
        ValueError: it cannot be read, is no JSON, or is no object.
    """

    def refuse(word: str) -> float:
        raise ValueError(f"{word} is no number")

    try:
        if path.stat().st_size > LONGEST:
            raise ValueError(f"{path}: longer than {LONGEST >> 20} MB")
        content = json.loads(path.read_text(), parse_constant=refuse)
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        reason = "nested too deep" if isinstance(error, RecursionError) else str(error)
        raise ValueError(reason if reason.startswith(str(path)) else f"{path}: not JSON: {reason}") from None
    return Fields(path, "", content).content


def origin_of(top: Fields) -> Origin:
    where, commit = top.object("machine_info"), top.object("commit_info")
    machine = tuple(sorted(where.object("emogs").texts().items()))
    revision = commit.text("id")[:10] + ("+" if commit.flag("dirty") else "")
    time = commit.date("time") if commit.content.get("time") else None
    quick = where.flag("quick")
    return Origin(top.path, machine, where.number("load"), quick, revision, time, top.date("datetime"))


def benchmark_of(entry: Fields) -> Benchmark:
    extra, stats = entry.object("extra_info"), entry.object("stats")
    best, size = stats.number("min", LEAST), extra.number("bytes", 1)
    pairs = extra.number("pairs_per_second") if "pairs_per_second" in extra.content else None
    name = entry.text("name").removeprefix("test_speed[").removesuffix("]")
    speed, copy, of_copy = (
        extra.number(key, LEAST) for key in ("gigabytes_per_second", "copy_gigabytes_per_second", "of_copy")
    )
    limit, of_limit = extra.text("limit"), extra.number("of_limit", LEAST)
    return Benchmark(name, best, stats.number("median", LEAST), size, speed, copy, of_copy, of_limit, limit, pairs)


def run_of(top: Fields) -> Run:
    benchmarks: dict[str, Benchmark] = {}
    for entry in top.objects("benchmarks"):
        made = benchmark_of(entry)
        if made.name in benchmarks:
            raise entry.error("name", "a name that no other has", made.name)
        benchmarks[made.name] = made
    return Run(origin_of(top), benchmarks)


def contest_of(entry: Fields) -> dict[str, Any]:
    directions = {}
    for direction in entry.object("seconds").content:
        ways = entry.object("seconds").object(direction)
        directions[direction] = {way: ways.numbers(way) for way in ways.content}
        if len({len(samples) for samples in directions[direction].values()}) > 1:
            raise ways.error("", "as many samples of every way", "other numbers of them")
    apart = entry.object("differences")
    unequal = entry.content.get("unequal")
    if not isinstance(unequal, list) or not all(isinstance(way, str) for way in unequal):
        raise entry.error("unequal", "a list of names", unequal)
    if not isinstance(entry.content.get("not_same"), str):
        raise entry.error("not_same", "text", entry.content.get("not_same"))
    others = None if entry.content.get("peer_tolerance") is None else entry.number("peer_tolerance")
    return {
        "name": entry.text("name"),
        "tolerance": entry.number("tolerance"),
        "peer_tolerance": others,
        "not_same": entry.content["not_same"],
        "missing": entry.object("missing").texts(),
        "unequal": unequal,
        "differences": {way: None if apart.content[way] is None else apart.number(way) for way in apart.content},
        "seconds": directions,
    }


def ratio_of(entry: Fields) -> dict[str, Any]:
    names = ("median", "low", "high", "bound")
    figures = {name: entry.number(name) for name in names}
    verdict = entry.text("verdict")
    if verdict not in speed_ratios.VERDICTS:
        raise entry.error("verdict", f"one of {', '.join(speed_ratios.VERDICTS)}", verdict)
    return {"name": entry.text("name"), "verdict": verdict, **figures}


def counts_of(top: Fields) -> dict[str, Any]:
    counts = top.object("counts")
    each = {name: counts.object(name) for name in counts.content}
    return {
        "machine": top.text("machine"),
        "counts": {n: (e.number("instructions"), e.number("work", 1), e.text("unit")) for n, e in each.items()},
    }


def selftest_of(top: Fields) -> dict[str, Any]:
    """Verdicts of the gate on code whose speed is known, and whether each is right."""
    rows = []
    for entry in top.objects("verdicts"):
        row = {name: entry.text(name) for name in ("name", "verdict", "expected")}
        figures = {name: entry.number(name, LEAST) for name in ("low", "ratio", "high")}
        if not figures["low"] <= figures["ratio"] <= figures["high"]:
            raise entry.error("", "low <= ratio <= high", list(figures.values()))
        asked = {name: entry.number(name) for name in ("pairs", "load")}
        rows.append(row | figures | asked | {"is_right": row["verdict"] == row["expected"]})
    facts = {"benchmark": top.text("benchmark"), "tolerance": top.object("settings").number("tolerance")}
    return facts | {"twice": top.number("twice"), "pieces": top.text("pieces"), "verdicts": rows}


def add(found: Found, path: Path) -> None:
    """Reads one file.

    Raises:
        ValueError: it is none that a report shows, or does not fit.
    """
    top = Fields(path, "", read_json(path))
    kind = top.content.get("kind")
    if kind == speed_peers.KIND:
        found.peers.append(Peers(origin_of(top), [contest_of(entry) for entry in top.objects("contests")]))
    elif kind == speed_ratios.KIND:
        found.ratios.append(Ratios(origin_of(top), [ratio_of(entry) for entry in top.objects("ratios")]))
    elif "benchmarks" in top.content:
        found.runs.append(run_of(top))
    elif "counts" in top.content:
        found.counts.append((path, counts_of(top)))
    elif "verdicts" in top.content:
        found.selftests.append((path, selftest_of(top)))
    else:
        raise top.error("", "what emogs bench run, peers, ratios or the gate wrote", sorted(top.content)[:6])


def read_all(paths: Iterable[Path]) -> Found:
    """All files; of a folder all *.json in it and below it.

    Raises:
        ValueError: one is not there, is none that a report shows, or does not fit.
    """
    found = Found()
    for path in paths:
        files = sorted(path.rglob("*.json")) if path.is_dir() else [path]
        if not files:
            raise ValueError(f"{path}: no *.json in this folder")
        for file in files:
            add(found, file)
    once = {(run.origin.machine, run.origin.revision, run.origin.date): run for run in found.runs}  # a kept run, twice
    found.runs = sorted(once.values(), key=lambda run: run.origin.order)
    return found
