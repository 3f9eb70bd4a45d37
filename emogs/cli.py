"""The command line: `emogs avatar | view | head | emotion | train | bench | info`, also as `python -m emogs`.

Each command imports what it needs when it runs; until then not even torch. What a user can get wrong - a file, a name,
a number - ends in one line and exit code 2, what a machine can, such as a missing extra, in one line and exit code 1.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro
from tyro.conf import Positional

from .cli_arguments import read_settings, run_command, said_of_options, takes_files, until_nobody_reads

if TYPE_CHECKING:
    from rich.console import Console

ASTRONAUT = "astronaut"
"""The photo that needs no file: Eileen Collins, NASA, public domain, from scikit-image."""

BAD_INPUT = 2
"""The exit code where arguments or a file are wrong."""
FAILURE = 1
"""The exit code where the machine is: no space left, a package missing."""


def avatar(
    photo: Annotated[Positional[str], tyro.conf.arg(metavar="PHOTO")],
    /,
    emotion: str = "happy=0.8",
    out: Path = Path("out"),
    face: int | None = None,
    box: str | None = None,
    landmarks: Path | None = None,
    size: int = 512,
) -> None:
    """Make an avatar from one photo, and pictures of what it can feel.

    Writes reconstruction.png, emotion.png, emotions.png, sheet.png, turn.mp4, avatar.safetensors, avatar.ply and
    summary.json. Files of these names are replaced, others are left alone.

    Args:
        photo: An image with a face, or the word `astronaut` for a public-domain portrait.
        emotion: What to feel, such as `happy=0.7,surprise=0.2`, `sad` or `happily surprised=0.8`.
        out: The folder to write to; made if need be.
        face: Which face, counted from 1, if the photo shows several.
        box: Where the face is, as `x,y,width,height` in pixels, if it is not found.
        landmarks: A text file with the 68 landmarks, a line `x y` each in pixels, instead of the network's.
        size: Side of a large picture in pixels.
    """
    if not 64 <= size <= 4096:
        raise ValueError(f"--size: expected 64 to 4096, got {size}")
    _check_folder(out)
    if photo != ASTRONAUT and not Path(photo).exists():
        raise ValueError(f"{photo}: no such file; PHOTO is a picture or the word {ASTRONAUT!r}")
    from .emotion import format_emotion, parse_emotion

    code = parse_emotion(emotion)
    corners = None if box is None else _box(box)
    image, points = _photo(photo), None if landmarks is None else _landmarks(landmarks)
    with _Stages(_console()) as stages:
        stages("load libraries")
        from .model import avatar_from_photo
        from .viewer.showcase import write_showcase

        made = avatar_from_photo(image, face=face, box=corners, landmarks=points, progress=stages)
        shows = write_showcase(made, code, out, size=size, progress=stages)
    shows["summary.json"] = "this run in numbers"
    count = len(made.avatar.gaussians.means)
    summary = {
        "photo": photo,
        "emotion": format_emotion(code),
        "gaussians": count,
        "landmark_error": round(float(made.fit.error), 4),
        "seconds": {stage: round(seconds, 3) for stage, seconds in stages.seconds.items()},
        "files": shows,
    }
    _write_summary(out / "summary.json", summary)
    _report(out, shows, count, sum(stages.seconds.values()))


def view(
    avatar: Annotated[Positional[Path], tyro.conf.arg(metavar="AVATAR")], /, port: int = 8080, host: str = "127.0.0.1"
) -> None:
    """Show an avatar in the browser, with a slider for every emotion.

    Args:
        avatar: An avatar.safetensors that `emogs avatar` wrote, or the folder with it.
        port: Where to listen.
        host: Who may connect; the default is this machine only.
    """
    if not 0 <= port < 1 << 16:
        raise ValueError(f"--port: expected 0 to 65535, got {port}")
    if not avatar.exists():
        raise ValueError(f"{avatar}: no such file; AVATAR is what `emogs avatar` wrote")
    from .model import Avatar
    from .viewer.page import AvatarPage

    page = AvatarPage(Avatar.load(avatar / "avatar.safetensors" if avatar.is_dir() else avatar), port, host)
    _console().print(f"[bold]{avatar}[/bold] is at [link]{page.address}[/link]; Ctrl+C ends")
    page.wait()


def train(recipe: Positional[Literal["landmarks", "landmarks-eval"]], /) -> None:
    """Train a network by its recipe, or judge one; `emogs train landmarks --help` lists a recipe's settings.

    Args:
        recipe: Which network; landmarks-eval renders any heads and says how far a network is off.
    """
    RECIPES[recipe]([])


def head(command: Positional[Literal["show", "compare", "convert", "export", "fit"]], /) -> None:
    """Look at head templates, convert and fit them; `emogs head show --help` lists a command's settings.

    Args:
        command: Draw a head, heads side by side, convert a file, export a mesh, or fit a head to a clip's landmarks.
    """
    from .cli_head import main as run

    run([command, "--help"])


def emotion(command: Positional[Literal["list", "convert", "show", "map"]], /) -> None:
    """Say emotions in other languages, and draw them; `emogs emotion convert --help` lists a command's settings.

    Args:
        command: List languages, convert between them, show a performance on faces, or map valence and arousal.
    """
    from .cli_emotion import main as run

    run([command, "--help"])


def bench() -> None:
    """Time every operation, in a checkout; `emogs bench --help` lists how."""


def info() -> None:
    """Print version, backends, instruction sets, threads and GPU."""
    from .info import main as print_info

    print_info()


@until_nobody_reads()
def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command that the arguments name; ends the process on bad input."""
    arguments = (sys.argv[1:] if arguments is None else list(arguments)) or ["--help"]
    try:
        match arguments:
            case ["train", recipe, *settings] if recipe in RECIPES:
                RECIPES[recipe](settings)
            case ["head", *rest] if rest not in ([], ["--help"], ["-h"]):
                from .cli_head import main as run_head

                run_head(rest)
            case ["emotion", *rest] if rest not in ([], ["--help"], ["-h"]):
                from .cli_emotion import main as run_emotion

                run_emotion(rest)
            case ["bench", *rest]:
                from .cli_bench import main as run_bench

                run_bench(rest)
            case _:
                commands: dict[str, Callable[..., Any]] = {
                    "avatar": avatar,
                    "view": view,
                    "head": head,
                    "emotion": emotion,
                    "train": train,
                    "bench": bench,
                    "info": info,
                }
                run_command(commands, "emogs", _DESCRIPTION, arguments)
    except KeyboardInterrupt:
        sys.exit(130)
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("emogs"):
            raise
        _fail(f"{error.name} is not installed; this command needs: pip install 'emogs[avatar]'", FAILURE)
    except ValueError as error:
        if os.environ.get("EMOGS_TRACEBACK"):
            raise
        _fail(str(error))
    except BrokenPipeError:
        raise
    except OSError as error:
        if os.environ.get("EMOGS_TRACEBACK"):
            raise
        theirs = isinstance(error, (FileNotFoundError, FileExistsError, NotADirectoryError, IsADirectoryError))
        code = BAD_INPUT if theirs or isinstance(error, PermissionError) else FAILURE
        _fail(f"{error.filename}: {error.strerror}" if error.filename else str(error), code)


