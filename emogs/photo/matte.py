"""Who is in the crop: a soft matte of the person, and the person's colours freed of the background's.

Where the head is and how people are built says what to expect where; colour histograms learned from that overrule the
expectation where they are clear; GrabCut (Rother et al., 2004) draws the line; a guided filter softens it along hair.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import scipy.ndimage
from numpy.typing import NDArray

from .images import Array, Mask, guided_filter, inside_distance, nearest, resize, smoothstep
from .view import HeadView

CUT = 192
"""Cells along a side in GrabCut: its time grows faster than the cells do."""
ROUNDS = 2
"""Of GrabCut's refining the colour models and cutting again."""
CERTAIN = 0.999
"""Expectation where the projected head leaves no doubt."""
BINS = 20
"""Cells of a colour histogram along each axis of CIE Lab; a and b from -64 to 64."""
GAP = 7
"""Cells; narrower gaps in a body are its own dark or bright parts: clothes vary more than walls."""
WHOLE = 0.7
"""Expectation above which gaps are closed: the middle of the body, and the head without what stands off it."""
POSSIBLE = 0.25
"""Expectation from which what lies below a part of the torso belongs to it."""
LESSONS = 3
"""Of learning the histograms anew from what they made likely."""


@dataclass(frozen=True)
class Matte:
    """The person in the crop."""

    alpha: Array  # [S, S]
    foreground: Array  # [S, S, 3] the person's colours alone, defined everywhere
    valid: Mask  # [S, S] where the crop shows the photo at all


def matte_person(crop: Array, view: HeadView) -> Matte:
    """Separates the person from the background.

    Args:
        crop: [S, S, 3] in [0, 1].
        view: the fitted head; only its silhouette and landmarks are used, and where the photo ends.
    """
    valid = np.ones(crop.shape[:2], bool) if view.valid is None else view.valid.numpy()
    mask = cut_out(crop, expect(view), valid)
    alpha = soften(crop, resize(mask.astype(np.float32), crop.shape[0])) * valid
    return Matte(alpha, clean_colours(crop, alpha), valid)


@dataclass(frozen=True)
class Expectation:
    """What is known of each cell before any colour is looked at."""

    person: Array  # [CUT, CUT] how likely it shows the person
    torso: Mask  # [CUT, CUT] below the base of the neck


def expect(view: HeadView) -> Expectation:
    """Where the person is, from the head's projection and how people are built.

    Lengths are in face heights (chin to brows) up and down, and in jaw widths sideways; shoulders lie level under the
    neck even if the head tilts. Beside hair and shoulders the values leave room for doubt, which colours then decide.
    """
    head = resize(view.front.hit.astype(np.float32), CUT) > 0.5
    marks = view.project(view.camera_vertices[view.template.landmarks.numpy()]) * (CUT / view.size)
    brow, chin, jaw = marks[17:27].mean(0), marks[8], marks[[0, 16]]
    up, width = brow - chin, max(float(np.linalg.norm(jaw[1] - jaw[0])), 1e-6)
    tall = max(float(np.linalg.norm(up)), 1e-6)
    up = up / tall
    y, x = np.mgrid[:CUT, :CUT] + 0.5
    offset = np.stack([x, y], -1) - chin
    along, across = offset @ up / tall, offset @ np.array([-up[1], up[0]]) / width
    from_neck = offset + 0.35 * tall * up
    below, beside = np.maximum(from_neck[..., 1] / tall, 0), np.abs(from_neck[..., 0]) / width

    from_hair = np.hypot((along - 0.85) / 0.95, across / 0.72)
    hair = np.interp(from_hair, [0.8, 1, 1.4, 1.9], [0.75, 0.55, 0.2, 0.02])
    torso = np.interp(beside / (0.35 + 0.9 * np.sqrt(below)), [0.6, 1, 1.6, 2.4], [0.95, 0.75, 0.5, 0.15])
    expected = np.maximum(hair, torso * smoothstep(0, 0.15, below))
    expected = np.where(head, np.maximum(expected, 0.9), expected)
    face = cv2.fillConvexPoly(np.zeros((CUT, CUT), np.uint8), cv2.convexHull(marks.astype(np.int32)), 1)
    certain = (inside_distance(head & (along > 0.05)) > 0.04 * width) | (cv2.erode(face, np.ones((5, 5), np.uint8)) > 0)
    return Expectation(np.where(certain, CERTAIN, expected).astype(np.float32), below > 0)


