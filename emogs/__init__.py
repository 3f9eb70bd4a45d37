"""emogs: Gaussian heads whose emotion is a control signal of its own."""

import sys
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any


def _is_command() -> bool:
    """Whether this process is the command `emogs` or `python -m emogs`: its help need not wait for torch."""
    called = sys.argv[0] if sys.argv else ""
    return Path(called).stem == "emogs" or (called == "-m" and "emogs" in sys.orig_argv)


if TYPE_CHECKING or not _is_command():
    from emogs._api import *  # noqa: F403
    from emogs._api import __all__ as __all__

__version__ = version("emogs")


def __getattr__(name: str) -> Any:
    """A public name that is asked for while the command line runs."""
    if name.startswith("_") and name != "__all__":
        raise AttributeError(f"module 'emogs' has no attribute {name!r}")
    from emogs import _api

    return getattr(_api, name)
