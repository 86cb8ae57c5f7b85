"""Clusters of boundary maps, one after the other."""
from __future__ import annotations

from typing import Any

import ipywidgets as widgets
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from facelab.core import ShapeError
from facelab.show.pictures import CLUSTERS, INK, tint, to_pixels
from facelab.show.widgets.parts import jpeg, resize


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
        left = resize(to_pixels(centre[None] / max(centre.max(), 1e-9)), high)
        chosen = self._members[cluster][member : member + self.MEMBERS]
        middle = np.full((high, high, 3), 255, np.uint8)
        for i, n in enumerate(chosen):
            y, x = i // 3 * third, i % 3 * third
            line = resize(to_pixels(self.maps[n][None]), third)[None, ..., 0] / 255.0
            middle[y : y + third, x : x + third] = tint(resize(self.pictures[n], third), line)
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
        self._picture.value = jpeg(self.draw(self.cluster.value, self.member.value))
