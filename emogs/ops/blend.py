"""Blending: the splats of each tile into its pixels, front to back, any number of channels.

With alpha_i = min(ceiling, opacity_i exp(-sigma_i)) where that is at least the cut, and T_i the product of 1 - alpha_j
over the splats in front: colour = sum_i alpha_i T_i colour_i + T background, alpha = 1 - T. The torch operations are
`emogs::blend_tiles` and its backward; the arithmetic is in csrc/math/blend.h.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from emogs.checks import Arguments
from emogs.ops.native import _C, aligned, launch, needs_gradients, on_cuda, routed
from emogs.ops.project import SPLAT_SIZE, Splats
from emogs.ops.scene import check_fit
from emogs.ops.settings import RasterSettings
from emogs.ops.tiles import Tiles, find_places, tile_count, tile_shape


def blend_tiles(
    splats: Splats,
    tiles: Tiles,
    width: int,
    height: int,
    *,
    background: Tensor | None = None,
    probe: Tensor | None = None,
    settings: RasterSettings = RasterSettings(),
) -> tuple[Tensor, Tensor, Tensor | None]:
    """The third stage of `emogs.rasterize`. Without gradients it keeps nothing but the images.

    Args:
        splats: of C cameras, N splats, D channels, from `project_gaussians`.
        tiles: from `intersect_tiles` with the same width and height.
        background: [..., C, D], broadcast; zeros if None.
        probe: [..., C, N, 4] zeros that require gradients, for densification. Backward leaves there, in pixels, the
            loss's gradients of each splat's x and y, and the sums over pixels of the magnitudes of their terms.
    Returns:
        colours [..., C, H, W, D], alphas [..., C, H, W, 1], and depths [..., C, H, W, 1] as `settings.depth` says.
    Raises:
        TypeError, ValueError: an argument does not fit, an index in `tiles` does not exist, or a tile has more than
            2^24 splats in float32.

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
    arguments.check_type("splats", splats, Splats)
    arguments.check_type("tiles", tiles, Tiles)
    arguments.check_type("settings", settings, RasterSettings)
    arguments.check_size(width, height)
    arguments.check("splats.records", splats.records, "... N 8")
    arguments.check("splats.colors", splats.colors, "... N D", (splats.records.dtype,))
    arguments.check("tiles.ids", tiles.ids, "M", (torch.int32,))
    if tiles.places is not None or tiles.rows is not None:
        arguments.check("tiles.places", tiles.places, "M", (torch.int32,))
        arguments.check("tiles.rows", tiles.rows, "P 2", (torch.int32,))
    images = splats.records.shape[:-2]
    if splats.colors.shape[:-2] != images:
        raise arguments.fail(
            "splats.colors", f"[{', '.join(map(str, images))}, N, D] like splats.records", list(splats.colors.shape)
        )
    arguments.check("tiles.offsets", tiles.offsets, str(images.numel() * tile_count(width, height) + 1), (torch.int64,))
    shape = tile_shape(images, width, height)
    arguments.check_type("tiles.shape", tiles.shape, tuple)
    if tiles.shape != shape:
        raise arguments.fail("tiles.shape", str(list(shape)), list(tiles.shape))
    background = expand_background(arguments, background, images, splats.colors)
    check_probe(arguments, probe, splats.records.shape[:-1], splats.records.dtype)
    colors, alphas, depths, *_ = _blend_tiles(
        splats.records,
        splats.colors,
        background,
        tiles.offsets,
        tiles.ids,
        tiles.places,
        tiles.rows,
        probe,
        width,
        height,
        settings.blending,
        settings.depth_mode,
        needs_gradients(splats.records, splats.colors, background, probe),
    )
    return colors, alphas, finish_depth(depths, alphas, settings)


def check_probe(arguments: Arguments, probe: Tensor | None, splats: tuple[int, ...], dtype: torch.dtype) -> None:
    """A probe must be [*splats, 4], with `splats` [..., C, N], and able to take a gradient."""
    if probe is None:
        return
    arguments.check("probe", probe, "... N 4", (dtype,))
    if probe.shape[:-1] != splats:
        raise arguments.fail("probe", str([*splats, 4]), list(probe.shape))
    if torch.is_grad_enabled() and not probe.requires_grad:
        raise arguments.fail("probe", "zeros that require gradients", "requires_grad=False")


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
    """What `settings.depth` asks for, from what the operation returns."""
    if settings.depth == "none":
        return None
    return depths / alphas.clamp(min=1e-10) if settings.depth == "expected" else depths


