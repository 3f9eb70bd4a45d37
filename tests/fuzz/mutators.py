"""Hurt files: one function for each format, from the bytes of a sound file and a random source to other bytes.

`damage` knows no format. The others take a file apart and put it together again, so that the hurt lies behind check
sums and headers: fields gone, renamed, repeated, of another type or shape, numbers huge or NaN, odd texts, deep nests.
"""

from __future__ import annotations

import io
import json
import pickletools
import random
import struct
import zlib
from functools import lru_cache
from typing import Any

import safetensors.numpy

HOSTILE_TEXTS = (
    "", " ", "nan", "-inf", "1e309", "-1", "1.5", "1e-400", "9" * 400, "9" * 5000, "0x1", "1_0", "1,5", "true", "None",
    "\0", "%s", "a" * 5000, "=1+1", "../../x", "'", '"', ";", ":", "=", "[]", "{", "\uff11", "\u0663", "\u202e",
    "\U0001f600", "\n",
)  # fmt: skip
HOSTILE_VALUES = (
    None, True, 0, -1, 2, 0.5, 2**31, 2**63, -(2**70), 10**400, 1e308, -1e-320, float("nan"), float("inf"), [], [[]],
    {}, *HOSTILE_TEXTS,
)  # fmt: skip


def damage(data: bytes, rng: random.Random) -> bytes:
    """One to four hurts: flipped bits, foreign bytes, holes, repetitions, an early end. Half of them near the start."""
    out = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(min(len(out), 400) if rng.random() < 0.5 else len(out)) if out else 0
        span = rng.choice((1, 2, 4, 8, 64))
        match rng.randrange(6):
            case 0:
                out[at : at + 1] = bytes([(out[at] if out else 0) ^ (1 << rng.randrange(8))])
            case 1:
                out[at : at + span] = rng.randbytes(span)
            case 2:
                del out[at : at + span]
            case 3:
                out[at:at] = out[at : at + span]
            case 4:
                out[at : at + span] = rng.choice((b"\0", b"\xff", b"9", b"-", b"e", b".")) * span
            case 5:
                del out[at:]
    return bytes(out)


# Text ----------------------------------------------------------------------------------------------------------------


def hurt_list(items: list[Any], rng: random.Random, change: Any) -> None:
    """One item gone, repeated, moved or changed."""
    at = rng.randrange(len(items)) if items else 0
    match rng.randrange(5) if items else 4:
        case 0:
            del items[at]
        case 1:
            items.insert(rng.randrange(len(items) + 1), items[at])
        case 2:
            items.insert(rng.randrange(len(items)), items.pop(at))
        case _:
            items[at : at + 1] = [change(items[at] if items else "")]


def hurt_words(data: bytes, rng: random.Random, between: str = " ") -> bytes:
    """Lines of words: lines and words gone, repeated, moved, or replaced by odd ones."""
    lines = [line.split(between) for line in data.decode("utf-8", "replace").split("\n")]
    for _ in range(rng.randint(1, 3)):
        if rng.random() < 0.3:
            hurt_list(lines, rng, lambda _: [rng.choice(HOSTILE_TEXTS)])
        elif lines:
            hurt_list(rng.choice(lines), rng, lambda word: odd_word(word, rng))
    return "\n".join(between.join(words) for words in lines).encode("utf-8", "replace")


def odd_word(word: str, rng: random.Random) -> str:
    """Another word, or this one with a character changed."""
    if rng.random() < 0.6 or not word:
        return rng.choice(HOSTILE_TEXTS)
    at = rng.randrange(len(word))
    return word[:at] + rng.choice(("", "-", "9", "e", "/", "=", "\u00e9", word[at] * 3)) + word[at + 1 :]


def hurt_csv(data: bytes, rng: random.Random) -> bytes:
    """Cells, rows and whole columns."""
    if rng.random() < 0.6:
        return hurt_words(data, rng, ",")
    rows = [line.split(",") for line in data.decode("utf-8", "replace").split("\n")]
    at = rng.randrange(len(rows[0]))
    how, name = rng.randrange(4), rng.choice((*HOSTILE_TEXTS, *rows[0], "time", "frame", "Timecode", "happy", "AU12_r"))
    for number, row in enumerate(rows):
        if how == 0:
            del row[at : at + 1]
        elif how == 1:
            row[at:at] = row[at : at + 1]
        elif how == 2 and number == 0:
            row[at] = name
        elif how == 3 and number:
            row[at : at + 1] = [rng.choice(HOSTILE_TEXTS)]
    return rng.choice(("\n", "\r\n", "\r")).join(",".join(row) for row in rows).encode("utf-8", "replace")


# JSON ----------------------------------------------------------------------------------------------------------------


class Pairs(list[tuple[str, Any]]):
    """A JSON object whose names may repeat."""


