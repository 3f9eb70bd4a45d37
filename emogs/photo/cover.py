"""What lies on top of the head's skin in the photo, and what the person wears beside it: hair, and the body.

Two small colour mixtures, skin from the bare face and hair from the person's pixels around the head, decide between
them wherever the template says that hair could fall: forehead, temples, ears, never the middle of the face.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from .images import Array, Mask, guided_filter, nearest, resize, smoothstep
from .matte import Matte
from .view import GRID, HeadView
from .zones import Zones

LEAST_HAIR = 0.004
"""Share of the crop that hair beside the head must fill to be believed."""

SLIVER = 12
"""Cells beside the mesh within which skin is taken for a misfit of the cheek."""


@dataclass(frozen=True)
class Cover:
    """Images [GRID, GRID] in [0, 1]."""

    hair: Array
    """Hair: beside the head or lying on it."""
    over_skin: Array
    """The part of it under which skin must be imagined: on the mesh, and not where hair grows."""
    body: Array
    """Shoulders and clothes: beside the mesh, or on its bust, whose texture is coarser than the photo."""
    has_hair: bool


def find_cover(matte: Matte, view: HeadView, zones: Zones) -> Cover:
    """Splits the person's pixels into head, hair and body."""
    image, alpha = resize(matte.foreground, GRID), resize(matte.alpha, GRID)
    wanted = (zones.scalp, zones.bare, zones.tone, zones.neck, zones.bust)
    scalp, bare, tone, neck, bust = (view.front.paint(view.faces, zone) for zone in wanted)
    hit, above = view.front.hit, _above_chin(view)
    sure = alpha > 0.9
    beside = sure & ~cv2.dilate(hit.astype(np.uint8), np.ones((5, 5))).astype(bool)
    skin = _likelihood(image, (tone > 0.6) & sure)
    hair = _likelihood(image, beside & (above > 0.45))
    if skin is None or hair is None or (beside & (above > 0.45)).mean() < LEAST_HAIR:
        nothing = np.zeros((GRID, GRID), np.float32)
        return Cover(nothing, nothing, (_broad(~hit * (above < 0.3) * alpha) + bust) * alpha, False)
    body = _likelihood(image, beside & (above < -0.15))
    body = np.full_like(hair, -12) if body is None else body

    on_head = np.clip(hair - skin, -6, 6) + 3 * scalp - 1 - 20 * bare - 20 * smoothstep(0.2, 0.05, above)
    off_head = np.clip(hair - np.maximum(body, skin), -6, 6) + np.clip(12 * (above - 0.25), -12, 3)
    odds = cv2.GaussianBlur(np.where(hit, on_head, off_head).astype(np.float32), (0, 0), 1.0)
    share = (1 / (1 + np.exp(-1.5 * odds))).astype(np.float32)
    share *= _connected((share > 0.5) & sure, beside & (above > 0.45))
    share = np.clip(guided_filter(image, share, 3, 1e-3), 0, 1)
    row, column, _ = nearest(sure)  # the rim of the person belongs to what it borders
    share = np.where(hit, share * (1 - bare), smoothstep(0.3, 0.7, share[row, column]))
    over_skin = share * hit * (1 - scalp)
    body_share = ~hit * (1 - share) * (1 - _slivers(hit, skin > np.maximum(hair, body), neck, above))
    return Cover(share * alpha, over_skin * alpha, (_broad(body_share) + bust) * alpha, True)


def _slivers(hit: Mask, skin: Mask, neck: Array, above: Array) -> Mask:
    """Skin beside ear, cheek or jaw, which the mesh missed by a little: the texture shows it already, and here it would
    not move with the jaw. Below, where shoulders may be bare, it stays."""
    row, column, distance = nearest(hit)
    return skin & ((above > -0.1) | ((distance < SLIVER) & (neck[row, column] < 0.5)))


def _broad(share: Array) -> Array:
    """A share [GRID, GRID] without its narrow parts: a strip along the neck is a misfit, not a body."""
    broad = cv2.morphologyEx((share > 0.5).astype(np.uint8), cv2.MORPH_OPEN, np.ones((9, 9), np.uint8))
    return share * (cv2.dilate(broad, np.ones((3, 3), np.uint8)) > 0)


def _above_chin(view: HeadView) -> Array:
    """[GRID, GRID] height over the chin along the face's vertical, in face heights (chin to brows)."""
    marks = view.project(view.camera_vertices[view.template.landmarks.numpy()]) * (GRID / view.size)
    up = marks[17:27].mean(0) - marks[8]
    y, x = np.mgrid[:GRID, :GRID] + 0.5
    return ((np.stack([x, y], -1) - marks[8]) @ up / max(float(up @ up), 1e-6)).astype(np.float32)


def _likelihood(image: Array, where: Mask) -> Array | None:
    """Log-likelihood [GRID, GRID] of each pixel's colour under a mixture fitted to the marked ones; None if too few."""
    lab = cv2.cvtColor(image, cv2.COLOR_RGB2LAB) * np.array([0.5, 1, 1], np.float32)  # shading changes lightness most
    samples = lab[where]
    if len(samples) < 50:
        return None
    samples = samples[:: max(1, len(samples) // 600)].astype(np.float64)
    cv2.setRNGSeed(0)
    mixture = cv2.ml.EM.create()
    mixture.setClustersNumber(3)
    mixture.setCovarianceMatrixType(cv2.ml.EM_COV_MAT_DIAGONAL)
    mixture.setTermCriteria((cv2.TERM_CRITERIA_COUNT, 12, 0))
    mixture.trainEM(samples)
    log = np.full(lab.shape[:2], -np.inf)
    components = zip(mixture.getMeans(), mixture.getCovs(), mixture.getWeights()[0], strict=True)
    for mean, covariance, weight in components:
        variance = np.diag(covariance) + 4.0  # two levels of noise: no colour may be too sure of itself
        cost = ((lab - mean) ** 2 / variance + np.log(variance)).sum(-1)
        log = np.logaddexp(log, np.log(weight + 1e-9) - 0.5 * cost)
    return log.astype(np.float32)


def _connected(mask: Mask, core: Mask) -> Mask:
    """The pieces of a mask that touch the core, grown by two cells to keep their soft rim."""
    _, piece = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
    touching = np.isin(piece, np.unique(piece[core & mask])) & mask
    return cv2.dilate(touching.astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
