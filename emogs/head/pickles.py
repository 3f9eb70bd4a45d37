"""Arrays out of a pickle that nobody vouches for. Nothing in the file is executed, and nothing is imported for it.

A pickle is a program that names functions to call. Here every name it may use stands for an inert object made for this
one file: arrays and sparse matrices are rebuilt from their stored numbers, chumpy's objects show the array they hold,
and any other name ends the reading. Instructions are looked through before the first runs: a few of them could ask for
all memory or reach outside the file. Nor may a small file make much work: tuples that hold themselves twice over have
2^depth leaves to hash, to print or to compare, so only plain keys are hashed and every array is worked out once.
"""

from __future__ import annotations

import io
import pickle
import pickletools
from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar, NoReturn

import numpy as np
from numpy.typing import NDArray

from ..io.files import FormatError
from .fields import MOST_BYTES, Fields, reading

_REFUSED = {
    "EXT1",
    "EXT2",
    "EXT4",
    "PERSID",
    "BINPERSID",
    "INST",
    "OBJ",
    "NEXT_BUFFER",
    "READONLY_BUFFER",
    "BYTEARRAY8",
    "DUP",
}
"""Instructions that no array needs: registries, persistent ids, buffers from elsewhere, old-style classes, and what no
writer of pickles uses."""
_MOST_INSTRUCTIONS = 2_000_000
_MOST_DIMENSIONS = 32


def read_pickle(path: str | Path) -> Fields:
    """The arrays in a pickled dictionary, as SMPL and FLAME are published; other entries are left out.

    Raises:
        FormatError: not a pickle, not a dictionary, or one that names anything but arrays.
    """
    file = Path(path)
    with reading(file):
        data = file.read_bytes()
        _look_through(file, data)
        content = _Reader(file, data).load()
        if not isinstance(content, dict):
            raise FormatError(
                file, "file", f"expected a dictionary of arrays, got {type(content).__name__.lstrip('_')}"
            )
    found, arrays = {}, _Arrays()
    for name, value in content.items():
        if isinstance(name, str):
            with reading(file, name):
                found[name] = arrays.of(value)
    return Fields(path, {name: array for name, array in found.items() if array is not None})


def _look_through(path: Path, data: bytes) -> None:
    """Refuses instructions that reach out, and memo numbers that ask the reader for a table of any size."""
    for count, (instruction, argument, _) in enumerate(pickletools.genops(data)):
        if instruction.name in _REFUSED:
            raise FormatError(path, "file", f"holds the instruction {instruction.name}, which no array needs")
        memo = int(argument or 0) if instruction.name in ("PUT", "LONG_BINPUT") else 0
        if max(count, memo) > _MOST_INSTRUCTIONS:
            raise FormatError(path, "file", f"expected at most {_MOST_INSTRUCTIONS} instructions and memos, got more")


class _Reader(pickle._Unpickler):
    """Knows a handful of names, each for an inert class or function of its own; hashes plain keys only.

    It derives from the reader written in Python: the one in C hashes keys before anyone may look at them. Arrays take
    few instructions, so it is as fast.
    """

    dispatch: ClassVar[dict[int, Any]] = dict(pickle._Unpickler.dispatch)
    stack: list[Any]

    def __init__(self, path: Path, data: bytes) -> None:
        super().__init__(io.BytesIO(data), encoding="latin1")
        self.path, self.names = path, _inert_names(len(data))

    def load_setitem(self) -> None:
        _check_keys(self.stack[-2:-1])
        super().load_setitem()  # type: ignore[misc]

    def load_setitems(self) -> None:
        _check_keys(self.stack[::2])
        super().load_setitems()  # type: ignore[misc]

    def load_dict(self) -> None:
        _check_keys(self.stack[::2])
        super().load_dict()  # type: ignore[misc]

    def load_empty_set(self) -> None:
        self.stack.append(self.names["set"]())

    def load_frozenset(self) -> None:
        self.pop_mark()  # type: ignore[attr-defined]
        self.load_empty_set()

    dispatch[pickle.SETITEM[0]] = load_setitem
    dispatch[pickle.SETITEMS[0]] = load_setitems
    dispatch[pickle.DICT[0]] = load_dict
    dispatch[pickle.EMPTY_SET[0]] = load_empty_set
    dispatch[pickle.FROZENSET[0]] = load_frozenset

    def find_class(self, module: str, name: str) -> Any:
        if module.partition(".")[0] == "chumpy":
            return self.names["chumpy"]
        if module.startswith("scipy.sparse") and name in ("csc_matrix", "csr_matrix"):
            return self.names[name]
        if module in _MODULES and name in self.names:
            return self.names[name]
        raise FormatError(
            self.path, f"{module}.{name}", "a name that no array needs; nothing of this file was executed"
        )

    def persistent_load(self, key: Any) -> NoReturn:
        raise FormatError(self.path, "file", "refers to an object outside the file")


