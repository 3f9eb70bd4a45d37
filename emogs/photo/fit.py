"""Pose, identity and expression of a template from 68 landmarks of one photo.

What is minimised, and how, is in `frames`; a photo is one frame. The weights come from the network's doubt. Without the
expression a smile would become identity. The pose lives in the view matrix alone: the head stays in head space.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from numbers import Real

import roma
import torch
from torch import Tensor

from emogs.head.template import HeadTemplate

from .channels import Channels
from .errors import PhotoError
from .frames import POSE, Fit, Frames, descend
from .landmark_model import LandmarkModel, check_template, landmark_model

FOCAL_DISTANCE = 0.8
"""Metres from which a photo is taken to be made: sets the focal length, which 68 points cannot tell."""
HOPELESS = 0.15
"""Mean residual over the outer-eye distance above which landmarks are not those of a face."""

EXPECTED_ERROR = 0.02
"""Of a landmark, over the face's size."""
_GROUP_ERROR = ((slice(0, 17), 3.0), (slice(17, 27), 2.0))  # jaw and brows are found two or three times worse
_POSE_ITERATIONS, _ITERATIONS = 10, 30


@dataclass(frozen=True)
class Solution:
    """What the solver found: the head's pose and shape, and where its landmarks fall."""

    identity: Tensor  # [I] float32 standard deviations
    expression: Tensor  # [E] float32; ARKit's 52 are in [0, 1]
    viewmat: Tensor  # [4, 4] float32 head space to OpenCV camera, metres
    K: Tensor  # [3, 3] float32 pixels
    fitted: Tensor  # [68, 2] float32 pixels of the template's landmarks
    error: float  # mean distance from the found landmarks over their outer-eye distance
    pose: Tensor | None = (
        None  # [J, 3] float32 rotation vectors of joints that no channel drives; None if there are none
    )

    def vertices(self, template: HeadTemplate) -> Tensor:
        """[V, 3] of the template as it is in the photo, head space."""
        return template.deform(
            self.identity[None], self.expression[None], None if self.pose is None else self.pose[None]
        )[0]


def solve(landmarks: Tensor, template: HeadTemplate, *, size: float, spread: Tensor | None = None) -> Solution:
    """Fits a template to landmarks in a square picture.

    Args:
        landmarks: [68, 2] pixels, iBUG order, the jaw along the visible contour.
        template: any head that has landmarks. ARKit's channels are moved; of FLAME its expression directions, jaw and
            eyes.
        size: side of the picture; the optical axis goes through its centre.
        spread: [68] expected error of each landmark in pixels, if known.
    Raises:
        PhotoError: the landmarks are not finite, not 68, all in one place, or not those of a face.
        TypeError: the template is no HeadTemplate, or the size no number.
        ValueError: the template has no landmarks, or the size is not above 0.
    """
    found = check_landmarks(landmarks)[None]
    model = landmark_model(check_template(template))
    if isinstance(size, bool) or not isinstance(size, Real):
        raise TypeError(f"size: expected one number, the side of a square picture in pixels, got {size!r}")
    if not 0 < size < float("inf"):
        raise ValueError(f"size: expected pixels above 0, got {size!r}")
    scale, weight = face_size(found), _trust(spread)[None]
    fit = Fit(model, model.channels.prior, found, weight, EXPECTED_ERROR * scale)
    # The pose first, from what moves least: a wrong pose would be explained by identity and expression.
    state = rigid_start(fit, camera_for(found, model, size))
    state = descend(fit, replace(state, identity=mean_identity(model)), seen_unknowns(model.channels), _ITERATIONS)
    fitted = state.project(fit.points(state).deform(state.identity, state.values))
    error = float(relative_error(fitted, found, fit.weight))
    if not error <= HOPELESS:  # NaN compares as false
        raise PhotoError(
            f"the landmarks do not fit a face (they are off by {100 * error:.0f}% of the eyes' distance, at most"
            f" {100 * HOPELESS:.0f}% is accepted); give better ones with --landmarks, or a box with --box"
        )
    expression, pose = model.channels.split(state.values[0])
    return Solution(
        whole_identity(template, state.identity).float(),
        expression.float(),
        state.viewmats()[0].float(),
        state.K.float(),
        fitted[0].float(),
        error,
        None if pose is None else pose.float(),
    )


def rigid_start(fit: Fit, K: Tensor) -> Frames:
    """Poses of the mean head in every frame, from upright and facing the camera, by what moves least."""
    state = _facing(fit.found, fit.model, K)
    stiff = replace(
        fit, model=fit.model.wearing(mean_identity(fit.model)), weight=fit.weight * _stiff(fit.found.shape[1])
    )
    rigid = torch.arange(POSE + state.values.shape[1]) < POSE
    return descend(stiff, state, rigid, _POSE_ITERATIONS)


def mean_identity(model: LandmarkModel) -> Tensor:
    """[I] zeros."""
    return torch.zeros(model.points.identity.shape[-3], dtype=torch.float64)


