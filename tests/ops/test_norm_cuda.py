"""The CUDA kernels of emotion_norm against the CPU's: every length of a row, storage, alignment and set of arguments.

What is added without sums must agree to the bit (residual_out). The rest follows from sums over a row, or over tokens:
each side may be off by (n / 16 + 8) rounding steps of the largest value, as in test_norm.py; results of a half type are
rounded once more.
"""

from __future__ import annotations

import os
import random
import zlib

import pytest
import torch
from emulation import DEVICES, on_cpu
from torch import Tensor

import emogs

HALVES = (torch.bfloat16, torch.float16)
# Tokens and residual. A half type with the other becomes float32 tokens.
STORAGES = [(t, t) for t in (torch.float32, *HALVES)]
STORAGES += [pair for half in HALVES for pair in ((half, torch.float32), (torch.float32, half))]
# Groups of 1 to 32 lanes, some lanes or pieces beyond the row; of warps; rows too long for registers; of odd lengths.
CHANNELS = (1, 2, 3, 5, 8, 12, 16, 24, 31, 40, 64, 72, 100, 127, 200, 256, 264, 300, 512, 1000, 1024, 1032, 1536)
LONG = (2048, 3000, 4096, 4104, 5000, 8192, 8200, 9000)
EPS = torch.finfo(torch.float32).eps


pytestmark = pytest.mark.parametrize("device", DEVICES[1:], indirect=True)  # not the CPU


def seed_of_order() -> int:
    """Another draw for each order of the emulated threads."""
    return zlib.crc32(os.environ.get("EMOGS_EMULATOR_ORDER", "").encode()) % 1000


def unaligned(tensor: Tensor) -> Tensor:
    """The same at an address that 16 does not divide."""
    return torch.cat([tensor.new_zeros(1), tensor.flatten()])[1:].view(tensor.shape)


def draw(channels: int, storage: tuple[torch.dtype, torch.dtype], seed: int, most_tokens: int = 70) -> dict:
    """Arguments of a call: as many of them, of such shapes, as the seed says."""
    choose, generator = random.Random(f"{channels} {storage} {seed}"), torch.Generator().manual_seed(seed)
    batch, tokens, regions = choose.choice([1, 1, 3]), choose.randint(1, most_tokens), choose.choice([1, 1, 2, 5])

    def normal(*sizes: int) -> Tensor:
        return torch.randn(*sizes, generator=generator)

    def vectors() -> Tensor:
        rows = choose.choice([True, False]) and regions > 1
        return normal(batch, regions, channels) if rows else normal(batch, channels)

    arguments = {
        "x": normal(batch, tokens, channels).to(storage[0]),
        "scale": normal(batch, regions, channels) if regions > 1 else normal(batch, channels),
        "shift": vectors(),
        "kind": choose.choice(["layer", "rms"]),
    }
    for name in ("weight", "bias"):
        if choose.random() < 0.6:
            arguments[name] = normal(channels)
    if storage[0] != storage[1] or choose.random() < 0.5:
        arguments["residual"] = normal(batch, tokens, channels).to(storage[1])
        if choose.random() < 0.6:
            arguments["gate"] = vectors()
    if regions > 1:
        shape = (batch, tokens) if choose.random() < 0.5 else (tokens,)
        arguments["region"] = torch.randint(regions, shape, generator=generator, dtype=torch.int32)
    for name in ("x", "residual", "scale", "weight"):
        if name in arguments and choose.random() < 0.2:
            arguments[name] = unaligned(arguments[name])
    return arguments


def call(arguments: dict, device: torch.device) -> dict[str, Tensor]:
    """Outputs and gradients of everything, on the device, for a fixed random loss."""
    placed = {k: v.to(device) if isinstance(v, Tensor) and v.device != device else v for k, v in arguments.items()}
    leaves = {
        k: v.detach().requires_grad_() for k, v in placed.items() if isinstance(v, Tensor) and v.is_floating_point()
    }
    outputs = emogs.emotion_norm(**(placed | leaves))
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    generator = torch.Generator().manual_seed(1)
    directions = [(torch.randint(-16, 17, o.shape, generator=generator) / 8).to(o) for o in outputs]
    grads = torch.autograd.grad(outputs, list(leaves.values()), directions)
    names = ["y", "residual_out"][: len(outputs)]
    results = dict(zip(names, outputs, strict=True)) | {f"grad_{k}": g for k, g in zip(leaves, grads, strict=True)}
    return {name: value.detach().cpu() for name, value in results.items()}


