"""The geometry path: identity at equal codes, the tables' faces at the anchors, articulation kept."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from emogs.emotion import (
    EMOTIONS,
    GeometryPath,
    anchor_codes,
    default_tables,
    expression_from_emotion,
    expression_from_regions,
    psi,
)
from emogs.emotion.tables import UNTOUCHED
from emogs.head import builtin_head
from emogs.head.template import ARKIT_NAMES

ROUNDING = 1e-6
codes = st.lists(st.floats(0, 1, width=32), min_size=7, max_size=7).map(lambda values: torch.tensor([values]))


def trained(style=4):
    """A path whose parameters are all in use, as training would leave them."""
    path = GeometryPath(style)
    generator = torch.Generator().manual_seed(2)
    for parameter in path.parameters():
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator)
    return path


def performance(batch=2, length=5):
    return torch.rand(batch, length, 52, generator=torch.Generator().manual_seed(3))


@given(codes)
def test_equal_codes_leave_a_performance_as_it_is(code):
    params = performance()
    assert torch.equal(trained()(params, code, code, style=torch.ones(2, 4)), params)


def mixes():
    """Anchors, compounds at a half and in full, and mixes of three, half of which sum to more than one."""
    compounds, generator = default_tables().compound_mixes, torch.Generator().manual_seed(4)
    some = torch.rand(64, 7, generator=generator) * (torch.rand(64, 7, generator=generator).argsort(1) < 3)
    return torch.cat([anchor_codes(), compounds, 0.5 * compounds, some])


def test_untrained_it_wears_the_tables_faces():
    path, codes = GeometryPath(), mixes()
    out = path(torch.zeros(len(codes), 1, 52), codes)
    torch.testing.assert_close(out[:, 0], expression_from_emotion(codes), atol=ROUNDING, rtol=0)
    regional = torch.stack([codes, codes.roll(1, 0), codes.roll(2, 0)], 1)
    out = path(torch.zeros(len(codes), 1, 52), regional)
    torch.testing.assert_close(out[:, 0], expression_from_regions(regional), atol=ROUNDING, rtol=0)


def test_training_adds_components_of_psi_and_a_style_of_ones_own():
    path, codes, style = trained(), mixes(), torch.tensor([[0.5, -1.0, 0.0, 2.0]])
    path.spread.data.zero_()
    expected = (expression_from_emotion(codes) + psi(codes) @ path.offset.T) * (1 + style @ path.personal.T)
    out = path(torch.zeros(len(codes), 1, 52), codes, style=style)[:, 0]
    torch.testing.assert_close(out, path.mask * expected, atol=10 * ROUNDING, rtol=0)


@given(codes)
def test_a_source_of_none_is_neutral(code):
    params, path = performance(), trained()
    assert torch.equal(path(params, code), path(params, code, torch.zeros(1, 7)))
    assert torch.equal(path(params, torch.zeros(1, 7)), params)


def test_untrained_it_moves_speech_without_rescaling_it():
    params = performance()
    out = GeometryPath()(params, torch.eye(7)[:1], torch.zeros(1, 7))
    torch.testing.assert_close(out - out[:, :1], params - params[:, :1], atol=ROUNDING, rtol=0)


def test_gaze_and_blinks_stay_bit_for_bit():
    untouched = [ARKIT_NAMES.index(name) for name in UNTOUCHED]
    params = performance()
    out = trained()(params, torch.eye(7)[1:3], torch.eye(7)[4:5])
    assert torch.equal(out[..., untouched], params[..., untouched])
    assert not torch.equal(out, params)


def test_worn_lids_that_a_blink_shuts_stay_shut():
    """Half a blink leaves half of what surprise does to lids; the performance's own wide eyes are its own."""
    wide, blink = (
        [ARKIT_NAMES.index(f"{name}{side}") for side in ("Left", "Right")] for name in ("eyeWide", "eyeBlink")
    )
    params = torch.zeros(1, 3, 52)
    params[0, :, blink[0]] = torch.tensor([0.0, 0.5, 1.0])
    surprise, none = torch.eye(7)[2:3], torch.zeros(1, 7)
    worn = GeometryPath()(params, surprise, none, clamp=True)
    full = float(expression_from_emotion(surprise)[0, wide[0]])
    torch.testing.assert_close(worn[0, :, wide[0]], full * torch.tensor([1.0, 0.5, 0.0]), atol=ROUNDING, rtol=0)
    torch.testing.assert_close(worn[0, :, wide[1]], torch.full((3,), full), atol=ROUNDING, rtol=0)
    head = builtin_head()
    marks = head.deform(expression=worn[0])[:, head.landmarks]
    gap = (marks[:, [43, 44]] - marks[:, [47, 46]]).norm(dim=-1).mean(1)  # the left eye's
    assert gap[0] > 0.011 and gap[2] < 0.001
    params[..., wide] = 0.3
    assert torch.equal(GeometryPath()(params, surprise, surprise, clamp=True), params)


