"""Pose, identity and expression of a template from 68 landmarks, by a bounded Levenberg-Marquardt solver.

Minimised is, with landmarks in units of their expected error,

    1/2 sum_i w_i |projected_i - found_i|^2  +  1/2 |identity|^2  +  cost(expression)

over the head's rotation and translation, standard deviations of the identity and ARKit values in [0, 1]; the cost is in
`expression_prior`. The weights come from the network's doubt and from how far off a landmark still is (Geman-McClure).
Without the expression a smile would become identity. The pose lives in the view matrix alone: the head stays in head
space.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import roma
import torch
from torch import Tensor

from emogs.head.template import HeadTemplate

from . import expression_prior
from .errors import PhotoError
from .landmark_model import LandmarkModel, PointModel, landmark_model

FOCAL_DISTANCE = 0.8
"""Metres from which a photo is taken to be made: sets the focal length, which 68 points cannot tell."""
HOPELESS = 0.15
"""Mean residual over the outer-eye distance above which landmarks are not those of a face."""

_ERROR = 0.02  # expected landmark error over the face's size
_GROUP_ERROR = ((slice(0, 17), 3.0), (slice(17, 27), 2.0))  # jaw and brows are found two or three times worse
_IDENTITIES = 50  # directions beyond are finer than 68 points
_ITERATIONS = 30
_ATTEMPTS = 6  # dampings tried before a step is given up
_ROBUST = 25.0  # squared distance, in expected errors, at which a landmark has lost three quarters of its weight


@dataclass(frozen=True)
class Solution:
    """What the solver found: the head's pose and shape, and where its landmarks fall."""

    identity: Tensor  # [I] float32 standard deviations
    expression: Tensor  # [52] float32 in [0, 1]
    viewmat: Tensor  # [4, 4] float32 head space to OpenCV camera, metres
    K: Tensor  # [3, 3] float32 pixels
    fitted: Tensor  # [68, 2] float32 pixels of the template's landmarks
    error: float  # mean distance from the found landmarks over their outer-eye distance


def solve(landmarks: Tensor, template: HeadTemplate, *, size: int, spread: Tensor | None = None) -> Solution:
    """Fits a template to landmarks in a square picture.

    Args:
        landmarks: [68, 2] pixels, iBUG order, the jaw along the visible contour.
        template: any head.
        size: side of the picture; the optical axis goes through its centre.
        spread: [68] expected error of each landmark in pixels, if known.
    Raises:
        PhotoError: the landmarks are not finite, not 68, all in one place, or not those of a face.
    """
    found = check_landmarks(landmarks)
    model = landmark_model(template)
    face_size = _face_size(found)
    weight = _trust(spread)
    state = _start(found, model, size)
    # The pose first, from what moves least: a wrong pose would be explained by identity and expression.
    rigid = torch.zeros(state.unknowns(), dtype=torch.bool)
    rigid[:6] = True
    state = _descend(state, model, found, weight * _stiff(), face_size, rigid, 10)
    state = _descend(state, model, found, weight, face_size, _free(template, state), _ITERATIONS)
    fitted = state.project(state.points(model).deform(state.identity, state.expression))
    error = float((fitted - found).norm(dim=1).mean() / (found[45] - found[36]).norm().clamp_min(0.3 * face_size))
    if not math.isfinite(error) or error > HOPELESS:
        raise PhotoError(
            f"the landmarks do not fit a face (they are off by {100 * error:.0f}% of the eyes' distance, at most"
            f" {100 * HOPELESS:.0f}% is accepted); give better ones with --landmarks, or a box with --box"
        )
    viewmat = torch.eye(4, dtype=torch.float64)
    viewmat[:3, :3], viewmat[:3, 3] = state.rotation, state.translation
    return Solution(
        state.identity.float(), state.expression.float(), viewmat.float(), state.K.float(), fitted.float(), error
    )


