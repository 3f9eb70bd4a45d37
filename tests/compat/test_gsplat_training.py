"""gsplat's densification strategies, unmodified, train a small scene on emogs kernels."""

from __future__ import annotations

import contextlib
import io
import math
import re

import pytest
import torch

from emogs import look_at, pinhole
from emogs.compat.gsplat import mcmc_on_cpu, rasterization
from emogs.compat.gsplat_mcmc import relocation

gsplat = pytest.importorskip("gsplat", reason="gsplat is not installed")

SIZE, VIEWS = 64, 4
RATES = {"means": 2e-3, "scales": 1e-2, "quats": 1e-3, "opacities": 5e-2, "colors": 2e-2}


def cameras() -> dict:
    angles = torch.arange(VIEWS) * 2 * math.pi / VIEWS
    eyes = 3 * torch.stack([angles.sin(), torch.full_like(angles, 0.3), angles.cos()], -1)
    Ks = pinhole(SIZE, SIZE, 40).expand(VIEWS, 3, 3)
    return {"viewmats": look_at(eyes, torch.zeros(VIEWS, 3)), "Ks": Ks, "width": SIZE, "height": SIZE}


def target_cloud() -> dict[str, torch.Tensor]:
    """A striped ball with dots around it."""
    points = torch.nn.functional.normalize(torch.randn(900, 3), dim=-1)
    is_ball = torch.arange(900)[:, None] < 800
    means = torch.where(is_ball, 0.5, 0.8) * points
    scales = torch.where(is_ball, 0.06, 0.025).expand(900, 3)
    quats = torch.tensor([1.0, 0, 0, 0]).expand(900, 4)
    colors = 0.5 + 0.5 * (points * torch.tensor([5.0, 4.0, 3.0])).sin()
    return {"means": means, "quats": quats, "scales": scales, "opacities": torch.full((900,), 0.8), "colors": colors}


class Training:
    """120 Gaussians, of which 20 are too faint to stay, against the target's images."""

    def __init__(self, *, packed: bool = True, absgrad: bool = False) -> None:
        torch.manual_seed(0)
        self.options = cameras() | {"packed": packed, "absgrad": absgrad}
        self.targets = rasterization(**target_cloud(), **cameras())[0]
        start = {
            "means": 0.6 * torch.nn.functional.normalize(torch.randn(120, 3), dim=-1),
            "scales": torch.where(torch.arange(120) % 2 == 0, -2.0, -3.5)[:, None].repeat(1, 3),
            "quats": torch.randn(120, 4),
            "opacities": torch.where(torch.arange(120) < 100, 0.0, -6.0),
            "colors": torch.zeros(120, 3),
        }
        self.params = torch.nn.ParameterDict({name: torch.nn.Parameter(start[name]) for name in RATES})
        self.optimizers = {name: torch.optim.Adam([self.params[name]], lr=rate) for name, rate in RATES.items()}
        self.losses: list[float] = []

    def run(self, strategy, steps: int, **after) -> None:
        strategy.check_sanity(self.params, self.optimizers)
        state = strategy.initialize_state()
        for step in range(steps):
            p = self.params
            shape = (p["means"], p["quats"], p["scales"].exp(), p["opacities"].sigmoid())
            images, _, meta = rasterization(*shape, p["colors"].sigmoid(), **self.options)
            strategy.step_pre_backward(p, self.optimizers, state, step, meta)
            loss = (images - self.targets).abs().mean()
            (loss + 1e-3 * shape[3].mean()).backward()
            for optimizer in self.optimizers.values():
                optimizer.step()
                optimizer.zero_grad()
            strategy.step_post_backward(p, self.optimizers, state, step, meta, **after)
            self.losses.append(loss.item())


def default_strategy(**options):
    return gsplat.DefaultStrategy(
        refine_start_iter=20, refine_every=20, refine_stop_iter=130, grow_scale3d=0.06, verbose=True, **options
    )


@pytest.fixture(scope="module")
def packed_training() -> tuple[Training, str]:
    training, said = Training(), io.StringIO()
    with contextlib.redirect_stdout(said):
        training.run(default_strategy(), 160, packed=True)
    return training, said.getvalue()


