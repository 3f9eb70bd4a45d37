"""A head with FLAME's dimensions and fields, made from the built-in head: FLAME's own file may not be passed on."""

from __future__ import annotations

import io
import math
import pickle
import struct
import sys
import types
from functools import cache
from pathlib import Path
from typing import ClassVar

import numpy as np
import scipy.sparse
import torch
from embreex import rtcore_scene
from embreex.mesh_construction import TriangleMesh

from emogs.head import ARKIT_NAMES, builtin_head
from emogs.head.builtin import neutral_head
from emogs.head.face import Face

SECTORS, RINGS = 131, 30
EYE_SECTORS, EYE_RINGS = 32, 17


@cache
def flame_arrays() -> dict[str, np.ndarray]:
    """The published names, true shapes and types: 5,023 vertices, 9,976 triangles, 400 directions, 5 joints.

    The skin is the built-in head's, seen from inside along a grid of rays. Its first 52 expression directions span
    that head's ARKit channels, mixed so that no direction is a channel; the other 48 are waves.
    """
    head, regions = neutral_head()
    skin, where = _grid_on(head)
    balls = [_ball(head, side) for side in ("eye_left", "eye_right")]
    vertices = np.concatenate([skin, *(ball for ball, _ in balls)])
    faces = np.concatenate([_dome(SECTORS, RINGS), len(skin) + _sphere(), len(skin) + len(balls[0][0]) + _sphere()])
    jaw = _at(where, Face(head.vertices, head.faces, head.landmarks, regions).jaw[:, None].numpy())[:, 0]
    weights = np.zeros((len(vertices), 5))
    neck = np.clip((skin[:, 1] + 0.13) / 0.05, 0, 1)
    weights[: len(skin), 2] = np.clip(1.1 * jaw, 0, 1) * neck
    weights[: len(skin), 1] = neck - weights[: len(skin), 2]
    weights[: len(skin), 0] = 1 - neck
    weights[len(skin) : len(skin) + len(balls[0][0]), 3] = 1
    weights[len(skin) + len(balls[0][0]) :, 4] = 1
    rng = np.random.default_rng(0)
    expression = np.concatenate([_channels(where, len(vertices), rng), _waves(vertices, 48, rng)])
    directions = np.concatenate([_waves(vertices, 300, rng), expression])
    return {
        "v_template": vertices,
        "f": faces.astype(np.uint32),
        "shapedirs": np.ascontiguousarray(directions.transpose(1, 2, 0)),
        "posedirs": np.ascontiguousarray(0.05 * _waves(vertices, 36, rng).transpose(1, 2, 0)),
        "J_regressor": _regressor(vertices, weights, head),
        "weights": weights,
        "kintree_table": np.array([[2**32 - 1, 0, 1, 1, 1], [0, 1, 2, 3, 4]], np.uint32),
    }


def _grid_on(head) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray]]:
    """[3931, 3] where rays from inside the head leave its skin, and (triangle's vertices, barycentric) of each."""
    triangles = head.faces[head.face_part == 0].numpy().astype(np.int32)
    centre = head.vertices[head.landmarks[[1, 15, 29]]].mean(0).numpy() * [0, 1, 0.6]
    polar = np.linspace(0, math.radians(150), RINGS + 1)[1:, None]  # from the crown
    around = np.linspace(-math.pi, math.pi, SECTORS, endpoint=False)[None]
    spread = np.stack([np.sin(polar) * np.sin(around), np.cos(polar) + 0 * around, np.sin(polar) * np.cos(around)], -1)
    rays = np.concatenate([[[1e-3, 1.0, 1e-3]], spread.reshape(-1, 3)])
    rays = (rays / np.linalg.norm(rays, axis=1, keepdims=True)).astype(np.float32)
    scene = rtcore_scene.EmbreeScene()
    TriangleMesh(scene, head.vertices.numpy(), triangles)
    # From outside inwards, so that the outermost skin is met and not the folds of lips and lids.
    found = scene.run((centre + 0.4 * rays).astype(np.float32), -rays, output=1)
    assert (found["primID"] >= 0).all()
    bary = np.stack([1 - found["u"] - found["v"], found["u"], found["v"]], 1)
    where = (triangles[found["primID"]], bary)
    return _at(where, head.vertices.numpy().astype(np.float64)), where


