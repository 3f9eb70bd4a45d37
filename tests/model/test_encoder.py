"""The encoder: an untrained one changes nothing, a null code adds nothing, a person's features are computed once."""

import re

import pytest
import torch

from emogs.emotion import PSI_WIDTH
from emogs.model.encoder import MAP_CHANNELS, RESIDUALS, AvatarEncoder, EncoderConfig
from emogs.model.modules import EmotionAttention

SMALL = EncoderConfig(size=32, widths=(8, 8, 16, 16), style=4)
HAPPY = torch.tensor([[1.0, 0, 0, 0, 0, 0, 0]])
NEUTRAL = torch.zeros(1, 7)


@pytest.fixture
def maps():
    return torch.rand(1, MAP_CHANNELS, 32, 32, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def trained():
    """An encoder whose zero-initialised layers have moved, as training would move them."""
    torch.manual_seed(0)
    encoder = AvatarEncoder(SMALL)
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter += 0.05 * torch.randn_like(parameter)
    return encoder


def test_an_untrained_encoder_leaves_the_photo_as_it_is(maps):
    for name, residual in AvatarEncoder(SMALL)(maps, HAPPY).items():
        assert residual.shape == (1, 32, 32, RESIDUALS[name])
        assert not residual.any()


def test_a_trained_encoder_answers_to_the_emotion(maps, trained):
    happy, neutral = trained(maps, HAPPY), trained(maps, NEUTRAL)
    assert all((happy[name] - neutral[name]).abs().max() > 1e-4 for name in RESIDUALS)


def test_a_batch_of_emotions_equals_one_at_a_time(maps, trained):
    codes = torch.rand(3, 7, generator=torch.Generator().manual_seed(1))
    together = trained.express(trained.identify(maps), codes)
    for index, code in enumerate(codes):
        alone = trained(maps, code[None])
        for name in RESIDUALS:
            # convolutions may sum in another order for another batch size: a few roundings of numbers near one
            torch.testing.assert_close(together[name][index], alone[name][0], rtol=1e-4, atol=1e-5)


def test_gradients_reach_every_parameter(maps, trained):
    sum(residual.square().sum() for residual in trained(maps, HAPPY).values()).backward()
    # the way down hears the null code and an unknown style, so its code projections have nothing to learn from
    deaf = re.compile(r"down_blocks\.\d\.norm\.(hidden|projection|style)")
    for name, parameter in trained.named_parameters():
        assert deaf.match(name) or (parameter.grad is not None and parameter.grad.any()), name


def test_maps_of_another_size_are_refused(trained):
    with pytest.raises(ValueError, match=r"maps: expected \[B, 11, 32, 32\], got \[1, 11, 16, 16\]"):
        trained(torch.zeros(1, 11, 16, 16), HAPPY)


def test_attention_is_linear_in_psi_and_exactly_nothing_at_null():
    torch.manual_seed(0)
    attention = EmotionAttention(16, 12, code=PSI_WIDTH)
    x, identity = torch.randn(1, 9, 16), torch.randn(1, 7, 12)
    a, b = torch.rand(1, PSI_WIDTH), torch.rand(1, PSI_WIDTH)
    change = lambda code: attention(x, identity, code) - x  # noqa: E731
    assert torch.equal(attention(x, identity, torch.zeros(1, PSI_WIDTH)), x)
    torch.testing.assert_close(change(a + 2 * b), change(a) + 2 * change(b), rtol=1e-4, atol=1e-5)
