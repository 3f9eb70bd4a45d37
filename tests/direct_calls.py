"""Random calls of `torch.ops.emogs.*`, whose functions no longer stand in front of them: one seed, one call.

A call starts valid, by name; one to three arguments then become something of another shape, type or value, indices
included. Whatever comes of it, a result or an error, the process must live and read nothing that is not its own, for
sanitizers to see (`make sanitize-calls`).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from raster_hostile import Parameters, mutate, other_shape, other_strides, other_values, pick
from raster_scenes import RandomScene, random_scene

import emogs
from emogs import RasterSettings
from emogs.checks import Arguments
from emogs.ops.project import make_scene
from emogs.ops.tiles import find_places

ops = torch.ops.emogs
SIZE = (37, 21)
INDICES = (-1, 0, 1, 7, 127, 128, 2**31 - 1, -(2**31), 2**32, 2**62, -(2**63), 2**63 - 1)
NUMBERS = (0, 1, 2, 3, -1, 16, 17, 16384, 16385, 2**31, 2**33, -(2**31), 2**62)


def some_dtype(random: np.random.Generator) -> torch.dtype:
    """No CUDA kernel computes in float64."""
    drawn = pick(random, (torch.float32, torch.float64))
    return torch.float32 if emogs.ops.blend.on_cuda(torch.zeros(0)) else drawn


def scene_of(random: np.random.Generator, count: int = 6) -> RandomScene:
    options = {"channels": int(pick(random, (1, 3, 4, 8))), "cameras": int(random.integers(1, 3))}
    seed, dtype = int(random.integers(2**31)), some_dtype(random)
    return random_scene(count, seed=seed, dtype=dtype, size=SIZE, **options)


def scene_call(random: np.random.Generator) -> Parameters:
    scene = scene_of(random)
    given = (scene.emotion, scene.basis, scene.rig) if random.random() < 0.7 else (None, None, None)
    return make_scene(Arguments("x"), scene.gaussians, scene.cameras, *given, RasterSettings())._asdict()


def projection_call(random: np.random.Generator) -> Parameters:
    call = scene_call(random)
    records, colors, *_ = ops.project_gaussians(*call.values())
    return call | {"records": records, "grad_records": records, "grad_colors": colors, "needed": [True] * 15}


def intersection_call(random: np.random.Generator) -> Parameters:
    scene = scene_of(random, 20)
    records = emogs.ops.project_gaussians(scene.gaussians, scene.cameras).records
    mask = torch.rand(len(records), 2, 3) < 0.7 if random.random() < 0.3 else None
    capacity = int(pick(random, (-1, 5, 300)))
    return dict(
        zip(
            ("records", "width", "height", "mask", "rows", "capacity"),
            (records, *SIZE, mask, bool(random.random() < 0.5), capacity),
            strict=True,
        )
    )


def blending_call(random: np.random.Generator) -> Parameters:
    """With lists of more than one bucket of CUDA's now and then."""
    scene = scene_of(random, int(pick(random, (0, 6, 300))))
    splats = emogs.ops.project_gaussians(scene.gaussians, scene.cameras)
    tiles = emogs.ops.intersect_tiles(splats, *SIZE)
    images, count = splats.records.shape[:2]
    places, rows = find_places(tiles.offsets, tiles.ids, images, count)
    probe = torch.zeros(images, count, 4, dtype=splats.records.dtype) if random.random() < 0.5 else None
    background = scene.background.expand(images, -1).contiguous() if random.random() < 0.5 else None
    return {
        "records": splats.records, "colors": splats.colors, "background": background, "offsets": tiles.offsets,
        "ids": tiles.ids, "places": places, "rows": rows, "probe": probe, "width": SIZE[0], "height": SIZE[1],
        "settings": RasterSettings().blending, "depth": int(random.integers(3)),
    }  # fmt: skip


def blending_backward_call(random: np.random.Generator) -> Parameters:
    call = blending_call(random)
    colors, alphas, depths, *state = ops.blend_tiles(*call.values(), True)
    call |= dict(zip(("transmittances", "last", "medians", "checkpoints"), state, strict=True))
    return call | {"grad_colors": colors, "grad_alphas": alphas, "grad_depths": depths if call["depth"] else None}


def frame_call(random: np.random.Generator) -> Parameters:
    dtype = some_dtype(random)
    faces = torch.from_numpy(random.integers(0, 6, (4, 3))).to(pick(random, (torch.int32, torch.int64)))
    return {"vertices": torch.randn(2, 6, 3, dtype=dtype), "faces": faces, "rest": torch.randn(6, 3, dtype=dtype)}


