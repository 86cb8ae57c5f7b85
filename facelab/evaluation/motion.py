r"""Measures of a reenactment: does the face hold the driver's pose and expression, and is it still the same person?

What a picture shows is read off by a judge, or known of made faces. Wrong shapes and values that are not finite raise ShapeError.
Source: F3A-GAN, Table III, after MarioNETte (Ha et al. 2020).
"""
from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from scipy.stats import bootstrap
from torch import Tensor
from torch.nn import functional as F

from facelab.core import ShapeError
from facelab.evaluation.judge import Judge
from facelab.evaluation.measures import mae, mse, psnr, ssim


def identity_similarity(a: Tensor, b: Tensor) -> Tensor:
    r"""CSIM, (N,): :math:`\frac{a \cdot b}{\lVert a \rVert \lVert b \rVert}` of two sets of identity features (N,D), 1 for one person's.

    The judge's (``judge().features``) or dlib's (:class:`DlibIdentity`); the paper's are VGGFace's. Say whose they are.
    """
    _alike(a, b)
    return F.cosine_similarity(a.float(), b.float(), dim=1)


def pose_error(found: Tensor, true: Tensor) -> Tensor:
    r"""(N,), degrees: a picture's own PRMSE, :math:`\sqrt{\overline{(r - \hat r)^2}}` over its three angles; (N,3) radians each."""
    _alike(found, true)
    return (found - true).square().mean(dim=1).sqrt().rad2deg()


def pose_rmse(found: Tensor, true: Tensor) -> float:
    r"""PRMSE, degrees: the root of the mean square of :func:`pose_error`, so over pictures and angles."""
    return _root_mean_square(pose_error(found, true))


def _root_mean_square(errors: Tensor) -> float:
    """Of the pictures where it is known."""
    return errors.double().square().nanmean().sqrt().item()


def activation_agreement(found: Tensor, true: Tensor, threshold: float = 0.25) -> Tensor:
    """AUCON, (N,): share of expression directions that are on, above ``threshold``, or off in both; (N,E) activations each.

    Ours are the morphable model's directions as the judge reads them; the paper's are OpenFace's action units.
    """
    _alike(found, true)
    return ((found > threshold) == (true > threshold)).float().mean(dim=1)


def landmark_mae(found: Tensor, true: Tensor, size: int) -> Tensor:
    r"""LMAE, (N,): :math:`\overline{|M - \hat M|} / \text{size}`, over the coordinates of landmarks (N,L,2), pixels of pictures of ``size``

    Table IV prints it and the text does not define it; its values, 0.007 to 0.055, are those of coordinates in [0, 1].
    """
    _alike(found, true)
    return (found - true).abs().flatten(1).mean(dim=1) / size


def reenactment(made: Tensor, target: Tensor, judge: Judge, parts: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
    """The columns of Tables I and II for made pictures (N,3,H,W) and the true ones of the same motion: (N,) each, picture by picture,
    on the CPU.

    What pose, expression, landmarks and identity a picture shows the judge reads off both, so that its own errors count in neither.
    PRMSE is a picture's own, over its three angles; a set's is the root of the mean square. ``parts`` are named masks (N,1,H,W): PSNR
    inside each, NaN for a picture where it holds less than a two-hundredth of the pixels, too few to say anything.
    Raises ShapeError as :func:`facelab.evaluation.psnr` does.
    """
    said, true = judge.look(made), judge.look(target)
    found = {
        "MAE": mae(made, target), "MSE": mse(made, target), "PSNR": psnr(made, target), "SSIM": ssim(made, target),
        "CSIM": identity_similarity(said.identity, true.identity), "PRMSE": pose_error(said.pose, true.pose),
        "AUCON": activation_agreement(said.expression, true.expression),
        "LMAE": landmark_mae(said.landmarks, true.landmarks, target.shape[-1]),
    }  # fmt: skip
    found = {name: value.detach().cpu() for name, value in found.items()}
    for name, mask in (parts or {}).items():
        some = mask.flatten(1).float().mean(dim=1) >= 1 / 200
        value = found[f"PSNR, {name}"] = torch.full((len(made),), torch.nan)
        if some.any():
            value[some.cpu()] = psnr(made[some], target[some], mask[some].float()).detach().cpu()
    return found


def averages(found: Mapping[str, Tensor]) -> dict[str, float]:
    """Means of what :func:`reenactment` found, over the pictures where it is known; of PRMSE the root of the mean square."""
    return {name: _root_mean_square(value) if name == "PRMSE" else value.nanmean().item() for name, value in found.items()}


def paired_difference(a: Tensor, b: Tensor, seed: int = 0) -> tuple[float, float, float]:
    r""":math:`\overline{a - b}` over the pictures where both are known, and its 95 % bootstrap interval over them; (N,) each.

    Source: Efron 1987 (the interval is bias-corrected and accelerated), as scipy computes it, from 2,000 draws.
    Raises ShapeError for different lengths, or fewer than two pictures where both are known.
    """
    apart = (a - b)[(a - b).isfinite()].detach().cpu().double().numpy() if a.shape == b.shape else []
    if len(apart) < 2:
        raise ShapeError(f"a difference needs two pictures or more of which both values are known, got {tuple(a.shape)}, {tuple(b.shape)}")
    if (apart == apart[0]).all():
        return (float(apart[0]),) * 3
    interval = bootstrap((apart,), np.mean, n_resamples=2000, rng=seed).confidence_interval
    return float(apart.mean()), float(interval.low), float(interval.high)


def _alike(a: Tensor, b: Tensor) -> None:
    if a.shape != b.shape or a.ndim < 2 or not a.numel():
        raise ShapeError(f"two sets of one shape (N, ...) please, got {tuple(a.shape)} and {tuple(b.shape)}")
    if not bool(a.isfinite().all()) or not bool(b.isfinite().all()):
        raise ShapeError("values that are compared must be finite")
