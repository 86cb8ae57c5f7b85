"""Pictures of faces and of numbers about faces; every function returns pixels or a matplotlib figure and keeps no state."""
from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
import torch
from matplotlib.axes import Axes
from matplotlib.colors import hsv_to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray
from torch import Tensor

import facelab
from facelab.core import PROFILES, ShapeError
from facelab.faces.world.vertices import vertex_normals
from facelab.geometry.morphable import EYE, MOUTH, TEETH, MorphableModel
from facelab.geometry.raster import rasterize

INK, ACCENT, LINE = "#1d2327", "#0b6a8f", (64, 224, 255)  # text; what matters; boundary lines laid over a face, RGB
CLUSTERS = ((31, 119, 180), (255, 127, 14), (44, 160, 44), (214, 39, 40), (148, 103, 189), (140, 86, 75), (227, 119, 194), (110, 110, 110))
"""Colours of clusters, RGB, the same in figures and widgets."""


def begin(profile: str, seed: int) -> str:
    """The first line of every notebook: inline figures become small JPEGs in one style; returns the banner with device and versions.

    Raises ShapeError for a profile that is none of ``facelab.core.PROFILES``.
    """
    if profile not in PROFILES:
        raise ShapeError(f"no profile called {profile!r}; there are {', '.join(PROFILES)}")
    from matplotlib_inline.backend_inline import set_matplotlib_formats

    set_matplotlib_formats("jpeg", pil_kwargs={"quality": 73}, dpi=74)
    sns.set_theme(
        context="notebook", style="ticks", font_scale=0.9, palette=[tuple(c / 255 for c in colour) for colour in CLUSTERS],
        rc={"axes.spines.top": False, "axes.spines.right": False, "text.color": INK, "axes.labelcolor": INK, "axes.titlesize": 11},
    )  # fmt: skip
    if torch.cuda.is_available():
        device = f"cuda ({torch.cuda.get_device_name()})"
    else:
        device = "mps" if torch.backends.mps.is_available() else f"cpu, {torch.get_num_threads()} threads"
    return f"facelab {facelab.__version__} · torch {torch.__version__.split('+')[0]} · {device} · profile {profile} · seed {seed}"


def to_pixels(image: Tensor | NDArray) -> NDArray:
    """Pictures as uint8 RGB: (…,3,H,W) in [-1, 1] or (…,1,H,W) in [0, 1] -> (…,H,W,3); uint8 (…,H,W,3) is returned as it is.

    Raises ShapeError for any other shape.
    """
    array = image.detach().cpu().numpy() if isinstance(image, Tensor) else np.asarray(image)
    if array.dtype == np.uint8 and array.ndim >= 3 and array.shape[-1] == 3:
        return array
    if array.ndim < 3 or array.shape[-3] not in (1, 3):
        raise ShapeError(f"a picture must be (…, 3, H, W), (…, 1, H, W), or uint8 (…, H, W, 3); got {array.shape} {array.dtype}")
    array = np.moveaxis(array, -3, -1)
    array = (array + 1) / 2 if array.shape[-1] == 3 else np.repeat(array, 3, axis=-1)
    return (np.clip(np.nan_to_num(array), 0, 1) * 255).round().astype(np.uint8)


def tint(image: Tensor | NDArray, boundary: Tensor | NDArray, colour: tuple[int, int, int] = LINE) -> NDArray:
    """A boundary map (…,1,H,W) in [0, 1] laid over a picture of the same size, as uint8 (…,H,W,3)."""
    pixels, amount = to_pixels(image).astype(float), to_pixels(boundary)[..., :1] / 255.0
    return (pixels * (1 - amount) + np.array(colour, float) * amount).round().astype(np.uint8)


def clay(
    model: MorphableModel, vertices: Tensor, size: int = 160, *, width: float = 27.0, origin: tuple[float, float] = (0.5, 0.5)
) -> NDArray:
    """Heads without paint: vertices (N,V,3) cm, posed or not, seen along z -> uint8 (N,size,size,3).

    ``width`` cm fill the picture; the vertices' origin lies at ``origin``, (x, y) over the picture's side.
    """
    scale = 2 * size / width  # drawn at twice the size, then averaged: smooth edges
    normal, triangles = np.empty(vertices.shape, np.float32), np.asarray(model.triangles, np.int32)
    for shape, out in zip(vertices.float().numpy(), normal, strict=True):
        vertex_normals(np.ascontiguousarray(shape), triangles, out)
    normal = torch.from_numpy(normal)
    lamps = torch.nn.functional.normalize(torch.tensor([[-0.5, 0.6, 0.7], [0.8, 0.1, 0.5], [0.0, 0.2, 1.0]]), dim=1)
    light = 0.20 + (normal @ lamps.T).clamp(min=0) @ torch.tensor([0.50, 0.16, 0.26])  # N,V
    paint = torch.tensor([[0.86, 0.80, 0.74]]).repeat(len(model.mean), 1)
    for part, colour in ((EYE, (0.97, 0.97, 0.97)), (TEETH, (0.95, 0.94, 0.90)), (MOUTH, (0.42, 0.22, 0.20))):
        paint[model.parts == part] = torch.tensor(colour)
    middle = 2 * size * torch.tensor(origin) - 0.5
    points = torch.cat([middle + scale * vertices[..., :2] * torch.tensor([1.0, -1.0]), scale * vertices[..., 2:]], dim=-1)
    maps, _, covered = rasterize(points, model.triangles, light[..., None] * paint, 2 * size)
    maps = torch.where(covered[:, None], maps.clamp(0, 1), 1.0)
    maps = torch.nn.functional.avg_pool2d(maps, 2)
    return to_pixels(maps * 2 - 1)