def _at(where: tuple[np.ndarray, np.ndarray], values: np.ndarray) -> np.ndarray:
    return (values[where[0]] * where[1][..., None]).sum(1)


def _ball(head, part: str) -> tuple[np.ndarray, np.ndarray]:
    """[546, 3] a sphere at the place of an eyeball."""
    own = head.vertices[head.faces[head.face_part == head.part_names.index(part)].unique()].double().numpy()
    back = own[own[:, 2] < np.median(own[:, 2])]
    solution = np.linalg.lstsq(np.c_[2 * back, np.ones(len(back))], (back**2).sum(1), rcond=None)[0]
    centre = solution[:3]
    polar = np.linspace(0, math.pi, EYE_RINGS + 2)[1:-1, None]
    around = np.linspace(0, 2 * math.pi, EYE_SECTORS, endpoint=False)[None]
    points = np.stack([np.sin(polar) * np.cos(around), np.sin(polar) * np.sin(around), np.cos(polar) + 0 * around], -1)
    points = np.concatenate([[[0, 0, 1]], points.reshape(-1, 3), [[0, 0, -1]]])
    return centre + 0.012 * points, centre


def _dome(sectors: int, rings: int) -> np.ndarray:
    """A pole, rings, and part of a fan that closes the last ring: 7,800 triangles for FLAME's count."""
    j = np.arange(sectors)
    k = (j + 1) % sectors
    faces = [np.stack([0 * j, 1 + j, 1 + k], -1)]
    for r in range(rings - 1):
        a, b = 1 + r * sectors + j, 1 + r * sectors + k
        faces += [np.stack([a, a + sectors, b + sectors], -1), np.stack([a, b + sectors, b], -1)]
    last = 1 + (rings - 1) * sectors
    fan = np.stack([0 * j[:71] + last, last + j[:71] + 2, last + j[:71] + 1], -1)
    return np.concatenate([*faces, fan])


def _sphere() -> np.ndarray:
    j = np.arange(EYE_SECTORS)
    k = (j + 1) % EYE_SECTORS
    faces = [np.stack([0 * j, 1 + j, 1 + k], -1)]
    for r in range(EYE_RINGS - 1):
        a, b = 1 + r * EYE_SECTORS + j, 1 + r * EYE_SECTORS + k
        faces += [np.stack([a, a + EYE_SECTORS, b + EYE_SECTORS], -1), np.stack([a, b + EYE_SECTORS, b], -1)]
    last = 1 + (EYE_RINGS - 1) * EYE_SECTORS
    return np.concatenate([*faces, np.stack([last + j, 0 * j + last + EYE_SECTORS, last + k], -1)])


def _channels(where: tuple[np.ndarray, np.ndarray], count: int, rng: np.random.Generator) -> np.ndarray:
    """[52, V, 3] random mixtures of what the built-in head's channels do to the skin, jawOpen's turn left out."""
    head = builtin_head()
    worn = torch.eye(len(ARKIT_NAMES))
    worn[ARKIT_NAMES.index("mouthClose"), ARKIT_NAMES.index("jawOpen")] = 1
    moved = (head.deform(expression=worn) - head.vertices).double().numpy()
    moved[ARKIT_NAMES.index("mouthClose")] -= moved[ARKIT_NAMES.index("jawOpen")]
    moved[ARKIT_NAMES.index("jawOpen")] = 0
    out = np.zeros((len(ARKIT_NAMES), count, 3))
    for place, field in zip(out, moved, strict=True):
        place[: len(where[0])] = _at(where, field)
    mixed, _ = np.linalg.qr(rng.normal(size=(len(ARKIT_NAMES), len(ARKIT_NAMES))))
    return np.einsum("ab,bvc->avc", mixed, out)


