"""CASIA-WebFace: 494,414 pictures of 10,575 people, found on the web.

Source: Yi, Lei, Liao, Li, "Learning Face Representation from Scratch" (arXiv:1411.7923), Institute of Automation, Chinese Academy of
Sciences, cbsr.ia.ac.cn.
Terms: non-commercial research only, after a signed agreement; no redistribution.
Layout, a folder a person, directly in IN or in IN/CASIA-WebFace:

    IN/0000045/001.jpg                          person, picture

These are the pictures as they were distributed. Copies that go round as train.rec and train.idx hold faces that somebody cropped to
112 x 112: they lack the surroundings that our framing needs, and are not read.

Command: python data_prep/casia_webface.py IN OUT [--size 128] [--leave-out FILE] [--test 0]

FILE holds the numbers of people to leave out, the first word of each line: FaceFeat-GAN leaves out 26 who are in IJB-A too, without
saying which (names.txt, which came with the set, tells the names). SphereFace names three who are in LFW: 0166921, 1056413, 1193098.
Further column: split, by person; everybody is "train", as in FaceFeat-GAN, unless --test holds a share out. Several faces of about the
same size in one picture: it is rejected, since the set does not tell which one is meant.
"""
from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from facelab.core import AssetError
from facelab.faces.photos import Shot, held_out, prepare_set, set_parser


def listed(file: Path) -> set[str]:
    if not file.is_file():
        raise AssetError(f"{file} does not exist: --leave-out wants a text file with a person's number, such as 0000045, on each line")
    return {words[0] for line in file.read_text(encoding="utf-8-sig", errors="replace").splitlines() if (words := line.split())}


def shots(folder: Path, leave_out: Path | None, test: float) -> Iterator[Shot]:
    root = folder / "CASIA-WebFace" if (folder / "CASIA-WebFace").is_dir() else folder
    people = {path.name: path for path in sorted(root.iterdir()) if path.is_dir() and path.name.isdecimal()}
    if not people:
        packed = " but train.rec, which is another form: see the head of this script" if (root / "train.rec").exists() else ""
        raise AssetError(f"{root} holds no 0000045/001.jpg{packed}")
    left_out = listed(leave_out) if leave_out else set()
    if unknown := sorted(left_out - set(people)):  # a misspelt number would leave a test person in
        raise AssetError(f"{leave_out} names people whom {root} does not hold: {', '.join(unknown[:9])}; correct or delete them")
    chosen = {name: path for name, path in people.items() if name not in left_out}
    tested = held_out(chosen, test)
    for name, path in chosen.items():
        notes = {"split": "test" if name in tested else "train"}
        pictures = sorted(path.glob("*.jpg"))
        for picture in pictures:
            yield Shot(picture, f"{name}/{picture.name}", name, notes=notes)
        if not pictures:
            yield Shot(path, name, name, trouble="a person's folder without a picture", notes=notes)


def main(arguments: list[str] | None = None) -> int:
    parser = set_parser(__doc__)
    parser.set_defaults(size=128)
    parser.add_argument("--leave-out", type=Path, metavar="FILE", help="of people's numbers, one a line (default: nobody)")
    parser.add_argument("--test", type=float, default=0.0, metavar="SHARE", help="of the people, held out (default: %(default)s)")
    return prepare_set(parser, lambda options: shots(options.source, options.leave_out, options.test), arguments)


if __name__ == "__main__":
    sys.exit(main())
