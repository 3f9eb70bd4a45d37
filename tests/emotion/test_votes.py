"""Files of votes: what FER+ writes comes back as counts, and what is wrong with one is said with its place."""

import re
from pathlib import Path

import pytest
import torch

from emogs import cli
from emogs.emotion import dataset_of_votes, distribution_from_votes, load_track, load_votes
from emogs.io import FormatError

CLASSES = "neutral,happiness,surprise,sadness,anger,disgust,fear,contempt"
FER = f"""Usage,Image name,{CLASSES},unknown,NF
Training,fer0000000.png,4,0,0,1,3,2,0,0,0,0
PublicTest,fer0000002.png,0,9,0,0,0,0,0,1,0,0
Training,,0,0,0,0,0,0,0,0,0,10
PrivateTest,fer0000005.png,0,0,0,0,0,0,0,8,2,0
"""


@pytest.fixture
def fer(tmp_path) -> Path:
    path = tmp_path / "fer2013new.csv"
    path.write_text(FER)
    return path


def test_fer_plus_file(fer):
    table = load_votes(fer)
    assert table.dataset == "fer+" and table.votes.shape == (4, 10) and (table.votes.sum(1) == 10).all()
    assert table.images == ("fer0000000.png", "fer0000002.png", "", "fer0000005.png")
    assert table.usages == ("Training", "PublicTest", "Training", "PrivateTest")
    p, trust = table.distribution()
    torch.testing.assert_close(p[0], torch.tensor([0.4, 0, 0, 0.1, 0.3, 0.2, 0, 0]))
    torch.testing.assert_close(trust, distribution_from_votes(table.votes, "fer+").reliability)
    assert trust[2] == 0 and trust[3] == pytest.approx(0.8)


def test_columns_are_found_by_name_and_only_the_classes_are_needed(tmp_path, fer):
    order = [9, 3, 8, 2, 11, 4, 10, 6, 5, 7, 1, 0]
    rows = [row.split(",") for row in FER.splitlines()]
    moved = tmp_path / "moved.csv"
    moved.write_text("\ufeff" + "\r\n".join(",".join(row[i].upper() for i in order) for row in rows), encoding="utf-8")
    torch.testing.assert_close(load_votes(moved).votes, load_votes(fer).votes)
    plain = tmp_path / "plain.csv"
    plain.write_text("\n".join(",".join(row[2:10]) for row in rows))
    assert load_votes(plain).votes.shape == (4, 8) and load_votes(plain).images == ("",) * 4
    assert dataset_of_votes(rows[0]) == "fer+" and dataset_of_votes(rows[0][:10]) is None


def test_votes_for_another_data_sets_classes(tmp_path):
    path = tmp_path / "votes.csv"
    path.write_text("image,surprise,fear,disgust,happiness,sadness,anger,neutral\na,0,0,0,5,0,0,0\n")
    assert load_votes(path, "raf-db").distribution().probabilities[0].tolist() == [0, 0, 0, 1, 0, 0, 0]
    with pytest.raises(ValueError, match="data set 'raf' is unknown"):
        load_votes(path, "raf")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "head: expected fer+'s column 'neutral', got []"),
        (FER.replace("contempt", "scorn"), "head: expected fer+'s column 'contempt'"),
        (FER.replace("unknown", "unsure"), "head: expected fer+'s column 'unknown'"),
        (FER.replace("unknown", "fear"), "head: expected fer"),
        (FER.replace("Usage", "fear"), "head: expected the column 'fear' once, got it 2 times"),
        (FER.splitlines()[0], "rows: expected a picture at least"),
        (FER + "Training,a.png,1\n", "row 6: expected 12 columns as in the head, got 3"),
        (FER.replace("0,9,", "0,-9,"), "row 3, column 'happiness': expected a whole number of votes from 0 to 1000000"),
        (FER.replace("0,9,", "0,0.9,"), "got '0.9'"),
        (FER.replace("0,9,", "0,nan,"), "got 'nan'"),
        (FER.replace("0,9,", "0,1000001,"), "got '1000001'"),
        (FER.replace("0,9,", "0,\u0663,"), "got '\u0663'"),
        (FER.replace("0,9,", "0,,"), "got ''"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(fer, text, message):
    fer.write_text(text, encoding="utf-8")
    with pytest.raises(FormatError, match=re.escape(message)) as caught:
        load_votes(fer)
    assert caught.value.path == fer and "\n" not in str(caught.value)


def test_large_files_are_refused_unread(fer, monkeypatch):
    monkeypatch.setattr("emogs.emotion.votes.LARGEST_FILE", 100)
    with pytest.raises(FormatError, match="size: expected at most 100 bytes"):
        load_votes(fer)


def test_a_track_of_votes_is_refused_by_its_right_reader(fer):
    with pytest.raises(FormatError, match=r"holds votes on pictures \(fer\+\).*load_votes reads it"):
        load_track(fer, fps=1)


def test_the_command_line_converts_votes(fer, capsys, tmp_path):
    cli.main(["emotion", "convert", str(fer), "--to", "emotion"])
    said, notes = capsys.readouterr()
    assert said.splitlines() == [
        "fer0000000.png  reliability 0.38  sad=0.1,anger=0.3,disgust=0.2",
        "fer0000002.png  reliability 0.84  happy=0.9,contempt=0.1",
        "(no name)  reliability 0.00  nobody agrees on an emotion",
        "fer0000005.png  reliability 0.80  contempt=1",
    ]
    assert "votes -> distribution loses" in notes and "distribution -> emotion loses" in notes
    cli.main(["emotion", "convert", str(fer), "--to", "raf-db"])
    said = capsys.readouterr().out.splitlines()
    assert said[1].endswith("4 happiness") and said[3].endswith("none: most votes name no class of it")
    out = tmp_path / "units.csv"
    cli.main(["emotion", "convert", str(fer), "--to", "action units", "--out", str(out)])
    assert "4 pictures in action units" in capsys.readouterr().out
    head, _, smile = out.read_text().splitlines()[:3]
    assert head.startswith("image,usage,reliability,L1,R1") and smile.startswith("fer0000002.png,PublicTest,0.8")
    units = load_track(out, fps=1).values  # rows are frames to whoever asks for a rate
    assert units.shape == (4, 32, 2) and units[1].max() > 0.5


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--fps", "25"], "which have no time"),
        (["--pulse", "1", "1", "1"], "which have no time"),
        (["--out", "a.json"], "--out: expected a .csv for votes"),
        (["--source", "ravdess"], "head: expected ravdess's column 'calm', got"),
    ],
)
def test_what_votes_cannot_be_is_said_in_a_line(fer, capsys, monkeypatch, more, message):
    monkeypatch.chdir(fer.parent)
    with pytest.raises(SystemExit) as ended:
        cli.main(["emotion", "convert", str(fer), "--to", "emotion", *more])
    said = capsys.readouterr().err
    assert ended.value.code == 2 and said.count("\n") == 1
    assert message in said
