"""Rendered faces: the same seed gives the same picture, labels lie on the face, shards survive a stop."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from emogs.data import face_expressions, face_paint
from emogs.data.face_expressions import random_expression
from emogs.data.face_paint import Painter, to_linear
from emogs.data.faces import Face, FaceRenderer, camera_at, project, random_warp, warped, write_shard
from emogs.emotion import default_tables
from emogs.head import ARKIT_NAMES, builtin_head


@pytest.fixture(scope="module")
def renderer():
    return FaceRenderer(builtin_head())


def frontal(renderer: FaceRenderer, size: int = 96, yaw: float = 0.0) -> Face:
    """The mean head without expression, from one metre."""
    viewmat = camera_at(renderer.surface.landmarks[27:36].mean(0), yaw, 0.0, 0.0, 1.0)
    K = np.array([[4 * size, 0, size / 2], [0, 4 * size, size / 2], [0, 0, 1.0]])
    return Face(np.zeros(len(renderer.template.identity)), np.zeros(len(ARKIT_NAMES)), viewmat, K, size)


def test_same_seed_same_picture(renderer):
    first, second, other = (
        renderer.render(renderer.random_face(rng, size=48), rng)
        for rng in (np.random.default_rng(1), np.random.default_rng(1), np.random.default_rng(2))
    )
    assert np.array_equal(first.image, second.image) and np.array_equal(first.landmarks, second.landmarks)
    assert not np.array_equal(first.image, other.image)


def test_random_faces_are_in_the_picture(renderer):
    for seed in range(10):
        rng = np.random.default_rng(seed)
        picture = renderer.render(renderer.random_face(rng, size=48), rng)
        assert picture.image.shape == (48, 48, 3) and picture.image.dtype == np.uint8
        assert picture.image.std() > 3
        assert ((picture.landmarks > 0) & (picture.landmarks < 48)).all()


def test_labels_lie_on_what_they_name(renderer):
    """Turning all of a person's colours off but the iris would be a test too; here the eyes must be where eyes show."""
    face = frontal(renderer)
    picture = renderer.render(face, np.random.default_rng(0))
    left_eye, right_eye = picture.landmarks[42:48].mean(0), picture.landmarks[36:42].mean(0)
    assert left_eye[0] > right_eye[0]  # the subject's left is the picture's right
    assert abs(left_eye[1] - right_eye[1]) < 0.5
    assert picture.landmarks[8, 1] > picture.landmarks[57, 1] > picture.landmarks[30, 1] > left_eye[1]


def test_the_jaw_follows_the_silhouette(renderer):
    """Seen from the side, the far jaw's landmarks lie outside of where the template's own vertices project."""
    face = frontal(renderer, yaw=0.7)
    labels = renderer.render(face, np.random.default_rng(0)).landmarks
    vertices = renderer.template.vertices.numpy()[renderer.template.landmarks.numpy()]
    own = project(vertices, face)
    moved = np.linalg.norm(labels - own, axis=1)
    assert moved[17:].max() < 1e-3
    far = slice(9, 17) if own[16, 0] > own[0, 0] and moved[9:17].max() > moved[:8].max() else slice(0, 8)
    assert moved[far].max() > 1.0
    assert abs(labels[far, 0] - labels[30, 0]).mean() > abs(own[far, 0] - own[30, 0]).mean()


def test_expressions_are_bounded_and_sometimes_nothing():
    rng = np.random.default_rng(0)
    values = np.stack([random_expression(rng) for _ in range(300)])
    assert values.min() == 0 and values.max() <= 1
    assert 0.05 < (values.sum(1) == 0).mean() < 0.3  # neutral faces too
    assert (values > 0.2).any(0).sum() > 45  # and nearly every channel at times
    closed, opened = (values[:, ARKIT_NAMES.index(name)] for name in ("mouthClose", "jawOpen"))
    assert (closed <= opened).all()


def test_emotions_move_what_the_tables_say(monkeypatch):
    """With all else switched off faces show the channels that some emotion or compound moves, and no others."""
    for name in ("_NEUTRAL", "_MOUTH", "_STRAY", "_BLINK", "_LOOK"):
        monkeypatch.setattr(face_expressions, name, 0.0)
    monkeypatch.setattr(face_expressions, "_EMOTION", 1.0)
    rng = np.random.default_rng(0)
    shown = np.stack([random_expression(rng) for _ in range(400)]).max(0) > 0
    tables = default_tables()
    units = torch.cat([tables.prototypes, tables.compound_units]).amax(0)
    felt = (torch.einsum("us,use->e", units, tables.shapes) > 0).numpy()
    assert (shown == felt).all()


def test_mouths_are_action_units_of_articulation(monkeypatch):
    assert face_expressions._mouths().shape == (len(face_expressions.MOUTHS), len(default_tables().units), 2)
    monkeypatch.setattr(face_expressions, "MOUTHS", ("99=2",))
    face_expressions._mouths.cache_clear()
    with pytest.raises(ValueError, match="99"):
        face_expressions._mouths()
    face_expressions._mouths.cache_clear()


