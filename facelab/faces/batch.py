"""FaceBatch: the one form in which every face arrives, made or photographed."""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor

from facelab.core import MissingTruthError, ShapeError

EXPRESSIONS = ("neutral", "smile", "surprise", "squint", "disgust", "scream", "fear", "sad", "anger")
"""What ``FaceBatch.expression`` counts: the six of MultiPIE, and three of RaFD's that it lacks."""


@dataclass(frozen=True, repr=False)
class FaceBatch:
    r"""N faces and what is known about them; what the source does not know is None.

    Every field is a tensor whose first axis is N, so a batch indexes like a tensor: ``batch[3]`` keeps N = 1,
    ``batch[2:5]``, ``batch[mask]``. Coordinates are (x, y) pixels with pixel centres at integers, y down.

    ==========================  ==========  =====================================================================
    field                       shape       meaning
    ==========================  ==========  =====================================================================
    image                       N,3,H,W     float32 in [-1, 1]
    landmarks                   N,L,2       pixels; L = 68 of a face, iBUG order; others: ``facelab.geometry.boundary``
    identity                    N           int64 label
    clip                        N           int64 label of the video or sitting that a frame belongs to
    expression                  N           int64 label, index into ``facelab.faces.EXPRESSIONS``
    pose                        N,3         radians: yaw, pitch, roll
    expression_coefficients     N,E         alpha_exp of the morphable model
    face_mask                   N,1,H,W     1 where the face's skin, eyes or mouth is seen
    identity_coefficients       N,K         alpha_id of the morphable model, in standard deviations
    landmarks_3d                N,68,3      centimetres, head frame, unprojected (no pose)
    landmarks_visible           N,68        bool: not hidden behind the face, hair or glasses
    camera                      N,3         pixels per cm at size 1, and (x, y) of the head's origin, both over size
    light                       N,L         see ``facelab.faces.world.light``
    gaze                        N,2         radians: right, up
    appearance                  N,A         identity's paint: skin, hair, brows …; see ``facelab.faces.world``
    background                  N,B         the shot's background
    ==========================  ==========  =====================================================================
    """

    image: Tensor
    landmarks: Tensor | None = None
    identity: Tensor | None = None
    clip: Tensor | None = None
    expression: Tensor | None = None
    pose: Tensor | None = None
    expression_coefficients: Tensor | None = None
    face_mask: Tensor | None = None
    identity_coefficients: Tensor | None = None
    landmarks_3d: Tensor | None = None
    landmarks_visible: Tensor | None = None
    camera: Tensor | None = None
    light: Tensor | None = None
    gaze: Tensor | None = None
    appearance: Tensor | None = None
    background: Tensor | None = None

    def __post_init__(self) -> None:
        if self.image.ndim != 4 or self.image.shape[1] != 3:
            raise ShapeError(f"image must be (N, 3, H, W), got {tuple(self.image.shape)}")
        for name, value in self._known():
            if len(value) != len(self.image):
                raise ShapeError(f"{name} has {len(value)} rows for {len(self.image)} images")

    def _known(self) -> list[tuple[str, Tensor]]:
        return [(f.name, v) for f in fields(self) if (v := getattr(self, f.name)) is not None]

    def __len__(self) -> int:
        return len(self.image)

    @property
    def size(self) -> int:
        """Side of the square images, in pixels."""
        return self.image.shape[-1]

    def require(self, *names: str) -> tuple[Tensor, ...]:
        """The named fields, or MissingTruthError naming those that this batch's source does not know."""
        missing = [n for n in names if getattr(self, n) is None]
        if missing:
            raise MissingTruthError(
                f"this batch does not know {', '.join(missing)}: photographs come without that ground truth; "
                "use FaceWorld for made faces, or estimate it first"
            )
        return tuple(getattr(self, n) for n in names)

    def __getitem__(self, index: Any) -> FaceBatch:
        if isinstance(index, int):
            index = range(len(self))[index]
            index = slice(index, index + 1)
        elif isinstance(index, Sequence) and not isinstance(index, (str, bytes)):
            index = torch.as_tensor(index)
        return replace(self, **{name: value[index] for name, value in self._known()})

    def to(self, device: torch.device | str) -> FaceBatch:
        """The same batch on another device."""
        return replace(self, **{name: value.to(device) for name, value in self._known()})

    @staticmethod
    def cat(batches: Sequence[FaceBatch]) -> FaceBatch:
        """Batches of one size joined; a field is kept where every batch knows it."""
        if not batches:
            raise ShapeError("nothing to join: give at least one batch")
        names = [f.name for f in fields(FaceBatch) if all(getattr(b, f.name) is not None for b in batches)]
        return FaceBatch(**{n: torch.cat([getattr(b, n) for b in batches]) for n in names})

    def __repr__(self) -> str:
        return f"FaceBatch({len(self)} faces, {self.size} px, knows {', '.join(n for n, _ in self._known())})"
