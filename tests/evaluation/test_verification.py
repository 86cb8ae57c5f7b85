"""Who is who: LFW's and IJB-A's protocols on features whose answers are known, and what diversity and nearest neighbours say."""
import numpy as np
import pytest
import torch
from sklearn.metrics import roc_curve
from stand_ins import seeded
from torch.nn import functional as F

from facelab.core import ShapeError
from facelab.evaluation.verification import (
    _best_threshold,
    feature_variance,
    identification,
    own_and_nearest_other,
    pairs_in_folds,
    real_or_made,
    templates,
    true_accept_rate,
    verification_accuracy,
)


def pairs(n=600, apart=2.0):
    same = torch.arange(n) % 2 == 0
    return torch.randn(n, generator=seeded()) + apart * same, same, torch.arange(n) * 10 // n


def test_accuracy_is_that_of_the_threshold_of_the_other_folds():
    similarity, same, fold = pairs()
    found = verification_accuracy(similarity, same, fold)
    assert abs(found.accuracy - 0.841) < 0.03 and abs(found.threshold - 1) < 0.2, "Phi(1) of pairs two deviations apart"
    by_hand = []
    for k in range(10):
        false, true, thresholds = roc_curve(same[fold != k], similarity[fold != k], drop_intermediate=False)
        best = thresholds[np.argmax(true - false)]  # as many pairs of either kind: the fewest errors
        by_hand.append(((similarity[fold == k] >= best) == same[fold == k]).float().mean().item())
    assert abs(found.accuracy - np.mean(by_hand)) < 0.01
    np.testing.assert_allclose(found.error, np.std(by_hand, ddof=1) / 10**0.5, atol=0.004)


def test_pairs_that_can_be_told_are_told_and_others_are_guessed():
    similarity, same, fold = pairs(apart=100.0)
    assert verification_accuracy(similarity, same, fold)[:2] == (1.0, 0.0)
    assert abs(verification_accuracy(*pairs(apart=0.0)).accuracy - 0.5) < 0.06
    upside_down = verification_accuracy(-similarity, same, fold)
    assert upside_down.accuracy <= 0.5, "no threshold helps where strangers are the more alike"


def test_a_lucky_fold_does_not_choose_its_own_threshold():
    """Fold 0 lies elsewhere: judged by the others' threshold it is all wrong, though its own would be perfect."""
    similarity = torch.tensor([5.0, 4.0, 1.0, 0.0, 1.0, 0.0])
    same, fold = torch.tensor([True, False] * 3), torch.tensor([0, 0, 1, 1, 2, 2])
    assert verification_accuracy(similarity, same, fold).accuracy == pytest.approx((0.5 + 1 + 1) / 3)


def test_accepted_where_one_stranger_in_a_hundred_is():
    similarity = torch.cat([torch.linspace(0, 1, 1000), torch.tensor([0.995, 0.985, 0.2, 2.0])])
    same = torch.arange(1004) >= 1000
    assert true_accept_rate(similarity, same, 0.01) == 0.5, "0.995 and 2.0 lie above the tenth of a thousand strangers"
    assert true_accept_rate(similarity, same, 0.001) == 0.25
    with pytest.raises(ShapeError, match="takes 10000 pairs"):
        true_accept_rate(similarity, same, 1e-4)


def test_a_template_is_the_mean_direction_of_its_pictures():
    features = torch.tensor([[2.0, 0.0], [0.0, 5.0], [3.0, 0.0]])
    found, numbers = templates(features, torch.tensor([7, 7, 2]))
    assert numbers.tolist() == [2, 7]
    torch.testing.assert_close(found, torch.tensor([[1.0, 0.0], [0.5**0.5, 0.5**0.5]]))


def test_ranks_in_a_gallery():
    gallery, owner = torch.eye(6), torch.tensor([10, 11, 12, 13, 14, 15])
    probe = torch.stack([gallery[0], 0.9 * gallery[1] + gallery[2], torch.tensor([1.0, 0.9, 0.8, 0.7, 0.6, 0.5])])
    who = torch.tensor([10, 11, 15])
    assert identification(probe, who, gallery, owner, ranks=(1, 2, 5, 6)) == pytest.approx({1: 1 / 3, 2: 2 / 3, 5: 2 / 3, 6: 1.0})
    with pytest.raises(ShapeError, match="everybody once"):
        identification(probe, who, gallery, torch.tensor([10, 10, 12, 13, 14, 15]))
    with pytest.raises(ShapeError, match="everybody once"):
        identification(probe, torch.tensor([10, 11, 99]), gallery, owner)


