"""A prepared folder, read as FaceBatches."""
from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from facelab.core import AssetError, PictureError
from facelab.faces.batch import EXPRESSIONS, FaceBatch
from facelab.faces.photos.align import to_batch
from facelab.faces.photos.read import read_picture
from facelab.geometry.boundary import STRUCTURES


class Photos:
    """A prepared folder, indexed to FaceBatches: ``photos[3]`` (a batch of one), ``photos[2:8]``, ``photos[[5, 1]]``, ``photos[mask]``.

    A batch knows image and landmarks; identity, an index into ``people``; clip, which file a picture is a frame of, where all are frames;
    and expression, where every picture's is known.

    Args:
        folder: what ``prepare_folder`` wrote, or any ImageFolder with the columns file_name and landmarks (JSON, pairs in pixels: 68 of
            a face, or as many as another structure of ``facelab.geometry.boundary.STRUCTURES`` has, the same in all rows).
        where: only the rows whose columns have these values, such as ``split="train"`` or ``camera="05_1"``.

    Attributes:
        folder: where it is.
        rows: metadata.csv, a dictionary of strings for each face.
        people: the names of the identities, sorted.
        size: side of the pictures in pixels.
        landmarks, identity, clip, expression: of all faces, as in FaceBatch.

    Raises:
        AssetError: metadata.csv or a picture is missing or damaged, or no row is as asked.
        PictureError: a picture cannot be read, or is not ``size`` square.
    """

    def __init__(self, folder: str | Path, **where: str) -> None:
        self.folder = Path(folder)
        self.rows = self._read_rows()
        landmarks = [self._row_landmarks(line, row) for line, row in enumerate(self.rows, start=2)]
        counts = sorted({len(points) for points in landmarks})
        if len(counts) > 1:
            raise AssetError(f"{self.folder / 'metadata.csv'} mixes rows of {counts} landmarks: one kind of thing a folder")
        kept = [i for i, row in enumerate(self.rows) if all(row.get(column) == value for column, value in where.items())]
        if not kept:
            values = {column: sorted({row.get(column, "no column") for row in self.rows})[:9] for column in where}
            told = "; ".join(f"{column} is {', '.join(those)}" for column, those in values.items())
            raise AssetError(f"{self.folder} has no picture where {where}: {told}")
        self.rows = [self.rows[i] for i in kept]
        self.landmarks = torch.tensor(np.stack([landmarks[i] for i in kept]))
        names = [row.get("identity") or row["file_name"] for row in self.rows]
        self.people = tuple(sorted(set(names)))
        index = {name: i for i, name in enumerate(self.people)}
        self.identity = torch.tensor([index[name] for name in names])
        _, clip = np.unique([row.get("source", "") for row in self.rows], return_inverse=True)
        self.clip = torch.from_numpy(clip) if all(row.get("frame") for row in self.rows) else None
        labels = [row.get("expression") for row in self.rows]
        known = all(label in EXPRESSIONS for label in labels)
        self.expression = torch.tensor([EXPRESSIONS.index(label) for label in labels]) if known else None
        self.size = self._read(0, None).shape[0]

    def _read_rows(self) -> list[dict[str, str]]:
        table = self.folder / "metadata.csv"
        if not table.is_file():
            raise AssetError(f"{table} does not exist: make a prepared folder with `facelab prepare PICTURES {self.folder}`")
        try:
            with open(table, newline="", encoding="utf-8") as file:
                rows = list(csv.DictReader(file, strict=True))
        except (csv.Error, OSError, UnicodeDecodeError) as error:
            raise AssetError(f"{table} is damaged ({error}); prepare the folder again") from error
        if not rows:
            raise AssetError(f"{table} names no picture: rejects.csv beside it says why none could be used")
        missing = {"file_name", "landmarks"} - set(rows[0])
        if missing:
            raise AssetError(f"{table} has no column {', '.join(sorted(missing))}; it has {', '.join(map(str, rows[0]))}")
        seen: set[str] = set()
        for line, row in enumerate(rows, start=2):
            name = row["file_name"]
            if None in row.values() or None in row or not name:
                raise AssetError(f"{table} line {line} has too few or too many columns; run the same `facelab prepare` again to mend it")
            if Path(name).is_absolute() or ".." in Path(name).parts:
                raise AssetError(f"{table} line {line} names {name}, which lies outside the folder")
            if name in seen:
                raise AssetError(f"{table} line {line} names {name} a second time")
            if not (self.folder / name).is_file():
                raise AssetError(f"{self.folder / name} is missing, but line {line} of metadata.csv names it; delete that line")
            seen.add(name)
        return rows

    def _row_landmarks(self, line: int, row: dict[str, str]) -> NDArray:
        try:
            points = np.array(json.loads(row["landmarks"]), np.float32)
        except (ValueError, TypeError) as error:
            raise AssetError(f"{self.folder / 'metadata.csv'} line {line}: landmarks are no JSON list of numbers ({error})") from error
        if points.ndim != 2 or points.shape[1] != 2 or len(points) not in STRUCTURES or not np.isfinite(points).all():
            known = ", ".join(map(str, STRUCTURES))
            raise AssetError(f"{self.folder / 'metadata.csv'} line {line}: landmarks must be {known} finite pairs, got {points.shape}")
        return points

    def _read(self, index: int, size: int | None) -> NDArray:
        path = self.folder / self.rows[index]["file_name"]
        if not path.is_file():
            raise AssetError(f"{path} is gone; restore it, or delete its line of metadata.csv")
        try:
            picture = read_picture(path)
        except PictureError as error:
            raise PictureError(f"{path}: {error}") from error
        height, width = picture.shape[:2]
        if height != width or (size and height != size):
            raise PictureError(f"{path} is {width}x{height}, not {size or height}x{size or height} like the folder; prepare it again")
        return picture

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int | slice | list[int] | tuple[int, ...] | Tensor | NDArray) -> FaceBatch:
        chosen = torch.from_numpy(np.arange(len(self))[np.asarray(index, int) if isinstance(index, list | tuple) else index].reshape(-1))
        pictures = [to_batch(self._read(i, self.size)) for i in chosen.tolist()]
        return FaceBatch(
            image=torch.cat(pictures) if pictures else torch.zeros(0, 3, self.size, self.size),
            landmarks=self.landmarks[chosen],
            identity=self.identity[chosen],
            clip=None if self.clip is None else self.clip[chosen],
            expression=None if self.expression is None else self.expression[chosen],
        )

    def __repr__(self) -> str:
        return f"Photos({len(self)} faces of {len(self.people)} people, {self.size} px, {self.folder})"
