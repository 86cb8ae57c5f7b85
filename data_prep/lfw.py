"""LFW, Labeled Faces in the Wild: 13,233 pictures of 5,749 people in the news, and the 6,000 pairs of its verification test.

Source: Huang, Ramesh, Berg, Learned-Miller, "Labeled Faces in the Wild" (technical report 07-49, University of Massachusetts, Amherst,
2007), vis-www.cs.umass.edu/lfw.
Terms: made for research, open to all; the pictures remain their owners'. Its page warns not to judge by it whether a system is fit for use.
Layout, the one of scikit-learn's loader, IN being its data_home (~/scikit_learn_data) or the folder lfw_home itself:

    IN/lfw_home/lfw_funneled/Aaron_Eckhart/Aaron_Eckhart_0001.jpg       or lfw_home/lfw, not aligned, or lfw_home/lfw-deepfunneled
    IN/lfw_home/pairs.txt, or in the pictures' folder                   "10 300"; a fold: 300 "NAME 1 2", then 300 "NAME 1 OTHER 3"

Command: python data_prep/lfw.py IN OUT [--size 128] [--download]

--download asks scikit-learn's loader for what IN lacks (over 200 MB, checked by SHA-256); without it nothing is ever fetched. The loader
gives arrays without the pictures' names, so the names and pairs are read from its files. Every picture is taken. Of several faces the
set means the one in the middle: it is searched in the box that the set was cut out about, 1/2.2 of the side. FaceFeat-GAN is validated on
this set, at 128 pixels. Beside metadata.csv the protocol is kept in

    pairs.csv       fold (1 to 10), first, second (file_name of the prepared folder), same (1 or 0)

Pairs of which a picture gave no face are left out and listed at the end of the run.
"""
from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from facelab.core import AssetError
from facelab.faces.photos import Shot, prepare_set, set_parser, write_table

MIDDLE = (68.0, 68.0, 182.0, 182.0)  # of 250 x 250 pixels: what the set's detector had found, before 2.2 times as much was cut out


def download(folder: Path) -> None:
    """Let scikit-learn's loader put into ``folder`` what is not there yet."""
    from sklearn.datasets import fetch_lfw_people

    pixel = (slice(125, 126), slice(125, 126))  # it will decode something: one pixel of the one person with over 500 pictures is least
    try:
        fetch_lfw_people(data_home=folder, slice_=pixel, resize=None, min_faces_per_person=500)
    except Exception as error:  # urllib, tarfile and the loader raise many kinds
        raise AssetError(f"scikit-learn could not fetch LFW into {folder} ({error}); delete what is incomplete and try again") from error


def find(folder: Path) -> tuple[Path, Path]:
    """The folder of the pictures, and pairs.txt."""
    places = [folder / home / name for home in ("lfw_home", "") for name in ("lfw_funneled", "lfw", "lfw-deepfunneled")]
    pictures = next((place for place in places if place.is_dir()), None)
    if pictures is None:
        raise AssetError(f"{folder} holds no lfw_home/lfw_funneled: give scikit-learn's data_home, or --download to have it filled")
    pairs = next((file for file in (pictures.parent / "pairs.txt", pictures / "pairs.txt") if file.is_file()), None)
    if pairs is None:
        raise AssetError(f"{pictures.parent} holds no pairs.txt, the verification test; --download fetches it")
    return pictures, pairs


def read_pairs(file: Path) -> list[tuple[str, str, str, str]]:
    """(fold, a picture, another, "1" if they show the same person) for every pair."""
    rows = [line.split() for line in file.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    if not rows or len(rows[0]) != 2 or not all(word.isdecimal() for word in rows[0]):
        raise AssetError(f"{file} is damaged: it does not begin with two numbers, of folds and of pairs")
    folds, count = map(int, rows.pop(0))
    if len(rows) != 2 * folds * count:
        raise AssetError(f"{file} is damaged: it holds {len(rows)} pairs, not {folds} times {count} of one person and {count} of two")
    pairs = []
    for i, words in enumerate(rows):
        same = i % (2 * count) < count
        people, numbers = ((words[0], words[0]), words[1:]) if same else (words[::2], words[1::2])
        if len(words) != (3 if same else 4) or not all(number.isdecimal() for number in numbers):
            raise AssetError(f"{file} is damaged: {' '.join(words)!r} is no pair of {'one person' if same else 'two people'}")
        first, second = (f"{name}/{name}_{int(number):04d}.jpg" for name, number in zip(people, numbers, strict=True))
        pairs.append((str(1 + i // (2 * count)), first, second, str(int(same))))
    return pairs


def shots(folder: Path) -> Iterator[Shot]:
    pictures, pairs = find(folder)
    there = {f"{path.parent.name}/{path.name}" for path in pictures.glob("*/*.jpg")}
    if not there:
        raise AssetError(f"{pictures} holds no Aaron_Eckhart/Aaron_Eckhart_0001.jpg or the like")
    paired = {name for _, *both, _ in read_pairs(pairs) for name in both}
    for key in sorted(there | paired):
        trouble = "" if key in there else "named in pairs.txt, but there is no such picture"
        yield Shot(pictures / key, key, key.partition("/")[0], trouble=trouble, box=MIDDLE)


def protocol(options: argparse.Namespace, names: Mapping[str, str]) -> str:
    pairs = read_pairs(find(options.source)[1])
    kept = [(fold, names[first], names[second], same) for fold, first, second, same in pairs if first in names and second in names]
    table = options.out / "pairs.csv"
    write_table(table, ("fold", "first", "second", "same"), kept)
    lost = [f"\n  fold {fold}: {first}, {second}" for fold, first, second, _ in pairs if first not in names or second not in names]
    return f"{len(kept)} of {len(pairs)} pairs in {table}" + (f"; without a face in one picture or both:{''.join(lost)}" if lost else "")


def main(arguments: list[str] | None = None) -> int:
    parser = set_parser(__doc__)
    parser.set_defaults(size=128)
    parser.add_argument("--download", action="store_true", help="let scikit-learn fetch what IN lacks")

    def listed(options: argparse.Namespace) -> Iterator[Shot]:
        if options.download:
            download(options.source)
        return shots(options.source)

    return prepare_set(parser, listed, arguments, protocol, aside=("download",))


if __name__ == "__main__":
    sys.exit(main())
