"""Keeps CPU kernels as fast as they are, without a clock: `python benchmarks/speed_check.py check`.

The build's kernels are compared with speed_reference.json. Machine code that is the same passes at once; where it is
not, valgrind counts the instructions that every operation executes on fixed inputs (speed_count.py). More than the
reference has, new or gone fails. Both depend on the compiler alone, hence always the same verdict.

    check    exit code 0: no more instructions than in the reference; 1: more, and where; 77: cannot tell (another
             compiler, or no valgrind)
    accept   rewrites the reference after an intended change and prints what moved
    table    prints instructions by pair, element, Gaussian or face
"""

from __future__ import annotations

import sysconfig
import time
from pathlib import Path

from gate import CANNOT_TELL, ROOT, CannotTell, console, main
from rich.table import Table
from speed_count import ISA, TOLERANCE, Change, changes, count, counter
from speed_reference import PATH, Reference, come_and_gone

BUILD = ROOT / "build" / f"cmake-{sysconfig.get_config_var('SOABI')}"


def check(reference: Path = PATH, build: Path = BUILD, out: Path | None = None) -> int:
    """Compare the kernels of the build with the reference.

    Args:
        reference: The file with hashes and counts.
        build: The CMake build folder; the default is that of `make build`.
        out: Where to leave what the build has, in the form of a reference: committed as such, it accepts the build.
    """
    start = time.perf_counter()
    was, now = Reference.load(reference), Reference.of(build)
    if was.machine and was.machine != now.machine:
        raise CannotTell(f"the reference was made with {was.machine}, here is {now.machine}")
    now.counter, now.counts = was.counter, was.counts
    beyond = come_and_gone(was.kernels, now.kernels)
    unsure = uncounted(was, now)
    same = sum(was.kernels.get(name) == code for name, code in now.kernels.items())
    if same < len(now.kernels) or was.driver != now.driver:
        try:
            beyond += judge(was, now, build)
        except CannotTell as reason:
            unsure.append(str(reason))
    if out is not None:
        now.save(out)
    for line in beyond:
        console.print(line, markup=False)
    console.print(
        f"CPU kernels: {len(now.kernels)} files and instruction sets; {same} are the same machine code as in the "
        f"reference; complaints: {len(beyond)}; {now.machine}, {time.perf_counter() - start:.0f} s"
    )
    for line in unsure:
        console.print(f"CPU kernels: cannot tell: {line}", markup=False)
    if beyond:
        console.print(f"If this is meant, `python {Path(__file__).relative_to(ROOT)} accept` makes it the reference.")
    return 1 if beyond else CANNOT_TELL if unsure else 0


def judge(was: Reference, now: Reference, build: Path) -> list[str]:
    """Counts instructions, into `now`. Prints where they are fewer, or compiler options differ; returns what is worse.

    Raises:
        CannotTell: they cannot be counted here, or not as they were.
    """
    now.counter, now.counts = {}, {}
    here = counter()
    if was.counts and was.counter != here:
        raise CannotTell(f"the reference was counted with {_list(was.counter)}, here is {_list(here)}")
    if was.flags != now.flags:
        for isa in sorted(was.flags.keys() | now.flags.keys()):
            if was.flags.get(isa) != now.flags.get(isa):
                console.print(f"compiler flags, {isa}: {now.flags.get(isa)}, were {was.flags.get(isa)}", markup=False)
    now.counter, now.counts = here, count(build)
    moved = changes(was.counts, now.counts)
    for change in moved:
        if change.same_work and change.ratio < 1 - TOLERANCE:
            console.print(f"{change}: accept it to keep the gain", markup=False)
    return come_and_gone(was.counts, now.counts) + [str(change) for change in moved if is_worse(change)]


def is_worse(change: Change) -> bool:
    return not change.same_work or change.ratio > 1 + TOLERANCE


def uncounted(was: Reference, now: Reference) -> list[str]:
    """Kernel files that changed only where nothing is counted: in another instruction set than the counted one."""
    changed = {name for name, code in now.kernels.items() if was.kernels.get(name, code) != code}
    return [
        f"{name} changed, and {file} {ISA} did not, which is what is counted; `emogs bench compare` can time it"
        for name in sorted(changed)
        if (file := name.split()[0]) and f"{file} {ISA}" not in changed
    ]


def _list(facts: dict[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in facts.items())


def accept(reference: Path = PATH, build: Path = BUILD) -> int:
    """Make the build's machine code and counts the reference, and print what that changes.

    Args:
        reference: The file with hashes and counts.
        build: The CMake build folder; the default is that of `make build`.
    """
    was, now = Reference.load(reference), Reference.of(build)
    now.counter, now.counts = counter(), count(build)
    for line in [*come_and_gone(was.kernels, now.kernels), *come_and_gone(was.counts, now.counts)]:
        console.print(line, markup=False)
    for change in changes(was.counts, now.counts):
        console.print(str(change), markup=False)
    now.save(reference)
    console.print(f"Accepted: {len(now.kernels)} hashes and {len(now.counts)} counts in {reference.name}.")
    return 0


def table(build: Path = BUILD, guide: bool = False) -> int:
    """Print how many instructions each operation executes.

    Args:
        build: The CMake build folder; the default is that of `make build`.
        guide: Instead print the table of docs/gating.md, from the committed reference.
    """
    if guide:
        print(guide_table(Reference.load(PATH)))
        return 0
    sheet = Table("operation", "instructions", "work", "each", box=None)
    for column in sheet.columns[1:]:
        column.justify = "right"
    for name, now in sorted(count(build).items()):
        each = f"{now.instructions / now.work:.2f}"
        sheet.add_row(name, f"{now.instructions:,}", f"{now.work:,} {now.unit}", each)
    console.print(sheet)
    return 0


def guide_table(reference: Reference) -> str:
    """Rows of docs/gating.md: instructions for each pair, element, Gaussian or face."""
    rows: dict[str, dict[str, str]] = {}
    for name, each in sorted(reference.counts.items()):
        case, _, direction = name.rpartition("/")
        row = rows.setdefault(case, {"unit": each.unit.removesuffix("s")})
        row[direction] = f"{each.instructions / each.work:.1f}"
    lines = [f"| `{c}` | {r['unit']} | {r['forward']} | {r.get('backward', '')} |" for c, r in rows.items()]
    return "\n".join(["| case | for each | forward | backward |", "|---|---|---|---|", *lines])


if __name__ == "__main__":
    main("CPU kernels", {"check": check, "accept": accept, "table": table}, __doc__)
