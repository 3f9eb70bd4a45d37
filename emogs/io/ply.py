"""Gaussians as the `.ply` of the 3DGS reference code, which every splat viewer reads; the order of Gaussians is kept.

In the file: log scales, logit opacities, quaternions wxyz, colours as spherical harmonics (`f_dc` for degree 0 and
`f_rest`, channel by channel, for the others), float32. In memory: linear scales, opacities in [0, 1], `sh` [N, K, 3].
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..gaussians import Gaussians
from .files import SYNTHETIC, FormatError
from .ply_table import read_table, write_table

SH_C0 = 0.5 / math.sqrt(math.pi)
"""The constant spherical harmonic: a colour is `0.5 + SH_C0 * f_dc`."""
SMALLEST_SCALE = 1e-12
"""Metres; a zero has no logarithm."""
OPACITY_MARGIN = 1e-6
"""How close to 0 and 1 an opacity may come, for the same reason; a quarter of a thousandth of an 8-bit step."""

_FIELDS = ("x", "y", "z", "opacity", "scale_0", "scale_1", "scale_2", "rot_0", "rot_1", "rot_2", "rot_3")
_MOST_REST = 3 * (5 * 5 - 1)  # degree 4


def save_ply(path: str | Path, gaussians: Gaussians) -> None:
    """Writes Gaussians without a batch.

    Args:
        path: replaced as a whole, or left alone if writing fails.
        gaussians: N of them, with `colors` [N, 3] or `sh` [N, (L+1)^2, 3].
    Raises:
        ValueError: for a batch, other than three channels, or values that are not finite.
    """
    columns = _columns(gaussians)
    for name, column in columns.items():
        if not column.isfinite().all():
            raise ValueError(f"gaussians: {name} holds a value that is not finite")
    vertex = np.empty(len(gaussians.means), dtype=[(name, "<f4") for name in columns])
    for name, column in columns.items():
        vertex[name] = column.detach().float().cpu().numpy()
    write_table(Path(path), vertex, SYNTHETIC)


def load_ply(path: str | Path) -> Gaussians:
    """Reads Gaussians: with `colors` [N, 3] where the file has only `f_dc`, else with `sh` [N, (L+1)^2, 3].

    Raises:
        FormatError: names the file, the field and the reason, whatever the bytes are.
    """
    vertex = read_table(Path(path))
    rest = sorted((n for n in vertex.dtype.names or () if n.startswith("f_rest_")), key=lambda n: (len(n), n))
    degree_count = len(rest) // 3 + 1
    if len(rest) > _MOST_REST or len(rest) % 3 or math.isqrt(degree_count) ** 2 != degree_count:
        raise FormatError(path, "f_rest", f"{len(rest)} of them fit no degree of spherical harmonics")
    names = [*_FIELDS, *(f"f_dc_{i}" for i in range(3)), *(f"f_rest_{i}" for i in range(len(rest)))]
    values = {name: _column(path, vertex, name) for name in names}
    gather = lambda *names: torch.stack([values[name] for name in names], -1)  # noqa: E731
    constant = gather("f_dc_0", "f_dc_1", "f_dc_2")
    common = {
        "means": gather("x", "y", "z"),
        "quats": gather("rot_0", "rot_1", "rot_2", "rot_3"),
        "scales": gather("scale_0", "scale_1", "scale_2").exp(),
        "opacities": values["opacity"].sigmoid(),
    }
    if not rest:
        return Gaussians(**common, colors=0.5 + SH_C0 * constant)
    others = gather(*(f"f_rest_{i}" for i in range(len(rest)))).unflatten(-1, (3, -1)).transpose(1, 2)
    return Gaussians(**common, sh=torch.cat([constant[:, None], others], 1))


def _columns(gaussians: Gaussians) -> dict[str, Tensor]:
    """The file's columns [N] in the order of the reference code."""
    if gaussians.means.ndim != 2:
        raise ValueError(f"gaussians: expected means [N, 3], got {list(gaussians.means.shape)}")
    if gaussians.sh is not None:
        constant, others = gaussians.sh[:, 0], gaussians.sh[:, 1:]
    elif gaussians.colors is not None and gaussians.colors.shape[-1] == 3:
        constant, others = (gaussians.colors - 0.5) / SH_C0, gaussians.colors.new_zeros(len(gaussians.means), 0, 3)
    else:
        raise ValueError("gaussians: a .ply needs sh or colours with three channels")
    groups = {
        ("x", "y", "z"): gaussians.means,
        ("nx", "ny", "nz"): torch.zeros_like(gaussians.means),
        tuple(f"f_dc_{i}" for i in range(3)): constant,
        tuple(f"f_rest_{i}" for i in range(3 * others.shape[1])): others.transpose(1, 2).flatten(1),
        ("opacity",): gaussians.opacities.clamp(OPACITY_MARGIN, 1 - OPACITY_MARGIN).logit()[:, None],
        ("scale_0", "scale_1", "scale_2"): gaussians.scales.clamp_min(SMALLEST_SCALE).log(),
        ("rot_0", "rot_1", "rot_2", "rot_3"): gaussians.quats,
    }
    return {name: values[:, i] for names, values in groups.items() for i, name in enumerate(names)}


def _column(path: str | Path, vertex: np.ndarray[Any, Any], name: str) -> Tensor:
    """One finite column [N] float32."""
    if name not in (vertex.dtype.names or ()):
        raise FormatError(path, name, "no such property")
    with np.errstate(over="ignore"):
        values = torch.from_numpy(np.array(vertex[name], dtype=np.float32))
    if not values.isfinite().all():
        raise FormatError(path, name, "holds a value that is not finite")
    return values
