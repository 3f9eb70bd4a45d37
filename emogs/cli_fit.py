"""`emogs head fit`: a clip's landmarks to a performance that any head plays."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro
from tyro.conf import Positional

from .cli_arguments import check_output, said_of_options
from .cli_template import speaking

if TYPE_CHECKING:
    from .photo import SequenceFit
    from .photo.sequence_fitter import SequenceFitter

_ENDINGS = (".csv", ".json", ".npz")


def fit(
    file: Annotated[Positional[Path], tyro.conf.arg(metavar="LANDMARKS")],
    /,
    out: Path = Path("performance.csv"),
    fps: float | None = None,
    size: str | None = None,
    template: str = "builtin",
    mapping: Path | None = None,
    landmarks: Path | None = None,
    focal: float | None = None,
    picture: Path | None = None,
) -> None:
    """Fit one head to the landmarks of a clip: who it is, and pose, mouth, lids and gaze in every frame.

    Writes .csv (ARKit's 52 channels over time, the head's angles, which frames were filled), .json (the channels) or
    .npz (everything). Long clips may be stopped with Ctrl+C: what is finished is written, and the same command goes on.

    Args:
        file: MediaPipe's 478 points a frame or iBUG's 68 as npz, npy, csv or json; OpenFace's csv as it is.
        out: The .csv, .json or .npz to write.
        fps: Frames a second, where the file does not say.
        size: The picture's width and height in pixels, such as `1920x1080`; needed for MediaPipe's coordinates.
        template: As for `emogs head show`.
        mapping: An npz that says what ARKit's channels are in the template's expression space.
        landmarks: FLAME's landmark embedding, or a text file of 68 vertex numbers.
        focal: The camera's focal length in pixels, if known.
        picture: A PNG to write: frames of the clip, its landmarks over the fitted head.
    """
    check_output("--out", out, *_ENDINGS)
    if picture is not None:
        check_output("--picture", picture, ".png")
    from .photo import load_landmarks
    from .photo.sequence import sequence_fitter

    read = load_landmarks(file, fps)
    if read.fps is None:
        raise ValueError(f"{file}: does not say how many frames a second; give --fps")
    head = speaking(template, mapping, landmarks)
    shape = read.size if size is None else _size(size)
    with _Bar() as bar, said_of_options("fps", "size", "focal"):
        fitter = sequence_fitter(read.landmarks, read.fps, shape, head, read.visibility, focal, bar)
        finished = _run(fitter, out)
    if not finished and fitter.done == 0:
        raise KeyboardInterrupt
    from .photo import save_performance
    from .photo.sequence import finished as result

    made = result(fitter, head)
    save_performance(out, made)
    if picture is not None:
        from .io.sheet import write_png
        from .viewer.fits import fit_sheet

        write_png(picture, fit_sheet(made))
        print(f"{picture}: landmarks over the fitted head")
    _report(out, made)
    if not finished:
        print(f"stopped after {fitter.done} of {len(fitter.clip)} frames; the same command goes on", file=sys.stderr)
        sys.exit(130)


def _run(fitter: SequenceFitter, out: Path) -> bool:
    """Runs a fitter, from where an earlier run was stopped; whether it came to the end."""
    from .photo.sequence_files import load_progress, save_progress

    progress = out.with_name(f".{out.stem}.unfinished.npz")
    if progress.exists():
        try:
            again = load_progress(progress, fitter)
        except ValueError:
            again = False  # another clip's, or damaged: begin anew
        if again:
            print(f"goes on after {fitter.done} frames that an earlier run finished", file=sys.stderr)
    try:
        fitter.run()
    except KeyboardInterrupt:
        save_progress(progress, fitter)
        return False
    progress.unlink(missing_ok=True)
    return True


class _Bar:
    """A bar that shows which stage runs and how far it is; call it as `progress(stage, share)`."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (TextColumn("{task.description:16s}"), BarColumn(), TimeRemainingColumn())
        self._progress = Progress(*columns, console=Console(stderr=True), transient=True)
        self._task = self._progress.add_task("", total=1.0)

    def __call__(self, stage: str, share: float) -> None:
        self._progress.update(self._task, description=stage, completed=share)

    def __enter__(self) -> _Bar:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()


def _size(text: str) -> tuple[float, float]:
    try:
        width, height = (float(part) for part in text.lower().split("x"))
    except ValueError:
        width = height = 0.0
    if not (0 < width < 1e6 and 0 < height < 1e6):
        raise ValueError(f"--size: expected width and height such as 1920x1080, got {text!r}")
    return width, height


def _report(out: Path, made: SequenceFit) -> None:
    """How well it went, and which frames not to trust."""
    seen, gaps = int((~made.filled).sum()), int(made.filled.sum())
    error = 100 * made.error[~made.filled]
    frame = int(made.error.nan_to_num(-1.0).argmax())
    print(f"{out}: {len(made.times)} frames at {made.fps:g} a second on {made.template.name}")
    print(
        f"landmarks are off by {float(error.mean()):.1f}% of the outer-eye distance on average over {seen} frames,"
        f" at most by {float(error.max()):.1f}% in frame {frame}"
    )
    if not made.has_gaze:
        print("68 landmarks do not show where the eyes look: gaze is straight ahead", file=sys.stderr)
    if gaps:
        print(f"{gaps} frames without usable landmarks were filled from their neighbours", file=sys.stderr)
    for row, why in list(made.rejected.items())[:10]:
        print(f"  frame {row} {why}", file=sys.stderr)
    if len(made.rejected) > 10:
        print(f"  and {len(made.rejected) - 10} more", file=sys.stderr)
    cuts = made.cuts.nonzero()[:, 0].tolist()
    if cuts:
        shown = ", ".join(str(cut) for cut in cuts[:10])
        print(f"the clip seems to be cut before frame {shown}; nothing was smoothed across", file=sys.stderr)
