"""The built-in head: a clean symmetric mesh that looks like a person, measured against a scanned average."""

from __future__ import annotations

import pytest
import roma
import torch
from torch import Tensor

from emogs.head import builtin_head, load_ict, paint, texel_map
from emogs.head.builtin import neutral_head
from emogs.head.organs import beside_gap
from emogs.head.organs import teeth as teeth_mesh
from emogs.head.regions import Regions
from emogs.head.template import HeadTemplate

MILLIMETRE = 0.001
LANDMARK_MIRROR = [
    *range(16, -1, -1), *range(26, 16, -1), 27, 28, 29, 30, 35, 34, 33, 32, 31, 45, 44, 43, 42, 47, 46,
    39, 38, 37, 36, 41, 40, 54, 53, 52, 51, 50, 49, 48, 59, 58, 57, 56, 55, 64, 63, 62, 61, 60, 67, 66, 65,
]  # fmt: skip


@pytest.fixture(scope="module")
def head() -> HeadTemplate:
    return builtin_head()


@pytest.fixture(scope="module")
def regions() -> Regions:
    return neutral_head()[1]


def test_size_and_parts(head: HeadTemplate):
    assert 6000 <= len(head.vertices) <= 8200
    for name in ("skin", "eye_left", "eye_right", "teeth_upper", "teeth_lower", "gums", "tongue", "mouth_socket"):
        assert (head.face_part == head.part_names.index(name)).sum() >= 50, name
    assert torch.equal(head.faces.unique(), torch.arange(len(head.vertices))), "a vertex belongs to no triangle"


def test_measurements_are_human(head: HeadTemplate):
    """Within two standard deviations of adult means (ANSUR II, Farkas)."""
    skin = head.vertices[head.faces[head.face_part == 0].unique()] / MILLIMETRE
    skull = skin[skin[:, 1] > 45]
    mark = head.vertices[head.landmarks] / MILLIMETRE
    assert 180 < torch.dist(skull[skull[:, 2].argmax()], skull[skull[:, 2].argmin()]) < 212, "head length"
    assert 140 < skull[:, 0].max() - skull[:, 0].min() < 166, "head breadth"
    assert 105 < mark[27, 1] - mark[8, 1] < 132, "sellion to menton"
    assert 30 < mark[35, 0] - mark[31, 0] + 6 < 43, "nose breadth; the wings bulge 3 mm beyond the landmarks"
    assert 44 < mark[54, 0] - mark[48, 0] < 60, "mouth breadth"
    assert (
        56
        < 2
        * (head.vertices[head.faces[head.face_part == head.part_names.index("eye_left")]] / MILLIMETRE)[..., 0].mean()
        < 70
    ), "between the pupils"


def test_every_triangle_edge_is_shared_and_wound_alike(head: HeadTemplate):
    """A manifold: no directed edge twice; skin and socket open only at the neck's rim and behind the eyelids."""
    directed = torch.stack([head.faces, head.faces.roll(-1, 1)], -1).reshape(-1, 2)
    assert len(directed.unique(dim=0)) == len(directed)
    surface = head.faces[head.face_part.eq(0) | head.face_part.eq(head.part_names.index("mouth_socket"))]
    pairs = torch.stack([surface, surface.roll(-1, 1)], -1).reshape(-1, 2).sort(1).values
    edges, uses = pairs.unique(dim=0, return_counts=True)
    assert uses.max() == 2
    at = head.vertices[edges[uses == 1]].mean(1) / MILLIMETRE
    eyes = (at[:, 1] > 20) & (at[:, 1] < 50) & (at[:, 2] > 70)
    assert (eyes | (at[:, 1] < -135)).all()


def test_skin_faces_outwards(head: HeadTemplate):
    """The signed volume under the skin and the socket is that of a head, not its negative."""
    surface = head.faces[head.face_part.eq(0) | head.face_part.eq(head.part_names.index("mouth_socket"))]
    a, b, c = (head.vertices[surface] / MILLIMETRE / 100).unbind(1)
    litres = (torch.linalg.cross(a, b) * c).sum() / 6
    assert 3 < litres < 8


def test_no_degenerate_triangles(head: HeadTemplate):
    a, b, c = (head.vertices[head.faces].double() / MILLIMETRE).unbind(1)
    assert (torch.linalg.cross(b - a, c - a).norm(dim=1) / 2).min() > 0.01  # square millimetres


def test_mirror_image_is_bitwise(head: HeadTemplate, regions: Regions):
    mirrored = head.vertices[regions.mirror] * torch.tensor([-1.0, 1.0, 1.0])
    assert torch.equal(mirrored, head.vertices)
    assert torch.equal(regions.mirror[regions.mirror], torch.arange(len(head.vertices)))


def test_landmarks_are_symmetric_and_in_order(head: HeadTemplate, regions: Regions):
    assert torch.equal(regions.mirror[head.landmarks], head.landmarks[LANDMARK_MIRROR])
    assert len(head.landmarks.unique()) == 68
    x, y, z = (head.vertices[head.landmarks] / MILLIMETRE).unbind(1)
    for start, stop in ((0, 17), (17, 27), (31, 36), (48, 55), (60, 65)):
        assert (x[start:stop].diff() > 0).all(), "from the subject's right to the left"
    assert (y[:9].diff() < 0).all() and (y[27:31].diff() < 0).all()
    assert z.argmax() == 30, "the tip of the nose is foremost"


