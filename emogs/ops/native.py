"""The native module, and where an operation runs. Import `_C` from here, never from `emogs` itself."""

from __future__ import annotations

from typing import Any

import torch  # first: the native module then shares torch's OpenMP threads instead of loading its own
from torch import Tensor

try:
    from emogs import _C
except ImportError as error:
    raise ImportError(
        "emogs's native module is missing or does not load; build it with `pip install .` "
        f"(in a checkout: `make build`). The loader said: {error}"
    ) from error

__all__ = ["_C", "launch"]


def launch(like: Tensor, dtype: torch.dtype | None = None) -> dict[str, Any]:
    """The keyword arguments that every native operation begins with: kernel type, device, stream, threads.

    Args:
        like: a tensor on the device where the operation runs.
        dtype: which instantiation to run; `like.dtype` if None.
    """
    name = str(dtype or like.dtype).removeprefix("torch.")
    if like.is_cuda:
        stream = torch.cuda.current_stream(like.device).cuda_stream
        return {"dtype": name, "device": like.device.index, "stream": stream, "threads": 1}
    return {"dtype": name, "device": -1, "stream": 0, "threads": torch.get_num_threads()}
