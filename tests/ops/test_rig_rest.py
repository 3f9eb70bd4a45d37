"""rig_frames by the mesh at rest: the same frames in plain torch, their gradient, degenerate meshes."""

import pytest
import torch

from emogs.ops import rig_frames
from emogs.ops.rig_rest import frames_by_torch

FACES = torch.tensor([[0, 1, 2], [2, 1, 3], [0, 3, 1], [3, 4, 5]])


def meshes(seed, batch=3):
    """At rest [6, 3], and deformed [B, 6, 3] a little and a lot."""
    generator = torch.Generator().manual_seed(seed)
    rest = torch.randn(6, 3, generator=generator, dtype=torch.float64)
    moved = torch.randn(batch, 6, 3, generator=generator, dtype=torch.float64)
    return rest, torch.cat([rest + 0.2 * moved[:1], moved[1:]])


def same_sign(frames, others):
    """The frames with those quaternions negated that point away from the others'."""
    agree = (frames[..., :4] * others[..., :4]).sum(-1, keepdim=True) >= 0
    return torch.cat([torch.where(agree, frames[..., :4], -frames[..., :4]), frames[..., 4:]], -1)


@pytest.mark.parametrize("seed", range(8))
def test_torch_and_the_operation_agree(seed):
    rest, moved = meshes(seed)
    frames = rig_frames(moved, FACES, rest)
    torch.testing.assert_close(same_sign(frames_by_torch(moved, FACES, rest), frames), frames)


@pytest.mark.parametrize("seed", range(2))
def test_gradients_by_both_meshes(seed):
    rest, moved = (mesh.requires_grad_() for mesh in meshes(seed))
    assert torch.autograd.gradcheck(lambda r, v: rig_frames(v, FACES, r), (rest, moved))


def test_asking_for_the_gradient_changes_no_bit():
    rest, moved = (mesh.float() for mesh in meshes(0))
    asked = rig_frames(moved, FACES.int(), rest.clone().requires_grad_())
    assert asked.requires_grad
    assert torch.equal(asked, rig_frames(moved, FACES, rest))
    with torch.no_grad():
        assert not rig_frames(moved, FACES, rest.clone().requires_grad_()).requires_grad


@pytest.mark.parametrize(
    "faces",
    [
        [[0, 1, 1], [1, 2, 3]],  # a line beside a triangle
        [[0, 1, 1]],  # a line alone
        [[0, 0, 0], [3, 4, 5]],  # a point alone
    ],
)
def test_degenerate_triangles_have_the_same_frames_and_finite_gradients(faces):
    faces = torch.tensor(faces)
    rest, moved = meshes(1)
    rest.requires_grad_()
    frames = rig_frames(moved, faces, rest)
    assert torch.equal(frames, rig_frames(moved, faces, rest.detach()))
    torch.testing.assert_close(same_sign(frames_by_torch(moved, faces, rest), frames), frames)
    (grad,) = torch.autograd.grad(frames.square().sum(), rest)
    assert grad.isfinite().all()


def test_a_mesh_that_collapsed_has_finite_gradients():
    rest, _ = meshes(2)
    rest.requires_grad_()
    (grad,) = torch.autograd.grad(rig_frames(torch.zeros(1, 6, 3).double(), FACES, rest).sum(), rest)
    assert grad.isfinite().all()


def test_empty_meshes_and_batches():
    rest, moved = meshes(0)
    rest.requires_grad_()
    for vertices, faces in ((moved[:0], FACES), (moved, FACES[:0])):
        (grad,) = torch.autograd.grad(rig_frames(vertices, faces, rest).sum(), rest)
        assert not grad.any()
