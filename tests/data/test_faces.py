"""Rendered faces: the same seed gives the same picture, labels lie on the face, shards survive a stop."""

from __future__ import annotations

import numpy as np
import pytest

from emogs.data.faces import EXPRESSIONS, Face, FaceRenderer, camera_at, project, random_expression, write_shard
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


def test_expressions_are_named_and_bounded():
    rng = np.random.default_rng(0)
    values = np.stack([random_expression(rng) for _ in range(300)])
    assert values.min() == 0 and values.max() <= 1
    assert (values.sum(1) == 0).mean() > 0.05  # neutral faces too
    used = {name for pattern in EXPRESSIONS.values() for name in pattern}
    assert all(any(channel.startswith(name) for channel in ARKIT_NAMES) for name in used)
    closed, opened = (values[:, ARKIT_NAMES.index(name)] for name in ("mouthClose", "jawOpen"))
    assert (closed <= opened).all()


def test_shards_are_whole_and_kept(renderer, tmp_path):
    path = write_shard(renderer, tmp_path, 3, 2, seed=5)
    with np.load(path) as data:
        assert data["image"].shape == (2, 144, 144, 3) and data["landmarks"].shape == (2, 68, 2)
        assert {"expression", "viewmat", "K"} <= set(data.files)
    written = path.stat().st_mtime_ns
    assert write_shard(renderer, tmp_path, 3, 2, seed=5).stat().st_mtime_ns == written
    assert [p.name for p in tmp_path.iterdir()] == ["faces-003.npz"]
