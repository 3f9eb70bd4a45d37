"""How far a landmark network is off on rendered faces of any template: by group, expression and view, on one page.

Each person is one identity in one guise, rendered neutral and in the seven emotions from several sides. Pictures are
kept, so that a stopped run continues and another network is judged by the same ones.
"""

from __future__ import annotations

import json
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

import cv2
import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table
from safetensors import SafetensorError
from safetensors.torch import load_file

from emogs.data.faces import FaceRenderer, save_pictures
from emogs.emotion import expression_from_emotion
from emogs.emotion.tables import EMOTIONS
from emogs.io.files import FormatError
from emogs.photo.landmarks import GROUPS, WEIGHTS, LandmarkNet, box_around, find_landmarks

from .landmark_crops import extent, middle
from .templates import pictures_of, speaking_template

PARTS = {"all": slice(0, 68), **GROUPS}
_EXPRESSIONS = ("neutral", *EMOTIONS)
_GUISE = 1
_SHOWN, _COLUMNS, _MAGNIFIED = 16, 4, 2
_OFFSETS = 6


@dataclass(frozen=True)
class LandmarkEvaluation:
    """Settings of `emogs train landmarks-eval`."""

    template: tuple[str, ...] = ("builtin",)
    """Heads to render: `builtin`, or a file or folder that `emogs head show` takes; several may be named."""
    weights: Path = WEIGHTS
    """Network to judge; the default is the one that emogs uses."""
    people: int = 20
    """Identities, each in a guise of its own."""
    yaw: tuple[float, ...] = (-30.0, 0.0, 30.0)
    """Degrees by which heads are turned; they also nod and tilt a little."""
    work: Path = Path("build/landmarks")
    """Rendered pictures; a person is 1.5 MB."""
    out: Path | None = None
    """The page as JSON."""
    worst: Path | None = None
    """A picture of the 16 faces with the greatest errors: truth green, found red."""
    threads: int = 2
    """Processes that render."""
    seed: int = 1000
    """Of people; training has 0."""


@dataclass(frozen=True)
class Errors:
    """What a network found on N pictures, in units of the outer-eye distance."""

    offset: np.ndarray  # [N, 68, 2] found minus true; x to the picture's right, y down
    expression: np.ndarray  # [N] 0 neutral, then EMOTIONS
    yaw: np.ndarray  # [N] degrees

    @property
    def distance(self) -> np.ndarray:
        """[N, 68]"""
        return np.linalg.norm(self.offset, axis=-1)


Judged = tuple[np.ndarray, np.ndarray, np.ndarray]
"""A picture [S, S, 3], its landmarks [68, 2] and those that were found, in pixels."""


def main(config: LandmarkEvaluation) -> None:
    """Renders what is missing, finds landmarks, prints a page for each template."""
    if config.people < 1 or not config.yaw or not config.template:
        raise ValueError("template, people, yaw: expected at least one of each")
    net = _read_net(config.weights)
    console, pages = Console(), {}
    for source in config.template:
        files = render_people(config, source)
        errors, pictures = judge(net, files, config.yaw)
        name = files[0].parent.name.rpartition("-")[0]
        pages[name] = page(errors)
        show(name, errors, console)
        if config.worst:
            place = config.worst if len(config.template) == 1 else config.worst.with_stem(f"{config.worst.stem}-{name}")
            _save_worst(place, errors, pictures)
    if config.out:
        config.out.parent.mkdir(parents=True, exist_ok=True)
        config.out.write_text(json.dumps({"people": config.people, "seed": config.seed, **pages}, indent=1) + "\n")


def _read_net(path: Path) -> LandmarkNet:
    net = LandmarkNet()
    try:
        net.load_state_dict(load_file(path))
    except (SafetensorError, RuntimeError) as error:
        raise FormatError(path, "weights", f"expected those of a landmark network; {error}") from None
    return net.eval().requires_grad_(False)


def render_people(config: LandmarkEvaluation, source: str) -> list[Path]:
    """A file of pictures for each person, rendered where it is missing: expressions by yaw angles."""
    folder = pictures_of(config.work, speaking_template(source))
    angles = "_".join(f"{angle:g}" for angle in config.yaw)
    files = [folder / f"person-{config.seed}-{angles}-{person:03d}.npz" for person in range(config.people)]
    missing = [(i, file) for i, file in enumerate(files) if not file.exists()]
    if missing:
        with ProcessPoolExecutor(min(config.threads, len(missing))) as pool:
            tasks = pool.map(partial(_render_person, source, config.seed, config.yaw), *zip(*missing, strict=True))
            for _ in track(tasks, f"rendering {folder.name}", total=len(missing)):
                pass
    return files


