"""Files of emotions over time: there and back bit for bit, trackers' files as they are, errors that show the place."""

import json
import math

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from emogs.emotion import (
    EMOTIONS,
    Track,
    convert,
    default_tables,
    expression_from_emotion,
    languages,
    load_track,
    parse_action_units,
    pulse,
    save_track,
)
from emogs.emotion import tracks as module
from emogs.head.template import ARKIT_NAMES
from emogs.io.files import FormatError

LANGUAGES = languages()
FILE = settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], max_examples=25)


@st.composite
def recordings(draw):
    """Any track in any language."""
    spoken = LANGUAGES[draw(st.sampled_from(list(LANGUAGES)))]
    steps = draw(st.lists(st.floats(1e-3, 10), min_size=1, max_size=4))
    times = torch.tensor(steps, dtype=torch.float64).cumsum(0) - draw(st.floats(0, 5))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    share = torch.rand(len(steps), len(spoken.columns), generator=generator)
    share = share * (torch.rand(share.shape, generator=generator) < 0.7)
    values = (spoken.low + share * (spoken.high - spoken.low)) / spoken.scale
    ease = draw(st.sampled_from(["linear", "hold"]))
    return Track(spoken.name, times, values.reshape(len(steps), *spoken.shape), ease)


@FILE
@given(track=recordings(), ending=st.sampled_from([".csv", ".json"]))
def test_files_come_back_bit_for_bit(tmp_path, track, ending):
    file = tmp_path / f"track{ending}"
    save_track(file, track)
    back = load_track(file)
    assert back.language == track.language
    assert torch.equal(back.times, track.times)
    assert torch.equal(back.values, track.values)
    assert back.ease == (track.ease if ending == ".json" else "linear")
    assert not back.ignored


@FILE
@given(order=st.permutations(EMOTIONS))
def test_the_order_of_columns_does_not_matter(tmp_path, order):
    file = tmp_path / "codes.csv"
    file.write_text(f"{','.join(order)},time\n{','.join(str(0.1 * EMOTIONS.index(name)) for name in order)},0.5\n")
    track = load_track(file)
    torch.testing.assert_close(track.values, 0.1 * torch.arange(7.0)[None])
    assert track.times.tolist() == [0.5]


def test_other_names_and_missing_columns(tmp_path):
    file = tmp_path / "codes.csv"
    file.write_text("\ufefftimestamp, Happiness ,ANGRY,subject\n0,0.5,0.25,7\n\n1,1,0,7\n", encoding="utf-8")
    track = load_track(file)
    assert track.values.tolist() == [[0.5, 0, 0, 0, 0.25, 0, 0], [1, 0, 0, 0, 0, 0, 0]]
    assert track.ignored == ("subject",)


def test_openface(tmp_path):
    """Both sides of each intensity, presence left out, failed frames too."""
    file = tmp_path / "openface.csv"
    file.write_text(
        "frame, face_id, timestamp, confidence, success, AU01_r, AU12_r, AU45_r, AU12_c, AU28_c\n"
        "1, 0, 0.000, 0.98, 1, 0.00, 2.50, 0.10, 1, 0\n"
        "2, 0, 0.033, 0.02, 0, 5.00, 5.00, 5.00, 1, 1\n"
        "3, 0, 0.067, 0.98, 1, 1.00, 3.00, 0.00, 1, 0\n"
    )
    track = load_track(file)
    assert (track.language, track.skipped, len(track.times)) == ("action units", 1, 2)
    torch.testing.assert_close(track.values[0], parse_action_units("12=2.5,45=0.1"))
    torch.testing.assert_close(track.values[1], parse_action_units("1=1,12=3"))
    assert {"frame", "AU12_c", "AU28_c"} <= set(track.ignored)


