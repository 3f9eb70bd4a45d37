"""How far the CPU rasterizer is from the loop that it cannot beat: `python benchmarks/bench_rasterize.py`.

Every figure is a ratio of calls in the same interleaved rounds (measure.py): to the bare vectorised pair loop
(pair_loop.cpp) over the same tile lists, to renders without an emotion, to one thread. Prints a table, writes all
samples as JSON and the scaling as a picture. `--quick` is a smoke run of seconds whose figures mean nothing.
"""

from __future__ import annotations

import argparse
import dataclasses
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import bench_report
import scenes
import torch
from measure import Case, Figure, Group, interleave, with_threads
from pair_loop import PairLoop

import emogs
from emogs.ops import blend_tiles, intersect_tiles, project_gaussians

SETTINGS = emogs.RasterSettings(depth="none")
FIELDS = ("means", "quats", "scales", "opacities", "colors")


@dataclass(frozen=True)
class Sizes:
    """How much is measured."""

    head: int  # Gaussians of the scene that the targets speak of
    pixels: int  # its width and height
    components: int
    emotions: int
    rounds: int
    counts: tuple[int, ...]  # of Gaussians, for the scaling
    widths: tuple[int, ...]
    channels: tuple[int, ...]
    batches: tuple[int, ...]
    place: tuple[int, int, int]  # Gaussians, width, height of the memory measurement


FULL = Sizes(
    80_000, 512, 16, 32, 15, (10_000, 30_000, 100_000, 300_000, 1_000_000, 5_000_000), (128, 256, 512, 1024, 2048),
    (1, 3, 8, 16, 32, 64), (1, 2, 4, 8, 16, 32), (1_000_000, 1920, 1080),
)  # fmt: skip
QUICK = Sizes(500, 48, 2, 2, 2, (100, 200), (32, 48), (1, 5), (1, 2), (500, 64, 48))


class View:
    """A cloud before a camera, what the stages make of it, and the calls that are timed."""

    def __init__(self, gaussians: emogs.Gaussians, cameras: emogs.Cameras) -> None:
        self.gaussians, self.cameras = gaussians, cameras
        self.size = (cameras.width, cameras.height)
        self.splats = project_gaussians(gaussians, cameras)
        self.tiles = intersect_tiles(self.splats, *self.size)
        self.leaves = {name: getattr(gaussians, name).clone().requires_grad_() for name in FIELDS}
        self.trained = emogs.Gaussians(**self.leaves)

    def forward(self, **options: object) -> emogs.Rendering:
        return emogs.rasterize(self.gaussians, self.cameras, settings=SETTINGS, **options)

    def forward_backward(self, *leaves: torch.Tensor, **options: object) -> None:
        for tensor in (*self.leaves.values(), *leaves):
            tensor.grad = None
        emogs.rasterize(self.trained, self.cameras, settings=SETTINGS, **options).colors.sum().backward()

    def stages(self) -> dict[str, Case]:
        """Each stage alone; the backward passes reuse the graph of one forward."""
        records, colors = (t.clone().requires_grad_() for t in (self.splats.records, self.splats.colors))
        splats = emogs.ops.Splats(records, colors, self.splats.outside, self.splats.non_finite)
        image = blend_tiles(splats, self.tiles, *self.size, settings=SETTINGS)[0]
        projected = project_gaussians(self.trained, self.cameras)
        outputs, leaves = (projected.records, projected.colors), list(self.leaves.values())
        weights = [torch.ones_like(t) for t in outputs]
        ones = torch.ones_like(image)
        return {
            "project": lambda: project_gaussians(self.gaussians, self.cameras),
            "tiles": lambda: intersect_tiles(self.splats, *self.size),
            "blend": lambda: blend_tiles(self.splats, self.tiles, *self.size, settings=SETTINGS),
            "blend backward": lambda: torch.autograd.grad(image, (records, colors), ones, retain_graph=True),
            "project backward": lambda: torch.autograd.grad(outputs, leaves, weights, retain_graph=True),
        }


def half_of(basis: emogs.EmotionBasis) -> emogs.EmotionBasis:
    """The basis in float16, half the memory."""
    return emogs.EmotionBasis(**{name: value.half() for name, value in basis.given().items()})


Part = Iterator[tuple[Group, list[Figure]]]


