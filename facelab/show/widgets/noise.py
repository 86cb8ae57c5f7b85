"""What a generator makes of its noise, moved by hand."""
from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import ipywidgets as widgets
import torch
from numpy.typing import NDArray
from torch import Tensor

from facelab.core import ShapeError
from facelab.show.widgets.parts import check_sliders, jpeg, side_by_side, string


class NoiseExplorer:
    """A slider for each of a few directions of a generator's noise z, uniform in [-1, 1], and what is made at that place.

    Args:
        noise: (1,Z), where the sliders are 0. directions: name -> (Z,), the way that a slider's 1 goes.
        paint: z (1,Z) -> the pictures to show of it, each (3,H,W) or uint8 (H,W,3).

    Attributes: ``sliders``: name -> slider; ``another``: a button, other noise under the same directions; ``view``: what a notebook
    displays; its CSS class is ``facelab-noise``.
    Raises: ShapeError for directions that do not fit, or noise outside [-1, 1].
    """

    SIDE = 224

    def __init__(self, noise: Tensor, directions: dict[str, Tensor], paint: Callable[[Tensor], Sequence[Tensor | NDArray]]):
        wrong = [name for name, way in directions.items() if way.shape != noise.shape[1:]]
        if noise.ndim != 2 or len(noise) != 1 or bool(noise.abs().max() > 1) or wrong or not directions:
            raise ShapeError(f"noise is (1, Z) in [-1, 1] and each direction (Z,), got {tuple(noise.shape)}, wrong: {wrong or 'none'}")
        self.noise, self.directions, self.paint = noise, directions, paint
        self._rng = torch.Generator().manual_seed(0)
        self.sliders = {name: string(name, -1.0, 1.0, 0.05) for name in directions}
        self.another = widgets.Button(description="another z", layout=widgets.Layout(width="7em"))
        self.another.on_click(self._draw_again)
        self._picture = widgets.Image(format="jpeg", height=self.SIDE)
        strings = widgets.VBox([*self.sliders.values(), self.another], layout=widgets.Layout(max_width="40em"))
        self.view = widgets.VBox([self._picture, strings])
        self.view.add_class("facelab-noise")
        for slider in self.sliders.values():
            slider.observe(self.redraw, "value")
        self.redraw()

    def at(self, **amounts: float) -> Tensor:
        """(1,Z): the noise so far along the named directions, kept in [-1, 1]. Raises ShapeError for a name that has no slider."""
        check_sliders(amounts, self.sliders)
        moved = self.noise + sum(amount * self.directions[name] for name, amount in amounts.items())
        return moved.clamp(-1, 1)

    def draw(self, **amounts: float) -> NDArray:
        """uint8 (224, P x 224, 3): what ``paint`` shows of :meth:`at`, side by side."""
        return side_by_side(self.paint(self.at(**amounts)), self.SIDE)

    def redraw(self, change: Any = None) -> None:
        """Draws the picture anew: for what ``paint`` shows that is no slider's doing, such as of whom."""
        self._picture.value = jpeg(self.draw(**{name: slider.value for name, slider in self.sliders.items()}))

    def _draw_again(self, button: widgets.Button) -> None:
        self.noise = torch.rand(self.noise.shape, generator=self._rng) * 2 - 1
        self.redraw()
