"""project_gaussians: against the torch reference and gsplat's, gradients, culling, emotion at its limits, refusals."""

from __future__ import annotations

import dataclasses
from typing import get_args

import pytest
import torch
from raster_reference import Cloud, harmonics, project
from raster_scenes import random_scene

from emogs import EmotionBasis, Gaussians, RasterSettings, Rig
from emogs.cameras import CameraModel
from emogs.checks import Arguments
from emogs.ops import project_gaussians
from emogs.ops.project import make_scene

# float64 against float64, a few dozen operations: anything but rounding is a wrong formula
EXACT = {"rtol": 1e-10, "atol": 1e-12}


@pytest.fixture
def gsplat_reference():
    return pytest.importorskip("gsplat.cuda._torch_impl", reason="gsplat is not installed: no parity tests")


@pytest.mark.parametrize("antialiased", [False, True])
@pytest.mark.parametrize("model", get_args(CameraModel))
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_projection_equals_gsplat(gsplat_reference, dtype, model, antialiased):
    scene = random_scene(500, dtype=dtype, size=(64, 48), spread=0.6, model=model)
    splats = project_gaussians(scene.gaussians, scene.cameras, settings=RasterSettings(antialiased=antialiased))
    g, cameras = scene.gaussians, scene.cameras
    covariances, _ = gsplat_reference._quat_scale_to_covar_preci(g.quats, g.scales, compute_preci=False)
    radii, means, depths, conics, factors = gsplat_reference._fully_fused_projection(
        g.means, covariances, cameras.viewmats, cameras.Ks, 64, 48, calc_compensations=antialiased, camera_model=model
    )
    opacities = g.opacities * factors if antialiased else g.opacities.expand(2, -1)
    visible = splats.radii[..., 0] > 0
    assert visible.float().mean() > 0.5
    assert (radii[visible] > 0).all(), "what is drawn is visible to gsplat, too"
    # gsplat subtracts in the determinant where emogs does not: the float32 tolerance is gsplat's rounding
    tolerance = EXACT if dtype == torch.float64 else {"rtol": 1e-3, "atol": 1e-4}
    if model == "fisheye" and dtype == torch.float64:
        tolerance = {"rtol": 1e-4, "atol": 1e-5}  # gsplat adds 1e-7 to squared lengths of 1e-3 and more
    torch.testing.assert_close(splats.means[visible], means[visible], **tolerance)
    torch.testing.assert_close(splats.conics[visible], conics[visible], **tolerance)
    torch.testing.assert_close(splats.depths[visible], depths[visible], **tolerance)
    torch.testing.assert_close(splats.opacities[visible], opacities[visible], **tolerance)


@pytest.mark.parametrize("degree", range(5))
def test_harmonics_equal_gsplat_and_legendre(gsplat_reference, degree):
    scene = random_scene(50, sh_degree=degree, cameras=1)
    view = scene.cameras.viewmats[0]
    seen = scene.gaussians.means - torch.linalg.inv(view)[:3, 3]
    expected = (gsplat_reference._spherical_harmonics(degree, seen, scene.gaussians.sh) + 0.5).clamp(min=0)
    splats = project_gaussians(scene.gaussians, scene.cameras)
    visible = splats.radii[0, :, 0] > 0
    assert visible.sum() > 30
    torch.testing.assert_close(splats.colors[0, visible], expected[visible], **EXACT)
    basis = harmonics(torch.nn.functional.normalize(seen, dim=-1), (degree + 1) ** 2)
    ours = (torch.einsum("ns,nsc->nc", basis, scene.gaussians.sh) + 0.5).clamp(min=0)
    torch.testing.assert_close(splats.colors[0, visible], ours[visible], **EXACT)


@pytest.mark.parametrize("antialiased", [False, True])
@pytest.mark.parametrize("model", get_args(CameraModel))
def test_reference_agrees_far_outside_the_image(model, antialiased):
    """Where a pinhole's Jacobian is clamped: the tests of gradients rely on the reference there."""
    scene = random_scene(300, size=(32, 24), spread=2.0, model=model)
    settings = RasterSettings(antialiased=antialiased)
    splats = project_gaussians(scene.gaussians, scene.cameras, settings=settings)
    for c in range(2):
        g, view, K = scene.gaussians, scene.cameras.viewmats[c], scene.cameras.Ks[c]
        cloud = Cloud(g.means, g.quats, g.scales, g.opacities, g.colors)
        screen = project(cloud, view, K, 32, 24, settings, turns=None, model=model)
        visible = splats.radii[c, :, 0] > 0
        torch.testing.assert_close(splats.means[c, visible], screen.means[visible], **EXACT)
        conics = torch.linalg.inv(screen.covariances)[:, [0, 0, 1], [0, 1, 1]]
        torch.testing.assert_close(splats.conics[c, visible], conics[visible], **EXACT)
        torch.testing.assert_close(splats.opacities[c, visible], screen.opacities[visible], **EXACT)


