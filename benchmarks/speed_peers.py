"""`emogs bench peers`: every contest of speed_contests.py, checked for equal results, then timed in turns."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import gpu_cases
import speed_stamp
import torch
from gate import FAILED, PASSED
from measure import Case, Group, interleave, seconds_of
from rich.console import Console
from rich.table import Table
from speed_cases import matching
from speed_contests import EMOGS, TINY, Contest, Sizes, all_contests, cases, differences
from speed_worker import clock_of

KIND = "emogs bench peers"


def clock(device: torch.device) -> Callable[[Case], float]:
    """Seconds of a call: between events on a GPU, else as speed_worker.py counts them."""
    if device.type == "cuda":
        return gpu_cases.Bench(device, gpu_cases.Sizes(), False).seconds
    return partial(seconds_of, clock=clock_of(device.type, torch.get_num_threads()))


def unequal(contest: Contest, apart: dict[str, float]) -> list[str]:
    """The ways whose results are not those of float64 to within the tolerance; NaN is none."""
    allowed = dict.fromkeys(contest.ways, contest.tolerance)
    if contest.peer_tolerance is not None:
        allowed |= {name: contest.peer_tolerance for name in contest.ways if name != EMOGS}
    return [name for name, largest in apart.items() if not largest <= allowed[name]]


def held(contest: Contest, rounds: int, seconds: Callable[[Case], float]) -> dict[str, Any]:
    """A contest as it is stored; without times if somebody's results are wrong."""
    apart = differences(contest)
    wrong = unequal(contest, apart)
    said = dataclasses.asdict(dataclasses.replace(contest, ways={}, given={}, mask=None))
    said = {key: said[key] for key in ("name", "tolerance", "peer_tolerance", "not_same", "missing")}
    groups = {} if wrong else {way: interleave(way, each, rounds, 1, seconds) for way, each in cases(contest).items()}
    samples = {direction: group.samples for direction, group in groups.items()}
    finite = {way: largest if math.isfinite(largest) else None for way, largest in apart.items()}
    return said | {"differences": finite, "unequal": wrong, "seconds": samples}


def print_contest(console: Console, contest: dict[str, Any]) -> None:
    """Its times, each peer in units of emogs."""
    table = Table("", "largest difference", *(f"{d}, ms" for d in contest["seconds"]), *contest["seconds"])
    for way, apart in contest["differences"].items():
        groups = [Group(d, samples) for d, samples in contest["seconds"].items()]
        ratios = [group.ratio(way, way, EMOGS) for group in groups]
        times = [f"{group.milliseconds(way).median:.2f}" for group in groups]
        shown = ["" if way == EMOGS else f"{r.median:.2f}x [{r.low:.2f}, {r.high:.2f}]" for r in ratios]
        table.add_row(way, "not finite" if apart is None else f"{apart:.1e}", *times, *shown)
    console.print(f"\n{contest['name']}", style="bold")
    console.print(table)
    for way in contest["unequal"]:
        console.print(f"FAILED  {way}: not the same results, so nothing is timed", style="red", markup=False)
    for way, why in contest["missing"].items():
        console.print(f"without {way}: {why}", markup=False)
    if contest["not_same"]:
        console.print(f"not the same work: {contest['not_same']}", markup=False)


def measure_all(
    only: Sequence[str], out: Path, device: torch.device, rounds: int, with_compile: bool, quick: bool, console: Console
) -> int:
    """Stores after every contest, so that what is cut off keeps what it has. The exit code: 1 if results differ, or
    a contest broke off.

    Raises:
        ValueError: a pattern fits no contest.
    """
    found = all_contests(TINY if quick else Sizes(), device)
    chosen, seconds = matching(found, only), clock(device)
    content: dict[str, Any] = {"kind": KIND, **speed_stamp.stamp(quick), "contests": []}
    broken = []
    for name in chosen:
        try:
            contest = held(found[name](with_compile), rounds, seconds)
        except Exception as error:  # the others still count
            broken.append(name)
            console.print(f"FAILED  {name}: {type(error).__name__}: {error}", style="red", markup=False)
            continue
        content["contests"].append(contest)
        print_contest(console, contest)
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(content) + "\n")
    return FAILED if broken or any(contest["unequal"] for contest in content["contests"]) else PASSED
