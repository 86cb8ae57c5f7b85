"""Moving pictures, written as GIF or MP4."""
from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from tqdm.auto import tqdm

from facelab.core import PictureError
from facelab.show.pictures import to_pixels

MADE = "made with facelab"
"""What the metadata of every film says: nobody shall take it for a recording."""


def film(frames: Tensor | NDArray, path: str | Path, rate: float = 25.0, progress: bool = True) -> Path:
    """Writes K pictures as a moving one, whole or not at all; its metadata says :data:`MADE`.

    Args:
        frames: (K,3,H,W) in [-1, 1] or uint8 (K,H,W,3). path: ``….gif`` or ``….mp4``; its folder is made.
        rate: frames a second; a GIF counts in hundredths of a second. progress: show a bar.

    Returns: the path. Raises: PictureError for another ending, no frames, or an MP4 of odd width or height; ShapeError for other arrays.
    """
    path, pixels = Path(path), to_pixels(frames)
    if pixels.ndim != 4 or not len(pixels):
        raise PictureError(f"a film needs at least one frame (K, 3, H, W), got {tuple(np.shape(frames))}")
    if path.suffix.lower() not in (".gif", ".mp4"):
        raise PictureError(f"{path.name}: films are written as .gif or .mp4")
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.stem}.part{path.suffix.lower()}")
    try:
        (_gif if path.suffix.lower() == ".gif" else _mp4)(pixels, part, rate, tqdm(total=len(pixels), unit="frame", disable=not progress))
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return path


def _gif(pixels: NDArray, path: Path, rate: float, bar: tqdm) -> None:
    def pictures():
        for frame in pixels:
            bar.update()
            yield Image.fromarray(frame).quantize(256, dither=Image.Dither.FLOYDSTEINBERG)

    with bar:
        first, *rest = pictures()
        first.save(path, save_all=True, append_images=rest, duration=round(1000 / rate), loop=0, comment=MADE.encode())


def _mp4(pixels: NDArray, path: Path, rate: float, bar: tqdm) -> None:
    import av

    height, width = pixels.shape[1:3]
    if height % 2 or width % 2:
        raise PictureError(f"an MP4's sides must be even, got {width}x{height}: write a GIF, or crop a pixel")
    codec = "libx264" if "libx264" in av.codecs_available else "mpeg4"  # players open the first everywhere
    with bar, av.open(str(path), "w") as out:
        out.metadata["comment"] = MADE
        stream = out.add_stream(codec, rate=Fraction(rate).limit_denominator(1000))
        stream.width, stream.height, stream.pix_fmt, stream.bit_rate = width, height, "yuv420p", 4_000_000
        for frame in pixels:
            for packet in stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")):
                out.mux(packet)
            bar.update()
        for packet in stream.encode():
            out.mux(packet)
