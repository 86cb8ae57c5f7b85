"""Measures of pictures: how near to the truth, how sharp, how like real ones as a set, and how far the landmarks are off.

Pictures are (N,3,H,W) in [-1, 1] as in ``FaceBatch.image`` and are brought to [0, 1] here; one number a picture unless said otherwise.
"""
from __future__ import annotations

import numpy as np
import torch
from scipy import linalg
from torch import Tensor
from torchmetrics.functional.image import structural_similarity_index_measure

from facelab.core import ShapeError
from facelab.faces.batch import FaceBatch


def _pictures(*pictures: Tensor) -> list[Tensor]:
    for picture in pictures:
        if picture.ndim != 4 or picture.shape[1] != 3 or picture.shape != pictures[0].shape:
            raise ShapeError(f"pictures must be (N, 3, H, W), all alike, got {[tuple(p.shape) for p in pictures]}")
        if not bool(picture.isfinite().all()):
            raise ShapeError("a picture holds values that are not finite")
    return [(picture.float() + 1) / 2 for picture in pictures]


def _mask(mask: Tensor | None, picture: Tensor) -> Tensor:
    n, _, height, width = picture.shape
    if mask is None:
        return torch.ones(n, 1, height, width, device=picture.device)
    if tuple(mask.shape) != (n, 1, height, width):
        raise ShapeError(f"mask must be ({n}, 1, {height}, {width}), got {tuple(mask.shape)}")
    if not bool((mask.flatten(1).sum(dim=1) > 0).all()):
        raise ShapeError("a mask is empty: leave such faces out")
    return mask.float()


