r"""AF-VAE: faces from a boundary map and an appearance code under an additive focal prior.

S. Qian, K.-Y. Lin, W. Wu, Y. Liu, Q. Wang, F. Shen, C. Qian and R. He. *Make a Face: Towards Arbitrary High Fidelity Face
Manipulation.* ICCV 2019. Derived in notebooks 03 and 05.

Departures: 68 landmarks, not 98, draw the boundary map. Widths, the code's dimension and every weight of the loss are ours (none is
printed), also that differences near the boundary map's lines count more. The picture alone enters the appearance encoder (the paper
writes :math:`\phi_{app}(x, c)`; an author says that the map beside it made training unstable); its code enters every level of the decoder.
The feature network is ours unless VGG19's weights are given.
"""
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from facelab.blocks import FeatureNetwork, StructuredConfig, StructuredVAE, feature_matching, load_weights, near_lines, shipped
from facelab.blocks.features import Config as FeatureConfig


@dataclass(frozen=True)
class Config(StructuredConfig):
    """The switches of Table 3 beside the prior's, and the loss's weights."""

    norm: str = "weight"  # section 3.3; "batch", "none"
    up: str = "subpixel"  # section 3.3; "transposed"
    kl_weight: float = 6.0  # beta; 0 is Table 3's "w/o KL"
    feature_weights: tuple[float, ...] = (0.2, 0.2, 0.2, 0.2)  # lambda_l; () leaves only the L1 term


class Model(StructuredVAE):
    """Weight normalisation in encoder and decoder, sub-pixel convolution in every upsampling, and a feature network in the loss."""

    Config = Config

    def __init__(self, config: Config | None = None, features: nn.Module | None = None):
        """``features``: a frozen network of feature maps, such as ``vgg19_features(path)``; None is the package's own."""
        config = config or Config()
        super().__init__(config, config.norm, config.up)
        self._features = [features] if features is not None else []  # in a list: no part of the model's weights

    def losses(self, batch: Mapping[str, Tensor], player: str = "autoencoder") -> dict[str, Tensor]:
        r"""The terms of Eq. 2, in nats a picture, mean over the batch; a is :func:`near_lines`:

        .. math:: \underbrace{\textstyle\sum_p a(p)\, | x - \hat x |_p}_{\text{pixels}} +
            \underbrace{3HW \textstyle\sum_l \lambda_l \overline{a\, |\psi_l(x) - \psi_l(\hat x)|}}_{\text{features}} +
            \beta\, \underbrace{D_{KL}[q(z|x) \,\|\, p(z|y)]}_{\text{kl}}

        The L1 norm is a sum over the picture (a Laplace likelihood of scale 1 / a), so that it and the KL are in the same unit.
        """
        image, boundary, noise = batch["image"], batch["boundary"], batch["noise"]
        made, mean, log_var = self(image, boundary, noise)
        near, numbers = near_lines(boundary, self.config.focus), image[0].numel()
        terms = {"pixels": (near * (made - image).abs()).mean() * numbers}
        if self.config.feature_weights:
            terms["features"] = numbers * feature_matching(self.features, made, image, self.config.feature_weights, near)
        if self.config.kl_weight:
            terms["kl"] = self.divergence(mean, log_var, boundary, noise)
        return terms

    @property
    def features(self) -> nn.Module:
        """The frozen feature network, opened when it is first needed and moved to where the model is."""
        if not self._features:
            self._features.append(load_weights(FeatureNetwork, FeatureConfig, shipped("features")).requires_grad_(False))
        self._features[0] = self._features[0].to(self.memory.means.device)
        return self._features[0]
