"""`emogs bench docs`: docs/ says what is stored, to the digit, and benchmarks/README.md names every file."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
import speed_docs
from speed_docs import TABLES, digits, interval, table, with_tables, write_tables

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted({page for page, _ in TABLES.values()})


@pytest.mark.parametrize("page", PAGES)
def test_docs_say_what_is_stored(page):
    assert (ROOT / page).read_text() == with_tables(page), "`emogs bench docs` writes what is stored"


def test_pages_are_written_once(tmp_path, monkeypatch):
    (tmp_path / "docs").mkdir()
    for page in PAGES:
        shutil.copy(ROOT / page, tmp_path / page)
    assert write_tables(tmp_path) == []
    peers = table(("", "ratio"), [("`blending`", digits(2.5))], "here.")
    monkeypatch.setitem(TABLES, "peers", ("docs/speed.md", lambda: peers))
    assert write_tables(tmp_path) == ["docs/speed.md"]
    written = (tmp_path / "docs" / "speed.md").read_text()
    assert peers == "| | ratio |\n|---|---|\n| `blending` | 2.50 |\n\nhere."
    assert f"<!-- table peers -->\n{peers}\n<!-- end of table -->" in written
    assert write_tables(tmp_path) == []


def test_a_table_without_a_place_is_missed(tmp_path):
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "gating.md").write_text("<!-- table instructions -->\nno end")
    with pytest.raises(ValueError, match=r"docs/gating\.md: expected a place for a table: <!-- table instructions -->"):
        with_tables("docs/gating.md", tmp_path)


def test_results_that_are_gone_are_named(monkeypatch, tmp_path):
    monkeypatch.setattr(speed_docs, "RESULTS", tmp_path)
    with pytest.raises(ValueError, match=r"ratios\.json: No such file"):
        with_tables("docs/speed.md")


@pytest.mark.parametrize(
    ("value", "shown"), [(0.0060084, "0.00601"), (0.853, "0.853"), (1.0, "1.00"), (14.93, "14.9"), (166.4, "166")]
)
def test_three_digits(value, shown):
    assert digits(value) == shown


def test_an_interval():
    assert interval({"median": 1.5, "low": 1.25, "high": 2.0}) == "1.50 [1.25, 2.00]"


def test_every_file_is_on_the_map():
    """Of those whose names alone say little; and nothing that has gone is on it."""
    folder = ROOT / "benchmarks"
    named = set(re.findall(r"`([\w.]+/?)`", (folder / "README.md").read_text()))
    assert {path.name for path in folder.iterdir() if re.match("speed_|cuda_|gpu_", path.name)} <= named
    assert all((folder / name).exists() for name in named), named
