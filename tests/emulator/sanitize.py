"""`make sanitize`: the emulated kernels under ThreadSanitizer, and under AddressSanitizer with UBSan; the CPU's under
the latter. For each: builds them, makes sure that a seeded bug is reported from within Python, and runs tests that
launch every kernel. Ends with a verdict, which names what was reported, and every kernel that no test has launched.

    python tests/emulator/sanitize.py [thread|address|cpu ...] [--all] [-- arguments of pytest]
    python tests/emulator/sanitize.py choose    writes sanitized_tests.txt anew, after tests or kernels have changed
    python tests/emulator/sanitize.py calls [COUNT [FIRST]]    random calls of all operations instead of tests

`--all` runs all tests of the kernels, which takes an hour; arguments of pytest run what they say.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
CHOSEN = HERE / "sanitized_tests.txt"
EMULATED_TESTS = ["tests", "-k", "emulated"]
CPU_TESTS = ["tests/ops", "tests/test_rasterize.py", "tests/test_raster_fuzz.py", "-k", "not emulated and not cuda"]
CPU_EACH = "2"
"""Tests of each test function on the CPU's kernels, which have no list."""

# A bug that the sanitizer must report: if it does not, its silence means nothing.
CALL_CANARY = "import ctypes, sys, torch; ctypes.CDLL(sys.argv[1]).run_seeded_bug(sys.argv[2].encode(), True)"
OVERRUN = "write beyond a static shared array, by a pointer"


@dataclass(frozen=True)
class Build:
    """A native module that reports."""

    title: str
    folder: Path
    options: dict[str, str]
    libraries: tuple[str, ...] = ()
    canary: str = ""
    order: str = "forward"
    """In which emulated threads run."""
    tests: list[str] = field(default_factory=lambda: list(EMULATED_TESTS))

    @property
    def module(self) -> Path:
        return next(self.folder.glob("_C.*.so"))

    @property
    def emulated(self) -> bool:
        return self.options["EMOGS_CUDA"] == "emulate"


EMULATE, ADDRESS = {"EMOGS_CUDA": "emulate"}, ("libasan.so", "libubsan.so")
PLAIN = Build("", ROOT / "build" / "emulate", EMULATE)
BUILDS = {
    "thread": Build(
        "ThreadSanitizer, emulated kernels",
        ROOT / "build" / "emulate-thread",
        EMULATE | {"EMOGS_SANITIZE": "thread"},
        ("libtsan.so",),
        "threads count in shared memory without atomics",
        "random:1",  # a race is one in any order
    ),
    "address": Build(
        "AddressSanitizer and UBSan, emulated kernels",
        ROOT / "build" / "emulate-address",
        EMULATE | {"EMOGS_SANITIZE": "address"},
        ADDRESS,
        OVERRUN,
    ),
    "cpu": Build(
        "AddressSanitizer and UBSan, the CPU's kernels",
        ROOT / "build" / "cpu-address",
        {"EMOGS_CUDA": "off", "EMOGS_SANITIZE": "address"},
        ADDRESS,
        tests=CPU_TESTS,
    ),
}


def make(build: Build) -> None:
    import pybind11  # comes with what builds, and tests of this file build nothing

    options = build.options | {
        "CMAKE_MAKE_PROGRAM": shutil.which("ninja") or "ninja",
        "Python_EXECUTABLE": sys.executable,
        "pybind11_DIR": pybind11.get_cmake_dir(),
    }
    definitions = [f"-D{name}={value}" for name, value in options.items()]
    command = ["cmake", "-G", "Ninja", "-S", ROOT, "-B", build.folder, "--log-level=WARNING", *definitions]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    target = ["--target", "_C"] if not build.emulated else []
    subprocess.run(["cmake", "--build", build.folder, *target, "--", "--quiet"], check=True)


def library(name: str) -> str:
    compiler = os.environ.get("CXX", "c++")
    return subprocess.run([compiler, f"-print-file-name={name}"], capture_output=True, text=True).stdout.strip()


