"""gsplat's `meta`: the splats of all images, packed or not, as nodes of the graph, and the tile lists in its encoding.

Splat records are taken apart into the tensors that gsplat names and put together again, and the image is blended from
the result. So each of them is a node on the way to the image that can retain its gradient.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from emogs.ops.project import Splats
from emogs.ops.tiles import TILE_SIZE, Tiles, tile_count

_FIELDS = (2, 3, 1, 1, 1)  # of a record: position, conic, opacity, depth, reach


@dataclass(frozen=True)
class SplatNodes:
    """The splats of images [..., C] of N each: of shape [..., C, N], or packed [P], the visible ones in that order."""

    means2d: Tensor
    conics: Tensor
    opacities: Tensor
    depths: Tensor
    reach: Tensor
    radii: Tensor
    """[..., 2] int32: `Splats.radii` rounded up."""
    shape: torch.Size
    """[..., C, N]."""
    rows: Tensor | None
    """Packed: [P] int64 index of each splat among all of them."""

    @classmethod
    def of(cls, splats: Splats, packed: bool) -> SplatNodes:
        records, rows = splats.records, None
        if packed:
            rows = records[..., 7].flatten().nonzero()[:, 0]  # the reach of culled splats is zero
            records = records.flatten(0, -2).index_select(0, rows)
        radii = replace(splats, records=records).radii.ceil().int()
        means2d, conics, opacities, depths, reach = records.split(_FIELDS, -1)
        shape = splats.records.shape[:-1]
        return cls(means2d, conics, opacities[..., 0], depths[..., 0], reach[..., 0], radii, shape, rows)

    def records(self) -> Tensor:
        """[..., C, N, 8]: the nodes as the records that they came from."""
        single = (self.opacities, self.depths, self.reach)
        return self._spread(torch.cat([self.means2d, self.conics, torch.stack(single, -1)], -1))

    def _spread(self, values: Tensor) -> Tensor:
        """[..., C, N, X] of what is [P, X] where packed, with zeros between."""
        if self.rows is None:
            return values
        spread = values.new_zeros(self.shape.numel(), values.shape[-1]).index_copy(0, self.rows, values)
        return spread.view(*self.shape, values.shape[-1])

    def _gather(self, values: Tensor) -> Tensor:
        """The inverse of `_spread`."""
        return values if self.rows is None else values.flatten(0, -2).index_select(0, self.rows)

    def probe(self) -> Tensor | None:
        """What tells the absolute gradients in backward and leaves them as `means2d.absgrad`."""
        if not self.means2d.requires_grad:
            return None
        probe = self.means2d.new_zeros(*self.shape, 4).requires_grad_()

        def keep(grad: Tensor) -> None:
            self.means2d.absgrad = self._gather(grad)[..., 2:]  # type: ignore[attr-defined]

        probe.register_hook(keep)
        return probe

    def meta(self) -> dict[str, Any]:
        """gsplat's entries about splats."""
        cameras, count = self.shape[-2:]
        images = None if self.rows is None else self.rows // count
        return {
            "batch_ids": None if images is None else images // cameras,
            "camera_ids": None if images is None else images % cameras,
            "gaussian_ids": None if self.rows is None else self.rows % count,
            "radii": self.radii,
            "means2d": self.means2d,
            "depths": self.depths,
            "conics": self.conics,
            "opacities": self.opacities,
        }


def list_tiles(nodes: SplatNodes, tiles: Tiles, width: int, height: int) -> dict[str, Any]:
    """gsplat's entries about tiles. A key of `isect_ids` is image | tile | depth, the depth in the lower 32 bits."""
    images, per_image, count = nodes.shape[:-1], tile_count(width, height), nodes.shape[-1]
    tile_width, tile_height = -(-width // TILE_SIZE), -(-height // TILE_SIZE)
    device, pairs = tiles.ids.device, tiles.offsets.diff()
    tile = torch.arange(images.numel() * per_image, device=device)
    image = tile // per_image
    keys = ((image << per_image.bit_length()) + tile % per_image) << 32

    flat = tiles.ids
    if images.numel() != 1:
        flat = flat + (image * count).int().repeat_interleave(pairs)
    if nodes.rows is not None:
        places = torch.zeros(nodes.shape.numel(), dtype=torch.int32, device=device)
        places[nodes.rows] = torch.arange(len(nodes.rows), dtype=torch.int32, device=device)
        flat = places.index_select(0, flat)
    depths = nodes.depths.detach().float().flatten().view(torch.int32).long() & 0xFFFFFFFF
    return {
        "tile_width": tile_width,
        "tile_height": tile_height,
        "tiles_per_gauss": torch.bincount(flat, minlength=len(depths)).int().view(nodes.depths.shape),
        "isect_ids": keys.repeat_interleave(pairs) | depths.index_select(0, flat),
        "flatten_ids": flat,
        "isect_offsets": tiles.offsets[:-1].int().view(*images, tile_height, tile_width),
    }
