"""`emogs bench peers` and `ratios`: who does not do the same work is not timed, and bounds are kept."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json

import bench_report
import gpu_cases
import pytest
import speed_contests
import speed_page
import speed_peers
import speed_ratios
import speed_stamp
import torch
from emulation import emulated, on_cpu
from rich.console import Console
from speed_contests import EAGER, EMOGS, GSPLAT, TINY, Contest, all_contests, compiled, differences
from speed_files import read_all
from speed_ratios import Ratio, all_ratios, exit_code, judged

import emogs

CPU = torch.device("cpu")
CONTESTS = all_contests(TINY, CPU)


def no_clock(case) -> float:
    """Runs the case; all take the same time."""
    case()
    return 1.0


@pytest.fixture
def console() -> Console:
    return Console(width=120, record=True)


@pytest.mark.parametrize("name", CONTESTS)
def test_all_do_the_same_work(name):
    contest = CONTESTS[name](False)
    assert contest.name == name
    assert list(contest.ways) == [EMOGS, EAGER]
    stored = speed_peers.held(contest, 2, no_clock)
    assert stored["unequal"] == [] and 0 < stored["differences"][EMOGS] <= contest.tolerance
    assert stored["seconds"] == {
        direction: {EMOGS: [1.0, 1.0], EAGER: [1.0, 1.0]} for direction in ("forward", "forward + backward")
    }
    json.dumps(stored)


@pytest.fixture
def _as_on_a_gpu(monkeypatch):
    """What `--device cuda` runs: CUDA kernels, emulated, which have no float64; only what is asked for on the CPU runs
    the CPU's. gsplat is there, with emogs' images."""
    results = speed_contests.results

    def where_it_is(contest, way, given):
        doubles = all(t.dtype == torch.float64 for t in given.values())
        with on_cpu() if contest.truth_on_cpu and doubles else contextlib.nullcontext():
            return results(contest, way, given)

    def peer(*fields, packed):
        *fields, viewmats, Ks, width, height = fields
        assert not packed
        return emogs.rasterize(emogs.Gaussians(*fields), emogs.Cameras(viewmats, Ks, width, height)).colors, None

    monkeypatch.setattr(speed_contests, "results", where_it_is)
    monkeypatch.setattr(gpu_cases, "peer_rasterizer", lambda: peer)
    with emulated():
        yield


@pytest.mark.parametrize("name", [*CONTESTS, "rasterize/head100/float32"])
def test_every_contest_runs_on_emulated_kernels(name, _as_on_a_gpu):
    contest = (CONTESTS | {"rasterize/head100/float32": lambda _: speed_contests.rendering(TINY, CPU)})[name](False)
    assert contest.name == name
    stored = speed_peers.held(contest, 1, no_clock)
    assert stored["unequal"] == [] and set(stored["seconds"]) == {"forward", "forward + backward"}


def test_a_peer_that_does_not_compile_is_missing(monkeypatch):
    def broken():
        raise RuntimeError("Error building extension 'gsplat_cuda'")

    monkeypatch.setattr(gpu_cases, "peer_rasterizer", broken)
    contest = speed_contests.rendering(TINY, CPU)
    assert list(contest.ways) == [EMOGS]
    assert contest.missing == {GSPLAT: "RuntimeError: Error building extension 'gsplat_cuda'"}


def test_a_contest_that_breaks_off_does_not_take_the_others_along(console, monkeypatch, tmp_path):
    def broken(_):
        raise RuntimeError("CUDA out of memory")

    name = "emotion_renorm/32x300x153/float32"
    monkeypatch.setattr(speed_peers, "all_contests", lambda *_: {"broken": broken, name: CONTESTS[name]})
    out = tmp_path / "peers.json"
    assert speed_peers.measure_all([], out, CPU, 1, False, True, console) == 1
    assert [contest["name"] for contest in json.loads(out.read_text())["contests"]] == [name]
    assert "FAILED  broken: RuntimeError: CUDA out of memory" in console.export_text()


def test_times_on_a_gpu_are_between_events(monkeypatch):
    happened = []

    class Event:
        def __init__(self, enable_timing):
            assert enable_timing

        def record(self):
            happened.append(self)

        def synchronize(self):
            assert happened[-1] is self

        def elapsed_time(self, end):
            assert happened == [self, "call", end]
            return 250.0

    monkeypatch.setattr(torch.cuda, "Event", Event)
    bench = gpu_cases.Bench(CPU, gpu_cases.TINY, False)
    bench.device = torch.device("cuda")
    assert bench.seconds(lambda: happened.append("call")) == 0.25


def test_without_git_a_revision_is_unknown(monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert speed_stamp.commit()["id"] == "unknown" and bench_report.revision() == "unknown"


def test_rasterizing_says_that_gsplat_has_no_cpu_kernels():
    contest = CONTESTS["blend_tiles/head60-40pixels/float32"](False)
    assert "CUDA only" in contest.missing[GSPLAT]


@pytest.mark.parametrize("change", [1.01, float("nan")])
def test_wrong_results_are_not_timed(change, console, monkeypatch, tmp_path):
    contest = CONTESTS["emotion_renorm/32x300x153/float32"](False)

    def wrong(given):
        return (contest.ways[EMOGS](given)[0] * change,)

    ways = {EMOGS: wrong, EAGER: contest.ways[EAGER]}
    monkeypatch.setattr(
        speed_peers, "all_contests", lambda *_: {"wrong": lambda _: dataclasses.replace(contest, ways=ways)}
    )
    out = tmp_path / "peers.json"
    assert speed_peers.measure_all([], out, CPU, 2, False, True, console) == 1
    stored = json.loads(out.read_text())["contests"][0]
    assert stored["unequal"] == [EMOGS] and stored["seconds"] == {}
    assert "Not equal: emogs; nothing is timed" in speed_page.page(read_all([out]))
    assert "FAILED  emogs: not the same results, so nothing is timed" in console.export_text()


def test_wrong_gradients_are_found():
    x = torch.ones(3)

    class Doubled(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, grad):
            return 2 * grad

    contest = Contest(
        "copy", {EMOGS: lambda t: (Doubled.apply(t["x"]),), EAGER: lambda t: (t["x"].clone(),)}, {"x": x}, 0.1
    )
    assert differences(contest) == {EMOGS: 1.0, EAGER: 0.0}


def test_a_compiler_that_gives_up_is_missing():
    contest = CONTESTS["emotion_renorm/32x300x153/float32"](False)

    def broken():
        raise RuntimeError("no C++ compiler\nand more")

    found = compiled(contest, broken)
    assert found.missing == {"torch.compile": "RuntimeError: no C++ compiler"} and list(found.ways) == [EMOGS, EAGER]


def test_a_compiled_way_takes_part():
    contest = CONTESTS["emotion_renorm/32x300x153/float32"](False)
    found = compiled(contest, lambda: contest.ways[EAGER])  # compiling takes seconds; gpu and full runs do it
    assert list(found.ways) == [EMOGS, EAGER, "torch.compile"]


@pytest.mark.parametrize("name", all_ratios(TINY))
def test_every_ratio_runs(name):
    found = judged(name, all_ratios(TINY)[name], 2, no_clock)
    assert found["samples"] == pytest.approx([1.0] * len(found["samples"])) and found["bound"] > 0


def steady(above: list[float]) -> Ratio:
    """Cases that say how long they take; the second always one second."""
    times = itertools.cycle(above)
    return Ratio(1.5, lambda: (lambda: next(times), lambda: 1.0))


@pytest.mark.parametrize(
    ("times", "verdict", "code"),
    [
        ([1.4, 1.45], "within its bound", 0),
        ([1.6, 1.55], "above its bound", 1),
        ([1.0, 2.0], "cannot tell", 77),
    ],
)
def test_a_ratio_is_judged_by_its_interval(times, verdict, code, console):
    found = judged("some ratio", steady(times), 8, lambda case: case())
    assert found["verdict"] == verdict
    assert found["low"] <= found["median"] <= found["high"]
    assert exit_code([found["verdict"]]) == code
    speed_ratios.print_ratio(console, found)
    line = console.export_text()
    assert f"some ratio: {verdict}" in line and "1.5 allowed" in line


def test_the_worst_ratio_decides():
    assert exit_code(["within its bound", "cannot tell", "above its bound"]) == 1
    assert exit_code(["within its bound", "cannot tell"]) == 77


def test_toy_sizes_are_not_judged(console, tmp_path):
    out = tmp_path / "ratios.json"
    assert speed_ratios.judge_all(["renorm"], out, 2, True, console) == 0
    stored = json.loads(out.read_text())
    assert {ratio["verdict"] for ratio in stored["ratios"]} == {"not judged"} and len(stored["ratios"]) == 2
    assert stored["machine_info"]["quick"] is True and stored["commit_info"]["id"]
    assert read_all([out]).ratios[0].ratios[0]["verdict"] == "not judged"
    with pytest.raises(ValueError, match="no benchmark's name contains 'nothing'"):
        speed_ratios.judge_all(["nothing"], out, 2, True, console)
