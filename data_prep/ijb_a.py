"""IJB-A, the IARPA Janus Benchmark A: 25,808 pictures and video frames of 500 people, and ten splits for verification and identification.

Source: Klare et al., "Pushing the Frontiers of Unconstrained Face Detection and Recognition: IARPA Janus Benchmark A" (CVPR 2015),
nist.gov/itl/iad/ig/face-challenges.
Terms: research only; NIST gave it on request until March 2023 and has stopped: for those who have it.
Layout, the pictures directly in IN or in IN/images; of ten splits those that are there are taken:

    IN/images/img/533.JPG, IN/images/frame/28337_00300.png              where the column FILE says
    IN/IJB-A_11_sets/split1/train_1.csv, verify_metadata_1.csv          and verify_comparisons_1.csv: two templates a line, no head line
    IN/IJB-A_1N_sets/split1/train_1.csv, search_gallery_1.csv, search_probe_1.csv

Each table begins with TEMPLATE_ID,SUBJECT_ID,FILE,MEDIA_ID,SIGHTING_ID,FRAME,FACE_X,FACE_Y,FACE_WIDTH,FACE_HEIGHT; more columns follow.

Command: python data_prep/ijb_a.py IN OUT [--size 128]

A face (FILE#SIGHTING_ID) is prepared once, however many splits name it; it is searched in its given box, since a picture may show many
people. Further column: media (MEDIA_ID: frames of one video share it). What a face is there for differs from split to split, and is kept
beside metadata.csv; FaceFeat-GAN's Table 2 is the mean over the ten:

    templates.csv       task (verification, identification), split (1 to 10), role (train, verify, gallery, probe), template, identity,
                        media, file_name
    comparisons.csv     split, first, second (templates of role verify), same (1 or 0)

Faces that were not found are missing there, and so are comparisons with a template that has no face left; the end of the run says how
many, and which templates. The identity is empty where only a training table names a face and gives its subject as 0.
"""
from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from facelab.core import AssetError
from facelab.faces.photos import Shot, prepare_set, set_parser, write_table

TABLES = {  # what is said of a face is taken from the first table that names it; training tables do not always tell its subject
    ("identification", "gallery"): "IJB-A_1N_sets/split{0}/search_gallery_{0}.csv",
    ("identification", "probe"): "IJB-A_1N_sets/split{0}/search_probe_{0}.csv",
    ("verification", "verify"): "IJB-A_11_sets/split{0}/verify_metadata_{0}.csv",
    ("identification", "train"): "IJB-A_1N_sets/split{0}/train_{0}.csv",
    ("verification", "train"): "IJB-A_11_sets/split{0}/train_{0}.csv",
}
COMPARISONS = "IJB-A_11_sets/split{0}/verify_comparisons_{0}.csv"
SPLITS = [str(number) for number in range(1, 11)]
BOX = ("FACE_X", "FACE_Y", "FACE_WIDTH", "FACE_HEIGHT")
COLUMNS = ("TEMPLATE_ID", "SUBJECT_ID", "FILE", "MEDIA_ID", "SIGHTING_ID", *BOX)


class Member(NamedTuple):
    """One face in one template."""

    place: tuple[str, str, str]  # task, split, role
    template: str
    identity: str
    media: str
    file: str
    key: str
    box: tuple[float, float, float, float]
    trouble: str


def read_row(place: tuple[str, str, str], row: Mapping[str, str | None], line: str) -> Member:
    template, subject, file, media, sighting, *edges = ((row[column] or "").strip() for column in COLUMNS)
    key, box, trouble = f"{file}#{sighting}", (0.0, 0.0, 0.0, 0.0), ""
    try:
        x, y, width, height = map(float, edges)
        box = (x, y, x + width, y + height)
        if not (np.isfinite(box).all() and width > 0 and height > 0):
            trouble = f"its box is {width:g} wide and {height:g} high"
    except ValueError:
        trouble = "its box is not four numbers"
    if not (template and file and sighting):
        key, trouble = line, "the line is cut off"
    return Member(place, template, "" if subject == "0" else subject, media, file, key, box, trouble)


