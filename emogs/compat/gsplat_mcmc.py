"""What gsplat's `MCMCStrategy` computes in CUDA, in plain torch, so that it runs on a CPU, gsplat's files untouched."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


def relocation(opacities: Tensor, scales: Tensor, ratios: Tensor, binoms: Tensor) -> tuple[Tensor, Tensor]:
    """Opacity and scales of n copies that together look like one Gaussian ("3DGS as Markov Chain Monte Carlo", eq. 9).

    Copies have the opacity `o' = 1 - (1 - o)^(1/n)`, and scales times `o / sum_{k=1}^{n} binom(n, k) (-1)^(k-1) o'^k /
    sqrt(k)`. The sum alternates and cancels, so it is taken in float64.

    Args:
        opacities: [N] or [N, 1] in (0, 1].
        scales: [N, 3].
        ratios: [N] n, clamped to [1, n_max].
        binoms: [n_max, n_max] binomial coefficients binom(row, column).
    Returns:
        New opacities and scales, shapes and dtypes as given.

    >>> relocation(torch.tensor([0.75]), torch.ones(1, 3), torch.tensor([2]), torch.tensor([[1.0, 0.0], [1.0, 1.0]]))
    (tensor([0.5000]), tensor([[0.9111, 0.9111, 0.9111]]))
    """
    n = ratios.clamp(1, len(binoms)).long()[:, None]
    old = opacities.double().reshape(-1, 1)
    new = -torch.expm1(torch.log1p(-old) / n)
    k = torch.arange(1, len(binoms) + 1, device=opacities.device)
    coefficients = binoms.double().cumsum(0)[n[:, 0] - 1]  # binom(n, k) = sum over i < n of binom(i, k - 1)
    total = -(coefficients * (-new) ** k / k.sqrt()).sum(-1, keepdim=True)
    return new.view_as(opacities).to(opacities.dtype), (old / total * scales).to(scales.dtype)


def mcmc_on_cpu() -> None:
    """Lets gsplat's `MCMCStrategy` train on the CPU, for the rest of this process.

    Replaces the two CUDA functions that `gsplat.strategy.ops` calls, for tensors on the CPU: `compute_relocation` by
    `relocation`, and `quat_scale_to_covar_preci` by gsplat's own reference in torch. Other tensors go where they went.

    Raises:
        ImportError: gsplat is not installed.
    """
    from gsplat.cuda._torch_impl import _quat_scale_to_covar_preci
    from gsplat.strategy import ops

    ops.compute_relocation = _on_cpu(relocation, ops.compute_relocation)
    ops.quat_scale_to_covar_preci = _on_cpu(_quat_scale_to_covar_preci, ops.quat_scale_to_covar_preci)


def _on_cpu(here: Callable, elsewhere: Callable) -> Callable:
    def choose(*args: Any, **kwargs: Any) -> Any:
        first = next(iter((*args, *kwargs.values())))
        return (here if first.device.type == "cpu" else elsewhere)(*args, **kwargs)

    return choose
