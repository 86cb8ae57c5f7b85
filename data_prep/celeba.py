"""CelebA: 202,599 aligned pictures of 10,177 celebrities.

Source: Liu et al., "Deep Learning Face Attributes in the Wild" (ICCV 2015), mmlab.ie.cuhk.edu.hk/projects/CelebA.html.
Terms: non-commercial research only; the pictures are not the authors' property and must not be redistributed.
Layout, the annotation files beside the pictures or in the folders in which they are distributed:

    IN/img_align_celeba/000001.jpg …            or IN/Img/img_align_celeba/
    IN/identity_CelebA.txt                      or IN/Anno/         "000001.jpg 2880"
    IN/list_attr_celeba.txt                     or IN/Anno/         a count, 40 names, then "000001.jpg -1 1 …"
    IN/list_eval_partition.txt                  or IN/Eval/         "000001.jpg 0": 0 train, 1 val, 2 test; no identity is in two

Command: python data_prep/celeba.py IN OUT

Further columns: split, and the 40 attributes as 1 or -1. The expression is "smile" where the attribute Smiling is 1, else empty: who
does not smile need not be neutral. The five landmarks of list_landmarks_align_celeba.txt are too few for a boundary map; 68 are found.
"""
from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from facelab.core import AssetError
from facelab.faces.photos import Shot, prepare_set, set_parser

SPLITS = {"0": "train", "1": "val", "2": "test"}


def find(folder: Path, *places: str) -> Path:
    for place in places:
        if (folder / place).exists():
            return folder / place
    raise AssetError(f"{folder} holds no {' or '.join(places)}: that is not CelebA's layout, see the head of this script")


def table(path: Path, skip: int = 0) -> dict[str, list[str]]:
    rows = [line.split() for line in path.read_text(encoding="utf-8").splitlines()[skip:] if line.strip()]
    widths = {len(row) for row in rows}
    if len(widths) != 1 or min(widths) < 2:
        raise AssetError(f"{path} is damaged: its lines hold {sorted(widths)} words")
    return {row[0]: row[1:] for row in rows}


def shots(folder: Path) -> Iterator[Shot]:
    pictures = find(folder, "img_align_celeba", "Img/img_align_celeba")
    attributes = find(folder, "list_attr_celeba.txt", "Anno/list_attr_celeba.txt")
    people = table(find(folder, "identity_CelebA.txt", "Anno/identity_CelebA.txt"))
    parts = table(find(folder, "list_eval_partition.txt", "Eval/list_eval_partition.txt"))
    names, values = attributes.read_text(encoding="utf-8").splitlines()[1].split(), table(attributes, skip=2)
    for name in sorted(people):
        known = dict(zip(names, values.get(name, []), strict=False))
        split = SPLITS.get(parts.get(name, [""])[0], "")
        trouble = "" if len(known) == len(names) and split else "not in every annotation file"
        if not (pictures / name).is_file():
            trouble = "listed, but there is no such picture"
        notes = {"split": split} | {attribute: known.get(attribute, "") for attribute in names}
        yield Shot(pictures / name, name, people[name][0], "smile" if known.get("Smiling") == "1" else "", trouble=trouble, notes=notes)


def main(arguments: list[str] | None = None) -> int:
    return prepare_set(set_parser(__doc__), lambda options: shots(options.source), arguments)


if __name__ == "__main__":
    sys.exit(main())
