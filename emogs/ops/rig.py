"""Frames of mesh faces: what carries the Gaussians that live on a mesh when it deforms.

The torch operations are `emogs::rig_frames` and its backward; the arithmetic is in csrc/math/rig.h.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from emogs.checks import Arguments
from emogs.ops.groups import lists_by_key
from emogs.ops.native import _C, launch
from emogs.ops.rig_rest import with_rest_gradient
from emogs.ops.scene import check_fit


def rig_frames(vertices: Tensor, faces: Tensor, rest: Tensor) -> Tensor:
    """The frame of every face of a deformed mesh, relative to its place at rest.

    A point that at rest lies at p has the local coordinates p - rest centroid, in the axes of the rest space, and moves
    to `s R (p - rest centroid) + t`. So at rest R is the identity and s is 1, and rotations, scales and offsets of
    Gaussians mean the same in face coordinates as in the rest space. Where the mesh moves as a rigid body, R is its
    rotation; where it also grows, s is by how much.

    R is the polar rotation of the deformation gradient around the face: of single triangles as in Sumner and Popovic,
    "Deformation transfer for triangle meshes" (2004), weighted by rest area and summed at vertices, around faces, and
    both again. A triangle alone would flip as it collapses; with its surroundings, R and its gradient stay smooth, and
    half turns are those of folds of the surface. t is the deformed centroid. s is sqrt(area / rest area) with a share
    of the surroundings: `s^4 = (area^2 + (share * stretch)^2) / (rest area^2 + share^2)`. A triangle that collapses
    while its surroundings keep still keeps a third of its scale; a needle that hardly had an area follows them.

    Where the surroundings themselves are a line or a point, R is the identity and has no gradient; where they are so at
    rest, s is 1. A vertex that is not finite spoils the frames around it.

    Args:
        vertices: [B, V, 3] float32 or float64.
        faces: [F, 3] int32 or int64 indices of vertices.
        rest: [V, 3] like vertices.
    Returns:
        [B, F, 8]: quaternion wxyz (unit), translation, scale. Differentiable in `vertices`; in `rest` too, by torch,
        which takes longer.
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
    frames = torch.ops.emogs.rig_frames(vertices, faces, rest.detach())[0]
    if rest.requires_grad and torch.is_grad_enabled():
        return with_rest_gradient(frames, vertices, faces, rest)
    return frames


torch.library.define(  # frames; for backward: sums of deformation gradients at vertices, lists of the vertices' corners
    "emogs::rig_frames", "(Tensor vertices, Tensor faces, Tensor rest) -> (Tensor, Tensor, Tensor)"
)
torch.library.define(
    "emogs::rig_frames_backward",
    "(Tensor vertices, Tensor faces, Tensor rest, Tensor gradients, Tensor vertex_lists, Tensor grad_frames) -> Tensor",
)


@torch.library.impl("emogs::rig_frames", ("cpu", "cuda"))
def _forward(vertices, faces, rest):
    where = launch(vertices)
    _check(vertices, faces, rest, where)
    frames, gradients, _ = _forward_fake(vertices, faces, rest)
    common = _common(vertices, faces, rest, where)
    vertex_lists = lists_by_key(common["corners"], vertices.shape[1], where)
    _C.rig_frames_forward(
        **common,
        face_gradients=_scratch(where, vertices, len(vertices) + 1, len(faces)),
        vertex_lists=vertex_lists,
        gradients=gradients,
        frames=frames,
    )
    return frames, gradients, vertex_lists


@torch.library.register_fake("emogs::rig_frames")
def _forward_fake(vertices, faces, rest):
    batch, count = vertices.shape[:2]
    return (
        vertices.new_empty((batch, faces.shape[0], 8)),
        vertices.new_empty((batch + 1, count, 3, 3)),
        faces.new_empty((count + 1 + 3 * faces.shape[0],), dtype=torch.int64),
    )


@torch.library.impl("emogs::rig_frames_backward", ("cpu", "cuda"))
def _backward(vertices, faces, rest, gradients, vertex_lists, grad_frames):
    where = launch(vertices)
    _check(vertices, faces, rest, where)
    batch, count = vertices.shape[:2]
    check_fit("gradients", gradients.shape, (batch + 1, count, 3, 3))
    check_fit("grad_frames", grad_frames.shape, (batch, len(faces), 8))
    _check_lists(vertex_lists, count, 3 * len(faces), where)
    grad_vertices = vertices.new_empty(vertices.shape)
    _C.rig_frames_backward(
        **_common(vertices, faces, rest, where),
        face_gradients=_scratch(where, vertices, batch, len(faces)),
        vertex_lists=vertex_lists.contiguous(),
        gradients=gradients.contiguous(),
        frames=None,
        grad_frames=grad_frames.contiguous(),
        corner_grads=_scratch(where, vertices, batch, len(faces)),
        vertex_grads=_scratch(where, vertices, batch, count),
        grad_vertices=grad_vertices,
    )
    return grad_vertices


@torch.library.register_fake("emogs::rig_frames_backward")
def _backward_fake(vertices, faces, rest, gradients, vertex_lists, grad_frames):
    return vertices.new_empty(vertices.shape)


def _check(vertices: Tensor, faces: Tensor, rest: Tensor, where: dict[str, Any]) -> None:
    """Refuses what would let the kernels read out of bounds, for operations that are called directly. What `faces`
    names is looked at on the CPU only; on CUDA the kernels do."""
    check_fit("vertices", vertices.shape, (*vertices.shape[:1], *rest.shape[:1], 3))
    check_fit("rest", rest.shape, (*rest.shape[:1], 3))
    check_fit("faces", faces.shape, (*faces.shape[:1], 3))
    if where["device"] < 0:
        Arguments("rig_frames").check_indices("faces", faces, "V", rest.shape[0])


def _check_lists(lists: Tensor, count: int, corners: int, where: dict[str, Any]) -> None:
    """The same for the lists of the vertices' corners."""
    check_fit("vertex_lists", lists.shape, (count + 1 + corners,))
    if where["device"] < 0:
        arguments = Arguments("rig_frames_backward")
        arguments.check_indices("vertex_lists", lists[: count + 1], "3 F + 1", corners + 1)
        arguments.check_indices("vertex_lists", lists[count + 1 :], "3 F", corners)


def _save(ctx, inputs, output):
    _, gradients, vertex_lists = output
    ctx.mark_non_differentiable(gradients, vertex_lists)
    ctx.save_for_backward(*inputs, gradients, vertex_lists)


def _differentiate(ctx, grad_frames, *_):
    return torch.ops.emogs.rig_frames_backward(*ctx.saved_tensors, grad_frames), None, None


def _refuse_second_derivative(ctx, grad):
    raise NotImplementedError("rig_frames: second derivatives are not supported")


torch.library.register_autograd("emogs::rig_frames", _differentiate, setup_context=_save)
torch.library.register_autograd("emogs::rig_frames_backward", _refuse_second_derivative)


def _scratch(where: dict[str, Any], like: Tensor, meshes: int, count: int) -> Tensor:
    """[M, count, 3, 3]: the CPU takes one mesh after the other."""
    return like.new_empty((min(meshes, 1) if where["device"] < 0 else meshes, count, 3, 3))


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
