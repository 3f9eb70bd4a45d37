"""compat.gsplat.rasterization: signature, images, meta and gradients against gsplat's torch code; refusals."""

from __future__ import annotations

import inspect
import math

import pytest
import torch
from gsplat_reference import (
    FIELDS,
    SCENES,
    TOLERANCE,
    gsplat_torch,
    random_arguments,
    reference_images,
    reference_projection,
    weighted,
)

import emogs
from emogs.compat.gsplat import RollingShutterType, rasterization

MODES = ("RGB", "D", "ED", "RGB+D", "RGB+ED")


def test_signature_is_gsplats():
    theirs = inspect.signature(pytest.importorskip("gsplat").rasterization).parameters
    ours = inspect.signature(rasterization).parameters
    assert list(ours) == list(theirs)
    for name, parameter in theirs.items():
        default = ours[name].default
        if name == "rolling_shutter":
            assert (default.name, default.value) == (parameter.default.name, parameter.default.value)
        else:
            assert default == parameter.default, name
        assert ours[name].kind == parameter.kind


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("scene", SCENES.values(), ids=SCENES)
def test_images_equal_the_reference(scene, packed):
    arguments = random_arguments(**scene)
    colors, alphas, _ = rasterization(**arguments, packed=packed)
    for ours, theirs in zip((colors, alphas), reference_images(arguments), strict=True):
        assert ours.shape == theirs.shape
        torch.testing.assert_close(ours, theirs, rtol=0, atol=TOLERANCE[arguments["camera_model"]])


@pytest.mark.parametrize("scene", ["camera colours", "batches"])
@pytest.mark.parametrize("mode", MODES)
def test_render_modes(scene, mode):
    """Depth comes last, is not lit by the background, and expected depth is divided by alpha."""
    arguments = random_arguments(**SCENES[scene]) | {"render_mode": mode}
    colors, alphas, _ = rasterization(**arguments)
    expected = reference_images(arguments)
    torch.testing.assert_close(colors, expected[0], rtol=0, atol=1e-8)
    torch.testing.assert_close(alphas, expected[1], rtol=0, atol=1e-9)


def test_lower_degree_uses_the_first_harmonics():
    arguments = random_arguments(sh_degree=3) | {"sh_degree": 1}
    cut = arguments | {"colors": arguments["colors"][:, :4]}
    assert torch.equal(rasterization(**arguments)[0], rasterization(**cut)[0])


@pytest.mark.parametrize("clip", [0.0, 5, 5.9, 6.0])
def test_radius_clip(clip):
    """gsplat compares radii that it has rounded up."""
    arguments = random_arguments(60, size=(64, 48), scale=0.05)
    radii = rasterization(**arguments, packed=False)[2]["radii"]
    left = (radii > clip).any(-1)
    assert left.all() if clip == 0 else 0.2 < left.double().mean() < 0.8
    meta = rasterization(**arguments, radius_clip=clip, packed=False)[2]
    assert torch.equal((meta["radii"] > 0).all(-1), left)


def test_planes_and_blur():
    arguments = random_arguments() | {"near_plane": 2.4, "far_plane": 2.7, "eps2d": 0.9}
    torch.testing.assert_close(rasterization(**arguments)[0], reference_images(arguments)[0], rtol=0, atol=1e-9)


def test_what_has_no_effect_has_none():
    arguments = random_arguments(channels=5)
    plain = rasterization(**arguments)[0]
    for option in ({"tile_size": 8}, {"channel_chunk": 2}, {"segmented": True}, {"packed": False}):
        assert torch.equal(rasterization(**arguments, **option)[0], plain), option


