"""Moving and detaching the records of tensors that the rasterizer takes."""

from __future__ import annotations

import pytest
import torch

import emogs


def _cloud() -> emogs.Gaussians:
    return emogs.Gaussians(
        torch.zeros(5, 3), torch.ones(5, 4), torch.ones(5, 3), torch.ones(5), colors=torch.rand(5, 3)
    )


def test_dtypes_of_floats_change_and_those_of_indices_stay():
    rig = emogs.Rig(torch.zeros(5, dtype=torch.int32), torch.rand(2, 8)).to(torch.float64)
    assert rig.frames.dtype == torch.float64
    assert rig.binding.dtype == torch.int32
    assert _cloud().to(dtype=torch.float64).colors.dtype == torch.float64
    assert emogs.EmotionBasis(means=torch.zeros(1, 5, 3)).to("cpu", torch.float16).means.dtype == torch.float16


def test_devices_change_together():
    moved = _cloud().to("meta")
    assert {moved.means.device.type, moved.opacities.device.type} == {"meta"}
    assert moved.sh is None


def test_plain_fields_stay_and_nothing_is_copied_without_need():
    camera = emogs.Cameras(emogs.look_at((0, 0, 1), (0, 0, 0))[None], emogs.pinhole(8, 6, 40)[None], 8, 6, "ortho")
    same = camera.to("cpu")
    assert (same.width, same.height, same.model) == (8, 6, "ortho")
    assert same.Ks is camera.Ks


def test_detached_records_carry_no_gradients():
    cloud = emogs.Gaussians(
        *[t.requires_grad_() for t in (torch.zeros(5, 3), torch.ones(5, 4), torch.ones(5, 3), torch.ones(5))],
        colors=torch.rand(5, 3),
    )
    assert not cloud.detach().means.requires_grad
    assert cloud.detach().means.data_ptr() == cloud.means.data_ptr()


def test_wrong_types_are_named():
    with pytest.raises(TypeError, match=r"Gaussians.to: dtype must be floating, got torch.int32"):
        _cloud().to(dtype=torch.int32)
    with pytest.raises(TypeError, match=r"Gaussians.to: got two dtypes, torch.float32 and torch.float64"):
        _cloud().to(torch.float32, torch.float64)
