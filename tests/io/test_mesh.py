"""Meshes for other programs: trimesh reads back the places, the triangles and the texture that were written."""

import numpy as np
import pytest
import trimesh

from emogs.io.mesh import write_mesh

VERTICES = np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]], float)
FACES = np.array([[0, 1, 2], [0, 2, 3]])
UV = np.array([[0, 1], [1, 1], [1, 0], [0, 0], [0.5, 0.5]])
FACES_UV = np.array([[0, 1, 2], [4, 2, 3]])  # vertex 0 has two places in the texture
TEXTURE = np.zeros((8, 8, 3), np.uint8)
TEXTURE[0, 0], TEXTURE[7, 0] = (255, 0, 0), (0, 255, 0)  # top left is v = 0, vertex 3; bottom left vertex 0's first


@pytest.mark.parametrize("ending", [".glb", ".obj", ".ply"])
def test_triangles_come_back(tmp_path, ending):
    path = tmp_path / f"mesh{ending}"
    write_mesh(path, VERTICES, FACES, UV, FACES_UV, TEXTURE)
    mesh = trimesh.load(path, process=False, force="mesh")
    assert len(mesh.vertices) == 5 and len(mesh.faces) == 2
    np.testing.assert_allclose(mesh.triangles, VERTICES[FACES], atol=1e-6)
    assert b"Synthetic: rendered by emogs" in path.read_bytes()
    assert [file.name for file in tmp_path.iterdir()] == [path.name]  # no file of materials beside it


def test_the_texture_stays_where_it_was(tmp_path):
    write_mesh(tmp_path / "mesh.glb", VERTICES, FACES, UV, FACES_UV, TEXTURE)
    mesh = trimesh.load(tmp_path / "mesh.glb", process=False, force="mesh")
    picture = np.asarray(mesh.visual.material.baseColorTexture.convert("RGB"))
    assert np.array_equal(picture, TEXTURE)
    corner = np.flatnonzero((np.abs(mesh.vertices - VERTICES[3]) < 1e-6).all(1))[0]
    np.testing.assert_allclose(mesh.visual.uv[corner], [0, 1], atol=1e-6)  # trimesh counts from the bottom
    write_mesh(tmp_path / "mesh.ply", VERTICES, FACES, UV, FACES_UV, TEXTURE)
    colors = trimesh.load(tmp_path / "mesh.ply", process=False).visual.vertex_colors[:, :3].tolist()
    assert [255, 0, 0] in colors and [0, 255, 0] in colors


def test_other_endings_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"mesh\.stl: expected a name that ends in \.glb, \.obj, \.ply"):
        write_mesh(tmp_path / "mesh.stl", VERTICES, FACES, UV, FACES_UV, TEXTURE)
