"""`emogs bench report`: everything measured is on the page, machines are never joined, wrong files are refused."""

from __future__ import annotations

import copy
import json
import random
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
import speed
import speed_page
from speed_files import read_all
from speed_history import chart

NAMES = [
    "emotion_norm/10x4/float32/forward/cpu",
    "emotion_norm/10x4/float32/backward/cpu",
    "blend_tiles/head9-3channels/float32/forward/cpu",
]
MACHINE = {"cpu": "A processor, 2 logical cores", "instruction_set": "v4", "threads": "1", "gpus": "none"}
MACHINE |= {"compiler": "GCC 12", "torch": "2.13", "system": "Linux", "cuda": "none"}


def origin(day: int, machine: str = "A processor", **changes) -> dict:
    info = {"emogs": MACHINE | {"cpu": f"{machine}, 2 logical cores"}, "load": 0.1, "quick": False}
    return {
        "machine_info": info | changes,
        "commit_info": {"id": f"{day:040x}", "time": f"2026-01-{day:02}T10:00:00+00:00", "dirty": False},
        "datetime": f"2026-01-{day:02}T12:00:00+00:00",
    }


def run(day: int, names: list[str] = NAMES, machine: str = "A processor", **changes) -> dict:
    def entry(name: str) -> dict:
        extra = {"bytes": 1000, "gigabytes_per_second": 1.0, "copy_gigabytes_per_second": 2.0, "of_copy": 0.5}
        extra |= {"limit": "copy", "of_limit": 0.5}
        if name.startswith("blend"):
            extra |= {"limit": "pair loop", "of_limit": 0.75, "pairs": 500, "pairs_per_second": 4e6}
        return {"name": f"test_speed[{name}]", "extra_info": extra, "stats": {"min": 1e-6, "median": 2e-6}}

    return origin(day, machine, **changes) | {"benchmarks": [entry(name) for name in names]}


def peers(day: int = 1) -> dict:
    seconds = {"forward": {"emogs": [1.0, 1.1], "torch": [3.0, 3.3]}}
    contest = {"name": "emotion_norm/10x4/float32", "tolerance": 1e-4, "not_same": "torch rounds", "seconds": seconds}
    contest |= {"missing": {"gsplat 1.5.3": "no kernels"}, "unequal": [], "differences": {"emogs": 1e-7, "torch": 2e-7}}
    return origin(day) | {"kind": "emogs bench peers", "contests": [contest]}


def ratios(day: int = 1) -> dict:
    figures = {"median": 0.5, "low": 0.4, "high": 0.6, "bound": 0.8}
    rows = [{"name": "fused / torch", "verdict": "within its bound", **figures}]
    rows.append({"name": "with / without", "verdict": "above its bound", **figures})
    return origin(day) | {"kind": "emogs bench ratios", "ratios": rows}


def counts() -> dict:
    counts = {"rig_frames/small/forward": {"instructions": 1000, "work": 10, "unit": "faces"}}
    return {"machine": "x86_64, GCC 12", "counts": counts}


def selftest() -> dict:
    figures = {"low": 0.99, "ratio": 1.0, "high": 1.01, "pairs": 15, "load": 2.5}
    verdicts = [{"name": "identical", "expected": "not slower", "verdict": "not slower", **figures}]
    verdicts.append({"name": "slower", "expected": "slower", "verdict": "cannot tell", **figures})
    return {
        "benchmark": NAMES[2],
        "settings": {"tolerance": 0.05},
        "twice": 0.118,
        "pieces": "tiles",
        "verdicts": verdicts,
    }


def stored(folder: Path, *contents: dict) -> list[Path]:
    paths = []
    for number, content in enumerate(contents):
        paths.append(folder / f"{number}.json")
        paths[-1].write_text(json.dumps(content))
    return paths


