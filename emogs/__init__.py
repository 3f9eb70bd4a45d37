"""emogs: Gaussian heads whose emotion is a control signal of its own."""

from importlib.metadata import version

from emogs.ops.norm import emotion_norm

__all__ = ["emotion_norm"]

__version__ = version("emogs")
