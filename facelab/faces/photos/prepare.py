"""Pictures and videos, prepared once into a folder of aligned faces."""
from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from numpy.typing import NDArray
from PIL import Image
from tqdm.auto import tqdm

from facelab.core import AssetError, FacelabError, LandmarkError, PictureError, ShapeError
from facelab.faces.batch import EXPRESSIONS
from facelab.faces.landmarks import Detector, find_face, open_detector
from facelab.faces.photos.align import align_face, align_points
from facelab.faces.photos.read import frames
from facelab.geometry.boundary import boundary_map

COLUMNS = ("file_name", "boundary_file_name", "source", "frame", "identity", "expression", "landmarks", "zoom", "inside", "score",
           "detector")  # fmt: skip
REJECT_COLUMNS = ("file", "frame", "reason")

EXPRESSION_WORDS = {
    "angry": "anger", "disgusted": "disgust", "afraid": "fear", "fearful": "fear", "happiness": "smile", "happy": "smile",
    "joy": "smile", "sadness": "sad", "screaming": "scream", "smiling": "smile", "squinting": "squint", "surprised": "surprise",
}  # fmt: skip


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
        why = f", {_count(self.rejects, 'reject')} (rejects.csv says why)" if self.rejects else ""
        pictures = f"{_count(self.pictures, 'picture')} in {self.seconds:.0f} s"
        return f"{_count(self.faces, 'face')}{why} in {self.folder}: {pictures}, landmarks by {self.detector}"


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"


class Shot(NamedTuple):
    """One picture, or video, of a data set, and what the set says of it."""

    path: Path
    key: str  # its name within the set, the column ``source``
    identity: str
    expression: str = ""  # of ``facelab.faces.EXPRESSIONS``, or empty
    landmarks: NDArray | Mapping[str, NDArray] | None = None
    """(L, 2) its own, L of ``facelab.geometry.boundary.STRUCTURES``, or those of each of a video's frames; None: a face is searched."""
    trouble: str = ""  # what is wrong with it: it is then rejected unread
    notes: dict[str, str] = {}  # further columns, the same for all shots of a set, such as split or yaw
    box: tuple[float, float, float, float] | None = None  # left, top, right, bottom of the face meant, where the set tells it


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
    try:
        pattern = re.compile(identity) if identity is not None else None
    except re.error as error:
        raise ShapeError(f"identity {identity!r} is no regular expression: {error}") from error
    if pattern and not pattern.groups:
        raise ShapeError(f"identity {identity!r} needs a group, such as '(\\d+)_', that says who is shown")
    if source.resolve() == out.resolve():
        raise AssetError(f"{out} cannot be both the source and the prepared folder")
    shots = (
        Shot(path, key, _identity(key, pattern), expression_in(key), trouble=trouble or _unnamed(key, pattern))
        for path, key, trouble in _files(source, skip=out.resolve())
    )
    settings = {"source": str(source.resolve()), "size": size, "identity": identity, "every": every}
    return prepare_shots(shots, out, settings=settings, size=size, detector=detector, every=every, progress=progress)


