"""Instruction counts of the CPU kernels: the same in every run, more of them fail, and nothing passes unseen."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
import speed_check
import speed_count
from gate import Broken, CannotTell
from gate import main as gate_main
from gate import run as run_tool
from pair_loop import find_compiler
from speed_code import code_hash
from speed_compare import KERNELS
from speed_count import Count, changes, count, count_program, counter, make_driver
from speed_reference import Reference, compiler_of, flags_of

ROOT = Path(__file__).resolve().parents[1]
FLAGS = "-O3 -std=c++17 -ffp-contract=off -fopenmp-simd -fno-math-errno -fno-trapping-math -fno-exceptions -fopenmp"
FORMULA = "channels * multiply_add(params - center, scale, shift)"
SLOWER = f"{FORMULA} + shift * scale * V(1e-30f)"
NAME = "emotion_renorm/8x256x153/float32"


@pytest.fixture(scope="module", autouse=True)
def countable() -> None:
    try:
        counter()
    except CannotTell as reason:
        pytest.skip(str(reason))


def kernel(folder: Path, formula: str = FORMULA) -> Path:
    """emotion_renorm's AVX2 kernels as an object file, with another formula."""
    shutil.copytree(ROOT / "csrc", folder / "csrc")
    header = folder / "csrc" / "math" / "renorm.h"
    assert FORMULA in header.read_text()
    header.write_text(header.read_text().replace(FORMULA, formula))
    made = folder / "renorm_cpu.cpp.o"
    options = [f"-I{folder / 'csrc'}", "-DEMOGS_ISA=v3", "-march=x86-64-v3", *FLAGS.split()]
    source = folder / "csrc" / "renorm" / "renorm_cpu.cpp"
    subprocess.run([find_compiler(), *options, "-c", str(source), "-o", str(made)], check=True)
    return made


def program(made: Path) -> Path:
    """The part of count_instructions that calls them."""
    path = made.with_name("count_renorm")
    sources = [str(ROOT / "benchmarks" / "native" / f"{name}.cpp") for name in ("main", "openmp", "renorm")]
    options = [f"-I{ROOT / 'csrc'}", "-DEMOGS_COUNTED=v3", "-std=c++17", "-O2", "-Wl,-z,now"]
    subprocess.run([find_compiler(), *options, *sources, str(made), "-o", str(path)], check=True)
    return path


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return program(kernel(tmp_path_factory.mktemp("base")))


def test_a_count_is_the_same_in_every_run(base, monkeypatch):
    """Also beside another run, in another environment and when called by another path."""
    first = count_program(base)
    assert list(first) == [f"{NAME}/forward", f"{NAME}/backward"]
    assert all(c.unit == "elements" and c.instructions > c.work / 4 for c in first.values())
    monkeypatch.setenv("VALGRIND_LIB_IS_NOT_THIS", "x" * 1000)
    elsewhere = base.parent / "a longer path to the same program"
    elsewhere.mkdir()
    shutil.copy(base, elsewhere / "x")
    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(count_program, (base, elsewhere / "x"))) == [first, first]


def test_a_seeded_regression_gets_its_message(base, tmp_path):
    slower = count_program(program(kernel(tmp_path, SLOWER)))
    was = count_program(base)
    (change,) = changes(was, slower)
    assert 1.03 < change.ratio < 1.5 and speed_check.is_worse(change)
    name = f"{NAME}/forward"
    before, after = was[name].instructions, slower[name].instructions
    assert str(change) == (
        f"{name}: {after:,} instructions, was {before:,} ({after / before:.3f} times; at most 1.010)"
    )
    (gain,) = changes(slower, was)
    assert gain.ratio < 0.97 and not speed_check.is_worse(gain)


def test_machine_code_does_not_depend_on_folders_or_comments(tmp_path, base):
    for folder in ("here", "a longer path/there"):
        (tmp_path / folder).mkdir(parents=True)
    same = [kernel(tmp_path / "here"), kernel(tmp_path / "a longer path/there", FORMULA + " /* a comment */")]
    assert len({code_hash(path) for path in (base.with_name("renorm_cpu.cpp.o"), *same)}) == 1
    assert compiler_of(same[0]) == compiler_of(same[1]) != "unknown compiler"


def test_a_program_that_does_not_run_is_broken(tmp_path):
    fails = tmp_path / "fails"
    fails.write_text("#!/bin/sh\necho oh no >&2\nexit 3\n")
    fails.chmod(0o755)
    with pytest.raises(Broken, match=r"fails under valgrind failed:\n.*oh no"):
        count_program(fails)
    silent = tmp_path / "silent"
    silent.write_text("#!/bin/sh\necho a/b/c/forward 1 pairs\n")
    silent.chmod(0o755)
    with pytest.raises(Broken, match="silent: callgrind has not written one result for each of 1 calls"):
        count_program(silent)


