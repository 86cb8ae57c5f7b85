"""One face into facelab's framing: upright, scaled, cropped so that the whole head is seen."""
from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from tqdm.auto import tqdm

from facelab.core import LandmarkError, PictureError, ShapeError
from facelab.faces.batch import FaceBatch
from facelab.faces.landmarks import Detector, FoundFace, find_face, open_detector
from facelab.faces.photos.read import VIDEO_SUFFIXES, frames

FRAME = 30.0  # centimetres that an aligned picture spans: the whole head, hair and a margin, as in FaceWorld's pictures
ORIGIN = (0.5, 0.485)  # where the middle of the head, at the height of the eyes, lands, over the picture's side
EYES, EYES_TO_NOSE = 6.25, 4.4  # centimetres between the eyes' centres, and from between them down to the nose's base, in a mean adult
LARGEST_ZOOM = 1.5  # a single picture whose face would be enlarged by more is refused: blur in, blur out
SPAN = 0.75  # the share of the side that the landmarks of a thing without eyes take: a margin for fingertips, wrists, ears


class AlignedFace(NamedTuple):
    """A face in facelab's framing; see ``align_face``."""

    picture: NDArray  # (size, size, 3) uint8
    landmarks: NDArray  # (L, 2) float32, 68 of a face, pixels of that picture
    zoom: float  # its pixels per pixel of the source: above 1 it shows no more detail than the source had
    inside: float  # the share of it that the source covers; the rest repeats the source's edge


