"""An avatar as one safetensors file: named tensors and a few words of text; reading it executes nothing.

The head itself is not in the file: it is named, with a fingerprint that tells whether the reader's is the writer's.
"""

from __future__ import annotations

import hashlib
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from ..cameras import Cameras
from ..emotion import PSI_WIDTH, GeometryPath, anchor_codes, expression_from_emotion, psi
from ..gaussians import EmotionBasis, Gaussians
from ..head import ARKIT_NAMES, HeadTemplate
from ..io.files import SYNTHETIC, FormatError, reason_of, replacing, shown
from .bake import BakedBasis

if TYPE_CHECKING:
    from .avatar import Avatar

FORMAT = "emogs-avatar-2"
FIRST_FORMAT = "emogs-avatar-1"
"""Had the whole mean of an emotion as components of psi, where `GeometryPath` now adds an offset to the tables."""


def write_avatar(avatar: Avatar, path: Path) -> None:
    """The file behind `Avatar.save`."""
    header = {
        "format": FORMAT,
        "template": avatar.template.name,
        "template_fingerprint": fingerprint(avatar.template),
        "width": str(avatar.camera.width),
        "height": str(avatar.camera.height),
        "synthetic": "true",
        "note": SYNTHETIC,
    }
    tensors: dict[str, Tensor | None] = {
        "identity": avatar.identity,
        "source": avatar.source,
        "binding": avatar.binding,
        "camera.viewmats": avatar.camera.viewmats,
        "camera.Ks": avatar.camera.Ks,
    }
    tensors |= {f"gaussians.{f.name}": getattr(avatar.gaussians, f.name) for f in fields(Gaussians)}
    tensors |= {f"geometry.{name}": value for name, value in avatar.geometry.state_dict().items()}
    if avatar.baked:
        tensors |= {f"basis.{name}": value for name, value in avatar.baked.basis.given().items()}
        tensors |= {"basis_weights": avatar.baked.weights, "basis_response": avatar.baked.response}
    present = {name: value.detach().contiguous() for name, value in tensors.items() if value is not None}
    with replacing(path) as partial:
        partial.write_bytes(save(present, metadata=header))  # save_file would make it readable for its owner alone


def read_avatar(path: Path, template: HeadTemplate) -> dict[str, Any]:
    """The fields of an `Avatar`, every one checked for presence, shape, type and finiteness."""
    file = _File(path)
    file.check_template(template)
    count = file.rows("gaussians.means")
    shapes = {"means": (3,), "quats": (4,), "scales": (3,), "opacities": (), "colors": (3,)}
    return {
        "template": template,
        "identity": file.tensor("identity", len(template.identity)),
        "source": file.tensor("source", len(template.expression_names)),
        "gaussians": Gaussians(**{k: file.tensor(f"gaussians.{k}", count, *v) for k, v in shapes.items()}),
        "binding": file.indices("binding", count, below=len(template.faces)),
        "geometry": _read_geometry(file),
        "camera": Cameras(
            file.invertible("camera.viewmats", 1, 4, 4),
            file.tensor("camera.Ks", 1, 3, 3),
            file.number("width"),
            file.number("height"),
        ),
        "baked": _read_basis(file, count) if "basis_weights" in file.tensors else None,
    }


def _read_geometry(file: _File) -> GeometryPath:
    """Ready to play: nothing of it asks for gradients."""
    geometry, first = GeometryPath(), file.header["format"] == FIRST_FORMAT
    names = {name: "mean" if first and name == "offset" else name for name in geometry.state_dict()}
    state = {k: file.tensor(f"geometry.{names[k]}", *v.shape) for k, v in geometry.state_dict().items()}
    if first:
        anchors = anchor_codes().double()
        state["offset"] = state["offset"] - torch.linalg.solve(psi(anchors), expression_from_emotion(anchors)).T.float()
    geometry.load_state_dict(state)
    return geometry.requires_grad_(False)