def environment(build: Build) -> dict[str, str]:
    """What runs Python, which knows nothing of sanitizers, with one: torch's own races and leaks are not ours."""
    log = f"log_path={build.folder / 'report'}"
    preload = [library(name) for name in (*build.libraries, "libstdc++.so.6")]
    module = {"EMOGS_EMULATOR_BUILD": str(build.folder)}
    if not build.emulated:
        module = {"EMOGS_NATIVE_MODULE": str(build.module), "EMOGS_ISA": instrumented(build)}
    return module | {
        "LD_PRELOAD": " ".join(preload) if build.libraries else "",
        "TSAN_OPTIONS": f"{log}:ignore_noninstrumented_modules=1:exitcode=66",
        "ASAN_OPTIONS": f"{log}:detect_leaks=0",
        "UBSAN_OPTIONS": "print_stacktrace=1",  # beside AddressSanitizer it knows no log_path
        "EMOGS_TEST_ORDERS": build.order,
        "EMOGS_RECORD": str(build.folder),
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(HERE), os.environ.get("PYTHONPATH", "")]),
    }


def instrumented(build: Build) -> str:
    """The instruction set whose kernels report (cmake/sanitize.cmake)."""
    return "v3" if "cpu_v3" in (build.folder / "build.ninja").read_text() else "baseline"


def run(command: list[str | Path], build: Build, **more: str) -> int:
    """Under the sanitizer; what comes to the standard error is left in a file, for take_reports."""
    with (build.folder / "report.stderr").open("w") as errors:
        chosen = os.environ | environment(build) | more
        return subprocess.run(command, cwd=ROOT, env=chosen, stderr=errors).returncode


def pytest(build: Build, arguments: list[str], **more: str) -> int:
    # What is written to the file descriptor must not be captured: a report that ends the process would be lost.
    options = ["-q", "-p", "sanitize_plugin", "-p", "no:cacheprovider", "--capture=sys"]
    for name in ("calls", "launches", "tests", "gone"):
        (build.folder / name).unlink(missing_ok=True)
    return run([sys.executable, "-m", "pytest", *options, *arguments], build, **more)


def take_reports(build: Build) -> list[str]:
    """What the sanitizer has said since this was last called: a summary of each report."""
    summaries: list[str] = []
    for path in sorted(build.folder.glob("report.*")):
        text = path.read_text(errors="replace")
        summaries += re.findall(r"^SUMMARY: .*|^.*runtime error: .*|^.*Sanitizer: CHECK failed.*", text, re.MULTILINE)
        path.rename(path.with_name(f"last-{path.name}"))
    return summaries


def kernels(build: Build) -> dict[int, str]:
    """The kernels of an emulated build by their offsets: each instantiation is one."""
    said = subprocess.run(["nm", "-C", build.module], capture_output=True, text=True, check=True).stdout
    symbol = re.compile(r"([0-9a-f]+) [tTwW] (?:void )?emogs::\(anonymous namespace\)::(\w+_kernel(?:<.*>)?)\([^\[]*$")
    found = (symbol.fullmatch(line) for line in said.splitlines())
    names = {int(match[1], 16): match[2] for match in found if match}
    plain = re.compile(r"emogs::|\(anonymous namespace\)::|(?<=>) (?=>)")
    return {at: plain.sub("", name) for at, name in names.items()}


