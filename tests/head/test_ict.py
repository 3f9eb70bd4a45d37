"""ICT-FaceKit as npz and as upstream's folder of OBJ files: read where it is whole, refused by name where it is not."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from obj_files import ict_obj_folder, tiny_ict_folder

from emogs.head import ARKIT_NAMES, load_ict, load_template, texel_map
from emogs.io import FormatError


def test_shapes_fit_together(ict_folder):
    ict = load_ict(ict_folder)
    assert ict.expression.shape == (len(ARKIT_NAMES), len(ict.vertices), 3)
    assert ict.faces.max() < len(ict.vertices) and ict.landmarks.shape == (68,)
    smile = torch.zeros(1, len(ARKIT_NAMES))
    smile[0, ict.channel("mouthSmileLeft")] = 1
    corner = ict.landmarks[54]
    assert ict.deform(None, smile)[0, corner, 1] > ict.vertices[corner, 1]


def test_materials_share_one_texture(ict_folder):
    """Upstream's coordinates reach u = 4, and its eyes' lie on the face's."""
    ict = load_ict(ict_folder)
    assert ict.uv.min() >= 0 and ict.uv.max() <= 1
    texels = texel_map(ict, 256)
    shares = torch.bincount(ict.face_part[texels.face], minlength=len(ict.part_names)) / 256**2
    assert shares[0] > 0.4 and (shares[1:] > 0.02).all()
    a, b, c = (ict.uv[ict.faces_uv] * 256).double().unbind(1)
    area = 0.5 * ((b - a)[:, 0] * (c - a)[:, 1] - (b - a)[:, 1] * (c - a)[:, 0]).abs()
    for part in range(len(ict.part_names)):  # nothing lies over it: its texels are as many as its area
        assert abs(shares[part] * 256**2 / area[ict.face_part == part].sum() - 1) < 0.03, ict.part_names[part]


def test_coordinates_over_several_tiles_are_drawn_smaller(tmp_path):
    tiny_ict_folder(tmp_path)
    path = tmp_path / "generic_neutral_mesh.obj"
    lines = [
        f"vt {7 + 3 * float(line.split()[1])} {line.split()[2]}" if line.startswith("vt ") else line
        for line in path.read_text().splitlines()
    ]
    path.write_text("\n".join(lines) + "\n")
    assert load_ict(tmp_path).uv.min() >= 0 and load_ict(tmp_path).uv.max() <= 1


def test_upstream_folder_is_the_npz(tmp_path, ict_folder):
    """Quads, groups, materials and lashes as upstream has them, with a few of the directions."""
    shapes = ["browInnerUp_L", "browInnerUp_R", "jawOpen", "mouthClose", "eyeBlink_L"]
    ict_obj_folder(tmp_path, ict_folder, people=2, shapes=shapes)
    obj, npz = load_template(tmp_path), load_ict(ict_folder)
    assert len(obj.vertices) == len(npz.vertices) == 24591
    torch.testing.assert_close(obj.vertices, npz.vertices, rtol=0, atol=1e-7)
    torch.testing.assert_close(obj.uv[obj.faces_uv], npz.uv[npz.faces_uv], rtol=0, atol=1e-6)
    torch.testing.assert_close(obj.identity, npz.identity[:2], rtol=0, atol=2e-7)
    for channel in ("browInnerUp", "jawOpen", "mouthClose", "eyeBlinkLeft", "eyeBlinkRight"):
        index = obj.channel(channel)
        wanted = npz.expression[index] if channel != "eyeBlinkRight" else torch.zeros_like(npz.vertices)
        torch.testing.assert_close(obj.expression[index], wanted, rtol=0, atol=2e-7)
    for field in ("faces", "face_part", "landmarks", "rigid"):
        assert torch.equal(getattr(obj, field), getattr(npz, field)), field


