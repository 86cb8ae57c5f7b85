r"""AF-VAE: faces from a boundary map and an appearance code under an additive focal prior.

S. Qian, K.-Y. Lin, W. Wu, Y. Liu, Q. Wang, F. Shen, C. Qian and R. He. *Make a Face: Towards Arbitrary High Fidelity Face
Manipulation.* ICCV 2019. Derived in notebooks 03 and 05.

Departures: 68 landmarks, not 98, draw the boundary map. Widths, the code's dimension and every weight of the loss are ours (none is
printed). The picture alone enters the appearance encoder (the paper writes :math:`\phi_{app}(x, c)`; an author says that the map beside
it made training unstable). The feature network is ours unless VGG19's weights are given. What a code means once the structure
changes is a reading, see :meth:`Model.transfer`.
"""
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from facelab.blocks import (
    AppearanceEncoder,
    Decoder,
    FeatureNetwork,
    FocalMemory,
    StructureEncoder,
    feature_matching,
    load_weights,
    shipped,
)
from facelab.blocks.features import Config as FeatureConfig
from facelab.core import Reading, ShapeError
from facelab.geometry.boundary import boundary_map
from facelab.probability import AdditiveGaussian, GaussianMixture, kl, unit_gaussian

PRIORS = ("unit", "mixture", "additive")


