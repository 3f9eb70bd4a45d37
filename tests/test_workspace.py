"""RasterWorkspace: a fixed room for pairs of splat and tile."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from raster_scenes import random_scene

import emogs
from emogs import CapacityError, RasterWorkspace


def render(scene, workspace=None):
    return emogs.rasterize(scene.gaussians, scene.cameras, **scene.all, workspace=workspace)


@pytest.mark.parametrize(
    ("capacity", "message"),
    [
        (-1, r"capacity must be from 0 to 2\^31 - 1, got -1"),
        (1 << 31, r"capacity must be from 0 to 2\^31 - 1, got 2147483648"),
        (10.0, "capacity must be an int, got float"),
        (True, "capacity must be an int, got bool"),
    ],
)
def test_refused_capacities(capacity, message):
    with pytest.raises((TypeError, ValueError), match=message):
        RasterWorkspace(capacity)


def test_enough_room_changes_nothing():
    scene = random_scene(30, size=(37, 29))
    exact = render(scene)
    needed = len(exact.info.tiles.ids)
    workspace = RasterWorkspace(needed)
    assert workspace.needed == 0
    workspace.check()
    roomy = render(scene, workspace)
    assert torch.equal(roomy.colors, exact.colors) and workspace.needed == needed > 0
    render(random_scene(3, size=(37, 29)), workspace)
    assert workspace.needed == needed, "the most so far"
    workspace.check()


def test_the_cpu_raises_at_once():
    scene = random_scene(30, size=(37, 29))
    needed = len(render(scene).info.tiles.ids)
    for capacity in (0, needed - 1):
        with pytest.raises(
            CapacityError, match=rf"room for {capacity}; use RasterWorkspace\({needed}\) or larger"
        ) as e:
            render(scene, RasterWorkspace(capacity))
        assert (e.value.capacity, e.value.needed) == (capacity, needed)
        for same in (copy.copy(e.value), pickle.loads(pickle.dumps(e.value))):
            assert str(same) == str(e.value) and same.needed == needed


def test_counts_of_a_device_are_checked_when_asked():
    """What a call on CUDA leaves behind; here the numbers are given."""
    workspace = RasterWorkspace(10)
    for needed in (3, 12, 7):
        workspace.record(torch.tensor([needed]))
    assert workspace.needed == 12
    with pytest.raises(CapacityError, match=r"the splats meet 12 tiles, but there is room for 10"):
        workspace.check()
    workspace.record(torch.tensor([2**32 - 1]))
    with pytest.raises(CapacityError, match=r"more than 2\^31 tiles.*render fewer images at a time"):
        workspace.check()
    with pytest.raises(ValueError, match="used on cpu, and now on meta"):
        workspace.record(torch.tensor([1], device="meta"))


def test_not_a_workspace():
    scene = random_scene(3)
    with pytest.raises(TypeError, match="rasterize: workspace must be RasterWorkspace, got int"):
        render(scene, 100)


def test_compiles():
    scene = random_scene(10, dtype=torch.float32)
    workspace = RasterWorkspace(1000)

    @torch.compile(fullgraph=True, backend="aot_eager")
    def image(gaussians):
        return emogs.rasterize(gaussians, scene.cameras, workspace=workspace).colors

    assert torch.equal(image(scene.gaussians), emogs.rasterize(scene.gaussians, scene.cameras).colors)
    assert workspace.needed > 0
