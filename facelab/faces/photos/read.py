"""Picture and video files, read safely: only formats that start no other program, none before its size is known."""
from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from facelab.core import FacelabError, PictureError

MAX_MEGAPIXELS = 64  # a picture larger than this is refused before it is decoded
PICTURE_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM")  # no format that starts another program
VIDEO_SUFFIXES = {".avi", ".flv", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".ts", ".webm", ".wmv"}
VIDEO_FORMATS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,flv,asf,mpeg,mpegts,mpegvideo"  # no playlist that names other files


def read_picture(path: str | Path | BinaryIO) -> NDArray:
    """A picture file as (H, W, 3) uint8 RGB, upright by its EXIF orientation; of an animation, the first frame. ``path``: or its open file.

    16 bits are reduced to 8, transparency is laid over white, and colour profiles are not applied.

    Raises:
        PictureError: not a picture in a format that we read, damaged, or larger than ``MAX_MEGAPIXELS`` (found before it is decoded).
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about palettes, metadata and sizes: what matters is checked here
            with Image.open(path, formats=PICTURE_FORMATS) as image:
                _check_size(*image.size)
                return _rgb(ImageOps.exif_transpose(image))
    except Image.UnidentifiedImageError as error:
        raise PictureError(f"not a picture in a format that facelab reads ({', '.join(PICTURE_FORMATS)})") from error
    except Image.DecompressionBombError as error:
        raise PictureError(f"more than the {MAX_MEGAPIXELS} megapixels that are read safely; reduce it first") from error
    except FacelabError:
        raise
    except Exception as error:  # damaged files raise nearly anything: OSError, SyntaxError, struct.error …
        raise PictureError(f"cannot be read: {type(error).__name__}: {error}") from error


def _check_size(width: int, height: int) -> None:
    if width * height > MAX_MEGAPIXELS * 1e6:
        raise PictureError(f"{width}x{height} pixels are more than the {MAX_MEGAPIXELS} megapixels that are read safely; reduce it first")


def _rgb(image: Image.Image) -> NDArray:
    if image.mode == "F" or image.mode.startswith("I"):
        grey = np.asarray(image).astype(np.float32)
        if not np.isfinite(grey).all() or grey.min() < 0:
            raise PictureError("its grey levels are negative or not finite")
        top = 65535 if image.mode != "F" and (image.mode != "I" or grey.max() > 255) else 255 if grey.max() > 1 else 1
        if grey.max() > top:
            raise PictureError(f"its grey levels reach {grey.max():g}, and what is white is not known")
        return np.repeat((grey * (255 / top)).round().astype(np.uint8)[..., None], 3, axis=2)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return np.array(image.convert("RGB"))


def _video(path: str | Path) -> Any:
    import av

    return av.open(str(path), options={"format_whitelist": VIDEO_FORMATS, "protocol_whitelist": "file"})


def frame_rate(path: str | Path) -> float:
    """Frames a second that a video says it has, 25 if it does not. Raises PictureError for a file that is none."""
    import av

    try:
        with _video(path) as video:
            return float(video.streams.video[0].average_rate or 25)
    except (av.FFmpegError, ValueError, OSError, IndexError) as error:
        raise PictureError(f"{path} cannot be read as a video: {error}") from error


def comment_of(path: str | Path) -> str:
    """What a picture or video file says of itself, in the comment of its metadata; "" where there is none.

    It is a PNG's text "Comment", the comment segment of a JPEG, a GIF's comment, the tag "comment" of a video.
    Raises PictureError for a file that is neither, or damaged.
    """
    if Path(path).suffix.lower() in VIDEO_SUFFIXES:
        import av

        try:
            with _video(path) as video:
                return video.metadata.get("comment", "")
        except (av.FFmpegError, ValueError, OSError) as error:
            raise PictureError(f"{path} cannot be read as a video: {error}") from error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(path, formats=PICTURE_FORMATS) as image:
                said = image.info.get("comment") or image.info.get("Comment") or ""
    except Exception as error:  # as in read_picture
        raise PictureError(f"{path} cannot be read as a picture: {error}") from error
    return said.decode("utf-8", "replace") if isinstance(said, bytes) else str(said)


def frames(path: Path, every: int) -> Iterator[tuple[str, NDArray]]:
    """("frame number", picture) of a video, or ("", picture) of a picture file."""
    if path.suffix.lower() not in VIDEO_SUFFIXES:
        yield "", read_picture(path)
        return
    import av

    count = 0
    try:
        with _video(path) as video:
            if not video.streams.video:
                raise PictureError("has no pictures in it")
            for count, frame in enumerate(video.decode(video=0), start=1):
                _check_size(frame.width, frame.height)
                if (count - 1) % every == 0:
                    yield str(count - 1), frame.to_ndarray(format="rgb24")
    except (av.FFmpegError, ValueError, OSError) as error:
        raise PictureError(f"cannot be read as a video after frame {count}: {error}") from error
    if count == 0:
        raise PictureError("has no pictures in it")
