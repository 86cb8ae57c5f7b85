"""Widgets in a real browser: open a notebook in JupyterLab, run it, move a control, see the picture change.

A reader's first minutes are lesson 01's: it promises that the puppet's container carries the CSS class ``facelab-puppet``, holds an
``ipywidgets.Image`` and a slider labelled ``jaw_open``. Required where CI=true; elsewhere skipped when there is no browser.
"""
import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request

import nbformat
import pytest
import skimage.data
from PIL import Image

from facelab.course import NOTEBOOKS
from facelab.doctor import browser

LESSON = "01_faces_in_numbers.ipynb"
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-quic", "--no-first-run",
         "--disable-background-networking", "--disable-component-update", "--disable-sync"]  # fmt: skip
SETTINGS = {
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False, "doNotDisturbMode": True},
    "notebook-extension/tracker": {"windowingMode": "none"},  # keep cells that are out of sight on the page
}
READY = """() => /\\| Idle/.test(document.querySelector('#jp-bottom-panel')?.innerText || '')
    && document.querySelector('.jp-NotebookPanel .jp-Notebook-ExecutionIndicator')?.dataset.status === 'idle'"""
STARTED = "() => [...document.querySelectorAll('.jp-CodeCell .jp-InputPrompt')].some(p => /[*\\d]/.test(p.innerText))"
FINISHED = "() => ![...document.querySelectorAll('.jp-CodeCell .jp-InputPrompt')].some(p => p.innerText.includes('*'))"
LATENT = """
import torch
from facelab import show
from facelab.faces import FaceWorld
from facelab.papers.equilibrium_cvae import Config, Model

torch.manual_seed(0)
world = FaceWorld(0)
faces = world.sample(16, size=32)
model = Model(Config(size=32, width=8, most=16, code=8))  # untrained: it paints, though no face
model.prepare(faces, torch.Generator().manual_seed(0))
show.LatentExplorer(faces, model.encode(faces.image)[0], model.decode, show.Puppet(world, faces[:1]), components=2).view
"""
EXPRESSION = """
import facelab
from facelab import show
from facelab.faces import FaceWorld

model = facelab.load("fvae")
faces = FaceWorld(0).sample(6, size=model.config.size, yaw=(-8, 8))
show.ExpressionEditor(model, faces.image[:1]).view
"""
QUIZ = """
show.Quiz({"real": faces.image[:3], "made": faces.image[3:]}, each=2).view
"""
VOTE = """
show.Vote({"one": faces.image[:3], "other": faces.image[3:]}, faces.image[:3], each=2).view
"""
UPLOAD = """
import facelab
from facelab import show
from facelab.faces import FaceWorld

model = facelab.load("fvae")
editor = show.ExpressionEditor(model, FaceWorld(0).sample(1, size=model.config.size, yaw=(-8, 8)).image)
upload = show.PhotoUpload(model.config.size, lambda face: editor.open(face.image), "dlib")
upload.view
"""
ANIMATOR = """
import facelab
from facelab import show
from facelab.faces import FaceWorld

model = facelab.load("f3a_gan")
show.Animator(model, FaceWorld(0).sample(1, size=model.config.size, yaw=(-8, 8)).image).view
"""
PIXELS = "async image => Array.from(new Uint8Array(await (await fetch(image.src)).arrayBuffer())).join()"


@pytest.fixture
def chromium():
    """A headless Chromium; without one the test fails in CI and is skipped elsewhere."""
    absent = pytest.fail if os.environ.get("CI") == "true" else pytest.skip
    path = browser() or absent("no Chromium or Chrome on this machine: apt install chromium")
    with contextlib.ExitStack() as stack:
        try:
            from playwright.sync_api import sync_playwright

            driver = stack.enter_context(sync_playwright())
        except Exception as error:  # not installed, or its driver lacks a library
            absent(f"playwright does not start: {error}; pip install playwright, apt install libatomic1")
        yield driver.chromium.launch(executable_path=path, headless=True, args=FLAGS)


