"""The avatar: neutral is exactly neutral, pictures and splats agree, files come back the same or say what is wrong."""

from dataclasses import replace

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from emogs import Cameras, Rig, look_at, rasterize
from emogs.emotion import (
    EMOTIONS,
    GeometryPath,
    anchor_codes,
    default_tables,
    expression_from_emotion,
    parse_emotion,
    psi,
)
from emogs.io import FormatError
from emogs.model import Avatar
from emogs.model.bake import BakedBasis

COMPONENTS = 3  # of the avatar in conftest.py
MIX = torch.tensor([0.5, 0, 0.3, 0, 0, 0, 0])


def test_zero_emotion_is_no_emotion_bitwise(avatar):
    camera = avatar.orbit(20.0, size=64)
    without = rasterize(avatar.gaussians, camera, rig=Rig(avatar.binding, avatar.frames())).colors  # and no basis
    for neutral in (None, "neutral", torch.zeros(1, 7)):
        assert torch.equal(avatar.render(camera, neutral).colors, without)


def test_a_batch_of_emotions_draws_what_single_ones_draw(avatar):
    camera = avatar.orbit(torch.tensor([-30.0, 30.0]), size=48)
    together = avatar.render(camera, torch.stack([MIX, torch.zeros(7)]))
    assert together.colors.shape == (2, 2, 48, 48, 3)
    torch.testing.assert_close(together.colors[0], avatar.render(camera, MIX).colors[0], rtol=0, atol=1e-4)


def test_the_splats_of_a_file_draw_what_the_avatar_draws(avatar):
    camera = avatar.orbit(-15.0, size=96)
    jaw = torch.zeros(52)
    jaw[avatar.template.channel("jawOpen")] = 0.6
    picture = avatar.render(camera, MIX, jaw).colors[0]
    splats = rasterize(avatar.posed(MIX, jaw), camera).colors
    # the same numbers by another route: a splat at the edge of the alpha cut may fall on its other side, 1/255 each
    assert (picture - splats).abs().mean() < 1e-4
    assert (picture - splats).abs().max() < 0.05


def test_splats_of_several_faces_at_once_are_refused(avatar):
    with pytest.raises(ValueError, match="one face, got a batch of 2"):
        avatar.posed(torch.stack([MIX, MIX]))


def test_the_surface_has_no_holes(avatar):
    alphas = avatar.render(avatar.orbit(torch.tensor([-60.0, 0.0, 60.0]), size=128)).alphas[0, ..., 0]
    for view in alphas:
        row = view[64]  # across the face
        inside = (row > 0.5).nonzero()[:, 0]
        assert len(inside) > 30
        assert (row[inside[3] : inside[-3]] > 0.97).all()  # silhouettes are soft for a few pixels


def test_what_an_expression_paints_comes_with_its_channels_whoever_moves_them(avatar):
    smile = torch.zeros(52)
    smile[avatar.template.channel("mouthSmileLeft")] = 0.5
    response = torch.zeros(52, COMPONENTS)
    response[avatar.template.channel("mouthSmileLeft"), 1] = 2.0  # whole at half a smile
    plain = replace(avatar, baked=replace(avatar.baked, weights=torch.zeros(35, COMPONENTS), response=None))
    folded = replace(plain, baked=replace(plain.baked, response=response))
    colours = plain.baked.basis.colors[1]

    def painted(*signals):
        return folded.posed(*signals).colors - plain.posed(*signals).colors

    assert not painted().any()
    torch.testing.assert_close(painted(None, 0.5 * smile), 0.5 * colours, rtol=0, atol=1e-6)
    torch.testing.assert_close(painted(None, 2 * smile), colours, rtol=0, atol=1e-6)
    happy = 2 * avatar.expression("happy=0.4")[0, avatar.template.channel("mouthSmileLeft")]
    assert 0.1 < happy < 0.9
    torch.testing.assert_close(painted("happy=0.4"), happy * colours, rtol=0, atol=1e-6)
    camera = avatar.orbit(size=48)
    assert torch.equal(folded.render(camera).colors, plain.render(camera).colors)
    both = folded.render(camera, torch.zeros(1, 7), torch.stack([0 * smile, smile])).colors
    assert torch.equal(both[0], plain.render(camera).colors[0]) and not torch.equal(both[0], both[1])


def test_emotion_and_articulation_are_separate(avatar):
    blink = torch.zeros(52)
    blink[avatar.template.channel("eyeBlinkLeft")] = 1.0
    assert not avatar.expression().any()
    happy, both = avatar.expression("happy=0.8"), avatar.expression("happy=0.8", blink)
    assert happy.any() and happy[0, avatar.template.channel("eyeBlinkLeft")] == 0
    torch.testing.assert_close(both - happy, blink[None], rtol=0, atol=1e-6)


