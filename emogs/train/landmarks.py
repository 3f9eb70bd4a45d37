"""The recipe of the shipped landmark network: render faces of ICT-FaceKit, train on them, write weights and log.

Both halves continue where they were stopped: pictures are kept in shards, training state after every epoch. Under an
hour on two cores. ICT-FaceKit is MIT-licensed, copyright USC Institute for Creative Technologies; none is shipped.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from rich.progress import Progress
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional

from emogs.data.faces import FaceRenderer, write_shard
from emogs.head.ict import load_ict
from emogs.photo.landmarks import GROUPS, INPUT_SIZE, MIRRORED, WEIGHTS, LandmarkNet

Batch = tuple[Tensor, Tensor]

_CREDIT = "trained on renders of ICT-FaceKit Light (MIT, copyright USC Institute for Creative Technologies)"
_SHARD = 250
_TIGHTEST, _LOOSEST = 1.2, 1.65
"""Range of the training crops' side over the landmarks' box: the detector's crop is rough, later ones are not."""


@dataclass(frozen=True)
class LandmarkTraining:
    """Settings of `emogs train landmarks`."""

    ict: Path
    """Folder with ICT-FaceKit's ict_head.npz and vertex_indices.json."""
    work: Path = Path("build/landmarks")
    """Rendered pictures and training state; about 0.7 GB."""
    out: Path = WEIGHTS
    """Where the weights go; the log lies beside them as .json."""
    count: int = 10000
    """Pictures to render, in shards of 250; the last four shards are held out."""
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
    render(config)
    rendered = time.monotonic()
    images, landmarks = load(config.work / "faces", config.count // _SHARD)
    net, history = train(config, images, landmarks)
    log = {
        "credit": _CREDIT,
        "config": {k: v for k, v in asdict(config).items() if k not in ("ict", "work", "out")},
        "parameters": sum(p.numel() for p in net.parameters()),
        "seconds": {"rendering": round(rendered - started), "training": round(time.monotonic() - rendered)},
        "held_out_error": history[-1]["held_out_error"],
        "history": history,
    }
    config.out.parent.mkdir(parents=True, exist_ok=True)
    save_file({k: v.contiguous() for k, v in net.state_dict().items()}, config.out, metadata={"credit": _CREDIT})
    config.out.with_suffix(".json").write_text(json.dumps(log, indent=1) + "\n")


def render(config: LandmarkTraining) -> None:
    """Renders the missing shards, one process a thread."""
    shards = [s for s in range(config.count // _SHARD) if not (config.work / "faces" / f"faces-{s:03d}.npz").exists()]
    if not shards:
        return
    with (
        Progress() as progress,
        ProcessPoolExecutor(config.threads, initializer=_start_renderer, initargs=(config,)) as pool,
    ):
        task = progress.add_task("rendering faces", total=len(shards))
        for _ in pool.map(_render_shard, shards):
            progress.advance(task)


def _start_renderer(config: LandmarkTraining) -> None:
    global _renderer, _config
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    _renderer, _config = FaceRenderer(load_ict(config.ict)), config


def _render_shard(shard: int) -> None:
    write_shard(_renderer, _config.work / "faces", shard, _SHARD, seed=_config.seed)


def load(folder: Path, shards: int) -> tuple[np.ndarray, np.ndarray]:
    """Pictures [N, S, S, 3] uint8 and landmarks [N, 68, 2] in pixels."""
    images, landmarks = [], []
    for shard in range(shards):
        with np.load(folder / f"faces-{shard:03d}.npz") as data:
            images.append(data["image"])
            landmarks.append(data["landmarks"])
    return np.concatenate(images), np.concatenate(landmarks)


def train(config: LandmarkTraining, images: np.ndarray, landmarks: np.ndarray) -> tuple[LandmarkNet, list[dict]]:
    """Trains from the last finished epoch on; the last four shards are never trained on."""
    torch.set_num_threads(max(1, config.threads - 1))
    torch.manual_seed(config.seed)
    held = min(4 * _SHARD, len(images) // 5)
    kept = len(images) - held
    steps = kept // config.batch
    net = LandmarkNet().to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(net.parameters(), config.rate, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, config.rate, config.epochs * steps, pct_start=0.15)
    history: list[dict] = []
    state = config.work / f"training-{config.seed}-{config.count}-{config.epochs}.pt"
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
            for image, target in _ahead(lambda r, rng=rng: augmented(images[r], landmarks[r], rng), rows):
                losses.append(_step(net, image, target, optimizer, config.bfloat16))
                schedule.step()
                progress.advance(task)
            error = held_out_error(net, images[kept:], landmarks[kept:])
            history.append({"epoch": epoch + 1, "loss": float(np.mean(losses)), "held_out_error": error})
            progress.console.print(f"epoch {epoch + 1}: loss {history[-1]['loss']:.4f}, held-out error {error}")
            saved = {"net": net.state_dict(), "optimizer": optimizer.state_dict(), "schedule": schedule.state_dict()}
            unfinished = state.with_suffix(".part")
            torch.save({**saved, "history": history}, unfinished)
            unfinished.replace(state)
    return net.eval(), history


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
        points, doubt = net(image.to(memory_format=torch.channels_last))
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
            _crop(i, p, _middle(p), 1.4 * _extent(p), 0.0)
            for i, p in zip(images[start : start + 100], landmarks[start : start + 100], strict=True)
        ]
        with torch.no_grad():
            points, _ = net(_tensor(np.stack([c[0] for c in crops])))
        target = torch.from_numpy(np.stack([c[1] for c in crops]))
        eyes = (target[:, 36] - target[:, 45]).norm(dim=-1)
        errors.append((points - target).norm(dim=-1) / eyes[:, None])
    # The median over pictures: the eyes of a profile are close together and would rule a mean.
    error = torch.cat(errors)
    groups = {name: error[:, part] for name, part in {"all": slice(0, 68), **GROUPS}.items()}
    return {name: round(100 * float(value.mean(1).median()), 2) for name, value in groups.items()}


def augmented(images: np.ndarray, landmarks: np.ndarray, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """A batch as camera, detector and a bad day would give it: [B, 3, 112, 112], targets [B, 68, 2] in crop units."""
    crops, targets = [], []
    for image, points in zip(images, landmarks, strict=True):
        extent = _extent(points)
        side = extent * np.exp(rng.uniform(np.log(_TIGHTEST), np.log(_LOOSEST)))
        middle = _middle(points) + rng.normal(size=2) * 0.05 * extent
        crop, target = _crop(image, points, middle, side, rng.normal() * 0.2)
        if rng.random() < 0.35:
            crop = _degrade(crop, rng)
        if rng.random() < 0.3:
            crop = _occlude(crop, rng)
        if rng.random() < 0.5:
            crop, target = crop[:, ::-1], np.stack([1 - target[:, 0], target[:, 1]], 1)[list(MIRRORED)]
        crops.append(crop)
        targets.append(target)
    image = _tensor(np.stack(crops))
    random = lambda *shape: torch.from_numpy(rng.normal(size=(len(crops), *shape)).astype(np.float32))  # noqa: E731
    image = image ** (random(1, 1, 1) * 0.3).exp()
    middle = image.mean((1, 2, 3), keepdim=True)
    image = (image - middle) * (1 + 0.25 * random(1, 1, 1)) + middle + 0.07 * random(1, 1, 1) + 0.03 * random(3, 1, 1)
    grey = torch.from_numpy(rng.random(len(crops)) < 0.15)[:, None, None, None]
    image = torch.where(grey, image.mean(1, keepdim=True), image)
    grain = torch.randn(image.shape, generator=torch.Generator().manual_seed(int(rng.integers(2**62))))
    image = image + grain * (random(1, 1, 1).abs() * 0.02)
    return image.clamp(0, 1), torch.from_numpy(np.stack(targets))


def _middle(points: np.ndarray) -> np.ndarray:
    return (points.min(0) + points.max(0)) / 2


def _extent(points: np.ndarray) -> float:
    return float((points.max(0) - points.min(0)).max())


def _crop(image, points, middle, side: float, turn: float) -> tuple[np.ndarray, np.ndarray]:
    """The turned square around `middle`, [112, 112, 3], and its landmarks in crop units."""
    cos, sin = np.cos(turn), np.sin(turn)
    rotation = np.array([[cos, -sin], [sin, cos]])
    scale = INPUT_SIZE / side
    matrix = np.c_[rotation * scale, INPUT_SIZE / 2 - 0.5 - scale * rotation @ (middle - 0.5)]
    size = (INPUT_SIZE, INPUT_SIZE)
    crop = cv2.warpAffine(image, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
    return crop, ((points - middle) @ rotation.T / side + 0.5).astype(np.float32)


def _degrade(crop: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Blur, low resolution or JPEG."""
    choice = rng.random()
    if choice < 0.35:
        return cv2.GaussianBlur(crop, (0, 0), rng.uniform(0.4, 1.8))
    if choice < 0.7:
        small = int(rng.integers(32, 90))
        reduced = cv2.resize(crop, (small, small), interpolation=cv2.INTER_AREA)
        return cv2.resize(reduced, crop.shape[:2], interpolation=cv2.INTER_LINEAR)
    code = cv2.imencode(".jpg", crop, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(15, 70))])[1]
    return cv2.imdecode(code, cv2.IMREAD_COLOR)


def _occlude(crop: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Something in front: an ellipse of one colour or of another part of the picture."""
    mask = np.zeros(crop.shape[:2], np.uint8)
    place, axes = rng.integers(0, INPUT_SIZE, 2).tolist(), rng.integers(5, 26, 2).tolist()
    cv2.ellipse(mask, place, axes, float(rng.uniform(0, 180)), 0, 360, 1, -1)
    front = np.roll(crop, tuple(rng.integers(20, 90, 2)), (0, 1)) if rng.random() < 0.5 else rng.integers(0, 256, 3)
    return np.where(mask[..., None] > 0, front, crop).astype(np.uint8)


def _tensor(crops: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(crops.transpose(0, 3, 1, 2))).float() / 255
