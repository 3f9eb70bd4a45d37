"""Differentiable rendering: move 300 Gaussians until they look like a picture."""

import torch

import emogs

torch.manual_seed(0)
size, count = 64, 300
ramp = torch.linspace(0, 1, size)
target = torch.stack([ramp.expand(size, size), ramp[:, None].expand(size, size), torch.full((size, size), 0.5)], -1)
target[(torch.cartesian_prod(ramp, ramp) - 0.5).norm(dim=1).view(size, size) < 0.3] = torch.tensor([1.0, 0.9, 0.2])

camera = emogs.Cameras(emogs.look_at((0, 0, 2.0), (0, 0, 0))[None], emogs.pinhole(size, size, 60)[None], size, size)
means = (torch.randn(count, 3) * torch.tensor([0.6, 0.6, 0.1])).requires_grad_()
log_scales = torch.full((count, 3), -2.5, requires_grad=True)
quats = torch.randn(count, 4).requires_grad_()
logits = torch.zeros(count, requires_grad=True)
colors = torch.rand(count, 3).requires_grad_()
optimizer = torch.optim.Adam([means, log_scales, quats, logits, colors], lr=0.02)

for step in range(101):
    cloud = emogs.Gaussians(means, quats, log_scales.exp(), logits.sigmoid(), colors=colors)
    loss = (emogs.rasterize(cloud, camera).colors[0] - target).square().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 25 == 0:
        print(f"step {step:3d}: mean squared error {loss.item():.4f}")
