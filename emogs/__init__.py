"""emogs: Gaussian heads whose emotion is a control signal of its own."""

from importlib.metadata import version

__version__ = version("emogs")
