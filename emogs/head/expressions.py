"""The 52 ARKit channels, built from muscles that are anchored at landmarks.

A channel is the displacement of the skin when one muscle group contracts fully; what turns in a living face - jaw,
lids, eyeballs - is a `Rotation`. The left side is authored, the right side is its exact mirror image, and channels
without a side are symmetrised. Travels are in millimetres of an average adult and were chosen beside the landmark
displacements of ICT-FaceKit's shapes (Li et al. 2020, MIT) and by looking at renders.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from .face import Face
from .lids import channel_angles, eye_rotations, lid_lift
from .muscles import ramp
from .regions import Regions
from .template import ARKIT_NAMES, Rotation

JAW_OPEN = math.radians(21.0)
_NEGLIGIBLE = 0.005
"""Displacements below this many millimetres are dropped, so that channels stay local."""


def build_expressions(
    vertices: Tensor, faces: Tensor, landmarks: Tensor, regions: Regions
) -> tuple[Tensor, tuple[Rotation, ...]]:
    """All expression channels of a neutral head.

    Args:
        vertices: [V, 3] float32 neutral shape, metres, mouth closed and eyes open, looking along +z.
        faces: [F, 3] int64. landmarks: [68] int64 in iBUG order. regions: of the same mesh.
    Returns:
        [52, V, 3] float32 linear displacements in the order of `ARKIT_NAMES`, and the rotations that go with them.
        On a mesh that is its own mirror image the right channels are the left ones' mirror images, bit for bit.
    """
    face = Face(vertices, faces, landmarks, regions)
    fields = {name: torch.zeros_like(face.points) for name in ARKIT_NAMES}
    for name, author in _LEFT.items():
        left = author(face)
        left = face.off_teeth(face.off_eyeballs(left))
        for side, field in (("Left", left), ("Right", face.mirrored(left))):
            fields[name + side] = field
    for name, author in _WHOLE.items():
        half = author(face)
        half = face.off_eyeballs(half)
        fields[name] = 0.5 * (half + face.mirrored(half))
    for name, author in _SIDEWAYS.items():
        fields[f"{name}Left"] = author(face)
        fields[f"{name}Right"] = face.mirrored(fields[f"{name}Left"])
    stacked = torch.stack([fields[name] for name in ARKIT_NAMES])
    stacked = stacked * (stacked.norm(dim=2, keepdim=True) > _NEGLIGIBLE)
    rotations = (_jaw_rotation(face), *eye_rotations(face))
    return (stacked * face.unit).to(vertices.dtype), rotations


def _jaw_rotation(face: Face) -> Rotation:
    ears = face.landmarks[[0, 1, 2, 14, 15, 16]]
    return Rotation(
        angles=channel_angles({"jawOpen": JAW_OPEN}),
        axis=torch.tensor([1.0, 0.0, 0.0]),
        pivot=face.pivot(face.hinge, ears).float(),
        weights=face.jaw.float(),
    )


# Brows ----------------------------------------------------------------------------------------------------------------


def _brow_down(f: Face) -> Tensor:
    """Corrugator and depressor supercilii: the brow comes down and towards the nose, and bunches up above it."""
    return (
        f.press(f.at(24, -1, 0, 0), (30, 20, 30), -4.0, -4.0, 2.6)
        + f.press(f.at(22, 2.9, -6.9, -2.2), (19, 16, 18), -1.2, -3.0, 1.2)
        + f.press(f.at(26, -2, 0, 0), (22, 15, 24), -2.0, -0.8, 2.4)
        + f.press(f.at(22, 8.9, 15.1, -4.2), (34, 24, 34), -0.4, -1.2, 0.7)
        + f.press(f.at(27, 3, 12, 0), (14, 14, 18), 0.0, 0.2, 0.7)
    )


def _brow_inner_up(f: Face) -> Tensor:
    """Frontalis, pars medialis; the halves of both sides add up in the middle."""
    return 2 * f.press(f.at(22, 10.9, -2.9, -2.2), (29, 30, 32), 0.3, 6.4, -0.4)


def _brow_outer_up(f: Face) -> Tensor:
    """Frontalis, pars lateralis: the arch of the brow."""
    return f.press(f.at(25, -3, 3, 0), (42, 31, 42), 1.8, 7.6, -2.4)


# Eyes: lids and balls turn (lids.py); here is the skin around them ----------------------------------------------------


def _eye_wide(f: Face) -> Tensor:
    """Levator palpebrae: as the lid rises, its fold disappears under the brow's skin, which follows."""
    return f.press(f.at(43, 3, 3, 2), (24, 10, 18), 0.2, 2.6, -0.9)


