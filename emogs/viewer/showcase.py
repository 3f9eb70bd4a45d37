"""The demonstration pictures of an avatar: what is rendered and how it is composed; `emogs avatar` writes them all."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..emotion import EMOTIONS, format_emotion
from ..io.ply import save_ply
from ..io.sheet import Picture, contact_sheet, write_png
from ..io.video import write_video

if TYPE_CHECKING:
    from ..cameras import Cameras
    from ..model import Avatar, PhotoAvatar

SIDE_VIEW = 30.0
"""Degrees of yaw of the side views and of the video's turn: as far as one frontal photo carries."""
SECONDS, FRAMES_PER_SECOND = 4, 25
CHIN = 8
"""Its index among the 68 landmarks."""
CROWN = 0.998
"""Share of the Gaussians that lie below what counts as the top of the hair."""
CLOSE, WIDE = 0.12, 0.55
"""How far pictures reach below the chin, in heights of the head from its chin to the top of its hair."""
ABOVE = 0.05
"""How much air they leave above the hair, in the same measure."""
CENTRE_GREY, CORNER_GREY = 0.66, 0.40
"""Display values of the studio backdrop: bright enough for dark hair, dark enough for fair."""


def write_showcase(
    made: PhotoAvatar,
    emotion: Tensor,
    folder: Path,
    *,
    size: int = 512,
    progress: Callable[[str], None] = lambda stage: None,
) -> dict[str, str]:
    """Writes pictures, video, avatar file and splats; each file is replaced as a whole, others in the folder are left.

    Args:
        emotion: [7] the code that emotion.png, the video and the splats show.
        folder: made if need be.
        size: side of a large picture in pixels; sheets show half of it.
        progress: told the name of each stage as it begins.
    Returns:
        what each written file shows, by its name.
    """
    folder.mkdir(parents=True, exist_ok=True)
    avatar, felt = made.avatar, format_emotion(emotion)
    steps: dict[str, tuple[str, Callable[[Path], object]]] = {
        "reconstruction.png": (
            "photo, reconstruction, neutral",
            lambda path: write_png(path, reconstruction(made, size)),
        ),
        "emotion.png": (felt, lambda path: write_png(path, portraits(avatar, framed(avatar, size, WIDE), emotion)[0])),
        "emotions.png": ("seven emotions, half and full", lambda path: write_png(path, emotion_sheet(avatar, size))),
        "sheet.png": ("side views of the emotions", lambda path: write_png(path, turn_sheet(avatar, size))),
        "turn.mp4": (
            f"a turn of the head with {felt}",
            lambda path: write_video(path, turn_frames(avatar, emotion, size), frames_per_second=FRAMES_PER_SECOND),
        ),
        "avatar.safetensors": ("the avatar, for `emogs view`", avatar.save),
        "avatar.ply": (f"its Gaussians with {felt}", lambda path: save_ply(path, avatar.posed(emotion))),
    }
    for name, (_, write) in steps.items():
        progress(f"write {name}")
        write(folder / name)
    return {name: shows for name, (shows, _) in steps.items()}


def portraits(
    avatar: Avatar, cameras: Cameras, emotion: Tensor | str | None = None, articulation: Tensor | None = None
) -> list[Picture]:
    """Pictures before a studio backdrop, one for every emotion and camera, cameras fastest."""
    with torch.no_grad():
        rendering = avatar.render(cameras, emotion, articulation)
        seen = rendering.colors + (1 - rendering.alphas) * backdrop(cameras.height, cameras.width)
    return list((seen.clamp(0, 1) * 255).round().byte().flatten(0, 1).cpu().numpy())


def backdrop(height: int, width: int) -> Tensor:
    """[H, W, 1] display values: light behind the head, darker towards the corners."""
    y = torch.linspace(-1, 1, height)[:, None]
    x = torch.linspace(-1, 1, width)[None]
    fall = torch.cos(0.5 * math.pi * ((x.square() + y.square()) / 2).sqrt()).square()
    return (CORNER_GREY + (CENTRE_GREY - CORNER_GREY) * fall)[..., None]


