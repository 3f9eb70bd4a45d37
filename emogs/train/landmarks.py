"""The recipe of the landmark network: render faces of any head templates, train on them, write weights and log.

Both halves continue where they were stopped: pictures are kept in shards, training state after every epoch. Under an
hour on two cores. The shipped network saw ICT-FaceKit (MIT-licensed, copyright USC Institute for Creative
Technologies; none is shipped), in the guises of an earlier version of `emogs.data.faces`.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from rich.progress import Progress
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional

from emogs.data.faces import shard_path, write_shard
from emogs.head.template import HeadTemplate
from emogs.photo.landmarks import CROP_PER_BOX, GROUPS, LandmarkNet

from .landmark_crops import Batch, augmented, crop, extent, middle, tensor
from .landmark_errors import renderer_of
from .templates import pictures_of, speaking_template

_CREDITS = {"ict": "ICT-FaceKit Light (MIT, copyright USC Institute for Creative Technologies)"}
_SHARD = 250


@dataclass(frozen=True)
class LandmarkTraining:
    """Settings of `emogs train landmarks`."""

    template: tuple[str, ...] = ("builtin",)
    """Heads to render: `builtin`, or a file or folder that `emogs head show` takes; several share the pictures."""
    work: Path = Path("build/landmarks")
    """Rendered pictures and training state; about 0.7 GB."""
    out: Path = Path("build/landmarks/landmarks.safetensors")
    """Where the weights go, the log beside them as .json; emogs reads emogs/photo/weights/landmarks.safetensors."""
    count: int = 10000
    """Pictures to render, in shards of 250; a tenth of each template's is held out, at least one shard."""
    epochs: int = 18
    batch: int = 64
    rate: float = 3e-3
    """Peak learning rate of a one-cycle schedule."""
    threads: int = 2
    """Processes that render; one thread less trains while another prepares the next batch."""
    seed: int = 0
    bfloat16: bool = True
    """Convolutions in bfloat16: twice as fast on processors that have it, slower on others."""


def main(config: LandmarkTraining) -> None:
    """Renders what is missing, trains what is left, writes weights and log."""
    os.nice(10)
    started = time.monotonic()
    heads = [speaking_template(source) for source in config.template]
    names = [head.name for head in heads]
    _check(config, names)
    shards = shards_of(config, heads)
    render(config, shards)
    rendered = time.monotonic()
    held = [file for files in shards for file in files[-_held_out(files) :]]
    kept = [file for files in shards for file in files[: -_held_out(files)]]
    net, history = train(config, load(kept), load(held), _run_of(config, kept))
    credit = "trained on renders of " + " and ".join(_CREDITS.get(name, name) for name in names)
    log = {
        "credit": credit,
        "config": {k: v for k, v in asdict(config).items() if k not in ("work", "out")} | {"template": names},
        "parameters": sum(p.numel() for p in net.parameters()),
        "seconds": {"rendering": round(rendered - started), "training": round(time.monotonic() - rendered)},
        "held_out_error": history[-1]["held_out_error"],
        "history": history,
    }
    config.out.parent.mkdir(parents=True, exist_ok=True)
    save_file({k: v.contiguous() for k, v in net.state_dict().items()}, config.out, metadata={"credit": credit})
    config.out.with_suffix(".json").write_text(json.dumps(log, indent=1) + "\n")


def _check(config: LandmarkTraining, names: list[str]) -> None:
    if len(set(names)) < len(names):
        raise ValueError(f"template: expected heads of different names, got {', '.join(names)}")
    least = 2 * _SHARD * len(names)
    if config.count < least:
        raise ValueError(f"count: expected at least {least} pictures, {2 * _SHARD} a template, got {config.count}")


def shards_of(config: LandmarkTraining, heads: list[HeadTemplate]) -> list[list[Path]]:
    """The files of pictures that a run needs, by template."""
    each = config.count // _SHARD // len(heads)
    folders = [pictures_of(config.work, head) for head in heads]
    return [[shard_path(folder, shard, _SHARD, config.seed) for shard in range(each)] for folder in folders]


