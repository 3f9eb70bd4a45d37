"""Reading photos of every kind, finding faces, and every refusal."""

from __future__ import annotations

import tracemalloc

import cv2
import numpy as np
import pytest
import skimage.data
from PIL import Image

from emogs.photo import PhotoError, detect, find_faces, load_photo
from emogs.photo.detect import LONGEST_SIDE, check_box, choose_face

PHOTO = skimage.data.astronaut()


def test_finds_the_astronaut_and_not_her_suit():
    ((left, top, width, height),) = find_faces(PHOTO)
    assert left < 225 < left + width and top < 115 < top + height  # the nose
    assert 80 < width < 120


def test_finds_the_same_box_at_other_sizes():
    box = np.array(find_faces(PHOTO)[0])
    for factor in (0.75, 3.0):
        scaled = cv2.resize(PHOTO, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
        assert np.abs(np.array(find_faces(scaled)[0]) / factor - box).max() < 8


def test_several_faces_must_be_chosen_between():
    faces = find_faces(np.concatenate([PHOTO, PHOTO], 1))
    assert len(faces) == 2
    with pytest.raises(PhotoError, match=r"2 faces.*--face N: 1 \(left.*, 2 \(left"):
        choose_face(faces)
    assert choose_face(faces, 2) == faces[1]
    with pytest.raises(PhotoError, match=r"no face 3; the photo has 1 \(left.*, 2 \(left"):
        choose_face(faces, 3)
    with pytest.raises(PhotoError, match="no face 0"):
        choose_face(faces, 0)


def test_a_bystander_is_not_asked_about():
    scene = np.concatenate([PHOTO, np.full_like(PHOTO, 200)], 1)
    scene[300:428, 700:828] = cv2.resize(PHOTO, (128, 128), interpolation=cv2.INTER_AREA)
    assert len(find_faces(scene)) == 1


@pytest.mark.parametrize("name", ["page", "camera"])  # the cascades take something in each for a face
def test_false_alarms_are_silenced(name):
    assert find_faces(cv2.cvtColor(getattr(skimage.data, name)(), cv2.COLOR_GRAY2RGB)) == []


def test_the_network_finds_what_the_cascades_miss(monkeypatch):
    monkeypatch.setattr(detect, "_CASCADES", ())
    ((left, top, width, height),) = find_faces(PHOTO)
    assert left < 225 < left + width and top < 115 < top + height


def test_no_face():
    with pytest.raises(PhotoError, match="no upright face"):
        choose_face(find_faces(cv2.cvtColor(skimage.data.brick(), cv2.COLOR_GRAY2RGB)))


def test_a_face_too_small_says_its_size():
    small = cv2.resize(PHOTO, (256, 256), interpolation=cv2.INTER_AREA)
    with pytest.raises(PhotoError, match=r"\d\d x \d\d pixels.*at least 64"):
        choose_face(find_faces(small))


@pytest.mark.parametrize("box", [(0, 0, 100), (0, 0, np.nan, 90), (0, 0, np.inf, 90), (0, 0, -80, 80), (5, 5, 20, 90)])
def test_impossible_boxes(box):
    with pytest.raises(PhotoError):
        check_box(box)


@pytest.mark.parametrize("image", [None, PHOTO[..., 0], PHOTO / 255.0, np.zeros((0, 0, 3), np.uint8), PHOTO[:40, :40]])
def test_arrays_that_are_no_photo(image):
    with pytest.raises(PhotoError):
        find_faces(image)


def test_reads_grey_transparent_palette_and_deep_images(tmp_path):
    colour = Image.fromarray(PHOTO)
    grey = np.asarray(colour.convert("L"))
    colour.convert("L").save(tmp_path / "grey.png")
    Image.fromarray(grey.astype(np.uint16) * 257).save(tmp_path / "deep.png")
    colour.convert("P").save(tmp_path / "palette.png")
    colour.convert("CMYK").save(tmp_path / "print.jpg")
    transparent = colour.convert("RGBA")
    transparent.putalpha(0)
    transparent.save(tmp_path / "transparent.png")
    assert np.array_equal(load_photo(tmp_path / "grey.png")[..., 1], grey)
    assert np.array_equal(load_photo(tmp_path / "deep.png")[..., 1], grey)
    assert (load_photo(tmp_path / "transparent.png") == 255).all()
    for name in ("palette.png", "print.jpg"):
        assert np.abs(load_photo(tmp_path / name).astype(int) - PHOTO).mean() < 20


def test_turns_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held a quarter turn
    Image.fromarray(np.rot90(PHOTO).copy()).save(tmp_path / "turned.jpg", exif=exif, quality=95)
    assert np.abs(load_photo(tmp_path / "turned.jpg").astype(int) - PHOTO).mean() < 5


def test_shrinks_huge_photos(tmp_path):
    Image.new("RGB", (6000, 3000)).save(tmp_path / "huge.jpg")
    assert max(load_photo(tmp_path / "huge.jpg").shape) <= LONGEST_SIDE


def test_unreadable_files_are_named(tmp_path):
    text, empty = tmp_path / "notes.jpg", tmp_path / "empty.png"
    text.write_text("not a photo")
    empty.touch()
    for path in (tmp_path / "missing.jpg", tmp_path, text, empty):
        with pytest.raises(PhotoError, match=path.name):
            load_photo(path)


@pytest.mark.parametrize("kind", ["png", "jpg", "gif", "bmp", "webp", "tiff"])
def test_damaged_files_raise_nothing_else(tmp_path, kind, recwarn):
    path = tmp_path / f"photo.{kind}"
    Image.fromarray(PHOTO[::4, ::4]).save(path)
    whole = np.frombuffer(path.read_bytes(), np.uint8)
    rng = np.random.default_rng(0)
    for attempt in range(40):
        damaged = whole.copy() if attempt % 2 else whole[: rng.integers(1, len(whole))].copy()
        damaged[rng.integers(0, min(len(damaged), 200), 6)] = rng.integers(0, 256, 6)
        path.write_bytes(damaged.tobytes())
        try:
            assert load_photo(path).ndim == 3
        except PhotoError as error:
            assert path.name in str(error)
    assert not recwarn.list  # nor does Pillow talk to the user


def test_a_chunk_that_says_it_is_huge_asks_for_no_memory(tmp_path, monkeypatch):
    """Pillow reads as many bytes as the last chunk of pixels claims to have left."""
    path = tmp_path / "a.png"
    Image.new("RGB", (70, 70)).save(path)
    data = bytearray(path.read_bytes())
    place = data.index(b"IDAT")
    data[place - 4 : place] = (2**31 - 1).to_bytes(4, "big")
    path.write_bytes(data)
    tracemalloc.start()
    try:
        assert load_photo(path).shape == (70, 70, 3)
        assert tracemalloc.get_traced_memory()[1] < 2**26
    finally:
        tracemalloc.stop()


def test_files_of_any_size_are_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr("emogs.photo.detect.MOST_BYTES", 99)
    (tmp_path / "a.png").write_bytes(bytes(100))
    with pytest.raises(PhotoError, match=r"a\.png: .*100 bytes, expected at most 99"):
        load_photo(tmp_path / "a.png")


def test_more_pixels_than_memory_should_hold_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("emogs.photo.detect.MOST_PIXELS", 99)
    Image.new("RGB", (10, 10)).save(tmp_path / "large.png")
    with pytest.raises(
        PhotoError, match=r"large\.png: cannot be read as a photo \(10 x 10 pixels, expected at most 99"
    ):
        load_photo(tmp_path / "large.png")


def test_what_is_no_picture_is_said_the_same_way_every_time(tmp_path):
    (tmp_path / "no.jpg").write_bytes(b"hello")
    with pytest.raises(PhotoError) as caught:
        load_photo(tmp_path / "no.jpg")
    assert str(caught.value) == f"{tmp_path / 'no.jpg'}: is no picture in a format known here"
