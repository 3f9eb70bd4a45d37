"""What is made once and kept, by whoever asks first, also serves those who want gradients."""

import dataclasses

import pytest
import torch
from torch import Tensor, nn

from emogs.head import builtin_head
from emogs.model import from_photo, surface
from emogs.photo.expression_prior import arkit_prior
from emogs.photo.landmark_model import landmark_model
from emogs.photo.landmarks import landmark_net


def tensors(thing):
    if isinstance(thing, Tensor):
        yield thing
    elif isinstance(thing, nn.Module):
        yield from thing.state_dict(keep_vars=True).values()
    elif dataclasses.is_dataclass(thing):
        yield from tensors([getattr(thing, field.name) for field in dataclasses.fields(thing)])
    elif isinstance(thing, (list, tuple)):
        for part in thing:
            yield from tensors(part)


@pytest.mark.parametrize(
    "kept",
    [builtin_head, from_photo._texels, surface._greatest_stretch, arkit_prior, landmark_model,
     landmark_net],
)  # fmt: skip
def test_made_in_inference_mode(kept):
    of_a_head = kept in (from_photo._texels, surface._greatest_stretch, landmark_model)
    arguments = [builtin_head()] if of_a_head else []
    with torch.inference_mode():
        made = list(tensors(kept.__wrapped__(*arguments)))
    assert made and not any(tensor.is_inference() for tensor in made)
