"""Give a backbone an emotion: its LayerNorm takes a scale and a shift from the code, and is itself at neutral."""

import torch

from emogs.emotion import parse_emotion, psi
from emogs.nn import EmotionNorm

torch.manual_seed(0)
features = torch.randn(1, 1024, 256)  # [B, T, C]: tokens of some backbone
norm = torch.nn.LayerNorm(256)
emotional = EmotionNorm.from_norm(norm, emotion_dim=35)
torch.nn.init.normal_(emotional.projection.weight, std=0.1)  # as if trained; it starts from zero

for emotion in ("neutral", "happy=0.8"):
    change = emotional(features, psi(parse_emotion(emotion)[None])) - norm(features)
    print(f"{emotion:9s} differs from LayerNorm by {change.abs().max().item():.1e}")