def test_a_processor_without_the_instructions_cannot_tell(tmp_path):
    old = tmp_path / "old"
    old.write_text("#!/bin/sh\nkill -ILL $$\n")
    old.chmod(0o755)
    with pytest.raises(CannotTell, match="old: this processor, or valgrind, lacks an instruction"):
        count_program(old)


def test_a_tool_that_is_missing_is_named():
    with pytest.raises(Broken, match="no-such-tool is not on PATH"):
        run_tool(["no-such-tool", "--version"])


# The reference

CASES = {"a/b/c/forward": Count(1000, 10, "pairs"), "a/b/c/backward": Count(2000, 10, "pairs")}
BASE = Reference(
    "x86_64, GCC 12", {"v3": "-O3"}, {"valgrind": "3.19.0"}, "driver", {"a_cpu v3": "01", "a_cpu v4": "02"}, CASES
)


@pytest.fixture
def verdict(tmp_path, monkeypatch, capsys):
    """What `check` makes of a build that counts as `counts` says, against BASE: exit code and lines."""

    def check(now: Reference, counts: dict[str, Count], can_count: bool = True, base: Reference = BASE):
        def fake(build, operation=""):
            return counts

        def tools():
            if not can_count:
                raise CannotTell("valgrind, which counts instructions, is not on PATH")
            return BASE.counter

        monkeypatch.setattr(Reference, "of", lambda build: replace(now, counts={}))
        monkeypatch.setattr(speed_check, "count", fake)
        monkeypatch.setattr(speed_check, "counter", tools)
        base.save(tmp_path / "reference.json")
        code = speed_check.check(tmp_path / "reference.json", tmp_path)
        return code, capsys.readouterr().out.splitlines()

    return check


CHANGED = replace(BASE, kernels={"a_cpu v3": "03", "a_cpu v4": "04"})


MORE = "a/b/c/forward: 1,011 instructions, was 1,000 (1.011 times; at most 1.010)"


def forward(instructions: int, work: int = 10) -> dict[str, Count]:
    return CASES | {"a/b/c/forward": Count(instructions, work, "pairs")}


def test_the_same_machine_code_passes_uncounted(verdict):
    code, lines = verdict(BASE, {}, can_count=False)
    assert (
        code == 0 and len(lines) == 1 and "2 are the same machine code as in the reference; complaints: 0" in lines[0]
    )


@pytest.mark.parametrize(
    ("now", "counts", "code", "line"),
    [
        (CHANGED, forward(1010), 0, None),
        (CHANGED, forward(1011), 1, MORE),
        (
            CHANGED,
            forward(900),
            0,
            "a/b/c/forward: 900 instructions, was 1,000 (0.900 times; at most 1.010): accept it to keep the gain",
        ),
        (CHANGED, forward(1000, 11), 1, "a/b/c/forward: does other work, 11 pairs, was 10 pairs"),
        (CHANGED, CASES | {"a/d/c/forward": CASES["a/b/c/forward"]}, 1, "a/d/c/forward: new, not in the reference"),
        (CHANGED, {"a/b/c/forward": Count(1000, 10, "pairs")}, 1, "a/b/c/backward: in the reference, but gone"),
        (replace(BASE, driver="other"), forward(1011), 1, MORE),
        (replace(CHANGED, flags={"v3": "-O2"}), CASES, 0, "compiler flags, v3: -O2, were -O3"),
        (replace(BASE, kernels=BASE.kernels | {"b_cpu v3": "05"}), CASES, 1, "b_cpu v3: new, not in the reference"),
        (replace(BASE, kernels={"a_cpu v3": "01"}), CASES, 1, "a_cpu v4: in the reference, but gone"),
        (
            replace(BASE, kernels={"a_cpu v3": "01", "a_cpu v4": "05"}),
            CASES,
            77,
            "CPU kernels: cannot tell: a_cpu v4 changed, and a_cpu v3 did not, which is what is counted; "
            "`emogs bench compare` can time it",
        ),
    ],
)  # fmt: skip
def test_what_changed_is_counted(verdict, now, counts, code, line):
    found, lines = verdict(now, counts)
    assert found == code and (line is None or line in lines)
    assert f"complaints: {int(code == 1)};" in "\n".join(lines)
    assert ("accept` makes it the reference" in lines[-1]) == (code == 1)


