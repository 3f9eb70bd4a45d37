"""Blending: the splats of each tile into its pixels, front to back, any number of channels.

With alpha_i = min(ceiling, opacity_i exp(-sigma_i)) where that is at least the cut, and T_i the product of 1 - alpha_j
over the splats in front: colour = sum_i alpha_i T_i colour_i + T background, alpha = 1 - T. The torch operations are
`emogs::blend_tiles` and its backward; the arithmetic is in csrc/math/blend.h.
"""

from __future__ import annotations

import torch
from torch import Tensor

from emogs.ops.checks import Arguments
from emogs.ops.native import _C, launch
from emogs.ops.project import SPLAT_SIZE, Splats
from emogs.ops.settings import RasterSettings
from emogs.ops.tiles import Tiles, tile_count, tile_shape


def blend_tiles(
    splats: Splats,
    tiles: Tiles,
    width: int,
    height: int,
    *,
    background: Tensor | None = None,
    settings: RasterSettings = RasterSettings(),
) -> tuple[Tensor, Tensor, Tensor | None]:
    """The third stage of `emogs.rasterize`.

    Args:
        splats: of C cameras, N splats, D channels, from `project_gaussians`.
        tiles: from `intersect_tiles` with the same width and height.
        background: [..., C, D], broadcast; zeros if None.
    Returns:
        colours [..., C, H, W, D], alphas [..., C, H, W, 1], and depths [..., C, H, W, 1] as `settings.depth` says.
    Raises:
        TypeError, ValueError: an argument does not fit.

    >>> from emogs import Cameras, Gaussians, look_at, pinhole
    >>> from emogs.ops import intersect_tiles, project_gaussians
    >>> one = Gaussians(torch.zeros(1, 3), torch.eye(4)[:1], torch.ones(1, 3), torch.ones(1), colors=torch.ones(1, 3))
    >>> camera = Cameras(look_at((0, 0, 4.0), (0, 0, 0.0))[None], pinhole(64, 48, 40)[None], 64, 48)
    >>> splats = project_gaussians(one, camera)
    >>> colors, alphas, depths = blend_tiles(splats, intersect_tiles(splats, 64, 48), 64, 48)
    >>> colors.shape
    torch.Size([1, 48, 64, 3])
    """
    arguments = Arguments("blend_tiles")
    arguments.check_size(width, height)
    arguments.check("splats.records", splats.records, "... N 8")
    arguments.check("splats.colors", splats.colors, "... N D", (splats.records.dtype,))
    arguments.check("tiles.ids", tiles.ids, "M", (torch.int32,))
    images = splats.records.shape[:-2]
    arguments.check("tiles.offsets", tiles.offsets, str(images.numel() * tile_count(width, height) + 1), (torch.int64,))
    shape = tile_shape(images, width, height)
    if tuple(tiles.shape) != shape:
        raise arguments.fail("tiles.shape", str(list(shape)), list(tiles.shape))
    _check_indices(arguments, tiles, splats.records.shape[-2])
    background = expand_background(arguments, background, images, splats.colors)
    colors, alphas, depths, _, _ = torch.ops.emogs.blend_tiles(
        splats.records,
        splats.colors,
        background,
        tiles.offsets,
        tiles.ids,
        width,
        height,
        settings.blending,
        settings.depth != "none",
    )
    return colors, alphas, finish_depth(depths, alphas, settings)


def _check_indices(arguments: Arguments, tiles: Tiles, count: int) -> None:
    """What comes from `intersect_tiles` always passes; hand-made lists must not read out of bounds."""
    if torch.compiler.is_compiling():
        return
    offsets, ids = tiles.offsets, tiles.ids
    if offsets[0] != 0 or offsets[-1] != len(ids) or (offsets[1:] < offsets[:-1]).any():
        raise arguments.fail("tiles.offsets", f"rising from 0 to M={len(ids)}", f"{offsets.tolist()[:8]}...")
    if len(ids) and (ids.min() < 0 or ids.max() >= count):
        raise arguments.fail("tiles.ids", f"in [0, N={count})", f"{int(ids.min())} to {int(ids.max())}")


def expand_background(
    arguments: Arguments, background: Tensor | None, images: torch.Size, colors: Tensor
) -> Tensor | None:
    """A background [..., C, D], checked and expanded to `images` [..., C]; D and dtype are those of `colors`."""
    if background is None:
        return None
    arguments.sizes["D"] = colors.shape[-1]
    arguments.check("background", background, "... D", (colors.dtype,))
    try:
        return background.expand(*images, colors.shape[-1])
    except RuntimeError:
        expected = ", ".join(map(str, (*images, colors.shape[-1])))
        raise arguments.fail("background", f"broadcastable to [{expected}]", list(background.shape)) from None


def finish_depth(depths: Tensor, alphas: Tensor, settings: RasterSettings) -> Tensor | None:
    """What `settings.depth` asks for, from sums of weight times depth."""
    if settings.depth == "none":
        return None
    return depths / alphas.clamp(min=1e-10) if settings.depth == "expected" else depths