@pytest.mark.parametrize("batch", [(), (2,), (2, 3)])
@pytest.mark.parametrize("packed", [True, False])
def test_meta_has_gsplats_entries(batch, packed):
    """Order, dtypes and shapes as in gsplat 1.5.3's source, which makes them in CUDA only."""
    meta = rasterization(**random_arguments(10, batch=batch, dtype=torch.float32, size=(37, 29)), packed=packed)[2]
    images, pairs = (*batch, 2), len(meta["flatten_ids"])
    lead = meta["means2d"].shape[:-1]
    assert lead == ((len(meta["gaussian_ids"]),) if packed else (*images, 10))
    tensors = {
        "batch_ids": (torch.int64, lead),
        "camera_ids": (torch.int64, lead),
        "gaussian_ids": (torch.int64, lead),
        "radii": (torch.int32, (*lead, 2)),
        "means2d": (torch.float32, (*lead, 2)),
        "depths": (torch.float32, lead),
        "conics": (torch.float32, (*lead, 3)),
        "opacities": (torch.float32, lead),
        "tiles_per_gauss": (torch.int32, lead),
        "isect_ids": (torch.int64, (pairs,)),
        "flatten_ids": (torch.int32, (pairs,)),
        "isect_offsets": (torch.int32, (*images, 2, 3)),
    }
    numbers = {"tile_width": 3, "tile_height": 2, "width": 37, "height": 29, "tile_size": 16}
    numbers |= {"n_batches": math.prod(batch), "n_cameras": 2}
    assert list(meta) == [
        "batch_ids", "camera_ids", "gaussian_ids", "radii", "means2d", "depths", "conics", "opacities", "tile_width",
        "tile_height", "tiles_per_gauss", "isect_ids", "flatten_ids", "isect_offsets", "width", "height", "tile_size",
        "n_batches", "n_cameras",
    ]  # fmt: skip
    for name, (dtype, shape) in tensors.items():
        if name.endswith("_ids") and name not in ("isect_ids", "flatten_ids") and not packed:
            assert meta[name] is None
        else:
            assert (meta[name].dtype, meta[name].shape) == (dtype, shape), name
    assert {name: meta[name] for name in numbers} == numbers


@pytest.mark.parametrize("model", ["pinhole", "ortho", "fisheye"])
@pytest.mark.parametrize("batch", [(), (2,)])
@pytest.mark.parametrize("antialiased", [False, True])
def test_meta_equals_gsplats_projection(batch, model, antialiased):
    arguments = random_arguments(200, batch=batch, spread=0.8, size=(80, 60), model=model, antialiased=antialiased)
    meta = rasterization(**arguments, packed=False)[2]
    visible = (meta["radii"] > 0).all(-1)
    assert 0.2 < visible.double().mean() < 0.98
    projected = reference_projection(arguments)
    for name, theirs in zip(("means2d", "conics", "opacities", "depths"), projected, strict=False):
        torch.testing.assert_close(meta[name][visible], theirs[visible], rtol=0, atol=TOLERANCE[model])
    conics, opacities = projected[1][visible], projected[2][visible]
    variances = torch.linalg.inv(conics[:, [0, 1, 1, 2]].unflatten(-1, (2, 2))).diagonal(dim1=-2, dim2=-1)
    radii = ((2 * (255 * opacities).log()).sqrt()[:, None] * variances.sqrt()).ceil()
    torch.testing.assert_close(meta["radii"][visible].double(), radii, rtol=0, atol=0)


@pytest.mark.parametrize("batch", [(), (2,)])
def test_packed_lists_the_visible(batch):
    arguments = random_arguments(200, batch=batch, spread=0.8, size=(80, 60))
    packed, full = rasterization(**arguments)[2], rasterization(**arguments, packed=False)[2]
    places = (full["radii"] > 0).all(-1).nonzero(as_tuple=True)
    ids = (packed["batch_ids"], packed["camera_ids"], packed["gaussian_ids"])
    assert all(torch.equal(a, b) for a, b in zip(ids[-len(places) :], places, strict=False))
    assert batch or (packed["batch_ids"] == 0).all()
    for name in ("radii", "means2d", "depths", "conics", "opacities", "tiles_per_gauss"):
        assert torch.equal(packed[name], full[name][places]), name
    index = torch.full(full["depths"].shape, -1)
    index[places] = torch.arange(len(places[0]))
    assert torch.equal(packed["flatten_ids"], index.flatten()[full["flatten_ids"]].int())
    for name in ("isect_ids", "isect_offsets"):
        assert torch.equal(packed[name], full[name])


