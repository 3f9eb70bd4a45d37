"""Textured triangle meshes as .glb, .obj or .ply for other programs, through trimesh."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .files import SYNTHETIC, replacing

ENDINGS = (".glb", ".obj", ".ply")


def write_mesh(
    path: str | Path,
    vertices: NDArray[np.floating[Any]],
    faces: NDArray[np.integer[Any]],
    uv: NDArray[np.floating[Any]],
    faces_uv: NDArray[np.integer[Any]],
    texture: NDArray[np.uint8],
) -> None:
    """Writes a mesh whose corners have texture coordinates of their own; the file is replaced as a whole.

    A corner is a vertex and a texture coordinate; formats that keep one coordinate for each vertex get a vertex for
    each pair that occurs. A .glb holds the texture, a .ply and an .obj its colour at each vertex.

    Args:
        path: ends in .glb, .obj or .ply.
        vertices: [V, 3] metres. faces: [F, 3] into vertices.
        uv: [T, 2] in [0, 1] from the texture's top-left corner. faces_uv: [F, 3] into uv.
        texture: [S, S, 3] uint8, sRGB.
    Raises:
        ValueError: another ending.
    """
    import trimesh
    from PIL import Image

    path = Path(path)
    if path.suffix.lower() not in ENDINGS:
        raise ValueError(f"{path}: expected a name that ends in {', '.join(ENDINGS)}")
    corners = np.stack([faces.reshape(-1), faces_uv.reshape(-1)], 1)
    pairs, index = np.unique(corners, axis=0, return_inverse=True)
    places = uv[pairs[:, 1]]
    if path.suffix.lower() == ".glb":
        up = np.stack([places[:, 0], 1 - places[:, 1]], 1)  # trimesh counts v from the bottom
        material = trimesh.visual.material.PBRMaterial(
            baseColorTexture=Image.fromarray(texture), metallicFactor=0.0, roughnessFactor=0.8
        )
        visual: Any = trimesh.visual.TextureVisuals(uv=up, material=material)
    else:
        column, row = (places.clip(0, 1) * (np.array(texture.shape[1::-1]) - 1)).round().astype(int).T
        visual = trimesh.visual.ColorVisuals(vertex_colors=texture[row, column])
    mesh = trimesh.Trimesh(vertices[pairs[:, 0]], index.reshape(-1, 3), visual=visual, process=False)
    mesh.metadata["comment"] = SYNTHETIC  # a .glb's extras; the others have comments
    data: Any = mesh.export(file_type=path.suffix.lower()[1:])
    data = data.encode() if isinstance(data, str) else data
    if path.suffix.lower() != ".glb":
        data = data.replace(b"https://github.com/mikedh/trimesh", SYNTHETIC.encode(), 1)
    with replacing(path) as partial:
        partial.write_bytes(data)
