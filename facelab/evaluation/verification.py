"""Who is who: pairs in ten folds (LFW), templates and galleries (IJB-A), and how varied and how likely a set of features is.

Features are (N,D) of any network that knows faces, such as ``judge().features``; say whose. Wrong shapes and values that are not finite
raise ShapeError.
"""
from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from sklearn.metrics import roc_curve
from sklearn.neighbors import NearestNeighbors
from torch import Tensor
from torch.nn import functional as F

from facelab.core import ShapeError


class Verification(NamedTuple):
    """Accuracy of "the same person or not", of a fold on average, and the standard error of that average."""

    accuracy: float
    error: float
    threshold: float  # the folds' mean: similarities above it say "the same"


def verification_accuracy(similarity: Tensor, same: Tensor, fold: Tensor) -> Verification:
    r"""LFW's protocol: the threshold that is best on all other folds is tried on each.

    .. math:: \bar a = \tfrac1K \sum_k a_k, \qquad S_E = \sqrt{\tfrac1{K-1}\sum_k (a_k - \bar a)^2} \,/ \sqrt K

    Args: (N,) each: cosines of pairs, whether they show one person, and the number of the pair's fold; nobody is in two folds.
    Raises ShapeError for fewer than two folds, or pairs of one kind only.
    Source: Huang, Ramesh, Berg and Learned-Miller, "Labeled Faces in the Wild", 2007, section III; FaceFeat-GAN, Table 1.
    """
    similarity, same = _judged(similarity, same)
    fold = np.asarray(fold)
    folds = np.unique(fold)
    if fold.shape != similarity.shape or len(folds) < 2:
        raise ShapeError(f"every pair needs its fold, of two folds or more: got {fold.shape} for {similarity.shape}, {len(folds)} folds")
    accuracies, thresholds = [], []
    for number in folds:
        threshold = _best_threshold(similarity[fold != number], same[fold != number])
        accuracies.append(((similarity[fold == number] > threshold) == same[fold == number]).mean())
        thresholds.append(threshold)
    return Verification(float(np.mean(accuracies)), float(np.std(accuracies, ddof=1) / len(folds) ** 0.5), float(np.mean(thresholds)))


def pairs_in_folds(first: Tensor, second: Tensor, folds: int = 10) -> tuple[Tensor, Tensor, Tensor]:
    """Everybody's two pictures as N pairs of one person and N of two, for :func:`verification_accuracy`; nobody is in two folds.

    Args: (N,D) features of one picture of everybody, (N,D) of another, in the same order. The strangers of a fold are its people, each
    with the next one's second picture.
    Returns: (2N,) cosines, (2N,) whether the pair shows one person, (2N,) folds from 0.
    Raises ShapeError for fewer than 2 ``folds`` people.
    """
    _features(first, second)
    if len(first) != len(second) or len(first) < 2 * folds:
        raise ShapeError(f"two pictures of each of {2 * folds} people or more, for {folds} folds: got {len(first)} and {len(second)}")
    blocks = torch.arange(len(first)).tensor_split(folds)
    stranger = torch.cat([block.roll(-1) for block in blocks])
    fold = torch.cat([torch.full_like(block, k) for k, block in enumerate(blocks)])
    similarity = torch.cat([F.cosine_similarity(first.float(), other.float(), dim=1) for other in (second, second[stranger])])
    return similarity, torch.arange(2 * len(first)) < len(first), fold.repeat(2)


def own_and_nearest_other(features: Tensor, gallery: Tensor) -> tuple[Tensor, Tensor]:
    """Cosine to one's own row of the gallery, and to the most similar row of anybody else: (N,D), (N,D) -> (N,), (N,).

    A picture keeps a person where the first is larger: both together, since features that are all alike have 1 and 1. Raises ShapeError.
    """
    _features(features, gallery)
    if len(features) != len(gallery) or len(gallery) < 2:
        raise ShapeError(f"a row of the gallery for everybody, two or more: got {len(gallery)} for {len(features)}")
    alike = F.normalize(features.float(), dim=1) @ F.normalize(gallery.float(), dim=1).T
    return alike.diagonal(), alike.masked_fill(torch.eye(len(alike), dtype=torch.bool, device=alike.device), -1).amax(dim=1)


def _best_threshold(similarity: np.ndarray, same: np.ndarray) -> float:
    """Midway between two neighbours, where the fewest answers are wrong; equal similarities cannot be told apart."""
    order = similarity.argsort()
    similarity, same = similarity[order], same[order]
    wrong = np.concatenate([[0], same.cumsum()]) + np.concatenate([(~same)[::-1].cumsum()[::-1], [0]])  # below: "another"; above: "same"
    apart = np.concatenate([[True], similarity[1:] > similarity[:-1], [True]])
    cut = int(np.where(apart, wrong, len(same) + 1).argmin())
    if cut == 0:  # all are "the same"
        return float(np.nextafter(similarity[0], -np.inf))
    return float(similarity[cut - 1 : cut + 1].mean())