torch.library.define(
    "emogs::blend_tiles",
    "(Tensor records, Tensor colors, Tensor? background, Tensor offsets, Tensor ids, int width, int height, "
    "float[] settings, bool depth) -> "
    "(Tensor colors, Tensor alphas, Tensor depths, Tensor transmittances, Tensor last)",
)
torch.library.define(
    "emogs::blend_tiles_backward",
    "(Tensor records, Tensor colors, Tensor? background, Tensor offsets, Tensor ids, int width, int height, "
    "float[] settings, bool depth, Tensor transmittances, Tensor last, Tensor? grad_colors, Tensor? grad_alphas, "
    "Tensor? grad_depths) -> (Tensor, Tensor, Tensor)",
)


@torch.library.impl("emogs::blend_tiles", "cpu")
def _forward(records, colors, background, offsets, ids, width, height, settings, depth):
    images, alphas, depths, transmittances, last = _forward_fake(
        records, colors, background, offsets, ids, width, height, settings, depth
    )
    _C.blend_tiles_forward(
        **_common(records, colors, background, offsets, ids, width, height, settings, depth),
        image_colors=images,
        alphas=alphas,
        depths=depths if depth else None,
        transmittances=transmittances,
        last=last,
    )
    return images, alphas, depths, transmittances, last


@torch.library.register_fake("emogs::blend_tiles")
def _forward_fake(records, colors, background, offsets, ids, width, height, settings, depth):
    shape = (*records.shape[:-2], height, width)
    images, alphas = records.new_empty((*shape, colors.shape[-1])), records.new_empty((*shape, 1))
    depths = records.new_empty((*shape, 1) if depth else 0)
    return images, alphas, depths, records.new_empty(shape), records.new_empty(shape, dtype=torch.int32)


@torch.library.impl("emogs::blend_tiles_backward", "cpu")
def _backward(
    records,
    colors,
    background,
    offsets,
    ids,
    width,
    height,
    settings,
    depth,
    transmittances,
    last,
    grad_colors,
    grad_alphas,
    grad_depths,
):
    count, channels = colors.shape[-2:]
    images, pairs = records.shape[:-2].numel(), len(ids)
    grads = records.new_empty(records.shape), colors.new_empty(colors.shape)
    grad_background = colors.new_empty(0 if background is None else background.shape)
    with_background = background is not None
    _C.blend_tiles_backward(
        **_common(records, colors, background, offsets, ids, width, height, settings, depth),
        image_colors=None,
        alphas=None,
        depths=None,
        transmittances=transmittances,
        last=last,
        grad_image_colors=_dense(grad_colors),
        grad_alphas=_dense(grad_alphas),
        grad_depths=_dense(grad_depths) if depth else None,
        pair_rows=torch.empty(pairs, dtype=torch.int32),
        splat_starts=torch.empty((images, count + 1), dtype=torch.int64),
        pair_grads=colors.new_empty((pairs, SPLAT_SIZE + channels)),
        tile_backgrounds=colors.new_empty((len(offsets) - 1, channels)) if with_background else None,
        grad_splats=grads[0],
        grad_colors=grads[1],
        grad_backgrounds=grad_background if with_background else None,
    )
    return *grads, grad_background


@torch.library.register_fake("emogs::blend_tiles_backward")
def _backward_fake(records, colors, background, *rest):
    grad_background = colors.new_empty(0 if background is None else background.shape)
    return records.new_empty(records.shape), colors.new_empty(colors.shape), grad_background


def _save(ctx, inputs, output):
    records, colors, background, offsets, ids, *ctx.rest = inputs
    _, _, _, transmittances, last = output
    ctx.save_for_backward(records, colors, background, offsets, ids, transmittances, last)
    ctx.mark_non_differentiable(transmittances, last)
    ctx.set_materialize_grads(False)


def _differentiate(ctx, grad_colors, grad_alphas, grad_depths, *_):
    *inputs, transmittances, last = ctx.saved_tensors
    grads = torch.ops.emogs.blend_tiles_backward(
        *inputs, *ctx.rest, transmittances, last, grad_colors, grad_alphas, grad_depths
    )
    return grads[0], grads[1], None if inputs[2] is None else grads[2], *[None] * 6


def _refuse_second_derivative(ctx, *grads):
    raise NotImplementedError("blend_tiles: second derivatives are not supported")


torch.library.register_autograd("emogs::blend_tiles", _differentiate, setup_context=_save)
torch.library.register_autograd("emogs::blend_tiles_backward", _refuse_second_derivative)


def _dense(tensor: Tensor | None) -> Tensor | None:
    return None if tensor is None else tensor.contiguous()


def _common(records, colors, background, offsets, ids, width, height, settings, depth) -> dict[str, object]:
    alpha_cut, alpha_ceiling, transmittance_stop = settings
    where = launch(records)
    count, channels = colors.shape[-2:]
    return {
        **where,
        "images": records.shape[:-2].numel(),
        "count": count,
        "channels": channels,
        "width": width,
        "height": height,
        "alpha_cut": alpha_cut,
        "alpha_ceiling": alpha_ceiling,
        "transmittance_stop": transmittance_stop,
        "with_depth": depth,
        "splats": records.contiguous(),
        "colors": colors.contiguous(),
        "backgrounds": _dense(background),
        "tile_offsets": offsets.contiguous(),
        "ids": ids.contiguous(),
        "scratch": records.new_empty((where["threads"], _C.blend_tiles_scratch(channels=channels))),
    }