def frame_backward_call(random: np.random.Generator) -> Parameters:
    call = frame_call(random)
    frames, gradients, lists = ops.rig_frames(*call.values())
    return call | {"gradients": gradients, "vertex_lists": lists, "grad_frames": frames}


def norm_call(random: np.random.Generator) -> Parameters:
    rows = pick(random, ((2, 8), (2, 3, 8)))
    call: Parameters = {"x": torch.randn(2, 5, 8), "scale": torch.randn(rows), "shift": torch.randn(rows)}
    call |= {"weight": torch.randn(8), "bias": torch.randn(8)}
    call |= {"residual": torch.randn(2, 5, 8), "gate": torch.randn(rows)}
    region = torch.randint(3, (2, 5), dtype=torch.int32) if len(rows) == 3 else None
    return call | {"region": region, "rms": bool(random.random() < 0.5), "eps": 1e-6}


def norm_backward_call(random: np.random.Generator) -> Parameters:
    call = norm_call(random)
    call.pop("residual")
    tokens = {name: torch.randn(2, 5, 8) for name in ("grad_y", "grad_residual_out", "hidden")}
    return tokens | call


def renorm_call(random: np.random.Generator) -> Parameters:
    vectors = {name: torch.randn(2, 4) for name in ("center", "scale", "shift")}
    frames = torch.rand(2, 3) < 0.5 if random.random() < 0.5 else None
    return {"params": torch.randn(2, 3, 4), **vectors, "channels": torch.rand(4), "frames": frames}


CALLS: dict[str, tuple[Callable[[np.random.Generator], Parameters], Callable[..., object]]] = {
    "project_gaussians": (scene_call, ops.project_gaussians),
    "project_gaussians_backward": (projection_call, ops.project_gaussians_backward),
    "intersect_tiles": (intersection_call, ops.intersect_tiles),
    "blend_tiles": (lambda random: blending_call(random) | {"save": bool(random.random() < 0.7)}, ops.blend_tiles),
    "blend_tiles_backward": (blending_backward_call, ops.blend_tiles_backward),
    "rig_frames": (frame_call, ops.rig_frames),
    "rig_frames_backward": (frame_backward_call, ops.rig_frames_backward),
    "emotion_norm": (norm_call, ops.emotion_norm),
    "emotion_norm_backward": (norm_backward_call, ops.emotion_norm_backward),
    "emotion_renorm": (renorm_call, ops.emotion_renorm),
    "emotion_renorm_backward": (
        lambda random: {"grad_out": torch.randn(2, 3, 4)} | renorm_call(random),
        ops.emotion_renorm_backward,
    ),
}


def other_indices(random: np.random.Generator, tensor: torch.Tensor) -> torch.Tensor:
    """Some of them become others, as far as the type has room."""
    limits = torch.iinfo(tensor.dtype)
    number = min(max(int(pick(random, INDICES)), limits.min), limits.max)
    hit = torch.from_numpy(random.random(tuple(tensor.shape)) < pick(random, (0.02, 0.3, 1.0)))
    return torch.where(hit, torch.tensor(number, dtype=tensor.dtype), tensor)


def hurt(random: np.random.Generator, value: object) -> object:
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, int):
        return int(pick(random, NUMBERS))
    if isinstance(value, (str, float, list)):
        return mutate(random, value) if random.random() < 0.5 else value
    assert isinstance(value, torch.Tensor)
    if random.random() < 0.3:
        return other_shape(random, value) if value.dtype != torch.bool else value
    if value.dtype in (torch.int32, torch.int64):
        return other_indices(random, value)
    if random.random() < 0.9:
        return other_values(random, value)
    changed = mutate(random, value)
    return value if changed is None else changed  # torch makes an undefined tensor of it, which has no shape


def direct_call(seed: int) -> tuple[str, Callable[[], object]]:
    """An operation's name, and the call."""
    random = np.random.default_rng(seed)
    torch.manual_seed(seed)
    name = pick(random, (*CALLS, "blend_tiles", "blend_tiles_backward", "blend_tiles_backward"))
    make, operation = CALLS[name]
    call = make(random)
    for victim in random.choice(list(call), min(len(call), int(random.integers(1, 4))), replace=False):
        call[victim] = hurt(random, call[victim])
    for key, value in call.items():
        if isinstance(value, torch.Tensor) and random.random() < 0.1:
            call[key] = other_strides(random, value)
    return name, lambda: operation(*call.values())


def meet_direct_call(seed: int) -> str:
    """`refused` by an error of a type that says so, or `answered`; else an AssertionError."""
    name, call = direct_call(seed)
    try:
        call()
    except (TypeError, ValueError, RuntimeError):
        return "refused"
    except Exception as error:
        raise AssertionError(f"seed {seed}, {name}: {error!r}") from error
    return "answered"