def test_texture_has_no_overlaps(head: HeadTemplate):
    """Texels that triangles cover, counted once, make up the triangles' whole area; all skin triangles turn alike."""
    assert head.uv.min() >= 0 and head.uv.max() <= 1
    a, b, c = head.uv[head.faces_uv].double().unbind(1)
    area = ((b - a)[:, 0] * (c - a)[:, 1] - (b - a)[:, 1] * (c - a)[:, 0]) / 2
    assert (area[head.face_part == 0] < 0).all()
    size = 1024
    covered = len(texel_map(head, size).face) / size**2
    assert covered == pytest.approx(float(area.abs().sum()), rel=1e-3)


def test_skin_texture_mirrors_in_the_middle(head: HeadTemplate, regions: Regions):
    half = len(head.faces[head.face_part == 0]) // 2
    skin = (head.face_part == 0).nonzero()[:, 0]
    left, right = skin[:half], skin[half:]
    assert torch.equal(regions.mirror[head.faces[left]][:, [0, 2, 1]], head.faces[right])
    mirrored = head.uv[head.faces_uv[left]][:, [0, 2, 1]] * torch.tensor([-1.0, 1.0]) + torch.tensor([1.0, 0.0])
    torch.testing.assert_close(mirrored, head.uv[head.faces_uv[right]], atol=1e-6, rtol=0)


def test_the_face_gets_the_texels(head: HeadTemplate):
    """At 256 texels: at least 0.8 a millimetre on average where the skin faces the viewer, less at the back."""
    skin = head.face_part == 0
    a, b, c = head.vertices[head.faces[skin]].unbind(1)
    area = torch.linalg.cross(b - a, c - a).norm(dim=1)
    a2, b2, c2 = (head.uv[head.faces_uv[skin]] * 256).unbind(1)
    texels = ((b2 - a2)[:, 0] * (c2 - a2)[:, 1] - (b2 - a2)[:, 1] * (c2 - a2)[:, 0]).abs()
    centre = (a + b + c) / 3 / MILLIMETRE
    front = (centre[:, 2] > 60) & (centre[:, 1] > -75) & (centre[:, 1] < 70)
    density = (texels[front].sum() / (area[front].sum() / MILLIMETRE**2)).sqrt()
    back = (texels[~front].sum() / (area[~front].sum() / MILLIMETRE**2)).sqrt()
    assert density > 0.8 and density > 1.8 * back


def test_lids_lie_on_the_eyeballs(head: HeadTemplate, regions: Regions):
    """Lid edges clear the eyeball by 0.1 to 0.7 mm, except in the inner corner, where the caruncle would lie."""
    ball = head.vertices[regions.vertex_part == head.part_names.index("eye_left")] / MILLIMETRE
    centre = (ball.amax(0) + ball.amin(0)) / 2
    centre[2] = ball[0, 2] - (centre[0] - ball[:, 0].min()) - 0.4  # the cornea bulges by 0.4
    radius = (ball[:, 0].max() - ball[:, 0].min()) / 2
    for lid in (regions.lid_upper_left, regions.lid_lower_left):
        clearance = (head.vertices[lid] / MILLIMETRE - centre).norm(dim=1) - radius
        assert clearance.min() > 0.1
        assert clearance[:-5].max() < 0.7 and clearance.max() < 2.5


def test_the_neutral_mouth_is_closed(head: HeadTemplate, regions: Regions):
    """Upper and lower lip meet along their whole line, a fraction of a millimetre apart, and do not cross."""
    upper, lower = (head.vertices[line] / MILLIMETRE for line in (regions.lip_upper, regions.lip_lower))
    assert torch.equal(upper[[0, -1]], lower[[0, -1]])
    gap = upper[1:-1, 1] - lower[1:-1, 1]
    assert (gap > 0).all() and gap.max() < 0.3


def test_the_open_mouth_is_open(head: HeadTemplate, regions: Regions):
    opened = torch.zeros(1, len(head.expression_names))
    opened[0, head.channel("jawOpen")] = 1
    vertices = head.deform(expression=opened)[0] / MILLIMETRE
    middle = len(regions.lip_upper) // 2
    assert vertices[regions.lip_upper[middle], 1] - vertices[regions.lip_lower[middle], 1] > 20


