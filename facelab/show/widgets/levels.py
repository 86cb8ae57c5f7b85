"""Grey levels of pictures, and of what was done to them."""
from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import ipywidgets as widgets
import numpy as np
import torch
from matplotlib.colors import to_rgb
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from skimage.measure import shannon_entropy
from torch import Tensor

from facelab.core import ShapeError
from facelab.show.pictures import ACCENT, INK, to_pixels
from facelab.show.widgets.parts import jpeg, resize

BINS = 64  # of four grey levels each
LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601


def grey(pictures: Tensor | NDArray) -> NDArray:
    """Pictures (…,3,H,W) in [-1, 1] as grey levels, uint8 (…,H,W)."""
    return np.rint(to_pixels(pictures) @ LUMA).astype(np.uint8)


def shares(levels: NDArray) -> NDArray:
    """(64,) share of the pixels in each of 64 bins of grey levels, uint8."""
    return np.bincount(levels.ravel() // (256 // BINS), minlength=BINS) / levels.size


def chart(first: NDArray, chosen: NDArray, high: int, words: str) -> NDArray:
    """uint8 (high, 2 high, 3): the histogram ``chosen``, filled, with ``first`` as a line over it."""
    twice = 2 * high  # drawn at twice the size, then reduced
    canvas = Image.new("RGB", (2 * twice, twice), "white")
    pen = ImageDraw.Draw(canvas)
    left, base, step = 40, twice - 40, (2 * twice - 80) / BINS
    scale = (base - 60) / max(first.max(), chosen.max())
    fill = tuple(int(255 * (0.45 + 0.55 * c)) for c in to_rgb(ACCENT))
    for i, share in enumerate(chosen):
        pen.rectangle([left + i * step, base - share * scale, left + (i + 1) * step, base], fill=fill)
    corners = [(left + (i + side) * step, base - share * scale) for i, share in enumerate(first) for side in (0, 1)]
    pen.line(corners, fill=INK, width=3)
    pen.line([(left, base), (2 * twice - 40, base)], fill=INK, width=3)
    pen.text((left, 8), words, fill=INK, font=ImageFont.load_default(30))
    return np.asarray(canvas.resize((2 * high, high), Image.Resampling.LANCZOS))


class HistogramExplorer:
    """Pictures and versions of them: choose one to see it in grey, its histogram over that of the first version, and its entropy in bits.

    Args:
        versions: name -> (N,3,H,W) in [-1, 1]; the same N pictures in each, of any size.

    Attributes:
        picture: slider; version: a button each; view: what a notebook displays, its CSS class is ``facelab-histograms``.
    """

    HEIGHT = 224

    def __init__(self, versions: Mapping[str, Tensor]):
        if len({len(pictures) for pictures in versions.values()}) != 1:
            raise ShapeError(f"every version needs the same pictures, got {({k: len(v) for k, v in versions.items()})}")
        self._grey = {name: grey(p) for name, p in versions.items()}
        self.bits = {name: torch.tensor([shannon_entropy(picture) for picture in those]) for name, those in self._grey.items()}
        self.picture = widgets.IntSlider(max=len(next(iter(self.bits.values()))) - 1, description="picture")
        self.version = widgets.ToggleButtons(options=list(versions), style={"button_width": "auto"})
        self._image = widgets.Image(format="jpeg", height=self.HEIGHT)
        self.view = widgets.VBox([self.version, self._image, self.picture])
        self.view.add_class("facelab-histograms")
        for control in (self.picture, self.version):
            control.observe(self._redraw, "value")
        self._redraw()

    def draw(self, picture: int, version: str) -> NDArray:
        """uint8 (224, 672, 3): the picture in grey and its histogram, filled, with the first version's as a line.

        Raises ShapeError for a version that is not there.
        """
        if version not in self._grey:
            raise ShapeError(f"no version called {version}; there are {', '.join(self._grey)}")
        first, chosen = (shares(self._grey[name][picture]) for name in (next(iter(self._grey)), version))
        face = np.repeat(self._grey[version][picture][..., None], 3, axis=2)
        drawn = chart(first, chosen, self.HEIGHT, f"{version}: {self.bits[version][picture]:.3f} bits")
        return np.concatenate([resize(face, self.HEIGHT), drawn], axis=1)

    def _redraw(self, change: Any = None) -> None:
        self._image.value = jpeg(self.draw(self.picture.value, self.version.value))
