"""FLAME (Li et al. 2017) as a template, from the user's own file: npz, safetensors, or the pickle as published.

The file may not be passed on, so emogs ships nothing of it. 300 identity and 100 expression directions, five joints
with linear blend skinning, and pose correctives. FLAME's expression space has no names: `retarget` finds what ARKit's
channels are in it. The model's file holds neither landmarks nor texture coordinates: landmarks can come from a file
beside it; the texture gives each pair of triangles a cell of its own.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from ..io.files import FormatError
from .fields import Fields, read_npz, reading
from .pickles import read_pickle
from .skeleton import Skeleton
from .template import HeadTemplate
from .uv import triangle_cells

JOINTS = ("root", "neck", "jaw", "eye_left", "eye_right")
PARENTS = (-1, 0, 1, 1, 1)
IDENTITIES, EXPRESSIONS = 300, 100
_PARTS = ("skin", "eye_left", "eye_right")
_ROUNDING = 1e-3
"""How far a vertex's skinning weights may sum from one."""
_FIELDS = ("v_template", "f", "shapedirs", "posedirs", "J_regressor", "weights", "kintree_table")


def load_flame(path: str | Path, landmarks: str | Path | None = None) -> HeadTemplate:
    """Reads FLAME's model file.

    Args:
        path: npz or safetensors with the published names, or the published pickle. A pickle's code is not run: the
            arrays in it are read, and anything else in it is refused.
        landmarks: an npz or pickle of FLAME's landmark embedding (`full_lmk_faces_idx`, `full_lmk_bary_coords`),
            or a text file of 68 vertex numbers, in the iBUG order; None leaves the template without landmarks.
    Raises:
        emogs.io.FormatError: names the file, the field, what was expected and what came.
    """
    fields = read_arrays(Path(path))
    if "v_template" not in fields:
        raise FormatError(path, "v_template", f"missing; expected FLAME's fields {', '.join(_FIELDS)}")
    count = fields.rows("v_template")
    vertices = fields.floats("v_template", count, 3)
    faces = fields.indices("f", None, 3, below=count)
    directions = fields.floats("shapedirs", count, 3, IDENTITIES + EXPRESSIONS).permute(2, 0, 1).contiguous()
    skeleton = _skeleton(fields, count)
    face_part = _parts(skeleton.weights, faces)
    uv, faces_uv = triangle_cells(len(faces))
    return HeadTemplate(
        name="flame",
        vertices=vertices,
        faces=faces,
        uv=uv,
        faces_uv=faces_uv,
        face_part=face_part,
        part_names=_PARTS,
        landmarks=_landmarks(Path(landmarks), faces, count) if landmarks else torch.zeros(0, dtype=torch.int64),
        rigid=_skull(vertices, skeleton),
        identity=directions[:IDENTITIES],
        identity_names=tuple(f"shape{i:03d}" for i in range(IDENTITIES)),
        expression=directions[IDENTITIES:],
        expression_names=tuple(f"expression{i:03d}" for i in range(EXPRESSIONS)),
        albedo=torch.full((256, 256, 3), 0.6),
        skeleton=skeleton,
    )


def read_arrays(path: Path) -> Fields:
    """The arrays of an npz, safetensors or pickle file, told apart by their first bytes."""
    with reading(path), path.open("rb") as file:
        start = file.read(9)
    if start.startswith(b"PK"):
        return read_npz(path)
    if path.suffix == ".safetensors" or start[8:] == b"{":
        return _read_safetensors(path)
    return read_pickle(path)


def _read_safetensors(path: Path) -> Fields:
    from safetensors import safe_open

    with reading(path), safe_open(path, framework="np") as file:
        return Fields(path, {name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118 (not a dict)


def _skeleton(fields: Fields, count: int) -> Skeleton:
    """FLAME's joints, regressor, weights and pose correctives."""
    joints = len(JOINTS)
    weights = fields.floats("weights", count, joints)
    worst = float((weights.sum(1) - 1).abs().amax()) if count else 0.0
    if worst > _ROUNDING or (weights < -_ROUNDING).any():
        fields.fail(
            "weights", "shares of at least 0 that sum to 1", f"a sum off by {worst:.3g}, least {weights.min():.3g}"
        )
    tree = fields.whole("kintree_table", 2, joints)[0].tolist()
    parents = [-1, *tree[1:]]  # the root's own is -1 or, unsigned, 2^32 - 1
    if parents != list(PARENTS):
        fields.fail("kintree_table", f"parents {list(PARENTS)} of {', '.join(JOINTS)}", str(parents))
    return Skeleton(
        names=JOINTS,
        parents=torch.tensor(PARENTS),
        regressor=fields.floats("J_regressor", joints, count),
        weights=weights,
        correctives=fields.floats("posedirs", count, 3, 9 * (joints - 1)).permute(2, 0, 1).contiguous(),
    )


def _parts(weights: Tensor, faces: Tensor) -> Tensor:
    """[F] the eyeballs are the triangles that their joints alone carry."""
    part = torch.zeros(len(faces), dtype=torch.int64)
    for index, name in enumerate(_PARTS[1:], 1):
        carried = weights[:, JOINTS.index(name)] > 0.5
        part[carried[faces].all(1)] = index
    return part


def _skull(vertices: Tensor, skeleton: Skeleton) -> Tensor:
    """[R] vertices above the eyes that only the neck carries, which expressions leave nearly alone."""
    eyes = (skeleton.regressor @ vertices)[[3, 4], 1].mean()
    carried = skeleton.weights[:, JOINTS.index("neck")] > 0.99
    extent = vertices[:, 1].amax() - eyes if len(vertices) else 0.0
    return (carried & (vertices[:, 1] > eyes + 0.6 * extent)).nonzero()[:, 0]


def _landmarks(path: Path, faces: Tensor, count: int) -> Tensor:
    """[68] vertices from a text file, or from an embedding in triangles: the corner that a landmark is nearest to."""
    with reading(path):
        start = path.read_bytes()[:2]
    if start.strip()[:1].isdigit():
        import numpy as np

        with reading(path):
            listed = np.array(path.read_text(encoding="utf-8").replace(",", " ").split(), np.float64)
        return Fields(path, {"landmarks": listed}).indices("landmarks", 68, below=count)
    fields = read_arrays(path)
    if "landmarks" in fields:
        return fields.indices("landmarks", 68, below=count)
    fields = Fields(path, {name: array.squeeze() for name, array in fields.arrays.items()})
    triangle = fields.indices("full_lmk_faces_idx", 68, below=len(faces))
    corner = fields.floats("full_lmk_bary_coords", 68, 3).argmax(1)
    return faces[triangle, corner]
