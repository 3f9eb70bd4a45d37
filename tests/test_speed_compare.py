"""`emogs bench compare`: what is slower fails, what is the same passes, and what cannot be compared is never fine.

Verdicts are tested on ratios drawn with the noise of a shared machine; the whole tool on copies of this checkout, one
of which does the work of emotion_norm four times. Its clock counts that work (speed_counter.py): nothing here depends
on how long anything takes.
"""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import speed_code
import speed_compare
import speed_pair
from pair_loop import find_compiler
from rich.console import Console
from speed_side import Side
from speed_verdict import FINE, SLOWER, UNSURE, decide

from emogs.ops.native import _C

ROOT = Path(__file__).resolve().parents[1]
CASE, OTHER = "emotion_norm/64x32/float32/forward/cpu", "rig_frames/8x16000/float32/forward/cpu"
SLOW = """

_quick_norm = norm


def norm(*arguments):
    for _ in range(3):
        _quick_norm(*arguments)
    return _quick_norm(*arguments)
"""


def noisy(seed: int, factor: float, spread: float = 0.03):
    """Batches of ratios about a factor, now and then far off, as when another process interferes."""
    random = np.random.default_rng(seed)

    def measure(count: int) -> list[float]:
        ratios = factor * np.exp(spread * random.standard_normal(count))
        return list(np.where(random.random(count) < 0.1, ratios * 1.5, ratios))

    return measure


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("spread", [0.03, 0.06])
def test_verdicts(seed, spread):
    """Blending's noise, and on a very busy machine that of what memory bounds, which takes more pairs."""
    fine, _ = decide(noisy(seed, 1.0, spread), 0.05, 15)
    slower, _ = decide(noisy(seed, 1.1, spread), 0.05, 15)
    assert (fine, slower) == (FINE, SLOWER)


def test_cannot_tell_on_the_border_and_one_slow_batch_is_no_verdict():
    verdict, paired = decide(noisy(0, 1.05), 0.05, 15)
    assert verdict == UNSURE and len(paired.ratios) == 16 * 15
    assert decide(noisy(0, 1.0, 0.5), 0.05, 15, most=4)[0] == UNSURE
    slow_once = iter([1.2] * 15 + [1.0] * 100)
    verdict, paired = decide(lambda count: [next(slow_once) for _ in range(count)], 0.05, 15)
    assert verdict == FINE and len(paired.ratios) > 15
    then_unsteady = iter([1.2] * 15 + [0.9, 1.2] * 200)
    assert decide(lambda count: [next(then_unsteady) for _ in range(count)], 0.05, 15)[0] == UNSURE


def compiled(folder: Path, name: str, source: str) -> str:
    (folder / f"{name}.cpp").write_text(source)
    command = [find_compiler(), "-O2", "-fPIC", "-c", f"{name}.cpp", "-o", f"{name}.o"]
    subprocess.run(command, cwd=folder, check=True)
    return speed_code.code_hash(folder / f"{name}.o")


@pytest.mark.skipif(sys.platform != "linux", reason="object files are ELF on Linux")
def test_code_hash_sees_code_and_nothing_else(tmp_path):
    source = "float g(float);\nfloat f(float x) { return g(x * 2.5f); }\n"
    same = compiled(tmp_path, "first", source)
    assert compiled(tmp_path, "another_name", "// a comment\n\n" + source.replace("x", "value")) == same
    assert compiled(tmp_path, "constant", source.replace("2.5f", "3.5f")) != same
    assert compiled(tmp_path, "callee", source.replace("g(", "h(")) != same
    with pytest.raises(ValueError, match="not a 64-bit little-endian ELF file"):
        speed_code.code_hash(tmp_path / "first.cpp")


def test_new_gone_and_different_kernels_count_as_changed():
    base = {"norm_cpu v4": "a", "blend_cpu v4": "b", "rig_cpu v4": "c"}
    head = {"norm_cpu v4": "a", "blend_cpu v4": "d", "tiles_cpu v4": "e"}
    assert speed_code.changed(base, head) == ["blend_cpu v4", "rig_cpu v4", "tiles_cpu v4"]


@pytest.fixture(autouse=True)
def _counted(monkeypatch):
    """Both sides count calls of kernels where they would look at a clock."""
    monkeypatch.setattr(speed_pair, "WORKER", Path(__file__).with_name("speed_counter.py"))


@pytest.fixture
def side(tmp_path):
    """Makes a copy of this checkout by name, with files changed."""

    def make(name: str, **changes: tuple[str, str]) -> str:
        folder = tmp_path / name
        leave_out = shutil.ignore_patterns("__pycache__", "weights", "results")
        for part in ("emogs", "benchmarks"):
            shutil.copytree(ROOT / part, folder / part, ignore=leave_out)
        for path, (old, new) in changes.items():
            file = folder / f"{path.replace('__', '/')}.py"
            text = file.read_text()
            assert old in text
            file.write_text(text.replace(old, new) if old else text + new)
        return str(folder)

    return make


