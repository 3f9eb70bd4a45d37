"""`emogs emotion list | convert | show | map`: emotions in every language on the command line."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro
from tyro.conf import Positional

from .cli_arguments import check_output, run_command
from .cli_votes import convert_votes, dataset_of_file

MOST_FRAMES_A_SECOND = 1000

if TYPE_CHECKING:
    from torch import Tensor

    from .emotion import Language, Track


def show_list() -> None:
    """Print the languages, the named emotions, and which conversion loses what."""
    from rich.console import Console
    from rich.table import Table

    from .emotion import CONVERTERS, EMOTIONS, default_tables, label_sets, languages

    console, tables = Console(highlight=False), default_tables()
    told = Table(title="languages", title_justify="left")
    for head in ("language", "means", "columns in files"):
        told.add_column(head)
    for known in languages(tables).values():
        more = ", ..." if len(known.columns) > 3 else ""
        told.add_row(known.name, known.means, ", ".join(known.columns[:3]) + more)
    console.print(told)
    console.print(f"emotions: {', '.join(EMOTIONS)}; compounds: {', '.join(tables.compounds)}", soft_wrap=True)
    console.print(f"data sets whose labels are known: {', '.join(label_sets())}", soft_wrap=True)
    ways = Table(title="conversions", title_justify="left")
    for head in ("from", "to", "lost"):
        ways.add_column(head)
    for converter in CONVERTERS:
        ways.add_row(converter.source, converter.target, converter.loses)
    console.print(ways)


def convert(
    what: Annotated[Positional[str], tyro.conf.arg(metavar="WHAT")],
    /,
    to: str,
    source: str | None = None,
    out: Path | None = None,
    articulation: Path | None = None,
    fps: float | None = None,
    pulse: tuple[float, float, float] | None = None,
) -> None:
    """Say an emotion in another language: a text, or a file of emotions over time.

    Prints the answer, or writes it, and says what the conversion loses.

    Args:
        what: A text such as `happy=0.7,surprise=0.2`, `AU12C, R14A` or `brow: sad; mouth: happy`, or a .csv or .json
            file: emogs' own, OpenFace's, Live Link Face's, or FER+'s votes on pictures (fer2013new.csv).
        to: The language wanted, or a data set whose label to name; `emogs emotion list` prints them all.
        source: The language of WHAT, where it is not plain, or the data set of which WHAT is a label or holds votes.
        out: The .csv or .json to write.
        articulation: Where to write the jaw, gaze, blinks and speech that the source held, as ARKit shapes.
        fps: Frames a second: of a file that counts frames, and of what is written.
        pulse: Makes a text an episode: seconds of onset, apex and offset.
    """
    for name, path in (("--out", out), ("--articulation", articulation)):
        if path is not None:
            check_output(name, path, ".csv", ".json")
    _check_rate(fps)
    from .emotion import label_sets, save_track
    from .emotion.converters import convert as translate

    _check_known("--to", to)
    if source is not None:
        _check_known("--source", source)
    if dataset := dataset_of_file(what, source):
        if not fps is pulse is articulation is None:
            raise ValueError(f"{what}: holds votes on pictures, which have no time: --fps, --pulse, --articulation")
        for loss in convert_votes(what, dataset, to, out):
            _note(loss)
        return
    track = _track(what, source, fps, pulse)
    if fps is not None and len(track.times) > 1:
        try:
            track = track.resampled(fps)
        except ValueError as error:
            raise ValueError(f"--fps: {error}") from None
    elif fps is not None:
        raise ValueError("--fps: a text without --pulse is one instant")
    if to in label_sets() and out is not None:
        raise ValueError("--out: labels are printed, not written")
    answer = translate(track, "emotion" if to in label_sets() else to)
    for step in answer.steps:
        _note(f"{step.source} -> {step.target} loses {step.loses}")
    if track.ignored or track.skipped:
        others = ", ".join(track.ignored[:5]) + (", ..." if len(track.ignored) > 5 else "")
        columns = f"columns of no language: {others}" if others else "no columns"
        _note(f"left out {track.skipped} rows that the tracker marked as failed, and {columns}")
    if to in label_sets():
        _note(f"emotion -> {to} loses intensity, and every emotion but the strongest or the nearest compound")
        _show_labels(answer.track, to)
    elif out is None:
        _show(answer.track)
    else:
        save_track(out, answer.track)
        print(f"{out}: {len(answer.track.times)} instants of {answer.track.language}")
    if answer.articulation is not None and articulation is not None:
        save_track(articulation, answer.articulation)
        print(f"{articulation}: the articulation beside them")
    elif answer.articulation is not None and answer.articulation.values.abs().max() > 1e-3:
        _note("articulation (jaw, gaze, blinks, speech) was split off; --articulation FILE keeps it")


def show(
    what: Annotated[Positional[str], tyro.conf.arg(metavar="WHAT")],
    /,
    source: str | None = None,
    out: Path = Path("emotion.png"),
    fps: float | None = None,
    pulse: tuple[float, float, float] | None = None,
    people: int = 1,
    size: int = 256,
) -> None:
    """Draw an emotion on the built-in head: a text as one face, a file or an episode as a film strip.

    Args:
        what: A text or a file, as for `emogs emotion convert`.
        source: The language of WHAT, where it is not plain.
        out: The PNG to write.
        fps: Frames a second of a file that counts frames.
        pulse: Makes a text an episode: seconds of onset, apex and offset.
        people: How many people feel it, at the same time.
        size: Side of one picture in pixels.
    """
    _check_picture(out, size)
    _check_rate(fps)
    if not 1 <= people <= 8:
        raise ValueError(f"--people: expected 1 to 8, got {people}")
    track = _track(what, source, fps, pulse)
    from .head import builtin_head
    from .io.sheet import write_png
    from .viewer.emotions import strip_sheet

    write_png(out, strip_sheet(builtin_head(), track, size, people))
    print(f"{out}: {what}")


def show_map(out: Path = Path("map.png"), size: int = 150) -> None:
    """Draw the faces of valence and arousal: what `emotion_from_affect` makes of a grid of points.

    Args:
        out: The PNG to write.
        size: Side of one picture in pixels.
    """
    _check_picture(out, size)
    from .head import builtin_head
    from .io.sheet import write_png
    from .viewer.emotions import affect_map

    write_png(out, affect_map(builtin_head(), size))
    print(f"{out}: valence to the right, arousal upwards")


def main(arguments: Sequence[str]) -> None:
    """Runs the subcommand that the arguments name."""
    commands: dict[str, Callable[..., None]] = {"list": show_list, "convert": convert, "show": show, "map": show_map}
    description = "Emotions in every language that people annotate, track or direct them in."
    run_command(commands, "emogs emotion", description, arguments)


def _track(what: str, source: str | None, fps: float | None, pulse: tuple[float, float, float] | None) -> Track:
    """A file, or a text as one instant or an episode."""
    from .emotion import load_track

    if source is not None:
        _check_known("--source", source)
    if "/" in what and not what.lower().endswith((".csv", ".json")):
        raise ValueError(f"{what}: expected a file .csv or .json, or a text such as happy=0.7")
    if not what.lower().endswith((".csv", ".json")):
        return _spoken(what, source, pulse)
    if pulse is not None:
        raise ValueError("--pulse: a file has its own times; it needs a text such as happy=0.7")
    return load_track(what, source, fps)


def _check_picture(out: Path, size: int) -> None:
    check_output("--out", out, ".png")
    if not 32 <= size <= 1024:
        raise ValueError(f"--size: expected 32 to 1024, got {size}")


def _check_rate(fps: float | None) -> None:
    if fps is not None and not 0 < fps <= MOST_FRAMES_A_SECOND:
        raise ValueError(f"--fps: expected a number above 0 and up to {MOST_FRAMES_A_SECOND}, got {fps:g}")


def _spoken(text: str, source: str | None, episode: tuple[float, float, float] | None) -> Track:
    """A text as a track of one instant, or as keyframes from neutral to it and back."""
    import torch

    from .emotion import Track, pulse

    name, value = _parse(text, source)
    if episode is None:
        return Track(name, torch.zeros(1, dtype=torch.float64), value[None])
    try:
        course = pulse(value.flatten(), *episode)
    except ValueError as error:
        raise ValueError(f"--pulse: {error}") from None
    return Track(name, course.times, course.values.reshape(-1, *value.shape), course.ease)


def _parse(text: str, source: str | None) -> tuple[str, Tensor]:
    """The language of a text and what it says."""
    from .emotion import emotion_from_labels, find_language, label_sets, languages

    if source in label_sets():
        return "emotion", emotion_from_labels([text], source)[0]
    if source is not None:
        spoken = find_language(source)
        return spoken.name, spoken.parse(text)
    name, known = text.partition("=")[0], languages()
    named = [other for other in ("arkit", "valence arousal", "affect", "pain") if known[other].find(name)]
    if "dominance" in text:
        named = ["affect"]
    numbered = any(letter.isdigit() for letter in name)
    if not named and (language := known.get(" ".join(name.lower().split()))):
        raise ValueError(f"{name.strip()!r} is a language; it says, for example, {_example(language)!r}")
    if not (named or numbered or ":" in text) and (close := _misspelt(name)):
        raise ValueError(f"{name.strip()!r} is unknown; did you mean {close!r}?")
    guess = "regions" if ":" in text else named[0] if named else "action units" if numbered else "emotion"
    return guess, known[guess].parse(text)


def _check_known(argument: str, name: str) -> None:
    """Whether an argument names a language or a data set."""
    import difflib

    from .emotion import find_language, label_sets, languages

    known = [*languages(), *label_sets()]
    try:
        known.index(name) if name in label_sets() else find_language(name)
    except ValueError:
        close = difflib.get_close_matches(name, known, n=1)
        hint = f" (did you mean {close[0]!r}?)" if close else ""
        sets = ", ".join(label_sets())
        raise ValueError(
            f"{argument}: language {name!r} is unknown{hint}; known: {', '.join(languages())}; data sets: {sets}"
        ) from None


def _example(language: Language) -> str:
    """The text of half the first of a language's numbers, such as `pspi=8.0`."""
    import torch

    value = torch.zeros(len(language.columns))
    value[0] = language.high / language.scale / 2
    return language.format(value.reshape(language.shape))