def true_accept_rate(similarity: Tensor, same: Tensor, far: float) -> float:
    """Share of the pairs of one person that are accepted where at most ``far`` of the others are, (N,) each: "verification @FAR".

    Raises ShapeError where there are too few pairs of two people to measure so small a rate: 1 / far at least.
    Source: IJB-A (Klare et al. 2015); FaceFeat-GAN, Table 2 (which prints "FIR").
    """
    similarity, same = _judged(similarity, same)
    if (~same).sum() * far < 1:
        raise ShapeError(f"a false accept rate of {far:g} takes {round(1 / far)} pairs of two people or more, got {(~same).sum()}")
    false, true, _ = roc_curve(same, similarity, drop_intermediate=False)
    return float(true[false <= far].max())


def templates(features: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
    r"""One feature of unit length for all pictures of a template: :math:`\sum_i f_i / \lVert f_i \rVert`, brought to length 1.

    Args: (N,D) features; (N,) numbers of templates. Returns (T,D) in the order of the (T,) sorted numbers.
    Raises ShapeError. Departure: IJB-A's systems average a video's frames first; here every picture counts alike.
    """
    _features(features)
    if label.shape != features.shape[:1]:
        raise ShapeError(f"every picture needs its template's number: got {tuple(label.shape)} for {tuple(features.shape)}")
    numbers, index = label.unique(return_inverse=True)
    sums = features.new_zeros(len(numbers), features.shape[1], dtype=torch.float32)
    sums.index_add_(0, index, F.normalize(features.float(), dim=1))
    return F.normalize(sums, dim=1), numbers


def identification(probe: Tensor, who: Tensor, gallery: Tensor, owner: Tensor, ranks: Sequence[int] = (1, 5)) -> dict[int, float]:
    """Share of the probes whose person is among the ``rank`` most similar people of a gallery: rank -> (0, 1).

    Args: (P,D) and (G,D) features, (P,) and (G,) people; everybody in the gallery once, and every probe's person there. Who is as
    similar as the right person stands before them: features that are all alike find nobody.
    Raises ShapeError. Source: IJB-A's closed-set identification; FaceFeat-GAN, Table 2.
    """
    _features(probe, gallery)
    if len(owner.unique()) < len(owner) or not torch.isin(who, owner).all():
        raise ShapeError("a closed gallery holds everybody once, and whoever is looked for")
    alike = F.normalize(probe.float(), dim=1) @ F.normalize(gallery.float(), dim=1).T
    right = alike.gather(1, (who[:, None] == owner).int().argmax(dim=1, keepdim=True))
    rank = (alike >= right).sum(dim=1)  # the right one is among them
    return {r: (rank <= r).float().mean().item() for r in ranks}


def feature_variance(features: Tensor) -> float:
    r"""FaceFeat-GAN's diversity score, :math:`\tfrac1D \sum_d \mathrm{Var}[f_d]`, of (N,D) made features; of real ones, standardised, 1.

    Noise of variance 1 has 1 as well: read it beside :func:`real_or_made`. Raises ShapeError. Source: FaceFeat-GAN, 4.3.
    """
    _features(features)
    if len(features) < 2:
        raise ShapeError("the variance of one feature vector is not defined: give two or more")
    return features.float().var(dim=0).mean().item()


def real_or_made(real: Tensor, made: Tensor) -> float:
    """Accuracy of a nearest neighbour, itself left out, that says of (N,D) and (N,D) features which are real: ½ if nobody could tell,
    1 if the two sets lie apart, below ½ if made ones are copies of these real ones. Give real ones that the generator never saw. In
    many dimensions a cloud around the others' middle is found near everything: compare with noise before you call a number good.

    Raises ShapeError. Source: the 1-NN two-sample test of Lopez-Paz and Oquab, "Revisiting classifier two-sample tests", 2017.
    """
    _features(real, made)
    if len(real) != len(made) or len(real) < 2:
        raise ShapeError(f"as many made features as real ones please, two or more: got {len(made)} and {len(real)}")
    both, of_real = torch.cat([real, made]).numpy(force=True), np.arange(2 * len(real)) < len(real)
    nearest = NearestNeighbors(n_neighbors=1).fit(both).kneighbors(return_distance=False)[:, 0]  # of the others
    return float((of_real[nearest] == of_real).mean())


def _judged(similarity: Tensor, same: Tensor) -> tuple[np.ndarray, np.ndarray]:
    similarity, same = np.asarray(similarity, np.float64), np.asarray(same, bool)
    if similarity.ndim != 1 or similarity.shape != same.shape or same.all() or not same.any() or not np.isfinite(similarity).all():
        raise ShapeError(f"pairs of both kinds, (N,) finite similarities and (N,) answers please, got {similarity.shape} and {same.shape}")
    return similarity, same


def _features(*features: Tensor) -> None:
    for some in features:
        if some.ndim != 2 or some.shape[1] != features[0].shape[1] or not some.numel() or not bool(some.isfinite().all()):
            raise ShapeError(f"features are (N, D), finite, of one network: got {[tuple(f.shape) for f in features]}")
