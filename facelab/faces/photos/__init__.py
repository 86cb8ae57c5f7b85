"""Photographs and videos: prepared once into a folder of aligned faces, then read as FaceBatches."""
from facelab.faces.photos.album import Photos
from facelab.faces.photos.align import AlignedFace, align_face, align_points, frame_face, prepare_clip, prepare_picture, to_batch
from facelab.faces.photos.prepare import Prepared, Shot, expression_in, prepare_folder, prepare_shots, write_whole
from facelab.faces.photos.read import comment_of, frame_rate, read_picture
from facelab.faces.photos.sets import held_out, prepare_set, set_parser, write_table

__all__ = [
    "AlignedFace", "Photos", "Prepared", "Shot", "align_face", "align_points", "comment_of", "expression_in", "frame_face", "frame_rate",
    "held_out", "prepare_clip", "prepare_folder", "prepare_picture", "prepare_set", "prepare_shots", "read_picture", "set_parser",
    "to_batch", "write_table", "write_whole",
]  # fmt: skip
