"""How long a person waits: from photo to avatar, cold and warm, and for a slider's next picture.

    python benchmarks/bench_avatar.py

Cold is a fresh process from its start to the avatar, warm the same photo again in one process, by steps. A slider's
picture is 256 x 256 with a random emotion, a random articulation and a turned head, nothing of it seen before. These
are times, not ratios: beside each stands the processor time of the process, which neighbours on the machine stretch far
less, and above all of them the load. `--quick` is a smoke run whose figures mean nothing.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import skimage.data
import torch
from bench_report import environment
from rich.console import Console
from rich.table import Table

from emogs.emotion import EMOTIONS
from emogs.model import Avatar, AvatarEncoder, PhotoAvatar, avatar_from_photo
from emogs.photo import load_photo

SIZE = 256
TURN = 30.0
"""Degrees to either side and, a third of it, up and down that the head turns."""
TARGETS = {"cold process": 8.0, "warm": 2.0, "slider": 0.033}
"""Seconds; of the slider's pictures 95 in 100 must keep to it."""
COLD = """
import sys, numpy as np
from emogs.model import avatar_from_photo
avatar_from_photo(np.load(sys.argv[1]))
"""


@dataclass(frozen=True)
class Spent:
    """Seconds of one run."""

    wall: float
    processor: float


def spend(work: Callable[[], object], who: int = resource.RUSAGE_SELF) -> Spent:
    """Times some work of this process, or of processes that it starts and waits for (`who`)."""

    def processor() -> float:
        usage = resource.getrusage(who)
        return usage.ru_utime + usage.ru_stime

    wall, used = time.perf_counter(), processor()
    work()
    return Spent(time.perf_counter() - wall, processor() - used)


def cold(photo: np.ndarray, folder: Path, rounds: int) -> list[Spent]:
    """Fresh processes, from their start to the avatar; the photo is read already."""
    np.save(folder / "photo.npy", photo)
    command = [sys.executable, "-c", COLD, str(folder / "photo.npy")]
    runs = [spend(lambda: subprocess.run(command, check=True), resource.RUSAGE_CHILDREN) for _ in range(rounds)]
    (folder / "photo.npy").unlink()
    return runs


def warm(
    photo: np.ndarray, rounds: int, encoder: AvatarEncoder | None
) -> tuple[PhotoAvatar, list[Spent], dict[str, float]]:
    """The avatar, what every round but the first took, and the median seconds of each step."""
    made = avatar_from_photo(photo, encoder=encoder)
    runs, steps = [], []
    for _ in range(rounds):
        runs.append(spend(lambda: steps.append(avatar_from_photo(photo, encoder=encoder).seconds)))
    return made, runs, {name: float(np.median([step[name] for step in steps])) for name in steps[0]}


def slider(avatar: Avatar, frames: int) -> list[Spent]:
    """One picture after the other, all signals drawn anew; the first few do not count."""
    generator = torch.Generator().manual_seed(0)
    channels = len(avatar.template.expression_names)
    runs = []
    for frame in range(-5, frames):
        emotion = torch.rand(len(EMOTIONS), generator=generator)
        articulation = torch.rand(channels, generator=generator).pow(3)  # most channels near rest, some far from it
        yaw, pitch = (2 * torch.rand(2, generator=generator) - 1).tolist()
        camera = avatar.orbit(TURN * yaw, TURN / 3 * pitch, SIZE)
        with torch.no_grad():
            spent = spend(lambda: avatar.render(camera, emotion, articulation))  # noqa: B023 (called at once)
        if frame >= 0:
            runs.append(spent)
    return runs


def report(console: Console, rows: dict[str, tuple[list[Spent], float]], steps: dict[str, float], quick: bool) -> None:
    """Rows of runs and the quantile of them that is judged."""
    table = Table("", "wall, median", "judged", "wall", "target", "", "processor time of the judged share", box=None)
    for name, (runs, share) in rows.items():
        wall, used = ([getattr(run, field) for run in runs] for field in ("wall", "processor"))
        at, target = float(np.quantile(wall, share)), TARGETS[name]
        verdict = "" if quick else "[green]met[/]" if at <= target else "[red]missed[/]"
        figures = (f"{np.median(wall):.3f} s", "median" if share == 0.5 else f"{100 * share:.0f}%", f"{at:.3f} s")
        table.add_row(name, *figures, f"<= {target:g} s", verdict, f"{np.quantile(used, share):.3f} s")
    console.print(table)
    console.print("warm, by steps: " + ", ".join(f"{name} {seconds:.2f} s" for name, seconds in steps.items()))
    if quick:
        console.print("--quick only shows that everything runs: these figures mean nothing.")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photo", type=Path, help="default: scikit-image's astronaut")
    parser.add_argument("--rounds", type=int, default=5, help="of cold and warm runs each")
    parser.add_argument("--frames", type=int, default=300, help="pictures of the slider")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--folder", type=Path, default=Path("build"), help="for the photo that cold processes read")
    parser.add_argument("--encoder", action="store_true", help="warm runs with an untrained one: what baking it costs")
    parser.add_argument("--quick", action="store_true")
    chosen = parser.parse_args()
    rounds, frames = (1, 3) if chosen.quick else (chosen.rounds, chosen.frames)
    os.environ["OMP_NUM_THREADS"] = str(chosen.threads)  # of the cold processes
    torch.set_num_threads(chosen.threads)
    photo = load_photo(chosen.photo) if chosen.photo else skimage.data.astronaut()
    chosen.folder.mkdir(parents=True, exist_ok=True)
    where, console = environment(), Console(width=120)
    begun = os.getloadavg()[0]
    fresh = cold(photo, chosen.folder, rounds)
    made, again, steps = warm(photo, rounds, AvatarEncoder() if chosen.encoder else None)
    pictures = slider(made.avatar, frames)
    console.print(
        f"emogs {where['version']} ({where['revision']}), {where['instruction_set']}, {chosen.threads} threads,"
        f" {where['cpu']}; load {begun:.1f} to {os.getloadavg()[0]:.1f}; {len(made.avatar.binding):,} Gaussians"
    )
    rows = {"cold process": (fresh, 0.5), "warm": (again, 0.5), "slider": (pictures, 0.95)}
    report(console, rows, steps, chosen.quick)


if __name__ == "__main__":
    main()
