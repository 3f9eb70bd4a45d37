"""Every example in a docstring runs and prints what it says."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

import emogs

MODULES = sorted(m.name for m in pkgutil.walk_packages(emogs.__path__, "emogs.") if m.name != "emogs._C")


@pytest.mark.parametrize("name", MODULES)
def test_examples(name):
    module = importlib.import_module(name)
    if not any(test.examples for test in doctest.DocTestFinder().find(module)):
        return
    result = doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS)
    assert result.failed == 0