def test_live_link_face(tmp_path):
    file = tmp_path / "livelink.csv"
    names = [name[0].upper() + name[1:] for name in ARKIT_NAMES]
    head = f"Timecode,BlendshapeCount,{','.join(names)},HeadYaw"
    rows = [f"10:00:01:{frame:02d}.500,61,{','.join(['0.25'] * 52)},0.1" for frame in (0, 30)]
    file.write_text("\n".join([head, *rows]))
    track = load_track(file, fps=60)
    assert track.times.tolist() == [36001 + 0.5 / 60, 36001 + 30.5 / 60]
    assert torch.equal(track.values, torch.full((2, 52), 0.25))
    assert track.ignored == ("BlendshapeCount", "HeadYaw")
    with pytest.raises(FormatError, match="give fps"):
        load_track(file)


def test_rows_can_be_frames(tmp_path):
    file = tmp_path / "rows.csv"
    file.write_text("happy\n0\n1\n")
    assert load_track(file, fps=25).times.tolist() == [0, 0.04]
    file.write_text("frame,happy\n10,0\n20,1\n")
    assert load_track(file, fps=10).times.tolist() == [1, 2]


def test_json_by_hand(tmp_path):
    file = tmp_path / "play.json"
    frames = [{"time": 0, "values": "neutral"}, {"time": 1, "values": "awed"}, {"time": 2, "values": {"sadness": 0.5}}]
    file.write_text(json.dumps({"language": "emotion", "ease": "minimum jerk", "frames": frames}))
    track = load_track(file)
    assert track.values[1].tolist() == [0, 0, 0.75, 0.25, 0, 0, 0]
    half = track.trajectory().at(torch.tensor([1.5]))[0]
    torch.testing.assert_close(half, torch.tensor([0, 0.25, 0.375, 0.125, 0, 0, 0]))


@pytest.mark.parametrize("fps", [24, 25, 60])
def test_resampling_keeps_what_is_felt_when(fps):
    smile = pulse(torch.eye(7)[0], 0.4, 0.5, 0.6)
    recorded = Track("emotion", smile.times, smile.values, smile.ease)
    torch.testing.assert_close(recorded.resampled(fps).values, smile.frames(fps))


CSV_FAULTS = [
    ("", "row 1: expected a head of column names"),
    ("time,happy\n", "rows: expected at least one row"),
    ("time,happy\n0,1,2\n", "row 2: expected 2 columns as in the head, got 3"),
    ("time,happy\n0,much\n", "row 2, column 'happy': expected a number from 0 to 1, got 'much'"),
    ("time,happy\n0,\n", "row 2, column 'happy': expected a number from 0 to 1, got ''"),
    ("time,happy\n0,1.5\n", "row 2, column 'happy': expected a number from 0 to 1, got '1.5'"),
    ("time,happy\n0,nan\n", "got 'nan'"),
    ("time,happy\n0,1_0\n", "got '1_0'"),
    ("time,happy\n0,0x1\n", "got '0x1'"),
    ("time,happy\n0,1\n\n0,1\n", "row 4: expected a time after 0 s, got 0 s"),
    ("time,happy\nsoon,1\n", "row 2, column 'time': expected seconds or a frame number, got 'soon'"),
    ("time,happy\n1e99,1\n", "expected seconds"),
    ("happy\n1\n", "head: expected a column time or timestamp or seconds, or frames at a known rate"),
    ("time,joyful\n0,1\n", "head: expected columns of one of these languages: emotion: happy, sad"),
    ("time,happy,Happiness\n0,1,1\n", "head: expected happy once, got 'happy' and 'Happiness'"),
    ("time,AU12,L12\n0,1,1\n", "head: expected L12 once, got 'AU12' and 'L12'"),
    ("time,AU12_r\n0,6\n", "expected a number from 0 to 5, got '6'"),
    ("time,jawOpen\n0,73\n", "expected a number from -2 to 2, got '73'"),
    ('time,happy\n0,"' + "1" * 200_000 + '"\n', "field larger than field limit"),
]


@pytest.mark.parametrize(("text", "message"), CSV_FAULTS)
def test_faults_of_csv_are_shown_by_place(tmp_path, text, message):
    file = tmp_path / "fault.csv"
    file.write_text(text)
    with pytest.raises(FormatError) as error:
        load_track(file)
    assert message in str(error.value)
    assert str(file) in str(error.value)


