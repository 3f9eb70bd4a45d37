"""A colour for every texel: the photo where it shows the surface, its mirror image where that shows it, else a fill.

Everything happens in log ratios to a base: the template's albedo in the person's skin tone, or the person's hair colour
where hair grows. The ratio carries the light and what is special about the person. It is continued over the mesh by a
membrane, so that texture seams do not show, and the photo's detail fades out over a few texels beyond its border: the
fill meets the photo without an edge, in whatever light it was taken.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import scipy.sparse
import scipy.sparse.linalg
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..head.uv import TexelMap
from .cover import Cover
from .eyes import EyePaint, paint_eyes
from .images import inside_distance, resize, sample, smoothstep
from .matte import Matte
from .unproject import PhotoMaps
from .view import GRID, HeadView
from .zones import Zones

Array = NDArray[np.float32]

DARKEST = 0.02
"""Floor of colours before their logarithm."""
STIFFNESS = 0.05
"""Of the membrane against the texels seen: small, so that it passes close to them."""
FADE = 5.0
"""Texels over which the photo's detail fades into the fill."""
MOUTH_DEPTH = 0.035
"""Metres behind the lips at which the mouth has become dark."""


@dataclass(frozen=True)
class Texture:
    """The person's texture, on all charts."""

    colour: Tensor  # [S, S, 3]
    opacity: Tensor  # [S, S] 0 where the template sticks out of the person's silhouette, else 1


def fill_texture(
    view: HeadView, texels: TexelMap, maps: PhotoMaps, matte: Matte, cover: Cover, zones: Zones
) -> Texture:
    """Completes what the photo shows of the surface."""
    filler = _Filler(view, texels, maps, matte, cover, zones)
    colour = filler.surface()
    filler.eyes(colour)
    image = texels.image(torch.from_numpy(np.clip(colour, 0, 1)))
    opacity = texels.image(torch.from_numpy(filler.opacity())[:, None])[..., 0]
    return Texture(image, opacity)


