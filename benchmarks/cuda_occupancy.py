"""How many blocks of a kernel a multiprocessor holds at once: the CUDA occupancy calculator's rules, without CUDA.

NVIDIA's own are in `cuda_occupancy.h` of the toolkit; the tests compare with it where it is found.
"""

from __future__ import annotations

from dataclasses import dataclass

RESERVED_SHARED = 1024  # bytes of every block that the system keeps for itself
SHARED_UNIT = 128  # bytes: shared memory is handed out in these
REGISTER_UNIT = 8  # registers a thread, likewise
PARTITIONS = 4  # of a multiprocessor; a warp's registers lie in one


@dataclass(frozen=True)
class Processor:
    """What a multiprocessor of one architecture has (CUDA C++ programming guide, "Compute Capabilities")."""

    threads: int
    blocks: int
    shared: int  # bytes
    shared_per_block: int  # bytes, with the launch raising the limit
    registers: int = 65536


PROCESSORS = {
    80: Processor(2048, 32, 167936, 166912),
    90: Processor(2048, 32, 233472, 232448),
    120: Processor(1536, 24, 102400, 101376),
}


@dataclass(frozen=True)
class Occupancy:
    """How full a kernel makes a multiprocessor."""

    blocks: int
    percent: int  # of the warps that it could hold, rounded down
    limit: str  # what keeps more blocks out


def occupancy(architecture: int, threads: int, registers: int, shared: int) -> Occupancy:
    """For blocks of `threads` with `registers` each and `shared` bytes a block, static and dynamic together."""
    processor = PROCESSORS[architecture]
    warps, resident = -(-threads // 32), processor.threads // 32
    if threads > 1024 or shared > processor.shared_per_block:
        return Occupancy(0, 0, "launch")
    per_warp = 32 * REGISTER_UNIT * -(-registers // REGISTER_UNIT)
    by_registers = processor.registers // PARTITIONS // max(per_warp, 1) * PARTITIONS // warps
    allotted = SHARED_UNIT * -(-(shared + RESERVED_SHARED) // SHARED_UNIT)
    limits = {
        "blocks": processor.blocks,
        "warps": resident // warps,
        "registers": by_registers if registers else processor.blocks,
        "shared memory": processor.shared // allotted,
    }
    limit = min(limits, key=lambda name: limits[name])
    return Occupancy(limits[limit], 100 * limits[limit] * warps // resident, limit)
