"""Fits to clips whose truth is known: pose, mouth, blinks and gaze come back, smoothly, or an error says why not."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import roma
import torch
from performances import (
    BLINK,
    FOCAL,
    FPS,
    LOOKS,
    SIZE,
    Performance,
    as_mediapipe,
    blink_frames,
    channel,
    gaze_degrees,
    perform,
    speech_gaze_blinks,
)  # fmt: skip

from emogs.emotion import GeometryPath, convert, load_track, parse_emotion
from emogs.head import builtin_head, load_ict
from emogs.photo import PhotoError, SequenceFit, fit_sequence, save_performance
from emogs.photo.sequence import finished, sequence_fitter
from emogs.photo.sequence_files import load_progress, save_progress

HEAD = builtin_head()
FRAMES = 60
NOISE = 0.01
"""Of the outer-eye distance, in each coordinate: what trackers do on good video."""
BLINKS = [channel("eyeBlinkLeft"), channel("eyeBlinkRight")]


@cache
def performance() -> Performance:
    return perform(HEAD, speech_gaze_blinks(FRAMES))


@cache
def noisy_fit() -> SequenceFit:
    return fit_sequence(as_mediapipe(performance().noisy(NOISE)), fps=FPS, size=SIZE, focal=FOCAL)


@cache
def unsmoothed_fit() -> SequenceFit:
    """Every frame by itself, with the same identity: what is smooth is compared with this."""
    truth, whole = performance(), noisy_fit()
    marks = as_mediapipe(truth.noisy(NOISE))
    fitter = sequence_fitter(marks, FPS, SIZE, focal=FOCAL)
    fitter.resume(whole.identity.double(), *(torch.zeros(0, *shape).double() for shape in ((3, 3), (3,), (52,))))
    fitter._poses()
    fitter.model = fitter.model.wearing(whole.identity.double())
    fitter._alone(0, FRAMES)
    fitter.done = FRAMES
    return finished(fitter)


def clean(marks: torch.Tensor, **more) -> SequenceFit:
    return fit_sequence(as_mediapipe(marks), fps=FPS, size=SIZE, focal=FOCAL, **more)


def degrees_off(fit: SequenceFit, truth: Performance) -> torch.Tensor:
    turned = roma.rotmat_geodesic_distance(fit.viewmats[:, :3, :3].double(), truth.viewmats[:, :3, :3])
    return torch.rad2deg(turned)


def shake(fit: SequenceFit, truth: Performance) -> tuple[float, float]:
    """RMS second differences of what is not true: of the head's rotation in degrees, and of the channels."""

    def turns(matrices: torch.Tensor) -> torch.Tensor:
        rotation = matrices[:, :3, :3].double()
        return torch.rad2deg(roma.rotmat_to_rotvec(rotation[1:] @ rotation[:-1].mT))

    pose = (turns(fit.viewmats) - turns(truth.viewmats)).diff(dim=0)
    values = (fit.expression - truth.values).diff(dim=0).diff(dim=0)
    return float(pose.square().mean().sqrt()), float(values.square().mean().sqrt())


def resting() -> torch.Tensor:
    """[T] frames away from blinks."""
    out = torch.ones(FRAMES, dtype=torch.bool)
    for begin in blink_frames(FRAMES):
        out[begin - 1 : begin + len(BLINK) + 1] = False
    return out


def test_pose_mouth_gaze_and_blinks_come_back_from_noise():
    fit, truth = noisy_fit(), performance()
    off = (fit.expression - truth.values).abs()
    gaze = (gaze_degrees(HEAD, fit.expression) - gaze_degrees(HEAD, truth.values)).abs()[resting()]
    depth = [float(fit.expression[b : b + len(BLINK), i].max()) for b in blink_frames(FRAMES) for i in BLINKS]
    print(
        f"pose {degrees_off(fit, truth).mean():.2f} degrees, gaze {gaze.mean():.1f}, channels {off.mean():.3f},"
        f" jaw {off[:, channel('jawOpen')].mean():.3f}, blinks {np.mean(depth):.2f} deep"
    )
    assert degrees_off(fit, truth).mean() < 1.5 and degrees_off(fit, truth).max() < 3
    assert off.mean() < 0.02 and off[:, channel("jawOpen")].mean() < 0.03
    assert gaze.mean() < 2.5
    assert np.mean(depth) > 0.85, "9% of a lid's travel is noise; without noise see below"
    assert off[resting()][:, BLINKS].mean() < 0.06
    assert fit.error.max() < 0.03 and not fit.filled.any() and not fit.rejected and not fit.cuts.any()


