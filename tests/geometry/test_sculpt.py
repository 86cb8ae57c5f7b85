"""The sculptor: registered scans, honest proportions, and a shipped model that is the one it makes."""
import numpy as np
import pytest
import torch

from facelab.core import WEIGHTS
from facelab.geometry import MorphableModel
from facelab.geometry.sculpt import PROPORTIONS, build, random_proportions, scan

HEAD = MorphableModel.default()


def mark(points, i):
    return points[HEAD.landmarks[i].item()]


def width(points, i, j):
    return abs(mark(points, j)[0] - mark(points, i)[0])


def test_the_mean_head_has_the_measures_of_adults():
    """Means over groups in Farkas et al. 2005, widened by a standard deviation; centimetres."""
    mean = scan()
    eyes = (np.mean([mark(mean, i) for i in range(36, 42)], 0) - np.mean([mark(mean, i) for i in range(42, 48)], 0))[0]
    assert 5.8 < -eyes < 6.7  # about the pupils' distance
    assert 2.9 < width(mean, 39, 42) < 3.9  # intercanthal
    assert 2.4 < width(mean, 36, 39) < 3.2  # palpebral fissure
    assert 4.7 < width(mean, 48, 54) < 5.7  # mouth
    assert 12.8 < width(mean, 0, 16) < 15.0  # face, before the ears
    assert 10.8 < mark(mean, 27)[1] - mark(mean, 8)[1] < 13.0  # nasion to chin
    assert 4.4 < mark(mean, 27)[1] - mark(mean, 33)[1] < 5.6  # nose
    assert 1.4 < mark(mean, 30)[2] - mark(mean, 33)[2] < 2.6  # tip before the nose's base


@pytest.mark.parametrize("name", PROPORTIONS)
def test_every_proportion_moves_the_head_and_only_so_far(name):
    moved = np.abs(scan({name: PROPORTIONS[name][0]}) - scan()).max()
    assert 0.01 < moved < 2.5


def test_proportions_do_what_they_say():
    mean = scan()
    assert width(scan({"mouth_width": 0.1}), 48, 54) == pytest.approx(1.1 * width(mean, 48, 54), rel=0.02)
    assert mark(scan({"midface_height": 0.5}), 33)[1] == pytest.approx(mark(mean, 33)[1] - 0.5, abs=0.03)
    assert mark(scan({"chin_projection": 0.4}), 8)[2] > mark(mean, 8)[2]
    assert width(scan({"nose_width": 0.2}), 31, 35) > 1.12 * width(mean, 31, 35)
    with pytest.raises(KeyError, match="no proportion"):
        scan({"nose": 1.0})


def test_people_are_random_but_repeatable_and_within_the_published_ranges():
    one, same, other = (random_proportions(np.random.default_rng(s)) for s in (4, 4, 5))
    assert one == same != other
    many = [random_proportions(np.random.default_rng(s)) for s in range(600)]
    for name, (spread, _) in PROPORTIONS.items():
        values = np.array([p[name] for p in many]) / spread
        assert np.abs(values).max() <= 2.3 + 1e-9 and 0.8 < values.std() < 1.15, name


def test_the_shipped_model_is_what_the_sculptor_makes():
    made = build(people=60, components=5)
    assert torch.equal(made.triangles, HEAD.triangles) and torch.equal(made.parts, HEAD.parts)
    assert torch.equal(made.landmarks, HEAD.landmarks) and made.expression_names == HEAD.expression_names
    assert torch.allclose(made.expression_basis, HEAD.expression_basis, atol=2e-3)
    assert (WEIGHTS / "head.safetensors").stat().st_size < 5e6


def test_a_new_head_is_rebuilt_by_forty_directions():
    """Held-out people lie within half a millimetre of the span of the shipped identity directions; the mean head does not."""
    rng = np.random.default_rng(12345)
    basis = HEAD.identity_basis.flatten(1).double().numpy()
    origin = mark(scan(), 8) - HEAD.mean[HEAD.landmarks[8]].double().numpy()
    error, rival = [], []
    for _ in range(5):
        target = (scan(random_proportions(rng)) - origin - HEAD.mean.double().numpy()).ravel()
        alpha = np.linalg.lstsq(basis.T, target, rcond=None)[0]
        error.append(np.sqrt(((target - alpha @ basis) ** 2).reshape(-1, 3).sum(1).mean()))
        rival.append(np.sqrt((target**2).reshape(-1, 3).sum(1).mean()))
    assert max(error) < 0.05 < 0.2 < min(rival)
