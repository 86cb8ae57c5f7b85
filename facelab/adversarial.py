r"""GAN objectives and penalties: what a critic and a generator minimise, each with its sign."""
from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from facelab.core import Reading


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
    between = torch.lerp(fake.float(), real.float(), mix)
    return (_slope(critic, between).norm(dim=1) - 1).square().mean()


def _slope(critic: Callable[[Tensor], Tensor], at: Tensor) -> Tensor:
    """(N,D), differentiable: the gradient of each one's answer, or of the mean of its answers, where it is."""
    at = at.detach().float().requires_grad_()
    answers = critic(at).float().reshape(len(at), -1).mean(dim=1)
    (slope,) = torch.autograd.grad(answers.sum(), at, create_graph=True)
    return slope.flatten(1)


def r1_penalty(discriminator: Callable[[Tensor], Tensor], real: Tensor) -> Tensor:
    r"""How steep the discriminator is where the real ones are, :math:`\overline{\lVert \nabla_x D(x) \rVert_2^2}`: a slope there helps
    nobody once made ones are right, and without a price on it the two players circle.

    Args: ``real`` (N,…), each answered by one number or several, which are averaged. Returns (); its usual weight is gamma / 2.
    Source: Mescheder, Geiger and Nowozin 2018 ("Which training methods for GANs do actually converge?"), Eq. 9.
    """
    return _slope(discriminator, real).square().sum(dim=1).mean()


def energy(logits: Tensor) -> Tensor:
    r""":math:`\varphi = -\overline{\log D}`, :math:`D = \sigma(l)`: small where the discriminator says "real".

    What it minimises over real ones, and what a generator minimises over its own: the non-saturating loss.

    Args: ``logits`` l, the discriminator's answers before the sigmoid, any shape. Returns () nats.
    Source: FaceFeat-GAN Eqs. 9 and 10; Goodfellow et al. 2014 ("Generative adversarial nets").
    """
    return F.softplus(-logits.float()).mean()


def rejection(logits: Tensor, *, reading: Reading = Reading.fixed) -> Tensor:
    r"""What a discriminator minimises over made ones, the second half of its loss:

    .. math:: -\overline{\log (1 - D)} \ge 0 \quad (\text{fixed}), \qquad -\varphi = \overline{\log D} \quad (\text{literal})

    so that Eq. 2 is ``energy(D(real)) + rejection(D(made))``, and Eq. 4 has it twice, weighted.

    Args:
        logits: as in :func:`energy`, of made ones.
        reading: ``literal`` is Eqs. 2 and 4 as printed. It has no lower bound: for each 1 that a logit falls, it falls by nearly 1,
            however low the logit is already, and the discriminator never has enough (SPECS D1). Clamp the logits, or penalise.

    Returns: () nats.
    Source: FaceFeat-GAN Eqs. 2 and 4, which inherit their form from BEGAN's (:func:`began_discriminator`), whose energies are not logs.
    """
    if reading is Reading.literal:
        return -energy(logits)
    return energy(-logits)


def began_discriminator(real: Tensor, fake: Tensor, k: float) -> Tensor:
    r""":math:`\overline{L(x)} - k_t\, \overline{L(\hat x)}`, L >= 0 the error with which the discriminator, an autoencoder, gives x back.

    The generator minimises :math:`\overline{L(\hat x)}`. As unbounded as the literal :func:`rejection` while k stays: see
    :func:`began_balance`.

    Args: errors of real and of made ones, any shape. Returns ().
    Source: Berthelot, Schumm and Metz 2017 ("BEGAN"), section 3.4.
    """
    return real.float().mean() - k * fake.float().mean()


def began_balance(k: float, real: float, fake: float, *, gamma: float = 0.5, rate: float = 0.001) -> float:
    r""":math:`k_{t+1} = \mathrm{clip}(k_t + \lambda_k (\gamma L(x) - L(\hat x)), 0, 1)`: the push on made ones weakens while their error
    exceeds :math:`\gamma` times the real ones', and ends at 0.

    Args: ``real``, ``fake`` the two mean errors; ``gamma`` their wanted ratio, "diversity", in [0, 1]; ``rate`` lambda_k.
    Source: BEGAN, section 3.4; k begins at 0.
    """
    return min(1.0, max(0.0, k + rate * (gamma * real - fake)))