def test_noise_passes_for_diversity_but_not_for_real_features():
    real = F.pad(torch.randn(300, 4, generator=seeded()) * 16**0.5 / 2, (0, 12))  # variance 1 on average, in 4 of 16 directions
    honest = F.pad(torch.randn(300, 4, generator=seeded(1)) * 16**0.5 / 2, (0, 12))
    noise, collapsed = torch.randn(300, 16, generator=seeded(2)), real[:1].expand(300, -1)
    assert all(abs(feature_variance(some) - 1) < 0.1 for some in (real, honest, noise)) and feature_variance(collapsed) == 0
    assert abs(real_or_made(real, honest) - 0.5) < 0.06 and real_or_made(real, noise) > 0.8 and real_or_made(real, collapsed) > 0.9
    assert real_or_made(real, real + 1e-4) < 0.1, "copies"


def test_features_that_are_all_alike_find_nobody():
    """A network that has collapsed must not pass: ties count against it, in every protocol."""
    same, fold = pairs(20)[1:]
    nothing = torch.full((20,), 0.9)
    assert verification_accuracy(nothing, same, fold).accuracy == 0.5
    assert true_accept_rate(nothing, same, 0.1) == 0
    gallery = torch.ones(5, 3)
    assert identification(gallery, torch.arange(5), gallery, torch.arange(5), ranks=(1, 4, 5)) == {1: 0, 4: 0, 5: 1}


def test_the_threshold_lies_beside_equal_similarities_and_may_lie_below_all():
    similarity, same = np.array([0.2, 0.5, 0.5, 0.5, 0.8]), np.array([False, True, False, True, True])
    assert _best_threshold(similarity, same) == pytest.approx(0.35), "one mistake; a cut among the three would promise none"
    assert _best_threshold(np.array([0.1, 0.2, 0.3]), np.array([True, True, False])) < 0.1, "all the same: one mistake"


def test_wrong_inputs_are_named():
    similarity, same, fold = pairs(20)
    for wrong in ((similarity[:5], same, fold), (similarity, torch.ones(20, dtype=torch.bool), fold), (similarity * torch.nan, same, fold)):
        with pytest.raises(ShapeError, match="pairs of both kinds"):
            verification_accuracy(*wrong)
    with pytest.raises(ShapeError, match="fold"):
        verification_accuracy(similarity, same, torch.zeros(20))
    with pytest.raises(ShapeError, match="features are"):
        feature_variance(torch.tensor([[1.0, torch.nan]]))
    with pytest.raises(ShapeError, match="two or more"):
        feature_variance(torch.randn(1, 3))
    with pytest.raises(ShapeError, match="template's number"):
        templates(torch.randn(4, 3), torch.arange(3))
    with pytest.raises(ShapeError, match="as many made"):
        real_or_made(torch.randn(5, 3), torch.randn(4, 3))


def test_nobody_is_in_two_folds():
    who = torch.eye(25)
    similarity, same, fold = pairs_in_folds(who, who, folds=10)
    assert similarity[:25].eq(1).all() and similarity[25:].eq(0).all() and same.sum() == 25, "strangers are strangers"
    first, second = torch.arange(25.0)[:, None] + 1, torch.cat([torch.ones(25, 1), torch.arange(25.0)[:, None]], dim=1)
    angles = pairs_in_folds(torch.cat([torch.ones(25, 1), 0 * first], dim=1), second, folds=10)[0]
    partner = ((1 / angles[25:] ** 2 - 1).sqrt()).round().long()  # whose second picture it was
    assert torch.equal(fold[:25][partner], fold[25:]) and (partner != torch.arange(25)).all() and len(fold.unique()) == 10
    with pytest.raises(ShapeError, match="20 people"):
        pairs_in_folds(who[:19], who[:19])
    with pytest.raises(ShapeError, match="two pictures of each"):
        pairs_in_folds(who, who[:24])


def test_own_and_nearest_other():
    gallery = torch.eye(3)
    own, other = own_and_nearest_other(torch.tensor([[2.0, 0, 0], [3.0, 4, 0], [0, 0, 1]]), gallery)
    torch.testing.assert_close(own, torch.tensor([1.0, 0.8, 1.0]))
    torch.testing.assert_close(other, torch.tensor([0.0, 0.6, 0.0]))
    alike = own_and_nearest_other(torch.ones(3, 4), torch.ones(3, 4))
    assert torch.equal(*alike), "features that are all alike keep nobody apart"
    with pytest.raises(ShapeError, match="a row of the gallery"):
        own_and_nearest_other(gallery, gallery[:2])
