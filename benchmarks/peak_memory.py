"""Peak additional memory, GB, of one forward and backward pass: `python peak_memory.py GAUSSIANS WIDTH HEIGHT THREADS`.

In a process of its own, since a peak never falls. A small pass beforehand pays for thread pools and code.
"""

from __future__ import annotations

import resource
import sys
from pathlib import Path

import scenes
import torch

import emogs

FIELDS = ("means", "quats", "scales", "opacities", "colors")


def pass_through(gaussians: emogs.Gaussians, width: int, height: int) -> None:
    leaves = {name: getattr(gaussians, name).requires_grad_() for name in FIELDS}
    cameras = scenes.place_cameras(width, height)
    emogs.rasterize(emogs.Gaussians(**leaves), cameras).colors.square().sum().backward()


def peak() -> int:
    """Bytes that this process ever held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def now() -> int:
    """Bytes that it holds."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    except OSError:
        return peak()


def main() -> None:
    count, width, height, threads = map(int, sys.argv[1:])
    torch.set_num_threads(threads)
    pass_through(scenes.place(100), 32, 32)
    gaussians = scenes.place(count)
    before = now()
    pass_through(gaussians, width, height)
    print((peak() - before) / 1e9)


if __name__ == "__main__":
    main()
