"""emogs.rasterize as torch and its callers meet it: transforms, compilation, every refusal, and the camera helpers."""

from __future__ import annotations

import dataclasses
import doctest
import importlib

import pytest
import torch
from raster_scenes import random_scene

import emogs
from emogs import EmotionBasis, Gaussians, RasterSettings, Rig, fisheye, look_at, orthographic, pinhole


def test_transforms_are_refused():
    """Forward-mode derivatives above all: torch itself would take them for zeros."""
    scene = random_scene(4, size=(9, 7))
    means = scene.gaussians.means

    def loss(means):
        return emogs.rasterize(dataclasses.replace(scene.gaussians, means=means), scene.cameras).colors.sum((1, 2))

    calls = [
        lambda: torch.func.grad(lambda m: loss(m).sum())(means),
        lambda: torch.func.vjp(loss, means)[1](torch.ones(2, 3, dtype=torch.float64)),
        lambda: torch.func.jvp(loss, (means,), (means,)),
        lambda: torch.func.jacfwd(loss)(means),
        lambda: torch.autograd.functional.jacobian(loss, means, vectorize=True),
        lambda: torch.func.vmap(loss)(torch.stack([means, means + 100])),
        lambda: torch.func.vmap(loss)(torch.stack([means, means])),  # results of one size, by luck
    ]
    for call in calls:
        with pytest.raises(NotImplementedError, match="forward-mode derivatives and batched gradients"):
            call()
    with torch.autograd.forward_ad.dual_level():
        with pytest.raises(NotImplementedError, match="forward-mode derivatives"):
            loss(torch.autograd.forward_ad.make_dual(means, means))
        assert loss(means).isfinite().all()


def test_vmap_of_a_stage_is_a_loop_where_sizes_are_known():
    scene = random_scene(4, size=(9, 7))

    def project(means):
        return emogs.ops.project_gaussians(dataclasses.replace(scene.gaussians, means=means), scene.cameras)

    several = torch.stack([scene.gaussians.means, scene.gaussians.means + 0.1])
    whole = torch.func.vmap(lambda means: project(means).records)(several)
    assert torch.equal(whole, torch.stack([project(means).records for means in several]))
    with pytest.raises(NotImplementedError, match=r"intersect_tiles: torch.func's transforms, forward-mode"):
        torch.func.vmap(lambda means: emogs.ops.intersect_tiles(project(means), 9, 7).ids)(several)


def test_compiles():
    scene = random_scene(4, size=(9, 7))
    mask = torch.ones(1, 1, dtype=torch.bool)

    def loss(emotion):
        out = emogs.rasterize(scene.gaussians, scene.cameras, emotion=emotion, basis=scene.basis, tile_mask=mask)
        return out.colors.sum() + out.info.tiles.counts.sum()

    emotion = scene.emotion.clone().requires_grad_()
    (expected,) = torch.autograd.grad(loss(emotion), emotion)
    (compiled,) = torch.autograd.grad(torch.compile(loss, backend="aot_eager", fullgraph=True)(emotion), emotion)
    torch.testing.assert_close(compiled, expected)


def test_a_binding_changed_later_stays_in_bounds():
    """The constructor's check is behind it, and compiled code skips it."""
    scene = random_scene(4, size=(9, 7))
    scene.rig.binding[1] = 2**30
    with pytest.raises(ValueError, match=r"rig.binding must be in \[0, F=3\), got 0 to 1073741824"):
        emogs.rasterize(scene.gaussians, scene.cameras, rig=scene.rig)


@pytest.mark.parametrize(
    "name", ["gaussians", "cameras", "rasterize", "ops.project", "ops.tiles", "ops.blend", "ops.rig", "ops.scene"]
)
def test_docstring_examples(name):
    module = importlib.import_module(f"emogs.{name}")
    result = doctest.testmod(module)
    assert result.attempted > 0 and result.failed == 0


