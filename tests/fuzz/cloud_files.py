"""Sound files of clouds, avatars, photos and landmarks, and what must hold of what is read from them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from emotion_files import finite
from PIL import Image

from emogs import Cameras, EmotionBasis, Gaussians
from emogs.emotion import GeometryPath
from emogs.head import builtin_head
from emogs.io.ply import save_ply
from emogs.model import Avatar
from emogs.model.bake import BakedBasis


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
