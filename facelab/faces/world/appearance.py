r"""What a person looks like beyond the shape: skin, eyes, brows, lips, hair, beard, glasses.

An identity's appearance is one row of named numbers, :data:`FIELDS`; ``column("melanin")`` tells where one of them stands.
Choices that go together in people go together here: sex, age and skin tone move hair, beard, brows, make-up and wrinkles.
Colours are linear RGB.
"""

from __future__ import annotations

import numpy as np

from facelab.faces.world.draws import Draws

HAIR_STYLES = ("bald", "buzz", "crop", "quiff", "curly", "afro", "bob", "long", "fringe", "tied", "bun", "rim")
GLASSES = ("none", "round", "square", "aviator")

FIELDS = (
    "male", "age", "melanin", "blood", "warmth", "mottle", "freckles", "redness", "circles", "wrinkles", "oil", "texture_x", "texture_y",
    "skin_r", "skin_g", "skin_b",
    "lip_r", "lip_g", "lip_b", "lip_gloss", "lip_line",
    "brow_thickness", "brow_density", "brow_arch", "brow_length", "brow_r", "brow_g", "brow_b",
    "iris_r", "iris_g", "iris_b", "iris_ring", "iris_radius", "pupil_radius", "sclera",
    "lashes", "eyeshadow", "eyeshadow_r", "eyeshadow_g", "eyeshadow_b",
    "hair_style", "hair_r", "hair_g", "hair_b", "hair_volume", "hair_length", "hair_wave", "hair_part", "hairline", "recession",
    "hair_gloss", "hair_contrast",
    "moustache", "goatee", "cheek_beard", "stubble", "beard_r", "beard_g", "beard_b",
    "glasses", "glasses_r", "glasses_g", "glasses_b", "glasses_width", "glasses_height", "glasses_thickness",
)  # fmt: skip
"""Names of the columns of ``FaceBatch.appearance``."""

DRAWN = 80  # uniform numbers that one identity takes


def column(name: str) -> int:
    """Where the named field stands in a row of ``FaceBatch.appearance``."""
    return FIELDS.index(name)


# Facial skin from very light to very dark, linear RGB reflectance; between them tone is interpolated in absorbance (-log).
_TONES = np.array(
    [
        [0.80, 0.52, 0.42],
        [0.74, 0.44, 0.33],
        [0.63, 0.35, 0.24],
        [0.49, 0.25, 0.155],
        [0.33, 0.155, 0.088],
        [0.185, 0.083, 0.047],
        [0.095, 0.044, 0.027],
    ]
)
_HAIRS = {  # linear RGB
    "black": (0.010, 0.008, 0.007),
    "dark": (0.026, 0.016, 0.010),
    "brown": (0.065, 0.036, 0.019),
    "light": (0.16, 0.093, 0.048),
    "blonde": (0.36, 0.235, 0.115),
    "red": (0.17, 0.056, 0.020),
}
_IRISES = {"dark": (0.022, 0.011, 0.006), "brown": (0.075, 0.033, 0.013), "hazel": (0.12, 0.085, 0.030), "green": (0.12, 0.15, 0.075),
           "blue": (0.12, 0.21, 0.32), "grey": (0.20, 0.24, 0.27)}  # fmt: skip


def skin_tone(melanin: np.ndarray, blood: np.ndarray, warmth: np.ndarray) -> np.ndarray:
    """(N,3) linear reflectance: melanin in [0,1] from very light to very dark; blood and warmth (yellow) about 0."""
    position = np.clip(melanin, 0, 1) * (len(_TONES) - 1)
    low = np.minimum(position.astype(int), len(_TONES) - 2)
    part = (position - low)[:, None]
    absorbance = -np.log(_TONES[low]) * (1 - part) - np.log(_TONES[low + 1]) * part
    absorbance = absorbance + blood[:, None] * [-0.02, 0.12, 0.09] + warmth[:, None] * [0.0, -0.02, 0.10]
    return np.exp(-absorbance)


def _mixed(draws: Draws, palette: dict, weights: np.ndarray) -> np.ndarray:
    """(N,3) colours near one of the palette, chosen by weights (N,K), a little lighter or darker."""
    colour = np.array([*palette.values()])[draws.choice(weights)]
    return colour * np.exp(draws.normal(0, 0.18))[:, None] * np.exp(draws.normal(0, 0.05)[:, None] * [0.5, 0, -1])


