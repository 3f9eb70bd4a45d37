"""Everything that a fitted photo says about the appearance of a head, from matte to shell, in one call."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..head.uv import TexelMap, texel_map
from .cover import find_cover
from .fill import fill_texture
from .folds import Folds, find_folds
from .matte import matte_person
from .shell import Shell, build_shell
from .unproject import PhotoMaps, unproject
from .view import HeadView
from .zones import find_zones


@dataclass(frozen=True)
class Look:
    """What a photo says about a head's appearance (S: side of the crop, T: side of the texture)."""

    matte: Tensor  # [S, S] alpha of the person
    foreground: Tensor  # [S, S, 3] the person's colours without the background's halo
    maps: PhotoMaps  # of the photo alone, for the encoder
    texture: Tensor  # [T, T, 3] a colour everywhere: photo, mirror or fill
    opacity: Tensor  # [T, T] 0 where the template sticks out of the person
    shell: Shell
    folds: Folds | None  # of the photo's expression, which the texture holds; None if it has none


def look(crop: Tensor, view: HeadView, texels: TexelMap | None = None) -> Look:
    """Reads a head's appearance from a photo.

    Args:
        crop: [S, S, 3] square crop in [0, 1].
        view: the head fitted to it.
        texels: the template's texture map, 256 x 256 if not given.
    """
    if crop.ndim != 3 or crop.shape[2] != 3 or crop.shape[0] != crop.shape[1] or crop.shape[0] != view.size:
        raise ValueError(f"crop: expected [{view.size}, {view.size}, 3], got {list(crop.shape)}")
    texels = texel_map(view.template) if texels is None else texels
    image = crop.detach().float().cpu().numpy()
    zones = find_zones(view.template)
    matte = matte_person(image, view)
    cover = find_cover(matte, view, zones)
    maps = unproject(view, texels, matte, cover, zones.bare)
    texture = fill_texture(view, texels, maps, matte, cover, zones)
    shell = build_shell(view, matte, cover, zones)
    return Look(
        matte=torch.from_numpy(matte.alpha),
        foreground=torch.from_numpy(matte.foreground),
        maps=maps,
        texture=texture.colour,
        opacity=texture.opacity,
        shell=shell,
        folds=find_folds(view, texels, texture.colour, zones),
    )
