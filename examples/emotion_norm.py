"""Give a backbone an emotion: its LayerNorm takes a scale and a shift from the code, and is itself at neutral."""

import torch

import emogs
from emogs.emotion import parse_emotion, psi

torch.manual_seed(0)
features = torch.randn(1, 1024, 256)  # [B, T, C]: tokens of some backbone
norm = torch.nn.LayerNorm(256)
projection = torch.nn.Linear(35, 2 * 256, bias=False)  # no bias: neutral gives exactly zero


def emotional_norm(x: torch.Tensor, emotion: str) -> torch.Tensor:
    scale, shift = projection(psi(parse_emotion(emotion)[None])).chunk(2, dim=-1)
    return emogs.emotion_norm(x, scale, shift, weight=norm.weight, bias=norm.bias, kind="layer", eps=norm.eps)


print("neutral differs from LayerNorm by", (emotional_norm(features, "neutral") - norm(features)).abs().max().item())
print("happy   differs from LayerNorm by", (emotional_norm(features, "happy=0.8") - norm(features)).abs().max().item())
