"""`emogs head fit` as a user meets it: a file in, a performance and a picture out, errors in one line."""

from __future__ import annotations

import numpy as np
import pytest
from performances import FPS, SIZE, as_mediapipe, perform, speech_gaze_blinks
from PIL import Image

from emogs.cli import main
from emogs.emotion import load_track
from emogs.head import builtin_head


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    path = tmp_path_factory.mktemp("clip") / "clip.npz"
    marks = as_mediapipe(perform(builtin_head(), speech_gaze_blinks(24)).noisy(0.01))
    marks[10:12] = float("nan")
    np.savez(path, landmarks=marks.numpy())
    return path


def test_a_clip_becomes_a_track_and_a_picture(clip, tmp_path, capsys):
    out, picture = tmp_path / "performance.csv", tmp_path / "fit.png"
    size = "x".join(str(side) for side in SIZE)
    main(["head", "fit", str(clip), "--fps", str(FPS), "--size", size, "--out", str(out), "--picture", str(picture)])
    told = capsys.readouterr()
    assert "24 frames at 30 a second on builtin" in told.out and "of the outer-eye distance" in told.out
    assert "2 frames without usable landmarks were filled" in told.err
    assert load_track(out).values.shape == (24, 52)
    assert Image.open(picture).size[0] > 1000
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fit.png", "performance.csv"]


def test_a_stopped_run_writes_what_is_finished_and_goes_on(clip, tmp_path, capsys, monkeypatch):
    from emogs.photo import sequence_fitter as module

    monkeypatch.setattr(module, "_WINDOW", 8)
    smooth, calls = module.smooth, []

    def interrupted(*arguments):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return smooth(*arguments)

    monkeypatch.setattr(module, "smooth", interrupted)
    out = tmp_path / "performance.csv"
    run = ["head", "fit", str(clip), "--fps", "30", "--size", "640x480", "--out", str(out)]
    with pytest.raises(SystemExit) as end:
        main(run)
    assert end.value.code == 130 and len(load_track(out).times) == 8
    assert "stopped after 8 of 24 frames; the same command goes on" in capsys.readouterr().err
    main(run)
    assert "goes on after 8 frames" in capsys.readouterr().err
    assert len(load_track(out).times) == 24 and list(tmp_path.iterdir()) == [out]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ([], "does not say how many frames a second"),
        (["--fps", "30"], "give its width and height"),
        (["--fps", "30", "--size", "640"], "--size: expected width and height"),
        (["--out", "track.txt"], "expected a name that ends in .csv or .json or .npz"),
        (["--out", "nowhere/track.csv"], "no such folder"),
        (["--picture", "fit.gif"], "expected a name that ends in .png"),
        (["--fps", "30", "--size", "640x480", "--focal", "-1"], "--focal: expected pixels above 0"),
        (["--fps", "30"], "--size: the landmarks are shares of the picture"),
        (["--fps", "2000", "--size", "640x480"], "--fps: expected 1 to 1000 frames a second"),
    ],
)
def test_bad_input_is_one_line(clip, tmp_path, capsys, monkeypatch, more, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as end:
        main(["head", "fit", str(clip), *more])
    assert end.value.code == 2
    assert message in " ".join(capsys.readouterr().err.split()) and not list(tmp_path.iterdir())
