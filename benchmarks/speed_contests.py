"""The same work done in several ways: by emogs, in torch, by torch.compile, on a GPU by gsplat.

Ways are compared with each other before they are timed: all of them against the torch version in float64, results and
gradients. What is not the same work stands in `not_same`, who cannot take part in `missing`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import gpu_cases
import scenes
import speed_cases
import torch
import torch_peers
from torch import Tensor

import emogs
from emogs.ops import Splats, blend_tiles, emotion_renorm, intersect_tiles, project_gaussians, rig_frames
from emogs.ops.norm import emotion_norm_reference
from emogs.ops.renorm import emotion_renorm_reference

EMOGS, EAGER, COMPILED, GSPLAT = "emogs", "torch", "torch.compile", "gsplat 1.5.3"
NO_KERNELS = "its kernels are CUDA only; there is nothing of it to time on a CPU"

Inputs = dict[str, Tensor]
Function = Callable[[Inputs], tuple[Tensor, ...]]


@dataclass(frozen=True)
class Contest:
    """One operation at one size."""

    name: str
    ways: dict[str, Function]
    """emogs first."""
    given: Inputs
    """What is differentiable."""
    tolerance: float
    """Of the largest difference to float64, in units of the largest value, of results and of every gradient."""
    peer_tolerance: float | None = None
    """The same for the others, where they are worse; None: no worse."""
    not_same: str = ""
    """What some way does more or less than the others."""
    missing: dict[str, str] = field(default_factory=dict)
    mask: Tensor | None = None
    """1 for what is compared and has a gradient, broadcast against every result."""
    truth_on_cpu: bool = False
    """The reference runs emogs, too, whose CUDA kernels have no float64."""

    @property
    def reference(self) -> Function:
        """What float64 makes the truth."""
        return self.ways.get(EAGER) or self.ways[EMOGS]


@dataclass(frozen=True)
class Sizes:
    """How much work: tokens and channels, width of a mesh, Gaussians, pixels, Gaussians and pixels of blending."""

    norm: tuple[int, int] = (20018, 1024)
    mesh: int = 90
    gaussians: int = 80_000
    pixels: int = 512
    many: tuple[int, int] = (32, 20_000)
    """Emotions of one call, and the Gaussians under them."""
    blended: tuple[int, int] = (20_000, 256)
    group: int = 1 << 21
    """Pixels times pairs that torch blends at a time."""


TINY = Sizes((33, 16), 6, 100, 48, (2, 50), (60, 40), 1 << 17)


def doubled(given: Inputs) -> Inputs:
    return {name: t.double() for name, t in given.items()}


def results(contest: Contest, way: Function, given: Inputs) -> tuple[Tensor, ...]:
    """What a way makes, then the gradients of all it was given, for a fixed random direction."""
    leaves = {name: t.clone().requires_grad_() for name, t in given.items()}
    made = way(leaves)
    return tuple(made) + torch.autograd.grad(made, list(leaves.values()), directions(contest, made))


def directions(contest: Contest, made: tuple[Tensor, ...]) -> list[Tensor]:
    """Rounded to the type of the inputs, so that float64 takes the same."""
    generator = torch.Generator().manual_seed(7)
    least = min((t.dtype for t in contest.given.values()), key=lambda dtype: dtype.itemsize)
    drawn = [torch.randn(t.shape, generator=generator).to(least).to(t.device, t.dtype) for t in made]
    return [d if contest.mask is None else d * contest.mask.to(d.device) for d in drawn]


def differences(contest: Contest) -> dict[str, float]:
    """By way: the largest difference to float64 in units of the largest value, over results and gradients.

    Where nobody has a torch version the truth is emogs."""
    exact = contest.given if EAGER not in contest.ways else doubled(contest.given)
    if contest.truth_on_cpu:
        exact = {name: t.cpu() for name, t in exact.items()}
    truth = results(contest, contest.reference, exact)
    count = len(truth) - len(contest.given)

    def apart(found: tuple[Tensor, ...]) -> float:
        worst = torch.zeros(())
        for place, (ours, exact) in enumerate(zip(found, truth, strict=True)):
            exact = exact.detach().to(ours.device)
            mask = 1 if contest.mask is None or place >= count else contest.mask
            error = (ours.detach().double() - exact).abs() * mask
            scale = (exact.abs() * mask).max().clamp(min=1e-30)
            worst = torch.maximum(worst, (error.max() / scale).cpu())
        return float(worst)  # NaN is largest

    return {name: apart(results(contest, way, contest.given)) for name, way in contest.ways.items()}


def cases(contest: Contest) -> dict[str, dict[str, Callable[[], object]]]:
    """What is timed, by direction and way."""
    leaves = {name: t.clone().requires_grad_() for name, t in contest.given.items()}
    to = directions(contest, contest.ways[EMOGS](contest.given))

    def both(way: Function) -> object:
        return torch.autograd.grad(way(leaves), list(leaves.values()), to)

    return {
        "forward": {name: partial(way, contest.given) for name, way in contest.ways.items()},
        "forward + backward": {name: partial(both, way) for name, way in contest.ways.items()},
    }


def compiled(contest: Contest, make: Callable[[], Function] | None = None) -> Contest:
    """Also with torch.compile, or why not. `make` compiles a part where the whole does not compile well."""
    torch._dynamo.reset()
    try:
        way = make() if make else torch.compile(contest.ways[EAGER], dynamic=False)
        results(contest, way, contest.given)
    except Exception as error:  # no compiler, or it gives up: another way is missing, which is said
        reason = f"{type(error).__name__}: {str(error).strip().splitlines()[0]}"
        return dataclasses.replace(contest, missing=contest.missing | {COMPILED: reason[:200]})
    return dataclasses.replace(contest, ways=contest.ways | {COMPILED: way})


def one(function: Callable[..., Tensor]) -> Function:
    """By keywords, with one result."""
    return lambda given: (function(**given),)


def norm(sizes: Sizes, device: torch.device, dtype: torch.dtype) -> Contest:
    tokens, channels = sizes.norm
    generator = torch.Generator().manual_seed(0)
    given = {"x": torch.randn(1, tokens, channels, generator=generator).to(device, dtype)}
    shapes = {"scale": (1, channels), "shift": (1, channels), "weight": (channels,), "bias": (channels,)}
    given |= {name: torch.randn(shape, generator=generator).to(device) for name, shape in shapes.items()}
    ways = {EMOGS: one(emogs.emotion_norm), EAGER: one(torch_peers.plain_norm)}
    label = str(dtype).removeprefix("torch.")
    name = f"emotion_norm/{tokens}x{channels}/{label}"
    if dtype == torch.float32:
        return Contest(name, ways, given, 1e-4)  # sums over all tokens
    said = (
        "torch rounds to bfloat16 after every operator and sums the gradients of the vectors in it, emogs rounds once"
    )
    return Contest(name, ways, given, 0.01, 0.5, said)  # one rounding is 2^-9; torch's sums lose most of their digits


def block(sizes: Sizes, device: torch.device) -> Contest:
    """A norm behind a gated residual, four regions of tokens with a code each."""
    tokens, channels = sizes.norm
    generator = torch.Generator().manual_seed(0)
    shapes = {"x": (1, tokens, channels), "residual": (1, tokens, channels), "weight": (channels,), "bias": (channels,)}
    shapes |= dict.fromkeys(("scale", "shift", "gate"), (1, 4, channels))
    given = {name: torch.randn(shape, generator=generator).to(device) for name, shape in shapes.items()}
    region = torch.randint(4, (tokens,), generator=generator, dtype=torch.int32).to(device)
    ways: dict[str, Function] = {
        EMOGS: lambda t: emogs.emotion_norm(**t, region=region),
        EAGER: lambda t: emotion_norm_reference(**t, region=region),
    }
    return Contest(f"emotion_norm/{tokens}x{channels}-block/float32", ways, given, 1e-4)


def renorm(sizes: Sizes, device: torch.device) -> Contest:
    generator = torch.Generator().manual_seed(0)
    shapes = {"params": (32, 300, 153)} | dict.fromkeys(("center", "scale", "shift"), (32, 153))
    given = {name: torch.randn(shape, generator=generator).to(device) for name, shape in shapes.items()}
    ways = {EMOGS: one(emotion_renorm), EAGER: one(emotion_renorm_reference)}
    return Contest("emotion_renorm/32x300x153/float32", ways, given, 1e-5)


def rig(sizes: Sizes, device: torch.device) -> Contest:
    """Eight wavy poses of a square mesh without degenerate faces."""
    steps = torch.linspace(0, 1, sizes.mesh)
    rest = torch.stack([*torch.meshgrid(steps, steps, indexing="ij"), torch.zeros(sizes.mesh, sizes.mesh)], -1)
    corner = torch.arange(sizes.mesh**2).view(sizes.mesh, sizes.mesh)
    a, b, c, d = corner[:-1, :-1], corner[1:, :-1], corner[:-1, 1:], corner[1:, 1:]
    faces = torch.cat([torch.stack(f, -1).view(-1, 3) for f in ((a, b, c), (c, b, d))]).int().to(device)
    phase = torch.arange(8.0)[:, None, None]
    height = 0.05 * torch.sin(9 * rest[None, ..., 0] + phase) * torch.cos(7 * rest[None, ..., 1])
    vertices = rest + torch.stack([0.3 * height, 0.2 * height, height], -1)
    rest = rest.view(-1, 3).to(device)
    ways: dict[str, Function] = {
        EMOGS: lambda t: (rig_frames(t["vertices"], faces, rest.to(t["vertices"].dtype)),),
        EAGER: lambda t: (torch_peers.rig_frames(t["vertices"], faces, rest.to(t["vertices"].dtype)),),
    }
    given = {"vertices": vertices.view(8, -1, 3).to(device)}
    said, name = "emogs also looks for degenerate faces and bad indices", f"rig_frames/8x{len(faces)}/float32"
    # Edges are a hundredth of the coordinates that they are differences of.
    return Contest(name, ways, given, 1e-4, not_same=said)


def projection(sizes: Sizes, device: torch.device) -> Contest:
    """Without an emotion, against gsplat's own reference in torch."""
    try:
        from gsplat.cuda import _torch_impl as theirs
    except Exception as error:  # on a GPU it may compile its kernels here
        theirs, missing = None, {EAGER: f"gsplat's reference in torch: {error}"}
    else:
        missing = {}
    scene = speed_cases.Scene(sizes.gaussians, pixels=(sizes.pixels, sizes.pixels))
    fields, cameras, _ = scene.make(device)
    splats = project_gaussians(emogs.Gaussians(**fields), cameras)

    def ours(t: Inputs) -> tuple[Tensor, ...]:
        records = project_gaussians(emogs.Gaussians(**t, **others(t)), matching(cameras, t["means"])).records
        return records[..., 0:2], records[..., 2:5], records[..., 6:7]

    def others(t: Inputs) -> Inputs:
        return {name: fields[name].to(t["means"]) for name in ("opacities", "colors")}

    def reference(t: Inputs) -> tuple[Tensor, ...]:
        own = matching(cameras, t["means"])
        covariances, _ = theirs._quat_scale_to_covar_preci(t["quats"], t["scales"], compute_preci=False)
        size = (cameras.width, cameras.height)
        _, means, depths, conics, _ = theirs._fully_fused_projection(
            t["means"], covariances, own.viewmats, own.Ks, *size
        )
        return means, conics, depths[..., None]

    ways: dict[str, Function] = {EMOGS: ours} | ({EAGER: reference} if theirs else {})
    given = {name: fields[name] for name in ("means", "quats", "scales")}
    not_same = (
        "torch is gsplat 1.5.3's reference: no colours and no extents by opacity; compared where emogs draws; its "
        "determinant is a difference of products, which costs digits in float32"
    )
    mask = (splats.records[..., 7:] > 0).float()
    name = f"project_gaussians/head{sizes.gaussians}/float32"
    return Contest(name, ways, given, 1e-4, 1e-3, not_same, missing, mask)