def test_split_shapes_are_whole_and_correctives_stay(tmp_path):
    """`browInnerUp_L` and `_R` are ARKit's `browInnerUp`; shapes that ARKit does not have are left out."""
    moved = tiny_ict_folder(tmp_path)
    template = load_ict(tmp_path)
    shapes = {name: template.expression[template.channel(name)] for name in ARKIT_NAMES}
    torch.testing.assert_close(shapes["browInnerUp"], moved["browInnerUp_L"] + moved["browInnerUp_R"])
    torch.testing.assert_close(shapes["mouthSmileLeft"], moved["mouthSmile_L"])
    torch.testing.assert_close(shapes["mouthClose"], moved["mouthClose"])
    assert not shapes["tongueOut"].any() and not shapes["jawOpen"].any()


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 no archive", b"\x93NUMPY"])
def test_a_damaged_file_is_refused(tmp_path, content):
    (tmp_path / "ict_head.npz").write_bytes(content)
    with pytest.raises(FormatError, match=r"ict_head\.npz: file"):
        load_ict(tmp_path)


def test_a_missing_folder_is_refused(tmp_path):
    with pytest.raises(FormatError, match="No such file"):
        load_ict(tmp_path / "nowhere")


def test_a_missing_field_is_named(tmp_path, ict_folder):
    (tmp_path / "ict_head.npz").symlink_to((ict_folder / "ict_head.npz").resolve())
    (tmp_path / "vertex_indices.json").write_text(json.dumps({"idx_to_landmark_verts": [0] * 68}))
    with pytest.raises(FormatError, match="idx_to_rigid_verts: missing"):
        load_ict(tmp_path)


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("generic_neutral_mesh.obj", "v 0.1", "v x", r"line 1: expected 3 finite numbers, got 'v x"),
        ("generic_neutral_mesh.obj", "v 0.1", "v nan", "line 1: expected 3 finite numbers"),
        ("generic_neutral_mesh.obj", "f 1/1", "f 99/1", "expected indices of the file's 12 vertices and 12 texture"),
        ("generic_neutral_mesh.obj", "f 1/1", "f 1", "f: expected texture coordinates at every corner"),
        ("generic_neutral_mesh.obj", "f 1/1", "f 0/1", "expected corners such as 1/2/3, got '0/1'"),
        ("generic_neutral_mesh.obj", "f 1/1 2/2 3/3 4/4", "f 1/1 2/2", "expected a polygon of three corners"),
        ("generic_neutral_mesh.obj", "usemtl M_", "usemtl N_", "material_names: expected some of M_Face"),
        ("mouthClose.obj", "v 0.1", "#", "v: expected 12 vertices, got 11"),
        ("vertex_indices.json", '"idx_to_landmark_verts"', '"other"', "idx_to_landmark_verts: missing"),
        ("vertex_indices.json", '"expressions"', '"other"', "expressions: expected a list of names"),
        ("vertex_indices.json", "[", "", "JSON: line 1, column 49: expected ':' delimiter, got"),
        ("vertex_indices.json", '"mouthClose"', '"' + 5000 * "m" + '"', "expressions: expected a list of names"),
        ("vertex_indices.json", '"mouthClose"', '"mouthShut"', r"mouthShut\.obj: file: No such file"),
        ("vertex_indices.json", '"mouthClose"', '"../mouthClose\\u0000"', "file: not readable"),
    ],
)
def test_what_is_wrong_in_a_folder_is_named(tmp_path, file: str, old: str, new: str, message: str):
    tiny_ict_folder(tmp_path)
    text = (tmp_path / file).read_text()
    assert old in text
    (tmp_path / file).write_text(text.replace(old, new, -1 if "usemtl" in old else 1))
    with pytest.raises(FormatError, match=message):
        load_ict(tmp_path)


def test_indices_may_count_back_and_polygons_have_any_number_of_corners(tmp_path):
    from emogs.head.wavefront import read_wavefront

    path = Path(tmp_path / "mesh.obj")
    path.write_text("v 0 0 0\nv 1 0 0\nv 1 1 0\nv 0 1 0\nv 0 2 0 # a note\nvn 0 0 1\ng a\nf -5 -4//1 3 4//1 5\n")
    mesh = read_wavefront(path)
    assert mesh.faces.tolist() == [[0, 1, 2], [0, 2, 3], [0, 3, 4]]
    assert np.array_equal(mesh.faces_uv, np.full((3, 3), -1)) and mesh.material_names == ("",)