def sample_appearance(draws: Draws) -> np.ndarray:
    """(N, len(FIELDS)) float32 appearance rows."""
    f: dict[str, np.ndarray] = {}
    male = f["male"] = draws.chance(0.5).astype(float)
    woman = 1 - male
    age = f["age"] = np.clip(18 + 58 * draws.uniform() ** 1.5, 18, 76)
    old = np.clip((age - 42) / 34, 0, 1)

    group = draws.choice([0.34, 0.28, 0.18, 0.20])  # light, medium, brown, dark: so that all of mankind is seen
    low, high = np.array([0.02, 0.22, 0.46, 0.68])[group], np.array([0.24, 0.46, 0.68, 0.98])[group]
    melanin = f["melanin"] = draws.uniform(low, high)
    light, dark = np.clip(1 - melanin / 0.35, 0, 1), np.clip((melanin - 0.4) / 0.4, 0, 1)
    f["blood"] = draws.normal(0.15 * light, 0.5)
    f["warmth"] = draws.normal(0.1, 0.6)
    f["mottle"] = draws.uniform(0.2, 0.75) * (0.8 + 0.5 * old)
    f["freckles"] = draws.chance(0.05 + 0.22 * light) * draws.uniform(0.1, 0.9) * np.clip(1.2 - melanin * 2, 0, 1)
    f["redness"] = draws.uniform(0.3, 1.0) * (0.7 + 0.5 * male)
    f["circles"] = draws.uniform(0.15, 0.8) + 0.3 * old
    f["wrinkles"] = np.clip((age - 24) / 48, 0, 1) ** 1.2 * draws.uniform(0.7, 1.2)
    f["oil"] = draws.uniform(0.45, 1.15)
    f["texture_x"], f["texture_y"] = draws.uniform(), draws.uniform()
    skin = skin_tone(melanin, f["blood"], f["warmth"])

    red = draws.uniform(0.40, 0.90) + 0.12 * woman
    lip = skin * np.exp(red[:, None] * [-0.22, -0.85, -0.62] + (draws.normal(0, 0.10) - 0.12 * (1 - dark))[:, None])
    wears = draws.chance(0.42 * woman)
    stick = np.array([[0.50, 0.035, 0.045], [0.46, 0.10, 0.12], [0.26, 0.035, 0.055], [0.60, 0.20, 0.17], [0.42, 0.13, 0.10]])[
        draws.choice(np.ones(5))
    ]
    amount = (wears * draws.uniform(0.3, 0.85))[:, None]
    lip = lip * (1 - amount) + amount * stick * (0.45 + 0.55 * np.clip(skin[:, :1] * 1.6, 0, 1))
    f["lip_gloss"] = draws.uniform(0.3, 0.8) + 0.7 * amount[:, 0]
    f["lip_line"] = draws.uniform(0.5, 1.0)

    colours = np.stack(
        [0.10 + 2.5 * melanin, 0.5 + 0 * light, 0.25 + 0.5 * light, 0.5 * light, 0.45 * light * (1 + woman), 0.13 * light], 1
    )
    hair = _mixed(draws, _HAIRS, colours)
    fair = np.clip((hair[:, 0] - 0.08) / 0.2, 0, 1)
    grey = np.clip(draws.normal(1.5 * old**1.2 - 0.15, 0.25), 0, 1) * (1 - 0.6 * woman * draws.chance(0.6))
    hair = hair * (1 - grey[:, None]) + grey[:, None] * np.array([0.42, 0.41, 0.40]) * draws.uniform(0.55, 1.2)[:, None]
    brow = np.minimum(hair, 0.16 * np.array([1, 0.68, 0.42])) * draws.uniform(0.4, 0.8)[:, None] + 0.001
    f["brow_thickness"] = draws.normal(0.60 + 0.20 * male, 0.13) * (1 - 0.1 * old)
    f["brow_density"] = np.clip(draws.normal(0.85 + 0.08 * male - 0.15 * fair, 0.12), 0.5, 1.1)
    f["brow_arch"] = draws.normal(0.10 * woman - 0.02, 0.10)
    f["brow_length"] = draws.uniform(0.92, 1.06)

    blue = light * np.clip(1.3 - 1.2 * (hair[:, 0] < 0.02), 0.2, 1)
    eyes = np.stack([0.15 + 3 * melanin, 0.8 + 0 * blue, 0.5 * blue + 0.1, 0.35 * blue, 1.3 * blue, 0.35 * blue], 1)
    iris = _mixed(draws, _IRISES, eyes)
    f["iris_ring"] = draws.uniform(0.4, 0.9)
    f["iris_radius"] = draws.normal(0.59, 0.015)
    f["pupil_radius"] = draws.uniform(0.17, 0.27)
    f["sclera"] = draws.uniform(0.9, 1.08) - 0.08 * old - 0.08 * dark
    made_up = woman * draws.chance(0.6)
    f["lashes"] = draws.uniform(0.45, 0.7) + 0.15 * woman + 0.3 * made_up * draws.uniform()
    f["eyeshadow"] = made_up * draws.chance(0.6) * draws.uniform(0.15, 0.6)
    shadow = np.array([[0.10, 0.05, 0.035], [0.16, 0.10, 0.12], [0.07, 0.06, 0.06], [0.22, 0.10, 0.07]])[draws.choice(np.ones(4))]

    curls = 0.25 + 3.0 * dark
    man_style = np.stack([0.25 + 1.3 * old, 0.6 + dark, 2.3 - 1.2 * dark, 1.6 - 1.2 * dark, 0.35 * curls, 0.10 * curls,
                          0.07 + 0 * old, 0.12 + 0 * old, 0.04 + 0 * old, 0.08 + 0 * old, 0.06 + 0 * old, 1.6 * old], 1)  # fmt: skip
    woman_style = np.stack([0 * old, 0.03 + 0.15 * dark, 0.25 + 0.6 * old, 0.12 + 0.2 * old, 0.2 * curls, 0.3 * curls,
                            1.2 + 0.8 * old, 2.2 - 1.2 * old, 0.9 + 0 * old, 1.0 + 0 * old, 0.9 + 0 * old, 0 * old], 1)  # fmt: skip
    f["hair_style"] = draws.choice(np.where(male[:, None] > 0, man_style, woman_style)).astype(float)
    f["hair_volume"] = draws.uniform(0.6, 1.35)
    f["hair_length"] = draws.uniform()
    f["hair_wave"] = draws.uniform() ** 1.5
    f["hair_part"] = draws.normal(0, 0.55)
    f["hairline"] = draws.normal(0.1 * male, 0.35)
    f["recession"] = male * np.clip(draws.normal(0.15 + 1.3 * old, 0.35), 0, 2)
    f["hair_gloss"] = draws.uniform(0.35, 1.0) * (1 - 0.35 * old)
    f["hair_contrast"] = draws.uniform(0.6, 1.0)

    shape = draws.choice([0.42, 0.22, 0.20, 0.08, 0.08])  # shaven, stubble, full, goatee, moustache
    density = draws.uniform(0.65, 1.0)
    full, chin, lip_only = shape == 2, shape == 3, shape == 4
    f["moustache"] = male * density * (full | chin | lip_only)
    f["goatee"] = male * density * (full | chin)
    f["cheek_beard"] = male * density * full
    f["stubble"] = male * np.where(shape == 1, draws.uniform(0.45, 0.95), draws.uniform(0.05, 0.4))
    beard = hair * (0.75 + 0.2 * draws.uniform()[:, None]) + 0.002
    f["glasses"] = np.where(draws.chance(0.13 + 0.25 * old), 1 + draws.choice([0.35, 0.45, 0.2]), 0).astype(float)
    metal = draws.chance(0.4)[:, None]
    plastic = np.array([[0.012, 0.011, 0.011], [0.06, 0.025, 0.012], [0.02, 0.025, 0.05], [0.08, 0.012, 0.015]])[draws.choice([4, 2, 1, 1])]
    frame = np.where(metal, np.array([0.30, 0.27, 0.23]) * draws.uniform(0.25, 1)[:, None], plastic)
    f["glasses_width"], f["glasses_height"] = draws.uniform(0.94, 1.08), draws.uniform(0.86, 1.12)
    f["glasses_thickness"] = np.where(metal[:, 0], 0.065, draws.uniform(0.08, 0.16))
    for name, colour in (
        ("skin", skin),
        ("lip", lip),
        ("brow", brow),
        ("iris", iris),
        ("eyeshadow", shadow),
        ("hair", hair),
        ("beard", beard),
        ("glasses", frame),
    ):
        f[f"{name}_r"], f[f"{name}_g"], f[f"{name}_b"] = colour.T
    return np.stack([f[name] for name in FIELDS], 1).astype(np.float32)
