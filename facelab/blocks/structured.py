r"""What the Equilibrium CVAE and AF-VAE share: a U-Net over the structure, an encoder of appearance, the memory that places the prior."""
from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from facelab.blocks.layers import AppearanceEncoder, Decoder, StructureEncoder
from facelab.blocks.memory import FocalMemory
from facelab.core import ShapeError
from facelab.geometry.boundary import boundary_map
from facelab.probability import AdditiveGaussian, GaussianMixture, kl, unit_gaussian

PRIORS = ("unit", "mixture", "additive")


@dataclass(frozen=True)
class StructuredConfig:
    """What is printed is marked with its section in the Equilibrium CVAE (EQ) and AF-VAE (AF); the rest is ours."""

    size: int = 64  # side of a picture, a power of two from 8; the papers: 256
    width: int = 24  # channels at half the picture's side, doubled at every halving, two thirds at the full side
    most: int = 160  # channels at the deepest levels
    code: int = 128  # D, numbers in z
    prior: str = "additive"  # Eq. 4 of both; "unit" is the usual CVAE and AF Table 3's "w/o GMM", "mixture" Eq. 3 of both
    clusters: int = 8  # K; AF section 4
    weighting: str = "centred_l1"  # of the clusters, SPECS A7; EQ section 3.1: "normalized cosine similarity"
    scale: float = 0.1  # sigma_k, after the additive-encoding paper's code; EQ section 3.1: "same constant deviations"
    kl_weight: float = 1.0  # beta
    focus: float = 20.0  # how much more a difference counts near a line of the structure; 0: the same everywhere

    @property
    def widths(self) -> list[int]:
        """Channels of every level, from the picture's side to 4 x 4."""
        levels = (self.size // 8).bit_length()
        if self.size != 4 * 2**levels or levels < 1:
            raise ShapeError(f"size must be 8, 16, 32, 64, ..., got {self.size}")
        return [self.width * 2 // 3, *(min(self.width * 2**level, self.most) for level in range(levels))]


class StructuredVAE(nn.Module):
    """p(x|z, y) and q(z|x) as networks, p(z|y) as one of three priors; a paper's room adds its normalisation and its loss."""

    Config: ClassVar = StructuredConfig

    def __init__(self, config: StructuredConfig, norm: str, up: str):
        super().__init__()
        if config.prior not in PRIORS:
            raise ShapeError(f"no prior called {config.prior!r}; there are {', '.join(PRIORS)}")
        self.config = config
        widths = config.widths
        thin = [max(8, w // 2) for w in widths[1:]]
        unit = 1.0 if config.prior == "unit" else config.scale
        self.appearance = AppearanceEncoder(widths[1:], config.code, norm, unit)
        self.structure = StructureEncoder(thin, norm)
        self.decoder = Decoder(widths, [1, *thin], config.code, norm, up, unit)
        self.memory = FocalMemory(config.size**2, config.code, config.clusters, config.weighting, config.scale)

    # ---------------------------------------------------------------------------------------------------------------- the equations

    def prior(self, boundary: Tensor):
        """p(z|y) of structures (N,1,H,W): N(0, I), the mixture of Eq. 3 or the additive Gaussian of Eq. 4 (both papers number them so)."""
        if self.config.prior == "unit":
            return unit_gaussian(self.config.code)
        kind = GaussianMixture if self.config.prior == "mixture" else AdditiveGaussian
        return kind(self.memory.means, self.memory.scales).at(self.memory(boundary))

    def decode(self, code: Tensor, boundary: Tensor) -> Tensor:
        """z (N,D), structure (N,1,H,W) -> picture (N,3,H,W)."""
        return self.decoder(code, self.structure(boundary))

    def forward(self, image: Tensor, boundary: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """x, y, noise (N,D) -> the picture made from a code of q(z|x), and the mean and log variance of q."""
        mean, log_var = self.appearance(image)
        return self.decode(mean + noise * (log_var / 2).exp(), boundary), mean, log_var

    def divergence(self, mean: Tensor, log_var: Tensor, boundary: Tensor, noise: Tensor) -> Tensor:
        r""":math:`\beta\, D_{KL}[q(z|x) \,\|\, p(z|y)]`, nats, mean over the batch; the mixture's is estimated at the code drawn."""
        at = {"noise": noise[None]} if self.config.prior == "mixture" else {}
        return self.config.kl_weight * kl(mean, log_var, self.prior(boundary), **at).mean()

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

    # ------------------------------------------------------------------------------------------------------------------------- verbs

    @torch.no_grad()
    def encode(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Pictures (N,3,H,W) -> the posterior's mean and log variance, (N,D) each."""
        return self.appearance(self._checked(image, 3))

    @torch.no_grad()
    def transfer(self, image: Tensor, boundary: Tensor, *, replace_plane: bool = False) -> Tensor:
        r"""The person of each picture in another structure: :math:`z' = z`, the code is kept.

        But the additive prior puts z near :math:`m(y) = \sum_k w_k(y) \mu_k`, a point of the plane through the focal means, so a code also
        says under which structure it was taken. ``replace_plane`` replaces that part and keeps what is orthogonal to the plane (P
        projects on its directions):

        .. math:: z' = z + P\,(m(y') - z).

        The head follows the structure a little better then, and some of the person's paint is lost; notebooks 04 and 05 measure both.

        Args:
            image: (N,3,H,W) in [-1, 1]. boundary: (N,1,H,W) in [0, 1], the structure to take; one row of either serves all of the other.
            replace_plane: changes nothing with priors that have no such plane (``unit``; a ``mixture`` has no one mean).

        Returns: (N,3,H,W) in [-1, 1]. Raises ShapeError for other sizes.
        Source: EQ section 4 and Fig. 3; AF section 3.3, "given a source image and target boundary"; SPECS B7. The replacement is ours.
        """
        if 1 != len(image) != len(boundary) != 1:
            raise ShapeError(f"{len(image)} pictures and {len(boundary)} structures: as many of both, or one row of either")
        code = self.encode(image)[0]
        if replace_plane and self.config.prior == "additive":
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


def near_lines(boundary: Tensor, focus: float) -> Tensor:
    r"""How much a difference counts at each pixel, (N,1,H,W) -> the same, mean 1 in every picture:

    .. math:: a(p) \propto 1 + \text{focus} \cdot \bar y(p),

    with :math:`\bar y` the boundary map blurred over about a seventh of the picture's side: how densely structure lines lie around p.
    A face is a sixth of its picture and the rest is background and hair: without this most of the loss, and of the code, is about those.
    """
    kernel = boundary.shape[-1] // 14 * 2 + 1
    for _ in range(2):
        boundary = F.avg_pool2d(boundary, kernel, stride=1, padding=kernel // 2)
    weight = 1 + focus * boundary
    return weight / weight.mean(dim=(1, 2, 3), keepdim=True)
