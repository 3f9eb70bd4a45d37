"""The avatar: one person's Gaussians on a head that takes an emotion and, separately, an articulation.

    emotion --> expression channels --> head mesh --> a frame per triangle --+
       \\--> weights of the appearance basis ------------------------------- rasterize

Geometry lives in the mesh and appearance in the basis; nothing is in both.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ..cameras import Cameras, look_at, pinhole
from ..emotion import EMOTIONS, GeometryPath, parse_emotion
from ..gaussians import Gaussians, Rig
from ..head import HeadTemplate, builtin_head
from ..ops import rig_frames
from ..rasterize import RasterSettings, Rendering, rasterize
from .avatar_file import read_avatar, write_avatar
from .bake import BakedBasis
from .posing import carry, modulate

VIEW_HEIGHT = 0.47
"""Metres of head and shoulders that `Avatar.orbit` shows from top to bottom."""
VIEW_DISTANCE = 1.2
"""Metres from the camera of `Avatar.orbit` to the head: far enough to flatter."""
VIEW_CENTRE = -0.015
"""Metres above the head's origin that `Avatar.orbit` looks at: shoulders need room below."""


@dataclass(frozen=True)
class Avatar:
    """An animatable head of N Gaussians. Made by `avatar_from_photo` or `Avatar.load`.

    Emotion is seven intensities; articulation is the 52 ARKit channels of speech, gaze and blinks. Neither hides in the
    other: an articulation of zeros and no emotion is the neutral face, whatever the photo showed.
    """

    template: HeadTemplate
    identity: Tensor  # [I] standard deviations of the template's directions
    gaussians: Gaussians  # N, in the coordinates of the triangles they are bound to
    binding: Tensor  # [N] int32 triangle
    geometry: GeometryPath
    source: Tensor  # [52] the expression that the photo showed
    camera: Cameras  # one: that of the photo's crop
    baked: BakedBasis | None = None  # what emotion and expression change beyond the shape; None if nothing

    def render(
        self,
        cameras: Cameras,
        emotion: Tensor | str | None = None,
        articulation: Tensor | None = None,
        settings: RasterSettings = RasterSettings(),
    ) -> Rendering:
        """Pictures of the avatar.

        Args:
            cameras: C of them, in head space.
            emotion: [B, 7] or [7] intensities, or text such as "happy=0.7,surprise=0.2"; None is neutral.
            articulation: [B, 52] or [52] channel values; None is a face at rest.
        Returns:
            colours [B, C, H, W, 3] over black, with their alphas [B, C, H, W, 1]; differentiable in the signals, the
            cameras and, where they ask for gradients, the avatar's own tensors and `geometry`.
        """
        code = as_codes(emotion, self.identity)
        worn = self.expression(code, articulation)
        return rasterize(
            self.gaussians,
            cameras,
            emotion=self.baked.mix(code, worn) if self.baked else None,
            basis=self.baked.basis if self.baked else None,
            rig=Rig(self.binding, self._frames(worn)),
            settings=settings,
        )

    def expression(self, emotion: Tensor | str | None = None, articulation: Tensor | None = None) -> Tensor:
        """[B, 52] channel values of an articulation under an emotion (the geometry path), in [0, 1], differentiable.

        Without an articulation, and untrained, they are those of `emogs.emotion.expression_from_emotion`.
        """
        code = as_codes(emotion, self.identity)
        rest = _batch("articulation", articulation, len(self.template.expression_names), self.identity)
        if 1 not in (len(code), len(rest)) and len(code) != len(rest):
            raise ValueError(f"articulation: expected a batch of 1 or, as emotion, {len(code)}, got {len(rest)}")
        batch = len(rest) if len(code) == 1 else len(code)
        return self.geometry(rest.expand(batch, -1)[:, None], code.expand(batch, -1), clamp=True)[:, 0]

    def vertices(self, emotion: Tensor | str | None = None, articulation: Tensor | None = None) -> Tensor:
        """[B, V, 3] the head's mesh under an emotion and an articulation, metres."""
        return self.template.deform(self.identity[None], self.expression(emotion, articulation))

    def frames(self, emotion: Tensor | str | None = None, articulation: Tensor | None = None) -> Tensor:
        """[B, F, 8] where the head's triangles are: rotation wxyz, translation, scale."""
        return self._frames(self.expression(emotion, articulation))

    def _frames(self, expression: Tensor) -> Tensor:
        """[B, F, 8] at channel values [B, 52]."""
        neutral = self.template.deform(self.identity[None])[0]
        vertices = self.template.deform(self.identity[None], expression)
        return rig_frames(vertices, self.template.faces, neutral)

    def posed(self, emotion: Tensor | str | None = None, articulation: Tensor | None = None) -> Gaussians:
        """The Gaussians themselves in head space, for one emotion: what a file of splats holds."""
        code = as_codes(emotion, self.identity)
        worn = self.expression(code, articulation)
        if len(worn) != 1:
            raise ValueError(f"emotion, articulation: a cloud of splats shows one face, got a batch of {len(worn)}")
        local = self.gaussians
        if self.baked:
            local = modulate(local, self.baked.basis, self.baked.mix(code, worn)[0])
        return carry(local, self._frames(worn)[0, self.binding.long()])

    def orbit(self, yaw: Tensor | float = 0.0, pitch: float = 0.0, size: int = 512) -> Cameras:
        """Cameras around the upright head, `size` pixels square; the photo's own camera is `camera`.

        Args:
            yaw: [C] degrees to the subject's left from which the head is seen.
            pitch: degrees above the head from which it is seen. From above, the corners of a mouth lie higher than its
                middle, and every face seems to smile a little: level is the default.
        """
        return orbit_cameras(torch.as_tensor(yaw, dtype=torch.float32).reshape(-1), pitch, size)

    def save(self, path: str | Path) -> None:
        """Writes the avatar as one safetensors file: tensors and text, nothing that could execute."""
        write_avatar(self, Path(path))

    @staticmethod
    def load(path: str | Path, template: HeadTemplate | None = None) -> Avatar:
        """Reads a file that `save` wrote; `template` is needed only for a head that is not the built-in one.

        Raises:
            emogs.io.FormatError: names the file, the field and the reason.
        """
        return Avatar(**read_avatar(Path(path), template or builtin_head()))