def hurt_json(data: bytes, rng: random.Random) -> bytes:
    """Values and names anywhere in the tree."""
    try:
        root = [json.loads(data, object_pairs_hook=Pairs)]
    except ValueError:
        return damage(data, rng)
    for _ in range(rng.randint(1, 3)):
        place = rng.choice(_containers(root))
        hurt_list(place, rng, lambda item, place=place: _other(item, isinstance(place, Pairs), rng))
    return _written(root[0] if root else None).encode("utf-8", "surrogatepass")


def _containers(root: Any) -> list[Any]:
    """All arrays and objects; without recursion, since some are nested deeper than Python calls."""
    found, todo = [], [root]
    while todo:
        node = todo.pop()
        if isinstance(node, list):
            found.append(node)
            todo += [item[1] for item in node] if isinstance(node, Pairs) else node
    return found


def _other(item: Any, named: bool, rng: random.Random) -> Any:
    """Another value, or another name for the same value."""
    value = rng.choice(HOSTILE_VALUES)
    if rng.random() < 0.03:
        value = ["deep"]
        for _ in range(rng.choice((50, 5000))):
            value = [value]
    if not named:
        return value
    if not item:
        return rng.choice(HOSTILE_TEXTS), value
    return (rng.choice(HOSTILE_TEXTS), item[1]) if rng.random() < 0.4 else (item[0], value)


def _written(root: Any) -> str:
    """JSON's text."""
    out, todo = [], [root]
    while todo:
        node = todo.pop()
        if isinstance(node, str) and node[:1] == "\x01":
            out.append(node[1:])
        elif isinstance(node, list):
            opened, closed = "{}" if isinstance(node, Pairs) else "[]"
            todo.append("\x01" + closed)
            for i, item in reversed(list(enumerate(node))):
                name, value = item if isinstance(item, tuple) else (None, item)
                todo += [value, "\x01" + (", " if i else "") + ("" if name is None else json.dumps(name) + ": ")]
            out.append(opened)
        else:
            out.append(_number(node) if type(node) is int else json.dumps(node))
    return "".join(out)


def _number(value: int) -> str:
    return str(value) if abs(value) < 2**80 else "1" + "0" * 400


# Binary --------------------------------------------------------------------------------------------------------------


def hurt_safetensors(data: bytes, rng: random.Random) -> bytes:
    """The header's JSON, with its length put right; or sound files of wrong arrays."""
    from arrays import hurt_arrays

    if rng.random() < 0.5:
        size = struct.unpack("<Q", data[:8])[0]
        header = hurt_json(data[8 : 8 + size], rng)
        length = len(header) if rng.random() < 0.9 else rng.choice((0, 1, 2**31, 2**63, len(data) * 2))
        return struct.pack("<Q", length) + header + data[8 + size :]
    arrays, metadata = _tensors(data)
    kept = {name: array for name, array in hurt_arrays(arrays, rng).items() if array.dtype.kind in "fiub"}
    changed = dict(metadata)
    if changed and rng.random() < 0.3:
        changed[rng.choice(list(changed))] = rng.choice(HOSTILE_TEXTS)
    return safetensors.numpy.save({name: array.copy(order="C") for name, array in kept.items()}, metadata=changed)


@lru_cache(maxsize=4)
def _tensors(data: bytes) -> tuple[dict[str, Any], dict[str, str]]:
    size = struct.unpack("<Q", data[:8])[0]
    return safetensors.numpy.load(data), json.loads(data[8 : 8 + size]).get("__metadata__") or {}


def hurt_ply(data: bytes, rng: random.Random) -> bytes:
    """The header's lines; sometimes the numbers behind it."""
    start = data.index(b"end_header") + len(b"end_header\n")
    header, body = data[:start], data[start:]
    return hurt_words(header, rng) + (damage(body, rng) if rng.random() < 0.3 else body)


def hurt_png(data: bytes, rng: random.Random) -> bytes:
    """A chunk's content behind a right check sum; chunks gone, repeated or moved."""
    chunks, at = [], 8
    while at + 8 <= len(data):
        (length,) = struct.unpack(">I", data[at : at + 4])
        chunks.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + length]))
        at += 12 + length
    hurt_list(chunks, rng, lambda chunk: (chunk[0], damage(chunk[1], rng)) if chunk else (b"tEXt", b""))
    parts = [
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    ]
    return data[:8] + b"".join(parts)


def hurt_pickle(data: bytes, rng: random.Random) -> bytes:
    """Instructions gone, repeated, moved, or replaced by others without an argument."""
    steps = _instructions(data)
    others = [code.code.encode("latin1") for code in pickletools.opcodes if code.arg is None]
    out = list(steps)
    for _ in range(rng.randint(1, 3)):
        hurt_list(out, rng, lambda _: rng.choice(others))
    return b"".join(out)


@lru_cache(maxsize=4)
def _instructions(data: bytes) -> tuple[bytes, ...]:
    places = [place for _, _, place in pickletools.genops(io.BytesIO(data))]
    return tuple(data[a:b] for a, b in zip(places, [*places[1:], len(data)], strict=True))