def reconstruction(made: PhotoAvatar, size: int) -> Picture:
    """The crop, backdrop where the photo ends; the avatar in the crop's own view and expression; the same at rest."""
    avatar = made.avatar
    shown = torch.where(torch.from_numpy(made.fit.valid)[..., None], made.crop, backdrop(*made.crop.shape[:2]))
    photo = Image.fromarray((shown.clamp(0, 1) * 255).round().byte().cpu().numpy())
    camera = _resized(avatar.camera, size)
    own, rest = (portraits(avatar, camera, articulation=worn)[0] for worn in (avatar.source, None))
    crop = np.asarray(photo.resize((camera.width, camera.height), Image.Resampling.LANCZOS))
    return contact_sheet([[crop, own, rest]], ["photo", "reconstruction", "neutral"])


def emotion_sheet(avatar: Avatar, size: int) -> Picture:
    """The seven emotions at half and at full intensity."""
    camera = framed(avatar, size, CLOSE)
    rows = [_halved(portraits(avatar, camera, intensity * torch.eye(len(EMOTIONS)))) for intensity in (0.5, 1.0)]
    return contact_sheet(rows, EMOTIONS, ["half", "full"])


def turn_sheet(avatar: Avatar, size: int) -> Picture:
    """Neutral and the seven emotions, from the front and from both sides."""
    yaws = (-SIDE_VIEW, 0.0, SIDE_VIEW)
    cameras = framed(avatar, size, CLOSE, torch.tensor(yaws))
    codes = torch.cat([torch.zeros(1, len(EMOTIONS)), torch.eye(len(EMOTIONS))])
    columns = [_halved(portraits(avatar, cameras, code)) for code in codes]
    rows = [list(row) for row in zip(*columns, strict=True)]
    return contact_sheet(rows, ["neutral", *EMOTIONS], [f"{yaw:+.0f}°" if yaw else "front" for yaw in yaws])


def turn_frames(avatar: Avatar, emotion: Tensor, size: int) -> Iterator[Picture]:
    """One turn to either side, during which the emotion rises from neutral and falls again; loops without a seam."""
    count = SECONDS * FRAMES_PER_SECOND
    phases = 2 * math.pi * torch.arange(count) / count
    cameras = framed(avatar, size, WIDE, SIDE_VIEW * phases.sin())
    for frame, phase in enumerate(phases):
        camera = replace(cameras, viewmats=cameras.viewmats[frame, None], Ks=cameras.Ks[frame, None])
        yield portraits(avatar, camera, 0.5 * (1 - phase.cos()) * emotion)[0]


def framed(avatar: Avatar, size: int, below: float, yaw: Tensor | float = 0.0) -> Cameras:
    """Cameras around the avatar whose pictures its head fills, whatever its hair: see CLOSE, WIDE and ABOVE.

    Args:
        below: how far down to show, in heights of the head.
        yaw: [C] degrees, as for `Avatar.orbit`.
    """
    cameras = avatar.orbit(yaw, size=size)
    chin = avatar.vertices()[0, avatar.template.landmarks[CHIN], 1]
    crown = avatar.posed().means[:, 1].quantile(CROWN)
    tall = crown - chin
    edges = torch.stack([crown + ABOVE * tall, chin - below * tall])  # of the picture, in head space
    points = torch.stack([torch.zeros(2), edges, torch.zeros(2), torch.ones(2)], -1)
    view = points @ cameras.viewmats[0].mT
    top, bottom = view[:, 1] / view[:, 2] * cameras.Ks[0, 1, 1] + cameras.Ks[0, 1, 2]
    zoom = cameras.height / (bottom - top)
    shift = torch.tensor([cameras.width / 2, 0.0]) - zoom * torch.stack([torch.tensor(cameras.width / 2), top])
    crop = torch.eye(3)
    crop[:2, :2], crop[:2, 2] = zoom * torch.eye(2), shift
    return replace(cameras, Ks=crop @ cameras.Ks)


def _resized(camera: Cameras, width: int) -> Cameras:
    """The same view in pictures of another width."""
    factor = width / camera.width
    scale = torch.tensor([factor, factor, 1.0])[:, None]
    return replace(camera, Ks=camera.Ks * scale, width=width, height=round(camera.height * factor))


def _halved(pictures: list[Picture]) -> list[Picture]:
    """Half the size, by the mean of four pixels: rendering at twice the size and averaging keeps hair fine."""
    return [np.asarray(Image.fromarray(picture).reduce(2)) for picture in pictures]
