"""300W-3D and 300W-LP: pictures of 300-W with a fitted 3D face each; LP adds the same pictures turned, up to profile.

Source: Zhu et al., "Face Alignment Across Large Poses: A 3D Solution" (CVPR 2016), cbsr.ia.ac.cn/users/xiangyuzhu/projects/3DDFA.
Terms: non-commercial research only.
Layout, IN being 300W-3D or 300W_LP:

    IN/AFW/AFW_1051618982_1.jpg, .mat           and HELEN, IBUG, LFPW       (300W-LP: AFW_1051618982_1_0.jpg … _17; *_Flip are mirrored)

Command: python data_prep/300w_lp.py IN OUT [--size 128] [--flips] [--test 0.1]

Each .mat has pt2d, 68 landmarks in pixels counted from 1, and Pose_Para, pitch, yaw, roll in radians first. Its shape and expression
coefficients are of the Basel Face Model with FaceWarehouse's expressions; facelab's regressor speaks of its own model and warms up on
made faces, so what is kept here are landmarks and pose. Further columns: split, set, and pitch, yaw, roll in degrees with the signs of
the files. The identity is the picture that a turned one was made from: all turns of one picture are one clip to F3A-GAN,
those of its mirror image another.
"""
from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from scipy.io import loadmat

from facelab.core import AssetError
from facelab.faces.photos import Shot, held_out, prepare_set, set_parser

SETS = ("AFW", "HELEN", "IBUG", "LFPW")
NAME = re.compile(r"((?:AFW|HELEN|IBUG|LFPW)_.+?)(?:_\d{1,2})?")  # without the number of the turn


def identity(path: Path, turned: bool) -> str:
    name = match[1] if turned and (match := NAME.fullmatch(path.stem)) else path.stem
    return name + "_Flip" if path.parent.name.endswith("_Flip") else name  # between a picture and its mirror image there is no flow


def shots(folder: Path, flips: bool, test: float) -> Iterator[Shot]:
    names = [name + end for name in SETS for end in ("", "_Flip") if flips or not end]
    files = sorted(path for name in names for path in (folder / name).glob("*.mat"))
    if not files:
        raise AssetError(f"{folder} holds no AFW/*.mat, HELEN/*.mat, IBUG/*.mat or LFPW/*.mat")
    turned = any(re.search(r"_0$", path.stem) for path in files)  # 300W-LP counts the turns of a picture from 0
    people = [identity(path, turned) for path in files]
    tested = held_out((person.removesuffix("_Flip") for person in people), test)
    for path, person in zip(files, people, strict=True):
        points, pose, trouble = None, np.full(3, np.nan), ""
        try:
            content = loadmat(path, variable_names=["pt2d", "Pose_Para"])
            points, pose = np.asarray(content["pt2d"], float).T - 1, np.degrees(np.asarray(content["Pose_Para"], float).ravel()[:3])
        except Exception as error:  # scipy raises many kinds for a broken file
            trouble = f"{path.name} cannot be read ({type(error).__name__})"
        if not trouble and (points.shape != (68, 2) or not np.isfinite(points).all() or pose.shape != (3,) or not np.isfinite(pose).all()):
            trouble = f"{path.name} does not hold 68 landmarks and three angles"
        picture = path.with_suffix(".jpg")
        if not picture.is_file():
            trouble = trouble or "annotated, but there is no such picture"
        pitch, yaw, roll = ("" if trouble else f"{angle:.2f}" for angle in pose)
        split = "test" if person.removesuffix("_Flip") in tested else "train"
        notes = {"split": split, "set": path.parent.name, "pitch": pitch, "yaw": yaw, "roll": roll}
        yield Shot(picture, picture.relative_to(folder).as_posix(), person, landmarks=points, trouble=trouble, notes=notes)


def main(arguments: list[str] | None = None) -> int:
    parser = set_parser(__doc__)
    parser.set_defaults(size=128)
    parser.add_argument("--flips", action="store_true", help="take the mirrored pictures too")
    parser.add_argument("--test", type=float, default=0.1, metavar="SHARE", help="of the pictures, held out (default: %(default)s)")
    return prepare_set(parser, lambda options: shots(options.source, options.flips, options.test), arguments)


if __name__ == "__main__":
    sys.exit(main())
