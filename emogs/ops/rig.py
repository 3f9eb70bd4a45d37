"""Frames of mesh faces: what carries the Gaussians that live on a mesh when it deforms.

The torch operations are `emogs::rig_frames` and its backward; the arithmetic is in csrc/math/rig.h.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from emogs.ops.checks import Arguments
from emogs.ops.groups import lists_by_key
from emogs.ops.native import _C, launch


def rig_frames(vertices: Tensor, faces: Tensor, rest: Tensor) -> Tensor:
    """The frame of every face of a deformed mesh, relative to its place at rest.

    A face (a, b, c) has axes x along b - a, z along its normal (b - a) x (c - a), and y = z x x. Its frame is the
    rotation R that turns the rest axes into the deformed ones, the deformed centroid t, and s = sqrt(area / rest area).
    A point that at rest lies at p has the local coordinates p - rest centroid, in the axes of the rest space, and moves
    to `s R (p - rest centroid) + t`. So at rest R is the identity and s is 1, and rotations, scales and offsets of
    Gaussians mean the same in face coordinates as in the rest space.

    A face without a usable normal (edges parallel within 1e-6, sine of their angle) gets the identity rotation, and a
    scale of 1 where it is the rest face that has no area; such faces pass gradients only through t.

    Args:
        vertices: [B, V, 3] float32 or float64.
        faces: [F, 3] int32 or int64 indices of vertices.
        rest: [V, 3] like vertices; a constant: no gradient flows to it.
    Returns:
        [B, F, 8]: quaternion wxyz (unit), translation, scale. Differentiable in `vertices`.
    Raises:
        TypeError, ValueError: an argument does not fit, or a face names no vertex (on CUDA, where looking would
            wait for the device, its frame is NaN instead).

    >>> rest = torch.tensor([[0.0, 0, 0], [3, 0, 0], [0, 3, 0]])
    >>> rig_frames(2 * rest[None], torch.tensor([[0, 1, 2]]), rest)
    tensor([[[1., 0., 0., 0., 2., 2., 0., 2.]]])
    """
    arguments = Arguments("rig_frames")
    arguments.check("vertices", vertices, "B V 3")
    arguments.check("faces", faces, "F 3", (torch.int32, torch.int64))
    arguments.check("rest", rest, "V 3", (vertices.dtype,))
    return torch.ops.emogs.rig_frames(vertices, faces, rest.detach())


torch.library.define("emogs::rig_frames", "(Tensor vertices, Tensor faces, Tensor rest) -> Tensor")
torch.library.define(
    "emogs::rig_frames_backward", "(Tensor vertices, Tensor faces, Tensor rest, Tensor grad_frames) -> Tensor"
)


@torch.library.impl("emogs::rig_frames", ("cpu", "cuda"))
def _forward(vertices, faces, rest):
    where = launch(vertices)
    if where["device"] < 0:
        Arguments("rig_frames").check_indices("faces", faces, "V", rest.shape[0])
    frames = _forward_fake(vertices, faces, rest)
    _C.rig_frames_forward(**_common(vertices, faces, rest, where), frames=frames)
    return frames


@torch.library.register_fake("emogs::rig_frames")
def _forward_fake(vertices, faces, rest):
    return vertices.new_empty((vertices.shape[0], faces.shape[0], 8))


@torch.library.impl("emogs::rig_frames_backward", ("cpu", "cuda"))
def _backward(vertices, faces, rest, grad_frames):
    grad_vertices = vertices.new_empty(vertices.shape)
    where = launch(vertices)
    common = _common(vertices, faces, rest, where)
    _C.rig_frames_backward(
        **common,
        frames=None,
        grad_frames=grad_frames.contiguous(),
        corner_grads=vertices.new_empty((vertices.shape[0], faces.shape[0], 3, 3)),
        vertex_lists=lists_by_key(common["corners"], vertices.shape[1], where),
        grad_vertices=grad_vertices,
    )
    return grad_vertices


@torch.library.register_fake("emogs::rig_frames_backward")
def _backward_fake(vertices, faces, rest, grad_frames):
    return vertices.new_empty(vertices.shape)


def _save(ctx, inputs, output):
    ctx.save_for_backward(*inputs)


def _differentiate(ctx, grad_frames):
    return torch.ops.emogs.rig_frames_backward(*ctx.saved_tensors, grad_frames), None, None


def _refuse_second_derivative(ctx, grad):
    raise NotImplementedError("rig_frames: second derivatives are not supported")


torch.library.register_autograd("emogs::rig_frames", _differentiate, setup_context=_save)
torch.library.register_autograd("emogs::rig_frames_backward", _refuse_second_derivative)


def _common(vertices: Tensor, faces: Tensor, rest: Tensor, where: dict[str, Any]) -> dict[str, Any]:
    if where["device"] >= 0 and faces.dtype == torch.int64:
        faces = faces.clamp(-1, rest.shape[0])  # what names no vertex still does not when it is an int32
    return {
        **where,
        "batch": vertices.shape[0],
        "count": vertices.shape[1],
        "faces": faces.shape[0],
        "vertices": vertices.contiguous(),
        "corners": faces.to(torch.int32).contiguous(),
        "rest": rest.contiguous(),
    }
