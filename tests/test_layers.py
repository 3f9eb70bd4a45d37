"""Modules import from below only: the layers of emogs, and no circles, whether on top of a file or in a function.

A unit is a package of emogs (`emogs.ops`) or a module beside them (`emogs.cameras`).
"""

from __future__ import annotations

import ast
import graphlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

import emogs

ROOT = Path(emogs.__file__).parent
LAYERS = (  # the lowest first; within a layer any order that makes no circle
    "_C checks tensor_fields workspace",
    "cameras gaussians",
    "ops",
    "nn rasterize",
    "_api __init__",
    "compat emotion head io",
    "photo",
    "model",
    "data drive",
    "train viewer",
    "__main__ cli cli_arguments cli_bench cli_emotion cli_fit cli_head cli_template cli_votes info",
)
LEVELS = {unit: level for level, units in enumerate(LAYERS) for unit in units.split()}


class Import(NamedTuple):
    """One unit's need for another."""

    unit: str
    target: str
    place: str


def find_imports(root: Path) -> Iterator[Import]:
    """Every import of one unit below the folder `root`, the package, by another."""
    units = {path.stem for path in root.iterdir() if path.suffix in (".py", ".so", ".pyi") or path.is_dir()} | {"_C"}
    for path in sorted(root.rglob("*.py")):
        package = (root.name, *path.relative_to(root).parts[:-1])
        unit = path.relative_to(root).parts[0].removesuffix(".py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            for name in _names(node, package):
                parts = name.split(".")
                if parts[0] != root.name:
                    continue
                target = parts[1] if len(parts) > 1 and parts[1] in units else "__init__"
                if target != unit:
                    yield Import(unit, target, f"{path.relative_to(root.parent)}:{getattr(node, 'lineno', 0)}")


def _names(node: ast.AST, package: tuple[str, ...]) -> list[str]:
    """The absolute names that an import statement asks for."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if not isinstance(node, ast.ImportFrom):
        return []
    base = package[: len(package) + 1 - node.level] if node.level else ()
    return [".".join(filter(None, (*base, node.module, alias.name))) for alias in node.names]


def find_faults(root: Path) -> list[str]:
    """What breaks the rules, a line each."""
    imports = list(find_imports(root))
    faults = [
        f"{each.place}: {each.unit} imports {each.target}, which lies above it"
        for each in imports
        if LEVELS[each.target] > LEVELS[each.unit]
    ]
    needs: dict[str, set[str]] = {}
    for each in imports:
        needs.setdefault(each.unit, set()).add(each.target)
    try:
        graphlib.TopologicalSorter(needs).prepare()
    except graphlib.CycleError as error:
        faults.append("circle: " + " needs ".join(reversed(error.args[1])))
    return faults


def test_every_unit_has_a_layer():
    units = {path.relative_to(ROOT).parts[0].removesuffix(".py") for path in ROOT.rglob("*.py")}
    assert units <= LEVELS.keys()


def test_imports_point_downwards():
    assert len(list(find_imports(ROOT))) > 100
    assert find_faults(ROOT) == []


@pytest.mark.parametrize(
    ("files", "faults"),
    [
        ({"rasterize.py": "from emogs.ops.blend import x", "ops/blend.py": "import torch"}, []),
        (
            {"ops/tiles.py": "def f():\n    from emogs.rasterize import x", "rasterize.py": ""},
            ["emogs/ops/tiles.py:2: ops imports rasterize, which lies above it"],
        ),
        (
            {"io/ply.py": "if TYPE_CHECKING:\n    from ..model.avatar import Avatar", "model/avatar.py": ""},
            ["emogs/io/ply.py:2: io imports model, which lies above it"],
        ),
        ({"head/face.py": "from .. import photo", "photo/view.py": ""}, ["emogs/head/face.py:1: head imports photo,"]),
        ({"ops/native.py": "import emogs"}, ["emogs/ops/native.py:1: ops imports __init__, which lies above it"]),
        ({"ops/native.py": "from emogs import _C"}, []),
        (
            {"cli_fit.py": "from .cli_head import x", "cli_head.py": "def main():\n    from emogs.cli_fit import fit"},
            ["circle: cli_"],
        ),
        ({"head/a.py": "from .b import x", "head/b.py": "from emogs.head import a"}, []),  # one unit's own affair
    ],
)
def test_what_breaks_the_rules_is_named(tmp_path, files, faults):
    for name, text in files.items():
        path = tmp_path / "emogs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    found = find_faults(tmp_path / "emogs")
    assert len(found) == len(faults) and all(map(str.startswith, found, faults))