def flow_colours(displacement: Tensor | NDArray, longest: float | None = None) -> NDArray:
    """Displacements (2,H,W) in pixels as uint8 (H,W,3): the hue is the direction, the colour's strength the length; white is rest.

    ``longest``: the length in pixels that is drawn at full strength; None is the longest there.
    """
    x, y = np.asarray(displacement, float)
    length = np.hypot(x, y)
    hue = (np.arctan2(y, x) / (2 * np.pi)) % 1
    strength = np.clip(length / max(longest or length.max(), 1e-9), 0, 1)
    return (hsv_to_rgb(np.stack([hue, strength, np.ones_like(hue)], axis=-1)) * 255).round().astype(np.uint8)


def house(rooms: Sequence[tuple[str, Sequence[str]]]) -> Figure:
    """Rooms in a row, data flowing from left to right: (name, what is in it) each."""
    figure, axis = plt.subplots(figsize=(11.5, 2.9))
    tallest = max(len(contents) for _, contents in rooms)
    for i, (name, contents) in enumerate(rooms):
        style = {"facecolor": "#e3eff4", "edgecolor": ACCENT, "linewidth": 1.3}
        axis.add_patch(FancyBboxPatch((i, 0), 0.78, 1, boxstyle="round,pad=0,rounding_size=0.06", **style))
        axis.text(i + 0.39, 0.9, name, ha="center", va="center", fontsize=10.5, weight="bold", color=INK)
        for line, item in enumerate(contents):
            axis.text(i + 0.39, 0.76 - 0.72 * line / max(tallest, 6), item, ha="center", va="center", fontsize=8, color=INK)
        if i:
            axis.annotate("", (i - 0.01, 0.5), (i - 0.21, 0.5), arrowprops={"arrowstyle": "-|>", "color": INK, "linewidth": 1.2})
    axis.set(xlim=(-0.05, len(rooms) - 0.17), ylim=(-0.04, 1.04))
    axis.set_axis_off()
    figure.tight_layout(pad=0.2)
    return figure


