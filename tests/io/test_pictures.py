"""Contact sheets and videos: right sizes, right order, marked as synthetic, and never half a file."""

import av
import numpy as np
import pytest
from PIL import Image

from emogs.io.sheet import GAP, contact_sheet, write_png
from emogs.io.video import write_video


def plain(value, height=40, width=60):
    return np.full((height, width, 3), value, np.uint8)


def test_sheet_without_labels_is_only_pictures():
    sheet = contact_sheet([[plain(10), plain(20)], [plain(30)]])
    assert sheet.shape == (2 * 40 + GAP, 2 * 60 + GAP, 3)
    assert (sheet[:40, :60] == 10).all()
    assert (sheet[:40, -60:] == 20).all()
    assert (sheet[-40:, :60] == 30).all()
    assert (sheet[-40:, -60:] == 255).all()


def test_labels_take_a_margin_and_leave_ink():
    sheet = contact_sheet([[plain(0), plain(0)]], columns=["left", "right"], labels=["row"])
    top, left = sheet.shape[0] - 40, sheet.shape[1] - 2 * 60 - GAP
    assert top > 10 < left
    assert (sheet[:top, left : left + 60] < 128).any()
    assert (sheet[:top, -60:] < 128).any()
    assert (sheet[top:, :left] < 128).any()
    assert (sheet[:top, :left] == 255).all()


def test_pictures_of_different_sizes_are_refused():
    with pytest.raises(ValueError, match="one size"):
        contact_sheet([[plain(0), plain(0, width=50)]])


def test_png_is_marked_as_synthetic(tmp_path):
    write_png(tmp_path / "a.png", plain(7))
    with Image.open(tmp_path / "a.png") as image:
        assert "ynthetic" in image.text["Comment"]
        assert (np.asarray(image) == 7).all()


def test_video_plays_everywhere_and_is_marked_as_synthetic(tmp_path):
    path = tmp_path / "a.mp4"
    assert write_video(path, (plain(10 * i, 33, 65) for i in range(10)), frames_per_second=25) == 10
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert "ynthetic" in container.metadata["comment"]
        assert (stream.codec_context.name, stream.pix_fmt) == ("h264", "yuv420p")
        assert stream.average_rate == 25
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]
    assert [frame.shape for frame in frames] == [(32, 64, 3)] * 10
    assert [round(float(frame.mean()) / 10) for frame in frames] == list(range(10))


@pytest.mark.parametrize("frames", [[], [plain(0), plain(0, width=50)]])
def test_a_failed_video_leaves_nothing(tmp_path, frames):
    with pytest.raises(ValueError, match="frames"):
        write_video(tmp_path / "a.mp4", frames)
    assert not list(tmp_path.iterdir())
