"""A photograph that is turned and made to smile by hand, and filmed."""
from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import ipywidgets as widgets
import torch
from numpy.typing import NDArray
from torch import Tensor

from facelab.geometry.pose import Parameters, between
from facelab.papers.f3a_gan import ClipError
from facelab.show.film import film
from facelab.show.widgets.parts import check_sliders, jpeg, rows_of_three, side_by_side, string, tell_written

POSE = {"yaw": 60, "pitch": 25, "roll": 20}  # degrees to either side of the source's own


class Animator:
    """One photograph, a slider for each angle and each expression direction: its facial flow, and what F3A-GAN makes of it.

    Sliders move away from the source's own state, which is 0. "Keep" remembers a state; "film" writes the way from the source through
    the kept states, back to the source if there is only one, into the file named beside it.

    Args:
        model: a :class:`facelab.papers.f3a_gan.Model` driven by flow. source: (1,3,H,W), as large as its pictures.
        shape: the source's 3D face; None: found by ``model.fit_shape``.
        truth: state -> (1,3,H,W), the renderer's picture of it, shown beside the others; None for a photograph, which has none.

    Attributes: ``sliders``: name -> slider; ``kept``: states; ``view``: what a notebook displays; its CSS class is ``facelab-animator``.
    Raises: ClipError for a model that no flow drives, ShapeError for another size.
    """

    SIDE = 192

    def __init__(self, model: Any, source: Tensor, shape: Parameters | None = None, truth: Callable[[Parameters], Tensor] | None = None):
        if model.config.condition != "flow":
            raise ClipError(f"this model is driven by {model.config.condition}: an animator draws facial flow")
        self.model = model
        self.names = model.morphable.expression_names
        self.sliders = {name: string(name, -limit, limit, 1) for name, limit in POSE.items()}
        self.sliders |= {name: string(name, -0.5, 1, 0.05) for name in self.names}
        self.kept: list[Parameters] = []
        self._resting = False
        self._picture = widgets.Image(format="jpeg", height=self.SIDE)
        keep, let_go, write = (widgets.Button(description=text, layout=widgets.Layout(width="6em")) for text in ("keep", "let go", "film"))
        self.file = widgets.Text("face.gif", layout=widgets.Layout(width="14em"))
        self.said = widgets.Label("")
        keep.on_click(self._keep)
        let_go.on_click(self._let_go)
        write.on_click(self._write)
        strings = rows_of_three(self.sliders.values())
        self.view = widgets.VBox([self._picture, widgets.HBox([keep, let_go, write, self.file, self.said]), strings])
        self.view.add_class("facelab-animator")
        for slider in self.sliders.values():
            slider.observe(self._redraw, "value")
        self.open(source, shape, truth)

    def open(self, source: Tensor, shape: Parameters | None = None, truth: Callable[[Parameters], Tensor] | None = None) -> None:
        """Another photograph, arguments as for the widget itself; the sliders stay, the kept states, another face's, are dropped."""
        self.shape = self.model.fit_shape(source) if shape is None else shape
        self.source, self.truth = source, truth
        self.kept.clear()
        self.said.value = ""
        self._redraw()

    def state(self, **amounts: float) -> Parameters:
        """The source's 3D face, moved: ``animator.state(yaw=-20, smile=0.8)``, degrees and shares. ShapeError for an unknown name."""
        check_sliders(amounts, self.sliders)
        turn = torch.deg2rad(torch.tensor([[float(amounts.get(name, 0.0)) for name in POSE]]))
        change = torch.tensor([[float(amounts.get(name, 0.0)) for name in self.names]])
        return self.shape._replace(pose=self.shape.pose + turn, expression_coefficients=self.shape.expression_coefficients + change)

    def draw(self, **amounts: float) -> NDArray:
        """uint8 (192, 3 or 4 x 192, 3): source, facial flow (red, green, blue: x, y, z; grey: none), the made picture, the truth."""
        state = self.state(**amounts)
        flow = self.model.condition(self.shape, state)
        panels = [self.source, flow.clamp(-1, 1), self.model.make(self.source, flow)]
        panels += [self.truth(state)] if self.truth else []
        return side_by_side((panel[0] for panel in panels), self.SIDE)

    def film(self, path: str | Path, states: list[Parameters] | None = None, steps: int = 16, progress: bool = True) -> Path:
        """Writes the way from the source through ``states`` (those kept, if None), ``steps`` frames between two; see :func:`film`.

        Raises ClipError when there is no state to go to.
        """
        goals = list(self.kept if states is None else states)
        if not goals:
            raise ClipError("nothing to film: move the sliders and keep a state first")
        stops = [self.shape, *goals, *([self.shape] if len(goals) == 1 else [])]
        way = [between(a, b, step / steps) for a, b in zip(stops, stops[1:], strict=False) for step in range(steps)] + [stops[-1]]
        return film(self.model.animate(self.source, Parameters.cat(way), self.shape), path, progress=progress)

    def _redraw(self, change: Any = None) -> None:
        if not self._resting:
            self._picture.value = jpeg(self.draw(**{name: slider.value for name, slider in self.sliders.items() if slider.value}))

    def _keep(self, button: widgets.Button) -> None:
        self.kept.append(self.state(**{name: slider.value for name, slider in self.sliders.items()}))
        self.said.value = f"{len(self.kept)} kept"

    def _let_go(self, button: widgets.Button) -> None:
        self._resting = True  # one redraw for all sliders
        for slider in self.sliders.values():
            slider.value = 0.0
        self._resting = False
        self._redraw()

    def _write(self, button: widgets.Button) -> None:
        self.said.value = "filming …"
        tell_written(self.said, lambda: self.film(self.file.value))