@dataclass(frozen=True)
class _State:
    rotation: Tensor  # [3, 3]
    translation: Tensor  # [3]
    identity: Tensor  # [I]
    expression: Tensor  # [52]
    K: Tensor  # [3, 3]

    def unknowns(self) -> int:
        return 6 + len(self.identity) + len(self.expression)

    def moved(self, step: Tensor) -> _State:
        """The state after a step: rotation vector, translation, identity, expression; expressions stay in [0, 1]."""
        turn, shift, identity, expression = step.split([3, 3, len(self.identity), len(self.expression)])
        return _State(
            roma.rotvec_to_rotmat(turn) @ self.rotation,
            self.translation + shift,
            self.identity + identity,
            (self.expression + expression).clamp(0, 1),
            self.K,
        )

    def points(self, model: LandmarkModel) -> PointModel:
        return model.at(self.identity, self.expression, -self.rotation.T @ self.translation)

    def project(self, points: Tensor) -> Tensor:
        """[P, 2] pixels of points [P, 3] in head space; what is behind the camera lands far away, not nowhere."""
        seen = points @ self.rotation.T + self.translation
        return seen[:, :2] * self.K[0, 0] / seen[:, 2:].clamp_min(1e-3) + self.K[:2, 2]


def check_landmarks(landmarks: object) -> Tensor:
    """Landmarks as a float64 tensor [68, 2]; PhotoError if they are not finite, not 68, or all in one place."""
    try:
        found = torch.as_tensor(landmarks, dtype=torch.float64)
    except (TypeError, ValueError):
        raise PhotoError(f"landmarks must be numbers [68, 2]; got {type(landmarks).__name__}") from None
    if found.shape != (68, 2):
        raise PhotoError(f"landmarks must be [68, 2] pixels in the iBUG order; got {list(found.shape)}")
    if not found.isfinite().all():
        raise PhotoError("landmarks must be finite numbers")
    if _face_size(found) < 1:
        raise PhotoError("the landmarks all lie in one place")
    return found


def _face_size(found: Tensor) -> float:
    """The outer-eye distance that a frontal face of the same extent would have; steady when the head turns."""
    return float((found - found.mean(0)).square().sum(1).mean().sqrt() / 0.66)


def _trust(spread: Tensor | None) -> Tensor:
    """[68] weights: the square of the expected error `_ERROR` over each landmark's own."""
    error = torch.ones(68, dtype=torch.float64)
    for group, factor in _GROUP_ERROR:
        error[group] = factor
    if spread is not None:
        # Only how the landmarks compare is used: a network is less sure of photos than of renders, at all points alike.
        own = torch.as_tensor(spread, dtype=torch.float64)
        error = error * (own / own.median()).clamp(0.5, 3)
    return 1 / error.square()


def _stiff() -> Tensor:
    """[68] weights of the landmarks that expressions hardly move: eye corners and nose; the rest a little."""
    weight = torch.full((68,), 0.1, dtype=torch.float64)
    weight[27:36] = 1
    weight[[36, 39, 42, 45]] = 1
    return weight


def _start(found: Tensor, model: LandmarkModel, size: int) -> _State:
    """Facing the camera, upright along the line of the eyes, at `FOCAL_DISTANCE`."""
    identity = torch.zeros(model.points.identity.shape[0], dtype=torch.float64)
    expression = torch.zeros(model.points.expression.shape[0], dtype=torch.float64)
    points = model.at(identity, expression, torch.tensor([0.0, 0.0, 1.0])).points
    flat = points[:, :2] - points[:, :2].mean(0)
    focal = float((found - found.mean(0)).norm() / flat.norm()) * FOCAL_DISTANCE
    K = torch.tensor([[focal, 0, size / 2], [0, focal, size / 2], [0, 0, 1]], dtype=torch.float64)
    eyes = found[42:48].mean(0) - found[36:42].mean(0)
    roll = torch.atan2(eyes[1], eyes[0])
    rotation = roma.rotvec_to_rotmat(torch.stack([0 * roll, 0 * roll, roll]))
    rotation = rotation @ torch.diag(torch.tensor([1.0, -1.0, -1.0], dtype=torch.float64))
    offset = (found.mean(0) - size / 2) / focal * FOCAL_DISTANCE
    translation = torch.cat([offset, offset.new_tensor([FOCAL_DISTANCE])]) - rotation @ points.mean(0)
    return _State(rotation, translation, identity, expression, K)


