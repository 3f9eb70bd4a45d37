"""Discs on texels: they close the surface from all sides, point outwards and stay small."""

import math

import pytest
import torch

from emogs import Cameras, Gaussians, Rig, look_at, pinhole, rasterize
from emogs.emotion import expression_from_emotion, parse_emotion
from emogs.head import builtin_head, texel_map
from emogs.head.mesh import vertex_normals
from emogs.model.surface import SURFACE_OPACITY, texel_surface
from emogs.ops import rig_frames

SIZE = 256
LEAST_ALPHA = 0.9
"""Of the surface where it faces the camera: a background of the opposite colour then changes it by a tenth."""
FACING = 0.4
"""Cosine between normal and view from which on a place counts as inside the outline, which is soft."""
RIM = 0.012
"""Metres from the bust's open lower end in which it fades out."""


@pytest.fixture(scope="module")
def head():
    return builtin_head()


PLACES = 8
"""Looked at on every triangle."""


def open_edge(head):
    """Vertices of the edges that only one triangle has."""
    edges = torch.cat([head.faces[:, [0, 1]], head.faces[:, [1, 2]], head.faces[:, [2, 0]]]).sort(1).values
    single, count = edges.unique(dim=0, return_counts=True)
    ends = single[count == 1].unique()
    return ends[head.vertices[ends, 1] < head.vertices[head.landmarks[8], 1]]  # not those behind lids and teeth


@pytest.mark.parametrize("texture", [192, 256])
@pytest.mark.parametrize("emotion", ["neutral", "surprise", "happy", "fear"])
def test_head_and_shoulders_have_no_holes(head, texture, emotion):
    texels = texel_map(head, texture)
    surface = texel_surface(head, texels, head.vertices)
    count = len(surface.means)
    cloud = Gaussians(
        surface.means, surface.quats, surface.scales, torch.full((count,), SURFACE_OPACITY), torch.ones(count, 3)
    )
    worn = head.deform(expression=expression_from_emotion(parse_emotion(emotion)[None]))
    rig = Rig(surface.binding, rig_frames(worn, head.faces, head.vertices)[0])
    centre = head.vertices[head.landmarks].mean(0)
    skin = head.faces[head.face_part == head.part_names.index("skin")]
    away = torch.cdist(head.vertices[skin].mean(1), head.vertices[open_edge(head)]).amin(1) > RIM
    corners = skin[away].repeat_interleave(PLACES, 0)
    share = torch.rand(len(corners), 3, 1, generator=torch.Generator().manual_seed(0)).log()  # uniform over triangles
    share = share / share.sum(1, keepdim=True)
    points = (worn[0, corners] * share).sum(1)
    normals = torch.nn.functional.normalize((vertex_normals(worn[0], head.faces)[corners] * share).sum(1), dim=1)
    for yaw in (-30.0, 0.0, 30.0):
        angle = torch.deg2rad(torch.tensor(yaw))
        eye = centre + torch.stack([angle.sin(), torch.tensor(0.05), angle.cos()])
        camera = Cameras(look_at(eye, centre)[None], pinhole(SIZE, SIZE, 24)[None], SIZE, SIZE)
        alphas = rasterize(cloud, camera, rig=rig).alphas[0, ..., 0]
        facing = (normals * torch.nn.functional.normalize(eye - points, dim=1)).sum(1) > FACING
        seen = points[facing] @ camera.viewmats[0, :3, :3].T + camera.viewmats[0, :3, 3]
        pixel = (seen @ camera.Ks[0].T)[:, :2] / seen[:, 2:]
        inside = ((pixel > 0) & (pixel < SIZE)).all(1)
        column, row = pixel[inside].long().unbind(1)
        assert inside.sum() > 10_000 and alphas[row, column].min() > LEAST_ALPHA


def test_discs_point_out_of_the_head(head):
    texels = texel_map(head, 128)
    surface = texel_surface(head, texels, head.vertices)
    corners = head.vertices[head.faces[texels.face]]
    outward = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    cosine = torch.cosine_similarity(surface.normals, outward)
    torch.testing.assert_close(cosine, torch.ones(len(cosine)), rtol=0, atol=1e-4)


