"""What the speed gate times: every public operation, forward and backward, at named sizes, on every backend present.

A case is made anew where it runs, from fixed seeds, so that two revisions of emogs do the same work. Its name is
operation/size/type/direction/device; its bytes are what must move at least, each tensor read or written once.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

import scenes
import torch
from torch import Tensor

import emogs
from emogs.info import info
from emogs.ops import Splats, blend_tiles, emotion_renorm, intersect_tiles, project_gaussians, rig_frames

SETTINGS = emogs.RasterSettings(depth="none")
TYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class Work:
    """One case, ready to be timed."""

    call: Callable[[], object]
    bytes: int
    """The least that one call must read and write."""
    pairs: int = 0
    """Of a splat and a tile, where the operation goes over such."""


Make = Callable[[torch.device], Work]


@dataclass(frozen=True)
class Sizes:
    """How much is measured; in order: tokens and channels, Gaussians, Gaussians, emotions, pixels."""

    norms: tuple[tuple[int, int], ...]
    heads: tuple[int, ...]
    place: int
    emotions: tuple[int, ...]
    head_pixels: int
    place_pixels: tuple[int, int]
    channels: tuple[int, ...]
    """D of blending, for the second of the heads."""


FULL = Sizes(((20018, 1024), (1 << 20, 3), (1 << 17, 128), (2048, 8192)), (20_000, 80_000, 180_000), 1_000_000, (1, 32),
             512, (1920, 1080), (3, 32))  # fmt: skip
QUICK = Sizes(((64, 32), (33, 3)), (100, 300), 300, (1, 2), 48, (64, 48), (3, 5))


def size_of(*tensors: Tensor | None) -> int:
    return sum(t.nbytes for t in tensors if t is not None)


def directions(
    function: Callable[[dict[str, Tensor]], Tensor | tuple[Tensor, ...]], given: dict[str, Tensor], pairs: int = 0
) -> dict[str, Callable[[], Work]]:
    """Forward without gradients, and backward alone, through a graph that is kept."""

    def outputs(tensors: dict[str, Tensor]) -> tuple[Tensor, ...]:
        result = function(tensors)
        return result if isinstance(result, tuple) else (result,)

    def forward() -> Work:
        moved = size_of(*given.values(), *outputs(given))
        return Work(lambda: function(given), moved, pairs)

    def backward() -> Work:
        leaves = {name: t.clone().requires_grad_() for name, t in given.items()}
        made = outputs(leaves)
        grads = [torch.full_like(t, 0.5) for t in made]
        call = partial(torch.autograd.grad, made, list(leaves.values()), grads, retain_graph=True)
        return Work(call, size_of(*made) + 2 * size_of(*given.values()), pairs)

    return {"forward": forward, "backward": backward}


def on(device: torch.device, value: Any) -> Any:
    """A dataclass of tensors, moved."""
    moved = {f.name: getattr(value, f.name) for f in dataclasses.fields(value) if f.init}
    return type(value)(**{n: v.to(device) if isinstance(v, Tensor) else v for n, v in moved.items()})


def norm(tokens: int, channels: int, dtype: str, direction: str, device: torch.device) -> Work:
    generator = torch.Generator().manual_seed(0)

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator).to(device)

    given = {"x": random(1, tokens, channels).to(TYPES[dtype])}
    given |= {name: random(1, channels) for name in ("scale", "shift")}
    given |= {name: random(channels) for name in ("weight", "bias")}
    return directions(lambda t: emogs.emotion_norm(**t), given)[direction]()


def renorm(direction: str, device: torch.device) -> Work:
    generator = torch.Generator().manual_seed(0)
    given = {"params": torch.randn(32, 300, 153, generator=generator).to(device)}
    given |= {n: torch.randn(32, 153, generator=generator).to(device) for n in ("center", "scale", "shift")}
    return directions(lambda t: emotion_renorm(**t), given)[direction]()


def rig(direction: str, device: torch.device) -> Work:
    generator = torch.Generator().manual_seed(0)
    rest = torch.randn(8000, 3, generator=generator).to(device)
    faces = torch.randint(8000, (16000, 3), generator=generator, dtype=torch.int32).to(device)
    vertices = (rest.cpu() + 0.01 * torch.randn(8, 8000, 3, generator=generator)).to(device)
    work = directions(lambda t: rig_frames(t["vertices"], faces, rest), {"vertices": vertices})[direction]()
    return dataclasses.replace(work, bytes=work.bytes + size_of(faces, rest))


@dataclass(frozen=True)
class Scene:
    """Gaussians before a camera, perhaps with emotions."""

    gaussians: int
    kind: str = "head"
    channels: int = 3
    emotions: int = 0
    pixels: tuple[int, int] = (512, 512)

    def make(self, device: torch.device) -> tuple[dict[str, Tensor], emogs.Cameras, dict[str, Any]]:
        """The differentiable fields, the camera, and what else `project_gaussians` takes."""
        if self.kind == "head":
            cloud, camera = scenes.head(self.gaussians, self.channels), scenes.head_cameras(*self.pixels)
        else:
            cloud, camera = scenes.place(self.gaussians), scenes.place_cameras(*self.pixels)
        options: dict[str, Any] = {}
        if self.emotions:
            weights = torch.rand(self.emotions, 16, generator=torch.Generator().manual_seed(5))
            options = {"basis": on(device, scenes.head_basis(self.gaussians, 16)), "emotion": weights.to(device)}
        fields = {name: getattr(cloud, name).to(device) for name in ("means", "quats", "scales", "opacities", "colors")}
        return fields, on(device, camera), options


def project(scene: Scene, direction: str, device: torch.device) -> Work:
    given, cameras, options = scene.make(device)

    def call(t: dict[str, Tensor]) -> tuple[Tensor, ...]:
        splats = project_gaussians(emogs.Gaussians(**t), cameras, **options)
        return splats.records, splats.colors

    work = directions(call, given)[direction]()
    basis = size_of(*options["basis"].given().values()) if options else 0
    return dataclasses.replace(work, bytes=work.bytes + basis)


def tiles(scene: Scene, device: torch.device) -> Work:
    given, cameras, _ = scene.make(device)
    splats = project_gaussians(emogs.Gaussians(**given), cameras)
    made = intersect_tiles(splats, *scene.pixels)
    call = partial(intersect_tiles, splats, *scene.pixels)
    return Work(call, size_of(splats.records, made.offsets, made.ids), len(made.ids))


def blend(scene: Scene, direction: str, device: torch.device) -> Work:
    given, cameras, _ = scene.make(device)
    splats = project_gaussians(emogs.Gaussians(**given), cameras)
    lists = intersect_tiles(splats, *scene.pixels)

    def call(t: dict[str, Tensor]) -> Tensor:
        seen = Splats(t["records"], t["colors"], splats.outside, splats.non_finite)
        return blend_tiles(seen, lists, *scene.pixels, settings=SETTINGS)[0]

    shown = {"records": splats.records, "colors": splats.colors}
    return directions(call, shown, pairs=len(lists.ids))[direction]()


def whole(scene: Scene, direction: str, device: torch.device) -> Work:
    given, cameras, options = scene.make(device)

    def call(t: dict[str, Tensor]) -> Tensor:
        return emogs.rasterize(emogs.Gaussians(**t), cameras, settings=SETTINGS, **options).colors

    return directions(call, given)[direction]()


def devices() -> list[torch.device]:
    """The backends that are built in and have a machine to run on."""
    found = [torch.device("cpu")]
    if info()["backends"][-1] == "cuda" and torch.cuda.is_available():
        found.append(torch.device("cuda"))
    return found


def all_cases(sizes: Sizes) -> dict[str, Callable[[], Work]]:
    """Every case by its name; nothing is made before it is called."""
    named: dict[str, Callable[..., Work]] = {}

    def both(name: str, function: Callable[..., Work], *arguments: object) -> None:
        for direction in ("forward", "backward"):
            named[f"{name}/{direction}"] = partial(function, *arguments, direction)

    for tokens, channels in sizes.norms:
        for dtype in TYPES:
            both(f"emotion_norm/{tokens}x{channels}/{dtype}", norm, tokens, channels, dtype)
    both("emotion_renorm/32x300x153/float32", renorm)
    both("rig_frames/8x16000/float32", rig)
    square = (sizes.head_pixels, sizes.head_pixels)
    clouds = {f"head{count}": Scene(count, pixels=square) for count in sizes.heads}
    middle = clouds[f"head{sizes.heads[1]}"]
    clouds[f"place{sizes.place}"] = Scene(sizes.place, "place", pixels=sizes.place_pixels)
    for label, scene in clouds.items():
        both(f"project_gaussians/{label}/float32", project, scene)
        named[f"intersect_tiles/{label}/float32/forward"] = partial(tiles, scene)
        both(f"rasterize/{label}/float32", whole, scene)
    for count in sizes.emotions:
        scene = dataclasses.replace(middle, emotions=count)
        both(f"project_gaussians/head{middle.gaussians}-{count}emotions/float32", project, scene)
    for label, scene in clouds.items():
        for channels in sizes.channels if scene == middle else (3,):
            cloud = dataclasses.replace(scene, channels=channels)
            both(f"blend_tiles/{label}-{channels}channels/float32", blend, cloud)
    return {
        f"{name}/{device.type}": partial(make, device=device) for device in devices() for name, make in named.items()
    }


def matching(cases: Iterable[str], patterns: Iterable[str]) -> list[str]:
    """Names that contain one of the patterns; all without patterns.

    Raises:
        ValueError: a pattern fits none.
    """
    names, wanted = list(cases), list(patterns)
    for pattern in wanted:
        if not any(pattern in name for name in names):
            raise ValueError(f"no benchmark's name contains {pattern!r}")
    return [name for name in names if not wanted or any(pattern in name for pattern in wanted)]
