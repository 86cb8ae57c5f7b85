"""A face on strings."""
from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import ipywidgets as widgets
import torch
from numpy.typing import NDArray
from torch import Tensor

from facelab.core import ShapeError
from facelab.faces import FaceBatch, FaceWorld
from facelab.geometry.boundary import boundary_map
from facelab.geometry.pose import PIVOT, rotation
from facelab.show.pictures import clay, to_pixels
from facelab.show.widgets.parts import jpeg, rows_of_three, string

POSE = {"yaw": 80, "pitch": 40, "roll": 30}  # degrees to either side
SHAPES = 8  # identity directions with a slider: those of the largest spread


class Puppet:
    """A face on strings: sliders for expression, identity and pose move a made face and its boundary map.

    Args:
        world: whose faces; face: a batch of one of that world, whose paint, light and background are worn.
        size: side of the picture in pixels.
        panels: posed face (a batch of one, of ``size``) -> the pictures to show of it; None: the face and its boundary map.

    Attributes:
        sliders: name -> slider; the expression directions by their names, ``shape_0`` … in standard deviations, yaw, pitch, roll in
            degrees.
        paint: checkbox; without it the same shape is shown as clay. None with ``panels``.
        view: what a notebook displays; its CSS class is ``facelab-puppet``.
    """

    def __init__(
        self, world: FaceWorld, face: FaceBatch, size: int = 192, panels: Callable[[FaceBatch], Sequence[Tensor | NDArray]] | None = None
    ):
        if len(face) != 1:
            raise ShapeError(f"a puppet is one face, got {len(face)}: index the batch first")
        self.world, self.size, self.panels = world, size, panels
        self.face = replace(face, camera=torch.tensor([[1 / 30, 0.5, 0.52]]), gaze=torch.zeros(1, 2))
        identity, pose = face.identity_coefficients[0], torch.zeros(3)
        groups = {
            "expression": {name: string(name, 0, 1, 0.05) for name in world.model.expression_names},
            "identity": {f"shape_{k}": string(f"shape_{k}", -3, 3, 0.1, float(identity[k])) for k in range(min(SHAPES, len(identity)))},
            "pose": {name: string(name, -limit, limit, 1, float(pose[k])) for k, (name, limit) in enumerate(POSE.items())},
        }
        self.sliders = {name: slider for group in groups.values() for name, slider in group.items()}
        self._rest = {name: slider.value for name, slider in self.sliders.items()}
        self.paint = None
        if panels is None:
            self.paint = widgets.Checkbox(value=True, description="paint", indent=False, layout=widgets.Layout(width="6em"))
        reset = widgets.Button(description="let go", tooltip="back to rest", layout=widgets.Layout(width="6em"))
        controls = [control for control in (self.paint, reset) if control]
        self._pictures = [widgets.Image(format="jpeg", width=256, height=256) for _ in self.draw()]
        strings = widgets.Tab([rows_of_three(group.values()) for group in groups.values()], titles=[*groups])
        strings.layout.max_width = "68em"
        self.view = widgets.VBox([widgets.HBox([*self._pictures, widgets.VBox(controls)]), strings])
        self.view.add_class("facelab-puppet")
        for control in (*self.sliders.values(), *controls[:-1]):
            control.observe(self._redraw, "value")
        reset.on_click(self._let_go)
        self._redraw()

    def posed(self, size: int, **strings: float) -> FaceBatch:
        """The face in a picture of ``size`` pixels, with the named strings pulled and the others at rest: ``puppet.posed(64, yaw=-30)``.

        Raises ShapeError for a string that it does not have.
        """
        unknown = strings.keys() - self.sliders.keys()
        if unknown:
            raise ShapeError(f"no string called {', '.join(sorted(unknown))}; there are {', '.join(self.sliders)}")
        value = self._rest | strings
        identity = self.face.identity_coefficients.clone()
        for k in range(min(SHAPES, identity.shape[1])):
            identity[0, k] = value[f"shape_{k}"]
        expression = torch.tensor([[value[name] for name in self.world.model.expression_names]])
        pose = torch.deg2rad(torch.tensor([[value[name] for name in POSE]]))
        state = {"identity_coefficients": identity, "expression_coefficients": expression, "pose": pose}
        return self.world.rerender(self.face, **state, size=size)

    def draw(self, *, paint: bool = True, **strings: float) -> tuple[NDArray, ...]:
        """Face and boundary map, or its panels, each uint8 (H,W,3), strings as in :meth:`posed`: ``puppet.draw(jaw_open=1, yaw=-30)``."""
        posed = self.posed(self.size, **strings)
        if self.panels is not None:
            return tuple(to_pixels(panel) for panel in self.panels(posed))
        return (to_pixels(posed.image[0]) if paint else self._clay(posed)), to_pixels(boundary_map(posed.landmarks, self.size)[0])

    def _clay(self, posed: FaceBatch) -> NDArray:
        shape = self.world.model.shape(posed.identity_coefficients, posed.expression_coefficients)
        scale, x, y = posed.camera[0].tolist()
        return clay(self.world.model, (shape - torch.tensor(PIVOT)) @ rotation(posed.pose).mT, self.size, width=1 / scale, origin=(x, y))[0]

    def _redraw(self, change: Any = None) -> None:
        if self._rest is None:
            return
        drawn = self.draw(paint=self.paint is None or self.paint.value, **{name: slider.value for name, slider in self.sliders.items()})
        for picture, pixels in zip(self._pictures, drawn, strict=True):
            picture.value = jpeg(pixels)

    def _let_go(self, button: widgets.Button) -> None:
        rest, self._rest = self._rest, None  # one redraw for all sliders
        for name, slider in self.sliders.items():
            slider.value = rest[name]
        self._rest = rest
        self._redraw()
