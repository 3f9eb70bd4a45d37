"""How well heads fit landmarks: residuals on real landmark files, and on clips whose truth is known.

    python benchmarks/fit_landmarks.py --data FOLDER

`--data` holds `mediapipe` (landmarks and blendshapes that MediaPipe publishes for its test pictures) and `ict_facekit`;
what is not there is left out. Errors are mean distances over the outer-eye distance. The clips are 4 s of a head that
talks, looks about, blinks and turns by 30 degrees, its landmarks off by 1% of the outer-eye distance at random.
`--picture FILE.png` draws one of them, with frames missing, and does nothing else.
"""

from __future__ import annotations

import argparse
import re
import time
from pathlib import Path

import torch
from performances import (
    BLINK,
    FOCAL,
    FPS,
    SIZE,
    as_mediapipe,
    blink_frames,
    channel,
    gaze_degrees,
    perform,
    speech_gaze_blinks,
)  # fmt: skip

from emogs.emotion import EMOTIONS, GeometryPath, parse_emotion
from emogs.head import HeadTemplate, builtin_head, load_ict
from emogs.io.sheet import write_png
from emogs.photo import SequenceFit, fit_sequence
from emogs.photo.fit import solve
from emogs.photo.mediapipe import from_mediapipe
from emogs.viewer.fits import fit_sheet

PICTURE = (820, 1024)
FILES = {
    "portrait": ("portrait_expected_face_landmarks.pbtxt", "portrait_expected_blendshapes.pbtxt"),
    "animated face": ("face_blendshapes_in_landmarks.prototxt", "face_blendshapes_out.prototxt"),
}
SHOWN = (
    "mouthSmileLeft",
    "mouthSmileRight",
    "jawOpen",
    "eyeBlinkLeft",
    "eyeBlinkRight",
    "mouthUpperUpLeft",
)
FRAMES = 40


def read_landmarks(path: Path) -> torch.Tensor:
    """[478, 2] of a protocol buffer's text."""
    found = re.findall(r"x:\s*([-\d.e+]+)\s+y:\s*([-\d.e+]+)", path.read_text())
    return torch.tensor([[float(x), float(y)] for x, y in found], dtype=torch.float64)


def read_scores(path: Path) -> dict[str, float]:
    """MediaPipe's own blendshapes by name."""
    found = re.findall(r'score:\s*([-\d.e+]+)\s+label:\s*"(\w+)"', path.read_text())
    return {label: float(score) for score, label in found}


def shaken(points: torch.Tensor) -> torch.Tensor:
    """[T, 478, 2] a still face in a moving picture: rolled, scaled, shifted, off by 0.3% of the face at random."""
    generator, t = torch.Generator().manual_seed(0), torch.linspace(0, 6.28, FRAMES, dtype=torch.float64)
    pixels = points * torch.tensor(PICTURE)
    middle, extent = pixels.mean(0), (pixels - pixels.mean(0)).norm(dim=1).max()
    roll, zoom = 0.15 * t.sin(), 1 + 0.05 * (2 * t).sin()
    turn = torch.stack([torch.stack([roll.cos(), -roll.sin()], -1), torch.stack([roll.sin(), roll.cos()], -1)], -2)
    moved = zoom[:, None, None] * (pixels - middle) @ turn.mT + middle + 20 * t.cos()[:, None, None]
    noise = torch.randn(moved.shape, generator=generator, dtype=torch.float64)
    return (moved + 0.003 * extent * noise) / torch.tensor(PICTURE)


def real_files(heads: list[HeadTemplate], folder: Path) -> None:
    """Residuals of one picture and of a clip made of it, and channels beside MediaPipe's."""
    print("\n| landmarks | head | one picture | clip |", *(f" {name} |" for name in SHOWN), sep="")
    print("|" + "---|" * (4 + len(SHOWN)))
    for name, (marks, scores) in FILES.items():
        points, theirs = read_landmarks(folder / marks), read_scores(folder / scores)
        print(f"| {name} | MediaPipe's network | | |", *(f" {theirs[shown]:.2f} |" for shown in SHOWN), sep="")
        side = max(PICTURE)
        shift = torch.tensor([(side - PICTURE[0]) / 2, 0.0])
        for head in heads:
            one = solve(from_mediapipe(points, *PICTURE) + shift, head, size=side)
            clip = fit_sequence(shaken(points), fps=30, size=PICTURE, template=head)
            values = [clip.expression[:, head.channel(shown)].mean() for shown in SHOWN]
            errors = f"{100 * one.error:.1f}% | {100 * float(clip.error.mean()):.1f}%"
            print(f"| {name} | {head.name} | {errors} |", *(f" {value:.2f} |" for value in values), sep="", flush=True)


