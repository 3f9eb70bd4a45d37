"""What the compiler made of each CUDA kernel, read from its output without a GPU.

A file is compiled with the build's own flags, which CMake tells (compile_commands.json), once per architecture.
Registers, stack, spills and static shared memory are what ptxas prints; the launch bounds and the use of dynamic shared
memory stand in the PTX; instructions are counted in nvdisasm's output, and a hash of the machine code says whether
anything changed at all. (Not cuobjdump: on sm_90 and later its shared memory includes 1,024 reserved bytes.)
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
import shutil
import struct
import sys
import sysconfig
import tempfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gate import ROOT, Broken, CannotTell, run

ARCHITECTURES = (80, 90, 120)
EXEMPT = {"csrc/common/cuda_sort.cu": "CUB's kernels, which are the toolkit's"}

Figures = dict[str, Any]
"""Of one kernel on one architecture: figure to integer, and "code" to the hash of its machine code."""
Kernels = dict[str, dict[str, dict[str, Figures]]]
"""Figures by kernel (a template's name), its arguments ("<float, 8>") and architecture ("sm_90")."""


@dataclass(frozen=True)
class Tools:
    """The programs and their versions, on which every figure depends."""

    nvcc: str
    nvdisasm: str
    versions: dict[str, str]

    @staticmethod
    def find() -> Tools:
        nvcc = os.environ.get("CUDACXX") or shutil.which("nvcc")
        if not nvcc or not shutil.which(nvcc):
            raise CannotTell("no CUDA compiler here: nvcc is not on PATH and CUDACXX names none")
        packages = Path(sysconfig.get_path("purelib")).glob("nvidia/*/bin/nvdisasm")
        nvdisasm = next((str(path) for path in packages), None) or shutil.which("nvdisasm")
        if not nvdisasm:
            raise CannotTell("no disassembler here: `pip install nvidia-cuda-nvdisasm`")
        return Tools(nvcc, nvdisasm, {"nvcc": _version(nvcc), "nvdisasm": _version(nvdisasm)})


def _version(program: str) -> str:
    text = run([program, "--version"])
    match = re.search(r"release [\d.]+, V([\d.]+)", text)
    if match is None:
        raise CannotTell(f"{program} --version says nothing of its version")
    return match[1]


# The build's flags


def build_flags(tools: Tools, folder: Path) -> dict[str, list[str]]:
    """The build's compiler options of each kernel file, as CMake would use them; without architecture and output."""
    recipes = [ROOT / "CMakeLists.txt", *sorted((ROOT / "cmake").glob("*"))]
    sources = sorted(str(path.relative_to(ROOT)) for path in ROOT.glob("csrc/*/*.cu"))
    key = _digest(tools.nvcc, tools.versions, sys.prefix, str(ROOT), sources, *(path.read_text() for path in recipes))
    commands = folder / f"cmake-{key}" / "compile_commands.json"
    if not commands.exists():
        _configure(tools, commands.parent)
    entries = json.loads(commands.read_text())
    paths = {str(Path(entry["file"]).resolve().relative_to(ROOT)): entry["command"] for entry in entries}
    return {path: portable(command) for path, command in sorted(paths.items()) if path.endswith(".cu")}


def _configure(tools: Tools, build: Path) -> None:
    import pybind11

    for old in build.parent.glob("cmake-*"):
        shutil.rmtree(old)
    definitions = {
        "CMAKE_BUILD_TYPE": "Release",
        "CMAKE_CUDA_COMPILER": tools.nvcc,
        "CMAKE_MAKE_PROGRAM": shutil.which("ninja"),
        "Python_EXECUTABLE": sys.executable,
        "pybind11_DIR": pybind11.get_cmake_dir(),
        "EMOGS_CUDA": "on",
        "EMOGS_CUDA_ARCHS": ARCHITECTURES[0],
    }
    options = [f"-D{name}={value}" for name, value in definitions.items()]
    run(["cmake", "-G", "Ninja", "-S", str(ROOT), "-B", str(build), *options])


def portable(command: str) -> list[str]:
    """The options of a compile command that say how to compile, not for what, from where to where."""
    words = iter(shlex.split(command)[1:])
    kept = []
    for word in words:
        if word in ("-c", "-o", "-x", "-gencode", "-arch"):
            next(words)
        elif not word.startswith(("--generate-code", "-gencode", "-arch", "-Xfatbin", "--threads", "-DEMOGS_CUDA=")):
            kept.append(word)
    return kept


def code_flags(flags: list[str]) -> str:
    """Those that machine code may depend on, the same on every machine: no folders, nothing for the host's compiler."""
    words = iter(flags)
    kept = []
    for word in words:
        if word in ("-isystem", "-I"):
            next(words)
        elif not word.startswith(("-I", "-isystem", "-Xcompiler", "-forward-unknown", "-D_C_EXPORTS")):
            kept.append(word)
    return " ".join(kept)


# Compiling and reading


def measure(tools: Tools, flags: dict[str, list[str]], folder: Path) -> dict[str, Kernels]:
    """Figures of all kernels by file; files are compiled side by side, and only where something changed."""
    folder.mkdir(parents=True, exist_ok=True)
    jobs = [(path, architecture) for path in flags for architecture in ARCHITECTURES]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        results = pool.map(lambda job: _cached(tools, job[0], flags[job[0]], job[1], folder), jobs)
        measured: dict[str, Kernels] = {path: {} for path in flags}
        for (path, architecture), kernels in zip(jobs, results, strict=True):
            for name, figures in kernels.items():
                template, arguments = split_name(name)
                variants = measured[path].setdefault(template, {})
                variants.setdefault(arguments, {})[f"sm_{architecture}"] = figures
    return measured


def _cached(tools: Tools, path: str, flags: list[str], architecture: int, folder: Path) -> dict[str, Figures]:
    cache = folder / f"{path.replace('/', '.')}.sm_{architecture}.json"
    own = Path(__file__).read_text()
    key = _digest(own, tools.versions, flags, architecture, *(f"{p}\n{t}" for p, t in project_sources(path).items()))
    if cache.exists():
        content = json.loads(cache.read_text())
        if content["key"] == key:
            return content["kernels"]
    kernels = compile_file(tools, ROOT / path, flags, architecture)
    partial = cache.with_suffix(f".{os.getpid()}")
    partial.write_text(json.dumps({"key": key, "kernels": kernels}))
    partial.replace(cache)
    return kernels


def _digest(*parts: object) -> str:
    return hashlib.sha256("\0".join(map(str, parts)).encode()).hexdigest()[:16]


def project_sources(path: str) -> dict[str, str]:
    """The file and every header of the project that it includes, by path."""
    found: dict[str, str] = {}
    waiting = [path]
    while waiting:
        name = waiting.pop()
        text = (ROOT / name).read_text()
        found[name] = text
        for include in re.findall(r'^\s*#\s*include\s+"([^"]+)"', text, re.MULTILINE):
            candidates = (Path("csrc") / include, Path(name).parent / include)
            waiting += [str(c) for c in candidates if (ROOT / c).is_file() and str(c) not in found]
    return dict(sorted(found.items()))


def compile_file(tools: Tools, source: Path, flags: list[str], architecture: int) -> dict[str, Figures]:
    """Figures of every kernel in a file, by demangled name."""
    with tempfile.TemporaryDirectory() as scratch:
        cubin = Path(scratch) / "kernels.cubin"
        options = [*flags, "-cubin", f"-arch=sm_{architecture}", "-Xptxas=-v", "--keep", f"--keep-dir={scratch}"]
        said = run([tools.nvcc, *options, "-o", str(cubin), "-x", "cu", str(source)], with_errors=True)
        bounds = read_ptx((Path(scratch) / f"{source.stem}.ptx").read_text())
        code = read_code(cubin.read_bytes())
        mixes = read_instructions(run([tools.nvdisasm, "-json", str(cubin)]))
    resources = read_ptxas(said)
    names = demangle(list(resources))
    return {
        names[symbol]: {"code": code[symbol], **resources[symbol], **bounds[symbol], **mixes[symbol]}
        for symbol in resources
    }


def demangle(symbols: list[str]) -> dict[str, str]:
    """Readable names: no return type, parameters or namespaces of the project."""
    lines = run(["c++filt", *symbols]).splitlines() if symbols else []
    return {symbol: short_name(line) for symbol, line in zip(symbols, lines, strict=True)}


def short_name(demangled: str) -> str:
    """`emogs::(anonymous namespace)::x_kernel<float, 8>` with its types and parameters becomes `x_kernel<float, 8>`."""
    name = demangled.replace("(anonymous namespace)::", "").replace("emogs::", "").removeprefix("void ")
    name = re.sub(r"\s+>", ">", name)
    depth = 0
    for i, letter in enumerate(name):
        depth += {"<": 1, ">": -1}.get(letter, 0)
        if letter == "(" and depth == 0:
            return name[:i]
    return name


def split_name(name: str) -> tuple[str, str]:
    """The template and its arguments, which are "" where it is none."""
    template, bracket, arguments = name.partition("<")
    return template, bracket + arguments


def read_ptxas(text: str) -> dict[str, Figures]:
    """What `ptxas -v` says of each kernel: registers a thread, bytes of stack, spills and static shared memory."""
    found = {}
    for part in text.split("Compiling entry function ")[1:]:
        match = re.match(
            r"'(\S+)' for .*?(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads.*?"
            r"Used (\d+) registers([^\n]*)",
            part,
            re.DOTALL,
        )
        if match is None:
            raise Broken(f"ptxas -v is not understood:\n{part[:500]}")
        symbol, stack, stores, loads, registers, rest = match.groups()
        shared = re.search(r"(\d+) bytes smem", rest)
        found[symbol] = {
            "registers": int(registers),
            "stack": int(stack),
            "spills": int(stores) + int(loads),
            "static_shared": int(shared[1]) if shared else 0,
        }
    return found


def read_ptx(text: str) -> dict[str, Figures]:
    """Threads of the launch bounds (0: none given), and whether the launch decides on an amount of shared memory."""
    dynamic = re.findall(r"\.extern \.shared [^;]*?(\w+)\[\]", text)
    found = {}
    for part in text.split(".entry ")[1:]:
        symbol = re.match(r"\w+", part)
        bounds = re.search(r"\.(?:max|req)ntid (\d+)(?:, (\d+))?(?:, (\d+))?", part.partition("{")[0])
        sizes = [int(size or 1) for size in bounds.groups()] if bounds else [0]
        threads = 1
        for size in sizes:
            threads *= size
        if symbol is not None:
            uses = any(re.search(rf"\b{name}\b", part) for name in dynamic)
            found[symbol[0]] = {"threads": threads, "uses_dynamic_shared": int(uses)}
    return found


def read_code(cubin: bytes) -> dict[str, str]:
    """A hash of each kernel's machine code and of the constants that belong to it; reads the sections of the ELF."""
    offset, size, count, names_index = struct.unpack_from("<Q10xHHH", cubin, 0x28)
    headers = [struct.unpack_from("<IIQQQQ", cubin, offset + i * size) for i in range(count)]
    names = headers[names_index][4]
    code: dict[str, Any] = {}
    for name_at, _, _, _, start, length in sorted(headers, key=lambda h: _text(cubin, names + h[0])):
        name = _text(cubin, names + name_at)
        match = re.fullmatch(r"\.(text|nv\.constant[1-9])\.(\w+)", name)
        if match:
            code.setdefault(match[2], hashlib.sha256()).update(cubin[start : start + length])
    return {symbol: digest.hexdigest()[:12] for symbol, digest in code.items()}


def _text(data: bytes, start: int) -> str:
    return data[start : data.index(b"\0", start)].decode()


# Instructions

SINGLE = {"FADD", "FMUL", "FFMA", "FMNMX", "FMNMX3", "FSEL", "FSETP", "FSET", "FCHK", "FADD2", "FMUL2", "FFMA2"}
WIDTHS = {"128": 16, "64": 8, "U16": 2, "S16": 2, "U8": 1, "S8": 1}
WHOLE = {
    "MUFU": "special",
    "LDS": "shared_loads",
    "STS": "shared_stores",
    "LDL": "local",
    "STL": "local",
    "LD": "generic",
    "ST": "generic",
    "ATOM": "atomics",
    "ATOMG": "atomics",
    "ATOMS": "atomics",
    "RED": "atomics",
    "REDG": "atomics",
    "BAR": "barriers",
    "SHFL": "shuffles",
    "LDGSTS": "async_copies",
    "UBLKCP": "async_copies",
}


def classify(opcode: str) -> str | None:
    """Which count an instruction belongs to beside the total; None for the rest (integers, branches, moves)."""
    name, *suffixes = opcode.split(".")
    if name in ("LDG", "STG"):
        width = next((WIDTHS[s] for s in suffixes if s in WIDTHS), 4)
        return f"global_{'loads' if name == 'LDG' else 'stores'}_{width}"
    if name in ("DADD", "DMUL", "DFMA", "DSETP", "DMNMX", "DMMA") or "F64" in suffixes or "RCP64H" in suffixes:
        return "double"
    return "single" if name in SINGLE else WHOLE.get(name)


def read_instructions(text: str) -> dict[str, Counter[str]]:
    """Counts of `classify` and the total by kernel; a kernel's own copies of library routines are part of it."""
    found: dict[str, Counter[str]] = {}
    counts: Counter[str] = Counter()
    for function in json.JSONDecoder().raw_decode(text, text.index("["))[0][1]:
        if not function["function-name"].startswith("$"):
            counts = found.setdefault(function["function-name"], Counter())
        for instruction in function["sass-instructions"]:
            opcode = instruction["opcode"]
            if opcode != "NOP":
                counts["instructions"] += 1
                if kind := classify(opcode):
                    counts[kind] += 1
    return found
