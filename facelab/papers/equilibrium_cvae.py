r"""Equilibrium CVAE: a conditional VAE whose prior adds up one Gaussian per kind of structure.

S. Qian, W. Wu, Y. Liu, B. Zhu and F. Shen. *Extending the Capacity of Conditional VAE for Face Synthesis and Modeling.* NeurIPS 2018
workshop. Derived in notebooks 02, 03 and 04.

Departures: 68 landmarks, not 98, draw the sketch; the face is aligned, not cropped at the picture's centre; K = 8, the widths, the
code's dimension and the likelihood (Laplace, scale 1) are ours, none is printed. The picture alone enters the appearance encoder.
"""
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from facelab.blocks import AppearanceEncoder, Decoder, FocalMemory, StructureEncoder, lsuv_
from facelab.core import Reading, ShapeError
from facelab.geometry.boundary import boundary_map
from facelab.probability import AdditiveGaussian, GaussianMixture, kl, unit_gaussian

PRIORS = ("unit", "mixture", "additive")


@dataclass(frozen=True)
class Config:
    """What is printed is marked with its section; the rest is ours."""

    size: int = 64  # side of a picture, a power of two from 8; section 4: 256
    width: int = 24  # channels at half the picture's side, doubled at every halving
    most: int = 160  # channels at the deepest levels
    code: int = 128  # D, numbers in z
    prior: str = "additive"  # section 3.1: "unit" is the traditional CVAE, "mixture" Eq. 3, "additive" Eq. 4
    clusters: int = 8  # K
    weighting: str = "centred_l1"  # of the clusters, SPECS A7; section 3.1: "normalized cosine similarity"
    scale: float = 0.1  # sigma_k; section 3.1: "same constant deviations"
    kl_weight: float = 1.0  # Eq. 2

    @property
    def widths(self) -> list[int]:
        """Channels of every level, from half the picture's side to 4 x 4."""
        levels = (self.size // 8).bit_length()
        if self.size != 4 * 2**levels or levels < 1:
            raise ShapeError(f"size must be 8, 16, 32, 64, ..., got {self.size}")
        return [min(self.width * 2**level, self.most) for level in range(levels)]


class Model(nn.Module):
    """A U-Net over the sketch, an encoder of appearance, and the memory of sketches that places the prior."""

    Config = Config

    def __init__(self, config: Config | None = None):
        super().__init__()
        config = config or Config()
        if config.prior not in PRIORS:
            raise ShapeError(f"no prior called {config.prior!r}; there are {', '.join(PRIORS)}")
        self.config = config
        widths, thin = config.widths, [max(8, w // 2) for w in config.widths]
        unit = 1.0 if config.prior == "unit" else config.scale
        self.appearance = AppearanceEncoder(widths, config.code, "none", unit)
        self.structure = StructureEncoder(thin, "none")
        self.decoder = Decoder(widths, thin, config.code, "none", "transposed", unit)
        self.memory = FocalMemory(config.size**2, config.code, config.clusters, config.weighting, config.scale)

    # ---------------------------------------------------------------------------------------------------------------- the equations

    def prior(self, boundary: Tensor):
        """p(z|c) of sketches (N,1,H,W): N(0, I), the mixture of Eq. 3 or the equilibrium Gaussian of Eq. 4."""
        if self.config.prior == "unit":
            return unit_gaussian(self.config.code)
        kind = GaussianMixture if self.config.prior == "mixture" else AdditiveGaussian
        return kind(self.memory.means, self.memory.scales).at(self.memory(boundary))

    def decode(self, code: Tensor, boundary: Tensor) -> Tensor:
        """z (N,D), sketch (N,1,H,W) -> picture (N,3,H,W)."""
        return self.decoder(code, self.structure(boundary))

    def forward(self, image: Tensor, boundary: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """x, c, noise (N,D) -> the picture made from a code of q(z|x), and the mean and log variance of q."""
        mean, log_var = self.appearance(image)
        return self.decode(mean + noise * (log_var / 2).exp(), boundary), mean, log_var

    # ---------------------------------------------------------------------------------------------------------------------- training

    def prepare(self, faces: Any, generator: torch.Generator, count: int = 4000) -> None:
        """Before training: K-means on the sketches of ``count`` training faces, and LSUV on 64 of them (section 4)."""
        chosen = torch.randperm(len(faces), generator=generator)[:count]
        some = faces[chosen]
        sketches = boundary_map(some.landmarks, self.config.size)
        self.memory.remember(sketches, generator)
        few = slice(0, 64)
        noise = torch.randn(len(some.image[few]), self.config.code, generator=generator)
        with torch.random.fork_rng(devices=[]):  # orthonormal matrices are drawn from torch's own generator
            torch.manual_seed(int(torch.randint(2**31, (1,), generator=generator)))
            lsuv_(self, some.image[few], sketches[few], noise)

    def players(self) -> dict[str, list[nn.Parameter]]:
        """One player: encoders and decoder."""
        return {"autoencoder": list(self.parameters())}

    def draw(self, faces: Any, n: int, generator: torch.Generator) -> dict[str, Tensor]:
        """Pictures with their own sketches, and the noise of the reparameterisation: nothing else is seen in training."""
        batch = faces[torch.randint(len(faces), (n,), generator=generator)]
        return {
            "image": batch.image,
            "boundary": boundary_map(batch.landmarks, self.config.size),
            "noise": torch.randn(n, self.config.code, generator=generator),
        }

    def losses(self, batch: Mapping[str, Tensor], player: str = "autoencoder") -> dict[str, Tensor]:
        r"""The negative of Eq. 2 in nats a picture, mean over the batch, for a Laplace likelihood of scale 1:

        .. math:: \underbrace{\lVert x - \hat x \rVert_1}_{\text{pixels}} +
            \beta\, \underbrace{D_{KL}[q_\phi(z|x) \,\|\, p(z|c)]}_{\text{kl}}
        """
        image, boundary, noise = batch["image"], batch["boundary"], batch["noise"]
        made, mean, log_var = self(image, boundary, noise)
        extra = {"noise": noise[None]} if self.config.prior == "mixture" else {}  # the mixture's KL is estimated at the code drawn
        divergence = kl(mean, log_var, self.prior(boundary), **extra).mean()
        return {"pixels": (made - image).abs().mean() * image[0].numel(), "kl": self.config.kl_weight * divergence}

    # ------------------------------------------------------------------------------------------------------------------------- verbs

    @torch.no_grad()
    def encode(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Pictures (N,3,H,W) -> the posterior's mean and log variance, (N,D) each."""
        return self.appearance(self._checked(image, 3))

    @torch.no_grad()
    def transfer(self, image: Tensor, boundary: Tensor, *, reading: Reading = Reading.fixed) -> Tensor:
        r"""The person of each picture in another structure: emotion transfer and conditional pose generation (Fig. 3).

        Literally the code is kept: :math:`z' = z`. But the additive prior puts z near :math:`m(c) = \sum_k c_k \mu_k`, a point of the plane
        through the clusters' means, so a code also says under which structure it was taken. ``fixed`` replaces that part, and keeps what
        is orthogonal to the plane (P projects on its directions): :math:`z' = z + P\,(m(c') - z)`.

        Args:
            image: (N,3,H,W) in [-1, 1]. boundary: (N,1,H,W) in [0, 1], the structure to take; one row of either serves all of the other.
            reading: priors without such a plane (``unit``; a ``mixture`` has no one mean) keep z in both readings.

        Returns: (N,3,H,W) in [-1, 1]. Raises ShapeError for other sizes.
        Source: section 4; SPECS B7. Notebook 04 measures both readings.
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