def _cheek_squint(f: Face) -> Tensor:
    """Orbicularis oculi, pars orbitalis: the cheek is pushed up under the eye and rounds."""
    return (
        f.press(f.at(46, 9, -23, -4), (40, 38, 42), -0.7, 6.4, 2.4)
        + f.press(f.at(54, 12, -4, -4), (22, 18, 24), 0.6, 1.6, -0.4)
        + f.press(f.at(54, 2, 4, 0), (22, 22, 24), 0.7, 0.8, -0.8)
        + f.press(f.at(45, 10, -4, -6), (16, 16, 18), -1.6, -0.4, 0.4)
        + f.press(f.at(25, -8, -2, 0), (36, 16, 32), 0.0, -1.2, -0.2)
    )


def _eye_squint(f: Face) -> Tensor:
    """Orbicularis oculi, pars palpebralis: the skin below the lid tightens towards the nose."""
    return f.press(f.at(46, -8, -9, 0), (22, 12, 20), -2.2, 2.2, 0.5) + f.press(
        f.at(45, 4, -1, -2), (12, 10, 12), -0.8, 0.2, 0.2
    )


# Nose and cheeks ------------------------------------------------------------------------------------------------------


def _nose_sneer(f: Face) -> Tensor:
    """Levator labii superioris alaeque nasi: wing and lip go up, the nose wrinkles, the brow's head comes down."""
    return (
        f.press(f.at(35, 0, 4, 0), (26, 24, 36), 0.4, 4.6, 0.0)
        + f.upper * f.press(f.at(53, -3, 1, -2), (25, 18, 30), 0.4, 6.2, 0.6)
        + f.press(f.at(54, 0, 3, 0), (20, 20, 22), -0.9, 3.6, 0.3)
        + f.press(f.at(35, 14, -3, -6), (22, 22, 24), -1.6, 4.0, 0.8)
        + f.press(f.at(42, -6, -14, 4), (15, 15, 18), -0.4, 2.4, 2.2)
        + f.press(f.at(46, -5, -26, -2), (38, 30, 38), -1.0, 5.6, 1.6)
        + f.press(f.at(29, 10, -3, -8), (15, 17, 20), -0.2, 3.0, 1.2)
        + f.press(f.at(30, 3, 0, -2), (13, 13, 17), 0.0, 1.7, 0.2)
        + f.press(f.at(23, -1.3, -7, -0.5), (26, 16, 24), -0.9, -3.0, 0.3)
        + f.press(f.at(27, 1, 14, 0), (18, 14, 22), 0.0, -1.2, 0.4)
    )


def _cheek_puff(f: Face) -> Tensor:
    """Air behind closed lips; each half with its mirror image."""
    cheek = f.press(f.at(54, 10, 2, -8), (44, 40, 46), 3.4, 1.6, 11.0) * (1 - 0.35 * f.near_lips(3.0, 18.0))
    lips = f.press(f.at(51, 8, -8, 0), (32, 28, 30), -1.6, 0.5, 5.0)
    return 2 * (cheek + lips) * ramp(f.points[:, :1], -10.0, 10.0)


# Mouth corners --------------------------------------------------------------------------------------------------------


def _smile(f: Face) -> Tensor:
    """Zygomaticus major: the corner goes back and up over the teeth, the cheek lifts, the nasolabial fold deepens."""
    cheekbone = f.at(45, 8, -24, -20)
    return (
        f.muscle(cheekbone, f.at(54), 13.0, spread=34, reach=36)
        + f.press(f.at(54, 24, 13, -20), (46, 48, 46), 3.4, 3.6, 1.0)
        + f.press(f.at(54, 12, 20, -4), (32, 32, 34), 0.8, 0.4, 2.0)
        + f.press(f.at(8, 14, 10, 0), (30, 24, 30), 0.4, 1.4, 0.6)
    )


def _dimple(f: Face) -> Tensor:
    """Buccinator: the corner is drawn straight back against the teeth, and the cheek swells beside it."""
    return (
        f.press(f.at(54), (26, 24, 30), 2.6, 2.6, -6.2)
        + f.press(f.at(54, 11, 2, -6), (12, 20, 16), -1.6, 0.4, 3.2)
        + f.press(f.at(54, 18, 22, -14), (32, 28, 34), 1.4, 0.8, 2.4)
        + f.press(f.at(54, 3, 17, 2), (17, 18, 19), 0.5, 0.2, 1.7)
        + f.lower * f.press(f.at(57, 11, -4, -2), (22, 18, 22), 0.6, 2.2, -1.4)
    )


