"""Measures of pictures: how near to the truth, how sharp, how like real ones as a set, and how far the landmarks are off.

Pictures are (N,3,H,W) in [-1, 1] as in ``FaceBatch.image`` and are brought to [0, 1] here; one number a picture unless said otherwise.
Wrong shapes, values out of range and values that are not finite raise ShapeError.
"""
from __future__ import annotations

import math
import warnings
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike
from scipy import linalg
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.model_selection import GroupKFold, KFold, StratifiedKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor
from torchmetrics.functional.image import structural_similarity_index_measure

from facelab.core import ShapeError
from facelab.evaluation.features import Extractor
from facelab.faces.batch import FaceBatch

GREY = (0.299, 0.587, 0.114)  # ITU-R BT.601 luma, what an 8-bit grey picture usually means


def _finite(what: str, *values: Tensor) -> None:
    if not all(bool(value.isfinite().all()) for value in values):
        raise ShapeError(f"{what} are not all finite: find the network or file that gave nan or inf, or leave those rows out")


def _pictures(*pictures: Tensor) -> list[Tensor]:
    for picture in pictures:
        if picture.ndim != 4 or picture.shape[1] != 3 or picture.shape != pictures[0].shape or not picture.numel():
            raise ShapeError(f"pictures must be (N, 3, H, W), all alike, got {[tuple(p.shape) for p in pictures]}")
        if not picture.is_floating_point() or picture.abs().max() > 1.001:
            raise ShapeError(f"pictures must be float in [-1, 1], got {picture.dtype} up to {picture.abs().max():g}: clamp or rescale them")
    _finite("pictures", *pictures)
    return [(picture.float() + 1) / 2 for picture in pictures]


def _mask(mask: Tensor | None, picture: Tensor) -> Tensor:
    n, _, height, width = picture.shape
    if mask is None:
        return torch.ones(n, 1, height, width, device=picture.device)
    if tuple(mask.shape) != (n, 1, height, width):
        raise ShapeError(f"mask must be ({n}, 1, {height}, {width}), got {tuple(mask.shape)}")
    mask = mask.float()
    if not bool(((mask >= 0) & (mask <= 1)).all()) or not bool((mask.flatten(1).sum(dim=1) > 0).all()):
        raise ShapeError("a mask must lie in [0, 1] and hold some pixels of every picture: leave faces out that are not seen")
    return mask


def _grey(picture: Tensor) -> Tensor:
    """(N,3,H,W) -> (N,1,H,W)."""
    return (picture * picture.new_tensor(GREY).view(3, 1, 1)).sum(dim=1, keepdim=True)


# --- one picture against its truth -------------------------------------------------------------------------------------------------

