"""The house's import direction: a room imports only from rooms to its left, and no paper imports another."""
import ast
import subprocess
import sys
from pathlib import Path

import pytest

from facelab.core import PACKAGE

ORDER = [
    {"core"}, {"geometry"}, {"faces"}, {"probability"}, {"blocks", "adversarial"}, {"papers"}, {"training"}, {"evaluation"}, {"recipes"},
    {"show"}, {"course"}, {"book"}, {"doctor"}, {"cli"},
]  # fmt: skip
RANK = {room: rank for rank, rooms in enumerate(ORDER) for room in rooms}


def modules(package: Path) -> list[Path]:
    return sorted(package.rglob("*.py"))


def imported(path: Path, package: Path) -> set[tuple[str, ...]]:
    """Every facelab module that a file imports, anywhere in it, as the parts after ``facelab``."""
    here = path.relative_to(package.parent).with_suffix("").parts
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {tuple(alias.name.split(".")) for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = here[: len(here) - node.level] if node.level else ()
            base += tuple(node.module.split(".")) if node.module else ()
            found |= {base + (alias.name,) for alias in node.names}
    return {parts[1:] for parts in found if parts[0] == "facelab" and len(parts) > 1}


def wrong(path: Path, package: Path) -> list[str]:
    """The imports of a file that run against the direction."""
    here = path.relative_to(package).with_suffix("").parts
    if here == ("__init__",):  # the door: it may name any room, inside load()
        return []
    room = here[0]
    assert room in RANK, f"{path.name}: {room} has no place in the house; give it one in ORDER and in facelab's docstring"
    bad = []
    for target in imported(path, package):
        if target[0] not in RANK:  # a name of facelab itself, such as __version__
            continue
        if target[0] == room == "papers" and len(here) > 1 and len(target) > 1 and target[1] != here[1]:
            bad.append(f"{'/'.join(here)} imports another paper: {'.'.join(target)}")
        elif target[0] != room and RANK[target[0]] >= RANK[room]:
            bad.append(f"{'/'.join(here)} imports {'.'.join(target)}")
    return bad


@pytest.mark.parametrize("path", modules(PACKAGE), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_only_from_the_left(path):
    assert wrong(path, PACKAGE) == []


@pytest.mark.parametrize(("file", "line", "ok"), [
    ("faces/world.py", "from facelab.geometry import warp", True),
    ("faces/world.py", "from ..core import Reading", True),
    ("faces/world.py", "from .batch import FaceBatch", True),
    ("geometry/flow.py", "from facelab.faces.batch import FaceBatch", False),
    ("geometry/flow.py", "from ..faces import batch", False),
    ("geometry/flow.py", "def f():\n    from facelab import papers", False),
    ("training.py", "import facelab.evaluation", False),
    ("papers/fvae.py", "from facelab.papers.af_vae import Config", False),
    ("papers/fvae/model.py", "from facelab.papers.fvae import flow", True),
    ("papers/fvae.py", "from .af_vae import Config", False),
    ("probability.py", "import facelab.blocks", False),
])  # fmt: skip
def test_the_rule_itself(tmp_path, file, line, ok):
    path = tmp_path / "facelab" / file
    path.parent.mkdir(parents=True)
    path.write_text(line)
    assert (wrong(path, tmp_path / "facelab") == []) is ok


def test_the_door_and_the_command_line_stay_light():
    heavy = "torch", "numba", "papermill", "nbconvert", "matplotlib", "IPython"
    code = f"import sys, facelab, facelab.core; print([m for m in {heavy} if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"


def test_grid_sample_has_one_caller():
    callers = [str(p.relative_to(PACKAGE)) for p in modules(PACKAGE) if any(
        isinstance(node, ast.Attribute | ast.Name) and getattr(node, "attr", getattr(node, "id", "")) == "grid_sample"
        for node in ast.walk(ast.parse(p.read_text()))
    )]  # fmt: skip
    assert set(callers) <= {"geometry/flow.py"}, callers
