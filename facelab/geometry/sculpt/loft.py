"""The mean loft: rings from crown to shoulders, and the contours of eyes, lips and brows drawn on its front."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline, PchipInterpolator
from scipy.spatial import cKDTree

Array = NDArray[np.float64]


def bump(x: Array, y: Array, cx: float, cy: float, sx: float, sy: float) -> Array:
    """Gaussian bump of height 1."""
    return np.exp(-0.5 * (((x - cx) / sx) ** 2 + ((y - cy) / sy) ** 2))


def step(t: Array, lo: float, hi: float) -> Array:
    """Smoothstep: 0 below lo, 1 above hi."""
    t = np.clip((t - lo) / (hi - lo), 0, 1)
    return t * t * (3 - 2 * t)


def smooth_max(a: Array, b: Array, k: float) -> Array:
    """Smooth maximum with a fillet of about k cm."""
    h = np.clip(0.5 + 0.5 * (a - b) / k, 0, 1)
    return b + (a - b) * h + k * h * (1 - h)


def natural_spline(x: list[float], y: list[float]) -> CubicSpline:
    return CubicSpline(x, y, bc_type="natural")


# ring:  y front   z front  y side  half width  z of the widest point  y back   z back  front exponent
RINGS = np.array(
    [
        [11.90, -8.60, 11.90, 0.05, -8.65, 11.90, -8.70, 2.0],  # crown
        [11.55, -6.20, 11.50, 2.60, -8.90, 11.50, -11.6, 2.0],
        [10.60, -3.95, 10.50, 4.75, -9.10, 10.40, -14.2, 2.05],
        [8.90, -1.75, 8.90, 6.50, -8.90, 8.60, -16.4, 2.0],
        [6.60, 0.10, 6.90, 7.35, -8.80, 6.20, -17.6, 2.02],  # hairline
        [4.30, 1.05, 4.70, 7.62, -8.70, 3.60, -18.1, 2.05],
        [2.30, 1.20, 2.40, 7.62, -8.80, 1.00, -18.0, 2.2],  # brow
        [0.30, 0.72, 0.50, 7.45, -8.80, -1.60, -17.2, 2.45],  # eyes
        [-2.00, 0.72, -1.60, 7.25, -8.60, -4.00, -15.9, 2.75],  # cheekbones
        [-4.40, 1.05, -3.60, 7.0, -8.40, -6.20, -14.6, 2.7],  # subnasale
        [-6.60, 1.30, -5.40, 6.65, -8.10, -8.20, -13.8, 2.55],  # mouth
        [-8.50, 1.00, -6.80, 6.25, -7.90, -9.90, -13.4, 2.4],  # under the lip
        [-10.1, 0.95, -7.80, 5.85, -7.80, -11.2, -13.2, 2.2],  # chin
        [-11.25, 0.05, -8.40, 5.5, -7.90, -12.2, -13.2, 2.0],  # edge of the jaw
        [-11.65, -2.00, -9.20, 5.05, -8.30, -13.0, -13.3, 1.9],
        [-12.00, -4.30, -10.6, 4.80, -8.70, -13.8, -13.5, 2.0],  # throat
        [-13.40, -5.10, -12.9, 4.90, -9.00, -14.8, -13.8, 2.1],
        [-15.80, -4.85, -15.2, 5.30, -9.20, -15.9, -14.4, 2.1],  # neck
        [-18.00, -3.90, -17.0, 7.60, -9.40, -17.0, -15.2, 2.1],
        [-19.60, -2.90, -18.1, 12.5, -9.70, -18.0, -16.0, 2.2],  # shoulders
        [-22.50, -1.60, -20.2, 17.5, -9.90, -20.0, -16.8, 2.5],
        [-28.00, -0.60, -26.0, 19.0, -10.0, -26.0, -17.0, 2.8],  # chest
    ]
)
JAW_RING, NECK_RING = 13, 14
_V = np.arange(len(RINGS), dtype=float)
_RING_SPLINES = [PchipInterpolator(_V, RINGS[:, i]) if i in (3,) else CubicSpline(_V, RINGS[:, i]) for i in range(RINGS.shape[1])]


def loft(u: Array, v: Array) -> Array:
    """Points of the mean loft: u angle around the head (0 front, +-pi back), v ring number; (…,3)."""
    y_front, z_front, y_side, width, z_side, y_back, z_back, power = (s(v) for s in _RING_SPLINES)
    sine, cosine = np.sin(u), np.cos(u)
    front = cosine >= 0
    n = np.where(front, power, 2.15)
    x = width * np.sign(sine) * np.abs(sine) ** (2 / n)
    depth = np.abs(cosine) ** (2 / n)
    z = z_side + np.where(front, z_front - z_side, z_back - z_side) * depth
    t = np.where(front, sine**2, 1.0)
    y = y_front + (y_side - y_front) * t**1.35 + np.where(front, 0.0, (y_back - y_side) * cosine**2)
    return np.stack([x, y, z], -1)


def unloft(x: Array, y: Array) -> tuple[Array, Array]:
    """(u, v) of the point of the front of the loft that is seen at (x, y)."""
    gu, gv = np.meshgrid(np.linspace(-1.5, 1.5, 121), np.linspace(2, 15, 261), indexing="ij")
    tree = cKDTree(loft(gu, gv)[..., :2].reshape(-1, 2))
    i = tree.query(np.stack([x, y], -1))[1]
    u, v = gu.ravel()[i].copy(), gv.ravel()[i].copy()
    for _ in range(12):  # Newton
        e = 1e-4
        p = loft(u, v)[..., :2]
        du = (loft(u + e, v)[..., :2] - p) / e
        dv = (loft(u, v + e)[..., :2] - p) / e
        det = du[..., 0] * dv[..., 1] - du[..., 1] * dv[..., 0]
        det = np.where(np.abs(det) < 1e-9, 1e-9, det)
        rx, ry = x - p[..., 0], y - p[..., 1]
        u += np.clip((rx * dv[..., 1] - ry * dv[..., 0]) / det, -0.1, 0.1)
        v += np.clip((ry * du[..., 0] - rx * du[..., 1]) / det, -0.3, 0.3)
    return u, v


EYE_X, EYE_R, EYE_Z = 3.13, 1.32, -1.30
INNER, OUTER = -1.42, 1.24  # corners of the eye beside EYE_X
UPPER_LID = natural_spline([INNER, -1.08, -0.45, 0.12, 0.66, 0.97, OUTER], [-0.16, 0.19, 0.53, 0.61, 0.47, 0.23, -0.02])
LOWER_LID = natural_spline([INNER, -1.12, -0.50, 0.12, 0.66, 1.00, OUTER], [-0.16, -0.28, -0.44, -0.50, -0.41, -0.20, -0.02])
MOUTH_Y, MOUTH_X, LENS = -6.93, 2.58, 0.16


def eye_contour(n: int) -> Array:
    """2n points of the right-hand (+x) eye opening: inner corner, over the upper lid, outer corner, back below."""
    t = 0.5 - 0.5 * np.cos(np.pi * np.arange(n) / n)
    x = INNER + (OUTER - INNER) * t
    upper = np.stack([x, UPPER_LID(x)], -1)
    x = OUTER - (OUTER - INNER) * t
    lower = np.stack([x, LOWER_LID(x)], -1)
    return np.concatenate([upper, lower]) + [EYE_X, 0.0]


def lip_line(x: Array) -> Array:
    """Height of the line between the closed lips."""
    a = np.abs(x)
    return MOUTH_Y - 0.06 * np.exp(-((x / 0.45) ** 2)) + 0.05 * np.exp(-(((a - 0.9) / 0.5) ** 2)) + 0.02 * (a / MOUTH_X) ** 3


def upper_lip_edge(x: Array) -> Array:
    t = np.clip(1 - (np.abs(x) / MOUTH_X) ** 2.0, 0, 1)
    return lip_line(x) + 0.70 * t**0.85 - 0.10 * np.exp(-((x / 0.30) ** 2)) + 0.05 * np.exp(-(((np.abs(x) - 0.55) / 0.3) ** 2)) * t


def lower_lip_edge(x: Array) -> Array:
    t = np.clip(1 - (np.abs(x) / MOUTH_X) ** 2.4, 0, 1)
    return lip_line(x) - 1.17 * t**0.8


_BROW = natural_spline([0.9, 1.15, 2.2, 3.35, 4.5, 5.55, 6.2], [1.97, 2.12, 2.60, 2.80, 2.55, 1.80, 1.25])


def brow_line(x: Array) -> Array:
    """Height of the brow's middle line over |x|."""
    return _BROW(np.clip(np.abs(x), 0.9, 6.2))
