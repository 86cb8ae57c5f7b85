"""The notebook contract, and exercises that fail stripped and pass solved. nbval runs the same notebooks (`make test`)."""
import ast
import re

import nbformat
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from facelab import book, course

FOLDER = course.NOTEBOOKS
PATHS = sorted([*FOLDER.glob("[0-9][0-9]_*.ipynb"), *FOLDER.glob("experiments/*.ipynb")])
LIMIT = 600_000  # bytes
MACHINE_PATH = re.compile(r"(?<![\w.:/~<])/(home|root|tmp|work|Users|usr|opt|var|mnt|content)/\w|\b[A-Z]:\\\w")
CHECKED = "NBVAL_CHECK_OUTPUT"
KERNEL = {"name": "python3", "display_name": "Python 3 (ipykernel)", "language": "python"}


def test_the_course_begins():
    assert {"00_tour", "01_faces_in_numbers"} <= {p.stem for p in PATHS}


@pytest.mark.parametrize("path", PATHS, ids=lambda p: p.stem)
def test_contract(path):
    assert path.stat().st_size <= LIMIT
    assert violations(nbformat.read(path, 4), lesson=path.parent == FOLDER) == []


@pytest.mark.parametrize("path", [p for p in PATHS if p.parent == FOLDER], ids=lambda p: p.stem)
def test_book_page_shows_every_equation(path):
    page = book.body(nbformat.read(path, 4), path.parent)
    assert re.findall(r'<code class="tex">.*?</code>', page) == []


@pytest.mark.parametrize("path", [p for p in PATHS if course.BEGIN in p.read_text()], ids=lambda p: p.stem)
def test_exercises_fail_stripped_and_pass_solved(path):
    assert unsound_exercises(nbformat.read(path, 4), path.parent) == []


# --- the contract --------------------------------------------------------------------------------------------------------------

def violations(notebook, *, lesson: bool) -> list[str]:
    """What a committed notebook breaks of DESIGN's contract, one line each."""
    bad = []
    code = [cell for cell in notebook.cells if cell.cell_type == "code" and cell.source.strip()]
    if "widgets" in notebook.metadata:
        bad.append("metadata.widgets is saved: clear the widget state")
    if notebook.metadata.get("kernelspec", {}).get("name") != "python3":
        bad.append("the kernel is not python3")
    if notebook.cells[0].cell_type != "markdown" or not notebook.cells[0].source.startswith("# "):
        bad.append("the first cell is not the title")
    if [cell.execution_count for cell in code] != list(range(1, len(code) + 1)):
        bad.append("not executed from top to bottom in a fresh kernel")
    bad += _parameter_violations([c for c in code if "parameters" in c.metadata.get("tags", [])])
    for number, cell in enumerate(code, 1):
        here = f"In [{number}]: "
        for output in cell.outputs:
            text = output.get("text", "") + "".join(v for k, v in output.get("data", {}).items() if k.startswith("text/"))
            if output.output_type == "error":
                bad.append(f"{here}ends in {output.ename}")
            if output.get("name") == "stderr" or re.search(r"\w*Warning:", text):
                bad.append(f"{here}warns or writes to stderr: {text.strip()[:100]}")
            if MACHINE_PATH.search(text):
                bad.append(f"{here}shows a machine's path: {MACHINE_PATH.search(text)[0]}…")
        if cell.source.rstrip().endswith(";"):
            bad.append(f"{here}ends in ';', which nbval does not honour: write _ = …")
    for cell in notebook.cells:
        if MACHINE_PATH.search(cell.source):
            bad.append(f"a {cell.cell_type} cell names a machine's path: {MACHINE_PATH.search(cell.source)[0]}…")
    if lesson:
        bad += _exercise_violations(code)
        if not any(CHECKED in cell.source or CHECKED.lower() in str(cell.metadata).lower().replace("-", "_") for cell in code):
            bad.append(f"nbval would check no output: mark a cell # {CHECKED}")
    return bad


def _parameter_violations(tagged) -> list[str]:
    if len(tagged) != 1:
        return [f"{len(tagged)} cells are tagged 'parameters'"]
    values = {}
    for statement in ast.parse(tagged[0].source).body:
        if not isinstance(statement, ast.AnnAssign) or not isinstance(statement.target, ast.Name):
            return [f"parameters: line {statement.lineno} is not `name: type = literal`"]
        try:
            values[statement.target.id] = ast.literal_eval(statement.value)
        except ValueError:
            return [f"parameters: {statement.target.id} is not a literal"]
    expected = {"profile": "smoke", "seed": 0, "photos": ""}
    return [f"parameters: {k} must be {v!r}, is {values.get(k)!r}" for k, v in expected.items() if values.get(k) != v]


def _exercise_violations(code) -> list[str]:
    bad = []
    for cell, after in zip(code, [*code[1:], None], strict=True):
        try:
            is_exercise = course.strip_solution(cell.source) != cell.source
        except course.CourseError as error:
            bad.append(str(error))
            continue
        if is_exercise and (after is None or course.BEGIN in after.source or not re.search(r"\bassert\b|\.assert_|raises", after.source)):
            bad.append(f"no visible test cell follows the exercise that starts {cell.source.splitlines()[0]!r}")
    return bad


# --- the exercises -------------------------------------------------------------------------------------------------------------

