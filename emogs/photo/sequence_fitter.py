"""The steps of a fit to a clip: who it is, every frame alone, what is no face, all frames together.

The clip is worked through in windows, each of which starts from the last two frames of the one before and looks ahead,
so that time and memory grow with the clip's length and no more, and what is finished stays finished.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import roma
import torch
from torch import Tensor

from .clips import Clip
from .errors import PhotoError
from .fit import (
    EXPECTED_ERROR,
    HOPELESS,
    camera_for,
    face_size,
    mean_identity,
    relative_error,
    rigid_start,
    seen_unknowns,
    trust_of_groups,
)
from .frames import IRISES, LANDMARKS, Fit, Frames, descend
from .landmark_model import LandmarkModel
from .smoothing import Stiffness, easier, smooth

Progress = Callable[[str, float], None]
"""Called with the stage's name and the share of it that is done."""

_KEYFRAMES = 28
"""Frames that decide the identity, beside those turned farthest."""
_INDEPENDENT = 4
"""How many frames' worth of evidence of the identity a clip has: a tracker is wrong in the same way in all of them."""
_STEADY = 0.5
"""Expected errors of landmarks over a clip, by those of one photo: who it is is known, and noise averages out."""
_IRIS_ERROR = 0.7
"""Expected error of an iris, by that of other landmarks."""
_EASY_LIDS = 0.25
_CHUNK, _WINDOW, _AHEAD = 128, 240, 45
"""Frames fitted in one batch, smoothed at once, and looked ahead at while smoothing."""
_EYES = 0.089
"""Metres between an adult's outer eye corners."""
_JUMP = 0.35
"""Outer-eye distances between a frame's face and where its neighbours have it, beyond which it is another face."""
_NEIGHBOURS = 3
_CUT = 0.8
"""Outer-eye distances in 1/30 s, two metres a second, that no head moves: the clip is cut there."""
_FEWEST = 0.5
"""Share of a clip's frames that must show the face."""


