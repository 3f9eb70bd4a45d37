"""Named vertices of the built-in head: the lines along which lips and lids meet, and the 68 landmarks."""

from __future__ import annotations

import numpy as np
import torch

from .cage import Cage
from .regions import Regions
from .surface import Surface

# iBUG's numbering; the subject's left half and the midline, the right half follows by mirroring. (ring, position):
# position 2.5 is halfway between the ring's points 2 and 3.
_LANDMARKS: dict[int, tuple[str, float]] = {
    8: ("jaw", 0), 9: ("jaw", 1.5), 10: ("jaw", 3), 11: ("jaw", 4), 13: ("lip_top", 6.5), 15: ("nose", 7),
    16: ("eye", 7),
    24: ("brow", 4), 25: ("brow", 5), 26: ("brow", 6),
    27: ("eye", 0), 28: ("orbit", 0), 29: ("nose", 0), 30: ("tip", 0),
    33: ("lip_top", 0), 34: ("lip_top", 1), 35: ("lip_top", 2),
    42: ("lid_back", 0), 43: ("lid_back", 2), 44: ("lid_back", 4), 45: ("lid_back", 6), 46: ("lid_back", 8),
    47: ("lid_back", 10),
    51: ("vermilion", 0), 52: ("vermilion", 1), 53: ("vermilion", 2.5), 54: ("vermilion", 4), 55: ("vermilion", 5.5),
    56: ("vermilion", 6.5), 57: ("vermilion", 8),
    62: ("lip_contact", 0), 63: ("lip_contact", 1.5), 64: ("lip_contact", 4), 65: ("lip_contact", 6.5),
    66: ("lip_contact", 8),
}  # fmt: skip
_HALFWAY: dict[int, tuple[tuple[str, int], tuple[str, int]]] = {
    12: (("chin", 5), ("chin_top", 6)), 14: (("supratip", 7), ("tip", 7)),
    22: (("forehead_low", 1), ("brow", 1)), 23: (("forehead_low", 2), ("brow", 3)),
}  # fmt: skip
"""Landmarks that lie on no ring: the vertex nearest to the middle of two points of the cage. They are where
ICT-FaceKit's are, to 3 mm, since one landmark network serves all templates."""
_MIRRORED = {
    0: 16, 1: 15, 2: 14, 3: 13, 4: 12, 5: 11, 6: 10, 7: 9, 17: 26, 18: 25, 19: 24, 20: 23, 21: 22, 31: 35, 32: 34,
    36: 45, 37: 44, 38: 43, 39: 42, 40: 47, 41: 46, 48: 54, 49: 53, 50: 52, 58: 56, 59: 55, 60: 64, 61: 63, 67: 65,
}  # fmt: skip


def regions_of(
    cage: Cage,
    surface: Surface,
    mirror: np.ndarray,
    vertex_part: np.ndarray,
    part_names: tuple[str, ...],
    rigid: np.ndarray,
) -> Regions:
    """The built-in head's loops and sides; they follow the cage's rings."""
    lid, lip = cage.named["lid_back"], cage.named["lip_contact"]
    upper_lid, lower_lid = (
        surface.loop(lid[6::-1]),
        surface.loop(np.append(lid[6:], lid[0])),
    )
    upper_lip, lower_lip = surface.loop(lip[:5]), surface.loop(lip[:3:-1])
    return Regions(
        part_names=part_names,
        vertex_part=torch.from_numpy(vertex_part),
        mirror=torch.from_numpy(mirror),
        rigid=torch.from_numpy(rigid),
        lip_upper=torch.from_numpy(np.concatenate([mirror[upper_lip[:0:-1]], upper_lip])),
        lip_lower=torch.from_numpy(np.concatenate([mirror[lower_lip[:0:-1]], lower_lip])),
        lid_upper_left=torch.from_numpy(upper_lid),
        lid_lower_left=torch.from_numpy(lower_lid),
        lid_upper_right=torch.from_numpy(mirror[upper_lid]),
        lid_lower_right=torch.from_numpy(mirror[lower_lid]),
    )


def landmark_vertices(cage: Cage, surface: Surface, skin: np.ndarray) -> np.ndarray:
    """[68] vertices in the iBUG order, of a skin whose vertices are [V, 3] millimetres."""
    out = np.zeros(68, np.int64)
    for number, (ring, position) in _LANDMARKS.items():
        low = int(position)
        out[number] = cage.named[ring][low]
        if position > low:
            between = surface.loop(cage.named[ring][low : low + 2])
            out[number] = between[round((position - low) * (len(between) - 1))]
    for number, ((ring, one), (other, two)) in _HALFWAY.items():
        middle = (skin[cage.named[ring][one]] + skin[cage.named[other][two]]) / 2
        out[number] = np.linalg.norm(skin - middle, axis=1).argmin()
    for number, source in _MIRRORED.items():
        out[number] = surface.mirror[out[source]]
    return out
