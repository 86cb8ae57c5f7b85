"""Finding faces and their 68 landmarks in pictures: face-alignment where its weights can be had, else dlib, and it says which."""
from __future__ import annotations

import contextlib
import functools
import importlib.util
import inspect
import socket
import threading
import urllib.request
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from facelab.core import AssetError, LandmarkError, ShapeError

SEARCH_SIDE = 1000  # pixels: the longest side of the picture in which faces are searched; landmarks use the full picture
CLOSE_UP_SIDE = 320  # pixels: the width of a face in the close-up in which its landmarks are found
CLEARLY_LARGER = 1.5  # a face this many times as wide as the next is the one that the picture shows
DOUBTFUL = 0.25  # what scores less than this share of the best is a pattern that looks a little like a face, and no rival to it


@dataclass(frozen=True, eq=False)
class FoundFace:
    """One face in a picture: landmarks (68, 2) float32 pixels (x, y), iBUG order; box (left, top, right, bottom); the detector's score."""

    landmarks: NDArray
    box: tuple[float, float, float, float]
    score: float

    @property
    def width(self) -> float:
        """Width of the box in pixels."""
        return self.box[2] - self.box[0]


class Detector(Protocol):
    """What finds faces: its name, why it was chosen, and a call on (H, W, 3) uint8 that gives faces and the best score seen."""

    name: str
    reason: str

    def __call__(self, picture: NDArray) -> tuple[list[FoundFace], float]: ...


def _search_copy(picture: NDArray, side: int) -> tuple[NDArray, float]:
    """The picture with its longest side reduced to ``side``, and its scale."""
    height, width = picture.shape[:2]
    scale = side / max(height, width)
    small = Image.fromarray(picture).resize((max(round(width * scale), 1), max(round(height * scale), 1)), Image.Resampling.BILINEAR)
    return np.asarray(small), scale


def _close_up(picture: NDArray, box: tuple[float, float, float, float]) -> tuple[NDArray, float, float, float]:
    """The surroundings of a box, scaled to a face ``CLOSE_UP_SIDE`` wide: (crop, scale, left, top) of the crop in the picture.

    Both landmark networks answer in whole pixels; in a close-up a whole pixel is a fine step, however small the face.
    """
    height, width = picture.shape[:2]
    reach = 0.75 * max(box[2] - box[0], box[3] - box[1])
    x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    left, top = int(np.clip(x - 1.5 * reach, 0, width - 1)), int(np.clip(y - 1.5 * reach, 0, height - 1))
    right, bottom = int(np.clip(x + 1.5 * reach + 1, left + 1, width)), int(np.clip(y + 1.5 * reach + 1, top + 1, height))
    scale = CLOSE_UP_SIDE / max(box[2] - box[0], 1.0)
    size = (max(round((right - left) * scale), 1), max(round((bottom - top) * scale), 1))
    crop = Image.fromarray(picture[top:bottom, left:right]).resize(size, Image.Resampling.BICUBIC)
    return np.asarray(crop), scale, left, top


def offline() -> tuple[ModuleType, Path]:
    """dlib and the folder of its models, which the ``[offline]`` extra brings; AssetError without it."""
    spec = importlib.util.find_spec("face_recognition_models")
    if spec is None or importlib.util.find_spec("dlib") is None:
        raise AssetError("dlib is not installed: pip install 'facelab[offline]'")
    import dlib

    return dlib, Path(spec.submodule_search_locations[0]) / "models"  # found, not imported: its import needs pkg_resources


