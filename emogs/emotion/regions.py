"""Codes by region: brows, eyes and mouth that feel different things, for faces, for tokens and for the geometry path.

Every ARKit shape, action unit and marked landmark belongs to one region, by the table file. Region codes are
[..., R, 7] in the order of `tables.regions`; the same code in every region is the face of that code.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..head.template import HeadTemplate
from ..head.uv import TexelMap
from ..io.files import shown
from .checks import check_floats, check_text
from .codes import format_emotion, parse_emotion
from .mixing import expression_from_emotion
from .tables import EMOTIONS, EmotionTables, default_tables


def parse_regions(text: str, tables: EmotionTables | None = None) -> Tensor:
    """The region codes of a description such as `brow: sad=0.6; mouth: happy=0.8`.

    Args:
        text: `region: emotion` separated by semicolons, emotions as for `parse_emotion`. One without a region holds for
            all regions that are not named; without it those are neutral.
        tables: None is emogs' own.
    Returns:
        [R, 7] float32.
    Raises:
        ValueError: that says which regions there are, or what is wrong with an emotion.

    >>> format_regions(parse_regions("happy=0.8; brow: sad=0.6"))
    'brow: sad=0.6; eyes: happy=0.8; mouth: happy=0.8'
    """
    tables = tables or default_tables()
    check_text("text", text)
    codes: dict[str, Tensor] = {}
    for part in text.split(";"):
        written, colon, emotion = part.partition(":")
        region = written.strip().lower() if colon else ""
        if colon and region not in tables.regions:
            raise ValueError(
                f"regions {shown(text)}: {shown(written.strip())} is unknown; known: {', '.join(tables.regions)}"
            )
        if region in codes:
            raise ValueError(f"regions {shown(text)}: {region or 'the rest of the face'} is given twice")
        codes[region] = parse_emotion(emotion if colon else written, tables)
    rest = codes.get("", torch.zeros(len(EMOTIONS)))
    return torch.stack([codes.get(region, rest) for region in tables.regions])


def format_regions(codes: Tensor, tables: EmotionTables | None = None) -> str:
    """The description of region codes [R, 7] that `parse_regions` reads back to the same numbers."""
    tables = tables or default_tables()
    check_floats("codes", codes, len(tables.regions), len(EMOTIONS))
    if codes.ndim != 2:
        raise ValueError(f"codes: expected [{len(tables.regions)}, {len(EMOTIONS)}], got {list(codes.shape)}")
    texts = [format_emotion(code) for code in codes]
    if len(set(texts)) == 1:
        return texts[0]
    return "; ".join(f"{region}: {text}" for region, text in zip(tables.regions, texts, strict=True))


def expression_from_regions(codes: Tensor, tables: EmotionTables | None = None) -> Tensor:
    """ARKit channels [..., 52] of region codes [..., R, 7]: each channel as its own region's code has it.

    Equal codes give the very numbers of `expression_from_emotion`. Lost: what a code would do in other regions.
    """
    tables = tables or default_tables()
    check_floats("codes", codes, len(tables.regions), len(EMOTIONS))
    return select_regions(expression_from_emotion(codes, tables), tables.shape_regions)


def emotion_from_regions(codes: Tensor, tables: EmotionTables | None = None) -> Tensor:
    """One code [..., 7] for region codes [..., R, 7]: their mean over shapes. Lost: where which emotion was."""
    tables = tables or default_tables()
    check_floats("codes", codes, len(tables.regions), len(EMOTIONS))
    counts = torch.bincount(tables.shape_regions, minlength=len(tables.regions)).to(codes)
    return torch.einsum("...re,r->...e", codes, counts / counts.sum())


def select_regions(values: Tensor, region: Tensor) -> Tensor:
    """[..., P] from [..., R, P]: of each of the P channels the value in its own region [P] int64."""
    rows = region.to(values.device).expand(*values.shape[:-2], 1, -1)
    return values.gather(-2, rows)[..., 0, :]


def template_regions(template: HeadTemplate, tables: EmotionTables | None = None) -> Tensor:
    """[V] int32 region of each vertex of a head: that of the nearest landmark that marks one, on the neutral head.

    This is what `emotion_norm(region=)` takes, where tokens are vertices.
    """
    tables = tables or default_tables()
    marked = (tables.landmark_regions >= 0).nonzero()[:, 0]
    points = template.vertices[template.landmarks[marked]]
    nearest = torch.cat([torch.cdist(block, points).argmin(1) for block in template.vertices.split(4096)])
    return tables.landmark_regions[marked][nearest].int()


def texel_regions(template: HeadTemplate, texels: TexelMap, tables: EmotionTables | None = None) -> Tensor:
    """[M] int32 region of each texel that the head covers: that of the corner of its triangle that is nearest."""
    corner = texels.barycentric.argmax(1, keepdim=True)
    vertex = template.faces[texels.face].gather(1, corner)[:, 0]
    return template_regions(template, tables)[vertex]
