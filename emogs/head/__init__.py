"""Head templates: the built-in one, and those loaded from other people's models."""

from .builtin import builtin_head
from .ict import load_ict
from .template import ARKIT_NAMES, HeadTemplate, Rotation
from .uv import TexelMap, texel_map

__all__ = ["ARKIT_NAMES", "HeadTemplate", "Rotation", "TexelMap", "builtin_head", "load_ict", "texel_map"]
