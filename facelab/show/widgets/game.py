"""The smallest GAN, stepped by hand."""
from __future__ import annotations

from typing import Any

import ipywidgets as widgets
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from facelab.core import Reading, ShapeError
from facelab.show.pictures import ACCENT, INK
from facelab.show.widgets.parts import jpeg, string

MADE = "#d9700b"


def _sigmoid(logit: Any) -> Any:
    return 0.5 * (1 + np.tanh(np.asarray(logit) / 2))


class GameStepper:
    r"""A real point at 0, a made one at :math:`\theta`, and a discriminator whose logit is :math:`\psi x`: two players, two numbers.

    The generator descends on :math:`\varphi = -\log \sigma(\psi\theta)`, the discriminator on its loss in either reading plus
    :math:`\tfrac\gamma2 \psi^2`, the R1 penalty; see :mod:`facelab.adversarial`.

    Args: ``start``: where :math:`(\theta, \psi)` begin.

    Attributes:
        rate, gamma: sliders; reading: the two readings; turns: whether both move at once or the generator sees the discriminator's move.
        step, run, again: buttons: one round, ``ROUNDS`` of them, back to the start. path: (T,2), every place so far.
        view: what a notebook displays; its CSS class is ``facelab-game``.
    Source: Mescheder, Geiger and Nowozin 2018 ("Which training methods for GANs do actually converge?"), the Dirac-GAN.
    """

    SIDE, REACH, ROUNDS = 300, 3.0, 100  # px; how far both panels see; rounds of one "run"

    def __init__(self, start: tuple[float, float] = (1.0, 0.0)):
        self.start = start
        self.path = np.array([start], float)
        self.rate, self.gamma = string("learning rate", 0.01, 1.0, 0.01, 0.2), string("R1 weight", 0.0, 2.0, 0.05)
        wide = {"style": {"description_width": "8.5em"}, "layout": widgets.Layout(width="22em")}
        self.reading = widgets.Dropdown(options=[r.value for r in Reading], value=Reading.fixed.value, description="reading", **wide)
        self.turns = widgets.Dropdown(options=["at once", "in turn"], description="moves", **wide)
        self.step, self.run, self.again = (
            widgets.Button(description=text, layout=widgets.Layout(width="7em")) for text in ("step", f"run {self.ROUNDS}", "start again")
        )
        self.step.on_click(lambda button: self._go_on(1))
        self.run.on_click(lambda button: self._go_on(self.ROUNDS))
        self.again.on_click(lambda button: self._go_on(0))
        self._picture = widgets.Image(format="jpeg", height=self.SIDE)
        buttons = widgets.HBox([self.step, self.run, self.again])
        choices = widgets.VBox([self.rate, self.gamma, self.reading, self.turns, buttons], layout=widgets.Layout(max_width="40em"))
        self.view = widgets.VBox([self._picture, choices])
        self.view.add_class("facelab-game")
        self._show()

    def play(
        self, rounds: int, *, rate: float, gamma: float = 0.0, reading: Reading = Reading.fixed, in_turn: bool = False,
        start: tuple[float, float] | None = None,
    ) -> NDArray:  # fmt: skip
        """(rounds + 1, 2): theta and psi from ``start`` on, after every round."""
        theta, psi = self.start if start is None else start
        path = [(theta, psi)]
        for _ in range(rounds):
            # derivatives: of the energy by theta, of the discriminator's loss by psi
            made = _sigmoid(-theta * psi if reading is Reading.literal else theta * psi)
            moved = psi - rate * float(theta * made + gamma * psi)
            seen = moved if in_turn else psi
            theta, psi = theta + rate * float(seen * _sigmoid(-theta * seen)), moved
            path.append((theta, psi))
        return np.array(path)

    def draw(self, path: NDArray) -> NDArray:
        """uint8 (300, 600, 3): the line with both points and D(x), and the plane of (theta, psi) with the path (T,2) so far.

        Raises ShapeError for another shape.
        """
        path = np.asarray(path, float)
        if path.ndim != 2 or path.shape[1] != 2 or not len(path):
            raise ShapeError(f"a path is (T, 2), theta and psi, got {path.shape}")
        twice = 2 * self.SIDE  # drawn at twice the size, then reduced: smooth lines
        picture = Image.new("RGB", (2 * twice, twice), "white")
        pen = ImageDraw.Draw(picture)
        self._line(pen, path[-1])
        self._plane(pen, path)
        return np.asarray(picture.resize((twice, self.SIDE), Image.Resampling.LANCZOS))

    def _across(self, value: Any) -> Any:
        """-REACH … REACH -> pixels of a panel, kept inside it."""
        return 40 + (np.clip(value, -self.REACH, self.REACH) / self.REACH + 1) / 2 * (2 * self.SIDE - 80)

    def _line(self, pen: ImageDraw.ImageDraw, place: NDArray) -> None:
        font, floor, top = ImageFont.load_default(24), 2 * self.SIDE - 120, 110
        theta, psi = place
        x = np.linspace(-self.REACH, self.REACH, 121)
        pen.line([(40, floor), (2 * self.SIDE - 40, floor)], fill="#b8bfc4", width=3)
        pen.line([*zip(self._across(x), floor - _sigmoid(psi * x) * (floor - top), strict=True)], fill=INK, width=4)
        for value, colour, name in ((0.0, ACCENT, "real"), (theta, MADE, "made")):
            at = float(self._across(value))
            level = floor - float(_sigmoid(psi * value)) * (floor - top)
            pen.line([(at, floor), (at, level)], fill=colour, width=3)
            pen.ellipse([at - 11, floor - 11, at + 11, floor + 11], fill=colour)
            pen.text((at, floor + (22 if name == "real" else 54)), name, fill=colour, font=font, anchor="mt")
        pen.text((40, 30), "D(x), from 0 to 1", fill=INK, font=font)

    def _plane(self, pen: ImageDraw.ImageDraw, path: NDArray) -> None:
        font, shift = ImageFont.load_default(24), 2 * self.SIDE
        point = lambda place: (shift + float(self._across(place[0])), shift - float(self._across(place[1])))  # noqa: E731
        pen.line([point((-self.REACH, 0)), point((self.REACH, 0))], fill="#d5dadd", width=3)
        pen.line([point((0, -self.REACH)), point((0, self.REACH))], fill="#d5dadd", width=3)
        if len(path) > 1:
            pen.line([point(place) for place in path], fill=ACCENT, width=3, joint="curve")
        for place, radius, colour in ((path[0], 7, "#8a949b"), (path[-1], 10, MADE)):
            x, y = point(place)
            pen.ellipse([x - radius, y - radius, x + radius, y + radius], fill=colour)
        theta, psi = path[-1]
        pen.text((shift + 40, 30), f"round {len(path) - 1}: theta {theta:.2f}, psi {psi:.2f}", fill=INK, font=font)
        pen.text((2 * shift - 40, shift / 2 + 10), "theta", fill=INK, font=font, anchor="rt")
        pen.text((shift + shift / 2 + 12, 70), "psi", fill=INK, font=font)

    def _go_on(self, rounds: int) -> None:
        if rounds:
            chosen = {"rate": self.rate.value, "gamma": self.gamma.value, "reading": Reading(self.reading.value)}
            more = self.play(rounds, in_turn=self.turns.value == "in turn", start=tuple(self.path[-1]), **chosen)
            self.path = np.concatenate([self.path, more[1:]])
        else:
            self.path = self.path[:1]
        self._show()

    def _show(self) -> None:
        self._picture.value = jpeg(self.draw(self.path))
