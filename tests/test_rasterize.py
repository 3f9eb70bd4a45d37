"""emogs.rasterize as a whole: images and gradients against the reference, emotion, reproducibility, edges, refusals."""

from __future__ import annotations

import dataclasses
import doctest
import importlib

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from raster_reference import quat_matrix, quat_multiply, render
from raster_scenes import WITHOUT_EDGES, RandomScene, random_scene

import emogs
from emogs import Cameras, EmotionBasis, Gaussians, RasterSettings, Rig, fisheye, look_at, orthographic, pinhole
from emogs.ops.checks import Arguments
from emogs.ops.native import _C
from emogs.ops.project import make_scene

FIELDS = ("means", "quats", "scales", "opacities")


def images(out: emogs.Rendering) -> tuple[torch.Tensor, ...]:
    return (out.colors, out.alphas, out.depths)


def with_threads(threads: int, function):
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        return function()
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("sh_degree", [None, 3])
@pytest.mark.parametrize("settings", [WITHOUT_EDGES, RasterSettings()], ids=["smooth", "default"])
@pytest.mark.parametrize("parts", ["plain", "emotion", "rig", "all"])
def test_images_equal_the_reference(sh_degree, settings, parts):
    scene = random_scene(25, sh_degree=sh_degree, channels=5, size=(37, 29))
    options = {
        "plain": (),
        "emotion": ("emotion", "basis"),
        "rig": ("rig",),
        "all": ("emotion", "basis", "rig", "background"),
    }
    given = {name: value for name, value in scene.all.items() if name in options[parts]}
    out = emogs.rasterize(scene.gaussians, scene.cameras, **given, settings=settings)
    expected = render(scene.gaussians, scene.cameras, **given, settings=settings)
    for ours, theirs in zip(images(out), expected, strict=True):
        assert ours.shape == theirs.shape
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-10)


def test_float32_images_equal_the_reference():
    """A splat within rounding of the cut may flip, 1/255 at one pixel; elsewhere, sums of 40 rounded terms."""
    single = random_scene(40, size=(64, 48), dtype=torch.float32)
    as_double = {f: getattr(single.gaussians, f).double() for f in (*FIELDS, "colors")}
    cameras = dataclasses.replace(
        single.cameras, viewmats=single.cameras.viewmats.double(), Ks=single.cameras.Ks.double()
    )
    ours = emogs.rasterize(single.gaussians, single.cameras).colors.double()
    error = (ours - render(Gaussians(**as_double), cameras)[0]).abs()
    assert error.max() <= 1.01 / 255
    assert error.quantile(0.999) < 1e-5


def leaves(scene: RandomScene) -> dict[str, torch.Tensor]:
    """Every differentiable tensor of a scene by name, as new leaves."""
    g = scene.gaussians
    tensors = {name: getattr(g, name) for name in FIELDS}
    tensors["colors" if g.sh is None else "sh"] = g.colors if g.sh is None else g.sh
    tensors |= {"viewmats": scene.cameras.viewmats, "Ks": scene.cameras.Ks, "emotion": scene.emotion}
    tensors |= {f"basis_{name}": value for name, value in scene.basis.given().items()}
    tensors |= {"frames": scene.rig.frames, "background": scene.background}
    return {name: value.detach().clone().requires_grad_() for name, value in tensors.items()}


def from_leaves(scene: RandomScene, tensors: dict[str, torch.Tensor]) -> tuple[Gaussians, Cameras, dict]:
    basis = {name.removeprefix("basis_"): value for name, value in tensors.items() if name.startswith("basis_")}
    gaussians = Gaussians(**{name: tensors[name] for name in (*FIELDS, "colors", "sh") if name in tensors})
    cameras = dataclasses.replace(scene.cameras, viewmats=tensors["viewmats"], Ks=tensors["Ks"])
    rig = Rig(scene.rig.binding, tensors["frames"])
    return gaussians, cameras, {
        "emotion": tensors["emotion"], "basis": EmotionBasis(**basis), "rig": rig, "background": tensors["background"],
    }  # fmt: skip


