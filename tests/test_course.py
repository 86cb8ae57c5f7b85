"""Running, remembering, binding and stripping notebooks, on notebooks made here."""
import re
from html.parser import HTMLParser
from pathlib import Path

import nbformat
import papermill
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

import facelab
from facelab import book, course
from facelab.core import AssetError

PARAMETERS = 'profile: str = "smoke"\nseed: int = 0\nphotos: str = ""'
EQUATIONS = r"""# First, the *Gaussian*
With $\hat x_{i}\in\mathbb{R}^{N}$, for \$5, [next](02_breaks.ipynb) and [later](13_later.ipynb):

$$\mathrm{KL}=\sum_{d=1}^{D}\log\frac{\sigma}{\sigma_\phi}-\tfrac12\tag{5}$$

\begin{align}
a &= \arg\min_z \lVert z\rVert_2^2 \\
b &= c
\end{align}
"""
WIDGETS = """import ipywidgets
from IPython.display import Math, display
from tqdm.auto import tqdm
for _ in tqdm(range(3)):
    pass
display(Math(r'\\beta_7'), ipywidgets.IntSlider(description='x'))"""


def save(folder: Path, name: str, *cells) -> Path:
    folder.mkdir(exist_ok=True)
    cells = [c if not isinstance(c, str) else new_code_cell(c) for c in cells]
    cells.insert(1, new_code_cell(PARAMETERS, metadata={"tags": ["parameters"]}))
    kernel = {"name": "python3", "display_name": "Python 3 (ipykernel)", "language": "python"}
    path = folder / f"{name}.ipynb"
    nbformat.write(new_notebook(cells=cells, metadata={"kernelspec": kernel}), path)
    return path


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """Four notebooks, two of which fail, run once: the folder, its output, and the results."""
    folder = tmp_path_factory.mktemp("notebooks")
    allocate = "x = bytearray(b'1') * (300 << 20)\nimport time; time.sleep(0.5)"
    save(folder, "01_runs", new_markdown_cell(EQUATIONS), WIDGETS, allocate, "print(f'ran at {profile!r} with {photos!r}')")
    save(folder, "02_breaks", new_markdown_cell("# Second"), "1/0", "print('never reached')")
    save(folder, "03_dies", new_markdown_cell("# Third"), "import os; os._exit(9)")
    save(folder, "04_after", new_markdown_cell("# Fourth"), "print('still ran')")
    out = tmp_path_factory.mktemp("out") / "deep" / "er"
    return folder, out, {r.name: r for r in course.run(course.notebooks(folder), out, progress=False)}


def test_goes_on_past_failures_and_names_them(ran):
    _, out, results = ran
    assert list(results) == ["01_runs", "02_breaks", "03_dies", "04_after"]
    assert {name for name, r in results.items() if r.error} == {"02_breaks", "03_dies"}
    assert "ZeroDivisionError: division by zero" in results["02_breaks"].error
    assert "DeadKernelError" in results["03_dies"].error
    assert "still ran" in (out / "04_after.ipynb").read_text()
    assert not list(out.glob(".*")), "no half-written file is left"


def test_measures_time_and_the_kernels_memory(ran):
    _, _, results = ran
    assert 300 * 2**20 < results["01_runs"].memory < 2 * 2**30
    assert results["04_after"].memory < results["01_runs"].memory - 200 * 2**20
    assert results["01_runs"].seconds > 0.5


def test_hands_over_the_parameters(ran, tmp_path):
    path = save(tmp_path / "n", "01_says", new_markdown_cell("# One"), "print(f'ran at {profile!r} with {photos!r}')")
    (tmp_path / "faces").mkdir()
    list(course.run([path], tmp_path / "out", profile="cpu", photos=tmp_path / "faces", progress=False))
    assert f"ran at 'cpu' with '{tmp_path / 'faces'}'" in (tmp_path / "out" / path.name).read_text()
    assert "ran at 'smoke' with ''" in (ran[1] / "01_runs.ipynb").read_text()


