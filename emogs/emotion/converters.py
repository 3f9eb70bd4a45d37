"""The map between the languages: which conversion exists, what it loses, and where its method comes from.

`convert` walks it by the shortest way. docs/emotions.md holds the same table; a test compares the two.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from torch import Tensor

from .affect import affect_from_emotion, emotion_from_affect
from .languages import find_language
from .mixing import action_units_from_emotion, expression_from_action_units, expression_from_emotion
from .pain import action_units_from_pain, pain_from_action_units
from .reading import action_units_from_expression, emotion_from_action_units, emotion_from_expression
from .regions import emotion_from_regions, expression_from_regions
from .tables import EMOTIONS, EmotionTables, default_tables
from .tracks import Track

Split = tuple[Tensor, Tensor | None]
"""Values in the target language, and articulation as ARKit shapes [..., 52] where the source held some."""


@dataclass(frozen=True)
class Converter:
    """One conversion between two languages, or between a language and labels or votes."""

    source: str
    target: str
    function: str
    """Its name in emogs.emotion."""
    loses: str
    method: str
    """Where it comes from."""
    run: Callable[[Tensor, EmotionTables], Split] | None = None
    """None for those that need more than a tensor, such as a data set's name."""


@dataclass(frozen=True, eq=False)
class Converted:
    """A track in another language, with what the conversion split off and what it lost."""

    track: Track
    articulation: Track | None
    """Jaw, gaze, blinks and speech of the source, as ARKit shapes; None if the way met none."""
    steps: tuple[Converter, ...]


def convert(track: Track, target: str, tables: EmotionTables | None = None) -> Converted:
    """A track in another language, by the shortest way of `CONVERTERS`.

    Raises:
        ValueError: there is no such language, or no way to it.

    >>> import torch
    >>> smile = Track("emotion", torch.zeros(1, dtype=torch.float64), torch.eye(7)[:1])
    >>> converted = convert(smile, "action units")
    >>> converted.track.values.shape, [step.function for step in converted.steps]
    (torch.Size([1, 32, 2]), ['action_units_from_emotion'])
    """
    tables = tables or default_tables()
    if not isinstance(track, Track):
        raise TypeError(f"track: expected a Track, got {type(track).__name__}")
    steps = way(find_language(track.language, tables).name, find_language(target, tables).name)
    values, articulation = track.values, None
    for step in steps:
        assert step.run is not None
        values, split = step.run(values, tables)
        articulation = split if split is not None else articulation
    out = replace(track, language=find_language(target, tables).name, values=values.float(), ignored=())
    if articulation is None:
        return Converted(out, None, steps)
    return Converted(out, replace(track, language="arkit", values=articulation.float(), ignored=()), steps)


def way(source: str, target: str) -> tuple[Converter, ...]:
    """The converters from one language to another, as few as possible; none if they are one."""
    ways: dict[str, tuple[Converter, ...]] = {source: ()}
    reached = [source]
    for here in reached:
        for step in CONVERTERS:
            if step.run is not None and step.source == here and step.target not in ways:
                ways[step.target] = (*ways[here], step)
                reached.append(step.target)
    if target not in ways:
        raise ValueError(
            f"there is no way from {source} to {target}; from {source} lead ways to {', '.join(reached[1:])}"
        )
    return ways[target]


def conversion_table() -> str:
    """CONVERTERS as the Markdown table of docs/emotions.md."""
    rows = [f"| {c.source} | {c.target} | `{c.function}` | {c.loses} | {c.method} |" for c in CONVERTERS]
    return "\n".join(["| from | to | function | lost | source |", "|---|---|---|---|---|", *rows])


def _units_and_articulation(expression: Tensor, tables: EmotionTables) -> Split:
    read = action_units_from_expression(expression, tables)
    return read.units, expression_from_action_units(read.articulation, tables)


def _felt_in_units(units: Tensor, tables: EmotionTables) -> Split:
    read = emotion_from_action_units(units, tables)
    return read.codes, expression_from_action_units(read.articulation.clamp(0, 1), tables)


def _felt_in_shapes(expression: Tensor, tables: EmotionTables) -> Split:
    read = emotion_from_expression(expression, tables)
    return read.codes, read.articulation


def _alike(codes: Tensor, tables: EmotionTables) -> Tensor:
    return codes[..., None, :].expand(*codes.shape[:-1], len(tables.regions), len(EMOTIONS))