def _stretch(f: Face) -> Tensor:
    """Risorius and platysma: the corner goes outwards and back, the neck tightens."""
    return (
        f.press(f.at(54, 0, -1, -2), (29, 22, 30), 6.4, -2.6, -5.6)
        + f.lower * f.press(f.at(57, 6, 0, 0), (22, 14, 22), 1.0, -0.6, -1.0)
        + f.press(f.at(11, -2, -6, 0), (28, 24, 28), 2.0, -1.6, 0.0)
    )


def _frown(f: Face) -> Tensor:
    """Depressor anguli oris: the corner goes down, a fold runs from it to the chin."""
    return (
        f.press(f.at(54, 1, -1, 0), (20, 20, 24), 1.9, -4.8, -1.8)
        + f.press(f.at(54, 2, -16, 0), (14, 12, 16), 0.2, -0.6, 1.6)
        + f.upper * f.press(f.at(52), (24, 14, 22), 0.2, -0.8, -0.4)
        + f.press(f.at(54, 3, 16, 0), (18, 16, 20), -0.1, -2.0, -1.1)
    )


# Lips -----------------------------------------------------------------------------------------------------------------


def _upper_up(f: Face) -> Tensor:
    """Levator labii superioris: half of the upper lip and the skin beside the nose go up."""
    return (
        f.upper * f.press(f.at(53, -4, 1, -2), (23, 18, 30), 1.0, 6.8, -0.4)
        + f.press(f.at(54, 0, 4, 0), (17, 16, 20), 0.2, 2.0, 0.2)
        + f.press(f.at(35, 8, -4, -4), (24, 22, 26), 1.4, 4.8, -1.2)
        + f.press(f.at(46, -4, -26, -2), (32, 26, 34), 1.0, 3.2, 2.0)
    )


def _lower_down(f: Face) -> Tensor:
    """Depressor labii inferioris: half of the lower lip goes down and curls over."""
    return f.lower * f.press(f.at(56, 1, 2, 0), (24, 24, 26), 0.9, -4.6, -0.9)


def _press(f: Face) -> Tensor:
    """Orbicularis oris with mentalis: the lips tighten against each other and thin; the chin rises."""
    half = f.press(f.at(53, -4, -8, 0), (27, 36, 30), 0.0, 1.0, 0.0)[:, 1:2] * f.near_lips(7.0, 18.0)
    upper, lower = f.vector(0.0, -1.9, -1.0), f.vector(0.0, 2.4, 0.3)
    meet = f.near_lips(0.5, 6.0)  # there they move as one: thinner lips do not pass through each other
    squeeze = (f.upper * upper + f.lower * lower) * (1 - meet) + meet * (upper + lower) / 2
    return (
        half * squeeze
        + f.press(f.at(8, 10, 12, 0), (32, 32, 30), -0.1, 3.2, 2.2)
        + f.press(f.at(54, 4, 0, -4), (15, 17, 18), -0.2, 1.2, 1.6)
        + f.press(f.at(54, -4, 16, 2), (12, 14, 16), 0.4, 0.3, 1.6)
    )


def _pucker(f: Face) -> Tensor:
    """Orbicularis oris closes like a purse and pushes forward: the corners come in, the lips thicken."""
    centre = (f.at(62) + f.at(66)) / 2
    ring = f.sphincter(centre - f.vector(0, 0, 12), (50, 34, 44), 8.0) * f.vector(1.0, 0.15, 0.0)
    forward = f.press(centre - f.vector(0, 1, 4), (40, 27, 40), 0.0, 0.6, 9.0)
    thick = 0.22 * (f.points - f.at(62)) * f.vector(0, 1, 0) * f.near_lips(9.0, 20.0) * f.skin[:, None]
    return ring + forward + thick


def _funnel(f: Face) -> Tensor:
    """Orbicularis oris opens like a trumpet: lips forward, apart and curled outwards."""
    centre = (f.at(62) + f.at(66)) / 2
    ring = f.sphincter(centre - f.vector(0, 0, 12), (46, 34, 44), 5.0) * f.vector(1.0, 0.1, 0.0)
    forward = f.press(centre - f.vector(0, 2, 4), (38, 28, 40), 0.0, 0.0, 7.5)
    apart = f.press(centre, (27, 26, 30), 0.0, 1.0, 0.0)[:, 1:2]
    return ring + forward + apart * (f.upper * f.vector(0, 5.4, 0) + f.lower * f.vector(0, -7.6, 0.5))


def _roll(f: Face, lip: Tensor, border: Tensor, towards: float) -> Tensor:
    """The lip turns inwards about its outer border and disappears between the teeth."""
    corner = float(f.at(64)[0])
    width = ramp(f.points[:, :1].abs(), corner * 1.05, corner * 0.3)
    share = lip * f.near_lips(2.0, 15.0) * width * f.skin[:, None]
    return share * f.vector(0, 0, -9.0) + lip * f.press(border, (28, 18, 24), 0.0, towards * 3.6, -2.4)