class DlibDetector:
    """dlib's HOG detector, its CNN where HOG sees nothing, and its 68-point predictor, all from the ``[offline]`` extra.

    HOG looks at the picture at ``SEARCH_SIDE``, then at twice that (a face 40 pixels wide is found); then the CNN looks, which takes
    about two seconds on a CPU. The 68-point predictor was trained on 300-W: for non-commercial use.
    """

    name = "dlib"

    def __init__(self, reason: str = "asked for") -> None:
        self.reason = reason
        self._dlib, self._models = offline()
        self._hog = self._dlib.get_frontal_face_detector()
        self._points = self._dlib.shape_predictor(str(self._models / "shape_predictor_68_face_landmarks.dat"))

    @functools.cached_property
    def _cnn(self):
        return self._dlib.cnn_face_detection_model_v1(str(self._models / "mmod_human_face_detector.dat"))

    def _boxes(self, picture: NDArray) -> tuple[list[tuple[tuple, float]], float]:
        """[(box, score)] in the picture's pixels, and the best score of HOG, found or not."""
        best = -1.0  # what HOG is asked to report from
        longest = max(picture.shape[:2])
        for side in (min(SEARCH_SIDE, longest), 2 * min(SEARCH_SIDE, longest)):
            small, scale = _search_copy(picture, side)
            rectangles, scores, _ = self._hog.run(small, 0, best)
            best = max([best, *scores])
            found = [(r, s) for r, s in zip(rectangles, scores, strict=True) if s > 0]
            if found:
                break
        else:
            small, scale = _search_copy(picture, min(640, 2 * longest))
            # dlib's CNN writes outside its memory where a side is below 16 pixels; it sees no face in less than 40
            found = [(d.rect, d.confidence) for d in self._cnn(small, 0)] if min(small.shape[:2]) >= 40 else []
        return [(tuple(e / scale for e in (r.left(), r.top(), r.right() + 1, r.bottom() + 1)), s) for r, s in found], best

    def __call__(self, picture: NDArray) -> tuple[list[FoundFace], float]:
        faces = []
        boxes, best = self._boxes(picture)
        for box, score in boxes:
            crop, scale, left, top = _close_up(picture, box)
            corners = [round((e - o) * scale) for e, o in zip(box, (left, top, left, top), strict=True)]
            shape = self._points(crop, self._dlib.rectangle(*corners))
            points = np.array([(p.x, p.y) for p in shape.parts()], np.float64)
            faces.append(FoundFace(_to_picture(points, scale, left, top), box, float(score)))
        return faces, float(best)


def _to_picture(points: NDArray, scale: float, left: float, top: float) -> NDArray:
    """Close-up pixels to picture pixels, pixel centres at integers in both."""
    return ((points + 0.5) / scale - 0.5 + [left, top]).astype(np.float32)