JSON_FAULTS = [
    ("{", "JSON: line 1, column 2: expected property name enclosed in double quotes, got the end of the file"),
    ('{"frames": [\n{"time" 0}]}', "JSON: line 2, column 9: expected ':' delimiter, got '0}]}'"),
    ('{"frames": [1,\n]}', "fault.json: JSON: line "),
    ("[" * 100_000, "JSON: "),
    ("[]", "frames: expected an object with a list of frames, got []"),
    ('{"frames": []}', "frames: expected at least one frame"),
    ('{"frames": [1]}', "language: language '' is unknown"),
    ('{"language": "klingon", "frames": [1]}', "language 'klingon' is unknown; known: emotion, regions"),
    ('{"language": 7, "frames": [1]}', "language '7' is unknown"),
    ('{"language": "emotion", "ease": "bounce", "frames": [1]}', "ease: expected one of minimum jerk, linear, hold"),
    ('{"language": "emotion", "ease": [], "frames": [1]}', "ease: expected one of"),
    ('{"language": "emotion", "frames": [1]}', "frame 0: expected an object of time and values, got 1"),
    ('{"language": "emotion", "frames": [{"values": {}}]}', "frame 0: expected a time in seconds"),
    ('{"language": "emotion", "frames": [{"time": true, "values": {}}]}', "frame 0, time: expected a number"),
    ('{"language": "emotion", "frames": [{"time": 1e999, "values": {}}]}', "frame 0, time"),
    ('{"language": "emotion", "frames": [{"time": NaN, "values": {}}]}', "expected numbers, got NaN"),
    (
        '{"language": "emotion", "frames": [{"time": 0, "values": {"joy": 1}}]}',
        "frame 0, values: expected a name",
    ),
    (
        '{"language": "emotion", "frames": [{"time": 0, "values": {"happy": "1"}}]}',
        "frame 0, 'happy': expected",
    ),
    ('{"language": "emotion", "frames": [{"time": 0, "values": {"happy": 1, "happiness": 1}}]}', "each name once"),
    ('{"language": "emotion", "frames": [{"time": 0, "values": {"happy": 1, "happy": 1}}]}', "'happy' again"),
    ('{"language": "emotion", "frames": [{"time": 0, "values": "hapy"}]}', "did you mean 'happy'"),
    (
        '{"language": "arkit", "frames": [{"time": 0, "values": "happy"}]}',
        "expected names and numbers such as browDownLeft",
    ),
    ('{"language": "arkit", "frames": [{"time": 0, "values": 7}]}', "expected a text or an object of numbers, got 7"),
    ('{"language": "emotion", "frames": [{"time": 0, "values": {"happy": ' + "9" * 5000 + "}}]}", "JSON: Exceeds"),
]


@pytest.mark.parametrize(("text", "message"), JSON_FAULTS)
def test_faults_of_json_are_shown_by_place(tmp_path, text, message):
    file = tmp_path / "fault.json"
    file.write_text(text)
    with pytest.raises(FormatError) as error:
        load_track(file)
    assert message in str(error.value)
    assert str(file) in str(error.value)


def test_other_faults(tmp_path, monkeypatch):
    file = tmp_path / "fault.csv"
    file.write_bytes(b"time,happy\n0,\xff\n")
    with pytest.raises(FormatError, match="byte 13: expected UTF-8"):
        load_track(file)
    with pytest.raises(FormatError, match=r"expected a file \.csv or \.json, got '\.txt'"):
        load_track(tmp_path / "fault.txt")
    with pytest.raises(FileNotFoundError):
        load_track(tmp_path / "none.csv")
    with pytest.raises(ValueError, match="fps: expected a number above 0"):
        load_track(file, fps=-1)
    with pytest.raises(ValueError, match="language 'klingon' is unknown"):
        load_track(file, language="klingon")
    with pytest.raises(ValueError, match=r"values: expected \[3, 7\] for regions, got \[2, 7\]"):
        save_track(file, Track("regions", torch.zeros(1), torch.zeros(1, 2, 7)))
    with pytest.raises(ValueError, match=r"\.csv or \.json"):
        save_track(tmp_path / "fault.txt", Track("emotion", torch.zeros(1), torch.zeros(1, 7)))
    file.write_text("time,happy\n0,1\n")
    monkeypatch.setattr(module, "LARGEST_FILE", 5)
    with pytest.raises(FormatError, match="size: expected at most 5 bytes, got 15"):
        load_track(file)


