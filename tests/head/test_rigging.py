"""What must move rigidly moves rigidly, on every template and through the same code; skulls and bindings stay."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import rig_flips
import roma
import torch
from flame_files import flame_arrays

from emogs.head import ARKIT_NAMES, HeadTemplate, builtin_head, load_flame, load_ict
from emogs.head.hinges import balanced
from emogs.head.refine import refine_template
from emogs.head.stabilize import stabilize, stabilize_template
from emogs.ops import rig_frames

MICROMETRE = 1e-6


@pytest.fixture(scope="module", params=["builtin", "ict", "flame"])
def template(request, tmp_path_factory) -> HeadTemplate:
    if request.param == "builtin":
        return builtin_head()
    if request.param == "ict":
        return load_ict(request.getfixturevalue("ict_folder"))
    path = tmp_path_factory.mktemp("flame") / "model.npz"
    np.savez(path, **flame_arrays())
    read = load_flame(path)
    return dataclasses.replace(read, skeleton=dataclasses.replace(read.skeleton, correctives=None))


def part(template: HeadTemplate, name: str) -> torch.Tensor:
    """[N] the vertices of a part."""
    return template.faces[template.face_part == template.part_names.index(name)].unique()


def rigid_error(rest: torch.Tensor, moved: torch.Tensor) -> float:
    """Metres by which points miss the best rigid motion."""
    turn, shift = roma.rigid_points_registration(rest.double(), moved.double())
    return float((rest.double() @ turn.T + shift - moved).norm(dim=1).amax())


def pose(template: HeadTemplate, **joints: tuple[float, float, float]) -> torch.Tensor:
    """[1, J, 3] rotation vectors from degrees by joint."""
    out = torch.zeros(1, len(template.skeleton.names), 3)
    for name, degrees in joints.items():
        out[0, template.skeleton.names.index(name)] = torch.deg2rad(torch.tensor(degrees))
    return out


def wear(template: HeadTemplate, **channels: float) -> torch.Tensor:
    """[V, 3] the mean identity with these ARKit channels."""
    values = torch.zeros(1, len(ARKIT_NAMES))
    for name, value in channels.items():
        values[0, ARKIT_NAMES.index(name)] = value
    return template.deform(expression=values)[0]


def test_eyeballs_turn_rigidly_about_their_centres(template: HeadTemplate):
    moved = template.deform(pose=pose(template, eye_left=(20, 25, 0), eye_right=(-15, 10, 0), neck=(5, 8, 3)))[0]
    for side in ("eye_left", "eye_right"):
        ball = part(template, side)
        assert rigid_error(template.vertices[ball], moved[ball]) < 2 * MICROMETRE
    still = template.deform(pose=pose(template, eye_left=(20, 25, 0)))[0]
    others = torch.ones(len(still), dtype=torch.bool)
    others[part(template, "eye_left")] = False
    assert torch.equal(still[others], template.vertices[others])
    ball, joint = part(template, "eye_left"), template.skeleton.regressor[template.skeleton.names.index("eye_left")]
    middle = (template.vertices[ball].amin(0) + template.vertices[ball].amax(0)) / 2
    assert torch.dist(joint @ template.vertices, middle) < 1.5e-3, "of the box, which a cornea makes longer in front"
    torch.testing.assert_close(joint @ still, joint @ template.vertices, atol=1e-6, rtol=0)


def test_the_jaw_turns_what_it_carries_rigidly(template: HeadTemplate):
    carried = (template.skeleton.weights[:, template.skeleton.names.index("jaw")] > 0.9999).nonzero()[:, 0]
    assert len(carried) >= 20
    for turned in (pose(template, jaw=(18, 4, 0)), pose(template, jaw=(18, 4, 0), neck=(10, 20, 5))):
        moved = template.deform(pose=turned)[0]
        assert rigid_error(template.vertices[carried], moved[carried]) < 2 * MICROMETRE
    front = carried[template.vertices[carried, 2].argmax()]
    opened = template.deform(pose=pose(template, jaw=(18, 0, 0)))[0, front]
    assert template.vertices[front, 1] - opened[1] > 0.01, "a turn about +x opens the mouth"


def test_the_neck_carries_the_head_and_leaves_the_shoulders(template: HeadTemplate):
    moved = template.deform(pose=pose(template, neck=(10, 20, 5)))[0]
    above = template.vertices[part(template, "eye_left"), 1].mean()
    head = template.rigid[template.vertices[template.rigid, 1] > above]
    assert rigid_error(template.vertices[head], moved[head]) < 2 * MICROMETRE
    assert (moved[head] - template.vertices[head]).norm(dim=1).mean() > 5e-3
    lowest = template.vertices[:, 1].argmin()
    assert torch.equal(moved[lowest], template.vertices[lowest]) or template.name == "flame"


def test_joints_follow_the_identity(template: HeadTemplate):
    """The eyeball's joint of another person lies in that person's eyeball."""
    identity = torch.randn(1, len(template.identity), generator=torch.Generator().manual_seed(3)) * 0.7
    person = template.deform(identity)[0]
    for side in ("eye_left", "eye_right"):
        ball, joint = part(template, side), template.skeleton.names.index(side)
        centre = template.skeleton.regressor[joint] @ person
        offset = template.skeleton.regressor[joint] @ template.vertices - template.vertices[ball].mean(0)
        assert torch.dist(centre - person[ball].mean(0), offset) < 1.5e-3


@pytest.mark.parametrize("name", ["builtin", "ict"])
@pytest.mark.parametrize("value", [0.3, 0.7, 1.0])
def test_channels_turn_bone_and_eyes_rigidly(name: str, value: float, request):
    template = builtin_head() if name == "builtin" else load_ict(request.getfixturevalue("ict_folder"))
    moved = wear(template, jawOpen=value, eyeLookOutLeft=value, eyeLookDownRight=value)
    teeth = part(template, "teeth_lower" if name == "builtin" else "teeth")
    teeth = teeth[(moved[teeth] - template.vertices[teeth]).norm(dim=1) > 2e-4]
    for rows in (teeth, part(template, "eye_left"), part(template, "eye_right")):
        assert rigid_error(template.vertices[rows], moved[rows]) < 20 * MICROMETRE
    gaze = moved[part(template, "eye_left")] - template.vertices[part(template, "eye_left")]
    assert gaze.norm(dim=1).amax() > 5e-3 * value


def test_icts_shapes_arrive_where_upstreams_straight_ones_do(ict_folder):
    """But for the lower teeth, which upstream bends by 0.2 mm, and the eyeballs, which upstream leaves alone."""
    ict = load_ict(ict_folder)
    with np.load(ict_folder / "ict_head.npz") as file:
        names = file["expression_names"].tolist()
        upstream = {name: torch.from_numpy(file["expression"][names.index(name)].astype(np.float32)) for name in names}
    for channel, shapes in {
        "jawOpen": ("jawOpen",),
        "eyeBlinkLeft": ("eyeBlink_L",),
        "browInnerUp": ("browInnerUp_L", "browInnerUp_R"),
        "mouthSmileRight": ("mouthSmile_R",),
    }.items():
        wanted = ict.vertices + 0.01 * sum(upstream[shape] for shape in shapes)
        off = (wear(ict, **{channel: 1.0}) - wanted).norm(dim=1)
        assert off[part(ict, "teeth")].amax() < 4e-4
        off[part(ict, "teeth")] = 0
        assert off.amax() < 3e-7, channel
    both = ict.vertices + 0.01 * (upstream["jawOpen"] + upstream["mouthClose"])
    skin = part(ict, "skin")
    torch.testing.assert_close(wear(ict, jawOpen=1.0, mouthClose=1.0)[skin], both[skin], atol=2e-7, rtol=0)


def test_icts_jaw_keeps_its_length_on_the_way(ict_folder):
    """Half open, upstream's straight path shortens the jaw by a millimetre or more; the arc does not."""
    ict = load_ict(ict_folder)
    hinge = next(turn for turn in ict.rotations if turn.angles[ict.channel("jawOpen")] > 0)
    centre = hinge.pivot @ ict.vertices
    chin = ict.landmarks[8]
    radius = [torch.dist(wear(ict, jawOpen=value)[chin, 1:], centre[1:]) for value in (0.0, 0.5, 1.0)]
    straight = (wear(ict, jawOpen=0.0)[chin] + wear(ict, jawOpen=1.0)[chin]) / 2
    mean = (radius[0] + radius[2]) / 2
    assert abs(radius[1] - mean) < 3e-4 < mean - torch.dist(straight[1:], centre[1:])


