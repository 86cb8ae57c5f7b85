"""A hand's shape: the surface at rest, what each of its vertices follows, and how a skeleton moves."""
from __future__ import annotations

import functools
from typing import NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from facelab.faces.world.shade import smooth
from facelab.faces.world.vertices import vertex_normals

# The hand at rest, cm: a right hand, fingers up, its back to the viewer; x to the right, y up, z to the viewer; wrist at the origin.
JOINTS = np.array([
    [0.0, 0.0, 0.0],
    [-2.1, 1.7, -0.7], [-4.3, 4.6, -1.1], [-5.7, 7.3, -1.2], [-6.6, 9.6, -1.2],
    [-2.6, 8.9, 0.0], [-3.35, 13.2, 0.0], [-3.75, 15.8, 0.0], [-4.1, 18.0, 0.0],
    [-0.4, 9.3, 0.1], [-0.5, 14.1, 0.1], [-0.5, 17.1, 0.1], [-0.5, 19.5, 0.1],
    [1.6, 8.8, 0.0], [2.05, 13.2, 0.0], [2.35, 16.0, 0.0], [2.6, 18.3, 0.0],
    [3.3, 7.8, -0.2], [4.2, 11.1, -0.2], [4.75, 13.1, -0.2], [5.2, 15.0, -0.2],
])  # fmt: skip
RADII = np.array([2.0, 1.3, 1.15, 1.05, 0.74, 1.05, 0.95, 0.83, 0.64, 1.06, 0.97, 0.85, 0.66, 1.02, 0.92, 0.81, 0.63,
                  0.92, 0.8, 0.71, 0.56])  # fmt: skip
FINGERS = np.arange(1, 21).reshape(5, 4)  # a row a finger: its joints from the palm outwards
TILT = np.radians([0.0, 10.0, 1.5, -6.5, -15.0])  # how far the fingers at rest lean to the thumb's side
FOREARM, PALM = 0, 1  # then bone 2 + 3 f + k starts at joint FINGERS[f, k]
SPAN = 26.0  # cm of forearm
ANGLES = 22  # wrist: bent forwards, to the little finger's side; then a finger: spread, and the bend of its three joints; radians

kernel = numba.njit(cache=True, nogil=True)


def _frames() -> NDArray:
    """(17,3,3) a bone's axes at rest, in columns: across, along, and dorsal, away from where the joint bends to."""
    frames = np.tile(np.eye(3), (17, 1, 1))
    for f, joints in enumerate(FINGERS):
        bend = np.array([0.72, 0.0, -0.70]) if f == 0 else np.array([0.0, 0.0, -1.0])
        for k in range(3):
            along = JOINTS[joints[k + 1]] - JOINTS[joints[k]]
            along = along / np.linalg.norm(along)
            back = bend @ along * along - bend
            back /= np.linalg.norm(back)
            frames[2 + 3 * f + k] = np.stack([np.cross(along, back), along, back], 1)
    return frames


FRAMES = _frames()


def _cone(points: NDArray, a: NDArray, b: NDArray, ra: float, rb: float, flat: float = 1.0, waist: float = 0.0) -> tuple[NDArray, NDArray]:
    """Distance to a rounded cone, ``flat`` times as thick as wide, and how far along it, 0 to 1 between its ends."""
    stretch = np.array([1, 1, 1 / flat])
    axis = (b - a) * stretch
    along = (points - a) * stretch @ axis / (axis @ axis)
    t = np.clip(along, 0, 1)
    return np.linalg.norm((points - a) * stretch - t[:, None] * axis, axis=1) - (ra + t * (rb - ra) - waist * np.sin(np.pi * t)), along


def _melt(a: NDArray, b: NDArray, width: float) -> NDArray:
    """The smaller of two distances, rounded off where they differ by less than ``width``."""
    h = np.clip(0.5 + 0.5 * (b - a) / width, 0, 1)
    return b + (a - b) * h - width * h * (1 - h)


