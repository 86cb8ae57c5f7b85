"""Hands with 21 key points each: CMU's hand_labels, for AF-VAE's Fig. 7.

AF-VAE does not name its hands ("obtained through pre-trained hand detector"); these have key points in the order of such detectors.
Source: Simon, Joo, Matthews, Sheikh, "Hand Keypoint Detection in Single Images using Multiview Bootstrapping" (CVPR 2017),
domedb.perception.cs.cmu.edu/handdb.html, hand_labels.zip (MPII and NZSL pictures, annotated by people).
Terms: non-commercial research only.
Layout, a picture and its annotation under one name:

    IN/manual_train/015601864_01_l.jpg      IN/manual_train/015601864_01_l.json      {"hand_pts": [[x, y, seen], … 21], "is_left": 1}
    IN/manual_test/…

Command: python data_prep/hands.py IN OUT

Any other set fits that is written in this form: "hand_pts" holds the wrist, then four joints a finger from thumb to little finger, each
from the palm outwards. Further columns: split, from the folder's name; side, left or right. No detector is needed. Each picture is
somebody else: the set does not know identities.
"""
from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from facelab.core import AssetError
from facelab.faces.photos import Shot, prepare_set, set_parser


def shots(folder: Path) -> Iterator[Shot]:
    files = sorted(folder.rglob("*.json"))
    pictures = [(file, file.with_suffix(".jpg")) for file in files if file.with_suffix(".jpg").is_file()]
    if not pictures:
        raise AssetError(f"{folder} holds no NAME.jpg with its NAME.json, as in manual_train/015601864_01_l.jpg")
    for file, picture in pictures:
        trouble, points, side = "", None, ""
        try:
            said = json.loads(file.read_text(encoding="utf-8"))
            points = np.array(said["hand_pts"], float)[:, :2]
            side = "left" if said.get("is_left") else "right"
            if points.shape != (21, 2) or not np.isfinite(points).all():
                trouble = f"hand_pts must be 21 finite points, got shape {points.shape}"
        except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
            trouble = f"{file.name} is no such annotation ({type(error).__name__}: {error})"
        notes = {"split": "test" if "test" in picture.parent.name else "train", "side": side}
        yield Shot(picture, picture.relative_to(folder).as_posix(), "", landmarks=points, trouble=trouble, notes=notes)


def main(arguments: list[str] | None = None) -> int:
    return prepare_set(set_parser(__doc__), lambda options: shots(options.source), arguments)


if __name__ == "__main__":
    sys.exit(main())
