"""Text to codes and back, psi's identities, and messages that help."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from emogs.emotion import EMOTIONS, anchor_codes, default_tables, format_emotion, parse_emotion, psi

intensities = st.floats(0, 1, width=32)
codes = st.lists(intensities, min_size=7, max_size=7).map(torch.tensor)


@given(codes)
def test_format_and_parse_are_inverse(code):
    assert torch.equal(parse_emotion(format_emotion(code)), code)


@pytest.mark.parametrize("name", EMOTIONS)
def test_a_bare_name_is_the_full_emotion(name):
    assert torch.equal(parse_emotion(name), torch.eye(7)[EMOTIONS.index(name)])


@pytest.mark.parametrize("text", ["neutral", " Neutral=0.3 "])
def test_neutral_is_zero(text):
    assert not parse_emotion(text).any()


@pytest.mark.parametrize("text", ["happily surprised=0.8", "Happily_Surprised = 0.8", "happily-surprised=.8"])
def test_compounds_in_any_spelling(text):
    assert format_emotion(parse_emotion(text)) == "happy=0.4,surprise=0.4"


def test_aliases_and_compounds_mix_with_emotions():
    code = parse_emotion("awed=0.4, sadness=0.2")
    assert format_emotion(code) == "sad=0.2,surprise=0.3,fear=0.1"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("hapy=0.5", "did you mean 'happy'"),
        ("", "unknown"),
        ("happy,", "unknown"),
        ("=0.5", "unknown"),
        ("happy=1.2", "'1.2' is not a number from 0 to 1"),
        ("happy=-0.1", "from 0 to 1"),
        ("happy=nan", "from 0 to 1"),
        ("happy=", "from 0 to 1"),
        ("happy=a=b", "from 0 to 1"),
        ("happy=0.5,happiness=0.5", "twice"),
        ("neutral,happy=0.5", "must stand alone"),
        ("awed=1,surprise=0.5", "surprise adds up to 1.25"),
    ],
)
def test_wrong_text_is_explained(text, message):
    with pytest.raises(ValueError, match=message):
        parse_emotion(text)


def test_unknown_names_get_the_list():
    with pytest.raises(ValueError, match="valid:") as error:
        parse_emotion("xyzzy")
    assert all(name in str(error.value) for name in (*EMOTIONS, *default_tables().compounds, "neutral", "0 to 1"))


@given(st.text())
def test_any_text_gives_a_code_or_a_value_error(text):
    try:
        code = parse_emotion(text)
    except ValueError:
        return
    assert ((code >= 0) & (code <= 1)).all()


def test_psi_of_neutral_is_exactly_zero():
    assert torch.equal(psi(torch.zeros(2, 7)), torch.zeros(2, 35))


@given(codes)
def test_psi_is_its_definition(code):
    expected = [*code, *(4 * e * (1 - e) for e in code)]
    expected += [4 * code[i] * code[j] for i in range(7) for j in range(i + 1, 7)]
    torch.testing.assert_close(psi(code), torch.stack(expected))


def test_psi_is_triangular_at_the_anchors():
    """Full emotions see only themselves; halves and pairs see exactly one new component, at 1."""
    seen = psi(anchor_codes())
    assert torch.equal(seen[:7], torch.eye(35)[:7])
    assert torch.equal(seen[7:14, 7:], torch.eye(28)[:7])
    assert torch.equal(seen[14:, 14:], torch.eye(21))


def test_psi_gradients():
    codes = torch.rand(3, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    assert torch.autograd.gradcheck(psi, codes)


def test_wrong_shapes_are_named():
    with pytest.raises(ValueError, match=r"expected \[\.\.\., 7\], got \[2, 8\]"):
        psi(torch.zeros(2, 8))
    with pytest.raises(ValueError, match=r"expected \[7\], got \[1, 7\]"):
        format_emotion(torch.zeros(1, 7))
