"""From one photo to an avatar: fit the head, carry the photo's pixels onto it, bake what emotion changes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from ..cameras import Cameras
from ..emotion import PSI_WIDTH, GeometryPath
from ..gaussians import EmotionBasis, Gaussians
from ..head import ARKIT_NAMES, HeadTemplate, TexelMap, builtin_head, texel_map
from ..photo import Folds, HeadFit, HeadView, Look, fit_photo, look
from .avatar import Avatar
from .bake import BakedBasis, bake
from .encoder import RESIDUALS, AvatarEncoder
from .posing import modulate
from .surface import SURFACE_OPACITY, Surface, bind, texel_surface

_NORMAL_OFFSET = 0.01
"""Metres of one unit of the encoder's normal offset."""
_LEAST_OPACITY = 1 / 255
"""Texels that the photo leaves more transparent than this get no Gaussian: the rasterizer would cut it."""


@dataclass(frozen=True)
class PhotoAvatar:
    """An avatar, what it was made from, and how long each step took."""

    avatar: Avatar
    crop: Tensor  # [S, S, 3] the part of the photo that was used, in [0, 1]
    fit: HeadFit
    seconds: dict[str, float] = field(default_factory=dict)


def avatar_from_photo(
    image: np.ndarray,
    *,
    face: int | None = None,
    box: tuple[float, float, float, float] | None = None,
    landmarks: np.ndarray | None = None,
    encoder: AvatarEncoder | None = None,
    progress: Callable[[str], None] | None = None,
) -> PhotoAvatar:
    """An avatar of the person in a photo.

    Args:
        image: [H, W, 3] uint8, as `emogs.photo.load_photo` reads it.
        face: which of several faces, from 1, as the error that lists them numbers them.
        box: left, top, width, height of the face in pixels, instead of searching for it.
        landmarks: [68, 2] pixels in the iBUG order, instead of predicting them.
        encoder: a trained encoder; None adds nothing to the photo's own appearance, as an untrained one would.
        progress: called with the name of each step as it starts.
    Raises:
        emogs.photo.PhotoError: no face, several faces, a face too small, or one that the head cannot be fitted to.
    """
    steps = _Steps(progress)
    with steps("fit the head"):
        head = builtin_head()
        fit = fit_photo(image, face=face, box=box, landmarks=landmarks, template=head)
        crop = torch.from_numpy(fit.crop).float() / 255
    with steps("read the photo's appearance"):
        texels = _texels(head)
        seen = look(crop, HeadView.from_fit(head, fit), texels)
    with steps("bake the emotions"):
        avatar = build_avatar(encoder, head, texels, fit, seen)
    return PhotoAvatar(avatar, crop, fit, steps.seconds)


@torch.no_grad()
def build_avatar(
    encoder: AvatarEncoder | None, head: HeadTemplate, texels: TexelMap, fit: HeadFit, seen: Look
) -> Avatar:
    """The avatar of a fitted head with a photo's appearance, its emotions baked from an encoder if there is one."""
    neutral = fit.neutral(head)
    skin = texel_surface(head, texels, neutral)
    opacities = SURFACE_OPACITY * texels.sample(seen.opacity[..., None])[:, 0]
    texture = seen.folds.relaxed if seen.folds else seen.texture
    photo = Gaussians(skin.means, skin.quats, skin.scales, opacities, texels.sample(texture))
    kept = opacities > _LEAST_OPACITY

    parts = [_fold_basis(seen.folds, texels)] if seen.folds else []
    if encoder is not None:
        identity = encoder.identify(seen.maps.stack()[None])
        null, weights, components = bake(lambda code: _flatten(encoder.express(identity, code), texels))
        photo = modulate(photo, _basis(null[None], skin), torch.ones(1))
        parts += [BakedBasis(_basis(components, skin), weights)] if len(components) else []
    baked = _together(parts)

    shell = seen.shell
    around = bind(shell.means, shell.quats, shell.scales, shell.binding, head, neutral)
    outside = Gaussians(around.means, around.quats, around.scales, shell.opacities, shell.colors)
    still = len(shell.means)
    return Avatar(
        template=head,
        identity=fit.identity,
        gaussians=_join(photo, kept, outside),
        binding=torch.cat([skin.binding[kept], around.binding]),
        geometry=GeometryPath().requires_grad_(False),
        source=fit.expression,
        camera=Cameras(fit.viewmat[None], fit.K[None], fit.width, fit.height),
        baked=replace(baked, basis=_extend(baked.basis, kept, still)) if baked else None,
    )


