"""CAT: about 10,000 cats with nine points each on their heads, for AF-VAE's Fig. 7.

Source: Zhang, Sun, Tang, "Cat Head Detection" (ECCV 2008); archive.org/details/CAT_DATASET.
Terms: the authors' pictures come from flickr.com; research only.
Layout, an annotation beside each picture:

    IN/CAT_00/00000001_000.jpg      IN/CAT_00/00000001_000.jpg.cat      "9 x1 y1 x2 y2 … x9 y9": eyes, mouth, three points an ear

Command: python data_prep/cats.py IN OUT [--test 0.3]

Further columns: split (5,000 + 2,000 + 3,000 in the paper, at random; the list was not published, so ours is another). No detector is
needed. Each picture is another cat: the set does not know identities.
"""
from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from facelab.core import AssetError
from facelab.faces.photos import Shot, held_out, prepare_set, set_parser


def shots(folder: Path, test: float) -> Iterator[Shot]:
    files = sorted(folder.rglob("*.cat"))
    if not files:
        raise AssetError(f"{folder} holds no PICTURE.jpg.cat, as in CAT_00/00000001_000.jpg.cat")
    keys = [file.relative_to(folder).as_posix().removesuffix(".cat") for file in files]
    tested = held_out(keys, test)
    for file, key in zip(files, keys, strict=True):
        points, trouble = None, ""
        words = file.read_text(encoding="ascii", errors="replace").split()
        try:
            points = np.array(words[1:], float).reshape(-1, 2)
        except ValueError:
            pass
        if words[:1] != ["9"] or points is None or len(points) != 9:
            trouble = f"{file.name} is not '9 x1 y1 … x9 y9'"
        elif not file.with_suffix("").is_file():
            trouble = "annotated, but there is no such picture"
        yield Shot(file.with_suffix(""), key, "", landmarks=points, trouble=trouble, notes={"split": "test" if key in tested else "train"})


def main(arguments: list[str] | None = None) -> int:
    parser = set_parser(__doc__)
    parser.add_argument("--test", type=float, default=0.3, metavar="SHARE", help="of the pictures, held out (default: %(default)s)")
    return prepare_set(parser, lambda options: shots(options.source, options.test), arguments)


if __name__ == "__main__":
    sys.exit(main())
