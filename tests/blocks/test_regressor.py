"""The 3DMM regressor: its terms against their formulas, what trains where, and that it learns."""
import pytest
import torch
from stand_ins import awake, seeded

from facelab.blocks.regressor import Config, Regressor, landmark_weights
from facelab.core import LandmarkError, ShapeError
from facelab.faces import FaceBatch, FaceWorld
from facelab.geometry.pose import Parameters, place
from facelab.training import fit


@pytest.fixture(scope="module")
def faces():
    return FaceWorld(3).sample(40, size=32, yaw=(-60, 60))


@pytest.fixture()
def small(faces):
    torch.manual_seed(0)
    network = Regressor(Config(size=32, width=8, hidden=32))
    network.prepare(faces)
    return network


def test_the_truth_costs_nothing(faces, small):
    """Eqs. 5 to 7 at the exact parameters; Eq. 5's landmarks are the renderer's."""
    true = Parameters.of(faces)
    batch = {"image": faces.image, "landmarks": faces.landmarks, "parameters": torch.cat(true, dim=1)}
    terms = small._terms(small._standard(true), batch)
    assert terms["shape"] < 1e-4 and terms["transformation"] < 1e-5 and terms["landmarks"] < 0.05
    wanted = 1e-3 * (true.identity_coefficients.abs().mean() + true.expression_coefficients.abs().mean())
    torch.testing.assert_close(terms["regularisation"], wanted)
    with torch.autocast("cpu", torch.bfloat16):
        assert small._terms(small._standard(true), batch)["shape"] < 1e-4


def test_each_term_is_its_formula(faces, small):
    true = Parameters.of(faces)
    off = true._replace(camera=true.camera + torch.tensor([0.0, 0.02, 0.0]))
    batch = {"image": faces.image, "landmarks": faces.landmarks, "parameters": torch.cat(true, dim=1)}
    terms = small._terms(small._standard(off), batch)
    assert terms["shape"] < 1e-4
    weight = landmark_weights()
    torch.testing.assert_close(terms["landmarks"], 2.0 * weight.mean() / 2, atol=0.05, rtol=0)  # 2 % of the side, in x only
    torch.testing.assert_close(terms["transformation"], 0.02 / small.scale[-2] / 2, atol=1e-4, rtol=0)
    wider = true._replace(identity_coefficients=true.identity_coefficients + torch.eye(40)[:1])
    shape = small._terms(small._standard(wider), batch)["shape"]
    torch.testing.assert_close(shape, 10 * small.model.identity_basis[0].abs().mean(), atol=1e-4, rtol=1e-3)


def test_pictures_with_landmarks_only_have_the_terms_of_equation_9(faces, small):
    photographs = FaceBatch(faces.image, faces.landmarks)
    assert set(small.losses(small.draw(photographs, 4, seeded()))) == {"landmarks", "regularisation"}
    assert set(small.losses(small.draw(faces, 4, seeded()))) == {"landmarks", "regularisation", "shape", "transformation"}
    with pytest.raises(LandmarkError, match="detector"):
        small.draw(FaceBatch(faces.image), 4, seeded())
    with pytest.raises(ShapeError, match="square"):
        small(torch.zeros(1, 3, 32, 16))


def test_a_face_of_another_size_is_the_same_face(faces, small):
    awake(small, faces.image)
    with torch.no_grad():
        found = small(faces.image)
        landmarks = small.landmarks(found, 128)
    torch.testing.assert_close(landmarks, place(small.model, found, 128)[:, small.model.landmarks, :2], atol=1e-3, rtol=0)
    assert found.camera.shape == (40, 3) and found.identity_coefficients.shape == (40, 40)
    large = torch.nn.functional.interpolate(faces.image, size=64, mode="nearest")
    assert found.pose[:, 0].std() > 0.02
    assert (small(large).pose - found.pose).abs().mean() < 0.2 * found.pose[:, 0].std()


def test_it_learns_and_is_a_function_of_its_seed(faces, small):
    before = {name: value.clone() for name, value in small.state_dict().items()}
    history = fit(small, faces, steps=60, batch=16, learning_rate=3e-3, log_every=20, progress=False)
    assert history[-1]["landmarks"] < 0.85 * history[0]["landmarks"], [row["landmarks"] for row in history]
    again = Regressor(small.config)
    again.load_state_dict(before)
    fit(again, faces, steps=60, batch=16, learning_rate=3e-3, log_every=20, progress=False)
    assert all(torch.equal(a, b) for a, b in zip(small.state_dict().values(), again.state_dict().values(), strict=True))
