"""Every reader of files in emogs, with sound files of each of its formats and what must hold of what it accepts.

A reader meets a hurt file with a result that can be used or with its error, which names the file in one line. Anything
else - another exception, memory that the file has no right to, a crash, a hang - is a fault.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from arrays import hurt_npz
from mutators import (
    damage,
    hurt_csv,
    hurt_json,
    hurt_pickle,
    hurt_ply,
    hurt_png,
    hurt_safetensors,
    hurt_words,
)
from PIL import Image
from safetensors.numpy import save_file

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "head"), str(ROOT / "benchmarks")]

from cuda_budget import Budget  # noqa: E402
from cuda_kernels import Broken  # noqa: E402
from flame_files import tiny_arrays, write_pickle  # noqa: E402
from obj_files import tiny_ict_folder  # noqa: E402

from emogs import Cameras, EmotionBasis, Gaussians  # noqa: E402
from emogs.cli import _landmarks  # noqa: E402
from emogs.emotion import (  # noqa: E402
    GeometryPath,
    Track,
    expression_from_emotion,
    languages,
    load_tables,
    load_track,
    load_votes,
    pulse,
    save_track,
)
from emogs.emotion.tables import TABLES_FILE  # noqa: E402
from emogs.head import ARKIT_NAMES, builtin_head, load_flame, load_template, save_template  # noqa: E402
from emogs.head.retarget import read_mapping  # noqa: E402
from emogs.io import FormatError  # noqa: E402
from emogs.io.ply import load_ply, save_ply  # noqa: E402
from emogs.model import Avatar  # noqa: E402
from emogs.model.bake import BakedBasis  # noqa: E402
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


def finite(*tensors: torch.Tensor) -> bool:
    return all(bool(torch.isfinite(tensor).all()) for tensor in tensors)


# Emotions ------------------------------------------------------------------------------------------------------------


def track_files(folder: Path, ending: str) -> list[Path]:
    """An episode in every language."""
    paths = []
    for name, spoken in languages().items():
        share = torch.linspace(0.1, 0.9, len(spoken.columns)).reshape(spoken.shape)
        value = (spoken.low + share * (spoken.high - spoken.low)) / spoken.scale
        course = pulse(value.flatten(), 0.5, 0.5, 1.0)
        paths.append(folder / f"{name.replace(' ', '_')}{ending}")
        save_track(paths[-1], Track(name, course.times, course.values.reshape(-1, *spoken.shape), course.ease))
    return paths


def csv_files(folder: Path) -> list[Path]:
    """emogs' own, OpenFace's, Live Link Face's."""
    openface, live = folder / "openface.csv", folder / "live.csv"
    openface.write_text(
        "frame, face_id, timestamp, confidence, success, AU01_r, AU12_r, AU45_r, AU12_c\n"
        "1, 0, 0.000, 0.98, 1, 0.00, 2.50, 0.10, 1\n2, 0, 0.033, 0.02, 0, 5.00, 5.00, 5.00, 1\n"
        "3, 0, 0.067, 0.98, 1, 1.00, 3.00, 0.00, 1\n"
    )
    rows = [f"10:00:01:{frame:02d}.500,61,{','.join(['0.25'] * 52)},0.1" for frame in (0, 30)]
    live.write_text("\n".join([f"Timecode,BlendshapeCount,{','.join(ARKIT_NAMES)},HeadYaw", *rows]))
    return [*track_files(folder, ".csv"), openface, live]


def json_files(folder: Path) -> list[Path]:
    """emogs' own, and one by hand."""
    by_hand = folder / "by_hand.json"
    by_hand.write_text((ROOT / "examples" / "performance.json").read_text())
    return [*track_files(folder, ".json"), by_hand]


def vote_files(folder: Path) -> list[Path]:
    """As FER+ writes them, and without the columns that are no classes."""
    classes = "neutral,happiness,surprise,sadness,anger,disgust,fear,contempt"
    (folder / "fer2013new.csv").write_text(
        f"Usage,Image name,{classes},unknown,NF\n"
        "Training,fer0000000.png,4,0,0,1,3,2,0,0,0,0\nPublicTest,fer0000002.png,0,9,0,0,0,0,0,1,0,0\n"
        "Training,,0,0,0,0,0,0,0,0,0,10\n"
    )
    (folder / "plain.csv").write_text(f"{classes}\n1,2,3,4,0,0,0,0\n0,0,0,0,0,0,0,10\n")
    return [folder / "fer2013new.csv", folder / "plain.csv"]


