"""RaFD, the Radboud Faces Database: 67 people, 8 expressions, 3 directions of gaze, 5 cameras, 8,040 pictures.

Source: Langner et al., "Presentation and validation of the Radboud Faces Database" (Cognition & Emotion 2010), rafd.nl.
Terms: free for non-commercial research after registration; no redistribution.
Layout: pictures anywhere below IN, named by what they show:

    Rafd090_01_Caucasian_female_happy_frontal.jpg       camera, person, group, sex, expression, gaze

Command: python data_prep/rafd.py IN OUT [--cameras 045 090 135] [--test 0.1]

Further columns: split, by person (AF-VAE holds out a tenth); yaw in degrees, 90 less the camera's angle, so that by the names of the set
(000 shows the right side of the head) positive turns the face to the picture's right; gaze, sex, group. "contemptuous" has no counterpart
in facelab and stays without an expression. A head in full profile (000, 180) is often rejected: detectors want both eyes.
"""
from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from facelab.core import AssetError
from facelab.faces.photos import Shot, expression_in, held_out, prepare_set, set_parser

NAME = re.compile(r"Rafd(000|045|090|135|180)_(\d+)_([A-Za-z]+)_(male|female)_([a-z]+)_(left|frontal|right)\.(?:jpe?g|png)", re.I)


def shots(folder: Path, cameras: Sequence[str], test: float) -> Iterator[Shot]:
    found = [(path, match) for path in sorted(folder.rglob("*")) if (match := NAME.fullmatch(path.name)) and match[1] in cameras]
    if not found:
        raise AssetError(f"{folder} holds no Rafd090_01_Caucasian_female_happy_frontal.jpg or the like from cameras {' '.join(cameras)}")
    tested = held_out((match[2] for _, match in found), test)
    for path, match in found:
        camera, person, group, sex, expression, gaze = match.groups()
        notes = {"split": "test" if person in tested else "train", "yaw": str(90 - int(camera)), "gaze": gaze, "sex": sex, "group": group}
        yield Shot(path, path.relative_to(folder).as_posix(), person, expression_in(expression), notes=notes)


def main(arguments: list[str] | None = None) -> int:
    parser = set_parser(__doc__)
    parser.add_argument("--cameras", nargs="+", default=["000", "045", "090", "135", "180"], help="angles (default: all five)")
    parser.add_argument("--test", type=float, default=0.1, metavar="SHARE", help="of the people, held out (default: %(default)s)")
    return prepare_set(parser, lambda options: shots(options.source, options.cameras, options.test), arguments)


if __name__ == "__main__":
    sys.exit(main())
