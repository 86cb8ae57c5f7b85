"""Perception studies for a class: real or made? And which of these is best?"""
from __future__ import annotations

import csv
import random
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import ipywidgets as widgets
import pandas as pd
from numpy.typing import NDArray
from torch import Tensor

from facelab.core import ShapeError
from facelab.evaluation import RatingError, fool_rate, vote_shares
from facelab.show.pictures import to_pixels
from facelab.show.widgets.parts import jpeg, resize, side_by_side


class _Study:
    """What both forms share: a rater's name, an order of his own, and answers that are kept at once.

    An order follows from the seed and the rater's name, so that one who was interrupted goes on where he was. A form says what its
    questions are (``order``), how one looks (``_show``), which one an answer was to (``_question``), and what came of all (``results``).
    """

    SIDE: ClassVar[int]  # of a picture, px
    READ: ClassVar[Mapping[str, Callable[[str], Any]]]  # column of the file -> what makes its text into a value

    def __init__(self, seed: int, file: str | Path | None):
        self.seed, self.file = seed, Path(file) if file else None
        self._rows: list[dict[str, Any]] = self._read()
        self.rater = widgets.Text(placeholder="your name", layout=widgets.Layout(width="14em"))
        self.begin = widgets.Button(description="begin")
        self.skip = widgets.Button(description="skip", disabled=True)
        self._picture = widgets.Image(format="jpeg", height=self.SIDE, layout=widgets.Layout(visibility="hidden"))
        self._words = widgets.HTML("Give a name and begin.")
        self._left: list[Any] = []
        self._now = ""
        self.begin.on_click(lambda _: self.start(self.rater.value))
        self.skip.on_click(lambda _: self.answer(None))

    def _read(self) -> list[dict[str, Any]]:
        if self.file is None or not self.file.exists():
            return []
        with open(self.file, newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            if list(reader.fieldnames or ()) != list(self.READ):
                raise RatingError(f"{self.file} has the columns {reader.fieldnames}, not {', '.join(self.READ)}: give another file")
            try:
                return [{name: read(row[name]) for name, read in self.READ.items()} for row in reader]
            except (KeyError, ValueError, TypeError):
                raise RatingError(f"{self.file}, line {reader.line_num}: no answer of this form; mend the line or leave it out") from None

    def start(self, rater: str) -> None:
        """Shows the first question that this rater has not answered yet."""
        rater = rater.strip()
        if not rater:
            self._words.value = "A name, please: the answers of one rater are alike, and the interval has to know."
            return
        self._now = rater
        asked = [self._question(row) for row in self._rows if row["rater"] == rater]
        self._left = [question for question in self.order(rater) if question not in asked]
        self._next()

    def _note(self, **row: Any) -> None:
        """Keeps an answer to the question that is shown, and shows the next."""
        self._left.pop(0)
        row = {"rater": self._now} | row
        if self.file:
            fresh = not self.file.exists()
            with open(self.file, "a", newline="", encoding="utf-8") as file:
                writer = csv.DictWriter(file, list(self.READ))
                if fresh:
                    writer.writeheader()
                writer.writerow(row)
        self._rows.append(row)
        self._next()

    def _answered(self, column: str) -> pd.DataFrame:
        return pd.DataFrame([row for row in self._rows if row[column] is not None], columns=list(self.READ))

    def _verdict(self) -> str:
        """What a rater is told at the end about what he did."""
        return ""

    def _next(self) -> None:
        for button in (*self._buttons, self.skip):
            button.disabled = not self._left
        self._picture.layout.visibility = "visible" if self._left else "hidden"
        if self._left:
            self._picture.value = jpeg(self._show(self._left[0]))
            self._words.value = f"{len(self._left)} to go"
            return
        try:
            table = self.results().round(2).to_html()
        except RatingError as error:
            table = f"<p>No table yet: {error}.</p>"
        self._words.value = f"<p>Thank you{self._verdict()}. Everybody so far:</p>{table}"


class Quiz(_Study):
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
    READ: ClassVar = {"rater": str, "method": str, "picture": int, "said_real": {"True": True, "False": False, "": None}.__getitem__}

    def __init__(self, pictures: Mapping[str, Tensor], *, each: int = 10, seed: int = 0, file: str | Path | None = None):
        if "real" not in pictures:
            raise ShapeError(f'one of the methods must be "real"; there are {", ".join(pictures)}')
        self.pictures, self.each = dict(pictures), each
        super().__init__(seed, file)
        self.real, self.made = self._buttons = [widgets.Button(description=name, disabled=True) for name in ("real", "made")]
        self.real.on_click(lambda _: self.answer(True))
        self.made.on_click(lambda _: self.answer(False))
        self.view = widgets.VBox([
            widgets.HBox([self.rater, self.begin]), self._picture, widgets.HBox([self.real, self.made, self.skip]), self._words,
        ])  # fmt: skip
        self.view.add_class("facelab-quiz")

    @property
    def judgements(self) -> pd.DataFrame:
        return self._answered("said_real")

    def order(self, rater: str) -> list[tuple[str, int]]:
        """What a rater sees: (method, number of the picture), shuffled."""
        chance = random.Random(f"{self.seed} {rater}")
        counts = {method: len(those) for method, those in self.pictures.items()}
        shown = [(method, i) for method, n in counts.items() for i in chance.sample(range(n), min(self.each, n))]
        chance.shuffle(shown)
        return shown

    def answer(self, said_real: bool | None) -> None:
        """Notes the answer to the picture that is shown, None for a skipped one, and shows the next."""
        if self._left:
            method, number = self._left[0]
            self._note(method=method, picture=number, said_real=said_real)

    def results(self) -> pd.DataFrame:
        """``evaluation.fool_rate`` of all answers, raters below 50 % on the real pictures dropped. Raises RatingError."""
        return fool_rate(self.judgements, drop_below=0.5)

    def _question(self, row: Mapping[str, Any]) -> tuple[str, int]:
        return row["method"], row["picture"]

    def _show(self, question: tuple[str, int]) -> NDArray:
        method, number = question
        return resize(to_pixels(self.pictures[method][number]), self.SIDE)

    def _verdict(self) -> str:
        own = self.judgements.query("rater == @self._now")
        right = (own.said_real == (own.method == "real")).mean() if len(own) else 0.0
        return f": you were right about {right:.0%} of {len(own)} pictures"


class Vote(_Study):
    """What several methods made of the same pictures, side by side under numbers; a rater says which is best, or skips.

    Every rater gets an order of his own, and so has every question's row of methods; both follow from the seed and his name.

    Args:
        pictures: method -> (N,3,H,W) in [-1, 1], all made from the same N. given: (N,3,H,W), what they were made from, shown first.
        each: how many rows a rater sees, at most N. seed: of the orders.
        file: CSV with the columns rater, picture, chosen (empty: skipped), to which every vote is added at once; what it holds already
            counts. None: the votes live as long as the notebook.

    Attributes:
        votes: DataFrame of all votes so far that were not skipped: rater, picture, chosen.
        rater, begin, choices, skip: the field and the buttons; ``choices`` in the order of the row.
        view: what a notebook displays; its CSS class is ``facelab-vote``.

    Raises: ShapeError for fewer than two methods or not as many pictures of each, RatingError for a file with other columns.
    Source: FaceFeat-GAN, Tables 3 and 4 (each rater chooses one of the methods' results).
    """

    SIDE = 160
    READ: ClassVar = {"rater": str, "picture": int, "chosen": lambda text: text or None}

    def __init__(self, pictures: Mapping[str, Tensor], given: Tensor, *, each: int = 10, seed: int = 0, file: str | Path | None = None):
        wrong = {method: len(made) for method, made in pictures.items() if len(made) != len(given)}
        if len(pictures) < 2 or wrong:
            raise ShapeError(f"a vote needs two methods or more, each with {len(given)} pictures as given; got {len(pictures)}, {wrong}")
        self.pictures, self.given, self.each = dict(pictures), given, each
        super().__init__(seed, file)
        layout = widgets.Layout(width=f"{self.SIDE}px", margin="0")
        self.choices = self._buttons = [
            widgets.Button(description=str(k), disabled=True, layout=layout) for k in range(1, len(pictures) + 1)
        ]  # fmt: skip
        for k, button in enumerate(self.choices):
            button.on_click(lambda _, k=k: self.answer(k))
        row = widgets.HBox([widgets.Label("given", layout=layout), *self.choices], layout=widgets.Layout(overflow="visible"))
        self.view = widgets.VBox([widgets.HBox([self.rater, self.begin]), self._picture, row, self.skip, self._words])
        self.view.add_class("facelab-vote")

    @property
    def votes(self) -> pd.DataFrame:
        return self._answered("chosen")

    def order(self, rater: str) -> list[int]:
        """Numbers of the pictures that a rater is asked about, shuffled."""
        return random.Random(f"{self.seed} {rater}").sample(range(len(self.given)), min(self.each, len(self.given)))

    def row(self, rater: str, picture: int) -> list[str]:
        """The methods as this rater sees them for this picture, from left to right."""
        return random.Random(f"{self.seed} {rater} {picture}").sample(list(self.pictures), len(self.pictures))

    def answer(self, place: int | None) -> None:
        """Notes the vote for the method at this place of the row, from 0, None for a skipped row, and shows the next."""
        if self._left:
            picture = self._left[0]
            self._note(picture=picture, chosen=None if place is None else self.row(self._now, picture)[place])

    def results(self) -> pd.DataFrame:
        """``evaluation.vote_shares`` of all votes. Raises RatingError."""
        return vote_shares(self.votes, list(self.pictures))

    def draw(self, rater: str, picture: int) -> NDArray:
        """uint8 (160, (K + 1) x 160, 3): what was given, and the rater's row of methods."""
        panels = [self.given[picture], *(self.pictures[method][picture] for method in self.row(rater, picture))]
        return side_by_side(panels, self.SIDE)

    def _question(self, row: Mapping[str, Any]) -> int:
        return row["picture"]

    def _show(self, question: int) -> NDArray:
        return self.draw(self._now, question)
