r"""What is known about a model's mean face before any face is made: where paint goes and how much light reaches it.

The chart unrolls the head about the vertical axis through its middle: a = atan2(x, z - axis) to the right, y upwards. Every
layer of paint (lips, brows, lashes, folds …) is laid on the mean face by distances to its 68 landmarks, once per model;
the shader reads layers at a pixel's place on the mean face, so paint moves with the skin under identity and expression.
"""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np
import torch
from scipy import ndimage

from facelab.faces.world import shade
from facelab.faces.world.vertices import vertex_normals
from facelab.geometry.morphable import EYE, MOUTH, NECK, SKIN, TEETH, MorphableModel
from facelab.geometry.raster import raster_fragments, rasterize

DIRECTIONS, VISIBILITY_SIZE = 96, 160


@dataclass(frozen=True)
class Chart:
    """A model as the renderer wants it: plain arrays, paint layers, noise, and light's ways to every vertex."""

    mean: np.ndarray  # (V,3) cm
    triangles: np.ndarray  # (F,3) int32
    landmarks: np.ndarray  # (68,)
    parts: np.ndarray  # (V,) uint8
    identity_basis: np.ndarray  # (K,V,3)
    expression_basis: np.ndarray  # (E,V,3)
    axis: float  # z of the vertical axis of the chart
    eyes: np.ndarray  # (2,4) centre and radius of the eyeballs, image-left first
    layers: tuple[np.ndarray, ...]  # paint, (h,w,C) each, halving
    noise: tuple[np.ndarray, ...]  # tiles, (h,w,C) each, halving
    visibility: np.ndarray  # (V,B) how much of a lamp in direction w a vertex sees: visibility @ harmonics(w)
    openness: np.ndarray  # (V,) share of the cosine-weighted hemisphere above a vertex that is free


def prepare(model: MorphableModel) -> Chart:
    """Bakes a model's chart: about a second."""
    mean = np.ascontiguousarray(model.mean, np.float32)
    triangles, landmarks = np.ascontiguousarray(model.triangles, np.int32), np.asarray(model.landmarks)
    parts = np.ascontiguousarray(model.parts, np.uint8)
    skull = mean[(parts == SKIN) & (mean[:, 1] > 1.5) & (mean[:, 1] < 6)]
    axis = float(skull[:, 2].min() + skull[:, 2].max()) / 2
    eyes = _eyeballs(mean, parts, mean[landmarks])
    visibility, openness = _light_paths(mean, triangles, parts)
    return Chart(
        mean, triangles, landmarks, parts,
        np.ascontiguousarray(model.identity_basis, np.float32), np.ascontiguousarray(model.expression_basis, np.float32),
        axis, eyes, _halvings(_layers(mean, triangles, parts, mean[landmarks], axis), 4), _halvings(_noise(), 5), visibility, openness**1.3,
    )  # fmt: skip


def _eyeballs(mean: np.ndarray, parts: np.ndarray, marks: np.ndarray) -> np.ndarray:
    balls = []
    for sign, corners in ((-1, marks[36:42]), (1, marks[42:48])):
        ball = mean[(parts == EYE) & (mean[:, 0] * sign > 0)]
        if len(ball):
            low, high = ball.min(0), ball.max(0)
            radius = float(high[1] - low[1]) / 2
            centre = [(low[0] + high[0]) / 2, (low[1] + high[1]) / 2, high[2] - radius]
        else:  # a model without eyeballs (Basel) has lids closed over skin: paint eyes there
            radius, centre = 1.25, [*corners[:, :2].mean(0), corners[:, 2].max() - 1.15]
        balls.append([*centre, radius])
    return np.array(balls, np.float32)


# -------------------------------------------------------------------------------------------------------------------------- paint


def spline(points: np.ndarray, per_segment: int = 6) -> np.ndarray:
    """(P,3) control points to a Catmull-Rom curve through them."""
    padded = np.concatenate([2 * points[:1] - points[1:2], points, 2 * points[-1:] - points[-2:-1]])
    t = (np.arange(per_segment) / per_segment)[:, None]
    out = []
    for a, b, c, d in zip(padded[:-3], padded[1:-2], padded[2:-1], padded[3:], strict=True):
        out.append(0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3))
    return np.concatenate([*out, points[-1:]])