def _waves(vertices: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """[count, V, 3] smooth displacements of about a millimetre."""
    phase = vertices @ rng.normal(size=(3, count)) * 60 + rng.uniform(0, 2 * math.pi, count)
    return (1e-3 * np.sin(phase)).T[:, :, None] * rng.normal(size=(count, 1, 3))


def _regressor(vertices: np.ndarray, weights: np.ndarray, head) -> np.ndarray:
    """[5, V] the eyes' joints are the means of their balls, jaw and neck lie between vertices that they carry."""
    out = np.zeros((5, len(vertices)))
    for joint in range(5):
        out[joint] = weights[:, joint] / weights[:, joint].sum()
    ears = head.vertices[head.landmarks[[0, 16]]].numpy()
    near = np.linalg.norm(vertices[:, None] - ears, axis=-1).argmin(0)
    out[2] = 0
    out[2, near] = 0.5
    return out


# Files ---------------------------------------------------------------------------------------------------------------


def write_pickle(path: Path, arrays: dict[str, np.ndarray], python2: bool = True) -> Path:
    """The published form: chumpy objects, a sparse regressor, entries that are no arrays, Python 2's byte strings."""
    modules = {name: types.ModuleType(name) for name in ("chumpy", "chumpy.ch")}
    ch = type("Ch", (), {"__module__": "chumpy.ch"})
    modules["chumpy.ch"].Ch = ch
    content: dict[str, object] = dict(arrays)
    for name in ("shapedirs", "v_template"):
        content[name] = ch()
        content[name].__dict__.update(x=arrays[name], _dirty_vars=set(), _itr=None, _parents={})
    content["J_regressor"] = scipy.sparse.csc_matrix(arrays["J_regressor"])
    content |= {"bs_style": "lbs", "bs_type": "lrotmin", "vert_sym_idxs": np.arange(3)}
    sys.modules |= modules
    try:
        stream = io.BytesIO()
        (_Python2 if python2 else pickle._Pickler)(stream, protocol=2).dump(content)
    finally:
        for name in modules:
            del sys.modules[name]
    data = stream.getvalue()
    for new, old in ((b"numpy._core.", b"numpy.core."), (b"scipy.sparse._csc", b"scipy.sparse.csc")):
        data = data.replace(new, old) if python2 else data
    path.write_bytes(data)
    return path


class _Python2(pickle._Pickler):
    """Writes bytes as Python 2 wrote its strings."""

    dispatch: ClassVar = dict(pickle._Pickler.dispatch)

    def save_bytes(self, data: bytes) -> None:
        self.write(pickle.BINSTRING + struct.pack("<i", len(data)) + data)
        self.memoize(data)

    dispatch[bytes] = save_bytes


def tiny_arrays() -> dict[str, np.ndarray]:
    """FLAME's fields with 12 vertices: quick to write, and every byte of the file matters."""
    rng = np.random.default_rng(3)
    weights = np.repeat(np.eye(5), [2, 3, 3, 2, 2], axis=0)
    return {
        "v_template": 0.1 * rng.normal(size=(12, 3)),
        "f": rng.permuted(np.tile(np.arange(12), (6, 1)), axis=1)[:, :3].astype(np.uint32),
        "shapedirs": 1e-3 * rng.normal(size=(12, 3, 400)),
        "posedirs": 1e-3 * rng.normal(size=(12, 3, 36)),
        "J_regressor": weights.T / weights.sum(0)[:, None],
        "weights": weights,
        "kintree_table": np.array([[2**32 - 1, 0, 1, 1, 1], [0, 1, 2, 3, 4]], np.uint32),
    }