def test_default_strategy_trains(packed_training):
    """It duplicates, splits and prunes, and the error falls to a fifth; measured: an eighth."""
    training, said = packed_training
    for what in ("duplicated", "split", "pruned"):
        assert sum(map(int, re.findall(rf"(\d+) GSs {what}", said))) >= 20, what
    assert 250 < len(training.params["means"]) < 5000
    assert training.losses[-1] < 0.2 * training.losses[0]


def test_packed_or_not_trains_the_same(packed_training):
    """Bit for bit: gsplat's statistics come from `meta` by another way."""
    training = Training(packed=False)
    training.run(default_strategy(), 160, packed=False)
    assert training.losses == packed_training[0].losses


def test_absolute_gradients_train(capsys):
    """What AbsGS is for: Gaussians whose gradients cancel over pixels are split too, at a threshold above the usual."""
    training = Training(absgrad=True)
    training.run(default_strategy(absgrad=True, grow_grad2d=0.0008), 160, packed=True)
    assert sum(map(int, re.findall(r"(\d+) GSs split", capsys.readouterr().out))) >= 20
    assert training.losses[-1] < 0.2 * training.losses[0]


@pytest.fixture
def patched_gsplat(monkeypatch):
    from gsplat.strategy import ops

    for name in ("compute_relocation", "quat_scale_to_covar_preci"):
        monkeypatch.setattr(ops, name, getattr(ops, name))  # put back afterwards
    mcmc_on_cpu()


def test_mcmc_strategy_trains(patched_gsplat, capsys):
    training = Training()
    strategy = gsplat.MCMCStrategy(
        cap_max=300, noise_lr=1e4, refine_start_iter=10, refine_every=10, refine_stop_iter=190, verbose=True
    )
    training.run(strategy, 220, lr=RATES["means"])
    said = capsys.readouterr().out
    assert sum(map(int, re.findall(r"Relocated (\d+) GSs", said))) >= 20
    assert sum(map(int, re.findall(r"Added (\d+) GSs", said))) == len(training.params["means"]) - 120 > 50
    assert training.losses[-1] < 0.3 * training.losses[0]


def test_relocation_is_equation_9():
    binomials = gsplat.MCMCStrategy().initialize_state()["binoms"]
    opacities = torch.tensor([0.01, 0.3, 0.9, 0.999, 0.7, 0.95], dtype=torch.float64)
    ratios = torch.tensor([1, 2, 7, 51, 60, 0])
    scales = torch.rand(6, 3, dtype=torch.float64)
    new_opacities, new_scales = relocation(opacities, scales, ratios, binomials.double())
    for i, n in enumerate(ratios.clamp(1, 51).tolist()):
        new = 1 - (1 - opacities[i].item()) ** (1 / n)
        total = sum(
            math.comb(j - 1, k) * (-1) ** k / math.sqrt(k + 1) * new ** (k + 1)
            for j in range(1, n + 1)
            for k in range(j)
        )
        assert new_opacities[i].item() == pytest.approx(new, rel=1e-12)
        torch.testing.assert_close(new_scales[i], scales[i] * opacities[i] / total, rtol=1e-6, atol=0)


def test_copies_look_like_the_original():
    """What relocation is for: n copies in place of one Gaussian leave the image nearly as it was."""
    camera = cameras()
    means, quats = torch.zeros(1, 3), torch.tensor([[1.0, 0, 0, 0]])
    scales, opacities, colors = torch.tensor([[0.3, 0.2, 0.1]]), torch.tensor([0.8]), torch.ones(1, 3)
    binomials = gsplat.MCMCStrategy().initialize_state()["binoms"]
    expected = rasterization(means, quats, scales, opacities, colors, **camera)[1]
    new_opacities, new_scales = relocation(opacities, scales, torch.tensor([4]), binomials)
    copies = [t.repeat_interleave(4, 0) for t in (means, quats, new_scales, new_opacities, colors)]
    alphas = rasterization(*copies, **camera)[1]
    plain = rasterization(
        *(t.repeat_interleave(4, 0) for t in (means, quats, scales, new_opacities, colors)), **camera
    )[1]
    assert (alphas - expected).abs().max() < 0.08
    assert (alphas - expected).abs().mean() < 0.5 * (plain - expected).abs().mean()