def test_it_is_smoother_than_frames_alone_and_nearer_to_the_truth():
    together, alone = noisy_fit(), unsmoothed_fit()
    pose, values = shake(together, performance())
    pose_alone, values_alone = shake(alone, performance())
    print(f"pose {pose_alone:.2f} -> {pose:.2f} degrees, channels {values_alone:.3f} -> {values:.3f}")
    assert pose < pose_alone / 5 and values < values_alone / 2.5
    truth = performance().values
    assert (together.expression - truth).abs().mean() < 0.8 * (alone.expression - truth).abs().mean()


def test_blinks_and_gaze_keep_their_depth_without_noise():
    fit, truth = clean(performance().landmarks), performance()
    for begin in blink_frames(FRAMES):
        lids = fit.expression[begin : begin + len(BLINK)][:, BLINKS]
        assert (lids.amax(0) > 0.9).all()
        assert (lids - truth.values[begin : begin + len(BLINK)][:, BLINKS]).abs().max() < 0.1
    for name in LOOKS:
        course, wanted = fit.expression[resting(), channel(name)], truth.values[resting(), channel(name)]
        assert course.max() >= 0.9 * wanted.max() and (course - wanted).abs().mean() < 0.03
    assert degrees_off(fit, truth).max() < 1.5


def test_gaze_and_blinks_do_not_change_with_emotion():
    values = performance().values
    with torch.no_grad():
        smiling = GeometryPath()(values[None], parse_emotion("happy=0.8")[None], torch.zeros(1, 7), clamp=True)[0]
    plain, happy = clean(performance().landmarks), clean(perform(HEAD, smiling).landmarks)
    gaze = (gaze_degrees(HEAD, plain.expression) - gaze_degrees(HEAD, happy.expression)).abs()
    lids = (plain.expression - happy.expression)[:, BLINKS].abs()
    reach = gaze_degrees(HEAD, values).abs().max()
    print(f"gaze {100 * gaze.mean() / reach:.1f}% of its reach, lids {100 * lids.mean():.1f}%")
    assert gaze[resting()].mean() < 0.05 * reach, "cheeks push lids, and lids are part of a gaze"
    assert lids.mean() < 0.02
    assert happy.expression[:, channel("mouthSmileLeft")].mean() > 0.4
    assert plain.expression[:, channel("mouthSmileLeft")].mean() < 0.1
    # What the fit read is played with an emotion on top: those channels are left alone to the bit.
    with torch.no_grad():
        played = GeometryPath()(plain.expression[None], parse_emotion("sad")[None], torch.zeros(1, 7))[0]
    looks = [channel(f"eyeLook{way}{side}") for way in ("In", "Out", "Up", "Down") for side in ("Left", "Right")]
    assert torch.equal(played[:, BLINKS + looks], plain.expression[:, BLINKS + looks])


def test_a_surprised_face_blinks_as_deep():
    values = performance().values
    with torch.no_grad():
        surprised = GeometryPath()(values[None], parse_emotion("surprise")[None], torch.zeros(1, 7), clamp=True)[0]
    fit = clean(perform(HEAD, surprised).landmarks)
    for begin in blink_frames(FRAMES):
        assert (fit.expression[begin : begin + len(BLINK)][:, BLINKS].amax(0) > 0.98).all()


def test_missing_and_wrong_frames_are_filled_and_named():
    marks = as_mediapipe(performance().noisy(0.003))
    marks[30:38] = torch.nan
    marks[45] = torch.rand(478, 2, generator=torch.Generator().manual_seed(0))
    marks[50] = marks[50] + 0.3  # somebody else, for a moment
    marks[10, :200] = torch.nan  # half a face is still a face
    fit = fit_sequence(marks, fps=FPS, size=SIZE, focal=FOCAL)
    assert fit.filled.nonzero()[:, 0].tolist() == [*range(30, 38), 45, 50]
    assert "fits no face" in fit.rejected[45] and "jumps" in fit.rejected[50] and len(fit.rejected) == 2
    assert fit.error.isnan().nonzero()[:, 0].tolist() == [*range(30, 38), 45, 50]
    assert degrees_off(fit, performance())[[45, 50]].max() < 2 and degrees_off(fit, performance())[30:38].max() < 5
    for value in (fit.expression, fit.viewmats, fit.fitted, fit.identity):
        assert value.isfinite().all()
    assert fit.expression.min() >= 0 and fit.expression.max() <= 1


def test_a_cut_is_not_smoothed_across():
    marks = performance().landmarks.clone()
    marks[33:] += torch.tensor([150.0, 40.0])
    fit = clean(marks)
    assert fit.cuts.nonzero()[:, 0].tolist() == [33] and not fit.rejected
    assert fit.error.max() < 0.02