def limit(sizes: Sizes, loop: PairLoop, threads: int) -> Part:
    """The targets: forward and forward + backward in units of the bare loop; the stages; threads."""
    view = View(scenes.head(sizes.head), scenes.head_cameras(sizes.pixels))
    cases: dict[str, Case] = {
        "bare pair loop": lambda: loop.run(view.splats, view.tiles, *view.size, threads),
        "forward": view.forward,
        "forward + backward": view.forward_backward,
        **view.stages(),
    }
    notes = {"gaussians": sizes.head, "size": view.size, "pairs": len(view.tiles.ids), "threads": threads}
    group = interleave("limit", cases, sizes.rounds, **notes)
    targets = {"forward": 1.5, "forward + backward": 5.0}
    yield group, [group.ratio(f"{case} / loop", case, "bare pair loop", targets.get(case)) for case in list(cases)[1:]]
    if threads > 1:
        few = {
            "loop": lambda n: lambda: loop.run(view.splats, view.tiles, *view.size, n),
            "forward": lambda n: with_threads(n, view.forward),
            "forward + backward": lambda n: with_threads(n, view.forward_backward),
        }
        both = {f"{name}, {n} threads": make(n) for name, make in few.items() for n in (1, threads)}
        group = interleave("threads", both, sizes.rounds, **notes)
        yield (
            group,
            [
                group.ratio(f"{name}: 1 / {threads} threads", f"{name}, 1 threads", f"{name}, {threads} threads")
                for name in few
            ],
        )


def modulation(sizes: Sizes, threads: int) -> Part:
    """One image under an emotion against one without, basis in float32 and float16."""
    view = View(scenes.head(sizes.head), scenes.head_cameras(sizes.pixels))
    basis = scenes.head_basis(sizes.head, sizes.components)
    half = half_of(basis)
    emotion = torch.rand(1, sizes.components, generator=torch.Generator().manual_seed(4)).requires_grad_()
    leaves = {name: value.clone().requires_grad_() for name, value in basis.given().items()}
    trained, weights = emogs.EmotionBasis(**leaves), emotion.detach()
    cases: dict[str, Case] = {
        "plain": view.forward,
        "float32 basis": lambda: view.forward(emotion=weights, basis=basis),
        "float16 basis": lambda: view.forward(emotion=weights, basis=half),
        "plain, backward": view.forward_backward,
        "float32 basis, backward": lambda: view.forward_backward(
            emotion, *leaves.values(), emotion=emotion, basis=trained
        ),
    }
    group = interleave("modulation", cases, sizes.rounds, components=sizes.components, threads=threads)
    yield (
        group,
        [
            group.ratio("forward, float32 basis / plain", "float32 basis", "plain"),
            group.ratio("forward, float16 basis / plain", "float16 basis", "plain"),
            group.ratio("forward + backward, float32 basis / plain", "float32 basis, backward", "plain, backward"),
        ],
    )