def _held_out(files: list[Path]) -> int:
    return max(1, len(files) // 10)


def render(config: LandmarkTraining, shards: list[list[Path]]) -> None:
    """Renders the missing shards of each template, one process a thread."""
    wanted = zip(config.template, shards, strict=True)
    missing = [(source, i, file) for source, files in wanted for i, file in enumerate(files) if not file.exists()]
    if not missing:
        return
    with Progress() as progress, ProcessPoolExecutor(config.threads) as pool:
        task = progress.add_task("rendering faces", total=len(missing))
        for _ in pool.map(partial(_render_shard, config.seed), *zip(*missing, strict=True)):
            progress.advance(task)


def _render_shard(seed: int, source: str, shard: int, file: Path) -> None:
    write_shard(renderer_of(source), file.parent, shard, _SHARD, seed=seed)


Faces = tuple[np.ndarray, np.ndarray]
"""Pictures [N, S, S, 3] uint8 and landmarks [N, 68, 2] in pixels."""


def load(files: list[Path]) -> Faces:
    """All pictures of some shards."""
    images, landmarks = [], []
    for file in files:
        with np.load(file) as data:
            images.append(data["image"])
            landmarks.append(data["landmarks"])
    return np.concatenate(images), np.concatenate(landmarks)


def _run_of(config: LandmarkTraining, kept: list[Path]) -> str:
    """Tells apart runs that must not go on from each other: by their pictures, and all settings but where and how fast
    they work."""
    pictures = [f"{file.parent.name}/{file.name}" for file in kept]
    settings = {name: value for name, value in asdict(config).items() if name not in ("work", "out", "threads")}
    return hashlib.sha256(json.dumps([settings, pictures]).encode()).hexdigest()[:12]


def train(config: LandmarkTraining, faces: Faces, held: Faces, run: str) -> tuple[LandmarkNet, list[dict]]:
    """Trains on faces from the last finished epoch of this run on; `held` faces only judge."""
    torch.set_num_threads(max(1, config.threads - 1))
    torch.manual_seed(config.seed)
    images, landmarks = faces
    kept = len(images)
    steps = kept // config.batch
    net = LandmarkNet()
    optimizer = torch.optim.AdamW(net.parameters(), config.rate, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, config.rate, config.epochs * steps, pct_start=0.15)
    history: list[dict] = []
    state = config.work / f"training-{run}.pt"
    if state.exists():
        saved = torch.load(state, weights_only=True)
        net.load_state_dict(saved["net"])
        optimizer.load_state_dict(saved["optimizer"])
        schedule.load_state_dict(saved["schedule"])
        history = saved["history"]
    with Progress() as progress:
        task = progress.add_task("training", total=config.epochs * steps, completed=len(history) * steps)
        for epoch in range(len(history), config.epochs):
            rng = np.random.default_rng([config.seed, epoch])
            rows = rng.permutation(kept)[: steps * config.batch].reshape(steps, config.batch)
            losses = []
            for image, target in _ahead(partial(_batch, images, landmarks, rng), rows):
                losses.append(_step(net, image, target, optimizer, config.bfloat16))
                schedule.step()
                progress.advance(task)
            error = held_out_error(net, *held)
            history.append({"epoch": epoch + 1, "loss": float(np.mean(losses)), "held_out_error": error})
            progress.console.print(f"epoch {epoch + 1}: loss {history[-1]['loss']:.4f}, held-out error {error}")
            saved = {"net": net.state_dict(), "optimizer": optimizer.state_dict(), "schedule": schedule.state_dict()}
            unfinished = state.with_suffix(".part")
            torch.save({**saved, "history": history}, unfinished)
            unfinished.replace(state)
    return net.eval(), history


def _batch(images: np.ndarray, landmarks: np.ndarray, rng: np.random.Generator, rows: np.ndarray) -> Batch:
    return augmented(images[rows], landmarks[rows], rng)


def _ahead(make: Callable[[np.ndarray], Batch], rows: np.ndarray) -> Iterator[Batch]:
    """The batches that `make` gives for each of the rows; the next is made while the last is used."""
    with ThreadPoolExecutor(1) as worker:
        pending = worker.submit(make, rows[0])
        for row in rows[1:]:
            ready, pending = pending.result(), worker.submit(make, row)
            yield ready
        yield pending.result()


def _step(net: LandmarkNet, image: Tensor, target: Tensor, optimizer: torch.optim.Optimizer, bfloat16: bool) -> float:
    net.train()
    with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
        points, doubt = net(image.contiguous(memory_format=torch.channels_last))
    distance = (points - target).square().sum(-1).add(1e-8).sqrt()
    # Laplace likelihood for the doubt alone: it must not excuse the points that are hard.
    likelihood = (distance.detach() / doubt.clamp_min(1e-3) + doubt.clamp_min(1e-3).log()).mean()
    loss = functional.smooth_l1_loss(points * 100, target * 100, beta=1.0) + 0.05 * likelihood
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(net.parameters(), 5.0)
    optimizer.step()
    return float(loss.detach())


def held_out_error(net: LandmarkNet, images: np.ndarray, landmarks: np.ndarray) -> dict[str, float]:
    """Mean error by group in per cent of the outer-eye distance, on centred crops."""
    net.eval()
    errors = []
    for start in range(0, len(images), 100):
        crops = [
            crop(i, p, middle(p), CROP_PER_BOX * extent(p), 0.0)
            for i, p in zip(images[start : start + 100], landmarks[start : start + 100], strict=True)
        ]
        with torch.no_grad():
            points, _ = net(tensor(np.stack([c[0] for c in crops])))
        target = torch.from_numpy(np.stack([c[1] for c in crops]))
        eyes = (target[:, 36] - target[:, 45]).norm(dim=-1)
        errors.append((points - target).norm(dim=-1) / eyes[:, None])
    # The median over pictures: the eyes of a profile are close together and would rule a mean.
    error = torch.cat(errors)
    groups = {name: error[:, part] for name, part in {"all": slice(0, 68), **GROUPS}.items()}
    return {name: round(100 * float(value.mean(1).median()), 2) for name, value in groups.items()}