@pytest.mark.parametrize("sh_degree", [None, 2])
@pytest.mark.parametrize("settings", [WITHOUT_EDGES, RasterSettings()], ids=["smooth", "default"])
def test_gradients_equal_the_references(sh_degree, settings):
    """Autograd through the reference, a random weight on every pixel of every output, float64."""
    scene = random_scene(12, sh_degree=sh_degree, channels=4, seed=7)
    results = []
    for renderer in (lambda *a, **k: images(emogs.rasterize(*a, **k)), render):
        tensors = leaves(scene)
        gaussians, cameras, options = from_leaves(scene, tensors)
        out = renderer(gaussians, cameras, **options, settings=settings)
        generator = torch.Generator().manual_seed(0)
        loss = sum((o * torch.randn(o.shape, generator=generator, dtype=o.dtype)).sum() for o in out)
        results.append(dict(zip(tensors, torch.autograd.grad(loss, tensors.values()), strict=True)))
    for name, ours in results[0].items():
        theirs = results[1][name]
        if name == "viewmats":
            assert (ours[..., 3, :] == 0).all()  # the last row is taken for 0 0 0 1
            ours, theirs = ours[..., :3, :], theirs[..., :3, :]
        assert ours.norm() > 0, name
        torch.testing.assert_close(
            ours, theirs, rtol=1e-8, atol=1e-9 * theirs.abs().max().item(), msg=lambda m, n=name: f"{n}: {m}"
        )


@pytest.mark.parametrize("sh_degree", [None, 1])
def test_gradcheck(sh_degree):
    """Numerical derivatives by every element of every input, of three random projections of each output."""
    scene = random_scene(3, sh_degree=sh_degree, cameras=1, faces=2, seed=11)
    tensors = leaves(scene)
    generator = torch.Generator().manual_seed(0)
    weights: dict[torch.Size, torch.Tensor] = {}

    def function(*values):
        gaussians, cameras, options = from_leaves(scene, dict(zip(tensors, values, strict=True)))
        projected = []
        for image in images(emogs.rasterize(gaussians, cameras, **options, settings=WITHOUT_EDGES)):
            if image.shape not in weights:
                weights[image.shape] = torch.randn(3, *image.shape, generator=generator, dtype=image.dtype)
            projected.append((weights[image.shape] * image).flatten(1).sum(1))
        return tuple(projected)

    assert torch.autograd.gradcheck(function, tuple(tensors.values()), atol=1e-6)


@pytest.mark.parametrize("sh_degree", [None, 2])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("with_rig", [False, True])
def test_zero_emotion_is_no_emotion(sh_degree, dtype, with_rig):
    scene = random_scene(300, sh_degree=sh_degree, dtype=dtype, size=(48, 40))
    rig = scene.rig if with_rig else None
    weights = torch.zeros(3, 2, dtype=dtype)
    weights[2] = 0.5  # a zero element stays exact beside one that is not
    rig = None if rig is None else Rig(rig.binding, rig.frames[0])
    plain = emogs.rasterize(scene.gaussians, scene.cameras, rig=rig)
    zero = emogs.rasterize(scene.gaussians, scene.cameras, rig=rig, emotion=weights, basis=scene.basis)
    for ours, theirs in zip(images(zero), images(plain), strict=True):
        assert torch.equal(ours[0], theirs) and torch.equal(ours[1], theirs) and not torch.equal(ours[2], theirs)


