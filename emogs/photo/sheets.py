"""Hair and body as height fields in front of the crop's camera, one seen from the front and one from behind.

A height field is inflated from its outline: with h^2 = u and laplacian(u) = -4 a disc becomes a sphere. Where hair
meets the skin the surface starts on the skin, and nowhere does it enter the head. The front takes the photo's colours;
the back reflects the nearest hair or cloth.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import scipy.sparse
import scipy.sparse.linalg

from .cover import Cover
from .images import Array, Mask, inside_distance, nearest, resize, smoothstep
from .matte import Matte
from .view import GRID, HeadView
from .zones import Zones

CLEARANCE = 0.002
"""Metres between skin and the hair on it, at the hair's edge."""
THICKNESS = 0.015
"""Metres that hair well inside its edge lies above the head, at most: as much as it stands out beside the head."""
LEAST_WIDTH = 0.15
"""Share of a row of the crop: above the first row where the body is that wide, nothing is closed behind the neck."""
REFLECTION = 14
"""Cells beyond the border of hair or cloth that mirror what is inside; farther out the border's colours fade in."""
HIGHEST = 0.25
"""Metres; a limit for what has no outline in the crop."""
TORSO_DEPTH = 0.11
"""Metres from the middle of the torso to its front, at most."""


@dataclass(frozen=True)
class Sheet:
    """A height field over the crop's cells, with alpha and colour."""

    depth: Array  # [GRID, GRID] metres
    alpha: Array  # [GRID, GRID]
    colour: Array  # [S, S, 3]
    detail: float
    """Samples along a side, relative to the shell's finest."""


def hair_sheets(view: HeadView, matte: Matte, cover: Cover, zones: Zones) -> list[Sheet]:
    """Front and back of the hair."""
    hit, metre, valid = view.front.hit, cell_metres(view), resize(matte.valid.astype(np.float32), GRID) > 0.5
    beside = (cover.hair > 0.02) & ~hit
    domain = cover.hair > 0.02
    rim = _skull_depth(view)
    skin = np.where(hit, np.maximum(rim - view.front.depth, 0), 0)
    raised = _inflate(domain, skin**2, metre, valid)
    thickness = _thickness(beside, hit, metre)
    inner = inside_distance(cover.hair > 0.3) * metre
    lift = CLEARANCE + (thickness - CLEARANCE) * smoothstep(0, 0.025, inner)
    depth = rim - np.sqrt(raised)
    depth = np.where(hit, np.minimum(depth, view.front.depth - lift), depth)
    front = Sheet(_continued(depth, domain), cover.hair, matte.foreground, detail=1.0)

    scalp_behind = view.back.paint(view.faces, zones.scalp) > 0.5
    closed = cv2.morphologyEx((beside | scalp_behind).astype(np.uint8), cv2.MORPH_CLOSE, np.ones((7, 7))) > 0
    person = resize(matte.alpha, GRID)
    closed &= person > 0.6
    nape = np.where(view.back.hit, np.maximum(view.back.depth - rim, 0), 0)
    hollow = _inflate(closed, nape**2, metre, valid)
    depth = rim + np.sqrt(hollow)
    behind = np.where(view.back.hit, view.back.depth + thickness, -np.inf)
    depth = np.maximum(depth, behind)
    solid = cv2.GaussianBlur(closed.astype(np.float32), (0, 0), 0.7) * smoothstep(0.5, 0.95, person)
    back = Sheet(_continued(depth, closed), solid, _reflected(matte.foreground, cover.hair > 0.85), detail=0.5)
    return [front, back]


def body_sheets(view: HeadView, matte: Matte, cover: Cover) -> list[Sheet]:
    """Front and back of shoulders and clothes."""
    hit, metre, valid = view.front.hit, cell_metres(view), resize(matte.valid.astype(np.float32), GRID) > 0.5
    domain = cover.body > 0.02
    rim = _base_depth(view)
    skin = np.where(hit, np.clip(rim - view.front.depth, 0, TORSO_DEPTH), 0)
    raised = _inflate(domain & ~hit, skin**2, metre, valid, curvature=1.5)
    depth = np.where(hit, view.front.depth - CLEARANCE, rim - _limited(np.sqrt(raised)))
    front = Sheet(_continued(depth, domain), cover.body, matte.foreground, detail=1.0)

    closed = _between((cover.body > 0.5) & ~hit)
    hollow = _limited(np.sqrt(_inflate(closed, np.zeros_like(skin), metre, valid, curvature=1.5)))
    depth = rim + hollow
    behind = np.where(view.back.hit, view.back.depth + CLEARANCE, -np.inf)
    depth = np.where(view.back.hit, np.maximum(depth, behind), depth)
    solid = cv2.GaussianBlur(closed.astype(np.float32), (0, 0), 0.7) * smoothstep(0.5, 0.95, resize(matte.alpha, GRID))
    colour = _reflected(matte.foreground, cover.body > 0.85)
    return [front, Sheet(_continued(depth, closed), solid, colour, detail=0.5)]