class Text(HTMLParser):
    """The words of a page, and what it loads; tags must be closed."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.words, self.open, self.loaded = "", [], []
        self.feed(page)
        assert not self.open

    def handle_starttag(self, tag, attributes):
        self.loaded += [value for name, value in attributes if name in ("src", "srcset", "data", "action")]
        self.loaded += [value for name, value in attributes if name == "href" and not value.startswith("#")]
        self.loaded += [tag] if tag in ("script", "link", "iframe") else []
        self.open += [tag] if tag != "meta" else []

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words += " ".join(data.split()) + " "


def test_everything_is_on_the_page_and_nothing_is_loaded(tmp_path):
    page = speed_page.page(read_all(stored(tmp_path, run(1), run(2), peers(), ratios(), counts(), selftest())))
    text = Text(page)
    assert text.loaded == [] and "@import" not in page and "url(" not in page and "http" not in page
    for words in (
        *("10x4 float32 forward", "10x4 float32 backward", "head9-3channels float32 forward", "A processor"),
        *("0.75", "GCC 12", "fused / torch", "with / without", "1 of 2", "gsplat 1.5.3: no kernels", "torch rounds"),
        *(
            "emogs 1.0e-07, torch 2.0e-07",
            "rig_frames/small/forward",
            "100 per face",
            "slower: cannot tell",
            "11.8% of the tiles twice",
            "2 runs",
        ),
    ):
        assert words in text.words, words
    assert page.count("<figure>") == len(NAMES)
    assert page == speed_page.page(read_all(sorted(tmp_path.iterdir())))


@pytest.mark.parametrize("made", [run, peers, ratios])
def test_one_file_makes_a_page(tmp_path, made):
    assert "emogs bench" in Text(speed_page.page(read_all(stored(tmp_path, made(1))))).words


def test_machines_are_never_joined(tmp_path):
    paths = stored(tmp_path, run(1), run(2, machine="Another"), run(3), run(4, machine="Another"))
    found = chart(NAMES[0], read_all(paths).runs)
    assert [line.machine for line in found.lines] == [0, 1]
    xs = [[point.x for segment in line.segments for point in segment] for line in found.lines]
    assert xs[0][0] < xs[1][0] < xs[0][1] < xs[1][1]
    assert all(len(line.segments) == 1 and not line.holes for line in found.lines)
    page = speed_page.page(read_all(paths))
    assert page.count('class="machine"') == 2 * len(NAMES) and page.count("<polyline") == 2 * len(NAMES)


def test_a_hole_is_a_hole(tmp_path):
    runs = [run(1), run(2), run(3, NAMES[1:]), run(4), run(5)]
    line = chart(NAMES[0], read_all(stored(tmp_path, *runs)).runs).lines[0]
    assert [len(segment) for segment in line.segments] == [2, 2] and len(line.holes) == 1
    assert line.segments[0][-1].x < line.holes[0].x < line.segments[1][0].x
    assert "not measured" in line.holes[0].said
    page = speed_page.page(read_all([tmp_path]))
    assert page.count('class="hole"') == 1 and page.count("<polyline") == 2 + 2


def test_history_is_of_commits_and_keeps_a_run_once(tmp_path):
    late = run(1) | {"datetime": "2026-03-01T12:00:00+00:00"}  # an old commit, measured last
    runs = read_all(stored(tmp_path, run(2), late, run(3), run(2))).runs
    assert [int(each.origin.revision, 16) for each in runs] == [0, 0, 0] and len(runs) == 3
    assert [each.origin.commit_time.day for each in runs] == [1, 2, 3]


def test_toy_sizes_and_busy_machines_are_said(tmp_path):
    page = speed_page.page(read_all(stored(tmp_path, run(1, quick=True), run(2, quick=True))))
    assert "Toy sizes" in page and "<figure>" not in page and "A busy machine" not in page
    page = speed_page.page(read_all(stored(tmp_path, run(1, load=6.2))))
    assert "A busy machine" in page and "load 6.2 on 2 cores" in page and "history begins with the second" in page


def test_names_cannot_become_markup(tmp_path):
    evil = "<script>alert(1)</script>"
    first, second = run(1, [f"{evil}/x/float32/forward/cpu"], machine=evil), peers()
    second["contests"][0]["missing"] = {evil: evil}
    second["contests"][0]["name"] = evil
    page = speed_page.page(read_all(stored(tmp_path, first, run(2, machine=evil), second)))
    assert "<script" not in page and "&lt;script&gt;" in page and Text(page).loaded == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not JSON"),
        ("[1, 2]", "the whole: expected an object, got [1, 2]"),
        ("[" * 100_000, "nested too deep"),
        ('{"benchmarks": NaN}', "NaN is no number"),
        ("\udcff", "not JSON"),
        ("{}", "expected what emogs bench run, peers, ratios or the gate wrote"),
        ('{"benchmarks": []}', "machine_info: expected an object, got None"),
    ],
)
def test_what_is_no_result_is_refused(tmp_path, text, message):
    path = tmp_path / "bad.json"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(ValueError, match=re.escape(str(path))) as error:
        read_all([path])
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["benchmarks"][1]["stats"].update(min=-1), "stats.min: expected a number from"),
        (lambda c: c["benchmarks"][1]["stats"].update(min=True), "stats.min: expected a number from"),
        (lambda c: c["benchmarks"][1]["extra_info"].update(limit=3), "extra_info.limit: expected text, got 3"),
        (lambda c: c["benchmarks"].append(c["benchmarks"][0]), "expected a name that no other has"),
        (lambda c: c.update(datetime="yesterday"), "datetime: expected a date with its time zone, got 'yesterday'"),
        (lambda c: c.update(datetime="2026-01-01T00:00:00"), "datetime: expected a date with its time zone"),
        (lambda c: c["commit_info"].update(dirty="no"), "commit_info.dirty: expected true or false, got 'no'"),
    ],
)
def test_a_field_that_does_not_fit_is_named(tmp_path, change, message):
    content = run(1)
    change(content)
    with pytest.raises(ValueError, match=r"0\.json: ") as error:
        read_all(stored(tmp_path, content))
    assert message in str(error.value)


def mutated(content: object, generator: random.Random) -> object:
    """A copy with one value, anywhere in it, replaced or gone."""
    content = copy.deepcopy(content)
    places = []

    def walk(value: object) -> None:
        for key in list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else []:
            places.append((value, key))
            walk(value[key])

    walk(content)
    owner, key = generator.choice(places)
    if generator.random() < 0.2:
        del owner[key]
    else:
        numbers, texts = (-1, 0, 1e308, 10**400, 1e-320, True), ("", "x", "\0")
        owner[key] = generator.choice([None, *numbers, *texts, [], {}, [{}], {"x": 1}])
    return content


@pytest.mark.parametrize("made", [lambda: run(1), peers, ratios, counts, selftest])
def test_mutated_files_are_shown_or_refused(tmp_path, made):
    generator, refused = random.Random(0), 0
    for _ in range(150):
        paths = stored(tmp_path, mutated(made(), generator), run(2), run(3))
        try:
            found = read_all(paths)
        except ValueError as error:
            assert str(error).startswith(str(paths[0]))
            refused += 1
        else:
            Text(speed_page.page(found))
    assert refused > 30


def call(monkeypatch, *arguments: str) -> int:
    for name, value in speed.WARM.items():  # else `main` starts Python anew
        monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit) as end:
        speed.main(["report", *arguments])
    return end.value.code or 0


def test_the_command_writes_a_page(tmp_path, monkeypatch, capsys):
    folder = tmp_path / "history"
    folder.mkdir()
    stored(folder, run(1), run(2))
    out = tmp_path / "pages" / "report.html"
    assert call(monkeypatch, str(folder), "--out", str(out)) == 0
    assert Text(out.read_text()).loaded == [] and "report.html" in capsys.readouterr().out


def test_the_command_names_what_is_wrong(tmp_path, monkeypatch, capsys):
    (tmp_path / "empty").mkdir()
    for arguments, message in {
        ("nothing.json",): "nothing.json: No such file or directory",
        (str(tmp_path / "empty"),): "no *.json in this folder",
        (str(stored(tmp_path, run(1))[0]), "--out", str(tmp_path)): "expected a file to write, got a folder",
    }.items():
        assert call(monkeypatch, *arguments) == 2
        said = capsys.readouterr().out
        assert said.startswith("emogs bench: ") and message in said


def test_without_files_it_takes_what_is_stored(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(speed, "HERE", tmp_path)
    monkeypatch.setattr(speed, "HISTORY", tmp_path / "results" / "history")
    assert call(monkeypatch, "--out", str(tmp_path / "x.html")) == 2
    assert "nothing is measured yet" in capsys.readouterr().out
    (tmp_path / "results" / "history").mkdir(parents=True)
    stored(tmp_path / "results" / "history", run(1), run(2))
    (tmp_path / "results" / "peers.json").write_text(json.dumps(peers()))
    assert call(monkeypatch, "--out", str(tmp_path / "x.html")) == 0
    text = (tmp_path / "x.html").read_text()
    assert "2 runs" in text and 'id="peers"' in text
