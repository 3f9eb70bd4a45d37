"""ICT-FaceKit's npz: read where it is whole, refused by name where it is not."""

import json

import pytest
import torch

from emogs.head import ARKIT_NAMES, load_ict
from emogs.io import FormatError


def test_shapes_fit_together(ict_folder):
    ict = load_ict(ict_folder)
    assert ict.expression.shape == (len(ARKIT_NAMES), len(ict.vertices), 3)
    assert ict.faces.max() < len(ict.vertices) and ict.landmarks.shape == (68,)
    smile = torch.zeros(1, len(ARKIT_NAMES))
    smile[0, ict.channel("mouthSmileLeft")] = 1
    corner = ict.landmarks[54]
    assert ict.deform(None, smile)[0, corner, 1] > ict.vertices[corner, 1]


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