@lru_cache(maxsize=1)
def renderer_of(source: str) -> FaceRenderer:
    """One process's own renderer."""
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    return FaceRenderer(speaking_template(source))


def _render_person(source: str, seed: int, yaw: tuple[float, ...], person: int, file: Path) -> None:
    renderer, pictures = renderer_of(source), []
    for code in np.concatenate([np.zeros((1, len(EMOTIONS))), np.eye(len(EMOTIONS))]):
        expression = expression_from_emotion(torch.from_numpy(code)).numpy()
        for angle in yaw:
            rng = np.random.default_rng([seed, person])
            face = renderer.random_face(rng, expression=expression, yaw=float(np.radians(angle)))
            pictures.append(renderer.render(face, np.random.default_rng([seed, person, _GUISE])))
    save_pictures(file, pictures)


def judge(net: LandmarkNet, files: list[Path], yaw: tuple[float, ...]) -> tuple[Errors, list[Judged]]:
    """Errors of a network on files of people; and the pictures."""
    offsets: list[np.ndarray] = []
    pictures: list[Judged] = []
    for file in files:
        with np.load(file) as data:
            for image, truth in zip(data["image"], data["landmarks"], strict=True):
                found = find_landmarks(image, box_around(middle(truth), extent(truth)), net).points
                offsets.append((found - truth) / np.linalg.norm(truth[36] - truth[45]))
                pictures.append((image, truth, found))
    kind, angle = np.meshgrid(np.arange(len(EMOTIONS) + 1), yaw, indexing="ij")
    repeats = len(offsets) // kind.size
    return Errors(np.stack(offsets), np.tile(kind.ravel(), repeats), np.tile(angle.ravel(), repeats)), pictures


def page(errors: Errors) -> dict[str, dict[str, float]]:
    """Per cent of the outer-eye distance by group: mean, 90th percentile of pictures, means by view and expression."""
    chosen = {"mean": np.ones(len(errors.yaw), bool)}
    chosen |= {f"{angle:+g}°": errors.yaw == angle for angle in np.unique(errors.yaw)}
    chosen |= {name: errors.expression == i for i, name in enumerate(_EXPRESSIONS)}
    groups = {}
    for name, part in PARTS.items():
        picture = 100 * errors.distance[:, part].mean(1)
        means = {column: round(float(picture[rows].mean()), 2) for column, rows in chosen.items()}
        groups[name] = {"mean": means.pop("mean"), "90%": round(float(np.quantile(picture, 0.9)), 2), **means}
    return groups


def systematic(errors: Errors) -> np.ndarray:
    """[68, 2] median offset of each landmark, per cent: not a face's accident but another idea of the point."""
    return 100 * np.median(errors.offset, axis=0)


def show(name: str, errors: Errors, console: Console) -> None:
    """Prints the page."""
    groups = page(errors)
    columns = list(groups["all"])
    by_view = [column for column in columns if column not in _EXPRESSIONS]
    for title, shown in (("by view", by_view), ("by expression", list(_EXPRESSIONS))):
        table = Table(title=f"{name}, {len(errors.yaw)} pictures: error in % of the outer-eye distance, {title}")
        for column in ("", *shown):
            table.add_column(column, justify="right")
        for group, values in groups.items():
            table.add_row(group, *(f"{values[column]:.1f}" for column in shown))
        console.print(table)
    offset = systematic(errors)
    worst = np.linalg.norm(offset, axis=1).argsort()[::-1][:_OFFSETS]
    listed = ", ".join(f"{i} ({offset[i, 0]:+.1f}, {offset[i, 1]:+.1f})" for i in worst)
    console.print(f"Landmarks with the greatest median offset (right, down): {listed}")


def _save_worst(path: Path, errors: Errors, pictures: list[Judged]) -> None:
    tiles = []
    for i in errors.distance.mean(1).argsort()[::-1][:_SHOWN]:
        image, truth, found = pictures[i]
        tile = cv2.resize(image, None, fx=_MAGNIFIED, fy=_MAGNIFIED, interpolation=cv2.INTER_CUBIC)[..., ::-1].copy()
        for points, color in ((truth, (0, 255, 0)), (found, (0, 0, 255))):
            for x, y in points * _MAGNIFIED:
                cv2.circle(tile, (int(x), int(y)), 1, color, -1)
        tiles.append(tile)
    tiles += [np.zeros_like(tiles[0])] * (-len(tiles) % _COLUMNS)
    rows = [np.concatenate(tiles[k : k + _COLUMNS], 1) for k in range(0, len(tiles), _COLUMNS)]
    path.parent.mkdir(parents=True, exist_ok=True)
    if not cv2.imwrite(str(path), np.concatenate(rows)):
        raise ValueError(f"worst: {path} could not be written")
