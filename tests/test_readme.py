"""The README's Python runs as it is written, and what it points to exists."""

import re
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def test_the_rasterizer_lines_run():
    count, components = 20, 2
    names = {
        "means": torch.randn(count, 3),
        "quats": torch.randn(count, 4),
        "scales": torch.rand(count, 3) * 0.1,
        "opacities": torch.rand(count),
        "colors": torch.rand(count, 3),
        "delta_means": torch.randn(components, count, 3) * 0.1,
        "delta_colors": torch.randn(components, count, 3) * 0.1,
        "weights": torch.rand(4, components),
    }
    exec(next(block for block in BLOCKS if "Cameras" in block), names)
    assert names["images"].shape == (4, 1, 512, 512, 3)


def test_the_photo_lines_run(tmp_path, monkeypatch):
    imageio = pytest.importorskip("imageio.v3")
    data = pytest.importorskip("skimage.data")
    imageio.imwrite(tmp_path / "me.jpg", data.astronaut())
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    exec(next(block for block in BLOCKS if "me.jpg" in block), names)
    assert names["picture"].colors.shape == (1, 1, 512, 512, 3)


def anchors(page: str) -> set[str]:
    """What links may name behind a #: headings in small letters, without punctuation, joined by hyphens."""
    headings = re.findall(r"^#+ (.*)$", (ROOT / page).read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("target", re.findall(r"\]\(([^)]+)\)", README))
def test_links_lead_somewhere(target):
    page, _, anchor = target.partition("#")
    assert target.startswith("https://") or (ROOT / page).exists()
    assert not anchor or anchor in anchors(page)
