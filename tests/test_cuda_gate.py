"""The static CUDA gate: it reads the compiler's output right, and compares it with the budget."""

from __future__ import annotations

import copy
import json
import shutil
import subprocess
import sys
from pathlib import Path

import cuda_gate
import pytest
from cuda_budget import Budget, Entry, changes, come_and_gone, judged, unexplained
from cuda_kernels import (
    ARCHITECTURES,
    Broken,
    classify,
    code_flags,
    portable,
    project_sources,
    read_instructions,
    read_ptx,
    read_ptxas,
    short_name,
    split_name,
)
from cuda_occupancy import occupancy

ROOT = Path(__file__).resolve().parents[1]
PTXAS = """\
ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function '_Z6a_kernelPf' for 'sm_90'
ptxas info    : Function properties for _Z6a_kernelPf
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 22 registers, used 1 barriers, 256 bytes smem, 376 bytes cmem[0]
ptxas info    : Compile time = 5.617 ms
ptxas info    : Compiling entry function '_Z6b_kernelPf' for 'sm_90'
ptxas info    : Function properties for _Z6b_kernelPf
    96 bytes stack frame, 120 bytes spill stores, 160 bytes spill loads
ptxas info    : Used 64 registers, used 0 barriers
"""


def test_ptxas_is_read():
    found = read_ptxas(PTXAS)
    assert found["_Z6a_kernelPf"] == {"registers": 22, "stack": 0, "spills": 0, "static_shared": 256}
    assert found["_Z6b_kernelPf"] == {"registers": 64, "stack": 96, "spills": 280, "static_shared": 0}


def test_ptx_is_read():
    text = """
.extern .shared .align 16 .b8 emogs_dynamic_shared[];
.visible .entry a_kernel(.param .u64 p)
.maxntid 32, 8, 1
{ mov.u64 %rd1, emogs_dynamic_shared; }
.weak .entry b_kernel(.param .u64 p)
.maxntid 128
{ ret; }
.visible .entry c_kernel(.param .u64 p)
{ ret; }
"""
    assert read_ptx(text) == {
        "a_kernel": {"threads": 256, "uses_dynamic_shared": 1},
        "b_kernel": {"threads": 128, "uses_dynamic_shared": 0},
        "c_kernel": {"threads": 0, "uses_dynamic_shared": 0},
    }


@pytest.mark.parametrize(
    ("opcode", "kind"),
    [
        ("LDG.E.128.CONSTANT", "global_loads_16"),
        ("LDG.E.64", "global_loads_8"),
        ("LDG.E", "global_loads_4"),
        ("LDG.E.U16", "global_loads_2"),
        ("STG.E.128", "global_stores_16"),
        ("STG.E.U8", "global_stores_1"),
        ("FFMA", "single"),
        ("FSETP.GEU.AND", "single"),
        ("FLO.U32", None),
        ("F2FP.BF16.F32.PACK_AB", None),
        ("DMUL", "double"),
        ("F2F.F64.F32", "double"),
        ("MUFU.RCP64H", "double"),
        ("MUFU.RSQ", "special"),
        ("LDS.64", "shared_loads"),
        ("LDSM.16.M88.4", None),
        ("LDL.LU", "local"),
        ("LD.E.U8", "generic"),
        ("ATOMG.E.ADD.STRONG.GPU", "atomics"),
        ("REDUX.SUM", None),
        ("BAR.SYNC.DEFER_BLOCKING", "barriers"),
        ("BSYNC", None),
        ("SHFL.BFLY", "shuffles"),
        ("IMAD.MOV.U32", None),
    ],
)
def test_instructions_are_told_apart(opcode, kind):
    assert classify(opcode) == kind


def test_library_routines_belong_to_the_kernel_before_them():
    def function(name, *opcodes):
        return {"function-name": name, "sass-instructions": [{"opcode": opcode} for opcode in opcodes]}

    functions = [function("a", "FADD", "CALL", "NOP"), function("$__internal_0_$div", "FFMA"), function("b", "EXIT")]
    found = read_instructions(json.dumps([{"ELF": {}}, functions]) + "\na warning")
    assert found == {"a": {"single": 2, "instructions": 3}, "b": {"instructions": 1}}


