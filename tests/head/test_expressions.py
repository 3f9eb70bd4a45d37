"""Muscles and the expressions made of them, on the built-in head and beside ICT-FaceKit's shapes."""

from __future__ import annotations

import pytest
import roma
import torch
from torch import Tensor

from emogs.emotion import EMOTIONS, expression_from_emotion
from emogs.head import ARKIT_NAMES, HeadTemplate, load_ict
from emogs.head.builtin import builtin_head, neutral_head
from emogs.head.expressions import JAW_OPEN, build_expressions
from emogs.head.face import Face
from emogs.head.muscles import falloff, harmonic, linear_muscle, pressure, ramp, sphincter_muscle
from emogs.head.regions import Regions, find_regions

_MILLIMETRE = 0.001
_TURNED = ("mouthClose",)
"""Correctives that are looked at only together with the channel that they correct."""


@pytest.fixture(scope="module")
def head() -> HeadTemplate:
    return builtin_head()


@pytest.fixture(scope="module")
def regions() -> Regions:
    return neutral_head()[1]


@pytest.fixture(scope="module")
def face(head: HeadTemplate, regions: Regions) -> Face:
    return Face(head.vertices, head.faces, head.landmarks, regions)


def wear(head: HeadTemplate, **channels: float) -> Tensor:
    """[V, 3] millimetres: the mean identity with these channels; a name without a side stands for both."""
    values = torch.zeros(1, len(ARKIT_NAMES))
    for name, value in channels.items():
        for channel in (name, f"{name}Left", f"{name}Right"):
            if channel in ARKIT_NAMES:
                values[0, ARKIT_NAMES.index(channel)] = value
    return head.deform(expression=values)[0].double() / _MILLIMETRE


# Muscles


def test_linear_muscle_pulls_its_insertion_by_its_travel_and_spares_the_rest():
    origin, insertion = torch.tensor([0.0, 50, 0]), torch.tensor([0.0, 0, 0])
    points = torch.tensor([[0.0, 0, 0], [0, 50, 0], [0, -30.1, 0], [60.0, 0, 0]])
    moved = linear_muscle(points, origin, insertion, travel=8, spread=40, reach=30)
    assert torch.allclose(moved[0], torch.tensor([0.0, 8, 0]), atol=1e-5)
    assert torch.allclose(moved[1:], torch.zeros(3, 3), atol=1e-5)


def test_sphincter_draws_towards_its_centre_inside_its_ellipse_only():
    axes = torch.tensor([20.0, 10, 10])
    points = torch.tensor([[10.0, 0, 0], [0, -5, 0], [20, 0, 0], [0, 0, 0]])
    moved = sphincter_muscle(points, torch.zeros(3), axes, travel=2)
    assert torch.allclose(moved, torch.tensor([[-2.0, 0, 0], [0, 2, 0], [0, 0, 0], [0, 0, 0]]), atol=1e-5)


def test_pressure_is_whole_at_its_centre_and_gone_at_its_rim():
    points = torch.tensor([[1.0, 2, 3], [11, 2, 3]])
    moved = pressure(points, points[0], torch.tensor(10.0), torch.tensor([0.0, 0, 4]))
    assert torch.equal(moved[0], torch.tensor([0.0, 0, 4]))
    assert moved[1].abs().amax() < 1e-6


def test_falloffs_end_exactly():
    assert falloff(torch.tensor([0.0, 0.5, 1.0, 3.0])).tolist() == pytest.approx([1, 0.5, 0, 0], abs=1e-6)
    assert ramp(torch.tensor([-1.0, 2, 3, 9]), 2, 4).tolist() == pytest.approx([0, 0, 0.5, 1], abs=1e-6)
    assert ramp(torch.tensor([-1.0, 2, 3, 9]), 4, 2).tolist() == pytest.approx([1, 1, 0.5, 0], abs=1e-6)


def test_harmonic_is_linear_along_a_chain_and_leaves_islands_alone():
    edges = torch.tensor([[0, 1], [1, 2], [2, 3]])
    held = torch.tensor([1e6, 0, 0, 1e6, 0], dtype=torch.float64)
    target = torch.tensor([0.0, 9, 9, 3, 7], dtype=torch.float64)
    settled = harmonic(edges, torch.ones(3, dtype=torch.float64), held, target)
    assert torch.allclose(settled, torch.tensor([0.0, 1, 2, 3, 7], dtype=torch.float64), atol=1e-4)


