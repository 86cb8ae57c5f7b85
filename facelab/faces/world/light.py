r"""The shot's light and background.

Three soft lamps (key, fill, rim) and a sky-and-ground ambient. A lamp is (azimuth, elevation, r, g, b) in the picture's frame:
azimuth 0 comes from the camera, positive from the image's right; radians. ``FaceBatch.light`` holds the three lamps, then the
colour of the sky and of the ground, 21 numbers in linear light. ``FaceBatch.background`` holds :data:`BACKGROUND` fields.
"""

from __future__ import annotations

import numba
import numpy as np

from facelab.faces.world.draws import Draws

LAMPS = 3
LIGHT = tuple(f"{lamp}_{part}" for lamp in ("key", "fill", "rim") for part in ("azimuth", "elevation", "r", "g", "b")) + (
    "sky_r", "sky_g", "sky_b", "ground_r", "ground_g", "ground_b")  # fmt: skip
BLOBS = 5
BACKGROUND = ("top_r", "top_g", "top_b", "bottom_r", "bottom_g", "bottom_b", "glow_x", "glow_y", "glow") + tuple(
    f"blob{b}_{part}" for b in range(BLOBS) for part in ("x", "y", "radius", "softness", "r", "g", "b")) + (
    "cloth_r", "cloth_g", "cloth_b", "collar", "neckline", "pattern")  # fmt: skip
DRAWN = 96


def directions(light: np.ndarray) -> np.ndarray:
    """(N,3,3) unit vectors towards the three lamps, picture frame with y up and z towards the viewer."""
    angles = light[:, : 5 * LAMPS].reshape(-1, LAMPS, 5)
    azimuth, elevation = angles[..., 0], angles[..., 1]
    return np.stack([np.sin(azimuth) * np.cos(elevation), np.sin(elevation), np.cos(azimuth) * np.cos(elevation)], -1)


def sample_light(draws: Draws) -> np.ndarray:
    """(N,21) float32: from a studio's soft box to a window on one side, with the camera's exposure and white balance in it."""
    n = lambda low, high: draws.uniform(low, high)  # noqa: E731
    frontal = draws.chance(0.55)
    side = np.where(draws.chance(0.5), 1, -1)
    key_azimuth = side * np.where(frontal, n(0.05, 0.6), n(0.5, 1.15))
    key_elevation = n(0.15, 0.85)
    strength = np.where(frontal, n(0.75, 1.05), n(0.85, 1.2))
    kelvin = draws.normal(0, 0.05)
    warm = lambda amount: np.exp(amount[:, None] * [1.0, 0.1, -1.0])  # noqa: E731
    key = strength[:, None] * warm(kelvin)
    fill = (strength * np.where(frontal, n(0.25, 0.5), n(0.08, 0.3)))[:, None] * warm(kelvin + draws.normal(0, 0.06))
    rim = (strength * draws.chance(0.45) * n(0.15, 0.8))[:, None] * warm(draws.normal(0, 0.08))
    ambient = strength * n(0.16, 0.36)
    sky = ambient[:, None] * warm(kelvin - 0.04 + draws.normal(0, 0.05))
    ground = (ambient * n(0.4, 0.8))[:, None] * warm(kelvin + 0.05 + draws.normal(0, 0.05))
    balance = warm(draws.normal(-0.3 * kelvin, 0.03)) * np.exp(draws.normal(0.0, 0.12))[:, None]
    angles = lambda azimuth, elevation, colour: [azimuth[:, None], elevation[:, None], colour * balance]  # noqa: E731
    columns = [
        *angles(key_azimuth, key_elevation, key),
        *angles(-side * n(0.4, 1.1), n(-0.1, 0.5), fill),
        *angles(-side * n(2.0, 2.7), n(0.1, 0.7), rim),
        sky * balance,
        ground * balance,
    ]
    return np.concatenate(columns, 1).astype(np.float32)


def sample_background(draws: Draws) -> np.ndarray:
    """(N, len(BACKGROUND)) float32: paper backdrops, walls and out-of-focus rooms, and what the person wears."""
    studio = draws.chance(0.4)[:, None]
    level = np.exp(draws.normal(-1.2, 0.8))[:, None]
    warmth, green = draws.normal(0, 0.22), draws.normal(0, 0.06)
    hue = np.exp(np.stack([warmth, green, -warmth], 1) * np.where(studio, 0.35, 1.0))
    top = np.clip(level * hue, 0.004, 0.85)
    bottom = np.clip(
        top * np.exp(draws.normal(-0.15, 0.45))[:, None] * np.exp(0.07 * np.stack([draws.normal() for _ in range(3)], 1)), 0.004, 0.85
    )
    columns = [top, bottom, draws.uniform(0.2, 0.8)[:, None], draws.uniform(0.1, 0.7)[:, None], draws.uniform(0.0, 0.6)[:, None]]
    for _ in range(BLOBS):
        radius = draws.uniform(0.06, 0.4)
        colour = np.exp(np.log(top) + draws.normal(0.1, 0.9)[:, None] + 0.15 * np.stack([draws.normal() for _ in range(3)], 1))
        shown = 1 - studio[:, 0]
        columns += [draws.uniform(-0.1, 1.1)[:, None], draws.uniform(-0.1, 1.1)[:, None], radius[:, None],
                    (shown * draws.uniform(0.15, 0.9))[:, None], np.clip(colour, 0.003, 1.2)]  # fmt: skip
    cloths = np.array([[0.75, 0.75, 0.74], [0.02, 0.02, 0.022], [0.03, 0.05, 0.12], [0.25, 0.25, 0.26], [0.30, 0.03, 0.04],
                       [0.05, 0.14, 0.08], [0.20, 0.30, 0.45], [0.45, 0.36, 0.26], [0.42, 0.20, 0.26], [0.10, 0.08, 0.06]])  # fmt: skip
    cloth = cloths[draws.choice([3, 3, 2, 2, 1, 1, 1.5, 1, 0.8, 1])] * np.exp(draws.normal(0, 0.2))[:, None]
    columns += [np.clip(cloth, 0.01, 0.8), draws.uniform()[:, None], draws.uniform()[:, None], draws.uniform()[:, None]]
    return np.concatenate(columns, 1).astype(np.float32)


@numba.njit(cache=True, nogil=True)
def paint_background(row, size, out):
    """Fills ``out`` (size, size, 3), linear light, with the background of one row of ``FaceBatch.background``."""
    for y in range(size):
        v = (y + 0.5) / size
        for x in range(size):
            u = (x + 0.5) / size
            glow = 1 + row[8] * np.exp(-6 * ((u - row[6]) ** 2 + (v - row[7]) ** 2))
            for c in range(3):
                out[y, x, c] = (row[c] + (row[3 + c] - row[c]) * v * v * (3 - 2 * v)) * glow
            for b in range(BLOBS):
                k = 9 + 7 * b
                if row[k + 3] <= 0:
                    continue
                d = np.sqrt((u - row[k]) ** 2 + (v - row[k + 1]) ** 2) / row[k + 2]
                if d < 1.4:
                    edge = min(max((1.4 - d) / 0.8, 0.0), 1.0)
                    weight = row[k + 3] * edge * edge * (3 - 2 * edge)
                    for c in range(3):
                        out[y, x, c] += weight * (row[k + 4 + c] - out[y, x, c])
