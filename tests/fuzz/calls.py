"""Random calls with arguments that do not belong: `python tests/fuzz/calls.py --count 10000 [--first N] [--emulated]`.

Of the public operations (tests/raster_hostile.py), of `torch.ops.emogs` below them (tests/direct_calls.py) and, on the
CPU, of emogs.emotion (emotion_calls.py), in turn. Call number i is the same in every run; should the process end, the
one that was begun is in build/fuzz/calls-*.last. `make sanitize-calls` runs it under AddressSanitizer and UBSan.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections import Counter
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path += [str(HERE), str(HERE.parent), str(HERE.parent / "emulator")]
if "EMOGS_NATIVE_MODULE" in os.environ:
    import sanitize_plugin  # noqa: F401

import torch  # noqa: E402
from direct_calls import meet_direct_call  # noqa: E402
from emotion_calls import meet_emotion_call  # noqa: E402
from emulation import emulated  # noqa: E402
from raster_hostile import meet_hostile_call  # noqa: E402

OUT = HERE.parents[1] / "build" / "fuzz"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=10_000, help="calls")
    parser.add_argument("--first", type=int, default=0, help="the first call's number")
    parser.add_argument("--emulated", action="store_true", help="on the emulated CUDA kernels")
    options = parser.parse_args()
    torch.set_num_threads(2)
    kinds = [meet_hostile_call, meet_direct_call] + ([] if options.emulated else [meet_emotion_call])
    OUT.mkdir(parents=True, exist_ok=True)
    last = OUT / f"calls-{'emulated' if options.emulated else 'cpu'}.last"
    outcomes, faults = Counter[str](), 0
    with emulated() if options.emulated else contextlib.nullcontext():
        for i in range(options.first, options.first + options.count):
            meet = kinds[i % len(kinds)]
            last.write_text(f"{meet.__name__}({i})\n")
            try:
                outcomes[f"{meet.__name__.split('_')[1]} {meet(i)}"] += 1
            except AssertionError as fault:
                faults += 1
                print(f"FAULT {meet.__name__}({i}): {fault}", flush=True)
    last.unlink()
    print(f"{options.count} calls, {faults} faults: {dict(sorted(outcomes.items()))}")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
