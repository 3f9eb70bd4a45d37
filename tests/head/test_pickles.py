"""Pickles that are no models: nothing in them may run, import, write or take all memory."""

from __future__ import annotations

import collections
import contextlib
import os
import pickle
import pickletools
import struct
import subprocess
import sys

import numpy as np
import pytest
from flame_files import tiny_arrays, write_pickle

import emogs.head.pickles
from emogs.head.pickles import read_pickle
from emogs.io import FormatError


class Call:
    """Pickles as the call of a function."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


def crime(path) -> list:
    """Ways in which a pickle makes its reader create `path`."""
    command = f"touch {path}"
    program = f"open({str(path)!r}, 'w').close()"
    return [
        Call(os.system, command),
        Call(subprocess.check_output, command.split()),
        Call(eval, f"__import__('os').system({command!r})"),
        Call(exec, program),
        Call(open, str(path), "w"),
        Call(__import__, "antigravity"),
        Call(getattr, 3, "real"),
        Call(np.load, str(path)),
        Call(np.fromfile, str(path)),
        Call(np.zeros, (10**6, 10**6)),
        Call(bytearray, 2**40),
        Call(sys.setrecursionlimit, 10**8),
        Call(collections.Counter, "abc"),
    ]


@pytest.mark.parametrize("which", range(len(crime(""))))
@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize("hidden", [False, True])
def test_calls_are_refused_by_name_and_never_made(tmp_path, which: int, protocol: int, hidden: bool):
    trace = tmp_path / "trace"
    thing = crime(trace)[which]
    name = thing.call[0].__qualname__.rpartition(".")[2]
    file = tmp_path / "model.pkl"
    file.write_bytes(pickle.dumps({"v_template": [thing] if hidden else thing}, protocol))
    with pytest.raises(FormatError, match=rf"{name}.*(nothing of this file was executed)"):
        read_pickle(file)
    assert not trace.exists()


def test_nested_names_do_not_reach_around_the_list(tmp_path):
    """Protocol 4 may name `object.__subclasses__` and the like with dots."""
    data = b"\x80\x04\x8c\x08builtins\x8c\x15object.__subclasses__\x93)R."
    file = tmp_path / "model.pkl"
    file.write_bytes(data)
    with pytest.raises(FormatError, match=r"object\.__subclasses__"):
        read_pickle(file)


@pytest.mark.parametrize(
    "data",
    [
        b"\x80\x02cposix\nsystem\n.",
        b"\x80\x02(S'touch x'\nios\nsystem\n.",
        b"\x80\x02}r" + struct.pack("<I", 2**31) + b".",  # a memo that asks for 64 GB
        b"\x80\x02}p4000000000\n.",
        b"\x80\x05\x96" + struct.pack("<Q", 2**40) + b".",
        b"\x80\x04\x8e" + struct.pack("<Q", 2**62) + b".",
        b"\x80\x02\x8b" + struct.pack("<i", -5) + b".",
        b"\x80\x02\x82\x01.",
        b"\x80\x02Pname\n.",
        b"\x80\x05\x97.",
        b"(" * 10000 + b".",
        b"\x80\x02" + b"]" * 5000 + b"a" * 4999 + b".",
        b"",
        b".",
        b"\x80\x63.",
        b"no pickle at all",
    ],
)
def test_programs_written_by_hand_are_refused(tmp_path, data):
    file = tmp_path / "model.pkl"
    file.write_bytes(data)
    with pytest.raises(FormatError):
        read_pickle(file)


DEPTH = 200
"""Of what holds itself twice: 2^200 steps never end."""
TWICE = b"(K\x00K\x00t" + b"".join(b"q%cq%c0h%ch%c\x86" % (i, i, i, i) for i in range(DEPTH))
DOUBLED = b")" + b"2\x86" * DEPTH


@pytest.mark.parametrize(
    "data",
    [
        b"\x80\x02}" + TWICE + b"Ns.",  # as a dictionary's key, one by one, in a row and in the oldest form
        b"\x80\x02}(" + TWICE + b"Nu.",
        b"\x80\x02(" + TWICE + b"Nd.",
        b"\x80\x02}" + DOUBLED + b"Ns.",
        b"\x80\x02}c_codecs\nencode\n" + TWICE + b"\x85RNs.",  # as a text to encode
    ],
)
def test_what_holds_itself_twice_over_is_refused_without_hashing_it(tmp_path, data):
    file = tmp_path / "model.pkl"
    file.write_bytes(data)
    with pytest.raises(FormatError):
        read_pickle(file)


def test_sets_beside_the_arrays_are_passed_over(tmp_path):
    """chumpy's objects hold some, and what is in them is never hashed."""
    one = np.arange(3.0)
    for thing in (set(), {"a", "b"}, frozenset("ab"), {(1, 2)}):
        file = tmp_path / "model.pkl"
        file.write_bytes(pickle.dumps({"array": one, "beside": {"x": thing}}, 4))
        np.testing.assert_array_equal(read_pickle(file).arrays["array"], one)
    for made in (b"\x8f(" + TWICE + b"\x90", b"(" + TWICE + b"\x91"):
        file.write_bytes(b"\x80\x04}\x8c\x06beside" + made + b"s.")
        assert not read_pickle(file).arrays