def test_the_figures_of_the_hinges_are_printed(ict_folder, capsys):
    """Those of docs/heads.md."""
    rig_flips.print_hinges(str(ict_folder))
    said = capsys.readouterr().out
    assert "jawOpen turns by 25.3 degrees; 2.32 mm off" in said
    assert "eyeBlinkLeft turns by 32.4, -21.6 degrees" in said
    assert "skull moved rigidly by 0.026 mm in the median, 0.277 at most" in said


def test_balanced_weights_find_their_centre():
    points = torch.randn(20, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    centre = torch.tensor([0.1, -0.2, 0.3], dtype=torch.float64)
    weights = balanced(points, centre)
    torch.testing.assert_close(weights @ points, centre)
    assert weights.sum() == pytest.approx(1)


# Skull ---------------------------------------------------------------------------------------


def test_a_nodding_performance_is_held_still(template: HeadTemplate):
    generator = torch.Generator().manual_seed(1)
    values = 0.5 * torch.rand(6, len(template.expression_names), generator=generator)
    values = values * (0.02 if template.name == "flame" else 1.0)  # its waves move the skull too
    faces = template.deform(expression=values)
    turn = roma.rotvec_to_rotmat(0.2 * torch.randn(6, 3, generator=generator))
    shift = 0.03 * torch.randn(6, 3, generator=generator)
    still, rotation, translation = stabilize(faces @ turn.mT + shift[:, None], template.vertices, template.rigid)
    again, _, _ = stabilize(faces, template.vertices, template.rigid)
    torch.testing.assert_close(still, again, atol=1e-6, rtol=0)
    torch.testing.assert_close(still @ rotation.mT + translation[:, None], faces @ turn.mT + shift[:, None])
    if template.name == "builtin":
        torch.testing.assert_close(still, faces, atol=1e-6, rtol=0)


def test_directions_lose_the_motion_of_the_skull_and_nothing_else(template: HeadTemplate):
    clean, before = stabilize_template(template)
    print(f"{template.name}: directions move the skull by {before.median():.6f}, at most {before.amax():.6f} m")
    generator = torch.Generator().manual_seed(4)
    turn, shift = 0.02 * torch.randn(2, len(clean.expression), 1, 3, generator=generator)
    turned = torch.linalg.cross(turn.expand_as(clean.expression), clean.vertices.expand_as(clean.expression))
    nodding = clean.expression + turned + shift
    again, size = stabilize_template(dataclasses.replace(clean, expression=nodding))
    torch.testing.assert_close(again.expression, clean.expression, atol=1e-6, rtol=0)
    assert size.amin() > 1e-3
    _, left = stabilize_template(clean)
    assert left.amax() < 1e-6


@pytest.mark.parametrize(("rigid", "got"), [([], "0"), ([0, 1], "2"), ([0, 1, 2], "3 on one")])
def test_too_little_skull_is_refused(rigid, got):
    line = torch.tensor([[0.0, 0, 0], [1, 0, 0], [2, 0, 0], [0, 1, 0]])
    with pytest.raises(ValueError, match=f"rigid: expected three or more vertices that are not on a line, got {got}$"):
        stabilize(line[None], line, torch.tensor(rigid, dtype=torch.int64))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"vertices": torch.zeros(10, 3)}, ValueError, r"vertices must be \[B, V, 3\], got \[10, 3\]"),
        ({"vertices": [[0.0, 0, 0]]}, TypeError, "vertices must be a tensor, got list"),
        ({"rest": torch.zeros(9, 3)}, ValueError, r"rest must be \[V=10, 3\], got \[9, 3\]"),
        ({"rigid": torch.zeros(3)}, TypeError, "rigid must be int32 or int64, got float32"),
        ({"rigid": torch.tensor([[0, 1, 2]])}, ValueError, r"rigid must be \[R\], got \[1, 3\]"),
        ({"rigid": torch.tensor([0, 1, 99])}, ValueError, r"rigid must be in \[0, V=10\), got 0 to 99"),
        ({"rigid": torch.tensor([-1, 1, 2])}, ValueError, r"rigid must be in \[0, V=10\), got -1 to 2"),
    ],
)
def test_stabilize_says_what_does_not_fit(change, error, message):
    arguments = {"vertices": torch.rand(4, 10, 3), "rest": torch.rand(10, 3), "rigid": torch.arange(4)} | change
    with pytest.raises(error, match=f"stabilize: {message}"):
        stabilize(**arguments)


