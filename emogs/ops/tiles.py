"""Tile intersection: for every 16x16 tile of every image, the splats that can reach it, near to far.

Exact: a pair is dropped only if the splat's alpha is below the cut at all pixel centres of the tile. Splats are sorted
by depth (ties by index) once, then counted into tiles. The torch operation is `emogs::intersect_tiles`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from emogs.checks import Arguments
from emogs.ops.native import _C, aligned, launch, needs_gradients, on_cuda, routed
from emogs.ops.project import SPLAT_SIZE, Splats
from emogs.ops.scene import check_fit
from emogs.workspace import CapacityError, RasterWorkspace

TILE_SIZE = 16
_PART = 4096  # splats of an image that a thread takes at least


@dataclass(frozen=True)
class Tiles:
    """For every tile of every image the splats that can reach it, near to far; C cameras, T = TH TW tiles an image.

    Tile (i, j) holds the pixels [16 i, 16 i + 16) x [16 j, 16 j + 16), rows first. Counting tiles row by row over
    all images, tile t has `ids[offsets[t] : offsets[t + 1]]`.
    """

    offsets: Tensor
    """[... C T + 1] int64, flat: where each tile's list begins, then M."""
    ids: Tensor
    """[M] int32 index of the splat in its image."""
    shape: torch.Size
    """The sizes [..., C, TH, TW] of what exists once a tile."""
    places: Tensor | None = None
    """[M] int32: pair j is the places[j]-th when the pairs of a splat stand together. Blending's backward pass on CUDA
    adds a splat's pairs in this order, and finds it out itself if None."""
    rows: Tensor | None = None
    """[... C N, 2] int32, flat: the places [begin, end) of a splat's pairs; (0, 0) where it has none."""

    @property
    def counts(self) -> Tensor:
        """[..., C, TH, TW] int64 lengths of the lists."""
        return self.offsets.diff().view(self.shape)


def intersect_tiles(
    splats: Splats,
    width: int,
    height: int,
    *,
    tile_mask: Tensor | None = None,
    workspace: RasterWorkspace | None = None,
) -> Tiles:
    """The second stage of `emogs.rasterize`: which splats reach which tiles, in depth order. Not differentiable.

    Args:
        splats: of C cameras, from `project_gaussians`.
        width, height: of the images, pixels.
        tile_mask: [..., C, TH, TW] bool, broadcast; TH = ceil(height / 16), TW = ceil(width / 16). Tiles where it is
            False stay empty. None: all are filled.
        workspace: room for pairs, so that a call on CUDA need not wait for their count. `ids` then has the workspace's
            capacity, with -1 behind the last pair, and the farthest pairs are left out if there are more.
    Raises:
        TypeError, ValueError: an argument does not fit, or there are more than 2^31 pairs of splat and tile.
        CapacityError: on the CPU, if the workspace is too small.

    >>> from emogs import Cameras, Gaussians, look_at, pinhole
    >>> from emogs.ops import project_gaussians
    >>> one = Gaussians(torch.zeros(1, 3), torch.eye(4)[:1], torch.ones(1, 3), torch.ones(1), colors=torch.ones(1, 3))
    >>> camera = Cameras(look_at((0, 0, 90.0), (0, 0, 0.0))[None], pinhole(64, 64, 40)[None], 64, 64)
    >>> intersect_tiles(project_gaussians(one, camera), 64, 64).ids  # it sits on the corner of four tiles
    tensor([0, 0, 0, 0], dtype=torch.int32)
    """
    arguments = Arguments("intersect_tiles")
    arguments.check_type("splats", splats, Splats)
    arguments.check("splats.records", splats.records, "... N 8")
    arguments.check_size(width, height)
    if splats.records.is_meta:
        raise arguments.fail("splats.records", "on a device that holds data", "on meta")
    shape = tile_shape(splats.records.shape[:-2], width, height)
    tile_mask = expand_tile_mask(arguments, tile_mask, shape)
    rows = on_cuda(splats.records) and needs_gradients(splats.records, splats.colors)
    capacity = capacity_of(arguments, workspace)
    lists = _intersect_tiles(splats.records.detach(), width, height, tile_mask, rows, capacity)
    return make_tiles(shape, workspace, *lists)


def capacity_of(arguments: Arguments, workspace: RasterWorkspace | None) -> int:
    """What the operation takes: a capacity, or -1 where all pairs are wanted."""
    if workspace is None:
        return -1
    arguments.check_type("workspace", workspace, RasterWorkspace)
    return workspace.capacity


