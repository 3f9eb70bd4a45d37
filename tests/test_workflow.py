"""The GitHub workflow of the speed gate: its shell parses, its actions are pinned, exit codes end as they should."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
GATE = ROOT / ".github" / "gate.sh"
JOBS = yaml.safe_load((ROOT / ".github" / "workflows" / "speed.yml").read_text())["jobs"]
STEPS = [(job, step) for job, content in JOBS.items() for step in content["steps"]]


@pytest.mark.parametrize(("said", "ends"), [(0, 0), (1, 1), (2, 2), (77, 0)])
def test_only_a_gate_that_cannot_tell_is_forgiven(tmp_path, said, ends):
    summary = tmp_path / "summary.md"
    command = [str(GATE), "out/what it said.txt", "sh", "-c", f"echo first; echo last >&2; exit {said}"]
    environment = {"PATH": "/usr/bin:/bin", "GITHUB_STEP_SUMMARY": str(summary)}
    run = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert run.returncode == ends
    assert run.stdout == "first\nlast\n" + ("::warning::last\n" if said == 77 else "")
    assert (tmp_path / "out" / "what it said.txt").read_text() == "first\nlast\n"
    assert summary.read_text() == "```\nfirst\nlast\n```\n"


def test_shell_steps_parse():
    scripts = [step["run"] for _, step in STEPS if "run" in step]
    assert len(scripts) > 5
    for script in scripts:
        subprocess.run(["bash", "-n", "-c", script], check=True)


def test_actions_are_pinned():
    used = [step["uses"] for _, step in STEPS if "uses" in step]
    assert {name.split("@")[0] for name in used} == {
        f"actions/{n}" for n in ("checkout", "setup-python", "upload-artifact")
    }
    assert all(re.fullmatch(r"[\w/-]+@v\d+\.\d+\.\d+", name) for name in used)


def test_files_that_steps_name_are_there():
    named = {path for _, step in STEPS for path in re.findall(r"(?:benchmarks|\.github)/[\w./]+", step.get("run", ""))}
    assert ".github/gate.sh" in named and all((ROOT / path).is_file() for path in named), named
