"""A gsplat training script on a CPU: its own densification strategy, and one import line changed."""

import torch
from gsplat import DefaultStrategy

# from gsplat import rasterization
from emogs import look_at, pinhole
from emogs.compat.gsplat import rasterization

torch.manual_seed(0)
size, views = 64, 6
angles = torch.arange(views) * 2 * torch.pi / views
eyes = 3 * torch.stack([angles.sin(), torch.full_like(angles, 0.3), angles.cos()], -1)
camera = {
    "viewmats": look_at(eyes, torch.zeros(views, 3)),
    "Ks": pinhole(size, size, 40).expand(views, 3, 3),
    "width": size,
    "height": size,
}


def surface(count):
    """Points on a torus, and colours that vary along it."""
    u, v = 2 * torch.pi * torch.rand(2, count)
    means = torch.stack([(0.6 + 0.25 * v.cos()) * u.cos(), (0.6 + 0.25 * v.cos()) * u.sin(), 0.25 * v.sin()], -1)
    return means, 0.5 + 0.5 * torch.stack([(3 * u).sin(), v.cos(), (u + v).sin()], -1)


means, colors = surface(4000)
quats = torch.tensor([1.0, 0, 0, 0]).expand(4000, 4)
targets, _, _ = rasterization(means, quats, torch.full((4000, 3), 0.03), torch.full((4000,), 0.9), colors, **camera)

means, _ = surface(100)
rates = {"means": 2e-3, "scales": 1e-2, "quats": 1e-3, "opacities": 5e-2, "colors": 2e-2}
start = [means, torch.full((100, 3), -2.0), torch.randn(100, 4), torch.zeros(100), torch.zeros(100, 3)]
params = torch.nn.ParameterDict({name: torch.nn.Parameter(value) for name, value in zip(rates, start, strict=True)})
optimizers = {name: torch.optim.Adam([params[name]], lr=rate) for name, rate in rates.items()}

strategy = DefaultStrategy(refine_start_iter=50, refine_every=50, refine_stop_iter=250, grow_scale3d=0.05, verbose=True)
strategy.check_sanity(params, optimizers)
state = strategy.initialize_state(scene_scale=1.0)

for step in range(301):
    images, alphas, meta = rasterization(
        params["means"],
        params["quats"],
        params["scales"].exp(),
        params["opacities"].sigmoid(),
        params["colors"].sigmoid(),
        **camera,
    )
    strategy.step_pre_backward(params, optimizers, state, step, meta)
    loss = (images - targets).abs().mean()
    loss.backward()
    for optimizer in optimizers.values():
        optimizer.step()
        optimizer.zero_grad()
    strategy.step_post_backward(params, optimizers, state, step, meta, packed=True)
    if step % 50 == 0:
        print(f"step {step:3d}: {len(params['means'])} Gaussians, mean absolute error {loss.item():.4f}")