def sound_votes(table: Any) -> bool:
    p, trust = table.distribution()
    named = len(table.images) == len(table.usages) == len(table.votes) > 0
    return (
        named
        and finite(p, trust)
        and bool(((p.sum(-1) - 1).abs() < 1e-4).all() and ((trust >= 0) & (trust <= 1)).all())
    )


def sound_track(track: Track) -> bool:
    """Finite, in order, and drawn at any frame rate or refused for its length."""
    try:
        again = track.resampled(5)
    except ValueError as error:
        if "duration" not in str(error):
            raise
        again = track
    return finite(track.times, track.values, again.values) and bool((track.times.diff() > 0).all())


def text_files(folder: Path) -> list[Path]:
    """What people type, a line in each language."""
    said = {
        "emotion": "happy=0.7, surprise=0.2",
        "compound": "happily surprised=0.8",
        "action units": "AU12C, R14A+26D L4=2.5",
        "regions": "brow: sad=0.6; mouth: happy=0.8, disgust=0.1",
        "arkit": "mouthSmileLeft=0.4,jawOpen=-0.1",
        "affect": "valence=-0.6,arousal=0.35,dominance=0.1",
        "valence arousal": "valence=-0.6,arousal=0.35",
        "pain": "pspi=7",
    }
    for name, text in said.items():
        (folder / f"{name.replace(' ', '_')}.txt").write_text(text)
    return sorted(folder.glob("*.txt"))


def parse_text(path: Path) -> tuple[Any, torch.Tensor]:
    name = path.stem.replace("_", " ").replace("compound", "emotion")
    try:
        return languages()[name], languages()[name].parse(path.read_bytes().decode("utf-8", "replace"))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None  # a text has no file to name


def sound_text(answer: tuple[Any, torch.Tensor]) -> bool:
    """In its range, and said again in words that mean the same; units' letters round."""
    spoken, value = answer
    again = spoken.parse(spoken.format(value))
    close = 0.11 if spoken.name == "action units" else 0.0
    inside = (value * spoken.scale >= spoken.low).all() and (value * spoken.scale <= spoken.high + 1e-6).all()
    return bool(inside) and bool((again - value).abs().max() <= close)


def table_files(folder: Path) -> list[Path]:
    (folder / "tables.json").write_bytes(TABLES_FILE.read_bytes())
    return [folder / "tables.json"]


# Heads ---------------------------------------------------------------------------------------------------------------


def flame_npz(folder: Path) -> list[Path]:
    np.savez(folder / "model.npz", **tiny_arrays())
    return [folder / "model.npz"]


def flame_safetensors(folder: Path) -> list[Path]:
    save_file(tiny_arrays(), folder / "model.safetensors")
    return [folder / "model.safetensors"]


def flame_pickle(folder: Path) -> list[Path]:
    arrays = tiny_arrays() | {"shapedirs": np.zeros((12, 3, 400), np.float16)}
    return [write_pickle(folder / f"model{version}.pkl", arrays, version == 2) for version in (2, 3)]


def flame_landmarks(folder: Path) -> list[Path]:
    """Beside a model: embeddings in triangles, in vertices, and a text of numbers."""
    flame_npz(folder)
    rng = np.random.default_rng(0)
    places = {"full_lmk_faces_idx": rng.integers(0, 6, 68), "full_lmk_bary_coords": rng.dirichlet([1] * 3, 68)}
    np.savez(folder / "embedding.npz", **places)
    np.savez(folder / "vertices.npz", landmarks=rng.integers(0, 12, 68))
    (folder / "numbers.txt").write_text(", ".join(map(str, rng.integers(0, 12, 68))))
    return [folder / "embedding.npz", folder / "vertices.npz", folder / "numbers.txt"]


def common_npz(folder: Path) -> list[Path]:
    """A skeleton with correctives, as FLAME has it, and hinges, as the built-in head has them."""
    head = load_flame(flame_npz(folder)[0])
    kept = replace(head, expression=head.expression[:5], expression_names=head.expression_names[:5])
    save_template(replace(kept, identity=head.identity[:3], identity_names=("a", "b", "c")), folder / "head.npz")
    built = tiny_ict_folder(folder)  # its hinges need eyeballs, which the tiny folder has
    assert built
    save_template(load_template(folder), folder / "hinged.npz")
    return [folder / "head.npz", folder / "hinged.npz"]


