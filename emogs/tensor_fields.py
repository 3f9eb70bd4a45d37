"""What the frozen records of tensors (`Gaussians`, `Cameras`, `EmotionBasis`, `Rig`) can do as tensors can."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any, TypeVar

import torch
from torch import Tensor

Record = TypeVar("Record", bound="TensorFields")


class TensorFields:
    """Base of a dataclass whose fields are tensors, None or plain values."""

    def to(
        self: Record, device: torch.device | str | int | torch.dtype | None = None, dtype: torch.dtype | None = None
    ) -> Record:
        """The same on another device or in another floating dtype, as `torch.nn.Module.to` does: indices keep theirs.

        >>> import emogs
        >>> camera = emogs.Cameras(emogs.look_at((0, 0, 1), (0, 0, 0))[None], emogs.pinhole(64, 64, 40)[None], 64, 64)
        >>> camera.to(torch.float64).Ks.dtype
        torch.float64
        """
        if isinstance(device, torch.dtype):
            if dtype is not None:
                raise TypeError(f"{type(self).__name__}.to: got two dtypes, {device} and {dtype}")
            device, dtype = None, device
        if dtype is not None and not dtype.is_floating_point:
            raise TypeError(f"{type(self).__name__}.to: dtype must be floating, got {dtype}")
        return self._map(lambda tensor: tensor.to(device, dtype if tensor.is_floating_point() else None))

    def detach(self: Record) -> Record:
        """The same values without their history of gradients; memory is shared."""
        return self._map(Tensor.detach)

    def _map(self: Record, function: Callable[[Tensor], Tensor]) -> Record:
        values: dict[str, Any] = {f.name: getattr(self, f.name) for f in fields(self)}  # type: ignore[arg-type]
        changed = {name: function(value) for name, value in values.items() if isinstance(value, Tensor)}
        return replace(self, **changed)  # type: ignore[type-var]
