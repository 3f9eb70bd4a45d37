"""emogs.rasterize as a whole: images and gradients against the reference, emotion, reproducibility, edges, refusals."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from raster_reference import quat_matrix, quat_multiply, render
from raster_scenes import WITHOUT_EDGES, RandomScene, random_scene

import emogs
from emogs import Cameras, EmotionBasis, Gaussians, RasterSettings, Rig
from emogs.checks import Arguments
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
