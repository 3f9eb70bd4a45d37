"""Hurt archives of arrays (npz): sound zip files of wrong arrays, and archives that lie about what they hold."""

from __future__ import annotations

import io
import random
import warnings
import zipfile
from functools import lru_cache

import numpy as np
from mutators import HOSTILE_TEXTS

Arrays = dict[str, np.ndarray]


def hurt_npz(data: bytes, rng: random.Random) -> bytes:
    """Mostly wrong arrays; at times a lie of the archive's."""
    arrays = _loaded(data)
    if rng.random() < 0.2:
        return lying_archive(arrays, rng)
    return _archive([(f"{name}.npy", _npy(array)) for name, array in hurt_arrays(arrays, rng).items()])


def hurt_arrays(arrays: Arrays, rng: random.Random) -> Arrays:
    """One or two arrays gone, under another name, in each other's place, or wrong."""
    out = dict(arrays)
    for _ in range(rng.randint(1, 2)):
        name, other = rng.choice(list(arrays)), rng.choice(list(arrays))
        match rng.randrange(8):
            case 0:
                out.pop(name, None)
            case 1:
                out[rng.choice(("file", *HOSTILE_TEXTS[:12])).replace("\0", "0")[:40]] = out.pop(name, arrays[name])
            case 2:
                out[name], out[other] = arrays[other], arrays[name]
            case _:
                out[name] = wrong_array(arrays[name], rng)
    return out


def wrong_array(value: np.ndarray, rng: random.Random) -> np.ndarray:
    """An array of another shape, type or content."""
    bad = rng.choice((np.nan, np.inf, -1, 2**40, 1e300, 0.5))
    match rng.randrange(8):
        case 0:
            return value[..., :-1]
        case 1:
            return value[None]
        case 2:
            return value.ravel()
        case 3:
            kinds = ("U4", "f2", "f8", "?", "c8", "i1", ">f4", "S3")
            with np.errstate(all="ignore"):
                return value.astype(rng.choice(kinds)) if value.dtype.kind != "U" else value[:0]
        case 4:
            return np.zeros((0, *value.shape[1:]), value.dtype)
        case 5:
            return np.array(rng.choice((0, 1.5, "text", b"bytes")))
        case 6:
            return np.repeat(value, 2, 0) if value.ndim else value
    out = value.astype(float) if value.dtype.kind in "fiu" else np.zeros(value.shape)
    if out.size:
        out.flat[rng.randrange(out.size)] = bad
    return out


def lying_archive(arrays: Arrays, rng: random.Random) -> bytes:
    """Bombs, repeated and foreign members, pickled objects, headers that promise what is not there."""
    name, packing = rng.choice(list(arrays)), zipfile.ZIP_STORED
    members = [(f"{key}.npy", _npy(array)) for key, array in arrays.items()]
    match rng.randrange(6):
        case 0:
            members.append((f"{rng.choice(('more', name))}.npy", _bomb()))
            packing = zipfile.ZIP_DEFLATED
        case 1:
            members.append((f"{name}.npy", _npy(wrong_array(arrays[name], rng))))
        case 2:
            foreign = rng.choice(("../up.npy", "/root.npy", ".npy", "x", "a/b/", "\u202e.npy"))
            members.append((foreign, b"\x93NUMPY"))
        case 3:
            members.append((f"{name}.npy", _npy(np.array([{"a": 1}, None], object))))
        case 4:
            members.append((f"{name}.npy", _lie(arrays[name], rng)))
        case 5:
            packing = rng.choice((zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA))
    return _archive(members, packing)


def _archive(members: list[tuple[str, bytes]], packing: int = zipfile.ZIP_STORED) -> bytes:
    out = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(out, "w", packing) as archive:
        warnings.simplefilter("ignore")  # of names that repeat
        for name, content in members:
            archive.writestr(name, content)
    return out.getvalue()


@lru_cache(maxsize=4)
def _loaded(data: bytes) -> Arrays:
    with np.load(io.BytesIO(data)) as file:
        return dict(file)


def _npy(array: np.ndarray) -> bytes:
    out = io.BytesIO()
    np.save(out, array, allow_pickle=True)
    return out.getvalue()


@lru_cache(maxsize=1)
def _bomb() -> bytes:
    """Zeros that an archive holds in a thousandth of their size: 4 MB, which a test can afford to unpack."""
    return _npy(np.zeros(2**22, np.uint8))


def _lie(array: np.ndarray, rng: random.Random) -> bytes:
    """An array whose header says something else than what follows."""
    shape = rng.choice(((2**40,), (2**62, 2**62), (-1,), (0,), (10**30,), ("x",), (True,), 3, (1.5,)))
    kind = rng.choice((array.dtype.str, "|O", "<f16", "|V0", "U0", "<M8[s]", "[('a', '<f4')]", "zz", "<f8"))
    order = rng.choice((False, True, 1, "no"))
    text = rng.choice((f"{{'descr': {kind!r}, 'fortran_order': {order!r}, 'shape': {shape!r}, }}", "{}", "[" * 200))
    version = rng.choice((b"\x01\x00", b"\x02\x00", b"\x03\x00", b"\x09\x09"))
    size = len(text).to_bytes(2 if version[0] == 1 else 4, "little")
    return b"\x93NUMPY" + version + size + text.encode() + array.tobytes()[:64]
