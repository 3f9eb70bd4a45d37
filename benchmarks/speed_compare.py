"""`emogs bench compare`: every benchmark of two revisions gets a line, and all of them together an exit code."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gate import CANNOT_TELL, FAILED, PASSED, Broken, CannotTell
from rich.console import Console
from speed_cases import matching
from speed_code import changed, kernel_hashes
from speed_count import verdicts
from speed_machine import differences
from speed_pair import Pair
from speed_side import Side
from speed_verdict import FINE, SLOWER, UNSURE, decide

KERNELS = {
    "emotion_norm": ["norm_cpu"],
    "EmotionNorm": ["norm_cpu"],
    "emotion_renorm": ["renorm_cpu"],
    "rig_frames": ["rig_cpu"],
    "project_gaussians": ["project_cpu", "project_backward_cpu"],
    "intersect_tiles": ["tiles_cpu"],
    "blend_tiles": ["blend_cpu"],
    "rasterize": ["project_cpu", "project_backward_cpu", "tiles_cpu", "blend_cpu"],
}
"""The kernel files behind each operation; one that is not here is always timed."""


@dataclass(frozen=True)
class Options:
    tolerance: float
    rounds: int
    threads: int
    accept: tuple[str, ...]
    everything: bool
    quick: bool

    def accepts(self, name: str) -> bool:
        return any(part in name for part in self.accept)


class Log:
    """Prints a line a benchmark and remembers the worst."""

    def __init__(self, console: Console) -> None:
        self.console, self.failed, self.unsure = console, 0, 0

    def line(self, mark: str, text: str) -> None:
        self.failed += mark == "FAILED"
        self.unsure += mark == "UNSURE"
        style = {"FAILED": "red", "UNSURE": "yellow", "passed": "green"}.get(mark)
        self.console.print(f"{mark}  {text}", style=style, markup=False, soft_wrap=True)

    def hole(self, accepted: bool, text: str) -> None:
        """What cannot be compared is never silently fine."""
        self.line("accept" if accepted else "FAILED", text if accepted else f"{text} (--accept says that it is meant)")

    def end(self) -> int:
        code = FAILED if self.failed else CANNOT_TELL if self.unsure else PASSED
        self.console.print(f"{self.failed} failed, {self.unsure} cannot tell")
        return code


def compare(base: str, head: str, only: Sequence[str], options: Options, console: Console) -> int:
    """The exit code."""
    log = Log(console)
    sides = Side.of(base), Side.of(head)
    with Pair(*sides, options.threads, options.quick) as pair:
        theirs, machine = pair.ask("machine")
        for difference in differences(theirs, machine):
            log.hole("machine" in options.accept, f"machine, {difference}")
        before, after = pair.ask("names")
        skipped = set() if options.everything else unchanged(*sides, machine["instruction_set"])
        chosen = matching(dict.fromkeys([*after, *before]), only)
        count(*sides, {name.split("/")[0] for name in chosen} - skipped, options, log)
        for name in chosen:
            if name not in before or name not in after:
                log.hole(options.accepts(name), f"{name}: {'new' if name in after else 'missing'} in {head}")
            elif name.split("/")[0] in skipped and name.endswith("/cpu"):
                log.line("passed", f"{name}: the same machine code")
            else:
                time(pair, name, options, log)
    return log.end()


def count(base: Side, head: Side, operations: set[str], options: Options, log: Log) -> None:
    """The instructions of kernels that changed, where they can be counted."""
    files = {file for operation in operations for file in KERNELS.get(operation, [])}
    kernels = {operation: used for operation, used in KERNELS.items() if files.issuperset(used)}
    if not kernels:
        return
    try:
        for mark, name, text in verdicts(base.build(), head.build(), kernels):
            log.hole(options.accepts(name), text) if mark == "hole" else log.line(mark, text)
    except CannotTell as reason:
        log.line("note  ", f"instructions are not counted: {reason}")
    except Broken as error:
        log.line("FAILED", f"{head.name}: {error}")


def time(pair: Pair, name: str, options: Options, log: Log) -> None:
    """One benchmark by the clock."""
    try:
        other = pair.prepare(name)
        if other:
            return log.hole(options.accepts(name), f"{name}: does other work, {other}")
        with log.console.status(name) as status:
            pair.done = lambda ratio: status.update(f"{name}: {ratio:.3f}")
            verdict, paired = decide(pair.batch, options.tolerance, options.rounds)
    except Broken as error:
        return log.line("FAILED", f"{name}: {error}")
    mark = {SLOWER: "FAILED", FINE: "passed", UNSURE: "UNSURE"}[verdict]
    log.line(mark, f"{name}: {verdict}, {paired}; {1 + options.tolerance:.2f} allowed")


def unchanged(base: Side, head: Side, isa: str) -> set[str]:
    """Operations whose machine code and Python are the same on both sides."""
    if base.python() != head.python():
        return set()
    if head.module() is not None and base.module() == head.module():
        return set(KERNELS)
    if head.bindings() is None or base.bindings() != head.bindings():
        return set()
    ours, theirs = kernel_hashes(head.build()), kernel_hashes(base.build())
    moved = changed(theirs, ours)
    return {
        operation
        for operation, files in KERNELS.items()
        if all(f"{file} {isa}" in ours and f"{file} {isa}" not in moved for file in files)
    }