def _free(template: HeadTemplate, state: _State) -> Tensor:
    """[N] which unknowns the landmarks decide."""
    seen = torch.tensor([not name.startswith(expression_prior.UNSEEN) for name in template.expression_names])
    identity = torch.arange(len(state.identity)) < _IDENTITIES
    return torch.cat([torch.ones(6, dtype=torch.bool), identity, seen])


def _descend(
    state: _State, model: LandmarkModel, found: Tensor, weight: Tensor, face_size: float, free: Tensor, iterations: int
) -> _State:
    """Levenberg-Marquardt with an active set for the bounds of the expression."""
    damping, unit = 1e-2, face_size * _ERROR
    for _ in range(iterations):
        points = state.points(model)  # the jaw's points, chosen for this view, stay the same during the step
        distance = (state.project(points.deform(state.identity, state.expression)) - found) / unit
        robust = (weight / (1 + weight * distance.square().sum(1) / _ROBUST).square()).sqrt()[:, None]

        def cost(state: _State, points: PointModel = points, robust: Tensor = robust) -> Tensor:
            distance = (state.project(points.deform(state.identity, state.expression)) - found) / unit
            return 0.5 * (distance * robust).square().sum() + _prior_cost(state)

        jacobian = (_jacobian(state, points) / unit * robust[..., None]).flatten(0, 1)
        gradient, curvature = _prior(state)
        gradient = gradient + jacobian.T @ (distance * robust).flatten()
        rows = (free & ~_held(state, gradient)).nonzero()[:, 0]
        hessian = (jacobian.T @ jacobian + curvature)[rows][:, rows]
        before = cost(state)
        for _ in range(_ATTEMPTS):
            step = torch.zeros_like(gradient)
            step[rows] = -torch.linalg.solve(hessian + damping * hessian.diagonal().diag(), gradient[rows])
            trial = state.moved(step)
            if cost(trial) < before:
                break
            damping *= 4
        else:
            return state
        state, damping = trial, max(damping / 4, 1e-6)
        if float(step.abs().max()) < 1e-3:
            break
    return state


def _held(state: _State, gradient: Tensor) -> Tensor:
    """[N] which unknowns are expressions at a bound that the gradient pushes them against."""
    e, slope = state.expression, gradient[6 + len(state.identity) :]
    held = ((e <= 0) & (slope > 0)) | ((e >= 1) & (slope < 0))
    return torch.cat([held.new_zeros(6 + len(state.identity)), held])


def _jacobian(state: _State, points: PointModel) -> Tensor:
    """[68, 2, N] derivatives of the projected points with respect to a step (`_State.moved`)."""
    shape = points.deform(state.identity, state.expression)
    turned = shape @ state.rotation.T
    seen = turned + state.translation
    depth = seen[:, 2:].clamp_min(1e-3)
    eye = torch.eye(3, dtype=torch.float64)
    turn = torch.linalg.cross(eye[:, None].expand(3, len(seen), 3), turned.expand(3, -1, 3), dim=-1)
    shift = eye[:, None].expand(3, len(seen), 3)
    slope = torch.cat([turn, shift, points.slopes(state.identity, state.expression) @ state.rotation.T])
    flat = state.K[0, 0] / depth * (slope[..., :2] - seen[:, :2] / depth * slope[..., 2:])
    return flat.permute(1, 2, 0)


def _prior_cost(state: _State) -> Tensor:
    return 0.5 * state.identity.square().sum() + expression_prior.cost(state.expression)


def _prior(state: _State) -> tuple[Tensor, Tensor]:
    """Gradient [N] and a positive curvature [N, N] of `_prior_cost`; the pose is free."""
    first = 6 + len(state.identity)
    gradient = torch.cat([torch.zeros(6), state.identity, expression_prior.gradient(state.expression)])
    curvature = torch.zeros(state.unknowns(), state.unknowns(), dtype=torch.float64)
    curvature[range(6, first), range(6, first)] = 1.0
    curvature[first:, first:] = expression_prior.curvature(state.expression)
    return gradient, curvature
