"""What the speed gate times: every public operation, forward and backward, at named sizes, on every backend present.

A case is made anew where it runs, from fixed seeds, so that two revisions of emogs do the same work. Its name is
operation/size/type/direction/device; its bytes are what must move at least, each tensor read or written once. Blending
also has the bare loop over its pairs (pair_loop.cpp) as a limit, on the CPU.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import scenes
import torch
from pair_loop import PairLoop
from torch import Tensor

import emogs
from emogs.info import info
from emogs.ops import Splats, Tiles, blend_tiles, emotion_renorm, intersect_tiles, project_gaussians, rig_frames

SETTINGS = emogs.RasterSettings(depth="none")
TYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
FIELDS = ("means", "quats", "scales", "opacities", "colors")
COMPONENTS = 16
EMOTION = 35  # numbers of an emotion's features, as networks see it


@dataclass(frozen=True)
class Work:
    """One case, ready to be timed."""

    call: Callable[[], object]
    bytes: int
    """The least that one call must read and write."""
    pairs: int = 0
    """Of a splat and a tile, where the operation goes over such."""
    limit: Callable[[], object] | None = None
    """The bare loop over the same pairs, on as many threads, where it is the limit rather than memory."""


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
    faces: int
    """That carry the first of the heads."""


FULL = Sizes(((20018, 1024), (1 << 20, 3), (1 << 17, 128), (2048, 8192)), (20_000, 80_000, 180_000), 1_000_000, (1, 32),
             512, (1920, 1080), (3, 32), 5000)  # fmt: skip
QUICK = Sizes(((64, 32), (33, 3)), (100, 300), 300, (1, 2), 48, (64, 48), (3, 5), 20)


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


def norm(tokens: int, channels: int, dtype: str, kind: str, direction: str, device: torch.device) -> Work:
    """`kind` is "layer", "rms" or "block": a layer norm behind a gated residual, four regions with a code each."""
    generator = torch.Generator().manual_seed(0)

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator).to(device)

    rows = (4,) if kind == "block" else ()
    given = {"x": random(1, tokens, channels).to(TYPES[dtype])}
    given |= {name: random(1, *rows, channels) for name in ("scale", "shift")}
    given |= {name: random(channels) for name in ("weight", "bias")}
    options: dict[str, Any] = {"kind": "rms" if kind == "rms" else "layer"}
    if kind == "block":
        given |= {"residual": random(1, tokens, channels).to(TYPES[dtype]), "gate": random(1, *rows, channels)}
        options["region"] = torch.randint(4, (tokens,), generator=generator, dtype=torch.int32).to(device)
    work = directions(lambda t: emogs.emotion_norm(**t, **options), given)[direction]()
    return dataclasses.replace(work, bytes=work.bytes + size_of(options.get("region")))


def norm_module(tokens: int, channels: int, direction: str, device: torch.device) -> Work:
    """The layer with its projection of the code; backward reaches its parameters too."""
    generator = torch.Generator().manual_seed(0)
    module = emogs.nn.EmotionNorm(channels, EMOTION).to(device)
    x, code = (torch.randn(1, *shape, generator=generator).to(device) for shape in ((tokens, channels), (EMOTION,)))
    if direction == "forward":
        module.requires_grad_(False)
        return Work(lambda: module(x, code), 2 * x.nbytes + size_of(code, *module.parameters()))
    leaves = [x.requires_grad_(), code.requires_grad_(), *module.parameters()]
    y = module(x, code)
    call = partial(torch.autograd.grad, y, leaves, torch.full_like(y, 0.5), retain_graph=True)
    return Work(call, y.nbytes + 2 * size_of(*leaves))


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
    """Gaussians before a camera, perhaps with emotions, perhaps on a moving mesh."""

    gaussians: int
    kind: str = "head"
    channels: int = 3
    degree: int = 0
    """Of spherical harmonics instead of colours, if not 0."""
    emotions: int = 0
    basis: str = "float32"
    faces: int = 0
    pixels: tuple[int, int] = (512, 512)

    def make(self, device: torch.device) -> tuple[dict[str, Tensor], emogs.Cameras, dict[str, Any]]:
        """The differentiable tensors by name, the camera, and what else the call takes."""
        if self.kind == "head":
            cloud, camera = scenes.head(self.gaussians, self.channels), scenes.head_cameras(*self.pixels)
        else:
            cloud, camera = scenes.place(self.gaussians), scenes.place_cameras(*self.pixels)
        given = {name: getattr(cloud, name) for name in FIELDS}
        if self.degree:
            shape = (self.gaussians, (self.degree + 1) ** 2, 3)
            given["sh"] = 0.1 * torch.randn(shape, generator=torch.Generator().manual_seed(6))
            del given["colors"]
        if self.emotions:
            given["emotion"] = torch.rand(self.emotions, COMPONENTS, generator=torch.Generator().manual_seed(5))
            basis = scenes.head_basis(self.gaussians, COMPONENTS).given()
            given |= {f"basis.{name}": t.to(getattr(torch, self.basis)) for name, t in basis.items()}
        options: dict[str, Any] = {}
        if self.faces:
            rig = scenes.moving_rig(self.gaussians, max(self.emotions, 1), self.faces)
            given["frames"], options["binding"] = rig.frames, rig.binding.to(device)
        return {name: t.to(device) for name, t in given.items()}, on(device, camera), options


def arguments(given: dict[str, Tensor], binding: Tensor | None = None) -> tuple[emogs.Gaussians, dict[str, Any]]:
    """The Gaussians and the keyword arguments that a scene's tensors belong to."""
    own = {name: t for name, t in given.items() if "." not in name and name not in ("emotion", "frames")}
    options: dict[str, Any] = {}
    if "emotion" in given:
        basis = {name.removeprefix("basis."): t for name, t in given.items() if name.startswith("basis.")}
        options |= {"emotion": given["emotion"], "basis": emogs.EmotionBasis(**basis)}
    if binding is not None:
        options["rig"] = emogs.Rig(binding, given["frames"])
    return emogs.Gaussians(**own), options


