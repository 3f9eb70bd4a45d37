"""Regions: equal codes are one face, unequal ones keep to their place, in shapes, tokens and the geometry path."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from strategies import codes, tensors

import emogs
from emogs.emotion import (
    GeometryPath,
    default_tables,
    emotion_from_regions,
    expression_from_emotion,
    expression_from_regions,
    format_regions,
    parse_regions,
    psi,
    template_regions,
    texel_regions,
)
from emogs.head import builtin_head, texel_map
from emogs.head.template import ARKIT_NAMES

TABLES = default_tables()
REGIONS = len(TABLES.regions)
BROW, EYES, MOUTH = range(REGIONS)


@pytest.fixture(scope="module")
def head():
    return builtin_head()


@given(codes)
def test_equal_codes_are_one_face_bit_for_bit(code):
    assert torch.equal(expression_from_regions(code.expand(REGIONS, -1)), expression_from_emotion(code))


@given(tensors(REGIONS, 7), st.integers(0, REGIONS - 1))
def test_a_region_moves_only_its_own_shapes(regional, region):
    alone = torch.zeros(REGIONS, 7)
    alone[region] = regional[region]
    own = TABLES.shape_regions == region
    together, single = expression_from_regions(regional), expression_from_regions(alone)
    assert torch.equal(single[own], together[own])
    assert not single[~own].any()


def test_sad_brows_over_a_smile():
    face = dict(zip(ARKIT_NAMES, expression_from_regions(parse_regions("brow: sad; mouth: happy")), strict=True))
    assert face["browInnerUp"] > 0.5 < face["mouthSmileLeft"]
    assert face["mouthFrownLeft"] == 0 == face["cheekSquintLeft"]


@given(tensors(REGIONS, 7))
def test_text_comes_back(regional):
    assert torch.equal(parse_regions(format_regions(regional)), regional)


@given(st.permutations(["brow: sad=0.5", "Mouth:happy", "awed=0.4"]))
def test_order_does_not_matter(parts):
    expected = "brow: sad=0.5; eyes: surprise=0.3,fear=0.1; mouth: happy=1"
    assert format_regions(parse_regions(";".join(parts))) == expected


@given(codes)
def test_one_code_of_equal_codes_is_that_code(code):
    torch.testing.assert_close(emotion_from_regions(code.expand(REGIONS, -1)), code)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("chin: sad", "'chin' is unknown; known: brow, eyes, mouth"),
        ("brow: sad; brow: happy", "brow is given twice"),
        ("sad; happy", "the rest of the face is given twice"),
        ("brow: hapy", "did you mean 'happy'"),
        ("", "unknown"),
    ],
)
def test_wrong_text_is_explained(text, message):
    with pytest.raises(ValueError, match=message):
        parse_regions(text)


@given(st.text() | st.text(alphabet="browmuth: ;sad=0.5,"))
def test_any_text_gives_codes_or_a_value_error(text):
    try:
        regional = parse_regions(text)
    except ValueError:
        return
    assert ((regional >= 0) & (regional <= 1)).all()


def test_vertices_belong_where_they_are(head):
    region = template_regions(head)
    assert region.dtype == torch.int32
    assert region.shape == (len(head.vertices),)
    for landmark, expected in ((19, BROW), (24, BROW), (37, EYES), (46, EYES), (8, MOUTH), (33, MOUTH), (51, MOUTH)):
        assert region[head.landmarks[landmark]] == expected
    share = torch.bincount(region.long(), minlength=REGIONS) / len(region)
    assert (share > 0.05).all()
    mirrored = template_regions(head)[head.vertices[:, 0].abs() > 0.01]
    assert len(mirrored.unique()) == REGIONS


def test_shapes_move_mostly_their_own_region(head):
    """The map of vertices and the map of shapes agree: most of a shape's motion is in its region."""
    region = template_regions(head)
    for name in ARKIT_NAMES:
        worn = torch.zeros(1, 52)
        worn[0, head.channel(name)] = 1.0
        motion = (head.deform(expression=worn)[0] - head.vertices).norm(dim=1)
        own = region == TABLES.shape_regions[head.channel(name)]
        assert motion[own].sum() > 0.5 * motion.sum(), name


def test_norms_take_them(head):
    """Vertices and texels as tokens: each listens to its region's code."""
    texels = texel_map(head, 32)
    norm = emogs.nn.EmotionNorm(8, emotion_dim=35, regions=REGIONS)
    torch.nn.init.normal_(norm.projection.weight, generator=torch.Generator().manual_seed(0))
    for region in (template_regions(head), texel_regions(head, texels)):
        x = torch.randn(1, len(region), 8, generator=torch.Generator().manual_seed(1))
        seen = psi(parse_regions("mouth: happy"))[None]
        changed = (norm(x, seen, region=region) - norm(x, torch.zeros_like(seen), region=region)).abs().amax((0, 2)) > 0
        assert torch.equal(changed, region == MOUTH)


def test_the_geometry_path_takes_them():
    path = GeometryPath()
    params = torch.rand(2, 3, 52, generator=torch.Generator().manual_seed(2))
    none, happy = torch.zeros(1, 7), torch.eye(7)[:1]
    everywhere = happy[:, None].expand(1, REGIONS, 7)
    assert torch.equal(path(params, everywhere, none), path(params, happy, none))
    mouth = path(params, parse_regions("mouth: happy")[None], none)
    own = TABLES.shape_regions == MOUTH
    assert torch.equal(mouth[..., own], path(params, happy, none)[..., own])
    assert torch.equal(mouth[..., ~own], params[..., ~own])
    assert torch.equal(path(params, everywhere, everywhere), params)
    assert "region" not in path.state_dict()


def test_gradients():
    regional = 0.2 * torch.rand(2, REGIONS, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(3)) + 0.05
    assert torch.autograd.gradcheck(expression_from_regions, regional.requires_grad_())


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: expression_from_regions(torch.zeros(2, 7)), r"codes: expected \[..., 3, 7\], got \[2, 7\]"),
        (lambda: format_regions(torch.zeros(1, 3, 7)), r"codes: expected \[3, 7\]"),
        (
            lambda: GeometryPath()(torch.zeros(2, 1, 52), torch.zeros(2, 2, 7), torch.zeros(2, 7)),
            r"target: expected \[2, 7\] or \[2, 3, 7\], got \[2, 2, 7\]",
        ),
        (
            lambda: GeometryPath()(torch.zeros(2, 1, 52), torch.zeros(2, 7), torch.zeros(3, 7)),
            r"source: expected \[2, 7\]",
        ),
    ],
)
def test_wrong_shapes_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
