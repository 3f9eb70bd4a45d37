"""How far triangles' frames jump on a head: `python benchmarks/rig_flips.py builtin path/to/FaceXModel flame.npz`.

Every channel and every emotion goes from 0 to 1 in 30 even steps. A frame is apart at the end if it has turned by more
than 90 degrees against the mean of its neighbours across edges, and jumps where it turns by more than 30 degrees in one
step. `rig_frames` beside the frame that a triangle has on its own: its first edge and its normal.

With --hinges instead: how far jaw, lids and eyeballs turn, how far that is from a straight line half way, how rigidly
the expressions move the skull, and how far ICT-FaceKit ends from upstream's own straight shapes.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from unittest import mock

import roma
import torch
from torch import Tensor

from emogs.emotion import EMOTIONS, expression_from_emotion
from emogs.head import HeadTemplate, load_template
from emogs.head.stabilize import stabilize_template
from emogs.ops import rig_frames

STEPS = 30
JUMP = 30.0
"""Degrees in one step. Jaw and lids turn by 25 and 34 degrees in all of them."""
Frames = Callable[[Tensor, Tensor, Tensor], Tensor]


@dataclass
class Turns:
    """What one way to make frames does over the motions of a head."""

    apart: int = 0
    jumps: int = 0
    largest: float = 0.0  # degrees in one step
    worst: str = ""  # the motion with the most jumps, and how many it has
    most: int = 0

    def add(self, name: str, quats: Tensor, neighbours: Tensor) -> None:
        """A motion: quaternions [STEPS + 1, F, 4]."""
        steps = angles(quats[1:], quats[:-1])
        jumps = int((steps > JUMP).any(0).sum())
        self.apart += int((angles(quats[-1], mean_of(quats[-1], neighbours)) > 90).sum())
        self.jumps += jumps
        self.largest = max(self.largest, float(steps.amax()))
        if jumps > self.most:
            self.worst, self.most = name, jumps


def own_frames(vertices: Tensor, faces: Tensor, rest: Tensor) -> Tensor:
    """[B, F, 4] the rotation of a triangle that looks at nothing but itself."""

    def axes(points: Tensor) -> Tensor:
        a, b, c = points[..., faces, :].unbind(-2)
        x = torch.nn.functional.normalize(b - a, dim=-1)
        z = torch.nn.functional.normalize(torch.linalg.cross(b - a, c - a), dim=-1, eps=1e-30)
        return torch.stack([x, torch.linalg.cross(z, x), z], -1)

    turn = axes(vertices.double()) @ axes(rest.double()).mT
    return roma.quat_xyzw_to_wxyz(roma.rotmat_to_unitquat(turn)).float()


def angles(a: Tensor, b: Tensor) -> Tensor:
    """Degrees between rotations, unit quaternions [..., 4]; by the sine, which float32 has to 1e-5 degrees."""
    a, b = a.double(), b.double()
    b = torch.where((a * b).sum(-1, keepdim=True) < 0, -b, b)
    return 4 * torch.rad2deg(((a - b).norm(dim=-1) / 2).clamp(max=1).asin())


def neighbours_of(faces: Tensor) -> Tensor:
    """[F, 3] the triangle beyond each edge, itself where there is none."""
    sides = torch.stack([faces, faces.roll(-1, 1)], -1).sort(-1).values.reshape(-1, 2)
    keys, order = (sides[:, 0] * (faces.amax() + 1) + sides[:, 1]).sort(stable=True)
    beyond = torch.arange(len(faces)).repeat_interleave(3)
    same = (keys[1:] == keys[:-1]).nonzero()[:, 0]
    first, second = order[same], order[same + 1]
    beyond[first], beyond[second] = second // 3, first // 3
    return beyond.reshape(-1, 3)


def mean_of(quats: Tensor, neighbours: Tensor) -> Tensor:
    """[F, 4] the mean rotation of each triangle's neighbours, which are near one another."""
    around = quats[neighbours]
    sign = torch.where((around * around[:, :1]).sum(-1, keepdim=True) < 0, -1.0, 1.0)
    return torch.nn.functional.normalize((sign * around).sum(1), dim=-1)


def motions(template: HeadTemplate) -> Iterator[tuple[str, Tensor]]:
    """Names and channels [E] at the end of each motion."""
    for name, row in zip(template.expression_names, torch.eye(len(template.expression_names)), strict=True):
        yield name, row
    if template.speaks_arkit:
        for name, code in zip(EMOTIONS, torch.eye(len(EMOTIONS)), strict=True):
            yield name, expression_from_emotion(code[None])[0]


def measure(template: HeadTemplate, ways: dict[str, Frames], names: set[str] | None = None) -> dict[str, Turns]:
    """The turns of each way over all motions, or over those with these names."""
    neighbours, turns = neighbours_of(template.faces), {way: Turns() for way in ways}
    values = torch.linspace(0, 1, STEPS + 1)[:, None]
    for name, end in motions(template):
        if names is not None and name not in names:
            continue
        vertices = template.deform(expression=values * end)
        for way, frames in ways.items():
            turns[way].add(name, frames(vertices, template.faces, template.vertices)[..., :4], neighbours)
    return turns


def print_hinges(source: str) -> None:
    """What turns on a head, the motion of its skull, and what is left to upstream's shapes."""
    template = load_template(source)
    worn = torch.eye(len(template.expression_names))
    at_half, at_one = (template.deform(expression=value * worn) for value in (0.5, 1.0))
    beside = 1e3 * (at_half - (template.vertices + at_one) / 2).norm(dim=-1).amax(1)
    for i, name in enumerate(template.expression_names):
        turned = [f"{float(torch.rad2deg(part.angles[i])):.1f}" for part in template.rotations if part.angles[i] != 0]
        if turned:
            print(
                f"{template.name}: {name} turns by {', '.join(turned)} degrees; {beside[i]:.2f} mm off a line half way"
            )
    moved = 1e3 * stabilize_template(template)[1]
    print(f"{template.name}: skull moved rigidly by {moved.median():.3f} mm in the median, {moved.amax():.3f} at most")
    if template.name == "ict":
        with mock.patch("emogs.head.ict._turning", lambda straight: straight):
            straight = load_template(source)
        worn[template.channel("mouthClose"), template.channel("jawOpen")] = (
            1  # it closes an open jaw, as upstream's does
        )
        ends = straight.vertices + torch.einsum("ce,evx->cvx", worn, straight.expression)
        off = 1e3 * (template.deform(expression=worn) - ends).norm(dim=-1)
        for part, name in enumerate(template.part_names):
            rows = template.faces[template.face_part == part].unique()
            print(f"{template.name}: {name} at most {off[:, rows].amax():.5f} mm off upstream's shapes at 1")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("templates", nargs="*", default=["builtin"])
    parser.add_argument("--hinges", action="store_true")
    arguments = parser.parse_args()
    if arguments.hinges:
        for source in arguments.templates:
            print_hinges(source)
        return
    print("| head | triangles | frames | apart | jumps | largest step, degrees | most jumps |")
    print("|---|---|---|---|---|---|---|")
    for source in arguments.templates:
        template = load_template(source)
        for way, t in measure(template, {"of a triangle alone": own_frames, "`rig_frames`": rig_frames}).items():
            row = (template.name, f"{len(template.faces):,}", way, t.apart, t.jumps, f"{t.largest:.0f}")
            print("|", " | ".join(map(str, row)), "|", f"`{t.worst}` {t.most}" if t.most else "none", "|", flush=True)


if __name__ == "__main__":
    main()