def known_truth(heads: list[HeadTemplate], frames: int) -> None:
    """What comes back of performances whose truth is known."""
    print("\n| head | landmarks | pose | channels | jawOpen | gaze | blink depth | shaking of channels | CPU time |")
    print("|" + "---|" * 9)
    values = speech_gaze_blinks(frames)
    for head in heads:
        truth = perform(head, values)
        for noise in (0.0, 0.01):
            begin = time.process_time()
            fit = fit_sequence(as_mediapipe(truth.noisy(noise)), fps=FPS, size=SIZE, template=head, focal=FOCAL)
            print(
                row(head, truth.values, truth.viewmats, fit, noise),
                f"{time.process_time() - begin:.1f} s |",
                flush=True,
            )


def held_emotions(frames: int) -> None:
    """How far an emotion that is held over a clip changes what is read of gaze and lids, which it leaves alone."""
    head, values = builtin_head(), speech_gaze_blinks(frames)
    print("\n| held | gaze, share of its reach | lids | blink depth |\n|---|---|---|---|")

    def fitted(shown: torch.Tensor) -> torch.Tensor:
        marks = as_mediapipe(perform(head, shown).landmarks)
        return fit_sequence(marks, fps=FPS, size=SIZE, focal=FOCAL).expression

    lids = [channel("eyeBlinkLeft"), channel("eyeBlinkRight")]
    begins, rest = blink_frames(frames), values[:, lids[0]] == 0
    reach = gaze_degrees(head, values).abs().max()
    plain = fitted(values)
    for name in EMOTIONS:
        with torch.no_grad():
            shown = GeometryPath()(values[None], parse_emotion(name)[None], torch.zeros(1, 7), clamp=True)[0]
        found = fitted(shown)
        gaze = (gaze_degrees(head, found) - gaze_degrees(head, plain)).abs()[rest].mean() / reach
        depth = torch.stack([found[b : b + len(BLINK), lids].amax(0) for b in begins]).mean()
        off = (found - plain)[:, lids].abs().mean()
        print(f"| {name} | {100 * gaze:.1f}% | {100 * off:.1f}% | {depth:.2f} |", flush=True)


def row(head: HeadTemplate, values: torch.Tensor, viewmats: torch.Tensor, fit: SequenceFit, noise: float) -> str:
    turned = fit.viewmats[:, :3, :3].double() @ viewmats[:, :3, :3].mT
    cosine = ((turned.diagonal(dim1=1, dim2=2).sum(1) - 1) / 2).clamp(-1, 1)
    pose, off = torch.rad2deg(cosine.arccos()).mean(), (fit.expression - values).abs()
    lids = [channel("eyeBlinkLeft"), channel("eyeBlinkRight")]
    begins = blink_frames(len(values))
    depth = torch.stack([fit.expression[b : b + len(BLINK), lids].amax(0) for b in begins]).mean()
    rest = values[:, lids[0]] == 0
    gaze = (gaze_degrees(head, fit.expression) - gaze_degrees(head, values)).abs()[rest].mean()
    shaking = (fit.expression - values).diff(dim=0).diff(dim=0).square().mean().sqrt()
    figures = f"{pose:.1f}° | {off.mean():.3f} | {off[:, channel('jawOpen')].mean():.3f} | {gaze:.1f}° | {depth:.2f}"
    return f"| {head.name} | {f'off by {100 * noise:.0f}%' if noise else 'exact'} | {figures} | {shaking:.3f} |"


def draw(path: Path) -> None:
    """A clip's frames, its landmarks over the fitted head; half a second of it is missing."""
    smile = torch.zeros(52)
    smile[[channel("mouthSmileLeft"), channel("mouthSmileRight")]] = 0.5
    marks = as_mediapipe(perform(builtin_head(), speech_gaze_blinks(90, smile)).noisy(0.01))
    marks[60:75] = torch.nan
    write_png(path, fit_sheet(fit_sequence(marks, fps=FPS, size=SIZE, focal=FOCAL), 6))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="without it, the built-in head alone")
    parser.add_argument("--frames", type=int, default=120)
    parser.add_argument("--picture", type=Path)
    chosen = parser.parse_args()
    if chosen.picture is not None:
        draw(chosen.picture)
        return
    heads = [builtin_head()]
    if chosen.data and (chosen.data / "ict_facekit").is_dir():
        heads.append(load_ict(chosen.data / "ict_facekit"))
    if chosen.data and (chosen.data / "mediapipe").is_dir():
        real_files(heads, chosen.data / "mediapipe")
    known_truth(heads, chosen.frames)
    held_emotions(60)


if __name__ == "__main__":
    main()
