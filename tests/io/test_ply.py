"""Splat files: the layout that viewers expect, round trips, order, and typed errors for anything else."""

import math
import random

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.lib import recfunctions
from plyfile import PlyData, PlyElement

from emogs.gaussians import Gaussians
from emogs.io.files import FormatError
from emogs.io.ply import OPACITY_MARGIN, load_ply, save_ply

RELATIVE = 1e-5  # a logarithm and its exponential in float32, for values up to about e^10


def cloud(count=7, degree=None, seed=0):
    """Unremarkable Gaussians; colours without a view dependence if `degree` is None."""
    generator = torch.Generator().manual_seed(seed)
    uniform = lambda *shape: torch.rand(*shape, generator=generator)  # noqa: E731
    look = {"colors": uniform(count, 3)} if degree is None else {"sh": uniform(count, (degree + 1) ** 2, 3) - 0.5}
    return Gaussians(
        means=uniform(count, 3) - 0.5,
        quats=uniform(count, 4) - 0.5,
        scales=uniform(count, 3) * 0.01 + 1e-4,
        opacities=uniform(count) * 0.98 + 0.01,
        **look,
    )


@given(st.integers(0, 20), st.sampled_from([None, 0, 1, 2, 3, 4]), st.integers(0, 99))
def test_round_trip(tmp_path_factory, count, degree, seed):
    path = tmp_path_factory.mktemp("ply") / "cloud.ply"
    before = cloud(count, degree, seed)
    save_ply(path, before)
    after = load_ply(path)
    assert torch.equal(after.means, before.means)
    assert torch.equal(after.quats, before.quats)
    torch.testing.assert_close(after.scales, before.scales, rtol=RELATIVE, atol=0)
    torch.testing.assert_close(after.opacities, before.opacities, rtol=RELATIVE, atol=0)
    if degree:
        assert torch.equal(after.sh, before.sh)
    else:
        colors = before.colors if degree is None else 0.5 + 0.28209479177387814 * before.sh[:, 0]
        torch.testing.assert_close(after.colors, colors, rtol=RELATIVE, atol=RELATIVE)


def test_layout_is_that_of_the_reference_code(tmp_path):
    """Names, order and encodings, read with plyfile alone."""
    gaussians = cloud(3, degree=1)
    save_ply(tmp_path / "cloud.ply", gaussians)
    file = PlyData.read(str(tmp_path / "cloud.ply"))
    vertex = file["vertex"].data
    assert file.byte_order == "<"
    assert not file.text
    assert vertex.dtype.names == (
        *("x", "y", "z", "nx", "ny", "nz"),
        *(f"f_dc_{i}" for i in range(3)),
        *(f"f_rest_{i}" for i in range(9)),
        *("opacity", "scale_0", "scale_1", "scale_2", "rot_0", "rot_1", "rot_2", "rot_3"),
    )
    assert all(vertex.dtype[name] == np.dtype("<f4") for name in vertex.dtype.names)
    assert vertex["scale_1"][2] == pytest.approx(math.log(gaussians.scales[2, 1]), rel=RELATIVE)
    assert vertex["opacity"][0] == pytest.approx(
        math.log(gaussians.opacities[0] / (1 - gaussians.opacities[0])), rel=1e-3
    )
    assert vertex["rot_0"][1] == gaussians.quats[1, 0]
    assert vertex["f_rest_1"][0] == gaussians.sh[0, 2, 0]  # second harmonic of red: channels are outermost
    assert vertex["f_rest_3"][0] == gaussians.sh[0, 1, 1]
    assert "ynthetic" in file.comments[0]


def test_grey_is_a_zero_coefficient(tmp_path):
    grey = cloud(1)
    grey.colors.fill_(0.5)
    save_ply(tmp_path / "grey.ply", grey)
    assert PlyData.read(str(tmp_path / "grey.ply"))["vertex"]["f_dc_0"][0] == 0


def test_extremes_stay_finite(tmp_path):
    extreme = cloud(2)
    extreme.scales[0] = 0
    extreme.opacities[:] = torch.tensor([0.0, 1.0])
    save_ply(tmp_path / "extreme.ply", extreme)
    torch.testing.assert_close(
        load_ply(tmp_path / "extreme.ply").opacities, extreme.opacities, atol=2 * OPACITY_MARGIN, rtol=0
    )


def test_other_byte_orders_and_text_are_read(tmp_path):
    save_ply(tmp_path / "cloud.ply", cloud())
    file = PlyData.read(str(tmp_path / "cloud.ply"))
    for name, settings in {"big": {"byte_order": ">"}, "text": {"text": True}}.items():
        PlyData([PlyElement.describe(np.array(file["vertex"].data), "vertex")], **settings).write(
            str(tmp_path / f"{name}.ply")
        )
        torch.testing.assert_close(load_ply(tmp_path / f"{name}.ply").means, cloud().means)


def test_not_finite_is_refused_and_leaves_the_old_file(tmp_path):
    path = tmp_path / "cloud.ply"
    save_ply(path, cloud())
    before = path.read_bytes()
    broken = cloud()
    broken.means[3, 1] = float("nan")
    with pytest.raises(ValueError, match="y holds a value that is not finite"):
        save_ply(path, broken)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["cloud.ply"]


def rewritten(path, change):
    save_ply(path, cloud())
    vertex = np.array(PlyData.read(str(path))["vertex"].data)
    PlyData([PlyElement.describe(change(vertex), "vertex")], byte_order="<").write(str(path))


def without(name):
    return lambda vertex: recfunctions.drop_fields(vertex, name)


def with_nan(vertex):
    vertex["opacity"][2] = np.nan
    return vertex


def with_one_harmonic(vertex):
    return recfunctions.append_fields(vertex, "f_rest_0", vertex["x"], usemask=False)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without("rot_2"), "rot_2: no such property"),
        (without("f_dc_0"), "f_dc_0: no such property"),
        (with_nan, "opacity: holds a value that is not finite"),
        (with_one_harmonic, "f_rest: 1 of them fit no degree"),
    ],
)
def test_wrong_fields_are_named(tmp_path, change, message):
    path = tmp_path / "broken.ply"
    rewritten(path, change)
    with pytest.raises(FormatError, match=message) as error:
        load_ply(path)
    assert error.value.path == path


@pytest.mark.parametrize(
    "content", [b"", b"ply", b"\x89PNG\r\n", b"ply\nformat ascii 1.0\nelement face 0\nend_header\n"]
)
def test_other_files_are_refused(tmp_path, content):
    path = tmp_path / "other.ply"
    path.write_bytes(content)
    with pytest.raises(FormatError, match=r"other\.ply"):
        load_ply(path)


def test_a_missing_file_is_a_format_error(tmp_path):
    with pytest.raises(FormatError, match="No such file"):
        load_ply(tmp_path / "none.ply")


def test_mutated_files_give_gaussians_or_a_format_error(tmp_path):
    path = tmp_path / "mutated.ply"
    save_ply(path, cloud(3))
    original, chance = path.read_bytes(), random.Random(0)
    header = original.index(b"end_header")
    for _ in range(500):
        content = bytearray(original)
        for _ in range(chance.randint(1, 4)):
            content[chance.randrange(chance.choice([header, len(content)]))] = chance.randrange(256)
        path.write_bytes(content[: chance.choice([len(content), chance.randrange(len(content))])])
        try:
            load_ply(path)
        except FormatError:
            continue
