"""Random calls of the public operations with arguments that do not belong: one seed, one call.

A call starts valid, as a flat dictionary of named parameters; a few of them are then replaced by something of another
shape, dtype, device, type or value.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable

import numpy as np
import torch
from raster_scenes import random_scene

import emogs
from emogs import Cameras, EmotionBasis, Gaussians, RasterSettings, Rig
from emogs.compat import gsplat
from emogs.ops import Splats, Tiles, blend_tiles, emotion_norm, intersect_tiles, rig_frames
from emogs.ops.renorm import emotion_renorm

Parameters = dict[str, object]

HOSTILE_NUMBERS = (math.nan, math.inf, -math.inf, 0.0, -1.0, 1e-45, 1e-310, 1e-30, 1e30, 3e38, -3e38, 1e300)
HOSTILE_SIZES = (0, -1, 1, 16384, 16385, 2**31, 2**63, 2**70, True, 2.5, "7", None, math.nan, np.int64(9))
OTHER_TYPES = (None, 0, 1.5, "means", [0.0, 1.0], np.zeros((4, 3)), object(), {}, torch.Size([3]))
DTYPES = (
    torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.int32, torch.int64, torch.bool, torch.complex64,
)  # fmt: skip


def pick(random: np.random.Generator, options):
    """One of the options, as it is: numpy's choice would convert them."""
    return options[random.integers(len(options))]


def fields(item, prefix: str = "") -> Parameters:
    return {prefix + name: value for name, value in vars(item).items() if value is not None}


def of(parameters: Parameters, prefix: str) -> Parameters:
    return {n.removeprefix(prefix): v for n, v in parameters.items() if n.startswith(prefix)}


# ---- valid calls: parameters, and what to do with them ----


