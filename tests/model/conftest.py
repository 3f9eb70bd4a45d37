"""A small avatar without a photo: the built-in head in its own paint, with a made-up appearance basis."""

import pytest
import torch

from emogs.cameras import Cameras
from emogs.emotion import GeometryPath
from emogs.gaussians import EmotionBasis, Gaussians
from emogs.head import builtin_head, texel_map
from emogs.model import Avatar
from emogs.model.bake import BakedBasis
from emogs.model.surface import SURFACE_OPACITY, texel_surface

COMPONENTS = 3


@pytest.fixture(scope="session")
def avatar():
    head = builtin_head()
    generator = torch.Generator().manual_seed(0)
    identity = 0.5 * torch.randn(len(head.identity), generator=generator)
    texels = texel_map(head, 128)
    surface = texel_surface(head, texels, head.deform(identity[None])[0])
    count = len(surface.means)
    step = len(head.albedo) // 128
    cloud = Gaussians(
        surface.means,
        surface.quats,
        surface.scales,
        torch.full((count,), SURFACE_OPACITY),
        texels.sample(head.albedo[step // 2 :: step, step // 2 :: step]),
    )

    def noise(*shape: int, size: float) -> torch.Tensor:
        return size * torch.randn(COMPONENTS, count, *shape, generator=generator)

    return Avatar(
        template=head,
        identity=identity,
        gaussians=cloud,
        binding=surface.binding,
        geometry=GeometryPath().requires_grad_(False),
        source=torch.rand(len(head.expression_names), generator=generator),
        camera=Cameras(torch.eye(4)[None], torch.eye(3)[None], 512, 512),
        baked=BakedBasis(
            EmotionBasis(
                means=noise(3, size=2e-4),
                rotations=noise(3, size=0.2),
                log_scales=noise(3, size=0.1),
                logit_opacities=noise(size=0.5),
                colors=noise(3, size=0.1),
            ),
            weights=torch.randn(35, COMPONENTS, generator=generator),
            response=torch.rand(len(head.expression_names), COMPONENTS, generator=generator),
        ),
    )