# Symmetry and neutrality


def test_zero_expression_is_bitwise_neutral(head: HeadTemplate):
    assert torch.equal(head.deform(expression=torch.zeros(1, len(ARKIT_NAMES)))[0], head.vertices)


@pytest.mark.parametrize("name", [name.removesuffix("Left") for name in ARKIT_NAMES if name.endswith("Left")])
def test_right_channel_is_the_mirrored_left_channel(head: HeadTemplate, regions: Regions, name: str):
    flip = torch.tensor([-1.0, 1, 1])
    left, right = (head.expression[head.channel(name + side)] for side in ("Left", "Right"))
    assert torch.equal(right, left[regions.mirror] * flip)


def test_rotations_come_in_mirrored_pairs(head: HeadTemplate, regions: Regions):
    flip = torch.tensor([1.0, -1, -1])  # an axial vector's mirror image
    swap = [ARKIT_NAMES.index(_other_side(name)) for name in ARKIT_NAMES]
    vectors = [r.angles[:, None] * r.axis for r in head.rotations]
    for rotation, vector in zip(head.rotations, vectors, strict=True):
        weights, image = rotation.weights[regions.mirror], vector[swap] * flip
        assert any(
            torch.equal(weights, other.weights) and torch.equal(image, turned)
            for other, turned in zip(head.rotations, vectors, strict=True)
        )


def _other_side(name: str) -> str:
    if name.endswith("Left"):
        return name.removesuffix("Left") + "Right"
    return name.removesuffix("Right") + "Left" if name.endswith("Right") else name


@pytest.mark.parametrize("name", [name for name in ARKIT_NAMES if not name.endswith(("Left", "Right"))])
def test_channels_without_a_side_are_symmetric(head: HeadTemplate, regions: Regions, name: str):
    shape = head.expression[head.channel(name)]
    assert torch.equal(shape, shape[regions.mirror] * torch.tensor([-1.0, 1, 1]))


# Every channel


@pytest.mark.parametrize("name", ARKIT_NAMES)
def test_channel_moves_something_but_not_the_skull(head: HeadTemplate, regions: Regions, name: str):
    shift = (wear(head, **{name: 1.0}) - wear(head)).norm(dim=1)
    assert shift.amax() > 0.8
    assert shift[regions.rigid].amax() < 0.1


@pytest.mark.parametrize("name", [name for name in ARKIT_NAMES if name not in _TURNED])
def test_channel_folds_almost_no_skin(head: HeadTemplate, regions: Regions, name: str):
    """At most 0.8% of the face's visible skin may turn by more than 100 degrees against its resting normal."""
    skin = (head.face_part == head.part_names.index("skin")) & (head.vertices[head.faces][:, :, 2] > 0).all(1)
    rest, moved = _normals(wear(head), head.faces[skin]), _normals(wear(head, **{name: 1.0}), head.faces[skin])
    folded = (rest * moved).sum(1) < -0.17
    assert folded.double().mean() <= 0.008


def _normals(points: Tensor, faces: Tensor) -> Tensor:
    a, b, c = points[faces].unbind(1)
    return torch.nn.functional.normalize(torch.linalg.cross(b - a, c - a), dim=1)


# Eyes


def test_blink_closes_the_eye(head: HeadTemplate, regions: Regions):
    closed = wear(head, eyeBlink=1.0)
    for upper, lower in (
        (regions.lid_upper_left, regions.lid_lower_left),
        (regions.lid_upper_right, regions.lid_lower_right),
    ):
        gap = closed[upper, 1] - _interpolate(closed[upper, 0], closed[lower])
        assert gap.amax() <= 0.5


def test_blink_closes_the_eyes_of_other_people_nearly(head: HeadTemplate, regions: Regions):
    """The turn is the mean head's, so that eyes that are wide open by nature keep a slit; few keep more than 1 mm."""
    identity = torch.randn(50, len(head.identity), generator=torch.Generator().manual_seed(0)).clamp(-2, 2)
    blink = torch.zeros(50, len(ARKIT_NAMES))
    blink[:, head.channel("eyeBlinkLeft")] = 1.0
    people = head.deform(identity, blink).double() / _MILLIMETRE
    upper, lower = regions.lid_upper_left, regions.lid_lower_left
    gaps = torch.stack([(p[upper, 1] - _interpolate(p[upper, 0], p[lower])).amax() for p in people])
    assert gaps.quantile(0.9) <= 1.0
    assert gaps.amax() <= 2.0


