"""`emogs bench docs`: the tables in docs/ that quote stored results, written from those, so that nobody types a figure.

A table stands between `<!-- table NAME -->` and `<!-- end of table -->`; TABLES says where its figures come from.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from gate import ROOT
from measure import Figure, Group
from speed_check import guide_table
from speed_contests import COMPILED, EAGER, EMOGS
from speed_files import Origin, read_all
from speed_page import label, means
from speed_reference import PATH, Reference

RESULTS = Path(__file__).resolve().parent / "results"
DIRECTIONS = ("forward", "forward + backward")
Cells = Iterable[object]


def table(head: Cells, rows: Iterable[Cells], *below: str) -> str:
    """Markdown, and lines below it."""
    head = list(head)
    lines = [f"| {' | '.join(map(str, row))} |".replace("|  |", "| |") for row in (head, *rows)]
    lines.insert(1, "|" + "---|" * len(head))
    return "\n".join([*lines, *("\n" + line for line in below)])


def where(origin: Origin) -> str:
    """Machine, load, revision and day of stored figures."""
    torch = dict(origin.machine).get("torch", "?")
    when = f"{origin.date:%Y-%m-%d}, {origin.revision}, load {origin.load:.1f} when it began"
    return f"{label(origin.machine)}; torch {torch}; {when}.".replace(" 1 threads", " one thread")


def interval(figure: Figure | dict[str, Any]) -> str:
    """Median with its bounds, to three digits."""
    shown = figure if isinstance(figure, dict) else vars(figure)
    return "{} [{}, {}]".format(*(digits(shown[name]) for name in ("median", "low", "high")))


def digits(value: float) -> str:
    return f"{value:.{max(0, 2 - math.floor(math.log10(max(value, 1e-9))))}f}"


def ratios() -> str:
    (found,) = read_all([RESULTS / "ratios.json"]).ratios
    rows = [(r["name"], interval(r), f"{r['bound']:g}") for r in found.ratios]
    return table(("ratio", "median [99% interval]", "at most"), rows, where(found.origin))


def peers() -> str:
    """Peers in units of emogs; the last row is the geometric mean over the contests that a way took part in."""
    (found,) = read_all([RESULTS / "peers.json"]).peers
    columns = [(way, direction) for way in (EAGER, COMPILED) for direction in DIRECTIONS]
    rows = [(f"`{c['name']}`", *(times_of(c, *column) for column in columns)) for c in found.contests]
    overall = {(way, direction): mean for way, direction, mean, _ in means(found.contests)}
    head = ("", *(f"{way}, {direction}" for way, direction in columns))
    last = ("geometric mean", *(overall.get(column, "") for column in columns))
    return table(head, [*rows, last], where(found.origin))


def times_of(contest: dict[str, Any], way: str, direction: str) -> str:
    """A peer's time in units of emogs, if it took part."""
    samples = contest["seconds"].get(direction, {})
    return digits(Group(direction, samples).ratio(way, way, EMOGS).median) if way in samples else ""


def selftests() -> str:
    """Right verdicts, the ratios that were measured, in how many pairs of processes, and how busy the machine was."""
    rows = []
    for _, test in read_all(sorted(RESULTS.glob("selftest*.json"))).selftests:
        row = [f"`{test['benchmark'].removesuffix('/cpu')}`"]
        for name in ("identical", "slower"):
            own = [verdict for verdict in test["verdicts"] if verdict["name"] == name]
            right = f"{sum(verdict['is_right'] for verdict in own)} of {len(own)}"
            row.append(f"{right}; {least_to_most(own, 'ratio', '.3f')}" if own else "not asked")
        rows.append((*row, least_to_most(test["verdicts"], "pairs"), least_to_most(test["verdicts"], "load")))
    return table(("benchmark", "identical code: right; ratios", "slower code: right; ratios", "pairs", "load"), rows)


def least_to_most(rows: Sequence[dict[str, Any]], name: str, form: str = ".0f") -> str:
    return " to ".join(format(pick(row[name] for row in rows), form) for pick in (min, max))