def test_what_is_there_is_left_as_a_reference(tmp_path, monkeypatch):
    """So that it can be committed where the reference's compiler is not at hand."""
    monkeypatch.setattr(Reference, "of", lambda build: replace(CHANGED, counts={}, counter={}))
    monkeypatch.setattr(speed_check, "count", lambda build: forward(1500))
    monkeypatch.setattr(speed_check, "counter", lambda: BASE.counter)
    was, found = tmp_path / "reference.json", tmp_path / "found.json"
    BASE.save(was)
    assert speed_check.check(was, tmp_path, found) == 1
    assert Reference.load(found) == replace(CHANGED, counts=forward(1500))
    assert speed_check.check(found, tmp_path) == 0
    monkeypatch.setattr(Reference, "of", lambda build: replace(BASE, counts={}, counter={}))
    assert speed_check.check(was, tmp_path, found) == 0
    assert Reference.load(found) == BASE


def test_without_valgrind_a_change_cannot_be_told(verdict):
    code, lines = verdict(CHANGED, {}, can_count=False)
    assert code == 77
    assert lines[-1] == "CPU kernels: cannot tell: valgrind, which counts instructions, is not on PATH"
    worse = replace(CHANGED, kernels=CHANGED.kernels | {"b_cpu v3": "1"})
    code, lines = verdict(worse, {}, can_count=False)
    assert code == 1 and "b_cpu v3: new, not in the reference" in lines  # what can be told is


def test_another_compiler_or_valgrind_cannot_tell(verdict):
    with pytest.raises(CannotTell, match="the reference was made with x86_64, GCC 12, here is aarch64, GCC 12"):
        verdict(replace(BASE, machine="aarch64, GCC 12"), {})
    code, lines = verdict(CHANGED, CASES, base=replace(BASE, counter={"valgrind": "3.22.0"}))
    assert code == 77
    assert lines[-1].endswith("the reference was counted with valgrind 3.22.0, here is valgrind 3.19.0")


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"counts": {"a": {"instructions": 1}}}', '{"counts": {}, "x": 1}']
)
def test_a_file_that_is_no_reference_is_refused(tmp_path, content):
    path = tmp_path / "reference.json"
    path.write_text(content)
    with pytest.raises(Broken, match=r"reference\.json: expected a reference that `accept` wrote"):
        Reference.load(path)


def test_a_reference_is_read_as_it_was_written(tmp_path):
    BASE.save(tmp_path / "reference.json")
    assert Reference.load(tmp_path / "reference.json") == BASE
    assert (
        '"a/b/c/forward": {"instructions": 1000, "unit": "pairs", "work": 10}'
        in (tmp_path / "reference.json").read_text()
    )
    assert Reference.load(tmp_path / "none.json") == Reference()


def test_compiler_options_are_read(tmp_path):
    def entry(isa: str, options: str) -> dict[str, str]:
        command = f"ccache /usr/bin/c++ -DEMOGS_ISA={isa} -I/here/csrc -O3 {options} -o x.o -c /here/csrc/x/x_cpu.cpp"
        return {"file": "/here/csrc/x/x_cpu.cpp", "command": command}

    commands = tmp_path / "compile_commands.json"
    other = {"file": "/here/csrc/bindings.cpp", "command": "c++ -O2 -c /here/csrc/bindings.cpp"}
    commands.write_text(json.dumps([entry("v3", "-mavx2"), entry("v4", ""), other]))
    assert flags_of(tmp_path) == {"v3": "-O3 -mavx2", "v4": "-O3"}
    commands.write_text(json.dumps([entry("v3", "-mavx2"), entry("v3", "")]))
    with pytest.raises(Broken, match="kernel files are compiled with different flags for v3"):
        flags_of(tmp_path)


# Two builds


@pytest.fixture
def two_builds(monkeypatch):
    """`verdicts` of two builds that count as given, of which a's kernel changed and b's did not."""

    def compare(base: object, head: object, kernels: dict[str, list[str]]) -> list[tuple[str, str, str]]:
        def fake(build):
            found = base if build == "base" else head
            if isinstance(found, Exception):
                raise found
            return found

        monkeypatch.setattr(speed_count, "count", fake)
        monkeypatch.setattr(speed_count, "kernel_hashes", lambda build: {"a_cpu v3": build, "b_cpu v3": "1"})
        return list(speed_count.verdicts("base", "head", kernels))

    return compare


BOTH = {"a": ["a_cpu"], "b": ["b_cpu"]}


