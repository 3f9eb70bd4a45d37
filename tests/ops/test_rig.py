"""rig_frames: the definition, what rigid motion does to it, gradients, degenerate faces."""

from __future__ import annotations

import pytest
import roma
import torch
from emulation import on_cpu
from raster_reference import quat_matrix

from emogs.ops import rig_frames

FACES = torch.tensor([[0, 1, 2], [2, 1, 3], [0, 3, 1], [3, 4, 5]])


def random_mesh(seed: int = 0, count: int = 6) -> torch.Tensor:
    return torch.randn(count, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def rotations(count: int) -> torch.Tensor:
    """Random ones, and half turns about each axis, where the quaternion's largest component changes."""
    generator = torch.Generator().manual_seed(1)
    random = roma.unitquat_to_rotmat(
        torch.nn.functional.normalize(torch.randn(count, 4, generator=generator).double(), dim=-1)
    )
    half = torch.stack([torch.diag(2 * axis - 1) for axis in torch.eye(3, dtype=torch.float64)])
    return torch.cat([random, half, torch.eye(3, dtype=torch.float64)[None]])


def test_similarity_carries_every_point():
    """For x -> s R x + t of the whole mesh, local coordinates of any rest point move with it."""
    rest = random_mesh()
    R, s, t = rotations(50), 1.7, torch.tensor([0.3, -2, 5], dtype=torch.float64)
    frames = rig_frames(s * torch.einsum("bij,vj->bvi", R, rest) + t, FACES, rest)
    point = torch.tensor([0.2, 0.5, -0.1], dtype=torch.float64)
    local = point - rest[FACES].mean(1)
    moved = frames[..., 7:] * (quat_matrix(frames[..., :4]) @ local[..., None])[..., 0] + frames[..., 4:7]
    torch.testing.assert_close(moved, (s * R @ point + t)[:, None].expand_as(moved))
    torch.testing.assert_close(frames[..., :4].norm(dim=-1), torch.ones(54, 4, dtype=torch.float64))


def test_definition_under_shear():
    rest, deformed = random_mesh(1), random_mesh(2)
    frames = rig_frames(deformed[None], FACES, rest)[0]

    def axes(vertices: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        a, b, c = vertices[FACES].unbind(1)
        normal = torch.linalg.cross(b - a, c - a)
        x, z = (torch.nn.functional.normalize(v, dim=-1) for v in (b - a, normal))
        return torch.stack([x, torch.linalg.cross(z, x), z], -1), normal.norm(dim=-1) / 2

    (from_axes, from_area), (to_axes, to_area) = axes(rest), axes(deformed)
    torch.testing.assert_close(quat_matrix(frames[:, :4]), to_axes @ from_axes.mT)
    torch.testing.assert_close(frames[:, 4:7], deformed[FACES].mean(1))
    torch.testing.assert_close(frames[:, 7], (to_area / from_area).sqrt())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rest_is_the_identity(dtype):
    rest = random_mesh().to(dtype)
    frames = rig_frames(rest[None], FACES, rest)[0]
    identity = torch.tensor([1.0, 0, 0, 0], dtype=dtype).expand(4, 4)
    torch.testing.assert_close(frames[:, :4], identity, rtol=0, atol=4 * torch.finfo(dtype).eps)
    assert torch.equal(frames[:, 7], torch.ones(4, dtype=dtype))


def test_gradients():
    rest = random_mesh()
    R = rotations(6)
    vertices = (torch.einsum("bij,vj->bvi", R, rest) + 0.2 * random_mesh(3)).requires_grad_()
    assert torch.autograd.gradcheck(lambda v: rig_frames(v, FACES, rest), (vertices,))


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("count", [4, 43, 200])  # vertices; about as many faces in a block, less, more
def test_cuda_has_the_bits_of_the_cpu(device, count, batch):
    """Frames and gradients, degenerate faces and vertices without a face among them."""
    generator = torch.Generator().manual_seed(count)
    rest, moved = (torch.randn(*size, 3, generator=generator) for size in ((count,), (batch, count)))
    faces = torch.randint(count - 1, (2 * count - 5, 3), generator=generator)
    faces[1] = faces[1, 0]  # one point
    weights = torch.randn(batch, len(faces), 8, generator=generator)

    def run(device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
        vertices = moved.to(device).requires_grad_()
        frames = rig_frames(vertices, faces.to(device), rest.to(device))
        (grad,) = torch.autograd.grad(frames, vertices, weights.to(device))
        return frames.detach().cpu(), grad.cpu()

    got = run(device)
    with on_cpu():
        expected = run(torch.device("cpu"))
    assert torch.equal(got[0], expected[0]) and torch.equal(got[1], expected[1])
    assert (got[1][:, -1] == 0).all() and got[1].isfinite().all()


def test_cuda_does_not_look_at_faces(device, request):
    """The CPU refuses them; on CUDA such frames are NaN and pass no gradient."""
    rest, faces = random_mesh().float().to(device), FACES.to(device).clone()
    faces[0, 1], faces[2, 2] = 2**32 + 3, -1
    vertices = rest[None].clone().requires_grad_()
    if request.node.callspec.params["device"] == "cpu":
        with pytest.raises(ValueError, match=r"faces must be in \[0, V=6\), got -1 to 4294967299"):
            rig_frames(vertices, faces, rest)
        return
    frames = rig_frames(vertices, faces, rest)
    assert frames[0, [0, 2]].isnan().all() and frames[0, [1, 3]].isfinite().all()
    (grad,) = torch.autograd.grad(frames.nan_to_num().sum(), vertices)
    (sound,) = torch.autograd.grad(rig_frames(vertices, faces[[1, 3]], rest).sum(), vertices)
    assert torch.equal(grad, sound)


def test_empty_on_every_device(device):
    rest, faces = random_mesh().float().to(device), FACES.to(device)
    vertices = rest[None].clone().requires_grad_()
    assert rig_frames(vertices[:0], faces, rest).shape == (0, 4, 8)
    none = rig_frames(vertices, faces[:0], rest)
    assert none.shape == (1, 0, 8)
    (grad,) = torch.autograd.grad(none.sum(), vertices)
    assert (grad == 0).all()


def test_degenerate_faces_are_finite():
    rest = torch.tensor([[0, 0, 0], [1, 0, 0], [0, 1, 0], [2, 0, 0], [0, 0, 0]], dtype=torch.float64)
    faces = torch.tensor([[0, 1, 2], [0, 1, 3], [0, 4, 2]])  # sound, on a line, two corners in one place
    frames = rig_frames(torch.stack([rest, 2 * rest]), faces, rest)
    assert frames.isfinite().all()
    assert frames[1, :, 7].tolist() == [2.0, 1.0, 1.0]
    assert torch.equal(frames[:, 1:, 0], torch.ones(2, 2, dtype=torch.float64))
    vertices = torch.zeros(1, 5, 3, dtype=torch.float64, requires_grad=True)  # collapsed onto a point
    collapsed = rig_frames(vertices, faces, rest)
    assert collapsed[0, 0].tolist() == [1, 0, 0, 0, 0, 0, 0, 0]
    collapsed.sum().backward()
    assert vertices.grad.isfinite().all()
    torch.testing.assert_close(
        vertices.grad.sum(), torch.tensor(9.0, dtype=torch.float64)
    )  # each centroid, by weights of 1


def test_empty_and_threads():
    rest = random_mesh()
    assert rig_frames(rest[None], FACES[:0], rest).shape == (1, 0, 8)
    assert rig_frames(rest[None][:0], FACES, rest).shape == (0, 4, 8)
    mesh = random_mesh(count=3000)
    faces = torch.randint(3000, (6000, 3), generator=torch.Generator().manual_seed(4))
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            vertices = (mesh * 1.1)[None].requires_grad_()
            frames = rig_frames(vertices, faces, mesh)
            frames.square().sum().backward()
            results.append((frames.detach(), vertices.grad))
    finally:
        torch.set_num_threads(before)
    for frames, grad in results[1:]:
        assert torch.equal(frames, results[0][0]) and torch.equal(grad, results[0][1])


def test_operation_is_sound():
    rest = random_mesh()
    vertices = random_mesh(1)[None].requires_grad_()
    torch.library.opcheck(torch.ops.emogs.rig_frames, (vertices, FACES.int(), rest))


@pytest.mark.parametrize(
    ("vertices", "faces", "rest", "message"),
    [
        (torch.zeros(6, 3), FACES, torch.zeros(6, 3), r"vertices must be \[B, V, 3\], got \[6, 3\]"),
        (torch.zeros(1, 6, 3), FACES.float(), torch.zeros(6, 3), "faces must be int32 or int64, got float32"),
        (torch.zeros(1, 6, 3), FACES, torch.zeros(5, 3), r"rest must be \[V=6, 3\], got \[5, 3\]"),
        (torch.zeros(1, 6, 3), FACES, torch.zeros(6, 3).double(), "rest must be float32, got float64"),
        (torch.zeros(1, 5, 3), FACES, torch.zeros(5, 3), r"faces must be in \[0, V=5\), got 0 to 5"),
        (torch.zeros(1, 6, 3), FACES - 1, torch.zeros(6, 3), r"faces must be in \[0, V=6\), got -1 to 4"),
    ],
)
def test_refusals(vertices, faces, rest, message):
    with pytest.raises((TypeError, ValueError), match=message):
        rig_frames(vertices, faces, rest)


def test_compiled_code_checks_indices():
    rest = random_mesh()
    compiled = torch.compile(rig_frames, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(rest[None], FACES, rest), rig_frames(rest[None], FACES, rest))
    with pytest.raises(ValueError, match=r"faces must be in \[0, V=6\), got 0 to 4294967296"):
        compiled(rest[None], torch.where(FACES == 5, 2**32, FACES), rest)


def test_second_derivatives_are_refused():
    rest = random_mesh()
    vertices = random_mesh(1)[None].requires_grad_()
    (grad,) = torch.autograd.grad(rig_frames(vertices, FACES, rest).square().sum(), vertices, create_graph=True)
    with pytest.raises(NotImplementedError, match="second derivatives"):
        grad.sum().backward()
