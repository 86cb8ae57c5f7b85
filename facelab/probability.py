r"""Gaussians over a latent space and their divergences: the unit Gaussian, the mixture, and the additive Gaussian of the two face papers.

All divergences are in nats, summed over the D dimensions, one number a row; derived line by line in notebooks 02 and 03.
"""
from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from facelab.core import FacelabError, Reading, ShapeError


class UnplacedPriorError(FacelabError):
    """A prior that depends on structure was used before it was told the structure's weights."""


@dataclass(frozen=True)
class Gaussian:
    r"""N(m, s² I), one for every row: ``mean`` (N,D) or (1,D), ``scale`` (N,1) or (1,1), the standard deviation s."""

    mean: Tensor
    scale: Tensor

    def log_prob(self, z: Tensor) -> Tensor:
        r""":math:`\log N(z; m, s^2 I)`, (…,N,D) -> (…,N)."""
        off = ((z - self.mean) / self.scale).square().sum(dim=-1)
        return -0.5 * off - z.shape[-1] * (self.scale.squeeze(-1).log() + 0.5 * math.log(2 * math.pi))

    def sample(self, n: int, *, generator: torch.Generator | None = None, temperature: float = 1.0) -> Tensor:
        """n codes (n,D), one for each row (a single row serves all); ``temperature`` scales s. Noise comes from the CPU generator."""
        mean = self.mean.expand(n, -1)
        noise = torch.randn(mean.shape, generator=generator).to(mean)
        return mean + temperature * self.scale * noise


def unit_gaussian(dimensions: int) -> Gaussian:
    """N(0, I) in D dimensions, the prior of the plain CVAE; it is the same for every structure, so it needs no placing."""
    return Gaussian(torch.zeros(1, dimensions), torch.ones(1, 1))


@dataclass(frozen=True)
class PlacedMixture:
    r"""One mixture a row, :math:`\sum_k w_k N(\mu_k, \sigma_k^2 I)`: means (K,D), scales (K,), weights (N,K)."""

    means: Tensor
    scales: Tensor
    weights: Tensor

    def log_prob(self, z: Tensor) -> Tensor:
        r""":math:`\log \sum_k w_k N(z; \mu_k, \sigma_k^2 I)`, (…,N,D) -> (…,N)."""
        dimensions = z.shape[-1]
        off = torch.cdist(z, self.means.expand(*z.shape[:-2], *self.means.shape), compute_mode="donot_use_mm_for_euclid_dist").square()
        component = -0.5 * off / self.scales.square() - dimensions * (self.scales.log() + 0.5 * math.log(2 * math.pi))  # (…,N,K)
        return torch.logsumexp(component + self.weights.log(), dim=-1)

    def draw(self, n: int, *, generator: torch.Generator | None = None) -> Gaussian:
        """The paper's step before Eq. 4: one component for each of n rows, k ~ Cat(w). Returns the chosen Gaussians."""
        weights = self.weights.expand(n, -1)
        chosen = torch.multinomial(weights.cpu(), 1, generator=generator)[:, 0].to(self.means.device)
        return Gaussian(self.means[chosen], self.scales[chosen, None])

    def sample(self, n: int, *, generator: torch.Generator | None = None, temperature: float = 1.0) -> Tensor:
        """n codes (n,D): a component each, then a draw from it; ``temperature`` scales its standard deviation."""
        return self.draw(n, generator=generator).sample(n, generator=generator, temperature=temperature)


class _Clusters:
    def __init__(self, means: Tensor, scales: Tensor):
        if means.ndim != 2 or scales.shape != means.shape[:1] or not bool((scales > 0).all()):
            raise ShapeError(f"means must be (K, D) and scales (K,) positive, got {tuple(means.shape)} and {tuple(scales.shape)}")
        self.means, self.scales = means, scales

    def _checked(self, weights: Tensor) -> Tensor:
        if weights.ndim != 2 or weights.shape[1] != len(self.scales):
            raise ShapeError(f"weights must be (N, {len(self.scales)}), got {tuple(weights.shape)}")
        sums = weights.detach().sum(dim=1)
        if bool((weights.detach() < 0).any()) or not bool(((sums - 1).abs() < 1e-3).all()):
            raise ShapeError("weights must not be negative and each row must sum to 1")
        return weights


class GaussianMixture(_Clusters):
    r"""The mixture prior :math:`p(z|y) = \sum_k w_k N(\mu_k, \sigma_k^2 I)`.

    Args: ``means`` (K,D), ``scales`` (K,) the standard deviations. Source: AF-VAE Eq. 3, Equilibrium CVAE Eq. 3.
    """

    def at(self, weights: Tensor) -> PlacedMixture:
        """The priors of N structures, weights (N,K) with rows that sum to 1. Raises ShapeError for other weights."""
        return PlacedMixture(self.means, self.scales, self._checked(weights))