def whole_identity(template: HeadTemplate, identity: Tensor) -> Tensor:
    """[I] of all the template's directions; those that take no part are zero."""
    return torch.cat([identity, identity.new_zeros(len(template.identity) - len(identity))])


def seen_unknowns(channels: Channels, irises: bool = False) -> Tensor:
    """[6 + E] which unknowns of a frame its landmarks decide."""
    seen = channels.seen | channels.gaze if irises else channels.seen
    return torch.cat([torch.ones(POSE, dtype=torch.bool), seen])


def relative_error(fitted: Tensor, found: Tensor, weight: Tensor) -> Tensor:
    """[T] mean distance of the 68 landmarks that a frame has, over the outer-eye distance found in it."""
    there = weight[:, :68] > 0
    distance = (fitted - found)[:, :68].norm(dim=-1)
    mean = torch.where(there, distance, 0.0).sum(1) / there.sum(1).clamp_min(1)
    return mean / torch.maximum((found[:, 45] - found[:, 36]).norm(dim=-1), 0.3 * face_size(found))


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
    if face_size(found) < 1:
        raise PhotoError("the landmarks all lie in one place")
    return found


def face_size(found: Tensor) -> Tensor:
    """[...] outer-eye distance of a frontal face as large as landmarks [..., 68 or more, 2]: steady as it turns."""
    marks = found[..., :68, :]
    return (marks - marks.mean(-2, keepdim=True)).square().sum(-1).mean(-1).sqrt() / 0.66


def trust_of_groups() -> Tensor:
    """[68] weights of landmarks by how well the groups are found: the inverse squares of their errors."""
    error = torch.ones(68, dtype=torch.float64)
    for group, factor in _GROUP_ERROR:
        error[group] = factor
    return 1 / error.square()


def _trust(spread: Tensor | None) -> Tensor:
    """[68] weights: of groups, and of each landmark's own expected error."""
    weight = trust_of_groups()
    if spread is None:
        return weight
    # Only how the landmarks compare is used: a network is less sure of photos than of renders, at all points alike.
    own = torch.as_tensor(spread, dtype=torch.float64)
    return weight / (own / own.median()).clamp(0.5, 3).square()


def _stiff(count: int) -> Tensor:
    """[P] weights of what expressions hardly move: eye corners and nose; of the rest a little, of irises none."""
    weight = torch.full((count,), 0.1, dtype=torch.float64)
    weight[27:36] = 1
    weight[[36, 39, 42, 45]] = 1
    weight[68:] = 0
    return weight


def camera_for(found: Tensor, model: LandmarkModel, size: float, middle: Tensor | None = None) -> Tensor:
    """[3, 3] intrinsics that put a face of the median size among frames [T, P, 2] at `FOCAL_DISTANCE`."""
    flat = _mean_points(model)[:, :2]
    extent = (flat - flat.mean(0)).norm()
    marks = found[:, :68]
    sizes = (marks - marks.mean(1, keepdim=True)).flatten(1).norm(dim=1)
    focal = float(sizes.median() / extent) * FOCAL_DISTANCE
    x, y = (size / 2, size / 2) if middle is None else middle.tolist()
    return torch.tensor([[focal, 0, x], [0, focal, y], [0, 0, 1]], dtype=torch.float64)


def _mean_points(model: LandmarkModel) -> Tensor:
    """[68, 3] of the mean neutral head, seen from the front."""
    values = torch.zeros(len(model.channels.names), dtype=torch.float64)
    front = torch.tensor([0.0, 0.0, 1.0])
    return model.at(mean_identity(model), values, front).deform(mean_identity(model), values)


def _facing(found: Tensor, model: LandmarkModel, K: Tensor) -> Frames:
    """Frames in which the mean head faces the camera, upright along the eyes' line, as far off as its size says."""
    points, marks = _mean_points(model), found[:, :68]
    eyes = found[:, 42:48].mean(1) - found[:, 36:42].mean(1)
    roll = torch.atan2(eyes[:, 1], eyes[:, 0])
    rotation = roma.rotvec_to_rotmat(torch.stack([0 * roll, 0 * roll, roll], 1))
    rotation = rotation @ torch.diag(torch.tensor([1.0, -1.0, -1.0], dtype=torch.float64))
    flat = points[:, :2] - points[:, :2].mean(0)
    sizes = (marks - marks.mean(1, keepdim=True)).flatten(1).norm(dim=1)
    depth = (K[0, 0] * flat.norm() / sizes.clamp_min(1e-9))[:, None]
    middle = torch.cat([(marks.mean(1) - K[:2, 2]) / K[0, 0] * depth, depth], 1)
    values = torch.zeros(len(found), len(model.channels.names), dtype=torch.float64)
    none = torch.zeros(0, dtype=torch.float64)
    return Frames(rotation, middle - points.mean(0) @ rotation.mT, none, values, K)