class FaceAlignmentDetector:
    """The face-alignment package: its 2D FAN-4 landmarks on faces found by its S3FD, or BlazeFace where only that one's weights are here.

    Its weights are looked for in ``torch.hub``'s folder (``$TORCH_HOME/hub/checkpoints``) and else downloaded from their own site;
    a site that does not answer within seconds is an AssetError, never minutes of waiting.
    """

    name = "face-alignment"

    def __init__(self, reason: str = "asked for", device: str | None = None) -> None:
        self.reason = reason
        import face_alignment
        from face_alignment.api import models_urls

        fan = _checkpoint(models_urls["2DFAN-4"])
        detector, options = self._face_detector()
        missing = [url for url in (models_urls["2DFAN-4"], *options.pop("urls")) if not _checkpoint(url).exists()]
        for url in missing:
            if trouble := _unreachable(url):
                raise AssetError(f"face-alignment needs {_checkpoint(url).name} in {fan.parent}: it is not there, and {url} {trouble}")
        if "compile" in inspect.signature(face_alignment.FaceAlignment).parameters:
            options["compile"] = False  # compiling costs minutes, which a folder of pictures does not win back
        self.device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        try:
            with _socket_timeout(20):
                self._network = face_alignment.FaceAlignment(
                    face_alignment.LandmarksType.TWO_D, device=self.device, face_detector=detector, **options
                )
        except Exception as error:  # a truncated file, a broken download: torch and urllib raise many kinds
            raise AssetError(f"face-alignment's weights in {fan.parent} cannot be used ({error}); delete them to fetch anew") from error
        self.name = f"face-alignment ({detector})"

    @staticmethod
    def _face_detector() -> tuple[str, dict]:
        from face_alignment.detection.blazeface.blazeface_detector import models_urls as blazeface
        from face_alignment.detection.sfd.sfd_detector import models_urls as sfd

        if not _checkpoint(sfd["s3fd"]).exists():
            for model in ("blazeface_back", "blazeface"):
                urls = [blazeface[f"{model}_weights"], blazeface[f"{model}_anchors"]]
                if all(_checkpoint(url).exists() for url in urls):
                    return "blazeface", {"urls": urls, "face_detector_kwargs": {"back_model": model == "blazeface_back"}}
        return "sfd", {"urls": [sfd["s3fd"]]}

    def __call__(self, picture: NDArray) -> tuple[list[FoundFace], float]:
        small, scale = _search_copy(picture, min(SEARCH_SIDE, max(picture.shape[:2])))
        faces = []
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it warns where it finds nothing; the caller reports that
            for *corners, score in self._network.face_detector.detect_from_image(small.copy()):
                box = tuple(float(e) / scale for e in corners)
                crop, zoom, left, top = _close_up(picture, box)
                inside = [np.array([*((e - o) * zoom for e, o in zip(box, (left, top, left, top), strict=True)), score])]
                points = self._network.get_landmarks_from_image(crop, detected_faces=inside)[0]
                faces.append(FoundFace(_to_picture(points, zoom, left, top), box, float(score)))
        return faces, max((f.score for f in faces), default=0.0)


def _checkpoint(url: str) -> Path:
    """Where torch.hub keeps what it downloads from a url."""
    return Path(torch.hub.get_dir()) / "checkpoints" / Path(urllib.request.urlparse(url).path).name


def _unreachable(url: str, seconds: float = 5.0) -> str:
    """Why a url cannot be fetched, or "" where it answers; a name server that hangs is waited for no longer than an answer."""
    trouble = [f"does not answer within {seconds:g} s"]

    def ask() -> None:
        try:
            with urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=seconds):
                trouble[0] = ""
        except Exception as error:
            trouble[0] = f"cannot be reached ({error})"

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(seconds + 1)
    return trouble[0]


@contextlib.contextmanager
def _socket_timeout(seconds: float) -> Iterator[None]:
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


@functools.lru_cache(maxsize=4)
def open_detector(detector: str = "auto", device: str | None = None) -> Detector:
    """The face detector of that name, ready to call; its ``name`` and ``reason`` say which one it is and why.

    Args:
        detector: "face-alignment", "dlib", or "auto": face-alignment where its weights are here or can be fetched, else dlib.
        device: where face-alignment's networks run; the GPU by default where there is one.

    Raises:
        AssetError: its package or its weights cannot be had; the message says how to get them.
    """
    if detector == "dlib":
        return DlibDetector()
    if detector == "face-alignment":
        return FaceAlignmentDetector(device=device)
    if detector != "auto":
        raise ShapeError(f"detector must be 'auto', 'face-alignment' or 'dlib', got {detector!r}")
    try:
        return FaceAlignmentDetector("its weights are here", device)
    except (AssetError, ImportError) as first:
        try:
            return DlibDetector(str(first))
        except AssetError as second:
            raise AssetError(f"no landmark detector: {first}; and {second}") from first


def find_landmarks(picture: NDArray, detector: str | Detector = "auto") -> list[FoundFace]:
    """All faces in a picture with their 68 landmarks, the largest first.

    Args:
        picture: (H, W, 3) or (H, W) uint8.
        detector: a name for ``open_detector``, or what it returned.

    Raises:
        ShapeError: another shape or dtype. AssetError: no detector can be had.
    """
    return _everywhere(picture, _opened(detector))[0]