class AdditiveGaussian(_Clusters):
    r"""The additive focal prior :math:`p(z|y) = N\bigl(\sum_k w_k \mu_k,\ \sigma^2 I\bigr),\ \sigma^2 = \sum_k w_k^2 \sigma_k^2`.

    It is the law of :math:`\sum_k w_k z_k` for independent :math:`z_k \sim N(\mu_k, \sigma_k^2 I)`, and much narrower than the mixture of
    the same parts. Args: ``means`` (K,D), ``scales`` (K,). Source: AF-VAE Eq. 4, Equilibrium CVAE Eq. 4.
    """

    def at(self, weights: Tensor) -> Gaussian:
        """The priors of N structures, weights (N,K) with rows that sum to 1. Raises ShapeError for other weights."""
        weights = self._checked(weights)
        return Gaussian(weights @ self.means, (weights.square() @ self.scales.square()).sqrt()[:, None])


def kl(
    mean: Tensor,
    log_var: Tensor,
    prior: Gaussian | PlacedMixture,
    *,
    samples: int = 1,
    generator: torch.Generator | None = None,
    noise: Tensor | None = None,
    reading: Reading = Reading.fixed,
) -> Tensor:
    r"""How far a diagonal Gaussian posterior :math:`q = N(\mu_\phi, \mathrm{diag}\,\sigma_\phi^2)` is from its prior, in nats.

    To a Gaussian :math:`N(m, s^2 I)`, in closed form (Eq. 5, summed over dimensions, which the print leaves out):

    .. math:: D_{KL} = \sum_{d=1}^{D} \left[\log\frac{s}{\sigma_{\phi,d}} + \frac{\sigma_{\phi,d}^2 + (\mu_{\phi,d} - m_d)^2}{2 s^2}
        - \frac12\right]

    To a mixture, which has no closed form, the unbiased estimate :math:`\overline{\log q(z) - \log p(z)}` over ``samples`` draws of q.

    Args:
        mean, log_var: (N,D) :math:`\mu_\phi` and :math:`\log \sigma_\phi^2`.
        prior: placed: ``unit_gaussian(D)``, ``GaussianMixture(…).at(w)`` or ``AdditiveGaussian(…).at(w)``.
        samples, generator: of the mixture's estimate; the noise is drawn on the CPU.
        noise: (samples,N,D) to use instead, so that the estimate is taken at codes drawn already.
        reading: ``literal`` is Eq. 5 as printed: log, variance and 1/2 counted once however many dimensions there are; it needs an
            isotropic posterior (SPECS A1).

    Returns: (N,) nats. A mixture's estimate may be negative in single draws, the closed forms may not.
    Raises: UnplacedPriorError for a prior without weights; ShapeError for other shapes, or for a literal reading that does not apply.
    Source: AF-VAE Eq. 5, Equilibrium CVAE Eq. 5.
    """
    if isinstance(prior, _Clusters):
        raise UnplacedPriorError(f"this {type(prior).__name__} does not know the structure's weights: place it with prior.at(weights)")
    if mean.ndim != 2 or mean.shape != log_var.shape:
        raise ShapeError(f"mean and log_var must be (N, D), got {tuple(mean.shape)} and {tuple(log_var.shape)}")
    if mean.dtype in (torch.bfloat16, torch.float16):
        mean, log_var = mean.float(), log_var.float()  # a network under autocast; a sum over D needs more digits than these have
    if isinstance(prior, PlacedMixture):
        if reading is Reading.literal:
            raise ShapeError("the mixture's divergence has one reading only; Eq. 5 is the additive prior's")
        if noise is None:
            noise = torch.randn(samples, *mean.shape, generator=generator).to(mean)
        log_q = -0.5 * (noise.square() + log_var + math.log(2 * math.pi)).sum(dim=-1)  # (S,N)
        return (log_q - prior.log_prob(mean + noise * (log_var / 2).exp())).mean(dim=0)
    center, scale = prior.mean.to(mean), prior.scale.to(mean)
    if mean.shape[1] != center.shape[1] or len(center) not in (1, len(mean)):
        raise ShapeError(f"the prior is placed for {tuple(center.shape)}, the posterior is {tuple(mean.shape)}")
    variance = log_var.exp()
    if reading is Reading.literal:
        if bool((log_var - log_var[:, :1]).abs().max() > 1e-5):
            raise ShapeError("Eq. 5 as printed has one sigma_phi a face: give a log_var that is the same in all dimensions")
        total = variance[:, 0] + (mean - center).square().sum(dim=1)
        return scale[:, 0].log() - 0.5 * log_var[:, 0] + total / (2 * scale[:, 0].square()) - 0.5
    # one pass over (N,D) a sum: nothing of that size is kept but what the gradient needs
    spread = variance.sum(dim=1) + (mean - center).square().sum(dim=1)
    return spread / (2 * scale[:, 0].square()) - 0.5 * log_var.sum(dim=1) + mean.shape[1] * (scale[:, 0].log() - 0.5)


def additive_posterior(means: Tensor, log_vars: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    r"""The clusterwise posterior: :math:`q = N\bigl(\sum_k w_k \mu_{\phi,k},\ \sum_k w_k^2 \sigma_{\phi,k}^2\bigr)`, additive as its prior.

    Args: ``means``, ``log_vars`` (N,K,D), one Gaussian a cluster; ``weights`` (N,K). Returns: mean, log variance, (N,D) each.
    Source: Wang, Schwing and Lazebnik 2017, the additive-encoding paper; both face papers drop it (SPECS A5).
    """
    mean = torch.einsum("nk,nkd->nd", weights, means)
    variance = torch.einsum("nk,nkd->nd", weights.square(), log_vars.exp())
    return mean, variance.log()