def gate(base: str, head: str, *only: str, accept: tuple[str, ...] = (), everything: bool = True) -> tuple[int, str]:
    output = io.StringIO()
    options = speed_compare.Options(0.5, 5, 1, accept, everything, quick=True)
    code = speed_compare.compare(base, head, only, options, Console(file=output, width=300))
    return code, output.getvalue()


def test_slower_fails_and_says_by_how_much(side):
    base, slow = side("base"), side("slow", emogs__ops__norm_op=("", SLOW))
    code, said = gate(base, slow, CASE)
    assert code == speed_compare.FAILED and f"FAILED  {CASE}: slower, 4.000 times base [4.000, 4.000]" in said, said
    code, said = gate(slow, base, CASE)
    assert code == speed_compare.PASSED and f"passed  {CASE}: not slower, 0.250 times base" in said, said


def test_holes_fail_unless_accepted(side):
    base = side("base")
    renamed = side("renamed", benchmarks__speed_cases=('both("rig_frames/8x16000', 'both("frames/8x16000'))
    code, said = gate(base, renamed, "frames/8x16000/float32/forward")
    assert code == speed_compare.FAILED
    assert "rig_frames/8x16000/float32/forward/cpu: missing in" in said
    assert "FAILED  frames/8x16000/float32/forward/cpu: new in" in said
    assert gate(base, renamed, "frames/8x16000/float32/forward", accept=("frames/",))[0] == speed_compare.PASSED
    other = side("other", benchmarks__speed_cases=("QUICK = Sizes(((64, 32)", "QUICK = Sizes(((64, 32)"))
    text = Path(other, "benchmarks", "speed_cases.py")
    text.write_text(text.read_text().replace("random(1, tokens, channels)", "random(1, 2 * tokens, channels)"))
    code, said = gate(base, other, CASE)
    assert code == speed_compare.FAILED and f"{CASE}: does other work, bytes " in said
    code, said = gate(
        base, side("machine", benchmarks__speed_machine=('about["torch"]', '"9.9"')), "intersect_tiles/head100"
    )
    assert code == speed_compare.FAILED and "machine, torch: " in said and "/ 9.9" in said


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("raise OSError('gone')", "OSError: gone"),
        ("__import__('os').abort()", "broken: the process that times it has died (exit code -6)"),
    ],
)
def test_what_breaks_fails(side, what, message):
    broken = side("broken", emogs__ops__norm_op=("", f"\n\ndef norm(*_):\n    {what}\n"))
    code, said = gate(side("base"), broken, CASE, OTHER)
    assert code == speed_compare.FAILED and f"FAILED  {CASE}: " in said and message in said
    assert f"passed  {OTHER}: not slower, 1.000 times base" in said  # the rest is judged all the same


def test_every_pair_is_new_and_a_rerun_loads_both_sides_anew(side, monkeypatch):
    loaded, asked = [], []
    ask = speed_pair.Process.ask

    def start(*arguments):
        loaded.append(speed_pair.Process(*arguments))
        return loaded[-1]

    monkeypatch.setattr(speed_pair.Process, "ask", lambda self, line: (asked.append(line), ask(self, line))[1])
    base = Side.of(side("base"))
    with speed_pair.Pair(base, base, 1, quick=True) as pair:
        monkeypatch.setattr(pair, "start", lambda side: start(side, 1, True))
        assert pair.prepare(CASE) is None
        del asked[:]
        assert pair.batch(2) == [1.0, 1.0] and not loaded
        one = ["fork"] * 2 + [f"prepare {CASE} 1"] * 2 + ["time"] * 4 * speed_pair.TURNS + ["end"] * 2
        assert asked == one * 2
        assert pair.batch(1) == [1.0] and len(loaded) == 2
        assert pair.prepare(OTHER) is None and pair.batch(1) == [1.0] and len(loaded) == 2


def test_an_unknown_revision_is_refused():
    with pytest.raises(ValueError, match="no-such-revision: expected a git revision"):
        Side.of("no-such-revision")


def test_the_same_machine_code_is_not_timed(side):
    here = Side(".", ROOT)
    if not speed_code.kernel_hashes(here.build()):
        pytest.skip("no object files here: this emogs was not built in its checkout")
    isa = _C.isa_in_use()
    assert speed_compare.unchanged(here, here, isa) == set(speed_compare.KERNELS)
    code, said = gate(str(ROOT), str(ROOT), CASE, everything=False)
    assert code == speed_compare.PASSED and f"{CASE}: the same machine code" in said
    copy = Side("copy", Path(side("copy")))
    assert speed_compare.unchanged(here, copy, isa) == set(
        speed_compare.KERNELS
    )  # no object files, but the same module
    module = next(copy.folder.glob("emogs/_C.*.so"))
    content = module.read_bytes()
    module.write_bytes(content.replace(b"emotion_norm_forward\0", b"emotion_norm_forwarD\0"))
    assert speed_compare.unchanged(here, copy, isa) == set()  # another one: not known which kernels differ
    module.write_bytes(content + b"symbols, for example, which are not loaded")
    assert speed_compare.unchanged(here, copy, isa) == set(speed_compare.KERNELS)