def _bones(points: NDArray) -> tuple[NDArray, NDArray]:
    """(17, P) distances to the flesh of every bone, and (15, P) how far along the fingers' bones the points lie."""
    bow = lambda *xyz: np.array(xyz, float)  # noqa: E731
    forearm = _cone(points, bow(0, -1.0, 0), bow(0.2, -SPAN, 0), 2.45, 3.9, flat=0.74)[0]
    palm = _cone(points, bow(0, 0.3, 0), bow(-0.2, 4.0, 0), 2.4, 2.9, flat=0.52)[0]
    flesh = [(bow(-1.0, 1.0, 0), JOINTS[5], 1.35, 1.05), (bow(-0.2, 1.0, 0.1), JOINTS[9], 1.4, 1.08),
             (bow(0.7, 1.0, 0), JOINTS[13], 1.4, 1.05),
             (bow(1.4, 1.0, -0.2), JOINTS[17], 1.4, 0.98), (bow(1.9, 1.5, -0.6), bow(2.9, 6.0, -0.5), 1.25, 1.05),
             (bow(-2.4, 8.4, -0.5), bow(3.0, 7.3, -0.6), 0.85, 0.8)]  # fmt: skip  # the last two: the little finger's ball, the pads
    for a, b, ra, rb in flesh:
        palm = _melt(palm, _cone(points, a, b, ra, rb)[0], 0.7)
    for joint in (5, 9, 13, 17):  # knuckles
        palm = _melt(palm, np.linalg.norm(points - JOINTS[joint] - [0, 0, 0.33], axis=1) - 0.78, 0.4)
    distances, along = [forearm, palm], []
    for f, joints in enumerate(FINGERS):
        for k in range(3):
            a, b, ra, rb = JOINTS[joints[k]], JOINTS[joints[k + 1]], RADII[joints[k]], RADII[joints[k + 1]]
            if k == 2:  # the tip is a landmark on the skin
                b, rb = b - (b - a) / np.linalg.norm(b - a) * 0.45, rb + 0.04
            distance, t = _cone(points, a, b, ra, rb, waist=0.0 if f == 0 and k == 0 else 0.04)
            if f == 0 and k == 0:  # the ball of the thumb, and the web to the index finger
                distance = _melt(distance, _cone(points, bow(-1.7, 1.6, -1.0), bow(-3.5, 4.6, -1.0), 1.45, 1.0)[0], 0.5)
                distance = _melt(distance, _cone(points, bow(-3.3, 4.4, -0.8), bow(-2.5, 6.3, -0.35), 0.7, 0.6)[0], 1.2)
            distances.append(distance)
            along.append(t)
    return np.array(distances), np.array(along)


class Template(NamedTuple):
    vertices: NDArray  # (V,3) float64, at rest
    normals: NDArray  # (V,3)
    triangles: NDArray  # (F,3) int32
    bones: NDArray  # (V,4) int32 and …
    weights: NDArray  # (V,4): which bones a vertex follows
    paint: NDArray  # (V,5) float32: along the finger (0, 1, 2, 3 at its joints), across and dorsal (-1 to 1), x and y at rest


