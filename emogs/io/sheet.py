"""Contact sheets: pictures in rows and columns with labels, as one PNG that says that it is synthetic."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont, PngImagePlugin

from .files import SYNTHETIC, replacing

Picture = NDArray[np.uint8]
"""[H, W, 3]."""

PAPER, INK = (255, 255, 255), (40, 40, 40)
GAP = 2
"""Pixels between pictures."""


def contact_sheet(
    rows: Sequence[Sequence[Picture]], columns: Sequence[str] = (), labels: Sequence[str] = ()
) -> Picture:
    """Pictures of one size on white paper.

    Args:
        rows: pictures [H, W, 3]; rows may have different lengths.
        columns: a label above each column, or none.
        labels: a label left of each row, written upwards, or none.
    Returns:
        [H', W', 3].
    """
    shapes = {picture.shape for row in rows for picture in row}
    if len(shapes) != 1:
        raise ValueError(f"rows: expected pictures of one size, got {sorted(shapes)}")
    ((height, width, _),) = shapes
    letters = max(11, min(height, width) // 16)
    font, margin = ImageFont.load_default(letters), round(1.8 * letters)
    top, left = margin if columns else 0, margin if labels else 0
    longest = max(len(row) for row in rows)
    size = (left + longest * (width + GAP) - GAP, top + len(rows) * (height + GAP) - GAP)
    sheet = Image.new("RGB", size, PAPER)
    for i, row in enumerate(rows):
        for j, picture in enumerate(row):
            sheet.paste(Image.fromarray(picture), (left + j * (width + GAP), top + i * (height + GAP)))
    for j, text in enumerate(columns):
        sheet.paste(_label(text, (width, top), font), (left + j * (width + GAP), 0))
    for i, text in enumerate(labels):
        upright = _label(text, (height, left), font).transpose(Image.Transpose.ROTATE_90)
        sheet.paste(upright, (0, top + i * (height + GAP)))
    return np.asarray(sheet)


def write_png(path: str | Path, picture: Picture) -> None:
    """Writes [H, W, 3] uint8 with a note that it is synthetic; the file is replaced as a whole."""
    note = PngImagePlugin.PngInfo()
    note.add_text("Comment", SYNTHETIC)
    with replacing(path) as partial:
        Image.fromarray(picture).save(partial, pnginfo=note)


def _label(text: str, size: tuple[int, int], font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> Image.Image:
    """Text in the middle of a strip of paper."""
    strip = Image.new("RGB", size, PAPER)
    ImageDraw.Draw(strip).text((size[0] / 2, size[1] / 2), text, INK, font, anchor="mm")
    return strip
