"""The places that say what to install agree: pyproject, constraints, environment.yml, binder, CITATION, Makefile, README."""
import re
import tomllib

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.version import Version

import facelab
from facelab.core import PACKAGE

ROOT = PACKAGE.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = {name: [Requirement(r) for r in wanted] for name, wanted in PROJECT["optional-dependencies"].items()}
RUNTIME = [Requirement(r) for r in PROJECT["dependencies"]]
DIRECT = {r.name: r for r in RUNTIME + [r for wanted in EXTRAS.values() for r in wanted] if r.name != "facelab"}
PINS = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().split("\n") if line and line[0] != "#")
REFUSED = {"torchvision", "timm", "lpips", "torch-fidelity", "facenet-pytorch", "ray", "scrapbook", "ploomber", "conda-lock", "nbstripout"}


def conda(file: str) -> tuple[dict[str, str], list[str]]:
    """The conda packages of an environment file with their versions, and its pip lines."""
    wanted = yaml.safe_load((ROOT / file).read_text())["dependencies"]
    pip = next(entry["pip"] for entry in wanted if isinstance(entry, dict))
    return dict((entry + "=").split("=")[:2] for entry in wanted if isinstance(entry, str)), pip


@pytest.mark.parametrize("name", DIRECT)
def test_every_direct_dependency_is_pinned_within_its_range(name):
    assert name in PINS, f"add {name}==VERSION to constraints.txt"
    assert DIRECT[name].specifier.contains(PINS[name])


def test_nothing_else_is_pinned_and_nothing_refused_is_wanted():
    assert set(PINS) == set(DIRECT)
    assert not REFUSED & set(DIRECT)
    assert PINS["torch"] == "2.13.0"


def test_conda_environment_installs_this_very_project():
    packages, pip = conda("environment.yml")
    assert pip == ["-c constraints.txt", "-e .[test]"]
    assert Version(packages["python"]) in Requirement(f"python{PROJECT['requires-python']}").specifier


def test_binder_says_the_same_with_torch_for_cpu():
    packages, pip = conda("binder/environment.yml")
    assert packages == conda("environment.yml")[0]
    assert pip.pop(0) == "--extra-index-url https://download.pytorch.org/whl/cpu"
    pinned = dict(line.split("==") for line in pip)
    assert pinned.pop("torch") == f"{PINS['torch']}+cpu"
    wanted = {r.name for r in RUNTIME + EXTRAS["offline"]} - {"torch"}
    assert pinned == {name: PINS[name] for name in wanted}


def test_one_version_everywhere():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == PROJECT["version"] == facelab.__version__
    assert citation["license"] == PROJECT["license"] == "Apache-2.0"
    assert "Version 2.0, January 2004" in (ROOT / "LICENSE").read_text()


def test_readme_names_only_targets_and_files_that_exist():
    readme, makefile = (ROOT / "README.md").read_text(), (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z]+):", makefile, re.MULTILINE))
    named = {word for line in re.findall(r"`make ([a-z]+)`|^make ([a-z]+)", readme, re.MULTILINE) for word in line if word}
    assert {"course", "test"} <= named <= targets
    files = [f for f in re.findall(r"\]\(([^)#]+)\)", readme) if "//" not in f]
    assert [f for f in files if not (ROOT / f).exists()] == []
