"""Emotions in every language that people annotate, track or direct them in: see docs/emotions.md for the map."""

from .action_units import format_action_units, intensities_from_levels, levels_from_intensities, parse_action_units
from .affect import AFFECT_NAMES, affect_from_emotion, emotion_from_affect
from .codes import PSI_WIDTH, format_emotion, parse_emotion, psi
from .converters import CONVERTERS, Converted, Converter, conversion_table, convert
from .distributions import (
    LabelDistribution,
    agreement,
    distribution_from_emotion,
    distribution_from_votes,
    distribution_loss,
    emotion_from_distribution,
    temper,
)
from .geometry import GeometryPath, anchor_codes
from .labels import (
    LabelSet,
    Remapped,
    class_codes,
    emotion_from_labels,
    label_set,
    label_sets,
    labels_from_emotion,
    remap_probabilities,
)
from .languages import Language, find_language, languages
from .mixing import action_units_from_emotion, expression_from_action_units, expression_from_emotion
from .pain import HIGHEST_PAIN, action_units_from_pain, pain_from_action_units
from .reading import (
    EmotionReading,
    UnitReading,
    action_units_from_expression,
    emotion_from_action_units,
    emotion_from_expression,
    split_articulation,
)
from .regions import (
    emotion_from_regions,
    expression_from_regions,
    format_regions,
    parse_regions,
    template_regions,
    texel_regions,
)
from .tables import EMOTIONS, EmotionTables, default_tables, load_tables
from .tracks import Track, load_track, save_track
from .trajectories import EASES, Episode, Trajectory, find_episode, frame_times, pulse
from .votes import VoteTable, dataset_of_votes, load_votes

__all__ = [
    "AFFECT_NAMES",
    "CONVERTERS",
    "EASES",
    "EMOTIONS",
    "HIGHEST_PAIN",
    "PSI_WIDTH",
    "Converted",
    "Converter",
    "EmotionReading",
    "EmotionTables",
    "Episode",
    "GeometryPath",
    "LabelDistribution",
    "LabelSet",
    "Language",
    "Remapped",
    "Track",
    "Trajectory",
    "UnitReading",
    "VoteTable",
    "action_units_from_emotion",
    "action_units_from_expression",
    "action_units_from_pain",
    "affect_from_emotion",
    "agreement",
    "anchor_codes",
    "class_codes",
    "conversion_table",
    "convert",
    "dataset_of_votes",
    "default_tables",
    "distribution_from_emotion",
    "distribution_from_votes",
    "distribution_loss",
    "emotion_from_action_units",
    "emotion_from_affect",
    "emotion_from_distribution",
    "emotion_from_expression",
    "emotion_from_labels",
    "emotion_from_regions",
    "expression_from_action_units",
    "expression_from_emotion",
    "expression_from_regions",
    "find_episode",
    "find_language",
    "format_action_units",
    "format_emotion",
    "format_regions",
    "frame_times",
    "intensities_from_levels",
    "label_set",
    "label_sets",
    "labels_from_emotion",
    "languages",
    "levels_from_intensities",
    "load_tables",
    "load_track",
    "load_votes",
    "pain_from_action_units",
    "parse_action_units",
    "parse_emotion",
    "parse_regions",
    "psi",
    "pulse",
    "remap_probabilities",
    "save_track",
    "split_articulation",
    "temper",
    "template_regions",
    "texel_regions",
]
