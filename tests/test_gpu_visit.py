"""The GPU visit can be run where there is no GPU, as far as that goes: its plan, its bookkeeping, its measurements."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
from gpu_visit import HEAVIEST, OPERATIONS, ROOT, SMALL, Stage, fingerprint, kernel_codes, stages, visit

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
BUDGET = BENCHMARKS / "cuda_budget.json"
ENDLESS = 599  # seconds, a limit that no other stage has


def python(name: str, code: str, seconds: int = 600, **options) -> Stage:
    return Stage(name, seconds, [sys.executable, "-c", code], **options)


def test_the_plan_is_printed():
    command = [sys.executable, str(BENCHMARKS / "gpu_visit.py"), "--dry-run", "--out", "x"]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    for name in (
        "needs",
        "build",
        "tests",
        "memcheck",
        "racecheck",
        "synccheck",
        "initcheck",
        "gsplat",
        "measure",
        "counters",
    ):
        assert f"\n{name}: at most" in run.stdout
    run = subprocess.run([*command, "--stages", "tests", "sing"], capture_output=True, text=True)
    assert run.returncode == 2 and "no such stage: sing; there are wheels, needs, machine, build" in run.stderr


def test_what_the_plan_names_is_there(tmp_path):
    (tmp_path / "some.whl").touch()
    plan = {stage.name: stage for stage in stages(tmp_path, tmp_path, tmp_path / "site")}
    assert str(tmp_path / "some.whl") in plan["wheels"].command and not plan["wheels"].missing
    assert str(tmp_path / "site") in plan["wheels"].command
    for path in (*OPERATIONS, *SMALL):
        name, _, test = path.partition("::")
        assert (ROOT / name).exists() and f"def {test}" in ((ROOT / name).read_text() if test else "def "), path
    kernels = {kernel for file in json.loads(BUDGET.read_text())["files"].values() for kernel in file}
    assert set(HEAVIEST) <= kernels


def test_what_is_needed_is_named_where_it_is_missing(tmp_path):
    [stage] = [stage for stage in stages(tmp_path, None, tmp_path) if stage.name == "needs"]
    command, modules = stage.command[:3], stage.command[3:]
    assert {"torch", "roma", "tyro", "gsplat"} <= set(modules)
    said = subprocess.run([*command, "torch", "no_such_module"], capture_output=True, text=True)
    assert said.returncode == 1 and "missing: no_such_module" in said.stderr and said.stdout.startswith("Python 3.")


@pytest.fixture
def _impatient(monkeypatch, tmp_path):
    """The time limit of ENDLESS seconds is over as soon as the log says "begun", however long that takes."""

    class Process(subprocess.Popen):
        def wait(self, timeout=None):
            while timeout == ENDLESS and "\nbegun\n" not in (tmp_path / "visit.log").read_text():
                assert self.poll() is None, "ended before it began"
                time.sleep(0.01)
            return super().wait(0 if timeout == ENDLESS else timeout)

    monkeypatch.setattr(subprocess, "Popen", Process)


def test_every_stage_is_accounted_for(tmp_path, _impatient):
    """One that fails, one that never ends, children included, one that cannot run: the rest goes on."""
    hang = (
        "import subprocess, sys; print('begun', flush=True);"
        "subprocess.run([sys.executable, '-c', 'import time; time.sleep(600)'])"
    )
    plan = [
        python("good", "import os; print('fine', os.environ['WORD'])", environment={"WORD": "set"}),
        python("bad", "raise SystemExit('broken')"),
        python("endless", hang, ENDLESS),
        python("impossible", "", missing="no ncu on PATH"),
        python("last", "pass"),
    ]
    assert visit(plan, tmp_path, 60, tmp_path / "work", lambda: {"gpu": "none"}) == 2
    content = json.loads((tmp_path / "visit.json").read_text())
    assert content["machine"] == {"gpu": "none"}
    found = content["stages"]
    assert [found[stage.name]["status"] for stage in plan] == [
        *("passed", "failed", "stopped at its limit"),
        *("skipped", "passed"),
    ]
    assert found["good"]["last_lines"] == ["fine set"] and found["bad"]["last_lines"] == ["broken"]
    assert found["endless"]["last_lines"] == ["begun"]
    assert found["impossible"]["why"] == "no ncu on PATH"
    assert "=== bad: " in (tmp_path / "visit.log").read_text()


def test_another_call_goes_on_where_the_last_one_stopped(tmp_path):
    """Unless kernels have changed."""
    plan = [python("good", "pass"), python("bad", "raise SystemExit('broken')")]
    for why in ("", "passed in an earlier call"):
        assert visit(plan, tmp_path, 60, tmp_path / "work", dict) == 1
        found = json.loads((tmp_path / "visit.json").read_text())["stages"]
        assert found["good"].get("why", "") == why and found["bad"]["status"] == "failed"
    (tmp_path / "work" / "passed.json").write_text(json.dumps({"sources": "others", "names": ["good"]}))
    visit(plan, tmp_path, 60, tmp_path / "work", dict)
    assert json.loads((tmp_path / "visit.json").read_text())["stages"]["good"]["status"] == "passed"


def test_time_that_is_over_is_said(tmp_path):
    assert visit([python("late", "pass")], tmp_path, 0, tmp_path / "work", dict) == 0
    assert json.loads((tmp_path / "visit.json").read_text())["stages"]["late"]["why"] == "no time left"


def test_results_say_of_which_kernels():
    assert len(fingerprint()) == 12 and fingerprint() == fingerprint()
    if (BENCHMARKS / "cuda_budget.json").exists():
        codes = kernel_codes("90")
        assert len(codes["emotion_norm_forward_group_kernel<float, false>"]) == 12


@pytest.mark.parametrize("group", ["norms", "renderings", "modulations", "frames"])
def test_measurements_run_on_the_cpu(tmp_path, group):
    out = tmp_path / "gpu.json"
    command = [sys.executable, str(BENCHMARKS / "gpu_cases.py"), "--device", "cpu", "--tiny", "--no-compile"]
    run = subprocess.run([*command, "--groups", group, "--out", str(out)], capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr
    content = json.loads(out.read_text())
    assert content["groups"] and not content["failed"] and content["environment"]["tiny"]
    assert all(len(samples) == 2 for measured in content["groups"] for samples in measured["samples"].values())
    checks = content["checks"]
    if group == "norms":
        assert all(check["emogs"]["largest"] < 0.1 for check in checks.values())
    elif group == "modulations":
        assert all(check["largest"] < 1e-5 for check in checks.values())
    elif group == "frames":
        assert checks == {"frames": {"workspace equals exact": True, "two runs are equal": True}}
    else:
        assert len(checks) == len(content["groups"])


def test_profiling_runs_on_the_cpu(tmp_path):
    command = [sys.executable, str(BENCHMARKS / "gpu_cases.py"), "--device", "cpu", "--tiny", "--profile"]
    run = subprocess.run([*command, "--out", str(tmp_path / "x.json")], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
