"""Widgets that draw into ``ipywidgets.Image``; each has ``draw``, which gives the same picture as pixels: its static twin."""
from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

import ipywidgets as widgets
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from facelab.core import ShapeError
from facelab.faces import FaceBatch, FaceWorld
from facelab.faces.world.sampling import PIVOT, rotation
from facelab.geometry.boundary import boundary_map
from facelab.show.pictures import CLUSTERS, INK, clay, tint, to_pixels

POSE = {"yaw": 80, "pitch": 40, "roll": 30}  # degrees to either side
SHAPES = 8  # identity directions with a slider: those of the largest spread
SPACED = widgets.Layout(grid_template_columns="repeat(3, 33%)", width="100%", overflow="hidden")


def _jpeg(pixels: NDArray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def _slider(name: str, low: float, high: float, step: float, value: float = 0.0) -> widgets.FloatSlider:
    return widgets.FloatSlider(
        value=value, min=low, max=high, step=step, description=name, readout_format=".0f" if step >= 1 else ".2f",
        style={"description_width": "8.5em"}, layout=widgets.Layout(width="97%"),
    )  # fmt: skip


class Puppet:
    """A face on strings: sliders for expression, identity and pose move a made face and its boundary map.

    Args:
        world: whose faces; face: a batch of one of that world, whose paint, light and background are worn.
        size: side of the picture in pixels.

    Attributes:
        sliders: name -> slider; the expression directions by their names, ``shape_0`` … in standard deviations, yaw, pitch, roll in
            degrees.
        paint: checkbox; without it the same shape is shown as clay.
        view: what a notebook displays; its CSS class is ``facelab-puppet``.
    """

    def __init__(self, world: FaceWorld, face: FaceBatch, size: int = 192):
        if len(face) != 1:
            raise ShapeError(f"a puppet is one face, got {len(face)}: index the batch first")
        self.world, self.size = world, size
        self.face = replace(face, camera=torch.tensor([[1 / 30, 0.5, 0.52]]), gaze=torch.zeros(1, 2))
        identity, pose = face.identity_coefficients[0], torch.zeros(3)
        groups = {
            "expression": {name: _slider(name, 0, 1, 0.05) for name in world.model.expression_names},
            "identity": {f"shape_{k}": _slider(f"shape_{k}", -3, 3, 0.1, float(identity[k])) for k in range(min(SHAPES, len(identity)))},
            "pose": {name: _slider(name, -limit, limit, 1, float(pose[k])) for k, (name, limit) in enumerate(POSE.items())},
        }
        self.sliders = {name: slider for group in groups.values() for name, slider in group.items()}
        self._rest = {name: slider.value for name, slider in self.sliders.items()}
        self.paint = widgets.Checkbox(value=True, description="paint", indent=False, layout=widgets.Layout(width="6em"))
        reset = widgets.Button(description="let go", tooltip="back to rest", layout=widgets.Layout(width="6em"))
        self._pictures = [widgets.Image(format="jpeg", width=256, height=256) for _ in range(2)]
        strings = widgets.Tab([widgets.GridBox([*group.values()], layout=SPACED) for group in groups.values()], titles=[*groups])
        strings.layout.max_width = "68em"
        self.view = widgets.VBox([widgets.HBox([*self._pictures, widgets.VBox([self.paint, reset])]), strings])
        self.view.add_class("facelab-puppet")
        for control in (*self.sliders.values(), self.paint):
            control.observe(self._redraw, "value")
        reset.on_click(self._let_go)
        self._redraw()

    def draw(self, *, paint: bool = True, **strings: float) -> tuple[NDArray, NDArray]:
        """(face, boundary map), each uint8 (size,size,3), with the named strings pulled and the others at rest.

        ``puppet.draw(jaw_open=1, yaw=-30)``. Raises ShapeError for a string that it does not have.
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
        posed = self.world.rerender(self.face, **state, size=self.size)
        return (to_pixels(posed.image[0]) if paint else self._clay(posed)), to_pixels(boundary_map(posed.landmarks, self.size)[0])

    def _clay(self, posed: FaceBatch) -> NDArray:
        turn = torch.from_numpy(rotation(posed.pose.numpy())).float()
        shape = self.world.model.shape(posed.identity_coefficients, posed.expression_coefficients)
        scale, x, y = posed.camera[0].tolist()
        return clay(self.world.model, (shape - torch.from_numpy(PIVOT)) @ turn.mT, self.size, width=1 / scale, origin=(x, y))[0]

    def _redraw(self, change: Any = None) -> None:
        if self._rest is None:
            return
        drawn = self.draw(paint=self.paint.value, **{name: slider.value for name, slider in self.sliders.items()})
        for picture, pixels in zip(self._pictures, drawn, strict=True):
            picture.value = _jpeg(pixels)

    def _let_go(self, button: widgets.Button) -> None:
        rest, self._rest = self._rest, None  # one redraw for all sliders
        for name, slider in self.sliders.items():
            slider.value = rest[name]
        self._rest = rest
        self._redraw()


class ClusterExplorer:
    """Clusters of boundary maps: choose one to see its centre, its members and where they lie in the projection.

    Args:
        pictures: uint8 (N,h,w,3); maps: (N,H,W) in [0, 1], of the same faces; points: (N,2) their projection;
        labels: (N,) cluster of each; centres: (K,H,W) in [0, 1].

    Attributes:
        cluster, member: the controls, a button a cluster and a slider through its members; view: what a notebook displays.
    """

    HEIGHT, MEMBERS = 288, 9

    def __init__(self, pictures: NDArray, maps: NDArray, points: NDArray, labels: NDArray, centres: NDArray):
        if not len(pictures) == len(maps) == len(points) == len(labels):
            raise ShapeError(f"one picture, map, point and label a face, got {len(pictures)}, {len(maps)}, {len(points)}, {len(labels)}")
        self.pictures, self.maps, self.labels, self.centres = pictures, maps, np.asarray(labels), centres
        low, high = points[:, :2].min(0), points[:, :2].max(0)
        self._places = (points[:, :2] - low) / (high - low) * [1, -1] + [0, 1]  # x right, y down, in [0, 1]
        # members from the typical to the odd
        distance = ((maps.reshape(len(maps), -1) - centres.reshape(len(centres), -1)[self.labels]) ** 2).sum(1)
        order = np.argsort(distance, kind="stable")
        self._members = [order[self.labels[order] == k] for k in range(len(centres))]
        self.cluster = widgets.ToggleButtons(options=range(len(centres)), description="focal point", style={"button_width": "3em"})
        self.member = widgets.IntSlider(max=1, description="member", layout=widgets.Layout(width="30em"))
        self._picture = widgets.Image(format="jpeg", height=self.HEIGHT)
        self.view = widgets.VBox([self.cluster, self._picture, self.member])
        self.view.add_class("facelab-clusters")
        self.cluster.observe(self._choose, "value")
        self.member.observe(self._redraw, "value")
        self._choose()

    def draw(self, cluster: int, member: int = 0) -> NDArray:
        """uint8 (288,…,3): the centre map; nine members from number ``member`` on, the typical ones first; the projection, where the
        cluster is in colour and the nine are ringed. Raises ShapeError for a cluster that is not there."""
        if not 0 <= cluster < len(self.centres):
            raise ShapeError(f"no cluster {cluster}: there are {len(self.centres)}")
        high, third = self.HEIGHT, self.HEIGHT // 3
        centre = self.centres[cluster]
        left = _resize(to_pixels(centre[None] / max(centre.max(), 1e-9)), high)
        chosen = self._members[cluster][member : member + self.MEMBERS]
        middle = np.full((high, high, 3), 255, np.uint8)
        for i, n in enumerate(chosen):
            y, x = i // 3 * third, i % 3 * third
            line = _resize(to_pixels(self.maps[n][None]), third)[None, ..., 0] / 255.0
            middle[y : y + third, x : x + third] = tint(_resize(self.pictures[n], third), line)
        return np.concatenate([left, np.full((high, 8, 3), 255, np.uint8), middle, self._chart(cluster, chosen)], axis=1)

    def _chart(self, cluster: int, chosen: NDArray) -> NDArray:
        high, twice = self.HEIGHT, 2 * self.HEIGHT  # drawn at twice the size, then reduced: smooth dots
        picture = Image.new("RGB", (2 * twice, twice), "white")
        pen = ImageDraw.Draw(picture)
        places = self._places * [2 * twice - 64, twice - 40] + [40, 20]

        def dots(which: NDArray, radius: float, **colours: Any) -> None:
            for x, y in places[which]:
                pen.ellipse([x - radius, y - radius, x + radius, y + radius], **colours)

        dots(np.nonzero(self.labels != cluster)[0], 4, fill=(214, 218, 221))
        dots(np.nonzero(self.labels == cluster)[0], 6, fill=CLUSTERS[cluster % len(CLUSTERS)])
        dots(chosen, 11, outline=INK, width=4)
        return np.asarray(picture.resize((2 * high, high), Image.Resampling.LANCZOS))

    def _choose(self, change: Any = None) -> None:
        self.member.max = max(len(self._members[self.cluster.value]) - self.MEMBERS, 0)
        self.member.value = 0
        self._redraw()

    def _redraw(self, change: Any = None) -> None:
        self._picture.value = _jpeg(self.draw(self.cluster.value, self.member.value))


def _resize(pixels: NDArray, side: int) -> NDArray:
    return np.asarray(Image.fromarray(pixels).resize((side, side), Image.Resampling.BICUBIC))
