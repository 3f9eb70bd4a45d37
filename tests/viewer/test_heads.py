"""Pictures of head templates: every part is seen, emotions change them, and the sheets have their rows and columns."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from emogs.head import builtin_head
from emogs.viewer.heads import YAWS, HeadView, emotions_sheet, views_sheet, worn

HAPPY, SURPRISE = torch.eye(7)[0], torch.eye(7)[2]


@pytest.fixture(scope="module")
def view() -> HeadView:
    return HeadView(builtin_head(), 96)


def test_the_face_fills_the_picture_and_is_lit(view: HeadView):
    picture = view.draw(view.template.vertices).astype(float)
    backdrop = picture[2, 2]
    head = (np.abs(picture - backdrop) > 8).any(-1)
    assert 0.35 < head.mean() < 0.8 and head[48, 48]
    assert picture[head].mean() > 90
    dark = (picture.max(-1) < 70) & head
    rows, columns = np.nonzero(dark)
    assert len(rows) and ((columns < 48).any() and (columns > 48).any()), "two pupils"


def test_views_mirror(view: HeadView):
    """The head is symmetric and the light is not: outlines mirror."""
    left, right = (view.draw(view.template.vertices, yaw).astype(float) for yaw in (40.0, -40.0))
    outlines = [(np.abs(p - p[2, 2]) > 8).any(-1) for p in (left, right[:, ::-1])]
    assert (outlines[0] != outlines[1]).mean() < 0.02


def test_emotions_are_seen(view: HeadView):
    neutral = view.draw(view.template.vertices).astype(float)
    shown = view.draw(worn(view.template, SURPRISE)).astype(float)
    assert np.abs(neutral - shown).mean() > 2
    mouth = (shown - neutral)[56:84, 36:60].mean(-1)
    assert (mouth < -60).sum() > 20, "an open mouth is darker than lips"


def test_sheets_have_their_rows_and_columns():
    head = builtin_head()
    views, beside = views_sheet(head, HAPPY, 48), emotions_sheet([head, head], 48, yaws=(0.0,))
    assert views.shape[1] > 5 * 48 and views.shape[0] > 3 * 48 and len(YAWS) == 5
    assert beside.shape[1] > 8 * 48 and beside.shape[0] > 2 * 48
    rows = beside[-2 * 48 - 2 :]
    assert np.array_equal(rows[:48, -48:], rows[-48:, -48:]), "the same head under the same light is the same picture"


def test_a_template_without_arkit_cannot_wear_an_emotion():
    nameless = dataclasses.replace(builtin_head(), expression_names=tuple(map(str, range(52))))
    with pytest.raises(ValueError, match="does not speak ARKit"):
        worn(nameless, HAPPY)