def align_face(picture: NDArray, landmarks: NDArray, size: int, by: NDArray | None = None) -> AlignedFace:
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
        by: other landmarks of the same picture that frame it, such as a clip's median ones; None: its own.

    Raises:
        ShapeError: landmarks of no extent or outside the picture, or a size that is not positive.

    Source: the horizontal is that of FFHQ's alignment (Karras et al., CVPR 2019, appendix A); the framing is ours.
    """
    points = np.asarray(landmarks if by is None else by, np.float64)
    right_eye, left_eye = points[36:42].mean(0), points[42:48].mean(0)
    between = (right_eye + left_eye) / 2
    e, m = left_eye - right_eye, points[[48, 54]].mean(0) - between
    across = e + [m[1], -m[0]]
    cos, sin = across = across / max(np.hypot(*across), 1e-12)
    down = (points[31:36].mean(0) - between) @ [-sin, cos]
    unit = max(np.hypot(*e) / EYES, down / EYES_TO_NOSE)  # source pixels per centimetre
    if size < 1 or not np.isfinite(unit) or unit <= 0:
        raise ShapeError(f"a face of {unit:.3g} pixels per centimetre cannot be aligned to {size} pixels")
    origin = between + across * ((points[[0, 16]].mean(0) - between) @ across)
    turn = np.array([[cos, sin], [-sin, cos]])  # source to result, both y down
    own = np.asarray(landmarks, np.float64)
    return _move(picture, own, size, zoom=size / FRAME / unit, origin=origin, turn=turn, centre=np.array(ORIGIN) * size - 0.5)


def align_points(picture: NDArray, landmarks: NDArray, size: int) -> AlignedFace:
    """What has no eyes to be turned by, such as a hand: a square about its landmarks, whose longer extent takes ``SPAN`` of the side.

    Args, Returns, Raises: as ``align_face``, for landmarks (L, 2).
    """
    points = np.asarray(landmarks, np.float64)
    low, high = points.min(0), points.max(0)
    extent = (high - low).max()
    if size < 1 or not np.isfinite(extent) or extent <= 0:
        raise ShapeError(f"landmarks that span {extent:.3g} pixels cannot be aligned to {size} pixels")
    centre = np.full(2, size / 2 - 0.5)
    return _move(picture, points, size, zoom=SPAN * size / extent, origin=(low + high) / 2, turn=np.eye(2), centre=centre)


def _move(picture: NDArray, points: NDArray, size: int, *, zoom: float, origin: NDArray, turn: NDArray, centre: NDArray) -> AlignedFace:
    """The picture and points under q = zoom turn (p - origin) + centre."""
    height, width = picture.shape[:2]
    corners = (np.array([[0, 0], [size, 0], [0, size], [size, size]]) - 0.5 - centre) @ turn / zoom + origin
    margin = 4 / min(zoom, 1)
    low = np.clip(np.floor(corners.min(0) - margin), 0, [width - 1, height - 1]).astype(int)
    high = np.clip(np.ceil(corners.max(0) + margin) + 1, low + 1, [width, height]).astype(int)
    if ((high - low) * zoom < 1).any():
        raise ShapeError(f"the face, at a zoom of {zoom:.3g}, lies outside its {width}x{height} picture")
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


def prepare_clip(path: str | Path, size: int = 256, every: int = 1, detector: str | Detector = "auto", progress: bool = True) -> FaceBatch:
    """A video's frames, all framed alike, by the median of the landmarks that are found in them: a head that turns, leans or moves does so.

    Frames without one face are left out, and counted when there is a bar. Args: ``every`` takes every so many frames. Returns a batch that
    knows image, landmarks and clip. Raises: PictureError for a file that is no video. LandmarkError: no frame with one face, why being
    said of the last. ShapeError: ``every`` below 1.
    """
    if every < 1:
        raise ShapeError(f"every must be at least 1, got {every}")
    if Path(path).suffix.lower() not in VIDEO_SUFFIXES:
        raise PictureError(f"{path} is no video ({', '.join(sorted(VIDEO_SUFFIXES))})")
    if isinstance(detector, str):
        detector = open_detector(detector)
    pictures, found, out, last = [], [], 0, None
    for _, picture in tqdm(frames(Path(path), every), unit="frame", disable=not progress):
        try:
            found.append(find_face(picture, detector).landmarks)
            pictures.append(picture)
        except LandmarkError as error:
            out, last = out + 1, error
    if not found:
        raise LandmarkError(f"{path}: not one frame shows one face ({last})")
    if out and progress:
        tqdm.write(f"{out} of {out + len(found)} frames without one face are left out ({last})")
    middle = np.median(found, axis=0)
    aligned = [align_face(picture, marks, size, middle) for picture, marks in zip(pictures, found, strict=True)]
    return FaceBatch(
        image=torch.cat([to_batch(face.picture) for face in aligned]),
        landmarks=torch.from_numpy(np.stack([face.landmarks for face in aligned])),
        clip=torch.zeros(len(aligned), dtype=torch.long),
    )


def to_batch(picture: NDArray) -> Tensor:
    """(H, W, 3) uint8 -> (1, 3, H, W) float32 in [-1, 1]."""
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None].float() / 127.5 - 1


def frame_face(
    picture: NDArray, size: int, detector: str | Detector = "auto", *, name: str = "the picture"
) -> tuple[FoundFace, AlignedFace]:
    """The one face that a picture shows: where it was found, and how it looks in facelab's framing.

    Args: as :func:`prepare_picture`; ``name`` is what an error calls the picture.
    Raises: LandmarkError: no face, several of the same size, or one so small that it would be enlarged more than ``LARGEST_ZOOM`` times.
        ShapeError, AssetError: as :func:`prepare_picture`.
    """
    found = find_face(picture, detector, name=name)
    picture = np.asarray(picture)
    aligned = align_face(picture if picture.ndim == 3 else np.repeat(picture[..., None], 3, axis=2), found.landmarks, size)
    if aligned.zoom > LARGEST_ZOOM:
        enough = int(np.ceil(found.width * aligned.zoom / LARGEST_ZOOM))
        raise LandmarkError(
            f"the face in {name} is {found.width:.0f} pixels wide, too small: at {size} pixels it would be enlarged {aligned.zoom:.1f} "
            f"times; take a picture in which it is at least {enough} wide"
        )
    return found, aligned


def prepare_picture(picture: NDArray, size: int = 256, detector: str | Detector = "auto") -> FaceBatch:
    """One picture through the same steps as a prepared folder: find its face, align it.

    Args:
        picture: (H, W, 3) or (H, W) uint8, such as ``skimage.data.astronaut()``.
        size: side of the result in pixels.
        detector: as ``facelab.faces.landmarks.open_detector``.

    Returns:
        A batch of one that knows image and landmarks.

    Raises:
        LandmarkError: no face, several of the same size, or too small a one (:func:`frame_face`). ShapeError: no such picture.
        AssetError: no detector can be had.
    """
    _, aligned = frame_face(picture, size, detector)
    return FaceBatch(image=to_batch(aligned.picture), landmarks=torch.from_numpy(aligned.landmarks)[None])