CONVERTERS = (
    Converter(
        "emotion", "action units", "action_units_from_emotion",
        "nothing for single emotions, compounds and most mixes; mixes in which antagonists cancel look like others",
        "EMFACS and FACS manual; compounds: Du, Tao & Martinez 2014; strengths and noisy-or: emogs",
        lambda codes, tables: (action_units_from_emotion(codes, tables), None),
    ),
    Converter(
        "action units", "emotion", "emotion_from_action_units",
        "units that no emotion shows (returned as `lost`); articulation is split off",
        "least squares through the table above",
        _felt_in_units,
    ),
    Converter(
        "emotion", "arkit", "expression_from_emotion",
        "sides of units whose shapes have none, and mixes that look alike",
        "by way of action units",
        lambda codes, tables: (expression_from_emotion(codes, tables), None),
    ),
    Converter(
        "arkit", "emotion", "emotion_from_expression",
        "what no emotion shows (returned as `lost`); articulation is split off",
        "by way of action units",
        _felt_in_shapes,
    ),
    Converter(
        "action units", "arkit", "expression_from_action_units",
        "the sides of units whose shapes have none (1, 17, 18, 22, 26 to 29, 33); which of 10 and 11, of 43 and 45",
        "ICT-FaceKit's table (Li et al. 2020), four units proposed; replaceable by `with_shapes`",
        lambda units, tables: (expression_from_action_units(units, tables), None),
    ),
    Converter(
        "arkit", "action units", "action_units_from_expression",
        "shapes that no unit has: mouthClose, mouthLeft/Right, mouthShrugUpper, tongueOut, lips rolled unequally "
        "(returned as `lost`); articulation is split off",
        "the same table, undone in a fixed order",
        _units_and_articulation,
    ),
    Converter(
        "emotion", "affect", "affect_from_emotion",
        "which emotions they were: seven numbers become three; contempt needs a place of your own",
        "Russell & Mehrabian 1977, as carried by public code",
        lambda codes, tables: (affect_from_emotion(codes, tables), None),
    ),
    Converter(
        "affect", "emotion", "emotion_from_affect",
        "what lies beyond full emotions, and pleasant calm, for which the seven have no name",
        "cones between neighbouring emotions; circumplex: Russell 1980",
        lambda affect, tables: (emotion_from_affect(affect, tables), None),
    ),
    Converter(
        "valence arousal", "emotion", "emotion_from_affect",
        "what lies beyond full emotions, and pleasant calm; anger and fear, which dominance tells apart, lie close",
        "the same, in the plane",
        lambda affect, tables: (emotion_from_affect(affect, tables), None),
    ),
    Converter(
        "affect", "valence arousal", "affect[..., :2]",
        "dominance",
        "by definition",
        lambda affect, tables: (affect[..., :2], None),
    ),
    Converter(
        "action units", "pain", "pain_from_action_units",
        "everything but one number from 0 to 16",
        "PSPI: Prkachin & Solomon 2008",
        lambda units, tables: (pain_from_action_units(units, tables), None),
    ),
    Converter(
        "pain", "action units", "action_units_from_pain",
        "nothing, but which units they were was not known: equal strength is assumed",
        "emogs",
        lambda score, tables: (action_units_from_pain(score, tables), None),
    ),
    Converter(
        "regions", "arkit", "expression_from_regions",
        "what a region's code would do elsewhere",
        "emogs",
        lambda codes, tables: (expression_from_regions(codes, tables), None),
    ),
    Converter(
        "regions", "emotion", "emotion_from_regions",
        "where which emotion was: their mean stays",
        "emogs",
        lambda codes, tables: (emotion_from_regions(codes, tables), None),
    ),
    Converter(
        "emotion", "regions", "codes[..., None, :]",
        "nothing: all regions alike",
        "by definition",
        lambda codes, tables: (_alike(codes, tables), None),
    ),
    Converter(
        "labels", "emotion", "emotion_from_labels",
        "calm becomes neutral",
        "the data sets' own orders (labels.json); compounds: Du, Tao & Martinez 2014",
    ),
    Converter(
        "emotion", "labels", "labels_from_emotion",
        "intensity, and every emotion but the strongest or the nearest compound",
        "emogs",
    ),
    Converter(
        "votes", "distribution", "distribution_from_votes",
        "how many voted; unknown and no-face votes become lower reliability",
        "FER+: Barsoum et al. 2016; Shannon's entropy",
    ),
    Converter(
        "distribution", "emotion", "emotion_from_distribution",
        "whether a middling intensity is faint or disputed; calm becomes neutral",
        "the mean of the classes' codes",
    ),
    Converter(
        "emotion", "distribution", "distribution_from_emotion",
        "how strong intensities are that sum to more than 1; emotions without a class",
        "its inverse",
    ),
    Converter(
        "distribution", "distribution", "remap_probabilities",
        "classes that the other data set lacks (returned as `lost`)",
        "by name, never by index",
    ),
)  # fmt: skip
"""Every conversion, in the order of the table in docs/emotions.md."""
