"""The judge: what it says at any size, that it learns, and the shipped one on strangers."""

import pytest
import torch
from sklearn.metrics import roc_auc_score
from stand_ins import seeded
from torch.nn import functional as F

from facelab.core import MissingTruthError, ShapeError
from facelab.evaluation import inter_ocular, judge, landmark_error
from facelab.evaluation.judge import Config, Judge
from facelab.faces import FaceBatch, FaceWorld


@pytest.fixture(scope="module")
def faces():
    return FaceWorld(3).sample(8, size=32, people=4)


@pytest.fixture(scope="module")
def small(faces):
    torch.manual_seed(0)
    network = Judge(Config(size=32, width=4, embedding=8, people=4, traits=Judge._traits(faces).shape[1]))
    network.prepare(faces)
    return network


def test_a_batch_is_a_function_of_its_generator(faces, small):
    one, same, other = (small.draw(faces, 5, seeded(seed)) for seed in (0, 0, 1))
    assert all(torch.equal(one[name], same[name]) for name in one) and not torch.equal(one["image"], other["image"])
    assert one["image"].shape == (5, 3, 32, 32) and one["landmarks"].shape == (5, 68, 2)
    with pytest.raises(MissingTruthError):
        small.draw(FaceBatch(faces.image, landmarks=faces.landmarks, identity=faces.identity, pose=faces.pose), 2, seeded())


# --- verdicts --------------------------------------------------------------------------------------------------------------------

def test_verdict_shapes_and_units(faces, small):
    said = small.eval().look(faces.image, batch=3)
    assert [tuple(value.shape) for value in said] == [(8, 8), (8, 3), (8, 19), (8, 68, 2)]
    torch.testing.assert_close(said.identity.norm(dim=1), torch.ones(8))
    torch.testing.assert_close(small.look(faces.image).landmarks, said.landmarks)  # whatever the batch
    torch.testing.assert_close(F.normalize(small.features(faces.image), dim=1), said.identity)
    answers = small.probabilities(faces.image)
    torch.testing.assert_close(answers.sum(dim=1), torch.ones(8))
    for bad in (faces.image[0], faces.image[:, :1], faces.image[..., :30]):
        with pytest.raises(ShapeError):
            small(bad)


def test_landmarks_are_pixels_of_the_picture_given(faces, small):
    """A picture twice as large, every pixel doubled: what was at p is centred at 2 p + 1/2."""
    double = faces.image.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
    found, larger = small.eval().look(faces.image), small.look(double)
    torch.testing.assert_close(larger.landmarks, 2 * found.landmarks + 0.5, atol=0.3, rtol=0)


def test_levels_are_the_projection_on_the_way_from_rest_to_the_expression(faces, small):
    rest, shown = small.eval().look(faces.image[:4]), small.look(faces.image[4:])
    way = shown.expression.mean(dim=0) - rest.expression.mean(dim=0)
    steps = torch.stack([faces.image[:4], faces.image[4:]], dim=1)
    level, likeness = small.levels(steps, faces.image[:4], faces.image[4:])
    assert level.shape == likeness.shape == (4, 2)
    torch.testing.assert_close(level.mean(dim=0), torch.tensor([0.0, 1.0]), atol=1e-4, rtol=0)  # true pictures are 0 and 1 on average
    for k, said in enumerate((rest, shown)):
        alone = [(e - rest.expression.mean(dim=0)).dot(way) / way.dot(way) for e in said.expression]
        torch.testing.assert_close(level[:, k], torch.stack(alone), atol=1e-4, rtol=0)
    torch.testing.assert_close(likeness[:, 0], torch.ones(4))
    torch.testing.assert_close(likeness[:, 1], (rest.identity * shown.identity).sum(dim=1))


def test_every_head_learns(faces, small):
    torch.manual_seed(0)
    small.train()
    batch = small.draw(faces, 8, seeded())
    optimizer = torch.optim.Adam(small.players()["judge"], 3e-3)
    first = {name: value.item() for name, value in small.losses(batch).items()}
    for _ in range(80):
        losses = small.losses(batch)
        optimizer.zero_grad()
        sum(losses.values()).backward()
        optimizer.step()
    assert set(losses) == {"traits", "identity", "pose", "expression", "landmarks"}
    assert all(losses[name] < 0.6 * first[name] for name in first), (first, losses)


# --- the shipped judge -----------------------------------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def strangers():
    """40 people of a world that neither the judge nor any method was trained on, about five shots each."""
    return FaceWorld(0).sample(200, size=64, start=5000, people=40)


def test_the_shipped_judge_on_strangers(strangers):
    said = judge().look(strangers.image)
    error = landmark_error(said.landmarks, strangers.landmarks, inter_ocular(strangers))
    mean_shape = strangers.landmarks.mean(dim=0).expand_as(strangers.landmarks)
    assert error.median() < 0.1 and error.mean() < landmark_error(mean_shape, strangers.landmarks, inter_ocular(strangers)).mean() / 4
    assert (said.pose - strangers.pose).abs().rad2deg().median(dim=0).values.max() < 6
    alike = said.identity @ said.identity.T
    same = strangers.identity[:, None] == strangers.identity
    apart = ~same
    same.fill_diagonal_(False)
    assert alike[same].mean() > alike[apart].mean() + 0.4
    labels = torch.cat([torch.ones(int(same.sum())), torch.zeros(int(apart.sum()))])

    assert roc_auc_score(labels, torch.cat([alike[same], alike[apart]])) > 0.98


def test_the_shipped_judge_is_frozen_and_was_trained_elsewhere():
    from facelab.blocks.weights import made, shipped

    network = judge()
    assert not network.training and not any(p.requires_grad for p in network.parameters())
    assert made(shipped("judge"))["world"] == 2
