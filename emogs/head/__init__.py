"""Head templates: the built-in one, and those loaded from other people's models."""

from .builtin import builtin_head
from .flame import load_flame
from .ict import load_ict
from .loading import load_template
from .skeleton import Skeleton
from .template import ARKIT_NAMES, HeadTemplate, Rotation
from .template_file import save_template
from .uv import TexelMap, texel_map

__all__ = [
    "ARKIT_NAMES", "HeadTemplate", "Rotation", "Skeleton", "TexelMap", "builtin_head", "load_flame", "load_ict",
    "load_template", "save_template", "texel_map",
]  # fmt: skip