def psnr(picture: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
    r"""Peak signal-to-noise ratio with peak 1, (N,) dB: :math:`-10 \log_{10} \frac{1}{3|m|} \sum_{p \in m} \lVert x_p - \hat x_p\rVert^2`.

    Args: ``picture``, ``target`` (N,3,H,W) in [-1, 1]; ``mask`` (N,1,H,W) says which pixels count, such as ``FaceBatch.face_mask``.
    Average the decibels over pictures, not the errors. Raises ShapeError for other shapes, an empty mask, values that are not finite.
    """
    picture, target = _pictures(picture, target)
    mask = _mask(mask, picture)
    error = ((picture - target).square() * mask).sum(dim=(1, 2, 3)) / (3 * mask.sum(dim=(1, 2, 3)))
    return -10 * error.clamp(min=1e-12).log10()


def ssim(picture: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
    """Structural similarity (Wang et al. 2004), (N,), Gaussian window of 11 pixels, sigma 1.5; with a mask its map's mean inside."""
    picture, target = _pictures(picture, target)
    mask = _mask(mask, picture)
    _, full = structural_similarity_index_measure(picture, target, data_range=1.0, reduction="none", return_full_image=True)
    return (full.mean(dim=1, keepdim=True) * mask).sum(dim=(1, 2, 3)) / mask.sum(dim=(1, 2, 3))


def gradient_energy(picture: Tensor, mask: Tensor | None = None) -> Tensor:
    """Mean squared difference of grey between neighbours, (N,): how sharp a picture is. A pair counts where the mask holds both."""
    (picture,) = _pictures(picture)
    mask = _mask(mask, picture)
    grey = picture.mean(dim=1, keepdim=True)
    total, count = 0.0, 0.0
    for axis in (2, 3):
        both = mask.narrow(axis, 1, mask.shape[axis] - 1) * mask.narrow(axis, 0, mask.shape[axis] - 1)
        total = total + (grey.diff(dim=axis).square() * both).sum(dim=(1, 2, 3))
        count = count + both.sum(dim=(1, 2, 3))
    return total / count.clamp(min=1)


def histogram_entropy(picture: Tensor) -> Tensor:
    r""":math:`-\sum_g p_g \log_2 p_g` over the 256 grey levels of a picture, (N,) bits. Source: AF-VAE Fig. 3."""
    (picture,) = _pictures(picture)
    grey = (picture.mean(dim=1).clamp(0, 1) * 255).round().long().flatten(1)
    counts = torch.stack([torch.bincount(row, minlength=256) for row in grey]).float()
    return torch.special.entr(counts / counts.sum(dim=1, keepdim=True)).sum(dim=1) / np.log(2)


def frechet_distance(a: Tensor, b: Tensor) -> float:
    r"""Between Gaussians fitted to two sets of features (N,D), (M,D):
    :math:`\lVert m_a - m_b\rVert^2 + \mathrm{tr}\bigl(C_a + C_b - 2 (C_a C_b)^{1/2}\bigr)`.

    Name it for the features: "FID" only for Inception's (Heusel et al. 2017), else for example "FD (judge)". The fewer the samples, the
    larger the distance: compare only sets of one size. Raises ShapeError for fewer than two samples or unlike dimensions.
    """
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1] or min(len(a), len(b)) < 2:
        raise ShapeError(f"features must be (N, D) and (M, D) with N, M > 1, got {tuple(a.shape)} and {tuple(b.shape)}")
    a, b = (x.detach().cpu().double().numpy() for x in (a, b))
    cov_a, cov_b = (np.atleast_2d(np.cov(x, rowvar=False)) for x in (a, b))
    # tr (Ca Cb)^(1/2) = tr (Ca^(1/2) Cb Ca^(1/2))^(1/2), whose argument is symmetric and never negative
    values, vectors = linalg.eigh(cov_a)
    root = (vectors * np.sqrt(values.clip(min=0))) @ vectors.T
    middle = linalg.eigvalsh(root @ cov_b @ root)
    mean = np.square(a.mean(axis=0) - b.mean(axis=0)).sum()
    return float(mean + np.trace(cov_a) + np.trace(cov_b) - 2 * np.sqrt(middle.clip(min=0)).sum())


def inception_score(probabilities: Tensor, splits: int = 1) -> tuple[float, float]:
    r""":math:`\exp \mathbb E_x D_{KL}[p(y|x) \,\|\, p(y)]` of a classifier's answers (N,C): mean and standard deviation over ``splits``.

    Never below 1 (AF-VAE's Table 1 prints 0.875: SPECS A9). Call it by the classifier's name unless Inception gave the answers.
    Raises ShapeError when rows are no probabilities.
    """
    if probabilities.ndim != 2 or bool((probabilities < 0).any()) or not bool(((probabilities.sum(dim=1) - 1).abs() < 1e-3).all()):
        raise ShapeError(f"probabilities must be (N, C), not negative, with rows that sum to 1, got {tuple(probabilities.shape)}")
    scores = []
    for part in probabilities.double().tensor_split(splits):
        marginal = part.mean(dim=0)
        scores.append((torch.special.entr(marginal).sum() - torch.special.entr(part).sum(dim=1).mean()).exp())
    scores = torch.stack(scores)
    return scores.mean().item(), scores.std(correction=0).item()


def inter_ocular(batch: FaceBatch) -> Tensor:
    """Distance between the eyes' centres in pixels, (N,): of the unprojected head where it is known, else in the picture."""
    if batch.landmarks_3d is not None and batch.camera is not None:
        eyes = batch.landmarks_3d[:, 36:42].mean(dim=1) - batch.landmarks_3d[:, 42:48].mean(dim=1)
        return eyes.norm(dim=1) * batch.camera[:, 0] * batch.size
    (landmarks,) = batch.require("landmarks")
    return (landmarks[:, 36:42].mean(dim=1) - landmarks[:, 42:48].mean(dim=1)).norm(dim=1)


def landmark_error(found: Tensor, true: Tensor, inter_ocular: Tensor) -> Tensor:
    """Mean distance of (N,68,2) landmarks over the distance between the eyes (N,), both in pixels: (N,), 0.05 is 5 %."""
    if found.shape != true.shape or found.ndim != 3 or found.shape[-1] != 2 or inter_ocular.shape != found.shape[:1]:
        raise ShapeError(f"landmarks must be (N, L, 2) twice and inter_ocular (N,), got {tuple(found.shape)}, {tuple(true.shape)}, "
                         f"{tuple(inter_ocular.shape)}")  # fmt: skip
    return (found - true).norm(dim=2).mean(dim=1) / inter_ocular