class SequenceFitter:
    """The steps of `fit_sequence`, and what they know of each other.

    Of `state` the first `done` frames are finished, also where `run` was interrupted; `resume` goes on from such ones.
    """

    def __init__(self, clip: Clip, model: LandmarkModel, focal: float | None, progress: Progress) -> None:
        self.clip, self.model, self.progress = clip, model, progress
        self.done = 0
        self.identity: Tensor | None = None
        self.rejected: dict[int, str] = {}
        self.cuts = torch.zeros(len(clip), dtype=torch.bool)
        self.there = clip.weight[:, :LANDMARKS].sum(1) > 0  # [T] frames with landmarks that are used
        self.K = camera_for(clip.found[self.there], model, 0, torch.tensor(clip.middle, dtype=torch.float64))
        if focal is not None:
            self.K[0, 0] = self.K[1, 1] = focal
        self.scale = torch.ones(len(clip), dtype=torch.float64)
        self.scale[self.there] = face_size(clip.found[self.there])
        self.state = self._empty()

    def resume(self, identity: Tensor, rotation: Tensor, translation: Tensor, values: Tensor) -> None:
        """Takes the first frames, rotations [N, 3, 3] and so on, and the identity [I] from an earlier run."""
        self.identity, self.done = identity, len(values)
        earlier = Frames(rotation, translation, identity[:0], values, self.K)
        _put(self.state, torch.arange(self.done), earlier)

    def run(self) -> None:
        """Fits what is not done yet."""
        self._poses()
        if self.identity is None:
            self.identity = self._identity(self._keyframes())
        self.model, total, asked = self.model.wearing(self.identity), len(self.clip), int(self.there.sum())
        stiffness, looked = Stiffness.at(self.model.channels, self.clip.fps), self.done
        while self.done < total:
            self.progress("fit frames", self.done / total)
            first, last = max(0, self.done - 2), min(total, self.done + _WINDOW + _AHEAD)
            self._alone(looked, last)
            self._reject(looked, last)
            looked = last
            self._bridge()
            rows, still = slice(first, last), torch.arange(first, last) < self.done
            fit = easier(self.fit(rows, _STEADY), _EASY_LIDS)
            window = smooth(fit, self.state.part(rows), stiffness, self._free, still, self.cuts[rows])
            _put(self.state, torch.arange(first, last), window)
            self.done = min(total, self.done + _WINDOW)
        if int(self.there.sum()) < _FEWEST * asked:
            row, why = next(iter(self.rejected.items()))
            bad = f"{len(self.rejected)} of {asked} frames with landmarks cannot be used"
            raise PhotoError(f"{bad}, first frame {row}: {why}")
        self.progress("fit frames", 1.0)

    def fit(self, rows: Tensor | slice, error: float = 1.0) -> Fit:
        """The landmarks of some frames, with errors expected to be so many times a photo's."""
        trust = torch.cat([trust_of_groups(), torch.full((IRISES,), _IRIS_ERROR**-2)])
        weight = self.clip.weight * trust[: self.clip.weight.shape[1]]
        unit = EXPECTED_ERROR * error * self.scale
        return Fit(self.model, self.model.channels.prior, self.clip.found, weight, unit).part(rows)

    @property
    def _free(self) -> Tensor:
        return seen_unknowns(self.model.channels, self.clip.found.shape[1] > LANDMARKS)

    def _empty(self) -> Frames:
        """Frames that nothing is known of."""
        none, count = torch.zeros(0, dtype=torch.float64), len(self.clip)
        rotation, channels = torch.eye(3, dtype=torch.float64).repeat(count, 1, 1), len(self.model.channels.names)
        shift, values = (torch.zeros(count, width, dtype=torch.float64) for width in (3, channels))
        return Frames(rotation, shift, none, values, self.K)

    def _poses(self) -> None:
        """The mean head's pose in every frame with landmarks that is not done."""
        for chunk in self._chunks(self.done, len(self.clip)):
            self.progress("find the head", float(chunk[0]) / len(self.clip))
            _put(self.state, chunk, rigid_start(self.fit(chunk), self.K))

    def _rows(self, first: int, last: int) -> Tensor:
        """[N] frames in a range whose landmarks are used."""
        return first + self.there[first:last].nonzero()[:, 0]

    def _chunks(self, first: int, last: int) -> list[Tensor]:
        """The same in batches, none of them empty."""
        return [chunk for chunk in self._rows(first, last).split(_CHUNK) if len(chunk)]

    def _keyframes(self) -> Tensor:
        """[N] frames evenly over the clip, and those in which the head is turned farthest each way."""
        rows = self._rows(0, len(self.clip))
        facing = self.state.rotation[rows, 2]  # the view axis in head space
        evenly = rows[torch.linspace(0, len(rows) - 1, min(_KEYFRAMES, len(rows))).round().long()]
        turned = [rows[pick(facing[:, axis])] for axis in (0, 1) for pick in (torch.argmin, torch.argmax)]
        return torch.unique(torch.cat([evenly, torch.stack(turned)]))

    def _identity(self, rows: Tensor) -> Tensor:
        """[I] of the person in the keyframes that show a face."""
        mean, fit, state = mean_identity(self.model), self.fit(rows), self.state.part(rows)
        self.progress("find who it is", 0.0)
        alone = descend(replace(fit, model=self.model.wearing(mean)), state, self._free, 12)
        errors = self._errors(fit, replace(alone, identity=mean))
        good = errors <= HOPELESS
        if good.float().mean() < _FEWEST:
            frame, error = int(rows[~good][0]), float(errors[~good][0])
            raise PhotoError(
                f"the landmarks fit no face in {int((~good).sum())} of {len(good)} frames looked at, first in frame"
                f" {frame}: they are off by {100 * error:.0f}% of the eyes' distance, at most {100 * HOPELESS:.0f}% is"
                " accepted; are they 68 in the iBUG order or MediaPipe's 478, and is the size that of the picture?"
            )
        stiffness = max(1.0, int(good.sum()) / _INDEPENDENT)
        part = replace(fit.part(good), stiffness=stiffness)
        found = descend(part, replace(alone.part(good), identity=mean), self._free, 20)
        self.progress("find who it is", 1.0)
        return found.identity

    def _errors(self, fit: Fit, state: Frames) -> Tensor:
        """[T] how far off landmarks are, over the outer-eye distance; infinite where that is not a number."""
        fitted = state.project(fit.points(state).deform(state.identity, state.values))
        return relative_error(fitted, fit.found, fit.weight).nan_to_num(float("inf"))

    def _alone(self, first: int, last: int) -> None:
        """Every frame of a range by itself."""
        for rows in self._chunks(first, last):
            fit = easier(self.fit(rows, _STEADY), _EASY_LIDS)
            _put(self.state, rows, descend(fit, self.state.part(rows), self._free, 15))

    def _reject(self, first: int, last: int) -> None:
        """Leaves out frames of a range that fit no face, or in which the face is elsewhere for a moment; finds cuts."""
        rows = self._rows(first, last)
        if len(rows):
            errors = self._errors(self.fit(rows), self.state.part(rows))
            for row, error in zip(rows.tolist(), errors.tolist(), strict=True):
                if error > HOPELESS:
                    self.leave_out(row, f"fits no face: off by {100 * error:.0f}% of the eyes' distance")
        rows = self._rows(max(0, first - _NEIGHBOURS), last)
        for row, away in zip(rows.tolist(), _jumps(self.state.translation[rows]).tolist(), strict=True):
            if away > _JUMP and row >= first:
                self.leave_out(row, f"jumps: {away:.1f} outer-eye distances from where its neighbours have the face")
        rows = self._rows(max(0, first - _NEIGHBOURS), last)
        speed = self.state.translation[rows].diff(dim=0).norm(dim=1) / _EYES / rows.diff()
        self.cuts[rows[1:][speed > _CUT * 30 / self.clip.fps]] = True

    def leave_out(self, row: int, why: str) -> None:
        """Uses no landmarks of a frame."""
        self.rejected[row] = why
        self.there[row] = False
        self.clip.weight[row] = 0

    def _bridge(self) -> None:
        """Frames without landmarks start from a straight line between their neighbours, and rest at the ends."""
        known = self.there.clone()
        known[: self.done] = True
        rows = known.nonzero()[:, 0]
        if not len(rows):
            return
        places = np.interp(np.arange(len(known)), rows.double().numpy(), np.arange(len(rows)))
        before = torch.from_numpy(np.floor(places)).long()
        after = (before + 1).clamp_max(len(rows) - 1)
        share = torch.from_numpy(places) - before
        at, to, missing = self.state.part(rows[before]), self.state.part(rows[after]), ~known
        turn = share[:, None] * roma.rotmat_to_rotvec(to.rotation @ at.rotation.mT)

        def mixed(one: Tensor, other: Tensor) -> Tensor:
            return one + share[:, None] * (other - one)

        line = replace(
            at,
            rotation=roma.rotvec_to_rotmat(turn) @ at.rotation,
            translation=mixed(at.translation, to.translation),
            values=mixed(at.values, to.values),
        )
        _put(self.state, missing.nonzero()[:, 0], line.part(missing))


def _put(out: Frames, rows: Tensor, part: Frames) -> None:
    """Writes frames into others."""
    out.rotation[rows], out.translation[rows], out.values[rows] = part.rotation, part.translation, part.values


def _jumps(places: Tensor) -> Tensor:
    """[T] how far heads [T, 3] are from the median of their neighbours (Hampel 1974), in outer-eye distances."""
    if not len(places):
        return places[:, 0]
    padded = torch.nn.functional.pad(places.T[None], (_NEIGHBOURS, _NEIGHBOURS), mode="replicate")[0].T
    around = padded.unfold(0, 2 * _NEIGHBOURS + 1, 1).median(-1).values
    return (places - around).norm(dim=1) / _EYES