def test_names_are_readable():
    name = (
        "void emogs::(anonymous namespace)::x_kernel<emogs::Mixed<float, emogs::Half>, 8>"
        "(emogs::P<emogs::Mixed<float, emogs::Half> >)"
    )
    assert short_name(name) == "x_kernel<Mixed<float, Half>, 8>"
    assert split_name("x_kernel<Mixed<float, Half>, 8>") == ("x_kernel", "<Mixed<float, Half>, 8>")
    assert split_name(short_name("plain_kernel(float*)")) == ("plain_kernel", "")


def test_flags_of_the_build():
    command = (
        "/usr/bin/nvcc -forward-unknown-to-host-compiler -DEMOGS_CUDA='\"90\"' -D_C_EXPORTS -I/here/csrc "
        "-isystem /here/python -O3 -DNDEBUG -std=c++17 '--generate-code=arch=compute_90,code=[sm_90]' "
        "-Xcompiler=-fPIC -fmad=false -Xfatbin=-compress-all --threads=0 -x cu -c /here/x.cu -o x.o"
    )
    flags = portable(command)
    assert {"-O3", "-fmad=false", "-I/here/csrc", "-isystem", "/here/python"} <= set(flags)
    assert not {"-c", "-o", "-x", "--threads=0", "/here/x.cu", "x.o"} & set(flags)
    assert code_flags(flags) == "-O3 -DNDEBUG -std=c++17 -fmad=false"


def test_headers_of_a_kernel_file_are_found():
    assert {"csrc/norm/norm_cuda.cu", "csrc/norm/norm.h", "csrc/math/norm.h", "csrc/common/platform.h"} <= set(
        project_sources("csrc/norm/norm_cuda.cu")
    )


@pytest.mark.parametrize(
    ("architecture", "threads", "registers", "shared", "blocks", "percent", "limit"),
    [
        (90, 256, 32, 0, 8, 100, "warps"),
        (90, 256, 33, 0, 6, 75, "registers"),  # 33 count as 40
        (90, 128, 255, 0, 2, 12, "registers"),
        (80, 32, 16, 0, 32, 50, "blocks"),
        (80, 96, 31, 1000, 21, 98, "warps"),
        (120, 1024, 64, 0, 1, 66, "warps"),
        (120, 256, 40, 50_000, 2, 33, "shared memory"),
        (90, 128, 40, 98_304, 2, 12, "shared memory"),
        (120, 128, 40, 101_376, 1, 8, "shared memory"),
        (120, 128, 40, 101_377, 0, 0, "launch"),
    ],
)
def test_occupancy(architecture, threads, registers, shared, blocks, percent, limit):
    found = occupancy(architecture, threads, registers, shared)
    assert (found.blocks, found.percent, found.limit) == (blocks, percent, limit)


CALCULATOR = r"""
#include <cuda_occupancy.h>
#include <cstdio>
int main() {
  int arch, threads, shared_sm, shared_block, resident, registers, block, shared;
  while (scanf("%d %d %d %d %d %d %d", &arch, &resident, &shared_sm, &shared_block, &block, &registers, &shared) == 7) {
    cudaOccDeviceProp device{};
    device.computeMajor = arch / 10, device.computeMinor = arch % 10, device.warpSize = 32, device.numSms = 132;
    device.maxThreadsPerBlock = 1024, device.maxThreadsPerMultiprocessor = resident;
    device.regsPerBlock = device.regsPerMultiprocessor = 65536, device.sharedMemPerBlock = 49152;
    device.sharedMemPerMultiprocessor = shared_sm, device.sharedMemPerBlockOptin = shared_block;
    device.reservedSharedMemPerBlock = 1024;
    cudaOccFuncAttributes kernel{};
    kernel.maxThreadsPerBlock = 1024, kernel.numRegs = registers, kernel.sharedSizeBytes = shared;
    kernel.partitionedGCConfig = PARTITIONED_GC_OFF, kernel.shmemLimitConfig = FUNC_SHMEM_LIMIT_OPTIN;
    kernel.maxDynamicSharedSizeBytes = shared_block, kernel.numBlockBarriers = 1;
    cudaOccDeviceState state{};
    state.cacheConfig = CACHE_PREFER_SHARED, state.carveoutConfig = 100;
    cudaOccResult result;
    const bool failed = cudaOccMaxActiveBlocksPerMultiprocessor(&result, &device, &kernel, &state, block, 0);
    printf("%d\n", failed ? 0 : result.activeBlocksPerMultiprocessor);
  }
}
"""