def matching(cameras: emogs.Cameras, like: Tensor) -> emogs.Cameras:
    """Cameras in a tensor's type."""
    return dataclasses.replace(cameras, viewmats=cameras.viewmats.to(like), Ks=cameras.Ks.to(like))


def modulated(sizes: Sizes, device: torch.device, emotions: int, gaussians: int) -> Contest:
    """Projection under emotions, fused; against a modulated copy of the Gaussians that is then projected."""
    scene = speed_cases.Scene(gaussians, emotions=emotions, pixels=(sizes.pixels, sizes.pixels))
    given, cameras, _ = scene.make(device)

    def ours(t: Inputs) -> tuple[Tensor, ...]:
        cloud, options = speed_cases.arguments(t)
        splats = project_gaussians(cloud, matching(cameras, t["means"]), **options)
        return splats.records[..., :7], splats.colors

    def unfused(t: Inputs) -> tuple[Tensor, ...]:
        cloud, options = speed_cases.arguments(t)
        splats = project_gaussians(scenes.modulated(cloud, **options), matching(cameras, t["means"]))
        return splats.records[..., :7], splats.colors

    cloud, options = speed_cases.arguments(given)
    visible = project_gaussians(cloud, cameras, **options).records[..., 7:] > 0
    name = f"project_gaussians/head{gaussians}-{emotions}emotions/float32"
    said = "torch modulates a copy of the Gaussians, which emogs then projects"
    ways: dict[str, Function] = {EMOGS: ours, EAGER: unfused}
    return Contest(name, ways, given, 1e-3, not_same=said, mask=visible.float(), truth_on_cpu=True)