def make_tiles(
    shape: torch.Size,
    workspace: RasterWorkspace | None,
    offsets: Tensor,
    ids: Tensor,
    places: Tensor,
    rows: Tensor,
    needed: Tensor,
) -> Tiles:
    """What the operation returns, with None for what it was not asked for."""
    if workspace is not None:
        workspace.record(needed)
    return Tiles(offsets, ids, shape, places, rows) if rows.numel() else Tiles(offsets, ids, shape)


def tile_shape(images: torch.Size, width: int, height: int) -> torch.Size:
    """[..., C, TH, TW] for images [..., C] of this size."""
    return torch.Size((*images, -(-height // TILE_SIZE), -(-width // TILE_SIZE)))


def tile_count(width: int, height: int) -> int:
    """T, the tiles of an image."""
    return tile_shape(torch.Size(), width, height).numel()


def expand_tile_mask(arguments: Arguments, tile_mask: Tensor | None, shape: torch.Size) -> Tensor | None:
    """A mask [..., TH, TW], checked and expanded to `shape` [..., C, TH, TW]."""
    if tile_mask is None:
        return None
    arguments.sizes["TH"], arguments.sizes["TW"] = shape[-2:]
    arguments.check("tile_mask", tile_mask, "... TH TW", (torch.bool,))
    try:
        return tile_mask.expand(shape)
    except RuntimeError:
        raise arguments.fail("tile_mask", f"broadcastable to {list(shape)}", list(tile_mask.shape)) from None


torch.library.define(
    "emogs::intersect_tiles",
    "(Tensor records, int width, int height, Tensor? tile_mask, bool rows, int capacity) -> "
    "(Tensor offsets, Tensor ids, Tensor places, Tensor rows, Tensor needed)",
)


def intersect_native(records, width, height, tile_mask, rows, capacity):
    Arguments("intersect_tiles").check_size(width, height)
    check_fit("records", records.shape[-1:], (SPLAT_SIZE,))
    if tile_mask is not None:
        check_fit("tile_mask", tile_mask.shape, tile_shape(records.shape[:-2], width, height))
    if capacity > _MOST:
        raise ValueError(f"intersect_tiles: capacity must be at most 2^31 - 1, got {capacity}")
    where = launch(records)
    native = _intersect_cpu if where["device"] < 0 else _intersect_cuda
    return native(where, records, width, height, tile_mask, rows, capacity)


def _intersect_cpu(where, records, width, height, tile_mask, rows, capacity):
    images, count, tiles = records.shape[:-2].numel(), records.shape[-2], tile_count(width, height)
    threads = where["threads"]
    shares = -(-2 * threads // max(images, 1)) if threads > 1 and images < 2 * threads else 1
    parts = max(1, min(shares, count // _PART))  # lists do not depend on it
    slots = images if parts > 1 else min(threads, images)
    scratch = _C.intersect_tiles_scratch(dtype=where["dtype"], slots=slots, count=count, parts=parts)
    offsets = torch.empty(images * tiles + 1, dtype=torch.int64)
    common = {
        **where,
        "images": images,
        "count": count,
        "width": width,
        "height": height,
        "parts": parts,
        "splats": records.contiguous(),
        "tile_mask": None if tile_mask is None else tile_mask.contiguous(),
        "visible": torch.empty(images, dtype=torch.int32),
        "order": torch.empty((images, count), dtype=torch.int32),
        "boxes": torch.empty((images, count), dtype=torch.int64),
        "part_offsets": torch.empty((images, parts, tiles), dtype=torch.int32),
        "tile_offsets": offsets,
        "scratch": torch.empty(scratch, dtype=torch.uint8),
    }
    pairs = _C.intersect_tiles_count(**common)
    if pairs < 0:
        raise _too_many("pairs of splat and tile", images)
    if 0 <= capacity < pairs:
        raise CapacityError(capacity, pairs)
    ids = torch.empty(pairs, dtype=torch.int32)
    _C.intersect_tiles_fill(**common, ids=ids)
    places = find_places(offsets, ids, images, count) if rows else no_places(ids)
    return offsets, ids, *places, torch.tensor([pairs]) if capacity >= 0 else offsets.new_empty(0)


def _intersect_cuda(where, records, width, height, tile_mask, rows, capacity):
    images, splats = records.shape[:-2].numel(), records.shape[:-1].numel()
    if splats > _MOST - 1:
        raise _too_many("splats", images)
    if images * tile_count(width, height) > 2 * _MOST:
        raise _too_many("tiles", images)
    ordered = _order_splats(where, records, width, height, tile_mask)
    if capacity >= 0:
        return _emit_pairs(where, ordered, capacity, True, rows)
    pairs = int(ordered["starts"][0, -1]) & 0xFFFFFFFF  # waits for the device
    if pairs > _MOST:
        raise _too_many("pairs of splat and tile", images)
    return _emit_pairs(where, ordered, pairs, False, rows)


def _order_splats(where, records, width, height, tile_mask):
    """Splats near to far, and where the pairs of each begin: the arguments that listing the pairs shares."""
    images, splats = records.shape[:-2].numel(), records.shape[:-1].numel()
    integers = partial(torch.empty, dtype=torch.int32, device=records.device)
    arguments = {
        **where,
        "images": images,
        "count": records.shape[-2],
        "width": width,
        "height": height,
        "splats": aligned(records),
        "tile_mask": None if tile_mask is None else tile_mask.contiguous(),
        "counts": integers(splats),
        "order": integers((2, splats)),
        "starts": integers((2, splats + 1)),
        **_scratch(records, _C.intersect_tiles_order_scratch(**where, splats=splats)),
    }
    row = _C.intersect_tiles_order(**arguments)
    return arguments | {"order_row": row, "counts": None}


def _emit_pairs(where, ordered, room, limited, rows):
    """Lists the pairs and sorts them by tile. `room` is their number or, if `limited`, what the caller has room for."""
    records, tiles = ordered["splats"], ordered["images"] * tile_count(ordered["width"], ordered["height"])
    integers = partial(torch.empty, dtype=torch.int32, device=records.device)
    bits = max((tiles if limited else tiles - 1).bit_length(), 1)
    scratch = _C.intersect_tiles_emit_scratch(**where, room=room, tile_bits=bits)
    values = integers(room), integers(room)
    offsets = integers(tiles + 1, dtype=torch.int64)
    needed = integers(int(limited), dtype=torch.int64)
    splat_rows = integers((ordered["images"] * ordered["count"], 2)) if rows else None
    result = _C.intersect_tiles_emit(
        **ordered | _scratch(records, scratch),
        room=room,
        tile_bits=bits,
        keys=integers((2, room)),
        values0=values[0],
        values1=values[1],
        place_ids=integers(room) if rows else None,
        tile_offsets=offsets,
        rows=splat_rows,
        needed=needed if limited else None,
    )
    if splat_rows is None:
        return offsets, values[result], *no_places(values[result]), needed
    return offsets, values[1 - result], values[result], splat_rows, needed


_MOST = 2**31 - 1  # positions are int32


def _scratch(like: Tensor, size: int) -> dict[str, object]:
    return {"scratch": like.new_empty(size, dtype=torch.uint8), "scratch_bytes": size}


def _too_many(what: str, images: int) -> ValueError:
    return ValueError(f"intersect_tiles: too many {what} over {images} images; render fewer at a time")


def find_places(offsets: Tensor, ids: Tensor, images: int, count: int) -> tuple[Tensor, Tensor]:
    """`Tiles.places` and `Tiles.rows` of lists that were made elsewhere, splats in the order of images and indices.

    Pairs whose index does not exist come last. Nothing waits for the device.

    Args:
        offsets: [I T + 1].
        ids: [M].
        images, count: I and N.
    """
    lists, splats, pairs = len(offsets) - 1, images * count, torch.arange(len(ids), device=ids.device)
    tiles = max(lists // max(images, 1), 1)
    image = ((torch.searchsorted(offsets, pairs, right=True) - 1) // tiles).clamp(0, max(lists - 1, 0) // tiles)
    owners = torch.where((ids >= 0) & (ids < count), image * count + ids, splats)
    owners, order = owners.sort(stable=True)
    places = torch.empty_like(ids)
    places[order] = pairs.int()
    each = torch.arange(splats, device=ids.device)
    begins, ends = (torch.searchsorted(owners, each, right=right) for right in (False, True))
    return places, (torch.stack([begins, ends], -1) * (begins < ends)[:, None]).int()


def no_places(ids: Tensor) -> tuple[Tensor, Tensor]:
    """The same where nobody asks for them: [0] and [0, 2]."""
    return ids.new_empty(0), ids.new_empty((0, 2))


torch.library.impl("emogs::intersect_tiles", ("cpu", "cuda"), intersect_native)
_intersect_tiles = routed("intersect_tiles", intersect_native, vmap=False)


@torch.library.register_fake("emogs::intersect_tiles")
def _forward_fake(records, width, height, tile_mask, rows, capacity):
    pairs = capacity if capacity >= 0 and on_cuda(records) else torch.library.get_ctx().new_dynamic_size()
    offsets = records.new_empty(records.shape[:-2].numel() * tile_count(width, height) + 1, dtype=torch.int64)
    ids = records.new_empty(pairs, dtype=torch.int32)
    needed = offsets.new_empty(1 if capacity >= 0 else 0)
    if not rows:
        return offsets, ids, *no_places(ids), needed
    return offsets, ids, torch.empty_like(ids), ids.new_empty((records.shape[:-1].numel(), 2)), needed
