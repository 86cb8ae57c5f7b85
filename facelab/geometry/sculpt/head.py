"""A whole head: the skin with ears, rolled lips, lid margins, eyes, teeth and the inside of the mouth."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline

from facelab.geometry.morphable import EYE, MOUTH, NECK, SKIN, TEETH
from facelab.geometry.sculpt.features import skin_surface, stretch
from facelab.geometry.sculpt.loft import (
    EYE_R,
    EYE_X,
    EYE_Z,
    LENS,
    MOUTH_X,
    MOUTH_Y,
    NECK_RING,
    Array,
    brow_line,
    eye_contour,
    lip_line,
    loft,
    lower_lip_edge,
    step,
    upper_lip_edge,
)
from facelab.geometry.sculpt.proportions import PROPORTIONS
from facelab.geometry.sculpt.template import Template, template


def _strip(start: int, below: NDArray[np.int64], count: int, closed: bool) -> NDArray[np.int64]:
    """Triangles of ``count`` rows of vertices numbered from ``start``, the first sewn to the vertices ``below``."""
    n = len(below)
    rows = [below] + [start + n * k + np.arange(n) for k in range(count)]
    last = n if closed else n - 1
    out = []
    for r0, r1 in zip(rows, rows[1:], strict=False):
        i, j = np.arange(last), (np.arange(last) + 1) % n
        out += [np.stack([r0[i], r0[j], r1[i]], -1), np.stack([r0[j], r1[j], r1[i]], -1)]
    return np.concatenate(out)


def _facing(triangles: NDArray[np.int64], as_drawn: bool) -> NDArray[np.int64]:
    return triangles if as_drawn else triangles[:, ::-1]


_EAR = np.array(
    [  # outline in ear coordinates (forward, up), fractions of the ear's height, from the top root backwards
        [0.16, 0.36],
        [0.10, 0.47],
        [-0.04, 0.52],
        [-0.20, 0.50],
        [-0.33, 0.40],
        [-0.38, 0.24],
        [-0.36, 0.06],
        [-0.30, -0.12],
        [-0.22, -0.26],
        [-0.15, -0.38],
        [-0.06, -0.47],
        [0.05, -0.49],
        [0.13, -0.42],
        [0.16, -0.30],
        [0.15, -0.15],
        [0.16, 0.02],
        [0.17, 0.20],
    ]
)
EAR_POINTS, EAR_ROWS = 40, 9


def _ears(p: dict[str, float]) -> Array:
    """Both auricles, right-hand (+x) first: rows of shrinking outlines with the relief of helix, antihelix and concha."""
    outline = CubicSpline(np.linspace(0, 1, len(_EAR) + 1), np.concatenate([_EAR, _EAR[:1]]), bc_type="periodic")(
        np.arange(EAR_POINTS) / EAR_POINTS
    )
    height = 5.7 * (1 + p["ear_size"])
    rows = []
    centre = np.array([-0.02, 0.02])
    angle = np.arange(EAR_POINTS) / EAR_POINTS
    back = np.clip(np.sin(np.pi * np.clip((angle - 0.02) / 0.62, 0, 1)), 0, 1)  # 1 along the free rim, 0 at the root
    relief = [-0.30, 0.06, 0.17, 0.08, -0.05, 0.05, -0.12, -0.30, -0.36]
    scale = [0.97, 1.02, 0.95, 0.86, 0.76, 0.64, 0.48, 0.28, 0.06]
    for k, (r, h) in enumerate(zip(scale, relief, strict=True)):
        q = centre + (outline - centre) * r
        lobe = step(-q[:, 1], 0.22, 0.36)
        out = (h * (0.35 + 0.65 * back)) * (1 - 0.75 * lobe * (k > 2)) - 0.10 * lobe
        rows.append(np.stack([q[:, 0] * height, q[:, 1] * height, out * height * 0.16], -1))
    forward, up, out = np.concatenate(rows).T
    # the ear leans back, flares from the head, and follows its side
    lean = 0.16
    fz, fy = forward * np.cos(lean) + up * np.sin(-lean), up * np.cos(lean) + forward * np.sin(lean)
    flare = 0.42 + p["ear_flare"]
    fx = out + np.clip(0.17 * height - forward, 0, None) * np.sin(flare) * 0.85
    fz = fz * np.cos(flare * 0.6)
    ear = np.stack([7.02 + fx, -1.35 + fy, -9.0 + fz], -1)
    ear = stretch(ear, np.full(len(ear), 7.0), np.full(len(ear), -1.3), np.full(len(ear), -9.0), p)
    return np.concatenate([ear, ear * [-1, 1, 1]])


_EYE_RINGS, _EYE_AROUND = 11, 24


def _eyeballs(p: dict[str, float]) -> Array:
    """Front shells of both eyeballs, right-hand (+x) first, a little behind the lids."""
    r, t = np.meshgrid(np.linspace(0, 1, _EYE_RINGS) ** 0.9, np.arange(_EYE_AROUND) / _EYE_AROUND * 2 * np.pi, indexing="ij")
    r, t = r[1:], t[1:]
    x = np.concatenate([[0.0], (r * np.cos(t)).ravel()]) * 1.54
    y = np.concatenate([[0.0], (r * np.sin(t)).ravel()]) * 0.86
    z = EYE_R * np.sqrt(np.clip(1 - (x / 1.92) ** 2 - (y / EYE_R) ** 2, 0, None)) - 0.13
    z += 0.04 * np.exp(-((x**2 + y**2) / 0.34)) - 0.22 * np.hypot(x / 1.54, y / 0.86) ** 6  # cornea; the rim dips under the lids
    ball = np.stack([EYE_X + x, y + 0.02, EYE_Z - p["eye_depth"] + z], -1)
    ball[:, 0] += p["eye_distance"] + p["eye_width"] * x * 0.8
    ball[:, 1] += p["eye_tilt"] * x * 0.8
    both = np.concatenate([ball + [0, p["asymmetry_eyes"], 0], ball * [-1, 1, 1] - [0, p["asymmetry_eyes"], 0]])
    return both


TOOTH_COLUMNS = 41


def _arch(p: dict[str, float], top: float, bottom: float, set_back: float, narrow: float) -> Array:
    """Front of one dental arch: five rows of vertices from the gum down (or up) over the teeth, bulging tooth by tooth."""
    u = np.linspace(-1, 1, TOOTH_COLUMNS)
    x = 2.75 * narrow * np.sin(u * 1.35) / np.sin(1.35)
    z = 1.60 - set_back - 3.1 * (np.abs(u) ** 2.3)
    bulge = 0.07 * np.abs(np.sin(np.pi * (u * 6.0 + 0.0))) ** 0.5
    rows = []
    for k, (h, out) in enumerate(((1.35, -0.25), (1.0, -0.02), (0.5, 0.04), (0.08, 0.0), (0.0, -0.22))):
        y = bottom + (top - bottom) * h
        rows.append(
            np.stack([x, np.full_like(x, y) + 0.10 * np.abs(u) ** 2 * np.sign(top - bottom), z + out + (bulge if 0 < k < 4 else 0)], -1)
        )
    arch = np.concatenate(rows)
    moved = np.stack([arch[:, 0], np.full(len(arch), MOUTH_Y), np.full(len(arch), 0.0)], -1)
    arch = arch + (stretch(moved, *moved.T, p) - moved) * [0, 1, 0]
    arch[:, 2] += p["lip_projection"] * 0.8
    return arch


class Head:
    """Numbers of all vertices and triangles of a head: skin, ears, rolled lips, lid margins, eyes, teeth, mouth."""

    def __init__(self) -> None:
        t = template()
        n = len(t.u)
        blocks: list[NDArray[np.int64]] = [t.triangles]
        parts = [np.where((t.v > NECK_RING + 0.4), NECK, SKIN)]
        self.skin = slice(0, n)
        # ears; of two mirrored halves one is turned, so that every triangle faces outwards (the mouth's face the tongue)
        for mirrored in (False, True):
            first = n + np.arange(EAR_POINTS)
            blocks.append(_facing(_strip(n + EAR_POINTS, first, EAR_ROWS - 1, True), mirrored))
            n += EAR_POINTS * EAR_ROWS
        parts.append(np.full(2 * EAR_POINTS * EAR_ROWS, SKIN))
        # lid margins: two rows behind each eye's contour
        eye = eye_contour(26)
        self.lids = [t.at(eye), t.at(eye * [-1, 1])]
        for ring, mirrored in zip(self.lids, (False, True), strict=True):
            blocks.append(_facing(_strip(n, ring, 2, True), mirrored))
            parts.append(np.full(2 * len(ring), SKIN))
            n += 2 * len(ring)
        # lips: two rows rolled inwards (skin), then the inside of the mouth, sewn to copies of the last row
        lens = np.linspace(-MOUTH_X, MOUTH_X, 49)
        gap = LENS * np.clip(1 - (lens / MOUTH_X) ** 2, 0, 1)
        upper = t.at(np.stack([lens, lip_line(lens) + gap], -1))
        lower = t.at(np.stack([lens, lip_line(lens) - gap], -1)[1:-1])
        self.lip_ring = np.concatenate([upper, lower[::-1]])
        self.upper_count = len(upper)
        blocks.append(_facing(_strip(n, self.lip_ring, 2, True), False))
        parts.append(np.full(2 * len(self.lip_ring), SKIN))
        n += 2 * len(self.lip_ring)
        m = len(self.lip_ring)
        blocks.append(_facing(_strip(n + m, n + np.arange(m), 4, True), False))
        parts.append(np.full(5 * m, MOUTH))
        n += 5 * m
        # eyeballs
        for mirrored in (False, True):
            around = n + 1 + np.arange(_EYE_AROUND)
            i = np.arange(_EYE_AROUND)
            cap = np.stack([np.full(_EYE_AROUND, n), around[(i + 1) % _EYE_AROUND], around[i]], -1)
            blocks += [_facing(b, mirrored) for b in (cap, _strip(n + 1 + _EYE_AROUND, around, _EYE_RINGS - 2, True))]
            size = 1 + _EYE_AROUND * (_EYE_RINGS - 1)
            parts.append(np.full(size, EYE))
            n += size
        # teeth, upper and lower, whose rows run down and up
        for upwards in (False, True):
            blocks.append(_facing(_strip(n + TOOTH_COLUMNS, n + np.arange(TOOTH_COLUMNS), 4, False), upwards))
            parts.append(np.full(5 * TOOTH_COLUMNS, TEETH))
            n += 5 * TOOTH_COLUMNS
        self.triangles = np.concatenate(blocks)
        self.parts = np.concatenate(parts).astype(np.uint8)
        self.landmarks = self._landmarks(t)

    def _landmarks(self, t: Template) -> NDArray[np.int64]:
        out = np.zeros(68, np.int64)
        # jaw: along the side of the face, then the edge of the jaw
        heights = [0.10, -2.0, -4.0, -5.9, -7.7]
        jaw = [(1.16 + 0.03 * i, h) for i, h in enumerate(heights)]
        for i, (u, h) in enumerate(jaw):
            v = np.interp(-h, -loft(np.full(400, u), np.linspace(4, 14, 400))[:, 1], np.linspace(4, 14, 400))
            out[16 - i], out[i] = self._near_uv(t, u, v), self._near_uv(t, -u, v)
        for i, (u, v) in enumerate([(0.98, 12.5), (0.66, 12.8), (0.32, 13.0)]):
            out[11 - i], out[5 + i] = self._near_uv(t, u, v), self._near_uv(t, -u, v)
        out[8] = self._near_uv(t, 0.0, 13.0)
        bx = np.array([1.15, 2.2, 3.35, 4.5, 5.40])
        out[22:27] = t.at(np.stack([bx, brow_line(bx) + 0.10], -1))
        out[21:16:-1] = t.at(np.stack([-bx, brow_line(bx) + 0.10], -1))
        out[27:31] = t.at(np.stack([np.zeros(4), [0.25, -0.80, -1.95, -3.20]], -1))
        nx = np.array([1.25, 0.66, 0.0])
        ny = np.array([-4.42, -4.60, -4.70])
        out[[35, 34, 33]] = t.at(np.stack([nx, ny], -1))
        out[[31, 32]] = t.at(np.stack([-nx[:2], ny[:2]], -1))
        right = self.lids[0]  # 26 over the top from the inner corner, 26 below from the outer
        out[42:48] = right[[0, 9, 17, 26, 35, 43]]
        left = self.lids[1]
        out[36:42] = left[[26, 17, 9, 0, 43, 35]]
        ring = self.lip_ring
        line = lambda xs, f: t.at(np.stack([np.array(xs), f(np.array(xs))], -1))  # noqa: E731
        out[48], out[54] = ring[0], ring[self.upper_count - 1]
        out[49:54] = line([-1.55, -0.55, 0.0, 0.55, 1.55], upper_lip_edge)
        out[55:60] = line([1.55, 0.70, 0.0, -0.70, -1.55], lower_lip_edge)
        lens = np.linspace(-MOUTH_X, MOUTH_X, 49)
        near = lambda v: int(np.abs(lens - v).argmin())  # noqa: E731
        out[60:65] = ring[[near(-2.15), near(-0.7), near(0.0), near(0.7), near(2.15)]]
        lower = ring[self.upper_count :][::-1]
        out[65:68] = lower[[near(0.7) - 1, near(0.0) - 1, near(-0.7) - 1]]
        return out

    @staticmethod
    def _near_uv(t: Template, u: float, v: float) -> int:
        return int(np.linalg.norm(t.rest - loft(np.array([u]), np.array([v])), axis=1).argmin())


@lru_cache(maxsize=1)
def head_mesh() -> Head:
    return Head()


def scan(proportions: dict[str, float] | None = None) -> Array:
    """A head with the given proportions (missing ones are 0, the mean): (V,3) cm, registered to all other scans.

    Raises KeyError for a proportion that PROPORTIONS does not list.
    """
    p = dict.fromkeys(PROPORTIONS, 0.0)
    for name, value in (proportions or {}).items():
        if name not in p:
            raise KeyError(f"no proportion {name!r}; there are {', '.join(PROPORTIONS)}")
        p[name] = value
    head = head_mesh()
    skin = skin_surface(p)
    out = [skin, _ears(p)]
    for ring in head.lids:
        edge = skin[ring]
        centre = edge.mean(0)
        out += [edge + (centre - edge) * [0.03, 0.05, 0] - [0, 0, 0.10], edge + (centre - edge) * [-0.12, -0.22, 0] - [0, 0, 0.32]]
    lips = skin[head.lip_ring]
    upper = (np.arange(len(lips)) < head.upper_count).astype(float)
    open_ = np.clip(1 - (np.abs(lips[:, 0]) / (MOUTH_X * 0.98)) ** 2, 0, 1) * (2 * upper - 1)
    lift = lambda amount: np.stack([0 * open_, amount * open_, 0 * open_], -1)  # noqa: E731
    rows = [lips + lift(0.03) - [0, 0, 0.22], lips + lift(0.22) - [0, 0, 0.55]]
    out += rows
    centre = lips.mean(0)
    inner = rows[-1]
    for back, size, tall in ((0.0, 1.0, 0.0), (0.9, 1.03, 0.9), (2.2, 1.02, 1.8), (4.0, 0.9, 1.9), (5.0, 0.0, 0.0)):
        q = centre + (inner - centre) * [size, min(size, 1), 1] + lift(tall)
        q[:, 2] = inner[:, 2] * (1 - min(back, 1)) + (centre[2] - 0.5) * min(back, 1) - back
        out.append(q)
    out += [_eyeballs(p), _arch(p, -5.75, -6.92, 0.42, 1.0), _arch(p, -7.75, -6.80, 0.85, 0.92)]
    return np.concatenate(out)
