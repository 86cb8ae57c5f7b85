"""EmotioNet: about a million pictures from the web with facial action units; AF-VAE's in-the-wild expressions.

Source: Benitez-Quiroz, Srinivasan, Martinez, "EmotioNet" (CVPR 2016), cbcsl.ece.ohio-state.edu.
Terms: lists of addresses, for non-commercial research after a signed agreement; the pictures belong to their owners. Many addresses are
dead by now: download what is left with any tool, each picture under the last part of its address.
Layout: tables directly in IN, tab- or comma-separated with a head line, pictures anywhere below:

    IN/*.csv or *.txt      URL (or file_name), AU 1, AU 2, …       1 present, 0 absent, 999 not known
    IN/…/N_0000000001_00001.jpg

Command: python data_prep/emotionet.py IN OUT

Further columns: action_units, those present ("12 25"). The expression is the prototype of Du, Tao, Martinez (PNAS 2014) with most action
units among those present, empty where two are equally large; "neutral" where all are known to be absent. Each picture is somebody else:
the set does not know identities.
"""
from __future__ import annotations

import csv
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

from facelab.core import AssetError
from facelab.faces.photos import Shot, prepare_set, set_parser

PROTOTYPES = {"smile": {12, 25}, "sad": {4, 15}, "anger": {4, 7, 24}, "fear": {1, 4, 20, 25}, "surprise": {1, 2, 25, 26},
              "disgust": {9, 10, 17}}  # fmt: skip


def expression(present: set[int], absent: set[int], coded: set[int]) -> str:
    if not present:
        return "neutral" if coded and absent == coded else ""
    fits = sorted((len(units), name) for name, units in PROTOTYPES.items() if units <= present)
    if not fits or (len(fits) > 1 and fits[-1][0] == fits[-2][0]):
        return ""
    return fits[-1][1]


def shots(folder: Path) -> Iterator[Shot]:
    tables = sorted([*folder.glob("*.csv"), *folder.glob("*.txt")])
    if not tables:
        raise AssetError(f"{folder} holds no table (*.csv, *.txt) of addresses and action units")
    pictures = {path.name: path for path in sorted(folder.rglob("*")) if path.is_file() and path not in tables}
    seen: set[str] = set()
    for file in tables:
        with open(file, newline="", encoding="utf-8") as stream:
            dialect = "excel-tab" if "\t" in stream.readline() else "excel"
            stream.seek(0)
            reader = csv.DictReader(stream, dialect=dialect, skipinitialspace=True)
            heads = {head: head.strip(" '\"") for head in reader.fieldnames or []}
            units = {head: int(m[1]) for head, name in heads.items() if (m := re.fullmatch(r"AU[ _]*0*(\d+)", name))}
            where = next((head for head, name in heads.items() if name.lower() in ("url", "file_name")), None)
            if where is None or not units:
                raise AssetError(f"{file} needs a column URL or file_name and columns AU 1, AU 2, …; it has {', '.join(heads.values())}")
            for row in reader:
                name = unquote(Path(urlsplit((row[where] or "").strip(" '\"")).path).name)
                if not name or name in seen:
                    continue
                seen.add(name)
                said = {unit: (row[head] or "").strip() for head, unit in units.items()}
                present, absent = ({unit for unit, value in said.items() if value == what} for what in ("1", "0"))
                notes = {"action_units": " ".join(map(str, sorted(present)))}
                trouble = "" if name in pictures else "listed, but not downloaded"
                yield Shot(pictures.get(name, folder / name), name, Path(name).stem, expression(present, absent, set(said)),
                           trouble=trouble, notes=notes)  # fmt: skip


def main(arguments: list[str] | None = None) -> int:
    return prepare_set(set_parser(__doc__), lambda options: shots(options.source), arguments)


if __name__ == "__main__":
    sys.exit(main())