@pytest.mark.parametrize(
    ("sh_degree", "options"), [(None, False), (0, False), (2, False), (4, False), (None, True), (2, True)]
)
@pytest.mark.parametrize("spread", [0.3, 1.5])  # the second reaches where the Jacobian is clamped
@pytest.mark.parametrize("model", get_args(CameraModel))
def test_gradients_of_every_input(sh_degree, spread, model, options):
    """Antialiased and with normals if `options`."""
    scene = random_scene(4, sh_degree=sh_degree, channels=5, spread=spread, seed=3, scale=0.3, model=model)
    g, basis = scene.gaussians, scene.basis
    stored = g.colors if g.sh is None else g.sh
    fields = list(basis.given().values())

    def splats(means, quats, scales, opacities, colors, viewmats, Ks, emotion, frames, *fields):
        gaussians = Gaussians(means, quats, scales, opacities, **{"colors" if g.sh is None else "sh": colors})
        cameras = dataclasses.replace(scene.cameras, viewmats=viewmats, Ks=Ks)
        rig = Rig(scene.rig.binding, frames)
        out = project_gaussians(
            gaussians,
            cameras,
            emotion=emotion,
            basis=EmotionBasis(*fields),
            rig=rig,
            settings=RasterSettings(alpha_cut=1e-6, antialiased=options, normals=options),
        )
        return out.records[..., :7], out.colors

    inputs = (g.means, g.quats, g.scales, g.opacities, stored, scene.cameras.viewmats, scene.cameras.Ks, scene.emotion)
    inputs = [t.clone().requires_grad_() for t in (*inputs, scene.rig.frames, *fields)]
    assert (splats(*inputs)[0][..., 5] > 0).float().mean() > 0.5, "most splats are visible"
    assert torch.autograd.gradcheck(splats, inputs, eps=1e-6, atol=1e-6, rtol=1e-5)


def test_gradients_only_where_asked():
    scene = random_scene(5)
    emotion = scene.emotion.clone().requires_grad_()
    project_gaussians(scene.gaussians, scene.cameras, emotion=emotion, basis=scene.basis).records[
        ..., :7
    ].sum().backward()
    asked = emotion.grad.clone()
    everything = emotion.detach().clone().requires_grad_()
    scales = scene.gaussians.scales.clone().requires_grad_()
    project_gaussians(
        dataclasses.replace(scene.gaussians, scales=scales), scene.cameras, emotion=everything, basis=scene.basis
    ).records[..., :7].sum().backward()
    assert torch.equal(asked, everything.grad)