def test_occupancy_agrees_with_the_toolkit(tmp_path):
    from cuda_occupancy import PROCESSORS

    nvcc = shutil.which("nvcc")
    said = subprocess.run([nvcc, "--dryrun", "x.cu"], capture_output=True, text=True).stderr if nvcc else ""
    top = next((line.partition("TOP=")[2] for line in said.splitlines() if "TOP=" in line), "")
    include = Path(top) / "include"
    if not top or not (include / "cuda_occupancy.h").exists() or not shutil.which("g++"):
        pytest.skip("needs cuda_occupancy.h of the CUDA toolkit and g++")
    (tmp_path / "calculator.cpp").write_text(CALCULATOR)
    command = ["g++", f"-I{include}", "-o", str(tmp_path / "calculator"), str(tmp_path / "calculator.cpp")]
    subprocess.run(command, check=True)
    cases = [
        (architecture, block, registers, shared)
        for architecture in ARCHITECTURES
        for block in (32, 64, 96, 128, 192, 256, 512, 1000, 1024)
        for registers in range(16, 65536 // -(-block // 128) // 128 + 1, 7)
        for shared in (0, 1000, 7168, 24_576, 50_000, 98_304)
        if registers <= 255
    ]
    lines = []
    for architecture, *rest in cases:
        p = PROCESSORS[architecture]
        lines.append(" ".join(map(str, (architecture, p.threads, p.shared, p.shared_per_block, *rest))))
    run = subprocess.run([tmp_path / "calculator"], input="\n".join(lines), capture_output=True, text=True, check=True)
    expected = list(map(int, run.stdout.split()))
    assert len(expected) == len(cases) > 1000
    assert [occupancy(*case).blocks for case in cases] == expected


# Comparison

FIGURES = {
    "code": "0123", "registers": 40, "stack": 0, "spills": 0, "static_shared": 256, "threads": 256,
    "uses_dynamic_shared": 0, "instructions": 1000, "single": 100, "global_loads_16": 4,
}  # fmt: skip


def entries(change: dict | None = None, budget: Budget | None = None, variant: str = "<float>"):
    """One kernel as it would be measured."""
    measured = {"x.cu": {"x_kernel": {variant: {"sm_90": FIGURES | (change or {})}}}}
    return judged(measured, budget or Budget())


def complaints(change: dict) -> list[str]:
    budget = Budget(files=entries())
    files = entries({"code": "4567"} | change, budget)
    return [str(c) for c in changes(budget, files) if c.beyond] + unexplained(files)


@pytest.mark.parametrize(
    ("change", "messages"),
    [
        ({}, []),
        ({"registers": 38, "instructions": 700}, []),
        ({"instructions": 1050, "single": 105}, []),
        (
            {"registers": 41},
            [
                "x.cu: x_kernel<float> on sm_90: registers 41, was 40 (+1; at most 40)",
                "x.cu: x_kernel<float> on sm_90: occupancy 62%, was 75% (-13; at least 75)",
            ],
        ),
        ({"instructions": 1051}, ["x.cu: x_kernel<float> on sm_90: instructions 1051, was 1000 (+51; at most 1050)"]),
        (
            {"static_shared": 260},
            ["x.cu: x_kernel<float> on sm_90: static_shared 260 bytes, was 256 bytes (+4; at most 256)"],
        ),
        (
            {"spills": 8},
            [
                "x.cu: x_kernel<float> on sm_90: spills 8 bytes, was 0 bytes (+8; at most 0)",
                "x.cu: x_kernel<float> on sm_90: spills 8 must be explained: its `why` is empty",
            ],
        ),
        ({"global_loads_2": 2}, []),
        ({"global_loads_2": 3}, ["x.cu: x_kernel<float> on sm_90: global_loads_2 3, was 0 (+3; at most 2)"]),
        ({"barriers": 1}, ["x.cu: x_kernel<float> on sm_90: barriers 1, was 0 (+1; at most 0)"]),
        ({"threads": 0}, ["x.cu: x_kernel<float> on sm_90: no __launch_bounds__, so nobody knows its occupancy"]),
        (
            {"uses_dynamic_shared": 1},
            ["x.cu: x_kernel<float> on sm_90: uses dynamic shared memory; its `dynamic_shared` must say how much"],
        ),
    ],
)
def test_what_is_beyond_the_budget_is_said(change, messages):
    found = complaints(change)
    if change.get("threads") == 0:  # its occupancy is judged as of the largest block
        found = [line for line in found if "occupancy 50%" not in line]
    assert found == messages


def test_thirty_three_registers_are_forty_to_the_hardware():
    budget = Budget(files=entries({"registers": 33}))
    assert not [c for c in changes(budget, entries({"registers": 40})) if c.beyond]
    assert [c for c in changes(budget, entries({"registers": 41})) if c.beyond]


def test_new_and_missing_kernels_never_pass():
    budget = Budget(files=entries())
    assert come_and_gone(budget, entries(variant="<Half>")) == [
        "x.cu: x_kernel<Half> on sm_90: new, not in the budget",
        "x.cu: x_kernel<float> on sm_90: in the budget, but no longer in the build",
    ]
    assert come_and_gone(budget, {}) and not come_and_gone(budget, entries())


def test_reasons_and_dynamic_shared_memory_are_kept(tmp_path):
    files = {"x.cu": {"x_kernel": Entry(why="it is so", dynamic_shared={"<float>": 100_000})}}
    budget = Budget({"nvcc": "13.0"}, "-O3", entries({"spills": 8, "uses_dynamic_shared": 1}, Budget(files=files)))
    budget.save(tmp_path / "budget.json")
    again = Budget.load(tmp_path / "budget.json")
    assert again == budget
    figures = again.files["x.cu"]["x_kernel"].variants["<float>"]["sm_90"]
    assert figures["dynamic_shared"] == 100_000 and figures["limit"] == "shared memory"
    assert len((tmp_path / "budget.json").read_text().splitlines()) < 25  # a line for each kernel and architecture
    lines = unexplained(again.files)
    assert not lines
    poor = copy.deepcopy(again.files)
    poor["x.cu"]["x_kernel"].why = ""
    assert "spills 8, occupancy 25 must be explained" in unexplained(poor)[0]


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"files": {"a": {"b": {"c": 1}}}, "tools": {}, "flags": ""}'])
def test_a_file_that_is_no_budget_is_refused(tmp_path, content):
    path = tmp_path / "budget.json"
    path.write_text(content)
    with pytest.raises(Broken, match=r"budget\.json: expected a budget that `accept` wrote"):
        Budget.load(path)