def members(folder: Path) -> list[Member]:
    found = []
    for (task, role), pattern in TABLES.items():
        for split in SPLITS:
            name = pattern.format(split)
            if not (folder / name).is_file():
                continue
            with open(folder / name, newline="", encoding="utf-8-sig", errors="replace") as stream:
                reader = csv.DictReader(stream)
                if missing := set(COLUMNS) - set(reader.fieldnames or ()):
                    raise AssetError(f"{folder / name} has no column {', '.join(sorted(missing))}: that is not IJB-A's form")
                found += [read_row((task, split, role), row, f"{name} line {reader.line_num}") for row in reader]
    if not found:
        raise AssetError(f"{folder} holds no IJB-A_11_sets/split1/verify_metadata_1.csv or IJB-A_1N_sets/split1/search_gallery_1.csv")
    return found


def faces(found: list[Member]) -> dict[str, Member]:
    """What is known of every face: by the first table that names it."""
    first: dict[str, Member] = {}
    for member in found:
        first.setdefault(member.key, member)
    return first


def comparisons(folder: Path) -> list[tuple[str, str, str]]:
    """(split, template, template), for the splits that have templates to compare."""
    pairs = []
    for split in SPLITS:
        table = folder / COMPARISONS.format(split)
        if not (folder / TABLES["verification", "verify"].format(split)).is_file():
            continue
        if not table.is_file():
            raise AssetError(f"{table} does not exist: it tells which templates of verify_metadata_{split}.csv are compared")
        for number, line in enumerate(table.read_text(encoding="utf-8-sig", errors="replace").splitlines(), start=1):
            words = [word.strip() for word in line.split(",")]
            if line.strip():
                if len(words) != 2:
                    raise AssetError(f"{table} line {number} is not two templates with a comma between: {line[:50]!r}")
                pairs.append((split, *words))
    return pairs


def shots(folder: Path) -> Iterator[Shot]:
    found = members(folder)
    comparisons(folder)  # a damaged protocol is told before the work, not after it
    images = folder / "images" if (folder / "images").is_dir() else folder
    for key, face in faces(found).items():
        trouble = face.trouble or ("" if (images / face.file).is_file() else "listed, but there is no such picture")
        yield Shot(images / face.file, key, face.identity, trouble=trouble, notes={"media": face.media}, box=face.box)


def protocol(options: argparse.Namespace, names: Mapping[str, str]) -> str:
    found, pairs = members(options.source), comparisons(options.source)
    known = faces(found)
    kept = [member for member in found if member.key in names]
    columns = ("task", "split", "role", "template", "identity", "media", "file_name")
    rows = [(*m.place, m.template, known[m.key].identity, m.media, names[m.key]) for m in kept]
    write_table(options.out / "templates.csv", columns, rows)
    subject = {(*m.place, m.template): known[m.key].identity for m in kept}
    told = [
        (split, first, second, str(int(both[0] == both[1]))) for split, first, second in pairs
        if all(both := [subject.get(("verification", split, "verify", template)) for template in (first, second)])
    ]  # fmt: skip
    write_table(options.out / "comparisons.csv", ("split", "first", "second", "same"), told)
    text = f"{len(rows)} of {len(found)} rows in {options.out / 'templates.csv'}, {len(told)} of {len(pairs)} in comparisons.csv"
    empty = sorted({(*m.place, m.template) for m in found if m.template} - set(subject))
    lines = [f"\n  {task}, split {split}, {role}: {template}" for task, split, role, template in empty]
    return text + (f"; templates without a face:{''.join(lines)}" if lines else "")


def main(arguments: list[str] | None = None) -> int:
    parser = set_parser(__doc__)
    parser.set_defaults(size=128)
    return prepare_set(parser, lambda options: shots(options.source), arguments, protocol)


if __name__ == "__main__":
    sys.exit(main())