# Subdivision ---------------------------------------------------------------------------------------


def test_a_finer_head_lies_on_the_same_surface(template: HeadTemplate):
    finer = refine_template(template)
    head = finer.template
    assert torch.equal(finer.parent, torch.arange(len(template.faces)).repeat_interleave(4))
    assert len(head.faces) == len(finer.parent)
    generator = torch.Generator().manual_seed(0)
    identity = torch.randn(1, len(template.identity), generator=generator)
    expression = torch.rand(1, len(template.expression), generator=generator)
    linear = [dataclasses.replace(t, rotations=(), skeleton=None) for t in (template, head)]
    coarse, fine = (t.deform(identity, expression)[0] for t in linear)
    torch.testing.assert_close(fine, finer.vertices_of(coarse), atol=1e-6, rtol=0)
    a, b, c = coarse[template.faces].double().unbind(1)
    whole = torch.linalg.cross(b - a, c - a)
    a, b, c = fine[head.faces].double().unbind(1)
    quarters = torch.linalg.cross(b - a, c - a).reshape(-1, 4, 3)
    torch.testing.assert_close(quarters.sum(1), whole, atol=1e-9, rtol=1e-3)
    assert (torch.linalg.vecdot(quarters, whole[:, None]) >= 0).all(), "all four face as their parent did"


