"""An expression, put on and taken off by hand."""
from __future__ import annotations

from pathlib import Path
from typing import Any

import ipywidgets as widgets
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from facelab.geometry import warp
from facelab.show.film import save_picture
from facelab.show.pictures import flow_colours, to_pixels
from facelab.show.widgets.levels import chart, grey, shares
from facelab.show.widgets.parts import check_sliders, jpeg, resize, string, tell_written


class ExpressionEditor:
    r"""One face and a slider for every expression that an FVAE knows: the edit, its flow, its confidence and its levels.

    The code is :math:`Z(S) + \sum_y a_y (Z_y - Z_{neutral})`, the sliders' amounts a: 1 puts an expression on, more magnifies it, less
    than 0 takes it away from a face that shows it. "Save" writes the edit into the file named beside it, see
    :func:`facelab.show.save_picture`.

    Args:
        model: a :class:`facelab.papers.fvae.Model` that remembers ``neutral`` and at least one other expression.
        image: (1,3,H,W), as large as the model's pictures.

    Attributes: ``sliders``: expression -> slider; ``view``: what a notebook displays; its CSS class is ``facelab-expression``.
    Raises: PairError for a model without expressions, ShapeError for another size.
    """

    SIDE = 192
    REACH = 0.09  # displacement that the flow's colours show at full strength, of the side

    def __init__(self, model: Any, image: Tensor):
        self.model = model
        model.place("neutral")  # its error says what to do with a model that remembers nothing
        self.directions = {name: model.direction(name, "neutral") for name in model.expressions if name != "neutral"}
        self.sliders = {name: string(name, -1, 2, 0.1) for name in self.directions}
        self._picture = widgets.Image(format="jpeg", height=self.SIDE)
        save = widgets.Button(description="save", layout=widgets.Layout(width="6em"))
        self.file, self.said = widgets.Text("face.png", layout=widgets.Layout(width="14em")), widgets.Label("")
        save.on_click(self._save)
        sliders = widgets.VBox(list(self.sliders.values()), layout=widgets.Layout(max_width="46em"))
        self.view = widgets.VBox([self._picture, sliders, widgets.HBox([save, self.file, self.said])])
        self.view.add_class("facelab-expression")
        self.open(image)
        for slider in self.sliders.values():
            slider.observe(self._redraw, "value")

    def open(self, image: Tensor) -> None:
        """Another face, (1,3,H,W); the sliders stay."""
        self.image, self.code, self._moves = image, self.model.encode(image)[0], self.model.moves(image)
        self._redraw()

    def draw(self, **amounts: float) -> NDArray:
        """uint8 (192, 6 x 192, 3): source, edit, flow, confidence (white is sure), and the histograms of grey levels of the source (a line)
        and the edit. ``amounts``: expression -> how much of it. Raises ShapeError for an expression that has no slider."""
        edit, flow, sure = self._edit(**amounts)
        panels = (to_pixels(self.image[0]), to_pixels(edit[0]), flow_colours(flow[0], self.REACH * flow.shape[-1]), to_pixels(sure[0]))
        levels = chart(shares(grey(self.image[0])), shares(grey(edit[0])), self.SIDE, "levels: source (line), edit")
        return np.concatenate([*(resize(panel, self.SIDE) for panel in panels), levels], axis=1)

    def save(self, path: str | Path, **amounts: float) -> Path:
        """Writes the edit alone, ``amounts`` as for :meth:`draw`; see :func:`facelab.show.save_picture`, whose errors it raises."""
        return save_picture(self._edit(**amounts)[0][0], path)

    @torch.inference_mode()
    def _edit(self, **amounts: float) -> tuple[Tensor, Tensor, Tensor]:
        """The edit (1,3,H,W), its flow and its confidence."""
        check_sliders(amounts, self.sliders)
        flow, sure = self._moves(self.code + sum(amount * self.directions[name] for name, amount in amounts.items()))
        return warp(self.image, flow), flow, sure

    def _asked(self) -> dict[str, float]:
        return {name: slider.value for name, slider in self.sliders.items() if slider.value}

    def _redraw(self, change: Any = None) -> None:
        self._picture.value = jpeg(self.draw(**self._asked()))

    def _save(self, button: widgets.Button) -> None:
        tell_written(self.said, lambda: self.save(self.file.value, **self._asked()))