def unsound_exercises(notebook, folder) -> list[str]:
    """Exercises whose test cell passes without the solution, or fails with it; all in one kernel, each tried stripped, then solved."""
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    exercises = [i for i, cell in enumerate(code) if course.BEGIN in cell.source]
    client = NotebookClient(new_notebook(), timeout=300, kernel_name="python3", resources={"metadata": {"path": str(folder)}})

    def error(source: str) -> str | None:
        cell = new_code_cell(source)
        client.nb.cells = [cell]
        try:
            client.execute_cell(cell, 0)
        except CellExecutionError as caught:
            return f"{caught.ename}: {caught.evalue}"

    bad = []
    with client.setup_kernel():
        for i, cell in enumerate(code[: exercises[-1] + 2] if exercises else []):
            if i in exercises:
                error(course.strip_solution(cell.source))
                if error(code[i + 1].source) is None:
                    bad.append(f"passes stripped: {code[i + 1].source.splitlines()[0]!r}")
            if (failure := error(cell.source)) is not None:
                bad.append(f"{failure} in {cell.source.splitlines()[0]!r}")
    return bad


# --- the checks above can fail -------------------------------------------------------------------------------------------------

def lesson(**changes):
    """A small notebook that keeps the contract, or with one thing changed."""
    parameters = new_code_cell('profile: str = "smoke"\nseed: int = 0\nphotos: str = ""', metadata={"tags": ["parameters"]})
    exercise = new_code_cell("def f(x):\n    ### BEGIN SOLUTION\n    return 2 * x\n    ### END SOLUTION")
    test = new_code_cell(f"# {CHECKED}\nassert f(2) == 4 and f(3) == 6")
    cells = {"title": new_markdown_cell("# Title"), "parameters": parameters, "exercise": exercise, "test": test} | changes
    notebook = new_notebook(cells=[c for c in cells.values() if c], metadata={"kernelspec": KERNEL})
    for number, cell in enumerate([c for c in notebook.cells if c.cell_type == "code"], 1):
        cell.execution_count = number
    return notebook


def printed(text: str, name: str = "stdout"):
    return new_code_cell("print()", outputs=[new_output("stream", name=name, text=text)])


def test_a_good_notebook_keeps_the_contract():
    assert violations(lesson(), lesson=True) == []
    assert violations(lesson(extra=printed("see https://example.org/home/page, 3/4 and ~/faces")), lesson=True) == []


@pytest.mark.parametrize(("word", "changes"), [
    ("not the title", {"title": new_markdown_cell("no heading")}),
    ("0 cells are tagged", {"parameters": new_code_cell("seed: int = 0")}),
    ("not a literal", {"parameters": new_code_cell("seed: int = int('0')", metadata={"tags": ["parameters"]})}),
    ("is not `name", {"parameters": new_code_cell("seed = 0", metadata={"tags": ["parameters"]})}),
    ("photos must be", {"parameters": new_code_cell('profile: str = "smoke"\nseed: int = 0', metadata={"tags": ["parameters"]})}),
    ("profile must be", {"parameters": new_code_cell(
        'profile: str = "gpu"\nseed: int = 0\nphotos: str = ""', metadata={"tags": ["parameters"]})}),
    ("ends in ValueError", {"extra": new_code_cell("x", outputs=[new_output("error", ename="ValueError", evalue="", traceback=[])])}),
    ("stderr", {"extra": printed("careful", "stderr")}),
    ("warns", {"extra": printed("UserWarning: careful")}),
    ("machine's path", {"extra": printed("saved /home/ann/x.png")}),
    ("names a machine's path", {"extra": new_markdown_cell("see /tmp/x")}),
    ("';'", {"extra": new_code_cell("plot();")}),
    ("without its partner", {"exercise": new_code_cell("### BEGIN SOLUTION\nf = 1")}),
    ("no visible test", {"test": None}),
    ("no visible test", {"test": new_code_cell(f"f(2)  # {CHECKED}")}),
    ("check no output", {"test": new_code_cell("assert f(2) == 4")}),
])  # fmt: skip
def test_each_breach_is_seen(word, changes):
    assert any(word in line for line in violations(lesson(**changes), lesson=True))


def test_unexecuted_and_widget_laden_notebooks_are_seen():
    notebook = lesson()
    notebook.cells[2].execution_count = None
    notebook.metadata["widgets"] = {}
    assert sorted(line.split()[0] for line in violations(notebook, lesson=True)) == ["metadata.widgets", "not"]


def test_unsound_exercises_are_seen(tmp_path):
    assert unsound_exercises(lesson(), tmp_path) == []
    vacuous = lesson(test=new_code_cell("assert callable(f)  # says nothing of the solution"))
    assert unsound_exercises(vacuous, tmp_path) == ["passes stripped: 'assert callable(f)  # says nothing of the solution'"]
    broken = unsound_exercises(lesson(test=new_code_cell("assert f(2) == 5")), tmp_path)
    assert broken == ["AssertionError:  in 'assert f(2) == 5'"]
    solved = new_code_cell("### BEGIN SOLUTION\ny = 2\n### END SOLUTION")
    leftover = lesson(exercise=solved, test=new_code_cell("assert y == 2"))
    leftover.cells.insert(2, new_code_cell("y = 2"))
    assert unsound_exercises(leftover, tmp_path) == ["passes stripped: 'assert y == 2'"], "an older value answers for the student"