def test_chumpy_objects_that_hold_themselves_twice_over_are_worked_out_once(tmp_path):
    """`Select` picks places `idxs` of `a`: both the same object, and that again, would be 2^depth picks."""
    select = b"cchumpy.reordering\nSelect\n)\x81}("
    data = b"\x80\x02cchumpy.ch\nCh\n)\x81}b"
    for i in range(DEPTH):
        data += b"q%c0" % i + select + b"U\x01ah%cU\x04idxsh%cub" % (i, i)
    (tmp_path / "model.pkl").write_bytes(data.replace(b"\x80\x02", b"\x80\x02}U\x01x", 1) + b"s.")
    assert not read_pickle(tmp_path / "model.pkl").arrays


def test_one_text_makes_no_more_bytes_than_the_file_has(tmp_path):
    """A megabyte that a thousand instructions encode anew would be a gigabyte."""
    text = b"X" + struct.pack("<I", 2**20) + b"x" * 2**20 + b"q\x000c_codecs\nencode\nq\x010"
    data = b"\x80\x02}" + text + b"U\x01a]" + b"(" + b"h\x01h\x00\x85R" * 1000 + b"es."
    (tmp_path / "model.pkl").write_bytes(data)
    with pytest.raises(FormatError, match="as much text as the file holds"):
        read_pickle(tmp_path / "model.pkl")


def test_arrays_that_share_their_numbers_count_each(tmp_path, monkeypatch):
    monkeypatch.setattr(emogs.head.pickles, "MOST_BYTES", 1000)
    shared = np.arange(50.0)
    file = tmp_path / "model.pkl"
    file.write_bytes(pickle.dumps({"a": shared, "b": shared, "c": np.arange(50.0)}, 2))  # a and b are one object
    assert set(read_pickle(file).arrays) == set("abc")
    file.write_bytes(pickle.dumps({name: np.arange(50.0) for name in "abc"}, 2))
    with pytest.raises(FormatError, match=r"c: not readable: more than 1000 bytes of arrays"):
        read_pickle(file)


def dictionary(name: bytes, value: bytes) -> bytes:
    """A dictionary of one entry."""
    return b"\x80\x02}U" + bytes([len(name)]) + name + value + b"s."


def test_a_hostile_file_leaves_the_next_reading_alone(tmp_path):
    """State given to the classes and functions that names stand for stays with that file."""
    for target in (b"cnumpy\nndarray\n", b"cnumpy.core.multiarray\n_reconstruct\n", b"cchumpy.ch\nCh\n"):
        for key in (b"__init__", b"__setstate__", b"state", b"by_column"):
            slots = b"N}U" + bytes([len(key)]) + key + b"U\x01xs\x86b"
            (tmp_path / "bad.pkl").write_bytes(dictionary(b"a", target + slots))
            with contextlib.suppress(FormatError):
                read_pickle(tmp_path / "bad.pkl")
    arrays = tiny_arrays()
    found = read_pickle(write_pickle(tmp_path / "good.pkl", arrays)).arrays
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name], array)
    assert vars(emogs.head.pickles)["_Inert"].state is None


def test_arrays_of_every_kind_come_back(tmp_path):
    arrays = {
        "c": np.arange(6.0).reshape(2, 3),
        "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        "big": np.arange(4, dtype=">i4"),
        "half": np.ones((2, 2), np.float16),
        "none": np.zeros((0, 3)),
        "flag": np.array([True, False]),
        "one": np.array(3.5),
        "objects": np.array([{}, None], dtype=object),
    }
    for protocol in (0, 1, 2, 3, 4, 5):
        file = tmp_path / "arrays.pkl"
        file.write_bytes(pickle.dumps(arrays | {"text": "lbs", 3: np.ones(2)}, protocol))
        if protocol == 5:  # buffers within the file: numpy's pickles of that protocol are not read
            with pytest.raises(FormatError, match=r"BYTEARRAY8|_frombuffer"):
                read_pickle(file)
            continue
        found = read_pickle(file).arrays
        assert set(found) == set(arrays) - {"objects"}
        for name, array in found.items():
            np.testing.assert_array_equal(array, arrays[name])
            assert array.dtype.newbyteorder("=") == arrays[name].dtype.newbyteorder("=")


@pytest.mark.parametrize("value", [[], "text", 3, None])
def test_what_is_no_dictionary_is_refused(tmp_path, value):
    file = tmp_path / "model.pkl"
    file.write_bytes(pickle.dumps(value, 2))
    with pytest.raises(FormatError, match="expected a dictionary of arrays"):
        read_pickle(file)


@pytest.mark.parametrize(
    ("shape", "kind", "content"),
    [
        ((10**9,), "f8", b""),
        ((2,), "f8", b"\0" * 15),
        ((-1,), "f8", b""),
        ((1,), "O", b"\0" * 8),
        ((1,), "S8", b"\0" * 8),
    ],
)
def test_arrays_that_lie_about_their_size_are_refused(tmp_path, shape, kind, content):
    state = pickle.dumps((1, shape, Call(np.dtype, kind), False, content), 2)
    body = state[2:-1]  # without protocol and stop
    rebuilt = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\x00\x85U\x01btR" + body + b"b"
    data = dictionary(b"a", rebuilt)
    assert pickletools.genops(data)
    (tmp_path / "model.pkl").write_bytes(data)
    with pytest.raises(FormatError, match="a: not readable: an array"):
        read_pickle(tmp_path / "model.pkl")
