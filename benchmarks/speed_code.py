"""Whether machine code changed: one hash for each CPU kernel file and instruction set of a build.

What does not change cannot become slower, so such kernels need no timing. A hash covers instructions, constants and
what they refer to by name; not line numbers, comments, paths or the order of files. Object files are ELF (Linux); a
build elsewhere has no hashes, which counts as changed.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass
from pathlib import Path

ALLOCATED = 2  # SHF_ALLOC: part of the running program
PROGRAM, SYMBOLS, RELOCATIONS = 1, 2, 4  # SHT_PROGBITS, SHT_SYMTAB, SHT_RELA
SECTION_SYMBOL = 3  # STT_SECTION
UNWINDING = (".eh_frame", ".gcc_except_table")  # never runs in a kernel


@dataclass(frozen=True)
class Section:
    name: str
    kind: int
    flags: int
    data: bytes
    link: int
    target: int


def sections_of(file: bytes) -> list[Section]:
    """All sections of a 64-bit little-endian ELF object.

    Raises:
        ValueError: it is none.
    """
    if file[:6] != b"\x7fELF\x02\x01":
        raise ValueError("not a 64-bit little-endian ELF file")
    start, entry, count, names = struct.unpack_from("<Q", file, 40) + struct.unpack_from("<3H", file, 58)
    headers = [struct.unpack_from("<2I4Q2I2Q", file, start + i * entry) for i in range(count)]

    def data(header: tuple[int, ...]) -> bytes:
        return b"" if header[1] == 8 else file[header[4] : header[4] + header[5]]  # 8: takes no space in the file

    strings = data(headers[names])
    return [Section(text(strings, h[0]), h[1], h[2], data(h), h[6], h[7]) for h in headers]


def text(strings: bytes, at: int) -> str:
    return strings[at : strings.index(b"\0", at)].decode()


def symbol_names(sections: list[Section]) -> list[str]:
    """By index; a section's own symbol is called as the section."""
    for section in sections:
        if section.kind == SYMBOLS:
            strings, names = sections[section.link].data, []
            for at in range(0, len(section.data), 24):
                name, info, _, place = struct.unpack_from("<I2BH", section.data, at)
                names.append(sections[place].name if info & 15 == SECTION_SYMBOL else text(strings, name))
            return names
    return []


def code_hash(path: Path) -> str:
    """Of one object file."""
    sections = sections_of(path.read_bytes())
    symbols = symbol_names(sections)
    parts = []
    for section in sections:
        if section.kind == PROGRAM and section.flags & ALLOCATED and section.name not in UNWINDING:
            parts.append(section.name.encode() + b"\0" + section.data)
        elif section.kind == RELOCATIONS and sections[section.target].name not in UNWINDING:
            if not sections[section.target].flags & ALLOCATED:
                continue
            for offset, info, addend in struct.iter_unpack("<2Qq", section.data):
                name = symbols[info >> 32]
                parts.append(f"{section.name} {offset} {info & 0xFFFFFFFF} {name} {addend}".encode())
    return hashlib.sha256(b"\n".join(sorted(parts))).hexdigest()[:16]


def module_hash(path: Path) -> str:
    """Of a shared library: everything that is loaded, so that equal hashes mean equal behaviour, and no more than that.

    Raises:
        ValueError: it is no ELF file.
    """
    parts = [
        section.name.encode() + b"\0" + section.data
        for section in sections_of(path.read_bytes())
        if section.flags & ALLOCATED and section.name not in (*UNWINDING, ".eh_frame_hdr", ".note.gnu.build-id")
    ]
    return hashlib.sha256(b"\n".join(parts)).hexdigest()[:16]


def kernel_hashes(build: Path) -> dict[str, str]:
    """By kernel file and instruction set, such as "norm_cpu v4", of a CMake build folder; empty where there is none."""
    found = {}
    for path in sorted(build.glob("CMakeFiles/cpu_*.dir/csrc/*/*_cpu.cpp.o")):
        isa = path.parents[2].name.removeprefix("cpu_").removesuffix(".dir")
        try:
            found[f"{path.name.removesuffix('.cpp.o')} {isa}"] = code_hash(path)
        except (ValueError, struct.error, IndexError):
            continue  # no ELF: not known to be unchanged
    return found


def changed(base: dict[str, str], head: dict[str, str]) -> list[str]:
    """Kernels that are not known to be the same on both sides; new and gone ones are among them."""
    return sorted(name for name in base.keys() | head.keys() if base.get(name) != head.get(name))
