"""A training run, watched."""
from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import ipywidgets as widgets
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from facelab.show.pictures import ACCENT, INK
from facelab.show.widgets.parts import jpeg


class LiveCurves:
    """Loss curves that grow while a model trains: show ``curves.view``, then ``fit(..., on_log=curves)``.

    One panel for every term, gradient norm and validation, with its name, latest value and range; the axis is logarithmic where the
    values are positive and span more than a decade.

    Attributes:
        view: what a notebook displays; its CSS class is ``facelab-curves``.
    """

    WIDTH, HEIGHT, COLUMNS = 264, 132, 3  # of a panel, pixels; and panels in a row

    def __init__(self) -> None:
        self.view = widgets.Image(format="jpeg")
        self.view.add_class("facelab-curves")
        self([])

    def __call__(self, history: Sequence[Mapping[str, float]]) -> None:
        """Shows a history as ``fit`` hands it out."""
        self.view.value = jpeg(self.draw(history))

    def draw(self, history: Sequence[Mapping[str, float]]) -> NDArray:
        """uint8 (132 x rows, 264 x 3, 3); without any history one empty row."""
        names = [name for name in dict.fromkeys(n for row in history for n in row) if name not in ("step", "seconds")]
        names = [name for name in names if not name.endswith("learning_rate")]
        rows = max(1, math.ceil(len(names) / self.COLUMNS))
        twice = 2 * self.WIDTH, 2 * self.HEIGHT  # drawn at twice the size, then reduced: smooth lines
        picture = Image.new("RGB", (twice[0] * self.COLUMNS, twice[1] * rows), "white")
        pen = ImageDraw.Draw(picture)
        for i, name in enumerate(names):
            corner = i % self.COLUMNS * twice[0], i // self.COLUMNS * twice[1]
            self._panel(pen, corner, name, [(row["step"], row[name]) for row in history if name in row])
        return np.asarray(picture.resize((self.WIDTH * self.COLUMNS, self.HEIGHT * rows), Image.Resampling.LANCZOS))

    def _panel(self, pen: ImageDraw.ImageDraw, corner: tuple[int, int], name: str, points: list[tuple[float, float]]) -> None:
        large, small = ImageFont.load_default(24), ImageFont.load_default(19)
        left, top, right, bottom = corner[0] + 92, corner[1] + 44, corner[0] + 2 * self.WIDTH - 20, corner[1] + 2 * self.HEIGHT - 34
        steps, values = np.array(points, float).T
        low, high = values.min(), values.max()
        height = np.log(values) if low > 0 and high > 10 * low else values
        height = (height - height.min()) / max(np.ptp(height), 1e-12)
        along = steps / steps.max()
        line = [(left + x * (right - left), bottom - y * (bottom - top)) for x, y in zip(along, height, strict=True)]
        pen.line([(left, top), (left, bottom), (right, bottom)], fill="#b8bfc4", width=2)
        pen.text((left, top - 8), name, INK, large, "ls")
        pen.text((right, top - 8), f"{values[-1]:.4g}", ACCENT, large, "rs")
        pen.text((left - 8, top), f"{high:.4g}", INK, small, "rm")
        pen.text((left - 8, bottom), f"{low:.4g}", INK, small, "rm")
        pen.text((right, bottom + 6), f"step {steps[-1]:.0f}", INK, small, "rt")
        pen.line(line, fill=ACCENT, width=4, joint="curve")
        x, y = line[-1]
        pen.ellipse([x - 6, y - 6, x + 6, y + 6], fill=ACCENT)
