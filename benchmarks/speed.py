"""The speed gate: `emogs bench run`, or `python benchmarks/speed.py run` in a checkout.

    run        times every public operation and stores the samples with the machine they were taken on
    compare    says of two revisions whether the second is slower
    ratios     checks ratios that hold on every machine and need no second revision
    peers      times the same work in torch, torch.compile and gsplat, after comparing the results
    report     writes all that into one HTML page
    docs       writes it into the tables of docs/
    selftest   says whether compare can be trusted on this machine

See docs/speed.md for what a time proves and what it does not.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from gate import BAD_INPUT, FAILED, own_arguments
from rich.console import Console
from rich.table import Table
from tyro.conf import Positional

HERE = Path(__file__).resolve().parent
sys.path.append(str(HERE.parent))  # behind PYTHONPATH: `run` measures the emogs that is there
ARGUMENTS = own_arguments()
HISTORY = HERE / "results" / "history"
WARM = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "4294967296"}  # no page faults of fresh results

Names = Annotated[Positional[str], tyro.conf.arg(metavar="NAME")]

console = Console(highlight=False, width=120)


def run(
    *only: Names,
    out: Path = HERE / "results" / "speed.json",
    threads: int = 2,
    rounds: int = 15,
    keep: bool = False,
    quick: bool = False,
) -> int:
    """Time every public operation, forward and backward, on every backend present.

    Args:
        only: Only benchmarks whose name contains one of these.
        out: Where pytest-benchmark stores all samples, with the machine's fingerprint.
        threads: Of the CPU operations; with one, processor time counts, in which other processes hardly show.
        rounds: How often each is timed; fewer, but three, where that takes over ten seconds.
        keep: Also add the run to the history, benchmarks/results/history, which `report` draws.
        quick: Toy sizes: shows that everything runs, the times mean nothing.
    """
    import pytest
    import speed_stamp
    from speed_cases import FULL, QUICK, all_cases, matching

    check_at_least_one(threads=threads, rounds=rounds)
    out = file_to_write(out)
    matching(all_cases(QUICK if quick else FULL), only)
    if keep and (only or quick):
        raise ValueError("--keep: a part of the benchmarks, or --quick, is no point of a history")
    out.parent.mkdir(parents=True, exist_ok=True)
    arguments = [f"--benchmark-json={out}", f"--speed-threads={threads}", f"--speed-rounds={rounds}"]
    arguments += ["--speed-quick"] if quick else []
    arguments += [f"--speed-only={part}" for part in only]
    name = str(speed_stamp.commit()["id"])[:12]
    arguments += [f"--benchmark-storage=file://{HISTORY}", f"--benchmark-save={name}"] if keep else []
    os.environ.pop("PYTEST_ADDOPTS", None)  # meant for other tests
    arguments += ["-q", "-p", "no:cacheprovider", "--benchmark-disable-gc", "--benchmark-quiet"]
    code = pytest.main([str(HERE / "speed"), *arguments, f"--rootdir={HERE}", "--override-ini=addopts="])
    if code == 0:
        print_run(json.loads(out.read_text()), quick)
    return int(code)


def compare(
    base: Annotated[Positional[str], tyro.conf.arg(metavar="BASE")],
    head: Annotated[Positional[str], tyro.conf.arg(metavar="HEAD")],
    *only: Names,
    tolerance: float = 0.05,
    rounds: int = 15,
    threads: int = 1,
    accept: tuple[str, ...] = (),
    everything: bool = False,
    quick: bool = False,
) -> int:
    """Compare two revisions, each built into a folder of its own, in turns. Exit code 0: not slower; 1: slower, or a
    benchmark that cannot be compared and was not accepted; 77: cannot tell.

    Args:
        base: A git revision, a wheel, or the folder of a built checkout.
        head: Likewise.
        only: Only benchmarks whose name contains one of these.
        tolerance: By how much head may be slower; 0.05 is 5%.
        rounds: Pairs of processes between two looks at the result.
        threads: Of the CPU operations; one leaves a core for whatever else runs.
        accept: Names of benchmarks, or parts of them, that may be new, missing or changed; `machine` accepts two
            different machines or compilers.
        everything: Also time operations whose machine code is the same.
        quick: Toy sizes.
    """
    from gate import Broken
    from speed_compare import Options
    from speed_compare import compare as judge_all

    check_at_least_one(threads=threads, rounds=rounds)
    if not 0 <= tolerance < 10:
        raise ValueError(f"--tolerance: expected 0 to 10, got {tolerance}")
    options = Options(tolerance, rounds, threads, accept, everything, quick)
    try:
        return judge_all(base, head, only, options, console)
    except Broken as error:
        refuse(error)
        return FAILED


def selftest(
    kernel: Literal["blend", "norm", "project"] = "blend",
    out: Path | None = None,
    each: int = 20,
    tolerance: float = 0.05,
    rounds: int = 15,
) -> int:
    """Test the gate itself: identical code must pass and a kernel that takes 10% longer must fail, every time, while
    another process keeps a core busy. 20 minutes to an hour; what was stopped goes on. Exit code 1: not every time.

    Args:
        kernel: Which is made slower: blending is bound by arithmetic, a norm by memory, projection by both.
        out: A JSON file for all verdicts and the machine; benchmarks/results/selftest-KERNEL.json without.
        each: How often each of the two is asked.
        tolerance: As of `compare`.
        rounds: As of `compare`.
    """
    from gate import Broken
    from speed_selftest import selftest as ask_all

    check_at_least_one(each=each, rounds=rounds)
    try:
        out = out or HERE / "results" / f"selftest-{kernel}.json"
        return ask_all(kernel, file_to_write(out), each, tolerance, rounds, console)
    except Broken as error:
        refuse(error)
        return 1


def ratios(*only: Names, out: Path | None = None, rounds: int = 15, threads: int = 1, quick: bool = False) -> int:
    """Check ratios that hold on every machine and need no baseline: fused or not, under an emotion or plain. Exit code
    0: all within their bounds; 1: one is above; 77: cannot tell.

    Args:
        only: Only ratios whose name contains one of these.
        out: A JSON file for all samples, such as `report` reads.
        rounds: Turns between two looks at the result.
        threads: Of the CPU operations; with one, processor time counts, in which other processes hardly show.
        quick: Toy sizes: shows that everything runs; nothing can fail.
    """
    import torch
    from speed_ratios import judge_all

    check_at_least_one(threads=threads, rounds=rounds)
    torch.set_num_threads(threads)
    code = judge_all(only, out and file_to_write(out), rounds, quick, console)
    say_if_quick(quick)
    return code


def peers(
    *only: Names,
    out: Path = HERE / "results" / "peers.json",
    device: Literal["cpu", "cuda"] = "cpu",
    rounds: int = 9,
    threads: int = 1,
    compiled: bool = True,
    quick: bool = False,
) -> int:
    """Time the operations beside the same in torch, torch.compile and, on a GPU, gsplat 1.5.3; first the results must
    be equal. Exit code 1 if they are not.

    Args:
        only: Only operations whose name contains one of these.
        out: A JSON file for all samples, such as `report` reads.
        device: Where.
        rounds: How often each is timed.
        threads: Of the CPU operations; with one, processor time counts, in which other processes hardly show.
        compiled: Whether torch.compile takes part, which takes minutes.
        quick: Toy sizes: shows that everything runs, the times mean nothing.
    """
    import torch
    from speed_peers import measure_all

    check_at_least_one(threads=threads, rounds=rounds)
    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError("--device cuda: torch finds no GPU here")
    torch.set_num_threads(threads)
    code = measure_all(only, file_to_write(out), torch.device(device), rounds, compiled, quick, console)
    say_if_quick(quick)
    return code


def report(*files: Positional[Path], out: Path = Path("report.html")) -> int:
    """Write one HTML page of what was measured: no scripts, no network. History joins runs of the same machine only.

    Args:
        files: What `run`, `peers`, `ratios` and the gate stored, or folders of such. Without any: all in
            benchmarks/results and its history, and the committed instruction counts.
        out: The page.
    """
    import speed_page
    from speed_files import read_all

    text = speed_page.page(read_all(files or stored_files()))
    page = file_to_write(out)
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text(text)
    console.print(f"wrote {out}, {len(text) / 1024:.0f} KB", markup=False)
    return 0


def docs() -> int:
    """Write the tables in docs/ anew, from what `selftest`, `ratios`, `peers` and the other benchmarks have stored."""
    from speed_docs import write_tables

    changed = write_tables()
    console.print(f"wrote {', '.join(changed)}" if changed else "docs/ says what is stored", markup=False)
    return 0


def stored_files() -> list[Path]:
    """What the commands leave where they are not told otherwise.

    Raises:
        ValueError: there is nothing.
    """
    results = HERE / "results"
    found = [results / "speed.json", results / "peers.json", results / "ratios.json", *results.glob("selftest*.json")]
    found += [HISTORY, HERE / "speed_reference.json"]
    found = [path for path in found if path.exists()]
    if not found:
        raise ValueError("nothing is measured yet: emogs bench run, peers or ratios does so")
    return found


def file_to_write(out: Path) -> Path:
    if out.is_dir():
        raise ValueError(f"--out {out}: expected a file to write, got a folder")
    return out.resolve()


def say_if_quick(quick: bool) -> None:
    if quick:
        console.print("--quick only shows that everything runs: these figures mean nothing.")


def check_at_least_one(**counts: int) -> None:
    for name, count in counts.items():
        if count < 1:
            raise ValueError(f"--{name}: expected at least 1, got {count}")


def refuse(error: Exception) -> None:
    console.print(f"emogs bench: {error}", style="red", markup=False, soft_wrap=True)


def print_run(stored: dict[str, Any], quick: bool) -> None:
    """Where it ran, and a line a benchmark."""
    console.print(", ".join(f"{name} {value}" for name, value in stored["machine_info"]["emogs"].items()))
    table = Table("benchmark", "median ms", "best ms", "GB/s", "of the limit", "Mpairs/s")
    for entry in stored["benchmarks"]:
        extra, stats = entry["extra_info"], entry["stats"]
        pairs = f"{1e-6 * extra['pairs_per_second']:.1f}" if "pairs" in extra else ""
        limit = f"{extra['of_limit']:.2f}" + (" loop" if extra["limit"] == "pair loop" else "")
        times = (f"{1e3 * stats['median']:.3f}", f"{1e3 * stats['min']:.3f}")
        name = entry["name"].removeprefix("test_speed[").removesuffix("]")
        table.add_row(name, *times, f"{extra['gigabytes_per_second']:.1f}", limit, pairs)
    console.print(table)
    say_if_quick(quick)


@ARGUMENTS.until_nobody_reads()
def main(arguments: list[str] | None = None) -> None:
    """Runs the command that the arguments name; the process ends with its verdict."""
    if any(os.environ.get(name) != value for name, value in WARM.items()):
        os.execve(sys.executable, [sys.executable, __file__, *sys.argv[1:]], os.environ | WARM)
    commands = {
        "run": run,
        "compare": compare,
        "selftest": selftest,
        "ratios": ratios,
        "peers": peers,
        "report": report,
        "docs": docs,
    }
    try:
        given = sys.argv[1:] if arguments is None else arguments
        sys.exit(ARGUMENTS.run_command(commands, "emogs bench", __doc__ or "", given))
    except ARGUMENTS.UsageError as error:
        print(f"emogs: {error}", file=sys.stderr)
        sys.exit(BAD_INPUT)
    except ValueError as error:
        refuse(error)
        sys.exit(BAD_INPUT)


if __name__ == "__main__":
    main()
