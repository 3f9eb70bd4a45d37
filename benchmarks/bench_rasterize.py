"""How far the CPU rasterizer is from the loop that it cannot beat: `python benchmarks/bench_rasterize.py`.

An 80k-Gaussian head-like shell at 512x512 on two threads. Every figure is a ratio to the bare pair loop (pair_loop.cpp,
compiled here for this machine), measured in the same interleaved rounds: the median over rounds.
The targets are forward <= 1.5 and forward + backward <= 5.
"""

from __future__ import annotations

import argparse
import ctypes
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

import emogs
from emogs.ops import blend_tiles, intersect_tiles, project_gaussians
from emogs.ops.native import _C
from emogs.ops.tiles import tile_count

FLAGS = [
    *("-std=c++17", "-O3", "-march=native", "-mprefer-vector-width=512"),
    *("-fopenmp", "-ffast-math", "-shared", "-fPIC"),
]


def head(count: int, components: int = 16) -> tuple[emogs.Gaussians, emogs.EmotionBasis]:
    """Flat splats on an ellipsoid of a head's size, with some noise: what a baked avatar looks like to the kernels."""
    generator = torch.Generator().manual_seed(0)
    normal = torch.nn.functional.normalize(torch.randn(count, 3, generator=generator), dim=-1)
    quats = torch.nn.functional.normalize(
        torch.stack([1 + normal[:, 2], -normal[:, 1], normal[:, 0], 0 * normal[:, 0]], -1), dim=-1
    )
    size = 0.0011 * (80_000 / count) ** 0.5 * torch.exp(0.3 * torch.randn(count, 3, generator=generator))
    size[:, 2] *= 0.1
    gaussians = emogs.Gaussians(
        means=normal * torch.tensor([0.08, 0.12, 0.1]) + 0.0005 * torch.randn(count, 3, generator=generator),
        quats=quats,
        scales=size,
        opacities=0.3 + 0.69 * torch.rand(count, generator=generator),
        colors=torch.rand(count, 3, generator=generator),
    )
    basis = emogs.EmotionBasis(
        means=0.001 * torch.randn(components, count, 3, generator=generator),
        colors=0.1 * torch.randn(components, count, 3, generator=generator),
    )
    return gaussians, basis


def load_pair_loop() -> Callable[..., float]:
    source, library = Path(__file__).with_name("pair_loop.cpp"), Path(tempfile.mkdtemp()) / "pair_loop.so"
    subprocess.run(["g++", *FLAGS, str(source), "-o", str(library)], check=True)
    function = ctypes.CDLL(str(library)).pair_loop
    function.restype = ctypes.c_float
    function.argtypes = [ctypes.c_void_p] * 4 + [ctypes.c_int64] * 2 + [ctypes.c_int]
    return function


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=80_000)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    size = options.size

    gaussians, basis = head(options.count)
    leaf = {
        f: getattr(gaussians, f).clone().requires_grad_() for f in ("means", "quats", "scales", "opacities", "colors")
    }
    trained = emogs.Gaussians(**leaf)
    view = emogs.look_at((0.25, 0.05, 1.2), (0.0, 0.0, 0.0))
    cameras = emogs.Cameras(view[None], emogs.pinhole(size, size, 14.0)[None], size, size)
    emotion = torch.rand(1, basis.components)
    settings = emogs.RasterSettings(depth="none")

    splats = project_gaussians(gaussians, cameras)
    tiles = intersect_tiles(splats, size, size)
    pair_loop = load_pair_loop()

    def bare() -> None:
        data = (splats.records, splats.colors, tiles.offsets, tiles.ids)
        pair_loop(*(t.data_ptr() for t in data), tile_count(size, size), -(-size // 16), options.threads)

    def forward_backward() -> None:
        for tensor in leaf.values():
            tensor.grad = None
        emogs.rasterize(trained, cameras, settings=settings).colors.sum().backward()

    cases: dict[str, Callable[[], object]] = {
        "bare pair loop": bare,
        "forward": lambda: emogs.rasterize(gaussians, cameras, settings=settings),
        "forward, 16 components": lambda: emogs.rasterize(
            gaussians, cameras, emotion=emotion, basis=basis, settings=settings
        ),
        "  project": lambda: project_gaussians(gaussians, cameras),
        "  tiles": lambda: intersect_tiles(splats, size, size),
        "  blend": lambda: blend_tiles(splats, tiles, size, size, settings=settings),
        "forward + backward": forward_backward,
    }
    times: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(options.rounds + 2):
        for name, case in cases.items():
            start = time.perf_counter()
            case()
            times[name].append(time.perf_counter() - start)
    loop = times["bare pair loop"][2:]
    scene = f"{options.count} Gaussians, {size}x{size}, {len(tiles.ids)} pairs"
    print(f"{_C.isa_in_use()}, {options.threads} threads, {scene}")
    for name, samples in times.items():
        ratio = statistics.median(t / base for t, base in zip(samples[2:], loop, strict=True))
        median, best = statistics.median(samples[2:]) * 1e3, min(samples) * 1e3
        print(f"{name:24s} {median:8.2f} ms  best {best:8.2f}  {ratio:6.2f} x loop")


if __name__ == "__main__":
    main()