def sheet(
    pictures: Sequence[Tensor | NDArray] | Tensor | NDArray,
    columns: int,
    *,
    titles: Sequence[str] = (),
    rows: Sequence[str] = (),
    captions: Sequence[str] = (),
    width: float = 10.0,
) -> Figure:
    """Pictures of one size in a grid, row by row; ``titles`` over the columns, ``rows`` beside the rows, ``captions`` under each picture.

    ``width`` is the figure's, in inches. Raises ShapeError when there is nothing to show.
    """
    cells = [to_pixels(p) for p in pictures]
    if not cells or columns < 1:
        raise ShapeError("a sheet needs at least one picture and one column")
    height, count = -(-len(cells) // columns), columns
    step = width / count
    gap = 0.24 if captions else 0.0
    side, top = (1.0 if rows else 0.0), (0.3 if titles else 0.0)
    tall = step * cells[0].shape[0] / cells[0].shape[1]
    figure, axes = plt.subplots(height, count, figsize=(width + side, height * (tall + gap) + top), squeeze=False)
    whole = height * (tall + gap) + top
    figure.subplots_adjust(
        left=side / (width + side), right=1, bottom=gap / whole, top=1 - top / whole, wspace=0.025, hspace=0.025 + gap / tall
    )
    for i, axis in enumerate(axes.flat):
        axis.set_axis_off()
        if i < len(cells):
            axis.imshow(cells[i], interpolation="antialiased")
        if i < len(captions):
            axis.text(0.5, -0.03, captions[i], transform=axis.transAxes, ha="center", va="top", fontsize=9)
        if i < len(titles):
            axis.set_title(titles[i], fontsize=10, pad=4)
        if i % count == 0 and i // count < len(rows):
            axis.text(-0.06, 0.5, rows[i // count], transform=axis.transAxes, ha="right", va="center", fontsize=10)
    return figure


def overlay(axis: Axes, image: Tensor | NDArray, landmarks: Tensor | NDArray | None = None, curves: Mapping[str, Tensor] | None = None,
            *, names: bool = False) -> None:  # fmt: skip
    """A picture on an axis, with landmarks (68,2) as dots (numbered if ``names``) and ``boundary_curves`` (1,S,2) as lines over it."""
    axis.imshow(to_pixels(image), interpolation="nearest")
    for line in (curves or {}).values():
        axis.plot(*np.asarray(line).reshape(-1, 2).T, color=tuple(c / 255 for c in LINE), linewidth=1.6)
    if landmarks is not None:
        points = np.asarray(landmarks).reshape(-1, 2)
        axis.scatter(*points.T, s=9, color="#ffd400", edgecolor="black", linewidth=0.4, zorder=3)
        for i in range(len(points)) if names else ():
            axis.annotate(str(i), points[i], xytext=(2, 2), textcoords="offset points", fontsize=6, color="white")
    axis.set_axis_off()


def histograms(pictures: Mapping[str, NDArray], captions: Mapping[str, str] | None = None, *, columns: int = 3) -> Figure:
    """The 8-bit grey levels of pictures, name -> (H,W) uint8, each beside the picture itself."""
    names = list(pictures)
    height = -(-len(names) // columns)
    figure, axes = plt.subplots(height, 2 * columns, figsize=(3.9 * columns, 1.75 * height), squeeze=False, width_ratios=[1, 1.5] * columns)
    for axis in axes.flat:
        axis.set_axis_off()
    for i, name in enumerate(names):
        left, right = axes[i // columns, 2 * (i % columns)], axes[i // columns, 2 * (i % columns) + 1]
        left.imshow(pictures[name], cmap="gray", vmin=0, vmax=255, interpolation="antialiased")
        left.set_title(name, fontsize=9.5)
        right.set_axis_on()
        levels, bins = pictures[name].ravel(), np.arange(0, 257, 4)
        sns.histplot(x=levels, bins=bins, stat="probability", element="step", color=ACCENT, linewidth=0.8, ax=right)
        right.set(xlim=(0, 255), yticks=[], xticks=[0, 128, 255], ylabel="", xlabel="")
        right.spines["left"].set_visible(False)
        right.set_title((captions or {}).get(name, ""), fontsize=9.5)
    figure.tight_layout(pad=0.4)
    return figure


def projection(points: NDArray, labels: NDArray, extra: Mapping[str, NDArray] | None = None) -> Figure:
    """Points (N,2) or (N,3), coloured by label: in their first two dimensions and, where there are three, in all of them.

    ``extra``: name -> (2,) or (3,), marked as stars. Raises ShapeError for other shapes.
    """
    points, labels = np.asarray(points), np.asarray(labels)
    if points.ndim != 2 or points.shape[1] not in (2, 3) or labels.shape != points.shape[:1]:
        raise ShapeError(f"points must be (N, 2) or (N, 3) with N labels, got {points.shape} and {labels.shape}")
    deep = points.shape[1] == 3
    figure = plt.figure(figsize=(11, 4.6) if deep else (6, 4))
    axes = [figure.add_subplot(1, 1 + deep, 1)]
    if deep:
        axes.append(figure.add_subplot(1, 2, 2, projection="3d", computed_zorder=False))
    colours = np.array(CLUSTERS)[labels % len(CLUSTERS)] / 255
    for axis, count, kind in zip(axes, (2, 3), ({}, {"depthshade": False}), strict=False):
        axis.scatter(*points[:, :count].T, s=9, c=colours, linewidth=0, **kind)
        for place in (extra or {}).values():
            axis.scatter(*place[:count], marker="*", s=230, color="white", edgecolor="black", zorder=5, **kind)
        for which, name in zip((axis.xaxis, axis.yaxis, getattr(axis, "zaxis", None)), ("first", "second", "third"), strict=True):
            if which is not None:
                which.set_major_locator(MaxNLocator(5))
                which.set_label_text(f"{name} direction" if count == 2 else name)
    for name, place in (extra or {}).items():
        axes[0].annotate(name, place[:2], xytext=(9, -14), textcoords="offset points", fontsize=10, weight="bold", zorder=6)
    disc = {"boxstyle": "circle,pad=0.2", "fc": "white", "ec": INK}
    for label in np.unique(labels):
        axes[0].text(*points[labels == label, :2].mean(0), str(label), ha="center", va="center", fontsize=11, weight="bold", bbox=disc)
    if deep:
        axes[1].view_init(elev=22, azim=-62)
    figure.tight_layout()
    return figure
