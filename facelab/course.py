"""The course as a program: run the ordered notebooks, remember what is done, write copies for students."""
from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import re
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import nbformat
from nbformat import NotebookNode

from facelab.core import PACKAGE, AssetError, FacelabError

NOTEBOOKS = PACKAGE.parent / "notebooks"
PROFILES: dict[str, int | None] = {"smoke": 300, "cpu": 3600, "gpu": None, "paper": None}  # seconds that one cell may take
BEGIN, END = "### BEGIN SOLUTION", "### END SOLUTION"


class CourseError(FacelabError):
    """A notebook of the course cannot be found, read or copied."""


@dataclass(frozen=True)
class Result:
    """How one notebook went: the exception's one line (None: it ran to the end), and what the run cost."""

    name: str
    error: str | None
    seconds: float
    memory: int  # bytes, peak resident memory of the kernel and its children
    reused: bool = False  # it had been run before and was not run again


def notebooks(folder: Path = NOTEBOOKS, names: Sequence[str] = ()) -> list[Path]:
    """The ordered notebooks ``NN_*.ipynb`` of a folder, or those named by stem (``01_faces_in_numbers``) or number (``01``, ``1``).

    Raises:
        CourseError: the folder has no notebooks, or a name matches none of them.
    """
    found = sorted(folder.glob("[0-9][0-9]_*.ipynb"))
    if not found:
        raise CourseError(f"no notebooks in {folder}: run from a clone of the repository, or say --notebooks FOLDER")
    if not names:
        return found
    chosen = set()
    for name in names:
        stem = Path(name).name.removesuffix(".ipynb")
        match = [p for p in found if p.stem == stem or (stem.isdigit() and int(p.stem[:2]) == int(stem))]
        if not match:
            raise CourseError(f"no notebook called {name!r}; there are {', '.join(p.stem for p in found)}")
        chosen.update(match)
    return sorted(chosen)


def read(path: Path) -> NotebookNode:
    """A notebook in format 4, or CourseError."""
    try:
        return nbformat.read(path, as_version=4)
    except Exception as error:  # nbformat raises anything from UnicodeDecodeError to its own NotJSONError
        raise CourseError(f"{path} is not a readable notebook ({type(error).__name__})") from error


def run(
    paths: Sequence[Path], out: Path, *, profile: str = "smoke", photos: Path | None = None, more: Mapping[str, Any] | None = None,
    force: bool = False, progress: bool = True,
) -> Iterator[Result]:  # fmt: skip
    """Run notebooks through papermill into ``out``, one result each, going on past failures.

    A notebook counts as done when its output records no exception and the digest of the same cells and parameters; it is then
    not run again unless ``force``. Output is written beside its final name and renamed when complete, so a kill leaves no half.

    Args:
        paths: the notebooks, each with a ``parameters`` cell.
        out: folder of the executed copies; made if missing.
        profile: one of ``PROFILES``, handed to the notebook with its limit on a cell's time.
        photos: folder of prepared photographs, handed to the notebook when given.
        more: others of its parameters.

    Raises:
        CourseError: unknown profile or unreadable notebook. AssetError: ``photos`` is not a folder.
    """
    if profile not in PROFILES:
        raise CourseError(f"no profile called {profile!r}; there are {', '.join(PROFILES)}")
    if photos is not None and not photos.is_dir():
        raise AssetError(f"{photos} is not a folder; prepare one with: facelab prepare PICTURES {photos}")
    parameters = {"profile": profile} | ({"photos": str(photos.resolve())} if photos else {}) | dict(more or {})
    out = out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    for path in map(Path.resolve, paths):
        digest = _digest(read(path), parameters)
        final = out / path.name
        done = None if force else recorded(final, digest)
        yield done or _execute(path, final, parameters, digest, PROFILES[profile], progress)


def recorded(path: Path, digest: str | None = None) -> Result | None:
    """What an executed notebook says of its run; None if there is no such run, or with ``digest``, unless that very run succeeded."""
    try:
        metadata = read(path).metadata
        result = Result(**metadata["facelab"]["result"], reused=True)
    except (CourseError, KeyError, TypeError):
        return None
    if digest is not None and (result.error is not None or metadata["facelab"]["digest"] != digest):
        return None
    return result


def _digest(notebook: NotebookNode, parameters: dict[str, Any]) -> str:
    cells = [[cell.cell_type, cell.source] for cell in notebook.cells]
    return hashlib.sha256(json.dumps([cells, parameters], sort_keys=True).encode()).hexdigest()


