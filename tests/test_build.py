"""The native module: what it exports, which instruction set it takes, and what it says when something is missing."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from emulation import emulated_module_file

from emogs.ops.native import _C, launch

ROOT = Path(__file__).resolve().parents[1]


def run_python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], env=os.environ | environment, capture_output=True, text=True)


@pytest.mark.parametrize("isa", _C.supported_isas())
def test_environment_forces_an_instruction_set(isa):
    run = run_python("from emogs.ops.native import _C; print(_C.isa_in_use())", EMOGS_ISA=isa)
    assert run.stdout.strip() == isa


def test_unknown_instruction_set_is_an_error():
    run = run_python("from emogs.ops.native import _C; _C.isa_in_use()", EMOGS_ISA="v9")
    assert "EMOGS_ISA: instruction set 'v9' cannot run here; available: baseline" in run.stderr


def test_missing_module_names_the_command_that_builds_it():
    run = run_python("import sys; sys.modules['emogs._C'] = None; import emogs")
    assert run.returncode != 0 and "pip install ." in run.stderr


def test_emulated_module_in_the_packages_place_names_the_command_that_builds_another():
    emulated = f"import sys; sys.path.insert(0, {str(emulated_module_file().parent)!r}); import _C; "
    run = run_python(emulated + "sys.modules['emogs._C'] = _C; import emogs")
    assert run.returncode != 0 and "EMOGS_CUDA=auto pip install ." in run.stderr


def run_setup(folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Builds a copy of the sources, whose build folder is its own."""
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE", "CMakeLists.txt"):
        shutil.copy(ROOT / name, folder)
    for name in ("csrc", "cmake"):
        shutil.copytree(ROOT / name, folder / name)
    (folder / "emogs").mkdir()
    command = [sys.executable, "setup.py", "build_ext", "--build-lib", "out"]
    return subprocess.run(command, cwd=folder, env=os.environ | environment, capture_output=True, text=True)


@pytest.mark.skipif(
    not (shutil.which("cmake") and shutil.which("ninja") and find_spec("pybind11")), reason="needs what builds emogs"
)
@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"EMOGS_CUDA": "maybe"}, "EMOGS_CUDA is 'maybe'; it must be auto, on, off or emulate"),
        ({"CXX": "no-such-compiler", "EMOGS_CUDA": "off"}, "no-such-compiler"),
    ],
)
def test_what_stops_a_build_is_said_without_a_traceback(tmp_path, environment, message):
    run = run_setup(tmp_path, **environment)
    assert run.returncode != 0 and "Traceback" not in run.stderr
    assert message in " ".join(run.stderr.split())
    assert run.stderr.splitlines()[-1].startswith("error: CMake could not configure emogs, see above; it needs a C++17")


@pytest.mark.skipif(_C.cuda_architectures is not None, reason="this build has a CUDA backend")
def test_missing_backend_names_the_command_that_builds_it():
    arguments = launch(torch.zeros(1)) | {"device": 0}
    with pytest.raises(RuntimeError, match="no CUDA backend; rebuild with `EMOGS_CUDA=on pip install"):
        _C.emotion_norm_forward(**arguments)


def test_arguments_of_native_operations_are_checked():
    with pytest.raises(TypeError, match="emotion_norm_forward: batch is missing"):
        _C.emotion_norm_forward(**launch(torch.zeros(1)))
    with pytest.raises(TypeError, match="emotion_norm_forward: batch must be an integer"):
        _C.emotion_norm_forward(**launch(torch.zeros(1)), batch="two")
    with pytest.raises(ValueError, match="emotion_norm_forward: no CPU kernel for int8"):
        _C.emotion_norm_forward(**launch(torch.zeros(1), torch.int8))


@pytest.mark.skipif(shutil.which("nm") is None, reason="needs nm")
def test_instruction_sets_share_no_symbols():
    """A weak symbol outside a set's namespace could be linked from any of them, and crash older machines."""
    objects = list(ROOT.glob("build/cmake-*/CMakeFiles/cpu_*.dir/**/*.o"))
    if not objects:
        pytest.skip("no build folder: the module was not built in this checkout")
    for path in objects:
        isa = path.relative_to(ROOT).parts[3].removeprefix("cpu_").removesuffix(".dir")
        symbols = subprocess.run(
            ["nm", "--defined-only", "--extern-only", path], capture_output=True, text=True, check=True
        ).stdout
        for line in symbols.splitlines():
            name = line.split()[-1]
            namespace = f"N5emogs{len(isa)}{isa}"
            assert namespace in name, f"{path.name} ({isa}) exports {name}"