def _interpolate(x: Tensor, line: Tensor) -> Tensor:
    """Height of a polyline at x."""
    line = line[line[:, 0].argsort()]
    right = torch.searchsorted(line[:, 0].contiguous(), x.contiguous()).clamp(1, len(line) - 1)
    a, b = line[right - 1], line[right]
    return a[:, 1] + ((x - a[:, 0]) / (b[:, 0] - a[:, 0])).clamp(0, 1) * (b[:, 1] - a[:, 1])


@pytest.mark.parametrize(
    "name", ["eyeBlink", "eyeWide", "eyeSquint", "cheekSquint", "eyeLookUp", "eyeLookDown", "browInnerUp"]
)
def test_lids_stay_outside_the_eyeball_all_the_way(head: HeadTemplate, face: Face, name: str):
    eye = face.left_eye
    distance = (face.points - eye.centre).norm(dim=1)
    lids = face.skin & (distance < 1.3 * eye.radius) & (face.points[:, 2] > eye.centre[2] + 3)
    least = (distance[lids] - eye.radius).clamp(max=0.1) - 0.05  # what already touches at rest may go on touching
    for value in torch.linspace(0, 1, 11).tolist():
        moved = wear(head, **{name: value})
        clearance = (moved[lids] * _MILLIMETRE / face.unit - eye.centre).norm(dim=1) - eye.radius
        assert (clearance >= least).all(), value


def test_blinking_lid_clears_the_cornea(head: HeadTemplate, face: Face, regions: Regions):
    eye = face.left_eye
    margin = regions.lid_upper_left[1:-1]
    for value in (0.3, 0.5, 0.7, 1.0):
        moved = wear(head, eyeBlink=value)[margin] * _MILLIMETRE / face.unit
        before = (moved - eye.centre).norm(dim=1)
        ahead = moved[:, 2] > eye.centre[2] + 0.9 * eye.radius
        assert (before[ahead] > eye.cornea - 0.05).all()


@pytest.mark.parametrize("name", ["eyeLookUpLeft", "eyeLookDownLeft", "eyeLookInLeft", "eyeLookOutLeft"])
def test_gaze_turns_the_eyeball_rigidly_about_its_centre(head: HeadTemplate, face: Face, name: str):
    eye = face.left_eye
    before, after = wear(head)[eye.vertices], wear(head, **{name: 1.0})[eye.vertices]
    sample = torch.arange(0, len(before), 7)
    assert torch.allclose(torch.cdist(before[sample], before), torch.cdist(after[sample], after), atol=1e-3)
    centre = eye.centre * face.unit / _MILLIMETRE
    assert torch.allclose((before - centre).norm(dim=1), (after - centre).norm(dim=1), atol=1e-2)
    pupil = before[:, 2].argmax()
    turn = after[pupil] - before[pupil]
    expected = {"Up": turn[1], "Down": -turn[1], "In": -turn[0], "Out": turn[0]}[name[7:-4]]
    assert 5 < expected < 8


# Jaw and mouth


def test_jaw_opens_by_rotation(head: HeadTemplate, regions: Regions):
    rotation = next(r for r in head.rotations if r.angles[head.channel("jawOpen")] > 0)
    pivot = (rotation.pivot.double()[:, None] * wear(head)).sum(0)
    teeth = regions.part("teeth_lower")
    before, after = (points[teeth] - pivot for points in (wear(head), wear(head, jawOpen=1.0)))
    assert torch.allclose(before[:, 1:].norm(dim=1), after[:, 1:].norm(dim=1), atol=1e-2)
    turned = torch.atan2(after[:, 1], after[:, 2]) - torch.atan2(before[:, 1], before[:, 2])
    assert torch.allclose(-turned, torch.full_like(turned, JAW_OPEN), atol=1e-3)
    assert torch.equal(wear(head)[regions.part("teeth_upper")], wear(head, jawOpen=1.0)[regions.part("teeth_upper")])


def test_jaw_opens_the_mouth_and_mouth_close_closes_it(head: HeadTemplate):
    upper, lower = head.landmarks[62], head.landmarks[66]

    def gap(**channels: float) -> float:
        points = wear(head, **channels)
        return float((points[upper] - points[lower]).norm())

    assert gap(jawOpen=1.0) > 30
    assert gap(jawOpen=1.0, mouthClose=1.0) < gap() + 0.5
    assert gap(jawOpen=0.5, mouthClose=0.5) < gap() + 1.5


