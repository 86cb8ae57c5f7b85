"""Photographs and videos: prepared once into a folder of aligned faces, then read as FaceBatches."""
from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import re
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor
from tqdm.auto import tqdm

from facelab.core import AssetError, FacelabError, PictureError, ShapeError
from facelab.faces.batch import EXPRESSIONS, FaceBatch
from facelab.faces.landmarks import Detector, find_face, open_detector
from facelab.geometry.boundary import boundary_map

FRAME = 30.0  # centimetres that an aligned picture spans: the whole head, hair and a margin, as in FaceWorld's pictures
ORIGIN = (0.5, 0.485)  # where the middle of the head, at the height of the eyes, lands, over the picture's side
EYES, EYES_TO_NOSE = 6.25, 4.4  # centimetres between the eyes' centres, and from between them down to the nose's base, in a mean adult

MAX_MEGAPIXELS = 64  # a picture larger than this is refused before it is decoded
PICTURE_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM")  # no format that starts another program
VIDEO_SUFFIXES = {".avi", ".flv", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".ts", ".webm", ".wmv"}
VIDEO_FORMATS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,flv,asf,mpeg,mpegts,mpegvideo"  # no playlist that names other files

COLUMNS = ("file_name", "boundary_file_name", "source", "frame", "identity", "expression", "landmarks", "zoom", "inside", "score",
           "detector")  # fmt: skip
REJECT_COLUMNS = ("file", "frame", "reason")

EXPRESSION_WORDS = {
    "angry": "anger", "disgusted": "disgust", "afraid": "fear", "fearful": "fear", "happiness": "smile", "happy": "smile",
    "joy": "smile", "sadness": "sad", "screaming": "scream", "smiling": "smile", "squinting": "squint", "surprised": "surprise",
}  # fmt: skip


# ---------------------------------------------------------------------------------------------------------------- one picture


class AlignedFace(NamedTuple):
    """A face in facelab's framing; see ``align_face``."""

    picture: NDArray  # (size, size, 3) uint8
    landmarks: NDArray  # (68, 2) float32, pixels of that picture
    zoom: float  # its pixels per pixel of the source: above 1 it shows no more detail than the source had
    inside: float  # the share of it that the source covers; the rest repeats the source's edge


