"""The geometry path: identity at equal codes, the tables' faces at the anchors, articulation kept."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from emogs.emotion import EMOTIONS, GeometryPath, anchor_codes, expression_from_emotion
from emogs.emotion.tables import UNTOUCHED
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


def test_from_neutral_the_anchors_get_the_tables_faces():
    path, anchors = GeometryPath(), anchor_codes()
    out = path(torch.zeros(len(anchors), 1, 52), anchors, torch.zeros(1, 7))
    torch.testing.assert_close(out[:, 0], expression_from_emotion(anchors), atol=ROUNDING, rtol=0)


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


def test_wrong_shapes_are_named():
    with pytest.raises(ValueError, match=r"params: expected \[B, T, 52\], got \[2, 52\]"):
        GeometryPath()(torch.zeros(2, 52), torch.zeros(1, 7), torch.zeros(1, 7))