@functools.cache
def template(step: float = 0.28) -> Template:
    """The surface at rest, meshed, with what moves and what paints each vertex."""
    from skimage.measure import marching_cubes  # here, as it is slow to import and hands are few

    low, high = np.array([-9.0, -SPAN - 4.5, -3.6]), np.array([8.0, 21.0, 3.6])
    axes = [np.arange(a, b, step) for a, b in zip(low, high, strict=True)]
    grid = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3)
    d, _ = _bones(grid)
    hand = _melt(d[PALM], d[FOREARM], 1.6)
    fingers = np.full(len(grid), 1e3)
    for f in range(5):
        chain = _melt(_melt(d[2 + 3 * f], d[3 + 3 * f], 0.3), d[4 + 3 * f], 0.3)
        hand, fingers = (_melt(hand, chain, 1.3), fingers) if f == 0 else (hand, np.minimum(fingers, chain))
    field = _melt(hand, fingers, 0.55).reshape([len(a) for a in axes])
    vertices, triangles, *_ = marching_cubes(field, 0.0, spacing=(step,) * 3)
    vertices, triangles = vertices + low, triangles.astype(np.int32)
    normals = np.empty_like(vertices)
    vertex_normals(vertices, triangles, normals)
    normals *= np.sign((normals * (vertices - [0, 4, 0]))[:, 2].sum())

    d, along = _bones(vertices)
    heat = np.exp(-(d - d.min(0)) / np.where(np.arange(17) < 2, 0.3, 0.17)[:, None])
    bones = np.argsort(-heat, axis=0)[:4].T
    weights = np.take_along_axis(heat.T, bones, 1)
    nearest = d[2:].argmin(0)
    t = along[nearest, np.arange(len(vertices))]
    frame = FRAMES[2 + nearest]
    start = JOINTS[FINGERS[nearest // 3, nearest % 3]]
    across = np.einsum("vi,vi->v", vertices - start, frame[:, :, 0]) / RADII[FINGERS[nearest // 3, np.minimum(nearest % 3 + 1, 3)]]
    dorsal = np.einsum("vi,vi->v", normals, frame[:, :, 2])
    palm = d[PALM] < d[2:].min(0)
    dorsal = np.where(palm | (d[FOREARM] < d[2:].min(0)), normals[:, 2], dorsal)
    paint = np.stack([np.clip(nearest % 3 + t, -1, 3.5), across, dorsal, vertices[:, 0], vertices[:, 1]], 1).astype(np.float32)
    return Template(vertices, normals, triangles, bones.astype(np.int32), weights / weights.sum(1, keepdims=True), paint)


def _turn(x: NDArray, z: NDArray) -> NDArray:
    """(N,3,3): bent by x about the first axis, towards the palm, then spread by z about the third, to the thumb's side."""
    one, zero = np.ones_like(x), np.zeros_like(x)
    stack = lambda *rows: np.stack([np.stack(r, -1) for r in rows], -2)  # noqa: E731
    bend = stack((one, zero, zero), (zero, np.cos(x), np.sin(x)), (zero, -np.sin(x), np.cos(x)))
    return stack((np.cos(z), -np.sin(z), zero), (np.sin(z), np.cos(z), zero), (zero, zero, one)) @ bend


def skeleton(shape: NDArray, angles: NDArray) -> tuple[NDArray, NDArray, NDArray]:
    """The joints (N,21,3) of right hands, cm before the hand is turned, and how their bones move: matrices (N,17,3,3), shifts (N,17,3).

    Args: ``shape`` (N,8): five fingers' lengths, the palm's length and width, and thickness, all over the mean hand's;
    ``angles`` (N,22) radians, see ``ANGLES``.
    """
    n = len(shape)
    joints, matrices = np.zeros((n, 21, 3)), np.empty((n, 17, 3, 3))
    starts = np.zeros((n, 17, 3))
    scale = lambda *parts: np.stack(parts, 1)[:, :, None] * np.eye(3)  # noqa: E731
    thick, palm = shape[:, 7], scale(shape[:, 6], shape[:, 5], shape[:, 7])
    matrices[:, PALM] = palm
    matrices[:, FOREARM] = _turn(-angles[:, 0], angles[:, 1]) @ scale(shape[:, 6], np.ones(n), thick)
    for f, finger in enumerate(FINGERS):
        at, turned = palm @ JOINTS[finger[0]], np.tile(np.eye(3), (n, 1, 1))
        joints[:, finger[0]] = at
        for k in range(3):
            b, a = 2 + 3 * f + k, angles[:, 2 + 4 * f : 6 + 4 * f]
            local = _turn(a[:, 1 + k], a[:, 0] if k == 0 else np.zeros(n))
            turned = turned @ FRAMES[b] @ local @ FRAMES[b].T
            matrices[:, b] = turned @ FRAMES[b] @ scale(thick, shape[:, f], thick) @ FRAMES[b].T
            starts[:, b] = at
            at = at + matrices[:, b] @ (JOINTS[finger[k + 1]] - JOINTS[finger[k]])
            joints[:, finger[k + 1]] = at
    rest = np.concatenate([np.zeros((2, 3)), JOINTS[FINGERS[:, :3].ravel()]])
    return joints, matrices, starts - np.einsum("nbij,bj->nbi", matrices, rest)


@kernel
def skin(vertices, normals, bones, weights, matrices, shifts, cuff, sleeve, out):
    """The vertices (V,3) float32 that follow their bones; a sleeve stands off the arm."""
    for v in range(len(vertices)):
        lift = sleeve * smooth(vertices[v, 1], cuff + 0.12, cuff - 0.12)
        for i in range(3):
            total = 0.0
            for k in range(4):
                b = bones[v, k]
                place = shifts[b, i]
                for j in range(3):
                    place += matrices[b, i, j] * (vertices[v, j] + lift * normals[v, j])
                total += weights[v, k] * place
            out[v, i] = total