_DESCRIPTION = """One photo in, an animatable 3D Gaussian head out, whose emotion is a control signal of its own.
EMOGS_TRACEBACK=1 shows where an error comes from."""


def _train_landmarks(arguments: list[str]) -> None:
    from .train.landmarks import LandmarkTraining
    from .train.landmarks import main as run

    with said_of_options("template", "count"):
        run(read_settings(LandmarkTraining, "emogs train landmarks", arguments))


def _judge_landmarks(arguments: list[str]) -> None:
    from .train.landmark_errors import LandmarkEvaluation
    from .train.landmark_errors import main as run

    run(read_settings(LandmarkEvaluation, "emogs train landmarks-eval", arguments))


RECIPES = {"landmarks": _train_landmarks, "landmarks-eval": _judge_landmarks}
"""What `emogs train` can do; a recipe reads its own arguments, so that other commands need not import it."""


def _photo(photo: str) -> Any:
    """[H, W, 3] uint8 of a file or of the portrait that scikit-image brings."""
    if photo == ASTRONAUT:
        from skimage.data import astronaut

        return astronaut()
    from .photo import load_photo

    return load_photo(photo)


def _check_folder(out: Path) -> None:
    """Says before the work, not after it, that its results cannot be written."""
    there = next(folder for folder in (out, *out.parents) if folder.exists())
    if not there.is_dir():
        raise ValueError(f"--out {out}: {there} is a file, expected a folder")
    if not takes_files(there):
        raise ValueError(f"--out {out}: {there} cannot be written to")


