"""All three stages as one torch operation, `emogs::rasterize`: one crossing a call, one node in a graph.

Its outputs after the images are the state that backward needs; the size of `ids` is decided by the
data, or by a capacity.
"""

from __future__ import annotations

import torch
from torch import Tensor

from emogs.ops.blend import blend_native, blend_tiles_backward
from emogs.ops.native import needs_gradients, on_cuda, routed
from emogs.ops.project import project_native, scene_gradients
from emogs.ops.scene import SCENE_SIZE, SCHEMA, Scene, split_scene
from emogs.ops.settings import RasterSettings
from emogs.ops.tiles import intersect_native


def rasterize_scene(
    scene: Scene,
    background: Tensor | None,
    tile_mask: Tensor | None,
    probe: Tensor | None,
    settings: RasterSettings,
    capacity: int = -1,
) -> tuple[Tensor, ...]:
    """The operation with checked arguments; see its schema for what comes out.

    `background` is [..., C, D], `tile_mask` [..., C, TH, TW] and `probe` [..., C, N, 4], all in full; `capacity` is
    a workspace's, or -1.
    """
    return _rasterize(
        *scene,
        background,
        tile_mask,
        probe,
        settings.blending,
        settings.depth_mode,
        needs_gradients(*scene.tensors, background, probe),
        capacity,
    )


torch.library.define(
    "emogs::rasterize",
    f"({SCHEMA}, Tensor? background, Tensor? tile_mask, Tensor? probe, float[] blending, int depth, bool save, "
    "int capacity) -> "
    "(Tensor colors, Tensor alphas, Tensor depths, Tensor records, Tensor splat_colors, Tensor outside, "
    "Tensor non_finite, Tensor offsets, Tensor ids, Tensor places, Tensor rows, Tensor needed, Tensor transmittances, "
    "Tensor last, Tensor medians, Tensor checkpoints)",
)


def _compose(project, intersect, blend):
    """The operation made of its stages."""

    def forward(*args):
        scene, tail = Scene(*args[:SCENE_SIZE]), args[SCENE_SIZE:]
        background, tile_mask, probe, blending, depth, save, capacity = tail
        width, height = scene.width, scene.height
        records, colors, outside, non_finite = project(*scene)
        *lists, needed = intersect(records, width, height, tile_mask, save and on_cuda(records), capacity)
        images, alphas, depths, *kept = blend(
            records, colors, background, *lists, probe, width, height, blending, depth, save
        )
        return images, alphas, depths, records, colors, outside, non_finite, *lists, needed, *kept

    return forward


_STAGES = torch.ops.emogs
_native = _compose(project_native, intersect_native, blend_native)
torch.library.impl("emogs::rasterize", ("cpu", "cuda"), _native)
torch.library.register_fake(
    "emogs::rasterize", _compose(_STAGES.project_gaussians, _STAGES.intersect_tiles, _STAGES.blend_tiles)
)


def _save(ctx, inputs, output):
    _, _, _, *state = output
    records, colors, _, _, offsets, ids, places, rows, _, *kept = state
    tensors, ctx.scene, (background, _, probe, ctx.blending, ctx.depth, ctx.saved, _) = split_scene(inputs)
    ctx.save_for_backward(*tensors, records, colors, background, offsets, ids, places, rows, probe, *kept)
    ctx.mark_non_differentiable(*state)
    ctx.set_materialize_grads(False)


def _differentiate(ctx, grad_images, grad_alphas, grad_depths, *_):
    if not ctx.saved:
        raise RuntimeError("rasterize: backward needs what forward keeps with save=True")
    (*tensors, records, colors, background, offsets, ids, places, rows, probe,
     transmittances, last, medians, checkpoints) = ctx.saved_tensors  # fmt: skip
    scene = Scene(*tensors, *ctx.scene)
    grad_records, grad_colors, grad_background, grad_probe = blend_tiles_backward(
        records, colors, background, offsets, ids, places, rows, probe, scene.width, scene.height, ctx.blending,
        ctx.depth, transmittances, last, medians, checkpoints, grad_images, grad_alphas, grad_depths,
    )  # fmt: skip
    grads = scene_gradients(ctx, scene, records, grad_records, grad_colors)
    grad_background = None if background is None else grad_background
    return *grads, grad_background, None, None if probe is None else grad_probe, *[None] * 4


torch.library.register_autograd("emogs::rasterize", _differentiate, setup_context=_save)
_rasterize = routed("rasterize", _native, _save, _differentiate, vmap=False)
