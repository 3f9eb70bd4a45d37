"""Large results come in huge pages, where the system has them."""

from __future__ import annotations

import contextlib
import mmap
import re
from pathlib import Path

import pytest
import torch

import emogs
from emogs.ops import emotion_renorm, native


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """The addresses and lengths that huge pages were asked for."""
    calls: list[tuple[int, int]] = []
    monkeypatch.setattr(native._C, "prefer_huge_pages", lambda *call: calls.append(call))
    return calls


def test_only_large_tensors_of_the_cpu_ask_for_huge_pages(asked):
    like = torch.empty(0)
    assert native.new_empty(like, (2, 3)).shape == (2, 3) and not asked
    large = native.new_empty(like, (1 << 19,), torch.float64)
    assert large.dtype == torch.float64 and asked == [(large.data_ptr(), 4 << 20)]
    assert native.new_empty(torch.empty(0, device="meta"), (1 << 22,)).is_meta and len(asked) == 1


def test_results_of_a_token_each_come_so(asked):
    x = torch.randn(1, 1024, 1024, requires_grad=True)
    vectors = [torch.zeros(1, 1024) for _ in range(3)]
    y = emogs.emotion_norm(x, *vectors[:2])
    assert [address for address, _ in asked] == [y.data_ptr()]
    (grad,) = torch.autograd.grad(y.sum(), [x])
    assert [address for address, _ in asked[1:]] == [grad.data_ptr()]
    out = emotion_renorm(x.detach(), *vectors)
    assert asked[2:] == [(out.data_ptr(), out.nbytes)]


def flags_at(address: int) -> list[str]:
    """VmFlags of the mapping that holds an address, proc(5); none where the system does not show them."""
    maps, inside = Path("/proc/self/smaps"), False
    for line in maps.read_text().splitlines() if maps.exists() else ():
        if match := re.match(r"([0-9a-f]+)-([0-9a-f]+) ", line):
            inside = int(match[1], 16) <= address < int(match[2], 16)
        elif inside and line.startswith("VmFlags:"):
            return line.split()[1:]
    return []


def test_the_system_notes_the_wish():
    with mmap.mmap(-1, 16 << 20) as memory:
        if hasattr(mmap, "MADV_HUGEPAGE"):
            with contextlib.suppress(OSError):  # a kernel without them
                memory.madvise(mmap.MADV_HUGEPAGE)
        middle = torch.frombuffer(memory, dtype=torch.uint8)[8 << 20 :].data_ptr()
        if "hg" not in flags_at(middle):
            pytest.skip("this system notes no wish for huge pages")
    tensor = native.new_empty(torch.empty(0), (4 << 20,))
    assert "hg" in flags_at(tensor.data_ptr() + tensor.nbytes // 2)


def test_addresses_that_hold_no_whole_huge_page_are_left_alone():
    tensor = torch.arange(64)
    native._C.prefer_huge_pages(tensor.data_ptr(), tensor.nbytes)
    native._C.prefer_huge_pages(0, 0)
    assert torch.equal(tensor, torch.arange(64))
