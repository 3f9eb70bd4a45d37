"""`emogs bench run`: every case runs, is stored with its machine, and names what was asked for."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import speed
import speed_cases
import speed_machine
import speed_stamp
import torch
from speed_files import read_all
from speed_worker import processor_clock_is_fine

import emogs
from emogs import cli_bench

CPU = torch.device("cpu")
BENCHMARKS = Path(speed_cases.__file__).parent


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "emogs", "bench", *arguments], capture_output=True, text=True)


def test_run_stores_every_case_with_its_machine(tmp_path):
    out = tmp_path / "speed.json"
    result = bench("run", "emotion_", "tiles", "--quick", "--rounds", "2", "--threads", "1", "--out", str(out))
    assert result.returncode == 0, result.stdout + result.stderr
    assert "these figures mean nothing" in result.stdout
    stored = json.loads(out.read_text())
    names = {entry["name"].removeprefix("test_speed[").removesuffix("]") for entry in stored["benchmarks"]}
    assert names == set(speed_cases.matching(speed_cases.all_cases(speed_cases.QUICK), ["emotion_", "tiles"]))
    run = read_all([out]).runs[0]  # as `report` reads it
    assert set(run.benchmarks) == names and run.origin.quick
    machine = stored["machine_info"]["emogs"]
    assert machine["threads"] == "1" and machine["torch"] == torch.__version__ and machine["compiler"] != "unknown"
    assert stored["machine_info"].keys() == {"emogs", "load", "quick"}  # no name of the machine, no path
    assert stored["machine_info"]["quick"] is True
    assert stored["commit_info"].keys() == {"id", "time", "dirty"}
    for entry in stored["benchmarks"]:
        extra = entry["extra_info"]
        assert extra["gigabytes_per_second"] == pytest.approx(1e-9 * extra["bytes"] / entry["stats"]["min"])
        assert extra["of_copy"] == pytest.approx(extra["gigabytes_per_second"] / extra["copy_gigabytes_per_second"])
        assert ("pairs" in extra) == ("_tiles/" in entry["name"])
        loop = extra["limit"] == "pair loop"
        assert loop == ("blend_tiles" in entry["name"] and "3channels" in entry["name"])
        assert extra["clock"] == ("processor" if processor_clock_is_fine() else "wall")  # of one thread
        assert extra["of_limit"] > 0 if loop else extra["of_limit"] == extra["of_copy"]
        assert len(entry["stats"]["data"]) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "no_such_operation"], "no benchmark's name contains 'no_such_operation'"),
        (["run", "--rounds", "0"], "--rounds: expected at least 1, got 0"),
        (["run", "--threads", "-1"], "--threads: expected at least 1, got -1"),
        (["run", "--out", "."], "--out .: expected a file to write, got a folder"),
        (["run", "--keep"], "--keep: a part of the benchmarks, or --quick, is no point of a history"),
        (["compare", "no_such_revision", "."], "no_such_revision: expected a git revision, a wheel or the folder of"),
        (["compare", ".", ".", "--tolerance", "nan"], "--tolerance: expected 0 to 10, got nan"),
        (["compare", ".", ".", "--rounds", "0"], "--rounds: expected at least 1, got 0"),
    ],
)
def test_bad_input_is_one_line(arguments, message, monkeypatch, capsys):
    for name, value in speed.WARM.items():  # else `main` starts Python anew
        monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit) as end:
        speed.main([*arguments, "--quick"])
    assert end.value.code == 2
    said = capsys.readouterr().out
    assert said.startswith("emogs bench: ") and message in said


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "--wat"], "bench: --wat is unknown"),
        (["run", "--round", "3"], "did you mean --rounds?"),
        (["run", "--rounds", "x"], "--rounds: expected a whole number, got 'x'"),
        (["walk"], "bench: walk is unknown; known: run, compare, selftest, ratios, peers, report, docs"),
        (
            ["walk", "--rounds", "2"],
            "bench: walk is unknown; known: run, compare, selftest, ratios, peers, report, docs",
        ),
        (["compare", "main"], "bench compare: HEAD is missing; emogs bench compare --help says what it takes"),
        ([], "bench: expected one of run, compare, selftest, ratios, peers, report, docs, got nothing"),
    ],
)
def test_wrong_arguments_are_one_line_as_those_of_other_commands(arguments, message, monkeypatch, capsys):
    for name, value in speed.WARM.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit) as end:
        speed.main(arguments)
    said = capsys.readouterr().err
    assert end.value.code == 2 and said.startswith("emogs: ") and said.count("\n") == 1 and message in said


@pytest.mark.parametrize("name", speed_cases.all_cases(speed_cases.QUICK))
def test_every_case_runs(name):
    work = speed_cases.all_cases(speed_cases.QUICK)[name]()
    work.call()
    work.call()
    assert work.bytes > 0


def test_cases_cover_every_public_operation():
    covered = {name.split("/")[0] for name in speed_cases.all_cases(speed_cases.FULL)}
    public = {name for name in emogs.ops.__all__ if name[0].islower()} | {"rasterize"} | set(emogs.nn.__all__)
    assert public == covered
    forward = {name for name in speed_cases.all_cases(speed_cases.FULL) if "/forward/" in name}
    backward = {name.replace("/backward/", "/forward/") for name in speed_cases.all_cases(speed_cases.FULL)} & forward
    assert backward == forward
    for name in forward - {n for n in forward if n.startswith("intersect_tiles")}:
        assert name.replace("/forward/", "/backward/") in speed_cases.all_cases(speed_cases.FULL)


def test_bytes_are_those_of_the_tensors():
    forward = speed_cases.norm(10, 4, "float32", "layer", "forward", CPU)
    assert forward.bytes == 4 * (40 + 4 * 4 + 40)
    backward = speed_cases.norm(10, 4, "float32", "layer", "backward", CPU)
    assert backward.bytes == 4 * (40 + 2 * (40 + 4 * 4))
    block = speed_cases.norm(10, 4, "float32", "block", "forward", CPU)
    assert block.bytes == 4 * (2 * 40 + 3 * 16 + 2 * 4 + 2 * 40 + 10)  # x, residual; codes; weight, bias; y, sum; rows


def test_the_sizes_that_are_promised_are_there():
    names = " ".join(speed_cases.all_cases(speed_cases.FULL))
    for size in ("head20000", "head80000", "head180000", "place1000000", "-3channels", "-32channels", "-32emotions"):
        assert size in names


def test_emotions_are_trained_too():
    scene = speed_cases.Scene(50, emotions=2, faces=10, pixels=(32, 32))
    given, _, _ = scene.make(CPU)
    fields = {f"basis.{name}" for name in ("means", "rotations", "log_scales", "logit_opacities", "colors")}
    assert given.keys() == set(speed_cases.FIELDS) | fields | {"emotion", "frames"}
    work = speed_cases.whole(scene, "backward", CPU)
    assert [gradient.shape for gradient in work.call()] == [tensor.shape for tensor in given.values()]


def test_a_run_knows_the_revision_of_what_it_imports(tmp_path, monkeypatch):
    """Whatever git is told elsewhere: of another repository, as in a hook, or of signatures, hooks and templates."""
    if shutil.which("git") is None:
        pytest.skip("needs git")
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    for name in ("GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM"):
        monkeypatch.setenv(name, os.devnull)

    def git(*arguments: str) -> str:
        identity = ("-c", "user.name=x", "-c", "user.email=x@example.org")
        command = ["git", "-C", str(tmp_path), *identity, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    def package(folder: Path) -> Path:
        folder.mkdir(parents=True)
        file = folder / "__init__.py"
        file.write_text("")
        return file

    own = package(tmp_path / "emogs")
    git("init", "-q")
    git("checkout", "-q", "-b", "main")
    git("add", "emogs/__init__.py")
    git("commit", "-q", "-m", "one")
    known = git("rev-parse", "HEAD")
    found = speed_stamp.commit(own)
    assert found["id"] == known and found["time"] and found["dirty"] is False
    own.write_text("changed = True")
    assert speed_stamp.commit(own)["dirty"] is True
    unpacked = package(tmp_path / "build" / known[:16] / "emogs")
    assert speed_stamp.commit(unpacked) == found
    for name in ("main", "0123456789abcdef", "site-packages"):
        assert speed_stamp.commit(package(tmp_path / "build" / name / "emogs"))["id"] == "unknown"


def test_without_a_compiler_the_limit_is_a_copy(monkeypatch):
    def missing() -> None:
        raise RuntimeError("pair_loop: no C++ compiler")

    work = speed_cases.Work(lambda: None, 1, 1, missing)
    spec = importlib.util.spec_from_file_location("speed_timing", BENCHMARKS / "speed" / "test_speed.py")
    timing = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(timing)
    found = timing.beside_limit(work, lambda: 0.0, 0.5, 0.25)
    assert found == {"limit": "copy", "of_limit": 0.25, "no_pair_loop": "pair_loop: no C++ compiler"}


def test_fingerprint_differences_are_named():
    here = speed_machine.fingerprint()
    assert speed_machine.differences(here, dict(here)) == []
    assert speed_machine.differences(here, here | {"torch": "9.9"}) == [f"torch: {torch.__version__} / 9.9"]
    assert speed_machine.differences(here, here | {"new": "1"}) == ["new: not recorded / 1"]


def test_arguments_are_read_as_here_whatever_emogs_is_measured(tmp_path):
    """An older emogs on PYTHONPATH has no such function, or another one."""
    (tmp_path / "emogs").mkdir()
    (tmp_path / "emogs" / "__init__.py").write_text("raise ImportError('an old one')")
    command = [sys.executable, str(BENCHMARKS / "speed.py"), "walk"]
    said = subprocess.run(command, env=os.environ | {"PYTHONPATH": str(tmp_path)}, capture_output=True, text=True)
    assert said.returncode == 2 and said.stderr.startswith("emogs: bench: walk is unknown; known: run, compare")


def test_says_that_it_needs_a_checkout(monkeypatch, tmp_path):
    monkeypatch.setattr(cli_bench, "TOOL", tmp_path / "speed.py")
    with pytest.raises(ValueError, match="emogs bench needs emogs installed from a checkout"):
        cli_bench.main(["run"])
