"""The map of conversions: every way is walked, every function exists, the page in docs is this table."""

import re
from pathlib import Path

import pytest
import torch

import emogs.emotion
from emogs.emotion import CONVERTERS, Track, conversion_table, convert, languages, load_track

PAGE = Path(__file__).parents[2] / "docs" / "emotions.md"


def resting(name):
    spoken = languages()[name]
    return Track(name, torch.zeros(2, dtype=torch.float64) + torch.arange(2), torch.zeros(2, *spoken.shape))


def test_the_page_holds_the_table():
    assert conversion_table() in PAGE.read_text(encoding="utf-8")


@pytest.mark.parametrize("converter", CONVERTERS, ids=lambda c: f"{c.source} to {c.target}")
def test_every_function_is_public_and_says_what_is_lost(converter):
    assert len(converter.loses) > 5
    assert len(converter.method) >= 5
    if converter.function.isidentifier():
        function = getattr(emogs.emotion, converter.function)
        assert "lost" in function.__doc__.lower() or "nothing" in converter.loses


@pytest.mark.parametrize("target", languages())
@pytest.mark.parametrize("source", languages())
def test_nothing_felt_is_nothing_in_every_language_bit_for_bit(source, target):
    converted = convert(resting(source), target)
    assert converted.track.language == target
    assert converted.track.values.shape == (2, *languages()[target].shape)
    assert not converted.track.values.any()
    assert converted.articulation is None or not converted.articulation.values.any()


@pytest.mark.parametrize("name", languages())
def test_a_language_to_itself_is_the_same(name):
    track = resting(name)
    assert torch.equal(convert(track, name).track.values, track.values)
    assert not convert(track, name).steps


def test_ways_are_short():
    assert len(convert(resting("emotion"), "arkit").steps) == 1
    assert [step.target for step in convert(resting("arkit"), "pain").steps] == ["action units", "pain"]


def test_spellings_and_unknown_languages():
    assert convert(resting("emotion"), "Action-Units").track.language == "action units"
    with pytest.raises(ValueError, match="language 'klingon' is unknown; known: emotion, regions"):
        convert(resting("emotion"), "klingon")


def test_a_face_that_no_emotion_explains_ends_as_units():
    """Puffed cheeks are articulation, and come back as such."""
    face = torch.zeros(1, 52)
    face[0, emogs.head.ARKIT_NAMES.index("cheekPuff")] = 0.5
    converted = convert(Track("arkit", torch.zeros(1, dtype=torch.float64), face), "action units")
    assert not converted.track.values.any()
    assert torch.equal(converted.articulation.values, face)


def test_the_lines_of_the_page_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    block = re.search(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)[1]
    head = "neutral,happiness,surprise,sadness,anger,disgust,fear,contempt,unknown,NF"
    (tmp_path / "fer2013new.csv").write_text(f"Usage,Image name,{head}\nTraining,a.png,1,7,0,0,0,0,0,1,1,0\n")
    names = {"logits": torch.zeros(1, 8)}
    exec(block, names)
    assert names["mixed"].shape == (3, 7) and names["loss"].isfinite() and names["smile"].at(0.4).shape == (7,)
    assert names["text"] == "1B+2B+6B+12C+25C"
    assert names["shapes"].language == "arkit"
    example = re.search(r"```json\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)[1]
    (tmp_path / "example.json").write_text(example)
    assert load_track(tmp_path / "example.json").times.tolist() == [0, 0.5, 2]


@pytest.mark.parametrize("target", re.findall(r"\]\(([^)]+)\)", PAGE.read_text(encoding="utf-8")))
def test_links_lead_somewhere(target):
    assert (PAGE.parent / target).exists()


def test_the_performance_of_the_picture():
    assert load_track(PAGE.parents[1] / "examples" / "performance.json").trajectory().duration == 3.2
