"""`emogs bench compare` takes wheels: those of emogs for this Python and system, and nothing else."""

from __future__ import annotations

import io
import tarfile
import zipfile
from pathlib import Path

import pytest
import speed_compare
import speed_pair
import speed_side
from packaging.tags import sys_tags
from rich.console import Console
from speed_side import Side

ROOT = Path(__file__).resolve().parents[1]
CASE = "emotion_norm/64x32/float32/forward/cpu"
TAG = str(next(iter(sys_tags())))


@pytest.fixture(autouse=True)
def _counted_and_elsewhere(monkeypatch, tmp_path):
    """Sides count calls of kernels in place of seconds, and wheels are unpacked where the test may write."""
    monkeypatch.setattr(speed_pair, "WORKER", Path(__file__).with_name("speed_counter.py"))
    monkeypatch.setattr(speed_side, "BUILDS", tmp_path / "builds")


def wheel(folder: Path, name: str = f"emogs-1.0-{TAG}.whl", module: bool = True, slow: bool = False) -> Path:
    """This checkout's package as a wheel; a slow one calls its kernels four times to normalize."""
    path = folder / name
    folder.mkdir(exist_ok=True)
    with zipfile.ZipFile(path, "w", strict_timestamps=False) as archive:
        for file in ROOT.glob("emogs/**/*"):
            if file.suffix in {".py", ".pyi", ".json", ".safetensors", ".npz"} or (module and file.suffix == ".so"):
                archive.write(file, file.relative_to(ROOT))
        archive.writestr("emogs-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: emogs\nVersion: 1.0\n")
        if slow:
            text = (ROOT / "emogs" / "ops" / "norm_op.py").read_text()
            again = (
                "\n\n_quick = norm\n\n\ndef norm(*arguments):\n    return [_quick(*arguments) for _ in range(4)][0]\n"
            )
            archive.writestr("emogs/ops/norm_op.py", text + again)
    return path


def gate(base: Path, head: Path) -> tuple[int, str]:
    output = io.StringIO()
    options = speed_compare.Options(0.05, 5, 1, (), everything=False, quick=True)
    code = speed_compare.compare(str(base), str(head), [CASE], options, Console(file=output, width=300))
    return code, output.getvalue()


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_wheels_are_compared(tmp_path):
    base, slow = wheel(tmp_path / "base"), wheel(tmp_path / "slow", slow=True)
    code, said = gate(base, slow)
    assert code == speed_compare.FAILED and f"FAILED  {CASE}: slower, 4.000 times base" in said
    code, said = gate(base, wheel(tmp_path / "again", f"emogs-1.0-7-{TAG}.whl"))
    assert code == speed_compare.PASSED and f"passed  {CASE}: the same machine code" in said
    code, said = gate(ROOT, slow)
    assert code == speed_compare.FAILED and f"FAILED  {CASE}: slower, 4.000 times base" in said


def test_a_wheel_is_unpacked_once(tmp_path):
    made = wheel(tmp_path)
    folder = Side.of(str(made)).folder
    (folder / "mark").touch()
    assert Side.of(str(made)).folder == folder and (folder / "mark").exists()
    assert [path.name for path in (tmp_path / "builds").iterdir()] == [folder.name]  # nothing half unpacked beside it


def test_what_is_no_wheel_of_emogs_for_this_python_is_refused(tmp_path):
    def refused(path: Path, message: str) -> None:
        with pytest.raises(ValueError, match=message) as caught:
            Side.of(str(path))
        assert str(path) in str(caught.value) and "\n" not in str(caught.value)
        assert not list((tmp_path / "builds").glob("*"))

    refused(tmp_path / f"emogs-1.0-{TAG}.whl", "expected a wheel; .*No such file")
    (tmp_path / "notes.txt").write_text("notes")
    refused(tmp_path / "notes.txt", "expected a wheel; Invalid wheel filename")
    other = "cp27-cp27m-win32"
    refused(wheel(tmp_path, f"emogs-1.0-{other}.whl"), f"such as .*; this is for {other}")
    refused(wheel(tmp_path, f"torch-1.0-{TAG}.whl"), "expected a wheel of emogs, got one of torch")
    refused(wheel(tmp_path / "empty", module=False), "expected a wheel with the native module emogs/_C")
    good = wheel(tmp_path / "torn")
    good.write_bytes(good.read_bytes()[:-1000])
    refused(good, "expected a wheel, which is a zip file; File is not a zip file")
    bent = wheel(tmp_path / "bent")
    module = next(ROOT.glob("emogs/_C.*.so")).read_bytes()
    content = bytearray(bent.read_bytes())
    content[content.index(module) + len(module) // 2] ^= 0xFF
    bent.write_bytes(content)
    refused(bent, "expected a wheel, which is a zip file; Bad CRC-32")


def test_a_build_that_was_interrupted_is_made_again(tmp_path, monkeypatch):
    """Its folder has the sources, and with them the native module's stub."""
    stub = tmp_path / "builds" / (16 * "c") / "emogs" / "_C.pyi"
    stub.parent.mkdir(parents=True)
    stub.touch()
    asked = []

    def command(arguments, folder, **environment):
        asked.extend(arguments)
        if "archive" in arguments:
            tarfile.open(arguments[arguments.index("-o") + 1], "w").close()
        return 40 * "c"

    monkeypatch.setattr(speed_side, "command", command)
    assert Side.of("main").folder == stub.parents[1] and "build_ext" in asked
