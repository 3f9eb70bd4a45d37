"""Taking the head's own motion out of expressions: the skull stays where it is, by its rigid vertices.

Scanned and tracked expressions come with a little nodding and shifting that no expression means. Faces are aligned by
least squares over vertices of the skull (Horn 1987, Umeyama 1991; `roma.rigid_points_registration`), linear directions
by their infinitesimal counterpart.
"""

from __future__ import annotations

from dataclasses import replace

import roma
import torch
from torch import Tensor

from ..checks import Arguments
from .template import HeadTemplate


def stabilize(vertices: Tensor, rest: Tensor, rigid: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Moves faces rigidly so that their skull vertices lie on the neutral head's.

    Args:
        vertices: [B, V, 3] a performance or a set of expressions. rest: [V, 3] the same person's neutral head.
        rigid: [R] vertices of the skull, at least three that are not on a line.
    Returns:
        stabilized vertices [B, V, 3], and the motion that was taken out: rotations [B, 3, 3] and translations [B, 3]
        with `vertices = rotation stabilized + translation`.
    Raises:
        TypeError, ValueError: these do not fit each other, or the rigid vertices are too few or lie on a line.

    >>> head = torch.eye(4)[:, :3]
    >>> moved, rotation, shift = stabilize(head[None] + 0.5, head, torch.arange(4))
    >>> torch.allclose(moved[0], head, atol=1e-6), shift
    (True, tensor([[0.5000, 0.5000, 0.5000]]))
    """
    arguments = Arguments("stabilize")
    arguments.check("vertices", vertices, "B V 3")
    arguments.check("rest", rest, "V 3")
    arguments.check("rigid", rigid, "R", (torch.int32, torch.int64))
    arguments.check_indices("rigid", rigid, "V", len(rest))
    fixed = _spread_out(rest, rigid)
    rotation, shift = roma.rigid_points_registration(
        fixed.expand(len(vertices), -1, -1), vertices[:, rigid].double(), compute_scaling=False
    )
    moved = (vertices.double() - shift[:, None]) @ rotation
    return moved.to(vertices), rotation.to(vertices), shift.to(vertices)


def stabilize_template(template: HeadTemplate) -> tuple[HeadTemplate, Tensor]:
    """A template whose linear expression directions leave the skull still.

    From each direction d the motion `w x p + t` is taken that fits it best on the rigid vertices p; for small weights
    that is what `stabilize` does.

    Returns:
        the template, and [E] metres RMS over the skull that each direction moved it rigidly.
    """
    points = _spread_out(template.vertices, template.rigid)
    directions = template.expression.double()
    motion = _infinitesimal(points)
    found = torch.linalg.lstsq(motion, directions[:, template.rigid].flatten(1).T).solution  # [6, E]
    everywhere = _infinitesimal(template.vertices.double())
    taken = (everywhere @ found).T.reshape(directions.shape)
    size = taken[:, template.rigid].square().sum(-1).mean(1).sqrt()
    return replace(template, expression=(directions - taken).to(template.expression)), size.to(template.expression)


def _spread_out(rest: Tensor, rigid: Tensor) -> Tensor:
    """[R, 3] the rigid vertices at rest, if they can tell a rotation."""
    points = rest[rigid].double()
    where = " on one" if len(points) >= 3 else ""
    if len(points) >= 3:
        spread = torch.linalg.svdvals(points - points.mean(0))
        if spread[1] > 1e-3 * spread[0]:
            return points
    raise ValueError(f"rigid: expected three or more vertices that are not on a line, got {len(points)}{where}")


def _infinitesimal(points: Tensor) -> Tensor:
    """[3 N, 6] what a small turn (w) and shift (t) do to points [N, 3]: w x p + t."""
    x, y, z = points.unbind(1)
    zero, one = torch.zeros_like(x), torch.ones_like(x)
    rows = [
        torch.stack([zero, z, -y, one, zero, zero], -1),
        torch.stack([-z, zero, x, zero, one, zero], -1),
        torch.stack([y, -x, zero, zero, zero, one], -1),
    ]
    return torch.stack(rows, 1).reshape(-1, 6)
