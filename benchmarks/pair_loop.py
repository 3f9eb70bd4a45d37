"""The limit that the rasterizer is measured against, compiled for this machine by its own compiler (pair_loop.cpp)."""

from __future__ import annotations

import ctypes
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from emogs.ops import Splats, Tiles
from emogs.ops.tiles import TILE_SIZE, tile_count

FLAGS = ["-std=c++17", "-O3", "-ffast-math", "-fopenmp", "-shared", "-fPIC"]
MACHINE_FLAGS = {
    "x86_64": ["-march=native", "-mprefer-vector-width=512"],
    "AMD64": ["-march=native", "-mprefer-vector-width=512"],
    "aarch64": ["-mcpu=native"],
    "arm64": ["-mcpu=native"],
}


def find_compiler() -> str:
    """$CXX, or the first of c++, g++ and clang++ on the path.

    Raises:
        RuntimeError: there is none.
    """
    for name in (os.environ.get("CXX", ""), "c++", "g++", "clang++"):
        if name and (found := shutil.which(name)):
            return found
    raise RuntimeError("pair_loop: no C++ compiler: set CXX, or put c++, g++ or clang++ on the path")


class PairLoop:
    """The compiled loop; `run` goes over the pairs of one image's tile lists.

    Raises:
        RuntimeError: the compiler is missing or fails; the message has what it said.
    """

    def __init__(self) -> None:
        self.compiler = find_compiler()
        self.flags = [*FLAGS, *MACHINE_FLAGS.get(platform.machine(), [])]
        with tempfile.TemporaryDirectory() as folder:  # a loaded library needs its file no longer
            library = Path(folder) / "pair_loop.so"
            source = Path(__file__).with_name("pair_loop.cpp")
            command = [self.compiler, *self.flags, str(source), "-o", str(library)]
            result = subprocess.run(command, capture_output=True, text=True)
            if result.returncode:
                hint = " (Apple's clang has no OpenMP: set CXX to another compiler)" if sys.platform == "darwin" else ""
                raise RuntimeError(f"pair_loop: {' '.join(command)} failed{hint}:\n{result.stderr}")
            self.function = ctypes.CDLL(str(library)).pair_loop
        self.function.restype = ctypes.c_float
        self.function.argtypes = [ctypes.c_void_p] * 4 + [ctypes.c_int64] * 2 + [ctypes.c_int]

    def run(self, splats: Splats, tiles: Tiles, width: int, height: int, threads: int) -> float:
        """Blends float32 splats with three channels; returns a sum over the pixels."""
        data = (splats.records, splats.colors, tiles.offsets, tiles.ids)
        return self.function(*(t.data_ptr() for t in data), tile_count(width, height), -(-width // TILE_SIZE), threads)

    def version(self) -> str:
        """The compiler's first line about itself."""
        return subprocess.run([self.compiler, "--version"], capture_output=True, text=True).stdout.splitlines()[0]
