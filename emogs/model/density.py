"""More Gaussians where the picture asks for them, fewer where they do nothing; each keeps a triangle to live on.

Adaptive density control (Kerbl et al. 2023) for Gaussians that are bound to a mesh: what is new inherits its parent's
triangle, and a triangle that had a Gaussian keeps one, so that a moving surface does not tear (Qian et al. 2024). All
of it happens in face coordinates, at rest. `source` says which old Gaussian each one comes from: whatever else is kept
per Gaussian (an emotion basis, an optimizer's moments) follows by `value[..., source, :]`.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from ..gaussians import EmotionBasis, Gaussians
from .posing import rotate

SHRINK = 1.6
"""A split Gaussian's halves are this much smaller (Kerbl et al. 2023)."""


@dataclass(frozen=True)
class Densified:
    """M Gaussians made of N, with the triangles that they live on."""

    gaussians: Gaussians
    binding: Tensor  # [M] int32
    source: Tensor  # [M] int64 in [0, N)
    fresh: Tensor  # [M] bool: new, so an optimizer's moments begin at zero

    def follow(self, basis: EmotionBasis) -> EmotionBasis:
        """The emotion basis [K, N, ...] of these Gaussians [K, M, ...]."""
        return EmotionBasis(**{name: value[:, self.source] for name, value in basis.given().items()})


def densify(
    gaussians: Gaussians,
    binding: Tensor,
    gradients: Tensor,
    *,
    threshold: float,
    large: float,
    faint: float = 0.005,
    generator: torch.Generator | None = None,
) -> Densified:
    """One step of density control: clones the small and splits the large that pull hard, then prunes the faint.

    Args:
        gaussians: N, without a batch, in face coordinates. binding: [N] int32 triangles.
        gradients: [N] mean absolute gradient of the projected means since the last step, as the rasterizer's `probe`
            gives it, in its units.
        threshold: gradient from which a Gaussian is doubled.
        large: metres; a greatest axis above this is split, others are cloned.
        faint: opacity below which a Gaussian goes.
        generator: of the places that a split draws.
    Raises:
        ValueError: sizes do not fit.
    """
    _check(gaussians, binding, gradients)
    pulls = gradients >= threshold
    wide = gaussians.scales.amax(-1) > large
    doubled = clone(gaussians, binding, pulls & ~wide)
    again = split(doubled.gaussians, doubled.binding, (pulls & wide)[doubled.source] & ~doubled.fresh, generator)
    kept = prune(again.gaussians, again.binding, again.gaussians.opacities < faint)
    chain = again.source[kept.source]
    fresh = again.fresh[kept.source] | doubled.fresh[chain]
    return Densified(kept.gaussians, kept.binding, doubled.source[chain], fresh)


def clone(gaussians: Gaussians, binding: Tensor, chosen: Tensor) -> Densified:
    """Puts a copy on top of each chosen [N] bool Gaussian; both take the opacity 1 - sqrt(1 - o).

    Two such on top of each other are as opaque as one was at its centre (Bulo et al. 2024).
    """
    _check(gaussians, binding, chosen)
    source = torch.cat([torch.arange(gaussians.count, device=binding.device), chosen.nonzero()[:, 0]])
    fresh = torch.arange(len(source), device=binding.device) >= gaussians.count
    made = _select(gaussians, source)
    halved = 1 - (1 - made.opacities).clamp_min(0).sqrt()
    made = replace(made, opacities=torch.where(chosen[source], halved, made.opacities))
    return Densified(made, binding[source], source, fresh)


def split(gaussians: Gaussians, binding: Tensor, chosen: Tensor, generator: torch.Generator | None = None) -> Densified:
    """Replaces each chosen [N] bool Gaussian by two, SHRINK times smaller, at places drawn from it."""
    _check(gaussians, binding, chosen)
    source = torch.cat([(~chosen).nonzero()[:, 0], chosen.nonzero()[:, 0].repeat(2)])
    fresh = chosen[source]
    made = _select(gaussians, source)
    drawn = torch.randn(made.means.shape, generator=generator, dtype=made.means.dtype).to(made.means.device)
    offset = rotate(made.quats, drawn * made.scales) * fresh[:, None]
    scales = torch.where(fresh[:, None], made.scales / SHRINK, made.scales)
    return Densified(replace(made, means=made.means + offset, scales=scales), binding[source], source, fresh)


def prune(gaussians: Gaussians, binding: Tensor, gone: Tensor) -> Densified:
    """Takes the Gaussians [N] bool away, but for the most opaque of a triangle that would lose all of its own."""
    _check(gaussians, binding, gone)
    triangles = int(binding.max()) + 1 if len(binding) else 0
    survivors = torch.zeros(triangles, dtype=torch.int64, device=binding.device)
    survivors.index_add_(0, binding.long(), (~gone).long())
    best = torch.zeros(triangles, dtype=gaussians.opacities.dtype, device=binding.device)
    finite = gaussians.opacities.nan_to_num(0.0)
    best.scatter_reduce_(0, binding.long(), finite, "amax")
    bare = (survivors[binding.long()] == 0) & (finite == best[binding.long()])
    order = torch.arange(gaussians.count, device=binding.device)
    first = torch.full((triangles,), gaussians.count, device=binding.device)
    first.scatter_reduce_(0, binding.long()[bare], order[bare], "amin")  # of equals the first
    source = (~gone | (bare & (first[binding.long()] == order))).nonzero()[:, 0]
    fresh = torch.zeros(len(source), dtype=torch.bool, device=binding.device)
    return Densified(_select(gaussians, source), binding[source], source, fresh)


def _check(gaussians: Gaussians, binding: Tensor, marks: Tensor) -> None:
    if gaussians.batch:
        raise ValueError(f"gaussians: expected no batch, got {list(gaussians.batch)}")
    for name, value in (("binding", binding), ("one number per Gaussian", marks)):
        if value.shape != (gaussians.count,):
            raise ValueError(f"{name}: expected [N={gaussians.count}], got {list(value.shape)}")


def _select(gaussians: Gaussians, rows: Tensor) -> Gaussians:
    given = {f.name: getattr(gaussians, f.name) for f in fields(Gaussians)}
    chosen = {name: value[rows] for name, value in given.items() if value is not None}
    return Gaussians(**chosen)