# Called directly, the operations refuse shapes, sizes and settings that do not fit, on the CPU also lists that point
# nowhere. On CUDA, where looking would wait for the device, a list outside the pairs is empty and a pair whose splat
# does not exist is left out; gradients of the splats that such lists name are undefined. Backward takes a `last` beyond
# its list for the list's end, a negative one for none, and a median outside its list for none. A colour that is not
# finite spoils the pixels that its splat touches and may spoil others of its tiles; nothing else in the images changes.
# Gradients of its splat, and of the others in these tiles, may then be NaN.
torch.library.define(
    "emogs::blend_tiles",
    "(Tensor records, Tensor colors, Tensor? background, Tensor offsets, Tensor ids, Tensor? places, "
    "Tensor? rows, Tensor? probe, int width, int height, float[] settings, int depth, bool save) -> "
    "(Tensor colors, Tensor alphas, Tensor depths, Tensor transmittances, Tensor last, Tensor medians, "
    "Tensor checkpoints)",
)
torch.library.define(
    "emogs::blend_tiles_backward",
    "(Tensor records, Tensor colors, Tensor? background, Tensor offsets, Tensor ids, Tensor? places, "
    "Tensor? rows, Tensor? probe, int width, int height, float[] settings, int depth, Tensor transmittances, "
    "Tensor last, Tensor medians, Tensor checkpoints, Tensor? grad_colors, Tensor? grad_alphas, "
    "Tensor? grad_depths) -> (Tensor, Tensor, Tensor, Tensor)",
)
MEDIAN = 2  # the `depth` argument of the operations is the DepthMode of csrc/blend/blend.h
_BAD_OFFSETS, _LONG_LIST = -1, -3  # what the kernels return, from the same file
MAX_CHANNELS = 2**20
"""More than anybody blends; the kernels count channels and planes of scratch in 32 bits."""
_MOST_PAIRS = 2**31 - 1  # positions in lists are int32
_BUCKET, _TILE_PIXELS = 128, 256  # CUDA keeps a checkpoint of a tile's pixels after so many pairs


def blend_native(records, colors, background, offsets, ids, places, rows, probe, width, height, settings, depth, save):
    _check_forward(records, colors, background, offsets, ids, places, rows, probe, width, height, settings, depth)
    outputs = _forward_fake(
        records, colors, background, offsets, ids, places, rows, probe, width, height, settings, depth, save
    )
    images, alphas, depths, transmittances, last, medians, checkpoints = outputs
    status = _C.blend_tiles_forward(
        **_common(records, colors, background, offsets, ids, width, height, settings, depth),
        image_colors=images,
        alphas=alphas,
        depths=depths if depth else None,
        transmittances=transmittances if save else None,
        last=last if save else None,
        medians=medians if save and depth == MEDIAN else None,
        checkpoints=checkpoints if save and checkpoints.numel() else None,
    )
    _check_lists(status, offsets, ids, records.shape[-2])
    return outputs


@torch.library.register_fake("emogs::blend_tiles")
def _forward_fake(records, colors, background, offsets, ids, places, rows, probe, width, height, settings, depth, save):
    shape = (*records.shape[:-2], height, width)
    images, alphas = records.new_empty((*shape, colors.shape[-1])), records.new_empty((*shape, 1))
    depths = records.new_empty((*shape, 1) if depth else 0)
    transmittances = records.new_empty(shape if save else 0)
    last = records.new_empty(shape if save else 0, dtype=torch.int32)
    medians = records.new_empty(shape if save and depth == MEDIAN else 0, dtype=torch.int32)
    checkpoints = records.new_empty(_checkpoint_shape(colors, ids, depth) if save and on_cuda(records) else 0)
    return images, alphas, depths, transmittances, last, medians, checkpoints


def _checkpoint_shape(colors, ids, depth) -> tuple[int, ...]:
    """What a tile's pixels see behind its first 128 b pairs, b = 1, 2, ..., is row offsets[tile] // 128 + b - 1:
    transmittance, channels, then depth where it is accumulated."""
    return ids.shape[0] // _BUCKET, colors.shape[-1] + (depth == 1) + 1, _TILE_PIXELS


