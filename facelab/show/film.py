"""Pictures and films, written as files that say of themselves that they were made."""
from __future__ import annotations

import contextlib
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin
from torch import Tensor
from tqdm.auto import tqdm

from facelab.core import PictureError
from facelab.faces.photos import comment_of
from facelab.show.pictures import to_pixels

MADE = "made with facelab"
"""What the metadata of every picture and film says, where ``faces.photos.comment_of`` reads it: nobody shall take it for a recording."""


def save_picture(image: Tensor | NDArray, path: str | Path) -> Path:
    """Writes one picture, whole or not at all; its metadata says :data:`MADE` and nothing else: not where or when a photograph was taken.

    Args: ``image`` (3,H,W) in [-1, 1] or uint8 (H,W,3); ``path``: ``….png``, without loss, or ``….jpg``; its folder is made.

    Returns: the path. Raises: PictureError for another ending, or a file that is there and was not made with facelab; ShapeError for
    other arrays.
    """
    path, pixels = Path(path), to_pixels(image)
    if pixels.ndim != 3:
        raise PictureError(f"one picture (3, H, W) is saved at a time, got {tuple(np.shape(image))}")
    ending = path.suffix.lower()
    if ending == ".png":
        text = PngImagePlugin.PngInfo()
        text.add_text("Comment", MADE)
        options = {"format": "PNG", "pnginfo": text}
    elif ending in (".jpg", ".jpeg"):
        options = {"format": "JPEG", "quality": 95, "comment": MADE.encode()}
    else:
        raise PictureError(f"{path.name}: pictures are written as .png or .jpg")
    with _written(path) as part:
        Image.fromarray(pixels).save(part, **options)
    return path


@contextlib.contextmanager
def _written(path: Path) -> Iterator[Path]:
    """A name beside ``path`` to write under, which becomes ``path`` when all is written; what facelab did not make is never replaced."""
    if path.exists():
        try:
            ours = comment_of(path) == MADE
        except PictureError:
            ours = False
        if not ours:
            raise PictureError(f"{path.name} is there already and was not made with facelab: it is left as it is; give another name")
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.stem}.part{path.suffix.lower()}")
    try:
        yield part
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def film(frames: Tensor | NDArray, path: str | Path, rate: float = 25.0, progress: bool = True) -> Path:
    """Writes K pictures as a moving one, whole or not at all; its metadata says :data:`MADE`.

    Args:
        frames: (K,3,H,W) in [-1, 1] or uint8 (K,H,W,3). path: ``….gif`` or ``….mp4``; its folder is made.
        rate: frames a second; a GIF counts in hundredths of a second. progress: show a bar.

    Returns: the path. Raises: PictureError for another ending, no frames, an MP4 of odd width or height, or a file that is there and was
    not made with facelab; ShapeError for other arrays.
    """
    path, pixels = Path(path), to_pixels(frames)
    if pixels.ndim != 4 or not len(pixels):
        raise PictureError(f"a film needs at least one frame (K, 3, H, W), got {tuple(np.shape(frames))}")
    if path.suffix.lower() not in (".gif", ".mp4"):
        raise PictureError(f"{path.name}: films are written as .gif or .mp4")
    with _written(path) as part:
        (_gif if path.suffix.lower() == ".gif" else _mp4)(pixels, part, rate, tqdm(total=len(pixels), unit="frame", disable=not progress))
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
