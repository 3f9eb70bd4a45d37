"""`emogs bench selftest`: may the gate be trusted here? Of code that is the same it must say so, and of a kernel that
takes 10% longer that it is slower, every time, while another process keeps memory and a core busy.

Three copies of this checkout are built in folders of different names: base, the same once more, and one whose kernel
does some of its pieces (tiles, tokens, blocks of Gaussians) twice. The clock alone decides; the layers before it would
tell them apart at once.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from gate import ROOT, Broken
from rich.console import Console
from rich.progress import Progress, TimeElapsedColumn
from speed_machine import fingerprint
from speed_pair import Pair
from speed_side import BUILDS, Side, command
from speed_verdict import FINE, SLOWER, decide

SPREAD = 617  # without a divisor in common with 1000


@dataclass(frozen=True)
class Slowdown:
    """How the self-test makes a kernel slower."""

    case: str
    file: Path
    statement: str
    """Which does one piece of the work."""
    number: str
    """The piece's number there."""
    twice: int
    """Of 1000 pieces, spread over all. More than 100, since the second time finds its data cached."""
    pieces: str

    @property
    def slower(self) -> str:
        """The statement, for some of the pieces twice."""
        return f"for (int again = {self.number} * {SPREAD} % 1000 < {self.twice}; again >= 0; again--) {self.statement}"


SLOWDOWNS = {
    "blend": Slowdown(
        case="blend_tiles/head80000-3channels/float32/forward/cpu",
        file=Path("csrc", "blend", "blend_cpu.cpp"),
        statement="valid = blend_tile<kChannels, kNote>(p, tile, settings) && valid;",
        number="tile",
        twice=118,
        pieces="tiles",
    ),
    "norm": Slowdown(
        case="emotion_norm/20018x1024/float32/forward/cpu",
        file=Path("csrc", "norm", "norm_cpu.cpp"),
        statement="forward_token(p, Folded<T>(p, at.b, region), at.token, stream_y, keep ? kept : nullptr);",
        number="at.token",
        twice=200,
        pieces="tokens",
    ),
    "project": Slowdown(
        case="project_gaussians/head80000/float32/forward/cpu",
        file=Path("csrc", "project", "project_cpu.cpp"),
        statement="project_block(p, {begin, int(minimum(p.count - begin, int64_t(kBlockSize)))});",
        number="b",
        twice=145,
        pieces="blocks of Gaussians",
    ),
}
BUSY = """
import os, sys
here, there = bytes(1 << 26), bytearray(1 << 26)
while os.getppid() == int(sys.argv[1]):
    there[:] = here
"""
EXPECTED = {"identical": FINE, "slower": SLOWER}


@dataclass(frozen=True)
class Verdict:
    """What the gate said once."""

    name: str
    """identical or slower."""
    verdict: str
    expected: str
    ratio: float
    low: float
    high: float
    pairs: int
    seconds: float
    load: float
    """Processes that wanted to run, in the mean of the last minute."""

    @property
    def right(self) -> bool:
        return self.verdict == self.expected

    def __str__(self) -> str:
        figures = f"{self.ratio:.3f} times base [{self.low:.3f}, {self.high:.3f}], {self.pairs} pairs of processes"
        return f"{self.name}: {self.verdict}, {figures}, {self.seconds:.0f} s, load {self.load:.1f}"


def selftest(name: str, out: Path, each: int, tolerance: float, rounds: int, console: Console) -> int:
    """Asks the gate `each` times of both kinds of code, and prints and stores all that it says.

    An unfinished file of the same code, machine and settings is gone on with. Exit code 0: all verdicts are right.
    """
    torch.set_num_threads(1)
    slowdown, sources = SLOWDOWNS[name], tracked()
    sides = {side: Side(side, folder) for side, folder in folders_of(name, sources).items()}
    about = {
        "benchmark": slowdown.case,
        "settings": {"each": each, "tolerance": tolerance, "rounds": rounds},
        "machine": fingerprint(),
        "sources": digest(sources),
        "twice": slowdown.twice / 1000,
        "pieces": slowdown.pieces,
    }
    verdicts = stored(out, about)
    console.print(f"{slowdown.case}; slower does {about['twice']:.1%} of the {slowdown.pieces} twice", markup=False)
    for number, verdict in enumerate(verdicts, 1):
        console.print(f"{number:2} {verdict} (stored)", markup=False)
    with keeping_busy(), Progress(*Progress.get_default_columns(), TimeElapsedColumn(), console=console) as bar:
        task = bar.add_task("verdicts", total=2 * each, completed=len(verdicts))
        while len(verdicts) < 2 * each:
            verdicts.append(ask(slowdown.case, sides, list(EXPECTED)[len(verdicts) % 2], tolerance, rounds))
            bar.console.print(f"{len(verdicts):2} {verdicts[-1]}", markup=False)
            bar.advance(task)
            write(out, about | {"verdicts": [asdict(verdict) for verdict in verdicts]})
    return judge(verdicts, console)