def test_68_points_have_no_gaze_but_all_else():
    truth = performance()
    fit = fit_sequence(truth.landmarks[:, :68].numpy(), fps=FPS, size=SIZE, focal=FOCAL)
    assert not fit.has_gaze and fit.landmarks.shape == (FRAMES, 68, 2)
    looks = [channel(f"eyeLook{way}Left") for way in ("In", "Out", "Up", "Down")]
    assert not fit.expression[:, looks].any()
    assert degrees_off(fit, truth).max() < 2
    assert fit.expression[:, channel("jawOpen")].max() > 0.25


def test_ict_is_fitted_too(ict_folder):
    head = load_ict(ict_folder)
    truth = perform(head, speech_gaze_blinks(40))
    fit = clean(truth.noisy(NOISE), template=head)
    off = (fit.expression - truth.values).abs()
    print(f"ICT: pose {degrees_off(fit, truth).mean():.2f} degrees, channels {off.mean():.3f}")
    assert degrees_off(fit, truth).mean() < 2 and off.mean() < 0.02 and fit.error.max() < 0.03


def test_windows_join_without_a_seam(monkeypatch):
    from emogs.photo import sequence_fitter as module

    monkeypatch.setattr(module, "_WINDOW", 20)
    monkeypatch.setattr(module, "_AHEAD", 12)
    pieces = fit_sequence(as_mediapipe(performance().noisy(NOISE)), fps=FPS, size=SIZE, focal=FOCAL)
    assert (pieces.expression - noisy_fit().expression).abs().mean() < 0.004
    assert degrees_off(pieces, performance()).max() < 3
    seam = pieces.expression.diff(dim=0).diff(dim=0)[[18, 19, 38, 39]].square().mean().sqrt()
    assert seam < 2 * pieces.expression.diff(dim=0).diff(dim=0).square().mean().sqrt()


def test_an_interrupted_fit_goes_on_where_it_stopped(monkeypatch, tmp_path):
    from emogs.photo import sequence_fitter as module

    monkeypatch.setattr(module, "_WINDOW", 30)
    marks = as_mediapipe(performance().noisy(NOISE))

    def stop(stage: str, share: float) -> None:
        if stage == "fit frames" and share > 0.3:
            raise KeyboardInterrupt

    first = sequence_fitter(marks, FPS, SIZE, focal=FOCAL, progress=stop)
    with pytest.raises(KeyboardInterrupt):
        first.run()
    assert first.done == 30 and len(finished(first).times) == 30
    save_progress(tmp_path / "rest.npz", first)
    second = sequence_fitter(marks, FPS, SIZE, focal=FOCAL)
    assert load_progress(tmp_path / "rest.npz", second) and second.done == 30
    second.run()
    assert torch.equal(finished(second).expression[:30], finished(first).expression)
    assert (finished(second).expression - noisy_fit().expression).abs().mean() < 0.004
    other = sequence_fitter(marks[:-1], FPS, SIZE, focal=FOCAL)
    assert not load_progress(tmp_path / "rest.npz", other) and other.done == 0
    with pytest.raises(ValueError, match="no frame is finished"):
        finished(other)


def test_progress_is_of_one_camera_and_rate_and_keeps_cuts(tmp_path):
    marks = as_mediapipe(performance().noisy(NOISE))[:5]
    first = sequence_fitter(marks, FPS, SIZE, focal=FOCAL)
    first.identity, first.done = torch.zeros(first.model.points.identity.shape[-3], dtype=torch.float64), 4
    first.cuts[2] = True
    save_progress(tmp_path / "rest.npz", first)
    same = sequence_fitter(marks, FPS, SIZE, focal=FOCAL)
    assert load_progress(tmp_path / "rest.npz", same) and same.cuts.tolist() == [False, False, True, False, False]
    for fps, size, focal in ((2 * FPS, SIZE, FOCAL), (FPS, SIZE, 2 * FOCAL), (FPS, (SIZE[0] + 64, SIZE[1]), FOCAL)):
        assert not load_progress(tmp_path / "rest.npz", sequence_fitter(marks, fps, size, focal=focal))