def cut_out(crop: Array, known: Expectation, valid: Mask) -> Mask:
    """The person [CUT, CUT], in one piece and without small holes; beyond the photo the cut at its edge is repeated."""
    window = _window(resize(valid.astype(np.float32), CUT) > 0.9)
    image, expected, torso = np.ascontiguousarray(resize(crop, CUT)[window]), known.person[window], known.torso[window]
    likely = _posterior(image, expected)
    certain = expected >= CERTAIN
    labels = np.where(likely > 0.5, cv2.GC_PR_FGD, cv2.GC_PR_BGD).astype(np.uint8)
    labels[likely < 0.03] = cv2.GC_BGD
    labels[certain | (likely > 0.9)] = cv2.GC_FGD
    mask = _grab_cut(image, labels) | certain
    whole = cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_CLOSE, np.ones((GAP, GAP), np.uint8)) > 0
    mask = _connected_to(mask | (whole & (expected > WHOLE)), certain)
    hanging = np.maximum.accumulate(mask & torso, axis=0) & (expected > POSSIBLE)  # a torso has nothing below it
    mask = _without_holes(mask | hanging)
    return np.pad(mask, [(side.start, CUT - side.stop) for side in window], mode="edge")


def _posterior(image: Array, expected: Array) -> Array:
    """Probability [H, W] of the person given colours [H, W, 3].

    Histograms of person and background are learned from what is expected where, then from what that makes likely.
    """
    lab = cv2.cvtColor(image, cv2.COLOR_RGB2LAB)
    place = ((lab / [100.01, 128, 128] + [0, 0.5, 0.5]) * BINS).astype(int)
    cell = np.ravel_multi_index(tuple(place.clip(0, BINS - 1).reshape(-1, 3).T), (BINS,) * 3)
    prior, likely = expected.ravel(), expected.ravel()
    for _ in range(LESSONS):
        counts = [np.bincount(cell, weight, BINS**3).reshape((BINS,) * 3) for weight in (likely, 1 - likely)]
        person, other = (scipy.ndimage.gaussian_filter(count, 0.7).ravel()[cell] + 0.1 for count in counts)
        likely = prior * person / (prior * person + (1 - prior) * other * (likely.sum() / (1 - likely).sum()))
    return cv2.GaussianBlur(likely.reshape(expected.shape).astype(np.float32), (0, 0), 1.0)


def _grab_cut(image: Array, labels: NDArray[np.uint8]) -> Mask:
    """The cut of an image [H, W, 3] with GrabCut's four labels."""
    if len(np.unique(labels % 2)) == 2:  # of one kind only there is nothing to tell apart
        cv2.setRNGSeed(0)  # the colour models' clusters start at random
        smooth = cv2.bilateralFilter((image[..., ::-1] * 255).round().astype(np.uint8), 5, 20, 3)
        cv2.grabCut(smooth, labels, None, np.zeros((1, 65)), np.zeros((1, 65)), ROUNDS, cv2.GC_INIT_WITH_MASK)
    return cv2.morphologyEx(labels % 2, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8)) > 0


def _window(valid: Mask) -> tuple[slice, slice]:
    """The rows and columns that hold the photo; all of them if hardly any do."""
    spans = [np.nonzero(valid.any(axis))[0] for axis in (1, 0)]
    if min(map(len, spans)) < CUT // 4:
        return slice(0, CUT), slice(0, CUT)
    rows, columns = (slice(int(span[0]), int(span[-1]) + 1) for span in spans)
    return rows, columns


def _connected_to(mask: Mask, core: Mask) -> Mask:
    """The pieces of a mask that touch the core; the largest piece if there is no core."""
    count, piece, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=4)
    if core.any():
        return np.isin(piece, np.unique(piece[core & mask])) & mask
    return piece == 1 + stats[1:, cv2.CC_STAT_AREA].argmax() if count > 1 else mask


def _without_holes(mask: Mask, largest: float = 0.01) -> Mask:
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
