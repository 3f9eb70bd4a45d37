"""EmotionNorm under DistributedDataParallel: one process, and two that see half of the batch each.

All are fresh processes that meet in a file and talk over the loopback interface.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest
import torch
import torch.distributed as distributed
from torch import Tensor, multiprocessing, nn

from emogs.nn import EmotionNorm

pytestmark = pytest.mark.skipif(
    not (distributed.is_available() and distributed.is_gloo_available()), reason="torch was built without gloo"
)

E = 5
SECONDS = 600  # until processes that cannot meet give up


@contextmanager
def group(folder: Path, rank: int, size: int) -> Iterator[None]:
    where = f"file://{folder}/rendezvous"
    distributed.init_process_group(
        "gloo", init_method=where, rank=rank, world_size=size, timeout=timedelta(seconds=SECONDS)
    )
    try:
        yield
    finally:
        distributed.destroy_process_group()


def make() -> tuple[nn.Module, Tensor, Tensor, Tensor]:
    """A module whose code does something, tokens, codes and regions of four samples."""
    generator = torch.Generator().manual_seed(0)
    module = EmotionNorm(12, E, hidden_dim=8, regions=3)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
    region = torch.randint(0, 3, (4, 7), generator=generator)
    return module, torch.randn(4, 7, 12, generator=generator), torch.rand(4, E, generator=generator), region


def train(module: nn.Module, x: Tensor, code: Tensor, region: Tensor) -> list[Tensor]:
    """Two steps; the gradients of the last and what the parameters have become."""
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        module(x, code, region=region).square().mean().backward()
        optimizer.step()
    return [t.detach().clone() for p in module.parameters() for t in (p.grad, p)]


def work(rank: int, size: int, folder: Path) -> None:
    os.environ["GLOO_SOCKET_IFNAME"] = "lo0" if sys.platform == "darwin" else "lo"
    torch.set_num_threads(1)
    with group(folder, rank, size):
        module, *batch = make()
        share = [t.chunk(size)[rank] for t in batch]
        torch.save(train(nn.parallel.DistributedDataParallel(module), *share), folder / f"{rank}.pt")
    # Threads of gloo may still hold tensors of finished work; letting go of them while the interpreter shuts down
    # aborts the process now and then (pytorch/pytorch pull request 179291). What counts is written.
    os._exit(0)


def train_together(size: int, folder: Path) -> list[list[Tensor]]:
    """What each of `size` processes says after training."""
    processes = multiprocessing.start_processes(work, (size, folder), nprocs=size, join=False, start_method="spawn")
    deadline = time.monotonic() + SECONDS
    while not processes.join(timeout=1):  # False while one still runs; an error of theirs is raised here
        if time.monotonic() > deadline:
            for process in processes.processes:
                process.kill()
            pytest.fail(f"the processes did not finish in {SECONDS} s")
    return [torch.load(folder / f"{rank}.pt") for rank in range(size)]


def test_one_process_trains_as_no_wrapper(tmp_path):
    module, *batch = make()
    for actual, expected in zip(train_together(1, tmp_path)[0], train(module, *batch), strict=True):
        assert torch.equal(actual, expected)


def test_two_processes_train_as_one(tmp_path):
    """Each sees half of the batch; their mean gradient is that of the whole, up to the order of one sum."""
    first, second = train_together(2, tmp_path)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    module, *batch = make()
    for actual, expected in zip(first, train(module, *batch), strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-6)
