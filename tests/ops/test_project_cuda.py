"""project_gaussians on CUDA, emulated or real: forward gives the bits of the CPU, whatever is asked of it."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from emulation import on_cpu
from raster_scenes import RandomScene, random_scene

import emogs.ops.project
from emogs import Cameras, EmotionBasis, Gaussians, RasterSettings, Rig
from emogs.ops import project_gaussians
from emogs.ops.native import _C, launch
from emogs.ops.project import Splats
from emogs.ops.scene import broadcast_rows


def moved(owner: Any, device: torch.device) -> Any:
    """A tensor, or what holds tensors, on the device."""
    if isinstance(owner, torch.Tensor):
        return owner.to(device)
    if not dataclasses.is_dataclass(owner):
        return owner
    fields = {f.name: getattr(owner, f.name) for f in dataclasses.fields(owner)}
    return dataclasses.replace(owner, **{n: t.to(device) for n, t in fields.items() if isinstance(t, torch.Tensor)})


def project(arguments: dict[str, Any], device: torch.device) -> Splats:
    return project_gaussians(**{name: moved(value, device) for name, value in arguments.items()})


def assert_equals_cpu(arguments: dict[str, Any], device: torch.device, least_visible: float = 0.2) -> Splats:
    got = project(arguments, device)
    with on_cpu():
        expected = project(arguments, torch.device("cpu"))
    visible = expected.records[..., 7] > 0
    assert visible.numel() == 0 or least_visible <= visible.double().mean() <= 1
    for field in dataclasses.fields(Splats):
        left, right = getattr(got, field.name), getattr(expected, field.name)
        assert torch.equal(left.cpu(), right), field.name
    return got


def arguments_of(scene: RandomScene, *, emotion: bool = True, rig: bool = True, **settings: Any) -> dict[str, Any]:
    arguments = {"gaussians": scene.gaussians, "cameras": scene.cameras, "settings": RasterSettings(**settings)}
    if emotion:
        arguments |= {"emotion": scene.emotion, "basis": scene.basis}
    if rig:
        arguments |= {"rig": scene.rig}
    return arguments


def single(count: int, **options: Any) -> RandomScene:
    return random_scene(count, dtype=torch.float32, size=(64, 48), **{"spread": 0.8, **options})


@pytest.mark.parametrize("emotion", [False, True])
@pytest.mark.parametrize("count", [0, 1, 31, 32, 127, 128, 130, 260])
def test_any_count(device, count, emotion):
    assert_equals_cpu(arguments_of(single(count, seed=2), emotion=emotion, rig=False), device)


@pytest.mark.parametrize("batch", [(), (2,), (9,)], ids=str)
@pytest.mark.parametrize("degree", range(5))
def test_harmonics(device, degree, batch):
    assert_equals_cpu(arguments_of(single(45, sh_degree=degree, batch=batch)), device)


@pytest.mark.parametrize("options", [{}, {"antialiased": True}, {"normals": True}, {"radius_clip": 3.0}], ids=str)
@pytest.mark.parametrize("model", ["pinhole", "ortho", "fisheye"])
def test_camera_models_and_settings(device, model, options):
    for sh_degree in (None, 1):
        scene = single(70, model=model, sh_degree=sh_degree, spread=1.5)
        assert_equals_cpu(arguments_of(scene, **options), device, least_visible=0.05)


@pytest.mark.parametrize("count", [48, 50])  # four scalars at a time, or one
@pytest.mark.parametrize("channels", [1, 2, 5, 32])
def test_any_number_of_channels(device, channels, count):
    for batch, emotion in (((), True), ((9,), True), ((3,), False)):
        assert_equals_cpu(arguments_of(single(count, channels=channels, batch=batch), emotion=emotion), device)


@pytest.mark.parametrize("cameras", [1, 3, 11])
@pytest.mark.parametrize("batch", [(), (4,), (5,), (8,), (17,), (3, 6)], ids=str)
def test_images_beyond_a_chunk(device, batch, cameras):
    """More elements than a block takes at a time, and more cameras."""
    assert_equals_cpu(arguments_of(single(40, batch=batch, cameras=cameras, sh_degree=1)), device)


@pytest.mark.parametrize("count", [32, 38])
@pytest.mark.parametrize("components", [1, 5, 33, 70])
def test_components_beyond_a_tile(device, components, count):
    for batch in ((), (10,)):
        for sh_degree in (None, 2):
            scene = single(count, components=components, batch=batch, sh_degree=sh_degree)
            scene.emotion[..., 1::3] = 0
            arguments = arguments_of(scene)
            arguments["emotion"] = scene.emotion / components**0.5
            assert_equals_cpu(arguments, device)


@pytest.mark.parametrize("fields", [("means",), ("rotations", "colors"), ("log_scales", "logit_opacities")], ids=str)
@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("count", [64, 66])
def test_any_part_of_a_basis(device, count, half, fields):
    """Only these fields, or only these in float16."""
    for sh_degree, batch in ((None, (2,)), (0, (9,))):
        scene = single(count, sh_degree=sh_degree, batch=batch)
        given = scene.basis.given()
        basis = {n: t.half() if half and n in fields else t for n, t in given.items() if half or n in fields}
        assert_equals_cpu(arguments_of(scene) | {"basis": EmotionBasis(**basis)}, device)


def test_leading_sizes_broadcast(device):
    """Gaussians [2, 1], cameras [3], emotion [3] and rig [2, 1]; then Gaussians [5, 2], one for each element."""
    for lead, others in (((2, 1), (3,)), ((5, 2), (5, 2))):
        scene = single(37, sh_degree=1, batch=others)
        rows = [single(37, sh_degree=1, seed=s).gaussians for s in range(lead[0] * lead[1])]
        names = ("means", "quats", "scales", "opacities", "sh")
        stacked = {n: torch.stack([getattr(r, n) for r in rows]) for n in names}
        gaussians = Gaussians(**{n: t.view(*lead, *t.shape[1:]) for n, t in stacked.items()})
        eyes = [single(1, seed=s).cameras for s in range(3)]
        views, Ks = (torch.stack([getattr(c, n) for c in eyes]) for n in ("viewmats", "Ks"))
        cameras = Cameras(views, Ks, 64, 48) if others == (3,) else scene.cameras
        rig = single(37, batch=(2, 1) if others == (3,) else ()).rig
        plain = {"gaussians": gaussians, "cameras": cameras, "rig": rig}
        assert_equals_cpu(plain, device)
        assert_equals_cpu(plain | {"emotion": scene.emotion, "basis": scene.basis}, device)


@pytest.mark.parametrize("sh_degree", [None, 1])
def test_what_is_not_finite(device, sh_degree):
    """NaN and infinities in every field, in the basis, and by overflow: culled and counted alike."""
    for batch in ((2,), (9,)):
        scene = single(75, sh_degree=sh_degree, batch=batch, spread=0.3)
        g, nan, inf = scene.gaussians, float("nan"), float("inf")
        g.means[3, 1], g.quats[40, 2], g.scales[5, 0], g.opacities[66] = nan, inf, nan, -inf
        g.quats[7], g.scales[8] = 0, 1e30
        (g.colors if sh_degree is None else g.sh)[9].view(-1)[-1] = inf
        scene.basis.means[0, 11], scene.basis.colors[1, 12, 2], scene.basis.logit_opacities[1, 13] = inf, nan, nan
        out = assert_equals_cpu(arguments_of(scene), device)
        assert (out.non_finite >= 8).all()
        out = assert_equals_cpu(arguments_of(scene, emotion=False), device)
        assert (out.non_finite == 7).all()


@pytest.mark.parametrize("sh_degree", [None, 3])
def test_zero_emotion_is_no_emotion(device, sh_degree):
    scene = single(70, sh_degree=sh_degree)
    plain = project(arguments_of(scene, emotion=False), device)
    for elements in (2, 9):
        scene.emotion = torch.zeros(elements, 2)
        scene.basis.means[:, 3] = float("nan")  # components without weight are not read
        zero = project(arguments_of(scene, rig=False), device)
        plain = project(arguments_of(scene, emotion=False, rig=False), device)
        assert torch.equal(zero.records, plain.records.expand_as(zero.records))
        assert torch.equal(zero.colors, plain.colors.expand_as(zero.colors))


def test_one_element_without_a_weight_does_not_read_its_component(device):
    for elements in (2, 9):
        scene = single(70, batch=(elements,))
        scene.basis.rotations[1, 3:5] = float("inf")
        scene.emotion[0, 1] = 0
        out = assert_equals_cpu(arguments_of(scene), device)
        assert (out.non_finite[0] == 0).all() and (out.non_finite[1:] == 2).all()


def test_angles_beyond_the_short_reduction(device):
    scene = single(70)
    scene.basis.rotations[:] *= 10.0 ** torch.linspace(0, 37, 70)[:, None]
    assert_equals_cpu(arguments_of(scene), device)


def test_tensors_at_any_address(device):
    """Views that begin one scalar after what 16-byte loads need."""
    scene = single(68, channels=4)

    def shifted(tensor: torch.Tensor) -> torch.Tensor:
        return torch.cat([tensor.new_zeros(1), tensor.flatten()])[1:].view(tensor.shape)

    g = scene.gaussians
    gaussians = Gaussians(*(shifted(t) for t in (g.means, g.quats, g.scales, g.opacities, g.colors)))
    basis = EmotionBasis(**{n: shifted(t.half()) for n, t in scene.basis.given().items()})
    rig = Rig(scene.rig.binding, shifted(scene.rig.frames))
    arguments = {"gaussians": gaussians, "cameras": scene.cameras, "emotion": scene.emotion, "basis": basis, "rig": rig}
    assert_equals_cpu(arguments, device)


@pytest.mark.skipif(_C.cuda_architectures is not None, reason="this build has CUDA")
def test_a_build_without_cuda_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr(emogs.ops.project, "launch", lambda like: launch(like) | {"device": 0})
    with pytest.raises(
        RuntimeError, match="project_gaussians_forward: this build of emogs has no CUDA backend; rebuild"
    ):
        project(arguments_of(single(1)), torch.device("cpu"))


def test_faces_that_do_not_exist(device, request):
    """The CPU refuses them; CUDA, where looking would wait for the device, culls their Gaussians."""
    arguments = {n: moved(v, device) for n, v in arguments_of(single(70, spread=0.3)).items()}
    arguments["rig"].binding[5], arguments["rig"].binding[6] = -1, 3  # after the rig's own check
    if request.node.callspec.params["device"] == "cpu":
        with pytest.raises(ValueError, match=r"rig.binding must be in \[0, F=3\), got -1 to 3"):
            project_gaussians(**arguments)
    else:
        out = project_gaussians(**arguments)
        assert (out.non_finite == 2).all() and (out.records[..., 5:7, :] == 0).all()


def test_rows_of_a_batch_stay_where_they_are():
    """A CUDA graph reads them again at every replay, however many other batches came in between."""
    cpu, batches = torch.device("cpu"), tuple(torch.Size(size) for size in ([2], [1], [], [2]))
    rows = broadcast_rows(batches, cpu)
    assert rows.tolist() == [[0, 1], [0, 0], [0, 0], [0, 1]]
    for other in range(100):
        broadcast_rows((torch.Size([other]),) * 4, cpu)
    assert broadcast_rows(batches, cpu) is rows