def prepare_shots(
    shots: Iterable[Shot],
    out: str | Path,
    *,
    settings: dict[str, Any],
    size: int = 256,
    detector: str | Detector = "auto",
    every: int = 1,
    progress: bool = True,
) -> Prepared:
    """Prepare what a data set's own script lists: ``prepare_folder`` is this for any folder, ``data_prep`` for public sets.

    Shots with landmarks of their own need no detector: 68 frame a face as found ones do, others by ``align_points``.

    Args:
        shots: what to prepare; the first one's notes name the further columns of metadata.csv.
        out, size, detector, every, progress: as ``prepare_folder``.
        settings: what was asked for; ``out`` takes only calls of the same settings.

    Raises:
        ShapeError: a size or step that cannot be used. AssetError: as ``prepare_folder``. What is wrong with a single shot never raises.
    """
    out, shots = Path(out), list(shots)
    if size < 16 or every < 1:
        raise ShapeError(f"size must be at least 16 and every at least 1, got {size} and {every}")
    searched = not shots or any(shot.landmarks is None and not shot.trouble for shot in shots)
    if searched and isinstance(detector, str):
        detector = open_detector(detector)
    _open_folder(out, settings)
    started, seen = time.perf_counter(), 0
    columns = (*COLUMNS, *(shots[0].notes if shots else ()))
    with _Table(out / "metadata.csv", columns) as faces, _Table(out / "rejects.csv", REJECT_COLUMNS) as rejects:
        done = {(row["source"], row["frame"]) for row in faces.rows} | {(row["file"], row["frame"]) for row in rejects.rows}
        if progress and searched:
            tqdm.write(f"landmarks by {detector.name} ({detector.reason})")
        bar = tqdm(shots, unit="file", disable=not progress)
        for shot in bar:
            key = shot.key
            if (key, "") in done:
                continue
            if shot.trouble:
                rejects.append({"file": key, "frame": "", "reason": shot.trouble})
                continue
            pictures = frames(shot.path, every)
            while True:
                frame = ""
                try:
                    frame, picture = next(pictures)
                    if (key, frame) in done:
                        continue
                    seen += 1
                    if shot.landmarks is None:
                        found = find_face(picture, detector, name=f"{key} frame {frame}" if frame else key, box=shot.box)
                        face, score, finder = align_face(picture, found.landmarks, size), f"{found.score:.3f}", detector.name
                    else:
                        points = shot.landmarks.get(frame) if isinstance(shot.landmarks, Mapping) else shot.landmarks
                        if points is None:
                            raise LandmarkError("the set has no landmarks for this frame")
                        face, score, finder = (align_face if len(points) == 68 else align_points)(picture, points, size), "", "annotation"
                except StopIteration:
                    break
                except Exception as error:  # whatever one file does, the others are prepared; a read that failed ends its frames
                    reason = str(error) if isinstance(error, FacelabError) else f"{type(error).__name__}: {error}"
                    rejects.append({"file": key, "frame": frame, "reason": printable(reason)[:300]})
                    continue
                name = f"{_file_stem(key)}{f'-{int(frame):06d}' if frame else ''}.png"
                _write_png(out / "faces" / name, face.picture)
                line = boundary_map(face.landmarks, size)[0, 0].mul(255).round().byte().numpy()
                _write_png(out / "boundaries" / name, line)
                faces.append({
                    "file_name": f"faces/{name}", "boundary_file_name": f"boundaries/{name}", "source": key, "frame": frame,
                    "identity": shot.identity, "expression": shot.expression,
                    "landmarks": json.dumps(face.landmarks.astype(float).round(3).tolist()),
                    "zoom": f"{face.zoom:.3f}", "inside": f"{face.inside:.3f}", "score": score, "detector": finder, **shot.notes,
                })  # fmt: skip
            bar.set_postfix(faces=len(faces), rejects=len(rejects), refresh=False)
        found_by = detector.name if searched else "the set's own annotation"
        return Prepared(out, len(faces), len(rejects), found_by, seen, time.perf_counter() - started)


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
    write_whole(file, json.dumps(settings, indent=1).encode())


def write_whole(path: Path, content: bytes) -> None:
    """A file that is either wholly there or not at all."""
    part = path.with_name(path.name + ".part")
    part.write_bytes(content)
    os.replace(part, path)


def _write_png(path: Path, pixels: NDArray) -> None:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    write_whole(path, buffer.getvalue())


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
            write_whole(path, whole)
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
        yield source, printable(source.name), ""
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
            yield path, printable(path.relative_to(source).as_posix()), trouble
    for error in unreadable:
        yield source, printable(os.path.relpath(error.filename, source) + "/"), f"cannot be listed: {error.strerror}"


def printable(text: str) -> str:
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
    return (match and match[1]) or ""


def _unnamed(key: str, pattern: re.Pattern | None) -> str:
    match = pattern and pattern.search(key)
    return f"the identity pattern {pattern.pattern!r} does not match its path" if pattern and (not match or match[1] is None) else ""


def expression_in(words: str) -> str:
    """The first of ``facelab.faces.EXPRESSIONS``, or a common word for it, in a text; else an empty string."""
    known = (EXPRESSION_WORDS.get(word, word) for word in re.findall("[a-z]+", words.lower()))
    return next((word for word in known if word in EXPRESSIONS), "")
