r"""Focal points: which kinds of structure there are, and how much of each a given structure has."""
from __future__ import annotations

import numpy as np
import torch
from sklearn.cluster import KMeans
from torch import Tensor, nn

from facelab.core import ShapeError

WEIGHTINGS = ("centred_l1", "cosine_l1", "softmax")
TEMPERATURE = 0.1  # of the softmax weighting


class FocalMemory(nn.Module):
    r"""The external memory of the additive prior: K cluster centres of structure, and for each the mean of a Gaussian over appearance.

    Centres :math:`b_k` are found by K-means on flattened structures :math:`b`; the Gaussians' means :math:`\mu_k` lie at random on the
    unit sphere and stay fixed, as do their scales :math:`\sigma_k`. A structure's weights :math:`w(b)` are its "normalised cosine"
    to the centres, in one of three readings:

    * ``cosine_l1`` (as printed): :math:`w_k = \cos(b, b_k) / \sum_j \cos(b, b_j)`; boundary maps are never negative, so all cosines
      are alike and the weights nearly uniform;
    * ``centred_l1`` (default): the training mean is taken from both first, negative cosines count as 0;
    * ``softmax``: :math:`w = \mathrm{softmax}(\cos(b, b_k) / 0.1)`.

    Args: ``structure`` numbers in a flattened structure, ``code`` dimensions of a mean, ``clusters`` K, ``scale`` every :math:`\sigma_k`.

    Source: AF-VAE section 3.2, Equilibrium CVAE section 3.1; the weightings and what is wrong with the first: SPECS A7. Neither paper
    prints the scale; 0.1 is that of the additive-encoding paper's code (Wang, Schwing and Lazebnik 2017).
    """

    def __init__(self, structure: int, code: int, clusters: int = 8, weighting: str = "centred_l1", scale: float = 0.1):
        super().__init__()
        if weighting not in WEIGHTINGS:
            raise ShapeError(f"no weighting called {weighting!r}; there are {', '.join(WEIGHTINGS)}")
        self.weighting = weighting
        self.register_buffer("centres", torch.zeros(clusters, structure))
        self.register_buffer("average", torch.zeros(structure))
        self.register_buffer("means", torch.zeros(clusters, code))
        self.register_buffer("scales", torch.full((clusters,), scale))

    @torch.no_grad()
    def remember(self, structures: Tensor, generator: torch.Generator) -> None:
        """K-means (k-means++) on training structures (N, …), flattened; draws the means. Raises ShapeError for fewer structures than K."""
        flat = structures.flatten(1)
        clusters = len(self.centres)
        if len(flat) < clusters or flat.shape[1] != self.centres.shape[1]:
            raise ShapeError(f"{clusters} focal points need at least as many structures of {self.centres.shape[1]} numbers, "
                             f"got {tuple(flat.shape)}")  # fmt: skip
        seed = int(torch.randint(2**31, (1,), generator=generator))
        found = KMeans(clusters, n_init=4, random_state=seed).fit(flat.cpu().numpy().astype(np.float32))
        self.centres.copy_(torch.from_numpy(found.cluster_centers_))
        self.average.copy_(flat.mean(dim=0))
        drawn = torch.randn(self.means.shape, generator=generator)
        self.means.copy_(nn.functional.normalize(drawn, dim=1))

    def forward(self, structures: Tensor) -> Tensor:
        """Structures (N, …) -> weights (N, K); no weight is negative, rows sum to 1."""
        flat, centres = structures.flatten(1), self.centres
        if self.weighting == "centred_l1":
            flat, centres = flat - self.average, centres - self.average
        cosine = nn.functional.normalize(flat, dim=1) @ nn.functional.normalize(centres, dim=1).T
        if self.weighting == "softmax":
            return (cosine / TEMPERATURE).softmax(dim=1)
        cosine = cosine.clamp(min=0) + 1e-6  # a structure unlike every focal point belongs to all of them
        return cosine / cosine.sum(dim=1, keepdim=True)

    def in_plane(self, codes: Tensor) -> Tensor:
        r"""The part of codes (N, D) along the plane through the focal means, :math:`P z` with P on span{:math:`\mu_k - \mu_1`}."""
        directions, _ = torch.linalg.qr((self.means[1:] - self.means[0]).T)  # (D, K-1), orthonormal
        return codes @ directions @ directions.T


def effective_clusters(weights: Tensor) -> Tensor:
    r"""How many focal points a row of weights really uses: :math:`\exp(-\sum_k w_k \log w_k)`, from 1 to K; (N, K) -> (N,)."""
    return torch.special.entr(weights).sum(dim=1).exp()
