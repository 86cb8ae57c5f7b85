"""What the scripts of ``data_prep`` share: their command line, their settings, and who is held out."""
from __future__ import annotations

import argparse
import csv
import io
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from facelab.core import AssetError, FacelabError, ShapeError
from facelab.faces.photos.album import Photos
from facelab.faces.photos.prepare import Shot, prepare_shots, write_whole


def set_parser(about: str) -> argparse.ArgumentParser:
    """The arguments of every data set's script; a script adds its own. ``about`` is the script's docstring."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, metavar="IN", help="the data set's folder")
    parser.add_argument("out", type=Path, metavar="OUT", help="the prepared folder; a second run goes on where the first stopped")
    parser.add_argument("--size", type=int, default=256, help="side of the pictures in pixels (default: %(default)s)")
    parser.add_argument("--detector", choices=("auto", "face-alignment", "dlib"), default="auto", help="what finds faces (default: auto)")
    return parser


def prepare_set(
    parser: argparse.ArgumentParser,
    shots: Callable[[argparse.Namespace], Iterable[Shot]],
    arguments: Sequence[str] | None = None,
    protocol: Callable[[argparse.Namespace, Mapping[str, str]], str] | None = None,
    aside: Sequence[str] = (),
) -> int:
    """Run a data set's script: parse, list the shots, prepare them; 0 on success, 1 without one result, 2 for a mistake in the call.

    Where a set comes with a protocol, ``protocol`` writes it beside metadata.csv: it is given, for the key of every shot that gave a face,
    the name of its file in the prepared folder, and returns what to say of it. ``aside``: the script's own options that do not decide
    what is prepared; with any other a second run in the same folder must agree.
    """
    options = parser.parse_args(arguments)
    settings = {name: str(value) for name, value in vars(options).items() if name not in ("out", "detector", *aside)}
    try:
        if not options.source.is_dir():
            raise AssetError(f"{options.source} is not a folder: give the data set's own")
        listed = list(shots(options))
        every = getattr(options, "every", 1)  # of a set of pictures there is nothing to leave out
        done = prepare_shots(listed, options.out, settings=settings, size=options.size, detector=options.detector, every=every)
        print(done)
        if protocol and done.faces:
            print(protocol(options, {row["source"]: row["file_name"] for row in Photos(options.out).rows}))
    except FacelabError as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 2
    return 0 if done.faces else 1


def write_table(path: Path, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """A protocol's table beside metadata.csv, in the same form: it is either wholly there or not at all."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([columns, *rows])
    write_whole(path, text.getvalue().encode())


def held_out(identities: Iterable[str], share: float) -> set[str]:
    """The identities to test on: every so many of the sorted names, so that the same set gives the same split.

    Raises:
        ShapeError: a share that is not in [0, 1).
    """
    if not 0 <= share < 1:
        raise ShapeError(f"the share of identities held out must be in [0, 1), got {share}")
    names = sorted(set(identities))
    count = round(share * len(names))
    return {names[(2 * i + 1) * len(names) // (2 * count)] for i in range(count)}