def test_two_builds_are_compared(two_builds):
    one = Count(1, 1, "pairs")
    before = CASES | {"a/old/c/forward": one, "a/d/c/forward": one, "b/b/c/forward": one}
    after = forward(1100) | {"a/new/c/forward": one, "a/d/c/forward": Count(1, 2, "pairs")}
    assert two_builds(before, after, BOTH) == [
        ("passed", n := "a/b/c/backward", f"{n}: 2,000 instructions, was 2,000 (1.000 times; at most 1.010)"),
        ("FAILED", n := "a/b/c/forward", f"{n}: 1,100 instructions, was 1,000 (1.100 times; at most 1.010)"),
        ("hole", n := "a/d/c/forward", f"{n}: does other work, 2 pairs, was 1 pairs"),
        ("hole", n := "a/new/c/forward", f"{n}: instructions counted in head only"),
        ("hole", n := "a/old/c/forward", f"{n}: instructions counted in base only"),
    ]


def test_builds_without_a_change_are_not_counted(two_builds):
    assert two_builds(AssertionError(), AssertionError(), {"b": ["b_cpu"]}) == []


def test_a_base_that_cannot_be_counted_is_no_failure_of_head(two_builds):
    with pytest.raises(CannotTell, match="base: oh no"):
        two_builds(Broken("oh no"), CASES, BOTH)
    with pytest.raises(Broken, match="oh no"):
        two_builds(CASES, Broken("oh no"), BOTH)


def test_where_nothing_can_be_counted_it_is_said(tmp_path, monkeypatch):
    with pytest.raises(CannotTell, match="has no object files of the kernels"):
        make_driver(tmp_path)
    with pytest.raises(CannotTell, match="has no object files of x86-64-v3 kernels"):  # as beside an installed wheel
        list(speed_count.verdicts(tmp_path, tmp_path, BOTH))
    (tmp_path / "CMakeCache.txt").touch()
    monkeypatch.setattr(speed_count, "run", lambda command: "_C: phony\nall: phony\n")
    with pytest.raises(CannotTell, match="has no program that calls its kernels"):  # older than the program
        make_driver(tmp_path)
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(CannotTell, match="valgrind, which counts instructions, is not on PATH"):
        count(tmp_path)
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    with pytest.raises(CannotTell, match="on Linux x86_64 only, here is Linux aarch64"):
        count(tmp_path)


def gate(*arguments, **environment) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "benchmarks" / "speed_check.py"), *map(str, arguments)]
    return subprocess.run(command, env=os.environ | environment, capture_output=True, text=True)


@pytest.fixture
def build() -> Path:
    if not speed_check.BUILD.is_dir():
        pytest.skip("this checkout was not built in place")
    return speed_check.BUILD


def test_every_kernel_file_is_counted(build):
    said = subprocess.run([make_driver(build)], capture_output=True, text=True, check=True).stdout
    cases = {line.split()[0]: int(line.split()[1]) for line in said.splitlines()}
    assert min(cases.values()) > 1000
    forward, backward = (
        {name.split("/")[0] for name in cases if name.endswith(way)} for way in ("/forward", "/backward")
    )
    assert forward == backward | {"intersect_tiles"}
    files = {name.split()[0] for name in Reference.of(build).kernels}
    assert {file for operation in forward for file in KERNELS[operation]} == files


def test_the_whole_command(build, tmp_path):
    path = tmp_path / "reference.json"
    now = Reference.of(build)
    replace(now, counts=CASES).save(path)
    run = gate("check", "--reference", path)
    assert run.returncode == 0 and "complaints: 0" in run.stdout, run.stdout + run.stderr
    replace(now, machine="x86_64, GCC: (Other) 1.2.3").save(path)
    run = gate("check", "--reference", path)
    assert run.returncode == 77
    assert run.stdout.startswith(
        "CPU kernels: cannot tell: the reference was made with x86_64, GCC: (Other) 1.2.3, here is"
    )
    run = gate("check", "--reference", path, "--build", tmp_path)
    assert run.returncode == 1 and "has no object files of the CPU kernels: `make build` makes them" in run.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "expected one of check, accept, table, got nothing"),
        (["walk"], "walk is unknown; known: check, accept, table"),
        (["check", "--refernce", "x"], "--refernce is unknown; did you mean --reference?"),
        (["check", "more"], "more is unknown"),
    ],
)
def test_wrong_arguments_are_one_line(arguments, said, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["speed_check.py", *arguments])
    with pytest.raises(SystemExit) as end:
        gate_main(
            "CPU kernels", {"check": speed_check.check, "accept": speed_check.accept, "table": speed_check.table}, ""
        )
    assert end.value.code == 2
    assert capsys.readouterr().out == f"CPU kernels: speed_check.py: {said}\n"


def test_the_guide_gives_the_references_counts():
    """`speed_check.py table --guide` prints what belongs there."""
    assert speed_check.guide_table(Reference.load(speed_check.PATH)) in (ROOT / "docs" / "gating.md").read_text()
