"""Who is in the crop: a soft matte of the person, and the person's colours freed of the background's.

GrabCut (Rother et al., 2004) on a reduced crop, seeded by the projected head: the face is certain, a generous region
for hair and shoulders is possible, the rest is background. A guided filter softens the cut along hair.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from .images import guided_filter, inside_distance, nearest, resize, smoothstep
from .view import HeadView

Array = NDArray[np.float32]
Mask = NDArray[np.bool_]

CUT = 192
"""Cells along a side in GrabCut: its time grows faster than the cells do."""
ROUNDS = 3


@dataclass(frozen=True)
class Matte:
    """The person in the crop."""

    alpha: Array  # [S, S]
    foreground: Array  # [S, S, 3] the person's colours alone, defined everywhere
    valid: Mask  # [S, S] where the crop shows the photo at all


def matte_person(crop: Array, view: HeadView, valid: Mask | None = None) -> Matte:
    """Separates the person from the background.

    Args:
        crop: [S, S, 3] in [0, 1].
        view: the fitted head; only its silhouette and landmarks are used.
        valid: [S, S] False where the crop reaches beyond the photo; None if it does not.
    """
    valid = np.ones(crop.shape[:2], bool) if valid is None else valid
    mask = cut_out(crop, seeds(view), valid)
    alpha = soften(crop, resize(mask.astype(np.float32), crop.shape[0])) * valid
    return Matte(alpha, clean_colours(crop, alpha), valid)


def seeds(view: HeadView) -> NDArray[np.uint8]:
    """GrabCut's four labels [CUT, CUT] from the head's projection."""
    head = resize(view.front.hit.astype(np.float32), CUT) > 0.5
    marks = view.project(view.camera_vertices[view.template.landmarks.numpy()]) * (CUT / view.size)
    brow, chin, jaw = marks[17:27].mean(0), marks[8], marks[[0, 16]]
    up, width = brow - chin, np.linalg.norm(jaw[1] - jaw[0])
    tall = np.linalg.norm(up)
    up = up / max(tall, 1e-6)
    side = np.array([-up[1], up[0]])
    y, x = np.mgrid[:CUT, :CUT] + 0.5
    offset = np.stack([x, y], -1) - chin
    along, across = offset @ up / max(tall, 1e-6), np.abs(offset @ side) / max(width, 1e-6)
    from_neck = offset + 0.35 * tall * up  # shoulders stay level when the head tilts
    below, beside = from_neck[..., 1] / max(tall, 1e-6), np.abs(from_neck[..., 0]) / max(width, 1e-6)

    face = cv2.fillConvexPoly(np.zeros((CUT, CUT), np.uint8), cv2.convexHull(marks.astype(np.int32)), 1) > 0
    near = ((along - 0.75) / 1.55) ** 2 + (across / 1.3) ** 2 < 1
    near |= (below > -0.2) & (beside < 0.8 + 2.2 * np.sqrt(np.maximum(below + 0.2, 0)))
    likely = ((along - 0.85) / 0.95) ** 2 + (across / 0.72) ** 2 < 1
    likely |= (below > 0) & (beside < 0.35 + 1.1 * np.sqrt(np.maximum(below, 0)))
    labels = np.full((CUT, CUT), cv2.GC_PR_BGD, np.uint8)
    labels[likely | head] = cv2.GC_PR_FGD
    labels[~near & ~head] = cv2.GC_BGD
    labels[inside_distance(head & (along > 0.05)) > 0.04 * width] = cv2.GC_FGD
    labels[cv2.erode(face.astype(np.uint8), np.ones((5, 5))) > 0] = cv2.GC_FGD
    return labels


def cut_out(crop: Array, labels: NDArray[np.uint8], valid: Mask) -> Mask:
    """The person [CUT, CUT], in one piece and without small holes; beyond the photo the cut at its edge is repeated."""
    image = (resize(crop, CUT)[..., ::-1] * 255).round().astype(np.uint8)
    image = cv2.bilateralFilter(image, 5, 20, 3)
    window = _window(resize(valid.astype(np.float32), CUT) > 0.9)
    certain = labels == cv2.GC_FGD
    mask = _without_holes(_connected_to(_grab_cut(image[window], labels[window]) | certain[window], certain[window]))
    return np.pad(mask, [(side.start, CUT - side.stop) for side in window], mode="edge")


def _window(valid: Mask) -> tuple[slice, slice]:
    """The rows and columns that hold the photo; all of them if hardly any do."""
    spans = [np.nonzero(valid.any(axis))[0] for axis in (1, 0)]
    if min(map(len, spans)) < CUT // 4:
        return slice(0, CUT), slice(0, CUT)
    return tuple(slice(int(span[0]), int(span[-1]) + 1) for span in spans)


def _grab_cut(image: NDArray[np.uint8], labels: NDArray[np.uint8]) -> Mask:
    """The cut of a BGR image with seeds; the seeds themselves where one of the two kinds is missing."""
    labels, image = labels.copy(), np.ascontiguousarray(image)
    if (labels % 2 == 0).any() and (labels % 2 == 1).any():  # with one kind only there is nothing to cut
        cv2.setRNGSeed(0)  # its colour clusters start at random
        cv2.grabCut(image, labels, None, np.zeros((1, 65)), np.zeros((1, 65)), ROUNDS, cv2.GC_INIT_WITH_MASK)
    mask = np.isin(labels, (cv2.GC_FGD, cv2.GC_PR_FGD))
    return cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_OPEN, np.ones((3, 3), np.uint8)) > 0


def _connected_to(mask: Mask, core: Mask) -> Mask:
    """The pieces of a mask that touch the core; the largest piece if there is no core."""
    count, piece, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=4)
    if core.any():
        return np.isin(piece, np.unique(piece[core & mask])) & mask
    return piece == 1 + stats[1:, cv2.CC_STAT_AREA].argmax() if count > 1 else mask


def _without_holes(mask: Mask, largest: float = 0.004) -> Mask:
    """Fills gaps of up to a share `largest` of the image; larger ones, such as under an arm, show background."""
    _, piece, stats, _ = cv2.connectedComponentsWithStats((~mask).astype(np.uint8), connectivity=4)
    small = stats[:, cv2.CC_STAT_AREA] < largest * mask.size
    return mask | (small[piece] & ~mask)


def soften(crop: Array, mask: Array) -> Array:
    """Alpha [S, S] from a mask enlarged to S: soft within a band around the cut, where hair is finer than the cut."""
    size = crop.shape[0]
    band = max(2, size // 56)
    solid = mask > 0.5
    if solid.all() or not solid.any():
        return solid.astype(np.float32)
    signed = inside_distance(solid) - inside_distance(~solid)
    guide, coarse = resize(crop, size // 2), resize(cv2.GaussianBlur(mask, (0, 0), size / 256), size // 2)
    alpha = resize(guided_filter(guide, coarse, max(2, size // 80), 2e-4), size)
    alpha = np.clip((alpha - 0.1) / 0.8, 0, 1)
    alpha = np.where(signed > band, 1, np.where(signed < -band, 0, alpha))
    return alpha.astype(np.float32)


def clean_colours(crop: Array, alpha: Array) -> Array:
    """The colours of what alpha [S, S] keeps, continued beyond its edge.

    Mixed pixels are solved for the foreground, C = a F + (1 - a) B with B from the nearest sure background; the thinner
    they are, the more they lean on the nearest sure foreground instead.
    """
    sure, clear = alpha > 0.97, alpha < 0.03
    if not sure.any():
        return crop.copy()
    sure = cv2.erode(sure.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0 if sure.mean() > 0.01 else sure
    row, column, distance = nearest(sure)
    inner = crop[row, column]
    inner = _blur_where(inner, ~sure, 1.0)
    if not clear.any():
        return np.where(sure[..., None], crop, inner).astype(np.float32)
    row, column, _ = nearest(clear)
    behind = _blur_where(crop[row, column], ~clear, 2.0)
    a = alpha[..., None]
    solved = np.clip(behind + (crop - behind) / np.maximum(a, 0.3), 0, 1)
    trust = smoothstep(0.35, 0.95, a) * smoothstep(8, 2, distance)[..., None]
    mixed = inner + (np.clip(solved, inner - 0.15, inner + 0.15) - inner) * trust
    return np.where(sure[..., None], crop, mixed).astype(np.float32)


def _blur_where(image: Array, mask: Mask, sigma: float) -> Array:
    return np.where(mask[..., None], cv2.GaussianBlur(image, (0, 0), sigma), image)
