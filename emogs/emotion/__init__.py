"""Emotion codes, the tables that give them faces, and their effect on head parameters."""

from .codes import PSI_WIDTH, format_emotion, parse_emotion, psi
from .geometry import GeometryPath, anchor_codes
from .mixing import action_units_from_emotion, expression_from_action_units, expression_from_emotion
from .tables import EMOTIONS, EmotionTables, default_tables, load_tables

__all__ = [
    "EMOTIONS",
    "PSI_WIDTH",
    "EmotionTables",
    "GeometryPath",
    "action_units_from_emotion",
    "anchor_codes",
    "default_tables",
    "expression_from_action_units",
    "expression_from_emotion",
    "format_emotion",
    "load_tables",
    "parse_emotion",
    "psi",
]
