"""Emotions in every language that people annotate, track or direct them in: see docs/emotions.md for the map."""

from .action_units import (
    format_action_units,
    intensities_from_levels,
    levels_from_intensities,
    parse_action_units,
)
from .affect import AFFECT_NAMES, affect_from_emotion, emotion_from_affect
from .codes import PSI_WIDTH, format_emotion, parse_emotion, psi
from .geometry import GeometryPath, anchor_codes
from .mixing import action_units_from_emotion, expression_from_action_units, expression_from_emotion
from .reading import (
    EmotionReading,
    UnitReading,
    action_units_from_expression,
    emotion_from_action_units,
    emotion_from_expression,
    split_articulation,
)
from .tables import EMOTIONS, EmotionTables, default_tables, load_tables

__all__ = [
    "AFFECT_NAMES",
    "EMOTIONS",
    "PSI_WIDTH",
    "EmotionReading",
    "EmotionTables",
    "GeometryPath",
    "UnitReading",
    "action_units_from_emotion",
    "action_units_from_expression",
    "affect_from_emotion",
    "anchor_codes",
    "default_tables",
    "emotion_from_action_units",
    "emotion_from_affect",
    "emotion_from_expression",
    "expression_from_action_units",
    "expression_from_emotion",
    "format_action_units",
    "format_emotion",
    "intensities_from_levels",
    "levels_from_intensities",
    "load_tables",
    "parse_action_units",
    "parse_emotion",
    "psi",
    "split_articulation",
]
