"""Pictures of head templates: every part is seen, emotions change them, and the sheets have their rows and columns."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from embreex import rtcore_scene
from embreex.mesh_construction import TriangleMesh

from emogs.head import builtin_head
from emogs.viewer.clay import Clay
from emogs.viewer.head_sheets import INTENSITIES, ONE_SIDED, compounds_sheet, intensities_sheet, sides_sheet
from emogs.viewer.heads import YAWS, HeadView, emotions_sheet, lit, views_sheet, worn

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


def test_brows_lips_and_irises_are_painted_where_the_landmarks_are():
    head = builtin_head()
    clay = Clay(head)

    def colour(vertices: torch.Tensor) -> np.ndarray:
        corners = head.faces[[int((head.faces == v).any(1).nonzero()[0]) for v in vertices]]
        share = (corners == vertices[:, None]).float().numpy()[..., None]
        return clay.colour(corners.numpy().astype(np.int32), share)

    cheek = colour(head.landmarks[[3, 13]]).mean()
    assert (colour(head.landmarks[18:26]).mean(1) < 0.8 * cheek).all(), "brows are dark"
    lips = colour(head.landmarks[[51, 57]])
    assert (lips[:, 0] / lips[:, 1] > 1.04 * clay.base[0, 0] / clay.base[0, 1]).all(), (
        "lips are red, half on their edge"
    )
    assert (colour(head.landmarks[[62, 66]]).mean(1) < 0.8 * cheek).all(), "and dark where they meet"
    pupil = head.faces[head.face_part == head.part_names.index("eye_left")].min()
    assert colour(pupil[None]).max() < 0.1


def test_grooves_between_teeth_are_darker_than_teeth():
    head = builtin_head()
    teeth = head.faces[head.face_part == head.part_names.index("teeth_upper")].unique()
    front = teeth[head.vertices[teeth, 2] > 0.104]
    shade = Clay(head).base[front, 0]
    assert shade.max() > 0.9 and shade.min() < 0.7 * shade.max()


def test_shadows_have_soft_edges():
    """Half of the lamp's disc is seen from where a hard shadow would begin, none well inside, all well outside."""
    scene = rtcore_scene.EmbreeScene()
    wall = np.array([[-9, -9, 1], [9, -9, 1], [9, 0, 1], [-9, 0, 1]], np.float32)
    TriangleMesh(scene, wall, np.array([[0, 1, 2], [0, 2, 3]], np.int32))
    height = np.repeat(np.linspace(-0.3, 0.3, 7), 61).astype(np.float32)
    places = np.stack([np.zeros_like(height), height, np.zeros_like(height)], 1)
    share = lit(scene, places, np.array([0, 0, 1], np.float32), 6).reshape(7, 61).mean(1)
    assert share[0] == 0 and share[-1] == 1 and abs(share[3] - 0.5) < 0.05
    assert 0.01 < share[2] < 0.4 and 0.6 < share[4] < 0.99


def test_one_sided_units_leave_the_other_side_alone():
    head = builtin_head()
    sheet = sides_sheet([head], 64)[-64:, -len(ONE_SIDED) * 66 + 2 :].astype(float)
    rest = HeadView(head, 64).draw(head.vertices).astype(float)
    for i, name in enumerate(ONE_SIDED):
        change = np.abs(sheet[:, 66 * i : 66 * i + 64] - rest)
        assert change[:, 36:].max() > 25 and change[:, :26].mean() < 0.03 * change[:, 36:].mean(), name


def test_intensities_grow():
    head = builtin_head()
    sheet = intensities_sheet([head], 64).astype(float)[:, -7 * 66 + 2 :]
    rest = HeadView(head, 64).draw(head.vertices).astype(float)
    rows = [sheet[len(sheet) - 64 - 66 * i :][:64] for i in reversed(range(len(INTENSITIES)))]
    change = np.array([[np.abs(row[:, 66 * k : 66 * k + 64] - rest).mean() for k in range(7)] for row in rows])
    assert (np.diff(change, axis=0) > 0).all()


def test_all_compounds_are_shown():
    sheet = compounds_sheet([builtin_head()], 40)
    assert sheet.shape[1] > 9 * 40 and sheet.shape[0] > 2 * 40


def test_a_template_without_arkit_cannot_wear_an_emotion():
    nameless = dataclasses.replace(builtin_head(), expression_names=tuple(map(str, range(52))))
    with pytest.raises(ValueError, match="does not speak ARKit"):
        worn(nameless, HAPPY)
