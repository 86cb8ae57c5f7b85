r"""GAN objectives and penalties: what a critic and a generator minimise, each with its sign."""
from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F


def wasserstein_generator(real: Tensor, fake: Tensor) -> Tensor:
    r"""What the generator minimises: :math:`\overline{D(x)} - \overline{D(\hat x)}`, of which only the second term moves it.

    Args: the critic's answers to real and made pictures, any shape. Returns ().
    Source: F3A-GAN Eq. 11; Arjovsky, Chintala and Bottou 2017 ("Wasserstein GAN").
    """
    return real.float().mean() - fake.float().mean()


def wasserstein_critic(real: Tensor, fake: Tensor) -> Tensor:
    r"""What the critic minimises: :math:`\overline{D(\hat x)} - \overline{D(x)}`, so that it answers more to real pictures.

    Eq. 11 of F3A-GAN is the generator's and the critic must *maximise* it (SPECS E8); one that minimised it would help the generator.
    Unbounded below: without :func:`gradient_penalty` it runs away.
    """
    return fake.float().mean() - real.float().mean()  # a critic's answers may be large and close together


def gradient_penalty(critic: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor, mix: Tensor) -> Tensor:
    r"""How far the critic is from a slope of 1 between real and made pictures:

    .. math:: \overline{(\lVert \nabla_{x} D(x) \rVert_2 - 1)^2}, \quad x = u\,x_{real} + (1 - u)\,x_{fake}

    the norm over one picture, the answers of one picture averaged.

    Args: ``real``, ``fake`` (N,…) pictures; ``mix`` u, (N,1,…), uniform in [0, 1). Returns ().
    Source: Gulrajani et al. 2017 ("Improved Training of Wasserstein GANs"), Eq. 3; the papers here do not say how their critics are held.
    """
    between = torch.lerp(fake.detach().float(), real.float(), mix).requires_grad_()
    answers = critic(between).float().reshape(len(between), -1).mean(dim=1)
    (slope,) = torch.autograd.grad(answers.sum(), between, create_graph=True)
    return (slope.flatten(1).norm(dim=1) - 1).square().mean()


def energy(logits: Tensor) -> Tensor:
    r""":math:`\varphi = -\overline{\log D}`, :math:`D = \sigma(l)` from the discriminator's logits l, any shape: small where it says
    "real".

    What a generator minimises, and the non-saturating loss of Goodfellow et al. 2014. Source: FaceFeat-GAN Eqs. 9 and 10.
    """
    return F.softplus(-logits.float()).mean()


def bce_discriminator(real: Tensor, fake: Tensor, weight: float = 1.0) -> Tensor:
    r"""What a discriminator minimises: :math:`-\overline{\log D(x)} - \lambda\, \overline{\log(1 - D(\hat x))}`, from logits.

    FaceFeat-GAN prints :math:`\varphi(x) - \lambda \varphi(\hat x)` (Eqs. 2 and 4), see :func:`literal_discriminator`; this is the reading
    in which an answer that is right already pushes no more. Source: Goodfellow et al. 2014.
    """
    return energy(real) + weight * energy(-fake)


def literal_discriminator(real: Tensor, fake: Tensor, weight: float = 1.0, limit: float | None = None) -> Tensor:
    r""":math:`\varphi(x) - \lambda \varphi(\hat x)`, as printed; unbounded below, since :math:`-\varphi(\hat x) = \log D(\hat x)` falls by
    nearly 1 for each 1 that a logit of a made picture falls, however low it is (SPECS D1). ``limit``: logits are clamped to ± it.
    """
    if limit is not None:
        real, fake = real.clamp(-limit, limit), fake.clamp(-limit, limit)
    return energy(real) - weight * energy(fake)


def began_discriminator(real: Tensor, fake: Tensor, k: float) -> Tensor:
    r""":math:`\overline{L(x)} - k_t\, \overline{L(\hat x)}`, L the error with which an autoencoder gives a picture back, (N,) or any shape.

    The generator minimises :math:`\overline{L(\hat x)}`. The form that Eqs. 2 and 4 of FaceFeat-GAN have inherited; here energies are not
    negative, and :func:`began_balance` holds k. Source: Berthelot, Schumm and Metz 2017 ("BEGAN").
    """
    return real.float().mean() - k * fake.float().mean()


def began_balance(k: float, real: float, fake: float, diversity: float = 0.7, rate: float = 0.001) -> float:
    r""":math:`k_{t+1} = \mathrm{clip}(k_t + \lambda_k (\gamma L(x) - L(\hat x)), 0, 1)`: made pictures count the more, the further their
    energies stay behind :math:`\gamma` times the real ones'. Source: as above.
    """
    return min(1.0, max(0.0, k + rate * (diversity * real - fake)))
