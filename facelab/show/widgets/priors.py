"""Two priors made of the same parts, and what each charges for a code."""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import ipywidgets as widgets
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from facelab.core import ShapeError
from facelab.probability import AdditiveGaussian, GaussianMixture, kl
from facelab.show.pictures import ACCENT, INK
from facelab.show.widgets.parts import jpeg, string


class PriorExplorer:
    r"""The mixture and the additive Gaussian over a plane, for weights moved by hand, and the divergence of one posterior from each.

    Args:
        means: (K,2) and scales (K,): the parts, all within ``reach`` of the origin.
        mean, scale: the posterior :math:`N(\mu_\phi, \sigma_\phi^2 I)`, a circle.

    Attributes:
        sliders: ``w_0`` … -> slider; they are divided by their sum. view: what a notebook displays; its CSS class is ``facelab-prior``.
    """

    SIDE = 260
    FULL = 15.0  # nats that fill a bar

    def __init__(self, means: Tensor, scales: Tensor, mean: Sequence[float], scale: float, reach: float = 1.8):
        if means.ndim != 2 or means.shape[1] != 2:
            raise ShapeError(f"a plane's means are (K, 2), got {tuple(means.shape)}")
        self.means, self.scales, self.reach = means, scales, reach
        self.mean, self.log_var = torch.tensor([list(mean)]), torch.full((1, 2), 2 * float(np.log(scale)))
        ticks = torch.linspace(-reach, reach, self.SIDE)
        y, x = torch.meshgrid(-ticks, ticks, indexing="ij")
        self._places = torch.stack([x, y], dim=-1).reshape(-1, 1, 2)
        self._noise = torch.randn(4096, 1, 2, generator=torch.Generator().manual_seed(0))
        self.sliders = {f"w_{k}": string(f"w_{k}", 0.0, 1.0, 0.01, 1.0 if k == 0 else 0.0) for k in range(len(means))}
        self._picture = widgets.Image(format="jpeg", height=self.SIDE)
        self.view = widgets.VBox([self._picture, widgets.VBox(list(self.sliders.values()), layout=widgets.Layout(max_width="40em"))])
        self.view.add_class("facelab-prior")
        for slider in self.sliders.values():
            slider.observe(self._redraw, "value")
        self._redraw()

    def weights(self, values: Sequence[float]) -> Tensor:
        """(1,K), the values over their sum; all alike where the sum is 0."""
        w = torch.tensor([list(values)], dtype=torch.float32)
        return w / w.sum() if float(w.sum()) > 0 else torch.full_like(w, 1 / w.shape[1])

    def divergences(self, values: Sequence[float]) -> dict[str, float]:
        """Nats from the posterior to the mixture (4096 draws) and to the additive Gaussian (closed form)."""
        w = self.weights(values)
        mixture, additive = GaussianMixture(self.means, self.scales).at(w), AdditiveGaussian(self.means, self.scales).at(w)
        return {
            "mixture": kl(self.mean, self.log_var, mixture, noise=self._noise).item(),
            "additive": kl(self.mean, self.log_var, additive).item(),
        }

    def draw(self, *values: float) -> NDArray:
        """uint8 (260, 3 x 260, 3): the mixture's density, the additive Gaussian's, and the divergences as bars."""
        if len(values) != len(self.sliders):
            raise ShapeError(f"give {len(self.sliders)} weights, got {len(values)}")
        w = self.weights(values)
        panels = []
        for name, prior in (("mixture", GaussianMixture), ("additive", AdditiveGaussian)):
            density = prior(self.means, self.scales).at(w).log_prob(self._places).exp().reshape(self.SIDE, self.SIDE).numpy()
            panels.append(self._panel(name, density / density.max(), w[0]))
        return np.concatenate([*panels, self._bars(self.divergences(values))], axis=1)

    def _panel(self, name: str, density: NDArray, w: Tensor) -> NDArray:
        ink, paper = np.array([11, 106, 143.0]), np.array([255.0] * 3)
        picture = Image.fromarray((paper + density[..., None] * (ink - paper)).round().astype(np.uint8))
        pen = ImageDraw.Draw(picture)
        pixel = lambda p: ((np.array(p) * [1, -1] / self.reach + 1) / 2 * (self.SIDE - 1)).tolist()  # noqa: E731
        for k, (place, weight) in enumerate(zip(self.means.tolist(), w.tolist(), strict=True)):
            x, y = pixel(place)
            r = 3 + 9 * weight
            pen.ellipse([x - r, y - r, x + r, y + r], outline=INK, width=2)
            pen.text((x + r + 2, y - 6), f"{k}", fill=INK, font=ImageFont.load_default(12))
        (x, y), r = pixel(self.mean[0].tolist()), float((self.log_var[0, 0] / 2).exp()) / self.reach * self.SIDE / 2
        pen.ellipse([x - r, y - r, x + r, y + r], outline="#d62728", width=2)
        pen.text((8, 6), name, fill=INK, font=ImageFont.load_default(14))
        return np.asarray(picture)

    def _bars(self, nats: dict[str, float]) -> NDArray:
        picture = Image.new("RGB", (self.SIDE, self.SIDE), "white")
        pen = ImageDraw.Draw(picture)
        pen.text((16, 6), "KL from the red posterior", fill=INK, font=ImageFont.load_default(14))
        longest = self.SIDE - 40
        for row, (name, value) in enumerate(nats.items()):
            top = 50 + 90 * row
            pen.text((16, top), f"{name}: {value:.2f} nats", fill=INK, font=ImageFont.load_default(14))
            pen.rectangle([16, top + 24, 16 + longest * min(max(value, 0.0) / self.FULL, 1.0), top + 44], fill=ACCENT)
        return np.asarray(picture)

    def _redraw(self, change: Any = None) -> None:
        self._picture.value = jpeg(self.draw(*(slider.value for slider in self.sliders.values())))
