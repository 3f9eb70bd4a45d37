"""The bundled tables are complete and consistent, and a broken file is refused with its place."""

import json
import math

import pytest
import torch

from emogs.emotion import EMOTIONS, default_tables, load_tables
from emogs.emotion.tables import TABLES_FILE, UNTOUCHED
from emogs.head.template import ARKIT_NAMES

FACTS = {  # units by EMFACS or the FACS manual; our variants may add, never leave out
    "happy": {"6", "12"},
    "sad": {"1", "4", "15"},
    "surprise": {"1", "2", "5", "26"},
    "fear": {"1", "2", "4", "5", "7", "20", "26"},
    "anger": {"4", "5", "7", "23"},
    "disgust": {"9", "15", "16"},
    "contempt": {"12", "14"},
}


@pytest.fixture
def data():
    return json.loads(TABLES_FILE.read_text(encoding="utf-8"))


def active(tables, intensities):
    return {unit for unit, sides in zip(tables.units, intensities, strict=True) if sides.any()}


def test_every_table_names_its_source(data):
    assert all(len(table["source"]) > 40 for table in data.values())


@pytest.mark.parametrize("emotion", EMOTIONS)
def test_prototypes_hold_the_published_units(emotion):
    tables = default_tables()
    assert FACTS[emotion] <= active(tables, tables.prototypes[EMOTIONS.index(emotion)])


def test_contempt_is_on_the_right_only():
    contempt = default_tables().prototypes[EMOTIONS.index("contempt")]
    assert not contempt[:, 0].any()
    assert contempt[:, 1].any()


def test_compounds_of_one_pair_have_different_codes():
    mixes = default_tables().compound_mixes
    assert len(torch.unique(mixes, dim=0)) == len(mixes)


def test_units_cover_all_facial_regions_and_sides():
    shapes = default_tables().shapes
    moved = {name for name, used in zip(ARKIT_NAMES, shapes.sum((0, 1)), strict=True) if used}
    assert set(ARKIT_NAMES) - moved == {"mouthClose", "mouthLeft", "mouthRight", "mouthShrugUpper", "tongueOut"}
    left, right = shapes.unbind(1)
    for index, name in enumerate(ARKIT_NAMES):
        if name.endswith("Left"):
            other = ARKIT_NAMES.index(name.removesuffix("Left") + "Right")
            assert torch.equal(left[:, index].sort().values, right[:, other].sort().values), name


def test_no_emotion_may_move_gaze_or_lids_shut():
    assert len(UNTOUCHED) == 10


def breaks(table, path, value):
    *parents, last = path
    for key in parents:
        table = table[key]
    table[last] = value


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (["emotions", "names"], ["happy"], "emotions must be"),
        (["aliases", "names", "joy"], "joyful", "alias 'joy'"),
        (["prototypes", "units", "happy", "12"], 1.5, "unit '12' is 1.5"),
        (["prototypes", "units", "happy", "99"], 0.5, "'99' is unknown"),
        (["prototypes", "units", "happy", "45"], 0.5, "gaze or lids"),
        (["action_units", "units", "12", "shapes"], {"mouthGrin": 1.0}, "'mouthGrin' is no ARKit shape"),
        (["compounds", "names", "awed", "mix"], {"fear": 0.5}, "sum to 1"),
        (["compounds", "names", "awed", "units"], {"R1": "much"}, "much"),
        (["compounds", "names", "awed"], {}, "missing"),
        (["antagonists", "pairs"], [["12", "13"]], "'13' is unknown"),
        (["articulation", "units"], ["99"], "'99' is unknown"),
        (["articulation", "shapes"], ["lipsync"], "no ARKit shape begins with 'lipsync'"),
        (["reading", "order"], ["1", "99"], "'99' is unknown"),
        (["regions", "parts", "brow", "shapes"], ["brow", "eye"], "exactly one region"),
        (["regions", "parts", "brow", "shapes"], ["browInnerUp"], "browDownLeft must belong to exactly one region"),
        (["regions", "parts", "brow", "landmarks"], [[17, 68]], "landmarks 17 to 68"),
        (["affect", "points", "happy"], [2, 0, 0], "affect of happy"),
        (["affect", "points", "happy"], "high", "affect of happy"),
        (["affect"], [], "affect: expected the form of emogs' tables.json"),
        (["action_units", "units", "12", "shapes"], {"mouthSmile": 1.5}, "unit '12': 'mouthSmile' is 1.5, expected a"),
        (["action_units", "units", "12", "shapes"], {"mouthSmile": -1}, "'mouthSmile' is -1, expected a number"),
        (["compounds", "names", "awed", "mix"], {"fear": math.nan}, "JSON: expected numbers, got NaN"),
    ],
)
def test_a_broken_file_is_refused_by_place(tmp_path, data, path, value, message):
    breaks(data, path, value)
    file = tmp_path / "broken.json"
    file.write_text(json.dumps(data))
    with pytest.raises(ValueError, match=message) as error:
        load_tables(file)
    assert str(file) in str(error.value)


def test_a_file_that_is_no_json_is_refused(tmp_path):
    file = tmp_path / "broken.json"
    file.write_text("{")
    with pytest.raises(ValueError, match=r"broken\.json"):
        load_tables(file)


def test_a_shape_table_can_be_changed_and_is_checked():
    tables = default_tables().with_shapes("10", {"mouthShrugUpper": 1.0})
    unit, shape = tables.units.index("10"), ARKIT_NAMES.index("mouthShrugUpper")
    assert tables.shapes[unit, :, shape].tolist() == [0.5, 0.5]
    assert tables.shapes[unit].sum() == 1
    with pytest.raises(ValueError, match="no ARKit shape"):
        default_tables().with_shapes("10", {"mouthGrin": 1.0})
    with pytest.raises(ValueError, match="gaze or lids"):
        default_tables().with_shapes("12", {"eyeBlink": 1.0})


def test_every_unit_has_a_region():
    tables = default_tables()
    for region, expected in (("brow", {"1", "2", "4"}), ("eyes", {"5", "6", "7", "43", "45", "61", "62", "63", "64"})):
        index = tables.regions.index(region)
        assert {unit for unit, at in zip(tables.units, tables.unit_regions, strict=True) if at == index} == expected
