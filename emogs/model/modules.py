"""Building blocks that listen to an emotion code: a residual block, and attention with psi-scaled values.

Every network of the code is free of biases, so that the null code (psi = 0) contributes exactly zero.
Tokens are [B, T, C]; images are [B, C, H, W] in channels-last memory: going from one to the other copies nothing.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..nn import EmotionNorm


class EmotionBlock(nn.Module):
    """Pre-norm residual block: emotion norm, 3x3 convolution, SiLU, 1x1 convolution."""

    def __init__(self, channels: int, *, code: int, style: int) -> None:
        super().__init__()
        self.norm = EmotionNorm(channels, code, hidden_dim=64, style_dim=style)
        self.mix = nn.Conv2d(channels, channels, 3, padding=1)
        self.out = Pointwise(channels, channels)

    def forward(self, x: Tensor, psi: Tensor, style: Tensor) -> Tensor:
        normed = image(self.norm(tokens(x), psi, style), x.shape[-2:])
        return x + self.out(functional.silu(self.mix(normed)))


class Pointwise(nn.Linear):
    """A 1x1 convolution of [B, C, H, W]; channels-last memory makes it one matrix product."""

    def forward(self, x: Tensor) -> Tensor:
        return image(super().forward(tokens(x)), x.shape[-2:])


class EmotionAttention(nn.Module):
    """Emotion tokens read the identity; texture tokens read the emotion tokens, their values scaled by psi.

        u_k  = t_k + attention(t_k, identity tokens)
        dx_i = sum_k softmax_k(q_i . K u_k) psi_k V u_k

    There is one emotion token t_k per component of psi. The weights do not depend on the code, so dx is linear in psi.
    """

    def __init__(self, channels: int, identity: int, *, code: int, heads: int = 4) -> None:
        super().__init__()
        self.heads = heads
        self.emotion = nn.Parameter(torch.randn(code, channels) * channels**-0.5)
        self.read = nn.Linear(channels, channels, bias=False)
        self.identity = nn.Linear(identity, 2 * channels, bias=False)
        self.query = nn.Linear(channels, channels, bias=False)
        self.key = nn.Linear(channels, channels, bias=False)
        self.value = nn.Linear(channels, channels, bias=False)

    def forward(self, x: Tensor, identity: Tensor, psi: Tensor) -> Tensor:
        """x [B, T, C], identity tokens [B, S, identity], psi [B, code] -> x + dx [B, T, C]."""
        key, value = self._split(self.identity(identity)).chunk(2, dim=-1)
        start = self.emotion.expand(len(identity), -1, -1)
        emotion = start + self._join(functional.scaled_dot_product_attention(self._split(self.read(start)), key, value))
        value = self.value(emotion) * psi[..., None]
        attended = functional.scaled_dot_product_attention(
            self._split(self.query(x)), self._split(self.key(emotion)), self._split(value)
        )
        return x + self._join(attended)

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def _join(self, x: Tensor) -> Tensor:
        return x.transpose(1, 2).flatten(2)


def tokens(x: Tensor) -> Tensor:
    """[B, C, H, W] to [B, H W, C]."""
    return x.permute(0, 2, 3, 1).flatten(1, 2)


def image(x: Tensor, shape: torch.Size | tuple[int, int]) -> Tensor:
    """[B, H W, C] to [B, C, H, W]."""
    return x.unflatten(1, shape).permute(0, 3, 1, 2)
