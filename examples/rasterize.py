"""Render a handful of Gaussians, and let an emotion move them: the rasterizer without any head."""

import imageio.v3 as imageio
import torch

import emogs

torch.manual_seed(0)
count = 500
gaussians = emogs.Gaussians(
    means=torch.randn(count, 3) * 0.4,
    quats=torch.randn(count, 4),
    scales=torch.rand(count, 3) * 0.08 + 0.01,
    opacities=torch.rand(count) * 0.8 + 0.2,
    colors=torch.rand(count, 3),
)
blush = emogs.EmotionBasis(
    means=(0.5 * gaussians.means)[None],  # one component: everything swells ...
    colors=torch.tensor([0.6, -0.3, -0.3]).expand(1, count, 3).contiguous(),  # ... and reddens
)
camera = emogs.Cameras(emogs.look_at((0, 0.5, 4.0), (0, 0, 0))[None], emogs.pinhole(256, 256, 40)[None], 256, 256)

strength = torch.linspace(0, 1, 4)[:, None]  # [B, K]: four pictures in one call, the Gaussians read once
images = emogs.rasterize(gaussians, camera, emotion=strength, basis=blush).colors[:, 0]

imageio.imwrite("rasterize.png", (torch.cat(list(images), 1).clamp(0, 1) * 255).byte().numpy())
print("wrote rasterize.png: the same cloud at strengths", strength[:, 0].tolist())
