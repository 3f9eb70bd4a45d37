"""Joints and linear blend skinning: what a neck, a jaw and eyeballs do to a head's vertices.

One path for every template. A vertex moves by the weighted mean of its joints' rigid motions, so where one joint has
all the weight the mesh moves rigidly (Lewis et al. 2000; with pose correctives as in SMPL, Loper et al. 2015, and
FLAME, Li et al. 2017).
"""

from __future__ import annotations

from dataclasses import dataclass

import roma
import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Skeleton:
    """A tree of J joints over V vertices. Parents come before their children."""

    names: tuple[str, ...]
    parents: Tensor
    """[J] int64; -1 at a root."""
    regressor: Tensor
    """[J, V] a joint's place is this combination of the vertices before they are posed."""
    weights: Tensor
    """[V, J] shares in the joints' motions; what is missing from a sum of one stays in place."""
    driven: Tensor | None = None
    """[E, J, 3] radians that an expression channel at value 1 adds to the joints' rotation vectors, if any does."""
    correctives: Tensor | None = None
    """[9 (J - 1), V, 3] metres per entry of R - 1 of every joint but the first, row by row."""

    def pose(self, points: Tensor, rotations: Tensor) -> Tensor:
        """Vertices turned by their joints.

        Args:
            points: [B, V, 3] an identity wearing an expression, at rest.
            rotations: [B, J, 3] rotation vectors, each relative to the joint's parent, radians.
        Returns:
            [B, V, 3], differentiable in both.
        """
        if self.correctives is not None:
            turns = roma.rotvec_to_rotmat(rotations[:, 1:])
            bent = points + torch.einsum("bp,pvc->bvc", _change(turns).flatten(1), self.correctives)
        else:
            bent = points
        change, offset = self.motions(points, rotations)
        return bent + (change @ bent[..., None])[..., 0] + offset

    def motions(self, points: Tensor, rotations: Tensor) -> tuple[Tensor, Tensor]:
        """What `pose` does to each vertex, x -> x + C x + b: C [B, V, 3, 3] and b [B, V, 3] metres."""
        joints = torch.einsum("jv,bvc->bjc", self.regressor, points)
        turn, shift = chain_motions(self.parents, joints, roma.rotvec_to_rotmat(rotations))
        # sum_j w_j (A_j x + b_j) + (1 - sum_j w_j) x, with what is missing from a sum of one at rest
        change = torch.einsum("vj,bjrc->bvrc", self.weights, _change(turn))
        return change, torch.einsum("vj,bjc->bvc", self.weights, shift)


def chain_motions(parents: Tensor, joints: Tensor, turns: Tensor) -> tuple[Tensor, Tensor]:
    """Every joint's motion x -> A x + b from its own turns and its ancestors'; for fixed turns b is linear in places.

    Args:
        parents: [J] int64, -1 at a root. joints: [..., J, 3] places before they are posed.
        turns: [..., J, 3, 3] rotations, each relative to the joint's parent.
    Returns:
        A [..., J, 3, 3] and b [..., J, 3].
    """
    linear: list[Tensor] = []
    offset: list[Tensor] = []
    for j, parent in enumerate(parents.tolist()):
        turn, about = turns[..., j, :, :], joints[..., j, :]
        stay = about - (turn @ about[..., None])[..., 0]  # the joint's own place does not move
        if parent >= 0:
            stay = (linear[parent] @ stay[..., None])[..., 0] + offset[parent]
            turn = linear[parent] @ turn
        linear.append(turn)
        offset.append(stay)
    return torch.stack(linear, -3), torch.stack(offset, -2)


def _change(turns: Tensor) -> Tensor:
    return turns - torch.eye(3).to(turns)