@contextlib.contextmanager
def jupyterlab(folder, scratch):
    """Address of a JupyterLab that serves ``folder`` on loopback, with settings and state of its own."""
    for name, values in SETTINGS.items():
        file = scratch / "settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(values))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    home = {
        "JUPYTER_CONFIG_DIR": "config", "JUPYTER_RUNTIME_DIR": "runtime", "IPYTHONDIR": "ipython",
        "JUPYTERLAB_SETTINGS_DIR": "settings", "JUPYTERLAB_WORKSPACES_DIR": "workspaces",
    }  # fmt: skip
    environment = os.environ | {name: str(scratch / place) for name, place in home.items()} | {"no_proxy": "127.0.0.1"}
    command = [
        sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ip=127.0.0.1", f"--port={port}",
        "--ServerApp.port_retries=0", "--IdentityProvider.token=", f"--ServerApp.root_dir={folder}", "--LabApp.news_url=",
        "--LabApp.extension_manager=readonly",
    ]  # fmt: skip
    with open(scratch / "jupyter.log", "w") as log:
        server = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=environment)
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(480):
            assert server.poll() is None, (scratch / "jupyter.log").read_text()[-2000:]
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"{address}/api/status", timeout=2)
                break
            time.sleep(0.25)
        yield address
    finally:
        server.terminate()  # takes its kernels with it
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            server.kill()


def run_all(page) -> None:
    """Run > Run All Cells, then wait for the last cell. A click just before the kernel is attached is lost or brings up a question."""
    from playwright.sync_api import TimeoutError

    page.wait_for_selector(".jp-Notebook .jp-CodeCell", timeout=120_000)
    page.add_locator_handler(page.locator(".jp-Dialog"), lambda dialog: dialog.locator(".jp-mod-accept").first.click())
    for _ in range(5):
        page.wait_for_function(READY, timeout=120_000)
        page.get_by_role("menuitem", name="Run", exact=True).click()
        page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
        with contextlib.suppress(TimeoutError):
            page.wait_for_function(STARTED, timeout=10_000)
            break
    page.wait_for_function(STARTED, timeout=60_000)
    page.wait_for_function(FINISHED, timeout=300_000, polling=500)


@contextlib.contextmanager
def opened(chromium, folder, scratch, notebook):
    """The page of a notebook of ``folder`` whose cells have all run; nothing may come from outside, no cell or script may fail."""
    foreign, errors = [], []
    with jupyterlab(folder, scratch) as address:
        context = chromium.new_context(viewport={"width": 1300, "height": 1000})

        def stay_home(route):
            if route.request.url.startswith((address, "data:", "blob:")):
                route.continue_()
            else:
                foreign.append(route.request.url)
                route.abort()

        context.route("**/*", stay_home)
        page = context.new_page()
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(f"{address}/lab/tree/{notebook}?reset", wait_until="domcontentloaded", timeout=120_000)
        try:
            run_all(page)
            assert page.locator('.jp-OutputArea-output[data-mime-type="application/vnd.jupyter.error"]').count() == 0, "a cell failed"
            yield page
        finally:
            page.screenshot(path=scratch / "page.png")
            context.close()
    assert foreign == [], "something was fetched from outside this machine"
    assert errors == []


@contextlib.contextmanager
def redrawn(widget):
    """What is done in this block must change the widget's first picture, in its place."""
    picture, pictures = widget.locator("img").first, widget.locator("img").count()
    before, seen = None, picture.evaluate(PIXELS)
    while seen != before:  # until the last control's redrawing is over
        widget.page.wait_for_timeout(1000)
        before, seen = seen, picture.evaluate(PIXELS)
    assert len(before) > 1000, "the widget shows no picture"
    yield
    deadline = time.monotonic() + 30
    while (after := picture.evaluate(PIXELS)) == before and time.monotonic() < deadline:
        time.sleep(0.1)
    assert after != before, "the control moved and the picture did not"
    assert widget.locator("img").count() == pictures, "old pictures pile up"


def pull(widget, *labels) -> None:
    """Five steps of the keyboard to the right on each of the sliders called so; each must change the widget's first picture."""
    from playwright.sync_api import expect

    for label in labels:
        slider = widget.locator(".widget-slider").filter(has=widget.page.get_by_text(label, exact=True)).first
        with redrawn(widget):
            slider.scroll_into_view_if_needed()
            readout = slider.locator(".widget-readout")
            before = readout.inner_text()
            for _ in range(5):
                slider.locator(".noUi-handle").first.press("ArrowRight")
            expect(readout, "the slider did not move").not_to_have_text(before)


@pytest.mark.timeout(900)
def test_the_puppet_follows_its_slider(chromium, tmp_path):
    folder = tmp_path / "notebooks"
    shutil.copytree(NOTEBOOKS, folder)
    lesson = nbformat.read(folder / LESSON, 4)
    for cell in lesson.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None  # so that whatever is seen was made here
    nbformat.write(lesson, folder / LESSON)
    with opened(chromium, folder, tmp_path, LESSON) as page:
        puppet = page.locator(".facelab-puppet").first
        puppet.wait_for(timeout=30_000)
        pull(puppet, "jaw_open")


