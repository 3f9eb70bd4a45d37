"""`emogs bench ratios`: bounds that hold on every machine, since both sides of a ratio run there, in turns.

They need no baseline: fused against unfused, under an emotion against plain, with backward against forward. A bound is
about 1.3 times the largest ratio measured over instruction sets (docs/speed.md); it catches what loses an
advantage, not a few per cent. With one thread the time is the processor's.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import speed_cases
import speed_stamp
import torch
from gate import CANNOT_TELL, FAILED, PASSED
from measure import Case, interleave
from rich.console import Console
from speed_cases import COMPONENTS, Scene, matching
from speed_contests import EAGER, EMOGS, TINY, Sizes, all_contests, cases
from speed_peers import clock
from speed_verdict import FINE, SLOWER, UNSURE, Paired, decide

import emogs
from emogs.info import info

KIND = "emogs bench ratios"
CPU = torch.device("cpu")
WITHIN, ABOVE, TOY = "within its bound", "above its bound", "not judged"
VERDICTS = (WITHIN, ABOVE, UNSURE, TOY)

Pair = tuple[Case, Case]


@dataclass(frozen=True)
class Ratio:
    """One call in units of another."""

    bound: float
    make: Callable[[], Pair]


def fused(contest: str, direction: str, sizes: Sizes) -> Pair:
    """emogs / torch, of a contest."""
    ways = cases(all_contests(sizes, CPU)[contest](False))[direction]
    return ways[EMOGS], ways[EAGER]


def renders(scene: Scene, **changes: Any) -> Callable[..., torch.Tensor]:
    """A whole call over a scene; keywords replace its arguments."""
    given, cameras, more = scene.make(CPU)
    gaussians, options = speed_cases.arguments(given, **more)
    options |= {"settings": speed_cases.SETTINGS} | changes
    return lambda **other: emogs.rasterize(gaussians, cameras, **options | other).colors


def emotion_or_none(scene: Scene, null: bool) -> Pair:
    """Under one emotion, or the null code, against no emotion."""
    with_code = renders(dataclasses.replace(scene, emotions=1))
    code = {"emotion": torch.zeros(1, COMPONENTS)} if null else {}
    return partial(with_code, **code), renders(scene)


def together(scene: Scene) -> Pair:
    """All emotions in one call against a call for each."""
    call = renders(scene)
    codes = torch.rand(scene.emotions, COMPONENTS, generator=torch.Generator().manual_seed(5))

    def one_by_one() -> None:
        for row in codes:
            call(emotion=row[None])

    return partial(call, emotion=codes), one_by_one


def half_basis(scene: Scene) -> Pair:
    """A float16 basis against a float32 one."""
    works = [speed_cases.project(dataclasses.replace(scene, basis=b), "forward", CPU) for b in ("float16", "float32")]
    return works[0].call, works[1].call


def with_backward(work: Callable[[str], speed_cases.Work]) -> Pair:
    """Backward alone against forward."""
    return work("backward").call, work("forward").call


def whole_or_stages(scene: Scene) -> Pair:
    """`rasterize` against its three stages called by hand."""
    stages = (speed_cases.project(scene, "forward", CPU), speed_cases.tiles(scene, CPU))
    calls = [work.call for work in (*stages, speed_cases.blend(scene, "forward", CPU))]
    return renders(scene), lambda: [call() for call in calls]


def layer_or_call(sizes: Sizes) -> Pair:
    """`EmotionNorm` against `emotion_norm`: what the projection of the code costs."""
    layer = speed_cases.norm_module(*sizes.norm, "forward", CPU)
    return layer.call, speed_cases.norm(*sizes.norm, "float32", "layer", "forward", CPU).call


def all_ratios(sizes: Sizes) -> dict[str, Ratio]:
    """By name: what / in units of what."""
    size, (many, few) = "{}x{}".format(*sizes.norm), sizes.many
    square = (sizes.pixels, sizes.pixels)
    head, small = Scene(sizes.gaussians, pixels=square), Scene(few, pixels=square)
    norm = f"emotion_norm/{size}/float32"
    rig = f"rig_frames/8x{2 * (sizes.mesh - 1) ** 2}/float32"
    projected = f"project_gaussians/head{few}-{many}emotions/float32"
    blended = "blend_tiles/head{}-{}pixels/float32".format(*sizes.blended)

    def against_torch(contest: str, forward: float, both: float) -> dict[str, Ratio]:
        bounds = {"forward": forward, "forward + backward": both}
        return {
            f"{contest}, {direction}: fused / torch": Ratio(bound, partial(fused, contest, direction, sizes))
            for direction, bound in bounds.items()
        }

    return {
        **against_torch(norm, 0.6, 0.55),
        **against_torch(f"emotion_norm/{size}-block/float32", 0.25, 0.35),
        **against_torch("emotion_renorm/32x300x153/float32", 0.75, 0.6),
        **against_torch(rig, 0.12, 0.15),
        **against_torch(projected, 0.7, 0.95),
        **against_torch(blended, 0.035, 0.035),
        f"rasterize/head{sizes.gaussians}: one emotion / none": Ratio(1.9, lambda: emotion_or_none(head, False)),
        f"rasterize/head{sizes.gaussians}: null emotion / none": Ratio(1.3, lambda: emotion_or_none(head, True)),
        f"rasterize/head{sizes.gaussians}: with depth, the default / without": Ratio(
            1.4, lambda: (renders(head, settings=emogs.RasterSettings()), renders(head))
        ),
        f"rasterize/head{few}: {many} emotions in one call / in {many}": Ratio(
            1.1, lambda: together(dataclasses.replace(small, emotions=many))
        ),
        f"project_gaussians/head{few}: {many} emotions, float16 basis / float32": Ratio(
            3.6 if info()["instruction_set"] == "baseline" else 1.3,  # SSE2 converts in software
            lambda: half_basis(dataclasses.replace(small, emotions=many)),
        ),
        f"rasterize/head{few}: backward / forward": Ratio(
            2.6, lambda: with_backward(lambda d: speed_cases.whole(small, d, CPU))
        ),
        f"{norm}: backward / forward": Ratio(
            3.5, lambda: with_backward(lambda d: speed_cases.norm(*sizes.norm, "float32", "layer", d, CPU))
        ),
        f"rasterize/head{sizes.gaussians}: whole / three stages": Ratio(1.3, lambda: whole_or_stages(head)),
        f"EmotionNorm/{size}: layer / emotion_norm": Ratio(1.4, lambda: layer_or_call(sizes)),
    }


def judged(
    name: str, ratio: Ratio, rounds: int, seconds: Callable[[Case], float], quick: bool = False
) -> dict[str, Any]:
    """A ratio as it is stored: all samples, and whether it keeps to its bound; nobody asks that of toy sizes."""
    above, below = ratio.make()

    def batch(count: int) -> list[float]:
        samples = interleave(name, {"above": above, "below": below}, count, 1, seconds).samples
        return [a / b / ratio.bound for a, b in zip(samples["above"], samples["below"], strict=True)]

    verdict, paired = (TOY, Paired(batch(rounds))) if quick else decide(batch, 0.0, rounds, most=4)
    measured = Paired([value * ratio.bound for value in paired.ratios])
    median, low, high = measured.interval()
    said = {SLOWER: ABOVE, FINE: WITHIN}.get(verdict, verdict)
    figures = {"median": median, "low": low, "high": high, "bound": ratio.bound}
    return {"name": name, "verdict": said, **figures, "samples": measured.ratios}


def judge_all(
    only: Sequence[str], out: Path | None, rounds: int, quick: bool, console: Console, sizes: Sizes | None = None
) -> int:
    """A line a ratio. The exit code: 1 if one is above its bound, 77 if one cannot be told.

    Raises:
        ValueError: a pattern fits no ratio.
    """
    ratios, seconds = all_ratios(sizes or (TINY if quick else Sizes())), clock(CPU)
    content: dict[str, Any] = {"kind": KIND, **speed_stamp.stamp(quick), "ratios": []}
    for name in matching(ratios, only):
        found = judged(name, ratios[name], rounds, seconds, quick)
        content["ratios"].append(found)
        print_ratio(console, found)
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(content) + "\n")
    return exit_code([found["verdict"] for found in content["ratios"]])


def exit_code(verdicts: Sequence[str]) -> int:
    return FAILED if ABOVE in verdicts else CANNOT_TELL if UNSURE in verdicts else PASSED


def print_ratio(console: Console, found: dict[str, Any]) -> None:
    marks = {WITHIN: ("passed", "green"), ABOVE: ("FAILED", "red"), UNSURE: ("UNSURE", "yellow"), TOY: ("ran   ", None)}
    mark, style = marks[found["verdict"]]
    figures = f"{found['median']:.3f} [{found['low']:.3f}, {found['high']:.3f}], {found['bound']:g} allowed"
    text = f"{mark}  {found['name']}: {found['verdict']}, {figures}, {len(found['samples'])} turns"
    console.print(text, style=style, markup=False, soft_wrap=True)
