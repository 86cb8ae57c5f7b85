"""One person, otherwise: the noise of a two-stage generator, moved by hand."""
from __future__ import annotations

from typing import Any

import ipywidgets as widgets
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from facelab.core import ShapeError
from facelab.papers.facefeat_gan import Features
from facelab.show.pictures import to_pixels
from facelab.show.widgets.parts import jpeg, resize, string

FAR = 4.0  # half as far from 0 as a uniform z of 64 numbers lies on average


class Inventor:
    """A person's picture, and what FaceFeat-GAN invents of them: sliders move z_1 (pose, expression) and z_2 (everything else).

    Each slider goes along the direction of noise that changes the feature most, second most, …: the left singular vectors of the
    covariance of z and G^f(z), over many draws.

    Args:
        model: a :class:`facelab.papers.facefeat_gan.Model` of two features. images: (N,3,H,W), as large as its pictures.
        count: how many directions of each z get a slider. seed: of the z that the sliders start from.

    Attributes: ``person``: slider, whose picture; ``sliders``: ``pose_0`` …, ``general_0`` … -> slider, in units of z;
        ``view``: what a notebook displays; its CSS class is ``facelab-inventor``.
    Raises: ShapeError for a model of other features, or pictures of another size.
    """

    SIDE = 192

    def __init__(self, model: Any, images: Tensor, count: int = 3, seed: int = 0):
        if len(model.sizes) != 2:
            raise ShapeError(f"an inventor moves two features, this model has {len(model.sizes)}")
        self.model, self.images = model, images
        self._identity = model.features(images).identity
        generator = torch.Generator().manual_seed(seed)
        self._start = model.noise(1, generator)
        many = model.noise(1000, generator)
        self._ways = []  # (count,64) for each z
        for z, feature in zip(many.unbind(dim=1), model.invent(many), strict=True):
            self._ways.append(torch.linalg.svd(z.T @ (feature - feature.mean(dim=0)), full_matrices=False)[0].T[:count])
        names = [f"{part}_{k}" for part in ("pose", "general") for k in range(count)]
        self.person = widgets.IntSlider(
            description="person", max=len(images) - 1, style={"description_width": "8.5em"}, layout=widgets.Layout(width="97%")
        )
        self.sliders = {name: string(name, -FAR, FAR, 0.1) for name in names}
        self._picture = widgets.Image(format="jpeg", height=self.SIDE)
        controls = [self.person, *self.sliders.values()]
        self.view = widgets.VBox([self._picture, widgets.VBox(controls, layout=widgets.Layout(max_width="46em"))])
        self.view.add_class("facelab-inventor")
        for control in controls:
            control.observe(self._redraw, "value")
        self._redraw()

    def noise(self, **amounts: float) -> Tensor:
        """(1,2,64): the z that sliders with these values give, kept within [-1, 1]. ShapeError for a slider that is not there."""
        unknown = amounts.keys() - self.sliders.keys()
        if unknown:
            raise ShapeError(f"no slider called {', '.join(sorted(unknown))}; there are {', '.join(self.sliders)}")
        given = torch.tensor([float(amounts.get(name, 0.0)) for name in self.sliders]).chunk(2)
        moves = torch.stack([amount @ way for amount, way in zip(given, self._ways, strict=True)])
        return (self._start + moves).clamp(-1, 1)

    def draw(self, person: int = 0, **amounts: float) -> NDArray:
        """uint8 (192, 2 x 192, 3): the given picture and the invented one; ``amounts`` in units of z, ``pose_0=-2``."""
        made = self.model.paint(Features(self._identity[person : person + 1], self.model.invent(self.noise(**amounts))))
        return np.concatenate([resize(to_pixels(panel), self.SIDE) for panel in (self.images[person], made[0])], axis=1)

    def _redraw(self, change: Any = None) -> None:
        self._picture.value = jpeg(self.draw(self.person.value, **{name: slider.value for name, slider in self.sliders.items()}))
