"""A face ready for muscles: millimetres, landmarks by name, which skin follows the jaw, where eyes and teeth push back.

Everything is authored for the subject's left side; `Face.mirrored` gives the right side bit for bit.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from .muscles import harmonic, linear_muscle, pressure, ramp, sphincter_muscle
from .regions import Regions, edges_of

MILLIMETRE = 0.001
_ADULT_EYE_WIDTH = 89.0
"""Distance of the outer eye corners (mm) of the face for which offsets and travels are written."""
_HINGE = (10.0, -18.0)
"""Axis of the jaw's turn, mm: y above the nose's base (landmark 33), z behind the ear's front (16). The condyle glides
forward as the mouth opens, so the effective axis lies a little below the joint."""


@dataclass(frozen=True)
class Eye:
    """One eyeball as a sphere with a corneal bulge."""

    centre: Tensor  # [3]
    radius: float
    cornea: float  # largest distance of its surface from the centre
    vertices: Tensor  # [N]


class Face:
    """A head's rest shape in millimetres of an average adult, with the fields that expressions are made of."""

    def __init__(self, vertices: Tensor, faces: Tensor, landmarks: Tensor, regions: Regions):
        """Takes vertices [V, 3] in metres, faces [F, 3], iBUG landmarks [68] and the regions of the same mesh."""
        metres = vertices.double()
        self.unit = float((metres[landmarks[45]] - metres[landmarks[36]]).norm()) / _ADULT_EYE_WIDTH
        self.points = metres / self.unit
        self.faces, self.landmarks, self.regions = faces, landmarks, regions
        self.skin = regions.part("skin", "mouth_socket")

    def at(self, landmark: int, x: float = 0.0, y: float = 0.0, z: float = 0.0) -> Tensor:
        """[3] a landmark's place, shifted by millimetres."""
        return self.points[self.landmarks[landmark]] + self.vector(x, y, z)

    def vector(self, x: float, y: float, z: float) -> Tensor:
        """[3] in the face's precision."""
        return self.points.new_tensor([x, y, z])

    def mirrored(self, field: Tensor) -> Tensor:
        """The mirror image of a displacement field [V, 3] or of a weight [V]."""
        image = field[self.regions.mirror]
        return image * self.vector(-1, 1, 1) if field.ndim == 2 else image

    # Muscles of the left side, limited to skin that bone does not hold.

    def muscle(self, origin: Tensor, insertion: Tensor, travel: float, spread: float = 30, reach: float = 30) -> Tensor:
        """[V, 3] displacement by a linear muscle."""
        return linear_muscle(self.points, origin, insertion, travel, spread, reach) * self.loose

    def sphincter(self, centre: Tensor, semi_axes: tuple[float, float, float], travel: float) -> Tensor:
        """[V, 3] displacement by a sphincter."""
        return sphincter_muscle(self.points, centre, self.vector(*semi_axes), travel) * self.loose

    def press(self, centre: Tensor, size: float | tuple[float, float, float], x: float, y: float, z: float) -> Tensor:
        """[V, 3] displacement (x, y, z) at `centre`, fading out over `size` (a radius or three semi-axes)."""
        axes = self.vector(*size) if isinstance(size, tuple) else self.points.new_tensor(size)
        return pressure(self.points, centre, axes, self.vector(x, y, z)) * self.loose

    # Fields.

    @cached_property
    def loose(self) -> Tensor:
        """[V, 1] 1 on soft skin, 0 on skull, behind the ears and off the skin; little on lids, which turn instead."""
        from_skull = torch.cdist(self.points, self.points[self.regions.rigid]).amin(1)
        before_ear = self.points[:, 2] - self.at(16)[2]
        free = ramp(from_skull, 0.0, 12.0) * ramp(before_ear, -5.0, 15.0)
        for eye in (self.left_eye, self.right_eye):
            distance = (self.points - eye.centre).norm(dim=1)
            free = free * (0.1 + 0.9 * ramp(distance, 1.1 * eye.radius, 1.4 * eye.radius))
        return (free * self.skin)[:, None]

    @cached_property
    def lower(self) -> Tensor:
        """[V, 1] 0 on the upper lip and above, 1 on the lower lip and below, blended beside the mouth's corners."""
        height = self.points[:, 1] - self.at(54)[1]
        held = torch.zeros(len(self.points), dtype=torch.float64)
        target = ramp(height, 6.0, -6.0)
        held[self.skin & (height.abs() > 25)] = 1.0
        held[self.regions.lip_upper[1:-1]] = held[self.regions.lip_lower[1:-1]] = 1e3
        target[self.regions.lip_upper[1:-1]], target[self.regions.lip_lower[1:-1]] = 0.0, 1.0
        return self._settle(held, target)[:, None]

    @property
    def upper(self) -> Tensor:
        """[V, 1] the complement of `lower`."""
        return 1 - self.lower

    @cached_property
    def hinge(self) -> Tensor:
        """[3] a point on the axis of the jaw joints, on the midline."""
        return self.vector(0, float(self.at(33)[1]) + _HINGE[0], float(self.at(16)[2]) + _HINGE[1])

    @cached_property
    def jaw(self) -> Tensor:
        """[V] share of the jaw's turn: lower teeth, tongue, chin and lower lip all of it, skull and upper lip none.

        Between them skin stretches like a net of springs. Along the jaw line, where skin slides over the bone, the
        share grows from the ear to the chin.
        """
        points, regions = self.points, self.regions
        held = 0.02 * self.skin.double()

        def elevation(arm: Tensor) -> Tensor:
            return torch.rad2deg(torch.atan2(arm[..., 1], arm[..., 2]))

        above_mouth = elevation(points - self.hinge) - elevation(self.at(54) - self.hinge)
        target = ramp(above_mouth, 4.0, -12.0) * self.skin

        def hold(where: Tensor, strength: float, share: float | Tensor) -> None:
            held[where], target[where] = strength, share

        hold(self.skin & (above_mouth > 12), 1.0, 0.0)
        hold(self.skin & (points[:, 2] < self.at(15)[2]), 1.0, 0.0)
        hold(self.skin & (points[:, 1] < self.at(8)[1] - 55), 1.0, 0.0)
        for side in (1.0, -1.0):
            for landmark, follows in ((15, 0.0), (14, 0.05), (13, 0.15), (12, 0.35), (11, 0.6), (10, 0.85), (9, 0.95)):
                bone = self.at(landmark) * self.vector(side, 1, 1)
                hold(self.skin & ((points - bone).norm(dim=1) < 6), 0.3, follows)
        chin = (self.at(8) + self.at(57)) / 2
        hold(self.skin & (((points - chin) / self.vector(14, 20, 14)).norm(dim=1) < 1), 1.0, 1.0)
        for loop, is_lower in ((regions.lip_upper, 0.0), (regions.lip_lower, 1.0)):
            # Along the lips the shares meet in the corners, so that the open mouth is round.
            span = (points[loop, 0] / self.at(64)[0]).clamp(-1, 1)
            hold(loop, 1e3, 0.22 + (is_lower - 0.22) * (1 - span**2) ** 0.4)
        share = self._settle(held, target)
        share[regions.part("teeth_lower", "tongue")] = 1.0
        gums = regions.part("gums").nonzero()[:, 0]
        if len(gums):
            to_teeth = [
                torch.cdist(points[gums], points[regions.part(name)]).min(1).values
                for name in ("teeth_lower", "teeth_upper")
            ]
            share[gums] = (to_teeth[0] < to_teeth[1]).double()
        share[regions.rigid] = 0.0
        share = torch.where(share < 0.004, 0.0, share.clamp(max=1.0))
        return 0.5 * (share + self.mirrored(share))

    @cached_property
    def left_eye(self) -> Eye:
        return self._eye("eye_left")

    @cached_property
    def right_eye(self) -> Eye:
        return self._eye("eye_right")

    def near_lips(self, full: float, end: float) -> Tensor:
        """[V, 1] 1 up to `full` millimetres from the line where the lips meet, falling to 0 at `end`."""
        return ramp(self._from_lips, end, full)

    @cached_property
    def _from_lips(self) -> Tensor:
        loops = self.points[torch.cat([self.regions.lip_upper, self.regions.lip_lower])]
        return torch.cdist(self.points, loops).amin(1, keepdim=True)

    # What pushes back.

    def off_eyeballs(self, field: Tensor) -> Tensor:
        """Takes from a displacement [V, 3] what would press lids into an eyeball; gliding along it stays."""
        for eye in (self.left_eye, self.right_eye):
            arm = self.points - eye.centre
            distance = arm.norm(dim=1, keepdim=True)
            outward = arm / distance
            inward = (field * outward).sum(1, keepdim=True).clamp(max=0)
            field = field - inward * outward * ramp(distance, 1.8 * eye.radius, 1.25 * eye.radius) * self.skin[:, None]
        return field

    def off_teeth(self, field: Tensor, gap: float = 1.0) -> Tensor:
        """Keeps skin displaced by `field` [V, 3] before the dental arch, an elliptic cylinder; inside may stay."""
        teeth = self.points[self.regions.part("teeth_upper", "teeth_lower", "teeth")]
        if not len(teeth):
            return field
        back, front = teeth[:, 2].amin(), teeth[:, 2].amax()
        axes = torch.stack([teeth[:, 0].amax() + gap, front - back + gap])

        def level(points: Tensor) -> Tensor:
            return torch.stack([points[:, 0], points[:, 2] - back], 1).div(axes).norm(dim=1, keepdim=True)

        moved = self.points + field
        wanted = torch.minimum(level(self.points), torch.ones(1, dtype=torch.float64))
        height = ramp(moved[:, 1:2], teeth[:, 1].amax().item() + 8, teeth[:, 1].amax().item())
        push = (wanted / level(moved).clamp(min=1e-6)).clamp(1.0, 1.5) - 1
        before = (moved[:, 2:] > back) & self.skin[:, None]
        outward = torch.cat([moved[:, :1], torch.zeros_like(moved[:, :1]), moved[:, 2:] - back], 1)
        return field + torch.where(before, push * height, 0.0) * outward

    def _settle(self, held: Tensor, target: Tensor) -> Tensor:
        edges = edges_of(self.faces[self.skin[self.faces].all(1)])
        length = (self.points[edges[:, 0]] - self.points[edges[:, 1]]).norm(dim=1)
        return harmonic(edges, 1 / length.clamp(min=0.1), held, target)

    def _eye(self, part: str) -> Eye:
        """Least-squares sphere through the back of the ball, |p|^2 = 2 p.c + (r^2 - |c|^2), where no cornea bulges."""
        vertices = self.regions.part(part).nonzero()[:, 0]
        ball = self.points[vertices]
        back = ball[ball[:, 2] < ball[:, 2].median()]
        system = torch.cat([2 * back, torch.ones_like(back[:, :1])], 1)
        solution = torch.linalg.lstsq(system, (back**2).sum(1, keepdim=True)).solution[:, 0]
        centre = solution[:3]
        radius = float((solution[3] + centre @ centre).sqrt())
        return Eye(centre, radius, float((ball - centre).norm(dim=1).max()), vertices)

    def pivot(self, centre: Tensor, vertices: Tensor) -> Tensor:
        """[V] smallest weights on `vertices` that sum to one and whose weighted mean is `centre`."""
        system = torch.cat([self.points[vertices].T, torch.ones(1, len(vertices), dtype=torch.float64)])
        wanted = torch.cat([centre, centre.new_ones(1)])
        weights = torch.zeros(len(self.points), dtype=torch.float64)
        weights[vertices] = torch.linalg.lstsq(system, wanted[:, None], driver="gelsd").solution[:, 0]
        return weights