def refusals():
    scene = random_scene(5, faces=3)
    g, c, b, e = scene.gaussians, scene.cameras, scene.basis, scene.emotion
    replace = dataclasses.replace
    yield (
        "means [",
        lambda: Gaussians(g.means[:, :2], g.quats, g.scales, g.opacities, g.colors),
        r"means must be \[..., N=5, 3\], got \[5, 2\]",
    )
    yield "quats", lambda: replace(g, quats=g.quats[:4]), r"quats must be \[..., N=5, 4\], got \[4, 4\]"
    yield "lead", lambda: replace(g, scales=g.scales[None]), r"scales must be \[, ...\] like means, got \[1, 5, 3\]"
    yield "opacities", lambda: replace(g, opacities=g.opacities[:, None]), "opacities must be"
    yield (
        "dtype",
        lambda: replace(g, scales=g.scales.float()),
        "scales must be torch.float64 like means, got torch.float32",
    )
    yield "half", lambda: replace(g, means=g.means.half()), "means must be float32 or float64, got float16"
    yield "not a tensor", lambda: replace(g, means=[0.0]), "means must be a tensor, got list"
    yield "missing", lambda: replace(g, quats=None), "Gaussians: quats must be a tensor, got NoneType"
    yield "basis type", lambda: replace(b, means=[0.0]), "EmotionBasis: means must be a tensor, got list"
    yield "no colour", lambda: replace(g, colors=None), "colors, sh must be one given and one None, got neither"
    yield "two colours", lambda: replace(g, sh=torch.zeros(5, 1, 3).double()), "one given and one None, got both"
    yield "sh count", lambda: replace(g, colors=None, sh=torch.zeros(5, 2, 3).double()), "S one of 1, 4, 9, 16, 25"
    yield "no channels", lambda: replace(g, colors=g.colors[:, :0]), "D at least 1"
    yield (
        "basis list",
        lambda: EmotionBasis(means=torch.zeros(1, 2, 3, dtype=torch.float16), rotations=[1.0]),
        "EmotionBasis: rotations must be a tensor, got list",
    )
    yield "basis empty", lambda: EmotionBasis(), "at least one field must be given, got none"
    yield "basis sizes", lambda: replace(b, colors=b.colors[:, :4]), r"colors must be \[K=2, N=5, D\], got \[2, 4, 3\]"
    yield "basis dtype", lambda: replace(b, colors=b.colors.float()), "colors must be float64 or float16, got float32"
    yield "binding dtype", lambda: Rig(scene.rig.binding.long(), scene.rig.frames), "binding must be int32, got int64"
    yield "binding range", lambda: Rig(scene.rig.binding + 3, scene.rig.frames), r"binding must be in \[0, F=3\), got"
    yield "frames", lambda: Rig(scene.rig.binding, scene.rig.frames[..., :7]), "frames must be"
    yield (
        "viewmats",
        lambda: replace(c, viewmats=c.viewmats[:, :3]),
        r"viewmats must be \[..., C=2, 4, 4\], got \[2, 3, 4\]",
    )
    yield "Ks", lambda: replace(c, Ks=c.Ks[:1]), r"Ks must be \[..., C=2, 3, 3\], got \[1, 3, 3\]"
    yield "Ks dtype", lambda: replace(c, Ks=c.Ks.float()), "Ks must be torch.float64 like viewmats, got torch.float32"
    yield "Ks lead", lambda: replace(c, Ks=c.Ks[None]), "like viewmats"
    yield "width", lambda: replace(c, width=0), "width must be an int from 1 to 16384, got 0"
    yield "height", lambda: replace(c, height=2.5), "height must be an int from 1 to 16384, got 2.5"
    yield "model", lambda: replace(c, model="lens"), "model must be 'pinhole' or 'ortho' or 'fisheye', got 'lens'"
    yield (
        "camera dtype",
        lambda: emogs.rasterize(g, replace(c, viewmats=c.viewmats.float(), Ks=c.Ks.float())),
        "cameras.viewmats must be float64",
    )
    yield "model type", lambda: replace(c, model=[1]), r"model must be 'pinhole' or 'ortho' or 'fisheye', got \[1\]"
    yield "no basis", lambda: emogs.rasterize(g, c, emotion=e), "basis must be given where emotion is, got None"
    yield (
        "emotion size",
        lambda: emogs.rasterize(g, c, emotion=e[:, :1], basis=b),
        r"emotion must be \[..., K=2\], got \[2, 1\]",
    )
    yield (
        "settings type",
        lambda: emogs.rasterize(g, c, settings={}),
        "rasterize: settings must be RasterSettings, got dict",
    )
    yield (
        "probe without gradients",
        lambda: emogs.rasterize(g, c, probe=torch.zeros(2, 5, 4).double()),
        "rasterize: probe must be zeros that require gradients, got requires_grad=False",
    )
    yield "cloud type", lambda: emogs.rasterize({}, c), "rasterize: gaussians must be Gaussians, got dict"
    yield "camera type", lambda: emogs.rasterize(g, g), "rasterize: cameras must be Cameras, got Gaussians"
    yield "basis class", lambda: emogs.rasterize(g, c, emotion=e, basis=e), "basis must be EmotionBasis, got Tensor"
    yield "rig type", lambda: emogs.rasterize(g, c, rig=(e, e)), "rig must be Rig, got tuple"
    yield "depth type", lambda: RasterSettings(depth=["none"]), "RasterSettings: depth must be 'none' or 'accumulated'"
    yield "setting switch", lambda: RasterSettings(deterministic=1), "deterministic must be True or False, got 1"
    yield "setting type", lambda: RasterSettings(near="1"), "RasterSettings: near must be a number, got '1'"
    yield "emotion dtype", lambda: emogs.rasterize(g, c, emotion=e.float(), basis=b), "emotion must be float64"
    yield (
        "basis colors",
        lambda: emogs.rasterize(g, c, emotion=e, basis=EmotionBasis(colors=b.colors[..., :2])),
        r"basis.colors must be \[K=2, N=5, 3\]",
    )
    yield (
        "binding size",
        lambda: emogs.rasterize(g, c, rig=Rig(scene.rig.binding[:4], scene.rig.frames)),
        r"rig.binding must be \[N=5\], got \[4\]",
    )
    yield (
        "batches",
        lambda: emogs.rasterize(g, c, emotion=torch.zeros(3, 2).double(), basis=b, rig=scene.rig),
        r"leading sizes must broadcast, got .*emotion \[3\], rig \[2\]",
    )
    yield (
        "background",
        lambda: emogs.rasterize(g, c, background=torch.zeros(2).double()),
        r"background must be \[..., D=3\], got \[2\]",
    )
    yield (
        "tile mask type",
        lambda: emogs.rasterize(g, c, tile_mask=torch.ones(2, 2)),
        "rasterize: tile_mask must be bool, got float32",
    )
    yield (
        "tile mask device",
        lambda: emogs.rasterize(g, c, tile_mask=torch.ones(2, 2, dtype=torch.bool, device="meta")),
        "tile_mask must be on cpu like gaussians.means, got meta",
    )
    for name, value in {
        "alpha_cut": 0.0,
        "alpha_ceiling": 1.0,
        "transmittance_stop": -1.0,
        "blur": -0.1,
        "near": 0.0,
        "far": 0.001,
        "radius_clip": -1.0,
        "antialiased": 1,
        "normals": "yes",
        "depth": "mean",
    }.items():
        yield (
            f"setting {name}",
            lambda name=name, value=value: RasterSettings(**{name: value}),
            f"RasterSettings: {name} must be",
        )