def _execute(path: Path, final: Path, parameters: dict[str, Any], digest: str, cell_limit: int | None, progress: bool) -> Result:
    import papermill

    logging.getLogger("papermill").setLevel(logging.ERROR)
    partial = final.with_name(f".{final.name}")  # hidden until complete
    error = None
    began = time.perf_counter()
    with _peak_memory() as memory:
        try:
            papermill.execute_notebook(
                path, partial, parameters, kernel_name="python3", cwd=path.parent, execution_timeout=cell_limit,
                progress_bar={"desc": path.stem, "leave": False, "disable": not progress}, extra_arguments=["--log-level=ERROR"],
            )
        except Exception as caught:  # whatever a notebook or its kernel died of, the next one still gets its turn
            error = _one_line(caught)
    result = Result(path.stem, error, time.perf_counter() - began, memory[0])
    notebook = read(partial) if partial.exists() else read(path)
    record = asdict(result)
    del record["reused"]
    notebook.metadata["facelab"] = {"digest": digest, "result": record}
    nbformat.write(notebook, partial)
    os.replace(partial, final)
    return result


def _one_line(error: Exception) -> str:
    if hasattr(error, "ename"):  # papermill's report of the exception inside the notebook
        text = f"In [{error.exec_count}]: {error.ename}: {error.evalue}"
    else:
        text = f"{type(error).__name__}: {error}"
    return " ".join(re.sub(r"\x1b\[[0-9;]*m", "", text).split())[:300]


@contextlib.contextmanager
def _peak_memory(interval: float = 0.1) -> Iterator[list[int]]:
    """Largest resident memory, in bytes, of the processes started inside the block, sampled; in the yielded list's only item."""
    import psutil

    me, peak, stop = psutil.Process(), [0], threading.Event()
    before = set(me.children(recursive=True))

    def sample() -> None:
        while not stop.wait(interval):
            total = 0
            for child in set(me.children(recursive=True)) - before:
                with contextlib.suppress(psutil.Error):
                    total += child.memory_info().rss
            peak[0] = max(peak[0], total)

    thread = threading.Thread(target=sample, daemon=True)
    thread.start()
    try:
        yield peak
    finally:
        stop.set()
        thread.join()


# --- student copies ------------------------------------------------------------------------------------------------------------

def strip_solution(source: str) -> str:
    """A cell's source with what stands from BEGIN to END SOLUTION replaced by a line that raises, naming the function that is to be
    written; other sources as they are.

    Raises:
        CourseError: markers that do not pair up.
    """
    lines, kept, inside = source.split("\n"), [], False
    for line in lines:
        mark = line.strip()
        if mark in (BEGIN, END) and inside != (mark == END):
            raise CourseError(f"'{mark}' without its partner in a cell that starts: {lines[0]!r}")
        if mark == BEGIN:
            indent = line[: len(line) - len(line.lstrip())]
            head = next((above for above in reversed(kept) if above.strip() and not above.startswith(indent)), "") if indent else ""
            message = ": ".join(["your turn", *re.findall(r"^\s*def (\w+)", head)])
            kept += [f"{indent}# your turn: replace the next line", f'{indent}raise NotImplementedError("{message}")']
            inside = True
        elif mark == END:
            inside = False
        elif not inside:
            kept.append(line)
    if inside:
        raise CourseError(f"'{BEGIN}' without its partner in a cell that starts: {lines[0]!r}")
    return "\n".join(kept)


def student_copy(notebook: NotebookNode) -> NotebookNode:
    """The notebook as a student gets it: exercises open, nothing run yet."""
    copy = deepcopy(notebook)
    copy.metadata.pop("widgets", None)
    for cell in copy.cells:
        if cell.cell_type == "code":
            cell.source, cell.outputs, cell.execution_count = strip_solution(cell.source), [], None
            cell.metadata.pop("execution", None)
    return copy


def write_student_copies(paths: Sequence[Path], out: Path, *, force: bool = False) -> list[Path]:
    """Student copies of the notebooks in ``out``; returns those written. A copy that is there is a student's work: kept unless ``force``.

    Raises:
        CourseError: ``out`` is the notebooks' own folder, or an exercise's markers do not pair up.
    """
    if any(path.parent.resolve() == out.resolve() for path in paths):
        raise CourseError(f"{out} holds the solved notebooks: give the copies a folder of their own")
    copies = [(out / path.name, student_copy(read(path))) for path in paths if force or not (out / path.name).exists()]
    out.mkdir(parents=True, exist_ok=True)
    for target, copy in copies:
        nbformat.write(copy, target)
    return [target for target, _ in copies]
