"""Sound files of emotions in every format, and what must hold of what is read from them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from emogs.emotion import Track, languages, pulse, save_track
from emogs.emotion.tables import TABLES_FILE
from emogs.head import ARKIT_NAMES

ROOT = Path(__file__).resolve().parents[2]


def finite(*tensors: torch.Tensor) -> bool:
    return all(bool(torch.isfinite(tensor).all()) for tensor in tensors)


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
