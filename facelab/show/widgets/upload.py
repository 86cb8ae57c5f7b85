"""A photograph of one's own, brought in by hand."""
from __future__ import annotations

import io
from collections.abc import Callable
from html import escape
from pathlib import Path
from typing import Any

import ipywidgets as widgets
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from facelab.core import FacelabError, LandmarkError, PictureError
from facelab.faces import FaceBatch
from facelab.faces.landmarks import Detector, FoundFace, open_detector
from facelab.faces.photos import AlignedFace, frame_face, read_picture, to_batch
from facelab.geometry.boundary import boundary_map
from facelab.show.pictures import to_pixels
from facelab.show.widgets.parts import jpeg, resize

DOT, BOX = "#ffd400", "#40e0ff"


class PhotoUpload:
    """A photograph of one's own: uploaded, its face found and framed; one that cannot be used is told why, and changes nothing.

    The button works once the box is ticked that says that the picture may be used. A file goes to the notebook's kernel and no further.
    Jupyter's own limit for it is 10 MB, above which it breaks off without a word; :meth:`open` takes a path, of any size.

    Args:
        size: side of the framed face in pixels. detector: as ``facelab.faces.landmarks.open_detector``, opened when first needed.
        then: called with every new face, such as ``lambda face: editor.open(face.image)``.

    Attributes:
        face: the last one that could be used, a FaceBatch of one that knows image and landmarks; None before the first.
        picture, found, aligned: the photograph (H,W,3) uint8, the face in it, and in facelab's framing.
        agreed, upload, said: the box, the button, and what is told.
        view: what a notebook displays; its CSS class is ``facelab-upload``.
    """

    SIDE = 224

    def __init__(self, size: int = 128, then: Callable[[FaceBatch], Any] | None = None, detector: str | Detector = "auto"):
        self.size, self.then, self.detector = size, then, detector
        self.face: FaceBatch | None = None
        self.picture: NDArray | None = None
        self.found: FoundFace | None = None
        self.aligned: AlignedFace | None = None
        self.agreed = widgets.Checkbox(description="This is my face, or its owner agrees", indent=False)
        self.upload = widgets.FileUpload(accept="image/*", description="photograph", disabled=True)
        self.said = widgets.HTML("Tick the box, then choose a picture of up to 10 MB.")
        self._picture = widgets.Image(format="jpeg", height=self.SIDE, layout=widgets.Layout(display="none"))
        self.view = widgets.VBox([widgets.HBox([self.agreed, self.upload]), self.said, self._picture])
        self.view.add_class("facelab-upload")
        self.agreed.observe(lambda change: setattr(self.upload, "disabled", not change["new"]), "value")
        self.upload.observe(self._uploaded, "value")

    def open(self, photograph: str | Path | bytes | NDArray, name: str = "") -> bool:
        """Another photograph: a path, a file's bytes, or pixels (H,W,3) uint8; ``name`` is what it is called, a path by its last part.

        Returns whether it could be used. Otherwise ``said`` says why, and everything stays as it was.
        """
        name = name or (Path(photograph).name if isinstance(photograph, str | Path) else "the picture")
        self.said.value = f"Looking for a face in {escape(name)} …"
        try:
            picture = photograph if isinstance(photograph, np.ndarray) else _read(photograph, name)
            if isinstance(self.detector, str):
                self.detector = open_detector(self.detector)
            found, aligned = frame_face(picture, self.size, self.detector, name=name)
            face = FaceBatch(image=to_batch(aligned.picture), landmarks=torch.from_numpy(aligned.landmarks)[None])
            if self.then:
                self.then(face)
        except FacelabError as error:
            kept = " The face before it stays." if self.face is not None else ""
            self.said.value = f"<b>Not used.</b> {escape(str(error))}.{kept}"
            return False
        self.face, self.picture, self.found, self.aligned = face, picture, found, aligned
        beyond = f"; {1 - aligned.inside:.0%} of the frame lies outside the picture" if aligned.inside < 0.95 else ""
        scaled = f"framed at {aligned.zoom:.2f} of its size"
        self.said.value = f"A face {found.width:.0f} pixels wide in {escape(name)} (by {escape(self.detector.name)}), {scaled}{beyond}."
        self._picture.layout.display = None
        self._picture.value = jpeg(self.draw())
        return True

    def draw(self) -> NDArray:
        """uint8 (224, 3 x 224, 3): the photograph with the face found in it, the framed face with its landmarks, its boundary map.

        Raises LandmarkError before there is a face.
        """
        if self.face is None:
            raise LandmarkError("no face yet: open a photograph first")
        marks = (self.aligned.landmarks + 0.5) * (self.SIDE / self.size)
        framed = _dotted(resize(self.aligned.picture, self.SIDE), marks)
        lines = resize(to_pixels(boundary_map(self.face.landmarks, self.size)[0]), self.SIDE)
        return np.concatenate([self._whole(), framed, lines], axis=1)

    def _whole(self) -> NDArray:
        """The photograph within a square, the face's box and landmarks drawn in."""
        height, width = self.picture.shape[:2]
        scale = self.SIDE / max(height, width)
        small = Image.fromarray(self.picture).convert("RGB").resize((max(round(width * scale), 1), max(round(height * scale), 1)))
        square = Image.new("RGB", (self.SIDE, self.SIDE), "white")
        corner = ((self.SIDE - small.width) // 2, (self.SIDE - small.height) // 2)
        square.paste(small, corner)
        ImageDraw.Draw(square).rectangle([edge * scale + corner[i % 2] for i, edge in enumerate(self.found.box)], outline=BOX, width=2)
        return _dotted(np.asarray(square), (self.found.landmarks + 0.5) * scale + corner, 1)

    def _uploaded(self, change: Any) -> None:
        for file in change["new"]:
            self.open(bytes(file["content"]), file["name"])
        if change["new"]:
            self.upload.value = ()  # the same file can be chosen again, and no saved notebook holds it


def _read(photograph: str | Path | bytes, name: str) -> NDArray:
    try:
        return read_picture(io.BytesIO(photograph) if isinstance(photograph, bytes) else photograph)
    except PictureError as error:
        raise PictureError(f"{name}: {error}") from error


def _dotted(pixels: NDArray, points: NDArray, radius: int = 2) -> NDArray:
    """uint8 (h,w,3) with dots at points (L,2), counted from the picture's corner."""
    image = Image.fromarray(pixels)
    draw = ImageDraw.Draw(image)
    for x, y in points:
        draw.ellipse([x - radius, y - radius, x + radius, y + radius], fill=DOT)
    return np.asarray(image)
