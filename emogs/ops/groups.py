"""Which items share a key: sums over them in this order do not depend on threads."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def lists_by_key(keys: Tensor, count: int, where: dict[str, Any]) -> Tensor:
    """What csrc/common/groups.h makes on the CPU: here only room for it there, on CUDA the lists themselves.

    Args:
        keys: int32, flattened: item i has key `keys[i]`. Items with keys outside [0, count) are in no list.
        count: how many keys there are.
        where: the answer of `emogs.ops.native.launch`.
    Returns:
        [count + 1 + items] int64: where the list of each key begins, and the end of the last; then the lists one after
        the other, items in ascending order.
    """
    if where["device"] < 0:
        return torch.empty(count + 1 + keys.numel(), dtype=torch.int64)
    in_order, items = torch.sort(keys.flatten(), stable=True)
    starts = torch.searchsorted(in_order, torch.arange(count + 1, dtype=keys.dtype, device=keys.device))
    return torch.cat([starts, items])