def test_lists_are_a_subset_of_gsplats():
    """The same keys and numbering; gsplat lists every tile of a bounding box."""
    gsplat = gsplat_torch()
    arguments = random_arguments(120, batch=(2,), spread=0.5, size=(100, 90), dtype=torch.float32)
    meta = rasterization(**arguments, packed=False)[2]
    images = (meta["means2d"].flatten(0, 1), meta["radii"].flatten(0, 1), meta["depths"].flatten(0, 1))
    counts, keys, ids = gsplat._isect_tiles(*images, 16, 7, 6)
    ours = set(zip(meta["isect_ids"].tolist(), meta["flatten_ids"].tolist(), strict=True))
    theirs = set(zip(keys.tolist(), ids.tolist(), strict=True))
    assert ours < theirs and len(ours) > 0.6 * len(theirs)
    assert (meta["tiles_per_gauss"].flatten(0, 1) <= counts).all() and meta["tiles_per_gauss"].sum() == len(ours)
    assert (meta["isect_ids"].diff() >= 0).all()
    offsets = gsplat._isect_offset_encode(meta["isect_ids"], 4, 7, 6)
    assert torch.equal(meta["isect_offsets"].flatten(0, 1), offsets)


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("mode", ["RGB", "RGB+D"])
def test_entries_of_meta_retain_gradients(packed, mode):
    """In pixels, equal to autograd through the reference."""
    arguments = random_arguments(background=True) | {"render_mode": mode}
    arguments["means"].requires_grad_()
    names = ("means2d", "conics", "opacities", "depths")
    out = rasterization(**arguments, packed=packed)
    for name in names:
        out[2][name].retain_grad()
    weighted(out[:2]).backward()
    projected = tuple(t.detach().requires_grad_() for t in reference_projection(arguments))
    weighted(reference_images(arguments, projected)).backward()
    meta = rasterization(**arguments, packed=False)[2]
    visible = (meta["radii"] > 0).all(-1)
    for name, theirs in zip(names, projected, strict=False):
        if name == "depths" and mode == "RGB":
            continue
        ours = out[2][name].grad
        torch.testing.assert_close(ours if packed else ours[visible], theirs.grad[visible], rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("packed", [True, False])
def test_absgrad(packed):
    """Sums over pixels of the magnitudes of what each pixel adds to the gradient, by autograd pixel by pixel."""
    arguments = random_arguments(6, size=(9, 7), batch=(2,), background=True) | {"render_mode": "RGB+ED"}
    arguments["means"].requires_grad_()
    *images, meta = rasterization(**arguments, packed=packed, absgrad=True)
    assert not hasattr(meta["means2d"], "absgrad")
    meta["means2d"].retain_grad()
    weighted(images).backward()

    means2d, *others = (t.detach() for t in reference_projection(arguments))
    means2d.requires_grad_()
    images = reference_images(arguments, (means2d, *others))
    generator = torch.Generator().manual_seed(0)  # the weights of `weighted`
    terms = sum((o * torch.randn(o.shape, generator=generator, dtype=o.dtype)).sum(-1) for o in images)
    pixels = [torch.autograd.grad(term, means2d, retain_graph=True)[0] for term in terms.flatten()]
    visible = (rasterization(**arguments, packed=False)[2]["radii"] > 0).all(-1)
    for ours, theirs in (
        (meta["means2d"].absgrad, torch.stack(pixels).abs().sum(0)),
        (meta["means2d"].grad, sum(pixels)),
    ):
        torch.testing.assert_close(ours if packed else ours[visible], theirs[visible], rtol=1e-7, atol=1e-9)


def test_absgrad_needs_gradients():
    meta = rasterization(**random_arguments(), absgrad=True)[2]
    assert not meta["means2d"].requires_grad and not hasattr(meta["means2d"], "absgrad")


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("per_camera", [True, False])
@pytest.mark.parametrize("sh_degree", [None, 2])
def test_gradients_equal_the_references(packed, per_camera, sh_degree):
    results = []
    arguments = random_arguments(12, sh_degree=sh_degree, per_camera=per_camera, background=True, batch=(2,))
    for draw in (lambda a: rasterization(**a, packed=packed)[:2], reference_images):
        leaves = {n: arguments[n].clone().requires_grad_() for n in (*FIELDS, "backgrounds")}
        loss = weighted(draw(arguments | leaves | {"render_mode": "RGB+ED"}))
        results.append(torch.autograd.grad(loss, leaves.values()))
    for name, ours, theirs in zip((*FIELDS, "backgrounds"), *results, strict=True):
        if name == "viewmats":  # the last row of a view matrix is taken for 0 0 0 1
            ours, theirs = ours[..., :3, :], theirs[..., :3, :]
        if name == "Ks":  # gsplat's torch code reads a skew, its kernels and emogs do not
            theirs = theirs * torch.tensor([[1, 0, 1], [0, 1, 1], [0, 0, 0]])
        tolerance = 1e-7 * theirs.abs().max().item()
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=tolerance, msg=lambda m, n=name: f"{n}: {m}")