NAMED = [*EMOTIONS, *default_tables().compounds]
TEXTS = [*NAMED, *(f"{name}=0.5" for name in NAMED), "happy=0.7,surprise=0.2", "happily disgusted=0.5,sad=0.1"]
FULL = ["happy=1,sad=1", "happy=0.8,disgust=0.8", "fear=0.6,surprise=0.6,anger=0.6"]  # more than one in all


@pytest.mark.parametrize("text", TEXTS + FULL)
def test_the_same_words_give_the_same_face_as_the_tables(avatar, text):
    """That of `emogs head`, to roundings of numbers near 1."""
    shown = expression_from_emotion(parse_emotion(text))
    torch.testing.assert_close(avatar.expression(text)[0], shown, rtol=0, atol=1e-6)


def test_weights_of_the_appearance_saturate_at_a_sum_of_one(avatar):
    unchanged = BakedBasis(avatar.baked.basis, torch.eye(35))
    codes, still = torch.stack([MIX, torch.eye(7)[0], torch.eye(7)[:2].sum(0)]), torch.zeros(3, 52)
    scaled = torch.stack([MIX, torch.eye(7)[0], 0.5 * torch.eye(7)[:2].sum(0)])
    assert torch.equal(unchanged.mix(codes, still), psi(scaled))


@pytest.mark.parametrize(
    ("emotion", "articulation", "error", "message"),
    [
        (torch.zeros(3), None, ValueError, r"emotion: expected \[B, 7\] or \[7\], got \[3\]"),
        (torch.full((7,), 1.5), None, ValueError, "emotion: expected intensities from 0 to 1"),
        (torch.full((7,), float("nan")), None, ValueError, "emotion: expected intensities from 0 to 1"),
        ([0.5] * 7, None, TypeError, "emotion: expected a tensor, got list"),
        (None, torch.zeros(51), ValueError, r"articulation: expected \[B, 52\] or \[52\], got \[51\]"),
        (
            torch.zeros(2, 7),
            torch.zeros(3, 52),
            ValueError,
            "articulation: expected a batch of 1 or, as emotion, 2",
        ),
    ],
)
def test_wrong_signals_are_named(avatar, emotion, articulation, error, message):
    with pytest.raises(error, match=message):
        avatar.expression(emotion, articulation)


def test_signals_of_other_types_and_empty_batches_are_fine(avatar):
    assert torch.equal(avatar.expression(MIX.double()), avatar.expression(MIX))
    assert avatar.expression(torch.zeros(0, 7)).shape == (0, 52)
    assert avatar.render(avatar.orbit(size=32), torch.zeros(0, 7)).colors.shape == (0, 1, 32, 32, 3)


def test_a_saved_avatar_comes_back_the_same(avatar, tmp_path):
    avatar.save(tmp_path / "a.safetensors")
    again = Avatar.load(tmp_path / "a.safetensors")
    assert torch.equal(avatar.baked.response, again.baked.response)
    camera = avatar.orbit(10.0, size=64)
    assert torch.equal(avatar.render(camera, MIX).colors, again.render(camera, MIX).colors)
    assert torch.equal(avatar.source, again.source)
    with safe_open(tmp_path / "a.safetensors", "pt") as file:
        assert file.metadata()["synthetic"] == "true"


def test_a_file_without_a_response_of_expressions_is_read(avatar, tmp_path):
    older = replace(avatar, baked=replace(avatar.baked, response=None))
    older.save(tmp_path / "a.safetensors")
    again = Avatar.load(tmp_path / "a.safetensors")
    assert again.baked.response is None
    camera = avatar.orbit(size=32)
    assert torch.equal(again.render(camera, MIX).colors, older.render(camera, MIX).colors)


def rewritten(path, change):
    """The file with its tensors and its header changed."""
    with safe_open(path, "pt") as file:
        header = dict(file.metadata())
        tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118 (not a dict)
    change(tensors, header)
    save_file(tensors, path, metadata=header)