@pytest.mark.parametrize("ending", ["csv", "json"])
def test_what_is_saved_is_a_track_that_tools_read(tmp_path, ending):
    fit, path = noisy_fit(), tmp_path / f"performance.{ending}"
    save_performance(path, fit)
    track = load_track(path)
    assert track.language == "arkit" and torch.equal(track.values, fit.expression)
    torch.testing.assert_close(track.times, torch.arange(FRAMES, dtype=torch.float64) / FPS)
    felt = convert(track, "emotion")
    assert felt.articulation is not None and felt.track.values.max() < 0.3, "who only talks and looks feels little"
    if ending == "csv":
        assert track.ignored == ("HeadYaw", "HeadPitch", "HeadRoll", "filled")
        yaw = np.array([float(row.split(",")[53]) for row in path.read_text().splitlines()[1:]])
        assert np.abs(yaw - fit.head_angles()[:, 0].numpy()).max() < 1e-4 and np.ptp(yaw) > 0.9  # +-30 degrees


def test_npz_holds_everything(tmp_path):
    save_performance(tmp_path / "fit.npz", noisy_fit())
    with np.load(tmp_path / "fit.npz") as arrays:
        assert arrays["viewmats"].shape == (FRAMES, 4, 4) and arrays["fitted"].shape == (FRAMES, 70, 2)
        assert float(arrays["fps"]) == FPS and str(arrays["template"]) == "builtin"


def test_head_angles_are_those_of_the_camera():
    yaw = noisy_fit().head_angles()[:, 0]
    nose = (noisy_fit().landmarks[:, 30] - noisy_fit().landmarks[:, 27])[:, 0]
    assert np.corrcoef(yaw.numpy(), nose.numpy())[0, 1] > 0.95, "a head turned to its left looks to the picture's right"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"landmarks": torch.zeros(5, 60, 2)}, r"expected \[T, 68, 2\]"),
        ({"landmarks": torch.zeros(68, 2)}, r"got \[68, 2\]"),
        ({"landmarks": torch.zeros(0, 68, 2)}, "expected 1 to 1000000 frames, got 0"),
        ({"landmarks": "smile"}, "expected an array of numbers"),
        ({"landmarks": torch.full((5, 68, 2), torch.nan)}, "none of 5 frames"),
        ({"landmarks": torch.full((5, 68, 2), 300.0)}, "frame 0 all lie in one place"),
        ({"landmarks": torch.full((5, 68, 2), 1e9)}, "frame 0 lies beyond"),
        ({"landmarks": torch.rand(5, 68, 2)}, "give its width and height"),
        ({"fps": 0}, "fps: expected 1 to 1000"),
        ({"fps": float("nan")}, "fps: expected 1 to 1000"),
        ({"size": (0, 480)}, "size: expected"),
        ({"size": 480}, "size: expected the picture's width and height in pixels, got 480"),
        ({"size": "ab"}, "size: expected the picture's width and height in pixels, got 'ab'"),
        ({"focal": -1.0}, "focal: expected pixels above 0"),
        ({"visibility": torch.ones(5, 60)}, r"visibility: expected \[5, 68\]"),
        ({"visibility": torch.full((5, 68), 2.0)}, "visibility: expected 0 to 1"),
    ],
)
def test_bad_input_is_named(change, message):
    given = {"landmarks": performance().landmarks[:5, :68], "fps": FPS, "size": None} | change
    with pytest.raises(ValueError, match=message):
        fit_sequence(given.pop("landmarks"), **given)


@pytest.mark.parametrize("template", ["builtin", [], 0])
def test_what_is_no_template_is_named(template):
    with pytest.raises(TypeError, match=f"template: expected a HeadTemplate, .* got {type(template).__name__}"):
        fit_sequence(performance().landmarks[:5, :68], fps=FPS, template=template)


@pytest.mark.parametrize("seed", range(3))
def test_landmarks_of_no_face_are_refused(seed: int):
    generator = torch.Generator().manual_seed(seed)
    shuffled = performance().landmarks[:20, torch.randperm(68, generator=generator)]
    with pytest.raises(PhotoError, match=r"no face in \d+ of \d+ frames looked at, first in frame \d+: they are off"):
        fit_sequence(shuffled, fps=FPS, size=SIZE)


@pytest.mark.parametrize("frames", [1, 2, 3])
def test_the_shortest_clips(frames: int):
    fit = fit_sequence(performance().landmarks[:frames, :68], fps=FPS, size=SIZE)
    assert fit.expression.shape == (frames, 52) and fit.error.max() < 0.02


def test_visibility_is_trust():
    marks = performance().landmarks[:12, :68].clone()
    marks[:, 60:68] += 40.0  # an inner mouth that a hand hides
    trust = torch.ones(12, 68)
    trust[:, 60:68] = 0.0
    fit = fit_sequence(marks, fps=FPS, size=SIZE, focal=FOCAL, visibility=trust)
    assert fit.error.max() < 0.02 and fit.landmarks[:, 60:68].isnan().all()
