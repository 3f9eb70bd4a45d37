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


def held(field: str) -> int:
    """Bytes that this process holds ("VmRSS") or ever held ("VmHWM")."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(field))
    except OSError:  # not Linux, where getrusage would count the parent's memory too
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def main() -> None:
    count, width, height, threads = map(int, sys.argv[1:])
    torch.set_num_threads(threads)
    pass_through(scenes.place(100), 32, 32)
    gaussians = scenes.place(count)
    before = held("VmRSS")
    pass_through(gaussians, width, height)
    print((held("VmHWM") - before) / 1e9)


if __name__ == "__main__":
    main()