def _misspelt(name: str) -> str | None:
    """The name of another language than emotions that comes nearest, unless it is an emotion's."""
    import difflib

    from .emotion import EMOTIONS, default_tables, languages

    tables = default_tables()
    emotions = (*EMOTIONS, *tables.aliases, *tables.compounds, "neutral")
    columns = {column.lower(): column for known in languages(tables).values() for column in known.columns}
    close = difflib.get_close_matches(name.strip().lower(), [*emotions, *columns], n=1, cutoff=0.75)
    return columns[close[0]] if close and close[0] not in emotions else None


def _note(text: str) -> None:
    """What is no answer goes beside it, to the error stream."""
    print(text, file=sys.stderr)


def _show(track: Track) -> None:
    """Each instant as text, to three digits."""
    from .emotion import languages

    spoken = languages()[track.language]
    for time, value in zip(track.times.tolist(), track.values, strict=True):
        stamp = f"{time:7.3f} s  " if len(track.times) > 1 else ""
        print(stamp + spoken.format((1000 * value.double()).round() / 1000))


def _show_labels(track: Track, dataset: str) -> None:
    """Each instant as a data set's label."""
    from .emotion import label_set, labels_from_emotion

    known = label_set(dataset)
    for time, label in zip(track.times.tolist(), labels_from_emotion(track.values, known), strict=True):
        stamp = f"{time:7.3f} s  " if len(track.times) > 1 else ""
        print(f"{stamp}{label} {known.classes[known.ids.index(label)]}")
