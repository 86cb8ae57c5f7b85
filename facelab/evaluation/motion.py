r"""Measures of a reenactment: does the face hold the driver's pose and expression, and is it still the same person?

What a picture shows is read off by a judge, or known of made faces. Wrong shapes and values that are not finite raise ShapeError.
Source: F3A-GAN, Table III, after MarioNETte (Ha et al. 2020).
"""
from __future__ import annotations

import math

from torch import Tensor
from torch.nn import functional as F

from facelab.core import ShapeError


def identity_similarity(a: Tensor, b: Tensor) -> Tensor:
    r"""CSIM, (N,): :math:`\frac{a \cdot b}{\lVert a \rVert \lVert b \rVert}` of two sets of identity features (N,D), 1 for one person's.

    The judge's (``judge().features``) or dlib's (:class:`DlibIdentity`); the paper's are VGGFace's. Say whose they are.
    """
    _alike(a, b)
    return F.cosine_similarity(a.float(), b.float(), dim=1)


def pose_rmse(found: Tensor, true: Tensor) -> float:
    r"""PRMSE, degrees: :math:`\sqrt{\overline{(r - \hat r)^2}}`, over pictures and the three angles; (N,3) radians each."""
    _alike(found, true)
    return math.degrees((found - true).double().square().mean().sqrt())


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


def _alike(a: Tensor, b: Tensor) -> None:
    if a.shape != b.shape or a.ndim < 2 or not a.numel():
        raise ShapeError(f"two sets of one shape (N, ...) please, got {tuple(a.shape)} and {tuple(b.shape)}")
    if not bool(a.isfinite().all()) or not bool(b.isfinite().all()):
        raise ShapeError("values that are compared must be finite")