def lines_of(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def not_run(build: Build) -> list[str]:
    """Kernels that no test has launched; of the CPU, native functions that none has called."""
    if build.emulated:
        launched = {int(line, 16) for line in lines_of(build.folder / "launches")}
        return sorted(f"no test has launched {name}" for at, name in kernels(build).items() if at not in launched)
    code = "from emogs import _C; print(*(n for n in dir(_C) if callable(getattr(_C, n)) and not n.startswith('_')))"
    every = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    about = {"isa_in_use", "use_isa", "supported_isas"}
    of_cuda = {name for name in every.split() if name.startswith("intersect_tiles_") and name[16:] in ON_CUDA_ONLY}
    called = set(lines_of(build.folder / "calls"))
    return sorted(f"no test has called {name}" for name in set(every.split()) - about - of_cuda - called)


ON_CUDA_ONLY = ("order", "order_scratch", "emit", "emit_scratch")


def check(name: str, arguments: list[str], everything: bool) -> list[str]:
    """What is wrong, one line each."""
    build = BUILDS[name]
    take_reports(build)
    problems = []
    if build.canary:
        library = build.folder / "libseeded_bugs.so"
        run([sys.executable, "-c", CALL_CANARY, library, build.canary], build)
        if not take_reports(build):
            return ["the sanitizer does not see a seeded bug in a module that Python has loaded"]
        seeded = [sys.executable, "-m", "pytest", "-q", "tests/emulator/test_seeded_bugs.py"]
        if subprocess.run(seeded, cwd=ROOT, env=os.environ | {"EMOGS_SANITIZE": name}).returncode != 0:
            problems.append("seeded bugs are not caught as stated in tests/emulator/README.md")
    only = "" if everything or arguments else str(CHOSEN) if build.emulated else CPU_EACH
    if (code := pytest(build, arguments or build.tests, EMOGS_ONLY=only)) != 0:
        problems.append(f"pytest ended with exit code {code}")
    problems += sorted(set(take_reports(build)))
    if not arguments:
        problems += not_run(build)
    problems += [f"{test} is gone: `sanitize.py choose`" for test in lines_of(build.folder / "gone")]
    return problems


def calls(count: int = 10_000, first: int = 0) -> dict[str, list[str]]:
    """Random calls, of the functions and of the operations below them, on the CPU's kernels and on emulated ones."""
    problems = {}
    for name in ("cpu", "address"):
        build = BUILDS[name]
        make(build)
        take_reports(build)
        command = [sys.executable, ROOT / "tests" / "fuzz" / "calls.py", "--count", str(count), "--first", str(first)]
        code = run([*command, "--emulated"] if build.emulated else command, build)
        problems[name] = [f"calls.py ended with exit code {code}"] * (code != 0) + sorted(set(take_reports(build)))
    return problems


def choose() -> None:
    """For each kernel a test that launches it, beside the quickest of each test function."""
    make(PLAIN)
    if pytest(PLAIN, EMULATED_TESTS, EMOGS_RECORD_TESTS="1") != 0:
        sys.exit("tests fail: mend them first")
    launches: dict[str, tuple[float, set[int]]] = {}
    for line in lines_of(PLAIN.folder / "tests"):
        test, seconds, kernels_run = line.split("\t")
        launches[test] = float(seconds), {int(at, 16) for at in kernels_run.split()}
    CHOSEN.write_text("\n".join(chosen(launches, set(kernels(PLAIN)))) + "\n")


def chosen(launches: dict[str, tuple[float, set[int]]], every: set[int]) -> list[str]:
    """From the seconds and kernels of each test, those that launch every kernel that some test does."""
    functions: dict[str, list[str]] = {}
    for test in launches:
        functions.setdefault(test.partition("[")[0], []).append(test)
    kept = {min(tests, key=lambda test: launches[test][0]) for tests in functions.values()}
    missing = (every & set().union(*(at for _, at in launches.values()))) - set().union(*(launches[t][1] for t in kept))
    while missing:
        best = min(launches, key=lambda test: (-len(launches[test][1] & missing), launches[test][0]))
        kept.add(best)
        missing -= launches[best][1]
    return [test for test in launches if test in kept]


def main(arguments: list[str]) -> int:
    end = arguments.index("--") if "--" in arguments else len(arguments)
    words, rest = arguments[:end], arguments[end + 1 :]
    names = [word for word in words if word != "--all"]
    if names == ["choose"]:
        choose()
        return 0
    if names[:1] == ["calls"]:
        problems = calls(*map(int, names[1:]))
    elif unknown := set(names) - set(BUILDS):
        sys.exit(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(BUILDS)}, choose and calls")
    else:
        for name in names or BUILDS:
            make(BUILDS[name])
        with ThreadPoolExecutor(2) as pool:  # tests use one core, compilers all
            found = pool.map(lambda name: check(name, rest, "--all" in words), names or BUILDS)
            problems = dict(zip(names or BUILDS, found, strict=True))
    for name, found in problems.items():
        print(f"\n{BUILDS[name].title}: {'clean' if not found else f'{len(found)} problems'}")
        for line in found:
            print(f"  {line}")
    return 1 if any(problems.values()) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