@pytest.mark.parametrize(("make", "message"), [pytest.param(*r[1:], id=r[0]) for r in refusals()])
def test_refusals(make, message):
    with pytest.raises((TypeError, ValueError), match=message):
        make()


def test_helpers():
    view = look_at((1.0, 2.0, 3.0), (1.0, 2.0, 0.0))
    assert torch.equal(view @ torch.tensor([1.0, 2, 0, 1]), torch.tensor([0.0, 0, 3, 1]))
    above = view @ torch.tensor([1.0, 3, 0, 1])
    assert above[1] < 0, "up in the world is up in the image, where y points down"
    many = look_at(torch.randn(4, 5, 3), torch.zeros(3))
    assert many.shape == (4, 5, 4, 4)
    torch.testing.assert_close(torch.linalg.det(many), torch.ones(4, 5))
    assert pinhole(640, 480, 90.0)[1].tolist() == pytest.approx([0, 240, 240])
    assert look_at(torch.tensor([0.0, 0, 2], dtype=torch.float64), (0, 0, 0)).dtype == torch.float64
    assert torch.equal(look_at(torch.tensor([0, 0, 2]), (0, 0, 0)), look_at((0, 0, 2), (0, 0, 0)))
    for field_of_view in (0, 180, float("nan")):
        with pytest.raises(ValueError, match="pinhole: field_of_view must be between 0 and 180 degrees, got"):
            pinhole(64, 64, field_of_view)
    with pytest.raises(ValueError, match="pinhole: width must be an int from 1 to 16384, got -64"):
        pinhole(-64, 64, 40)
    assert orthographic(640, 480, 2.0).tolist() == [[240, 0, 320], [0, 240, 240], [0, 0, 1]]
    for view_height in (0, -1, float("inf"), float("nan")):
        with pytest.raises(ValueError, match="orthographic: view_height must be finite and above 0, got"):
            orthographic(64, 64, view_height)
    assert fisheye(640, 480, 180)[1].tolist() == pytest.approx([0, 480 / torch.pi, 240])
    for field_of_view in (0, 361, float("nan")):
        with pytest.raises(ValueError, match="fisheye: field_of_view must be above 0 and at most 360 degrees, got"):
            fisheye(64, 64, field_of_view)
    for make in (pinhole, fisheye, orthographic):
        with pytest.raises(TypeError, match=f"{make.__name__}: [a-z_]+ must be an int or a float, got str"):
            make(64, 64, "40")
    for helper in (orthographic, fisheye):
        with pytest.raises(ValueError, match="height must be an int"):
            helper(64, 0, 1.0)


