"""Focal points: clusters found, means on the sphere, weights by hand, and the plane through the means."""
import pytest
import torch
from stand_ins import seeded

from facelab.blocks import FocalMemory, effective_clusters
from facelab.blocks.memory import WEIGHTINGS
from facelab.core import ShapeError


@pytest.fixture(scope="module")
def groups():
    """Four clear groups of non-negative structures, 20 each: (80, 1, 6, 6)."""
    peaks = torch.zeros(4, 36)
    for k in range(4):
        peaks[k, 9 * k : 9 * k + 9] = 3.0
    return (peaks.repeat_interleave(20, 0) + torch.rand(80, 36, generator=seeded())).view(80, 1, 6, 6)


def remembering(groups, weighting="centred_l1", clusters=4, code=12):
    memory = FocalMemory(36, code, clusters, weighting)
    memory.remember(groups, seeded(1))
    return memory


def test_centres_are_the_means_of_the_groups(groups):
    found = remembering(groups).centres
    wanted = groups.view(4, 20, 36).mean(1)
    nearest = torch.cdist(wanted, found).argmin(1)
    assert sorted(nearest.tolist()) == [0, 1, 2, 3]
    torch.testing.assert_close(found[nearest], wanted, atol=1e-4, rtol=0)


def test_means_lie_on_the_unit_sphere_and_only_the_generator_places_them(groups):
    memory, again = remembering(groups), remembering(groups)
    torch.testing.assert_close(memory.means.norm(dim=1), torch.ones(4))
    assert torch.equal(memory.means, again.means) and torch.equal(memory.centres, again.centres)
    again.remember(groups, seeded(2))
    assert not torch.allclose(memory.means, again.means)
    assert list(memory.parameters()) == []  # fixed: nothing of it is trained
    assert set(memory.state_dict()) == {"centres", "average", "means", "scales"}


@pytest.mark.parametrize("weighting", WEIGHTINGS)
def test_weights_are_shares(groups, weighting):
    memory = remembering(groups, weighting)
    for structures in (groups, torch.zeros(2, 1, 6, 6), memory.average.view(1, 1, 6, 6), -groups):
        w = memory(structures)
        assert w.shape == (len(structures), 4) and (w >= 0).all()
        torch.testing.assert_close(w.sum(1), torch.ones(len(w)))


def test_the_three_weightings_by_hand():
    b = torch.tensor([[3.0, 1.0]])
    expected = {
        "cosine_l1": torch.tensor([0.9487, 0.3162]) / (0.9487 + 0.3162),  # (3, 1) against (1, 0) and (0, 1)
        "centred_l1": torch.tensor([0.5, 0.5]),  # less (1, 1): (2, 0) against (0, -1) and (-1, 0): like neither, so both alike
        "softmax": torch.softmax(torch.tensor([9.487, 3.162]), 0),
    }
    for weighting, wanted in expected.items():
        memory = FocalMemory(2, 5, 2, weighting)
        memory.centres.copy_(torch.eye(2))
        memory.average.copy_(torch.ones(2))
        torch.testing.assert_close(memory(b)[0], wanted, atol=1e-3, rtol=0)
    memory.weighting = "centred_l1"
    memory.average.copy_(torch.tensor([1.0, 1.0]))
    memory.centres.copy_(torch.tensor([[3.0, 3.0], [2.0, 1.0]]))  # less the mean: (2, 2) and (1, 0), b is (2, 0): cosines 0.7071, 1
    torch.testing.assert_close(memory(b)[0], torch.tensor([0.4142, 0.5858]), atol=1e-3, rtol=0)


def test_the_printed_weights_say_least(groups):
    used = {weighting: effective_clusters(remembering(groups, weighting)(groups)).mean() for weighting in WEIGHTINGS}
    assert used["cosine_l1"] > 3.3 > 1.5 > used["centred_l1"]
    assert used["softmax"] < used["cosine_l1"]


def test_effective_clusters_count():
    weights = torch.stack([torch.eye(8)[3], torch.full((8,), 1 / 8), torch.tensor([0.5, 0.5, 0, 0, 0, 0, 0, 0])])
    torch.testing.assert_close(effective_clusters(weights), torch.tensor([1.0, 8.0, 2.0]))


def test_in_plane_projects_on_the_directions_between_means(groups):
    memory, codes = remembering(groups), torch.randn(50, 12, generator=seeded(3))
    inside = memory.in_plane(codes)
    torch.testing.assert_close(memory.in_plane(inside), inside, atol=1e-5, rtol=0)  # once is enough
    rest = codes - inside
    for k in range(1, 4):
        assert (rest @ (memory.means[k] - memory.means[0])).abs().max() < 1e-4
    between = torch.rand(50, 4, generator=seeded(4)).softmax(1) @ memory.means  # any two prior means differ within the plane
    torch.testing.assert_close(memory.in_plane(between - between[:1]), between - between[:1], atol=1e-5, rtol=0)
    assert torch.linalg.matrix_rank(inside) == 3


def test_too_few_structures_wrong_sizes_and_weightings_are_named(groups):
    with pytest.raises(ShapeError, match="at least as many"):
        FocalMemory(36, 12, 8).remember(groups[:7], seeded())
    with pytest.raises(ShapeError, match="36 numbers"):
        FocalMemory(36, 12, 8).remember(torch.rand(20, 35), seeded())
    with pytest.raises(ShapeError, match="centred_l1"):
        FocalMemory(36, 12, weighting="cosine")
