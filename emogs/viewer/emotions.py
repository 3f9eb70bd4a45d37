"""Pictures of emotions on a head template: a performance as a film strip, and the map of valence and arousal."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from ..emotion import EMOTIONS, Track, convert, emotion_from_affect, expression_from_emotion
from ..head import HeadTemplate
from ..io.sheet import INK, PAPER, Picture, contact_sheet
from .heads import HeadView

MOST_INSTANTS = 8
"""Pictures that a strip has at most."""
MAP_STEPS = (-0.9, -0.6, -0.3, 0.0, 0.3, 0.6, 0.9)
"""Valences and arousals of the map."""
_SPREAD = 0.9
"""Standard deviations of the measurements that make people different."""
_CURVES = ((214, 137, 16), (36, 113, 163), (125, 60, 152), (100, 100, 100), (176, 58, 46), (30, 132, 73), (160, 64, 0))
"""One colour an emotion, in the order of codes."""


def strip_sheet(template: HeadTemplate, track: Track, size: int, people: int = 1) -> Picture:
    """A track as pictures at up to eight instants, one row a person: the same clock for all, and its curves below.

    Args:
        template: one that speaks ARKit.
        track: in any language that leads to ARKit; emotions and regions also get curves.
        size: side of one picture in pixels.
        people: how many identities; the first is the mean.
    """
    count = min(MOST_INSTANTS, len(track.times))
    times = track.times
    if len(track.times) > MOST_INSTANTS or track.ease != "linear":
        count = MOST_INSTANTS if len(track.times) > 1 else 1
        times = torch.linspace(float(track.times[0]), float(track.times[-1]), count, dtype=torch.float64)
    values = track.trajectory().at(times).reshape(count, *track.values.shape[1:])
    faces = convert(Track(track.language, times, values), "arkit").track.values.clamp(0, 1)
    view, rows = HeadView(template, size), []
    for identity in _people(template, people):
        worn = template.deform(identity.expand(count, -1), faces)
        rows.append([view.draw(vertices) for vertices in worn])
    labels = [f"{time:.2f} s" for time in times.tolist()] if count > 1 else []
    sheet = contact_sheet(rows, labels)
    return _with_curves(sheet, track) if count > 1 and track.language == "emotion" else sheet


def affect_map(template: HeadTemplate, size: int) -> Picture:
    """Faces by valence, to the right, and arousal, upwards: what `emotion_from_affect` makes of a grid of points."""
    view, rows = HeadView(template, size), []
    for arousal in reversed(MAP_STEPS):
        points = torch.tensor([[valence, arousal] for valence in MAP_STEPS])
        worn = template.deform(expression=expression_from_emotion(emotion_from_affect(points)))
        rows.append([view.draw(vertices) for vertices in worn])
    ends = {-0.9: "unpleasant", 0.9: "pleasant"}
    columns = [f"{step:+.1f} {ends.get(step, '')}".strip() if step else "0" for step in MAP_STEPS]
    ends = {-0.9: "quiet", 0.9: "aroused"}
    labels = [f"{step:+.1f} {ends.get(step, '')}".strip() if step else "0" for step in reversed(MAP_STEPS)]
    return contact_sheet(rows, columns, labels)


def _people(template: HeadTemplate, count: int) -> Tensor:
    """[count, I] identities: the mean, then random ones, the same on every call."""
    generator = torch.Generator().manual_seed(4)
    others = _SPREAD * torch.randn(max(0, count - 1), len(template.identity), generator=generator)
    return torch.cat([torch.zeros(1, len(template.identity)), others])[:count]


def _with_curves(sheet: Picture, track: Track) -> Picture:
    """The sheet with the intensities over time drawn below it, each with its name at its peak."""
    height, width = sheet.shape[:2]
    room, font = width // 8, ImageFont.load_default(max(11, width // 90))
    whole = Image.new("RGB", (width, height + room), PAPER)
    whole.paste(Image.fromarray(sheet), (0, 0))
    pen = ImageDraw.Draw(whole)
    columns = MOST_INSTANTS
    left, right = width / columns / 2, width * (1 - 0.5 / columns)  # the middles of the first and last picture
    top, bottom = height + 0.22 * room, height + 0.9 * room
    pen.line([(left, bottom), (right, bottom)], INK)
    times = torch.linspace(float(track.times[0]), float(track.times[-1]), width // 2, dtype=torch.float64)
    x = torch.linspace(left, right, len(times))
    for name, colour, level in zip(EMOTIONS, _CURVES, track.trajectory().at(times).T, strict=True):
        if not level.any():
            continue
        y = bottom - (bottom - top) * level
        pen.line(list(zip(x.tolist(), y.tolist(), strict=True)), colour, max(2, width // 500))
        peak = int(level.argmax() + (level >= level.max() - 1e-3).sum() // 2)
        pen.text((float(x[min(peak, len(x) - 1)]), float(y.min()) - 4), name, colour, font, anchor="mb")
    return np.asarray(whole)