def test_a_finer_head_turns_as_the_coarse_one(template: HeadTemplate):
    finer = refine_template(template)
    count = len(template.vertices)
    turned = pose(template, jaw=(15, 0, 0), eye_left=(0, 20, 0), neck=(5, 5, 0))
    expression = torch.zeros(1, len(template.expression))
    if template.speaks_arkit:
        expression[0, [template.channel("eyeBlinkLeft"), template.channel("jawOpen")]] = 0.6
    coarse, fine = (t.deform(None, expression, turned)[0] for t in (template, finer.template))
    torch.testing.assert_close(fine[:count], coarse, atol=1e-6, rtol=0)
    ball = part(finer.template, "eye_left")
    assert rigid_error(finer.template.vertices[ball], fine[ball]) < 2 * MICROMETRE


def test_texture_and_corners_are_cut_alike(template: HeadTemplate):
    finer = refine_template(template).template
    corners = template.uv[template.faces_uv]
    fine = finer.uv[finer.faces_uv].reshape(-1, 4, 3, 2)
    for j in range(3):
        torch.testing.assert_close(fine[:, j, j], corners[:, j])
        torch.testing.assert_close(fine[:, 3, j], (corners[:, j] + corners[:, (j + 1) % 3]) / 2)


def test_bindings_survive_refinement(template: HeadTemplate):
    """A Gaussian's place at rest stays, it lives on a child of its triangle, and near its centre."""
    finer = refine_template(template)
    generator = torch.Generator().manual_seed(2)
    binding = torch.randint(len(template.faces), (500,), generator=generator, dtype=torch.int32)
    means = 2e-4 * torch.randn(500, 3, generator=generator)
    person = template.deform(0.5 * torch.randn(1, len(template.identity), generator=generator))[0]
    rebound = finer.rebind(means, binding, template, person)
    assert torch.equal(finer.parent[rebound.binding.long()], binding.long())
    fine = finer.vertices_of(person)
    before = person[template.faces[binding.long()]].mean(1) + means
    after = fine[finer.template.faces[rebound.binding.long()]].mean(1) + rebound.means
    torch.testing.assert_close(after, before, atol=1e-7, rtol=0)
    sides = person[template.faces[binding.long()]]
    assert (rebound.means.norm(dim=1) < (sides - sides.roll(1, 1)).norm(dim=2).amax(1) + 1e-3).all()


