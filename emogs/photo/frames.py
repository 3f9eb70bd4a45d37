"""Many frames of one head at once: poses, channel values and a shared identity, fitted to landmarks in the picture.

Minimised is, with landmarks in units of their expected error,

    sum_t [ 1/2 sum_i w_ti |projected_ti - found_ti|^2 + cost(values_t) ]  +  s/2 |identity|^2

by Levenberg-Marquardt with an active set for the channels' bounds. The weights come from how far off a landmark still
is (Geman & McClure 1985), and closed lids hide an iris. The identity couples the frames; it is eliminated by its Schur
complement, as cameras and points are in bundle adjustment (Triggs et al. 2000). A photo is one frame.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import roma
import torch
from torch import Tensor

from .expression_prior import ExpressionPrior
from .landmark_model import IRISES, LandmarkModel, PointModel

POSE = 6
"""Unknowns of a frame's pose: rotation vector and translation, both in the camera's axes."""
LANDMARKS = 68
_ATTEMPTS = 6  # dampings tried before a step is given up
_ROBUST = 25.0  # squared distance, in expected errors, at which a landmark has lost three quarters of its weight
_STILL = 1e-3  # a step without a larger entry is the last


@dataclass(frozen=True)
class Frames:
    """T frames of one head before one camera."""

    rotation: Tensor  # [T, 3, 3] head space to OpenCV camera
    translation: Tensor  # [T, 3] metres
    identity: Tensor  # [I] standard deviations
    values: Tensor  # [T, E] of the template's channels
    K: Tensor  # [3, 3] pixels

    def __len__(self) -> int:
        return len(self.values)

    def moved(self, step: Tensor, shape: Tensor, low: Tensor, high: Tensor) -> Frames:
        """The frames after steps [T, 6 + E] and one of the identity [I]; values stay in their bounds."""
        turn, shift, change = step.split([3, 3, self.values.shape[1]], 1)
        return Frames(
            roma.rotvec_to_rotmat(turn) @ self.rotation,
            self.translation + shift,
            self.identity + shape,
            torch.minimum(torch.maximum(self.values + change, low), high),
            self.K,
        )

    def chosen(self, other: Frames, where: Tensor) -> Frames:
        """Frames of `other` where [T] is true, and its identity; the others stay."""
        return Frames(
            torch.where(where[:, None, None], other.rotation, self.rotation),
            torch.where(where[:, None], other.translation, self.translation),
            other.identity,
            torch.where(where[:, None], other.values, self.values),
            self.K,
        )

    def part(self, rows: Tensor | slice) -> Frames:
        """Some of the frames."""
        return replace(self, rotation=self.rotation[rows], translation=self.translation[rows], values=self.values[rows])

    def centres(self) -> Tensor:
        """[T, 3] the camera's centre in head space."""
        return -(self.rotation.mT @ self.translation[..., None])[..., 0]

    def viewmats(self) -> Tensor:
        """[T, 4, 4] head space to camera."""
        out = torch.eye(4, dtype=torch.float64).repeat(len(self), 1, 1)
        out[:, :3, :3], out[:, :3, 3] = self.rotation, self.translation
        return out

    def project(self, points: Tensor) -> Tensor:
        """[T, P, 2] pixels of points [T, P, 3] in head space; what is behind the camera lands far away."""
        seen = points @ self.rotation.mT + self.translation[:, None]
        return seen[..., :2] * self.K[0, 0] / seen[..., 2:].clamp_min(1e-3) + self.K[:2, 2]