def _backward(
    records,
    colors,
    background,
    offsets,
    ids,
    places,
    rows,
    probe,
    width,
    height,
    settings,
    depth,
    transmittances,
    last,
    medians,
    checkpoints,
    grad_colors,
    grad_alphas,
    grad_depths,
):
    _check_forward(records, colors, background, offsets, ids, places, rows, probe, width, height, settings, depth)
    given = (grad_colors, grad_alphas, grad_depths if depth else None)
    _check_backward(records, colors, width, height, depth, transmittances, last, medians, given)
    grads = _backward_fake(records, colors, background, offsets, ids, places, rows, probe)
    grad_records, grad_splat_colors, grad_background, grad_probe = grads
    tiles, pairs, channels = len(offsets) - 1, len(ids), colors.shape[-1]
    with_background = background is not None
    if on_cuda(records):
        check_fit("checkpoints", checkpoints.shape, _checkpoint_shape(colors, ids, depth))
        if rows is None or not rows.numel():
            places, rows = find_places(offsets, ids, records.shape[:-2].numel(), records.shape[-2])
        wave = pairs
    else:
        wave = min(_C.blend_tiles_rows(tiles=tiles, tile_offsets=offsets.contiguous()), pairs)
    status = _C.blend_tiles_backward(
        **_common(records, colors, background, offsets, ids, width, height, settings, depth),
        image_colors=None,
        alphas=None,
        depths=None,
        transmittances=transmittances.contiguous(),
        last=last.contiguous(),
        medians=medians.contiguous() if depth == MEDIAN else None,
        checkpoints=checkpoints.contiguous() if checkpoints.numel() else None,
        grad_image_colors=aligned(grad_colors) if on_cuda(records) and grad_colors is not None else _dense(grad_colors),
        grad_alphas=_dense(grad_alphas),
        grad_depths=_dense(grad_depths) if depth else None,
        places=_dense(places) if on_cuda(records) else None,
        rows=_dense(rows) if on_cuda(records) else None,
        pair_sums=colors.new_empty((wave, _C.blend_tiles_row_width(channels=channels))),
        tile_pairs=None if on_cuda(records) else torch.empty(tiles, dtype=torch.int32),
        tile_backgrounds=colors.new_empty((tiles, channels)) if with_background else None,
        grad_splats=grad_records,
        grad_colors=grad_splat_colors,
        grad_backgrounds=grad_background if with_background else None,
        grad_probes=grad_probe if probe is not None else None,
    )
    _check_lists(status, offsets, ids, records.shape[-2])
    return grads


@torch.library.register_fake("emogs::blend_tiles_backward")
def _backward_fake(records, colors, background, offsets, ids, places, rows, probe, *rest):
    grad_background = colors.new_empty(0 if background is None else background.shape)
    grad_probe = records.new_empty(0 if probe is None else probe.shape)
    return records.new_empty(records.shape), colors.new_empty(colors.shape), grad_background, grad_probe


def _check_forward(
    records, colors, background, offsets, ids, places, rows, probe, width, height, settings, depth
) -> None:
    """Refuses what would let the kernels read out of bounds. `blend_tiles` explains itself better; this is for
    operations that are called directly."""
    shapes = [None if t is None else t.shape for t in (records, colors, background, offsets, probe)]
    _check_shapes(*shapes, width, height, tuple(settings), depth)
    if ids.dim() != 1 or len(ids) > _MOST_PAIRS:
        raise ValueError(f"emogs: ids must be [M], M at most 2^31 - 1, got {list(ids.shape)}")
    if rows is not None and rows.numel():
        check_fit("places", None if places is None else places.shape, ids.shape)
        check_fit("rows", rows.shape, (records.shape[:-1].numel(), 2))


@lru_cache(maxsize=64)
def _check_shapes(records, colors, background, offsets, probe, width, height, settings, depth) -> None:
    Arguments("emogs").check_size(width, height)
    if len(records) < 2 or len(colors) < 2 or not 1 <= colors[-1] <= MAX_CHANNELS:
        raise ValueError(
            f"emogs: records and colors must be [..., N, 8] and [..., N, D], D from 1 to {MAX_CHANNELS}, "
            f"got {list(records)} and {list(colors)}"
        )
    images, splats = records[:-2], records[:-1]
    check_fit("records", records, (*splats, SPLAT_SIZE))
    check_fit("colors", colors, (*splats, colors[-1]))
    check_fit("background", background, (*images, colors[-1]))
    check_fit("offsets", offsets, (images.numel() * tile_count(width, height) + 1,))
    check_fit("probe", probe, (*splats, 4))
    if len(settings) != 3 or depth not in range(MEDIAN + 1):
        raise ValueError(f"emogs: settings must be 3 numbers, depth 0, 1 or 2, got {len(settings)} numbers, {depth}")
    RasterSettings(*settings)  # an alpha of less than 0 or more than 1 has no logarithm, or no reverse


