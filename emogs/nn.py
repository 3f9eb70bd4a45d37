"""Normalization layers that listen to an emotion code: `EmotionNorm`, in place of `torch.nn.LayerNorm` or `RMSNorm`.

It is the plain norm at the start and, whatever it has learnt, at the null code: what it makes of the code is a product
without a bias.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from emogs.checks import Arguments
from emogs.ops.norm import Kind, emotion_norm

__all__ = ["EmotionNorm"]


class EmotionNorm(nn.Module):
    """Layer or RMS norm whose scale and shift follow an emotion code.

        y = norm(x) * (1 + scale) + shift,    [scale, shift] = projection(hidden(code)) * (1 + style(z))

    norm(x) includes weight and bias. `hidden` (a bias-free layer and SiLU) and `style` are there if asked for. All
    projections start from zero or act on such; see `emogs.emotion_norm` for the types that x may have.

    Args:
        normalized_shape: trailing sizes of x that are normalized together, as in `torch.nn.LayerNorm`; C is their
            product.
        emotion_dim: E, the width of the code.
        kind: "layer" subtracts the mean, "rms" does not.
        regions: R gives each of R regions of a face a projection of its own; None: one for all.
        gated: the code also opens or closes a branch: needs a residual, and starts with the branch as it is.
        hidden_dim: width of the layer between code and projection; None: none, the projection is linear.
        style_dim: width of the identity style z, which scales how strongly this person reacts; None: none.
        eps: added to the variance; None: that of the arithmetic's type, as in `torch.nn.RMSNorm`.
        elementwise_affine: whether there is a weight; `bias`: whether there is also a bias, "layer" only.
    Raises:
        TypeError, ValueError: a size, a kind or eps does not fit.

    >>> norm = EmotionNorm.from_norm(torch.nn.LayerNorm(256), emotion_dim=35)
    >>> x, code = torch.randn(2, 100, 256), torch.rand(2, 35)
    >>> norm(x, code).shape
    torch.Size([2, 100, 256])
    """

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        emotion_dim: int,
        kind: Kind = "layer",
        regions: int | None = None,
        *,
        gated: bool = False,
        hidden_dim: int | None = None,
        style_dim: int | None = None,
        eps: float | None = 1e-6,
        elementwise_affine: bool = True,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if kind not in ("layer", "rms"):
            raise ValueError(f'EmotionNorm: kind must be "layer" or "rms", got {kind!r}')
        shape = (normalized_shape,) if isinstance(normalized_shape, int) else normalized_shape
        if isinstance(shape, str) or not isinstance(shape, Sequence) or not shape or not all(map(_is_size, shape)):
            raise ValueError(f"EmotionNorm: normalized_shape must be one or several sizes, got {normalized_shape!r}")
        widths = {"emotion_dim": emotion_dim, "regions": regions, "hidden_dim": hidden_dim, "style_dim": style_dim}
        for name, width in widths.items():
            if not _is_size(width) and (width is not None or name == "emotion_dim"):
                raise ValueError(f"EmotionNorm: {name} must be an int of at least 1, got {width!r}")
        if eps is not None:
            Arguments("EmotionNorm").check_eps(eps)
        shape = tuple(shape)
        self.normalized_shape, self.channels = shape, math.prod(shape)
        self.emotion_dim, self.kind, self.regions, self.gated, self.eps = emotion_dim, kind, regions, gated, eps
        placed: dict[str, Any] = {"device": device, "dtype": dtype}
        has_bias = elementwise_affine and bias and kind == "layer"
        self.weight = nn.Parameter(torch.ones(shape, **placed)) if elementwise_affine else None
        self.bias = nn.Parameter(torch.zeros(shape, **placed)) if has_bias else None
        width = (3 if gated else 2) * (regions or 1) * self.channels
        self.hidden = nn.Linear(emotion_dim, hidden_dim, bias=False, **placed) if hidden_dim else None
        self.projection = nn.Linear(hidden_dim or emotion_dim, width, bias=False, **placed)
        self.style = nn.Linear(style_dim, width, bias=False, **placed) if style_dim else None
        self.reset_projection()

    @classmethod
    def from_norm(cls, norm: nn.Module, emotion_dim: int, regions: int | None = None, **options: Any) -> EmotionNorm:
        """An EmotionNorm that takes over another norm's shape, eps and affine; the parameters are shared, not copied.

        Args:
            norm: `torch.nn.LayerNorm`, `torch.nn.RMSNorm`, or a module that computes the latter's formula from a
                `weight` and an `eps` or `variance_epsilon`, as language models bring their own.
            emotion_dim, regions, options: as for the class, without what the norm knows.
        Raises:
            TypeError: it is no such norm, computes something else, or an option contradicts it.
        """
        for name in ("normalized_shape", "kind", "eps", "elementwise_affine", "bias"):
            if name in options:
                raise TypeError(f"EmotionNorm.from_norm: {name} must be left to the norm, got {options[name]!r}")
        weight: Any = getattr(norm, "weight", None)
        eps: Any = getattr(norm, "eps", getattr(norm, "variance_epsilon", None))
        known = isinstance(norm, (nn.LayerNorm, nn.RMSNorm))
        foreign = not type(norm).__module__.startswith("torch.")
        similar = foreign and isinstance(weight, Tensor) and weight.ndim == 1 and isinstance(eps, float)
        if not known and not similar:
            raise TypeError(f"EmotionNorm: cannot stand in for {type(norm).__name__}: no LayerNorm, no RMSNorm")
        kind: Kind = "layer" if isinstance(norm, nn.LayerNorm) else "rms"
        shape: Any = getattr(norm, "normalized_shape", None) or weight.shape
        if weight is not None:
            options = {"device": weight.device, "dtype": weight.dtype} | options
        made = cls(shape, emotion_dim, kind, regions, eps=eps, elementwise_affine=False, **options)
        made.weight, made.bias = weight, getattr(norm, "bias", None)
        if not known and not made._computes_what(norm):
            raise TypeError(f"EmotionNorm: {type(norm).__name__} has a weight and an eps, but is no plain RMSNorm")
        return made.train(norm.training)

    def _computes_what(self, norm: nn.Module) -> bool:
        """On one random row; some norms multiply by 1 + weight, or subtract a mean after all."""
        assert self.weight is not None
        if self.weight.is_meta:
            return True
        row = torch.randn(1, 1, self.channels, generator=torch.Generator().manual_seed(0)).to(self.weight)
        with torch.no_grad():
            ours, theirs = self(row + 0.5, row.new_zeros(1, self.emotion_dim)), norm(row + 0.5)
        tolerance = 4 * torch.finfo(row.dtype).eps
        return torch.allclose(ours, theirs.to(ours.dtype), rtol=max(tolerance, 1e-5), atol=max(tolerance, 1e-5))

    def reset_projection(self) -> None:
        """Forgets what the code does: the plain norm again."""
        nn.init.zeros_(self.projection.weight)
        if self.style is not None:
            nn.init.zeros_(self.style.weight)

    def forward(
        self,
        x: Tensor,
        emotion: Tensor,
        style: Tensor | None = None,
        *,
        residual: Tensor | None = None,
        gate: Tensor | None = None,
        region: Tensor | None = None,
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Normalizes tokens as the code says.

        Args:
            x: [B, ..., *normalized_shape].
            emotion: [B, E], or [B, R, E] for a code of its own in each region. [E], [1, E] or [1, R, E] is one for all.
            style: [B, style_dim] of the identity, or [1, style_dim]; None leaves the code's effect as it is.
            residual: like x: `residual + (1 + gate) * x` is normalized, and returned too. A `gated` module needs it.
            gate: [B, C] or [B, R, C] of the caller's, where the module is not `gated` itself.
            region: [B, T] or [T] int32 or int64, T the product of x's middle sizes: which region a token belongs to.
                Needed where there are regions, by the module or by the code.
        Returns:
            y like x, or (y, residual_out).
        Raises:
            TypeError, ValueError: an argument does not fit; the message says how.
        """
        self._check_tokens("x", x)
        if residual is not None:
            self._check_tokens("residual", residual)
            if residual.shape != x.shape:
                raise ValueError(f"EmotionNorm: residual must be {list(x.shape)} like x, got {list(residual.shape)}")
        modulation = self.modulation(emotion, style)
        if len(modulation) not in (1, len(x)):
            given = (("emotion", emotion), ("style", style))
            name, shape = next((n, list(t.shape)) for n, t in given if t is not None and len(t) == len(modulation))
            raise ValueError(f"EmotionNorm: {name} must be one row a sample, [B={len(x)}, ...], or one, got {shape}")
        modulation = modulation.expand(len(x), *modulation.shape[1:])
        self._check_company(x, modulation, residual, gate, region)
        tokens = (x.shape[0], math.prod(x.shape[1 : x.ndim - len(self.normalized_shape)]), self.channels)
        options: dict[str, Any] = {
            "weight": None if self.weight is None else self.weight.flatten(),
            "bias": None if self.bias is None else self.bias.flatten(),
            "kind": self.kind,
            "eps": self.eps if self.eps is not None else _own_eps(x.dtype),
            "residual": None if residual is None else residual.reshape(tokens),
            "gate": modulation[..., 2, :] if self.gated else gate,
            "region": region,
        }
        out = emotion_norm(x.reshape(tokens), modulation[..., 0, :], modulation[..., 1, :], **options)
        if isinstance(out, Tensor):
            return out.reshape(x.shape)
        return out[0].reshape(x.shape), out[1].reshape(x.shape)

    def modulation(self, emotion: Tensor, style: Tensor | None = None) -> Tensor:
        """Scale, shift and, if gated, gate [B, 2 or 3, C] of a code; [B, R, 2 or 3, C] with regions; B is 1 for [E]."""
        if not isinstance(emotion, Tensor):
            raise TypeError(f"EmotionNorm: emotion must be a tensor, got {type(emotion).__name__}")
        rows = "R" if self.regions is None else self.regions
        several = emotion.ndim == 3 and self.regions in (None, emotion.shape[1])
        if (emotion.ndim not in (1, 2) and not several) or emotion.shape[-1] != self.emotion_dim:
            expected = f"[{self.emotion_dim}], [B, {self.emotion_dim}] or [B, {rows}, {self.emotion_dim}]"
            raise ValueError(f"EmotionNorm: emotion must be {expected}, got {list(emotion.shape)}")
        emotion = emotion[None] if emotion.ndim == 1 else emotion
        code = emotion.to(self.projection.weight.dtype)
        if self.hidden is not None:
            code = functional.silu(self.hidden(code))
        if self.regions and emotion.ndim == 3:
            projections = self.projection.weight.unflatten(0, (self.regions, -1))
            change = torch.einsum("bre,rce->brc", code, projections).flatten(1)
        else:
            change = self.projection(code)
        if style is not None:
            strength = 1 + self._check_style(style, len(emotion))(style)
            change = change * (strength if change.ndim == 2 else strength[:, None])
        regions = (self.regions,) if self.regions else ()
        return change.unflatten(-1, (*regions, 3 if self.gated else 2, self.channels))

    def _check_style(self, style: object, batch: int) -> nn.Linear:
        """The style's layer."""
        if self.style is None:
            raise ValueError("EmotionNorm: style must be None in a module without style_dim, got a tensor")
        if not isinstance(style, Tensor):
            raise TypeError(f"EmotionNorm: style must be a tensor, got {type(style).__name__}")
        fits = style.ndim == 2 and style.shape[1] == self.style.in_features
        if not fits or (len(style) != batch and 1 not in (len(style), batch)):
            expected = f"[B, {self.style.in_features}] with B of emotion's {batch} or 1"
            raise ValueError(f"EmotionNorm: style must be {expected}, got {list(style.shape)}")
        return self.style

    def _check_company(
        self, x: Tensor, modulation: Tensor, residual: Tensor | None, gate: Tensor | None, region: Tensor | None
    ) -> None:
        """What needs or excludes each other."""
        arguments = Arguments("EmotionNorm")
        if self.gated and gate is not None:
            raise arguments.fail("gate", "None in a gated module", "a tensor")
        if self.gated and residual is None:
            raise arguments.fail("residual", f"{list(x.shape)} like x in a gated module", None)
        if gate is not None and residual is None:
            raise arguments.fail("gate", "None without a residual", "a tensor")
        by_region = modulation.ndim == 4
        if by_region and region is None:
            raise arguments.fail("region", "[B, T] or [T] where module or code have regions", None)
        if isinstance(region, Tensor) and not by_region and not (isinstance(gate, Tensor) and gate.ndim == 3):
            raise arguments.fail("region", "None where neither module nor code have regions", list(region.shape))

    def _check_tokens(self, name: str, value: object) -> None:
        if not isinstance(value, Tensor):
            raise TypeError(f"EmotionNorm: {name} must be a tensor, got {type(value).__name__}")
        trailing = len(self.normalized_shape)
        if value.ndim <= trailing or value.shape[-trailing:] != self.normalized_shape:
            expected = ", ".join(map(str, self.normalized_shape))
            raise ValueError(f"EmotionNorm: {name} must be [B, ..., {expected}], got {list(value.shape)}")

    def extra_repr(self) -> str:
        given = {"emotion_dim": self.emotion_dim, "kind": self.kind, "regions": self.regions, "eps": self.eps}
        return ", ".join([str(self.normalized_shape), *(f"{k}={v}" for k, v in given.items() if v is not None)])

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        """The state of a plain norm loads too: what it knows nothing of stays as it is."""
        own = {prefix + name: value for name, value in self.state_dict().items() if name not in ("weight", "bias")}
        if own.keys().isdisjoint(state_dict):
            state_dict.update(own)
        super()._load_from_state_dict(state_dict, prefix, *rest)


def _is_size(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _own_eps(dtype: torch.dtype) -> float:
    return torch.finfo(torch.float64 if dtype == torch.float64 else torch.float32).eps