@pytest.mark.parametrize("sh_degree", [None, 3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_zero_emotion_is_no_emotion(sh_degree, dtype):
    scene = random_scene(200, sh_degree=sh_degree, dtype=dtype)
    plain = project_gaussians(scene.gaussians, scene.cameras)
    zero = project_gaussians(scene.gaussians, scene.cameras, emotion=torch.zeros(2, dtype=dtype), basis=scene.basis)
    assert torch.equal(plain.records, zero.records)
    assert torch.equal(plain.colors, zero.colors)


def test_components_of_weight_zero_are_not_read():
    scene = random_scene(20)
    poisoned = EmotionBasis(**{name: t.clone() for name, t in scene.basis.given().items()})
    for field in poisoned.given().values():
        field[1] = float("nan")
    emotion = torch.tensor([0.7, 0.0], dtype=torch.float64)
    one = EmotionBasis(**{name: t[:1] for name, t in scene.basis.given().items()})
    left = project_gaussians(scene.gaussians, scene.cameras, emotion=emotion, basis=poisoned)
    right = project_gaussians(scene.gaussians, scene.cameras, emotion=emotion[:1], basis=one)
    assert torch.equal(left.records, right.records)
    assert torch.equal(left.colors, right.colors)


@pytest.mark.parametrize("opacity", [0.0, 1.0, 1e-30, 1 - 2**-24, 0.3])
@pytest.mark.parametrize("shift", [0.0, 1e-6, 3.0, -3.0, 30.0, -30.0, 1e4, -1e4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_opacity_shift_at_its_limits(opacity, shift, dtype):
    """Against sigmoid(logit + shift) in float64; 0 and 1 stay; gradients are finite everywhere."""
    scene = random_scene(1, dtype=dtype, spread=0.0)
    opacities = torch.tensor([opacity], dtype=dtype, requires_grad=True)
    gaussians = dataclasses.replace(scene.gaussians, opacities=opacities)
    shifts = torch.tensor([[shift]], dtype=dtype, requires_grad=True)
    settings = RasterSettings(alpha_cut=1e-38)
    out = project_gaussians(
        gaussians,
        scene.cameras,
        emotion=torch.ones(1, dtype=dtype),
        basis=EmotionBasis(logit_opacities=shifts),
        settings=settings,
    )
    expected = torch.sigmoid(torch.logit(opacities.detach().double()) + max(min(shift, 80.0), -80.0))
    if opacity in (0.0, 1.0):
        expected = torch.tensor([opacity], dtype=torch.float64)
    got = out.opacities[0]
    torch.testing.assert_close(got.double(), expected, rtol=0, atol=4 * torch.finfo(dtype).eps)
    if shift == 0 and opacity > 0:
        assert torch.equal(got, opacities)
    got.sum().backward()
    assert opacities.grad.isfinite().all() and shifts.grad.isfinite().all()
    if abs(shift) > 80:
        assert shifts.grad == 0, "no shift moves an opacity any further"
    if 1e-20 < opacity < 1 and abs(shift) < 10:
        torch.testing.assert_close(
            shifts.grad[0].double(),
            expected * (1 - expected),
            rtol=1e-4 if dtype == torch.float32 else 1e-10,
            atol=1e-12,
        )


def test_leading_sizes_broadcast():
    """Gaussians [2, 1], cameras [], emotion [3], rig [2, 3]: element (i, j) is as if rendered alone."""
    first, second = random_scene(7, seed=1), random_scene(7, seed=2)
    frames = random_scene(7, batch=(2, 3), seed=5).rig.frames
    emotion = random_scene(7, batch=(3,), seed=6).emotion
    names = ("means", "quats", "scales", "opacities", "colors")
    both = Gaussians(*(torch.stack([getattr(s.gaussians, n) for s in (first, second)])[:, None] for n in names))
    out = project_gaussians(both, first.cameras, emotion=emotion, basis=first.basis, rig=Rig(first.rig.binding, frames))
    assert out.records.shape == (2, 3, 2, 7, 8)
    for i, scene in enumerate((first, second)):
        for j in range(3):
            alone = project_gaussians(
                scene.gaussians,
                first.cameras,
                emotion=emotion[j],
                basis=first.basis,
                rig=Rig(first.rig.binding, frames[i, j]),
            )
            assert torch.equal(out.records[i, j], alone.records)
            assert torch.equal(out.colors[i, j], alone.colors)


@pytest.mark.parametrize("field", ["means", "quats", "scales", "opacities", "colors", "sh"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_non_finite_gaussians_are_culled_and_counted(field, value):
    scene = random_scene(5, spread=0.1, sh_degree=1 if field == "sh" else None)
    poisoned = getattr(scene.gaussians, field).clone()
    poisoned[(2, *[0] * (poisoned.dim() - 1))] = value
    gaussians = dataclasses.replace(scene.gaussians, **{field: poisoned.requires_grad_()})
    out = project_gaussians(gaussians, scene.cameras)
    assert out.non_finite.tolist() == [1, 1]
    assert (out.records[:, 2] == 0).all() and (out.colors[:, 2] == 0).all()
    assert out.records.isfinite().all() and out.colors.isfinite().all()
    (out.records[..., :7].sum() + out.colors.sum()).backward()
    assert gaussians.__dict__[field].grad.isfinite().all()


def test_degenerate_shapes():
    """A zero quaternion is culled as non-finite; zero scales leave the blur; a huge scale overflows into non-finite."""
    g = random_scene(3, spread=0.0, cameras=1, dtype=torch.float32)
    quats, scales = g.gaussians.quats.clone(), g.gaussians.scales.clone()
    quats[0], scales[1], scales[2] = 0, 0, 1e30
    out = project_gaussians(dataclasses.replace(g.gaussians, quats=quats, scales=scales), g.cameras)
    assert out.non_finite.item() == 2
    torch.testing.assert_close(out.conics[0, 1], torch.tensor([1 / 0.3, 0, 1 / 0.3]))


def test_culling_by_depth_view_and_opacity():
    scene = random_scene(4, spread=0.0, cameras=1)
    means = torch.tensor([[0, 0, 5.0], [50.0, 0, 0], [0, 0, 0], [0, 0, 0]], dtype=torch.float64)
    opacities = torch.tensor([0.5, 0.5, 1 / 256, 1 / 254], dtype=torch.float64)
    out = project_gaussians(dataclasses.replace(scene.gaussians, means=means, opacities=opacities), scene.cameras)
    assert (out.radii[0, :, 0] > 0).tolist() == [
        False,
        False,
        False,
        True,
    ]  # behind, beside, too faint, just bright enough
    assert out.outside.item() == 3 and out.non_finite.item() == 0


@pytest.mark.parametrize("count", [1, 15, 16, 17, 63, 65])
@pytest.mark.parametrize("sh_degree", [None, 0, 1, 2, 3, 4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_place_in_a_register_does_not_show(count, sh_degree, dtype, isa):
    """Any run of Gaussians gives the bits that it has among others; one of them is not finite."""
    scene = random_scene(150, dtype=dtype, sh_degree=sh_degree, spread=0.8)
    scene.gaussians.means[20, 1] = float("nan")

    def run(begin: int, end: int):
        stored = {f.name: getattr(scene.gaussians, f.name) for f in dataclasses.fields(Gaussians)}
        gaussians = Gaussians(**{name: None if t is None else t[begin:end] for name, t in stored.items()})
        basis = EmotionBasis(**{name: t[:, begin:end] for name, t in scene.basis.given().items()})
        rig = Rig(scene.rig.binding[begin:end], scene.rig.frames)
        return project_gaussians(gaussians, scene.cameras, emotion=scene.emotion, basis=basis, rig=rig)

    everything = run(0, 150)
    assert 0.3 < (everything.radii[..., 0] > 0).double().mean() < 1
    for begin in (0, 11, 150 - count):
        part, same = run(begin, begin + count), everything.records[..., begin : begin + count, :]
        assert torch.equal(part.records, same)
        assert torch.equal(part.colors, everything.colors[..., begin : begin + count, :])
        has_nan = begin <= 20 < begin + count
        assert (part.non_finite == has_nan).all()
        assert torch.equal(part.outside, (same[..., 7] == 0).sum(-1) - int(has_nan))


def test_no_gaussians_and_no_batch():
    empty = random_scene(0)
    out = project_gaussians(empty.gaussians, empty.cameras, emotion=empty.emotion, basis=empty.basis, rig=empty.rig)
    assert out.records.shape == (2, 2, 0, 8)
    scene = random_scene(5, batch=(0,))
    gaussians = dataclasses.replace(scene.gaussians, means=scene.gaussians.means.requires_grad_())
    out = project_gaussians(gaussians, scene.cameras, emotion=scene.emotion, basis=scene.basis)
    assert out.records.shape == (0, 2, 5, 8)
    out.records.sum().backward()
    assert (gaussians.means.grad == 0).all()


def test_second_derivatives_are_refused():
    scene = random_scene(3)
    means = scene.gaussians.means.clone().requires_grad_()
    out = project_gaussians(dataclasses.replace(scene.gaussians, means=means), scene.cameras)
    (grad,) = torch.autograd.grad(out.records[..., :7].square().sum(), means, create_graph=True)
    with pytest.raises(NotImplementedError, match="second derivatives"):
        grad.sum().backward()


def leaf(owner):
    """A copy whose floating tensors are leaves that require gradients."""
    if isinstance(owner, torch.Tensor):
        return owner.detach().clone().requires_grad_()
    fields = {f.name: getattr(owner, f.name) for f in dataclasses.fields(owner)}
    floats = {k: v for k, v in fields.items() if isinstance(v, torch.Tensor) and v.is_floating_point()}
    return dataclasses.replace(owner, **{name: leaf(value) for name, value in floats.items()})


@pytest.mark.parametrize("model", get_args(CameraModel))
@pytest.mark.parametrize("options", [{}, {"antialiased": True, "normals": True}], ids=["plain", "options"])
def test_operation_is_sound(model, options):
    scene = random_scene(4, model=model)
    settings = RasterSettings(**options)
    for modulated in ((None, None, None), (leaf(scene.emotion), leaf(scene.basis), leaf(scene.rig))):
        arguments = make_scene(
            Arguments("test"), leaf(scene.gaussians), leaf(scene.cameras), *modulated, settings=settings
        )
        torch.library.opcheck(torch.ops.emogs.project_gaussians, tuple(arguments))