@pytest.mark.parametrize(
    ("name", "landmark", "axis", "millimetres"),
    [
        ("mouthSmile", 54, 1, 7.0), ("mouthSmile", 54, 0, 4.0), ("mouthFrown", 54, 1, -4.0),
        ("mouthStretch", 54, 0, 5.0),
        ("mouthDimple", 54, 2, -4.0), ("mouthUpperUp", 53, 1, 4.5), ("mouthLowerDown", 56, 1, -3.5),
        ("mouthPucker", 54, 0, -5.0), ("mouthPucker", 51, 2, 5.0), ("mouthFunnel", 57, 2, 4.0),
        ("mouthRollLower", 66, 2, -8.0),
        ("mouthRollUpper", 62, 2, -8.0), ("mouthShrugUpper", 51, 1, 4.0), ("mouthShrugLower", 8, 1, 5.0),
        ("noseSneer", 35, 1, 6.0), ("browDown", 23, 1, -3.0), ("browInnerUp", 22, 1, 4.0), ("browOuterUp", 25, 1, 5.0),
        ("cheekPuff", 54, 2, 7.0), ("jawForward", 8, 2, 7.0),
    ],
)  # fmt: skip
def test_channel_moves_its_landmark(head: HeadTemplate, name: str, landmark: int, axis: int, millimetres: float):
    """At least this far, and less than twice as far."""
    vertex = head.landmarks[landmark]
    shift = float((wear(head, **{name: 1.0}) - wear(head))[vertex, axis])
    assert 1 <= shift / millimetres < 2.2


def test_lips_are_told_apart(face: Face, regions: Regions):
    assert (face.lower[regions.lip_upper[2:-2]] < 0.1).all()
    assert (face.lower[regions.lip_lower[2:-2]] > 0.9).all()


# Beside ICT-FaceKit

_COSINES = {
    "browDown": 0.85, "browInnerUp": 0.8, "browOuterUp": 0.85, "eyeBlink": 0.85, "eyeLookDown": 0.85, "eyeWide": 0.85,
    "jawForward": 0.9, "jawLeft": 0.9, "jawOpen": 0.9, "mouthClose": 0.85, "mouthDimple": 0.75, "mouthFrown": 0.8,
    "mouthFunnel": 0.8, "mouthLeft": 0.85, "mouthLowerDown": 0.8, "mouthPucker": 0.8, "mouthRollLower": 0.8,
    "mouthRollUpper": 0.8, "mouthShrugLower": 0.85, "mouthShrugUpper": 0.85, "mouthSmile": 0.85, "mouthStretch": 0.85,
    "mouthUpperUp": 0.8, "noseSneer": 0.7,
}  # fmt: skip


def test_landmarks_move_as_in_ict(ict_folder):
    """Our muscles on ICT's mesh against ICT's own shapes: direction of the 68 landmarks' displacement, all together."""
    ict = load_ict(ict_folder)
    skull = ict.rigid[ict.vertices[ict.rigid, 2] < 0.06]  # without the eye and mouth sockets' walls
    found = find_regions(ict.vertices, ict.faces, ict.face_part, ict.part_names, ict.landmarks, skull)
    expression, rotations = build_expressions(ict.vertices, ict.faces, ict.landmarks, found)
    ours = HeadTemplate(**{**vars(ict), "expression": expression, "rotations": rotations})
    for name, least in _COSINES.items():
        one, other = ((wear(h, **{name: 1.0}) - wear(h))[ict.landmarks] for h in (ours, ict))
        assert torch.nn.functional.cosine_similarity(one.flatten(), other.flatten(), dim=0) > least, name


def test_emotions_move_the_landmarks_as_icts_do(ict_folder):
    """The seven emotions on both heads: direction and size of the 68 landmarks' displacement, in outer-eye widths."""
    ict = load_ict(ict_folder)
    codes = expression_from_emotion(torch.eye(len(EMOTIONS)))
    shifts = []
    for head in (builtin_head(), ict):
        marks = head.vertices[head.landmarks]
        moved = head.deform(expression=codes)[:, head.landmarks] - marks
        shifts.append((moved / (marks[45] - marks[36]).norm()).flatten(1))
    cosine = torch.cosine_similarity(*shifts)
    size = shifts[0].norm(dim=1) / shifts[1].norm(dim=1)
    for name, c, s in zip(EMOTIONS, cosine.tolist(), size.tolist(), strict=True):
        print(f"{name}: cosine {c:.2f}, size {s:.2f}")
    assert cosine.amin() > 0.85 and size.amin() > 0.7 and size.amax() < 1.25


