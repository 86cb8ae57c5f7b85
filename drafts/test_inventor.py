"""The inventor without a browser: sliders move the noise, and only what they are called after changes."""
import pytest
import torch
from stand_ins import awake, seeded

from facelab import show
from facelab.blocks.regressor import Config as RegressorConfig
from facelab.blocks.regressor import Regressor
from facelab.core import ShapeError
from facelab.faces import FaceWorld
from facelab.papers.facefeat_gan import Config, Model, Recogniser, RecogniserConfig


@pytest.fixture
def inventor():
    torch.manual_seed(0)
    image = FaceWorld(3).sample(4, size=16).image
    model = Model(Config(size=16, width=6, encoder_width=4, identity=12, general=(10,))).eval()
    recogniser = Recogniser(RecogniserConfig(size=16, width=3, identity=12))
    model.use_extractors(recogniser, awake(Regressor(RegressorConfig(size=32, width=4, hidden=16)), image))
    return show.Inventor(model, image)


def test_sliders_move_their_own_noise(inventor):
    rest = inventor.noise()
    moved = inventor.noise(pose_1=2.0)
    assert rest.shape == (1, 2, 64) and torch.equal(rest[:, 1], moved[:, 1]) and not torch.equal(rest[:, 0], moved[:, 0])
    assert torch.equal(rest[:, 0], inventor.noise(general_0=2.0)[:, 0])
    assert inventor.noise(pose_0=4.0, pose_1=4.0, pose_2=4.0).abs().max() <= 1
    for way in inventor._ways:
        torch.testing.assert_close(way @ way.T, torch.eye(3), atol=1e-4, rtol=0)
    with pytest.raises(ShapeError, match="hat_0"):
        inventor.noise(hat_0=1)


def test_the_first_direction_changes_the_feature_most(inventor):
    """More than a direction taken at random does, on average over draws."""
    model, generator = inventor.model, seeded(1)
    z = 0.5 * model.noise(300, generator)
    for k, way in enumerate(inventor._ways):
        random = torch.nn.functional.normalize(torch.randn(64, generator=generator), dim=0)
        change = []
        for direction in (way[0], random):
            step = torch.zeros(300, 2, 64)
            step[:, k] = direction
            change.append((model.invent(z + step)[k] - model.invent(z)[k]).norm(dim=1).mean())
        assert change[0] > 1.2 * change[1], k


def test_sliders_and_person_redraw(inventor):
    before = inventor._picture.value
    assert inventor.draw().shape == (192, 384, 3)
    inventor.sliders["general_0"].value = 3
    after = inventor._picture.value
    inventor.person.value = 2
    assert before != after != inventor._picture.value
    with pytest.raises(ShapeError, match="two features"):
        show.Inventor(Model(Config(size=16, width=6, encoder_width=4, identity=12, general=(10, 10))), inventor.images)
