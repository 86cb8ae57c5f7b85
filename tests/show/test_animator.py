"""The animator without a browser: sliders move the source's own 3D face, and kept states become a film."""
import numpy as np
import pytest
import torch
from PIL import Image

from facelab import show
from facelab.core import ShapeError
from facelab.faces import FaceWorld
from facelab.geometry.pose import Parameters
from facelab.papers.f3a_gan import ClipError, Config, Model


@pytest.fixture
def animator():
    world = FaceWorld(3)
    face = world.sample(1, size=32, yaw=(-5, 5))
    torch.manual_seed(0)
    model = Model(Config(size=32, width=2, start=32)).eval()
    truth = lambda state: world.rerender(face, pose=state.pose, expression_coefficients=state.expression_coefficients).image  # noqa: E731
    return show.Animator(model, face.image, Parameters.of(face), truth)


def test_a_slider_moves_the_state_the_flow_and_the_picture(animator):
    before = animator._picture.value
    still = animator.draw()
    assert still.shape == (192, 4 * 192, 3) and (still[:, 192:384] == 128).all(), "grey: no flow yet"
    animator.sliders["yaw"].value = 20
    assert animator._picture.value != before
    state = animator.state(yaw=20, smile=0.5)
    torch.testing.assert_close(state.pose[0, 0] - animator.shape.pose[0, 0], torch.deg2rad(torch.tensor(20.0)))
    smile = animator.names.index("smile")
    assert state.expression_coefficients[0, smile] - animator.shape.expression_coefficients[0, smile] == pytest.approx(0.5)
    moved = animator.draw(yaw=20)
    assert not (moved[:, 192:384] == 128).all() and np.abs(moved[:, 576:].astype(int) - still[:, 576:]).mean() > 2, "the truth turns too"
    with pytest.raises(ShapeError, match="nod"):
        animator.draw(nod=1)


def test_kept_states_become_a_film(animator, tmp_path):
    with pytest.raises(ClipError, match="keep a state"):
        animator.film(tmp_path / "face.gif")
    keep, let_go, write = animator.view.children[1].children[:3]
    write.click()
    assert "keep a state" in animator.said.value
    animator.sliders["yaw"].value = 25
    keep.click()
    let_go.click()
    assert animator.sliders["yaw"].value == 0 and animator.said.value == "1 kept"
    animator.file.value = str(tmp_path / "face.gif")
    write.click()
    with Image.open(tmp_path / "face.gif") as picture:
        assert picture.n_frames == 2 * 16 + 1, "there and back"
    animator.sliders["jaw_open"].value = 1
    keep.click()
    path = animator.film(tmp_path / "two.gif", steps=3, progress=False)
    with Image.open(path) as picture:
        assert picture.n_frames == 2 * 3 + 1, "through both, and it stays there"


def test_another_photograph_is_opened(animator, tmp_path):
    animator.sliders["yaw"].value = 20
    before, _ = animator._picture.value, animator._keep(None)
    other = FaceWorld(3).sample(1, size=32, start=5, yaw=(-5, 5))
    animator.open(other.image, Parameters.of(other))
    assert animator._picture.value != before and animator.sliders["yaw"].value == 20
    assert animator.kept == [] and animator.draw().shape == (192, 3 * 192, 3), "states of another face are dropped; no truth, no panel"
    animator._keep(None)
    mine = tmp_path / "mine.gif"
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(mine)
    animator.file.value = str(mine)
    animator._write(None)
    assert "not made with facelab" in animator.said.value


def test_a_model_without_flow_has_no_animator():
    with pytest.raises(ClipError, match="landmarks"):
        show.Animator(Model(Config(size=32, width=2, start=32, condition="landmarks", align=False)), torch.zeros(1, 3, 32, 32))