def test_look_at_refuses_what_leaves_its_sides_undecided():
    ahead = torch.tensor([[0.0, 0, 1], [0, 0, 1]])
    for target in ((0, 0, 0), (0, 3, 0), (0, -1e-3, 0), (float("nan"), 0, 1), ahead * torch.tensor([[1.0], [0.0]])):
        with pytest.raises(ValueError, match="look_at: target must be apart from eye, and not straight along up"):
            look_at((0.0, 0.0, 0.0), target)
    with pytest.raises(ValueError, match="look_at: target"):
        look_at((0.0, 0.0, 0.0), (0, 0, 1), up=(0, 0, 0))
    with pytest.raises(ValueError, match=r"look_at: eye must be \[..., 3\], got \[2\]"):
        look_at((0.0, 1.0), (0, 0, 1))
    with pytest.raises(ValueError, match=r"look_at: eye, target, up must be .* got \[\[3, 3\], \[2, 3\], \[3\]\]"):
        look_at(torch.rand(3, 3), torch.rand(2, 3))
    with pytest.raises(TypeError, match="look_at: target must be a tensor or three numbers, got 'nose'"):
        look_at((0.0, 0.0, 0.0), "nose")
    assert look_at((0.0, 0.0, 0.0), (1e-3, 3, 0)).det() == pytest.approx(1)
    assert look_at((0.0, 0.0, 0.0), (0, 0, 1), up=(0, 1e-8, 0)).det() == pytest.approx(1)
    compiled = torch.compile(look_at, backend="eager", fullgraph=True)
    assert compiled(torch.zeros(3), torch.zeros(3))[:3, :3].det() == 0
