"""The shell of hair and shoulders: it covers what the mesh does not, closes behind, and stays out of the head."""

from functools import cache

import numpy as np
import pytest
import torch

from emogs import Cameras, Gaussians, rasterize
from emogs.head import builtin_head
from emogs.head.uv import texel_map
from emogs.photo import Look, look
from emogs.photo.shell import CROP_FADE, MOST

from .person import SIZE, Person, head_view, overlap, photograph

RENDER = 256


@cache
def seen() -> tuple[Person, Look]:
    person = photograph()
    return person, look(person.crop, person.view, texel_map(builtin_head()))


def render_alpha(person: Person, found: Look, turn: float = 0.0) -> np.ndarray:
    """[RENDER, RENDER] alpha of the shell, the head turned by some degrees about its middle."""
    angle = np.radians(turn)
    spin = torch.eye(4)
    spin[:3, :3] = torch.tensor(
        [[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]], dtype=torch.float32
    )
    K = person.view.K * (RENDER / SIZE)
    K[2, 2] = 1
    shell = found.shell
    gaussians = Gaussians(shell.means, shell.quats, shell.scales, shell.opacities, shell.colors)
    camera = Cameras((person.view.viewmat @ spin)[None], K[None], RENDER, RENDER)
    return rasterize(gaussians, camera).alphas.reshape(RENDER, RENDER).numpy()


def test_shell_is_well_formed() -> None:
    shell = seen()[1].shell
    assert 5000 < len(shell.means) <= MOST
    assert all(torch.isfinite(field).all() for field in (shell.means, shell.quats, shell.scales, shell.colors))
    torch.testing.assert_close(shell.quats.norm(dim=1), torch.ones(len(shell.quats)))
    assert (shell.scales > 0).all() and (shell.scales < 0.02).all()
    assert (shell.opacities > 0).all() and (shell.opacities < 1).all()
    assert shell.binding.dtype == torch.int64 and (shell.binding < len(builtin_head().faces)).all()


def test_head_and_shell_cover_the_silhouette() -> None:
    person, found = seen()
    mesh = person.view.front.hit
    together = np.maximum(render_alpha(person, found), mesh)
    edge = int(2 * CROP_FADE * RENDER)
    wanted = found.matte.numpy().reshape(RENDER, 2, RENDER, 2).mean((1, 3))
    assert overlap(together[:-edge], wanted[:-edge]) > 0.95
    beside = (wanted > 0.99) & ~mesh
    assert np.percentile(together[:-edge][beside[:-edge]], 5) > 0.9  # no holes


@pytest.mark.parametrize("turn", [-30.0, 30.0])
def test_hair_has_no_holes_when_the_head_turns(turn: float) -> None:
    """Above the brows head and hair together are as tall and wide as before, and nothing shines through."""
    person, found = seen()
    alpha = render_alpha(person, found, turn)[: RENDER // 3]
    solid = alpha > 0.9
    rows = np.nonzero(solid.any(1))[0]
    filled = [solid[row, np.nonzero(solid[row])[0][0] : np.nonzero(solid[row])[0][-1] + 1].mean() for row in rows]
    assert len(rows) > 20
    assert np.mean(filled) > 0.98


def test_shell_is_closed_behind() -> None:
    """From behind, the hair covers the back of the head."""
    person, found = seen()
    front = np.maximum(render_alpha(person, found), person.view.front.hit)[: RENDER // 3]
    behind = render_alpha(person, found, 180.0)[: RENDER // 3, ::-1]
    assert overlap(behind > 0.5, front > 0.5) > 0.85  # perspective makes the far side smaller


def test_shell_stays_out_of_the_head() -> None:
    person, found = seen()
    view = person.view
    point = view.to_camera(found.shell.means.numpy())
    cell = (view.project(point) * (256 / view.size)).astype(int).clip(0, 255)
    front, back = view.front.depth[cell[:, 1], cell[:, 0]], view.back.depth[cell[:, 1], cell[:, 0]]
    inside = (point[:, 2] > front + 0.004) & (point[:, 2] < back - 0.004)
    assert inside.mean() < 0.01


def test_shell_hangs_on_still_triangles() -> None:
    head, shell = builtin_head(), seen()[1].shell
    everything = torch.eye(len(head.expression_names))
    moved = (head.deform(None, everything) - head.vertices).norm(dim=-1).amax(0)
    assert moved[head.faces[shell.binding]].max() < 1e-4


def test_hair_and_body_are_told_apart() -> None:
    shell, chin = seen()[1].shell, builtin_head().vertices[builtin_head().landmarks[8], 1]
    top, low = shell.means[:, 1] > chin + 0.1, shell.means[:, 1] < chin - 0.06
    brown, blue = shell.colors[top].mean(0), shell.colors[low].mean(0)
    assert brown[0] > brown[2] and blue[2] > blue[0]


def test_a_bald_bust_needs_no_hair() -> None:
    person = photograph(bald=True)
    shell = look(person.crop, person.view).shell
    brow = builtin_head().vertices[builtin_head().landmarks[17:27], 1].mean()
    assert (shell.means[:, 1] < brow).float().mean() > 0.99


@pytest.mark.parametrize("level", [0.0, 1.0])
def test_a_crop_of_one_colour_gives_a_finite_shell(level: float) -> None:
    shell = look(torch.full((SIZE, SIZE, 3), level), head_view()).shell
    assert len(shell.means) == len(shell.binding) <= MOST
    assert torch.isfinite(shell.means).all()