def _check_keys(keys: Iterable[Any]) -> None:
    """Refuses what hashing could take forever for; inert objects are hashed by what they are, not by content."""
    for key in keys:
        if type(key) not in (str, bytes, int, float, bool, type(None)) and not isinstance(key, _Inert):
            raise pickle.UnpicklingError(f"a dictionary whose key is a {type(key).__name__}, expected text or a number")


_MODULES = (
    "numpy", "numpy.core.multiarray", "numpy._core.multiarray", "copy_reg", "copyreg", "__builtin__", "builtins",
    "_codecs", "collections", "weakref",
)  # fmt: skip


class _Inert:
    """Remembers what a file says about an object; has no behaviour."""

    state: Any = None

    def __init__(self, *arguments: Any) -> None:
        self.arguments = arguments

    def __setstate__(self, state: Any) -> None:
        self.state = state


def _inert_names(size: int) -> dict[str, Any]:
    """What names in a file of `size` bytes stand for. New ones for each, since a hostile pickle may write to them."""
    left = size

    class Type(_Inert): ...

    class Array(_Inert): ...

    class Scalar(_Inert): ...

    class Ch(_Inert): ...

    class Compressed(_Inert):
        by_column = True

    class CompressedRows(Compressed):
        by_column = False

    class Other(_Inert):
        """Something beside the arrays: what is put into it is forgotten."""

        def __setitem__(self, *_: Any) -> None: ...

        append = extend = add = __setitem__

    class Base: ...

    def make(kind: Any, *_: Any) -> Any:
        if kind not in (Ch, Compressed, CompressedRows):
            raise pickle.UnpicklingError("expected an array's class")
        return kind()

    def array(*_: Any) -> Any:
        return Array()

    def empty(*content: Any) -> bytes:
        if content:
            raise pickle.UnpicklingError("expected no bytes")
        return b""

    def text(written: Any, *_: Any) -> bytes:
        """How Python 3 writes bytes for Python 2; a text that is stored once is encoded once."""
        nonlocal left
        if not isinstance(written, str) or (left := left - len(written)) < 0:
            raise pickle.UnpicklingError("expected as much text as the file holds")
        return written.encode("latin1")

    return {
        "dtype": Type, "ndarray": Array, "_reconstruct": array, "scalar": Scalar, "chumpy": Ch, "object": Base,
        "csc_matrix": Compressed, "csr_matrix": CompressedRows, "_reconstructor": make, "encode": text, "bytes": empty,
        "set": Other, "frozenset": Other, "OrderedDict": Other, "defaultdict": Other, "WeakKeyDictionary": Other,
    }  # fmt: skip


