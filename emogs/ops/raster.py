"""All three stages as one torch operation, `emogs::rasterize`: one crossing a call, one node in a graph.

Its outputs after the images are the state that backward needs; of these, `ids` has a size that only the data decide.
"""

from __future__ import annotations

import torch
from torch import Tensor

from emogs.ops.project import scene_gradients
from emogs.ops.scene import SCENE_SIZE, SCHEMA, Scene, split_scene
from emogs.ops.settings import RasterSettings


def rasterize_scene(
    scene: Scene, background: Tensor | None, tile_mask: Tensor | None, settings: RasterSettings
) -> tuple[Tensor, ...]:
    """The operation with checked arguments; see its schema for what comes out.

    `background` is [..., C, D] and `tile_mask` [..., C, TH, TW], both in full.
    """
    return torch.ops.emogs.rasterize(*scene, background, tile_mask, settings.blending, settings.depth != "none")


torch.library.define(
    "emogs::rasterize",
    f"({SCHEMA}, Tensor? background, Tensor? tile_mask, float[] blending, bool depth) -> "
    "(Tensor colors, Tensor alphas, Tensor depths, Tensor records, Tensor splat_colors, Tensor outside, "
    "Tensor non_finite, Tensor offsets, Tensor ids, Tensor transmittances, Tensor last)",
)


def _forward(*args):
    scene, (background, tile_mask, blending, depth) = Scene(*args[:SCENE_SIZE]), args[SCENE_SIZE:]
    width, height = scene.width, scene.height
    records, colors, outside, non_finite = torch.ops.emogs.project_gaussians(*scene)
    offsets, ids = torch.ops.emogs.intersect_tiles(records, width, height, tile_mask)
    images, alphas, depths, transmittances, last = torch.ops.emogs.blend_tiles(
        records, colors, background, offsets, ids, width, height, blending, depth
    )
    return images, alphas, depths, records, colors, outside, non_finite, offsets, ids, transmittances, last


torch.library.impl("emogs::rasterize", "cpu", _forward)
torch.library.register_fake("emogs::rasterize", _forward)


def _save(ctx, inputs, output):
    _, _, _, *state = output
    records, colors, _, _, offsets, ids, transmittances, last = state
    tensors, ctx.scene, (background, _, ctx.blending, ctx.depth) = split_scene(inputs)
    ctx.save_for_backward(*tensors, background, records, colors, offsets, ids, transmittances, last)
    ctx.mark_non_differentiable(*state)
    ctx.set_materialize_grads(False)


def _differentiate(ctx, grad_images, grad_alphas, grad_depths, *_):
    *tensors, background, records, colors, offsets, ids, transmittances, last = ctx.saved_tensors
    scene = Scene(*tensors, *ctx.scene)
    grad_records, grad_colors, grad_background = torch.ops.emogs.blend_tiles_backward(
        records, colors, background, offsets, ids, scene.width, scene.height, ctx.blending, ctx.depth,
        transmittances, last, grad_images, grad_alphas, grad_depths,
    )  # fmt: skip
    grads = scene_gradients(ctx, scene, records, grad_records, grad_colors)
    return *grads, None if background is None else grad_background, *[None] * 3


torch.library.register_autograd("emogs::rasterize", _differentiate, setup_context=_save)
