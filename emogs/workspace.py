"""Rendering without waiting for the GPU: `RasterWorkspace`, room for a fixed number of pairs of splat and tile."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["CapacityError", "RasterWorkspace"]

_LARGEST = 2**31 - 1  # places of pairs are int32


class CapacityError(RuntimeError):
    """More pairs of splat and tile than a workspace holds."""

    def __init__(self, capacity: int, needed: int) -> None:
        wanted = "more than 2^31" if needed > _LARGEST else str(needed)
        super().__init__(
            f"RasterWorkspace: the splats meet {wanted} tiles, but there is room for {capacity}; "
            + ("render fewer images at a time" if needed > _LARGEST else f"use RasterWorkspace({needed}) or larger")
        )
        self.capacity, self.needed = capacity, needed

    def __reduce__(self) -> tuple[type[CapacityError], tuple[int, int]]:
        return type(self), (self.capacity, self.needed)


class RasterWorkspace:
    """Room for a fixed number of pairs of splat and tile, so that `emogs.rasterize` need not wait for their count.

    Without one, every call reads a number back from the GPU, to allocate as many pairs as there are. With one, a call
    on CUDA neither waits nor allocates anything whose size depends on the data: it can be captured in a CUDA graph,
    after one call outside. All memory comes from torch's allocator, so a workspace may serve scenes of different sizes
    and is itself but a counter on the GPU. Results are the same, bit for bit, as long as the room suffices. Where it
    does not, the farthest pairs are left out, of images and gradients alike, and `check` says so.

    On the CPU, where counting costs nothing, images are exact and a call that finds too little room raises at once.

    Args:
        capacity: the most pairs in one call, over all its images; 20 bytes of memory each while lists are made, 16
            without gradients. `workspace.needed` after a few typical calls, or `len(rendering.info.tiles.ids)` of exact
            ones, tells how many to expect.
    Raises:
        TypeError, ValueError: the capacity is not an int from 0 to 2^31 - 1.

    A workspace counts on the device and the stream where it was first used, and must live as long as the graphs that
    were captured with it.

    >>> import emogs, torch
    >>> cloud = emogs.Gaussians(torch.zeros(1, 3), torch.eye(4)[:1], torch.ones(1, 3), torch.ones(1), torch.ones(1, 3))
    >>> camera = emogs.Cameras(emogs.look_at((0, 0, 4.0), (0, 0, 0.0))[None], emogs.pinhole(64, 48, 40)[None], 64, 48)
    >>> workspace = emogs.RasterWorkspace(1000)
    >>> image = emogs.rasterize(cloud, camera, workspace=workspace).colors
    >>> workspace.check()
    >>> workspace.needed
    12
    """

    def __init__(self, capacity: int) -> None:
        if not isinstance(capacity, int) or isinstance(capacity, bool):
            raise TypeError(f"RasterWorkspace: capacity must be an int, got {type(capacity).__name__}")
        if not 0 <= capacity <= _LARGEST:
            raise ValueError(f"RasterWorkspace: capacity must be from 0 to 2^31 - 1, got {capacity}")
        self.capacity = capacity
        self._needed: Tensor | None = None

    @property
    def needed(self) -> int:
        """The most pairs that any call so far asked for; waits for the GPU. 0 before the first call."""
        return 0 if self._needed is None else int(self._needed)

    def check(self) -> None:
        """Waits for the GPU, and raises if pairs were left out in any call so far.

        Raises:
            CapacityError: names the capacity that all calls so far needed.
        """
        if self.needed > self.capacity:
            raise CapacityError(self.capacity, self.needed)

    def record(self, needed: Tensor) -> None:
        """Notes what a call needed, without waiting. `emogs.rasterize` does it.

        Args:
            needed: [1] int64.
        Raises:
            RuntimeError: the first call is being captured in a graph, whose replays would count anew each time.
            ValueError: earlier calls were on another device.
        """
        if self._needed is None:
            if needed.is_cuda and torch.cuda.is_current_stream_capturing():
                raise RuntimeError("RasterWorkspace: call emogs.rasterize with it once before capturing a graph")
            self._needed = torch.zeros_like(needed)
        elif self._needed.device != needed.device:
            raise ValueError(f"RasterWorkspace: it was used on {self._needed.device}, and now on {needed.device}")
        torch.maximum(self._needed, needed, out=self._needed)