def emotions(sizes: Sizes, threads: int) -> Part:
    """Many emotions in one call, the rig moving; and projection with a basis against modulating in torch first."""
    gaussians, cameras = scenes.head(sizes.head), scenes.head_cameras(sizes.pixels)
    basis = scenes.head_basis(sizes.head, sizes.components)
    emotion = torch.rand(sizes.emotions, sizes.components, generator=torch.Generator().manual_seed(5))
    rig, count = scenes.moving_rig(sizes.head, sizes.emotions), sizes.emotions
    half = half_of(basis)

    def render(**options: object) -> Case:
        return lambda: emogs.rasterize(gaussians, cameras, settings=SETTINGS, **options)

    def alone() -> None:
        for _ in range(count):
            emogs.rasterize(gaussians, cameras, settings=SETTINGS)

    views, Ks = (t.expand(count, *t.shape[1:]) for t in (cameras.viewmats, cameras.Ks))
    many = emogs.Cameras(views, Ks, cameras.width, cameras.height)
    cases = {
        f"{count} plain renders": alone,
        f"{count} plain renders in one call": lambda: emogs.rasterize(gaussians, many, settings=SETTINGS),
        f"{count} emotions, moving rig": render(emotion=emotion, basis=basis, rig=rig),
        f"{count} emotions, moving rig, float16": render(emotion=emotion, basis=half, rig=rig),
    }
    group = interleave("emotions", cases, max(sizes.rounds // 2, 2), 1, emotions=count, threads=threads)
    names = list(cases)
    yield group, [group.ratio(f"{name} / {base}", name, base, 1.15) for name in names[2:] for base in names[:2]]
    for batch in sorted({1, count}):
        some = emotion[:batch]
        pair: dict[str, Case] = {
            "with a basis": lambda some=some: project_gaussians(gaussians, cameras, emotion=some, basis=basis),
            "modulated in torch": lambda some=some: project_gaussians(
                scenes.modulated(gaussians, some, basis), cameras
            ),
        }
        group = interleave(f"projection of {batch}", pair, max(sizes.rounds // 2, 2), 1, threads=threads)
        name = f"project_gaussians, {batch} emotions: torch / basis"
        yield group, [group.ratio(name, "modulated in torch", "with a basis", 5.0, larger_is_better=True)]


def scaling(sizes: Sizes, loop: PairLoop, threads: int) -> Part:
    """Time by Gaussians, pixels, channels and batch, the bare loop beside it where it can be."""
    rounds = max(sizes.rounds // 3, 2)

    def measure(axis: str, value: int, view: View, **options: object) -> tuple[Group, list[Figure]]:
        cases: dict[str, Case] = {
            "forward": lambda: view.forward(**options),
            "forward + backward": lambda: view.forward_backward(**options),
        }
        if axis in ("Gaussians", "pixels"):
            cases["bare pair loop"] = lambda: loop.run(view.splats, view.tiles, *view.size, threads)
        notes = {"axis": axis, "value": value, "pairs": len(view.tiles.ids), "threads": threads}
        group = interleave(f"{axis} {value}", cases, rounds, 1, **notes)
        bare = [group.ratio(f"{axis} {value}: forward / loop", "forward", "bare pair loop")] if len(cases) > 2 else []
        return group, bare

    for n in sizes.counts:
        yield measure("Gaussians", n, View(scenes.head(n), scenes.head_cameras(sizes.pixels)))
    for width in sizes.widths:
        yield measure("pixels", width * width, View(scenes.head(sizes.head), scenes.head_cameras(width)))
    for channels in sizes.channels:
        yield measure("channels", channels, View(scenes.head(sizes.head, channels), scenes.head_cameras(sizes.pixels)))
    basis, view = scenes.head_basis(sizes.head, sizes.components), None
    for batch in sizes.batches:
        view = view or View(scenes.head(sizes.head), scenes.head_cameras(sizes.pixels))
        yield measure("batch", batch, view, emotion=torch.rand(batch, sizes.components), basis=basis)


def memory(sizes: Sizes, threads: int) -> Figure:
    """Peak additional memory of a forward and a backward pass, in a process of its own."""
    numbers = [str(n) for n in (*sizes.place, threads)]
    command = [sys.executable, str(Path(__file__).with_name("peak_memory.py")), *numbers]
    gigabytes = float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    count, width, height = sizes.place
    name = f"peak memory, {count:,} Gaussians at {width}x{height}, forward + backward"
    return Figure(name, gigabytes, gigabytes, gigabytes, 1.5, "GB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a smoke run of seconds")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, help="how often each case of the main groups runs")
    parser.add_argument("--out", type=Path, help="folder of the files; benchmarks/results, with --quick in quick there")
    parts = ("limit", "modulation", "emotions", "scaling", "memory")
    parser.add_argument("--parts", nargs="+", choices=parts, default=parts)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    sizes = QUICK if options.quick else FULL
    if options.rounds:
        sizes = Sizes(**{**vars(sizes), "rounds": options.rounds})

    loop = PairLoop()
    runs: dict[str, Callable[[], Part]] = {
        "limit": lambda: limit(sizes, loop, options.threads),
        "modulation": lambda: modulation(sizes, options.threads),
        "emotions": lambda: emotions(sizes, options.threads),
        "scaling": lambda: scaling(sizes, loop, options.threads),
    }
    groups: list[Group] = []
    figures: list[Figure] = []
    for part, run in runs.items():
        if part in options.parts:
            for group, ratios in run():
                groups.append(group)
                figures.extend(ratios)
                print(f"measured {group.name}", file=sys.stderr)
    if "memory" in options.parts:
        figures.append(memory(sizes, options.threads))
    if options.quick:
        figures = [dataclasses.replace(figure, target=None) for figure in figures]
    where = bench_report.environment(loop)
    bench_report.print_table(where, groups, figures, options.quick)
    folder = options.out or bench_report.results(options.quick)
    bench_report.write(folder, "rasterize", where, vars(sizes) | {"threads": options.threads}, groups, figures)


if __name__ == "__main__":
    main()