def notebook_of(folder, name, *cells):
    folder.mkdir()
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(nbformat.v4.new_notebook(metadata=kernel, cells=[nbformat.v4.new_code_cell(cell) for cell in cells]), folder / name)


@pytest.mark.timeout(900)
def test_the_latent_explorer_follows_its_controls(chromium, tmp_path):
    folder = tmp_path / "notebooks"
    notebook_of(folder, "latent.ipynb", LATENT)
    with opened(chromium, folder, tmp_path, "latent.ipynb") as page:
        latent = page.locator(".facelab-latent").first
        latent.wait_for(timeout=30_000)
        pull(latent, "component_0", "structure of", "appearance of")
        with redrawn(latent):
            latent.get_by_label("structure of the puppet below").check()


@pytest.mark.timeout(900)
def test_an_expression_is_put_on_and_studies_are_answered(chromium, tmp_path):
    from playwright.sync_api import expect

    folder = tmp_path / "notebooks"
    notebook_of(folder, "expression.ipynb", EXPRESSION, QUIZ, VOTE)
    with opened(chromium, folder, tmp_path, "expression.ipynb") as page:
        editor = page.locator(".facelab-expression").first
        editor.wait_for(timeout=30_000)
        pull(editor, "smile", "scream")
        for study, answers in (("quiz", ("real", "made", "skip", "real")), ("vote", ("2", "skip"))):
            form = page.locator(f".facelab-{study}").first
            form.get_by_placeholder("your name").fill("Ann")
            form.get_by_placeholder("your name").press("Tab")
            form.get_by_role("button", name="begin").click()
            for left, answer in enumerate(answers):
                expect(form).to_contain_text(f"{len(answers) - left} to go")
                form.get_by_role("button", name=answer, exact=True).click()
            expect(form).to_contain_text("Thank you")


@pytest.mark.timeout(900)
def test_a_photograph_is_uploaded_and_edited(chromium, tmp_path):
    from playwright.sync_api import expect

    pytest.importorskip("dlib", reason="needs the [offline] extra")
    (tmp_path / "notes.jpg").write_text("no picture")
    Image.fromarray(skimage.data.astronaut()).save(tmp_path / "me.jpg")
    folder = tmp_path / "notebooks"
    notebook_of(folder, "upload.ipynb", UPLOAD, "editor.view")
    with opened(chromium, folder, tmp_path, "upload.ipynb") as page:
        upload, editor = page.locator(".facelab-upload").first, page.locator(".facelab-expression").first
        upload.wait_for(timeout=30_000)
        button = upload.get_by_role("button", name="photograph")
        expect(button, "nobody has said yet that the picture may be used").to_be_disabled()
        upload.get_by_label("This is my face, or its owner agrees").check()

        def choose(name):
            with page.expect_file_chooser() as chooser:
                button.click()
            chooser.value.set_files(tmp_path / name)

        choose("notes.jpg")
        expect(upload).to_contain_text("Not used. notes.jpg: not a picture", timeout=30_000)
        expect(upload.locator("img")).not_to_be_visible()
        with redrawn(editor):
            choose("me.jpg")
        expect(upload).to_contain_text("pixels wide in me.jpg")
        expect(upload.locator("img")).to_be_visible()
        with redrawn(upload):
            Image.fromarray(skimage.data.astronaut()[:300, :400]).save(tmp_path / "me.jpg")
            choose("me.jpg")  # the same name again
        pull(editor, "surprise")


@pytest.mark.timeout(900)
def test_a_photograph_is_turned_and_filmed(chromium, tmp_path):
    from playwright.sync_api import expect

    folder = tmp_path / "notebooks"
    notebook_of(folder, "animator.ipynb", ANIMATOR)
    with opened(chromium, folder, tmp_path, "animator.ipynb") as page:
        animator = page.locator(".facelab-animator").first
        animator.wait_for(timeout=30_000)
        pull(animator, "yaw", "jaw_open")
        animator.get_by_role("button", name="keep", exact=True).click()
        expect(animator).to_contain_text("1 kept")
        animator.get_by_role("button", name="film", exact=True).click()
        expect(animator).to_contain_text("written: face.gif", timeout=60_000)
    assert (folder / "face.gif").stat().st_size > 10_000
