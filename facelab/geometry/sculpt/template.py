"""The template: one mesh for all heads, drawn on the mean loft, dense where a face has detail."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from matplotlib.path import Path
from numpy.typing import NDArray
from scipy.spatial import Delaunay, cKDTree

from facelab.geometry.sculpt.loft import (
    EYE_X,
    LENS,
    MOUTH_X,
    RINGS,
    Array,
    bump,
    eye_contour,
    lip_line,
    loft,
    lower_lip_edge,
    step,
    unloft,
    upper_lip_edge,
)


class Template:
    """The mesh on the mean loft: (u, v) of every skin vertex, its mean (x, y), triangles, strips and landmark vertices."""

    def __init__(self) -> None:
        eye = eye_contour(26)
        lens = np.linspace(-MOUTH_X, MOUTH_X, 49)
        gap = LENS * np.clip(1 - (lens / MOUTH_X) ** 2, 0, 1)
        upper_in = np.stack([lens, lip_line(lens) + gap], -1)
        lower_in = np.stack([lens, lip_line(lens) - gap], -1)[1:-1]
        upper_out = np.stack([lens, upper_lip_edge(lens)], -1)[1:-1]
        lower_out = np.stack([lens, lower_lip_edge(lens)], -1)[1:-1]
        rings = [eye]
        centre = np.array([EYE_X, 0.05])
        for grow, lift in ((1.10, 0.0), (1.22, 0.02), (1.38, 0.05), (1.56, 0.08)):
            rings.append(centre + (eye - centre) * [1 + (grow - 1) * 0.75, grow + 0.25 * (grow - 1) * 2] + [0, lift])
        contours = [np.concatenate([r, r * [-1, 1]]) for r in rings] + [upper_in, lower_in]
        for w in (0.33, 0.66):
            contours += [(upper_in * (1 - w))[1:-1] + upper_out * w, lower_in * (1 - w) + lower_out * w]
        contours += [upper_out, lower_out]
        fixed = np.concatenate(contours)
        # a regular grid keeps the steep sides of the nose smooth
        rows = np.concatenate([np.arange(1.0, -2.6, -0.21), np.arange(-2.7, -4.95, -0.115)])
        grid = np.stack(np.meshgrid(np.arange(-7, 8) * 0.27, rows), -1).reshape(-1, 2)
        fixed = np.concatenate([fixed, grid[cKDTree(fixed).query(grid)[0] > 0.17]])
        u, v = unloft(fixed[:, 0], fixed[:, 1])
        self.fixed_count = len(u)
        self.u, self.v = self._fill(u, v)
        self._connect(eye, upper_in, lower_in)

    def _fill(self, u: Array, v: Array) -> tuple[Array, Array]:
        """Adds vertices with a spacing that follows the detail of the face: half of the head, then its mirror image."""
        rng = np.random.default_rng(7)
        cu = rng.uniform(0, np.pi, 600_000)
        cv = rng.uniform(0, len(RINGS) - 1, 600_000)
        points = loft(cu, cv)
        x, y, z = points.T
        # Candidates are uniform in (u, v); dart throwing below makes them uniform in space.
        front = step(z, -9, -4) * step(y, -12.5, -11)
        spacing = 1.10 - 0.72 * front
        spacing = spacing - 0.10 * front * step(y, -12, -10) * step(-y, -5, -3)
        detail = np.max([bump(x, y, EYE_X, 0.3, 2.1, 1.5), bump(x, y, 0, -3.2, 1.7, 2.2), bump(x, y, 0, -6.8, 2.9, 1.7)], 0) * front
        spacing = spacing - 0.18 * np.clip(detail * 1.6, 0, 1)
        spacing = np.maximum(spacing - 0.14 * front * np.clip(2 * bump(x, y, 0, -3.9, 1.1, 0.8), 0, 1), 0.11)
        spacing += 0.5 * step(-y, 13, 18) + 1.0 * step(-y, 19, 22)
        middle = np.arange(0, len(RINGS) - 1, 0.02)
        middle_y = loft(np.zeros_like(middle), middle)
        keep_middle = [0]
        for i in range(1, len(middle)):
            d = np.linalg.norm(middle_y[i] - middle_y[keep_middle[-1]])
            if d > (0.12 if -5 < middle_y[i, 1] < -2.7 else 0.24 if -10 < middle_y[i, 1] < 1 else 0.45):
                keep_middle.append(i)
        mu, mv = [0.0] * len(keep_middle), list(middle[keep_middle])
        back = np.linspace(0, len(RINGS) - 1, 34)
        base = np.concatenate([loft(u, v)[u > -1e-9], loft(np.array(mu), np.array(mv)), loft(np.full(34, np.pi), back)])
        fixed = cKDTree(loft(u, v))
        near_fixed = fixed.query(loft(np.array(mu), np.array(mv)))[0] < 0.14
        mu, mv = np.array(mu)[~near_fixed], np.array(mv)[~near_fixed]
        # the opening of the eye and the gap between the lips hold no skin
        eye = eye_contour(26)

        gap = LENS * np.clip(1 - (x / MOUTH_X) ** 2, 0, 1)
        hole = (Path(eye).contains_points(np.stack([x, y], -1)) & (z > -4)) | (
            (np.abs(y - lip_line(x)) < gap) & (z > -4) & (np.abs(x) < MOUTH_X)
        )
        mid_y = loft(np.zeros_like(mv), mv)[:, 1]
        mu, mv = mu[np.abs(mid_y - lip_line(np.zeros(1))) > LENS + 0.05], mv[np.abs(mid_y - lip_line(np.zeros(1))) > LENS + 0.05]
        taken = _dart_throw(points[~hole], spacing[~hole], base)
        hu, hv = cu[~hole][taken], cv[~hole][taken]
        su = np.concatenate([u, mu, hu, -hu, np.full(34, np.pi), np.full(34, -np.pi)])
        sv = np.concatenate([v, mv, hv, hv, back, back])
        return su, sv

    def _connect(self, eye: Array, upper_in: Array, lower_in: Array) -> None:
        # In chart units of about a centimetre, so that Delaunay triangles are well shaped on the face.
        chart = np.stack([self.u * 6.5, -self.v * 1.9], -1)
        triangles = Delaunay(chart).simplices
        p = loft(self.u, self.v)
        self.x, self.y = p[:, 0], p[:, 1]
        centre = p[triangles].mean(1)

        front = centre[:, 2] > -4
        drop = np.zeros(len(triangles), bool)
        for s in (1, -1):
            drop |= Path(eye).contains_points(centre[:, :2] * [s, 1]) & front
        lens = np.concatenate([upper_in, lower_in[::-1]])
        drop |= Path(lens).contains_points(centre[:, :2]) & front
        triangles = triangles[~drop]
        # weld the seam at the back of the head
        left = np.flatnonzero(self.u <= -np.pi + 1e-9)
        right = np.flatnonzero(self.u >= np.pi - 1e-9)
        alias = np.arange(len(self.u))
        alias[left] = right
        triangles = alias[triangles]
        used = np.unique(triangles)
        new = np.full(len(self.u), -1)
        new[used] = np.arange(len(used))
        self.u, self.v, self.x, self.y = self.u[used], self.v[used], self.x[used], self.y[used]
        self.rest = loft(self.u, self.v)
        flip = _signed_area(chart[used], new[triangles]) < 0
        triangles = new[triangles]
        triangles[flip] = triangles[flip][:, ::-1]
        self.triangles = triangles
        self.tree = cKDTree(np.stack([self.x, self.y, 0.0 * self.x], -1)[self.rest[:, 2] > -4])
        self.front_index = np.flatnonzero(self.rest[:, 2] > -4)

    def at(self, points: Array) -> NDArray[np.int64]:
        """Vertices of the front of the face nearest to (x, y) on the mean loft."""
        q = np.concatenate([np.asarray(points, float), np.zeros((len(points), 1))], -1)
        return self.front_index[self.tree.query(q)[1]]


def _signed_area(points: Array, triangles: NDArray[np.int64]) -> Array:
    a, b, c = (points[triangles[:, i]] for i in range(3))
    return (b[:, 0] - a[:, 0]) * (c[:, 1] - a[:, 1]) - (b[:, 1] - a[:, 1]) * (c[:, 0] - a[:, 0])


def _dart_throw(points: Array, spacing: Array, base: Array) -> NDArray[np.int64]:
    """Indices of points no two of which lie closer than their spacing, nor closer than 0.8 of it to ``base``."""
    clear = cKDTree(base).query(points)[0] > 0.8 * np.minimum(spacing, 0.45)
    order = np.flatnonzero(clear)
    tree = cKDTree(points)
    alive = np.zeros(len(points), bool)
    alive[order] = True
    taken = []
    for i in order:
        if alive[i]:
            taken.append(i)
            alive[tree.query_ball_point(points[i], spacing[i])] = False
    return np.array(taken)


@lru_cache(maxsize=1)
def template() -> Template:
    return Template()