def as_codes(emotion: Tensor | str | None, like: Tensor) -> Tensor:
    """[B, 7] from any way to name an emotion, in the type and on the device of another tensor."""
    code = _batch("emotion", parse_emotion(emotion) if isinstance(emotion, str) else emotion, len(EMOTIONS), like)
    if not ((code >= 0) & (code <= 1 + 1e-6)).all():  # a mix of codes may be off by a rounding; nan fails too
        raise ValueError("emotion: expected intensities from 0 to 1")
    return code


def _batch(name: str, values: Tensor | None, width: int, like: Tensor) -> Tensor:
    """Values [B, width] or [width] as [B, width] of the same kind as another tensor; None is one row of zeros."""
    if values is None:
        return like.new_zeros(1, width)
    if not isinstance(values, Tensor):
        raise TypeError(f"{name}: expected a tensor, got {type(values).__name__}")
    if values.ndim not in (1, 2) or values.shape[-1] != width:
        raise ValueError(f"{name}: expected [B, {width}] or [{width}], got {list(values.shape)}")
    return values.reshape(-1, width).to(like)


def orbit_cameras(yaw: Tensor, pitch: float, size: int) -> Cameras:
    """Cameras [C] on a sphere around the head, upright, `size` pixels square; see `Avatar.orbit`."""
    azimuth, elevation = torch.deg2rad(yaw), math.radians(pitch)
    outward = [torch.sin(azimuth) * math.cos(elevation), torch.full_like(yaw, math.sin(elevation))]
    outward.append(torch.cos(azimuth) * math.cos(elevation))
    centre = torch.tensor([0.0, VIEW_CENTRE, 0.0])
    viewmats = look_at(centre + VIEW_DISTANCE * torch.stack(outward, -1), centre)
    field_of_view = 2 * math.degrees(math.atan(0.5 * VIEW_HEIGHT / VIEW_DISTANCE))
    return Cameras(viewmats, pinhole(size, size, field_of_view).expand(len(yaw), 3, 3), size, size)
