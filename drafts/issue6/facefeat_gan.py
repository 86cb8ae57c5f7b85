r"""FaceFeat-GAN: who a face is stays, everything else is made, first as features, then as a picture.

Y. Shen, B. Zhou, P. Luo and X. Tang. *FaceFeat-GAN: a Two-Stage Approach for Identity-Preserving Face Synthesis.* arXiv 1812.01288, 2018.
Derived in notebooks 08 and 09.

Departures: see the notebook's limits.
"""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from facelab.adversarial import bce_discriminator, energy
from facelab.blocks.regressor import Regressor, regressor
from facelab.core import ShapeError

TERMS = ("identity", "features", "image", "reconstruction")
"""The four energies, phi_id, phi^f, phi^I and phi_rec, any of which an ablation may leave out (Table 4)."""
PLAYERS = ("feature_discriminators", "image_discriminator", "feature_generators", "image_generator", "encoders")


@dataclass(frozen=True)
class Config:
    """Printed values are marked with their section; the rest is ours."""

    size: int = 64  # side of a picture, px; printed: 128 (4)
    width: int = 16  # channels at the picture's side, n of BEGAN
    identity: int = 256  # numbers in f_id; 4
    general: tuple[int, ...] = (256,)  # numbers in each learnt feature f_2, f_3, …; one in the paper, "but the framework is flexible"
    noise: int = 64  # numbers in each z, uniform in [-1, 1]; 4
    generator: tuple[int, ...] = (128, 256, 256)  # hidden neurons of G^f; 4
    discriminator: tuple[int, ...] = (256, 256, 128)  # and of D^f; 4
    norm: float = 16.0  # of f_id and f_2 on their way into G^I: of 256 numbers, each has variance 1; 4
    without: tuple[str, ...] = ()  # terms left out, of TERMS
    balance: int = 100  # steps over which the terms are weighed against each other; then the weights stay

    @property
    def channels(self) -> list[int]:
        """n, 2n, 3n, … from the picture's side down to 8 x 8, as in BEGAN's encoder."""
        levels = (self.size // 8).bit_length()
        if self.size != 8 * 2 ** (levels - 1) or levels < 2:
            raise ShapeError(f"size must be 16, 32, 64, …, got {self.size}")
        return [self.width * (level + 1) for level in range(levels)]


class Features(NamedTuple):
    """What a picture is taken apart into: (N,256) who it is; [(N,20) expression and yaw, (N,256) everything else, …]."""

    identity: Tensor
    varied: list[Tensor]

    def joined(self) -> Tensor:
        return torch.cat([self.identity, *self.varied], dim=1)


# ---------------------------------------------------------------------------------------------------------------------------- networks


def _perceptron(before: int, hidden: Sequence[int], after: int) -> nn.Sequential:
    widths = [before, *hidden]
    layers = [layer for a, b in zip(widths, widths[1:], strict=False) for layer in (nn.Linear(a, b), nn.LeakyReLU(0.2))]
    return nn.Sequential(*layers, nn.Linear(widths[-1], after))


def _pair(before: int, after: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(before, before, 3, padding=1), nn.ELU(), nn.Conv2d(before, after, 3, stride=stride, padding=1), nn.ELU()
    )


class Encoder(nn.Module):
    """BEGAN's: a convolution, then at every level two, the second of stride 2 to n more channels; (N,3,H,H) -> (N,D)."""

    def __init__(self, channels: Sequence[int], after: int):
        super().__init__()
        levels = [_pair(a, b, 2) for a, b in zip(channels, channels[1:], strict=False)]
        self.body = nn.Sequential(nn.Conv2d(3, channels[0], 3, padding=1), nn.ELU(), *levels, _pair(channels[-1], channels[-1]))
        self.out = nn.Linear(channels[-1] * 64, after)

    def forward(self, image: Tensor) -> Tensor:
        return self.out(self.body(image).flatten(1))


class Decoder(nn.Module):
    """BEGAN's: 8 x 8 maps of n channels, at every level two convolutions and nearest upsampling; (N,D) -> (N,3,H,H)."""

    def __init__(self, before: int, width: int, levels: int):
        super().__init__()
        self.expand = nn.Linear(before, width * 64)
        body = [layer for _ in range(levels - 1) for layer in (_pair(width, width), nn.Upsample(scale_factor=2, mode="nearest"))]
        self.body = nn.Sequential(*body, _pair(width, width), nn.Conv2d(width, 3, 3, padding=1))
        self.width = width

    def forward(self, features: Tensor) -> Tensor:
        return torch.tanh(self.body(self.expand(features).unflatten(1, (self.width, 8, 8))))


class Recogniser(nn.Module):
    """E_id: a picture to who it is; see blocks/recogniser.py (to come)."""


class Game(NamedTuple):
    """One round: what is real, what is made of it, and of noise."""

    real: Features
    made: list[Tensor]  # f_i^s
    rebuilt: Tensor  # x^rec
    invented: Tensor  # x^s


class Model(nn.Module):
    """G^f, D^f, G^I, D^I and E_2, each trained by its own loss; E_id and E_1 are given and stay as they are."""

    Config = Config

    def __init__(self, config: Config | None = None, expressions: int = 19):
        super().__init__()
        self.config = config = config or Config()
        unknown = sorted(set(config.without) - set(TERMS))
        if unknown:
            raise ShapeError(f"without names {', '.join(unknown)}; the terms are {', '.join(TERMS)}")
        self.sizes = [expressions + 1, *config.general]  # of f_1, f_2, …
        channels = config.channels
        self.encoders = nn.ModuleList(Encoder(channels, wide) for wide in config.general)
        self.feature_generators = nn.ModuleList(_perceptron(config.noise, config.generator, wide) for wide in self.sizes)
        self.feature_discriminators = nn.ModuleList(_perceptron(wide, config.discriminator, 1) for wide in self.sizes)
        self.image_generator = Decoder(config.identity + sum(self.sizes), config.width, len(channels))
        self.image_discriminator = Encoder(channels, 1)
        self.register_buffer("mean", torch.zeros(self.sizes[0]))  # of f_1 over the training faces
        self.register_buffer("scale", torch.ones(self.sizes[0]))

    def players(self) -> dict[str, list[nn.Parameter]]:
        """Those who judge come before those who are judged."""
        return {name: list(getattr(self, name).parameters()) for name in PLAYERS}

    def _length(self, feature: Tensor) -> Tensor:
        return self.config.norm * F.normalize(feature, dim=1)

    def losses(self, batch: Mapping[str, Tensor], player: str) -> dict[str, Tensor]:
        """Eqs. 1 to 4 and 8, each player's own."""
        image, kept = batch["image"], set(TERMS) - set(self.config.without)
        identity, first = batch["identity"], batch["first"]
        learnt = [self._length(encoder(image)) for encoder in self.encoders]
        real = Features(identity, [first, *learnt])
        if player == "encoders":
            return {"reconstruction": (image - self.image_generator(real.joined())).abs().mean()}
        made = [network(z) for network, z in zip(self.feature_generators, batch["noise"].unbind(dim=1), strict=True)]
        made = [made[0], *map(self._length, made[1:])]
        terms: dict[str, Tensor] = {}
        if player == "feature_discriminators":
            for i, (judge, r, s) in enumerate(zip(self.feature_discriminators, real.varied, made, strict=True), 1):
                terms[f"features_{i}"] = bce_discriminator(judge(r), judge(s))
            return terms
        invented = self.image_generator(Features(identity, made).joined())
        if player == "feature_generators":
            for i, (judge, s) in enumerate(zip(self.feature_discriminators, made, strict=True), 1):
                terms[f"features_{i}"] = energy(judge(s))
            terms["image"] = energy(self.image_discriminator(invented))
            return terms
        rebuilt = self.image_generator(real.joined())
        if player == "image_discriminator":
            answers = [self.image_discriminator(x) for x in (image, invented, rebuilt)]
            return {"image": energy(answers[0]) + energy(-answers[1]) + energy(-answers[2])}
        terms = {"image": energy(self.image_discriminator(rebuilt)), "reconstruction": (image - rebuilt).abs().mean()}
        return {name: value for name, value in terms.items() if name in kept}
