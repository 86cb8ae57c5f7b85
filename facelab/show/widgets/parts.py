"""What every widget is made of."""
from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import ipywidgets as widgets
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from facelab.core import FacelabError, ShapeError
from facelab.show.pictures import to_pixels


def jpeg(pixels: NDArray) -> bytes:
    """uint8 (H,W,3) as the bytes of a JPEG."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def string(name: str, low: float, high: float, step: float, value: float = 0.0) -> widgets.FloatSlider:
    """A slider with its name beside it."""
    return widgets.FloatSlider(
        value=value, min=low, max=high, step=step, description=name, readout_format=".0f" if step >= 1 else ".2f",
        style={"description_width": "8.5em"}, layout=widgets.Layout(width="97%"),
    )  # fmt: skip


def check_sliders(amounts: Mapping[str, float], sliders: Mapping[str, widgets.Widget]) -> None:
    """ShapeError for an amount that has no slider."""
    unknown = amounts.keys() - sliders.keys()
    if unknown:
        raise ShapeError(f"no slider called {', '.join(sorted(unknown))}; there are {', '.join(sliders)}")


def tell_written(said: widgets.Label, write: Callable[[], Path]) -> None:
    """Says which file was written, or why none was."""
    try:
        said.value = f"written: {write()}"
    except (FacelabError, OSError) as error:  # a folder that may not be written to, a full disk
        said.value = str(error)


def rows_of_three(strings: Iterable[widgets.Widget]) -> widgets.GridBox:
    """Many sliders, three beside one another."""
    return widgets.GridBox([*strings], layout=widgets.Layout(grid_template_columns="repeat(3, 33%)", width="100%", overflow="hidden"))


def resize(pixels: NDArray, side: int) -> NDArray:
    """uint8 (h,w,3) -> (side,side,3)."""
    return np.asarray(Image.fromarray(pixels).resize((side, side), Image.Resampling.BICUBIC))


def side_by_side(pictures: Iterable[Tensor | NDArray], side: int) -> NDArray:
    """Pictures as ``to_pixels`` takes them -> uint8 (side, P x side, 3)."""
    return np.concatenate([resize(to_pixels(picture), side) for picture in pictures], axis=1)