def test_the_documentation_gives_the_budgets_figures():
    kernels = {
        kernel + variant: [machines[f"sm_{architecture}"] for architecture in ARCHITECTURES]
        for file in json.loads((ROOT / "benchmarks/cuda_budget.json").read_text())["files"].values()
        for kernel, entry in file.items()
        for variant, machines in entry["variants"].items()
    }
    rows = [line for line in (ROOT / "docs/cuda.md").read_text().splitlines() if line.startswith("| `")]
    assert len(rows) > 10
    for row in rows:
        name, *said = (cell.strip(" `") for cell in row.strip("|").split("|"))
        figures = kernels[name]
        shared = (figures[0]["static_shared"] + figures[0]["dynamic_shared"]) / 1024
        registers, occupancy = (" / ".join(str(f[key]) for f in figures) for key in ("registers", "occupancy"))
        assert said == [str(figures[0]["threads"]), registers, f"{shared:.0f}", occupancy], name


def test_a_budget_that_is_not_there_is_a_wrong_argument(tmp_path, monkeypatch, capsys):
    """With or without nvcc, and before anything is compiled."""
    monkeypatch.setattr(sys, "argv", ["cuda_gate.py", "check", "--budget", str(tmp_path / "none.json")])
    with pytest.raises(SystemExit) as end:
        cuda_gate.main("CUDA kernels", {"check": cuda_gate.check, "table": cuda_gate.table}, None)
    assert end.value.code == 2
    assert capsys.readouterr().out == f"CUDA kernels: --budget {tmp_path / 'none.json'}: no such file\n"