def test_equals_emogs_rasterize():
    arguments = random_arguments(sh_degree=2, dtype=torch.float32)
    keys = ("means", "quats", "scales", "opacities")
    cloud = emogs.Gaussians(**{k: arguments[k] for k in keys}, sh=arguments["colors"])
    out = emogs.rasterize(cloud, emogs.Cameras(arguments["viewmats"], arguments["Ks"], 37, 29))
    assert torch.equal(rasterization(**arguments)[0], out.colors)


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("count", [0, 3])
def test_nothing_to_see(packed, count):
    """No Gaussians, or all behind the camera: the background, and an empty graph that backward can walk."""
    arguments = random_arguments(count, background=True)
    arguments["means"] = (arguments["means"] + torch.tensor([0, 0, 50.0])).requires_grad_()
    colors, alphas, meta = rasterization(**arguments, packed=packed)
    assert torch.equal(colors, arguments["backgrounds"][:, None, None].expand_as(colors)) and (alphas == 0).all()
    assert len(meta["isect_ids"]) == 0 and (meta["isect_offsets"] == 0).all()
    meta["means2d"].retain_grad()
    colors.sum().backward()
    assert (arguments["means"].grad == 0).all() and (meta["means2d"].grad == 0).all()


def test_without_gradients():
    arguments = random_arguments()
    assert not rasterization(**arguments)[2]["means2d"].requires_grad
    arguments["means"].requires_grad_()
    with torch.no_grad():
        assert not rasterization(**arguments)[0].requires_grad