def assert_agrees(arguments: dict, device: torch.device, rows: Tensor | slice = slice(None)) -> None:
    """The device's results against the CPU's; of tokens, those `rows`."""
    actual = call(arguments, device)
    with on_cpu():
        expected = call(arguments, torch.device("cpu"))
    batch, tokens, channels = arguments["x"].shape
    for name, value in expected.items():
        per_token = value.shape == arguments["x"].shape
        mine, theirs = (t[:, rows] if per_token else t for t in (actual[name], value))
        if name == "residual_out":
            assert torch.equal(mine, theirs)
            continue
        terms = channels if per_token else channels + batch * tokens
        steps = 2 * (terms / 16 + 8) * EPS * max(theirs.abs().max().item(), 1e-3) if theirs.numel() else 0
        rounding = torch.finfo(value.dtype).eps if value.dtype in HALVES else 0
        torch.testing.assert_close(mine, theirs, rtol=rounding, atol=steps, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.parametrize("storage", STORAGES, ids=lambda pair: "-".join(str(t).removeprefix("torch.") for t in pair))
@pytest.mark.parametrize("channels", CHANNELS)
def test_agrees_with_the_cpu(device, channels, storage):
    arguments = draw(channels, storage, seed_of_order())
    if channels < 3:
        arguments["kind"] = "rms"  # with so few, the gradient of a layer norm cancels to nothing
    assert_agrees(arguments, device)


@pytest.mark.parametrize("channels", LONG)
def test_long_rows_agree_with_the_cpu(device, channels):
    storage = STORAGES[(seed_of_order() + channels) % len(STORAGES)]
    assert_agrees(draw(channels, storage, seed_of_order(), most_tokens=5), device)


@pytest.mark.parametrize("channels", [40, 41, 512, 1024, 4100])
@pytest.mark.parametrize("gate", [True, False])
def test_regions_out_of_range_become_nan_and_touch_nothing_else(device, channels, gate):
    generator = torch.Generator().manual_seed(channels)
    x, residual = (torch.randn(2, 50, channels, generator=generator) for _ in range(2))
    scale, shift, factor = (torch.randn(2, 3, channels, generator=generator) for _ in range(3))
    arguments = {"x": x, "scale": scale, "shift": shift, "residual": residual} | ({"gate": factor} if gate else {})
    region = torch.randint(3, (50,), generator=generator, dtype=torch.int32)
    wrong = torch.tensor([0, 17, 33, 49])
    kept = torch.ones(50, dtype=torch.bool).index_fill(0, wrong, False)
    broken = region.index_copy(0, wrong, torch.tensor([-1, 3, 1 << 30, -(1 << 31)], dtype=torch.int32))
    actual = call(arguments | {"region": broken}, device)
    for name in ("y", "residual_out", "grad_x", "grad_residual"):
        assert actual[name][:, wrong].isnan().all() and not actual[name][:, kept].isnan().any(), name
    whole = call(arguments | {"region": region}, device)
    for name in ("y", "residual_out", "grad_x", "grad_residual"):
        assert torch.equal(actual[name][:, kept], whole[name][:, kept]), name
    assert all(not actual[name].isnan().any() for name in actual if name.startswith("grad_s"))


def test_more_tokens_than_fit_at_once(device):
    """The blocks of the device go round several times; the last round is not full."""
    for channels in (8, 256, 1024):
        x = torch.randn(2, 333, channels, generator=torch.Generator().manual_seed(0))
        zero = torch.zeros(2, channels)
        assert_agrees({"x": x, "scale": zero, "shift": zero}, device)
