"""emogs: Gaussian heads whose emotion is a control signal of its own."""

import sys
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any


def _is_command() -> bool:
    """Whether this process is the command `emogs` or `python -m emogs`, whose help need not wait for torch.

    Its name does not tell: a program of someone else's that is called emogs counts on `import emogs` to register the
    operators. The command is what imports `emogs.cli` in its outermost code, as the scripts of all installers do.
    """
    called = sys.argv[0] if sys.argv else ""
    if called == "-m":
        return "emogs" in sys.orig_argv
    frame = sys._getframe()
    while frame.f_back:
        frame = frame.f_back
    return Path(called).stem == "emogs" and "emogs.cli" in frame.f_code.co_names


if TYPE_CHECKING or not _is_command():
    from emogs._api import *  # noqa: F403
    from emogs._api import __all__ as __all__

__version__ = version("emogs")


def __getattr__(name: str) -> Any:
    """A public name that is asked for while the command line runs."""
    if name == "__all__" or not name.startswith("_"):
        from emogs import _api

        if name == "__all__" or name in _api.__all__:
            return getattr(_api, name)
    raise AttributeError(f"module 'emogs' has no attribute {name!r}")


class _Package(ModuleType):
    """Keeps `emogs.rasterize` the function: importing the module of that name would put itself there."""

    def __setattr__(self, name: str, value: Any) -> None:
        if name != "rasterize" or not isinstance(value, ModuleType):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
