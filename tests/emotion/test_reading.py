"""Reading faces: what was put in comes out, articulation is never taken for emotion, and nothing vanishes unsaid."""

import pytest
import torch
from hypothesis import given, settings
from strategies import codes, tensors

from emogs.emotion import (
    EMOTIONS,
    GeometryPath,
    action_units_from_emotion,
    action_units_from_expression,
    default_tables,
    emotion_from_action_units,
    emotion_from_expression,
    expression_from_action_units,
    expression_from_emotion,
    parse_action_units,
    split_articulation,
)
from emogs.head.template import ARKIT_NAMES

EPSILON = 1e-6
TABLES = default_tables()
COUNT = len(TABLES.units)
NAMED = torch.cat([torch.eye(7), TABLES.compound_mixes])
SPOKEN = {"jawOpen": 0.4, "mouthFunnel": 0.7, "mouthClose": 0.2, "eyeBlinkLeft": 1.0, "eyeLookUpRight": 0.5}
SPEECH = torch.tensor([SPOKEN.get(name, 0.0) for name in ARKIT_NAMES])


@given(tensors(52, low=-0.5, high=1.5))
def test_a_face_read_into_units_is_the_same_face(face):
    read = action_units_from_expression(face)
    back = expression_from_action_units(read.units + read.articulation) + read.lost
    torch.testing.assert_close(back, face, atol=EPSILON, rtol=0)
    assert (read.units + read.articulation).min() >= 0
    assert (read.units + read.articulation).max() <= 1


@given(tensors(52))
def test_only_what_no_unit_has_is_lost(face):
    rolled = face.clone()
    rolled[ARKIT_NAMES.index("mouthRollLower")] = rolled[ARKIT_NAMES.index("mouthRollUpper")]
    lost = action_units_from_expression(rolled).lost
    names = {name for name, value in zip(ARKIT_NAMES, lost, strict=True) if abs(value) > EPSILON}
    assert names <= {"mouthClose", "mouthLeft", "mouthRight", "mouthShrugUpper", "tongueOut"}


@pytest.mark.parametrize(
    ("unit", "side"),
    [
        (TABLES.units[i], side)
        for i in TABLES.reading_order
        for side in ("L", "R", "")
        if TABLES.units[i] != "23" or not side  # one-sided, 23 comes back as 24 and 28: lips are rolled on both sides
    ],
)
def test_single_units_come_back(unit, side):
    """On the side they were on, if their shapes have sides."""
    units = parse_action_units(f"{side}{unit}=2")
    if unit == "27":
        units = parse_action_units("26=5,27=2")  # a stretched mouth is also a dropped jaw
    read = action_units_from_expression(expression_from_action_units(units))
    one_sided = unit in {"1", "17", "18", "22", "23", "26", "27", "28", "29", "33"}
    expected = units.mean(1, keepdim=True).expand(-1, 2) if one_sided else units
    torch.testing.assert_close(read.units + read.articulation, expected, atol=EPSILON, rtol=0)


@pytest.mark.parametrize("code", NAMED, ids=[*EMOTIONS, *TABLES.compounds])
@pytest.mark.parametrize("intensity", [0.3, 1.0])
def test_emotions_and_compounds_come_back_from_units(code, intensity):
    read = emotion_from_action_units(action_units_from_emotion(intensity * code))
    torch.testing.assert_close(read.codes, intensity * code, atol=EPSILON, rtol=0)
    assert read.articulation.abs().max() < EPSILON > read.lost.abs().max()


@pytest.mark.parametrize("code", NAMED, ids=[*EMOTIONS, *TABLES.compounds])
def test_emotions_and_compounds_are_recognised_from_arkit(code):
    """Shapes tell less than units (the sides of some, 10 from 25): the face is right to a twentieth."""
    read = emotion_from_expression(expression_from_emotion(code))
    assert read.lost.abs().max() < 0.05
    torch.testing.assert_close(read.codes, code, atol=0.1, rtol=0)


def test_most_mixes_come_back():
    generator = torch.Generator().manual_seed(0)
    mixes = torch.rand(300, 7, generator=generator)
    mixes = mixes * (torch.rand(300, 7, generator=generator).argsort(1) < 3)
    mixes = mixes / mixes.sum(1, keepdim=True).clamp_min(1)
    read = emotion_from_action_units(action_units_from_emotion(mixes))
    error = (read.codes - mixes).abs().amax(1)
    assert error.median() < EPSILON
    assert error.quantile(0.9) < 0.05


@settings(max_examples=30)
@given(codes)
def test_what_was_read_and_what_was_not_add_up(code):
    face = (expression_from_emotion(code) + SPEECH).clamp(0, 1)
    read = emotion_from_expression(face)
    back = expression_from_emotion(read.codes) + read.articulation + read.lost
    torch.testing.assert_close(back, face, atol=EPSILON, rtol=0)
    assert not (read.articulation * read.lost).any()