def test_skips_what_is_done_and_only_that(tmp_path, monkeypatch):
    executed = []
    real = papermill.execute_notebook
    monkeypatch.setattr(papermill, "execute_notebook", lambda path, *a, **k: (executed.append(path.stem), real(path, *a, **k)))
    folder, out = tmp_path / "n", tmp_path / "out"
    save(folder, "01_good", new_markdown_cell("# Good"), "print('one')")
    save(folder, "02_bad", new_markdown_cell("# Bad"), "raise SystemError('no')")

    def again(**options):
        executed.clear()
        results = list(course.run(course.notebooks(folder), out, progress=False, **options))
        return executed.copy(), [r.reused for r in results]

    assert again() == (["01_good", "02_bad"], [False, False])
    assert again() == (["02_bad"], [True, False]), "done: kept; failed: tried again"
    assert again(force=True)[0] == ["01_good", "02_bad"]
    assert again(profile="cpu")[0] == ["01_good", "02_bad"], "other parameters are another run"
    save(folder, "01_good", new_markdown_cell("# Good"), "print('two')")
    assert again(profile="cpu")[0] == ["01_good", "02_bad"], "a changed notebook is another run"
    (out / "01_good.ipynb").write_text((out / "01_good.ipynb").read_text()[:200])
    assert again(profile="cpu")[0] == ["01_good", "02_bad"], "a truncated output is no run"


def test_a_cell_that_hangs_is_stopped(tmp_path, monkeypatch):
    monkeypatch.setitem(course.PROFILES, "smoke", 2)
    save(tmp_path, "01_hangs", new_markdown_cell("# Hangs"), "while True: pass")
    save(tmp_path, "02_next", new_markdown_cell("# Next"), "1 + 1")
    hung, after = course.run(course.notebooks(tmp_path), tmp_path / "out", progress=False)
    assert "Timeout" in hung.error and after.error is None


def test_mistakes_have_names(tmp_path):
    with pytest.raises(course.CourseError, match="no notebooks in"):
        course.notebooks(tmp_path)
    path = save(tmp_path, "01_one", new_markdown_cell("# One"))
    assert course.notebooks(tmp_path, ["1"]) == course.notebooks(tmp_path, ["01_one", "01_one.ipynb"]) == [path]
    with pytest.raises(course.CourseError, match="no notebook called 'two'; there are 01_one"):
        course.notebooks(tmp_path, ["two"])
    with pytest.raises(course.CourseError, match="no profile called 'huge'"):
        next(course.run([path], tmp_path / "out", profile="huge"))
    with pytest.raises(AssetError, match="facelab prepare"):
        next(course.run([path], tmp_path / "out", photos=tmp_path / "nowhere"))
    path.write_text("{")
    with pytest.raises(course.CourseError, match="not a readable notebook"):
        next(course.run([path], tmp_path / "out"))
    with pytest.raises(AssetError, match="no trained weights for 'mona_lisa'.*af_vae"):
        facelab.load("mona_lisa")


# --- the book ------------------------------------------------------------------------------------------------------------------

class Page(HTMLParser):
    def __init__(self, path):
        super().__init__()
        self.tags, self.loads, self.links = [], [], []
        self.feed(path.read_text())

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.tags.append(tag)
        self.loads += [attributes["src"]] if "src" in attributes else []
        self.links += [attributes["href"]] if "href" in attributes else []


def test_book_reads_offline(ran):
    folder, out, _ = ran
    index = book.write(course.notebooks(folder), out)
    assert index == out / "index.html"
    pages = {p.stem: Page(p) for p in out.glob("*.html")}
    assert set(pages) == {"index", "01_runs", "02_breaks", "03_dies", "04_after"}
    for page in pages.values():
        assert not {"script", "link", "iframe"} & set(page.tags)
        assert all(source.startswith("data:") for source in page.loads)
        assert "@import" not in "".join(page.links) and not [link for link in page.links if "//" in link]
    text = (out / "01_runs.html").read_text()
    assert pages["01_runs"].tags.count("math") == 4, "one inline, two displayed, one from a cell's output"
    assert 'class="tex"' not in text and "$$" not in text and "\\begin" not in text
    assert "for $5" in text
    assert "<td>ran to the end</td>" in (out / "index.html").read_text()


def test_book_links_its_pages_in_order(ran):
    folder, out, _ = ran
    book.write(course.notebooks(folder), out)
    text = (out / "02_breaks.html").read_text()
    assert text.count('<a rel="prev" href="01_runs.html">← First, the Gaussian</a>') == 2
    assert text.count('<a rel="next" href="03_dies.html">Third →</a>') == 2
    assert "This notebook stopped: In [" in text and "ZeroDivisionError" in text
    first = (out / "01_runs.html").read_text()
    assert 'rel="prev"' not in first
    assert 'href="02_breaks.html"' in first and 'href="13_later.ipynb"' in first, "links follow into the book where the page exists"


