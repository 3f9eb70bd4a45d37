"""How far `emotion_norm` on the CPU is from a copy of its tokens: `python benchmarks/bench_norm.py`.

A call reads x once and writes y once, so a plain copy of x is what it cannot beat by much; torch eager and
torch.compile run beside it. Every figure is a ratio of calls in the same interleaved rounds (measure.py). Prints
tables, writes all samples as JSON and the scaling over channels and tokens as a picture. The allocator is kept warm, as
in a training loop after its first steps: page faults of fresh results would cost more than the work. `--quick` is a
smoke run of seconds whose figures mean nothing.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import bench_report
import torch
from matplotlib.figure import Figure as Canvas
from measure import Case, Figure, Group, interleave
from rich.console import Console
from rich.table import Table
from torch import Tensor

import emogs

WARM = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "4294967296"}  # read once, when the process starts
TYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class Sizes:
    """How much is measured; all of one sample."""

    main: tuple[int, int]  # tokens and channels that the targets speak of
    elements: int  # tokens times channels of the series over channels
    channels: tuple[int, ...]
    tokens: tuple[int, ...]
    rounds: int


FULL = Sizes((20018, 1024), 1 << 24, (3, 8, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192),
             (1, 16, 128, 1024, 8192, 65536), 15)  # fmt: skip
QUICK = Sizes((64, 32), 1 << 10, (3, 32), (1, 16), 2)


def plain(x: Tensor, scale: Tensor, shift: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """What one writes in torch."""
    normalized = torch.nn.functional.layer_norm(x, x.shape[-1:], weight.to(x.dtype), bias.to(x.dtype), 1e-6)
    return normalized * (1 + scale[:, None].to(x.dtype)) + shift[:, None].to(x.dtype)


def fused(x: Tensor, scale: Tensor, shift: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return emogs.emotion_norm(x, scale, shift, weight=weight, bias=bias)


def measure(tokens: int, channels: int, dtype: str, rounds: int, peers: bool, **notes: object) -> Group:
    """One shape and type: a copy, emotion_norm, and torch's two ways if asked for."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1, tokens, channels, generator=generator).to(TYPES[dtype])
    vectors = [torch.randn(1, channels, generator=generator) for _ in range(2)]
    vectors += [torch.randn(channels, generator=generator) for _ in range(2)]
    leaves = [t.clone().requires_grad_() for t in (x, *vectors)]
    direction, buffer = torch.randn_like(x), torch.empty_like(x)

    def both_ways(function: Callable[..., Tensor]) -> Case:
        return lambda: torch.autograd.grad(function(*leaves), leaves, direction)

    cases: dict[str, Case] = {
        "copy": lambda: buffer.copy_(x),
        "forward": lambda: fused(x, *vectors),
        "forward into a buffer": lambda: emogs.emotion_norm(x, *vectors[:2], out=buffer),
        "forward + backward": both_ways(fused),
    }
    if peers:
        torch._dynamo.reset()
        compiled = torch.compile(plain, dynamic=False)
        cases |= {
            "eager forward": lambda: plain(x, *vectors),
            "eager forward + backward": both_ways(plain),
            "compiled forward": lambda: compiled(x, *vectors),
            "compiled forward + backward": both_ways(compiled),
        }
    return interleave(f"[1, {tokens}, {channels}] {dtype}", cases, rounds, **notes, gigabytes=2e-9 * x.nbytes)


def ratios(group: Group, targets: bool) -> list[Figure]:
    figures = [
        group.ratio(f"{group.name}: {case} / copy", case, "copy", target if targets else None)
        for case, target in {"forward": 1.4, "forward + backward": 3.5}.items()
    ]
    for peer in ("eager", "compiled"):
        for case in ("forward", "forward + backward"):
            if f"{peer} {case}" in group.samples:
                figures.append(group.ratio(f"{group.name}: {peer} {case} / ours", f"{peer} {case}", case))
    return figures


def print_bandwidths(groups: list[Group]) -> None:
    """GB/s: bytes of x and y by time; forward and backward together move 2.5 times as many."""
    table = Table("tokens and type", "copy", "forward", "forward + backward", title="GB/s, best of the rounds")
    for group in groups:
        moved = {"copy": 1.0, "forward": 1.0, "forward + backward": 2.5}
        speeds = (1e3 * float(str(group.notes["gigabytes"])) * n / group.best(case) for case, n in moved.items())
        table.add_row(group.name, *(f"{speed:.1f}" for speed in speeds))
    Console(width=110).print(table)


def draw(path: Path, where: dict[str, object], groups: list[Group]) -> None:
    """Best times of each series, log-log, one panel a series and type."""
    series: dict[tuple[object, object], list[Group]] = {}
    for group in groups:
        if "series" in group.notes:
            series.setdefault((group.notes["series"], group.notes["type"]), []).append(group)
    canvas = Canvas(figsize=(4 * len(series), 3.6), layout="constrained")
    panels = canvas.subplots(1, len(series), squeeze=False)[0]
    for panel, ((name, dtype), members) in zip(panels, series.items(), strict=True):
        values = [member.notes["value"] for member in members]
        for case in ("copy", "forward", "forward + backward"):
            panel.loglog(values, [member.best(case) for member in members], "o-", label=case, markersize=3)
        panel.set_xlabel(f"{name}, {dtype}")
        panel.grid(True, which="both", linewidth=0.3)
    panels[0].set_ylabel("best of the rounds, ms")
    panels[0].legend(fontsize=7)
    title = f"emogs.emotion_norm, {where['instruction_set']}, {where['threads']} threads, {where['cpu']}"
    canvas.suptitle(title, fontsize=9)
    canvas.savefig(path, dpi=130)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a smoke run of seconds")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, help="how often each case runs")
    parser.add_argument("--types", nargs="+", choices=TYPES, default=list(TYPES))
    parser.add_argument("--no-compile", action="store_true", help="leave torch eager and torch.compile out")
    parser.add_argument("--out", type=Path, help="folder of the files; benchmarks/results, with --quick in quick there")
    options = parser.parse_args()
    if any(os.environ.get(name) != value for name, value in WARM.items()):
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | WARM)
    torch.set_num_threads(options.threads)
    sizes = QUICK if options.quick else FULL
    rounds = options.rounds or sizes.rounds

    groups, figures = [], []
    for dtype in options.types:
        group = measure(*sizes.main, dtype, rounds, not (options.no_compile or options.quick))
        groups.append(group)
        figures += ratios(group, targets=dtype == "float32" and not options.quick)
        print(f"measured {group.name}", file=sys.stderr)
    points = [("channels", c, max(1, sizes.elements // c), c) for c in sizes.channels]
    points += [("tokens", t, t, sizes.main[1]) for t in sizes.tokens]
    for dtype in options.types[:2]:
        for series, value, tokens, channels in points:
            group = measure(tokens, channels, dtype, rounds, peers=False, series=series, value=value, type=dtype)
            groups.append(group)
            figures += ratios(group, targets=False)
            print(f"measured {group.name}", file=sys.stderr)

    where = bench_report.environment()
    bench_report.print_table(where, groups, figures, options.quick)
    print_bandwidths(groups)
    folder = options.out or bench_report.results(options.quick)
    bench_report.write(folder, "norm", where, vars(sizes) | {"threads": options.threads}, groups, figures)
    draw(folder / "norm.png", where, groups)


if __name__ == "__main__":
    main()