def test_zero_emotion_has_the_gradients_of_no_emotion():
    scene = random_scene(100, size=(48, 40))
    grads = []
    for options in ({}, {"emotion": torch.zeros(2, dtype=torch.float64), "basis": scene.basis}):
        tensors = leaves(scene)
        gaussians, cameras, _ = from_leaves(scene, tensors)
        out = emogs.rasterize(gaussians, cameras, **options)
        names = ("means", "quats", "scales", "opacities", "colors", "viewmats", "Ks")
        grads.append(torch.autograd.grad(out.colors.square().sum(), [tensors[n] for n in names]))
    for ours, theirs in zip(*grads, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


def forward_and_backward(scene: RandomScene) -> list[torch.Tensor]:
    tensors = leaves(scene)
    gaussians, cameras, options = from_leaves(scene, tensors)
    out = emogs.rasterize(gaussians, cameras, **options)
    loss = out.colors.square().sum() + out.alphas.sum() + out.depths.sum()
    return [t.detach() for t in images(out)] + list(torch.autograd.grad(loss, tensors.values()))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_threads_and_runs_do_not_show(dtype, isa):
    scene = random_scene(9000, dtype=dtype, size=(100, 90), scale=0.03, spread=0.4)
    expected = with_threads(1, lambda: forward_and_backward(scene))
    for threads in (1, 2, 3, 7):
        for ours, theirs in zip(with_threads(threads, lambda: forward_and_backward(scene)), expected, strict=True):
            assert torch.equal(ours, theirs)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_instruction_sets_agree(dtype):
    """Those with fused multiply-add bit for bit; the baseline to rounding, but for pixels where a cut or stop flips."""
    scene = random_scene(4000, dtype=dtype, size=(100, 90), scale=0.03, spread=0.4, seed=1)  # 0 has a flip in its sums
    before, results = _C.isa_in_use(), {}
    try:
        for name in _C.supported_isas():
            _C.use_isa(name)
            results[name] = forward_and_backward(scene)
    finally:
        _C.use_isa(before)
    fused = [results[name] for name in results if name != "baseline"]
    for other in fused[1:]:
        assert all(torch.equal(a, b) for a, b in zip(fused[0], other, strict=True))
    for ours, theirs in zip(results["baseline"], fused[0] if fused else results["baseline"], strict=True):
        error = (ours - theirs).abs().flatten()[:1_000_000] / theirs.abs().max()
        assert error.quantile(0.99) < 20 * torch.finfo(dtype).eps


@pytest.mark.parametrize("size", [(1, 1), (16, 16), (17, 15), (50, 3)])
@pytest.mark.parametrize("count", [0, 1, 5])
def test_any_size_and_count(size, count):
    scene = random_scene(count, size=size)
    out = emogs.rasterize(scene.gaussians, scene.cameras, **scene.all)
    assert out.colors.shape == (2, 2, size[1], size[0], 3) and out.depths.shape == (2, 2, size[1], size[0], 1)
    expected = render(scene.gaussians, scene.cameras, **scene.all)
    for ours, theirs in zip(images(out), expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-10)
    if count == 0:
        assert torch.equal(out.colors, scene.background.expand_as(out.colors))


def test_empty_batches_and_backward_without_gaussians():
    scene = random_scene(3, batch=(0,))
    assert emogs.rasterize(scene.gaussians, scene.cameras, **scene.all).colors.shape == (0, 2, 17, 19, 3)
    empty = random_scene(0)
    tensors = leaves(empty)
    gaussians, cameras, options = from_leaves(empty, tensors)
    emogs.rasterize(gaussians, cameras, **options).colors.sum().backward()
    assert (tensors["emotion"].grad == 0).all() and (tensors["background"].grad != 0).all()


def test_behind_the_camera_and_non_finite_leave_no_trace():
    scene = random_scene(30, seed=4)
    g = scene.gaussians
    bad = {name: getattr(g, name).clone() for name in (*FIELDS, "colors")}
    bad["means"][0, 2] = 1e3  # behind both cameras
    bad["means"][1, 1], bad["quats"][2], bad["scales"][3, 0] = float("nan"), 0.0, float("inf")
    bad["opacities"][4], bad["colors"][5, 1] = float("nan"), float("-inf")
    bad = {name: value.requires_grad_() for name, value in bad.items()}
    out = emogs.rasterize(Gaussians(**bad), scene.cameras)
    rest = emogs.rasterize(Gaussians(**{name: value[6:].detach() for name, value in bad.items()}), scene.cameras)
    assert out.info.splats.non_finite.tolist() == [5, 5]
    for ours, theirs in zip(images(out), images(rest), strict=True):
        assert torch.equal(ours, theirs)
    out.colors.sum().backward()
    assert all(value.grad.isfinite().all() for value in bad.values())


def test_opacities_of_exactly_zero_and_one():
    scene = random_scene(10, spread=0.2)
    opacities = torch.tensor([0.0, 1.0] * 5, dtype=torch.float64, requires_grad=True)
    gaussians = dataclasses.replace(scene.gaussians, opacities=opacities)
    out = emogs.rasterize(gaussians, scene.cameras, emotion=scene.emotion, basis=scene.basis)
    opaque = Gaussians(**{name: getattr(gaussians, name)[1::2].detach() for name in (*FIELDS, "colors")})
    basis = EmotionBasis(**{name: value[:, 1::2] for name, value in scene.basis.given().items()})
    expected = emogs.rasterize(opaque, scene.cameras, emotion=scene.emotion, basis=basis)
    assert torch.equal(out.colors, expected.colors)
    out.colors.sum().backward()
    assert opacities.grad.isfinite().all()


@given(seed=st.integers(0, 2**20), axis=st.tuples(*[st.floats(-1, 1)] * 3), shift=st.tuples(*[st.floats(-5, 5)] * 3))
def test_moving_rig_and_camera_together_changes_nothing(seed, axis, shift):
    """Harmonics included: they turn with the face."""
    scene = random_scene(8, seed=seed, sh_degree=3, cameras=1, faces=1, batch=())
    quat = torch.tensor([1.0, *axis], dtype=torch.float64)
    quat = quat / quat.norm()
    motion = torch.eye(4, dtype=torch.float64)
    motion[:3, :3], motion[:3, 3] = quat_matrix(quat), torch.tensor(shift, dtype=torch.float64)
    frame = scene.rig.frames
    translation = frame[:, 4:7] @ motion[:3, :3].T + motion[:3, 3]
    moved = torch.cat([quat_multiply(quat.expand(1, 4), frame[:, :4]), translation, frame[:, 7:]], -1)
    cameras = dataclasses.replace(scene.cameras, viewmats=scene.cameras.viewmats @ torch.linalg.inv(motion))
    here = emogs.rasterize(scene.gaussians, scene.cameras, rig=scene.rig, settings=WITHOUT_EDGES)
    there = emogs.rasterize(scene.gaussians, cameras, rig=Rig(scene.rig.binding, moved), settings=WITHOUT_EDGES)
    torch.testing.assert_close(there.colors, here.colors, rtol=0, atol=1e-8)


@given(seed=st.integers(0, 2**20))
def test_order_of_gaussians_does_not_matter(seed):
    scene = random_scene(20, seed=seed)
    order = torch.randperm(20, generator=torch.Generator().manual_seed(seed))
    shuffled = Gaussians(**{name: getattr(scene.gaussians, name)[order] for name in (*FIELDS, "colors")})
    left, right = (emogs.rasterize(g, scene.cameras) for g in (scene.gaussians, shuffled))
    assert torch.equal(left.colors, right.colors) and torch.equal(left.depths, right.depths)


def test_depth_modes():
    scene = random_scene(20)
    modes = {
        m: emogs.rasterize(scene.gaussians, scene.cameras, settings=RasterSettings(depth=m))
        for m in ("none", "accumulated", "expected")
    }
    assert modes["none"].depths is None
    torch.testing.assert_close(
        modes["expected"].depths, modes["accumulated"].depths / modes["accumulated"].alphas.clamp(min=1e-10)
    )
    assert torch.equal(modes["none"].colors, modes["expected"].colors)


@pytest.mark.parametrize("lead", [(), (2,), (2, 1), (2, 2)])
def test_a_masked_tile_shows_the_background(lead):
    scene = random_scene(30, size=(37, 29))
    mask = torch.rand(*lead, 2, 3, generator=torch.Generator().manual_seed(1)) < 0.5
    shown = mask.expand(2, 2, 2, 3).repeat_interleave(16, -2).repeat_interleave(16, -1)[..., :29, :37, None]
    tensors = leaves(scene)
    gaussians, cameras, options = from_leaves(scene, tensors)
    whole = emogs.rasterize(gaussians, cameras, **options)
    out = emogs.rasterize(gaussians, cameras, **options, tile_mask=mask)
    assert torch.equal(out.colors, torch.where(shown, whole.colors, scene.background))
    assert torch.equal(out.alphas, torch.where(shown, whole.alphas, 0))
    assert torch.equal(out.depths, torch.where(shown, whole.depths, 0))
    assert torch.equal(out.info.tiles.counts, torch.where(mask, whole.info.tiles.counts, 0))
    ours = torch.autograd.grad(out.colors.square().sum(), tensors.values(), retain_graph=True)
    theirs = torch.autograd.grad(torch.where(shown, whole.colors, scene.background).square().sum(), tensors.values())
    for name, a, b in zip(tensors, ours, theirs, strict=True):
        if name != "background":  # which then has a second way into the loss
            torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9 * b.abs().max().item())