def blending(sizes: Sizes, device: torch.device) -> tuple[Contest, Callable[[], Function]]:
    """Blending over the same tile lists, and how its torch version compiles."""
    count, pixels = sizes.blended
    scene = speed_cases.Scene(count, pixels=(pixels, pixels))
    splats = speed_cases.projected(scene, device)
    lists = intersect_tiles(splats, pixels, pixels)
    groups, settings = torch_peers.tile_groups(lists, elements=sizes.group), speed_cases.SETTINGS

    def ours(t: Inputs) -> tuple[Tensor, ...]:
        seen = Splats(t["records"][None], t["colors"][None], splats.outside, splats.non_finite)
        return (blend_tiles(seen, lists, pixels, pixels, settings=settings)[0][0],)

    def theirs(t: Inputs, group: Callable[..., Tensor] = torch_peers.blend_group) -> tuple[Tensor, ...]:
        return (torch_peers.blend(t["records"], t["colors"], groups, pixels, pixels, settings, group),)

    given = {"records": splats.records[0], "colors": splats.colors[0]}
    said = "torch takes lists padded to two lengths beforehand, goes on behind opaque pixels, and skips no rows"
    missing = {} if device.type == "cuda" else {GSPLAT: NO_KERNELS}
    name, ways = f"blend_tiles/head{count}-{pixels}pixels/float32", {EMOGS: ours, EAGER: theirs}
    # A pair at the cut of alpha that only one side draws changes a pixel by 1/255, and its splat's gradient.
    contest = Contest(name, ways, given, 0.01, not_same=said, missing=missing)
    return contest, lambda: partial(theirs, group=torch.compile(torch_peers.blend_group, dynamic=False))