def test_a_rate_may_not_move_frames_beyond_all_time(tmp_path):
    file = tmp_path / "slow.csv"
    for text in ("happy\n0\n1\n", "frame,happy\n0,0\n1,1\n", "Timecode,happy\n0:0:0:0,0\n0:0:0:1,1\n"):
        file.write_text(text)
        with pytest.raises(FormatError, match=r"row 3: expected seconds up to 1e\+09, got 1e\+10 at fps=1e-10"):
            load_track(file, language="emotion", fps=1e-10)


ZERO, SECOND = torch.zeros(1), torch.arange(2.0)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (("klingon", ZERO, torch.zeros(1, 7)), ValueError, "language 'klingon' is unknown; known: emotion, regions,"),
        ((7, ZERO, torch.zeros(1, 7)), ValueError, "language '7' is unknown"),
        (("emotion", [0.0], torch.zeros(1, 7)), TypeError, "times: expected a tensor, got list"),
        (
            ("emotion", torch.arange(2), torch.zeros(2, 7)),
            TypeError,
            "times: expected floating-point numbers, got torch",
        ),
        (("emotion", ZERO, None), TypeError, "values: expected a tensor, got NoneType"),
        (
            ("emotion", SECOND, torch.zeros(3, 7)),
            ValueError,
            r"Track: expected times \[T\] and values \[T, 7\] for emotion, T at least 1, got \[2\] and \[3, 7\]",
        ),
        (("emotion", ZERO, torch.zeros(1, 6)), ValueError, r"values \[T, 7\] for emotion, .* got \[1\] and \[1, 6\]"),
        (("emotion", torch.zeros(0), torch.zeros(0, 7)), ValueError, r"T at least 1, got \[0\] and \[0, 7\]"),
        (("emotion", torch.zeros(1, 1), torch.zeros(1, 7)), ValueError, r"got \[1, 1\] and \[1, 7\]"),
        (("regions", ZERO, torch.zeros(1, 7)), ValueError, r"values \[T, R, 7\] for regions, .* and \[1, 7\]"),
        (("action units", ZERO, torch.zeros(1, 9, 3)), ValueError, r"values \[T, U, 2\] for action units, "),
        (("pain", ZERO, torch.zeros(1, 1)), ValueError, r"values \[T\] for pain, T at least 1, got \[1\] and \[1, 1\]"),
        (
            ("emotion", 1 - SECOND, torch.zeros(2, 7)),
            ValueError,
            "times: .*, each later than the one before, got 0 after 1",
        ),
        (("pain", SECOND * math.inf, torch.zeros(2)), ValueError, "times: expected finite seconds, .*, got nan"),
        (("pain", ZERO + 2e9, ZERO), ValueError, r"times: expected numbers from -1e\+09 to 1e\+09, got 2e\+09"),
        (("emotion", ZERO, torch.full((1, 7), math.nan)), ValueError, "values: expected .* for emotion, got nan"),
        (
            ("emotion", ZERO, torch.full((1, 7), 2.0)),
            ValueError,
            "values: expected numbers from 0 to 1 for emotion, got 2",
        ),
        (("affect", ZERO, torch.full((1, 3), -1.1)), ValueError, "from -1 to 1 for affect, got -1.1"),
        (("arkit", ZERO, torch.full((1, 52), 2.1)), ValueError, "from -2 to 2 for arkit, got 2.1"),
        (("action units", ZERO, torch.full((1, 9, 2), 5.0)), ValueError, "from 0 to 1 for action units, got 5"),
        (("pain", ZERO, ZERO + 17), ValueError, "from 0 to 16 for pain, got 17"),
        (("pain", ZERO, ZERO, "slow"), ValueError, "ease: expected one of minimum jerk, linear, hold, got 'slow'"),
    ],
)
def test_a_track_holds_what_its_files_can_hold(arguments, error, message):
    with pytest.raises(error, match=message):
        Track(*arguments)


