"""What is measured on a GPU, beside its peers: `python benchmarks/gpu_cases.py` (gpu_visit.py runs it).

Every group is one interleaved run (measure.py) of the same work done by emogs and by others: gsplat 1.5.3, torch eager,
torch.compile, a plain copy. Results are compared before they are timed: `checks` holds how far they are apart. A sample
is the time between two events of the device around one call, after a write of more than the second-level cache, which
also hides what Python needs to launch. Results are written after every group. `--device cpu --tiny` runs all of it in
seconds where there is no GPU, so that it cannot rot; what that measures means nothing.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import bench_report
import scenes
import torch
from measure import Case, Group, interleave
from torch import Tensor

import emogs
from emogs.ops import project_gaussians

SETTINGS = emogs.RasterSettings(depth="none")
FIELDS = ("means", "quats", "scales", "opacities", "colors")


@dataclass(frozen=True)
class Sizes:
    """How much is measured."""

    heads: tuple[int, ...] = (20_000, 80_000, 180_000)
    pixels: int = 512
    place: tuple[int, int, int] = (1_000_000, 1920, 1080)
    wide: int = 32  # channels of the second measurement of each head
    components: int = 16
    batches: tuple[int, ...] = (1, 8, 32)
    norm: tuple[tuple[int, int], ...] = ((80_000, 1024), (20_000, 1024), (80_000, 64), (80_000, 384), (10_000, 4096))
    flush: int = 1 << 28  # bytes, more than any second-level cache
    rounds: int = 30


TINY = Sizes((200,), 32, (300, 48, 32), 5, 2, (1, 2), ((16, 8), (8, 24)), 1 << 10, 2)


@dataclass
class Bench:
    """Where things run, and what they have in common."""

    device: torch.device
    sizes: Sizes
    compiled: bool
    checks: dict[str, object] = field(default_factory=dict)
    """By group: how far the peers' results are apart, or why a peer is missing."""

    def __post_init__(self) -> None:
        self.dirty = torch.empty(self.sizes.flush, dtype=torch.uint8, device=self.device)

    def seconds(self, case: Case) -> float:
        """Of one call, the caches filled with something else."""
        self.dirty.zero_()
        if self.device.type != "cuda":
            start = time.perf_counter()
            case()
            return time.perf_counter() - start
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        case()
        end.record()
        end.synchronize()
        return start.elapsed_time(end) / 1e3

    def group(self, name: str, cases: dict[str, Case], **notes: object) -> Group:
        return interleave(name, cases, self.sizes.rounds, 3, self.seconds, **notes)

    def moved(self, owner: object) -> object:
        """A dataclass's tensors on the device."""
        values = {f.name: getattr(owner, f.name) for f in dataclasses.fields(owner)}
        moved = {name: value.to(self.device) for name, value in values.items() if isinstance(value, Tensor)}
        return dataclasses.replace(owner, **moved)


def peer_rasterizer() -> Callable[..., tuple[Tensor, ...]]:
    """gsplat's; an ImportError where it has no kernels."""
    import gsplat
    from gsplat.cuda._backend import _C

    if _C is None:
        raise ImportError("gsplat has no CUDA kernels here")
    return gsplat.rasterization


def trainable(gaussians: emogs.Gaussians) -> emogs.Gaussians:
    return emogs.Gaussians(**{n: getattr(gaussians, n).clone().requires_grad_() for n in FIELDS})


def both_ways(render: Callable[[emogs.Gaussians], Tensor], gaussians: emogs.Gaussians) -> Case:
    """Forward, and backward to every parameter for a fixed gradient of the image."""
    leaves = trainable(gaussians)
    direction = torch.ones_like(render(gaussians))
    return lambda: torch.autograd.grad(render(leaves), [getattr(leaves, n) for n in FIELDS], direction)


def distance(actual: Tensor, expected: Tensor) -> dict[str, float]:
    error = (actual.double() - expected.double()).abs()
    return {"largest": float(error.max()), "mean": float(error.mean())}


def rendering(bench: Bench, name: str, gaussians: emogs.Gaussians, cameras: emogs.Cameras) -> Group:
    """One scene: emogs and gsplat, forward and with backward."""
    gaussians, cameras = bench.moved(gaussians), bench.moved(cameras)

    def ours(cloud: emogs.Gaussians) -> Tensor:
        return emogs.rasterize(cloud, cameras, settings=SETTINGS).colors

    cases: dict[str, Case] = {"forward": lambda: ours(gaussians), "forward + backward": both_ways(ours, gaussians)}
    try:
        peer = peer_rasterizer()
    except Exception as reason:
        bench.checks[name] = f"gsplat: {type(reason).__name__}: {reason}"
    else:

        def theirs(cloud: emogs.Gaussians) -> Tensor:
            fields = [getattr(cloud, n) for n in FIELDS]
            return peer(*fields, cameras.viewmats, cameras.Ks, cameras.width, cameras.height, packed=False)[0]

        bench.checks[name] = distance(ours(gaussians), theirs(gaussians))
        cases |= {
            "gsplat forward": lambda: theirs(gaussians),
            "gsplat forward + backward": both_ways(theirs, gaussians),
        }
    pairs = len(emogs.rasterize(gaussians, cameras, settings=SETTINGS).info.tiles.ids)
    size = (cameras.width, cameras.height)
    return bench.group(name, cases, gaussians=len(gaussians.means), pairs=pairs, size=size)


