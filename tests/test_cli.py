"""The command line: help at once, bad input in one line with exit code 2, and what it says it wrote."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch

import emogs
from emogs import cli
from emogs.cli_arguments import until_nobody_reads
from emogs.head import builtin_head


@pytest.fixture
def refused(capsys):
    """Runs a command that must fail and returns its message."""

    def run(*arguments):
        with pytest.raises(SystemExit) as ending:
            cli.main(arguments)
        assert ending.value.code == cli.BAD_INPUT
        return " ".join(capsys.readouterr().err.split())

    return run


HEAVY = ("torch", "numpy", "cv2", "viser", "PIL", "av", "skimage", "emogs.model", "emogs.emotion")


def test_help_imports_nothing_heavy():
    code = "import sys; sys.argv[0] = 'emogs'; from emogs.cli import main\n"
    commands = ([], ["avatar"], ["view"], ["head"], ["head", "show"], ["head", "convert"], ["train"], ["info"])
    commands += (["emotion"], ["emotion", "convert"])
    wrong = (["avatar"], ["avatar", "a", "--size", "x"], ["walk"], ["head", "show", "builtin", "--out", "head.jpg"])
    wrong += (["avatar", "none.png"], ["emotion", "convert", "sad", "--to", "arkit", "--out", "none/a.csv"])
    for arguments in ([], *([*command, "--help"] for command in commands), *wrong):
        code += f"try: main({arguments!r})\nexcept SystemExit: pass\n"
    code += f"print('imported:', *[name for name in {HEAVY} if name in sys.modules])"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.count("usage: emogs") == 1 + len(commands)
    assert answer.stderr.count("emogs: ") == len(wrong)
    assert answer.stdout.endswith("imported:\n")


def test_public_names_are_there_in_the_command_too():
    code = "import sys; sys.argv[0] = 'bin/emogs'; import emogs.cli; assert 'torch' not in sys.modules\n"
    code += "assert not hasattr(emogs, 'nonsense'); from emogs import Cameras, rasterize; print(set(emogs.__all__))"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "'rasterize'" in answer.stdout


@pytest.mark.parametrize("name", ["emogs", "train.py"])
def test_import_registers_the_operators_whatever_the_program_is_called(name):
    """Only the command itself puts them off."""
    code = f"import sys; sys.argv[0] = 'bin/{name}'; import emogs, torch; print(torch.ops.emogs.rig_frames)"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "emogs.rig_frames" in answer.stdout


def test_rasterize_is_the_function_in_the_command_too():
    """The module emogs.rasterize has the same name; whichever of both is imported first."""
    code = "import sys; sys.argv[0] = 'bin/emogs'; import emogs.cli\n"
    code += "import emogs.rasterize; assert 'torch' in sys.modules; from emogs import *\n"
    code += "print(emogs.rasterize, rasterize, emogs.rasterize is rasterize)"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.count("<function rasterize") == 2 and answer.stdout.endswith("True\n")


def test_a_wrong_public_name_is_missed_in_emogs():
    with pytest.raises(AttributeError, match="module 'emogs' has no attribute 'Gausians'"):
        emogs.Gausians  # noqa: B018


@pytest.mark.parametrize("arguments", [["--help"], ["head", "show", "--help"], ["train", "landmarks", "--help"]])
def test_a_reader_that_has_gone_ends_the_command_quietly(arguments, monkeypatch, capsys):
    """`emogs --help | head -1`: no traceback, now or when Python flushes at exit."""
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "w") as unread:
        monkeypatch.setattr(sys, "stdout", unread)
        with pytest.raises(SystemExit) as ending:
            cli.main(arguments)
        monkeypatch.undo()
    assert ending.value.code == 141
    assert capsys.readouterr().err == ""


def test_closed_output_is_no_error(monkeypatch):
    """`emogs info >&-`: Python has no sys.stdout then."""
    monkeypatch.setattr(sys, "stdout", None)
    with until_nobody_reads():
        pass
    with pytest.raises(BrokenPipeError, match="encoder"), until_nobody_reads():
        raise BrokenPipeError("encoder")


def test_a_broken_pipe_to_something_else_is_an_error():
    with pytest.raises(BrokenPipeError, match="encoder"), until_nobody_reads():
        raise BrokenPipeError("encoder")


def test_module_and_command_are_one():
    answer = subprocess.run([sys.executable, "-m", "emogs", "--help"], capture_output=True, text=True, check=True)
    assert "usage: emogs" in answer.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["avatar", "none.png"], "none.png"),
        (["avatar", "astronaut", "--emotion", "hapy=0.5"], "did you mean 'happy'"),
        (["avatar", "astronaut", "--emotion", "happy=2"], "'2' is not a number from 0 to 1"),
        (["avatar", "astronaut", "--size", "7"], "--size: expected 64 to 4096, got 7"),
        (["avatar", "astronaut", "--box", "1,2,3"], "--box: expected x,y,width,height, got '1,2,3'"),
        (["avatar", "astronaut", "--box", "1,2,nan,4"], "--box: expected"),
        (["avatar", "astronaut", "--landmarks", "none.txt"], "none.txt: No such file"),
        (["view", "none.safetensors"], "none.safetensors"),
        (["head", "show", "nobody"], "nobody: file: no such file or folder; a template is"),
        (
            ["head", "show", "."],
            "expected generic_neutral_mesh.obj or ict_head.npz of ICT-FaceKit, found neither",
        ),
        (["head", "show", __file__], "expected a file .npz, .safetensors, .pkl, .pickle, got '.py'"),
        (["head", "show", "builtin", "--landmarks", "a.txt"], "landmarks: expected none, since builtin has its own"),
        (["head", "convert", "builtin", "folder.npz"], "OUT folder.npz: is a folder, expected a file"),
        (["avatar"], "emogs: avatar: PHOTO is missing; emogs avatar --help says what it takes"),
        (["avatar", "none.png", "--size", "x"], "emogs: --size: expected a whole number, got 'x'"),
        (["avatar", "none.png", "--size=1.5"], "emogs: --size: expected a whole number, got '1.5'"),
        (["avatar", "none.png", "--sise", "7"], "emogs: --sise is unknown; did you mean --size?"),
        (["avatar", "astronaut", "more"], "emogs: more is unknown"),
        (["walk"], "emogs: walk is unknown; known: avatar, view, head, emotion, train, bench, info"),
        (["head"], "emogs: head: expected one of show, compare, convert, export, fit, got nothing"),
        (["head", "walk"], "emogs: head: walk is unknown; known: show, compare, convert, export, fit"),
        (["head", "show"], "emogs: head show: TEMPLATE is missing; emogs head show --help says what it takes"),
        (["head", "show", "builtin", "--emotoin", "sad"], "emogs: head: --emotoin is unknown; did you mean --emotion?"),
        (["train"], "emogs: train: expected one of landmarks, landmarks-eval, got nothing"),
        (["train", "noses"], "emogs: recipe: expected 'landmarks', 'landmarks-eval', got 'noses'"),
        (["train", "landmarks", "--epochs", "x"], "emogs: --epochs: expected a whole number, got 'x'"),
        (["view", "none.safetensors", "--port", "99999"], "--port: expected 0 to 65535, got 99999"),
        (["emotion", "convert", "happy"], "emogs: emotion convert: --to STR is missing"),
        (["emotion", "show", "happy", "--pulse", "1", "2"], "emogs: --pulse: expected 3 numbers, got '1 2'"),
        (["emotion", "convert", "happy", "--to", "arkit", "--fps", "x"], "emogs: --fps: expected a number, got 'x'"),
        (["emotion", "convert", "sad", "--to", "arkit", "--fps", "1e12"], "--fps: expected a number above 0 and up to"),
        (["emotion", "convert", "mouthSmileLeff=0.3", "--to", "emotion"], "did you mean 'mouthSmileLeft'?"),
        (["emotion", "convert", "tongueout=0.3,jawOpe=1", "--to", "emotion"], "'jawOpe=1' (did you mean 'jawOpen'?)"),
        (["emotion", "convert", "pain=20", "--to", "arkit"], "'pain' is a language; it says, for example, 'pspi=8.0'"),
        (["emotion", "convert", "affect=1", "--to", "arkit"], "it says, for example, 'valence=0.5'"),
        (["emotion", "convert", "pspi=20", "--to", "arkit"], "pain 'pspi=20': '20' is not a number from 0 to 16"),
        (["emotion", "convert", "./sad", "--to", "arkit"], "./sad: expected a file .csv or .json, or a text such as"),
        (
            ["emotion", "convert", "4", "--source", "raf-bd", "--to", "emotion"],
            "--source: language 'raf-bd' is unknown",
        ),
        (["emotion", "convert", "sad", "--to", "rafdb"], "(did you mean 'raf-db'?); known: emotion, regions, action"),
        (["emotion", "convert", "sad", "--to", "arkit", "--out", "folder.npz"], "expected a name that ends in .csv or"),
        (["head", "show", "builtin", "--emotion", "hapy"], "did you mean 'happy'"),
        (["head", "show", "builtin", "--out", "head.jpg"], "head.jpg: expected a name that ends in .png"),
        (["head", "show", "builtin", "--out", "none/head.png"], "none/head.png: no such folder"),
        (["head", "show", "builtin", "--size", "9"], "--size: expected 32 to 2048, got 9"),
        (["head", "show", "builtin", "--mapping", "none.npz"], "none.npz: file: No such file"),
        (["head", "convert", "builtin", "head.txt"], "head.txt: expected a name that ends in .npz"),
        (["head", "export", "builtin", "head.stl"], "OUT head.stl: expected a name that ends in .glb or .obj or .ply"),
        (["head", "convert", "nobody", "head.npz"], "nobody: file: no such file or folder"),
        (["head", "compare", "--out", "heads.png"], "templates: expected one or more, got none"),
        (["emotion", "convert", "sad", "--to", "arkit", "--out", "/proc/a.csv"], "/proc cannot be written to"),
        (["avatar", "astronaut", "--out", "/proc/x/y"], "--out /proc/x/y: /proc cannot be written to"),
        (["emotion", "convert", "hapy", "--to", "arkit"], "did you mean 'happy'"),
        (["emotion", "convert", "happy", "--to", "klingon"], "language 'klingon' is unknown; known: emotion, regions"),
        (["emotion", "convert", "none.csv", "--to", "arkit"], "none.csv: No such file"),
        (["emotion", "convert", "happy", "--to", "arkit", "--out", "a.txt"], "a.txt: expected a name that ends in"),
        (["emotion", "convert", "x", "--source", "arkit", "--to", "emotion"], "arkit 'x': expected names and numbers"),
        (["emotion", "convert", "happy", "--to", "arkit", "--fps", "25"], "--fps: a text without --pulse"),
        (["emotion", "convert", "happy", "--to", "arkit", "--out", "none/a.csv"], "--out none/a.csv: no such folder"),
        (["emotion", "show", "happy", "--out", "none/a.png"], "--out none/a.png: no such folder"),
        (["emotion", "convert", "happy", "--to", "mead", "--out", "a.csv"], "--out: labels are printed, not written"),
        (["emotion", "convert", "a.csv", "--to", "arkit", "--pulse", "1", "1", "1"], "--pulse: a file has its own"),
        (["emotion", "show", "happy", "--out", "a.jpg"], "a.jpg: expected a name that ends in .png"),
        (["emotion", "show", "happy", "--people", "9"], "--people: expected 1 to 8, got 9"),
        (["emotion", "show", "happy", "--pulse", "0", "1", "1"], "--pulse: onset: expected seconds above 0"),
        (["emotion", "map", "--size", "9"], "--size: expected 32 to 1024, got 9"),
    ],
)
def test_bad_input_is_one_line(refused, monkeypatch, tmp_path, arguments, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.npz").mkdir()
    said = refused(*arguments)
    assert message in said
    assert said.startswith("emogs: ") or "emogs: " in said
    assert "Traceback" not in said


@pytest.mark.parametrize("below", [".", "new", "new/folder"])
def test_a_file_as_output_folder_is_refused(refused, tmp_path, below):
    file = tmp_path / "file"
    file.write_text("")
    assert "is a file, expected a folder" in refused("avatar", "astronaut", "--out", str(file / below))


def test_an_output_folder_that_cannot_be_written_is_refused_before_the_work(refused, tmp_path, monkeypatch):
    monkeypatch.setattr(cli, "takes_files", lambda folder: folder != tmp_path)
    assert f"{tmp_path} cannot be written to" in refused("avatar", "astronaut", "--out", str(tmp_path / "new"))


def test_a_stage_that_fails_does_not_look_finished(refused, monkeypatch):
    import emogs.model

    def make(image, *, progress, **wishes):
        progress("first")
        progress("second")
        raise ValueError("not this one")

    monkeypatch.setattr(emogs.model, "avatar_from_photo", make)
    said = refused("avatar", "astronaut")
    assert "+ first" in said and "second" in said and "+ second" not in said


@pytest.mark.parametrize("content", ["", "1 2\n" * 67, "1 2 3\n" * 68, "1 x\n" * 68])
def test_bad_landmark_files_are_refused(tmp_path, content):
    file = tmp_path / "points.txt"
    file.write_text(content)
    with pytest.raises(ValueError, match=r"points\.txt: (lines|line 1): expected"):
        cli._landmarks(file)


@pytest.mark.parametrize("form", ["{} {}\n", "{},{}\n"])
def test_landmark_files_with_and_without_the_frame_of_pts(tmp_path, form):
    points = np.arange(136.0).reshape(68, 2)
    lines = "".join(form.format(float(x), float(y)) for x, y in points)
    file = tmp_path / "points.pts"
    for text in (lines, f"version: 1\nn_points: 68\n{{\n{lines}}}\n"):
        file.write_text(text)
        assert np.array_equal(cli._landmarks(file), points)


def test_avatar_writes_what_it_says(monkeypatch, tmp_path, capsys):
    """The command between a model and a showcase that are not at home."""
    from types import SimpleNamespace

    import emogs.model
    import emogs.viewer.showcase

    asked = {}

    def make(image, *, progress, **wishes):
        progress("fit head")
        asked.update(wishes, shape=image.shape)
        avatar = SimpleNamespace(gaussians=SimpleNamespace(means=torch.zeros(5, 3)))
        return SimpleNamespace(avatar=avatar, fit=SimpleNamespace(error=0.03))

    def show(made, code, folder, *, size, progress):
        progress("write emotion.png")
        folder.mkdir()
        asked.update(code=code, size=size)
        return {"emotion.png": "it"}

    monkeypatch.setattr(emogs.model, "avatar_from_photo", make)
    monkeypatch.setattr(emogs.viewer.showcase, "write_showcase", show)
    out = tmp_path / "new"
    cli.main(["avatar", "astronaut", "--emotion", "sad", "--box", "1,2,3,4", "--face", "2", "--out", str(out)])
    assert asked["shape"] == (512, 512, 3)
    assert (asked["box"], asked["face"], asked["landmarks"], asked["size"]) == ((1, 2, 3, 4), 2, None, 512)
    assert torch.equal(asked["code"], torch.eye(7)[1])
    summary = json.loads((out / "summary.json").read_text())
    assert summary["emotion"] == "sad=1"
    assert list(summary["seconds"]) == ["load libraries", "fit head", "write emotion.png"]
    assert set(summary["files"]) == {"emotion.png", "summary.json"}
    assert "5 Gaussians" in capsys.readouterr().out


def test_head_show_and_convert(tmp_path, capsys):
    cli.main(["head", "convert", "builtin", str(tmp_path / "head.npz")])
    assert "builtin, 8,048 vertices" in capsys.readouterr().out.replace("\n", "")
    cli.main(["head", "show", str(tmp_path / "head.npz"), "--size", "40", "--out", str(tmp_path / "head.png")])
    cli.main(["head", "compare", "builtin", "--size", "40", "--out", str(tmp_path / "heads.png")])
    assert all((tmp_path / name).read_bytes().startswith(b"\x89PNG") for name in ("head.png", "heads.png"))
    assert "builtin with happy=0.8" in capsys.readouterr().out


def test_head_export(tmp_path, capsys):
    import trimesh

    cli.main(["head", "export", "builtin", str(tmp_path / "calm.glb")])
    cli.main(["head", "export", "builtin", str(tmp_path / "glad.ply"), "--emotion", "happy"])
    assert "glad.ply: builtin with happy, " in capsys.readouterr().out.replace("\n", "")
    head = builtin_head()
    calm, glad = (trimesh.load(tmp_path / name, process=False, force="mesh") for name in ("calm.glb", "glad.ply"))
    assert len(calm.faces) == len(glad.faces) == len(head.faces)
    np.testing.assert_allclose(calm.triangles, head.vertices[head.faces].numpy(), atol=1e-6)
    assert 0.003 < np.abs(glad.triangles - calm.triangles).max() < 0.03  # a smile moves lips by millimetres
    assert calm.visual.material.baseColorTexture.size == tuple(head.albedo.shape[:2])


def test_emotion_list(capsys):
    cli.main(["emotion", "list"])
    said = " ".join(capsys.readouterr().out.split())
    assert all(word in said for word in ("action units", "happily surprised", "raf-db", "which emotions they were"))


@pytest.mark.parametrize(
    ("arguments", "answer"),
    [
        (["happy=0.7,surprise=0.2", "--to", "action-units"], "1B+2B+6B+12C+25C"),
        (["6=4,12=4.25,25=2.5", "--to", "emotion"], "happy=1"),
        (["happy", "--to", "affect"], "valence=0.81,arousal=0.51,dominance=0.46"),
        (["valence=-0.6,arousal=0.35", "--to", "emotion"], "disgust=1"),
        (["mouthSmileLeft=0.4", "--to", "action units"], "L12B"),
        (["4", "--source", "raf-db", "--to", "affectnet-8"], "1 happy"),
        (["brow: sad; mouth: happy", "--to", "regions"], "brow: sad=1; eyes: neutral; mouth: happy=1"),
        (["neutral", "--to", "arkit"], "neutral"),
    ],
)
def test_emotion_convert_answers(capsys, arguments, answer):
    cli.main(["emotion", "convert", *arguments])
    assert capsys.readouterr().out == f"{answer}\n"


def test_emotion_convert_files(tmp_path, capsys):
    smile, face, spoken = (str(tmp_path / name) for name in ("smile.json", "face.csv", "spoken.csv"))
    episode = ["--pulse", "0.5", "1", "0.5", "--fps", "10"]
    cli.main(["emotion", "convert", "happy", "--to", "emotion", *episode, "--out", smile])
    cli.main(["emotion", "convert", smile, "--to", "arkit", "--out", face])
    cli.main(["emotion", "convert", face, "--to", "emotion", "--articulation", spoken])
    said = capsys.readouterr()
    assert "21 instants of emotion" in said.out
    assert "0.500 s happy=1" in " ".join(said.out.split())
    assert (tmp_path / "spoken.csv").read_text().startswith("time,browDownLeft")
    assert "emotion -> arkit loses" in said.err


def test_emotion_pictures(tmp_path):
    one, strip, whole = (tmp_path / name for name in ("one.png", "strip.png", "map.png"))
    cli.main(["emotion", "show", "brow: sad; mouth: happy", "--size", "32", "--out", str(one)])
    cli.main(
        ["emotion", "show", "happy", "--pulse", "1", "1", "1", "--people", "2", "--size", "32", "--out", str(strip)]
    )
    cli.main(["emotion", "map", "--size", "32", "--out", str(whole)])
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in (one, strip, whole))
