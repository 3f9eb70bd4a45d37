"""Projection: emotion, rig, camera and harmonics turn Gaussians into splats, in one pass that reads each Gaussian once.

The torch operations are `emogs::project_gaussians` and its backward; the arithmetic is in csrc/math (emotion.h, rig.h,
camera.h, splat.h, sh.h).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, get_args

import torch
from torch import Tensor

from emogs.cameras import CameraModel, Cameras
from emogs.checks import Arguments
from emogs.gaussians import EmotionBasis, Gaussians, Rig
from emogs.ops.groups import lists_by_key
from emogs.ops.native import _C, launch, new_empty, routed
from emogs.ops.scene import SCENE_SIZE, SCHEMA, Scene, broadcast_rows, check_fit, check_scene, split_scene
from emogs.ops.settings import RasterSettings

SPLAT_SIZE = 8
# Gaussians whose part in a camera's or an emotion's gradient is summed in one go; never from the thread count.
_SLICE = 2048
_CUDA_SLICE = 32  # csrc/project/project.cuh's kWarp
# Gradients that need not be zero before; the Gaussians' own only where all batch elements share them.
_BASIS = {name for name in Scene._fields if name.startswith("basis")}
_GAUSSIANS = {"means", "quats", "scales", "opacities", "colors"}
_CAMERA_SUMS = 19  # csrc/project/project_backward_cpu.cpp's kCameraSums


@dataclass(frozen=True)
class Splats:
    """Gaussians as C cameras see them: [..., C, N, 8] records of one cache line half, and colours [..., C, N, D].

    Culled splats are all zeros. Gradients flow through both tensors, except to the reach.
    """

    records: Tensor
    """[..., C, N, 8] x, y (pixels), conic a, b, c (1/pixels^2), opacity, depth (camera-space z), reach_y."""
    colors: Tensor
    """[..., C, N, D], or [..., C, N, D + 3] with `RasterSettings.normals`: world-space unit vectors behind the colours.
    """
    outside: Tensor
    """[..., C] int64: how many were culled for depth, for lying outside the image or for being too faint or small."""
    non_finite: Tensor
    """[..., C] int64: how many were culled for infinities or NaN (a zero quaternion makes some)."""

    @property
    def means(self) -> Tensor:
        """[..., C, N, 2] pixels."""
        return self.records[..., 0:2]

    @property
    def conics(self) -> Tensor:
        """[..., C, N, 3] inverse covariance xx, xy, yy, 1/pixels^2."""
        return self.records[..., 2:5]

    @property
    def opacities(self) -> Tensor:
        """[..., C, N] after the emotion, lowered where `RasterSettings.antialiased`."""
        return self.records[..., 5]

    @property
    def depths(self) -> Tensor:
        """[..., C, N] camera-space z."""
        return self.records[..., 6]

    @property
    def radii(self) -> Tensor:
        """[..., C, N, 2] half extents, pixels, of the ellipse outside which alpha is below the cut; 0 if culled."""
        reach = self.records[..., 7].detach()
        visible = reach > 0
        a, c = (torch.where(visible, self.records[..., k].detach(), 1) for k in (2, 4))
        return torch.stack([reach * (c / a).sqrt(), reach], -1)


def project_gaussians(
    gaussians: Gaussians,
    cameras: Cameras,
    *,
    emotion: Tensor | None = None,
    basis: EmotionBasis | None = None,
    rig: Rig | None = None,
    settings: RasterSettings = RasterSettings(),
) -> Splats:
    """The first stage of `emogs.rasterize`, with its arguments: modulate, carry by the rig, project, evaluate colours.

    A mean projects to its pixel as `cameras.model` says (see `Cameras`); the covariance goes through the Jacobian there
    (EWA splatting, Zwicker et al. 2001) and gets `settings.blur` on both axes.

    >>> from emogs import Cameras, Gaussians, look_at, pinhole
    >>> one = Gaussians(torch.zeros(1, 3), torch.eye(4)[:1], torch.ones(1, 3), torch.ones(1), colors=torch.ones(1, 3))
    >>> camera = Cameras(look_at((0, 0, 4.0), (0, 0, 0.0))[None], pinhole(64, 64, 40)[None], 64, 64)
    >>> project_gaussians(one, camera).means
    tensor([[[32., 32.]]])
    """
    scene = make_scene(Arguments("project_gaussians"), gaussians, cameras, emotion, basis, rig, settings)
    return Splats(*_project_gaussians(*scene))


def make_scene(
    arguments: Arguments,
    gaussians: Gaussians,
    cameras: Cameras,
    emotion: Tensor | None,
    basis: EmotionBasis | None,
    rig: Rig | None,
    settings: RasterSettings,
) -> Scene:
    """Checks that the arguments of one call fit each other (each was checked alone when made), and lines them up."""
    arguments.check_type("gaussians", gaussians, Gaussians)
    arguments.check_type("cameras", cameras, Cameras)
    if basis is not None:
        arguments.check_type("basis", basis, EmotionBasis)
    if rig is not None:
        arguments.check_type("rig", rig, Rig)
    arguments.check_type("settings", settings, RasterSettings)
    arguments.check("gaussians.means", gaussians.means, "... N 3")
    dtype = (gaussians.means.dtype,)
    arguments.check("cameras.viewmats", cameras.viewmats, "... C 4 4", dtype)
    changes: dict[str, Tensor] = {}
    if emotion is not None:
        if basis is None:
            raise arguments.fail("basis", "given where emotion is", "None")
        arguments.sizes["K"] = basis.components
        arguments.check("emotion", emotion, "... K", dtype)
        shapes = {"means": "K N 3", "rotations": "K N 3", "log_scales": "K N 3", "logit_opacities": "K N"}
        shapes["colors"] = "K N 3" if gaussians.colors is None else f"K N {gaussians.colors.shape[-1]}"
        changes = basis.given()
        for name, value in changes.items():
            arguments.check(f"basis.{name}", value, shapes[name], (*dtype, torch.float16))
    if rig is not None:
        arguments.check("rig.binding", rig.binding, "N", (torch.int32,))
        arguments.check("rig.frames", rig.frames, "... F 8", dtype)
    colors = gaussians.sh if gaussians.colors is None else gaussians.colors
    assert colors is not None  # Gaussians has one of them
    scene = Scene(
        means=gaussians.means,
        quats=gaussians.quats,
        scales=gaussians.scales,
        opacities=gaussians.opacities,
        colors=colors,
        viewmats=cameras.viewmats,
        Ks=cameras.Ks,
        emotion=emotion,
        basis_means=changes.get("means"),
        basis_rotations=changes.get("rotations"),
        basis_log_scales=changes.get("log_scales"),
        basis_logit_opacities=changes.get("logit_opacities"),
        basis_colors=changes.get("colors"),
        binding=None if rig is None else rig.binding,
        frames=None if rig is None else rig.frames,
        sh=gaussians.colors is None,
        width=cameras.width,
        height=cameras.height,
        model=cameras.model,
        settings=settings.projection,
        antialiased=settings.antialiased,
        normals=settings.normals,
    )
    try:
        _ = scene.batch
    except RuntimeError:
        names = ("gaussians", "cameras", "emotion", "rig")
        sizes = ", ".join(f"{name} {list(batch)}" for name, batch in zip(names, scene.batches, strict=True))
        raise ValueError(f"{arguments.function}: leading sizes must broadcast, got {sizes}") from None
    return scene


torch.library.define(
    "emogs::project_gaussians",
    f"({SCHEMA}) -> (Tensor records, Tensor colors, Tensor outside, Tensor non_finite)",
)
torch.library.define(
    "emogs::project_gaussians_backward",
    f"({SCHEMA}, Tensor records, Tensor grad_records, Tensor grad_colors, bool[] needed) -> Tensor[]",
)


def project_native(*args):
    scene = Scene(*args)
    where = launch(scene.means)
    _check(scene, where)
    splats, like = (*scene.images, scene.gaussians), scene.means
    records, colors = (new_empty(like, (*splats, size)) for size in (SPLAT_SIZE, scene.colors.shape[-1]))
    normals = new_empty(like, (*splats, 3)) if scene.normals else None
    culled = torch.zeros((*scene.images, 2), dtype=torch.int64, device=scene.means.device)
    _C.project_gaussians_forward(
        **_common(scene, where), splats=records, splat_colors=colors, splat_normals=normals, culled=culled
    )
    if normals is not None:
        colors = torch.cat([colors, normals], -1)
    return records, colors, culled[..., 0].clone(), culled[..., 1].clone()


def _check(scene: Scene, where: dict[str, Any]) -> None:
    check_scene(scene)
    # On CUDA looking would wait for the device: there, Gaussians of faces that do not exist are culled as non-finite.
    if where["device"] < 0 and scene.binding is not None and scene.frames is not None:
        Arguments("project_gaussians").check_indices("rig.binding", scene.binding, "F", scene.frames.shape[-2])


@torch.library.register_fake("emogs::project_gaussians")
def _forward_fake(*args):
    scene = Scene(*args)
    records = scene.means.new_empty((*scene.images, scene.gaussians, SPLAT_SIZE))
    colors = scene.means.new_empty((*scene.images, scene.gaussians, scene.channels))
    counts = [scene.means.new_empty(scene.images, dtype=torch.int64) for _ in range(2)]
    return records, colors, *counts


def _backward(*args):
    scene, (records, grad_records, grad_colors, needed) = Scene(*args[:SCENE_SIZE]), args[SCENE_SIZE:]
    where = launch(scene.means)
    _check(scene, where)
    splats = (*scene.images, scene.gaussians)
    check_fit("needed", torch.Size([len(needed)]), (len(scene.tensors),))
    check_fit("records", records.shape, (*splats, SPLAT_SIZE))
    check_fit("grad_records", grad_records.shape, (*splats, SPLAT_SIZE))
    check_fit("grad_colors", grad_colors.shape, (*splats, scene.channels))
    grad_colors, grad_normals = grad_colors.split([scene.colors.shape[-1], 3 * scene.normals], -1)
    elements, cameras = scene.batch.numel(), scene.images[-1]
    on_cuda = where["device"] >= 0
    # Kernels write these, unless there is nothing to run. Gradients of a float16 basis are summed in float32.
    written = _BASIS | _GAUSSIANS if scene.batches[0].numel() == 1 else _BASIS
    if not elements * cameras * scene.gaussians:
        written = set()
    grads: dict[str, Tensor | None] = dict.fromkeys(Scene._fields[:15])
    for name, tensor, wanted in zip(grads, scene.tensors, needed, strict=True):
        if wanted and tensor is not None:
            grads[name] = new_empty(scene.means, tensor.shape)
            if name not in written:
                grads[name].zero_()
    cameras_too = grads["viewmats"] is not None or grads["Ks"] is not None
    if cameras_too:
        for name in ("viewmats", "Ks"):  # they come together
            grads[name] = torch.zeros_like(getattr(scene, name), memory_format=torch.contiguous_format)
    slices = max(1, -(-scene.gaussians // (_CUDA_SLICE if on_cuda else _SLICE)))
    scratch = scene.means.new_empty if on_cuda else scene.means.new_zeros
    with_frames = grads["frames"] is not None
    _C.project_gaussians_backward(
        **_common(scene, where),
        splats=_stored(records, where),
        splat_colors=None,
        splat_normals=None,
        culled=None,
        slices=slices,
        grad_splats=_stored(grad_records, where),
        grad_splat_colors=_stored(grad_colors, where),
        grad_splat_normals=grad_normals.contiguous() if scene.normals else None,
        camera_sums=scratch((slices, elements, cameras, _CAMERA_SUMS)) if cameras_too else None,
        emotion_sums=scratch((slices, elements, scene.emotion.shape[-1])) if grads["emotion"] is not None else None,
        frame_parts=new_empty(scene.means, (elements, scene.gaussians, 8)) if with_frames else None,
        face_lists=lists_by_key(scene.binding, scene.frames.shape[-2], where) if with_frames else None,
        **{f"grad_{name}": grads[name] for name in Scene._fields[:15] if name != "binding"},
    )
    return [
        scene.means.new_empty(0) if not n or tensor is None else grads[name].to(tensor.dtype)
        for name, tensor, n in zip(Scene._fields, scene.tensors, needed, strict=False)
    ]


@torch.library.register_fake("emogs::project_gaussians_backward")
def _backward_fake(*args):
    scene, needed = Scene(*args[:SCENE_SIZE]), args[-1]
    return [
        tensor.new_empty(tensor.shape) if n and tensor is not None else scene.means.new_empty(0)
        for tensor, n in zip(scene.tensors, needed, strict=True)
    ]


def _save(ctx, inputs, output):
    tensors, ctx.scene, _ = split_scene(inputs)
    ctx.save_for_backward(*tensors, output[0])
    ctx.mark_non_differentiable(output[2], output[3])


def _differentiate(ctx, grad_records, grad_colors, *_):
    *tensors, records = ctx.saved_tensors
    return tuple(scene_gradients(ctx, Scene(*tensors, *ctx.scene), records, grad_records, grad_colors))


def scene_gradients(ctx, scene, records, grad_records, grad_colors) -> list[Tensor | None]:
    """Gradients of the scene's arguments; those not needed, and of what is no tensor, are None."""
    needed = [bool(n) for n in ctx.needs_input_grad[: len(scene.tensors)]]
    grads = _project_gaussians_backward(*scene, records, grad_records, grad_colors, needed)
    return [grad if n else None for grad, n in zip(grads, needed, strict=True)] + [None] * (SCENE_SIZE - len(needed))