def scene_parameters(random: np.random.Generator) -> Parameters:
    scene = random_scene(
        int(random.integers(0, 6)),
        seed=int(random.integers(2**31)),
        dtype=pick(random, (torch.float32, torch.float64)),
        sh_degree=pick(random, (None, None, 0, 1, 3)),
        channels=int(random.integers(1, 6)),
        cameras=int(random.integers(1, 3)),
        batch=pick(random, ((), (2,), (1, 2))),
        size=pick(random, ((7, 5), (1, 1), (20, 17))),
    )
    parameters = fields(scene.gaussians, "gaussians.") | fields(scene.cameras, "cameras.")
    if random.random() < 0.7:
        parameters |= fields(scene.basis, "basis.") | {"emotion": scene.emotion}
    if random.random() < 0.5:
        parameters |= fields(scene.rig, "rig.")
    if random.random() < 0.5:
        parameters["background"] = scene.background
    if random.random() < 0.3:
        tiles = ((scene.cameras.height + 15) // 16, (scene.cameras.width + 15) // 16)
        parameters["tile_mask"] = torch.rand(tiles) < 0.7
    parameters["cameras.model"] = pick(random, ("pinhole", "pinhole", "ortho", "fisheye"))
    return parameters | {name: v for name, v in fields(RasterSettings(), "settings.").items() if random.random() < 0.2}


def render(p: Parameters, function: Callable[..., object] = emogs.rasterize) -> object:
    basis = of(p, "basis.")
    options = {"emotion": p.get("emotion"), "basis": EmotionBasis(**basis) if basis else None}
    if "rig.frames" in p:
        options["rig"] = Rig(p["rig.binding"], p["rig.frames"])
    if function is emogs.rasterize:
        options |= {"background": p.get("background"), "tile_mask": p.get("tile_mask")}
    settings = RasterSettings(**of(p, "settings."))
    return function(Gaussians(**of(p, "gaussians.")), Cameras(**of(p, "cameras.")), **options, settings=settings)


def blend_parameters(random: np.random.Generator) -> Parameters:
    scene = random_scene(5, seed=int(random.integers(2**31)), dtype=pick(random, (torch.float32, torch.float64)))
    splats = emogs.ops.project_gaussians(scene.gaussians, scene.cameras)
    tiles = intersect_tiles(splats, 19, 17)
    sizes = {"width": 19, "height": 17, "background": scene.background}
    return fields(splats, "splats.") | fields(tiles, "tiles.") | sizes


def blend(p: Parameters) -> object:
    splats, tiles = Splats(**of(p, "splats.")), Tiles(**of(p, "tiles."))
    return blend_tiles(splats, tiles, p["width"], p["height"], background=p.get("background"))


def intersect(p: Parameters) -> object:
    return intersect_tiles(Splats(**of(p, "splats.")), p["width"], p["height"])


def gsplat_parameters(random: np.random.Generator) -> Parameters:
    scene = random_scene(4, seed=int(random.integers(2**31)), dtype=torch.float32, size=(20, 17))
    parameters = fields(scene.gaussians) | fields(scene.cameras)
    parameters |= {"camera_model": parameters.pop("model"), "packed": bool(random.random() < 0.5)}
    optional = {
        "near_plane": 0.01, "far_plane": 1e10, "radius_clip": 0.0, "eps2d": 0.3, "sh_degree": None, "tile_size": 16,
        "backgrounds": torch.rand(2, 3), "render_mode": pick(random, ("RGB", "D", "RGB+ED")), "sparse_grad": False,
        "absgrad": False, "rasterize_mode": "antialiased", "covars": torch.eye(3).expand(4, 3, 3).clone(),
        "rolling_shutter": gsplat.RollingShutterType.GLOBAL, "radial_coeffs": None,
    }  # fmt: skip
    return parameters | {name: value for name, value in optional.items() if random.random() < 0.2}


def frame_parameters(random: np.random.Generator) -> Parameters:
    dtype = pick(random, (torch.float32, torch.float64))
    faces = torch.from_numpy(random.integers(0, 6, (4, 3)))
    return {"vertices": torch.randn(2, 6, 3, dtype=dtype), "faces": faces, "rest": torch.randn(6, 3, dtype=dtype)}


def norm_parameters(random: np.random.Generator) -> Parameters:
    x, rows = torch.randn(2, 5, 8), pick(random, ((2, 8), (2, 3, 8)))
    parameters: Parameters = {"x": x, "scale": torch.randn(rows), "shift": torch.randn(rows), "eps": 1e-6}
    if len(rows) == 3:
        parameters["region"] = torch.randint(3, (2, 5), dtype=torch.int32)
    if random.random() < 0.5:
        parameters |= {"residual": torch.randn(2, 5, 8), "gate": torch.randn(rows)}
    if random.random() < 0.5:
        parameters |= {"weight": torch.randn(8), "bias": torch.randn(8), "kind": pick(random, ("layer", "rms"))}
    return parameters


def renorm_parameters(random: np.random.Generator) -> Parameters:
    vectors = {name: torch.randn(2, 4) for name in ("center", "scale", "shift")}
    frames = {"frames": torch.rand(2, 3) < 0.5} if random.random() < 0.5 else {}
    return {"params": torch.randn(2, 3, 4), **vectors, "channels": torch.rand(4), **frames}


OPERATIONS: dict[str, tuple[Callable[[np.random.Generator], Parameters], Callable[[Parameters], object]]] = {
    "rasterize": (scene_parameters, render),
    "project_gaussians": (scene_parameters, lambda p: render(p, emogs.ops.project_gaussians)),
    "blend_tiles": (blend_parameters, blend),
    "intersect_tiles": (blend_parameters, intersect),
    "rasterization": (gsplat_parameters, lambda p: gsplat.rasterization(**p)[:2]),
    "rig_frames": (frame_parameters, lambda p: rig_frames(**p)),
    "emotion_norm": (norm_parameters, lambda p: emotion_norm(**p)),
    "emotion_renorm": (renorm_parameters, lambda p: emotion_renorm(**p)),
    "pinhole": (lambda random: {"width": 9, "height": 7, "field_of_view": 40.0}, lambda p: emogs.pinhole(**p)),
    "fisheye": (lambda random: {"width": 9, "height": 7, "field_of_view": 90.0}, lambda p: emogs.fisheye(**p)),
    "orthographic": (lambda random: {"width": 9, "height": 7, "view_height": 2.0}, lambda p: emogs.orthographic(**p)),
    "look_at": (
        lambda random: {"eye": torch.randn(2, 3), "target": torch.randn(3), "up": torch.tensor([0.0, 1.0, 0.0])},
        lambda p: emogs.look_at(**p),
    ),
}


# ---- what goes wrong ----


def other_shape(random: np.random.Generator, tensor: torch.Tensor) -> torch.Tensor:
    sizes = list(tensor.shape)
    kind = random.integers(5)
    if kind == 0 and sizes:
        return tensor[0] if sizes[0] else tensor.sum(0)
    if kind == 1:
        return tensor[None].expand(int(random.integers(0, 4)), *sizes)
    if kind == 2 and sizes:
        return tensor.transpose(0, -1)
    if sizes:
        axis = int(random.integers(len(sizes)))
        sizes[axis] = int(pick(random, (0, 1, sizes[axis] + 1, max(sizes[axis] - 1, 0), 300)))
    return torch.ones(sizes, dtype=tensor.dtype)


def other_values(random: np.random.Generator, tensor: torch.Tensor) -> torch.Tensor:
    tensor = tensor.clone()
    number = pick(random, HOSTILE_NUMBERS)
    hit = torch.from_numpy(random.random(tuple(tensor.shape)) < pick(random, (0.1, 0.5, 1.0)))
    if tensor.dtype == torch.bool:
        return ~tensor
    if not tensor.is_floating_point():
        number = pick(random, (-1, 2**31 - 1, -(2**31), 7, 0))
    tensor[hit] = torch.tensor(number, dtype=torch.float64 if tensor.is_floating_point() else torch.int64).to(
        tensor.dtype
    )
    return tensor


def other_strides(random: np.random.Generator, tensor: torch.Tensor) -> torch.Tensor:
    """The same values in memory of another layout: every other row, columns first, or at an odd address."""
    kind = random.integers(3)
    if kind == 0 and tensor.ndim and tensor.device.type == "cpu":
        return tensor.repeat_interleave(2, -1)[..., ::2]
    if kind == 1 and tensor.ndim > 1:
        return tensor.transpose(0, -1).contiguous().transpose(0, -1)
    room = tensor.new_empty(tensor.numel() + 1)
    return room[1:].view(tensor.shape).copy_(tensor)


def mutate(random: np.random.Generator, value: object) -> object:
    """Something that may not belong where `value` does."""
    if not isinstance(value, torch.Tensor):
        if isinstance(value, int):
            return pick(random, HOSTILE_SIZES)
        return pick(random, (*HOSTILE_NUMBERS, *OTHER_TYPES, "median"))
    kind = random.integers(10)
    if kind < 5:
        return other_values(random, value)
    if kind < 7:
        return other_shape(random, value)
    if kind == 7:
        return value.to(pick(random, DTYPES))
    return value.to("meta") if kind == 8 else pick(random, OTHER_TYPES)


def hostile_call(seed: int) -> tuple[str, Callable[[], object], Parameters]:
    """An operation's name, the call and its parameters."""
    random = np.random.default_rng(seed)
    name = pick(random, (*OPERATIONS, "rasterize", "rasterize", "rasterize"))
    make, call = OPERATIONS[name]
    torch.manual_seed(seed)
    parameters = make(random)
    values_only = bool(random.random() < 0.5)
    for victim in random.choice(list(parameters), min(len(parameters), int(random.integers(1, 4))), replace=False):
        value = parameters[victim]
        if not values_only:
            parameters[victim] = mutate(random, value)
        elif isinstance(value, torch.Tensor) and value.is_floating_point():
            parameters[victim] = other_values(random, value)
    for key, value in parameters.items():
        if isinstance(value, torch.Tensor) and random.random() < 0.2:
            parameters[key] = other_strides(random, value)
    if random.random() < 0.3:
        for value in parameters.values():
            if isinstance(value, torch.Tensor) and value.is_floating_point() and value.is_leaf:
                value.requires_grad_()
    return name, lambda: call(parameters), parameters


# ---- what may come of it ----

NAMES = (*OPERATIONS, "Gaussians", "Cameras", "EmotionBasis", "Rig", "RasterSettings")
NAMED = re.compile(rf"({'|'.join(NAMES)}): [a-zA-Z]|emogs::\w+\(\) .* argument '\w+'")  # the latter is torch's


def tensors_of(result: object) -> list[torch.Tensor]:
    if isinstance(result, torch.Tensor):
        return [result]
    values = result if isinstance(result, tuple) else vars(result).values()
    return [value for value in values if isinstance(value, torch.Tensor)]


def check_rendering(out: emogs.Rendering, parameters: Parameters) -> None:
    """Finite wherever the background is, and every Gaussian accounted for."""
    splats, background = out.info.splats, parameters.get("background")
    visible = (splats.radii[..., 0] > 0).sum(-1)
    assert torch.equal(visible + splats.outside + splats.non_finite, torch.full_like(visible, splats.records.shape[-2]))
    if background is None or background.isfinite().all():
        assert all(t.isfinite().all() for t in tensors_of(out))


def meet_hostile_call(seed: int) -> str:
    """`refused` by an error that names the operation, `drawn`, or `differentiated` too; else an AssertionError."""
    name, call, parameters = hostile_call(seed)
    try:
        result = call()
    except (TypeError, ValueError, RuntimeError) as error:
        assert NAMED.match(str(error)), f"seed {seed}, {name}: {error!r}"
        return "refused"
    if isinstance(result, emogs.Rendering):
        check_rendering(result, parameters)
    outputs = [t for t in tensors_of(result) if t.requires_grad and not t.is_meta]
    if not outputs:
        return "drawn"
    torch.autograd.backward([t.sum() for t in outputs])
    return "differentiated"