@numba.njit(cache=True, nogil=True)
def _to_curve(points, curve, distance, along, above):
    """Distance of every point to a polyline, the place along it in [0,1], and whether the point lies above it (+1, -1)."""
    segments = len(curve) - 1
    for p in range(len(points)):
        best = 1e9
        for s in range(segments):
            dot = length = 0.0
            for c in range(3):
                e = curve[s + 1, c] - curve[s, c]
                dot += (points[p, c] - curve[s, c]) * e
                length += e * e
            t = min(max(dot / max(length, 1e-9), 0.0), 1.0)
            square = 0.0
            for c in range(3):
                square += (points[p, c] - curve[s, c] - t * (curve[s + 1, c] - curve[s, c])) ** 2
            if square < best:
                best = square
                along[p] = (s + t) / segments
                above[p] = 1.0 if points[p, 1] >= curve[s, 1] + t * (curve[s + 1, 1] - curve[s, 1]) else -1.0
        distance[p] = np.sqrt(best)


def _layers(mean, triangles, parts, marks, axis) -> np.ndarray:
    """Paint on the chart, (H, W, LAYERS) float32."""
    height, width = shade.CHART_SHAPE
    turn = np.arctan2(mean[:, 0], mean[:, 2] - axis)
    radius = np.hypot(mean[:, 0], mean[:, 2] - axis)
    place = np.stack(
        [
            (turn - shade.A_LOW) / (shade.A_HIGH - shade.A_LOW) * (width - 1),
            (shade.Y_HIGH - mean[:, 1]) / (shade.Y_HIGH - shade.Y_LOW) * (height - 1),
            radius,
        ],
        1,
    )
    skin = triangles[((parts[triangles] == SKIN) | (parts[triangles] == NECK)).all(1) & (np.ptp(turn[triangles], axis=1) < 2)]
    maps, _, covered = rasterize(
        torch.from_numpy(place[None].astype(np.float32)), torch.from_numpy(skin), torch.from_numpy(mean[None]), (height, width)
    )
    position, covered = maps[0].permute(1, 2, 0).numpy(), covered[0].numpy()
    nearest = ndimage.distance_transform_edt(~covered, return_distances=False, return_indices=True)
    points = np.ascontiguousarray(position[nearest[0], nearest[1]]).reshape(-1, 3).astype(np.float64)
    x, y, z = points.T

    def to(curve, depth=1.0):
        distance, along, above = np.empty(len(points)), np.empty(len(points)), np.empty(len(points))
        _to_curve(points * [1, 1, depth], np.ascontiguousarray(curve * [1, 1, depth], np.float64), distance, along, above)
        return distance, along, above

    bell = lambda distance, width: np.exp(-((distance / width) ** 2))  # noqa: E731
    step = lambda v, a, b: (lambda t: t * t * (3 - 2 * t))(np.clip((v - a) / (b - a), 0, 1))  # noqa: E731
    near = lambda cx, cy, sx, sy: np.exp(-(((x - cx) / sx) ** 2) - ((y - cy) / sy) ** 2) * (z > axis + 2)  # noqa: E731
    out = np.zeros((len(points), shade.LAYERS))

    mouth = spline(np.concatenate([marks[48:60], marks[48:49]]))
    rim = to(mouth)[0]
    inside = _inside(points[:, :2], mouth[:, :2])
    lip = step(np.where(inside, rim, -rim), -0.10, 0.14)
    line = np.stack([marks[48], *(marks[[61, 62, 63]] + marks[[67, 66, 65]]) / 2, marks[54]])
    seam, along, _ = to(spline(line))
    out[:, shade.LIPS] = lip * (z > axis + 4)
    out[:, shade.LIP_LINE] = bell(seam, 0.11) + 0.5 * bell(seam, 0.3) * np.abs(2 * along - 1) ** 3

    corner = marks[[48, 54]]
    half = np.abs(corner[:, 0]).mean()
    lips_y, nose, chin = line[2, 1], marks[33], marks[8]
    brow_y = marks[17:27, 1].mean()
    fold = np.zeros(len(points))  # how deep the skin is creased, cm
    cavity = np.zeros(len(points))
    for side, (brow, eye, wing, mouth_corner) in {
        -1: (marks[21:16:-1], marks[36:42], marks[31], marks[48]),
        1: (marks[22:27], np.concatenate([marks[45:41:-1], marks[47:45:-1]]), marks[35], marks[54]),
    }.items():
        mine = x * side > 0
        distance, t, above = to(spline(brow - [0, 0.08, 0]))
        ends = np.where(t <= 0, -distance, np.where(t >= 1, 1 + distance / 5.2, t))
        ends = np.where((t <= 0) & (above != 0), -distance / 5.2, ends)
        out[mine, shade.BROW_D] = (distance * above)[mine]
        out[mine, shade.BROW_T] = ends[mine]

        upper, lower = spline(eye[:4]), spline(np.concatenate([eye[3:], eye[:1]]))  # outer to inner, inner to outer
        up, along_up, _ = to(upper, 0.3)
        down, along_down, _ = to(lower, 0.3)
        opening = np.concatenate([upper, lower[1:]])
        open_eye = _inside(points[:, :2], opening[:, :2])
        outside = ~open_eye & mine
        over = outside & (up <= down)
        under = outside & (down < up)
        centre = eye.mean(0)
        lash = np.where(over, bell(up, 0.15) * (1.25 - 0.45 * along_up), 0) + np.where(
            under, 0.38 * bell(down, 0.10) * (0.4 + 0.6 * (1 - along_down)), 0
        )
        wing_tip = eye[0] + np.array([side * 0.30, 0.07, -0.2])
        lash = np.maximum(lash, np.where(outside, 0.6 * bell(to(np.stack([eye[0], wing_tip]), 0.3)[0], 0.10), 0))
        out[mine, shade.LASH] = np.where(open_eye, 0.6 * bell(up, 0.16) + 0.12, lash)[mine]
        lid = np.where(over, step(up, 1.05, 0.15), 0) * bell(x - centre[0], 2.2)
        crease = np.where(over, bell(up - (0.42 + 0.16 * np.sin(np.pi * along_up)), 0.10), 0) * step(along_up, 0.0, 0.15)
        out[mine, shade.LID] = lid[mine]
        hollow = near(centre[0] - side * 0.8, centre[1] - 0.95, 1.5, 0.75) * under
        socket = 0.5 * near(centre[0] - side * 1.4, centre[1] + 0.3, 0.7, 0.9)
        out[:, shade.CIRCLE] += np.where(mine, hollow + socket, 0)
        bag = spline(np.stack([eye[3] + [side * 0.1, -0.45, 0], eye[4:6].mean(0) + [0, -0.85, 0], eye[0] + [0.1 * side, -0.75, 0]]))
        bag_distance, bag_t, _ = to(bag)
        fold += np.where(mine, 0.020 * bell(bag_distance, 0.16) * step(bag_t, 0, 0.3), 0)
        cavity += np.where(mine, 0.25 * bell(bag_distance, 0.14) * (1 - 0.5 * bag_t) + 0.75 * crease, 0)

        smile = spline(
            np.stack(
                [
                    wing + [side * 0.55, 0.75, 0],
                    wing + [side * 1.15, -0.4, 0],
                    mouth_corner + [side * 0.75, 0.9, 0],
                    mouth_corner + [side * 0.85, -0.35, 0],
                ]
            )
        )
        distance, t, _ = to(smile)
        depth = step(t, 0, 0.15) * step(t, 1.0, 0.55) * mine
        fold += 0.05 * bell(distance, 0.20) * depth
        cavity += 0.55 * bell(distance, 0.13) * depth
        down_line = spline(
            np.stack([mouth_corner + [side * 0.12, -0.25, 0], mouth_corner + [side * 0.45, -1.3, 0], mouth_corner + [side * 0.5, -2.2, 0]])
        )
        distance, t, _ = to(down_line)
        fold += 0.022 * bell(distance, 0.14) * step(t, 1, 0.3) * mine
        cavity += 0.22 * bell(distance, 0.12) * step(t, 1, 0.3) * mine
        for rise in (0.55, 0.12, -0.30):  # crow's feet
            foot = spline(
                np.stack(
                    [
                        eye[0] + [side * 0.55, rise * 0.5, 0],
                        eye[0] + [side * 1.2, rise, -0.7],
                        eye[0] + [side * 1.9, rise * 1.8 - 0.15, -1.8],
                    ]
                )
            )
            distance, t, _ = to(foot)
            fold += 0.013 * bell(distance, 0.085) * step(t, 1, 0.2) * mine
            cavity += 0.20 * bell(distance, 0.07) * step(t, 1, 0.2) * mine
        frown = np.stack([[side * 0.45, brow_y - 0.9, 0], [side * 0.55, brow_y + 0.8, 0]]) * [1, 1, 0] + [0, 0, marks[27, 2]]
        distance, t, _ = to(frown)
        fold += 0.016 * bell(distance, 0.13) * mine
        cavity += 0.12 * bell(distance, 0.09) * mine
        nostril = (marks[33] + wing) / 2 + [side * 0.12, 0.16, 0.1]
        out[:, shade.NOSTRIL] += bell(np.sqrt(((points - nostril) ** 2 / [0.40**2, 0.19**2, 0.45**2]).sum(1)), 1.0) * mine
        cavity += 0.5 * bell(np.sqrt(((points - (wing + [side * 0.32, 0.45, -0.1])) ** 2).sum(1)), 0.28) * mine
        out[:, shade.REDNESS] += 0.9 * near(side * 4.2, nose[1] + 0.6, 1.9, 1.7) + 0.35 * near(side * 1.5, nose[1] + 0.6, 0.8, 0.9)
        out[:, shade.REDNESS] += 0.45 * step(np.abs(np.arctan2(x, z - axis)), 1.25, 1.45) * (y < 3.5) * (y > -5) * mine
    wave = 0.10 * np.sin(1.1 * x + 0.6) + 0.05 * np.sin(2.7 * x)
    for k, level in enumerate((1.25, 2.1, 2.9, 3.6)):
        lines = bell(y - (brow_y + level + wave * (1 + 0.4 * k) - 0.012 * x * x), 0.12) * step(np.abs(x), 4.4, 2.2) * (z > axis + 4)
        fold += 0.020 * lines
        cavity += 0.18 * lines
    out[:, shade.REDNESS] += 0.9 * near(0, nose[1] + 1.2, 1.1, 1.0) + 0.45 * near(0, chin[1] + 1.2, 1.6, 1.0)
    out[:, shade.OIL] = (
        0.35
        + 0.65 * near(0, brow_y + 2.2, 3.2, 2.0)
        + 0.85 * near(0, nose[1] + 1.6, 0.9, 2.2)
        + 0.4 * near(0, chin[1] + 1.3, 1.3, 1.0)
        + 0.45 * (near(-4.2, nose[1] + 2.4, 1.5, 1.2) + near(4.2, nose[1] + 2.4, 1.5, 1.2))
    )

    away = np.abs(x) / (half + 0.5)
    skin_only = (1 - step(np.where(inside, rim, -rim), -0.22, 0.02)) * (z > axis + 4)
    roof = nose[1] - 0.30 - 0.75 * away**2  # upper edge of the moustache
    drop = lips_y - 0.1 - 1.2 * np.clip(away - 0.75, 0, None)
    out[:, shade.MOUSTACHE] = step(y, roof + 0.30, roof - 0.40) * step(y, drop - 0.5, drop + 0.3) * step(away, 1.25, 0.80) * skin_only
    out[:, shade.MOUSTACHE] *= 1 - 0.35 * bell(x, 0.35) * step(y, lips_y, nose[1])
    soul = 1 - 0.9 * np.maximum(near(-1.15, lips_y - 1.75, 0.75, 0.5), near(1.15, lips_y - 1.75, 0.75, 0.5))
    bottom = step(y, chin[1] - 3.0, chin[1] - 0.4)
    round_mouth = step(np.hypot(x / (half + 0.55), (y - lips_y + 2.2) / 3.4), 1.22, 0.82)
    out[:, shade.GOATEE] = round_mouth * step(y, lips_y + 0.3, lips_y - 0.9) * skin_only * soul * bottom
    round_head = np.abs(np.arctan2(x, z - axis))
    line = lips_y - 0.9 + 2.1 * step(np.abs(x), 2.6, 5.6) + 5.2 * step(round_head, 0.82, 1.12)  # upper edge of a beard on the cheek
    out[:, shade.CHEEK] = step(y, line + 1.1, line - 1.1) * step(round_head, 1.40, 1.05) * skin_only * bottom
    out[:, shade.CHEEK] = np.maximum(out[:, shade.CHEEK], out[:, shade.GOATEE])

    grid = out.reshape(height, width, shade.LAYERS)
    heights = -fold.reshape(height, width)
    grid[..., shade.CAVITY] = np.clip(cavity, 0, 1).reshape(height, width)
    arc = np.hypot(x, z - axis).reshape(height, width) * (shade.A_HIGH - shade.A_LOW) / (width - 1)
    grid[..., shade.SLOPE_X] = np.gradient(heights, axis=1) / arc
    grid[..., shade.SLOPE_Y] = -np.gradient(heights, axis=0) / ((shade.Y_HIGH - shade.Y_LOW) / (height - 1))
    grid[..., shade.BROW_D] = np.clip(grid[..., shade.BROW_D], -1.5, 1.5)
    grid[..., shade.BROW_T] = np.clip(grid[..., shade.BROW_T], -0.4, 1.4)
    return grid.astype(np.float32)


