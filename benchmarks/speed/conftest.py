"""Options of the microbenchmarks (`emogs bench run` sets them), and what they are stored with: machine and revision."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import speed_cases
import speed_stamp
import speed_worker

COMMIT = pytest.StashKey[dict[str, object]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--speed-quick", action="store_true", help="toy sizes, whose times mean nothing")
    parser.addoption("--speed-threads", type=int, default=2)
    parser.addoption("--speed-rounds", type=int, default=15)
    parser.addoption("--speed-only", action="append", default=[], help="part of a name; may be repeated")


def pytest_configure(config: pytest.Config) -> None:
    torch.set_num_threads(config.getoption("--speed-threads"))
    config.stash[COMMIT] = speed_stamp.commit()  # before others commit while it runs


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    cases = speed_cases.all_cases(speed_cases.QUICK if metafunc.config.getoption("--speed-quick") else speed_cases.FULL)
    names = speed_cases.matching(cases, metafunc.config.getoption("--speed-only"))
    timed = [pytest.param(cases[n], marks=pytest.mark.benchmark(timer=clock(metafunc.config, cases[n]))) for n in names]
    metafunc.parametrize("make", timed, ids=names)


def clock(config: pytest.Config, make: partial) -> Callable[[], float]:
    return speed_worker.clock_of(make.keywords["device"].type, config.getoption("--speed-threads"))


def pytest_benchmark_update_machine_info(config: pytest.Config, machine_info: dict[str, object]) -> None:
    machine_info.clear()
    machine_info |= speed_stamp.machine(config.getoption("--speed-quick"))


def pytest_benchmark_update_commit_info(config: pytest.Config, commit_info: dict[str, object]) -> None:
    commit_info.clear()
    commit_info |= config.stash[COMMIT]
