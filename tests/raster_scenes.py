"""Small random scenes that every rasterizer test draws from. Deterministic: the same seed gives the same scene."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from emogs import Cameras, EmotionBasis, Gaussians, RasterSettings, Rig, look_at
from emogs.cameras import CameraModel

WITHOUT_EDGES = RasterSettings(alpha_cut=1e-12, alpha_ceiling=1 - 1e-9, transmittance_stop=0.0)
"""No cut, stop or ceiling within reach of a scene whose opacities stay below 0.95: images are smooth in every input."""


@dataclass
class RandomScene:
    """N Gaussians around the origin, C cameras 2.5 units away, K components, F faces, B emotions and rigs."""

    gaussians: Gaussians
    cameras: Cameras
    emotion: Tensor
    basis: EmotionBasis
    rig: Rig
    background: Tensor

    @property
    def all(self) -> dict:
        """The keyword arguments of `emogs.rasterize` beyond Gaussians and cameras."""
        return {"emotion": self.emotion, "basis": self.basis, "rig": self.rig, "background": self.background}


def random_scene(
    count: int = 6,
    *,
    seed: int = 0,
    dtype: torch.dtype = torch.float64,
    size: tuple[int, int] = (19, 17),
    sh_degree: int | None = None,
    channels: int = 3,
    cameras: int = 2,
    components: int = 2,
    faces: int = 3,
    batch: tuple[int, ...] = (2,),
    spread: float = 0.3,
    scale: float = 0.1,
    model: CameraModel = "pinhole",
) -> RandomScene:
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return (low + (high - low) * torch.rand(*shape, generator=generator, dtype=torch.float64)).to(dtype)

    width, height = size
    channels = channels if sh_degree is None else 3
    colors = {"colors": uniform(0, 1, count, channels)}
    if sh_degree is not None:
        colors = {"sh": 0.2 * normal(count, (sh_degree + 1) ** 2, 3)}
    gaussians = Gaussians(
        means=spread * normal(count, 3),
        quats=normal(count, 4),
        scales=scale * uniform(0.5, 2, count, 3),
        opacities=uniform(0.3, 0.8, count),
        **colors,
    )
    eyes = torch.nn.functional.normalize(normal(cameras, 3) * 0.3 + torch.tensor([0, 0, 1.0], dtype=dtype), dim=-1)
    viewmats = look_at(2.5 * eyes, torch.zeros(cameras, 3, dtype=dtype), torch.tensor([0, 1.0, 0], dtype=dtype))
    viewmats[:, :3] += 0.03 * normal(cameras, 3, 4)  # general affine maps, not only rotations
    focal = width / 2.5 if model == "ortho" else width
    Ks = torch.tensor([[focal, 0, 0.5 * width], [0, 1.1 * focal, 0.5 * height], [0, 0, 1]], dtype=dtype)
    basis = EmotionBasis(
        means=0.1 * normal(components, count, 3),
        rotations=0.3 * normal(components, count, 3),
        log_scales=0.2 * normal(components, count, 3),
        logit_opacities=0.4 * normal(components, count),
        colors=0.2 * normal(components, count, channels),
    )
    frames = torch.cat(
        [normal(*batch, faces, 4), 0.1 * normal(*batch, faces, 3), uniform(0.9, 1.1, *batch, faces, 1)], -1
    )
    binding = torch.randint(faces, (count,), generator=generator, dtype=torch.int32)
    return RandomScene(
        gaussians,
        Cameras(viewmats, Ks.repeat(cameras, 1, 1), width, height, model),
        uniform(-1, 1, *batch, components),
        basis,
        Rig(binding, frames),
        uniform(0, 1, channels),
    )