def find_face(
    picture: NDArray,
    detector: str | Detector = "auto",
    *,
    name: str = "the picture",
    box: tuple[float, float, float, float] | None = None,
) -> FoundFace:
    """The one face that a picture shows: its only face, or one that is clearly larger than all others (1.5 times as wide).

    Findings that score less than a quarter of the best one are left out: dlib sees a second, faint face in the astronaut's suit.

    Args:
        picture: (H, W, 3) or (H, W) uint8.
        detector: a name for ``open_detector``, or what it returned.
        name: what to call the picture in an error.
        box: where somebody saw the face that is meant: left, top, right, bottom in pixels. It is then searched in a close-up of this
            box, and is the one whose middle lies nearest to the box's and within it, whatever other faces there are.

    Raises:
        LandmarkError: no face, or several of about the same size. ShapeError: a box that is not finite or has no area.
    """
    detector = _opened(detector)
    found_by = f"detector {detector.name}"
    if box is not None:
        faces, best = _about(picture, detector, box)
        if not faces:
            where = ", ".join(f"{edge:.0f}" for edge in box)
            raise LandmarkError(f"no face found in the box {where} of {name} ({found_by}, best score {best:.2f}); check the box")
        return faces[0]
    faces, best = _everywhere(picture, detector)
    if not faces:
        raise LandmarkError(
            f"no face found in {name} ({found_by}, best score {best:.2f}); try a picture where the face is upright, lit and larger"
        )
    sure = DOUBTFUL * max(face.score for face in faces)
    faces = [face for face in faces if face.score >= sure]
    if len(faces) > 1 and faces[0].width < CLEARLY_LARGER * faces[1].width:
        alike = sum(faces[0].width < CLEARLY_LARGER * f.width for f in faces)
        raise LandmarkError(f"{alike} faces of about the same size in {name} ({found_by}); crop the picture to one of them")
    return faces[0]


def _opened(detector: str | Detector) -> Detector:
    return open_detector(detector) if isinstance(detector, str) else detector


def _checked(picture: NDArray) -> NDArray:
    """(H,W,3) uint8, in one piece; ShapeError for what is no picture."""
    picture = np.asarray(picture)
    if picture.ndim == 2:
        picture = np.repeat(picture[..., None], 3, axis=2)
    if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8 or 0 in picture.shape:
        raise ShapeError(f"a picture must be (H, W, 3) or (H, W) uint8, got {picture.shape} {picture.dtype}")
    return np.ascontiguousarray(picture)


def _everywhere(picture: NDArray, detector: Detector) -> tuple[list[FoundFace], float]:
    """All faces, the largest first, and the best score."""
    faces, best = detector(_checked(picture))
    return sorted(faces, key=lambda f: -f.width), best


def _about(picture: NDArray, detector: Detector, box: tuple[float, float, float, float]) -> tuple[list[FoundFace], float]:
    """The faces whose middle lies in a box, the nearest to its middle first, and the best score in a close-up of it."""
    corners = np.array(box, np.float64).reshape(2, 2)  # left top, right bottom
    if not np.isfinite(corners).all() or (corners[0] >= corners[1]).any():
        raise ShapeError(f"a face's box must be left, top, right, bottom, finite and of some area, got {box}")
    middle, reach = corners.mean(0), (corners[1] - corners[0]).max() / 2
    crop, scale, left, top = _close_up(_checked(picture), (*(middle - reach), *(middle + reach)))  # square: its size in pixels is bounded
    faces, best = detector(np.ascontiguousarray(crop))
    found: list[tuple[float, FoundFace]] = []
    for face in faces:
        edges = np.reshape(face.box, (2, 2)) / scale + [left, top]
        centre = edges.mean(0)
        if (corners[0] <= centre).all() and (centre <= corners[1]).all():
            moved = FoundFace(_to_picture(face.landmarks, scale, left, top), tuple(edges.ravel().tolist()), face.score)
            found.append((float(np.hypot(*(centre - middle))), moved))
    return [face for _, face in sorted(found, key=lambda pair: pair[0])], best
