"""Photographs and videos: prepared once into a folder of aligned faces, then read as FaceBatches."""
from facelab.faces.photos.album import Photos
from facelab.faces.photos.align import AlignedFace, align_face, align_points, prepare_picture
from facelab.faces.photos.prepare import Prepared, Shot, expression_in, prepare_folder, prepare_shots
from facelab.faces.photos.read import read_picture

__all__ = [
    "AlignedFace", "Photos", "Prepared", "Shot", "align_face", "align_points", "expression_in", "prepare_folder", "prepare_picture",
    "prepare_shots", "read_picture",
]  # fmt: skip