class _Arrays:
    """The numbers that objects of a file hold: each object's once, and all together no more than a file may hold."""

    def __init__(self) -> None:
        self.known: dict[int, NDArray[Any] | None] = {}
        self.left = MOST_BYTES

    def of(self, thing: Any) -> NDArray[Any] | None:
        """None if it holds none."""
        if id(thing) not in self.known:  # the file's content outlives this
            found = self._work_out(thing)
            self.left -= 0 if found is None else found.nbytes
            if self.left < 0:
                raise ValueError(f"more than {MOST_BYTES} bytes of arrays")
            self.known[id(thing)] = found
        return self.known[id(thing)]

    def _work_out(self, thing: Any) -> NDArray[Any] | None:
        kind = type(thing).__name__
        if kind == "Ch" and isinstance(thing.state, dict):
            return self._chumpy(thing.state)
        if kind in ("Compressed", "CompressedRows") and isinstance(thing.state, dict):
            return _dense(thing.state, type(thing).by_column)
        return _stored(thing)

    def _chumpy(self, state: dict[Any, Any]) -> NDArray[Any] | None:
        """chumpy.Ch keeps its array as `x`; chumpy.reordering.Select as places `idxs` of another object `a`."""
        if "x" in state:
            return self.of(state["x"])
        if "a" in state and "idxs" in state:
            source, places = self.of(state["a"]), _stored(state["idxs"])
            if source is not None and places is not None and places.dtype.kind in "iu":
                chosen = source.ravel()[places.ravel()]
                shape = state.get("preferred_shape")
                return chosen.reshape(shape) if isinstance(shape, tuple) else chosen
        return None


def _stored(thing: Any) -> NDArray[Any] | None:
    """An array of numpy's own; None for anything else."""
    return _array(thing.state) if type(thing).__name__ == "Array" else None


def _array(state: Any) -> NDArray[Any] | None:
    """An array from numpy's (version, shape, type, by column, bytes)."""
    if not isinstance(state, tuple) or len(state) != 5:
        raise ValueError("an array without its content")
    _, shape, kind, fortran, data = state
    if isinstance(data, list):
        return None  # an array of objects
    dtype = _dtype(kind)
    raw = data.encode("latin1") if isinstance(data, str) else data
    sound = isinstance(shape, tuple) and len(shape) <= _MOST_DIMENSIONS
    if not isinstance(raw, bytes) or not sound or not all(type(n) is int and n >= 0 for n in shape):
        raise ValueError("an array whose shape or content is not one")
    size = dtype.itemsize
    for extent in shape:
        size *= extent
    if size != len(raw) or size > MOST_BYTES:
        raise ValueError(f"an array of {size} bytes by its shape that holds {len(raw)}")
    values = np.frombuffer(raw, dtype)
    return values.reshape(shape[::-1]).T if fortran else values.reshape(shape)


def _dtype(kind: Any) -> np.dtype[Any]:
    """A numeric type from its code such as "f8" and, in its state, its byte order."""
    code = kind.arguments[0] if type(kind).__name__ == "Type" and kind.arguments else None
    if code not in ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "b1"):
        raise ValueError("an array of something other than numbers")
    order = kind.state[1] if isinstance(kind.state, tuple) and len(kind.state) > 1 else "="
    return np.dtype(code).newbyteorder(order if order in ("<", ">") else "=")


def _dense(state: dict[Any, Any], by_column: bool) -> NDArray[Any]:
    """A compressed sparse matrix written out."""
    shape = state.get("_shape", state.get("shape"))
    data, indices, starts = (_stored(state.get(name)) for name in ("data", "indices", "indptr"))
    if data is None or indices is None or starts is None or not isinstance(shape, tuple) or len(shape) != 2:
        raise ValueError("a sparse matrix without its parts")
    rows, columns = (int(n) for n in shape)
    outer, inner = (columns, rows) if by_column else (rows, columns)
    if not 0 <= rows * columns * data.itemsize <= MOST_BYTES or min(rows, columns) < 0:
        raise ValueError("a sparse matrix that is too large")
    starts = starts.astype(np.int64)
    lengths = starts[1:] - starts[:-1]
    sound = starts.shape == (outer + 1,) and (lengths >= 0).all() and starts[0] == 0 and starts[-1] == len(data)
    if not sound or indices.shape != data.shape or (len(data) and not 0 <= indices.min() <= indices.max() < inner):
        raise ValueError("a sparse matrix whose indices do not fit")
    out = np.zeros((outer, inner), data.dtype)
    np.add.at(out, (np.repeat(np.arange(outer), lengths), indices.astype(np.int64)), data)
    return out.T if by_column else out