# Frames ---------------------------------------------------------------------------------------


def test_no_triangle_of_a_template_is_so_thin_that_rounding_turns_it(template: HeadTemplate):
    """Frames of a head whose vertices are rounded otherwise stay: no triangle's normal hangs on the last bits."""
    noise = torch.randn(template.vertices.shape, generator=torch.Generator().manual_seed(0)) * 2**-24 * 0.2
    frames = rig_frames((template.vertices + noise)[None], template.faces, template.vertices)[0]
    angle = 2 * torch.rad2deg(frames[:, 1:4].norm(dim=1).clamp(max=1).asin())
    assert angle.amax() < 2.0, "degrees"


def test_frames_do_not_jump_while_a_face_moves(template: HeadTemplate):
    """Where triangles around lips and lids collapse and turn over, at most by a small share of those that did alone.

    What `python benchmarks/rig_flips.py` measures, over the motions that are hardest on the built-in head.
    """
    names = {"jawOpen", "mouthLeft", "eyeBlinkLeft"}
    if not template.speaks_arkit:
        names = set(template.expression_names[:2])
    turns = rig_flips.measure(template, {"alone": rig_flips.own_frames, "together": rig_frames}, names)
    alone, together = turns["alone"], turns["together"]
    print(f"{template.name}: {alone} {together}")
    assert together.apart <= alone.apart // 4 and together.jumps <= alone.jumps // 2
    if template.name == "builtin":
        assert alone.apart > 10 and alone.jumps > 5, "there is something to see"
    assert together.largest < 90 and together.largest < alone.largest, "degrees: no step is a flip"


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"identity": torch.zeros(2, 3)}, ValueError, r"identity: expected \[B, 44\], got \[2, 3\]"),
        ({"identity": torch.zeros(44)}, ValueError, r"identity: expected \[B, 44\], got \[44\]"),
        ({"expression": torch.zeros(1, 51)}, ValueError, r"expression: expected \[B, 52\], got \[1, 51\]"),
        ({"expression": torch.zeros(1, 1, 52)}, ValueError, r"expression: expected \[B, 52\], got \[1, 1, 52\]"),
        ({"pose": torch.zeros(1, 4)}, ValueError, r"pose: expected \[B, \d, 3\] \(.*jaw.*\), got \[1, 4\]"),
        ({"expression": [0.0] * 52}, TypeError, "expression: expected a tensor, got list"),
        (
            {"expression": torch.zeros(1, 52).double()},
            TypeError,
            "expression: expected torch.float32 as the template's, got torch.float64",
        ),
        ({"identity": torch.zeros(1, 44).int()}, TypeError, "identity: expected torch.float32 as the template's, got"),
        (
            {"identity": torch.zeros(3, 44), "expression": torch.zeros(2, 52)},
            ValueError,
            "expression: expected a batch of 1 or, as identity, 3, got 2",
        ),
        (
            {"identity": torch.zeros(3, 44), "expression": torch.zeros(1, 52), "pose": torch.zeros(2, 4, 3)},
            ValueError,
            "pose: expected a batch of 1 or, as identity, 3, got 2",
        ),
        ({"identity": torch.zeros(1, 44, device="meta")}, ValueError, "identity: expected to be on cpu, got meta"),
    ],
)
def test_what_deform_cannot_take_is_named(arguments, error, message):
    with pytest.raises(error, match=message):
        builtin_head().deform(**arguments)