@dataclass(frozen=True)
class System:
    """Gauss-Newton's equations of every frame, N = 6 + E unknowns, and their coupling by the identity."""

    gradient: Tensor  # [T, N]
    hessian: Tensor  # [T, N, N]
    coupling: Tensor  # [T, N, I]
    shape_gradient: Tensor  # [I]
    shape_hessian: Tensor  # [I, I]

    def solve(self, damping: Tensor, free: Tensor) -> tuple[Tensor, Tensor]:
        """Steps [T, N] and of the identity [I], with a damping [T] of each frame and unknowns [T, N] that may move."""
        moving = free.double()
        hessian = self.hessian * moving[:, :, None] * moving[:, None, :]
        diagonal = torch.where(free, hessian.diagonal(dim1=1, dim2=2) * (1 + damping[:, None]), 1.0)
        hessian = hessian.diagonal_scatter(diagonal, dim1=1, dim2=2)
        right = torch.cat([self.gradient[..., None], self.coupling], -1) * moving[..., None]
        solved = torch.linalg.solve(hessian, right)
        own, by_shape = solved[..., 0], solved[..., 1:]
        shape = torch.zeros_like(self.shape_gradient)
        if len(shape):
            coupling = right[..., 1:].flatten(0, 1).T
            left = self.shape_hessian + damping.mean() * self.shape_hessian.diagonal().diag()
            left = left - coupling @ by_shape.flatten(0, 1)
            shape = -torch.linalg.solve(left, self.shape_gradient - coupling @ own.flatten())
        return -own - by_shape @ shape, shape


@dataclass(frozen=True)
class Fit:
    """Landmarks of T frames, and the head that is fitted to them."""

    model: LandmarkModel
    prior: ExpressionPrior
    found: Tensor  # [T, P, 2] pixels: 68 landmarks, or these and the irises; anything where the weight is 0
    weight: Tensor  # [T, P] trust, 0 where a landmark is missing
    unit: Tensor  # [T] pixels of a landmark's expected error at weight 1
    stiffness: float = 1.0
    """How much |identity|^2 / 2 counts."""

    def part(self, rows: Tensor | slice) -> Fit:
        """Some of the frames."""
        return replace(self, found=self.found[rows], weight=self.weight[rows], unit=self.unit[rows])

    def points(self, state: Frames) -> PointModel:
        """The head's points in every frame, the jaw's chosen for its view."""
        irises = self.found.shape[1] > LANDMARKS
        return self.model.at(state.identity, state.values, state.centres(), irises)

    def distance(self, state: Frames, points: PointModel) -> Tensor:
        """[T, P, 2] from found to projected landmarks, in expected errors."""
        projected = state.project(points.deform(state.identity, state.values))
        return torch.where(self.weight[..., None] > 0, (projected - self.found) / self.unit[:, None, None], 0.0)

    def robust(self, state: Frames, distance: Tensor) -> Tensor:
        """[T, P] weights for this step, by how far off a landmark is; a closed eye hides its iris."""
        weight = self.weight / (1 + self.weight * distance.square().sum(-1) / _ROBUST).square()
        blinks = self.model.channels.blinks
        if self.found.shape[1] > LANDMARKS and blinks is not None:
            open_share = (1 - state.values[:, list(blinks)]).clamp(0, 1).square()
            weight = torch.cat([weight[:, :-IRISES], weight[:, -IRISES:] * open_share], 1)
        return weight

    def cost(self, state: Frames, points: PointModel, weight: Tensor) -> Tensor:
        """[T] of each frame, for given weights [T, P]; the identity's is `shape_cost`."""
        data = 0.5 * (self.distance(state, points).square().sum(-1) * weight).sum(1)
        return data + self.prior.cost(state.values)

    def shape_cost(self, state: Frames) -> Tensor:
        """What the identity costs."""
        return 0.5 * self.stiffness * state.identity.square().sum()

    def system(self, state: Frames, points: PointModel, distance: Tensor, weight: Tensor) -> System:
        """The equations at a state, for given points, distances and weights."""
        root = weight.sqrt()[..., None]
        jacobian = _jacobian(state, points) / self.unit[:, None, None, None] * root[..., None]
        jacobian, residual = jacobian.flatten(1, 2), (distance * root).flatten(1)  # [T, 2 P, 6 + E + I]
        normal = jacobian.mT @ jacobian
        slope = (jacobian.mT @ residual[..., None])[..., 0]
        own = POSE + state.values.shape[1]
        gradient, hessian = slope[:, :own], normal[:, :own, :own].clone()
        gradient[:, POSE:] += self.prior.gradient(state.values)
        hessian[:, POSE:, POSE:] += self.prior.curvature(state.values)
        return System(
            gradient,
            hessian,
            normal[:, :own, own:],
            slope[:, own:].sum(0) + self.stiffness * state.identity,
            normal[:, own:, own:].sum(0) + self.stiffness * torch.eye(len(state.identity), dtype=torch.float64),
        )

    def movable(self, state: Frames, gradient: Tensor, free: Tensor) -> Tensor:
        """[T, N] the free unknowns [N] that are not at a bound against which the gradient pushes them."""
        low, high = self.model.channels.low, self.model.channels.high
        slope = gradient[:, POSE:]
        held = ((state.values <= low) & (slope > 0)) | ((state.values >= high) & (slope < 0))
        return free & ~torch.cat([held.new_zeros(len(state), POSE), held], 1)


