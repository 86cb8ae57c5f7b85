"""300VW: 114 videos of talking faces, every frame annotated with 68 landmarks.

Source: Shen et al., "The First Facial Landmark Tracking in-the-Wild Challenge" (ICCV workshops 2015), ibug.doc.ic.ac.uk/resources/300-VW.
Terms: non-commercial research only, on request.
Layout:

    IN/001/vid.avi                              one folder a video
    IN/001/annot/000001.pts …                   one file a frame, counted from 1; points counted from 1 as well

Command: python data_prep/300vw.py IN OUT [--size 128] [--every 10] [--videos 001 002 …] [--test 0.2]

The identity is the video's number: which videos show one person is not told. Further column: split, by video. Every frame is turned
upright and framed by its own annotation. F3A-GAN keeps 90 of the videos ("poor image quality or a single expression" left out, by eye)
and names none of them: --videos takes a choice.
"""
from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from facelab.core import AssetError, LandmarkError
from facelab.faces.photos import Shot, held_out, prepare_set, set_parser


def read_points(path: Path) -> NDArray:
    """A .pts file, "version: 1, n_points: 68, { x y … }", as (68,2) pixels counted from 0. LandmarkError for anything else."""
    words = path.read_text(encoding="ascii", errors="replace").replace("{", " { ").replace("}", " } ").split()
    try:
        points = np.array(words[words.index("{") + 1 : words.index("}")], float).reshape(-1, 2) - 1
    except ValueError:
        points = np.zeros((0, 2))
    if points.shape != (68, 2) or not np.isfinite(points).all():
        raise LandmarkError(f"{path.name} does not hold 68 points between braces")
    return points


class Annotation(Mapping[str, NDArray]):
    """Landmarks of a video's frames, "0", "1", …, read when asked for."""

    def __init__(self, folder: Path):
        self._files = {str(int(path.stem) - 1): path for path in folder.glob("*.pts") if path.stem.isdecimal()}

    def __getitem__(self, frame: str) -> NDArray:
        return read_points(self._files[frame])

    def __iter__(self) -> Iterator[str]:
        return iter(self._files)

    def __len__(self) -> int:
        return len(self._files)


def shots(folder: Path, videos: Sequence[str], test: float) -> Iterator[Shot]:
    found = {path.parent.name: path for path in sorted(folder.glob("*/vid.avi"))}
    if unknown := sorted(set(videos) - set(found)):
        raise AssetError(f"{folder} has no video {', '.join(unknown)}: it has {', '.join(found) or 'none, as in 001/vid.avi'}")
    if not found:
        raise AssetError(f"{folder} holds no 001/vid.avi")
    chosen = {name: path for name, path in found.items() if not videos or name in videos}
    tested = held_out(chosen, test)
    for name, path in chosen.items():
        marks = Annotation(path.parent / "annot")
        yield Shot(path, f"{name}/vid.avi", name, landmarks=marks, trouble="" if marks else "no annotation: annot/*.pts is missing",
                   notes={"split": "test" if name in tested else "train"})  # fmt: skip


def main(arguments: list[str] | None = None) -> int:
    parser = set_parser(__doc__)
    parser.set_defaults(size=128)
    parser.add_argument("--every", type=int, default=10, metavar="N", help="take every so many frames (default: %(default)s)")
    parser.add_argument("--videos", nargs="+", default=[], help="such as 001 002 (default: all)")
    parser.add_argument("--test", type=float, default=0.2, metavar="SHARE", help="of the videos, held out (default: %(default)s)")
    return prepare_set(parser, lambda options: shots(options.source, options.videos, options.test), arguments)


if __name__ == "__main__":
    sys.exit(main())
