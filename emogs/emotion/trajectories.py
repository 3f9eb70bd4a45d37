"""Emotion over time: keyframes, an onset to an apex and an offset, read at any instant or frame rate.

Time is a clock in seconds, not a count of frames: whoever asks what is felt at an instant gets the same answer, for any
identity and any frame rate. Between keyframes the way is that of least jerk from rest to rest (Flash & Hogan 1985),
`a + (b - a) (10 s^3 - 15 s^4 + 6 s^5)`, which never leaves the values it connects.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from .checks import check_floats, check_number

Ease = Literal["minimum jerk", "linear", "hold"]
EASES: tuple[Ease, ...] = ("minimum jerk", "linear", "hold")
"""How values change between keyframes; "hold" keeps the earlier one, as labels do."""

MOST_FRAMES = 10_000_000
"""Of one call: four days at 25 frames a second."""


@dataclass(frozen=True, eq=False)
class Trajectory:
    """Values over time: keyframes of emotion codes, units, shapes or whatever else is a vector.

    Args:
        times: [K] seconds, increasing; K is at least 1.
        values: [K, D]. Before the first keyframe the first value holds, after the last the last.
        ease: how values change in between.
    Raises:
        TypeError, ValueError: these do not fit.

    >>> surprised = Trajectory(torch.tensor([0.0, 0.5]), torch.eye(7)[[0, 2]])
    >>> surprised.at(torch.tensor([0.25]))[0, :3]
    tensor([0.5000, 0.0000, 0.5000])
    """

    times: Tensor
    values: Tensor
    ease: Ease = "minimum jerk"

    def __post_init__(self) -> None:
        check_floats("times", self.times)
        check_floats("values", self.values)
        if self.times.ndim != 1 or not len(self.times) or self.values.ndim != 2 or len(self.values) != len(self.times):
            raise ValueError(
                f"Trajectory: expected times [K] and values [K, D], got {list(self.times.shape)} "
                f"and {list(self.values.shape)}"
            )
        check_clock(self.times, self.ease)

    @property
    def duration(self) -> float:
        """Seconds from the first keyframe to the last."""
        return float(self.times[-1] - self.times[0])

    def at(self, times: Tensor | float) -> Tensor:
        """Values [..., D] at instants [...] in seconds; differentiable in values, and in times where it moves.

        Identities recorded at different instants may come together: times may be [B, T]. One instant may be a number.
        Instants that are NaN in a tensor give NaN.
        """
        if isinstance(times, (int, float)):
            if not math.isfinite(times):
                raise ValueError(f"times: expected finite seconds, got {times}")
            times = torch.tensor(times, dtype=torch.float64, device=self.times.device)
        check_floats("times", times)
        clock = self.times.to(torch.float64)
        instants = times.to(torch.float64)
        after = torch.searchsorted(clock.detach(), instants.detach().contiguous(), right=True)
        first, last = (after - 1).clamp_min(0), after.clamp_max(len(clock) - 1)
        span = clock[last] - clock[first]
        share = torch.where(span > 0, (instants - clock[first]) / torch.where(span > 0, span, 1), 0).clamp(0, 1)
        share = torch.where(instants.isnan(), instants, _eased(share, self.ease)).to(self.values)[..., None]
        return self.values[first] + share * (self.values[last] - self.values[first])

    def frames(self, fps: float, duration: float | None = None) -> Tensor:
        """Values [T, D] at `frame_times(fps, ...)` from the first keyframe's time on.

        Args:
            fps: frames a second.
            duration: seconds; None is up to the last keyframe, included.
        """
        times = frame_times(fps, self.duration if duration is None else duration)
        return self.at(times + self.times[0].double())


def check_clock(times: Tensor, ease: object) -> None:
    """Raises ValueError if instants [K] do not follow each other, or if there is no such way between them."""
    instants = times.detach().double()
    late = torch.cat([instants.isfinite()[:1], (instants.diff() > 0) & instants[1:].isfinite()])
    if not bool(late.all()):
        i = int(late.logical_not().nonzero()[0])
        found = f"{instants[i]:g}" + (f" after {instants[i - 1]:g}" if i else "")
        raise ValueError(f"times: expected finite seconds, each later than the one before, got {found}")
    if ease not in EASES:
        raise ValueError(f"ease: expected one of {', '.join(EASES)}, got {ease!r}")


def frame_times(fps: float, duration: float) -> Tensor:
    """[T] float64 seconds of the frames from 0 to the duration, its end included: frame i is at i / fps exactly.

    Raises:
        ValueError: the rate is not above 0, the duration negative, or there would be more than `MOST_FRAMES`.

    >>> frame_times(25, 0.1)
    tensor([0.0000, 0.0400, 0.0800], dtype=torch.float64)
    """
    if check_number("fps", fps) <= 0:
        raise ValueError(f"fps: expected a number above 0, got {fps!r}")
    if not check_number("duration", duration, 0) * fps < MOST_FRAMES:
        raise ValueError(
            f"duration: {duration:g} seconds at {fps:g} frames a second make more than {MOST_FRAMES:g} frames"
        )
    return torch.arange(int(duration * fps + 1e-9) + 1, dtype=torch.float64) / fps


def pulse(code: Tensor, onset: float, apex: float, offset: float, start: float = 0.0) -> Trajectory:
    """One episode of an emotion: up from neutral for `onset` seconds, held for `apex`, back to neutral for `offset`.

    Args:
        code: [D] at the apex; neutral is zero.
        onset, apex, offset: seconds; onset and offset above 0.
        start: when the onset begins.

    >>> smile = pulse(torch.eye(7)[0], onset=0.5, apex=1.0, offset=0.8)
    >>> smile.frames(10)[[0, 5, 23], 0]
    tensor([0., 1., 0.])
    """
    check_floats("code", code)
    if code.ndim != 1:
        raise ValueError(f"code: expected [D], got {list(code.shape)}")
    check_number("start", start)
    for name, seconds in (("onset", onset), ("apex", apex), ("offset", offset)):
        check_number(name, seconds, 0)
    if not (onset and offset):
        zero = " and ".join(name for name, seconds in (("onset", onset), ("offset", offset)) if not seconds)
        raise ValueError(f"{zero}: expected seconds above 0, got 0")
    times = [start, start + onset, start + onset + apex, start + onset + apex + offset]
    values = [torch.zeros_like(code), code, code, torch.zeros_like(code)]
    if times[1] == times[2]:
        times, values = times[:2] + times[3:], values[:2] + values[3:]
    return Trajectory(torch.tensor(times, dtype=torch.float64), torch.stack(values))


class Episode(NamedTuple):
    """When an emotion came, stayed and went, in seconds, and how strong it was."""

    start: float
    onset: float
    """How long it rose."""
    apex: float
    """How long it stayed near its peak."""
    offset: float
    """How long it fell."""
    peak: float


def find_episode(times: Tensor, intensity: Tensor, near: float = 0.95) -> Episode | None:
    """Onset, apex and offset around the strongest moment of an intensity over time.

    The apex is where it stays above `near` times its peak; onset and offset reach to where it is below `1 - near` times
    its peak. A minimum-jerk `pulse` spends a fifth of its way up below and above these; `find_episode` puts that back,
    so that the pulse's own durations come back, to the distance of the samples. Other courses than that get the
    durations of the pulse that passes their two levels at the same instants. None if nothing is above zero.

    Args:
        times: [T] seconds, increasing. intensity: [T], not negative.
        near: between 0.5 and 1.
    """
    check_floats("intensity", intensity)
    if intensity.ndim != 1:
        raise ValueError(f"intensity: expected [T], got {list(intensity.shape)}")
    track = Trajectory(times, intensity[:, None], "linear")
    if not 0.5 < check_number("near", near) < 1:
        raise ValueError(f"near: expected a number between 0.5 and 1, got {near!r}")
    peak, top = intensity.detach().double().max(0)
    if not float(peak) > 0:
        return None
    level = (track.values[:, 0].detach().double() / peak).tolist()
    clock = track.times.double().tolist()
    rise_low, rise_high = (_crossing(clock, level, int(top), share, -1) for share in (1 - near, near))
    fall_high, fall_low = (_crossing(clock, level, int(top), share, +1) for share in (near, 1 - near))
    inner = 1 - 2 * _share_at(1 - near)  # of a minimum-jerk rise, between the two levels
    onset, offset = (rise_high - rise_low) / inner, (fall_low - fall_high) / inner
    start = rise_low - _share_at(1 - near) * onset
    apex = max(fall_low + _share_at(1 - near) * offset - start - onset - offset, 0.0)
    return Episode(start, onset, apex, offset, float(peak))


def _eased(share: Tensor, ease: Ease) -> Tensor:
    """Which part of the way is done after a part of the time, both in [0, 1]."""
    if ease == "hold":
        return (share >= 1).to(share)
    return share**3 * (10 - 15 * share + 6 * share**2) if ease == "minimum jerk" else share


def _share_at(way: float) -> float:
    """The part of the time after which a minimum-jerk movement has done a part of its way: bisection."""
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        done = middle**3 * (10 - 15 * middle + 6 * middle**2)
        low, high = (middle, high) if done < way else (low, middle)
    return low


def _crossing(clock: list[float], level: list[float], top: int, share: float, step: int) -> float:
    """When, walking from the top in steps of time, a level falls to a share of it; the last sample if it never does."""
    i = top
    while 0 <= i + step < len(level) and level[i + step] > share:
        i += step
    if not 0 <= i + step < len(level):
        return clock[i]
    inside, outside = level[i], level[i + step]
    return clock[i] + (clock[i + step] - clock[i]) * (inside - share) / (inside - outside)