def rendering(sizes: Sizes, device: torch.device) -> Contest:
    """The whole rasterizer beside gsplat's, which exists on a GPU only."""
    scene = speed_cases.Scene(sizes.gaussians, pixels=(sizes.pixels, sizes.pixels))
    given, cameras, _ = scene.make(device)
    settings = speed_cases.SETTINGS
    missing = {}
    try:
        peer = gpu_cases.peer_rasterizer()
    except Exception as error:  # not there, or its kernels do not compile
        missing = {GSPLAT: f"{type(error).__name__}: {error}"[:200]}

    def ours(t: Inputs) -> tuple[Tensor, ...]:
        return (emogs.rasterize(emogs.Gaussians(**t), matching(cameras, t["means"]), settings=settings).colors,)

    def theirs(t: Inputs) -> tuple[Tensor, ...]:
        fields = [t[name] for name in speed_cases.FIELDS]
        return (peer(*fields, cameras.viewmats, cameras.Ks, cameras.width, cameras.height, packed=False)[0],)

    name = f"rasterize/head{sizes.gaussians}/float32"
    said = "gsplat's tile lists hold pairs that are below the cut of alpha at every pixel"
    # Pairs at the cut, as above; the truth is emogs in float32: neither has float64 on a GPU.
    ways: dict[str, Function] = {EMOGS: ours} | ({} if missing else {GSPLAT: theirs})
    return Contest(name, ways, given, 0.01, not_same=said, missing=missing)


def all_contests(sizes: Sizes, device: torch.device) -> dict[str, Callable[[bool], Contest]]:
    """By name, each made when it is called, which says whether torch.compile takes part."""
    tokens, channels = sizes.norm
    many, few = sizes.many
    count, pixels = sizes.blended
    made: dict[str, Callable[[], Contest]] = {
        f"emotion_norm/{tokens}x{channels}/float32": partial(norm, sizes, device, torch.float32),
        f"emotion_norm/{tokens}x{channels}/bfloat16": partial(norm, sizes, device, torch.bfloat16),
        f"emotion_norm/{tokens}x{channels}-block/float32": partial(block, sizes, device),
        "emotion_renorm/32x300x153/float32": partial(renorm, sizes, device),
        f"rig_frames/8x{2 * (sizes.mesh - 1) ** 2}/float32": partial(rig, sizes, device),
        f"project_gaussians/head{sizes.gaussians}/float32": partial(projection, sizes, device),
        f"project_gaussians/head{sizes.gaussians}-1emotions/float32": partial(
            modulated, sizes, device, 1, sizes.gaussians
        ),
        f"project_gaussians/head{few}-{many}emotions/float32": partial(modulated, sizes, device, many, few),
    }

    def take_part(make: Callable[[], Contest], with_compile: bool) -> Contest:
        contest = make()
        return compiled(contest) if with_compile and EAGER in contest.ways else contest

    def blended(with_compile: bool) -> Contest:
        contest, parts = blending(sizes, device)
        return compiled(contest, parts) if with_compile else contest

    found: dict[str, Callable[[bool], Contest]] = {name: partial(take_part, make) for name, make in made.items()}
    found[f"blend_tiles/head{count}-{pixels}pixels/float32"] = blended
    if device.type == "cuda":
        found[f"rasterize/head{sizes.gaussians}/float32"] = lambda _: rendering(sizes, device)
    return found
