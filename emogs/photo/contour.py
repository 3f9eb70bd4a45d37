"""The jaw contour moves with the view: where the jaw line turns away from the camera, the landmark is the silhouette.

Landmarks 0..16 of the iBUG scheme name what an annotator sees, so on the far side of a turned head they slide over the
cheek. Each gets a short path of vertices from the jaw line towards the nose; the first that faces the camera counts.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from emogs.head.mesh import vertex_normals
from emogs.head.template import HeadTemplate

JAW_POINTS = 17
_STEPS = 12
_REACH = 0.6
"""How far a path goes from the jaw (0) to the nose (1): the silhouette of a profile view lies before that."""


@dataclass(frozen=True)
class JawContour:
    """Paths of candidate vertices for the jaw landmarks; the first of each path is the template's own landmark."""

    candidates: Tensor  # [17, M] int64 vertices
    normals: Tensor  # [17, M, 3] outward, of the mean neutral head

    def select(self, points: Tensor, camera: Tensor) -> Tensor:
        """Which candidate each landmark is, seen from a camera.

        Args:
            points: [..., 17, M, 3] the candidates' positions in head space.
            camera: [..., 3] its centre in head space.
        Returns:
            [..., 17] int64 column of `candidates`.
        """
        facing = (self.normals * (camera[..., None, None, :] - points)).sum(-1) >= 0
        facing[..., -1] = True
        return facing.int().argmax(-1)


def jaw_contour(template: HeadTemplate) -> JawContour:
    """Lays the candidate paths over a template's mean neutral head."""
    vertices = template.vertices
    landmarks = vertices[template.landmarks]
    nose = landmarks[27:36].mean(0)
    width = (landmarks[45] - landmarks[36]).norm()
    centre = nose - width * torch.tensor([0.0, 0.0, 0.75])
    start, goal = landmarks[:JAW_POINTS] - centre, nose - centre
    step = torch.linspace(0, _REACH, _STEPS)[None, :, None]
    directions = (1 - step) * start[:, None] + step * goal
    skin = template.faces[template.face_part == template.part_names.index("skin")].unique()
    candidates = skin[outermost(vertices[skin], centre, directions.reshape(-1, 3))].reshape(JAW_POINTS, _STEPS)
    candidates[:, 0] = template.landmarks[:JAW_POINTS]
    return JawContour(candidates, vertex_normals(vertices, template.faces)[candidates])


def outermost(vertices: Tensor, centre: Tensor, directions: Tensor) -> Tensor:
    """The outer surface's vertex in each direction [D, 3] from a centre [3]: indices [D] into vertices [V, 3]."""
    arm = vertices - centre
    radius = arm.norm(dim=1)
    unit = arm / radius[:, None]
    found = []
    for chunk in torch.nn.functional.normalize(directions, dim=1).split(512):
        nearest = (chunk @ unit.T).topk(12, dim=1).indices  # in order of angle
        outer = radius[nearest] >= 0.95 * radius[nearest].amax(1, keepdim=True)
        found.append(nearest.gather(1, outer.int().argmax(1, keepdim=True))[:, 0])
    return torch.cat(found)