def test_the_geometry_path_puts_it_together_again():
    face = (expression_from_emotion(torch.eye(7)[2]) + SPEECH).clamp(0, 1)
    read = emotion_from_expression(face)
    spoken = (read.articulation + read.lost)[None, None]
    path, none = GeometryPath(), torch.zeros(1, 7)
    torch.testing.assert_close(path(spoken, read.codes[None], none)[0, 0], face, atol=1e-5, rtol=0)


@given(tensors(52))
def test_articulation_alone_is_no_emotion(values):
    """Bit for bit, whatever the jaw, the lids, the eyes and the speaking lips do."""
    spoken = torch.zeros(52)
    spoken[list(TABLES.articulation_shapes)] = values[list(TABLES.articulation_shapes)]
    spoken[[ARKIT_NAMES.index(f"mouthRoll{part}") for part in ("Lower", "Upper")]] = 0  # 23 rolls them too
    read = emotion_from_expression(spoken)
    assert not read.codes.any()
    assert torch.equal(read.articulation, spoken)
    assert not read.lost.any()


def test_talking_does_not_change_what_is_felt():
    units = action_units_from_emotion(torch.eye(7)[0])
    talking = torch.maximum(units, parse_action_units("26E+27B+25E+45C+61D"))
    read = emotion_from_action_units(talking)
    torch.testing.assert_close(read.codes, torch.eye(7)[0], atol=1e-4, rtol=0)
    torch.testing.assert_close(read.articulation, split_articulation(talking - units)[1], atol=1e-4, rtol=0)


def test_neutral_is_zero_bit_for_bit():
    read = action_units_from_expression(torch.zeros(2, 52))
    assert not any(part.any() for part in read)
    assert not any(part.any() for part in emotion_from_expression(torch.zeros(2, 52)))


@given(tensors(COUNT, 2))
def test_splitting_is_exact(units):
    may_be_emotion, articulation = split_articulation(units)
    assert torch.equal(may_be_emotion + articulation, units)
    assert not (may_be_emotion * articulation).any()


def test_a_batch_is_its_elements():
    mixes = torch.rand(5, 7, generator=torch.Generator().manual_seed(1)) / 3
    units = action_units_from_emotion(mixes)
    together = emotion_from_action_units(units).codes
    alone = torch.stack([emotion_from_action_units(one).codes for one in units])
    torch.testing.assert_close(together, alone, atol=EPSILON, rtol=0)
    assert emotion_from_action_units(torch.zeros(0, 3, COUNT, 2)).codes.shape == (0, 3, 7)


def test_another_table_reads_other_shapes():
    tables = TABLES.with_shapes("10", {"mouthShrugUpper": 1.0})
    face = torch.zeros(52)
    face[ARKIT_NAMES.index("mouthShrugUpper")] = 0.6
    unit = TABLES.units.index("10")
    torch.testing.assert_close(action_units_from_expression(face, tables).units[unit], torch.tensor([0.6, 0.6]))
    assert not action_units_from_expression(face).units.any()


def test_reading_units_has_gradients():
    face = (
        0.2 + 0.5 * torch.rand(2, 52, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    ).requires_grad_()
    assert torch.autograd.gradcheck(lambda face: action_units_from_expression(face)[:2], face)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: action_units_from_expression(torch.zeros(51)), r"expression: expected \[..., 52\], got \[51\]"),
        (lambda: emotion_from_action_units(torch.zeros(3, 2)), rf"units: expected \[..., {COUNT}, 2\]"),
        (lambda: emotion_from_action_units(torch.full((COUNT, 2), 2.0)), "from 0 to 1, got 2"),
        (lambda: emotion_from_action_units(torch.full((COUNT, 2), torch.nan)), "got nan"),
        (lambda: split_articulation(torch.zeros(3)), "units: expected"),
    ],
)
def test_wrong_faces_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_gaze_and_lids_survive_an_emotion_read(share):
    face = expression_from_emotion(share * torch.eye(7)[4])
    lid = ARKIT_NAMES.index("eyeBlinkRight")
    face[lid] = 0.75
    assert float(emotion_from_expression(face).articulation[lid]) == 0.75


@pytest.mark.parametrize(
    ("text", "emotion"),
    [("12C", "happy"), ("6C+12C", "happy"), ("4D+7C", "anger"), ("9D", "disgust"), ("15C+17B", "sad")],
)
def test_faces_that_no_code_explains_give_few_emotions(text, emotion):
    """The likely one, and little else."""
    read = emotion_from_action_units(parse_action_units(text)).codes
    assert read.argmax() == EMOTIONS.index(emotion)
    assert read.sum() - read.max() < 0.35 * read.max()