def align_face(picture: NDArray, landmarks: NDArray, size: int) -> AlignedFace:
    r"""A face turned upright, scaled and cropped so that the whole head is seen, as in a made face's frontal framing.

    With e the vector between the eyes' centres and m the one from midway between them to the mouth's corners, the picture's
    horizontal is that of :math:`e + m^\perp`. One centimetre is :math:`\max(|e| / 6.25, d / 4.4)` pixels, with d the way down from the
    eyes to the nose's base: a face turned sideways shortens e, one that nods shortens d, and neither changes when it speaks or
    smiles. The side of the result is 30 cm; the jaw's ends lie symmetrically about its vertical middle, so that a head in profile
    stays in the picture, and the eyes at 0.485 of its height. The source is reduced with an antialiasing filter and then moved by
    bicubic interpolation, once.

    Args:
        picture: (H, W, 3) uint8.
        landmarks: (68, 2) pixels of that picture.
        size: side of the result in pixels.

    Raises:
        ShapeError: landmarks of no extent or outside the picture, or a size that is not positive.

    Source: the horizontal is that of FFHQ's alignment (Karras et al., CVPR 2019, appendix A); the framing is ours.
    """
    points = np.asarray(landmarks, np.float64)
    right_eye, left_eye = points[36:42].mean(0), points[42:48].mean(0)
    between = (right_eye + left_eye) / 2
    e, m = left_eye - right_eye, points[[48, 54]].mean(0) - between
    across = e + [m[1], -m[0]]
    cos, sin = across = across / max(np.hypot(*across), 1e-12)
    down = (points[31:36].mean(0) - between) @ [-sin, cos]
    unit = max(np.hypot(*e) / EYES, down / EYES_TO_NOSE)  # source pixels per centimetre
    if size < 1 or not np.isfinite(unit) or unit <= 0:
        raise ShapeError(f"a face of {unit:.3g} pixels per centimetre cannot be aligned to {size} pixels")
    zoom = size / FRAME / unit
    origin = between + across * ((points[[0, 16]].mean(0) - between) @ across)
    turn = np.array([[cos, sin], [-sin, cos]])  # source to result, both y down
    centre = np.array(ORIGIN) * size - 0.5

    height, width = picture.shape[:2]
    corners = (np.array([[0, 0], [size, 0], [0, size], [size, size]]) - 0.5 - centre) @ turn / zoom + origin
    margin = 4 / min(zoom, 1)
    low = np.clip(np.floor(corners.min(0) - margin), 0, [width - 1, height - 1]).astype(int)
    high = np.clip(np.ceil(corners.max(0) + margin) + 1, low + 1, [width, height]).astype(int)
    if ((high - low) * zoom < 1).any():
        raise ShapeError(f"the face of {unit:.3g} pixels per centimetre lies outside its {width}x{height} picture")
    patch = Image.fromarray(picture[low[1] : high[1], low[0] : high[0]])
    if zoom < 1:  # reduce first, antialiased; what is left is a turn and a shift
        patch = patch.resize(tuple(np.round((high - low) * zoom).astype(int)), Image.Resampling.LANCZOS)
    scale = np.array(patch.size) / (high - low)  # patch pixels per source pixel, (x, y)

    # result pixel q -> source p = turn^T (q - centre) / zoom + origin -> patch (p + 0.5 - low) scale - 0.5
    matrix = scale[:, None] * turn.T / zoom
    offset = (origin + 0.5 - low) * scale - 0.5 - matrix @ centre
    reach = (np.array([[0, 0], [size, 0], [0, size], [size, size]]) - 0.5) @ matrix.T + offset
    before, after = (np.ceil(np.maximum(e, 0)).astype(int) + 3 for e in (-reach.min(0), reach.max(0) - patch.size))
    padded = np.pad(np.asarray(patch, np.float32), ((before[1], after[1]), (before[0], after[0]), (0, 0)), mode="edge")
    offset = offset + before + 0.5 - matrix @ [0.5, 0.5]  # Pillow counts from the corner of a pixel
    coefficients = (*matrix[0], offset[0], *matrix[1], offset[1])
    planes = [  # in floating point: on bytes Pillow rounds down, half a grey level too dark
        Image.fromarray(padded[..., c]).transform((size, size), Image.Transform.AFFINE, coefficients, Image.Resampling.BICUBIC)
        for c in range(3)
    ]
    moved = np.stack(planes, axis=-1).round().clip(0, 255).astype(np.uint8)

    grid = np.stack(np.meshgrid(np.arange(size), np.arange(size)), axis=-1).reshape(-1, 2)
    seen = (grid - centre) @ turn / zoom + origin
    inside = ((seen >= -0.5) & (seen <= np.array([width, height]) - 0.5)).all(1).mean()
    return AlignedFace(moved, ((points - origin) @ turn.T * zoom + centre).astype(np.float32), float(zoom), float(inside))


def _to_batch(picture: NDArray) -> Tensor:
    """(H, W, 3) uint8 -> (1, 3, H, W) float32 in [-1, 1]."""
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None].float() / 127.5 - 1


def prepare_picture(picture: NDArray, size: int = 256, detector: str | Detector = "auto") -> FaceBatch:
    """One picture through the same steps as a prepared folder: find its face, align it.

    Args:
        picture: (H, W, 3) or (H, W) uint8, such as ``skimage.data.astronaut()``.
        size: side of the result in pixels.
        detector: as ``facelab.faces.landmarks.open_detector``.

    Returns:
        A batch of one that knows image and landmarks.

    Raises:
        LandmarkError: no face, or several of the same size. ShapeError: no such picture. AssetError: no detector can be had.
    """
    face = find_face(picture, detector)
    picture = np.asarray(picture)
    aligned = align_face(picture if picture.ndim == 3 else np.repeat(picture[..., None], 3, axis=2), face.landmarks, size)
    return FaceBatch(image=_to_batch(aligned.picture), landmarks=torch.from_numpy(aligned.landmarks)[None])


