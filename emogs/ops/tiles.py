"""Tile intersection: for every 16x16 tile of every image, the splats that can reach it, near to far.

Exact: a pair is dropped only if the splat's alpha is below the cut at all pixel centres of the tile. Splats are sorted
by depth (ties by index) once, then counted into tiles. The torch operation is `emogs::intersect_tiles`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from emogs.ops.checks import Arguments
from emogs.ops.native import _C, launch
from emogs.ops.project import Splats

TILE_SIZE = 16
_CHUNK = 1024  # splats that are worth a thread of their own


@dataclass(frozen=True)
class Tiles:
    """Lists of splats, T tiles an image: tile t of image i has `ids[offsets[i T + t] : offsets[i T + t + 1]]`."""

    offsets: Tensor
    """[I T + 1] int64; tiles row by row."""
    ids: Tensor
    """[M] int32 index of the splat in its image."""


def intersect_tiles(splats: Splats, width: int, height: int) -> Tiles:
    """The second stage of `emogs.rasterize`: which splats reach which tiles, in depth order. Not differentiable.

    >>> from emogs import Cameras, Gaussians, look_at, pinhole
    >>> from emogs.ops import project_gaussians
    >>> one = Gaussians(torch.zeros(1, 3), torch.eye(4)[:1], torch.ones(1, 3), torch.ones(1), colors=torch.ones(1, 3))
    >>> camera = Cameras(look_at((0, 0, 90.0), (0, 0, 0.0))[None], pinhole(64, 64, 40)[None], 64, 64)
    >>> intersect_tiles(project_gaussians(one, camera), 64, 64).ids  # it sits on the corner of four tiles
    tensor([0, 0, 0, 0], dtype=torch.int32)
    """
    arguments = Arguments("intersect_tiles")
    arguments.check("splats.records", splats.records, "... N 8")
    arguments.check_size(width, height)
    return Tiles(*torch.ops.emogs.intersect_tiles(splats.records.detach(), width, height))


def tile_count(width: int, height: int) -> int:
    """T, the tiles of an image."""
    return -(-width // TILE_SIZE) * -(-height // TILE_SIZE)


torch.library.define(
    "emogs::intersect_tiles", "(Tensor records, int width, int height) -> (Tensor offsets, Tensor ids)"
)


@torch.library.impl("emogs::intersect_tiles", "cpu")
def _forward(records, width, height):
    images, count, tiles = records.shape[:-2].numel(), records.shape[-2], tile_count(width, height)
    where = launch(records)
    threads = where["threads"]
    chunks = max(1, min(-(-threads // max(images, 1)), -(-count // _CHUNK)))  # lists do not depend on it
    offsets = torch.empty(images * tiles + 1, dtype=torch.int64)
    common = {
        **where,
        "images": images,
        "count": count,
        "width": width,
        "height": height,
        "chunks": chunks,
        "splats": records.contiguous(),
        "order": torch.empty((images, count), dtype=torch.int32),
        "visible": torch.empty(images, dtype=torch.int32),
        "chunk_offsets": torch.empty((images, chunks, tiles), dtype=torch.int32),
        "tile_offsets": offsets,
        "scratch": torch.empty((min(threads, images), 4 * count), dtype=torch.int64),
    }
    pairs = _C.intersect_tiles_count(**common)
    if pairs < 0:
        raise ValueError(
            f"intersect_tiles: more than 2^31 pairs of splat and tile over {images} images; render fewer at a time"
        )
    ids = torch.empty(pairs, dtype=torch.int32)
    _C.intersect_tiles_fill(**common, ids=ids)
    return offsets, ids


@torch.library.register_fake("emogs::intersect_tiles")
def _forward_fake(records, width, height):
    pairs = torch.library.get_ctx().new_dynamic_size()
    offsets = records.new_empty(records.shape[:-2].numel() * tile_count(width, height) + 1, dtype=torch.int64)
    return offsets, records.new_empty(pairs, dtype=torch.int32)