def ict_folder(folder: Path) -> list[Path]:
    tiny_ict_folder(folder)
    names = ("generic_neutral_mesh.obj", "mouthClose.obj", "identity001.obj", "vertex_indices.json")
    return [folder / name for name in names]


def ict_words(data: bytes, rng: random.Random) -> bytes:
    """The indices are JSON, the meshes lines of words."""
    return hurt_json(data, rng) if data[:1] == b"{" else hurt_words(data, rng)


def ict_npz(folder: Path) -> list[Path]:
    """As `ict_head.npz` has it, with the tiny folder's content."""
    from emogs.head.ict import _read_folder

    tiny_ict_folder(folder)
    np.savez(folder / "ict_head.npz", **_read_folder(folder).arrays)
    (folder / "generic_neutral_mesh.obj").unlink()
    return [folder / "ict_head.npz"]


def mapping_npz(folder: Path) -> list[Path]:
    flame_npz(folder)
    rng = np.random.default_rng(0)
    np.savez(folder / "mapping.npz", expression=rng.normal(size=(52, 100)), pose=0.1 * rng.normal(size=(52, 5, 3)))
    return [folder / "mapping.npz"]


def sound_head(head: Any) -> bool:
    worn = torch.full((1, len(head.expression)), 0.5)
    moved = head.deform(torch.ones(1, len(head.identity)), worn)
    return finite(head.vertices, head.uv, head.albedo, moved) and len(head.landmarks) in (0, 68)


# Clouds, avatars, photos ---------------------------------------------------------------------------------------------


def small_avatar(folder: Path) -> list[Path]:
    """Nine Gaussians on the built-in head."""
    head, generator = builtin_head(), torch.Generator().manual_seed(0)

    def random_(*shape: int) -> torch.Tensor:
        return torch.rand(*shape, generator=generator)

    cloud = Gaussians(random_(9, 3), random_(9, 4), 0.01 * random_(9, 3), random_(9), random_(9, 3))
    basis = {"means": (3,), "rotations": (3,), "log_scales": (3,), "logit_opacities": (), "colors": (3,)}
    Avatar(
        template=head,
        identity=random_(len(head.identity)),
        gaussians=cloud,
        binding=torch.arange(9, dtype=torch.int32),
        geometry=GeometryPath(),
        source=random_(len(head.expression_names)),
        camera=Cameras(torch.eye(4)[None], torch.eye(3)[None], 64, 64),
        baked=BakedBasis(
            EmotionBasis(**{k: random_(2, 9, *v) for k, v in basis.items()}), random_(35, 2), random_(52, 2)
        ),
    ).save(folder / "avatar.safetensors")
    return [folder / "avatar.safetensors"]


def sound_avatar(avatar: Avatar) -> bool:
    seen = avatar.render(avatar.orbit(size=16), torch.full((7,), 0.1))
    return finite(avatar.expression("happy"), seen.colors, seen.alphas)


def ply_files(folder: Path) -> list[Path]:
    """With colours and with harmonics, binary and as text."""
    (small,) = small_avatar(folder)
    cloud = Avatar.load(small).gaussians
    save_ply(folder / "colors.ply", cloud)
    save_ply(folder / "sh.ply", replace(cloud, colors=None, sh=cloud.means[:, None] * torch.ones(4, 1)))
    rows = "\n".join(" ".join(map(str, range(14))) for _ in range(3))
    names = ("x", "y", "z", *(f"f_dc_{i}" for i in range(3)), "opacity")
    names += (*(f"scale_{i}" for i in range(3)), *(f"rot_{i}" for i in range(4)))
    head = ["ply", "format ascii 1.0", "element vertex 3", *(f"property float {name}" for name in names), "end_header"]
    (folder / "text.ply").write_text("\n".join([*head, rows, ""]))
    return [folder / name for name in ("colors.ply", "sh.ply", "text.ply")]


def sound_cloud(cloud: Gaussians) -> bool:
    return finite(cloud.means, cloud.quats, cloud.opacities, cloud.colors if cloud.sh is None else cloud.sh)


def photo_files(folder: Path, *endings: str) -> list[Path]:
    """A gradient in every format that cameras and browsers write."""
    ramp = np.add.outer(np.arange(40), np.arange(48)).astype(np.uint8)
    picture = Image.fromarray(np.stack([ramp, 2 * ramp, 3 * ramp], -1))
    for ending in endings:
        picture.save(folder / f"photo.{ending}")
    return [folder / f"photo.{ending}" for ending in endings]