def test_files_of_the_first_format_keep_their_trained_means(avatar, tmp_path):
    """They hold all components of a mean, by which the anchors' faces are what they were; untrained ones hold the
    tables', and wear the tables' compounds now."""
    path, anchors = tmp_path / "a.safetensors", anchor_codes().double()
    tables = torch.linalg.solve(psi(anchors), expression_from_emotion(anchors)).T.float().contiguous()
    trained = 0.1 * torch.rand(52, 35, generator=torch.Generator().manual_seed(1))
    for change in (torch.zeros(52, 35), trained):
        avatar.save(path)

        def older(tensors, header, change=change):
            header["format"] = "emogs-avatar-1"
            del tensors["geometry.offset"]
            tensors["geometry.mean"] = tables + change

        rewritten(path, older)
        geometry = Avatar.load(path).geometry
        faces = geometry(torch.zeros(35, 1, 52), anchor_codes())[:, 0]
        before = geometry.mask * (psi(anchor_codes()) @ (tables + change).T)
        torch.testing.assert_close(faces, before, rtol=0, atol=1e-5)  # components are up to ten, and cancel
    avatar.save(path)
    rewritten(path, lambda tensors, header: header.update(format="emogs-avatar-1"))
    with pytest.raises(FormatError, match=r"geometry\.mean: missing"):
        Avatar.load(path)


def test_a_loaded_avatar_asks_for_no_gradients(avatar, tmp_path):
    trained = replace(avatar, geometry=GeometryPath())
    torch.nn.init.normal_(trained.geometry.offset, std=0.1, generator=torch.Generator().manual_seed(0))
    trained.save(tmp_path / "a.safetensors")
    again = Avatar.load(tmp_path / "a.safetensors")
    assert torch.equal(again.expression(MIX), trained.expression(MIX))
    assert not torch.equal(again.expression(MIX), avatar.expression(MIX))
    assert not again.render(again.orbit(size=32), MIX).colors.requires_grad


def test_a_saved_avatar_may_be_read_by_whom_other_files_may(avatar, tmp_path):
    avatar.save(tmp_path / "a.safetensors")
    (tmp_path / "other").touch()
    assert (tmp_path / "a.safetensors").stat().st_mode == (tmp_path / "other").stat().st_mode
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize(
    ("break_it", "complaint"),
    [
        (lambda t, m: t.pop("binding"), "binding: expected int32"),
        (lambda t, m: t["binding"].add_(10**6), "binding: holds an index outside"),
        (lambda t, m: t.pop("gaussians.means"), "gaussians.means: missing"),
        (lambda t, m: t["gaussians.quats"].fill_(float("nan")), "gaussians.quats: holds a value that is not finite"),
        (lambda t, m: t.update(identity=torch.zeros(3)), "identity: expected float32"),
        (lambda t, m: t.update({"basis.means": torch.zeros(1, 2, 3)}), "basis.means: expected float32"),
        (lambda t, m: t.update(basis_response=torch.zeros(52, 1)), "basis_response: expected float32"),
        (lambda t, m: t.pop("geometry.offset"), "geometry.offset: missing"),
        (
            lambda t, m: t["camera.viewmats"][0, 1].zero_(),
            "camera.viewmats: expected a matrix that has an inverse, got",
        ),
        (lambda t, m: m.update(width="9" * 5000), "width: expected a size in pixels, got '999"),
        (lambda t, m: m.update(width="-4"), "width: expected a size in pixels"),
        (lambda t, m: m.update(format="other"), "format: expected 'emogs-avatar-2', got 'other'"),
        (lambda t, m: m.update(template_fingerprint="0"), "template: made on the head"),
    ],
)
def test_a_broken_file_says_which_field_and_why(avatar, tmp_path, break_it, complaint):
    path = tmp_path / "broken.safetensors"
    avatar.save(path)
    rewritten(path, break_it)
    with pytest.raises(FormatError, match=complaint):
        Avatar.load(path)


@pytest.mark.parametrize("content", [b"", b"not an avatar", b"\xff" * 64])
def test_a_file_of_another_kind_is_refused(tmp_path, content):
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(FormatError, match="not readable as safetensors"):
        Avatar.load(tmp_path / "x")


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(FormatError, match=r"none\.safetensors: file: no such file"):
        Avatar.load(tmp_path / "none.safetensors")


def test_orbits_are_level_wherever_the_photo_was_taken_from(avatar):
    above = Cameras(look_at((0.0, 0.3, 1.0), (0.0, 0.0, 0.0))[None], torch.eye(3)[None], 9, 9)
    for pitch, yaw in ((0.0, 0.0), (12.0, 0.0), (-20.0, 50.0)):
        ahead = torch.linalg.inv(replace(avatar, camera=above).orbit(yaw, pitch).viewmats[0])[:3, 2]
        assert torch.rad2deg(torch.asin(-ahead[1])) == pytest.approx(pitch, abs=0.01)
        assert torch.rad2deg(torch.atan2(-ahead[0], -ahead[2])) == pytest.approx(yaw, abs=0.01)
    level = torch.linalg.inv(replace(avatar, camera=above).orbit().viewmats[0])[:3, 2]
    assert abs(float(level[1])) < 1e-6