def renderings(bench: Bench) -> Iterator[Group]:
    sizes = bench.sizes
    for count in sizes.heads:
        for channels in (3, sizes.wide):
            scene = scenes.head(count, channels), scenes.head_cameras(sizes.pixels)
            yield rendering(bench, f"head of {count}, {channels} channels", *scene)
    count, width, height = sizes.place
    yield rendering(bench, f"place of {count}", scenes.place(count), scenes.place_cameras(width, height))


def modulations(bench: Bench) -> Iterator[Group]:
    """Emotions in one call against as many plain renders; projection with a basis against torch's modulation."""
    sizes = bench.sizes
    count = sizes.heads[len(sizes.heads) // 2]
    gaussians, cameras = bench.moved(scenes.head(count)), bench.moved(scenes.head_cameras(sizes.pixels))
    basis = bench.moved(scenes.head_basis(count, sizes.components))
    half = emogs.EmotionBasis(**{name: value.half() for name, value in basis.given().items()})
    for batch in sizes.batches:
        emotion = torch.rand(batch, sizes.components, generator=torch.Generator().manual_seed(5)).to(bench.device)
        rig = bench.moved(scenes.moving_rig(count, batch))
        projected = [
            project_gaussians(gaussians, cameras, emotion=emotion, basis=basis),
            project_gaussians(scenes.modulated(gaussians, emotion, basis), cameras),
        ]
        bench.checks[f"{batch} emotions"] = distance(*(splats.colors for splats in projected))

        def render(batch: int = batch, **options: object) -> Case:
            return lambda: emogs.rasterize(gaussians, cameras, settings=SETTINGS, **options)

        def alone(batch: int = batch) -> None:
            for _ in range(batch):
                emogs.rasterize(gaussians, cameras, settings=SETTINGS)

        def unfused(emotion: Tensor = emotion) -> object:
            return project_gaussians(scenes.modulated(gaussians, emotion, basis), cameras)

        def fused(emotion: Tensor = emotion, basis: emogs.EmotionBasis = basis) -> object:
            return project_gaussians(gaussians, cameras, emotion=emotion, basis=basis)

        cases: dict[str, Case] = {
            "plain renders": alone,
            "emotions": render(emotion=emotion, basis=basis),
            "emotions, moving rig": render(emotion=emotion, basis=basis, rig=rig),
            "emotions, moving rig, float16 basis": render(emotion=emotion, basis=half, rig=rig),
            "projection": fused,
            "projection, modulated in torch": unfused,
        }
        yield bench.group(f"{batch} emotions", cases, gaussians=count, components=sizes.components)


def plain_norm(x: Tensor, scale: Tensor, shift: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """What one writes in torch."""
    normalized = torch.nn.functional.layer_norm(x, x.shape[-1:], weight.to(x.dtype), bias.to(x.dtype), 1e-6)
    return normalized * (1 + scale[:, None].to(x.dtype)) + shift[:, None].to(x.dtype)


def fused_norm(x: Tensor, scale: Tensor, shift: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return emogs.emotion_norm(x, scale, shift, weight=weight, bias=bias)


def norms(bench: Bench) -> Iterator[Group]:
    for tokens, channels in bench.sizes.norm:
        for dtype in (torch.bfloat16, torch.float32):
            generator = torch.Generator().manual_seed(0)
            x = torch.randn(1, tokens, channels, generator=generator).to(bench.device, dtype)
            shapes = ((1, channels), (1, channels), (channels,), (channels,))
            vectors = [torch.randn(*shape, generator=generator).to(bench.device) for shape in shapes]
            leaves = [t.clone().requires_grad_() for t in (x, *vectors)]
            direction, buffer = torch.randn_like(x), torch.empty_like(x)
            functions: dict[str, Callable[..., Tensor]] = {"": fused_norm, "eager ": plain_norm}
            if bench.compiled:
                torch._dynamo.reset()
                functions["compiled "] = torch.compile(plain_norm, dynamic=False)
            cases: dict[str, Case] = {"copy": lambda x=x, buffer=buffer: buffer.copy_(x)}
            for who, function in functions.items():
                cases[f"{who}forward"] = lambda f=function, x=x, v=vectors: f(x, *v)
                cases[f"{who}forward + backward"] = lambda f=function, leaves=leaves, d=direction: torch.autograd.grad(
                    f(*leaves), leaves, d
                )
            name = f"norm [1, {tokens}, {channels}] {str(dtype).removeprefix('torch.')}"
            exact = plain_norm(x.double(), *(v.double() for v in vectors))
            bench.checks[name] = {
                who.strip() or "emogs": distance(f(x, *vectors), exact) for who, f in functions.items()
            }
            # Bytes that a call must move: x and y; with backward also x and grad_y again, and grad_x.
            yield bench.group(name, cases, bytes_forward=2 * x.nbytes, bytes_both=5 * x.nbytes)


def frames(bench: Bench) -> Iterator[Group]:
    """A whole frame of an avatar under an emotion: exact, with a workspace, as a CUDA graph."""
    sizes = bench.sizes
    count = sizes.heads[len(sizes.heads) // 2]
    gaussians, cameras = bench.moved(scenes.head(count)), bench.moved(scenes.head_cameras(sizes.pixels))
    basis, rig = bench.moved(scenes.head_basis(count, sizes.components)), bench.moved(scenes.moving_rig(count, 1))
    emotion = torch.rand(1, sizes.components, generator=torch.Generator().manual_seed(6)).to(bench.device)
    inputs = {"emotion": emotion, "basis": basis, "rig": rig, "settings": SETTINGS}
    exact = emogs.rasterize(gaussians, cameras, **inputs)
    workspace = emogs.RasterWorkspace(2 * len(exact.info.tiles.ids))

    def frame() -> Tensor:
        return emogs.rasterize(gaussians, cameras, workspace=workspace, **inputs).colors

    cases: dict[str, Case] = {
        "exact": lambda: emogs.rasterize(gaussians, cameras, **inputs),
        "workspace": frame,
    }
    checks = {"workspace equals exact": bool(torch.equal(frame(), exact.colors))}
    checks["two runs are equal"] = bool(torch.equal(frame(), frame()))
    if bench.device.type == "cuda":
        graph, image = captured(frame)
        emotion.mul_(0.5)  # a replay reads it again
        graph.replay()
        checks["graph equals workspace"] = bool(torch.equal(image, frame()))
        side = torch.cuda.Stream()
        with torch.cuda.stream(side):
            other = emogs.rasterize(gaussians, cameras, **inputs).colors
        side.synchronize()
        checks["another stream gives the same"] = bool(torch.equal(other, frame()))
        cases["graph"] = graph.replay
    bench.checks["frames"] = checks
    yield bench.group("frames", cases, gaussians=count, size=(cameras.width, cameras.height))


def captured(frame: Callable[[], Tensor]) -> tuple[torch.cuda.CUDAGraph, Tensor]:
    """The frame as a CUDA graph, and the image that replays write."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            frame()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        image = frame()
    return graph, image


GROUPS = {"norms": norms, "renderings": renderings, "modulations": modulations, "frames": frames}


def profile(bench: Bench) -> None:
    """One call of each heavy kernel, for ncu to look at."""
    sizes = bench.sizes
    count, (tokens, channels) = sizes.heads[len(sizes.heads) // 2], sizes.norm[0]
    gaussians, cameras = bench.moved(scenes.head(count)), bench.moved(scenes.head_cameras(sizes.pixels))
    both_ways(lambda cloud: emogs.rasterize(cloud, cameras, settings=SETTINGS).colors, gaussians)()
    x = torch.randn(1, tokens, channels, device=bench.device, dtype=torch.bfloat16, requires_grad=True)
    vectors = torch.zeros(1, channels, device=bench.device, requires_grad=True)
    emogs.emotion_norm(x, vectors, vectors).sum().backward()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tiny", action="store_true", help="sizes for a test: the figures mean nothing")
    parser.add_argument("--no-compile", action="store_true", help="leave torch.compile out")
    parser.add_argument("--groups", nargs="+", choices=GROUPS, default=list(GROUPS))
    parser.add_argument("--profile", action="store_true", help="run each heavy kernel once and measure nothing")
    parser.add_argument("--out", type=Path, required=True, help="the JSON file")
    options = parser.parse_args()
    bench = Bench(torch.device(options.device), TINY if options.tiny else Sizes(), not options.no_compile)
    if options.profile:
        return profile(bench)
    where = bench_report.environment() | {"tiny": options.tiny}
    done: list[Group] = []
    failed: dict[str, str] = {}
    for name in options.groups:
        try:
            for group in GROUPS[name](bench):
                done.append(group)
                print(group.name, {case: f"{group.milliseconds(case).median:.4f} ms" for case in group.samples})
                save(options.out, where, bench, done, failed)
        except Exception as error:  # the other groups still count
            traceback.print_exc()
            failed[name] = f"{type(error).__name__}: {error}"
        save(options.out, where, bench, done, failed)
    sys.exit(1 if failed else 0)


def save(path: Path, where: dict[str, object], bench: Bench, done: list[Group], failed: dict[str, str]) -> None:
    content = {
        "environment": where,
        "settings": dataclasses.asdict(bench.sizes),
        "checks": bench.checks,
        "failed": failed,
        "groups": [dataclasses.asdict(group) for group in done],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