def test_albedo_is_painted(head: HeadTemplate):
    """Lips are redder than cheeks, pupils dark, teeth bright; no texel of a part is left without paint."""
    assert head.albedo.shape == (256, 256, 3) and head.albedo.min() >= 0 and head.albedo.max() <= 1

    def colour(vertex: int) -> Tensor:
        corner = (head.faces == vertex).nonzero()[0]
        u, v = head.uv[head.faces_uv[corner[0], corner[1]]]
        return head.albedo[int(v * 255.99), int(u * 255.99)]

    lip, cheek = colour(int(head.landmarks[66])), colour(int(head.landmarks[14]))
    assert lip[0] / lip[1] > 1.15 * cheek[0] / cheek[1]
    pupil = int(head.faces[head.face_part == head.part_names.index("eye_left")].min())
    assert colour(pupil).max() < 0.1
    teeth = head.faces[head.face_part == head.part_names.index("teeth_upper")].unique()
    front = teeth[head.vertices[teeth, 2] > 0.1].tolist()
    bright = torch.stack([colour(vertex).min() for vertex in front])
    assert bright.amax() > 0.7 and 0.5 * bright.amax() < bright.amin() < 0.8 * bright.amax(), "one tooth from another"


def test_teeth_are_dark_only_where_two_meet():
    """None has specks where its edge lies beyond the bite, among the teeth of the other row."""
    for upper in (True, False):
        organ = teeth_mesh(upper)
        apart = beside_gap(organ.vertices, upper) > 1.5
        front = (organ.vertices[:, 2] > 104) & apart
        assert front.sum() > 10 and paint.teeth(organ.vertices[front], upper).min(1).min() > 0.6


def test_teeth_are_told_apart(head: HeadTemplate):
    """Along the front of the upper row the surface falls back where two teeth meet, by more than half a millimetre."""
    teeth = teeth_mesh(upper=True)
    rows = teeth.vertices.reshape(5, -1, 3)
    front, edge = (row[abs(row[:, 0]) < 5] for row in (rows[1], rows[3]))  # of both central incisors
    gap = beside_gap(front, upper=True) < 0.1
    assert gap.sum() == 1 and front[~gap, 2].max() - front[gap, 2].max() > 0.6
    assert edge[gap, 1].min() - edge[~gap, 1].max() > 0.5


def test_skull_stays_in_every_expression(head: HeadTemplate):
    everything = torch.ones(1, len(head.expression_names))
    moved = head.deform(expression=everything)[0, head.rigid]
    assert len(head.rigid) > 100 and torch.equal(moved, head.vertices[head.rigid])


def test_face_is_close_to_a_scanned_average(head: HeadTemplate, ict_folder):
    """Mean distance of the face's surface to ICT-FaceKit's neutral, and back, aligned by the landmarks."""
    ict = load_ict(ict_folder)
    rotation, shift, scale = _similarity(head.vertices[head.landmarks], ict.vertices[ict.landmarks])
    mine = (scale * head.vertices @ rotation.T + shift) / MILLIMETRE
    theirs = ict.vertices / MILLIMETRE
    my_skin, their_skin = head.faces[head.face_part == 0], ict.faces[ict.face_part == 0]
    their_face = their_skin[(their_skin < 9409).all(1)]  # upstream's "full face area"
    to_mine, _ = _distance(theirs[their_face.unique()], mine[my_skin])
    to_theirs, nearest = _distance(mine[my_skin.unique()], theirs[their_skin])
    on_face = (their_skin[nearest] < 9409).all(1)
    print(f"ICT's face to ours {to_mine.mean():.2f} mm, ours to ICT's {to_theirs[on_face].mean():.2f} mm")
    assert to_mine.mean() < 1.5 and to_theirs[on_face].mean() < 1.5  # 1.30 and 1.00; issue 6 asks for 3
    assert 0.9 < scale < 1.1


def _similarity(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Rotation, translation and scale that bring points x onto y (Umeyama)."""
    rotation, shift, scale = roma.rigid_points_registration(x, y, compute_scaling=True)
    return rotation, shift, scale


def _distance(points: Tensor, triangles: Tensor) -> tuple[Tensor, Tensor]:
    """Distance of points [N, 3] to triangles [F, 3, 3] and the nearest triangle, among the ten with nearest centres."""
    found = [_nearest(block, triangles) for block in points.split(512)]
    distance, face = (torch.cat(parts) for parts in zip(*found, strict=True))
    return distance, face


def _nearest(points: Tensor, triangles: Tensor) -> tuple[Tensor, Tensor]:
    candidates = torch.cdist(points, triangles.mean(1)).topk(10, largest=False).indices
    a, b, c = triangles[candidates].unbind(2)
    p = points[:, None]
    normal = torch.nn.functional.normalize(torch.linalg.cross(b - a, c - a), dim=-1)
    foot = p - ((p - a) * normal).sum(-1, keepdim=True) * normal
    sides = ((a, b), (b, c), (c, a))
    inside = torch.stack([(torch.linalg.cross(v - u, foot - u) * normal).sum(-1) >= 0 for u, v in sides]).all(0)
    to_sides = torch.stack([_to_segment(p, u, v) for u, v in sides]).amin(0)
    distance = torch.where(inside, (p - foot).norm(dim=-1), to_sides)
    best = distance.argmin(1, keepdim=True)
    return distance.gather(1, best)[:, 0], candidates.gather(1, best)[:, 0]


def _to_segment(p: Tensor, a: Tensor, b: Tensor) -> Tensor:
    share = (((p - a) * (b - a)).sum(-1) / ((b - a) ** 2).sum(-1).clamp_min(1e-12)).clamp(0, 1)
    return (p - a - share[..., None] * (b - a)).norm(dim=-1)