def folders_of(name: str, sources: list[Path]) -> dict[str, Path]:
    """The three sides, built, in folders of different names."""
    folder = BUILDS / "selftest"
    return {
        "base": built(folder / "base", sources),
        "identical": built(folder / "built_from_the_same_code_once_more", sources),
        "slower": built(folder / f"slower_{name}", sources, SLOWDOWNS[name]),
    }


def ask(case: str, sides: dict[str, Side], name: str, tolerance: float, rounds: int) -> Verdict:
    """One verdict."""
    start = time.monotonic()
    with Pair(sides["base"], sides[name], threads=1, quick=False) as pair:
        if other := pair.prepare(case):
            raise Broken(f"{case}: the sides do other work, {other}")
        verdict, paired = decide(pair.batch, tolerance, rounds)
    figures = [round(figure, 4) for figure in paired.interval()]
    seconds = round(time.monotonic() - start, 1)
    load = round(os.getloadavg()[0], 1)
    return Verdict(name, verdict, EXPECTED[name], *figures, len(paired.ratios), seconds, load)


def judge(verdicts: list[Verdict], console: Console) -> int:
    for name, expected in EXPECTED.items():
        asked = [verdict for verdict in verdicts if verdict.name == name]
        ratios = sorted(verdict.ratio for verdict in asked)
        right = sum(verdict.right for verdict in asked)
        console.print(
            f"{name}: {right} of {len(asked)} are {expected!r}; ratios from {ratios[0]:.3f} to {ratios[-1]:.3f}"
        )
    return 0 if all(verdict.right for verdict in verdicts) else 1


@contextmanager
def keeping_busy() -> Iterator[None]:
    """Inside, a process copies 64 MB after 64 MB. It ends with this one, however that ends."""
    process = subprocess.Popen([sys.executable, "-c", BUSY, str(os.getpid())])
    try:
        yield
    finally:
        process.kill()
        process.wait()


def tracked() -> list[Path]:
    """What a build and its benchmarks need of this checkout."""
    parts = ["CMakeLists.txt", "LICENSE", "README.md", "cmake", "csrc", "emogs", "pyproject.toml", "setup.py"]
    listed = command(["git", "ls-files", *parts, "benchmarks/*.py", "benchmarks/native", "benchmarks/*.cpp"], ROOT)
    return [Path(line) for line in listed.splitlines()]


def digest(sources: list[Path]) -> str:
    hashed = hashlib.sha256()
    for path in sources:
        hashed.update(f"{path}\0".encode() + (ROOT / path).read_bytes())
    return hashed.hexdigest()[:16]


def built(folder: Path, sources: list[Path], slower: Slowdown | None = None) -> Path:
    """A copy of the sources, built there; with a kernel made slower before."""
    mark, wanted = folder / "built", digest(sources) + (slower.slower if slower else "")
    if mark.is_file() and mark.read_text() == wanted:
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    for path in sources:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / path, folder / path)
    if slower:
        text = (folder / slower.file).read_text()
        if text.count(slower.statement) != 1:
            raise Broken(f"{slower.file}: expected, once, what the self-test makes slower:\n{slower.statement}")
        (folder / slower.file).write_text(text.replace(slower.statement, slower.slower))
    command([sys.executable, "setup.py", "--quiet", "build_ext", "--inplace"], folder, EMOGS_CUDA="off")
    mark.write_text(wanted)
    return folder


def stored(out: Path, about: dict[str, Any]) -> list[Verdict]:
    """Verdicts of a run like this one that was not finished; none otherwise."""
    try:
        content = json.loads(out.read_text())
        verdicts = [Verdict(**verdict) for verdict in content.pop("verdicts")]
    except (OSError, ValueError, KeyError, TypeError):
        return []
    return verdicts if content == about and len(verdicts) < 2 * about["settings"]["each"] else []


def write(out: Path, content: dict[str, Any]) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    half = out.with_suffix(".half")
    half.write_text(json.dumps(content, indent=1) + "\n")
    half.replace(out)
