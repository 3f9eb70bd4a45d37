"""EmotionNorm: a plain norm at the start and at the null code, in place of other norms, under torch's machinery."""

from __future__ import annotations

import copy
from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from emogs.nn import EmotionNorm

E = 5
NORMS = {
    "layer": lambda: nn.LayerNorm(12, eps=1e-3),
    "layer without bias": lambda: nn.LayerNorm(12, bias=False),
    "layer without affine": lambda: nn.LayerNorm(12, elementwise_affine=False),
    "layer of two sizes": lambda: nn.LayerNorm((3, 4)),
    "rms": lambda: nn.RMSNorm(12),
    "rms with eps": lambda: nn.RMSNorm(12, eps=1e-2),
    "language model": lambda: LanguageModelNorm(12),
}


class LanguageModelNorm(nn.Module):
    """As language models bring their own."""

    def __init__(self, channels: int, offset: float = 0.0) -> None:
        super().__init__()
        self.weight, self.variance_epsilon, self.offset = nn.Parameter(torch.rand(channels)), 1e-2, offset

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.rsqrt(x.square().mean(-1, True) + self.variance_epsilon) * (self.offset + self.weight)


def trained(module: EmotionNorm) -> EmotionNorm:
    """One whose code does something."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
    return module


def inputs(*middle: int, channels=(12,), seed: int = 1) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(2, *middle, *channels, generator=generator), torch.rand(2, E, generator=generator)


@pytest.mark.parametrize("name", NORMS)
def test_takes_the_place_of_a_norm(name):
    norm = NORMS[name]()
    for parameter in norm.parameters():
        nn.init.normal_(parameter)
    x, code = inputs(7, channels=getattr(norm, "normalized_shape", (12,)))
    module = EmotionNorm.from_norm(norm, E)
    torch.testing.assert_close(module(x, code), norm(x), rtol=1e-5, atol=1e-5)
    assert module.weight is getattr(norm, "weight", None) and module.bias is getattr(norm, "bias", None)

    other = trained(EmotionNorm.from_norm(copy.deepcopy(norm), E))
    other.load_state_dict(norm.state_dict())
    assert other.projection.weight.any()
    null = torch.zeros_like(code)
    assert torch.equal(other(x, null), module(x, code))
    assert not torch.equal(other(x, code), module(x, code))
    other.load_state_dict(other.state_dict())


def test_rms_without_eps_takes_that_of_the_arithmetic():
    x = inputs(7)[0] * 1e-2
    for dtype in (torch.float32, torch.bfloat16, torch.float64):
        norm = nn.RMSNorm(12, dtype=dtype)
        mine = EmotionNorm.from_norm(norm, E)(x.to(dtype), torch.zeros(2, E))
        torch.testing.assert_close(mine, norm(x.to(dtype)))


@pytest.mark.parametrize("other", [nn.BatchNorm1d(12), nn.Linear(12, 12), LanguageModelNorm(12, offset=1.0)])
def test_refuses_what_is_no_such_norm(other):
    with pytest.raises(TypeError, match=f"EmotionNorm: .*{type(other).__name__}"):
        EmotionNorm.from_norm(other, E)


def test_a_backbone_s_state_loads_strictly():
    state = nn.Sequential(nn.Linear(12, 12), nn.LayerNorm(12)).state_dict()
    backbone = nn.Sequential(nn.Linear(12, 12), EmotionNorm(12, E, hidden_dim=4, style_dim=3))
    backbone.load_state_dict(state)
    del state["1.bias"]
    with pytest.raises(RuntimeError, match=r'Missing key\(s\) in state_dict: "1.bias"'):
        backbone.load_state_dict(state)
    state = backbone.state_dict()
    del state["1.hidden.weight"]
    with pytest.raises(RuntimeError, match=r'Missing key\(s\) in state_dict: "1.hidden.weight"'):
        backbone.load_state_dict(state)


@pytest.mark.parametrize("options", [{}, {"hidden_dim": 8, "style_dim": 3}, {"gated": True}, {"regions": 4}])
def test_null_code_is_the_plain_norm_and_residual_passes(options):
    module = trained(EmotionNorm(12, E, **options))
    (x, code), residual = inputs(7), inputs(7, seed=2)[0]
    more = {"region": torch.arange(7, dtype=torch.int32) % 4} if "regions" in options else {}
    style = torch.randn(2, 3) if "style_dim" in options else None
    plain = EmotionNorm(12, E)
    plain.load_state_dict({"weight": module.weight, "bias": module.bias})
    null = torch.zeros_like(code)
    y, out = module(x, null, style, residual=residual, **more)
    assert torch.equal(out, residual + x)
    assert torch.equal(y, plain(residual + x, code))
    y, out = module(x, code, style, residual=residual, **more)
    assert torch.equal(out, residual + x) != module.gated
    assert not torch.equal(y, plain(residual + x, code))


def test_regions_follow_their_own_codes_and_projections():
    x, _ = inputs(6)
    codes = torch.rand(2, 3, E)
    region = torch.tensor([0, 1, 2, 2, 1, 0], dtype=torch.int32)
    shared, own = trained(EmotionNorm(12, E)), trained(EmotionNorm(12, E, regions=3))
    for module in (shared, own):
        y = module(x, codes, region=region)
        for r in range(3):
            of_r = module(x, codes[:, r], region=region if module.regions else None)
            torch.testing.assert_close(y[:, region == r], of_r[:, region == r], rtol=1e-5, atol=1e-5)
    one_code = own(x, codes[:, 0], region=region)
    torch.testing.assert_close(one_code, own(x, codes[:, :1].expand(-1, 3, -1), region=region), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("options", [{}, {"style_dim": 3}, {"gated": True}, {"regions": 4}])
def test_one_code_serves_every_sample(options):
    module = trained(EmotionNorm(12, E, **options))
    (x, codes), residual = inputs(7), inputs(7, seed=2)[0]
    style = torch.randn(2, 3) if "style_dim" in options else None
    more = {"region": torch.arange(7) % 4} if "regions" in options else {}
    expected = module(x, codes[:1].expand(2, -1), style, residual=residual, **more)
    same = partial(torch.testing.assert_close, rtol=1e-5, atol=1e-5)  # torch multiplies one row in another order
    for code in (codes[0], codes[:1]):
        for actual, each in zip(module(x, code, style, residual=residual, **more), expected, strict=True):
            same(actual, each)
    if "style_dim" in options:
        of_one_style = module(x, codes, style[:1])
        same(of_one_style, module(x, codes, style[:1].expand(2, -1)))
    if "regions" in options:
        of_regions = torch.rand(1, 4, E)
        same(module(x, of_regions, **more), module(x, of_regions.expand(2, -1, -1), **more))
    empty, _ = module(x[:0], codes[0], style if style is None else style[:1], residual=residual[:0], **more)
    assert empty.shape == (0, 7, 12)


def test_middle_sizes_and_empty():
    module = trained(EmotionNorm((3, 4), E))
    x, code = inputs(5, 6, channels=(3, 4))
    y = module(x, code)
    assert y.shape == x.shape
    assert torch.equal(y.flatten(1, 2), module(x.flatten(1, 2), code))
    flat = module(x[:, 0, 0], code)
    assert torch.equal(flat, y[:, 0, 0])


def test_gradients_reach_everything():
    module = trained(EmotionNorm(12, E, hidden_dim=8, style_dim=3, gated=True))
    x, code = inputs(7)
    leaves = [t.requires_grad_() for t in (x, code, torch.randn(2, 3), inputs(7, seed=3)[0])]
    y, out = module(*leaves[:3], residual=leaves[3])
    (y.square().sum() + out.square().sum()).backward()
    assert all(t.grad is not None and t.grad.any() for t in (*leaves, *module.parameters()))


def test_double_backward_is_refused():
    module, (x, code) = trained(EmotionNorm(12, E)), inputs(7)
    (grad,) = torch.autograd.grad(module(x, code.requires_grad_()).square().sum(), code, create_graph=True)
    with pytest.raises(NotImplementedError, match="emotion_norm: second derivatives are not supported"):
        grad.sum().backward()


def losses(module: nn.Module, call=None) -> list[Tensor]:
    x, code = inputs(7)
    module.zero_grad()
    out = (module if call is None else call)(x, code)
    out.square().sum().backward()
    return [out.detach(), *(p.grad for p in module.parameters())]


@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
def test_compiles_without_a_break(backend, monkeypatch, tmp_path):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))  # nothing that others left, and nothing left to them
    module = trained(EmotionNorm(12, E, hidden_dim=8))
    compiled = torch.compile(module, fullgraph=True, backend=backend)
    for actual, expected in zip(losses(module, compiled), losses(module), strict=True):
        torch.testing.assert_close(actual, expected)


def test_exports():
    module, arguments = trained(EmotionNorm(12, E)), inputs(7)
    exported = torch.export.export(module, arguments)
    assert torch.equal(exported.module()(*arguments), module(*arguments))
    assert any("emotion_norm" in str(node.target) for node in exported.graph.nodes)


def test_runs_under_autocast():
    module, (x, code) = trained(EmotionNorm(12, E)), inputs(7)
    linear = nn.Linear(12, 12)
    with torch.autocast("cpu", torch.bfloat16):
        y = module(linear(x), code)
    assert y.dtype == torch.bfloat16
    y.float().square().sum().backward()
    assert module.projection.weight.grad.dtype == torch.float32
    torch.testing.assert_close(y.float(), module(linear(x), code), rtol=0.05, atol=0.05)


@pytest.mark.parametrize("reentrant", [True, False])
def test_runs_under_activation_checkpointing(reentrant):
    module, (x, code) = trained(EmotionNorm(12, E)), inputs(7)
    code.requires_grad_()
    grads = []
    for call in (module, lambda *a: checkpoint(module, *a, use_reentrant=reentrant)):
        grads.append(
            torch.autograd.grad(call(x, code).square().sum(), [code, *module.parameters()], allow_unused=True)
            if not reentrant
            else _backward(module, call(x, code), code)
        )
    for a, b in zip(*grads, strict=True):
        assert torch.equal(a, b)


def _backward(module: nn.Module, out: Tensor, code: Tensor) -> list[Tensor]:
    """Reentrant checkpoints support only backward()."""
    for t in (code, *module.parameters()):
        t.grad = None
    out.square().sum().backward()
    return [t.grad.clone() for t in (code, *module.parameters())]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: EmotionNorm(12, E, kind="batch"), 'kind must be "layer" or "rms", got \'batch\''),
        (lambda: EmotionNorm(12, E, regions=0), "regions must be an int of at least 1, got 0"),
        (lambda: EmotionNorm(12, 0), "emotion_dim must be an int of at least 1, got 0"),
        (lambda: EmotionNorm(12.0, E), "normalized_shape must be one or several sizes, got 12.0"),
        (lambda: EmotionNorm(12, E)(inputs(7)[0][..., :3], inputs(7)[1]), r"x must be \[B, ..., 12\], got \[2, 7, 3\]"),
        (lambda: EmotionNorm(12, E)(inputs(7)[0].numpy(), inputs(7)[1]), "x must be a tensor, got ndarray"),
        (lambda: EmotionNorm(12, E)(inputs(7)[0], [0.0] * E), "emotion must be a tensor, got list"),
        (
            lambda: EmotionNorm(12, E)(inputs(7)[0], torch.zeros(3, E)),
            r"emotion must be one row a sample, \[B=2, ...\], or one, got \[3, 5\]",
        ),
        (
            lambda: EmotionNorm(12, E)(*inputs(7), residual=inputs(7)[0][:, :2]),
            r"residual must be \[2, 7, 12\] like x, got \[2, 2, 12\]",
        ),
        (
            lambda: EmotionNorm(12, E, regions=2)(inputs(7)[0], torch.zeros(2, 3, E)),
            r"emotion must be \[5\], \[B, 5\] or \[B, 2, 5\], got \[2, 3, 5\]",
        ),
        (
            lambda: EmotionNorm(12, E)(*(inputs(7)[0],) * 2),
            r"emotion must be \[5\], \[B, 5\] or \[B, R, 5\], got \[2, 7, 12\]",
        ),
        (lambda: EmotionNorm(12, E)(inputs(7)[0], torch.zeros(4)), r"emotion must be \[5\], .*, got \[4\]"),
        (
            lambda: EmotionNorm(12, E, style_dim=3)(inputs(7)[0], torch.zeros(E), torch.zeros(4, 3)),
            r"style must be one row a sample, \[B=2, ...\], or one, got \[4, 3\]",
        ),
        (
            lambda: EmotionNorm(12, E, style_dim=3)(*inputs(7), torch.zeros(4, 3)),
            r"style must be \[B, 3\] with B of emotion's 2 or 1, got \[4, 3\]",
        ),
        (lambda: EmotionNorm(12, E, style_dim=3)(*inputs(7), torch.zeros(3)), r"style must be \[B, 3\] .*, got \[3\]"),
        (lambda: EmotionNorm(12, E, style_dim=3)(*inputs(7), [0.0] * 3), "style must be a tensor, got list"),
        (lambda: EmotionNorm(12, E)(*inputs(7), torch.zeros(2, 3)), "style must be None in a module without style_dim"),
        (lambda: EmotionNorm(12, E, gated=True)(*inputs(7), gate=torch.zeros(2, 12)), "gate must be None in a gated"),
        (
            lambda: EmotionNorm(12, E, gated=True)(*inputs(7)),
            r"EmotionNorm: residual must be \[2, 7, 12\] like x in a gated module, got None",
        ),
        (
            lambda: EmotionNorm(12, E, regions=2)(*inputs(7)),
            r"EmotionNorm: region must be \[B, T\] or \[T\] where module or code have regions, got None",
        ),
        (
            lambda: EmotionNorm(12, E)(inputs(7)[0], torch.zeros(2, 3, E)),
            r"EmotionNorm: region must be \[B, T\] or \[T\] where module or code have regions, got None",
        ),
        (
            lambda: EmotionNorm(12, E)(*inputs(7), region=torch.zeros(7, dtype=torch.int32)),
            r"EmotionNorm: region must be None where neither module nor code have regions, got \[7\]",
        ),
        (
            lambda: EmotionNorm(12, E)(*inputs(7), gate=torch.zeros(2, 12)),
            "EmotionNorm: gate must be None without a residual, got a tensor",
        ),
        (lambda: EmotionNorm(12, True), "emotion_dim must be an int of at least 1, got True"),
        (lambda: EmotionNorm(True, E), "normalized_shape must be one or several sizes, got True"),
        (lambda: EmotionNorm(12, E, hidden_dim=True), "hidden_dim must be an int of at least 1, got True"),
        (lambda: EmotionNorm(12, E, eps="a"), "EmotionNorm: eps must be an int or a float, got str"),
        (lambda: EmotionNorm(12, E, eps=-1), "EmotionNorm: eps must be at least 0 and finite in float32, got -1"),
        (
            lambda: EmotionNorm.from_norm(nn.RMSNorm(12), E, kind="rms"),
            "EmotionNorm.from_norm: kind must be left to the norm, got 'rms'",
        ),
        (lambda: EmotionNorm.from_norm(nn.LayerNorm(12), E, eps=1.0), "from_norm: eps must be left to the norm, got 1"),
        (lambda: EmotionNorm.from_norm(nn.LayerNorm(12), E, bias=False), "bias must be left to the norm, got False"),
        (
            lambda: EmotionNorm.from_norm(nn.LayerNorm(12), E, elementwise_affine=True),
            "elementwise_affine must be left to the norm, got True",
        ),
    ],
)
def test_refusals(call, message):
    with pytest.raises((TypeError, ValueError), match=message):
        call()


def test_says_what_it_is():
    assert repr(EmotionNorm(12, E)).startswith("EmotionNorm(\n  (12,), emotion_dim=5, kind=layer, eps=1e-06")


def test_stays_in_the_mode_of_the_norm_it_replaces():
    assert EmotionNorm.from_norm(nn.LayerNorm(12), E).training
    assert not EmotionNorm.from_norm(nn.LayerNorm(12).eval(), E).training


def test_style_scales_what_the_code_does():
    module = EmotionNorm(12, E, style_dim=3)
    for linear in (module.projection, module.style):
        nn.init.normal_(linear.weight)
    code, style = torch.rand(2, E), torch.randn(2, 3)
    strength = 1 + (style @ module.style.weight.mT).unflatten(-1, (2, 12))
    torch.testing.assert_close(module.modulation(code, style), module.modulation(code) * strength)
