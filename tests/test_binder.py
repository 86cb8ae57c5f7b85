"""Binder's own tool reads the repository and would build what we mean."""
import subprocess
import sys

from facelab.core import PACKAGE

ROOT = PACKAGE.parent


def test_repo2docker_accepts_the_repository():
    command = [sys.executable, "-m", "repo2docker", "--no-build", "--user-id", "1000", "--user-name", "joyvan", str(ROOT)]
    plan = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert plan.returncode == 0, plan.stderr
    dockerfile = plan.stdout
    assert "conda environment for python=3.11" in plan.stderr.replace("'", "")
    assert 'env update -p ${NB_PYTHON_PREFIX} --file "binder/environment.yml"' in dockerfile
    assert "binder/postBuild" in dockerfile
    for package in (ROOT / "binder" / "apt.txt").read_text().split():
        assert package in dockerfile


def test_post_build_is_a_runnable_script():
    script = ROOT / "binder" / "postBuild"
    assert script.stat().st_mode & 0o111, "git must keep its executable bit"
    subprocess.run(["bash", "-n", str(script)], check=True)
