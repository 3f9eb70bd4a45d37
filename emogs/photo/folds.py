"""What the photographed expression painted on the skin, taken apart from it: a smile's folds do not belong to anger.

A photo shows its skin under an expression, whose folds and bulges would stay in the texture when the face relaxes. They
are the dark valleys and light ridges of the texture, narrower than the structuring element of a morphological closing
and opening, where the fitted expression moves the skin beside the nose and mouth. What is taken out is kept, for
either side of the face, and comes back as far as an expression uses the channels that made it:

    texture = relaxed + sum_side colours_side * clamp(expression . response_side, 0, 1)

At the photo's own expression both weights are 1, and the texture is the photo's.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor

from ..head.template import HeadTemplate
from ..head.uv import TexelMap
from .fill import DARKEST
from .images import Array, smoothstep
from .view import HeadView
from .zones import Zones

FOLDING = ("mouthSmile", "mouthDimple", "mouthStretch", "mouthUpperUp", "noseSneer", "cheekSquint")
"""Beginnings of the channels that fold the skin between nose, mouth and cheek."""
WIDTH = 0.07
"""Widest fold in sides of the texture, about 15 mm on the cheeks."""
MOVED = (0.0008, 0.003)
"""Metres the expression must move the skin before it is thought to fold, and from which on it surely does."""
DARK = (0.6, 0.9)
"""Log depths of a valley between which it stops being a fold: a moustache is darker, or the rim of glasses."""
VALLEYS, RIDGES = 0.95, 0.5
"""Shares that are taken out. Of the light on a cheek half stays: it shines at rest, too."""
_CLEAR = {"lips": (0.0025, 0.005), "nostrils": (0.005, 0.011), "eyes": (0.009, 0.016)}
"""Metres from features, which are dark at rest, up to which nothing is taken out, and from which on everything is."""


@dataclass(frozen=True)
class Folds:
    """The folds of the photo's own expression (S: side of the texture, E: channels of the template)."""

    relaxed: Tensor  # [S, S, 3] the texture without them
    colours: Tensor  # [2, S, S, 3] what they add to it on the left and the right side of the face
    response: Tensor  # [E, 2] by which an expression [E] says how much of them it wears


def find_folds(view: HeadView, texels: TexelMap, texture: Tensor, zones: Zones) -> Folds | None:
    """Takes the folds of the photo's expression out of its texture [S, S, 3]; None if that expression has none."""
    if view.expression is None:
        return None
    template, expression = view.template, view.expression
    sides = [_folding(template, side) * expression for side in ("Left", "Right")]
    moved = np.stack([_moved(view, texels, side) for side in sides], 1) * _skin(template, texels, zones)
    moved /= np.maximum(moved.sum(1, keepdims=True), 1)
    if not moved.any():
        return None
    where = texels.image(torch.from_numpy(moved.astype(np.float32)))
    change = texture * (torch.exp(torch.from_numpy(_relief(texture.numpy()))) - 1)
    colours = -where.permute(2, 0, 1)[..., None] * change
    response = torch.stack([side / side.square().sum().clamp_min(1e-6) for side in sides], 1)
    return Folds(texture - colours.sum(0), colours, response)


def _folding(template: HeadTemplate, side: str) -> Tensor:
    """[E] 1 for the channels of one side that fold the skin."""
    return torch.tensor([float(n.startswith(FOLDING) and n.endswith(side)) for n in template.expression_names])


def _moved(view: HeadView, texels: TexelMap, expression: Tensor) -> Array:
    """[M] in [0, 1]: whether an expression [E] moves the skin far enough to fold it."""
    template = view.template
    path = template.deform(expression=expression[None])[0] - template.vertices
    distance = texels.interpolate(template.faces, path.norm(dim=1, keepdim=True)).numpy()[:, 0]
    return smoothstep(*MOVED, distance)


def _skin(template: HeadTemplate, texels: TexelMap, zones: Zones) -> Array:
    """[M, 1] in [0, 1]: the bare face away from lips, nostrils and eyes."""
    place = texels.interpolate(template.faces, template.vertices)[:, :2]
    marks = template.vertices[template.landmarks][:, :2]
    lips, middle = _outline(marks[48:60]), marks[48:60].mean(0)
    shares = torch.linspace(0, 1, 6)[:, None, None]
    features = {
        "lips": (lips + shares * (middle - lips)).flatten(0, 1),
        "nostrils": marks[31:36],
        "eyes": torch.cat([_outline(marks[36:42]), _outline(marks[42:48])]),
    }
    clear = texels.interpolate(template.faces, torch.from_numpy(zones.bare)[:, None]).numpy()[:, 0]
    clear = clear * (template.face_part[texels.face] == template.part_names.index("skin")).numpy()
    for name, points in features.items():
        clear = clear * smoothstep(*_CLEAR[name], torch.cdist(place, points).amin(1).numpy())
    return clear[:, None]


def _outline(marks: Tensor) -> Tensor:
    """Points on a closed line through landmarks [L, 2], four to each of its edges."""
    share = torch.linspace(0, 1, 5)[:-1, None, None]
    return (marks + share * (marks.roll(-1, 0) - marks)).flatten(0, 1)


def _relief(texture: Array) -> Array:
    """[S, S, 3] log of what fills the valleys and planes the ridges of a texture [S, S, 3]."""
    size = len(texture)
    log = np.log(np.maximum(texture, DARKEST)).astype(np.float32)
    soft = cv2.GaussianBlur(log, (0, 0), 0.8 * size / 256)  # freckles are no folds
    side = 2 * round(0.5 * WIDTH * size) + 1
    element = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))
    valley = cv2.morphologyEx(soft, cv2.MORPH_CLOSE, element) - soft
    ridge = soft - cv2.morphologyEx(soft, cv2.MORPH_OPEN, element)
    valley, ridge = (cv2.GaussianBlur(x, (0, 0), 0.5 * size / 256) for x in (valley, ridge))
    return VALLEYS * valley * smoothstep(*DARK[::-1], valley.mean(-1, keepdims=True)) - RIDGES * ridge