def test_no_disc_is_a_needle(head):
    """None reaches, at one standard deviation, further than half its triangle, or than 4 mm; none is 4 times as long
    as broad."""
    texels = texel_map(head, 256)
    surface = texel_surface(head, texels, head.vertices)
    corners = head.vertices[head.faces[texels.face]]
    longest = (corners - corners.roll(1, 1)).norm(dim=2).amax(1)
    assert (surface.scales.amax(1) <= torch.clamp(0.5 * longest, min=0.004) + 1e-6).all()
    assert (surface.scales[:, 0] / surface.scales[:, 1]).max() < 4.001


@pytest.mark.parametrize("channels", [{"mouthSmile": 1.0, "jawOpen": 0.4}, {"jawOpen": 1.0}, {"mouthStretch": 1.0}])
def test_stretched_cheeks_have_no_slits(head, channels):
    """White skin of the face before everything else in black: beside the mouth nothing black shows through."""
    surface = texel_surface(head, texel_map(head, 256), head.vertices)
    worn = torch.zeros(1, len(head.expression_names))
    for name, value in channels.items():
        worn[0, [channel.startswith(name) for channel in head.expression_names]] = value
    vertices = head.deform(expression=worn)
    middle = head.vertices[head.faces].mean(1)
    front = (head.face_part == head.part_names.index("skin")) & (middle[:, 2] > 0.03)
    colours = front[surface.binding.long()].float()[:, None].expand(-1, 3).contiguous()
    opacities = torch.full((len(colours),), SURFACE_OPACITY)
    cloud = Gaussians(surface.means, surface.quats, surface.scales, opacities, colours)
    rig = Rig(surface.binding, rig_frames(vertices, head.faces, head.vertices)[0])
    marks = vertices[0, head.landmarks]
    centre = marks[48:60].mean(0)
    camera = Cameras(look_at(centre + torch.tensor([0, 0, 1.0]), centre)[None], pinhole(512, 512, 6)[None], 512, 512)
    seen = rasterize(cloud, camera, rig=rig).colors[0, ..., 0]
    pixel_size = 2 * math.tan(math.radians(3)) / 512
    corner = int((marks[54, 0] - centre[0]) / pixel_size + 256)  # the subject's left is to the right
    assert seen[128:256, corner + 12 : corner + 72].min() > 0.8


@pytest.mark.parametrize("emotion", ["happy", "fear", "contempt"])
def test_the_lining_of_the_mouth_does_not_show_through_the_lips(head, emotion):
    surface = texel_surface(head, texel_map(head, 256), head.vertices)
    lining = head.face_part == head.part_names.index("mouth_socket")
    colours = lining[surface.binding.long()].float()[:, None].expand(-1, 3).contiguous()
    opacities = torch.full((len(colours),), SURFACE_OPACITY)
    cloud = Gaussians(surface.means, surface.quats, surface.scales, opacities, colours)
    vertices = head.deform(expression=expression_from_emotion(parse_emotion(emotion)[None]))
    rig = Rig(surface.binding, rig_frames(vertices, head.faces, head.vertices)[0])
    marks = vertices[0, head.landmarks]
    centre = marks[48:60].mean(0)
    eye = centre + torch.tensor([0, 0.15, 1.0])
    camera = Cameras(look_at(eye, centre)[None], pinhole(512, 512, 6)[None], 512, 512)
    seen = rasterize(cloud, camera, rig=rig).colors[0, ..., 0]
    place = marks @ camera.viewmats[0, :3, :3].T + camera.viewmats[0, :3, 3]
    row = (place @ camera.Ks[0].T)[:, 1] / place[:, 2]
    lowest = int(row[[60, 64, 65, 66, 67]].max())  # of the opening between the lips
    assert seen[lowest + 8 :].max() < 0.05


def test_rows_of_teeth_do_not_tie(head):
    """A texel centre on the line between two triangles would have its disc's size from either of them."""
    for name in ("teeth_upper", "teeth_lower"):
        used = head.faces_uv[head.face_part == head.part_names.index(name)].unique()
        from_centre = ((256 * head.uv[used, 1]) % 1 - 0.5).abs()
        assert from_centre.min() > 0.1
