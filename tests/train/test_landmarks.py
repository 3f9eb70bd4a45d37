"""The recipe in miniature: it renders, trains, stops, continues, and writes weights that load."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from emogs.head import builtin_head, load_template
from emogs.photo.landmarks import MIRRORED, LandmarkNet
from emogs.train import landmarks as recipe
from emogs.train import templates
from emogs.train.landmark_crops import augmented
from emogs.train.templates import pictures_of


@pytest.fixture
def config(tmp_path, monkeypatch):
    monkeypatch.setattr(recipe.os, "nice", lambda _: None)  # the other tests keep their priority
    monkeypatch.setattr(recipe, "_SHARD", 4)
    monkeypatch.setattr(recipe, "ProcessPoolExecutor", _SameProcess)
    threads = torch.get_num_threads()
    yield recipe.LandmarkTraining(
        work=tmp_path, out=tmp_path / "net.safetensors", count=12, epochs=2, batch=4, bfloat16=False
    )
    torch.set_num_threads(threads)


class _SameProcess(ThreadPoolExecutor):
    """Stands for a process pool, since a patched shard size does not reach other processes."""

    def __init__(self, _workers: int):
        super().__init__(1)


def test_a_small_run_from_start_to_weights(config):
    recipe.main(config)
    net = LandmarkNet()
    net.load_state_dict(load_file(config.out))
    log = json.loads(config.out.with_suffix(".json").read_text())
    assert len(log["history"]) == 2 and log["held_out_error"]["all"] > 0
    assert str(config.work) not in json.dumps(log)  # a shipped log names no machine's folders
    assert log["credit"] == "trained on renders of builtin" and log["config"]["template"] == ["builtin"]


def test_templates_share_the_pictures(config, ict_folder):
    both = replace(config, template=("builtin", str(ict_folder)), count=16, epochs=1)
    recipe.main(both)
    log = json.loads(config.out.with_suffix(".json").read_text())
    assert "ICT-FaceKit" in log["credit"] and "MIT" in log["credit"] and "builtin" in log["credit"]
    assert str(ict_folder) not in json.dumps(log) and log["config"]["template"] == ["builtin", "ict"]
    shards = recipe.shards_of(both, [builtin_head(), load_template(ict_folder)])
    assert [len(files) for files in shards] == [2, 2]
    assert all(file.exists() for files in shards for file in files)
    assert not np.array_equal(recipe.load(shards[1][:1])[0], recipe.load(shards[0][:1])[0])


def test_a_run_on_other_pictures_does_not_go_on_from_a_finished_one(config, ict_folder):
    recipe.main(replace(config, epochs=1))
    first = load_file(config.out)
    recipe.main(replace(config, epochs=1, template=(str(ict_folder),)))
    assert not all(torch.equal(value, first[name]) for name, value in load_file(config.out).items())


def test_pictures_of_another_head_or_renderer_are_not_taken(tmp_path, monkeypatch):
    head = builtin_head()
    folders = {
        pictures_of(tmp_path, head),
        pictures_of(tmp_path, replace(head, albedo=head.albedo + 0.1)),
        pictures_of(tmp_path, replace(head, rotations=head.rotations[:1])),
        pictures_of(tmp_path, replace(head, skeleton=None)),
    }
    assert len(folders) == 4 and all(folder.name.startswith("builtin-") for folder in folders)
    assert pictures_of(tmp_path, head) in folders
    last_bits = replace(head, expression=head.expression + 1e-15 * torch.randn(head.expression.shape))
    assert pictures_of(tmp_path, last_bits) in folders
    monkeypatch.setattr(templates, "_renderer", lambda: b"another")
    assert pictures_of(tmp_path, head) not in folders


def test_pictures_of_another_seed_are_not_taken(config):
    one, other = (recipe.shards_of(replace(config, seed=seed), [builtin_head()])[0] for seed in (0, 1))
    assert not set(one) & set(other)


def test_wrong_settings_are_named(config):
    with pytest.raises(ValueError, match="count: expected at least 8"):
        recipe.main(replace(config, count=7))
    with pytest.raises(ValueError, match="template: expected heads of different names"):
        recipe.main(replace(config, template=("builtin", "builtin")))
    with pytest.raises(ValueError, match="no such file"):
        recipe.main(replace(config, template=("nowhere",)))


def test_a_stopped_run_continues(config, monkeypatch):
    shards = recipe.shards_of(config, [builtin_head()])
    recipe.render(config, shards)
    faces, held = recipe.load(shards[0][:2]), recipe.load(shards[0][2:])
    whole = recipe.train(config, faces, held, "run")[0].state_dict()
    for state in config.work.glob("training-*"):
        state.unlink()

    judge, calls = recipe.held_out_error, []

    def interrupted(*arguments):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return judge(*arguments)

    monkeypatch.setattr(recipe, "held_out_error", interrupted)
    with pytest.raises(KeyboardInterrupt):
        recipe.train(config, faces, held, "run")
    continued = recipe.train(config, faces, held, "run")[0].state_dict()
    for name, value in whole.items():
        assert torch.allclose(continued[name].float(), value.float(), atol=1e-4), name


def test_augmentation_keeps_labels_on_the_face():
    """A picture that is black but for white dots at the landmarks still has bright pixels where the labels point."""
    rng = np.random.default_rng(0)
    points = np.stack([40 + 60 * rng.random(68), 40 + 60 * rng.random(68)], 1).astype(np.float32)
    image = np.zeros((144, 144, 3), np.uint8)
    for x, y in points:
        image[int(y) - 1 : int(y) + 2, int(x) - 1 : int(x) + 2] = 255
    images, targets = np.stack([image] * 64), np.stack([points] * 64)
    crops, labels = augmented(images, targets, rng)
    assert crops.shape == (64, 3, 112, 112) and crops.min() >= 0 and crops.max() <= 1
    at = torch.nn.functional.grid_sample(crops, labels[:, None] * 2 - 1, align_corners=False)[:, :, 0]
    assert at.mean() > crops.mean() + 0.2


def test_mirrored_labels_stay_in_order():
    """After mirroring, landmark 0 is on the picture's left again."""
    rng = np.random.default_rng(0)
    points = np.zeros((68, 2), np.float32)
    points[:, 0] = 72 + np.where(np.arange(68) < np.array(MIRRORED), -20, 20)
    points[:, 1] = np.linspace(30, 110, 68)
    _, labels = augmented(np.zeros((32, 144, 144, 3), np.uint8), np.stack([points] * 32), rng)
    assert (labels[:, 0, 0] < labels[:, 16, 0]).all()