def _refuse_second_derivative(ctx, *grads):
    raise NotImplementedError("project_gaussians: second derivatives are not supported")


torch.library.impl("emogs::project_gaussians", ("cpu", "cuda"), project_native)
torch.library.impl("emogs::project_gaussians_backward", ("cpu", "cuda"), _backward)
torch.library.register_autograd("emogs::project_gaussians", _differentiate, setup_context=_save)
torch.library.register_autograd("emogs::project_gaussians_backward", _refuse_second_derivative)
_project_gaussians = routed("project_gaussians", project_native, _save, _differentiate)
_project_gaussians_backward = routed("project_gaussians_backward", _backward)


def _stored(tensor: Tensor | None, where: dict[str, Any]) -> Tensor | None:
    """As kernels read it: contiguous, on CUDA at an address that 16 bytes may be loaded from at once."""
    if tensor is None:
        return None
    tensor = tensor.contiguous()
    return tensor.clone() if where["device"] >= 0 and tensor.data_ptr() % 16 else tensor


def _common(scene: Scene, where: dict[str, Any]) -> dict[str, object]:
    alpha_cut, blur, near, far, radius_clip = scene.settings
    tensors = {name: _stored(tensor, where) for name, tensor in zip(Scene._fields, scene.tensors, strict=False)}
    return {
        **where,
        **tensors,
        "batch": scene.batch.numel(),
        "cameras": scene.images[-1],
        "count": scene.gaussians,
        "channels": scene.colors.shape[-1],
        "harmonics": scene.colors.shape[-2] if scene.sh else 0,
        "components": 0 if scene.emotion is None else scene.emotion.shape[-1],
        "faces": 0 if scene.frames is None else scene.frames.shape[-2],
        "gaussian_rows": scene.batches[0].numel(),
        "width": scene.width,
        "height": scene.height,
        "model": get_args(CameraModel).index(scene.model),
        "alpha_cut": alpha_cut,
        "blur": blur,
        "near": near,
        "far": far,
        "radius_clip": radius_clip,
        "antialiased": scene.antialiased,
        "rows": broadcast_rows(scene.batches, scene.means.device),
    }