def read_picture(path: str | Path) -> NDArray:
    """A picture file as (H, W, 3) uint8 RGB, upright by its EXIF orientation; of an animation, the first frame.

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


def _frames(path: Path, every: int) -> Iterator[tuple[str, NDArray]]:
    """("frame number", picture) of a video, or ("", picture) of a picture file."""
    if path.suffix.lower() not in VIDEO_SUFFIXES:
        yield "", read_picture(path)
        return
    import av

    count = 0
    try:
        with av.open(str(path), options={"format_whitelist": VIDEO_FORMATS, "protocol_whitelist": "file"}) as video:
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


# ---------------------------------------------------------------------------------------------------------- preparing a folder


@dataclass(frozen=True)
class Prepared:
    """What ``prepare_folder`` did: faces and rejects in the folder by now, the detector, and the pictures and seconds of this run."""

    folder: Path
    faces: int
    rejects: int
    detector: str
    pictures: int
    seconds: float

    def __str__(self) -> str:
        why = f", {self.rejects} rejects (rejects.csv says why)" if self.rejects else ""
        return f"{self.faces} faces{why} in {self.folder}: {self.pictures} pictures in {self.seconds:.0f} s, landmarks by {self.detector}"


def prepare_folder(
    source: str | Path,
    out: str | Path,
    *,
    size: int = 256,
    detector: str | Detector = "auto",
    identity: str | None = None,
    every: int = 1,
    progress: bool = True,
) -> Prepared:
    r"""Turn a folder of pictures and videos, or one file, into a prepared folder: find, align, crop, resize, landmarks, boundary maps.

    ``out`` follows the ImageFolder convention, so that other tools read it too::

        metadata.csv     file_name, boundary_file_name, source, frame, identity, expression, landmarks (JSON [[x, y], … 68]), zoom,
                         inside, score, detector        zoom, inside: see AlignedFace
        rejects.csv      file, frame, reason
        faces/*.png      size x size RGB                boundaries/*.png    the face's boundary map, 8-bit grey
        prepared.json    the settings

    Every file under ``source`` ends in one of the two tables. Interrupted in whatever way, the same call goes on where it stopped; what
    was rejected stays so until ``rejects.csv`` is deleted. A picture's expression is the first of ``facelab.faces.EXPRESSIONS``, or a
    common word for it ("happy"), among the words of its path; else it is empty. Each frame of a video is aligned by itself.

    Args:
        source: a folder (searched through; links to folders are not followed), a picture or a video.
        out: a new folder, or the one of an interrupted call with the same settings.
        size: side of the faces in pixels.
        detector: as ``facelab.faces.landmarks.open_detector``.
        identity: a regular expression, searched in the path below ``source``; its first group is who is shown. Without one it is the
            name of the folder that the file lies in, or the file's own name where it lies directly in ``source``.
        every: of a video, take every so many frames.
        progress: show a progress bar, and which detector is used and why.

    Raises:
        PictureError: no source. AssetError: no detector can be had, or ``out`` holds something else.
        ShapeError: a size, step or pattern that cannot be used. What is wrong with a single file never raises.
    """
    source, out = Path(source), Path(out)
    if not source.exists():
        raise PictureError(f"{source} does not exist: give a folder of pictures, or a picture or video file")
    if size < 16 or every < 1:
        raise ShapeError(f"size must be at least 16 and every at least 1, got {size} and {every}")
    try:
        pattern = re.compile(identity) if identity is not None else None
    except re.error as error:
        raise ShapeError(f"identity {identity!r} is no regular expression: {error}") from error
    if pattern and not pattern.groups:
        raise ShapeError(f"identity {identity!r} needs a group, such as '(\\d+)_', that says who is shown")
    if source.resolve() == out.resolve():
        raise AssetError(f"{out} cannot be both the source and the prepared folder")

    detector = open_detector(detector) if isinstance(detector, str) else detector
    _open_folder(out, {"source": str(source.resolve()), "size": size, "identity": identity, "every": every})
    started, seen = time.perf_counter(), 0
    with _Table(out / "metadata.csv", COLUMNS) as faces, _Table(out / "rejects.csv", REJECT_COLUMNS) as rejects:
        done = {(row["source"], row["frame"]) for row in faces.rows} | {(row["file"], row["frame"]) for row in rejects.rows}
        files = list(_files(source, skip=out.resolve()))
        if progress:
            tqdm.write(f"landmarks by {detector.name} ({detector.reason})")
        bar = tqdm(files, unit="file", disable=not progress)
        for path, key, trouble in bar:
            if (key, "") in done:
                continue
            if trouble:
                rejects.append({"file": key, "frame": "", "reason": trouble})
                continue
            frames = _frames(path, every)
            while True:
                frame = ""
                try:
                    frame, picture = next(frames)
                    if (key, frame) in done:
                        continue
                    seen += 1
                    found = find_face(picture, detector, name=f"{key} frame {frame}" if frame else key)
                    who = _identity(key, pattern)
                    face = align_face(picture, found.landmarks, size)
                except StopIteration:
                    break
                except Exception as error:  # whatever one file does, the others are prepared; a read that failed ends its frames
                    reason = str(error) if isinstance(error, FacelabError) else f"{type(error).__name__}: {error}"
                    rejects.append({"file": key, "frame": frame, "reason": _printable(reason)[:300]})
                    continue
                name = f"{_file_stem(key)}{f'-{int(frame):06d}' if frame else ''}.png"
                _write_png(out / "faces" / name, face.picture)
                line = boundary_map(face.landmarks, size)[0, 0].mul(255).round().byte().numpy()
                _write_png(out / "boundaries" / name, line)
                faces.append({
                    "file_name": f"faces/{name}", "boundary_file_name": f"boundaries/{name}", "source": key, "frame": frame,
                    "identity": who, "expression": _expression(key),
                    "landmarks": json.dumps(face.landmarks.astype(float).round(3).tolist()),
                    "zoom": f"{face.zoom:.3f}", "inside": f"{face.inside:.3f}", "score": f"{found.score:.3f}", "detector": detector.name,
                })  # fmt: skip
            bar.set_postfix(faces=len(faces), rejects=len(rejects), refresh=False)
        return Prepared(out, len(faces), len(rejects), detector.name, seen, time.perf_counter() - started)


def _open_folder(out: Path, settings: dict[str, Any]) -> None:
    """A new prepared folder, or one of the same settings, without the leavings of an interrupted write."""
    file = out / "prepared.json"
    if file.exists():
        try:
            before = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise AssetError(f"{file} cannot be read ({error}); give another folder") from error
        if before != settings:
            raise AssetError(f"{out} was prepared with other settings, {before}, not {settings}; give another folder")
    elif (out / "metadata.csv").exists():
        raise AssetError(f"{out} holds a metadata.csv but was not prepared by facelab; give another folder")
    for folder in (out / "faces", out / "boundaries"):
        folder.mkdir(parents=True, exist_ok=True)
        for part in folder.glob("*.part"):
            part.unlink()
    _write(file, json.dumps(settings, indent=1).encode())


def _write(path: Path, content: bytes) -> None:
    """A file that is either wholly there or not at all."""
    part = path.with_name(path.name + ".part")
    part.write_bytes(content)
    os.replace(part, path)


def _write_png(path: Path, pixels: NDArray) -> None:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    _write(path, buffer.getvalue())


class _Table:
    """A CSV file that grows a row at a time, each in one write; a row that an interruption cut off is dropped at opening."""

    def __init__(self, path: Path, columns: Sequence[str]) -> None:
        self.path, self.columns = path, columns
        header = ",".join(columns).encode() + b"\n"
        content = path.read_bytes() if path.exists() else b""
        whole = content[: content.rfind(b"\n") + 1]
        if not whole:
            whole = header
        elif not whole.startswith(header):
            raise AssetError(f"{path} has other columns than {', '.join(columns)}; give another folder")
        if whole != content:
            _write(path, whole)
        self.rows = list(csv.DictReader(io.StringIO(whole.decode())))
        self._count = len(self.rows)

    def __len__(self) -> int:
        return self._count

    def __enter__(self) -> _Table:
        self._file = open(self.path, "ab", buffering=0)
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    def append(self, row: dict[str, str]) -> None:
        text = io.StringIO()
        csv.DictWriter(text, self.columns, lineterminator="\n").writerow(row)
        self._file.write(text.getvalue().encode())
        self._count += 1


def _files(source: Path, skip: Path) -> Iterator[tuple[Path, str, str]]:
    """(path, its name below source, what is wrong with it) of everything that is not a folder, in a fixed order."""
    if not source.is_dir():
        yield source, _printable(source.name), ""
        return
    unreadable: list[OSError] = []
    for folder, folders, names in os.walk(source, onerror=unreadable.append):
        links = [name for name in folders if os.path.islink(os.path.join(folder, name))]
        folders[:] = sorted(n for n in folders if n not in links and Path(folder, n).resolve() != skip)
        for name in sorted(names + links):
            path = Path(folder, name)
            trouble = ""
            if name in links:
                trouble = "a link to a folder is not followed; give that folder itself"
            elif not path.is_file():
                trouble = "a link that leads nowhere" if path.is_symlink() else "not a file"
            yield path, _printable(path.relative_to(source).as_posix()), trouble
    for error in unreadable:
        yield source, _printable(os.path.relpath(error.filename, source) + "/"), f"cannot be listed: {error.strerror}"


def _printable(text: str) -> str:
    """On one line whatever a file is called: control characters, broken encodings and backslashes as escapes; different names stay so."""
    return "".join(c if c.isprintable() and c != "\\" else c.encode("unicode_escape").decode() for c in text)


def _file_stem(key: str) -> str:
    """A plain file name that is unique to a source: what it is called, and eight digits of its hash."""
    plain = re.sub(r"[^A-Za-z0-9_]+", "-", key.rpartition(".")[0] or key)[-60:].strip("-")
    return f"{plain}-{hashlib.sha256(key.encode()).hexdigest()[:8]}"


def _identity(key: str, pattern: re.Pattern | None) -> str:
    if pattern is None:
        folder, _, name = key.rpartition("/")
        return folder.rpartition("/")[2] or name.rpartition(".")[0] or name
    match = pattern.search(key)
    if not match or match[1] is None:
        raise PictureError(f"the identity pattern {pattern.pattern!r} does not match its path")
    return match[1]


def _expression(key: str) -> str:
    words = (EXPRESSION_WORDS.get(word, word) for word in re.findall("[a-z]+", key.lower()))
    return next((word for word in words if word in EXPRESSIONS), "")


# ------------------------------------------------------------------------------------------------------------ a prepared folder


class Photos:
    """A prepared folder, indexed to FaceBatches: ``photos[3]`` (a batch of one), ``photos[2:8]``, ``photos[[5, 1]]``, ``photos[mask]``.

    A batch knows image and landmarks; identity, an index into ``people``; and expression, where every picture's is known.

    Args:
        folder: what ``prepare_folder`` wrote, or any ImageFolder with the columns file_name and landmarks (JSON, 68 pairs in pixels).

    Attributes:
        folder: where it is.
        rows: metadata.csv, a dictionary of strings for each face.
        people: the names of the identities, sorted.
        size: side of the pictures in pixels.
        landmarks, identity, expression: of all faces, as in FaceBatch.

    Raises:
        AssetError: metadata.csv or a picture is missing or damaged. PictureError: a picture cannot be read, or is not ``size`` square.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.rows = self._read_rows()
        self.landmarks = torch.tensor(np.stack([self._row_landmarks(line, row) for line, row in enumerate(self.rows, start=2)]))
        names = [row.get("identity") or row["file_name"] for row in self.rows]
        self.people = tuple(sorted(set(names)))
        index = {name: i for i, name in enumerate(self.people)}
        self.identity = torch.tensor([index[name] for name in names])
        labels = [row.get("expression") for row in self.rows]
        known = all(label in EXPRESSIONS for label in labels)
        self.expression = torch.tensor([EXPRESSIONS.index(label) for label in labels]) if known else None
        self.size = self._read(0, None).shape[0]

    def _read_rows(self) -> list[dict[str, str]]:
        table = self.folder / "metadata.csv"
        if not table.is_file():
            raise AssetError(f"{table} does not exist: make a prepared folder with `facelab prepare PICTURES {self.folder}`")
        try:
            with open(table, newline="", encoding="utf-8") as file:
                rows = list(csv.DictReader(file, strict=True))
        except (csv.Error, OSError, UnicodeDecodeError) as error:
            raise AssetError(f"{table} is damaged ({error}); prepare the folder again") from error
        if not rows:
            raise AssetError(f"{table} names no picture: rejects.csv beside it says why none could be used")
        missing = {"file_name", "landmarks"} - set(rows[0])
        if missing:
            raise AssetError(f"{table} has no column {', '.join(sorted(missing))}; it has {', '.join(map(str, rows[0]))}")
        seen: set[str] = set()
        for line, row in enumerate(rows, start=2):
            name = row["file_name"]
            if None in row.values() or None in row or not name:
                raise AssetError(f"{table} line {line} has too few or too many columns; run the same `facelab prepare` again to mend it")
            if Path(name).is_absolute() or ".." in Path(name).parts:
                raise AssetError(f"{table} line {line} names {name}, which lies outside the folder")
            if name in seen:
                raise AssetError(f"{table} line {line} names {name} a second time")
            if not (self.folder / name).is_file():
                raise AssetError(f"{self.folder / name} is missing, but line {line} of metadata.csv names it; delete that line")
            seen.add(name)
        return rows

    def _row_landmarks(self, line: int, row: dict[str, str]) -> NDArray:
        try:
            points = np.array(json.loads(row["landmarks"]), np.float32)
        except (ValueError, TypeError) as error:
            raise AssetError(f"{self.folder / 'metadata.csv'} line {line}: landmarks are no JSON list of numbers ({error})") from error
        if points.shape != (68, 2) or not np.isfinite(points).all():
            raise AssetError(f"{self.folder / 'metadata.csv'} line {line}: landmarks must be 68 finite pairs, got shape {points.shape}")
        return points

    def _read(self, index: int, size: int | None) -> NDArray:
        path = self.folder / self.rows[index]["file_name"]
        if not path.is_file():
            raise AssetError(f"{path} is gone; restore it, or delete its line of metadata.csv")
        try:
            picture = read_picture(path)
        except PictureError as error:
            raise PictureError(f"{path}: {error}") from error
        height, width = picture.shape[:2]
        if height != width or (size and height != size):
            raise PictureError(f"{path} is {width}x{height}, not {size or height}x{size or height} like the folder; prepare it again")
        return picture

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int | slice | list[int] | tuple[int, ...] | Tensor | NDArray) -> FaceBatch:
        chosen = torch.from_numpy(np.arange(len(self))[np.asarray(index, int) if isinstance(index, list | tuple) else index].reshape(-1))
        pictures = [_to_batch(self._read(i, self.size)) for i in chosen.tolist()]
        return FaceBatch(
            image=torch.cat(pictures) if pictures else torch.zeros(0, 3, self.size, self.size),
            landmarks=self.landmarks[chosen],
            identity=self.identity[chosen],
            expression=None if self.expression is None else self.expression[chosen],
        )

    def __repr__(self) -> str:
        return f"Photos({len(self)} faces of {len(self.people)} people, {self.size} px, {self.folder})"
