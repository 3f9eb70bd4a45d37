"""Finer templates: every triangle cut into four, with all that hangs on vertices, corners and triangles.

Shape, identity, expressions, and the shares in joints and hinges take the mean of an edge's ends at its middle, so a
finer head wears linear expressions on the very same surface. Gaussians keep their places: `rebind` writes them in the
coordinates of the small triangle that they are nearest to.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .regions import edges_of
from .template import HeadTemplate


@dataclass(frozen=True)
class Refined:
    """A finer template and where it came from."""

    template: HeadTemplate
    parent: Tensor  # [4 F] int64: the triangle of the coarse template; triangle f became 4f to 4f + 3
    edges: Tensor  # [E, 2] int64: the coarse edges whose middles are new vertices

    def rebind(self, means: Tensor, binding: Tensor, coarse: HeadTemplate, person: Tensor | None = None) -> Rebound:
        """Gaussians bound to the coarse template's triangles, bound to the finer one's; none moves at rest.

        Args:
            means: [N, 3] in face coordinates (head space's axes, the neutral triangle's centroid as origin).
            binding: [N] int32 triangles of `coarse`.
            person: [V, 3] the neutral vertices that face coordinates refer to; None is the coarse mean identity.
        Returns:
            means and binding; rotations and scales stay as they are, since at rest all frames are the identity.
        """
        rest = coarse.vertices if person is None else person
        finer = self.vertices_of(rest)
        places = means + rest[coarse.faces[binding.long()]].mean(1)
        children = 4 * binding.long()[:, None] + torch.arange(4, device=binding.device)
        centroids = finer[self.template.faces[children]].mean(2)  # [N, 4, 3]
        nearest = (centroids - places[:, None]).square().sum(-1).argmin(1)
        chosen = children.gather(1, nearest[:, None])[:, 0]
        return Rebound(places - finer[self.template.faces[chosen]].mean(1), chosen.to(binding.dtype))

    def vertices_of(self, vertices: Tensor) -> Tensor:
        """Vertices [..., V, 3] of the coarse mesh as the finer mesh's [..., V + E, 3]."""
        return _with_middles(vertices, self.edges, -2)


@dataclass(frozen=True)
class Rebound:
    """What changes of Gaussians that are bound anew."""

    means: Tensor  # [N, 3]
    binding: Tensor  # [N]


def refine_template(template: HeadTemplate) -> Refined:
    """Cuts every triangle into four through the middles of its edges.

    Corner j of triangle f keeps its place in triangle 4f + j; 4f + 3 is the middle one.
    """
    edges = edges_of(template.faces)
    seams = edges_of(template.faces_uv)
    faces = _quarter(template.faces, edges, len(template.vertices))

    def vertex(values: Tensor, dim: int = -2) -> Tensor:
        return _with_middles(values, edges, dim)

    def padded(values: Tensor) -> Tensor:
        """Weights of sums over vertices: new vertices take no part."""
        return torch.cat([values, values.new_zeros(*values.shape[:-1], len(edges))], -1)

    skeleton = template.skeleton
    if skeleton is not None:
        skeleton = replace(
            skeleton,
            regressor=padded(skeleton.regressor),
            weights=vertex(skeleton.weights),
            correctives=None if skeleton.correctives is None else vertex(skeleton.correctives),
        )
    finer = replace(
        template,
        vertices=vertex(template.vertices),
        faces=faces,
        uv=_with_middles(template.uv, seams, -2),
        faces_uv=_quarter(template.faces_uv, seams, len(template.uv)),
        face_part=template.face_part.repeat_interleave(4),
        rigid=torch.cat([template.rigid, _between(template.rigid, edges, len(template.vertices))]),
        identity=vertex(template.identity),
        expression=vertex(template.expression),
        rotations=tuple(
            replace(turn, pivot=padded(turn.pivot), weights=vertex(turn.weights, -1)) for turn in template.rotations
        ),
        skeleton=skeleton,
    )
    return Refined(finer, torch.arange(len(template.faces)).repeat_interleave(4), edges)


def _with_middles(values: Tensor, edges: Tensor, dim: int) -> Tensor:
    a, b = (values.index_select(dim, end) for end in edges.unbind(1))
    return torch.cat([values, (a + b) / 2], dim)


def _quarter(faces: Tensor, edges: Tensor, count: int) -> Tensor:
    """[4 F, 3] the quarters of triangles [F, 3] over `count` vertices; edge i's middle is vertex count + i."""
    keys = edges[:, 0] * count + edges[:, 1]  # ascending, as edges_of sorts them
    sides = torch.stack([faces, faces.roll(-1, 1)], -1).sort(-1).values  # side j runs from corner j to j + 1
    middle = count + torch.searchsorted(keys, sides[..., 0] * count + sides[..., 1])
    a, b, c = faces.unbind(1)
    ab, bc, ca = middle.unbind(1)
    quarters = [(a, ab, ca), (ab, b, bc), (ca, bc, c), (ab, bc, ca)]
    return torch.stack([torch.stack(corners, -1) for corners in quarters], 1).reshape(-1, 3)


def _between(chosen: Tensor, edges: Tensor, count: int) -> Tensor:
    """New vertices in the middle of edges whose ends are both chosen."""
    inside = torch.zeros(count, dtype=torch.bool)
    inside[chosen] = True
    return count + inside[edges].all(1).nonzero()[:, 0]
