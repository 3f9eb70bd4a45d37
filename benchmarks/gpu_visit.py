"""A whole visit to a GPU: `python benchmarks/gpu_visit.py --out FOLDER --work FOLDER`.

Builds from this source, compares every CUDA kernel with the CPU's, looks for bad memory accesses and races
(compute-sanitizer), compiles gsplat 1.5.3 as a peer, measures (gpu_cases.py) and reads hardware counters (ncu). Each
stage has a time limit and runs on its own; after each, visit.json and visit.log hold what is known, so that a call that
is cut off loses only the stage it was in. Copy the JSON files to benchmarks/results/ to publish them.

All stages together may take twice `--minutes`. With `--work FOLDER` the same command, given again, goes on behind the
stages that have passed with the same kernels; installed wheels stay there, too.

A machine without a network needs what it lacks as wheels: `--wheels FOLDER`, made where there is one by
`python -m pip download --no-deps -d FOLDER roma tyro docstring-parser typeguard pybind11 'setuptools>=77,<82'
gsplat==1.5.3`. The stage `needs` says what is still missing. Only Python's own library is imported here, so that this
runs before they are installed. `--dry-run` prints the plan.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
NEEDED = (
    *("torch", "triton", "numpy", "roma", "safetensors", "tyro", "rich", "setuptools", "pybind11"),  # emogs, its build
    *("pytest", "hypothesis", "matplotlib", "gsplat", "jaxtyping"),  # tests, measurements, the peer
)
"""Modules that some stage imports."""
IMPORT_ALL = """
import importlib.util, os, shutil, sys
missing = [name for name in sys.argv[1:] if importlib.util.find_spec(name) is None]
missing += [name for name in ("nvcc", "cmake", "ninja", "c++") if shutil.which(name) is None]
import torch, setuptools
print("Python", sys.version.split()[0], "torch", torch.__version__, "CUDA", torch.version.cuda)
print("setuptools", setuptools.__version__, torch.cuda.device_count(), "GPUs,", os.cpu_count(), "cores")
sys.exit("missing: " + ", ".join(missing) if missing else 0)
"""
OPERATIONS = [
    "tests/ops",
    *(f"tests/test_{name}.py" for name in ("rasterize", "rasterize_calls", "workspace", "raster_brute_force")),
]
SMALL = [
    *("tests/ops/test_tiles_cuda.py", "tests/ops/test_blend_cuda.py", "tests/ops/test_project_cuda.py"),
    *("tests/ops/test_renorm.py", "tests/ops/test_rig.py"),
    "tests/ops/test_norm_cuda.py::test_regions_out_of_range_become_nan_and_touch_nothing_else",
]
ON_CUDA = ["-q", "-p", "no:cacheprovider", "-k", "cuda and not emulated"]
HEAVIEST = (
    *("blend_few_kernel", "backward_few_kernel", "add_rows_kernel", "count_tiles_kernel", "emit_pairs_kernel"),
    *("project_gaussians_forward_kernel", "project_gaussians_backward_kernel"),
    *("emotion_norm_forward_group_kernel", "emotion_norm_backward_group_kernel"),
)
"""Kernels whose hardware counters are read."""


@dataclass(frozen=True)
class Stage:
    """One step of the visit."""

    name: str
    seconds: int
    """After which it is stopped."""
    command: list[str]
    environment: dict[str, str] = field(default_factory=dict)
    missing: str = ""
    """Why it cannot run here, if it cannot."""


def stages(out: Path, wheels: Path | None, site: Path, python: str = sys.executable) -> list[Stage]:
    """The visit, in the order in which a failure costs least. Wheels are installed in `site`."""
    architecture = gpu("compute_cap").replace(".", "") or "90"
    build = {"EMOGS_CUDA": "on", "EMOGS_CUDA_ARCHS": architecture}
    peer = {"TORCH_CUDA_ARCH_LIST": gpu("compute_cap") or "9.0", "MAX_JOBS": str(os.cpu_count())}
    install = [python, "-m", "pip", "install", "-q", "--no-index", "--no-deps", "--upgrade", "--target", str(site)]
    install += [str(path) for path in sorted(wheels.glob("*.whl"))] if wheels else []
    cases = [python, str(ROOT / "benchmarks" / "gpu_cases.py"), "--device", "cuda"]
    plan = [
        Stage("wheels", 60, install, missing="" if wheels else "no --wheels"),
        Stage("needs", 60, [python, "-c", IMPORT_ALL, *NEEDED]),
        Stage("machine", 30, ["nvidia-smi"], missing=absent("nvidia-smi")),
        Stage("build", 240, [python, "setup.py", "build_ext", "--inplace"], build, absent("nvcc")),
        Stage("info", 60, [python, "-m", "emogs", "info"]),
        Stage("tests", 240, [python, "-m", "pytest", *ON_CUDA, *OPERATIONS], missing=absent("nvidia-smi")),
        Stage("gsplat", 420, [python, "-c", "from gsplat.cuda._backend import _C; assert _C"], peer, absent("nvcc")),
        Stage("measure", 300, [*cases, "--out", str(out / "gpu.json")], peer, absent("nvidia-smi")),
    ]
    peers = [python, str(ROOT / "benchmarks" / "speed.py"), "peers", "--device", "cuda"]
    plan.append(Stage("peers", 180, [*peers, "--out", str(out / "peers.json")], peer, absent("nvidia-smi")))
    for tool in ("memcheck", "racecheck", "synccheck", "initcheck"):
        command = ["compute-sanitizer", "--tool", tool, "--error-exitcode", "9", "--target-processes", "all"]
        command += [python, "-m", "pytest", *ON_CUDA, *SMALL]
        quiet = {"PYTORCH_NO_CUDA_MEMORY_CACHING": "1"}  # or overruns would stay within torch's own blocks
        plan.append(Stage(tool, 150, command, quiet, absent("compute-sanitizer") or absent("nvidia-smi")))
    counters = ["ncu", "--clock-control", "none", "--csv", "--log-file", str(out / "ncu.csv")]
    counters += ["--target-processes", "all", "--kernel-name", f"regex:^({'|'.join(HEAVIEST)})$"]
    counters += ["--section", "SpeedOfLight", "--section", "Occupancy", "--section", "MemoryWorkloadAnalysis"]
    counters += ["--section", "WarpStateStats", "--launch-count", "24"]
    command = [*counters, *cases, "--profile", "--out", str(out / "unused.json")]
    plan.append(Stage("counters", 180, command, missing=absent("ncu") or absent("nvidia-smi")))
    return plan


def absent(program: str) -> str:
    return "" if shutil.which(program) else f"no {program} on PATH"


def gpu(query: str) -> str:
    """What nvidia-smi answers of the first GPU; "" where there is none."""
    if absent("nvidia-smi"):
        return ""
    command = ["nvidia-smi", f"--query-gpu={query}", "--format=csv,noheader"]
    lines = subprocess.run(command, capture_output=True, text=True).stdout.splitlines()
    return lines[0].strip() if lines else ""


def run(stage: Stage, limit: float, log: Path, site: Path) -> dict[str, object]:
    """Runs a stage, its output into the log; what became of it. Modules come from this checkout and `site` first."""
    if stage.missing:
        return {"status": "skipped", "why": stage.missing}
    start = time.monotonic()
    paths = [str(ROOT), str(site), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {"PYTHONUNBUFFERED": "1", "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    with log.open("ab") as file:
        file.write(f"\n=== {stage.name}: {' '.join(stage.command)}\n".encode())
        file.flush()
        begin = file.tell()
        process = subprocess.Popen(
            stage.command,
            cwd=ROOT,
            env=environment | stage.environment,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            code = process.wait(limit)
            status = "passed" if code == 0 else "failed"
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)  # its own group: children too
            code, status = process.wait(), "stopped at its limit"
    with log.open("rb") as file:
        file.seek(begin)
        said = file.read().decode(errors="replace")
    seconds = round(time.monotonic() - start, 1)
    return {"status": status, "code": code, "seconds": seconds, "last_lines": said.splitlines()[-8:]}


def machine() -> dict[str, object]:
    """On what this ran; no names of machines or paths."""
    nvcc = "" if absent("nvcc") else subprocess.run(["nvcc", "--version"], capture_output=True, text=True).stdout
    version = re.search(r"V([\d.]+)", nvcc)
    return {
        "gpu": gpu("name"),
        "driver": gpu("driver_version"),
        "compute_capability": gpu("compute_cap"),
        "nvcc": version[1] if version else "",
        "python": platform.python_version(),
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "sources": fingerprint(),
        "kernels": kernel_codes(gpu("compute_cap").replace(".", "") or "90"),
    }


def fingerprint() -> str:
    """Of everything that is compiled, since a copy of the working tree has no commits."""
    digest = hashlib.sha256()
    for path in sorted([*ROOT.glob("csrc/**/*"), *ROOT.glob("cmake/*"), ROOT / "CMakeLists.txt"]):
        if path.is_file():
            digest.update(str(path.relative_to(ROOT)).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:12]


def kernel_codes(architecture: str) -> dict[str, str]:
    """Hashes of the machine code, from the budget: the same nvcc makes the same of the same sources (cuda_gate.py)."""
    path = ROOT / "benchmarks" / "cuda_budget.json"
    if not path.exists():
        return {}
    return {
        kernel + variant: figures[f"sm_{architecture}"]["code"]
        for kernels in json.loads(path.read_text())["files"].values()
        for kernel, entry in kernels.items()
        for variant, figures in entry["variants"].items()
        if f"sm_{architecture}" in figures
    }


def visit(
    plan: list[Stage], out: Path, minutes: float, work: Path, about: Callable[[], dict[str, object]] = machine
) -> int:
    """Runs the plan within the time; the number of stages that did not pass, those left out not counted. Those that
    have passed are noted in `work`, and not run again."""
    out.mkdir(parents=True, exist_ok=True)
    work.mkdir(parents=True, exist_ok=True)
    passed = Passed(work / "passed.json")
    end = time.monotonic() + 60 * minutes
    report: dict[str, object] = {"machine": about()}
    results: dict[str, dict[str, object]] = {}
    for stage in plan:
        left = end - time.monotonic()
        if stage.name in passed.names:
            results[stage.name] = {"status": "skipped", "why": "passed in an earlier call"}
        elif left < 5:
            results[stage.name] = {"status": "skipped", "why": "no time left"}
        else:
            print(f"{stage.name} ...", flush=True)
            results[stage.name] = run(stage, min(stage.seconds, left), out / "visit.log", work / "site")
            if results[stage.name]["status"] == "passed":
                passed.add(stage.name)
        (out / "visit.json").write_text(json.dumps(report | {"stages": results}, indent=1) + "\n")
    for name, result in results.items():
        print(f"{name:10} {result['status']:22} {result.get('seconds', '')!s:>7} {result.get('why', '')}")
        if result["status"] not in ("passed", "skipped"):
            print(*(f"    {line}" for line in result["last_lines"]), sep="\n")  # type: ignore[attr-defined]
    return sum(result["status"] not in ("passed", "skipped") for result in results.values())


class Passed:
    """Which stages have passed with these kernels, kept in a file."""

    def __init__(self, path: Path) -> None:
        self.path, self.sources = path, fingerprint()
        found = json.loads(path.read_text()) if path.exists() else {}
        self.names: list[str] = found["names"] if found.get("sources") == self.sources else []

    def add(self, name: str) -> None:
        self.names.append(name)
        self.path.write_text(json.dumps({"sources": self.sources, "names": self.names}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(os.environ.get("OUT", "out/visit")))
    parser.add_argument("--stages", nargs="+", help="only these, in the visit's order")
    parser.add_argument("--minutes", type=float, default=9.5, help="for all of them together")
    parser.add_argument("--wheels", type=Path, help="a folder of wheels to install first")
    parser.add_argument("--work", type=Path, help="what stays for the next call; a new temporary folder if not given")
    parser.add_argument("--dry-run", action="store_true", help="print the plan and what is missing here, and end")
    options = parser.parse_args()
    if options.work is None:
        options.work = Path("NEW-FOLDER" if options.dry_run else tempfile.mkdtemp(prefix="emogs-visit-"))
    work = options.work.resolve()
    plan = stages(options.out.resolve(), options.wheels, work / "site")
    names = [stage.name for stage in plan]
    if unknown := set(options.stages or ()) - set(names):
        parser.error(f"no such stage: {', '.join(sorted(unknown))}; there are {', '.join(names)}")
    plan = [stage for stage in plan if not options.stages or stage.name in options.stages]
    if options.dry_run:
        for stage in plan:
            print(f"{stage.name}: at most {stage.seconds} s{f' ({stage.missing})' if stage.missing else ''}")
            words = [*(f"{k}={v}" for k, v in stage.environment.items()), *stage.command]
            print("    " + " ".join("..." if "\n" in word else word for word in words))
        return
    sys.exit(1 if visit(plan, options.out.resolve(), options.minutes, work) else 0)


if __name__ == "__main__":
    main()