def mae(picture: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
    r"""Mean absolute error, (N,), of values in [0, 1]; arguments and errors as :func:`psnr`."""
    picture, target = _pictures(picture, target)
    mask = _mask(mask, picture)
    return ((picture - target).abs() * mask).sum(dim=(1, 2, 3)) / (3 * mask.sum(dim=(1, 2, 3)))


def mse(picture: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
    r"""Mean squared error, (N,), of values in [0, 1]; arguments and errors as :func:`psnr`, which is its decibels."""
    picture, target = _pictures(picture, target)
    mask = _mask(mask, picture)
    return ((picture - target).square() * mask).sum(dim=(1, 2, 3)) / (3 * mask.sum(dim=(1, 2, 3)))


def psnr(picture: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
    r"""Peak signal-to-noise ratio with peak 1, (N,) dB: :math:`-10 \log_{10} \frac{1}{3|m|} \sum_{p \in m} \lVert x_p - \hat x_p\rVert^2`.

    Args: ``picture``, ``target`` (N,3,H,W) in [-1, 1]; ``mask`` (N,1,H,W) says which pixels count, such as ``FaceBatch.face_mask``.

    Average the decibels over pictures, not the errors. Equal pictures score 120 dB rather than infinity, so that a mean stays finite.
    Raises ShapeError for other shapes or ranges, an empty mask, values that are not finite.
    """
    return -10 * mse(picture, target, mask).clamp(min=1e-12).log10()


def ssim(picture: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
    """Structural similarity, (N,), 1 for equal pictures: Gaussian window of 11 pixels, sigma 1.5, mean over colours and pixels.

    With a mask, the similarity map's mean inside it; windows at the mask's edge look up to 5 pixels across it. The picture is reflected
    at its border, as torchmetrics does; scikit-image leaves that border out. Arguments and errors as :func:`psnr`; sides of 11 px or more.

    Source: Wang et al., "Image Quality Assessment" (2004).
    """
    picture, target = _pictures(picture, target)
    if min(picture.shape[2:]) < 11:
        raise ShapeError(f"SSIM's window needs pictures of 11 pixels or more, got {tuple(picture.shape)}")
    mask = _mask(mask, picture)
    _, full = structural_similarity_index_measure(picture, target, data_range=1.0, reduction="none", return_full_image=True)
    return (full.mean(dim=1, keepdim=True) * mask).sum(dim=(1, 2, 3)) / mask.sum(dim=(1, 2, 3))


def gradient_energy(picture: Tensor, mask: Tensor | None = None) -> Tensor:
    r"""How sharp a picture is, (N,): mean over neighbouring pixels p, q, across and down, of :math:`(g_p - g_q)^2`, g its grey in [0, 1].

    A pair counts where the mask (N,1,H,W) holds both. Read it as a ratio to the true picture's: noise raises it as well as detail.
    """
    (picture,) = _pictures(picture)
    mask = _mask(mask, picture)
    grey = _grey(picture)
    total, count = 0.0, 0.0
    for axis in (2, 3):
        both = mask.narrow(axis, 1, mask.shape[axis] - 1) * mask.narrow(axis, 0, mask.shape[axis] - 1)
        total = total + (grey.diff(dim=axis).square() * both).sum(dim=(1, 2, 3))
        count = count + both.sum(dim=(1, 2, 3))
    if not bool((count > 0).all()):
        raise ShapeError("a mask holds no two neighbouring pixels: sharpness needs at least one pair")
    return total / count


def histogram_entropy(picture: Tensor) -> Tensor:
    r"""How many grey levels a picture uses, (N,) bits in [0, 8]: :math:`-\sum_g p_g \log_2 p_g` over its 256 levels.

    Source: AF-VAE Fig. 3, which prints 7.64 and 7.68 for two of its pictures and 7.83 for their source.
    """
    (picture,) = _pictures(picture)
    grey = (_grey(picture).clamp(0, 1) * 255).round().long().flatten(1)
    counts = torch.stack([torch.bincount(row, minlength=256) for row in grey]).double()
    return (torch.special.entr(counts / counts.sum(dim=1, keepdim=True)).sum(dim=1) / math.log(2)).float()


def inter_ocular(batch: FaceBatch) -> Tensor:
    """Distance between the eyes' centres in pixels, (N,): of the unprojected head where it is known, so that a profile keeps its size.

    Photographs know only the picture: there it is the distance seen, right for frontal faces and too short for turned ones.
    Raises MissingTruthError for a batch without landmarks.
    """
    if batch.landmarks_3d is not None and batch.camera is not None:
        points, unit = batch.landmarks_3d, batch.camera[:, 0] * batch.size  # pixels a centimetre
    else:
        (points,), unit = batch.require("landmarks"), 1.0
    return (points[:, 36:42].mean(dim=1) - points[:, 42:48].mean(dim=1)).norm(dim=1) * unit


def landmark_error(found: Tensor, true: Tensor, inter_ocular: Tensor) -> Tensor:
    r""":math:`\frac{1}{L\,d}\sum_l \lVert \hat p_l - p_l\rVert`, (N,), in inter-ocular distances: 0.05 is 5 %.

    Args: ``found``, ``true`` (N,L,2) pixels; ``inter_ocular`` (N,) pixels, d, see :func:`inter_ocular`.
    Raises ShapeError for other shapes, values that are not finite, a distance of 0.
    """
    if found.shape != true.shape or found.ndim != 3 or found.shape[-1] != 2 or inter_ocular.shape != found.shape[:1]:
        raise ShapeError(f"landmarks must be (N, L, 2) twice and inter_ocular (N,), got {tuple(found.shape)}, {tuple(true.shape)}, "
                         f"{tuple(inter_ocular.shape)}")  # fmt: skip
    _finite("landmarks and distances", found, true, inter_ocular)
    if not bool((inter_ocular > 0).all()):
        raise ShapeError("inter_ocular must be positive: give the distance on the unprojected face")
    return (found - true).norm(dim=2).mean(dim=1) / inter_ocular


# --- sets of pictures --------------------------------------------------------------------------------------------------------------

def frechet_distance(a: Tensor, b: Tensor) -> float:
    r"""Between Gaussians fitted to two sets of features (N,D), (M,D):
    :math:`\lVert m_a - m_b\rVert^2 + \mathrm{tr}\bigl(C_a + C_b - 2 (C_a C_b)^{1/2}\bigr)`.

    The fewer the samples, the larger the distance, by about the same for sets of one size: compare only those. With no more samples
    than dimensions a covariance is singular and that part rules: a warning says so (an error would forbid the papers' own sets).

    Raises ShapeError for fewer than two samples, unlike dimensions, values that are not finite.
    Source: Dowson and Landau 1982; Heusel et al. 2017.
    """
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1] or min(len(a), len(b)) < 2:
        raise ShapeError(f"features must be (N, D) and (M, D) with N, M > 1, got {tuple(a.shape)} and {tuple(b.shape)}")
    _finite("features", a, b)
    if min(len(a), len(b)) <= a.shape[1]:
        warnings.warn(
            f"Fréchet distance of {min(len(a), len(b))} samples in {a.shape[1]} dimensions: mostly sampling error; "
            "give more pictures than dimensions, or features of fewer dimensions", stacklevel=2,
        )  # fmt: skip
    a, b = (x.detach().cpu().double().numpy() for x in (a, b))
    cov_a, cov_b = (np.atleast_2d(np.cov(x, rowvar=False)) for x in (a, b))
    # tr (Ca Cb)^(1/2) = tr (Ca^(1/2) Cb Ca^(1/2))^(1/2), whose argument is symmetric and never negative
    values, vectors = linalg.eigh(cov_a)
    root = (vectors * np.sqrt(values.clip(min=0))) @ vectors.T
    middle = linalg.eigvalsh(root @ cov_b @ root)
    mean = np.square(a.mean(axis=0) - b.mean(axis=0)).sum()
    return float(mean + np.trace(cov_a) + np.trace(cov_b) - 2 * np.sqrt(middle.clip(min=0)).sum())


def frechet(a: Tensor, b: Tensor, extractor: Extractor) -> tuple[str, float]:
    """The Fréchet distance of two sets of pictures (N,3,H,W), (M,3,H,W) in [-1, 1] and its name: "FID" for Inception, else "FD (name)".

    A network that a method was trained against (AF-VAE's feature network) flatters that method: judge with another one.
    """
    name = "FID" if extractor.name == "Inception" else f"FD ({extractor.name})"
    for pictures in (a, b):
        _pictures(pictures)
    return name, frechet_distance(extractor.features(a), extractor.features(b))


class InceptionScore(NamedTuple):
    """How varied and how decided a classifier's answers are."""

    score: float  # exp of the divergence, from 1 to the number of classes, mean over splits
    deviation: float  # standard deviation over splits
    log: float  # the divergence itself, nats, mean over splits


def inception_score(probabilities: Tensor, splits: int = 10) -> InceptionScore:
    r""":math:`\exp \mathbb E_x D_{KL}[p(y|x) \,\|\, p(y)]` of a classifier's answers (N,C), rows of probabilities, over ``splits`` parts.

    Never below 1: AF-VAE's Table 1 prints 0.875, so it is another estimator there, perhaps the logarithm, which is returned as well
    (SPECS A9). Say whose answers they are unless Inception gave them: "IS (judge)". Parts are taken in the order given: shuffle first.

    Raises ShapeError when rows are no probabilities or there are fewer rows than parts. Source: Salimans et al. 2016.
    """
    if probabilities.ndim != 2 or not len(probabilities) >= splits >= 1:
        raise ShapeError(f"probabilities must be (N, C) with N >= {splits} splits >= 1, got {tuple(probabilities.shape)}")
    if not bool((probabilities >= 0).all()) or not bool(((probabilities.double().sum(dim=1) - 1).abs() < 1e-3).all()):
        raise ShapeError("rows of probabilities must not be negative and must sum to 1: apply softmax to logits first")
    parts = (probabilities.double() / probabilities.double().sum(dim=1, keepdim=True)).tensor_split(splits)
    entropy = torch.special.entr
    logs = torch.stack([entropy(p.mean(dim=0)).sum() - entropy(p).sum(dim=1).mean() for p in parts]).clamp(min=0)
    scores = logs.exp()
    return InceptionScore(scores.mean().item(), scores.std(correction=0).item(), logs.mean().item())


def diversity(samples: Tensor) -> Tensor:
    r"""How unlike the n samples of each row are, (N,): mean over pairs i < j of the root mean square of :math:`x_i - x_j`.

    Args: ``samples`` (N,n,…), n > 1, pictures as ``Model.sample`` gives them or features; the unit is theirs.
    """
    if samples.ndim < 3 or samples.shape[1] < 2:
        raise ShapeError(f"samples must be (N, n, ...) with n > 1, got {tuple(samples.shape)}")
    _finite("samples", samples)
    flat = samples.flatten(2).float()
    return torch.stack([torch.pdist(row).mean() for row in flat]) / math.sqrt(flat.shape[2])


# --- what a code knows -------------------------------------------------------------------------------------------------------------

class Probe(NamedTuple):
    """How well a linear reader does, and one that does not look."""

    score: float  # cross-validated; numbers: R^2, mean over columns; labels: accuracy
    chance: float  # numbers: 0, the mean of the training folds; labels: their commonest


def linear_probe(codes: ArrayLike, targets: ArrayLike, groups: ArrayLike | None = None, *, folds: int = 5, seed: int = 0) -> Probe:
    """Whether a linear reader finds ``targets`` in ``codes``: what a code knows, or has forgotten.

    Args:
        codes: (N,D). targets: (N,) or (N,T) floats, read by ridge regression, or (N,) integers, labels read by logistic regression.
        groups: (N,) such as people: nobody is in training and test at once, so that a person cannot be told by heart.
        folds: of cross-validation, at least 2, shuffled by ``seed`` where there are no groups.

    Returns: mean over folds, beside the level of a reader that ignores the codes. R^2 may be a little below 0: nothing was found.
    Raises ShapeError for other shapes, values that are not finite, fewer groups or members of a class than folds.
    """
    codes, targets = np.asarray(codes, np.float64), np.asarray(targets)
    groups = None if groups is None else np.asarray(groups)
    labels = targets.dtype.kind in "iub"
    alike = len(codes) == len(targets) and (groups is None or groups.shape == targets.shape[:1])
    if codes.ndim != 2 or not alike or targets.ndim > (1 if labels else 2):
        raise ShapeError(f"codes must be (N, D), targets (N,) or (N, T), groups (N,), got {codes.shape}, {targets.shape}")
    if not np.isfinite(codes).all() or not np.isfinite(targets).all():
        raise ShapeError("codes and targets must be finite")
    if groups is not None:
        fewest, split = len(np.unique(groups)), GroupKFold(folds)
    elif labels:
        fewest, split = np.unique(targets, return_counts=True)[1].min(), StratifiedKFold(folds, shuffle=True, random_state=seed)
    else:
        fewest, split = len(codes), KFold(folds, shuffle=True, random_state=seed)
    if fewest < folds:
        raise ShapeError(f"{folds} folds need as many rows, groups or members of each class; there are {fewest}")
    reader = LogisticRegression(max_iter=2000) if labels else RidgeCV(np.logspace(-2, 4, 13))
    scoring = "accuracy" if labels else "r2"

    def mean(model) -> float:
        model = make_pipeline(StandardScaler(), model)
        return float(cross_val_score(model, codes, targets, groups=groups, cv=split, scoring=scoring).mean())

    return Probe(mean(reader), mean(DummyClassifier()) if labels else 0.0)