def test_non_contiguous_inputs():
    scene = random_scene(20)
    strided = {name: getattr(scene.gaussians, name).repeat_interleave(2, 0)[::2] for name in (*FIELDS, "colors")}
    cameras = dataclasses.replace(scene.cameras, viewmats=scene.cameras.viewmats.mT.contiguous().mT)
    assert torch.equal(
        emogs.rasterize(Gaussians(**strided), cameras).colors, emogs.rasterize(scene.gaussians, scene.cameras).colors
    )


def test_operation_is_sound():
    scene = random_scene(4, size=(9, 7), model="fisheye")
    tensors = leaves(scene)
    gaussians, cameras, options = from_leaves(scene, tensors)
    options.pop("background")
    background = tensors["background"].detach().repeat(2, 2, 2).requires_grad_()  # three more columns for the normals
    settings = RasterSettings(antialiased=True, normals=True)
    everything = make_scene(Arguments("test"), gaussians, cameras, **options, settings=settings)
    mask = torch.tensor([[[[True]], [[False]]]]).expand(2, 2, 1, 1)
    probe = torch.zeros(2, 2, 4, 4, dtype=torch.float64, requires_grad=True)
    rest = (background, mask, probe, settings.blending, 1, True, -1)
    torch.library.opcheck(torch.ops.emogs.rasterize, (*everything, *rest))
    options = dict.fromkeys(options)
    plain = make_scene(Arguments("test"), gaussians, cameras, **options, settings=RasterSettings())
    torch.library.opcheck(torch.ops.emogs.rasterize, (*plain, None, None, None, settings.blending, 0, True, -1))


def test_every_route_to_the_kernels_gives_the_same():
    """A profiler sends calls through the registered operation, others skip it."""
    scene = random_scene(50, size=(37, 29))
    direct = forward_and_backward(scene)
    with torch.profiler.profile() as profiler:
        registered = forward_and_backward(scene)
    assert all(torch.equal(a, b) for a, b in zip(direct, registered, strict=True))
    assert "emogs::rasterize" in {event.key for event in profiler.key_averages()}


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
    ]
    for call in calls:
        with pytest.raises(NotImplementedError, match="transforms, forward-mode derivatives and batched gradients"):
            call()
    with torch.autograd.forward_ad.dual_level():
        with pytest.raises(NotImplementedError, match="forward-mode derivatives"):
            loss(torch.autograd.forward_ad.make_dual(means, means))
        assert loss(means).isfinite().all()


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
