"""The command line: its exit codes, its one-line errors, and what the doctor says."""
import importlib.util
import subprocess
import sys

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

import facelab
from facelab import doctor
from facelab.cli import main


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "notebooks"
    folder.mkdir()
    kernel = {"name": "python3", "display_name": "Python 3 (ipykernel)", "language": "python"}
    parameters = new_code_cell('profile: str = "smoke"\nphotos: str = ""', metadata={"tags": ["parameters"]})
    for name, source in {"01_fine": "print(profile)", "02_fails": "raise RuntimeError('two')", "03_fine": "1"}.items():
        cells = [new_markdown_cell(f"# {name}"), parameters, new_code_cell(source)]
        nbformat.write(new_notebook(cells=cells, metadata={"kernelspec": kernel}), folder / f"{name}.ipynb")
    return folder


def test_course_goes_on_then_exits_non_zero_naming_the_failure(folder, tmp_path, capsys):
    assert main(["course", "--notebooks", str(folder), "--out", str(tmp_path / "book")]) == 1
    out, err = capsys.readouterr()
    header, *rows, last = out.strip().splitlines()
    assert header.split() == ["notebook", "time", "memory"]
    assert [row.split()[0] for row in rows] == ["01_fine", "02_fails", "03_fine"]
    assert rows[0].endswith("done") and "FAILED" in rows[1] and "RuntimeError: two" in rows[1] and rows[2].endswith("done")
    assert all(" s " in row and "GiB" in row for row in rows)
    assert last == f"book: {tmp_path / 'book' / 'index.html'}" and (tmp_path / "book" / "index.html").exists()
    assert err.splitlines()[-1].endswith("facelab: 1 of 3 notebooks failed: 02_fails")
    assert "01_fine" in err and "cell" in err, "a progress bar"

    assert main(["course", "1", "03_fine", "--notebooks", str(folder), "--out", str(tmp_path / "book")]) == 0
    assert capsys.readouterr().out.count("done before") == 2


def test_student_copies_are_kept(folder, tmp_path, capsys):
    call = ["course", "--student", str(tmp_path / "mine"), "--notebooks", str(folder)]
    assert main(call) == 0 and "3 student copies" in capsys.readouterr().out
    assert len(list((tmp_path / "mine").glob("*.ipynb"))) == 3
    assert main(call) == 0 and "0 student copies" in (again := capsys.readouterr().out) and "3 left as they were" in again


@pytest.mark.skipif(importlib.util.find_spec("dlib") is None, reason="needs the [offline] extra")
def test_preparing_nothing_exits_1_and_says_why(tmp_path, capsys):
    (tmp_path / "in").mkdir()
    call = ["prepare", str(tmp_path / "in"), str(tmp_path / "out"), "--detector", "dlib"]
    assert main(call) == 1
    out, err = capsys.readouterr()
    assert "0 faces in" in out and "there is no file in it" in err
    (tmp_path / "in" / "notes.txt").write_text("no picture")
    assert main(call) == 1
    out, err = capsys.readouterr()
    assert "0 faces, 1 reject (" in out and "rejects.csv says why" in err


@pytest.mark.parametrize("call", [
    ["course", "nosuch", "--notebooks", "{folder}"],
    ["course", "--notebooks", "{folder}/nowhere"],
    ["course", "--notebooks", "{folder}", "--photos", "{folder}/nowhere", "--out", "{folder}/out"],
    ["course", "--notebooks", "{folder}", "--student", "{folder}"],
    ["prepare", "{folder}/nowhere", "{folder}/out"],
    ["train", "nosuch", "--out", "{folder}/out"],
    ["train", "af_vae", "--photos", "{folder}/nowhere", "--out", "{folder}/out"],
    ["experiment", "nosuch"],
])  # fmt: skip
def test_mistakes_are_one_line_and_no_traceback(call, folder, capsys):
    assert main([word.format(folder=folder) for word in call]) == 2
    out, err = capsys.readouterr()
    assert err.startswith("facelab: ") and err.count("\n") == 1 and len(err) > 30 and "Traceback" not in err