def _join(first: Gaussians, kept: Tensor, second: Gaussians) -> Gaussians:
    """Those of the first cloud that are kept [N], and then the second cloud."""
    names = ("means", "quats", "scales", "opacities", "colors")
    return Gaussians(**{name: torch.cat([getattr(first, name)[kept], getattr(second, name)]) for name in names})


def _flatten(residuals: dict[str, Tensor], texels: TexelMap) -> Tensor:
    """One answer of the encoder as a vector [N * 11] over the texels in use."""
    return torch.cat([texels.sample(residuals[name][0]) for name in RESIDUALS], 1).flatten()


def _basis(components: Tensor, surface: Surface) -> EmotionBasis:
    """Components [K, N * 11] as what the rasterizer blends; offsets along the normal become displacements."""
    fields = components.unflatten(1, (-1, sum(RESIDUALS.values()))).split(list(RESIDUALS.values()), dim=-1)
    named = dict(zip(RESIDUALS, (f.contiguous() for f in fields), strict=True))
    return EmotionBasis(
        means=_NORMAL_OFFSET * named["normal_offsets"] * surface.normals,
        rotations=named["rotations"],
        log_scales=named["log_scales"],
        logit_opacities=named["logit_opacities"][..., 0],
        colors=named["colors"],
    )


def _fold_basis(folds: Folds, texels: TexelMap) -> BakedBasis:
    """The folds of the photo's expression, one component for each side of the face."""
    colors = torch.stack([texels.sample(side) for side in folds.colours])
    return BakedBasis(EmotionBasis(colors=colors), torch.zeros(PSI_WIDTH, len(colors)), folds.response)


def _together(parts: Sequence[BakedBasis]) -> BakedBasis | None:
    """All components of several bases of the same Gaussians in one; fields that a part lacks are zeros."""
    if len(parts) < 2:
        return parts[0] if parts else None
    likes = {name: field for part in parts for name, field in part.basis.given().items()}
    fields = {
        name: torch.cat([p.basis.given().get(name, like.new_zeros(p.count, *like.shape[1:])) for p in parts])
        for name, like in likes.items()
    }
    channels = len(ARKIT_NAMES)
    response = [torch.zeros(channels, p.count) if p.response is None else p.response for p in parts]
    return BakedBasis(EmotionBasis(**fields), torch.cat([p.weights for p in parts], 1), torch.cat(response, 1))


def _extend(basis: EmotionBasis, kept: Tensor, still: int) -> EmotionBasis:
    """The basis of the Gaussians that are kept, and zeros for as many as stand still behind them."""

    def extend(field: Tensor) -> Tensor:
        used = field[:, kept]
        return torch.cat([used, used.new_zeros(len(used), still, *used.shape[2:])], 1)

    return EmotionBasis(**{name: extend(field) for name, field in basis.given().items()})


@lru_cache(maxsize=1)
@torch.inference_mode(False)
def _texels(head: HeadTemplate) -> TexelMap:
    return texel_map(head)


class _Steps:
    """Names each step as it starts and remembers how long it took."""

    def __init__(self, progress: Callable[[str], None] | None) -> None:
        self.progress = progress
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        if self.progress:
            self.progress(name)
        start = time.perf_counter()
        yield
        self.seconds[name] = time.perf_counter() - start