def test_each_emotion_is_its_own_face():
    """No emotion is a weaker other one: fear and surprise share brows and lids, but little of the mouth."""
    head = builtin_head()
    moved = head.deform(expression=expression_from_emotion(torch.eye(len(EMOTIONS)))) - head.vertices
    marks = moved[:, head.landmarks].flatten(1)
    alike = torch.cosine_similarity(marks[:, None], marks[None], dim=-1) - torch.eye(len(EMOTIONS))
    mouth = moved[:, head.landmarks[48:]].flatten(1)
    fear, surprise = EMOTIONS.index("fear"), EMOTIONS.index("surprise")
    print(
        f"most alike {alike.amax():.2f}; fear and surprise at the mouth"
        f" {torch.cosine_similarity(mouth[fear], mouth[surprise], dim=0):.2f}"
    )
    assert alike.amax() < 0.85 and torch.cosine_similarity(mouth[fear], mouth[surprise], dim=0) < 0.65


_SKIN_COSINES = {
    "browDown": 0.85, "browInnerUp": 0.75, "browOuterUp": 0.85, "cheekPuff": 0.85, "cheekSquint": 0.7,
    "eyeBlink": 0.75, "eyeSquint": 0.7, "eyeWide": 0.75, "jawOpen": 0.9, "mouthDimple": 0.8, "mouthFrown": 0.8,
    "mouthFunnel": 0.75, "mouthLowerDown": 0.75, "mouthPress": 0.7, "mouthPucker": 0.75, "mouthShrugLower": 0.85,
    "mouthShrugUpper": 0.8, "mouthSmile": 0.9, "mouthStretch": 0.85, "mouthUpperUp": 0.85, "noseSneer": 0.85,
}  # fmt: skip


def test_skin_moves_as_icts_does(ict_folder):
    """All of the face's skin, not landmarks alone: cheeks, nose and folds have none, and make the expression.

    Directions against ICT's nearest vertex, and sizes: no channel does less than 0.6 of what ICT's does, or 1.3 of it.
    """
    head, ict = builtin_head(), load_ict(ict_folder)
    turn, shift, scale = roma.rigid_points_registration(
        ict.vertices[ict.landmarks], head.vertices[head.landmarks], compute_scaling=True
    )
    theirs = torch.arange(9409)  # upstream's "full face area"
    skin = head.faces[head.face_part == head.part_names.index("skin")].unique()
    marks = head.vertices[head.landmarks]
    low, high = marks.amin(0) - 0.02, marks.amax(0) + 0.03
    face = skin[((head.vertices[skin] > low) & (head.vertices[skin] < high)).all(1) & (head.vertices[skin, 2] > 0.05)]
    placed = scale * ict.vertices[theirs] @ turn.T + shift
    match = theirs[torch.cdist(head.vertices[face], placed).argmin(1)]
    for name, least in _SKIN_COSINES.items():
        one = (wear(head, **{name: 1.0}) - wear(head))[face]
        other = scale * (wear(ict, **{name: 1.0}) - wear(ict))[match] @ turn.T.double()
        cosine = torch.nn.functional.cosine_similarity(one.flatten(), other.flatten(), dim=0)
        size = one.norm() / other.norm()
        print(f"{name}: cosine {cosine:.2f}, size {size:.2f}")
        assert cosine > least and 0.6 < size < 1.3, name


def test_pressed_lips_meet_and_do_not_cross(head: HeadTemplate, regions: Regions):
    """The line between them stays: upper and lower lip move as one where they touch."""
    pressed = wear(head, mouthPress=1.0)
    gap = pressed[regions.lip_upper[1:-1], 1] - pressed[regions.lip_lower[1:-1], 1]
    assert gap.amin() > -0.3 and gap.amax() < 0.8
    height = wear(head)[head.landmarks[51], 1] - wear(head)[head.landmarks[57], 1]
    assert pressed[head.landmarks[51], 1] - pressed[head.landmarks[57], 1] < height - 3  # and are thinner