def descend(fit: Fit, state: Frames, free: Tensor, iterations: int) -> Frames:
    """Frames that fit better.

    Args:
        free: [6 + E] which unknowns of a frame move. The identity moves if the state has one.
        iterations: at most so many steps. Without an identity each frame takes steps of its own.
    """
    channels, shared = fit.model.channels, len(state.identity) > 0
    damping = torch.full((len(state),), 1e-2, dtype=torch.float64)
    for _ in range(iterations):
        points = fit.points(state)  # the jaw's points, chosen for this view, stay the same during the step
        distance = fit.distance(state, points)
        weight = fit.robust(state, distance)
        system = fit.system(state, points, distance, weight)
        rows = fit.movable(state, system.gradient, free)
        before = fit.cost(state, points, weight)
        waiting = torch.ones(len(state), dtype=torch.bool)
        largest = 0.0
        for _ in range(_ATTEMPTS):
            step, shape = system.solve(damping, rows)
            trial = state.moved(step, shape, channels.low, channels.high)
            after = fit.cost(trial, points, weight)
            if shared:
                total = (after.sum() + fit.shape_cost(trial)) < (before.sum() + fit.shape_cost(state))
                better = total.expand(len(state))
            else:
                better = waiting & (after < before)
            if better.any():
                largest = max(largest, float(step[better].abs().max()), float(shape.abs().max()) if shared else 0.0)
                accepted = state.chosen(trial, better)
                # What is accepted is not tried again; the trial of the others starts from where they are.
                state, before = accepted, torch.where(better, after, before)
            waiting = waiting & ~better
            damping = torch.where(better, (damping / 4).clamp_min(1e-6), torch.where(waiting, 4 * damping, damping))
            if not waiting.any():
                break
            rows = rows & waiting[:, None]
        if largest < _STILL:
            break
    return state


def _jacobian(state: Frames, points: PointModel) -> Tensor:
    """[T, P, 2, 6 + E + I] derivatives of the projected points by a step (`Frames.moved`), the identity's last."""
    turned = points.deform(state.identity, state.values) @ state.rotation.mT
    seen = turned + state.translation[:, None]
    depth = seen[..., None, 2:].clamp_min(1e-3)
    eye = torch.eye(3, dtype=torch.float64)
    shift = eye.expand(*turned.shape[:2], 3, 3)
    turn = torch.linalg.cross(shift, turned[:, :, None].expand_as(shift), dim=-1)
    slope = (points.slopes(state.identity, state.values) @ state.rotation[:, None].mT).movedim(1, 2)  # [T, P, I + E, 3]
    count = len(state.identity)
    slope = torch.cat([turn, shift, slope[:, :, count:], slope[:, :, :count]], 2)
    flat = state.K[0, 0] / depth * (slope[..., :2] - seen[:, :, None, :2] / depth * slope[..., 2:])
    return flat.mT
