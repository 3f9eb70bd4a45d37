"""Density control on a mesh: bindings follow, pictures stay where nothing was asked for, surfaces do not tear."""

from __future__ import annotations

import pytest
import torch

from emogs import EmotionBasis, Gaussians, Rig, cameras, rasterize
from emogs.model.density import SHRINK, clone, densify, prune, split
from emogs.ops import rig_frames


def cloud(count: int = 40, seed: int = 0) -> tuple[Gaussians, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    draw = lambda *shape: torch.randn(*shape, generator=generator)  # noqa: E731
    gaussians = Gaussians(
        0.01 * draw(count, 3), draw(count, 4), 0.02 * draw(count, 3).exp(), draw(count).sigmoid(), colors=draw(count, 3)
    )
    return gaussians, torch.randint(8, (count,), generator=generator, dtype=torch.int32)


def test_clones_lie_on_their_parents_and_together_are_as_opaque():
    gaussians, binding = cloud()
    chosen = torch.arange(40) % 3 == 0
    made = clone(gaussians, binding, chosen)
    assert made.gaussians.count == 54 and made.fresh.sum() == 14
    assert torch.equal(made.binding, binding[made.source])
    for name in ("means", "quats", "scales", "colors"):
        assert torch.equal(getattr(made.gaussians, name), getattr(gaussians, name)[made.source]), name
    pair = made.gaussians.opacities[:40][chosen]
    torch.testing.assert_close(1 - (1 - pair) ** 2, gaussians.opacities[chosen])
    assert torch.equal(made.gaussians.opacities[:40][~chosen], gaussians.opacities[~chosen])


def test_halves_lie_within_their_parent_on_its_triangle():
    gaussians, binding = cloud()
    chosen = torch.arange(40) % 2 == 0
    made = split(gaussians, binding, chosen, torch.Generator().manual_seed(1))
    assert made.gaussians.count == 60 and made.fresh.sum() == 40
    assert torch.equal(made.binding, binding[made.source])
    assert torch.equal(made.source[~made.fresh], (~chosen).nonzero()[:, 0])
    torch.testing.assert_close(made.gaussians.scales[made.fresh] * SHRINK, gaussians.scales[made.source[made.fresh]])
    offset = made.gaussians.means - gaussians.means[made.source]
    reach = offset.norm(dim=1) / gaussians.scales[made.source].amax(1)
    assert not offset[~made.fresh].any() and 0 < reach[made.fresh].amax() < 5


def test_halves_are_drawn_from_the_parents_own_distribution():
    """The covariance of many splits' offsets is the parent's."""
    gaussians, _ = cloud(1)
    many = Gaussians(
        *(
            getattr(gaussians, n).repeat(20000, *[1] * (getattr(gaussians, n).ndim - 1))
            for n in ("means", "quats", "scales", "opacities")
        ),
        colors=torch.zeros(20000, 3),
    )
    made = split(
        many,
        torch.zeros(20000, dtype=torch.int32),
        torch.ones(20000, dtype=torch.bool),
        torch.Generator().manual_seed(2),
    )
    offset = made.gaussians.means - gaussians.means
    from emogs.model.posing import rotate

    axes = rotate(gaussians.quats.expand(3, 4), torch.diag(gaussians.scales[0])).T
    wanted = axes @ axes.T
    assert (offset.T.cov() - wanted).norm() < 0.05 * wanted.norm()


def test_a_triangle_keeps_its_most_opaque_gaussian():
    gaussians, binding = cloud()
    made = prune(gaussians, binding, torch.ones(40, dtype=torch.bool))
    assert torch.equal(made.binding.sort().values, binding.unique())
    for triangle, row in zip(made.binding.tolist(), made.source.tolist(), strict=True):
        assert gaussians.opacities[row] == gaussians.opacities[binding == triangle].amax()
    some = torch.arange(40) < 20
    made = prune(gaussians, binding, some)
    assert set(made.binding.tolist()) == set(binding.tolist())
    assert set((~some).nonzero()[:, 0].tolist()) <= set(made.source.tolist())


def test_of_equals_one_stays():
    gaussians = Gaussians(
        torch.zeros(3, 3), torch.ones(3, 4), torch.ones(3, 3), torch.zeros(3), colors=torch.zeros(3, 1)
    )
    made = prune(gaussians, torch.tensor([2, 2, 2], dtype=torch.int32), torch.ones(3, dtype=torch.bool))
    assert made.source.tolist() == [0]


def test_a_step_doubles_what_pulls_and_drops_what_is_faint():
    gaussians, binding = cloud()
    opacities = torch.where(torch.arange(40) % 10 == 9, 1e-3, gaussians.opacities)
    gaussians = Gaussians(gaussians.means, gaussians.quats, gaussians.scales, opacities, colors=gaussians.colors)
    gradients = (torch.arange(40) < 10).float()
    large = float(gaussians.scales[:10].amax(1).median())
    made = densify(
        gaussians, binding, gradients, threshold=0.5, large=large, generator=torch.Generator().manual_seed(0)
    )
    count = torch.bincount(made.source, minlength=40)
    assert (count[:9] == 2).all() and (count[10:39][opacities[10:39] > 0.01] == 1).all()
    assert torch.equal(made.binding, binding[made.source])
    basis = EmotionBasis(means=torch.randn(3, 40, 3), logit_opacities=torch.randn(3, 40))
    followed = made.follow(basis)
    assert torch.equal(followed.means, basis.means[:, made.source]) and followed.count == made.gaussians.count
    assert made.fresh.sum() >= 9 and not made.fresh[made.source > 10].any()


def test_nothing_asked_nothing_changed():
    gaussians, binding = cloud()
    made = densify(gaussians, binding, torch.zeros(40), threshold=1.0, large=1.0, faint=0.0)
    assert torch.equal(made.source, torch.arange(40)) and not made.fresh.any()
    assert torch.equal(made.gaussians.means, gaussians.means)
    empty = densify(*cloud(0), torch.zeros(0), threshold=1.0, large=1.0)
    assert empty.gaussians.count == 0


def test_it_renders_and_moves_with_its_mesh():
    """After a step, a turned mesh shows the turned picture: every new Gaussian hangs on its triangle."""
    rest = torch.randn(10, 3, generator=torch.Generator().manual_seed(5)) * 0.2
    faces = torch.stack([torch.arange(8), torch.arange(8) + 1, torch.arange(8) + 2], 1)
    gaussians, binding = cloud()
    made = densify(
        gaussians, binding, torch.ones(40), threshold=0.5, large=0.03, generator=torch.Generator().manual_seed(0)
    )
    half = torch.tensor([[-1.0, 0, 0], [0, 1, 0], [0, 0, -1]])  # half a turn about y
    views = [torch.eye(4), torch.eye(4)]
    for view in views:
        view[2, 3] = 2.0
    views[1][:3, :3] = half
    shown = []
    for vertices, view in ((rest, views[0]), (rest @ half.T, views[1])):
        camera = cameras.Cameras(view[None], torch.tensor([[[60.0, 0, 16], [0, 60, 16], [0, 0, 1]]]), 32, 32)
        rig = Rig(made.binding, rig_frames(vertices[None], faces, rest))
        shown.append(rasterize(made.gaussians, camera, rig=rig).colors)
    torch.testing.assert_close(shown[0], shown[1], atol=1e-3, rtol=0)
    assert shown[0].abs().amax() > 0.1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"binding": torch.zeros(3, dtype=torch.int32)}, r"binding: expected \[N=40\], got \[3\]"),
        ({"gradients": torch.zeros(41)}, r"one number per Gaussian: expected \[N=40\], got \[41\]"),
    ],
)
def test_sizes_are_checked(change, message):
    gaussians, binding = cloud()
    arguments = {"binding": binding, "gradients": torch.zeros(40)} | change
    with pytest.raises(ValueError, match=message):
        densify(gaussians, **arguments, threshold=1.0, large=1.0)
    batch = Gaussians(*(getattr(gaussians, n)[None] for n in ("means", "quats", "scales", "opacities", "colors")))
    with pytest.raises(ValueError, match="gaussians: expected no batch"):
        prune(batch, binding, torch.zeros(40, dtype=torch.bool))
