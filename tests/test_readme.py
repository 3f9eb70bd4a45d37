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


def test_the_lines_about_emotions_run(tmp_path, monkeypatch):
    block = next(iter(re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "emotions.md").read_text(), re.DOTALL)))
    monkeypatch.chdir(tmp_path)
    head = "neutral,happiness,surprise,sadness,anger,disgust,fear,contempt,unknown,NF"
    (tmp_path / "fer2013new.csv").write_text(f"Usage,Image name,{head}\nTraining,a.png,1,7,0,0,0,0,0,1,1,0\n")
    names = {"logits": torch.zeros(1, 8)}
    exec(block, names)
    assert names["mixed"].shape == (3, 7) and names["shapes"].values.shape[1] == 52 and names["loss"].isfinite()
    assert names["smile"].at(0.4).shape == (7,)


@pytest.mark.parametrize("target", re.findall(r"\]\(([^)]+)\)", README))
def test_links_lead_somewhere(target):
    assert target.startswith("https://") or (ROOT / target).exists()