def _inside(points: np.ndarray, polygon: np.ndarray) -> np.ndarray:
    """(M,) bool: even-odd rule."""
    x, y = points.T
    odd = np.zeros(len(points), bool)
    for (ax, ay), (bx, by) in zip(polygon, np.roll(polygon, -1, 0), strict=True):
        if ay != by:
            odd ^= ((ay > y) != (by > y)) & (x < (bx - ax) * (y - ay) / (by - ay) + ax)
    return odd


def _noise(size: int = 512) -> np.ndarray:
    """Tiles that repeat in both directions, (size, size, NOISES) float32: mottling, pores, freckles, strands, curls."""
    rng = np.random.default_rng(5)
    fy, fx = np.meshgrid(np.fft.fftfreq(size) * size, np.fft.rfftfreq(size) * size, indexing="ij")
    frequency = np.hypot(fx, fy)

    def shaped(gain):
        wave = np.fft.irfft2(np.fft.rfft2(rng.standard_normal((size, size))) * gain, s=(size, size))
        return (wave - wave.mean()) / wave.std()

    band = lambda low, high: np.exp(-((frequency / high) ** 2)) * (1 - np.exp(-((frequency / low) ** 2)))  # noqa: E731
    out = np.zeros((size, size, shade.NOISES), np.float32)
    out[..., shade.COARSE] = shaped(band(1, 6) / np.maximum(frequency, 1) ** 0.5)
    out[..., shade.MIDDLE] = shaped(band(6, 40) / np.maximum(frequency, 1) ** 0.7)
    out[..., shade.FINE] = shaped(band(40, 220))
    pores = shaped(band(50, 130))
    pores = np.minimum(pores, 0.6)
    out[..., shade.PORE_X] = np.gradient(pores, axis=1)
    out[..., shade.PORE_Y] = -np.gradient(pores, axis=0)
    spots = np.zeros((size, size))
    for _ in range(1500):
        cy, cx = rng.integers(0, size, 2)
        spots[cy, cx] = max(spots[cy, cx], rng.uniform(0.25, 1) ** 1.5)
    out[..., shade.SPOTS] = np.clip(ndimage.gaussian_filter(spots, 1.7, mode="wrap") * 2 * np.pi * 1.7**2 + 0 * spots, 0, 1)
    strands = 0.75 * shaped(np.exp(-((fx / 150) ** 2) - (fy / 5) ** 2) * (1 - np.exp(-((fx / 14) ** 2))))
    strands += 0.65 * shaped(np.exp(-((fx / 26) ** 2) - (fy / 3) ** 2) * (1 - np.exp(-((fx / 4) ** 2))))
    out[..., shade.STRANDS] = strands
    curls = shaped(band(12, 36))
    out[..., shade.CURLS] = np.clip(np.abs(curls) * -1.2 + 0.9, -1.5, 1.5) + 0.4 * shaped(band(40, 110))
    return out