def png_files(folder: Path) -> list[Path]:
    """In the modes that PNG has."""
    (path,) = photo_files(folder, "png")
    for mode in ("RGBA", "P", "L", "1", "I;16"):
        Image.open(path).convert("L" if mode == "I;16" else mode).convert(mode).save(
            folder / f"{mode[:4]}.png".replace(";", "_")
        )
    return sorted(folder.glob("*.png"))


def sound_photo(photo: np.ndarray) -> bool:
    return photo.dtype == np.uint8 and photo.ndim == 3 and photo.shape[2] == 3 and max(photo.shape) <= 2048


def point_files(folder: Path) -> list[Path]:
    """68 landmarks with and without the frame of iBUG's .pts."""
    lines = "".join(f"{0.5 * i} {3 * i}\n" for i in range(68))
    (folder / "plain.txt").write_text(lines)
    (folder / "framed.pts").write_text(f"version: 1\nn_points: 68\n{{\n{lines}}}\n")
    return [folder / "plain.txt", folder / "framed.pts"]


def budget_file(folder: Path) -> list[Path]:
    """The gate's budget, a few kernels of it."""
    full = Budget.load(ROOT / "benchmarks" / "cuda_budget.json")
    name = next(iter(full.files))
    Budget(full.tools, full.flags, {name: full.files[name]}).save(folder / "budget.json")
    return [folder / "budget.json"]


@cache
def tiny_flame(path: Path) -> Any:
    return load_flame(path)


_FRAMES_A_SECOND = 30.0
_ALL = (
    Loader("track-csv", csv_files, lambda p: load_track(p, fps=_FRAMES_A_SECOND), (damage, hurt_csv), sound_track),
    Loader("track-json", json_files, lambda p: load_track(p, fps=_FRAMES_A_SECOND), (damage, hurt_json), sound_track),
    Loader("votes", vote_files, load_votes, (damage, hurt_csv), sound_votes),
    Loader("emotion-text", text_files, parse_text, (damage, hurt_words), sound_text, ValueError),
    Loader(
        "emotion-tables", table_files, load_tables, (damage, hurt_json, hurt_json),
        lambda tables: finite(tables.prototypes, expression_from_emotion(torch.eye(7), tables)),
    ),
    Loader("flame-npz", flame_npz, load_template, (damage, hurt_npz), sound_head),
    Loader("flame-safetensors", flame_safetensors, load_template, (damage, hurt_safetensors), sound_head),
    Loader("flame-pickle", flame_pickle, load_template, (damage, hurt_pickle), sound_head),
    Loader(
        "flame-landmarks", flame_landmarks, lambda p: load_flame(p.parent / "model.npz", p),
        (damage, lambda data, rng: hurt_npz(data, rng) if data[:2] == b"PK" else hurt_words(data, rng)), sound_head,
    ),
    Loader("template-npz", common_npz, load_template, (damage, hurt_npz), sound_head),
    Loader("ict-folder", ict_folder, lambda p: load_template(p.parent), (damage, ict_words), sound_head),
    Loader("ict-npz", ict_npz, lambda p: load_template(p.parent), (damage, hurt_npz), sound_head),
    Loader(
        "mapping-npz", mapping_npz, lambda p: read_mapping(tiny_flame(p.parent / "model.npz"), p), (damage, hurt_npz),
        sound_head,
    ),
    Loader("avatar", small_avatar, Avatar.load, (damage, hurt_safetensors), sound_avatar),
    Loader("ply", ply_files, load_ply, (damage, hurt_ply), sound_cloud),
    Loader("photo-png", png_files, load_photo, (damage, hurt_png), sound_photo, PhotoError),
    Loader(
        "photo-other", lambda f: photo_files(f, "jpg", "webp", "gif", "bmp", "tiff", "ppm", "tga", "ico"), load_photo,
        (damage,), sound_photo, PhotoError,
    ),
    Loader("landmark-points", point_files, _landmarks, (damage, hurt_words), lambda p: bool(np.isfinite(p).all())),
    Loader("cuda-budget", budget_file, Budget.load, (damage, hurt_json), lambda b: isinstance(b, Budget), Broken),
)  # fmt: skip
LOADERS = {loader.name: loader for loader in _ALL}
