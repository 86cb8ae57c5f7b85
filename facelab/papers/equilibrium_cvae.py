r"""Equilibrium CVAE: a conditional VAE whose prior adds up one Gaussian per kind of structure.

S. Qian, W. Wu, Y. Liu, B. Zhu and F. Shen. *Extending the Capacity of Conditional VAE for Face Synthesis and Modeling.* NeurIPS 2018
workshop. Derived in notebooks 02, 03 and 04.

Departures: 68 landmarks, not 98, draw the sketch; the face is aligned, not cropped at the picture's centre; K = 8, the widths, the
code's dimension and the likelihood (Laplace, sharper near the sketch's lines) are ours, none is printed. The picture alone enters the
appearance encoder; its code enters every level of the decoder.
"""
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from facelab.blocks import StructuredConfig, StructuredVAE, lsuv_, near_lines
from facelab.geometry.boundary import boundary_map


@dataclass(frozen=True)
class Config(StructuredConfig):
    """Nothing of its own."""


class Model(StructuredVAE):
    """Plain and transposed convolutions, no normalisation, LSUV initialisation (section 4); the sketch c is the structure y."""

    Config = Config

    def __init__(self, config: Config | None = None):
        super().__init__(config or Config(), norm="none", up="transposed")

    def prepare(self, faces: Any, generator: torch.Generator, count: int = 4000) -> None:
        """Before training: K-means on the sketches of ``count`` training faces, then LSUV on 64 of them (section 4)."""
        super().prepare(faces, generator, count)
        few = faces[torch.randperm(len(faces), generator=generator)[:64]]
        noise = torch.randn(len(few.image), self.config.code, generator=generator)
        with torch.random.fork_rng(devices=[]):  # orthonormal matrices are drawn from torch's own generator
            torch.manual_seed(int(torch.randint(2**31, (1,), generator=generator)))
            lsuv_(self, few.image, boundary_map(few.landmarks, self.config.size), noise)

    def losses(self, batch: Mapping[str, Tensor], player: str = "autoencoder") -> dict[str, Tensor]:
        r"""The negative of Eq. 2 but for a constant, in nats a picture, mean over the batch, for a Laplace likelihood of scale 1 / a(p) at
        the pixel p; a is :func:`near_lines`:

        .. math:: \underbrace{\textstyle\sum_p a(p)\, | x - \hat x |_p}_{\text{pixels}} +
            \beta\, \underbrace{D_{KL}[q_\phi(z|x) \,\|\, p(z|c)]}_{\text{kl}}
        """
        image, boundary, noise = batch["image"], batch["boundary"], batch["noise"]
        made, mean, log_var = self(image, boundary, noise)
        off = near_lines(boundary, self.config.focus) * (made - image).abs()  # (N,3,H,W)
        return {"pixels": off.mean() * image[0].numel(), "kl": self.divergence(mean, log_var, boundary, noise)}