def _halvings(image: np.ndarray, count: int) -> tuple[np.ndarray, ...]:
    levels = [np.ascontiguousarray(image, np.float32)]
    for _ in range(count - 1):
        last = levels[-1]
        levels.append(np.ascontiguousarray((last[::2, ::2] + last[1::2, ::2] + last[::2, 1::2] + last[1::2, 1::2]) / 4))
    return tuple(levels)


# -------------------------------------------------------------------------------------------------------------------------- light


def harmonics(direction: np.ndarray) -> np.ndarray:
    """(…,16) real spherical harmonics to degree 3, up to constant factors, of unit vectors (…,3)."""
    x, y, z = np.moveaxis(direction, -1, 0)
    one = np.ones_like(x)
    return np.stack(
        [
            one,
            x,
            y,
            z,
            x * y,
            y * z,
            x * z,
            x * x - y * y,
            3 * z * z - 1,
            y * (3 * x * x - y * y),
            x * y * z,
            y * (5 * z * z - 1),
            z * (5 * z * z - 3),
            x * (5 * z * z - 1),
            z * (x * x - y * y),
            x * (x * x - 3 * y * y),
        ],
        -1,
    )


def _light_paths(mean, triangles, parts) -> tuple[np.ndarray, np.ndarray]:
    r"""Self-shadowing of the mean head: for every vertex, low-order harmonics of the visibility, and the free share of its hemisphere.

    Depth pictures from 96 directions say which vertices see the sky there; per vertex the answers in its upper hemisphere are
    fitted by least squares with 16 harmonics, which blurs every lamp to a soft box (precomputed radiance transfer, Sloan et al. 2002).
    """
    i = np.arange(DIRECTIONS) + 0.5
    up = 1 - 2 * i / DIRECTIONS
    turn = np.pi * (1 + 5**0.5) * i
    rays = np.stack([np.cos(turn) * np.sqrt(1 - up**2), up, np.sin(turn) * np.sqrt(1 - up**2)], 1)
    normals = np.empty_like(mean)
    vertex_normals(mean, triangles, normals)
    centre = (mean.max(0) + mean.min(0)) / 2
    scale = VISIBILITY_SIZE / (2.05 * np.linalg.norm(mean - centre, axis=1).max())
    solid = triangles[(parts[triangles[:, 0]] != EYE) & (parts[triangles[:, 0]] != MOUTH) & (parts[triangles[:, 0]] != TEETH)]
    side = VISIBILITY_SIZE
    depth, index, weights = np.empty((side, side), np.float32), np.empty((side, side), np.int32), np.empty((side, side, 3), np.float32)
    seen = np.empty((DIRECTIONS, len(mean)))
    for k, ray in enumerate(rays):
        right = np.cross([0.0, 1.0, 0.3] if abs(ray[1]) < 0.9 else [0.0, 0.0, 1.0], ray)
        right /= np.linalg.norm(right)
        frame = np.stack([right, np.cross(ray, right), ray])
        placed = ((mean - centre) @ frame.T).astype(np.float32)
        placed[:, :2] = placed[:, :2] * scale + side / 2
        raster_fragments(placed, solid, side, side, depth, index, weights)
        lifted = ((mean + 0.30 * normals - centre) @ frame.T).astype(np.float32)
        column, row = (np.clip(np.rint(lifted[:, c] * scale + side / 2).astype(int), 0, side - 1) for c in (0, 1))
        seen[k] = np.clip((lifted[:, 2] - depth[row, column]) / 0.25 + 1.0, 0, 1)
    cosine = np.clip(rays @ normals.T.astype(np.float64), 0, None)  # (D,V)
    openness = (seen * cosine).sum(0) / np.maximum(cosine.sum(0), 1e-6)
    basis = harmonics(rays)  # (D,16)
    weight = np.clip(cosine, 0, 1) + 0.02
    gram = np.einsum("dv,di,dj->vij", weight, basis, basis, optimize=True) + 0.4 * np.diag([0.0, *[1.0] * 15])
    right_side = np.einsum("dv,di->vi", weight * np.where(cosine > 0, seen, openness), basis, optimize=True)
    return np.linalg.solve(gram, right_side[..., None])[..., 0].astype(np.float32), openness.astype(np.float32)