def _thickness(beside: Mask, hit: Mask, metre: float) -> float:
    """Metres by which hair stands out beside the head, within its limits."""
    away = nearest(hit)[2][beside] * metre if beside.any() and hit.any() else np.zeros(1)
    return float(np.clip(np.percentile(away, 70), 1.5 * CLEARANCE, THICKNESS))


def _inflate(domain: Mask, border: Array, metre: float, valid: Mask, curvature: float = 4.0) -> Array:
    """Squared height u [GRID, GRID]: laplacian(u) = -curvature inside the domain, u = border [GRID, GRID] around it.

    Where the photo ends, at the crop's edge or at cells that are not valid, the surface just goes on.
    """
    index = np.full(domain.shape, -1)
    count = int(domain.sum())
    index[domain] = np.arange(count)
    if count == 0:
        return np.zeros(domain.shape, np.float32)
    row, column = np.nonzero(domain)
    diagonal, source = np.zeros(count), np.full(count, curvature * metre**2)
    rows, columns = [], []
    for dy, dx in ((0, 1), (0, -1), (1, 0), (-1, 0)):
        y, x = row + dy, column + dx
        inside = (y >= 0) & (y < GRID) & (x >= 0) & (x < GRID)
        y, x = y.clip(0, GRID - 1), x.clip(0, GRID - 1)
        inside &= valid[y, x]
        diagonal += inside
        linked = inside & domain[y, x]
        rows.append(np.nonzero(linked)[0])
        columns.append(index[y, x][linked])
        source += np.where(inside & ~domain[y, x], border[y, x], 0)
    pairs = np.concatenate(rows), np.concatenate(columns)
    links = scipy.sparse.csr_matrix((np.ones(len(pairs[0])), pairs), (count, count))
    system = scipy.sparse.diags(diagonal + 1e-7) - links
    solve = scipy.sparse.linalg.splu(system.tocsc(), permc_spec="MMD_AT_PLUS_A", options={"SymmetricMode": True})
    out = np.zeros(domain.shape, np.float32)
    out[domain] = np.clip(solve.solve(source), 0, HIGHEST**2)
    return out


def _limited(height: Array) -> Array:
    """Heights that approach TORSO_DEPTH and never pass it."""
    return TORSO_DEPTH * np.tanh(height / TORSO_DEPTH)


def _continued(depth: Array, domain: Mask) -> Array:
    """Depth beyond its domain is that of the nearest cell inside, so that the rim has no cliffs."""
    if not domain.any():
        return np.zeros_like(depth)
    row, column, _ = nearest(domain)
    return depth[row, column].astype(np.float32)


def _between(mask: Mask) -> Mask:
    """A mask with the cells between its leftmost and rightmost ones in each row: the torso behind neck and chin."""
    mask = mask & np.maximum.accumulate(mask.mean(1) > LEAST_WIDTH)[:, None]
    return np.maximum.accumulate(mask, axis=1) & np.maximum.accumulate(mask[:, ::-1], axis=1)[:, ::-1]


def _reflected(image: Array, mask: Mask) -> Array:
    """An image [S, S, 3] whose pixels outside a mask [GRID, GRID] show it reflected at its nearest border."""
    size = image.shape[0]
    inner = cv2.erode(mask.astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
    mask = inner if inner.sum() > 50 else mask
    if not mask.any():
        return image
    row, column, distance = nearest(mask)
    y, x = np.mgrid[:GRID, :GRID]
    far_row, far_column = (2 * row - y).clip(0, GRID - 1), (2 * column - x).clip(0, GRID - 1)
    good = mask[far_row, far_column]
    source_row, source_column = np.where(good, far_row, row), np.where(good, far_column, column)
    small = resize(image, GRID)
    filled = small[source_row, source_column]
    soft = cv2.GaussianBlur(small[row, column], (0, 0), 5)
    share = smoothstep(0, REFLECTION, distance)[..., None]
    mixed = np.where(mask[..., None], small, filled * (1 - share) + soft * share)
    inside = cv2.resize(mask.astype(np.float32), (size, size), interpolation=cv2.INTER_LINEAR)[..., None] > 0.99
    return np.where(inside, image, resize(mixed.astype(np.float32), size)).astype(np.float32)


def cell_metres(view: HeadView) -> float:
    """Width of a cell at the depth of the skull."""
    return _skull_depth(view) * view.size / GRID / float(view.K[0, 0])


def _skull_depth(view: HeadView) -> float:
    """Depth of the middle of the skull, where its outline turns away from the camera."""
    rigid = view.vertices[view.template.rigid].numpy()
    marks = view.vertices[view.template.landmarks].numpy()
    centre = np.array([0, rigid[:, 1].mean(), marks[[0, 16], 2].mean() - 0.015], np.float32)
    return float(view.to_camera(centre[None])[0, 2])


def _base_depth(view: HeadView) -> float:
    """Depth of the middle of the torso, taken to lie below the ears."""
    low = view.vertices[:, 1] < view.vertices[view.template.landmarks[8], 1] - 0.02
    points = view.vertices[low].numpy() if low.any() else view.vertices.numpy()
    middle = (points.max(0) + points.min(0)) / 2
    return float(view.to_camera(middle[None])[0, 2])
