"""Pictures of fits: frames of a clip, the fitted head in its pose, the landmarks given and where they fell."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image, ImageDraw

from ..head.mesh import vertex_normals
from ..io.sheet import Picture, contact_sheet
from ..photo.sequence import SequenceFit
from ..photo.view import GRID, HeadView
from .clay import Clay

MOST_FRAMES = 8
"""Frames that a sheet shows."""
_LARGER = 2
"""Pixels of the picture per cell of the ray casting's grid."""
_ROOM = 1.9
"""Side of the square that is shown, over the extent of the landmarks."""
_GIVEN, _FITTED = (214, 106, 16), (20, 90, 160)
_LAMP = (-0.35, -0.45, -0.8)
"""Towards the light, in the camera's axes: from above left."""
_BACKDROP = 0.93


def fit_sheet(fit: SequenceFit, count: int = MOST_FRAMES) -> Picture:
    """Up to eight frames of a fitted clip, those with the widest eyes' blink, turn and open mouth among them.

    Orange circles are the landmarks given, blue dots those of the head; a filled frame has none given.
    """
    frames = _telling(fit, count)
    clay = Clay(fit.template)
    pictures = [_frame(fit, frame, clay) for frame in frames]
    labels = [
        f"{frame / fit.fps:.2f} s" + (" filled" if fit.filled[frame] else f", {100 * float(fit.error[frame]):.1f}%")
        for frame in frames
    ]
    half = (len(frames) + 1) // 2
    rows, names = (
        ([pictures[:half], pictures[half:]], [labels[:half], labels[half:]]) if half > 2 else ([pictures], [labels])
    )
    sheets = [contact_sheet([row], name) for row, name in zip(rows, names, strict=True)]
    width = max(sheet.shape[1] for sheet in sheets)
    padded = [np.pad(s, ((0, 0), (0, width - s.shape[1]), (0, 0)), constant_values=255) for s in sheets]
    return np.concatenate(padded)


def _telling(fit: SequenceFit, count: int) -> list[int]:
    """Frames evenly over the clip, and those in which something is at its most."""
    extremes = [int(fit.head_angles()[:, 0].argmin()), int(fit.head_angles()[:, 0].argmax())]
    if fit.template.speaks_arkit:
        extremes += [
            int(fit.expression[:, fit.template.channel(name)].argmax()) for name in ("eyeBlinkLeft", "jawOpen")
        ]
    if fit.filled.any():
        extremes.append(int(fit.filled.nonzero()[0, 0]))
    evenly = torch.linspace(0, len(fit.times) - 1, count).round().int().tolist()
    chosen = list(dict.fromkeys(extremes))[:count]
    for frame in evenly:
        if len(chosen) < count and frame not in chosen:
            chosen.append(frame)
    return sorted(chosen)


def _frame(fit: SequenceFit, frame: int, clay: Clay) -> Picture:
    """One frame: the head as the clip's camera sees it, cut to a square around the face."""
    marks = fit.fitted[frame]
    middle = (marks.amin(0) + marks.amax(0)) / 2
    side = _ROOM * float((marks.amax(0) - marks.amin(0)).max())
    corner = middle - side / 2
    K = fit.K.clone()
    K[:2, 2] -= corner
    K[:2] *= GRID / side
    vertices = fit.vertices(slice(frame, frame + 1))[0]
    view = HeadView(fit.template, vertices, vertices, fit.viewmats[frame], K, GRID)
    lamp = fit.viewmats[frame, :3, :3].T @ torch.nn.functional.normalize(torch.tensor(_LAMP), dim=0)
    light = view.front.paint(view.faces, (vertex_normals(vertices, fit.template.faces) @ lamp).clamp_min(0).numpy())
    hit = view.front.hit
    corners = view.faces[view.front.face[hit]].astype(np.int32)
    colour = clay.colour(corners, view.front.barycentric[hit][..., None])
    image = np.full((GRID, GRID, 3), _BACKDROP, np.float32)
    image[hit] = colour**2.2 * (0.3 + 0.9 * light[hit][:, None])
    pixels = (image.clip(0, 1) ** (1 / 2.2) * 255).round().astype(np.uint8)
    drawn = Image.fromarray(pixels).resize((GRID * _LARGER,) * 2, Image.Resampling.BICUBIC)
    pen, scale = ImageDraw.Draw(drawn), GRID * _LARGER / side
    for x, y in ((marks - corner) * scale).tolist():
        pen.ellipse((x - 2, y - 2, x + 2, y + 2), fill=_FITTED)
    for x, y in ((fit.landmarks[frame] - corner) * scale).tolist():
        if x == x and not fit.filled[frame]:
            pen.ellipse((x - 5, y - 5, x + 5, y + 5), outline=_GIVEN, width=2)
    return np.asarray(drawn)