def test_train_writes_weights_and_goes_on(monkeypatch, tmp_path, capsys):
    from facelab import recipes
    from facelab.blocks.weights import made

    monkeypatch.setenv("FACELAB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(recipes, "SIZES", {"smoke": {"faces": 32, "people": 8, "batch": 4}})
    call = ["train", "features", "--profile", "smoke", "--steps", "2", "--seed", "3", "--out", str(tmp_path / "run")]
    assert main(call) == 0
    path = tmp_path / "run" / "features.safetensors"
    assert capsys.readouterr().out.strip() == str(path) and made(path)["steps"] == 2 and made(path)["seed"] == 3
    assert main(call) == 2 and "--resume" in capsys.readouterr().err
    assert main([*call, "--resume"]) == 0


def test_experiment_runs_with_its_parameters(monkeypatch, folder, tmp_path, capsys):
    table = folder / "experiments" / "table.ipynb"
    table.parent.mkdir()
    notebook = nbformat.read(folder / "01_fine.ipynb", as_version=4)
    notebook.cells[1].source += '\nseed: int = 0\nprior: str = "unit"'
    notebook.cells[2].source = "print(profile, seed + 1, prior)"
    nbformat.write(notebook, table)
    monkeypatch.setattr("facelab.cli.NOTEBOOKS", folder)
    call = ["experiment", "table", "-p", "seed", "4", "-p", "prior", "additive", "--out", str(tmp_path / "out")]
    assert main(call) == 0
    out = capsys.readouterr().out
    assert out.splitlines()[-1] == str(tmp_path / "out" / "table.ipynb")
    assert nbformat.read(tmp_path / "out" / "table.ipynb", as_version=4).cells[-1].outputs[0].text == "smoke 5 additive\n"
    assert main(call) == 0 and "done before" in capsys.readouterr().out
    assert main(["experiment", "tabel"]) == 2 and "there are table" in capsys.readouterr().err


@pytest.mark.parametrize("call", [[], ["course", "--profile", "huge"], ["dance"]])
def test_misspelt_calls_exit_with_two(call, capsys):
    with pytest.raises(SystemExit) as stop:
        main(call)
    assert stop.value.code == 2 and "usage" in capsys.readouterr().err


def test_interruption_is_said_and_can_be_resumed(monkeypatch, folder, tmp_path, capsys):
    def interrupted(*a, **k):
        raise KeyboardInterrupt

    monkeypatch.setattr("papermill.execute_notebook", interrupted)
    assert main(["course", "--notebooks", str(folder), "--out", str(tmp_path / "book")]) == 130
    assert "goes on from here" in capsys.readouterr().err and not list((tmp_path / "book").glob("*.ipynb"))


def test_installed_command():
    run = subprocess.run([sys.executable, "-m", "facelab.cli", "--version"], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == f"facelab {facelab.__version__}"


def test_a_closed_pipe_is_no_error():
    line = f"set -o pipefail; {sys.executable} -m facelab.cli doctor | head -n 1"
    run = subprocess.run(["bash", "-c", line], capture_output=True, text=True)
    assert run.returncode == 0 and run.stderr == "" and run.stdout.startswith("python 3")


def test_doctor_reports_machine_and_pieces(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("FACELAB_ASSETS", str(tmp_path / "assets"))
    monkeypatch.setenv("FACELAB_CACHE", str(tmp_path / "deep" / "cache"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    assert main(["doctor"]) == 0
    text = capsys.readouterr().out
    for word in ("python 3", "torch 2", "device ", "memory ", "GiB", "weights ", "assets "):
        assert word in text
    assert "[ ] ICT-FaceKit model" in text and "[ ] face-alignment landmarks" in text and text.count("get it: ") >= 5
    missing = {p.name for p in doctor.pieces() if not p.present}

    (tmp_path / "assets" / "ict_facekit").mkdir(parents=True)
    (tmp_path / "assets" / "ict_facekit" / "light.npz").touch()
    (tmp_path / "torch" / "hub" / "checkpoints").mkdir(parents=True)
    (tmp_path / "torch" / "hub" / "checkpoints" / "2DFAN4-11f355bf06.pth.tar").touch()
    still = {p.name for p in doctor.pieces() if not p.present}
    assert missing - still == {"ICT-FaceKit model", "face-alignment landmarks"}
    assert not (tmp_path / "deep").exists(), "the doctor only looks"


@pytest.mark.skipif(importlib.util.find_spec("dlib") is None, reason="needs the [offline] extra")
def test_a_photograph_follows_a_video(tmp_path, capsys, monkeypatch):
    import numpy as np
    import torch
    from PIL import Image
    from stand_ins import awake

    from facelab.blocks.regressor import Config as RegressorConfig
    from facelab.blocks.regressor import Regressor
    from facelab.faces import FaceWorld
    from facelab.faces.photos import comment_of
    from facelab.papers import f3a_gan
    from facelab.show import film

    torch.manual_seed(0)
    model = f3a_gan.Model(f3a_gan.Config(size=32, width=2, start=32)).eval()
    model.use_regressor(awake(Regressor(RegressorConfig(size=32, width=4)), FaceWorld(3).sample(20, size=32).image))
    asked = []
    real = model.reenact
    monkeypatch.setattr(model, "reenact", lambda *given: asked.append((len(given[0]), len(given[1]), given[2])) or real(*given))
    monkeypatch.setattr(facelab, "load", lambda room: model)
    world = FaceWorld(3)
    film(world.clip(0, 6, 192).image, tmp_path / "driver.mp4", progress=False)
    Image.fromarray(((world.clip(1, 1, 192).image[0].permute(1, 2, 0).numpy() + 1) * 127.5).astype(np.uint8)).save(tmp_path / "photo.png")
    photo, driver, out = (str(tmp_path / name) for name in ("photo.png", "driver.mp4", "out.gif"))
    call = ["animate", photo, driver, out, "--every", "2", "--detector", "dlib"]
    assert main(call) == 0
    with Image.open(tmp_path / "out.gif") as picture:
        assert picture.n_frames == 3 and picture.size == (64, 32)
    assert comment_of(out) == "made with facelab"
    assert capsys.readouterr().out.splitlines()[-1] == out and asked == [(1, 3, ("identity", "camera"))]
    wrongs = {
        "gif or .mp4": ["animate", photo, driver, "out.avi"], "hat": [*call, "--keep", "hat"], "every": [*call, "--every", "0"],
        "no video": ["animate", photo, photo, out], "no.png": ["animate", str(tmp_path / "no.png"), driver, out],
    }  # fmt: skip
    for message, wrong in wrongs.items():
        assert main(wrong) == 2
        assert message in capsys.readouterr().err
