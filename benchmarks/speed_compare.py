"""What need not be timed: operations whose code is the same on both sides."""

from __future__ import annotations

from speed_code import changed, kernel_hashes
from speed_side import Side

KERNELS = {
    "emotion_norm": ["norm_cpu"],
    "EmotionNorm": ["norm_cpu"],
    "emotion_renorm": ["renorm_cpu"],
    "rig_frames": ["rig_cpu"],
    "project_gaussians": ["project_cpu", "project_backward_cpu"],
    "intersect_tiles": ["tiles_cpu"],
    "blend_tiles": ["blend_cpu"],
    "rasterize": ["project_cpu", "project_backward_cpu", "tiles_cpu", "blend_cpu"],
}
"""The kernel files behind each operation; one that is not here is always timed."""


def unchanged(base: Side, head: Side, isa: str) -> set[str]:
    """Operations whose machine code and Python are the same on both sides."""
    if base.python() != head.python():
        return set()
    if head.module() is not None and base.module() == head.module():
        return set(KERNELS)
    if head.bindings() is None or base.bindings() != head.bindings():
        return set()
    ours, theirs = kernel_hashes(head.build()), kernel_hashes(base.build())
    moved = changed(theirs, ours)
    return {
        operation
        for operation, files in KERNELS.items()
        if all(f"{file} {isa}" in ours and f"{file} {isa}" not in moved for file in files)
    }
