"""The nine expressions as mixtures of a model's named directions, a little different in every shot."""

from __future__ import annotations

import numpy as np

from facelab.faces.batch import EXPRESSIONS
from facelab.faces.world.draws import Draws

RECIPES: dict[str, dict[str, float]] = {
    "neutral": {},
    "smile": {"smile": 0.85, "squint": 0.30, "jaw_open": 0.10, "upper_lip_raise": 0.18, "corner_pull": 0.25},
    "surprise": {"brow_inner_up": 0.85, "brow_outer_up": 0.8, "jaw_open": 0.50, "eyes_wide": 0.7},
    "squint": {"squint": 0.85, "brow_furrow": 0.40, "blink": 0.10, "nose_wrinkle": 0.15},
    "disgust": {"nose_wrinkle": 0.9, "upper_lip_raise": 0.55, "brow_furrow": 0.45, "squint": 0.45, "frown": 0.25},
    "scream": {"jaw_open": 1.0, "brow_furrow": 0.35, "squint": 0.5, "nose_wrinkle": 0.35, "upper_lip_raise": 0.35, "lip_stretch": 0.3},
    "fear": {"brow_inner_up": 0.9, "brow_furrow": 0.35, "eyes_wide": 0.85, "lip_stretch": 0.55, "jaw_open": 0.22},
    "sad": {"brow_inner_up": 0.75, "frown": 0.75, "blink": 0.12, "lip_press": 0.15},
    "anger": {"brow_furrow": 1.0, "lip_press": 0.55, "squint": 0.35, "frown": 0.25, "nose_wrinkle": 0.25, "eyes_wide": 0.2},
}
"""Strengths of directions, named as in the default model; ``blink`` and ``corner_pull`` stand for both sides."""

_BOTH = lambda name, weight=1.0: {f"{name}_L": weight, f"{name}_R": weight}  # noqa: E731
_ICT = {
    "jaw_open": {"jawOpen": 0.8},
    "smile": _BOTH("mouthSmile") | _BOTH("cheekSquint", 0.4),
    "frown": _BOTH("mouthFrown"),
    "pucker": {"mouthPucker": 1.0},
    "lip_press": _BOTH("mouthPress"),
    "corner_pull_left": {"mouthDimple_L": 1.0},
    "corner_pull_right": {"mouthDimple_R": 1.0},
    "brow_inner_up": _BOTH("browInnerUp"),
    "brow_outer_up": _BOTH("browOuterUp"),
    "brow_furrow": _BOTH("browDown"),
    "blink_left": {"eyeBlink_L": 1.0},
    "blink_right": {"eyeBlink_R": 1.0},
    "squint": _BOTH("eyeSquint") | _BOTH("cheekSquint", 0.5),
    "nose_wrinkle": _BOTH("noseSneer"),
    "cheek_puff": _BOTH("cheekPuff"),
    "eyes_wide": _BOTH("eyeWide"),
    "upper_lip_raise": _BOTH("mouthUpperUp"),
    "lip_stretch": _BOTH("mouthStretch"),
    "lower_lip_down": _BOTH("mouthLowerDown"),
}


class Directions:
    """Which of a model's expression directions answer to our names: its own, or ICT-FaceKit's; unknown names are left out."""

    def __init__(self, names: tuple[str, ...]):
        self.count = len(names)
        self._rows: dict[str, np.ndarray] = {}
        for ours, theirs in {n: {n: 1.0} for n in names if n in _ICT}.items() or _ICT.items():
            row = np.zeros(len(names))
            for name, weight in theirs.items():
                if name in names:
                    row[names.index(name)] += weight
            self._rows[ours] = row
        for pair in ("blink", "corner_pull"):
            self._rows[pair] = self._rows.get(f"{pair}_left", np.zeros(self.count)) + self._rows.get(f"{pair}_right", np.zeros(self.count))

    def row(self, name: str) -> np.ndarray:
        """(E,) coefficients of one of our directions at full strength; zeros if the model has nothing like it."""
        return self._rows.get(name, np.zeros(self.count))

    def recipe(self, name: str) -> np.ndarray:
        """(E,) coefficients of one of EXPRESSIONS at full strength."""
        return sum((weight * self.row(part) for part, weight in RECIPES[name].items()), np.zeros(self.count))

    def sample(self, draws: Draws, labels: np.ndarray, gaze_up: np.ndarray) -> np.ndarray:
        """(N,E) float32: each recipe's parts vary by a fifth, its strength from half to full; lids follow the gaze."""
        parts = sorted({part for recipe in RECIPES.values() for part in recipe})
        jitter = {part: draws.normal(1.0, 0.2) for part in parts}
        strength = draws.uniform(0.6, 1.0)
        noise = {
            part: draws.normal()
            for part in (
                "smile",
                "jaw_open",
                "brow_inner_up",
                "brow_outer_up",
                "squint",
                "lip_press",
                "corner_pull_left",
                "corner_pull_right",
            )
        }
        out = np.zeros((len(labels), self.count))
        for row, label in enumerate(labels):
            for part, weight in RECIPES[EXPRESSIONS[label]].items():
                out[row] += strength[row] * weight * max(jitter[part][row], 0.0) * self.row(part)
        scale = {"smile": 0.05, "jaw_open": 0.015, "brow_inner_up": 0.08, "brow_outer_up": 0.08, "squint": 0.08, "lip_press": 0.06}
        for part, value in noise.items():
            out += np.abs(value)[:, None] * scale.get(part, 0.06) * self.row(part)
        lids = np.clip(draws.normal(0.0, 0.05) - 0.5 * gaze_up, -0.12, 0.25)
        out += lids[:, None] * self.row("blink")
        return np.clip(out, -0.2, 1.0).astype(np.float32)