def test_a_track_knows_its_language_by_any_spelling_and_survives_rounding(tmp_path):
    values = torch.tensor([[1.0, -1.0]])
    track = Track("Valence-Arousal", ZERO, values * (1 + 1e-7))
    assert track.language == "valence arousal" and track.values.abs().max() > 1
    save_track(tmp_path / "a.csv", track)
    assert torch.equal(load_track(tmp_path / "a.csv").values, values)


pieces = [b"time,happy\n", b"0,1\n", b"0.5,", b"AU12_r", b"\n", b'"', b"\x00", b"1e9", b"nan", b","]


@FILE
@given(
    text=st.binary(max_size=200) | st.lists(st.sampled_from(pieces)).map(b"".join),
    ending=st.sampled_from([".csv", ".json"]),
)
def test_any_bytes_give_a_track_or_a_format_error(tmp_path, text, ending):
    file = tmp_path / f"any{ending}"
    file.write_bytes(text)
    try:
        track = load_track(file, fps=25)
    except FormatError:
        return
    assert track.values.isfinite().all()


words = ["emotion", "arkit", "happy", "happy=1", "linear"]
keys = ["language", "frames", "time", "values", "happy", "ease"]
json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.sampled_from(words),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(keys), inner, max_size=4),
    max_leaves=8,
)


@settings(FILE, max_examples=200)
@given(value=json_values, frames=st.lists(json_values, max_size=3))
def test_any_json_gives_a_track_or_a_format_error(tmp_path, value, frames):
    file = tmp_path / "any.json"
    frame = {"time": value, "values": value}
    for data in (value, {"language": "emotion", "frames": frames}, {"language": "emotion", "frames": [frame]}):
        file.write_text(json.dumps(data))
        try:
            track = load_track(file)
        except FormatError:
            continue
        assert track.values.isfinite().all()


def test_a_face_over_time_keeps_its_articulation_apart():
    times = torch.arange(3, dtype=torch.float64)
    face = expression_from_emotion(torch.eye(7)[[0, 0, 4]])
    face[:, ARKIT_NAMES.index("eyeLookUpLeft")] = 0.5
    converted = convert(Track("arkit", times, face), "emotion")
    torch.testing.assert_close(converted.track.values, torch.eye(7)[[0, 0, 4]], atol=0.05, rtol=0)
    assert converted.articulation.language == "arkit"
    assert (converted.articulation.values[:, ARKIT_NAMES.index("eyeLookUpLeft")] == 0.5).all()


def test_units_of_the_default_table_are_the_columns():
    columns = LANGUAGES["action units"].columns
    assert columns[:2] == ("L1", "R1")
    assert len(columns) == 2 * len(default_tables().units)
    assert math.prod(LANGUAGES["action units"].shape) == len(columns)


@FILE
@given(track=recordings())
def test_text_comes_back(track):
    """But for action units, which letters round."""
    spoken = LANGUAGES[track.language]
    if spoken.name != "action units":
        assert torch.equal(spoken.parse(spoken.format(track.values[0])), track.values[0])


@pytest.mark.parametrize(
    ("language", "text", "message"),
    [
        ("arkit", "jawOpen", "'' is not a number from -2 to 2"),
        ("arkit", "jawOpen=0.1,jawopen=0.2", "expected each name once, got 'jawopen=0.2'"),
        ("pain", "pspi=17", "'17' is not a number from 0 to 16"),
        ("affect", "", "expected names and numbers such as valence=0.5, arousal=0.5, got ''"),
        ("valence arousal", "valence=nan", "'nan' is not a number"),
    ],
)
def test_wrong_text_is_explained(language, text, message):
    with pytest.raises(ValueError, match=message):
        LANGUAGES[language].parse(text)