def _check_backward(records, colors, width, height, depth, transmittances, last, medians, grads) -> None:
    """The same for what only backward reads; its states are empty where forward was not asked to save them."""
    pixels = (*records.shape[:-2], height, width)
    check_fit("transmittances", transmittances.shape, pixels)
    check_fit("last", last.shape, pixels)
    check_fit("medians", medians.shape, pixels if depth == MEDIAN else (0,))
    for name, grad, last_size in zip(
        ("grad_colors", "grad_alphas", "grad_depths"), grads, (colors.shape[-1], 1, 1), strict=True
    ):
        check_fit(name, None if grad is None else grad.shape, (*pixels, last_size))


def _check_lists(status: int, offsets: Tensor, ids: Tensor, count: int) -> None:
    """The kernels check the lists that they read: those of `intersect_tiles` pass, hand-made ones may not."""
    arguments = Arguments("blend_tiles")
    if status == _BAD_OFFSETS:
        raise arguments.fail("tiles.offsets", f"rising from 0 to M={len(ids)}", f"{offsets.tolist()[:8]}...")
    if status == _LONG_LIST:
        longest = f"{int(offsets.diff().max())} in a tile"
        raise arguments.fail("tiles.offsets", "of lists of at most 2^24 splats in float32", longest)
    if status:
        raise arguments.fail("tiles.ids", f"in [0, N={count})", f"{int(ids.min())} to {int(ids.max())}")


def _save(ctx, inputs, output):
    records, colors, background, offsets, ids, places, rows, probe, *ctx.rest, ctx.saved = inputs
    state = output[3:]
    ctx.save_for_backward(records, colors, background, offsets, ids, places, rows, probe, *state)
    ctx.mark_non_differentiable(*state)
    ctx.set_materialize_grads(False)


def _differentiate(ctx, grad_colors, grad_alphas, grad_depths, *_):
    if not ctx.saved:
        raise RuntimeError("blend_tiles: backward needs what forward keeps with save=True")
    *inputs, transmittances, last, medians, checkpoints = ctx.saved_tensors
    grads = blend_tiles_backward(
        *inputs, *ctx.rest, transmittances, last, medians, checkpoints, grad_colors, grad_alphas, grad_depths
    )
    given = [inputs[0], inputs[1], inputs[2], inputs[7]]
    records, colors, background, probe = (None if t is None else g for t, g in zip(given, grads, strict=True))
    return records, colors, background, *[None] * 4, probe, *[None] * 5


def _refuse_second_derivative(ctx, *grads):
    raise NotImplementedError("blend_tiles: second derivatives are not supported")


torch.library.impl("emogs::blend_tiles", "cpu", blend_native)
torch.library.impl("emogs::blend_tiles", "cuda", blend_native)
torch.library.impl("emogs::blend_tiles_backward", "cpu", _backward)
torch.library.impl("emogs::blend_tiles_backward", "cuda", _backward)
torch.library.register_autograd("emogs::blend_tiles", _differentiate, setup_context=_save)
torch.library.register_autograd("emogs::blend_tiles_backward", _refuse_second_derivative)
_blend_tiles = routed("blend_tiles", blend_native, _save, _differentiate)
blend_tiles_backward = routed("blend_tiles_backward", _backward)


def _dense(tensor: Tensor | None) -> Tensor | None:
    return None if tensor is None else tensor.contiguous()


def _scratch(records, threads, channels) -> Tensor:
    return records.new_empty((threads, _C.blend_tiles_scratch(channels=channels)))


def _common(records, colors, background, offsets, ids, width, height, settings, depth) -> dict[str, object]:
    alpha_cut, alpha_ceiling, transmittance_stop = settings
    where = launch(records)
    count, channels = colors.shape[-2:]
    return {
        **where,
        "images": records.shape[:-2].numel(),
        "count": count,
        "channels": channels,
        "pairs": len(ids),
        "width": width,
        "height": height,
        "alpha_cut": alpha_cut,
        "alpha_ceiling": alpha_ceiling,
        "transmittance_stop": transmittance_stop,
        "depth_mode": depth,
        "splats": aligned(records) if on_cuda(records) else records.contiguous(),
        "colors": colors.contiguous(),
        "backgrounds": _dense(background),
        "tile_offsets": offsets.contiguous(),
        "ids": ids.contiguous(),
        "scratch": None if on_cuda(records) else _scratch(records, where["threads"], channels),
    }
