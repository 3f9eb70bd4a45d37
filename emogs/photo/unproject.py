"""Carries the photo's pixels into texture space, with a sober opinion of which of them show the surface.

A texel is trusted where a ray from the camera meets it first, where it faces the camera, where it lies inside the
person's matte and not under hair, and some way from silhouettes: there a misfit of a pixel or two would paint hair,
background or the nose onto the cheek behind.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..head.uv import TexelMap
from .cover import Cover
from .images import Array, Mask, inside_distance, resize, sample, smoothstep
from .matte import Matte
from .view import GRID, HeadView

BEHIND = 0.0015
"""Metres by which something must lie in front of a texel to hide it."""
STEEP = 3.5
"""Depth between neighbouring cells, in cell widths, that makes a silhouette rather than a slope."""
FOLD = 0.03
"""Metres of depth up to which a step within the bare face is a fold, the nose before the cheek or the lip: both sides
are skin, and a misfit paints skin on skin. A fill would be another nose than the one in the photo."""
MIRROR_TOLERANCE = 0.004
"""Metres by which a texel's mirror image may miss its mirrored position."""


@dataclass(frozen=True)
class PhotoMaps:
    """What the photo says about each texel; zeros outside the texture's charts."""

    colour: Tensor  # [S, S, 3]
    visibility: Tensor  # [S, S, 1] in [0, 1]
    normal: Tensor  # [S, S, 3] of the photographed surface, head space
    mirror: Tensor  # [S, S, 3] colour of the texel on the other side of the face
    mirror_visibility: Tensor  # [S, S, 1]

    def stack(self) -> Tensor:
        """[11, S, S] for a network; colours where nothing is visible are zeros."""
        colour, mirror = self.colour * self.visibility, self.mirror * self.mirror_visibility
        maps = (colour, self.visibility, self.normal, mirror, self.mirror_visibility)
        return torch.cat(maps, -1).permute(2, 0, 1).contiguous()


def unproject(view: HeadView, texels: TexelMap, matte: Matte, cover: Cover, bare: Array) -> PhotoMaps:
    """Looks every texel up in the photo.

    Args:
        view: the fitted head in front of the crop's camera.
        texels: the template's texture map.
        matte: alpha and colours of the person at the crop's size.
        cover: what hides the skin without being part of the mesh.
        bare: [V] `Zones.bare`, the middle of the face.
    """
    faces = view.template.faces
    point = texels.interpolate(faces, view.vertices).numpy()
    normal = torch.nn.functional.normalize(texels.interpolate(faces, torch.from_numpy(view.normals)), dim=1).numpy()
    camera_point = view.to_camera(point)
    pixel = view.project(camera_point)
    colour = _prefiltered(matte.foreground, pixel, texels)
    within = texels.interpolate(faces, torch.from_numpy(bare)[:, None]).numpy()[:, 0]
    visible = visible_texels(view, camera_point, view.to_camera(point + normal) - camera_point, within)
    cell = pixel * (GRID / view.size)
    outside = view.template.face_part[texels.face].numpy() == view.template.part_names.index("skin")
    near, far = _silhouettes(view, bare)
    trusted = (
        _trusted_pixels(matte, cover, view.front.paint(view.faces, bare))
        * clear_of(near, 0, 1.5)
        * clear_of(far, 0.5, 2.5)
    )
    near, far = _silhouettes(view, np.zeros_like(bare))
    visible *= np.where(
        outside,
        sample(trusted, cell),
        sample(clear_of(near, 0, 1) * clear_of(far, 0, 1.5), cell),  # a slit between lids or lips has no room for more
    )
    visible *= ((pixel >= 0) & (pixel <= view.size)).all(-1)
    there, other = mirror_texels(view, texels)
    channels = np.concatenate([colour, visible[:, None], normal, colour[other], (visible[other] * there)[:, None]], 1)
    image = texels.image(torch.from_numpy(channels.astype(np.float32)))
    return PhotoMaps(*image.split([3, 1, 3, 3, 1], -1))


def visible_texels(view: HeadView, camera_point: Array, camera_normal: Array, bare: Array) -> Array:
    """[M] how well the camera sees surface points [M, 3]: 0 if hidden or edge-on, 1 if it looks onto them.

    In the bare face [M] it may look at a surface almost edge-on: the wings of the nose lie beside skin alone.
    """
    distance = np.linalg.norm(camera_point, axis=1, keepdims=True)
    direction = camera_point / distance
    found = view.first_hits(np.zeros_like(camera_point), direction)
    hidden = (found["primID"] >= 0) & (found["tfar"] < distance[:, 0] - BEHIND)
    facing = -(camera_normal * direction).sum(1) / np.maximum(np.linalg.norm(camera_normal, axis=1), 1e-9)
    strict, lenient = smoothstep(0.12, 0.45, facing), smoothstep(0.02, 0.15, facing)
    return (strict + (lenient - strict) * bare) * ~hidden


