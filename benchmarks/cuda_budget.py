"""The committed budget of every CUDA kernel: what each figure was, how far it may move, and why it is as bad as it is.

The JSON holds figures as measured, never edited by hand. By hand come a kernel's `why`, asked for where a figure looks
bad, and its `dynamic_shared`: bytes of shared memory at launch, one number or one for each of its variants.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cuda_kernels import Broken, Figures, Kernels
from cuda_occupancy import REGISTER_UNIT, occupancy

PATH = Path(__file__).with_name("cuda_budget.json")
FULL_ENOUGH = 50  # percent of a multiprocessor's warps; fewer want a reason


@dataclass(frozen=True)
class Limit:
    """How far a figure may move before it is a regression. Better is never one."""

    figure: str
    unit: str = ""
    relative: float = 0.0
    absolute: int = 0
    step: int = 1
    """The hardware rounds up to multiples of this."""
    less_is_worse: bool = False

    def most(self, was: int) -> int:
        """The worst value that is within the budget."""
        if self.less_is_worse:
            return was
        return max(-(-was // self.step) * self.step, int(was + max(self.relative * was, self.absolute)))

    def broken(self, was: int, now: int) -> bool:
        return now < was if self.less_is_worse else now > self.most(was)


COUNTED = {"relative": 0.05, "absolute": 2}  # an instruction here or there is the compiler's mood
LIMITS = (
    Limit("registers", step=REGISTER_UNIT),
    Limit("stack", " bytes"),
    Limit("spills", " bytes"),
    Limit("static_shared", " bytes"),
    Limit("dynamic_shared", " bytes"),
    Limit("occupancy", "%", less_is_worse=True),
    Limit("local"),
    Limit("double"),
    Limit("generic"),
    Limit("barriers"),
    Limit("atomics"),
    Limit("instructions", **COUNTED),
    Limit("single", **COUNTED),
    Limit("special", **COUNTED),
    Limit("shuffles", **COUNTED),
    Limit("shared_loads", **COUNTED),
    Limit("shared_stores", **COUNTED),
    *(Limit(f"global_{way}_{width}", **COUNTED) for way in ("loads", "stores") for width in (1, 2, 4, 8, 16)),
)
BAD = ("stack", "spills", "local", "double", "generic")
"""Figures that should be zero."""


@dataclass
class Entry:
    """One kernel template: its figures and what people say of it."""

    variants: dict[str, dict[str, Figures]] = field(default_factory=dict)
    why: str = ""
    dynamic_shared: int | dict[str, int] | None = None

    def shared_of(self, variant: str) -> int | None:
        if isinstance(self.dynamic_shared, dict):
            return self.dynamic_shared.get(variant)
        return self.dynamic_shared


@dataclass
class Budget:
    """The whole file."""

    tools: dict[str, str] = field(default_factory=dict)
    flags: str = ""
    files: dict[str, dict[str, Entry]] = field(default_factory=dict)

    @staticmethod
    def load(path: Path = PATH) -> Budget:
        if not path.exists():
            return Budget()
        try:
            content = json.loads(path.read_text())
            files = {
                name: {kernel: Entry(**entry) for kernel, entry in kernels.items()}
                for name, kernels in content["files"].items()
            }
            return Budget(content["tools"], content["flags"], files)
        except OSError as error:
            raise Broken(f"{path}: expected a budget that `accept` wrote: {error.strerror}") from None
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            what = f"{type(error).__name__}: {error}"[:200].splitlines()[0]
            raise Broken(f"{path}: expected a budget that `accept` wrote, got what does not read: {what}") from None

    def save(self, path: Path = PATH) -> None:
        def plain(entry: Entry) -> dict[str, Any]:
            said = {"why": entry.why, "dynamic_shared": entry.dynamic_shared}
            return {k: v for k, v in said.items() if v not in ("", None)} | {"variants": entry.variants}

        files = {
            name: {kernel: plain(entry) for kernel, entry in sorted(kernels.items())}
            for name, kernels in sorted(self.files.items())
        }
        text = json.dumps({"tools": self.tools, "flags": self.flags, "files": files}, indent=1)
        figures = re.compile(r'\{\s*("code"[^{}]*)\}')  # one kernel on one architecture is one line
        path.write_text(figures.sub(lambda m: "{" + " ".join(m[1].split()) + "}", text) + "\n")


def judged(measured: dict[str, Kernels], budget: Budget) -> dict[str, dict[str, Entry]]:
    """The measured kernels as entries of a budget: with what people said of them, and with their occupancy."""
    files: dict[str, dict[str, Entry]] = {}
    for name, kernels in measured.items():
        files[name] = {}
        for kernel, variants in kernels.items():
            said = budget.files.get(name, {}).get(kernel, Entry())
            entry = files[name][kernel] = Entry({}, said.why, said.dynamic_shared)
            for variant, architectures in sorted(variants.items()):
                shared = said.shared_of(variant) or 0
                entry.variants[variant] = {
                    architecture: _with_occupancy(architecture, figures, shared)
                    for architecture, figures in architectures.items()
                }
    return files


def _with_occupancy(architecture: str, figures: Figures, dynamic_shared: int) -> Figures:
    number = int(architecture.removeprefix("sm_"))
    shared = figures["static_shared"] + dynamic_shared
    found = occupancy(number, figures["threads"] or 1024, figures["registers"], shared)
    order = {"code": figures["code"], "threads": figures["threads"], "dynamic_shared": dynamic_shared}
    return order | {"occupancy": found.percent, "limit": found.limit} | figures


Place = tuple[str, str, str, str]
"""File, kernel, variant, architecture."""


def places(files: dict[str, dict[str, Entry]]) -> Iterator[tuple[Place, Figures]]:
    for name, kernels in files.items():
        for kernel, entry in kernels.items():
            for variant, architectures in entry.variants.items():
                for architecture, figures in architectures.items():
                    yield (name, kernel, variant, architecture), figures


def say(place: Place) -> str:
    name, kernel, variant, architecture = place
    return f"{name}: {kernel}{variant} on {architecture}"


@dataclass(frozen=True)
class Change:
    """One figure of one kernel that is not what it was."""

    place: Place
    limit: Limit
    was: int
    now: int

    @property
    def beyond(self) -> bool:
        return self.limit.broken(self.was, self.now)

    def __str__(self) -> str:
        unit, bound = self.limit.unit, "at least" if self.limit.less_is_worse else "at most"
        return (
            f"{say(self.place)}: {self.limit.figure} {self.now}{unit}, was {self.was}{unit} "
            f"({self.now - self.was:+d}; {bound} {self.limit.most(self.was)})"
        )


def changes(budget: Budget, files: dict[str, dict[str, Entry]]) -> list[Change]:
    """Every figure that moved, of the kernels that are in both."""
    was = dict(places(budget.files))
    return [
        Change(place, limit, was[place].get(limit.figure, 0), figures.get(limit.figure, 0))
        for place, figures in places(files)
        if place in was
        for limit in LIMITS
        if was[place].get(limit.figure, 0) != figures.get(limit.figure, 0)
    ]


def come_and_gone(budget: Budget, files: dict[str, dict[str, Entry]]) -> list[str]:
    """One line for every kernel that is in one of the two only."""
    was, now = dict(places(budget.files)), dict(places(files))
    lines = [f"{say(place)}: new, not in the budget" for place in now if place not in was]
    return lines + [f"{say(place)}: in the budget, but no longer in the build" for place in was if place not in now]


def unexplained(files: dict[str, dict[str, Entry]]) -> list[str]:
    """One line for everything that must be said of a kernel, in the budget or in the source, but is not."""
    lines = []
    for name, kernels in files.items():
        for kernel, entry in kernels.items():
            found: dict[str, list[Place]] = {}
            for place, figures in places({name: {kernel: entry}}):
                for what in _wants(figures, entry, place[2]):
                    found.setdefault(what, []).append(place)
            for what, there in found.items():
                more = f" (and {len(there) - 1} more)" if len(there) > 1 else ""
                lines.append(f"{say(there[0])}{more}: {what}")
    return lines


def _wants(figures: Figures, entry: Entry, variant: str) -> Iterator[str]:
    bad = [figure for figure in BAD if figures.get(figure, 0) > 0]
    bad += ["occupancy"] if figures["occupancy"] < FULL_ENOUGH else []
    if not figures["threads"]:
        yield "no __launch_bounds__, so nobody knows its occupancy"
    if figures["uses_dynamic_shared"] and entry.shared_of(variant) is None:
        yield "uses dynamic shared memory; its `dynamic_shared` must say how much"
    if bad and not entry.why:
        told = ", ".join(f"{figure} {figures[figure]}" for figure in bad)
        yield f"{told} must be explained: its `why` is empty"
