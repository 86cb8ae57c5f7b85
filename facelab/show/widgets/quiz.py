"""Real or made? A perception study for a class."""
from __future__ import annotations

import csv
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ipywidgets as widgets
import pandas as pd
from torch import Tensor

from facelab.core import ShapeError
from facelab.evaluation import RatingError, fool_rate
from facelab.show.pictures import to_pixels
from facelab.show.widgets.parts import jpeg, resize

COLUMNS = ("rater", "method", "picture", "said_real")


class Quiz:
    """Pictures of several methods and real ones, one at a time in random order; what raters answer is a table for ``evaluation``.

    Every rater gets an order of his own, which follows from the seed and his name, so that one who was interrupted goes on where he
    was. As in FVAE's study a picture can be skipped, and then does not count; nobody is told what was right before the end.

    Args:
        pictures: method -> (N,3,H,W) in [-1, 1]; the real ones are a method too, called ``real``.
        each: how many of every method a rater sees, at most N; FVAE: 10.
        seed: of the orders.
        file: CSV with the columns rater, method, picture, said_real (empty: skipped), to which every answer is added at once; what it
            holds already counts. None: the answers live as long as the notebook.

    Attributes:
        judgements: DataFrame of all answers so far that were not skipped: rater, method, picture, said_real.
        rater, begin, real, made, skip: the field and the buttons.
        view: what a notebook displays; its CSS class is ``facelab-quiz``.

    Raises: ShapeError without a method ``real``, RatingError for a file with other columns.
    Source: FVAE 6.3 (25 raters, 10 pictures of each method, skipped pictures not counted, raters below 50 % on real ones dropped).
    """

    SIDE = 288

    def __init__(self, pictures: Mapping[str, Tensor], *, each: int = 10, seed: int = 0, file: str | Path | None = None):
        if "real" not in pictures:
            raise ShapeError(f'one of the methods must be "real"; there are {", ".join(pictures)}')
        self.pictures, self.each, self.seed = dict(pictures), each, seed
        self.file = Path(file) if file else None
        self._rows: list[dict[str, Any]] = self._read()
        self.rater = widgets.Text(placeholder="your name", layout=widgets.Layout(width="14em"))
        self.begin = widgets.Button(description="begin")
        self.real, self.made, self.skip = (widgets.Button(description=name, disabled=True) for name in ("real", "made", "skip"))
        self._picture = widgets.Image(format="jpeg", height=self.SIDE, layout=widgets.Layout(visibility="hidden"))
        self._words = widgets.HTML("Give a name and begin.")
        self._left: list[tuple[str, int]] = []
        self._now = ""
        self.view = widgets.VBox([
            widgets.HBox([self.rater, self.begin]), self._picture, widgets.HBox([self.real, self.made, self.skip]), self._words,
        ])  # fmt: skip
        self.view.add_class("facelab-quiz")
        self.begin.on_click(lambda _: self.start(self.rater.value))
        for button, said in ((self.real, True), (self.made, False), (self.skip, None)):
            button.on_click(lambda _, said=said: self.answer(said))

    def _read(self) -> list[dict[str, Any]]:
        if self.file is None or not self.file.exists():
            return []
        with open(self.file, newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            if tuple(reader.fieldnames or ()) != COLUMNS:
                raise RatingError(f"{self.file} has the columns {reader.fieldnames}, not {', '.join(COLUMNS)}: give another file")
            values = {"True": True, "False": False, "": None}
            return [row | {"picture": int(row["picture"]), "said_real": values[row["said_real"]]} for row in reader]

    @property
    def judgements(self) -> pd.DataFrame:
        return pd.DataFrame([row for row in self._rows if row["said_real"] is not None], columns=list(COLUMNS))

    def order(self, rater: str) -> list[tuple[str, int]]:
        """What a rater sees: (method, number of the picture), shuffled."""
        chance = random.Random(f"{self.seed} {rater}")
        counts = {method: len(those) for method, those in self.pictures.items()}
        shown = [(method, i) for method, n in counts.items() for i in chance.sample(range(n), min(self.each, n))]
        chance.shuffle(shown)
        return shown

    def start(self, rater: str) -> None:
        """Shows the first picture that this rater has not answered yet."""
        rater = rater.strip()
        if not rater:
            self._words.value = "A name, please: the answers of one rater are alike, and the interval has to know."
            return
        self._now = rater
        seen = {(row["method"], row["picture"]) for row in self._rows if row["rater"] == rater}
        self._left = [shown for shown in self.order(rater) if shown not in seen]
        self._next()

    def answer(self, said_real: bool | None) -> None:
        """Notes the answer to the picture that is shown, None for a skipped one, and shows the next."""
        if not self._left:
            return
        method, number = self._left.pop(0)
        row = {"rater": self._now, "method": method, "picture": number, "said_real": said_real}
        if self.file:
            fresh = not self.file.exists()
            with open(self.file, "a", newline="", encoding="utf-8") as file:
                writer = csv.DictWriter(file, COLUMNS)
                if fresh:
                    writer.writeheader()
                writer.writerow(row)
        self._rows.append(row)
        self._next()

    def results(self) -> pd.DataFrame:
        """``evaluation.fool_rate`` of all answers, raters below 50 % on the real pictures dropped. Raises RatingError."""
        return fool_rate(self.judgements, drop_below=0.5)

    def _next(self) -> None:
        for button in (self.real, self.made, self.skip):
            button.disabled = not self._left
        self._picture.layout.visibility = "visible" if self._left else "hidden"
        if self._left:
            method, number = self._left[0]
            self._picture.value = jpeg(resize(to_pixels(self.pictures[method][number]), self.SIDE))
            self._words.value = f"{len(self._left)} to go"
            return
        own = self.judgements.query("rater == @self._now")
        right = (own.said_real == (own.method == "real")).mean() if len(own) else 0.0
        try:
            table = self.results().round(2).to_html()
        except RatingError as error:
            table = f"<p>No table yet: {error}.</p>"
        self._words.value = f"<p>Thank you: you were right about {right:.0%} of {len(own)} pictures. Everybody so far:</p>{table}"