@dataclass(frozen=True)
class Config:
    """What is printed is marked with its section; the rest is ours."""

    size: int = 64  # side of a picture, a power of two from 8; the paper: 256
    width: int = 24  # channels at half the picture's side, doubled at every halving
    most: int = 160  # channels at the deepest levels
    code: int = 128  # D, numbers in z
    prior: str = "additive"  # section 3.2; "unit" and "mixture" are Table 3's "w/o GMM" and Eq. 3
    clusters: int = 8  # section 4
    weighting: str = "centred_l1"  # of the focal points, SPECS A7
    scale: float = 0.1  # sigma_k, after the additive-encoding paper's code
    norm: str = "weight"  # section 3.3; "batch", "none"
    up: str = "subpixel"  # section 3.3; "transposed"
    kl_weight: float = 2.0  # 0 is Table 3's "w/o KL"
    feature_weights: tuple[float, ...] = (0.2, 0.2, 0.2, 0.2)  # lambda_l; () leaves only the L1 term

    @property
    def widths(self) -> list[int]:
        """Channels of every level, from half the picture's side to 4 x 4."""
        levels = (self.size // 8).bit_length()
        if self.size != 4 * 2**levels or levels < 1:
            raise ShapeError(f"size must be 8, 16, 32, 64, ..., got {self.size}")
        return [min(self.width * 2**level, self.most) for level in range(levels)]


class Model(nn.Module):
    """The autoencoder, its focal memory and its feature network."""

    Config = Config

    def __init__(self, config: Config | None = None, features: nn.Module | None = None):
        """``features``: a frozen network of feature maps, such as ``vgg19_features(path)``; None is the package's own."""
        super().__init__()
        config = config or Config()
        if config.prior not in PRIORS:
            raise ShapeError(f"no prior called {config.prior!r}; there are {', '.join(PRIORS)}")
        self.config = config
        widths, thin = config.widths, [max(8, w // 2) for w in config.widths]
        unit = 1.0 if config.prior == "unit" else config.scale
        self.appearance = AppearanceEncoder(widths, config.code, config.norm, unit)
        self.structure = StructureEncoder(thin, config.norm)
        self.decoder = Decoder(widths, thin, config.code, config.norm, config.up, unit)
        self.memory = FocalMemory(config.size**2, config.code, config.clusters, config.weighting, config.scale)
        self._features = [features] if features is not None else []  # in a list: no part of the model's weights

    # ---------------------------------------------------------------------------------------------------------------- the equations

    def prior(self, boundary: Tensor):
        """p(z|y) of structures (N,1,H,W): N(0, I), the mixture of Eq. 3 or the additive Gaussian of Eq. 4."""
        if self.config.prior == "unit":
            return unit_gaussian(self.config.code)
        kind = GaussianMixture if self.config.prior == "mixture" else AdditiveGaussian
        return kind(self.memory.means, self.memory.scales).at(self.memory(boundary))

    def decode(self, code: Tensor, boundary: Tensor) -> Tensor:
        """z (N,D), structure (N,1,H,W) -> picture (N,3,H,W)."""
        return self.decoder(code, self.structure(boundary))

    # ---------------------------------------------------------------------------------------------------------------------- training

    def prepare(self, faces: Any, generator: torch.Generator, count: int = 4000) -> None:
        """Before training: K-means on the boundary maps of ``count`` training faces fills the focal memory."""
        chosen = torch.randperm(len(faces), generator=generator)[:count]
        self.memory.remember(boundary_map(faces[chosen].landmarks, self.config.size), generator)

    def players(self) -> dict[str, list[nn.Parameter]]:
        """One player: encoders and decoder."""
        return {"autoencoder": list(self.parameters())}

    def draw(self, faces: Any, n: int, generator: torch.Generator) -> dict[str, Tensor]:
        """Pictures with their own boundary maps, and the noise of the reparameterisation: nothing else is seen in training."""
        batch = faces[torch.randint(len(faces), (n,), generator=generator)]
        return {
            "image": batch.image,
            "boundary": boundary_map(batch.landmarks, self.config.size),
            "noise": torch.randn(n, self.config.code, generator=generator),
        }

    def losses(self, batch: Mapping[str, Tensor], player: str = "autoencoder") -> dict[str, Tensor]:
        r"""The terms of Eq. 2, in nats a picture, mean over the batch:

        .. math:: \underbrace{\lVert x - \hat x \rVert_1}_{\text{pixels}} +
            \underbrace{3HW \textstyle\sum_l \lambda_l \overline{|\psi_l(x) - \psi_l(\hat x)|}}_{\text{features}} +
            \beta\, \underbrace{D_{KL}[q(z|x) \,\|\, p(z|y)]}_{\text{kl}}

        The L1 norm is a sum over the picture (a Laplace likelihood of scale 1), so that it and the KL are in the same unit.
        """
        image, boundary, noise = batch["image"], batch["boundary"], batch["noise"]
        mean, log_var = self.appearance(image)
        code = mean + noise * (log_var / 2).exp()
        made = self.decode(code, boundary)
        numbers = image[0].numel()
        terms = {"pixels": (made - image).abs().mean() * numbers}
        if self.config.feature_weights:
            terms["features"] = numbers * feature_matching(self.features, made, image, self.config.feature_weights)
        if self.config.kl_weight:
            prior = self.prior(boundary)
            extra = {"noise": noise[None]} if self.config.prior == "mixture" else {}  # the mixture's KL is estimated at the code drawn
            terms["kl"] = self.config.kl_weight * kl(mean, log_var, prior, **extra).mean()
        return terms

    @property
    def features(self) -> nn.Module:
        """The frozen feature network, opened when it is first needed and moved to where the model is."""
        if not self._features:
            self._features.append(load_weights(FeatureNetwork, FeatureConfig, shipped("features")).requires_grad_(False))
        self._features[0] = self._features[0].to(self.memory.means.device)
        return self._features[0]

    # ------------------------------------------------------------------------------------------------------------------------- verbs

    @torch.no_grad()
    def encode(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Pictures (N,3,H,W) -> the posterior's mean and log variance, (N,D) each."""
        return self.appearance(self._checked(image, 3))

    @torch.no_grad()
    def transfer(self, image: Tensor, boundary: Tensor, *, reading: Reading = Reading.fixed) -> Tensor:
        r"""The person of each picture in another structure.

        Literally the code is kept: :math:`z' = z`. But the additive prior puts z near :math:`m(c) = \sum_k w_k(c) \mu_k`, a point of the
        plane through the focal means, so a code also says under which structure it was taken. ``fixed`` replaces that part, and keeps
        what is orthogonal to the plane (P projects on its directions):

        .. math:: z' = z + P\,(m(c') - z).

        Args:
            image: (N,3,H,W) in [-1, 1]. boundary: (N,1,H,W) in [0, 1], the structure to take; one row of either serves all of the other.
            reading: priors without such a plane (``unit``; a ``mixture`` has no one mean) keep z in both readings.

        Returns: (N,3,H,W) in [-1, 1]. Raises ShapeError for other sizes.
        Source: section 3.3, "given a source image and target boundary"; SPECS B7. Notebook 05 measures both readings.
        """
        if 1 != len(image) != len(boundary) != 1:
            raise ShapeError(f"{len(image)} pictures and {len(boundary)} structures: as many of both, or one row of either")
        code = self.encode(image)[0]
        if self.config.prior == "additive" and reading is Reading.fixed:
            target = self.prior(self._checked(boundary, 1)).mean
            code = code + self.memory.in_plane(target - code)
        return self._paint(code, boundary)

    @torch.no_grad()
    def sample(self, boundary: Tensor, n: int = 1, *, generator: torch.Generator | None = None, temperature: float = 1.0) -> Tensor:
        """n people nobody has seen for every structure, codes drawn from the prior: (N,1,H,W) -> (N,n,3,H,W).

        ``temperature`` scales the prior's standard deviation; 0 is the prior's mean.
        """
        boundary = self._checked(boundary, 1).repeat_interleave(n, dim=0)
        code = self.prior(boundary).sample(len(boundary), generator=generator, temperature=temperature).to(boundary)
        return self._paint(code, boundary).unflatten(0, (-1, n))

    def _paint(self, code: Tensor, boundary: Tensor) -> Tensor:
        count = max(len(code), len(boundary))
        return self.decode(code.expand(count, -1), self._checked(boundary, 1).expand(count, -1, -1, -1))

    def _checked(self, picture: Tensor, channels: int) -> Tensor:
        side = self.config.size
        if picture.ndim != 4 or tuple(picture.shape[1:]) != (channels, side, side):
            raise ShapeError(f"this model takes (N, {channels}, {side}, {side}), got {tuple(picture.shape)}")
        return picture