def test_there_and_back_is_the_identity():
    """The spread and the mean of an emotion are undone exactly when the source becomes the target."""
    path, params, happy, sad = trained(), performance(), torch.eye(7)[:1], torch.eye(7)[1:2]
    back = path(path(params, sad, happy), happy, sad)
    torch.testing.assert_close(back, params, atol=10 * ROUNDING, rtol=0)


def test_it_is_causal_and_works_on_single_frames():
    path, params, happy, none = trained(), performance(), torch.eye(7)[:1], torch.zeros(1, 7)
    frames = [path(params[:, t : t + 1], happy, none) for t in range(params.shape[1])]
    assert torch.equal(torch.cat(frames, 1), path(params, happy, none))


def test_clamping_only_where_asked():
    params = 1.2 * torch.ones(1, 1, 52)
    path, happy, none = GeometryPath(), torch.eye(7)[:1], torch.zeros(1, 7)
    assert path(params, happy, none).amax() > 1.2
    assert path(params, happy, none, clamp=True).amax() == 1


def test_spread_is_within_a_factor_of_two():
    path = GeometryPath()
    path.spread.data.fill_(100.0)
    params = torch.zeros(1, 2, 52)
    params[:, 1] = 1.0
    smile = ARKIT_NAMES.index("mouthSmileLeft")
    out = path(params, torch.eye(7)[:1], torch.zeros(1, 7))[0, :, smile]
    torch.testing.assert_close(out[1] - out[0], torch.tensor(2.0))


def test_gradients_reach_everything():
    path = trained().double()
    params = performance(1, 2).double().requires_grad_()
    target = torch.full((1, len(EMOTIONS)), 0.2, dtype=torch.float64, requires_grad=True)
    source = torch.full((1, len(EMOTIONS)), 0.1, dtype=torch.float64, requires_grad=True)
    style = torch.rand(1, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(path, (params, target, source, style))


def test_at_neutral_gradients_are_the_slopes_of_first_emotions():
    path, step = trained().double(), 1e-7
    params = performance(1, 2).double()

    def played(code):
        return path(params, code[None])[0]

    slopes = torch.autograd.functional.jacobian(played, torch.zeros(7, dtype=torch.float64)).movedim(-1, 0)
    forward = torch.stack([played(step * row) - params[0] for row in torch.eye(7, dtype=torch.float64)]) / step
    torch.testing.assert_close(slopes, forward, rtol=0, atol=1e-5)  # curvature times the step


def test_codes_of_another_type_are_computed_in_the_paths():
    params, code = performance(), torch.eye(7)[:1]
    assert torch.equal(
        trained()(params, code.double(), style=torch.ones(1, 4).double()),
        trained()(params, code, style=torch.ones(1, 4)),
    )


@pytest.mark.parametrize(
    ("style", "arguments", "error", "message"),
    [
        (0, (torch.zeros(2, 52), torch.zeros(1, 7)), ValueError, r"params: expected \[B, T, 52\], got \[2, 52\]"),
        (0, (torch.zeros(2, 1, 51), torch.zeros(1, 7)), ValueError, r"params: expected \[..., 52\], got \[2, 1, 51\]"),
        (0, ([[[0.0] * 52]], torch.zeros(1, 7)), TypeError, "params: expected a tensor, got list"),
        (0, (torch.zeros(2, 1, 52), [0.0] * 7), TypeError, "target: expected a tensor, got list"),
        (
            0,
            (torch.zeros(2, 1, 52), torch.zeros(7)),
            ValueError,
            r"target: expected \[2, 7\] or \[2, 3, 7\], got \[7\]",
        ),
        (
            0,
            (torch.zeros(2, 1, 52), torch.zeros(2, 7), None, torch.zeros(2, 4)),
            ValueError,
            r"style: expected \[2, 0\] of a path made with style=0, got \[2, 4\]",
        ),
        (
            4,
            (torch.zeros(2, 1, 52), torch.zeros(2, 7), None, torch.zeros(2, 3)),
            ValueError,
            r"style: expected \[2, 4\] of a path made with style=4, got \[2, 3\]",
        ),
        (
            4,
            (torch.zeros(2, 1, 52), torch.zeros(2, 7), None, torch.zeros(3, 4)),
            ValueError,
            r"style: expected \[2, 4\] of a path made with style=4, got \[3, 4\]",
        ),
        (
            4,
            (torch.zeros(2, 1, 52), torch.zeros(2, 7), None, torch.zeros(4)),
            ValueError,
            r"style: expected \[2, 4\] of a path made with style=4, got \[4\]",
        ),
        (
            4,
            (torch.zeros(2, 1, 52), torch.zeros(2, 7), None, torch.zeros(2, 4).long()),
            TypeError,
            "style: expected floating-point numbers, got torch.int64",
        ),
    ],
)
def test_wrong_arguments_are_named(style, arguments, error, message):
    with pytest.raises(error, match=message):
        GeometryPath(style)(*arguments)


@pytest.mark.parametrize(("style", "error"), [(-1, ValueError), (2.5, TypeError), ("4", TypeError), (True, TypeError)])
def test_a_style_has_a_width(style, error):
    with pytest.raises(error, match="style: expected a width of 0 or more, got"):
        GeometryPath(style)