REFUSED = {
    "sparse_grad": True,
    "distributed": True,
    "with_ut": True,
    "with_eval3d": True,
    "radial_coeffs": torch.zeros(2, 4),
    "tangential_coeffs": torch.zeros(2, 2),
    "thin_prism_coeffs": torch.zeros(2, 4),
    "ftheta_coeffs": object(),
    "rolling_shutter": "ROLLING_TOP_TO_BOTTOM",
    "viewmats_rs": torch.eye(4),
    "camera_model": "ftheta",
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_supported_says_so(name):
    with pytest.raises(NotImplementedError, match=f"rasterization: {name} is not supported by emogs beyond"):
        rasterization(**(random_arguments() | {name: REFUSED[name]}))


def test_shutters_are_known_by_name():
    gsplat = pytest.importorskip("gsplat")
    rasterization(**random_arguments(), rolling_shutter=gsplat.RollingShutterType.GLOBAL)
    rasterization(**random_arguments(), rolling_shutter=RollingShutterType.GLOBAL)
    with pytest.raises(NotImplementedError, match="rolling_shutter"):
        rasterization(**random_arguments(), rolling_shutter=gsplat.RollingShutterType.ROLLING_LEFT_TO_RIGHT)


WRONG = {
    "covars": ({"covars": torch.eye(3).double()}, ValueError, r"covars must be \[N=25, 3, 3\], got \[3, 3\]"),
    "means": ({"means": [0.0]}, TypeError, "means must be a tensor, got list"),
    "quats": ({"quats": torch.zeros(25, 3).double()}, ValueError, r"quats must be \[N=25, 4\], got \[25, 3\]"),
    "scales": ({"scales": torch.zeros(24, 3).double()}, ValueError, r"scales must be \[N=25, 3\], got \[24, 3\]"),
    "opacities": ({"opacities": torch.zeros(25, 1).double()}, ValueError, r"opacities must be \[N=25\]"),
    "dtype": ({"opacities": torch.zeros(25)}, TypeError, "opacities must be float64, got float32"),
    "viewmats": ({"viewmats": torch.eye(4).double()}, ValueError, r"viewmats must be \[C, 4, 4\], got \[4, 4\]"),
    "Ks": ({"Ks": torch.eye(3)[None].double()}, ValueError, r"Ks must be \[C=2, 3, 3\], got \[1, 3, 3\]"),
    "colors": ({"colors": torch.zeros(24, 3).double()}, ValueError, r"colors must be \[N=25, D\], got \[24, 3\]"),
    "camera colors": (
        {"colors": torch.zeros(3, 25, 3).double()},
        ValueError,
        r"colors must be \[C=2, N=25, D\], got \[3, 25, 3\]",
    ),
    "no colors": ({"colors": None}, TypeError, "colors must be Tensor, got NoneType"),
    "harmonics": ({"sh_degree": 0}, ValueError, r"colors must be \[N=25, S, 3\], got \[25, 3\]"),
    "degree": (
        {"colors": torch.zeros(25, 4, 3).double(), "sh_degree": 2},
        ValueError,
        "sh_degree must be an int from 0 to 1, since S=4, got 2",
    ),
    "backgrounds": (
        {"backgrounds": torch.zeros(3).double()},
        ValueError,
        r"backgrounds must be \[C=2, D=3\], got \[3\]",
    ),
    "width": ({"width": 0}, ValueError, "width must be an int from 1"),
    "render_mode": ({"render_mode": "RGBD"}, ValueError, "render_mode must be 'RGB' or 'D' .* got 'RGBD'"),
    "rasterize_mode": ({"rasterize_mode": "soft"}, ValueError, "rasterize_mode must be 'classic' or 'antialiased'"),
    "camera_model": ({"camera_model": "lens"}, ValueError, "camera_model must be 'pinhole' or 'ortho' or 'fisheye'"),
    "tile_size": ({"tile_size": 0}, ValueError, "tile_size must be an int above 0, got 0"),
    "channel_chunk": ({"channel_chunk": 1.5}, ValueError, "channel_chunk must be an int above 0, got 1.5"),
    "near_plane": ({"near_plane": "1"}, TypeError, "near_plane must be a number, got '1'"),
    "far_plane": ({"far_plane": 0.0}, ValueError, "far_plane must be finite and above near, got 0.0"),
    "radius_clip": ({"radius_clip": -1.0}, ValueError, "radius_clip must be at least 0, got -1"),
    "radius_clip type": ({"radius_clip": None}, TypeError, "radius_clip must be a number, got None"),
    "eps2d": ({"eps2d": -1.0}, ValueError, "eps2d must be at least 0, got -1.0"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_arguments_are_named(name):
    change, error, message = WRONG[name]
    with pytest.raises(error, match="rasterization: " + message):
        rasterization(**(random_arguments() | change))
