"""MediaPipe's landmarks as iBUG's: its canonical mesh beside the built-in head, and fits to its own real outputs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import roma
import torch

from emogs.head import builtin_head, load_ict
from emogs.photo.errors import PhotoError
from emogs.photo.fit import solve
from emogs.photo.mediapipe import VERTICES, from_mediapipe

WIDTH, HEIGHT = 820, 1024
"""Of MediaPipe's test picture, a smiling woman, in pixels."""
REAL = {
    "portrait_expected_face_landmarks.pbtxt": "portrait_expected_blendshapes.pbtxt",
    "face_blendshapes_in_landmarks.prototxt": "face_blendshapes_out.prototxt",
}


@pytest.fixture(scope="module")
def folder(ict_folder) -> Path:
    return ict_folder.parent / "mediapipe"


def read_landmarks(path: Path) -> torch.Tensor:
    """[478, 2] of a protocol buffer's text."""
    found = re.findall(r"x:\s*([-\d.e+]+)\s+y:\s*([-\d.e+]+)", path.read_text())
    return torch.tensor([[float(x), float(y)] for x, y in found])


def read_scores(path: Path) -> dict[str, float]:
    """MediaPipe's own blendshapes by name."""
    found = re.findall(r'score:\s*([-\d.e+]+)\s+label:\s*"(\w+)"', path.read_text())
    return {label: float(score) for score, label in found}


def test_canonical_mesh_agrees_with_the_builtin_head(folder: Path):
    """Aligned by rotation, shift and scale: another face, so millimetres; the jaw's rim is farthest off."""
    lines = (folder / "canonical_face_model.obj").read_text().splitlines()
    mesh = torch.tensor([[float(x) for x in line.split()[1:4]] for line in lines if line.startswith("v ")])
    points, marks = mesh[list(VERTICES)], builtin_head().vertices[builtin_head().landmarks]
    turn, shift, scale = roma.rigid_points_registration(points, marks, compute_scaling=True)
    off = 1000 * (scale * points @ turn.T + shift - marks).norm(dim=1)
    print(f"jaw {off[:17].mean():.1f} mm, the rest {off[17:].mean():.1f} mm, worst {off[17:].amax():.1f} mm")
    assert off[17:].mean() < 4.5 and off[17:].amax() < 9 and off[:17].mean() < 10
    assert len(set(VERTICES)) == 68
    mirrored = mesh * torch.tensor([-1.0, 1, 1])
    swap = [*range(16, -1, -1), *range(26, 16, -1), *range(27, 31), *range(35, 30, -1)]
    torch.testing.assert_close(mirrored[list(VERTICES)][:36], mesh[list(VERTICES)][swap], atol=0.02, rtol=0)


@pytest.mark.parametrize("name", REAL)
@pytest.mark.parametrize("template", ["builtin", "ict"])
def test_real_landmarks_are_fitted(folder: Path, ict_folder: Path, name: str, template: str):
    head = builtin_head() if template == "builtin" else load_ict(ict_folder)
    found = from_mediapipe(read_landmarks(folder / name), WIDTH, HEIGHT)
    shift = torch.tensor([(HEIGHT - WIDTH) / 2, 0.0])  # to the middle of a square picture
    fit = solve(found + shift, head, size=HEIGHT)
    theirs = read_scores(folder / REAL[name])
    ours = {channel: float(fit.expression[head.channel(channel)]) for channel in head.expression_names}
    shown = {key: f"{ours[key]:.2f} ({theirs[key]:.2f})" for key in ("mouthSmileLeft", "mouthUpperUpLeft", "jawOpen")}
    print(f"{template}, {name}: off by {100 * fit.error:.1f}% of the eyes' distance; {shown}")
    assert fit.error < 0.04
    assert all(torch.isfinite(value).all() for value in (fit.identity, fit.expression, fit.viewmat, fit.fitted))
    assert fit.identity.abs().amax() < 3
    for side in ("Left", "Right"):
        assert ours[f"mouthSmile{side}"] > 0.6 and theirs[f"mouthSmile{side}"] > 0.6
        assert ours[f"mouthFrown{side}"] < 0.1 and ours[f"eyeBlink{side}"] < 0.5


@pytest.mark.parametrize("seed", range(5))
def test_hopeless_landmarks_are_refused(folder: Path, seed: int):
    """The right points in the wrong order, and points at random."""
    generator = torch.Generator().manual_seed(seed)
    real = read_landmarks(folder / next(iter(REAL)))
    for points in (real[torch.randperm(478, generator=generator)], torch.rand(478, 2, generator=generator)):
        with pytest.raises(PhotoError, match="do not fit a face"):
            solve(from_mediapipe(points, WIDTH, HEIGHT), builtin_head(), size=HEIGHT)


@pytest.mark.parametrize(
    ("points", "message"),
    [
        (torch.zeros(68, 2), r"expected \[478, 2\] or \[468, 2\] of MediaPipe's landmarks, got \[68, 2\]"),
        (torch.zeros(478), r"expected \[478, 2\] or \[468, 2\] of MediaPipe's landmarks, got \[478\]"),
        (torch.full((478, 2), torch.nan), "expected finite coordinates"),
    ],
)
def test_what_is_no_landmarks_is_refused(points, message):
    with pytest.raises(PhotoError, match=message):
        from_mediapipe(points)
