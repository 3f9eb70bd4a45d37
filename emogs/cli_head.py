"""`emogs head show | compare | convert | export | fit`: head templates on the command line."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Literal

import tyro
from tyro.conf import Positional

from .cli_arguments import check_output, run_command
from .cli_fit import fit
from .cli_template import speaking, with_arkit

_TEMPLATE = tyro.conf.arg(metavar="TEMPLATE")


def show(
    template: Annotated[Positional[str], _TEMPLATE],
    /,
    emotion: str = "happy=0.8",
    out: Path = Path("head.png"),
    mapping: Path | None = None,
    landmarks: Path | None = None,
    size: int = 320,
) -> None:
    """Draw a head template from five sides: neutral, half an emotion, and all of it.

    Args:
        template: The word `builtin`, a folder of ICT-FaceKit's, a FLAME model (npz, safetensors, pkl), or an npz by
            `emogs head convert`.
        emotion: What to feel, such as `happy=0.7,surprise=0.2`.
        out: The PNG to write.
        mapping: An npz that says what ARKit's channels are in the template's expression space; without it they are
            found by geometry.
        landmarks: FLAME's landmark embedding, or a text file of 68 vertex numbers.
        size: Side of one picture in pixels.
    """
    _check_picture(out, size)
    from .emotion import parse_emotion

    code = parse_emotion(emotion)
    head = speaking(template, mapping, landmarks)
    from .io.sheet import write_png
    from .viewer.heads import views_sheet

    write_png(out, views_sheet(head, code, size))
    print(f"{out}: {head.name} with {emotion}")


def compare(
    templates: Annotated[Positional[tuple[str, ...]], _TEMPLATE],
    /,
    sheet: Literal["emotions", "intensities", "sides", "compounds"] = "emotions",
    out: Path = Path("heads.png"),
    size: int = 256,
) -> None:
    """Draw templates beside each other in every emotion: one camera, one light, one clay.

    Args:
        templates: As for `emogs head show`; several.
        sheet: What they show: the seven `emotions` from two sides; half and full `intensities`; action units
            on one of their `sides` only; or the named `compounds`.
        out: The PNG to write.
        size: Side of one picture in pixels.
    """
    if not templates:
        raise ValueError("templates: expected one or more, got none")
    _check_picture(out, size)
    heads = [speaking(template, None, None) for template in templates]
    from .io.sheet import write_png
    from .viewer.head_sheets import SHEETS

    write_png(out, SHEETS[sheet](heads, size))
    print(f"{out}: {', '.join(head.name for head in heads)}, {sheet}")


def convert(
    source: Annotated[Positional[str], tyro.conf.arg(metavar="IN")],
    out: Annotated[Positional[Path], tyro.conf.arg(metavar="OUT.npz")],
    /,
    arkit: Literal["keep", "geometry"] = "keep",
    mapping: Path | None = None,
    landmarks: Path | None = None,
) -> None:
    """Write any head template as one npz that is safe to load.

    Args:
        source: As for `emogs head show`.
        out: The npz to write.
        arkit: `keep` the template's own expression space, or find ARKit's channels in it by `geometry`.
        mapping: An npz that says what ARKit's channels are in the template's expression space.
        landmarks: FLAME's landmark embedding, or a text file of 68 vertex numbers.
    """
    check_output("OUT", out, ".npz")
    from .head import load_template, save_template

    head = load_template(source, landmarks)
    if mapping is not None or (arkit == "geometry" and not head.speaks_arkit):
        head = with_arkit(head, mapping)
    save_template(head, out)
    parts = f"{len(head.vertices):,} vertices, {len(head.faces):,} triangles, {len(head.identity)} identity directions"
    print(f"{out}: {head.name}, {parts}, {len(head.expression)} expression channels")


def export(
    template: Annotated[Positional[str], _TEMPLATE],
    out: Annotated[Positional[Path], tyro.conf.arg(metavar="OUT")],
    /,
    emotion: str = "neutral",
    mapping: Path | None = None,
    landmarks: Path | None = None,
) -> None:
    """Write a head in an emotion as a mesh for other programs: .glb with its texture, .obj or .ply with colours.

    Args:
        template: As for `emogs head show`.
        out: The .glb, .obj or .ply to write.
        emotion: What to feel, such as `happy=0.7,surprise=0.2`.
        mapping: An npz that says what ARKit's channels are in the template's expression space.
        landmarks: FLAME's landmark embedding, or a text file of 68 vertex numbers.
    """
    check_output("OUT", out, ".glb", ".obj", ".ply")
    from .emotion import expression_from_emotion, parse_emotion

    code = parse_emotion(emotion)
    head = speaking(template, mapping, landmarks)
    from .io.mesh import write_mesh

    vertices = head.deform(expression=expression_from_emotion(code)[None])[0]
    texture = (head.albedo.clamp(0, 1) * 255).round().byte()
    write_mesh(out, *(part.numpy() for part in (vertices, head.faces, head.uv, head.faces_uv, texture)))
    print(f"{out}: {head.name} with {emotion}, {len(head.faces):,} triangles")


def main(arguments: Sequence[str]) -> None:
    """Runs `emogs head ...`."""
    commands: dict[str, Callable[..., None]] = {
        "show": show,
        "compare": compare,
        "convert": convert,
        "export": export,
        "fit": fit,
    }
    run_command(commands, "emogs head", "Head templates: look at them, convert and fit them.", arguments)


def _check_picture(out: Path, size: int) -> None:
    if not 32 <= size <= 2048:
        raise ValueError(f"--size: expected 32 to 2048, got {size}")
    check_output("--out", out, ".png")
