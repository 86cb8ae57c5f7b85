"""MS-Celeb-1M: 8,456,240 faces of 99,892 celebrities as search engines found them, many under a wrong name.

Source: Guo et al., "MS-Celeb-1M: A Dataset and Benchmark for Large-Scale Face Recognition" (ECCV 2016).
Terms: non-commercial research only. Microsoft withdrew the set in 2019, and many people in it were never asked: for those who have it and
may use it.
Layout, one of the aligned tables (89 GB), as it was distributed, directly in IN or in IN/data/aligned_face_images:

    IN/FaceImageCroppedWithAlignment.tsv        or MsCelebV1-Faces-Aligned.tsv
                                                a face a line, seven columns between tabs: Freebase MID, ImageSearchRank, ImageURL,
                                                PageURL, FaceID, FaceRectangle_Base64Encoded, FaceData_Base64Encoded (a JPEG)

Command: python data_prep/ms_celeb_1m.py IN OUT [--size 128] [--people N] [--pictures N] [--test 0]

FaceFeat-GAN trains on this set the independent network that judges its identities. The faces are first unpacked, as m.0107_f/0-FaceId-0.jpg
(MID, rank, FaceID; lists of cleaned labels call them so too), into the folder OUT-unpacked beside OUT; interrupted, the same command goes
on there as well, and once OUT is complete the folder may be deleted. The whole set wants that much disk again, and days: --people takes
the first N that the table names, --pictures the first N of each. Further column: split, by person; everybody is "train" unless --test
holds a share out.
"""
from __future__ import annotations

import argparse
import base64
import json
import re
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from tqdm.auto import tqdm

from facelab.core import AssetError, ShapeError
from facelab.faces.photos import Shot, held_out, prepare_set, set_parser, write_whole

PLACES = [folder + name for folder in ("", "data/aligned_face_images/")
          for name in ("FaceImageCroppedWithAlignment.tsv", "MsCelebV1-Faces-Aligned.tsv")]  # fmt: skip
NAME = re.compile(r"(m\.\w+)/\d+-[\w-]+\.jpg", re.ASCII)  # what may become a path
EVERY = 1000  # lines after which the place in the table is noted


def read_line(line: bytes) -> tuple[str, bytes]:
    """A face's name, MID/RANK-FACEID.jpg, and its JPEG. ValueError for a line that is none, saying why."""
    words = line.rstrip(b"\r\n").split(b"\t")
    if len(words) != 7:
        raise ValueError(f"{len(words)} columns instead of 7")
    mid, rank, _, _, face, _, data = words
    name = b"%b/%b-%b.jpg" % (mid, rank, face)
    if not NAME.fullmatch(name.decode("ascii", "replace")):
        raise ValueError(f"no MID, rank and FaceID: {name[:60]!r}")
    try:
        return name.decode("ascii"), base64.b64decode(data, validate=True)
    except ValueError as error:
        raise ValueError(f"FaceData is no base64: {error}") from error


def unpack(table: Path, folder: Path, people: int, pictures: int) -> None:
    """The table's faces as files, and for each broken line a text that says why, from where an earlier call stopped."""
    note = folder / "unpacked.json"
    asked = {"table": str(table.resolve()), "people": people, "pictures": pictures}
    state = json.loads(note.read_text(encoding="utf-8")) if note.is_file() else {"asked": asked, "line": 0, "byte": 0}
    if state["asked"] != asked:
        raise AssetError(f"{folder} was unpacked with other settings, {state['asked']}, not {asked}; delete it or give another OUT")
    (folder / "broken").mkdir(parents=True, exist_ok=True)
    counts = Counter(path.parent.name for path in folder.glob("m.*/*.jpg"))
    with open(table, "rb") as lines, tqdm(total=table.stat().st_size, initial=state["byte"], unit="B", unit_scale=True) as bar:
        lines.seek(state["byte"])
        for line in lines:
            state["line"] += 1
            state["byte"] += len(line)
            bar.update(len(line))
            try:
                name, picture = read_line(line)
                mid, path = name.partition("/")[0], folder / name
                wanted = counts[mid] < pictures if mid in counts else len(counts) < people
                if wanted and not path.exists():
                    path.parent.mkdir(exist_ok=True)
                    write_whole(path, picture)
                    counts[mid] += 1
            except ValueError as error:
                write_whole(folder / "broken" / f"{state['line']:08d}.txt", str(error).encode())
            if state["line"] % EVERY == 0:
                write_whole(note, json.dumps(state).encode())
    write_whole(note, json.dumps(state).encode())


def shots(folder: Path, unpacked: Path, people: int | None, pictures: int | None, test: float) -> Iterator[Shot]:
    if any(limit is not None and limit < 1 for limit in (people, pictures)):
        raise ShapeError(f"people and pictures must be at least 1, got {people} and {pictures}")
    table = next((folder / place for place in PLACES if (folder / place).is_file()), None)
    if table is None:
        raise AssetError(f"{folder} holds no {PLACES[0]}")
    everything = 10**9
    unpack(table, unpacked, people or everything, pictures or everything)
    found = sorted(unpacked.glob("m.*/*.jpg"))
    tested = held_out((path.parent.name for path in found), test)
    for path in found:
        person = path.parent.name
        yield Shot(path, f"{person}/{path.name}", person, notes={"split": "test" if person in tested else "train"})
    for path in sorted((unpacked / "broken").glob("*.txt")):
        yield Shot(path, f"line {int(path.stem)}", "", trouble=path.read_text(encoding="utf-8"), notes={"split": ""})


def main(arguments: list[str] | None = None) -> int:
    parser = set_parser(__doc__)
    parser.set_defaults(size=128)
    parser.add_argument("--people", type=int, metavar="N", help="take the first so many (default: all)")
    parser.add_argument("--pictures", type=int, metavar="N", help="of each person (default: all)")
    parser.add_argument("--test", type=float, default=0.0, metavar="SHARE", help="of the people, held out (default: %(default)s)")

    def listed(options: argparse.Namespace) -> Iterator[Shot]:
        unpacked = options.out.resolve().with_name(options.out.resolve().name + "-unpacked")
        return shots(options.source, unpacked, options.people, options.pictures, options.test)

    return prepare_set(parser, listed, arguments)


if __name__ == "__main__":
    sys.exit(main())
