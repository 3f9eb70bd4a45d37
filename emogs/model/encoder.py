"""The feed-forward encoder: texture-space maps of one photo and an emotion code in, per-Gaussian residuals out.

A U-Net over the head's texture. The way down looks at the photo only and is computed once per person; the way up
listens to the emotion, so that a slider or a bake repeats half of the network. The photo's own pixels never pass
through it: they are the base that the residuals are added to (emogs/model/surface.py), and the last layer starts at
zero, so an untrained encoder is already a textured avatar.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..emotion import PSI_WIDTH, psi
from .modules import EmotionAttention, EmotionBlock, Pointwise, image, tokens

RESIDUALS = {"colors": 3, "log_scales": 3, "rotations": 3, "logit_opacities": 1, "normal_offsets": 1}
"""What the encoder predicts per texel, and how many numbers of each; normal offsets are in centimetres."""

MAP_CHANNELS = 11


@dataclass(frozen=True)
class EncoderConfig:
    """Widths of the network; `widths` are the channels at 1/2, 1/4, 1/8 and 1/16 of the texture's size."""

    size: int = 256
    widths: tuple[int, ...] = (16, 48, 96, 128)
    style: int = 32


@dataclass(frozen=True)
class Identity:
    """What the way down remembers of a person: feature maps per level, tokens of the coarsest, and a style vector."""

    levels: tuple[Tensor, ...]  # [B, widths[l], S / 2^(l + 1), S / 2^(l + 1)]
    tokens: Tensor  # [B, T, widths[-1]]
    style: Tensor  # [B, style]

    def expand(self, batch: int) -> Identity:
        """The same person repeated for a batch of emotions, without copies."""
        grow = lambda x: x.expand(batch, *x.shape[1:])  # noqa: E731
        return Identity(tuple(map(grow, self.levels)), grow(self.tokens), grow(self.style))


class AvatarEncoder(nn.Module):
    """Predicts per-texel Gaussian residuals from photo maps, conditioned on an emotion code.

    Example:
        >>> import torch
        >>> from emogs.model import AvatarEncoder
        >>> encoder = AvatarEncoder()
        >>> residuals = encoder(torch.rand(1, 11, 256, 256), torch.tensor([[1.0, 0, 0, 0, 0, 0, 0]]))
        >>> {name: tuple(value.shape) for name, value in residuals.items()}["colors"]
        (1, 256, 256, 3)
        >>> bool(residuals["colors"].any())  # untrained: the photo's own colours are left as they are
        False
    """

    def __init__(self, config: EncoderConfig = EncoderConfig()) -> None:
        super().__init__()
        self.config = config
        widths, listen = config.widths, {"code": PSI_WIDTH, "style": config.style}
        self.stem = nn.Conv2d(4 * MAP_CHANNELS, widths[0], 3, padding=1)
        self.down_blocks = nn.ModuleList(EmotionBlock(width, **listen) for width in widths)
        self.down = nn.ModuleList(nn.Conv2d(a, b, 2, stride=2) for a, b in pairwise(widths))
        self.style = nn.Linear(widths[-1], config.style)
        self.attention = EmotionAttention(widths[-1], widths[-1], code=PSI_WIDTH)
        self.up = nn.ModuleList(Pointwise(b, a) for a, b in pairwise(widths))
        self.up_blocks = nn.ModuleList(EmotionBlock(width, **listen) for width in widths)
        self.head = Pointwise(widths[0], 4 * sum(RESIDUALS.values()))
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, maps: Tensor, emotion: Tensor) -> dict[str, Tensor]:
        """Residuals of every texel.

        Args:
            maps: [B, 11, S, S] from `emogs.photo.PhotoMaps.stack`.
            emotion: [B, 7] intensities; one of the batches may be 1.
        Returns:
            for each name of RESIDUALS a tensor [B, S, S, n].
        """
        return self.express(self.identify(maps), emotion)

    def identify(self, maps: Tensor) -> Identity:
        """The way down, which no emotion enters: maps [B, 11, S, S] to the person's features."""
        size = self.config.size
        if maps.ndim != 4 or maps.shape[1:] != (MAP_CHANNELS, size, size):
            raise ValueError(f"maps: expected [B, {MAP_CHANNELS}, {size}, {size}], got {list(maps.shape)}")
        x = self.stem(functional.pixel_unshuffle(maps, 2).contiguous(memory_format=torch.channels_last))
        null, unknown = x.new_zeros(len(x), PSI_WIDTH), x.new_zeros(len(x), self.config.style)
        levels = []
        for level, block in enumerate(self.down_blocks):
            x = block(self.down[level - 1](x) if level else x, null, unknown)
            levels.append(x)
        identity = tokens(x)
        return Identity(tuple(levels), identity, self.style(identity.mean(1)))

    def express(self, identity: Identity, emotion: Tensor) -> dict[str, Tensor]:
        """The way up: the person's features and emotion [B, 7] to residuals, as `forward` returns them."""
        code = psi(emotion)
        batch = max(len(code), len(identity.style))
        code, identity = code.expand(batch, -1), identity.expand(batch)
        x = identity.levels[-1]
        x = image(self.attention(tokens(x), identity.tokens, code), x.shape[-2:])
        for level in reversed(range(len(self.up_blocks))):
            x = self.up_blocks[level](x, code, identity.style)
            if level:
                x = functional.interpolate(self.up[level - 1](x), scale_factor=2) + identity.levels[level - 1]
        fields = functional.pixel_shuffle(self.head(x), 2).permute(0, 2, 3, 1)
        return dict(zip(RESIDUALS, fields.split(list(RESIDUALS.values()), dim=-1), strict=True))