def _read_basis(file: _File, count: int) -> BakedBasis:
    weights = file.tensor("basis_weights", PSI_WIDTH, None)
    shapes = {"means": (3,), "rotations": (3,), "log_scales": (3,), "logit_opacities": (), "colors": (3,)}
    present = {name: shape for name, shape in shapes.items() if f"basis.{name}" in file.tensors}
    given = {name: file.tensor(f"basis.{name}", weights.shape[1], count, *shape) for name, shape in present.items()}
    if not given:
        file.fail("basis", "weights without a basis")
    channels = len(ARKIT_NAMES)
    response = file.tensor("basis_response", channels, weights.shape[1]) if "basis_response" in file.tensors else None
    return BakedBasis(EmotionBasis(**given), weights, response)


def fingerprint(template: HeadTemplate) -> str:
    """Tells whether two heads have the same triangles and directions: their counts, names, and shape to 0.1 mm."""
    digest = hashlib.sha256(repr((template.identity_names, template.expression_names, len(template.vertices))).encode())
    digest.update(template.faces.numpy().tobytes())
    digest.update((template.vertices * 1e4).round().to(torch.int32).numpy().tobytes())
    return digest.hexdigest()[:16]


class _File:
    """Every tensor and word of a file, handed out only after a check that names what is wrong."""

    def __init__(self, path: Path) -> None:
        self.path = path
        if not path.is_file():
            self.fail("file", "no such file")
        try:
            with safe_open(path, framework="pt") as handle:
                self.header = handle.metadata() or {}
                self.tensors = {name: handle.get_tensor(name) for name in handle.keys()}  # noqa: SIM118 (not a dict)
        except (OSError, SafetensorError, ValueError) as error:
            raise FormatError(path, "file", f"not readable as safetensors: {reason_of(error)}") from None
        if self.header.get("format") not in (FORMAT, FIRST_FORMAT):
            self.fail("format", f"expected {FORMAT!r}, got {shown(self.header.get('format'))}")

    def fail(self, field: str, reason: str) -> NoReturn:
        raise FormatError(self.path, field, reason)

    def check_template(self, template: HeadTemplate) -> None:
        if self.header.get("template_fingerprint") != fingerprint(template):
            name = self.header.get("template")
            self.fail(
                "template", f"made on the head {shown(name)} of its writer, which is not the {template.name!r} here"
            )

    def rows(self, name: str) -> int:
        if name not in self.tensors or self.tensors[name].ndim == 0:
            self.fail(name, "missing")
        return len(self.tensors[name])

    def tensor(self, name: str, *shape: int | None) -> Tensor:
        """A finite float32 tensor of a shape; None stands for any size."""
        if name not in self.tensors:
            self.fail(name, "missing")
        value = self.tensors[name]
        fits = len(value.shape) == len(shape) and all(b in (a, None) for a, b in zip(value.shape, shape, strict=False))
        if not fits or value.dtype != torch.float32:
            self.fail(name, f"expected float32 {list(shape)}, got {value.dtype} {list(value.shape)}")
        if not value.isfinite().all():
            self.fail(name, "holds a value that is not finite")
        return value

    def invertible(self, name: str, *shape: int) -> Tensor:
        """Matrices with an inverse, as finite as they are."""
        value = self.tensor(name, *shape)
        inverse, fault = torch.linalg.inv_ex(value)
        if fault.any() or not inverse.isfinite().all():
            self.fail(name, "expected a matrix that has an inverse, got a singular one")
        return value

    def indices(self, name: str, count: int, *, below: int) -> Tensor:
        """Indices [count] int32 in [0, below)."""
        value = self.tensors.get(name)
        if value is None or value.dtype != torch.int32 or list(value.shape) != [count]:
            self.fail(name, f"expected int32 [{count}]")
        if count and not 0 <= int(value.min()) <= int(value.max()) < below:
            self.fail(name, f"holds an index outside [0, {below})")
        return value

    def number(self, name: str) -> int:
        text = self.header.get(name, "")
        if not (text.isdecimal() and len(text) < 6 and 1 <= int(text) <= 16384):
            self.fail(name, f"expected a size in pixels, got {shown(text)}")
        return int(text)
