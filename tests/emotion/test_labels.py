"""Data sets' labels: by name, never by index; what a data set lacks is counted, not guessed."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from strategies import tensors

from emogs.emotion import (
    EMOTIONS,
    default_tables,
    emotion_from_labels,
    format_emotion,
    label_set,
    label_sets,
    labels_from_emotion,
    remap_probabilities,
)

SETS = list(label_sets())
ORDERS = {
    "affectnet-8": "neutral happy sad surprise fear disgust anger contempt",
    "fer2013": "anger disgust fear happy sad surprise neutral",
    "fer+": "neutral happy surprise sad anger disgust fear contempt",
    "raf-db": "surprise fear disgust happy sad anger neutral",
    "ravdess": "neutral calm happy sad anger fear disgust surprise",
    "mead": "anger contempt disgust fear happy neutral sad surprise",
}


@pytest.mark.parametrize("name", ORDERS)
def test_orders_are_the_published_ones(name):
    assert list(label_set(name).emotions) == ORDERS[name].split()


def test_compounds_of_raf_db():
    known = label_set("raf-db-compound")
    assert known.ids == tuple(str(i) for i in range(1, 12))
    assert set(known.emotions) <= set(default_tables().compounds)
    assert (known.emotions[0], known.emotions[3], known.emotions[10]) == (
        "happily surprised",
        "sadly angry",
        "disgustedly surprised",
    )


@pytest.mark.parametrize("name", SETS)
def test_every_set_names_its_source_and_its_classes_are_known(name):
    known = label_set(name)
    assert len(known.source) > 30
    assert set(known.emotions) <= {*EMOTIONS, *default_tables().compounds, "neutral", "calm"}


@pytest.mark.parametrize("name", SETS)
def test_labels_come_back(name):
    known = label_set(name)
    codes = emotion_from_labels(known.ids, known)
    expected = [known.ids[0] if emotion == "calm" else i for i, emotion in zip(known.ids, known.emotions, strict=True)]
    assert labels_from_emotion(codes, name) == expected


@pytest.mark.parametrize(
    ("dataset", "label", "emotion"),
    [
        ("affectnet-8", 1, "happy=1"),
        ("fer2013", 1, "disgust=1"),
        ("fer+", 1, "happy=1"),
        ("raf-db", 1, "surprise=1"),
        ("raf-db-compound", 1, "happy=0.5,surprise=0.5"),
        ("ravdess", 1, "neutral"),
        ("ravdess", "08", "surprise=1"),
        ("ravdess", "calm", "neutral"),
        ("mead", "angry", "anger=1"),
        ("mead", "anger", "anger=1"),
        ("fer+", "Sadness", "sad=1"),
    ],
)
def test_one_number_means_many_things(dataset, label, emotion):
    assert format_emotion(emotion_from_labels([label], dataset)[0]) == emotion


def test_levels_of_mead():
    codes = emotion_from_labels(["happy", "happy", "sad"], "mead", levels=[1, 3, 2])
    torch.testing.assert_close(codes.sum(1), torch.tensor([1 / 3, 1.0, 2 / 3]))


def test_faint_emotions_are_neutral_where_there_is_neutral():
    faint = 0.3 * torch.eye(7)[:1]
    assert labels_from_emotion(faint, "affectnet-8") == ["0"]
    assert labels_from_emotion(faint, "affectnet-8", neutral_below=0.2) == ["1"]


@pytest.mark.parametrize("target", SETS)
@pytest.mark.parametrize("source", SETS)
def test_remapping_keeps_all_probability(source, target):
    old, new = label_set(source), label_set(target)
    p = torch.softmax(torch.randn(4, len(old.ids), generator=torch.Generator().manual_seed(0)), -1)
    out = remap_probabilities(p, source, target)
    assert out.probabilities.shape == (4, len(new.ids))
    torch.testing.assert_close(out.probabilities.sum(-1) + out.lost, torch.ones(4))
    for i, name in enumerate(new.emotions):
        of_old = [k for k, emotion in enumerate(old.emotions) if emotion == name]
        if name != "neutral":
            torch.testing.assert_close(out.probabilities[:, i], p[:, of_old].sum(1))


@given(tensors(8))
def test_remapping_there_and_back(p):
    out = remap_probabilities(remap_probabilities(p, "affectnet-8", "fer+").probabilities, "fer+", "affectnet-8")
    assert torch.equal(out.probabilities, p)


@given(st.text() | st.integers() | st.booleans())
def test_any_label_is_known_or_a_value_error(label):
    try:
        index = label_set("ravdess").index(label)
    except ValueError:
        return
    assert 0 <= index < 8


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: label_set("imagenet"), "'imagenet' is unknown; known: affectnet-8"),
        (lambda: emotion_from_labels([8], "affectnet-8"), "affectnet-8: 8 is no label; known: 0 neutral, 1 happy"),
        (lambda: emotion_from_labels([True], "affectnet-8"), "True is no label"),
        (lambda: emotion_from_labels(["happy"], "mead", levels=[4]), "mead has levels 1 to 3, got 4"),
        (lambda: emotion_from_labels(["happy"], "mead", levels=[1, 2]), "levels: expected 1"),
        (lambda: labels_from_emotion(torch.zeros(7), "mead"), r"codes: expected \[B, 7\]"),
        (lambda: remap_probabilities(torch.zeros(7), "mead", "fer+"), r"expected \[..., 8\], got \[7\]"),
    ],
)
def test_wrong_labels_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
