"""The emulated module in the place of the native one: who computes when, and what a failed launch says."""

from __future__ import annotations

import pytest
import torch
from emulation import emulated, emulated_module, on_cpu

import emogs
from emogs.ops import native, renorm

X, ZERO = torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(0)), torch.zeros(2, 8)


def test_emulated_kernels_take_the_place_of_the_cpus_and_give_it_back():
    assert renorm._C is native._C
    with emulated():
        assert renorm._C is emulated_module()
        y = emogs.emotion_norm(X, ZERO, ZERO)
        with on_cpu():
            assert renorm._C is native._C and renorm.launch(X)["device"] == -1
            torch.testing.assert_close(emogs.emotion_norm(X, ZERO, ZERO), y)
        assert renorm._C is emulated_module() and renorm.launch(X)["device"] == 0
    assert renorm._C is native._C and renorm.launch(X)["device"] == -1


def test_the_emulated_module_has_cuda_kernels_only():
    module = emulated_module()
    assert module.cuda_architectures == "emulated"
    with pytest.raises(ValueError, match="emotion_norm_forward: no CPU kernel for float32"):
        module.emotion_norm_forward(**native.launch(X))
    with pytest.raises(ValueError, match="emotion_norm_forward: no CUDA kernel for float64"), emulated():
        emogs.emotion_norm(X.double(), ZERO, ZERO)


def test_uninitialised_tensors_show_in_emulated_tests():
    with emulated():
        assert torch.empty(1000).isnan().all() and X.new_empty(7).isnan().all()
    assert not torch.are_deterministic_algorithms_enabled()


def test_bad_settings_are_errors(monkeypatch):
    with emulated("backward"), pytest.raises(RuntimeError, match=r"ORDER: must be 'forward' or 'random:SEED', got 'b"):
        emogs.emotion_norm(X, ZERO, ZERO)
    with emulated("random:x"), pytest.raises(RuntimeError, match="ORDER: a number from 1 on was expected, got 'x'"):
        emogs.emotion_norm(X, ZERO, ZERO)
    monkeypatch.setenv("EMOGS_EMULATOR_THREADS", "0")
    with emulated(), pytest.raises(RuntimeError, match="THREADS: a number from 1 on was expected, got '0'"):
        emogs.emotion_norm(X, ZERO, ZERO)
