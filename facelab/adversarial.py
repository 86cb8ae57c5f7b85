r"""GAN objectives and penalties: what a critic and a generator minimise, each with its sign."""
from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


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
