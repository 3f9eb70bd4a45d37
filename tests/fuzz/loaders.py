"""Every reader of files in emogs, with sound files of each of its formats and what must hold of what it accepts.

A reader meets a hurt file with a result that can be used or with its error, which names the file in one line. Anything
else - another exception, memory that the file has no right to, a crash, a hang - is a fault.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from arrays import hurt_npz
from mutators import damage, hurt_csv, hurt_json, hurt_pickle, hurt_ply, hurt_png, hurt_safetensors, hurt_words

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))

import cloud_files as clouds  # noqa: E402
import emotion_files as emotions  # noqa: E402
import head_files as heads  # noqa: E402
from cuda_budget import Budget  # noqa: E402
from cuda_kernels import Broken  # noqa: E402

from emogs.cli import _landmarks  # noqa: E402
from emogs.emotion import expression_from_emotion, load_tables, load_track, load_votes  # noqa: E402
from emogs.head import load_flame, load_template  # noqa: E402
from emogs.head.retarget import read_mapping  # noqa: E402
from emogs.io import FormatError  # noqa: E402
from emogs.io.ply import load_ply  # noqa: E402
from emogs.model import Avatar  # noqa: E402
from emogs.photo.detect import load_photo  # noqa: E402
from emogs.photo.errors import PhotoError  # noqa: E402

Mutator = Callable[[bytes, random.Random], bytes]
MOST_LETTERS = 1500
"""Of a message. A line that quotes a whole file is no message."""


@dataclass(frozen=True)
class Loader:
    """One reader and one format."""

    name: str
    make: Callable[[Path], list[Path]]
    """Writes sound files into a folder."""
    load: Callable[[Path], Any]
    mutators: tuple[Mutator, ...]
    check: Callable[[Any], bool]
    """Whether a result can be used."""
    error: type[Exception] = FormatError


@dataclass
class Case:
    """A loader with its sound files, read once."""

    loader: Loader
    sources: list[tuple[Path, bytes]]

    @staticmethod
    def of(name: str, folder: Path) -> Case:
        folder.mkdir(parents=True, exist_ok=True)
        return Case(LOADERS[name], [(path, path.read_bytes()) for path in LOADERS[name].make(folder)])

    def hurt(self, index: int) -> tuple[Path, bytes]:
        """Which file is hurt, and how: the same for the same index, whatever came before."""
        rng = random.Random(f"{self.loader.name} {index}")
        path, data = rng.choice(self.sources)
        return path, rng.choice(self.loader.mutators)(data, rng)

    def outcome(self, index: int) -> str:
        """`read`, `refused`, or what is wrong with how the file was met."""
        path, data = self.hurt(index)
        path.write_bytes(data)
        try:
            with np.errstate(all="ignore"):
                result = self.loader.load(path)
                return "read" if self.loader.check(result) else "accepted what cannot be used"
        except Exception as error:
            if type(error) is not self.loader.error:
                return f"{type(error).__name__}: {error}"
            return message_fault(str(error), path) or "refused"
        finally:
            path.write_bytes(dict(self.sources)[path])


def message_fault(message: str, path: Path) -> str:
    """What is wrong with a message; nothing is best."""
    if not any(part in message for part in (str(path), str(path.parent))):
        return f"names no file: {message[:200]!r}"
    if "\n" in message or "\r" in message:
        return f"takes several lines: {message[:200]!r}"
    if len(message) > MOST_LETTERS:
        return f"has {len(message)} letters: {message[:200]!r}"
    hidden = [word for word in ("MemoryError", "Unable to allocate", "can't allocate") if word in message]
    return f"hides that memory ran out: {message[:200]!r}" if hidden else ""


def budget_file(folder: Path) -> list[Path]:
    """The gate's budget, a few kernels of it."""
    full = Budget.load(ROOT / "benchmarks" / "cuda_budget.json")
    name = next(iter(full.files))
    Budget(full.tools, full.flags, {name: full.files[name]}).save(folder / "budget.json")
    return [folder / "budget.json"]


_FRAMES_A_SECOND = 30.0
_ALL = (
    Loader(
        "track-csv",
        emotions.csv_files,
        lambda p: load_track(p, fps=_FRAMES_A_SECOND),
        (damage, hurt_csv),
        emotions.sound_track,
    ),
    Loader(
        "track-json",
        emotions.json_files,
        lambda p: load_track(p, fps=_FRAMES_A_SECOND),
        (damage, hurt_json),
        emotions.sound_track,
    ),
    Loader("votes", emotions.vote_files, load_votes, (damage, hurt_csv), emotions.sound_votes),
    Loader(
        "emotion-text", emotions.text_files, emotions.parse_text, (damage, hurt_words), emotions.sound_text, ValueError
    ),
    Loader(
        "emotion-tables",
        emotions.table_files,
        load_tables,
        (damage, hurt_json, hurt_json),
        lambda tables: emotions.finite(tables.prototypes, expression_from_emotion(torch.eye(7), tables)),
    ),
    Loader("flame-npz", heads.flame_npz, load_template, (damage, hurt_npz), heads.sound_head),
    Loader("flame-safetensors", heads.flame_safetensors, load_template, (damage, hurt_safetensors), heads.sound_head),
    Loader("flame-pickle", heads.flame_pickle, load_template, (damage, hurt_pickle), heads.sound_head),
    Loader(
        "flame-landmarks",
        heads.flame_landmarks,
        lambda p: load_flame(p.parent / "model.npz", p),
        (damage, lambda data, rng: hurt_npz(data, rng) if data[:2] == b"PK" else hurt_words(data, rng)),
        heads.sound_head,
    ),
    Loader("template-npz", heads.common_npz, load_template, (damage, hurt_npz), heads.sound_head),
    Loader(
        "ict-folder", heads.ict_folder, lambda p: load_template(p.parent), (damage, heads.ict_words), heads.sound_head
    ),
    Loader("ict-npz", heads.ict_npz, lambda p: load_template(p.parent), (damage, hurt_npz), heads.sound_head),
    Loader(
        "mapping-npz",
        heads.mapping_npz,
        lambda p: read_mapping(heads.tiny_flame(p.parent / "model.npz"), p),
        (damage, hurt_npz),
        heads.sound_head,
    ),
    Loader("avatar", clouds.small_avatar, Avatar.load, (damage, hurt_safetensors), clouds.sound_avatar),
    Loader("ply", clouds.ply_files, load_ply, (damage, hurt_ply), clouds.sound_cloud),
    Loader("photo-png", clouds.png_files, load_photo, (damage, hurt_png), clouds.sound_photo, PhotoError),
    Loader(
        "photo-other",
        lambda f: clouds.photo_files(f, "jpg", "webp", "gif", "bmp", "tiff", "ppm", "tga", "ico"),
        load_photo,
        (damage,),
        clouds.sound_photo,
        PhotoError,
    ),
    Loader(
        "landmark-points", clouds.point_files, _landmarks, (damage, hurt_words), lambda p: bool(np.isfinite(p).all())
    ),
    Loader("cuda-budget", budget_file, Budget.load, (damage, hurt_json), lambda b: isinstance(b, Budget), Broken),
)
LOADERS = {loader.name: loader for loader in _ALL}