def figures(name: str) -> dict[str, dict[str, Any]]:
    """What bench_norm.py or bench_rasterize.py stored, by the figure's name."""
    return {figure["name"]: figure for figure in json.loads((RESULTS / f"{name}.json").read_text())["figures"]}


def norms() -> str:
    """Of the main size: ours in copies, torch in units of ours (forward, forward + backward)."""
    found = figures("norm")
    rows = []
    for dtype in ("float32", "bfloat16", "float16"):
        own = f"[1, 20018, 1024] {dtype}"
        peers = [
            ", ".join(digits(found[f"{own}: {peer} {direction} / ours"]["median"]) for direction in DIRECTIONS)
            for peer in ("eager", "compiled")
        ]
        rows.append((dtype, *(interval(found[f"{own}: {direction} / copy"]) for direction in DIRECTIONS), *peers))
    return table(("", *(f"{d} / copy" for d in DIRECTIONS), "torch eager / ours", "torch.compile / ours"), rows)


RASTERIZER: Sequence[tuple[str, tuple[str, ...], str]] = (
    ("forward / loop", ("forward / loop",), "at most 1.5"),
    ("forward + backward / loop", ("forward + backward / loop",), "at most 5"),
    ("projection, tiles, blending / loop", ("project / loop", "tiles / loop", "blend / loop"), ""),
    ("backward of blending, of projection / loop", ("blend backward / loop", "project backward / loop"), ""),
    (
        "one thread / two: forward, forward + backward",
        ("forward: 1 / 2 threads", "forward + backward: 1 / 2 threads"),
        "at least 1.7",
    ),
    (
        "an emotion of 16 components / none: float32, float16",
        ("forward, float32 basis / plain", "forward, float16 basis / plain"),
        "",
    ),
    (
        "32 emotions with a moving rig / 32 renders in one call",
        ("32 emotions, moving rig / 32 plain renders in one call",),
        "at most 1.15",
    ),
    ("the same / 32 calls", ("32 emotions, moving rig / 32 plain renders",), "at most 1.15"),
    (
        "modulating in torch, then projecting / projecting with a basis: 32 emotions, one",
        ("project_gaussians, 32 emotions: torch / basis", "project_gaussians, 1 emotions: torch / basis"),
        "at least 5",
    ),
)
"""Row, figures of bench_rasterize.py, and what is wanted of the first."""


def rasterizer() -> str:
    found = figures("rasterize")
    rows = []
    for name, wanted, target in RASTERIZER:
        own = [found[figure] for figure in wanted]
        shown = interval(own[0]) if len(own) == 1 else ", ".join(digits(figure["median"]) for figure in own)
        rows.append((name, shown, target))
    return table(("", "ratio", "wanted"), rows)


def counts() -> str:
    return guide_table(Reference.load(PATH))


TABLES: dict[str, tuple[str, Callable[[], str]]] = {
    "self-tests": ("docs/speed.md", selftests),
    "ratios": ("docs/speed.md", ratios),
    "peers": ("docs/speed.md", peers),
    "norms": ("docs/normalization.md", norms),
    "rasterizer": ("docs/rasterizer.md", rasterizer),
    "instructions": ("docs/gating.md", counts),
}


def with_tables(page: str, root: Path = ROOT) -> str:
    """A page of docs/ as it should be.

    Raises:
        ValueError: it has no place for one of its tables, or what a table needs is not stored.
    """
    text = (root / page).read_text()
    for name in (name for name, (own, _) in TABLES.items() if own == page):
        begin, end = f"<!-- table {name} -->\n", "\n<!-- end of table -->"
        before, found, rest = text.partition(begin)
        _, ended, after = rest.partition(end)
        if not (found and ended):
            raise ValueError(f"{page}: expected a place for a table: {begin.strip()} ... {end.strip()}")
        text = f"{before}{begin}{TABLES[name][1]()}{end}{after}"
    return text


def write_tables(root: Path = ROOT) -> list[str]:
    """Writes all pages anew; the names of those that changed."""
    changed = []
    for page in dict.fromkeys(page for page, _ in TABLES.values()):
        text = with_tables(page, root)
        if text != (root / page).read_text():
            (root / page).write_text(text)
            changed.append(page)
    return changed
