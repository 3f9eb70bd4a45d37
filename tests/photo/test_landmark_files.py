"""Landmarks over time from the files that trackers and scripts write; what is wrong with one is a FormatError."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from emogs.io.files import FormatError
from emogs.photo import load_landmarks

POINTS = np.random.default_rng(0).uniform(100, 400, (6, 68, 2)).round(3)


def csv_text(points: np.ndarray, head: str = "", first: str = "") -> str:
    names = [f"{axis}_{i}" for axis in "xy" for i in range(points.shape[1])]
    lines = [head + ",".join(names)]
    for k, frame in enumerate(points):
        start = first.format(k=k, t=k / 25) if first else ""
        lines.append(start + ",".join(str(value) for value in frame.T.ravel()))
    return "\n".join(lines)


def written(folder: Path, name: str, content: object) -> Path:
    path = folder / name
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_arrays(tmp_path):
    trust = np.full((6, 68), 0.5)
    np.savez(tmp_path / "a.npz", landmarks=POINTS, visibility=trust, fps=25, size=[640, 480])
    read = load_landmarks(tmp_path / "a.npz")
    assert np.array_equal(read.landmarks, POINTS) and np.array_equal(read.visibility, trust)
    assert read.fps == 25 and read.size == (640, 480)
    np.save(tmp_path / "a.npy", np.concatenate([POINTS, POINTS[..., :1]], -1))
    read = load_landmarks(tmp_path / "a.npy", fps=30)
    assert np.array_equal(read.landmarks, POINTS) and read.fps == 30 and read.visibility is None


def test_openface_csv_with_failed_frames_and_a_clock(tmp_path):
    points = np.concatenate([csv_text(POINTS).splitlines()])
    lines = csv_text(POINTS, "frame, timestamp, success, ", "{k}, {t}, 1, ").splitlines()
    lines[0] += ", " + ", ".join(f"X_{i}" for i in range(2))  # three-dimensional ones, which are no pixels
    lines[1:] = [line + ", 1.5, 2.5" for line in lines[1:]]
    lines[3] = lines[3].replace(", 1, ", ", 0, ", 1)  # the tracker failed
    del lines[5]  # the video dropped a frame
    read = load_landmarks(written(tmp_path, "openface.csv", "\n".join(lines)))
    assert read.fps == pytest.approx(25) and read.landmarks.shape == (6, 68, 2) and len(points) == 7
    assert read.landmarks[[2, 4]].isnan().all()
    assert np.allclose(read.landmarks[[0, 1, 3, 5]], POINTS[[0, 1, 3, 5]])


def test_csv_with_a_row_a_point(tmp_path):
    rows = [f"{k},{i},{x},{y},0.9" for k, frame in enumerate(POINTS, 7) if k != 9 for i, (x, y) in enumerate(frame)]
    read = load_landmarks(written(tmp_path, "long.csv", "\n".join(["Frame,landmark,X,Y,visibility", *rows])))
    assert read.landmarks.shape == (6, 68, 2) and read.landmarks[2].isnan().all() and read.fps is None
    assert np.allclose(read.landmarks[[0, 1, 3]], POINTS[[0, 1, 3]]) and float(read.visibility[0, 0]) == 0.9


def test_csv_with_visibility_in_the_frame_s_row(tmp_path):
    text = "x_0,y_0,v_0,x_1,y_1,v_1\n1,2,0.5,3,4,1\n1,2,,3,4,0.25"
    read = load_landmarks(written(tmp_path, "seen.csv", text))
    assert read.visibility is not None and read.visibility.tolist() == [[0.5, 1], [0, 0.25]]


@pytest.mark.parametrize("form", ["lists", "objects", "mediapipe"])
def test_json(tmp_path, form):
    frames: list[object] = []
    for frame in POINTS.tolist():
        points = frame if form == "lists" else [{"x": x, "y": y, "z": 0.1, "visibility": 0.0} for x, y in frame]
        frames.append({"face_landmarks": [points]} if form == "mediapipe" else points)
    frames[3] = {"face_landmarks": []} if form == "mediapipe" else None
    content = frames if form == "lists" else {"fps": 30, "size": [640, 480], "frames": frames}
    read = load_landmarks(written(tmp_path, "a.json", content), fps=24 if form == "lists" else None)
    assert read.landmarks[3].isnan().all() and np.array_equal(read.landmarks[[0, 5]], POINTS[[0, 5]])
    assert read.fps == (24 if form == "lists" else 30) and read.visibility is None, "0 is MediaPipe's for not told"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", "1 2", "expected a file .npz, .npy, .csv, .json"),
        ("a.npz", "no zip", "file: not readable"),
        ("a.npy", "no array", "file: not readable"),
        ("a.csv", "", "rows: expected at least one row"),
        ("a.csv", "a,b\n1,2", "head: expected x_0, y_0"),
        ("a.csv", "x_0,y_0,x_2,y_2\n1,2,3,4", "head: expected x_0, y_0"),
        ("a.csv", "x_0,x_0\n1,2", "head: expected each name once"),
        ("a.csv", "x_0,y_0\n1", "row 2: expected 2 columns"),
        ("a.csv", "x_0,y_0\n1,smile", "row 2, column 'y_0': expected a number"),
        ("a.csv", "time,x_0,y_0\n1,1,1\n1,1,1", "frame 1: expected a time after"),
        ("a.csv", "time,x_0,y_0\n0,1,1\n1,1,1\n2,1,1\n1e9,1,1", "time: expected at most"),
        ("a.csv", "time,x_0,y_0\n0,1,1\n1,1,1\n2,1,1\n1e30,1,1", "time: expected at most 10800 frames for 4 rows"),
        ("a.csv", "time,x_0,y_0\n0,1,1\n1,1,1\n2,1,1\n20000,1,1", "time: expected at most 10800 frames for 4 rows"),
        ("a.csv", "time,x_0,y_0\n0,1,1\n1e-320,1,1\n2e-320,1,1", "time: expected at most"),
        ("a.csv", "x_0,y_0,x_1,y_1,v_1\n1,2,3,4,1", "head: expected v_0 to v_1"),
        ("a.csv", "frame,landmark,x,y\n0,0.5,1,1", "row 2, column 'landmark': expected a count"),
        ("a.csv", "frame,landmark,x,y\n0,0,1,1\n999999,9999,1,1", "expected rows for most"),
        ("a.json", "[", "JSON: not readable"),
        ("a.json", "[]", "frames: expected a list of frames"),
        ("a.json", '{"frames": 3}', "frames: expected a list of frames"),
        ("a.json", '[[[1, 2], "x"]]', "frame 0, point 1: expected"),
        ("a.json", "[[[1, 2]], [[1, 2], [3, 4]]]", "frame 0: expected 2 points as in other frames, got 1"),
        ("a.json", '{"fps": -1, "frames": [[[1, 2]]]}', "fps: expected a number above 0"),
        ("a.json", '{"size": 3, "frames": [[[1, 2]]]}', "size: expected width and height"),
        ("a.json", '[{"time": "now", "landmarks": [[1, 2]]}]', "frame 0: expected a time"),
        ("a.json", f"[[[1{400 * '0'}, 2]]]", "frame 0, point 0: expected"),
        ("a.json", "[null]", "frames: expected frames of points"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, name, content, message):
    with pytest.raises(FormatError, match=message.replace("[", r"\[")):
        load_landmarks(written(tmp_path, name, content))


def test_mutated_files_give_format_errors_only(tmp_path):
    """Bytes changed, cut and doubled at random."""
    rng = np.random.default_rng(1)
    small = POINTS[:3, :5]
    np.savez(tmp_path / "s.npz", landmarks=small, fps=25)
    objects = {
        "fps": 30,
        "frames": [[{"x": x, "y": y, "visibility": 0.5} for x, y in frame] for frame in small.tolist()],
    }
    sources = {
        ".csv": csv_text(small, "timestamp,", "{t},").encode(),
        ".json": json.dumps(objects).encode(),
        ".npz": (tmp_path / "s.npz").read_bytes(),
    }
    refused = 0
    for _ in range(200):
        for ending, data in sources.items():
            changed = bytearray(data)
            for _ in range(int(rng.integers(1, 4))):
                changed[int(rng.integers(len(changed)))] = int(rng.integers(256))
            cut = int(rng.integers(len(changed))) if rng.random() < 0.3 else len(changed)
            path = tmp_path / f"m{ending}"
            path.write_bytes(bytes(changed[:cut]))
            try:
                load_landmarks(path)
            except FormatError:
                refused += 1
    assert refused > 100