def test_a_person_keeps_identity_in_every_expression_and_view(renderer):
    first, second = (
        renderer.random_face(np.random.default_rng(3), expression=np.full(len(ARKIT_NAMES), value), yaw=yaw)
        for value, yaw in ((0.0, -0.5), (0.1, 0.5))
    )
    assert np.array_equal(first.identity, second.identity) and np.array_equal(first.warp, second.warp)
    assert first.expression.max() == 0 and second.expression.min() == pytest.approx(0.1)
    turned = [np.arctan2(*(face.viewmat[2, [0, 2]] * -1)) for face in (first, second)]
    assert abs(abs(turned[0] - turned[1]) - 1.0) < 0.1


def test_a_warp_makes_another_symmetric_head(renderer):
    rest = renderer.template.vertices.numpy()
    moved = warped(random_warp(np.random.default_rng(0)), rest)
    mirrored = warped(random_warp(np.random.default_rng(0)), rest * [-1, 1, 1])
    assert np.allclose(moved, mirrored * [-1, 1, 1], atol=1e-6)
    assert 5e-4 < np.abs(moved).mean() < 5e-3 and np.abs(moved).max() < 0.015
    edges = renderer.surface.faces[:, :2]
    before, after = (np.diff(points[edges], axis=1)[:, 0] for points in (rest, rest + moved))
    long = np.linalg.norm(before, axis=1) > 1e-3
    assert ((before * after).sum(1)[long] > 0).all()  # nothing folds over
    assert not warped(np.zeros((0, 7)), rest).any()


def test_the_template_wears_its_own_texture(renderer):
    """Colours of whole triangles' corners are the texture's there; props have none; a plain template has no texture."""
    triangles = np.arange(0, len(renderer.template.faces), 7)
    corner = np.tile([1.0, 0.0, 0.0], (len(triangles), 1))
    worn = renderer._wear(triangles, corner)
    texture = renderer.texture
    place = renderer.template.uv.numpy()[renderer.template.faces_uv.numpy()[triangles, 0]]
    column, row = (place * texture.shape[1::-1]).astype(int).clip(0, texture.shape[0] - 1).T
    assert np.abs(worn - texture[row, column]).mean() < 0.02
    assert not renderer._wear(np.array([len(renderer.template.faces)]), corner[:1]).any()
    plain = replace(renderer.template, albedo=torch.full((8, 8, 3), 0.6))
    assert FaceRenderer(plain).texture is None


def test_worn_skin_has_the_texture_in_the_persons_tone(renderer, monkeypatch):
    monkeypatch.setattr(face_paint, "_OWN_TEXTURE", 1.0)
    skin = renderer.surface.fields[renderer.template.landmarks.numpy()[30:31]].repeat(400, 0)  # the tip of the nose
    texture = to_linear(np.tile([[0.78, 0.60, 0.51], [0.3, 0.22, 0.17]], (200, 1)))
    texture[:20] = texture[0]  # a little more skin than hair, so that the median is skin
    for seed in range(5):
        painter = Painter(renderer.surface, np.random.default_rng(seed))
        albedo = painter.paint(np.full(400, "skin"), skin, texture.astype(np.float32))
        assert (albedo[20::2].mean(0) > 1.5 * albedo[21::2].mean(0)).all()
        assert np.abs(np.log(albedo[20::2].mean(0) / painter.skin)).max() < 0.5


def test_templates_that_cannot_be_rendered_are_refused():
    head = builtin_head()
    with pytest.raises(ValueError, match="landmarks"):
        FaceRenderer(replace(head, landmarks=torch.zeros(0, dtype=torch.int64)))
    with pytest.raises(ValueError, match="retarget"):
        FaceRenderer(replace(head, expression_names=tuple(f"expression{i}" for i in range(52))))
    with pytest.raises(ValueError, match="eye_left"):
        FaceRenderer(replace(head, part_names=("skin", "left", *head.part_names[2:])))


def test_shards_are_whole_and_kept(renderer, tmp_path):
    path = write_shard(renderer, tmp_path, 3, 2, seed=5)
    with np.load(path) as data:
        assert data["image"].shape == (2, 144, 144, 3) and data["landmarks"].shape == (2, 68, 2)
        again = Face(*(data[name][1] for name in ("identity", "expression", "viewmat", "K")), 144, data["warp"][1])
        marks = renderer._landmarks(again, renderer._vertices(again))
        assert np.allclose(marks, data["landmarks"][1], atol=1e-3)  # the file says all that the labels depend on
    written = path.stat().st_mtime_ns
    assert write_shard(renderer, tmp_path, 3, 2, seed=5).stat().st_mtime_ns == written
    assert [p.name for p in tmp_path.iterdir()] == ["faces-5-000006-000007.npz"]
    other = write_shard(renderer, tmp_path, 3, 2, seed=6)
    with np.load(path) as one, np.load(other) as two:
        assert not np.array_equal(one["image"], two["image"])