def test_book_leaves_widgets_to_the_notebook(ran):
    folder, out, _ = ran
    book.write(course.notebooks(folder), out)
    text = (out / "01_runs.html").read_text()
    assert text.count('<p class="widget">') == 1 and "IntSlider(value" not in text
    assert "3/3" not in text, "a progress bar that is done is not worth a line"


@pytest.mark.parametrize("latex", [
    r"\begin{aligned}a&=b\\&=c\end{aligned}", r"\begin{equation}x\end{equation}", r"\mathbb{E}_{z\sim q_\phi(z\mid x)}\left[\log p\right]",
    r"\begin{pmatrix}a & b\\ c & d\end{pmatrix}", r"f=\begin{cases}1 & x>0\\0&\text{otherwise}\end{cases}", r"\operatorname{softmax}(x)_i",
    r"\underbrace{a}_{\text{shape}}", r"\boldsymbol{\mu}^\top\Sigma^{-1}", r"\arg\max_k w_k", r"\bar X \odot \nabla_\theta \mathcal{L}",
])  # fmt: skip
def test_equations_are_drawn(latex):
    drawn = book.mathml(latex, display=True)
    assert drawn.startswith("<math") and 'display="block"' in drawn
    assert not re.search(r"\\|<mi>&</mi>", drawn)


def test_an_unknown_command_is_shown_not_lost():
    assert book.mathml(r"\nosuchthing < 1", display=False) == r'<code class="tex">\nosuchthing &lt; 1</code>'


# --- student copies ------------------------------------------------------------------------------------------------------------

SOLVED = "def f(x):\n    ### BEGIN SOLUTION\n    y = x + 1\n    return y\n    ### END SOLUTION\n\nz = 3"


def test_strips_solutions_and_only_those():
    stripped = course.strip_solution(SOLVED)
    assert stripped == 'def f(x):\n    # your turn: replace the next line\n    raise NotImplementedError("your turn: f")\n\nz = 3'
    loop = course.strip_solution("def g():\n    return 1\n\nfor i in (1, 2):\n    ### BEGIN SOLUTION\n    print(g())\n    ### END SOLUTION")
    assert loop.endswith('raise NotImplementedError("your turn")')  # what is to be written there is not g
    scope = {}
    exec(stripped, scope)
    with pytest.raises(NotImplementedError):
        scope["f"](1)
    assert course.strip_solution("a = 1\n# BEGIN SOLUTION") == "a = 1\n# BEGIN SOLUTION"


@pytest.mark.parametrize("source", [
    "### BEGIN SOLUTION\na = 1", "a = 1\n### END SOLUTION", "### BEGIN SOLUTION\n### BEGIN SOLUTION\n### END SOLUTION",
    "### END SOLUTION\n### BEGIN SOLUTION",
])  # fmt: skip
def test_unpaired_markers_are_refused(source):
    with pytest.raises(course.CourseError, match="without its partner"):
        course.strip_solution(source)


def test_student_copies(tmp_path):
    cell = new_code_cell(SOLVED, execution_count=4, outputs=[new_output("stream", text="secret")])
    path = save(tmp_path / "n", "01_one", new_markdown_cell("# One"), cell)
    before = path.read_bytes()
    assert course.write_student_copies([path], tmp_path / "mine") == [tmp_path / "mine" / "01_one.ipynb"]
    copy = nbformat.read(tmp_path / "mine" / "01_one.ipynb", 4)
    nbformat.validate(copy)
    assert "secret" not in str(copy) and "y = x + 1" not in str(copy) and "your turn" in copy.cells[2].source
    assert copy.cells[2].execution_count is None and path.read_bytes() == before

    (tmp_path / "mine" / "01_one.ipynb").write_text("a student's work")
    assert course.write_student_copies([path], tmp_path / "mine") == []
    assert (tmp_path / "mine" / "01_one.ipynb").read_text() == "a student's work"
    assert course.write_student_copies([path], tmp_path / "mine", force=True)
    with pytest.raises(course.CourseError, match="folder of their own"):
        course.write_student_copies([path], path.parent, force=True)
    assert path.read_bytes() == before