def project(scene: Scene, direction: str, device: torch.device) -> Work:
    given, cameras, more = scene.make(device)

    def call(t: dict[str, Tensor]) -> tuple[Tensor, ...]:
        gaussians, options = arguments(t, **more)
        splats = project_gaussians(gaussians, cameras, **options)
        return splats.records, splats.colors

    work = directions(call, given)[direction]()
    return dataclasses.replace(work, bytes=work.bytes + size_of(*more.values()))


def projected(scene: Scene, device: torch.device) -> Splats:
    given, cameras, more = scene.make(device)
    gaussians, options = arguments(given, **more)
    return project_gaussians(gaussians, cameras, **options)


def tiles(scene: Scene, device: torch.device) -> Work:
    splats = projected(scene, device)
    made = intersect_tiles(splats, *scene.pixels)
    call = partial(intersect_tiles, splats, *scene.pixels)
    return Work(call, size_of(splats.records, made.offsets, made.ids), len(made.ids))


@cache
def pair_loop() -> PairLoop:
    return PairLoop()


def limit_of(scene: Scene, splats: Splats, lists: Tiles, device: torch.device) -> Callable[[], object] | None:
    """The bare pair loop; it is of the CPU, and has three channels and one image."""
    if device.type != "cpu" or scene.channels != 3 or scene.emotions > 1:
        return None
    return lambda: pair_loop().run(splats, lists, *scene.pixels, torch.get_num_threads())


def blend(scene: Scene, direction: str, device: torch.device) -> Work:
    splats = projected(scene, device)
    lists = intersect_tiles(splats, *scene.pixels)

    def call(t: dict[str, Tensor]) -> Tensor:
        seen = Splats(t["records"], t["colors"], splats.outside, splats.non_finite)
        return blend_tiles(seen, lists, *scene.pixels, settings=SETTINGS)[0]

    shown = {"records": splats.records, "colors": splats.colors}
    work = directions(call, shown, pairs=len(lists.ids))[direction]()
    return dataclasses.replace(work, limit=limit_of(scene, splats, lists, device))


def whole(scene: Scene, direction: str, device: torch.device) -> Work:
    given, cameras, more = scene.make(device)
    splats = projected(scene, device)
    lists = intersect_tiles(splats, *scene.pixels)

    def call(t: dict[str, Tensor]) -> Tensor:
        gaussians, options = arguments(t, **more)
        return emogs.rasterize(gaussians, cameras, settings=SETTINGS, **options).colors

    work = directions(call, given, pairs=len(lists.ids))[direction]()
    moved = work.bytes + size_of(*more.values())
    return dataclasses.replace(work, bytes=moved, limit=limit_of(scene, splats, lists, device))


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
            both(f"emotion_norm/{tokens}x{channels}/{dtype}", norm, tokens, channels, dtype, "layer")
    main = sizes.norms[0]
    for kind in ("rms", "block"):
        both("emotion_norm/{}x{}-{}/float32".format(*main, kind), norm, *main, "float32", kind)
    both("EmotionNorm/{}x{}/float32".format(*main), norm_module, *main)
    both("emotion_renorm/32x300x153/float32", renorm)
    both("rig_frames/8x16000/float32", rig)
    add_rasterizer(both, named, sizes)
    return {
        f"{name}/{device.type}": partial(make, device=device) for device in devices() for name, make in named.items()
    }


def add_rasterizer(both: Callable[..., None], named: dict[str, Callable[..., Work]], sizes: Sizes) -> None:
    """Its stages and the whole, over all clouds; emotions where an avatar has them."""
    square = (sizes.head_pixels, sizes.head_pixels)
    clouds = {f"head{count}": Scene(count, pixels=square) for count in sizes.heads}
    least, middle = (clouds[f"head{count}"] for count in sizes.heads[:2])
    clouds[f"place{sizes.place}"] = Scene(sizes.place, "place", pixels=sizes.place_pixels)
    for label, scene in clouds.items():
        both(f"project_gaussians/{label}/float32", project, scene)
        named[f"intersect_tiles/{label}/float32/forward"] = partial(tiles, scene)
        both(f"rasterize/{label}/float32", whole, scene)
    both(f"project_gaussians/head{middle.gaussians}-sh3/float32", project, dataclasses.replace(middle, degree=3))
    for count in sizes.emotions:
        for basis in ("float32", "float16"):
            scene = dataclasses.replace(middle, emotions=count, basis=basis)
            both(f"project_gaussians/head{middle.gaussians}-{count}emotions/{basis}", project, scene)
        scene = dataclasses.replace(least, emotions=count, faces=sizes.faces)
        both(f"rasterize/head{least.gaussians}-{count}emotions-rig/float32", whole, scene)
    for label, scene in clouds.items():
        for channels in sizes.channels if scene == middle else (3,):
            cloud = dataclasses.replace(scene, channels=channels)
            both(f"blend_tiles/{label}-{channels}channels/float32", blend, cloud)


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
