"""The avatar's benchmark measures what it says; its figures are nobody's business here."""

import sys
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def bench(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    import bench_avatar

    yield bench_avatar
    sys.modules.pop("bench_avatar")


def test_a_slider_draws_every_picture_anew(bench, avatar, monkeypatch):
    seen = []
    render = type(avatar).render

    def watched(self, cameras, emotion, articulation):
        seen.append((cameras.viewmats, emotion, articulation))
        return render(self, cameras, emotion, articulation)

    monkeypatch.setattr(type(avatar), "render", watched)
    runs = bench.slider(avatar, 3)
    assert len(runs) == 3 and all(run.wall > 0 and run.processor >= 0 for run in runs)
    assert len({str([value.tolist() for value in signals]) for signals in seen}) == len(seen) == 8
    assert all((emotion >= 0).all() and (emotion <= 1).all() for _, emotion, _ in seen)


def test_a_fresh_process_reads_the_photo_and_leaves_nothing(bench, monkeypatch, tmp_path):
    monkeypatch.setattr(bench, "COLD", "import sys, numpy; assert numpy.load(sys.argv[1]).shape == (4, 5, 3)")
    assert len(bench.cold(np.zeros((4, 5, 3), np.uint8), tmp_path, 1)) == 1
    assert not list(tmp_path.iterdir())


def test_what_is_judged_is_said(bench, capsys):
    runs = [bench.Spent(wall, wall / 2) for wall in (1.0, 2.0, 3.0)]
    rows = {"warm": (runs, 0.5), "slider": (runs, 0.95)}
    bench.report(Console(width=120), rows, {"fit the head": 0.5}, quick=False)
    printed = capsys.readouterr().out
    assert "2.000 s" in printed and "met" in printed and "missed" in printed and "fit the head 0.50 s" in printed
    bench.report(Console(width=120), rows, {}, quick=True)
    printed = capsys.readouterr().out
    assert "these figures mean nothing" in printed and "missed" not in printed
