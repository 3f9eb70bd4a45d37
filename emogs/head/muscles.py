"""Facial muscles as displacement fields on skin at rest: linear, sphincter, and soft pressure.

Linear muscle and sphincter follow K. Waters, "A muscle model for animating three-dimensional facial expression",
SIGGRAPH 1987. Two changes: every falloff is a raised cosine, whose slope vanishes at both ends, where Waters' quarter
cosine creases the skin; and strength is the insertion's travel in length units, not a factor.
Each function takes points [V, 3] and gives their displacement [V, 3]; all lengths share one unit.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def falloff(x: Tensor) -> Tensor:
    """Raised cosine: 1 at |x| = 0, 1/2 at 1/2, 0 from 1 on, with zero slope at 0 and 1."""
    return 0.5 + 0.5 * torch.cos(math.pi * x.abs().clamp(max=1.0))


def ramp(x: Tensor, start: float, end: float) -> Tensor:
    """0 up to `start`, 1 from `end` on (or the reverse where end < start), raised cosine between."""
    return falloff(((x - end) / (start - end)).clamp(min=0))


def piecewise(at: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Piecewise linear y(x) through points [N] in any order, constant beyond their ends, read at [V]."""
    order = x.argsort()
    x, y = x[order], y[order]
    right = torch.searchsorted(x, at.contiguous()).clamp(1, len(x) - 1)
    share = ((at - x[right - 1]) / (x[right] - x[right - 1]).clamp(min=1e-9)).clamp(0, 1)
    return y[right - 1] + share * (y[right] - y[right - 1])


def linear_muscle(
    points: Tensor, origin: Tensor, insertion: Tensor, travel: float, spread: float, reach: float
) -> Tensor:
    """Fibres converge on the bone at `origin` and pull the skin towards it, most strongly at the `insertion`.

    d(p) = travel * A(angle / spread) * R(D) * (origin - p) / D, with D = |origin - p|, the angle at the origin between
    p and the insertion, A the falloff, and R rising from 0 at the origin to 1 at the insertion, falling to 0 `reach`
    beyond it.

    Args:
        points: [V, 3]. origin, insertion: [3]. travel: of the insertion; negative pushes.
        spread: half angle of the cone, degrees. reach: beyond the insertion, along the fibres.
    Returns: [V, 3]
    """
    fibre = points - origin
    distance = fibre.norm(dim=-1, keepdim=True).clamp(min=1e-9)
    rest = (insertion - origin).norm()
    cosine = (fibre @ (insertion - origin))[:, None] / (distance * rest)
    angle = torch.rad2deg(torch.acos(cosine.clamp(-1, 1)))
    along = torch.where(distance < rest, (distance - rest) / rest, (distance - rest) / reach)
    return -travel * falloff(angle / spread) * falloff(along) * fibre / distance


def sphincter_muscle(points: Tensor, centre: Tensor, semi_axes: Tensor, travel: float) -> Tensor:
    """Fibres around an opening draw the skin inside an ellipsoid towards its centre.

    d(p) = travel * E(e) * (centre - p) / |centre - p|, with e the ellipsoid's norm of p - centre. E is 0 at the centre
    (where the direction is undefined), 1 half way out and 0 on the ellipsoid: E(e) = sin^2(pi e).

    Args:
        points: [V, 3]. centre: [3]. semi_axes: [3], of the zone of influence. travel: half way out; negative widens.
    Returns: [V, 3]
    """
    arm = points - centre
    ellipse = (arm / semi_axes).norm(dim=-1, keepdim=True).clamp(max=1.0)
    return -travel * torch.sin(math.pi * ellipse) ** 2 * arm / arm.norm(dim=-1, keepdim=True).clamp(min=1e-9)


def pressure(points: Tensor, centre: Tensor, semi_axes: Tensor, shift: Tensor) -> Tensor:
    """Soft tissue moved as a whole - by air, by a muscle that thickens under it - and fading out around `centre`.

    d(p) = shift * F(e), e = |(p - centre) / semi_axes|; F is 1 up to e = 0.25 and falls to 0 at e = 1.

    Args:
        points: [V, 3]. centre: [3]. semi_axes: [3] or []. shift: [3].
    Returns: [V, 3]
    """
    return ramp(((points - centre) / semi_axes).norm(dim=-1, keepdim=True), 1.0, 0.25) * shift


def harmonic(edges: Tensor, stiffness: Tensor, held: Tensor, target: Tensor, steps: int = 400) -> Tensor:
    """The smoothest values on a mesh that agree with what is held: skin as a net of springs, cut where the mesh is cut.

    Minimises sum_edges stiffness (x_a - x_b)^2 + sum_v held_v (x_v - target_v)^2 by conjugate gradients with a
    diagonal preconditioner. A vertex that no held vertex reaches keeps its target.

    Args:
        edges: [E, 2] int64. stiffness: [E]. held: [V] >= 0. target: [V].
    Returns: [V] in the dtype of target
    """
    a, b = edges.unbind(1)
    diagonal = held.index_add(0, a, stiffness).index_add(0, b, stiffness).clamp(min=1e-12)

    def apply(x: Tensor) -> Tensor:
        flow = stiffness * (x[a] - x[b])
        return (held * x).index_add(0, a, flow).index_add(0, b, -flow)

    x = target.clone()
    residual = held * target - apply(x)
    direction = residual / diagonal
    energy = residual @ direction
    for _ in range(steps):
        if energy <= 1e-14 * len(x):
            break
        pushed = apply(direction)
        step = energy / (direction @ pushed)
        x = x + step * direction
        residual = residual - step * pushed
        scaled = residual / diagonal
        energy, previous = residual @ scaled, energy
        direction = scaled + energy / previous * direction
    return x
