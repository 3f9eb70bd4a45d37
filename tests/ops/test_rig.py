"""rig_frames: the definition, what rigid motion does to it, gradients, triangles that collapse or turn over."""

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


def grid(side: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    """[side^2, 3] points of a flat unit grid and its triangles; number i * side + j lies at (j, i)."""
    along = torch.arange(side, dtype=torch.float64)
    y, x = torch.meshgrid(along, along, indexing="ij")
    corner = (torch.arange(side - 1)[:, None] * side + torch.arange(side - 1)).reshape(-1)
    lower = torch.stack([corner, corner + 1, corner + side], -1)
    upper = torch.stack([corner + 1, corner + side + 1, corner + side], -1)
    return torch.stack([x, y, torch.zeros_like(x)], -1).reshape(-1, 3), torch.cat([lower, upper])


def degrees(frames: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
    """The angle between the frames' rotations."""
    return torch.rad2deg(roma.rotmat_geodesic_distance(quat_matrix(frames[..., :4]), quat_matrix(others[..., :4])))


def test_definition_on_a_flat_mesh():
    """By matrices and singular values: there the tangents are the axes, and gradients follow from edges."""
    rest, faces = grid(4)
    deformed = rest + 0.3 * random_mesh(1, len(rest))
    frames = rig_frames(deformed[None], faces, rest)[0]

    def edges(points: torch.Tensor) -> torch.Tensor:
        a, b, c = points[faces].unbind(1)
        return torch.stack([b - a, c - a], -1)

    gradients = edges(deformed) @ torch.linalg.inv(edges(rest)[:, :2])  # [F, 3, 2]; all rest areas are equal
    incidence = torch.zeros(len(rest), len(faces), dtype=torch.float64)
    incidence[faces, torch.arange(len(faces))[:, None]] = 1
    around = incidence.T @ incidence
    share = around @ around
    sums = torch.einsum("fg,gij->fij", share, gradients)
    u, stretches, v = torch.linalg.svd(sums, full_matrices=False)
    columns = u @ v
    rotation = torch.cat([columns, torch.linalg.cross(columns[..., 0], columns[..., 1])[..., None]], -1)
    torch.testing.assert_close(quat_matrix(frames[:, :4]), rotation)
    torch.testing.assert_close(frames[:, 4:7], deformed[faces].mean(1))

    doubled = torch.linalg.cross(*edges(deformed).unbind(-1)).square().sum(-1)
    total = share.sum(1)  # the sums at rest are this times the identity
    weight = 2 * (total / 4096).square()
    stretch = stretches.square().sum(-1) / (2 * total.square())
    torch.testing.assert_close(frames[:, 7], ((doubled + weight * stretch.square()) / (1 + weight)) ** 0.25)


def test_similarity_of_a_deformed_mesh_carries_its_frames():
    """Exactly: R turns rotations, s grows scales, whatever the deformation; turning the rest as well changes axes."""
    rest, moved, t = random_mesh(1), random_mesh(2), torch.tensor([0.3, -2, 5], dtype=torch.float64)
    before = rig_frames(moved[None], FACES, rest)[0]
    for R in rotations(8):
        after = rig_frames((1.7 * moved @ R.T + t)[None], FACES, rest)[0]
        torch.testing.assert_close(quat_matrix(after[:, :4]), R @ quat_matrix(before[:, :4]))
        torch.testing.assert_close(after[:, 4:7], 1.7 * before[:, 4:7] @ R.T + t)
        torch.testing.assert_close(after[:, 7], 1.7 * before[:, 7])
        other = rig_frames(moved[None], FACES, rest @ R.T)[0]
        torch.testing.assert_close(quat_matrix(other[:, :4]) @ R, quat_matrix(before[:, :4]))
        torch.testing.assert_close(other[:, 7], before[:, 7])


def test_order_of_corners_does_not_matter():
    rest, moved = random_mesh(1), random_mesh(2)
    frames, rolled = (rig_frames(moved[None], faces, rest) for faces in (FACES, FACES.roll(1, 1)))
    torch.testing.assert_close(quat_matrix(rolled[..., :4]), quat_matrix(frames[..., :4]))
    torch.testing.assert_close(rolled[..., 4:], frames[..., 4:])


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


COLLAPSES = {
    "onto an edge": torch.tensor([1.5, 1.5, 0]),  # of a diagonal: one triangle becomes a line
    "onto a neighbour": torch.tensor([2.0, 1, 0]),  # two triangles become lines, one of them with two corners in one
    "beyond an edge": torch.tensor([1.2, 1.2, 0]),  # one turns over
    "beyond several": torch.tensor([0.6, 1.4, 0.0]),
    "nearly onto an edge": torch.tensor([1.5 + 1e-7, 1.5, 1e-8]),
    "nearly onto a neighbour": torch.tensor([2.0, 1 + 1e-7, 0]),
}


@pytest.mark.parametrize("where", COLLAPSES)
def test_gradients_at_collapsed_triangles(where: str):
    """float64 gradcheck with the middle of a grid moved so that triangles around it are lines, or upside down."""
    rest, faces = grid()
    vertices = rest.clone()
    vertices[12] = COLLAPSES[where]
    vertices = vertices[None].requires_grad_()
    assert torch.autograd.gradcheck(lambda v: rig_frames(v, faces, rest), (vertices,), rtol=1e-5, atol=1e-7)


def test_no_frame_flips_as_triangles_turn_over():
    """The middle of a grid moves across its surroundings: triangles collapse and turn over, frames do neither.

    Without a bound on the derivative the largest step would not halve with twice as many.
    """
    rest, faces = grid()
    largest = {}
    for steps in (50, 100, 200):
        vertices = rest.repeat(steps + 1, 1, 1)
        vertices[:, 12, :2] = 2 + torch.linspace(0, 1, steps + 1, dtype=torch.float64)[:, None] * torch.tensor(
            [-2, -1.5]
        )
        a, b, c = vertices[:, faces].unbind(2)
        assert (torch.linalg.cross(b - a, c - a)[-1, :, 2] < 0).any(), "some have turned over"
        frames = rig_frames(vertices, faces, rest)
        assert degrees(frames, frames[:1]).amax() < 45
        assert frames[..., 7].amin() > 0.3 and frames[..., 7].isfinite().all()
        largest[steps] = float(degrees(frames[1:], frames[:-1]).amax())
    assert largest[100] == pytest.approx(largest[50] / 2, rel=0.1)
    assert largest[200] == pytest.approx(largest[100] / 2, rel=0.1)


def test_a_fold_that_is_real_is_followed():
    """A strip folded back over itself: frames far behind the crease have turned by half a turn."""
    rest, faces = grid(16)
    folded = rest.clone()
    behind = rest[:, 0] > 7.5
    folded[behind, 0], folded[behind, 2] = 15 - rest[behind, 0], 0.5
    angle = degrees(rig_frames(folded[None], faces, rest)[0], torch.tensor([1.0, 0, 0, 0], dtype=torch.float64))
    middle = rest[faces].mean(1)[:, 0]
    assert (angle[middle > 11] > 179.9).all() and (angle[middle < 4] < 0.1).all()


def test_degenerate_faces_are_finite():
    rest = torch.tensor([[0, 0, 0], [1, 0, 0], [0, 1, 0], [2, 0, 0], [0, 0, 0]], dtype=torch.float64)
    faces = torch.tensor([[0, 1, 2], [0, 1, 3], [0, 4, 2]])  # sound, on a line, two corners in one place
    R = rotations(1)[0]
    frames = rig_frames(torch.stack([rest, 2 * rest @ R.T]), faces, rest)
    assert frames[1, :, 7].tolist() == pytest.approx([2.0, 2.0, 2.0])
    torch.testing.assert_close(quat_matrix(frames[1, :, :4]), R.expand(3, 3, 3))  # by their surroundings
    vertices = torch.zeros(1, 5, 3, dtype=torch.float64, requires_grad=True)  # collapsed onto a point
    collapsed = rig_frames(vertices, faces, rest)
    assert collapsed[0, 0].tolist() == [1, 0, 0, 0, 0, 0, 0, 0]
    collapsed.sum().backward()
    assert vertices.grad.isfinite().all()
    torch.testing.assert_close(
        vertices.grad.sum(), torch.tensor(9.0, dtype=torch.float64)
    )  # each centroid, by weights of 1


def test_a_mesh_without_a_surface_stays_as_it_is():
    """Rest triangles that are all lines or points have nothing to turn by."""
    rest = torch.tensor([[0.0, 0, 0], [1, 0, 0], [2, 0, 0]], dtype=torch.float64)
    vertices = random_mesh(3, 3)[None].requires_grad_()
    for faces in (torch.tensor([[0, 1, 2]]), torch.tensor([[1, 1, 1], [0, 0, 2]])):
        frames = rig_frames(vertices, faces, rest)
        assert frames[0, :, [0, 1, 2, 3, 7]].tolist() == [[1, 0, 0, 0, 1]] * len(faces)
        (grad,) = torch.autograd.grad(frames.sum(), vertices)
        torch.testing.assert_close(grad.sum(), torch.tensor(3.0 * len(faces), dtype=torch.float64))


def test_a_triangle_alone_turns_until_it_is_a_line():
    """Nothing is around it: on the line the rotation is the identity and has no gradient, the scale has one."""
    rest = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0.3, 1, 0]], dtype=torch.float64)
    faces = torch.tensor([[0, 1, 2]])
    for height in (1e-3, 1e-5, 0.0):
        moved = rest.clone()
        moved[2, 1] = height
        moved = moved[None].requires_grad_()
        frames = rig_frames(moved, faces, rest)
        assert frames.isfinite().all()
        (grad,) = torch.autograd.grad(frames[..., 7].sum(), moved)
        assert grad.abs().amax() < 10
        if height == 0:
            assert frames[0, 0, :4].tolist() == [1, 0, 0, 0]
            (grad,) = torch.autograd.grad(rig_frames(moved, faces, rest)[..., :4].sum(), moved)
            assert (grad == 0).all()


def test_units_do_not_matter():
    """A head in micrometres or kilometres has the same rotations, in float32."""
    rest, faces = grid()
    moved = rest + 0.2 * random_mesh(5, len(rest))
    frames = rig_frames(moved[None], faces, rest)[0].float()
    for unit in (1e-6, 1e6):
        scaled = rig_frames((unit * moved)[None].float(), faces, (unit * rest).float())[0]
        torch.testing.assert_close(scaled[:, :4], frames[:, :4], rtol=0, atol=1e-5)
        torch.testing.assert_close(scaled[:, 7], frames[:, 7], rtol=1e-5, atol=0)


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