def _box(text: str) -> tuple[float, float, float, float]:
    left, top, width, height = _numbers(text, 4, "--box", "x,y,width,height")
    return left, top, width, height


def _landmarks(path: Path) -> Any:
    """[68, 2] pixels from a file; lines that do not start with a number (the frame of iBUG's .pts) are skipped."""
    import numpy as np

    from .io.files import FormatError
    from .io.text import read_text

    points = []
    for number, line in enumerate(read_text(path).splitlines(), 1):
        if line.strip()[:1] in tuple("-+.0123456789"):
            try:
                points.append(_numbers(line.strip(), 2, "", "x y"))
            except ValueError as error:
                raise FormatError(path, f"line {number}", str(error).removeprefix(": ")) from None
    if len(points) != 68:
        raise FormatError(path, "lines", f"expected 68 lines `x y`, got {len(points)}")
    return np.array(points)


def _numbers(text: str, count: int, where: str, form: str) -> tuple[float, ...]:
    """`count` finite numbers separated by commas or spaces."""
    from .io.files import shown

    try:
        numbers = tuple(float(part) for part in text.replace(",", " ").split())
    except ValueError:
        numbers = ()
    if len(numbers) != count or not all(abs(number) < float("inf") for number in numbers):
        raise ValueError(f"{where}: expected {form}, got {shown(text)}")
    return numbers


class _Stages:
    """Shows which stage runs and how long the finished ones took; call it with the name of each as it begins."""

    def __init__(self, console: Console) -> None:
        from rich.progress import Progress, SpinnerColumn, TextColumn

        self.seconds: dict[str, float] = {}
        self._columns = Progress(
            SpinnerColumn(finished_text="[green]+"),
            TextColumn("{task.description}"),
            TextColumn("{task.elapsed:.1f} s", justify="right"),
            console=console,
        )
        self._running: tuple[str, float, Any] | None = None

    def __call__(self, stage: str) -> None:
        self._finish()
        self._running = (stage, time.perf_counter(), self._columns.add_task(stage, total=1))

    def __enter__(self) -> _Stages:
        self._columns.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:  # a stage that failed must not look finished
            self._finish()
        self._columns.stop()

    def _finish(self) -> None:
        if self._running is not None:
            stage, begin, task = self._running
            self.seconds[stage] = self.seconds.get(stage, 0.0) + time.perf_counter() - begin
            self._columns.update(task, completed=1)
            self._columns.stop_task(task)
            self._running = None


def _write_summary(path: Path, summary: dict[str, Any]) -> None:
    from .io.files import SYNTHETIC, replacing

    with replacing(path) as partial:
        partial.write_text(
            json.dumps(summary | {"note": SYNTHETIC}, indent=2, ensure_ascii=False) + "\n", encoding="utf-8"
        )


def _report(out: Path, shows: dict[str, str], count: int, seconds: float) -> None:
    """The table of what was written."""
    from rich.table import Table

    table = Table(title=f"{count:,} Gaussians, {seconds:.1f} s, in {out}{os.sep}", title_justify="left")
    table.add_column("file")
    table.add_column("shows")
    for name, what in shows.items():
        table.add_row(name, what)
    _console(stderr=False).print(table)


def _console(stderr: bool = True) -> Console:
    from rich.console import Console

    return Console(stderr=stderr, highlight=False)


def _fail(message: str, code: int = BAD_INPUT) -> None:
    """One red line on the error stream."""
    from rich.text import Text

    _console().print(Text(f"emogs: {message}", style="red"), soft_wrap=True)
    sys.exit(code)


if __name__ == "__main__":
    main()
