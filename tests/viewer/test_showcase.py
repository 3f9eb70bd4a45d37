"""What the demonstration shows: which emotion, which view, before which backdrop - with a fake avatar that tells."""

import av
import numpy as np
import pytest
import torch
from PIL import Image

from emogs.emotion import parse_emotion
from emogs.io.ply import load_ply
from emogs.io.sheet import GAP
from emogs.viewer import showcase

from .fakes import FakeAvatar, fake_photo_avatar

SIZE = 64


def seen(picture):
    """Red, green, blue in [0, 1] where the fake avatar is opaque."""
    return picture[picture.shape[0] // 2, -4] / 255


def test_portraits_run_over_cameras_fastest():
    avatar = FakeAvatar()
    cameras = avatar.orbit(torch.tensor([-30.0, 30.0]), size=SIZE)
    pictures = showcase.portraits(avatar, cameras, torch.tensor([[0.2] + [0.0] * 6, [0.8] + [0.0] * 6]))
    assert [tuple(seen(p)[:2].round(1)) for p in pictures] == [(0.0, 0.2), (1.0, 0.2), (0.0, 0.8), (1.0, 0.8)]


def test_the_backdrop_shows_where_the_avatar_does_not_and_fades_outwards():
    (picture,) = showcase.portraits(FakeAvatar(), FakeAvatar().orbit(size=SIZE))
    grey = picture[:, : SIZE // 2]
    assert (grey == grey[..., :1]).all()
    assert grey[SIZE // 2, -1, 0] == pytest.approx(255 * showcase.CENTRE_GREY, abs=2)
    assert grey[0, 0, 0] == pytest.approx(255 * showcase.CORNER_GREY, abs=2)


@pytest.mark.parametrize("below", [showcase.CLOSE, showcase.WIDE])
def test_framing_runs_from_above_the_hair_to_below_the_chin(below):
    """The fake's head reaches from -10 cm to 0, seen from one metre; its crown and chin land where they should."""
    cameras = showcase.framed(FakeAvatar(), SIZE, below, torch.tensor([0.0, 20.0]))
    focal, middle = cameras.Ks[1, 1, 1], cameras.Ks[1, 1, 2]
    assert cameras.Ks[0, 0, 2] == pytest.approx(SIZE / 2)
    whole = 1 + showcase.ABOVE + below
    assert middle == pytest.approx(SIZE * showcase.ABOVE / whole, abs=1e-3)
    assert middle + 0.1 * focal == pytest.approx(SIZE * (1 + showcase.ABOVE) / whole, abs=1e-3)


def test_reconstruction_is_photo_own_expression_and_neutral():
    sheet = showcase.reconstruction(fake_photo_avatar(), SIZE)
    photo, own, rest = (sheet[-SIZE:, i * (SIZE + GAP) : i * (SIZE + GAP) + SIZE] for i in range(3))
    assert (photo[: SIZE * 5 // 8] == 64).all()
    assert photo[-SIZE // 8 :].min() > 64  # beyond the photo
    assert seen(own)[2] == pytest.approx(0.52, abs=0.01)
    assert seen(rest)[2] == 0


def test_sheets_have_their_rows_and_columns():
    half = SIZE // 2
    for sheet, rows, columns in (
        (showcase.emotion_sheet(FakeAvatar(), SIZE), 2, 7),
        (showcase.turn_sheet(FakeAvatar(), SIZE), 3, 8),
    ):
        height, width = rows * (half + GAP) - GAP, columns * (half + GAP) - GAP
        margins = sheet.shape[0] - height, sheet.shape[1] - width
        assert margins[0] == margins[1] > 0


def test_the_turn_starts_neutral_and_feels_most_in_the_middle():
    frames = list(showcase.turn_frames(FakeAvatar(), parse_emotion("happy=0.8"), SIZE))
    turn, feel, _ = np.stack([seen(frame) for frame in frames]).T
    assert len(frames) == showcase.SECONDS * showcase.FRAMES_PER_SECOND
    assert feel[0] == 0
    assert feel[len(frames) // 2] == feel.max() == pytest.approx(0.8, abs=0.01)
    assert (turn.min(), turn.max()) == pytest.approx((0, 1), abs=0.01)
    assert np.abs(np.diff(turn, append=turn[:1])).max() < 0.05


def test_everything_is_written_and_only_that_is_replaced(tmp_path):
    folder, stages = tmp_path / "new" / "folder", []
    shows = showcase.write_showcase(
        fake_photo_avatar(), parse_emotion("awed"), folder, size=SIZE, progress=stages.append
    )
    assert {file.name for file in folder.iterdir()} == set(shows)
    assert len(stages) == len(shows) == 7
    (folder / "emotion.png").write_text("old")
    (folder / "mine.txt").write_text("mine")
    showcase.write_showcase(fake_photo_avatar(), parse_emotion("awed"), folder, size=SIZE)
    assert (folder / "mine.txt").read_text() == "mine"
    with Image.open(folder / "emotion.png") as image:
        assert image.size == (SIZE, SIZE)
        assert "ynthetic" in image.text["Comment"]
    with av.open(str(folder / "turn.mp4")) as video:
        assert video.streams.video[0].frames == showcase.SECONDS * showcase.FRAMES_PER_SECOND
    torch.testing.assert_close(load_ply(folder / "avatar.ply").means, FakeAvatar().posed(parse_emotion("awed")).means)
