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
from .images import Array, inside_distance, resize, sample, smoothstep
from .matte import Matte
from .occlusion import openness
from .unproject import PhotoMaps
from .view import GRID, HeadView
from .zones import Zones

DARKEST = 0.02
"""Floor of colours before their logarithm."""
LIP_MISS = 3.0
"""Cells of the buffers beside the opening of the mouth in which the photo may show teeth where the mesh has lips."""
DEEPEST = 0.35
"""Log brightness below the skin's middle that the template may paint: photos show nostrils softer than it does."""
STIFFNESS = 0.05
"""Of the membrane against the texels seen: small, so that it passes close to them."""
FADE = 5.0
"""Texels over which the photo's detail fades into the fill."""
COLOURLESS = 0.03
"""Mean spread of the channels of a person below which the photo is black and white: the head becomes so too."""
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
        self.colourless = bool(np.ptp(matte.foreground[matte.alpha > 0.5], axis=1).mean() < COLOURLESS)
        if self.colourless:
            self.albedo = np.broadcast_to(self.albedo.mean(1, keepdims=True), self.albedo.shape)
        spread = lambda zone: texels.interpolate(template.faces, torch.from_numpy(zone)[:, None]).numpy()  # noqa: E731
        self.scalp, self.bare, self.tone = spread(zones.scalp), spread(zones.bare), spread(zones.tone)
        self.normal = texels.sample(maps.normal).numpy()
        self.open = 1 - (1 - np.clip(spread(openness(template)), 0.4, 1)) * (1 - self.bare)  # the face is painted
        self.gain = self._tone_gain()
        self._reject_teeth(spread(zones.lips))

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

    def _reject_teeth(self, lips: Array) -> None:
        """Lips as pale in the photo as teeth, or as dark as an open mouth, have missed: they are filled from around."""
        skin = self._skin_lab()
        if skin is None:
            return
        lab = cv2.cvtColor(self.photo[None], cv2.COLOR_RGB2LAB)[0]
        light = lab[:, 0] / max(skin[0], 1)
        # without colours lips are told from teeth by being darker than the skin
        lip = smoothstep(1.0, 0.9, light) if self.colourless else smoothstep(0.35, 0.85, lab[:, 1] / max(skin[1], 4))
        lip = lip * smoothstep(0.25, 0.5, light)
        pale = lips * self._beside_opening() * self.is_part("skin")[:, None] * (1 - lip[:, None])
        self.visibility, self.mirror_visibility = self.visibility * (1 - pale), self.mirror_visibility * (1 - lips)

    def _beside_opening(self) -> Array:
        """[M, 1] 1 beside the open mouth, where lips may have missed; 0 farther off, where pale lips shine."""
        front = self.view.front
        skin = self.view.template.part_names.index("skin")
        inside = front.hit & (self.view.template.face_part.numpy()[front.face.clip(0)] != skin)
        lips = self.view.project(self.view.camera_vertices[self.view.template.landmarks[48:60].numpy()])
        outline = np.round(lips * (GRID / self.view.size)).astype(np.int32)
        opening = inside & (cv2.fillPoly(np.zeros((GRID, GRID), np.uint8), [outline], 1) > 0)
        if not opening.any():
            return np.ones((len(self.part), 1), np.float32)
        return smoothstep(LIP_MISS, 0.5 * LIP_MISS, self._look_up(inside_distance(~opening)))[:, None]

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
        hairless = self.scalp * skin * smoothstep(0.6, 1.2, np.abs(ratio).max(1, keepdims=True))
        smooth = self._membrane(ratio, known * (1 - hairless))  # bare skin says nothing of how bright hair is
        filled = smooth + self._faded((ratio - smooth) * skin, known * skin)
        filled = np.where(skin, filled, np.clip(smooth, -0.7, 0.5))
        if self._teeth_colour() is not None:
            filled = np.where(self._teeth(), 0, filled)  # the few teeth seen beside lips are tinged by them
        return np.exp(base + ratio * known + np.where(eye, 0, filled) * (1 - known)).astype(np.float32)

    def _base(self) -> Array:
        """[M, 3] log colour expected before looking: toned skin, hair where it grows, teeth and tongue, all lit."""
        skin = self.is_part("skin")[:, None]
        painted = np.log(self.albedo)
        painted = np.where(skin, np.maximum(painted, np.median(painted[skin[:, 0]], axis=0) - DEEPEST), painted)
        base = painted + np.where(skin, self.gain, self.gain.mean())
        hair = self.hair_colour()
        if hair is not None:
            base = base * (1 - self.scalp * skin) + _log(hair) * self.scalp * skin
        teeth, seen = self._teeth(), self._teeth_colour()
        shade = np.where(skin, self.open, np.where(teeth, 0.8, self._mouth_shade()))
        base = base + np.log(shade) + self._light(np.log(self.albedo) + self.gain)
        if seen is not None and teeth.any():
            shading = painted.mean(1, keepdims=True) + np.log(self._mouth_shade())  # the template's, without its tint
            base = np.where(teeth, _log(seen) + shading - np.percentile(shading[teeth], 80), base)  # front teeth
        return base

    def _teeth(self) -> NDArray[np.bool_]:
        """[M, 1]"""
        return np.any([self.is_part(name) for name in ("teeth", "teeth_upper", "teeth_lower")], axis=0)[:, None]

    def _teeth_colour(self) -> Array | None:
        """[3] colour of the bright and pale pixels between the lips, None if there are none."""
        lips = self.view.camera_vertices[self.view.template.landmarks[60:68].numpy()]
        outline = np.round(self.view.project(lips)).astype(np.int32)
        between = cv2.fillPoly(np.zeros(self.matte.alpha.shape, np.uint8), [outline], 1) > 0
        lab, red_light = cv2.cvtColor(self.matte.foreground[between][None], cv2.COLOR_RGB2LAB)[0], self._skin_lab()
        if red_light is None or not len(lab):
            return None
        bright = self.matte.foreground[between][(lab[:, 0] > 0.8 * red_light[0]) & (lab[:, 1] < 0.6 * red_light[1])]
        return np.median(bright, 0).astype(np.float32) if len(bright) > 0.1 * len(lab) else None

    def _skin_lab(self) -> Array | None:
        """[3] the skin's colour in CIE Lab, None if too little of it is seen."""
        skin = self.photo[(self.visibility * self.tone)[:, 0] > 0.5]
        return None if len(skin) < 20 else np.median(cv2.cvtColor(skin[None], cv2.COLOR_RGB2LAB)[0], axis=0)

    def _light(self, unlit: Array) -> Array:
        """[M, 1] log brightness that the normal explains, fitted to bare skin against its unlit log colour [M, 3]."""
        weight = (self.visibility * self.bare * self.is_part("skin")[:, None])[:, 0]
        if weight.sum() < 50:
            return np.zeros_like(self.open)
        target = (_log(self.photo) - unlit).mean(1)
        features = np.concatenate([np.ones_like(self.open), self.normal], 1)
        moment = (features * weight[:, None]).T @ features + np.diag([1e-3, 1, 1, 1]) * 0.05 * weight.sum()
        slope = np.linalg.solve(moment, (features * weight[:, None]).T @ np.clip(target, -1, 1))
        light = np.clip(self.normal @ slope[1:, None] - self._frontal(slope[1:]), -0.6, 0.3)
        return light * (
            1 - 0.7 * self.bare
        )  # in the face itself small hollows would be lit as if they were its underside

    def _frontal(self, slope: Array) -> float:
        """Mean of the fitted light over the skin whose tone was measured, so that the tone stays what it is."""
        weight = (self.visibility * self.tone)[:, 0]
        return float((self.normal @ slope * weight).sum() / max(float(weight.sum()), 1e-6))

    def _plausible(self, ratio: Array) -> Array:
        """[M, 1] whether a texel inside the mouth shows what is there, or rather a neighbour or a shadow."""
        return smoothstep(0.9, 0.5, np.abs(ratio).max(1, keepdims=True))

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
