"""A latent space, walked by hand."""
from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import ipywidgets as widgets
import torch
from numpy.typing import NDArray
from torch import Tensor

from facelab.core import ShapeError
from facelab.faces import FaceBatch
from facelab.geometry.boundary import boundary_map
from facelab.show.widgets.parts import check_sliders, jpeg, side_by_side, string
from facelab.show.widgets.puppet import Puppet

FAR = 3.0  # standard deviations to either side


class LatentExplorer:
    """One face's appearance code, moved along the principal components of many, painted in a structure that is picked or made by hand.

    Args:
        faces: N faces, as large as ``paint`` makes them; their structures can be picked.
        codes: (N,D) their appearance codes; any of them can be the one to start from.
        paint: codes (1,D), boundary maps (1,1,H,W) -> pictures (1,3,H,W) in [-1, 1].
        puppet: makes structures by hand.
        components: how many principal components get a slider.

    Attributes:
        appearance, structure: sliders, the number of the face that gives the code and of the one that gives the boundary map.
        sliders: ``component_0`` … -> slider, in standard deviations; puppet: the puppet, and ``by_hand``: whether its map is the structure.
        spread: (components,) share of the codes' variance along each.
        view: what a notebook displays; its CSS class is ``facelab-latent``.
    """

    HEIGHT = 224

    def __init__(self, faces: FaceBatch, codes: Tensor, paint: Callable[[Tensor, Tensor], Tensor], puppet: Puppet, components: int = 6):
        if codes.ndim != 2 or len(codes) != len(faces) or min(codes.shape) < components:
            raise ShapeError(f"one code a face and {components} directions among them, got codes {tuple(codes.shape)}, {len(faces)} faces")
        self.faces, self.codes, self.paint, self.puppet = faces, codes, paint, puppet
        _, length, directions = torch.linalg.svd(codes - codes.mean(dim=0), full_matrices=False)
        self._steps = directions[:components] * length[:components, None] / (len(codes) - 1) ** 0.5  # one standard deviation each
        self.spread = (length.square() / length.square().sum())[:components]
        number = {"max": len(faces) - 1, "style": {"description_width": "8.5em"}, "layout": widgets.Layout(width="97%")}
        self.appearance = widgets.IntSlider(description="appearance of", **number)
        self.structure = widgets.IntSlider(description="structure of", **number)
        self.by_hand = widgets.Checkbox(description="structure of the puppet below", indent=False)
        self.sliders = {name: string(name, -FAR, FAR, 0.1) for name in (f"component_{k}" for k in range(components))}
        self._picture = widgets.Image(format="jpeg", height=self.HEIGHT)
        controls = [self.appearance, self.structure, self.by_hand, *self.sliders.values()]
        hand = widgets.Accordion([puppet.view], titles=["puppet"])
        self.view = widgets.VBox([self._picture, widgets.VBox(controls, layout=widgets.Layout(max_width="46em")), hand])
        self.view.add_class("facelab-latent")
        for control in controls:
            control.observe(self._redraw, "value")
        for control in puppet.sliders.values():
            control.observe(self._follow, "value")
        self._redraw()

    def draw(self, appearance: int = 0, structure: int | Mapping[str, float] = 0, **components: float) -> NDArray:
        """uint8 (224, 3 x 224, 3): the face whose code is taken, the boundary map, and what the decoder paints.

        ``structure``: the number of a face, or a puppet's strings, ``{"yaw": 30, "smile": 1}``; ``components`` in standard deviations,
        ``component_0=-2``. Raises ShapeError for a component or string that is not there.
        """
        check_sliders(components, self.sliders)
        size = self.faces.size
        of = self.puppet.posed(size, **structure) if isinstance(structure, Mapping) else self.faces[int(structure)]
        boundary = boundary_map(of.landmarks, size)
        amounts = torch.tensor([components.get(name, 0.0) for name in self.sliders])
        with torch.inference_mode():
            painted = self.paint(self.codes[appearance : appearance + 1] + amounts @ self._steps, boundary)
        panels = (self.faces.image[appearance], boundary[0], painted[0])
        return side_by_side(panels, self.HEIGHT)

    def _redraw(self, change: Any = None) -> None:
        strings = {name: slider.value for name, slider in self.puppet.sliders.items()}
        structure = strings if self.by_hand.value else self.structure.value
        moved = {name: slider.value for name, slider in self.sliders.items()}
        self._picture.value = jpeg(self.draw(self.appearance.value, structure, **moved))

    def _follow(self, change: Any = None) -> None:
        if self.by_hand.value:
            self._redraw()
