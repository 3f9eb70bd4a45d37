"""The geometry path: from the parameters of a face in one emotion to those of the same performance in another.

It knows only parameters over time, no mesh and no image, so it serves any backbone. What a performance says (fast,
around the mean p0 + mu) is rescaled; what it feels (the mean mu) is replaced; gaze and blinks stay.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ..head.template import ARKIT_NAMES
from ..ops.renorm import emotion_renorm
from .checks import check_floats
from .codes import PSI_WIDTH, psi
from .mixing import expression_from_emotion
from .regions import select_regions
from .tables import EMOTIONS, UNTOUCHED, default_tables

_LIDS = torch.tensor(
    [
        [ARKIT_NAMES.index(f"{name}{side}"), ARKIT_NAMES.index(f"eyeBlink{side}")]
        for side in ("Left", "Right")
        for name in ("eyeWide", "eyeSquint")
    ]
).unbind(1)
"""Channels that turn the lids which a blink turns, and the blink of the same side."""


def anchor_codes() -> Tensor:
    """[35, 7] seven full emotions, seven halves, twenty-one pairs of halves: the codes at which psi is triangular."""
    full = torch.eye(len(EMOTIONS))
    pairs = 0.5 * full[torch.combinations(torch.arange(len(EMOTIONS)))].sum(1)
    return torch.cat([full, 0.5 * full, pairs])


class GeometryPath(nn.Module):
    """Emotion-conditioned renormalization of ARKit channels.

        p' = p + m * [expm1(lambda(e) - lambda(e_s)) * (p - p0 - mu(e_s, z)) + mu(e, z) - mu(e_s, z)]
        mu(e, z) = (table(e) + M psi(e)) * (1 + A z),    lambda(e) = ln2 tanh(L psi(e))

    e is the target's code, e_s the source's, z an identity style, table(e) is `expression_from_emotion`. It is exactly
    p where both codes are equal, causal, and works on a single frame. M, A and L start from zero: before training it
    wears the tables' faces, compounds and saturating mixes included. M psi(e) alone is quadratic in e and could meet
    them at the 35 anchors only: a named compound is a face of its own among the mixes of two emotions.

    Args:
        style: width of z; 0 for none.
    Raises:
        TypeError, ValueError: such a width does not exist.

    Example:
        >>> import torch
        >>> path, happy = GeometryPath(), torch.eye(7)[:1]
        >>> smile = path(torch.zeros(1, 10, 52), target=happy, source=torch.zeros(1, 7))
        >>> smile.shape
        torch.Size([1, 10, 52])
    """

    def __init__(self, style: int = 0) -> None:
        super().__init__()
        if isinstance(style, bool) or not isinstance(style, int):
            raise TypeError(f"style: expected a width of 0 or more, got {style!r}")
        if style < 0:
            raise ValueError(f"style: expected a width of 0 or more, got {style}")
        channels = len(ARKIT_NAMES)
        self.offset = nn.Parameter(torch.zeros(channels, PSI_WIDTH))  # M [52, 35], what training adds to the tables
        self.personal = nn.Parameter(torch.zeros(channels, style))  # A [52, style]
        self.spread = nn.Parameter(torch.zeros(channels, PSI_WIDTH))  # L [52, 35]
        self.neutral: Tensor  # p0 [52], the mean of neutral speech
        self.mask: Tensor  # m [52], 0 for gaze and blinks
        self.region: Tensor  # [52] which region's code moves a channel
        self.register_buffer("neutral", torch.zeros(channels))
        self.register_buffer("region", default_tables().shape_regions, persistent=False)
        self.register_buffer("mask", torch.tensor([float(name not in UNTOUCHED) for name in ARKIT_NAMES]))

    def forward(
        self,
        params: Tensor,
        target: Tensor,
        source: Tensor | None = None,
        style: Tensor | None = None,
        *,
        clamp: bool = False,
    ) -> Tensor:
        """A performance in another emotion.

        Args:
            params: [B, T, 52] channel values of the performance.
            target, source: [B, 7] codes it shall have and has, or [B, R, 7] a code for each region of the tables
                (brow, eyes, mouth), which moves that region's channels; computed in the path's own type. A source of
                None is neutral.
            style: [B, style] of the identity; None is zero.
            clamp: make the result one that a template wears: in [0, 1], and what the emotion adds to `eyeWide` and
                `eyeSquint` only as far as `eyeBlink` leaves the eye open, since in a template the turns of a lid add up
                and a surprised face would never shut its eyes. Off by default: it would break the identity at equal
                codes for trackers that leave the range, and its gradient is zero where training needs one most.
        Returns:
            [B, T, 52], differentiable once in all tensors.
        Raises:
            TypeError, ValueError: an argument is no tensor of floats or has another shape; the message says which.
        """
        check_floats("params", params, len(ARKIT_NAMES))
        if params.ndim != 3:
            raise ValueError(f"params: expected [B, T, {len(ARKIT_NAMES)}], got {list(params.shape)}")
        manner = self._manner(style, len(params))
        code = self._codes("target", target, len(params))
        shift, log_spread = self._mean(code) * manner, self._log_spread(code)
        center = self.neutral.expand(len(params), -1)
        if source is not None:
            code = self._codes("source", source, len(params))
            mean = self._mean(code) * manner
            center, shift, log_spread = center + mean, shift - mean, log_spread - self._log_spread(code)
        out = emotion_renorm(params, center, torch.expm1(log_spread), shift, channels=self.mask)
        return self._worn(params, out) if clamp else out

    def _worn(self, params: Tensor, out: Tensor) -> Tensor:
        """[B, T, 52] in [0, 1]; lids that a blink shuts stay shut: p' = p + (1 - blink) (out - p)."""
        lids, blinks = (channels.to(params.device) for channels in _LIDS)
        open_ = 1 - params[..., blinks].clamp(0, 1)
        worn = params[..., lids] + open_ * (out[..., lids] - params[..., lids])
        return out.index_copy(-1, lids, worn).clamp(0, 1)

    def _mean(self, codes: Tensor) -> Tensor:
        """mu [B, 52] at no style: the face of an emotion."""
        return self._by_region(expression_from_emotion(codes) + psi(codes) @ self.offset.T)

    def _manner(self, style: Tensor | None, batch: int) -> Tensor | float:
        """1 + A z [B, 52]: how far an identity shows its emotions."""
        width = self.personal.shape[1]
        if style is None:
            return 1.0
        check_floats("style", style)
        if style.ndim != 2 or style.shape[1] != width or len(style) not in (1, batch):
            made = f"of a path made with style={width}"
            raise ValueError(f"style: expected [{batch}, {width}] {made}, got {list(style.shape)}")
        return 1 + style.to(self.personal.dtype) @ self.personal.T

    def _log_spread(self, codes: Tensor) -> Tensor:
        """lambda [B, 52]: the log of how far speech moves a channel in an emotion, within a factor of two."""
        return math.log(2) * torch.tanh(self._by_region(psi(codes) @ self.spread.T))

    def _codes(self, name: str, codes: Tensor, batch: int) -> Tensor:
        """[B, 7] or [B, R, 7], checked; a B of 1 broadcasts."""
        regions = int(self.region.amax()) + 1
        check_floats(name, codes, len(EMOTIONS))
        if codes.ndim not in (2, 3) or (codes.ndim == 3 and codes.shape[1] != regions) or len(codes) not in (1, batch):
            expected = f"[{batch}, {len(EMOTIONS)}] or [{batch}, {regions}, {len(EMOTIONS)}]"
            raise ValueError(f"{name}: expected {expected}, got {list(codes.shape)}")
        return codes.to(self.offset.dtype).expand(batch, *codes.shape[1:])

    def _by_region(self, values: Tensor) -> Tensor:
        """[B, 52] of [B, 52], or of [B, R, 52] each channel's value in its own region."""
        return values if values.ndim == 2 else select_regions(values, self.region)