def _roll_upper(f: Face) -> Tensor:
    return _roll(f, f.upper, f.at(51), -1.0)


def _roll_lower(f: Face) -> Tensor:
    return _roll(f, f.lower, f.at(57), 1.0)


def _shrug_upper(f: Face) -> Tensor:
    """The upper lip is pushed up towards the nose."""
    return f.upper * f.press(f.at(51, 0, -3, 0), (24, 18, 26), 0.0, 5.6, 0.7)


def _shrug_lower(f: Face) -> Tensor:
    """Mentalis: the chin's boss goes up and pushes the lower lip up and out."""
    return f.press(f.at(8, 0, 10, 0), (42, 28, 38), 0.0, 8.0, 4.2) + f.lower * f.press(
        f.at(57, 0, 4, -2), (34, 20, 30), 0.0, 5.2, 4.2
    )


def _mouth_sideways(f: Face) -> Tensor:
    """The whole mouth slides over the teeth to the subject's left."""
    centre = (f.at(62) + f.at(66)) / 2
    return f.off_teeth(f.press(centre - f.vector(0, -2, 6), (52, 40, 52), 13.0, 0.8, 0.0), gap=2.0)


# Jaw, tongue ----------------------------------------------------------------------------------------------------------


def _jaw_forward(f: Face) -> Tensor:
    return f.jaw[:, None] * f.vector(0, -1.2, 9.0)


def _jaw_sideways(f: Face) -> Tensor:
    return f.jaw[:, None] * f.vector(8.0, 0.0, 0.0)


def _mouth_close(f: Face) -> Tensor:
    """Corrective for jawOpen: after the jaw's full turn the lower lip is back at the upper lip, which meets it."""
    turn = torch.linalg.matrix_exp(-JAW_OPEN * f.jaw[:, None, None] * f.points.new_tensor(_TURN_X))
    back = (turn @ (f.points - f.hinge)[:, :, None])[:, :, 0] + f.hinge - f.points
    return back * f.near_lips(9.0, 26.0) * f.skin[:, None]


_TURN_X = [[0.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]]
"""Generator of rotations about x."""


def _tongue_out(f: Face) -> Tensor:
    """The tongue rises over the lower teeth, slides out, flattens and tips down; the lips make way."""
    tongue = f.regions.part("tongue")
    rest = f.points[tongue]
    out = ramp(rest[:, 2], float(rest[:, 2].amin()), float(rest[:, 2].amax()) - 8)
    tip = ramp(rest[:, 2], float(rest[:, 2].amax()) - 22, float(rest[:, 2].amax()))
    rise = 10.5 * ramp(out, 0.1, 0.8) - 7.0 * tip - 0.35 * out * (rest[:, 1] - rest[:, 1].mean())
    slide = torch.zeros_like(f.points)
    slide[tongue] = torch.stack([torch.zeros_like(out), rise, 31.0 * out], 1)
    return (
        slide
        + f.lower * f.press(f.at(57), (24, 20, 26), 0, -5.0, 1.0)
        + f.upper * f.press(f.at(51), (24, 15, 22), 0, 2.5, 0.6)
    )


_Author = Callable[[Face], Tensor]

_LEFT: dict[str, _Author] = {
    "browDown": _brow_down, "browOuterUp": _brow_outer_up, "cheekSquint": _cheek_squint, "eyeSquint": _eye_squint,
    "eyeBlink": lid_lift, "eyeWide": _eye_wide, "noseSneer": _nose_sneer, "mouthSmile": _smile, "mouthDimple": _dimple,
    "mouthStretch": _stretch, "mouthFrown": _frown, "mouthUpperUp": _upper_up, "mouthLowerDown": _lower_down,
    "mouthPress": _press,
}  # fmt: skip
_WHOLE: dict[str, _Author] = {
    "browInnerUp": _brow_inner_up, "cheekPuff": _cheek_puff, "mouthPucker": _pucker,
    "mouthFunnel": _funnel, "mouthRollUpper": _roll_upper, "mouthRollLower": _roll_lower,
    "mouthShrugUpper": _shrug_upper, "mouthShrugLower": _shrug_lower, "jawForward": _jaw_forward,
    "mouthClose": _mouth_close, "tongueOut": _tongue_out,
}  # fmt: skip
_SIDEWAYS: dict[str, _Author] = {"jaw": _jaw_sideways, "mouth": _mouth_sideways}
