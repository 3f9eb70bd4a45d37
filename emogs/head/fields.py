"""Arrays of a file that nobody vouches for: each is handed out only after a check that names file and field.

Nothing is believed: an array's declared size is compared with what its file holds before memory is asked for it.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..io.files import FormatError, reason_of, shown

MOST_BYTES = 2**31
"""Of all arrays of a file. FLAME's largest has 48 MB in double precision, ICT-FaceKit's 29 MB."""
_LARGEST = 1e6
"""Magnitude beyond which a coordinate or a weight is damage: a head in micrometres stays below."""


class Fields:
    """Named arrays of a file; `None` in a shape stands for any size."""

    def __init__(self, path: str | Path, arrays: Mapping[str, NDArray[Any]]) -> None:
        self.path, self.arrays = Path(path), arrays

    def __contains__(self, name: str) -> bool:
        return name in self.arrays

    def fail(self, field: str, expected: str, got: object) -> NoReturn:
        raise FormatError(self.path, field, f"expected {expected}, got {got}")

    def floats(self, name: str, *shape: int | None) -> Tensor:
        """Finite numbers of reasonable magnitude as float32."""
        array = self._shaped(name, shape, "fiu", "numbers")
        with np.errstate(all="ignore"):  # what does not fit is refused below
            array = array.astype(np.float32)
        if not np.abs(array).max(initial=0) <= _LARGEST:  # NaN compares as false
            self.fail(name, f"finite numbers up to {_LARGEST:g}", "others")
        return torch.from_numpy(np.ascontiguousarray(array))

    def whole(self, name: str, *shape: int | None) -> Tensor:
        """Whole numbers as int64."""
        array = self._shaped(name, shape, "fiu", "whole numbers")
        if array.dtype.kind == "f" and not (np.isfinite(array) & (array == np.trunc(array))).all():
            self.fail(name, "whole numbers", "fractions or NaN")
        if array.size and not -(2**40) <= array.min() <= array.max() <= 2**40:
            self.fail(name, "whole numbers of at most 2^40", f"{array.min():g} to {array.max():g}")
        return torch.from_numpy(np.ascontiguousarray(array.astype(np.int64)))

    def indices(self, name: str, *shape: int | None, below: int) -> Tensor:
        """Whole numbers in [0, below) as int64."""
        values = self.whole(name, *shape)
        if values.numel() and not 0 <= values.min() <= values.max() < below:
            self.fail(name, f"indices in [0, {below})", f"{int(values.min())} to {int(values.max())}")
        return values

    def names(self, name: str, count: int | None = None) -> tuple[str, ...]:
        """Different texts."""
        texts = tuple(str(text) for text in self._shaped(name, (count,), "U", "texts"))
        if len(set(texts)) != len(texts):
            self.fail(name, "different names", "repetitions")
        return texts

    def rows(self, name: str) -> int:
        """The first size of an array."""
        return self._given(name).shape[0] if self._given(name).ndim else self.fail(name, "an array", "one number")

    def _given(self, name: str) -> NDArray[Any]:
        if name not in self.arrays:
            raise FormatError(
                self.path, name, f"missing; the file has {', '.join(map(shown, sorted(self.arrays)[:20])) or 'nothing'}"
            )
        return self.arrays[name]

    def _shaped(self, name: str, shape: tuple[int | None, ...], kinds: str, what: str) -> NDArray[Any]:
        array = self._given(name)
        fits = array.ndim == len(shape) and all(
            want in (None, has) for want, has in zip(shape, array.shape, strict=True)
        )
        if not fits or array.dtype.kind not in kinds:
            wanted = ", ".join("any" if size is None else str(size) for size in shape)
            self.fail(name, f"{what} [{wanted}]", f"{array.dtype} {list(array.shape)}")
        return array


@contextmanager
def reading(path: Path, field: str = "file") -> Iterator[Path]:
    """Whatever goes wrong with a file's bytes, said as a FormatError."""
    try:
        yield path
    except FormatError:
        raise
    except OSError as error:
        raise FormatError(path, "file", error.strerror or str(error)) from None
    except Exception as error:  # parsers of other people's bytes raise whatever they stumble over
        raise FormatError(path, field, f"not readable: {reason_of(error)}") from None


def read_npz(path: str | Path, wanted: Callable[[str], bool] = lambda name: True) -> Fields:
    """The arrays of an npz file, without pickled ones.

    Raises:
        FormatError: not an npz, an array of objects, or one whose size is not what it declares.
    """
    arrays: dict[str, NDArray[Any]] = {}
    with reading(Path(path)) as file, zipfile.ZipFile(file) as archive:
        for member in archive.infolist():
            name = member.filename.removesuffix(".npy")
            if member.filename.endswith(".npy") and wanted(name):
                total = member.file_size + sum(array.nbytes for array in arrays.values())
                if total > MOST_BYTES:
                    raise FormatError(path, name, f"expected at most {MOST_BYTES} bytes of arrays, got {total} so far")
                arrays[name] = _read_member(archive, member, Fields(file, {}), name)
    return Fields(path, arrays)


def _read_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo, fields: Fields, name: str) -> NDArray[Any]:
    """One array. Its header is read first, so that a lie about its size costs nothing."""
    with archive.open(member) as stream:
        version = np.lib.format.read_magic(stream)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read(stream)
        if dtype.hasobject or dtype.kind not in "biufU" or dtype.itemsize == 0:
            fields.fail(name, "numbers or text", dtype)
        size = dtype.itemsize
        for extent in shape:
            size *= extent
        if size != member.file_size - stream.tell():
            fields.fail(name, f"{size} bytes by its header", f"{member.file_size - stream.tell()}")
        values = np.frombuffer(stream.read(size), dtype)
    return values.reshape(shape[::-1]).T if fortran else values.reshape(shape)
