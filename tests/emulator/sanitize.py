"""`make sanitize`: the emulated kernels under ThreadSanitizer, and under AddressSanitizer with UBSan.

For each: builds them (build/emulate-thread, build/emulate-address), makes sure that a seeded bug is reported from
within Python, runs the emulator's seeded bugs, then every test that has an emulated device. Ends with a verdict.

    python tests/emulator/sanitize.py [thread|address ...] [-- arguments of pytest, instead of `tests`]
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pybind11

ROOT = Path(__file__).resolve().parents[2]
NAMES = {"thread": "ThreadSanitizer", "address": "AddressSanitizer, UBSan"}
LIBRARIES = {"thread": ("libtsan.so",), "address": ("libasan.so", "libubsan.so")}
ORDER = {"thread": "random:1", "address": "forward"}  # a race is one in any order

# A bug that the sanitizer must report: if it does not, its silence means nothing.
CANARY = {
    "thread": "threads count in shared memory without atomics",
    "address": "write beyond a static shared array, by a pointer",
}
CALL_CANARY = "import ctypes, sys, torch; ctypes.CDLL(sys.argv[1]).run_seeded_bug(sys.argv[2].encode(), True)"


def folder(sanitizer: str) -> Path:
    return ROOT / "build" / f"emulate-{sanitizer}"


def build(sanitizer: str) -> None:
    options = {
        "EMOGS_CUDA": "emulate",
        "EMOGS_SANITIZE": sanitizer,
        "CMAKE_MAKE_PROGRAM": shutil.which("ninja"),
        "Python_EXECUTABLE": sys.executable,
        "pybind11_DIR": pybind11.get_cmake_dir(),
    }
    definitions = [f"-D{name}={value}" for name, value in options.items()]
    command = ["cmake", "-G", "Ninja", "-S", ROOT, "-B", folder(sanitizer), "--log-level=WARNING", *definitions]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    subprocess.run(["cmake", "--build", folder(sanitizer), "--", "--quiet"], check=True)


def library(name: str) -> str:
    compiler = os.environ.get("CXX", "c++")
    return subprocess.run([compiler, f"-print-file-name={name}"], capture_output=True, text=True).stdout.strip()


def environment(sanitizer: str) -> dict[str, str]:
    """What runs Python, which knows nothing of sanitizers, with one: torch's own races and leaks are not ours."""
    log = f"log_path={folder(sanitizer) / 'report'}"
    preload = [library(name) for name in (*LIBRARIES[sanitizer], "libstdc++.so.6")]
    return {
        "LD_PRELOAD": " ".join(preload),
        "TSAN_OPTIONS": f"{log}:ignore_noninstrumented_modules=1:exitcode=66",
        "ASAN_OPTIONS": f"{log}:detect_leaks=0",
        "UBSAN_OPTIONS": "print_stacktrace=1",  # beside AddressSanitizer it knows no log_path
        "EMOGS_EMULATOR_BUILD": str(folder(sanitizer)),
        "EMOGS_TEST_ORDERS": ORDER[sanitizer],
    }


def run(command: list[str | Path], sanitizer: str) -> int:
    """Under the sanitizer; what comes to the standard error is left in a file, for take_reports."""
    with (folder(sanitizer) / "report.stderr").open("w") as errors:
        return subprocess.run(command, cwd=ROOT, env=os.environ | environment(sanitizer), stderr=errors).returncode


def take_reports(sanitizer: str) -> list[str]:
    """What the sanitizer has said since this was last called: a summary of each report."""
    summaries: list[str] = []
    for path in sorted(folder(sanitizer).glob("report.*")):
        text = path.read_text(errors="replace")
        summaries += re.findall(r"^SUMMARY: .*|^.*runtime error: .*|^.*Sanitizer: CHECK failed.*", text, re.MULTILINE)
        path.rename(path.with_name(f"last-{path.name}"))
    return summaries


def check(sanitizer: str, arguments: list[str]) -> list[str]:
    """What is wrong, one line each."""
    build(sanitizer)
    take_reports(sanitizer)
    module = folder(sanitizer) / "libseeded_bugs.so"
    run([sys.executable, "-c", CALL_CANARY, module, CANARY[sanitizer]], sanitizer)
    if not take_reports(sanitizer):
        return ["the sanitizer does not see a seeded bug in a module that Python has loaded"]
    problems = []
    seeded = [sys.executable, "-m", "pytest", "-q", "tests/emulator/test_seeded_bugs.py"]
    if subprocess.run(seeded, cwd=ROOT, env=os.environ | {"EMOGS_SANITIZE": sanitizer}).returncode != 0:
        problems.append("seeded bugs are not caught as stated in tests/emulator/README.md")
    # What is written to the file descriptor must not be captured: a report that ends the process would be lost.
    options = ["-q", "-k", "emulated", "-p", "no:cacheprovider", "--capture=sys"]
    if (code := run([sys.executable, "-m", "pytest", *options, *arguments], sanitizer)) != 0:
        problems.append(f"pytest ended with exit code {code}")
    return problems + sorted(set(take_reports(sanitizer)))


def main(arguments: list[str]) -> int:
    chosen, _, rest = " ".join(arguments).partition("--")
    problems = {name: check(name, rest.split() or ["tests"]) for name in chosen.split() or NAMES}
    for name, found in problems.items():
        print(f"\n{NAMES[name]}: {'clean' if not found else f'{len(found)} problems'}")
        for line in found:
            print(f"  {line}")
    return 1 if any(problems.values()) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