def _trusted_pixels(matte: Matte, cover: Cover, bare: Array) -> Array:
    """[GRID, GRID] in [0, 1]: inside the person and not under hair.

    A margin beside hair may hold strands, except in the bare face, where a gap would open in a fringe that reaches it.
    """
    inside = clear_of(resize(matte.alpha, GRID) <= 0.9, 0.5, 3.5)
    covered = cover.over_skin
    covered = covered + (cv2.dilate(covered, np.ones((7, 7), np.uint8)) - covered) * (1 - bare)
    return inside * (1 - smoothstep(0.05, 0.4, covered))


def clear_of(mask: Mask, low: float, high: float) -> Array:
    """0 within `low` cells of a mask, 1 beyond `high`."""
    return smoothstep(low, high, inside_distance(~mask))


def _silhouettes(view: HeadView, bare: Array) -> tuple[Mask, Mask]:
    """Cells [GRID, GRID] on the near and on the far side of a step in depth, folds of the face excepted."""
    depth = np.where(view.front.hit, view.front.depth, 1e3)
    step = STEEP * depth * (view.size / GRID) / float(view.K[0, 0])
    part = np.where(view.front.hit, view.template.face_part.numpy()[view.front.face.clip(0)], -1)
    eyes = [k for k, name in enumerate(view.template.part_names) if name.startswith("eye")]
    face = view.front.hit & ~np.isin(part, eyes) & (view.front.paint(view.faces, bare) > 0.5)
    near, far = np.zeros(depth.shape, bool), np.zeros(depth.shape, bool)
    for axis in (0, 1):
        jump = np.diff(depth, axis=axis)
        limit = np.minimum(*(np.delete(step, end, axis) for end in (0, -1)))
        limit = np.where(np.logical_and(*(np.delete(face, end, axis) for end in (0, -1))), FOLD, limit)
        first = [slice(None)] * 2
        first[axis] = slice(None, -1)
        second = [slice(None)] * 2
        second[axis] = slice(1, None)
        near[tuple(first)] |= jump > limit
        far[tuple(second)] |= jump > limit
        far[tuple(first)] |= jump < -limit
        near[tuple(second)] |= jump < -limit
    return near, far


def _prefiltered(image: Array, pixel: Array, texels: TexelMap) -> Array:
    """Colours [M, 3], averaged over each texel's footprint where that is larger than a pixel (trilinear)."""
    position = texels.image(torch.from_numpy(pixel)).numpy()
    down, right = np.gradient(position, axis=0), np.gradient(position, axis=1)
    area = np.abs(right[..., 0] * down[..., 1] - right[..., 1] * down[..., 0])[texels.row, texels.column]
    level = np.clip(0.5 * np.log2(np.maximum(np.minimum(area, 64), 1e-6)), 0, 3)
    pyramid = [image]
    for _ in range(int(np.ceil(level.max(initial=0)))):
        pyramid.append(cv2.pyrDown(pyramid[-1]))
    looked = np.stack([sample(layer, pixel * (layer.shape[0] / image.shape[0])) for layer in pyramid])
    low = np.floor(level).astype(int)
    high, share, index = np.minimum(low + 1, len(pyramid) - 1), (level - low)[:, None], np.arange(len(pixel))
    return (looked[low, index] * (1 - share) + looked[high, index] * share).astype(np.float32)


def mirror_texels(view: HeadView, texels: TexelMap) -> tuple[Array, NDArray[np.int64]]:
    """For each texel whether the texel at 1 - u is its mirror image on the head [M], and that texel's index [M].

    The template decides, not the convention: the two must lie at mirrored places of the mean head.
    """
    size = texels.size
    index = torch.full((size, size), -1, dtype=torch.int64)
    index[texels.row, texels.column] = torch.arange(len(texels.row))
    other = index[texels.row, size - 1 - texels.column]
    place = texels.interpolate(view.template.faces, view.template.vertices)
    flipped = place[other.clamp_min(0)] * place.new_tensor([-1.0, 1.0, 1.0])
    there = (other >= 0) & ((flipped - place).norm(dim=1) < MIRROR_TOLERANCE)
    return there.float().numpy(), other.clamp_min(0).numpy()
