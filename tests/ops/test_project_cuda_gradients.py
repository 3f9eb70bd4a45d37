"""Gradients of project_gaussians on CUDA, emulated or real, against the CPU's.

Of one image both devices compute the very same formulas. So where sums have one order (what belongs to a Gaussian, over
cameras and then over elements) gradients have the same bits; where they have not (over Gaussians, and over elements
that warps share), CUDA may err from float64 by no more than the CPU's float32 does.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from emulation import on_cpu
from raster_leaves import leaves_of
from raster_scenes import RandomScene
from test_project_cuda import arguments_of, moved, single

from emogs import Gaussians, Rig
from emogs.ops import project_gaussians

CPU = torch.device("cpu")


def gradients(arguments: dict[str, Any], device: torch.device, dtype: torch.dtype = torch.float32) -> dict:
    """Of random weights times all splats, by class and field."""

    def cast(value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            return value.to(dtype) if value.dtype == torch.float32 else value
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            fields = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
            return dataclasses.replace(value, **{n: cast(t) for n, t in fields.items() if isinstance(t, torch.Tensor)})
        return value

    names = [name for name in arguments if name != "settings"]
    copies, leaves = leaves_of(*(moved(cast(arguments[name]), device) for name in names))
    out = project_gaussians(**dict(zip(names, copies, strict=True)), settings=arguments["settings"])
    loss = out.records.new_zeros(())
    for tensor in (out.records[..., :7], out.colors):
        weights = torch.randn(tensor.shape, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
        loss = loss + (tensor * weights.to(tensor)).sum()
    grads = torch.autograd.grad(loss, leaves.values())
    return {name: grad.cpu() for name, grad in zip(leaves, grads, strict=True)}


SUMMED = ("Cameras.", "tensor ", "Rig.")  # over Gaussians; "tensor" is the emotion


def assert_gradients_equal_cpu(arguments: dict[str, Any], device: torch.device, *, ordered: bool) -> None:
    """`ordered`: what belongs to a Gaussian is summed in one order on both devices."""
    got = gradients(arguments, device)
    with on_cpu():
        cpu, exact = gradients(arguments, CPU), gradients(arguments, CPU, torch.float64)
    for name, grad in got.items():
        assert grad.isfinite().all(), name
        if ordered and not name.startswith(SUMMED):
            assert torch.equal(grad, cpu[name]), name
            continue
        # In any order a sum of n terms errs by up to n - 1 roundings of the sum of their magnitudes; orders differ in
        # luck, for which a factor of 3 stands, and eight roundings of the largest gradient where the CPU had much.
        error, largest = (grad - exact[name]).abs().max(), exact[name].abs().max()
        assert error <= 3 * (cpu[name] - exact[name]).abs().max() + 1e-6 * largest, name


@pytest.mark.parametrize("sh_degree", [None, 0, 1, 2, 3, 4])
@pytest.mark.parametrize("model", ["pinhole", "ortho", "fisheye"])
def test_every_gradient_of_every_kind(device, model, sh_degree):
    scene = single(70, sh_degree=sh_degree, model=model, batch=(3,), cameras=1)
    assert_gradients_equal_cpu(arguments_of(scene), device, ordered=True)
    one = single(70, sh_degree=sh_degree, model=model, batch=(), cameras=3)
    assert_gradients_equal_cpu(arguments_of(one, emotion=sh_degree is not None, rig=False), device, ordered=True)


@pytest.mark.parametrize("sh_degree", [None, 1])
@pytest.mark.parametrize("options", [{"antialiased": True}, {"normals": True}], ids=str)
def test_options(device, options, sh_degree):
    for emotion in (False, True):
        scene = single(45, sh_degree=sh_degree, cameras=1)
        assert_gradients_equal_cpu(arguments_of(scene, emotion=emotion, **options), device, ordered=True)


@pytest.mark.parametrize("count", [1, 31, 64, 130])
@pytest.mark.parametrize("batch", [(), (4,), (5,), (8,), (17,), (2, 9)], ids=str)
def test_elements_beyond_a_chunk(device, batch, count):
    scene = single(count, batch=batch, cameras=2, seed=2)
    many = scene.emotion[..., 0].numel() >= 8
    assert_gradients_equal_cpu(arguments_of(scene), device, ordered=False)
    if not many:
        one = dataclasses.replace(scene, cameras=single(count, cameras=1, seed=2).cameras)
        assert_gradients_equal_cpu(arguments_of(one), device, ordered=True)


@pytest.mark.parametrize("count", [32, 38])
@pytest.mark.parametrize("channels", [1, 2, 5, 32])
def test_any_number_of_channels(device, channels, count):
    for batch in ((2,), (9,)):
        for emotion in (True, False):
            scene = single(count, channels=channels, batch=batch, cameras=1)
            arguments = arguments_of(scene, emotion=emotion)
            assert_gradients_equal_cpu(arguments, device, ordered=batch == (2,) or not emotion)


@pytest.mark.parametrize("components", [1, 5, 33, 70])
def test_components_beyond_a_tile(device, components):
    for batch in ((2,), (10,)):
        for count in (32, 34):
            scene = single(count, components=components, batch=batch, cameras=1)
            scene.emotion[..., 1::3] = 0
            arguments = arguments_of(scene) | {"emotion": scene.emotion / components**0.5}
            assert_gradients_equal_cpu(arguments, device, ordered=batch == (2,))


def test_half_basis(device):
    for batch in ((2,), (9,)):
        for count in (32, 33):
            scene = single(count, batch=batch, cameras=1)
            basis = dataclasses.replace(scene.basis, **{n: t.half() for n, t in scene.basis.given().items()})
            arguments = arguments_of(scene) | {"basis": basis}
            got = gradients(arguments, device)
            with on_cpu():
                expected = gradients(arguments, CPU)
            for name, grad in got.items():
                half = {"rtol": 2e-3, "atol": 1e-6}  # of gradients rounded to float16: one step
                single_sums = {"rtol": 1e-4, "atol": 1e-5 * float(expected[name].abs().max())}
                torch.testing.assert_close(grad, expected[name], **(half if grad.dtype == torch.half else single_sums))


def test_rows_that_share(device):
    """Gaussians [2, 1], cameras [3], emotion [3], rig [2, 1]: rows add up over the elements that use them."""
    first, second = single(37, sh_degree=1, batch=(3,)), single(37, sh_degree=1, seed=1)
    names = ("means", "quats", "scales", "opacities", "sh")
    pairs = {n: torch.stack([getattr(s.gaussians, n) for s in (first, second)])[:, None] for n in names}
    cameras = [single(1, seed=s, cameras=1).cameras for s in range(3)]
    arguments = arguments_of(first) | {
        "gaussians": Gaussians(**pairs),
        "cameras": dataclasses.replace(
            cameras[0], **{n: torch.stack([getattr(c, n) for c in cameras]) for n in ("viewmats", "Ks")}
        ),
        "rig": Rig(first.rig.binding, single(37, batch=(2, 1)).rig.frames),
    }
    assert_gradients_equal_cpu(arguments, device, ordered=True)
    plain = {n: v for n, v in arguments.items() if n not in ("emotion", "basis")}
    assert_gradients_equal_cpu(plain, device, ordered=True)


@pytest.mark.parametrize("sh_degree", [None, 1])
def test_what_is_culled_has_no_gradient(device, sh_degree):
    for batch in ((2,), (9,)):
        scene = single(75, sh_degree=sh_degree, batch=batch, spread=0.3)
        scene.gaussians.means[3, 1], scene.gaussians.quats[7] = float("nan"), 0
        scene.gaussians.opacities[9] = 0
        scene.basis.means[0, 11], scene.basis.colors[1, 12, 2] = float("inf"), float("nan")
        arguments = arguments_of(scene)
        got = gradients(arguments, device)
        for name, grad in got.items():
            assert grad.isfinite().all(), name
        for culled in (3, 7, 9, 11, 12):
            assert (got["Gaussians.means"][culled] == 0).all() and (got["EmotionBasis.means"][:, culled] == 0).all()


@pytest.mark.parametrize("count", [70, 700])  # the second: faces with so many Gaussians that a block takes one
def test_long_and_empty_lists_of_faces(device, count):
    scene = single(count, faces=5, cameras=1)
    scene.rig.binding.clamp_(0, 3)
    arguments = arguments_of(scene, emotion=False)
    assert_gradients_equal_cpu(arguments, device, ordered=True)
    assert (gradients(arguments, device)["Rig.frames"][..., 4, :] == 0).all()


def test_gradients_only_where_asked(device):
    """Any one alone has the bits that it has among all."""
    for scene in (single(40, sh_degree=1), single(40, batch=(9,))):
        arguments = {n: moved(v, device) for n, v in arguments_of(scene).items()}
        everything = gradients(arguments, device)
        for owner, field in {
            "gaussians": "scales", "cameras": "Ks", "basis": "log_scales", "rig": "frames", "emotion": ""
        }.items():  # fmt: skip
            one = arguments[owner]
            leaf = (getattr(one, field) if field else one).detach().clone().requires_grad_()
            alone = arguments | {owner: dataclasses.replace(one, **{field: leaf}) if field else leaf}
            out = project_gaussians(**alone)
            loss = out.records.new_zeros(())
            for tensor in (out.records[..., :7], out.colors):
                weights = torch.randn(tensor.shape, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
                loss = loss + (tensor * weights.to(tensor)).sum()
            (grad,) = torch.autograd.grad(loss, leaf)
            name = f"{type(one).__name__}.{field}" if field else "tensor 3"
            assert torch.equal(grad.cpu(), everything[name]), name


def test_nothing_to_run(device):
    def empty(scene: RandomScene) -> None:
        got = gradients(arguments_of(scene), device)
        assert all((grad == 0).all() for grad in got.values())

    empty(single(0))
    empty(single(5, batch=(0,)))


def test_runs_agree(device):
    for batch in ((3,), (9,)):
        arguments = arguments_of(single(140, sh_degree=2, batch=batch))
        left, right = gradients(arguments, device), gradients(arguments, device)
        assert all(torch.equal(grad, right[name]) for name, grad in left.items())
