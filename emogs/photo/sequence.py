"""A clip's landmarks, frame by frame, as one person's performance: one identity, and pose and channels over time.

    fit = fit_sequence(landmarks, fps=30, size=(1920, 1080))
    save_track("performance.csv", fit.track())              # ARKit's 52 channels; emogs and others play it

First the identity, from a few dozen frames at once (bundle adjustment: what stays the same in all poses and expressions
is the person). Then every frame alone, which tells frames that fit no face and frames in which the face jumps: they are
left to their neighbours. Then all together, held to move smoothly (`smoothing`). The head's rigid motion is the pose's
alone, since a template's expressions leave the skull where it is.
"""

from __future__ import annotations

from dataclasses import dataclass

import roma
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from emogs.emotion import Track
from emogs.head.template import HeadTemplate

from .clips import check_clip
from .fit import relative_error, whole_identity
from .frames import LANDMARKS
from .landmark_model import check_template, landmark_model
from .sequence_fitter import Progress, SequenceFitter


@dataclass(frozen=True)
class SequenceFit:
    """A performance: one head shape, and T frames of pose and channels. The poses are in `viewmats`."""

    template: HeadTemplate
    fps: float
    times: Tensor  # [T] float64 seconds
    identity: Tensor  # [I] float32 standard deviations
    expression: Tensor  # [T, E] float32; ARKit's 52 are in [0, 1]
    pose: Tensor | None  # [T, J, 3] float32 rotation vectors of joints that no channel drives, as FLAME's jaw
    viewmats: Tensor  # [T, 4, 4] float32 head space to OpenCV camera, metres
    K: Tensor  # [3, 3] float32 pixels
    landmarks: Tensor  # [T, P, 2] float32 pixels as given, 68 or with the irises 70; NaN where there were none
    fitted: Tensor  # [T, P, 2] float32 pixels of the template's
    error: Tensor  # [T] float32 mean distance of a frame's landmarks over its outer-eye distance; NaN where filled
    filled: Tensor  # [T] bool: no landmarks, or rejected ones; the frame is what its neighbours make of it
    rejected: dict[int, str]
    """Frames whose landmarks were not used, and why."""
    cuts: Tensor  # [T] bool: frames that do not continue the one before, as after a cut of the film

    @property
    def has_gaze(self) -> bool:
        """Whether irises were seen; without them the eyes look straight ahead."""
        return self.landmarks.shape[1] > LANDMARKS

    def track(self) -> Track:
        """The articulation as ARKit's channels over time, which any avatar plays.

        Raises:
            ValueError: the template's channels are not ARKit's.
        """
        if not self.template.speaks_arkit:
            raise ValueError(
                f"template {self.template.name!r} does not speak ARKit; emogs.head.retarget.retarget finds its channels"
            )
        return Track("arkit", self.times, self.expression)

    def head_angles(self) -> Tensor:
        """[T, 3] radians: yaw to the subject's left, pitch down, roll to the subject's left, as the camera sees them.

        R = R_y(yaw) R_x(pitch) R_z(roll) turns the upright head that faces the camera into the frame's.
        """
        flip = torch.tensor([1.0, -1.0, -1.0]).diag()
        turned = flip @ self.viewmats[:, :3, :3]
        return roma.rotmat_to_euler("YXZ", turned.double()).float()

    def vertices(self, frames: Tensor | slice = slice(None)) -> Tensor:
        """[T, V, 3] of the template in head space, metres, in all frames or some."""
        pose = None if self.pose is None else self.pose[frames]
        return self.template.deform(self.identity[None], self.expression[frames], pose)


def fit_sequence(
    landmarks: ArrayLike | Tensor,
    *,
    fps: float,
    size: tuple[float, float] | None = None,
    template: HeadTemplate | None = None,
    visibility: ArrayLike | Tensor | None = None,
    focal: float | None = None,
    progress: Progress | None = None,
) -> SequenceFit:
    """Fits one head to the landmarks of a clip.

    Args:
        landmarks: [T, 478 or 468, 2 or more] of MediaPipe's Face Landmarker, x and y in [0, 1] of the picture or in
            pixels, or [T, 68, 2 or more] pixels in the iBUG order, from any tracker. NaN where a frame or a point is
            missing. 478 hold the irises, and with them gaze.
        fps: frames a second.
        size: width and height of the picture in pixels; needed for coordinates in [0, 1]. None puts the optical axis
            through the middle of where the face is.
        template: any head with landmarks; None is the built-in one.
        visibility: [T, P] in [0, 1], how far each landmark is to be trusted.
        focal: focal length in pixels; None is one that puts the face 0.8 m before the camera.
        progress: called as `progress(stage, share)`.
    Raises:
        PhotoError: landmarks that are not of this form, or are not of a face in most frames; names the frame.
        TypeError: the template is no HeadTemplate.
        ValueError: the template has no landmarks; a frame rate or focal length that is not above 0.

    Example:
        >>> from emogs.head import builtin_head
        >>> head = builtin_head()
        >>> flat = head.vertices[head.landmarks][:, :2] * torch.tensor([1000.0, -1000.0]) + 300
        >>> fit = fit_sequence(flat.expand(5, -1, -1), fps=25, size=(600, 600))
        >>> fit.track().values.shape, bool(fit.error.max() < 0.05)
        (torch.Size([5, 52]), True)
    """
    fitter = sequence_fitter(landmarks, fps, size, template, visibility, focal, progress)
    fitter.run()
    return finished(fitter, template)


def sequence_fitter(
    landmarks: ArrayLike | Tensor,
    fps: float,
    size: tuple[float, float] | None = None,
    template: HeadTemplate | None = None,
    visibility: ArrayLike | Tensor | None = None,
    focal: float | None = None,
    progress: Progress | None = None,
) -> SequenceFitter:
    """What `fit_sequence` runs, for those who want to stop it and go on; arguments and errors are the same."""
    model = landmark_model(check_template(template))
    clip = check_clip(landmarks, fps, size, visibility, model.has_irises)
    if focal is not None and not 0 < focal < float("inf"):
        raise ValueError(f"focal: expected pixels above 0, got {focal!r}")
    return SequenceFitter(clip, model, focal, progress or (lambda stage, share: None))


def finished(fitter: SequenceFitter, template: HeadTemplate | None = None) -> SequenceFit:
    """The frames that a fitter has done, all of them or the first ones.

    Raises:
        ValueError: it has done none.
    """
    if fitter.identity is None or fitter.done == 0:
        raise ValueError("no frame is finished yet")
    head, rows = check_template(template), slice(0, fitter.done)
    fit, state = fitter.fit(rows), fitter.state.part(rows)
    fitted = state.project(fit.points(state).deform(state.identity, state.values))
    error = relative_error(fitted, fit.found, fit.weight)
    expression, pose = fitter.model.channels.split(state.values)
    return SequenceFit(
        template=head,
        fps=fitter.clip.fps,
        times=torch.arange(len(state), dtype=torch.float64) / fitter.clip.fps,
        identity=whole_identity(head, fitter.identity).float(),
        expression=expression.float(),
        pose=None if pose is None else pose.float(),
        viewmats=state.viewmats().float(),
        K=state.K.float(),
        landmarks=fitter.clip.given[rows].float(),
        fitted=fitted.float(),
        error=torch.where(fitter.there[rows], error, torch.nan).float(),
        filled=~fitter.there[rows],
        cuts=fitter.cuts[rows],
        rejected={row: why for row, why in fitter.rejected.items() if row < fitter.done},
    )