class _Filler:
    """The per-texel arrays [M, ...] that the parts' fills share."""

    def __init__(
        self, view: HeadView, texels: TexelMap, maps: PhotoMaps, matte: Matte, cover: Cover, zones: Zones
    ) -> None:
        self.view, self.texels, self.matte, self.cover = view, texels, matte, cover
        template = view.template
        self.part = template.face_part[texels.face].numpy()
        self.photo, self.visibility, self.mirror, self.mirror_visibility = (
            texels.sample(image).numpy()
            for image in (maps.colour, maps.visibility, maps.mirror, maps.mirror_visibility)
        )
        albedo = template.albedo.numpy()
        self.albedo = albedo if len(albedo) == texels.size else resize(albedo, texels.size)
        self.albedo = np.clip(self.albedo[texels.row, texels.column], DARKEST, 1)
        spread = lambda zone: texels.interpolate(template.faces, torch.from_numpy(zone)[:, None]).numpy()  # noqa: E731
        self.scalp, self.bare, self.tone = spread(zones.scalp), spread(zones.bare), spread(zones.tone)
        self.gain = self._tone_gain()

    def is_part(self, name: str) -> NDArray[np.bool_]:
        """[M] whether a texel belongs to a part."""
        names = self.view.template.part_names
        return self.part == names.index(name) if name in names else np.zeros(len(self.part), bool)

    def _tone_gain(self) -> Array:
        """[3] log of the person's skin tone over the template's; a robust mean over the bare face."""
        weight = (self.visibility * self.tone * self.is_part("skin")[:, None])[:, 0]
        if weight.sum() < 20:
            return np.zeros(3, np.float32)
        ratio = _log(self.photo[weight > 0.3]) - np.log(self.albedo[weight > 0.3])
        if len(ratio) == 0:
            return np.zeros(3, np.float32)
        return np.clip(np.median(ratio, 0), -2.5, 1.0).astype(np.float32)

    def hair_colour(self) -> Array | None:
        """[3] the middle of the hair's colours, None without hair."""
        image = resize(self.matte.foreground, GRID)
        pixels = image[self.cover.hair > 0.8]
        return np.median(pixels, 0).astype(np.float32) if self.cover.has_hair and len(pixels) > 20 else None

    def surface(self) -> Array:
        """Colours [M, 3] of all parts but the eyeballs, whose texels hold their base."""
        skin, eye = self.is_part("skin")[:, None], (self.is_part("eye_left") | self.is_part("eye_right"))[:, None]
        base = self._base()
        own_ratio, other_ratio = _log(self.photo) - base, _log(self.mirror) - base
        own = self.visibility * np.where(skin, 1, self._plausible(own_ratio)) * ~eye
        other = self.mirror_visibility * skin
        if (other * (1 - own)).sum() > 0.02 * skin.sum():  # a turned head: the other side is lit differently
            other_ratio = other_ratio + self._membrane(own_ratio - other_ratio, own * other)
        other = other * (1 - own)
        known = np.clip(own + other, 0, 1)
        ratio = (own_ratio * own + other_ratio * other) / np.maximum(own + other, 1e-6)
        smooth = self._membrane(ratio, known)
        filled = smooth + self._faded((ratio - smooth) * skin, known * skin)
        filled = np.where(skin, filled, np.clip(smooth, -0.7, 0.5) + np.log(self._mouth_shade()))
        return np.exp(base + ratio * known + np.where(eye, 0, filled) * (1 - known)).astype(np.float32)

    def _base(self) -> Array:
        """[M, 3] log colour that is expected before looking: toned skin, hair where it grows, lit teeth and tongue."""
        base = np.log(self.albedo) + np.where(self.is_part("skin")[:, None], self.gain, self.gain.mean())
        hair = self.hair_colour()
        if hair is None:
            return base
        grows = self.scalp * self.is_part("skin")[:, None]
        return base * (1 - grows) + _log(hair) * grows

    def _plausible(self, ratio: Array) -> Array:
        """[M, 1] whether a texel inside the mouth shows what is there, or rather a lip or a shadow."""
        return smoothstep(0.9, 0.5, np.abs(ratio.mean(1, keepdims=True)))

    def _mouth_shade(self) -> Array:
        """[M, 1] how much light reaches a texel behind the lips."""
        lips = self.view.neutral[self.view.template.landmarks[48:]].numpy()
        place = self.texels.interpolate(self.view.template.faces, self.view.neutral).numpy()
        return np.clip(1 - (lips[:, 2].mean() - place[:, 2:]) / MOUTH_DEPTH, 0.2, 1)

    def eyes(self, colour: Array) -> None:
        """Both eyeballs, photographed well inside the lids' opening and painted to match elsewhere."""
        view, found = self.view, []
        shown = view.front.face
        for name in ("eye_left", "eye_right"):
            inside = self.is_part(name)
            if not inside.any():
                continue
            index = view.template.part_names.index(name)
            vertices = view.neutral[view.template.faces[view.template.face_part == index].unique()]
            centre = (vertices.amax(0) + vertices.amin(0)) / 2
            place = self.texels.interpolate(view.template.faces, view.neutral)[torch.from_numpy(inside)]
            direction = torch.nn.functional.normalize(place - centre, dim=1).numpy()
            opening = (view.template.face_part.numpy()[shown.clip(0)] == index) & view.front.hit
            well_inside = smoothstep(0.3, 2.0, self._look_up(inside_distance(opening))[inside])
            found.append((inside, EyePaint(
                direction, self.albedo[inside] * np.exp(self.gain.mean()).clip(0.3, 1.2), self.photo[inside],
                self.visibility[inside, 0] * well_inside,
            )))  # fmt: skip
        for (inside, _), painted in zip(found, paint_eyes([eye for _, eye in found]), strict=True):
            colour[inside] = painted

    def opacity(self) -> Array:
        """[M] 1, falling to 0 where the surface lies outside the person's silhouette, the face excepted."""
        solid = resize(self.matte.alpha, GRID) > 0.5
        outside = inside_distance(~solid) if solid.any() else np.zeros((GRID, GRID), np.float32)
        outside = self._look_up(outside) * (1 - self.bare[:, 0]) * self.is_part("skin")
        return smoothstep(5.0, 2.0, outside)

    def _look_up(self, image: Array) -> Array:
        """[M] values of an image [GRID, GRID] where the texels appear in the photo."""
        place = self.texels.interpolate(self.view.template.faces, self.view.vertices).numpy()
        pixel = self.view.project(self.view.to_camera(place))
        return sample(image, pixel * (GRID / self.view.size))

    def _membrane(self, values: Array, weights: Array) -> Array:
        """Texel values [M, D] known with weights [M, 1], continued over the mesh; zeros where nothing connects."""
        faces, corner = self.view.faces, self.view.faces[self.texels.face]
        share = self.texels.barycentric.numpy() * weights
        count = len(self.view.vertices)
        flat = corner.ravel()
        data = np.bincount(flat, share.ravel(), count)
        sums = [np.bincount(flat, (share * values[:, k : k + 1]).ravel(), count) for k in range(values.shape[1])]
        scale = np.minimum(data, 1) / np.maximum(data, 1e-9)
        system = _laplacian(faces, count) * STIFFNESS + scipy.sparse.diags(np.minimum(data, 1) + 1e-6)
        solve = scipy.sparse.linalg.splu(system.tocsc(), permc_spec="MMD_AT_PLUS_A", options={"SymmetricMode": True})
        vertex = solve.solve(np.stack(sums, 1) * scale[:, None]).astype(np.float32)
        return self.texels.interpolate(self.view.template.faces, torch.from_numpy(vertex)).numpy()

    def _faded(self, detail: Array, weights: Array) -> Array:
        """Texel detail [M, D] known with weights [M, 1], blurred over the border and fading to zero beyond it."""
        image = self.texels.image(torch.from_numpy(np.concatenate([detail * weights, weights], 1))).numpy()
        blurred = cv2.GaussianBlur(image, (0, 0), FADE / 2)[self.texels.row, self.texels.column]
        return blurred[:, :-1] / (blurred[:, -1:] + 0.1)


def _laplacian(faces: NDArray[np.int64], count: int) -> scipy.sparse.csr_matrix:
    """The graph Laplacian [count, count] of a mesh."""
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    both = np.concatenate([edges, edges[:, ::-1]])
    adjacency = scipy.sparse.csr_matrix((np.ones(len(both)), (both[:, 0], both[:, 1])), (count, count))
    adjacency.data[:] = 1
    return scipy.sparse.diags(np.asarray(adjacency.sum(1)).ravel()) - adjacency


def _log(colour: Array) -> Array:
    return np.log(np.maximum(colour, DARKEST))
