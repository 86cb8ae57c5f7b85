r"""Hair and glasses as meshes that follow an identity's head.

Hair is one grid of locks round the head: spherical above the ears, cylindrical below. A style says where hair grows (the
hairline, a height over the angle round the head), how far it stands off, whether it follows the head or hangs, and how its
strands run; the shader cuts the grid raggedly along the hairline.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from scipy.spatial import cKDTree

from facelab.faces.world.appearance import HAIR_STYLES, column
from facelab.faces.world.chart import Chart
from facelab.faces.world.shade import HAIRLINE_STEPS
from facelab.geometry.morphable import NECK, SKIN

COLUMNS, ROWS_UP, ROWS_DOWN, BOTTOM = 73, 16, 28, -21.0
_ANGLES = np.array([0, 0.30, 0.55, 0.75, 0.92, 1.05, 1.16, 1.26, 1.38, 1.60, 1.85, 2.05, 2.3, 2.7, np.pi])
_MAN = np.array([6.3, 6.4, 6.5, 5.6, 3.8, 2.2, -0.6, -1.6, 1.6, 2.9, 2.2, -1.5, -4.5, -6.0, -6.2])
_WOMAN = np.array([6.0, 6.05, 5.9, 4.9, 3.3, 2.2, 0.6, 0.4, 1.8, 2.9, 2.2, -1.5, -4.5, -6.0, -6.2])


@dataclass(frozen=True)
class Style:
    """How a hair style is built; lengths in cm."""

    top: float = 1.2  # how far the hair stands off the skull above, at the sides and behind
    side: float = 0.7
    back: float = 0.9
    hang: float = 0.0  # 0 follows the head down, 1 hangs from its widest part
    ends: tuple[float, float] = (99.0, 99.0)  # y where it is cut, shortest and longest
    opening: float = 0.9  # angle from which long hair hangs beside the face
    fringe: float = 0.0  # how far hair falls over the forehead
    lift: float = 0.0  # extra height above the forehead
    flow: str = "down"  # strands run "down" from the crown, "back" from the forehead, from a "part"
    curly: float = 0.0
    tufts: float = 0.15  # size of irregular locks
    soft: float = 1.6  # over which height it rises to its full thickness behind the hairline


STYLES = {
    "bald": None,
    "buzz": Style(0.12, 0.08, 0.10, curly=0.8, tufts=0.02, soft=0.5),
    "crop": Style(1.1, 0.55, 0.7, lift=0.3, fringe=0.6, tufts=0.22, flow="back", curly=0.15),
    "quiff": Style(1.9, 0.55, 0.8, lift=1.1, flow="back", tufts=0.30),
    "curly": Style(2.2, 1.5, 1.7, lift=0.5, curly=1.0, tufts=0.45, fringe=0.5),
    "afro": Style(4.6, 3.6, 3.6, lift=0.9, curly=1.0, tufts=0.40, soft=2.4),
    "bob": Style(1.3, 1.5, 1.5, hang=1.0, ends=(-11.5, -7.0), opening=0.86, flow="part", tufts=0.18),
    "long": Style(1.2, 1.4, 1.4, hang=0.9, ends=(-21.0, -14.0), opening=0.90, flow="part", tufts=0.22),
    "fringe": Style(1.2, 1.4, 1.4, hang=0.95, ends=(-20.0, -9.0), opening=0.86, fringe=3.2, flow="down", tufts=0.15),
    "tied": Style(0.55, 0.40, 0.5, flow="back", tufts=0.06),
    "bun": Style(0.6, 0.40, 0.5, flow="back", tufts=0.08),
    "rim": Style(0.5, 0.5, 0.6, curly=0.3, tufts=0.08),
}


@dataclass(frozen=True)
class Scalp:
    """The grid of locks on a model's mean head, and how an identity's head moves it."""

    place: np.ndarray  # (R,C,3) on the mean skull, smoothed
    outward: np.ndarray  # (R,C,3) unit
    angle: np.ndarray  # (R,C) round the head
    near: np.ndarray  # (R*C,k) vertices whose displacement the grid follows
    share: np.ndarray  # (R*C,k) with these weights
    triangles: np.ndarray  # (F,3) int32, the grid and the knot behind it
    widest: np.ndarray  # (C,) horizontal radius above the ears
    axis: float
    middle: float  # y of the centre that upper rows radiate from


@dataclass(frozen=True)
class Locks:
    """Hair of one identity."""

    vertices: np.ndarray  # (V,3) cm, head frame
    triangles: np.ndarray  # (F,3) int32, where hair may grow
    values: np.ndarray  # (V,9) height above the hairline, the strands' coordinates across and along, normal, the strands' direction
    curly: float


def prepare_scalp(chart: Chart) -> Scalp:
    """Lays the grid over a model's mean head."""
    middle = 2.0
    mean, parts, axis = chart.mean.astype(np.float64), chart.parts, chart.axis
    turn = np.arctan2(mean[:, 0], mean[:, 2] - axis)
    ear = (np.abs(turn) > 1.15) & (np.abs(turn) < 2.05) & (mean[:, 1] < 4.2) & (mean[:, 1] > -8.5)
    solid = np.flatnonzero(((parts == SKIN) | (parts == NECK)) & ~ear)
    points, turns = mean[solid], turn[solid]
    angles = np.linspace(-np.pi, np.pi, COLUMNS)
    polar = np.linspace(1e-3, np.pi / 2, ROWS_UP)
    falls = np.linspace(middle, BOTTOM, ROWS_DOWN + 1)[1:]
    ring = np.stack([np.sin(angles), 0 * angles, np.cos(angles)], 1)
    up = np.sin(polar)[:, None, None] * ring + np.cos(polar)[:, None, None] * np.array([0, 1.0, 0])
    down = np.broadcast_to(ring, (ROWS_DOWN, COLUMNS, 3))
    outward = np.concatenate([up, down])
    base = np.zeros((len(outward), COLUMNS, 3))
    base[..., 2] = axis
    base[:ROWS_UP, :, 1] = middle
    base[ROWS_UP:, :, 1] = falls[:, None]

    centre = np.array([0, middle, axis])
    ray = points - centre
    sphere = np.linalg.norm(ray, axis=1)
    outer = sphere > 5
    distance, near_up = cKDTree(ray[outer] / sphere[outer, None]).query(up.reshape(-1, 3), k=6)
    weight_up = 1 / (distance**2 + 0.02**2)
    near_up = np.flatnonzero(outer)[near_up]
    cylinder = np.stack([9 * np.sin(turns), 9 * np.cos(turns), points[:, 1]], 1)
    wanted = np.stack([9 * down[..., 0], 9 * down[..., 2], np.broadcast_to(falls[:, None], down.shape[:2])], -1).reshape(-1, 3)
    distance, near_down = cKDTree(cylinder).query(wanted, k=6)
    weight_down = 1 / (distance**2 + 0.35**2)
    near, weight = np.concatenate([near_up, near_down]), np.concatenate([weight_up, weight_down])
    weight /= weight.sum(1, keepdims=True)
    flat = np.hypot(points[:, 0], points[:, 2] - axis)
    radius = np.concatenate(
        [(weight_up * sphere[near_up]).sum(1) / weight_up.sum(1), (weight_down * flat[near_down]).sum(1) / weight_down.sum(1)]
    )
    radius = radius.reshape(-1, COLUMNS)
    radius[ROWS_UP:] = np.minimum(radius[ROWS_UP:], 10.0)
    radius = ndimage.gaussian_filter(radius, (1.0, 1.2), mode=("nearest", "wrap"))
    radius[:, -1] = radius[:, 0]
    place = base + radius[..., None] * outward
    widest = ndimage.gaussian_filter1d(np.hypot(place[..., 0], place[..., 2] - axis)[: ROWS_UP + 4].max(0), 1.5, mode="wrap")
    rows = len(place)
    knot = np.arange(rows * COLUMNS, rows * COLUMNS + _KNOT_ROWS * _KNOT_COLUMNS).reshape(_KNOT_ROWS, _KNOT_COLUMNS)
    triangles = np.concatenate([_quads(np.arange(rows * COLUMNS).reshape(rows, COLUMNS)), _quads(knot)])
    return Scalp(place, outward, np.broadcast_to(angles, radius.shape).copy(), solid[near], weight, triangles, widest, axis, middle)


_KNOT_ROWS, _KNOT_COLUMNS = 10, 17


def _quads(index: np.ndarray) -> np.ndarray:
    a, b, c, d = index[:-1, :-1].ravel(), index[:-1, 1:].ravel(), index[1:, 1:].ravel(), index[1:, :-1].ravel()
    return np.concatenate([np.stack([a, b, c], 1), np.stack([a, c, d], 1)]).astype(np.int32)


def hairline(look: np.ndarray) -> tuple[np.ndarray, float]:
    """(HAIRLINE_STEPS + 1,) height above which hair grows over a in [-pi, pi], and the height above which it does not (baldness)."""
    get = lambda name: float(look[column(name)])  # noqa: E731
    name = HAIR_STYLES[int(get("hair_style"))]
    style = STYLES[name]
    a = np.linspace(-np.pi, np.pi, HAIRLINE_STEPS + 1)
    if style is None:
        return np.full(len(a), 90.0), 99.0
    turn = np.abs(a)
    line = np.interp(turn, _ANGLES, _MAN if get("male") else _WOMAN)
    line = line + get("hairline") * np.exp(-((turn / 0.9) ** 2))
    if name == "rim":
        line = np.where(turn < 1.15, 90.0, line)
        return line, 5.2 - 0.8 * get("recession")
    line = line + get("recession") * (1.5 * np.exp(-(((turn - 0.55) / 0.25) ** 2)) + 0.5 * np.exp(-((turn / 0.5) ** 2)))
    lean = 0.5 * np.tanh(2 * get("hair_part"))
    if style.fringe:
        ragged = 0.25 * np.sin(5 * a + 9 * get("texture_x")) + 0.15 * np.sin(11 * a + 20 * get("texture_y"))
        line = line - style.fringe * (1 + lean * np.sin(1.6 * a) + 0.3 * ragged) * np.exp(-((turn / 0.85) ** 4)) * (
            0.6 + 0.5 * get("hair_length")
        )
    if style.ends[0] < 90:
        end = style.ends[0] + (style.ends[1] - style.ends[0]) * (1 - get("hair_length"))
        edge = style.opening + 0.12 * np.sin(7 * get("texture_x")) + 0.10 * lean * np.sign(a)
        ramp = np.clip((turn - edge) / 0.16, 0, 1)
        ends = end + 0.5 * np.sin(9 * a + 6 * get("texture_y"))
        line = np.minimum(line, line + (ends - line) * ramp**0.7)
    return line, 99.0


def grow(scalp: Scalp, chart: Chart, vertices: np.ndarray, look: np.ndarray, line: np.ndarray, top: float) -> Locks | None:
    """Hair of one identity on its head ``vertices`` (V,3) cm, without expression; ``line`` and ``top`` from :func:`hairline`."""
    get = lambda name: float(look[column(name)])  # noqa: E731
    style = STYLES[HAIR_STYLES[int(get("hair_style"))]]
    if style is None:
        return None
    place, outward, angle = scalp.place, scalp.outward, scalp.angle
    rows = len(place)
    moved = (scalp.share[..., None] * (vertices[scalp.near] - chart.mean[scalp.near])).sum(1).reshape(place.shape)
    moved = ndimage.gaussian_filter(moved, (1.0, 1.0, 0), mode=("nearest", "wrap", "nearest"))
    turn = np.abs(angle)
    y = place[..., 1]
    above = np.minimum(y - np.interp(angle, np.linspace(-np.pi, np.pi, len(line)), line), top - y)

    volume = get("hair_volume")
    height = np.clip((y - 2) / 7, 0, 1)
    height = height * height * (3 - 2 * height)
    behind = np.clip((turn - 1.3) / 1.2, 0, 1)
    off = style.top * height + (1 - height) * (style.side * (1 - behind) + style.back * behind)
    off = off + style.lift * np.exp(-((turn / 0.9) ** 2)) * np.exp(-(((y - 8.0) / 2.5) ** 2))
    part = get("hair_part")
    if style.flow == "part":
        off = off * (1 - 0.35 * np.exp(-(((place[..., 0] - 3.0 * np.tanh(part)) / 0.8) ** 2)) * (place[..., 2] > scalp.axis - 2) * (y > 6))
    phase = 2 * np.pi * get("texture_x")
    a = angle
    lumps = (
        np.sin(3 * a + phase + 0.9 * y)
        + np.sin(5 * a - 2 * phase - 0.55 * y)
        + 0.8 * np.sin(8 * a + 3 * phase + 1.3 * y)
        + 0.7 * np.sin(13 * a + 5 * phase - 0.8 * y)
    ) / 2
    fade = np.clip((np.arange(rows) - 1) / 3, 0, 1)[:, None]
    rise = np.clip((above + 0.35) / style.soft, 0, 1)
    rise = rise * (2 - rise)
    off = volume * (off * rise + style.tufts * lumps * fade * (0.4 + 0.6 * rise)) + 0.06 + 0.16 * rise
    grid = place + moved + off[..., None] * outward
    wave = get("hair_wave")
    if style.hang:
        radius = np.hypot(grid[..., 0], grid[..., 2] - scalp.axis)
        start = scalp.middle
        drop = np.clip((start - y) / 5, 0, 1)
        flare = -0.05 * np.clip(start - y - 4, 0, None) + 0.5 * (wave - 0.2) * np.clip((start - y) / 12, 0, 1)
        hanging = (
            scalp.widest[None]
            + 0.7 * np.exp(-(((turn - 1.0) / 0.35) ** 2))
            + volume * (style.side * (1 - behind) + style.back * behind) * 0.75
            + flare
        )
        ripple = (0.10 + 0.55 * wave) * np.sin(0.75 * (start - y) + 2.2 * np.sin(2 * a + phase) + phase) * np.clip((start - y) / 6, 0, 1)
        hanging = hanging + ripple + 0.5 * style.tufts * lumps
        mixed = radius + style.hang * drop * np.maximum(hanging - radius, 0)
        scale = np.where(np.arange(rows)[:, None] >= ROWS_UP - 1, mixed / np.maximum(radius, 1e-6), 1)
        grid[..., 0] *= scale
        grid[..., 2] = scalp.axis + (grid[..., 2] - scalp.axis) * scale
        gather = np.clip((-y - 11) / 8, 0, 1) * 0.12  # long hair comes together over the shoulders
        grid[..., 0] *= 1 - gather
    along_rows = np.gradient(grid, axis=0)
    around = np.gradient(grid, axis=1)
    around[:, 0] = around[:, -1] = (grid[:, 1] - grid[:, -2]) / 2
    normal = np.cross(along_rows, around)
    normal *= np.where((normal * outward).sum(-1, keepdims=True) < 0, -1, 1)
    normal[0] = outward[0]
    tangent = along_rows
    x, z = grid[..., 0], grid[..., 2]
    if style.flow == "down":
        across, along = angle / (2 * np.pi) * 50, np.cumsum(np.linalg.norm(along_rows, axis=-1), 0)
    elif style.flow == "back":
        sweep = np.clip((y + 1) / 3, 0, 1)
        across = np.where(sweep > 0, 9 * np.arctan2(x, np.maximum(y - 0.5, 0.3)), 0) * sweep + (1 - sweep) * angle / (2 * np.pi) * 50
        across = 9 * np.arctan2(x, np.abs(y + 3.0) + 2.0)
        along = -z
        swept = np.array([0, 0, -1.0]) + 0.25 * np.sign(x)[..., None] * np.array([0, -1.0, 0])
        tangent = swept - (swept * normal).sum(-1, keepdims=True) / np.maximum((normal * normal).sum(-1, keepdims=True), 1e-9) * normal
    else:
        seam_x, back_z = 3.0 * np.tanh(part), scalp.axis - 3.0
        beyond = np.maximum(back_z - z, 0)
        fan = np.arctan2(x - seam_x, np.maximum(beyond, 1e-3)) * (beyond > 0)
        across = np.where(beyond > 0, back_z - 9 * (np.pi / 2 - np.abs(fan)) * np.sign(beyond), z) + 3 * np.sign(x - seam_x)
        along = np.hypot(x - seam_x, np.minimum(y - 12.0, 0))
        side = np.stack([x - seam_x, np.minimum(y - 9.0, -0.5) - 0.8 * np.abs(x - seam_x), -beyond], -1)
        tangent = side - (side * normal).sum(-1, keepdims=True) / np.maximum((normal * normal).sum(-1, keepdims=True), 1e-9) * normal
    unit = lambda v: v / np.maximum(np.linalg.norm(v, axis=-1, keepdims=True), 1e-9)  # noqa: E731
    values = np.concatenate([above[..., None], across[..., None], along[..., None], unit(normal), unit(tangent)], -1).reshape(-1, 9)
    knot, knot_values = _knot(scalp, grid, get, HAIR_STYLES[int(get("hair_style"))])
    values = np.concatenate([values, knot_values]).astype(np.float32)
    growing = (values[scalp.triangles, 0] > -0.6).any(1)  # what never grows must not hide what grows behind it
    points = np.concatenate([grid.reshape(-1, 3), knot]).astype(np.float32)
    return Locks(points, scalp.triangles[growing], values, style.curly)


def _knot(scalp: Scalp, grid: np.ndarray, get, name: str) -> tuple[np.ndarray, np.ndarray]:
    """A bun, or a tail that hangs behind; gathered in one point for the styles without."""
    v, u = np.meshgrid(np.linspace(0, np.pi, _KNOT_ROWS), np.linspace(-np.pi, np.pi, _KNOT_COLUMNS), indexing="ij")
    ball = np.stack([np.sin(v) * np.sin(u), np.cos(v), np.sin(v) * np.cos(u)], -1)
    middle = COLUMNS // 2
    if name == "bun":
        high = get("hair_length") > 0.5
        centre = grid[4 if high else 11, 0] + (np.array([0, 0.9, -0.9]) if high else np.array([0, -0.2, -1.3]))
        size = np.array([2.3, 1.9, 2.2]) * (0.75 + 0.35 * get("hair_volume"))
    elif name == "tied":
        side = 2.2 * np.tanh(2 * get("hair_part"))
        centre = grid[ROWS_UP, 0] + np.array([side, -7.0, -0.6])
        size = np.array([1.8, 9.0, 1.6])
    else:
        centre, size = grid[0, middle] - [0, 3, 0], np.zeros(3)
    points = (centre + size * ball).reshape(-1, 3)
    values = np.concatenate(
        [
            np.full((*v.shape, 1), 6.0),
            1.4 * u[..., None],
            size.max() * v[..., None],
            ball,
            np.stack([0 * u, -np.sin(v), np.cos(v) * 0 + 0.01], -1),
        ],
        -1,
    )
    return points, values.reshape(-1, 9)


# ------------------------------------------------------------------------------------------------------------------------ glasses

_RIM, _TUBE = 30, 6


def glasses(vertices: np.ndarray, marks: np.ndarray, look: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """Frames that sit on an identity's nose and ears: vertices (V,3), triangles (F,3); None without glasses.

    ``vertices`` (V,3) without expression and ``marks`` (68,3), its landmarks.
    """
    get = lambda name: float(look[column(name)])  # noqa: E731
    kind = int(get("glasses"))
    if kind == 0:
        return None
    thick = get("glasses_thickness")
    nose = marks[27] + (marks[28] - marks[27]) * 0.45
    centres = np.stack([marks[36:42].mean(0), marks[42:48].mean(0)])
    half = np.abs(centres[1, 0] - centres[0, 0]) / 2
    front = max(nose[2] + 0.25, marks[[19, 24], 2].max() + 0.35, marks[[37, 44], 2].max() + 0.9)
    wide, tall, power = {1: (2.35, 2.05, 2.0), 2: (2.6, 1.75, 3.4), 3: (2.65, 2.15, 2.5)}[kind]
    wide, tall = wide * get("glasses_width") * half / 3.15, tall * get("glasses_height")
    bend = lambda p: p - np.stack([0 * p[:, 0], 0 * p[:, 0], 0.028 * p[:, 0] ** 2 + 0.10 * (p[:, 1] - centres[0, 1]) * 0], 1)  # noqa: E731
    tubes = []
    t = np.linspace(0, 2 * np.pi, _RIM, endpoint=False)
    for side, centre in zip((-1, 1), centres, strict=True):
        c, s = np.cos(t), np.sin(t)
        round_x, round_y = np.sign(c) * np.abs(c) ** (2 / power), np.sign(s) * np.abs(s) ** (2 / power)
        x = centre[0] + side * 0.08 + wide * round_x * (1 + (0.10 * round_y if kind == 3 else 0.04 * round_y))
        y = centre[1] - 0.28 + tall * round_y - (0.25 * side * round_x * (round_y < 0) if kind == 3 else 0)
        tubes.append((bend(np.stack([x, y, np.full_like(x, front)], 1)), True, thick))
        hinge = np.array([centre[0] + side * (wide + 0.05), centre[1] + 0.45, front])
        ear_x = side * (np.abs(marks[[0, 16], 0]).mean() + 0.35)
        ear = np.array([ear_x, centre[1] + 0.35, min(marks[0, 2], marks[16, 2]) - 2.6])
        arm = bend(hinge[None])[0]
        tubes.append((np.stack([arm, arm + [side * 0.25, 0, -0.35], (arm + ear) / 2 + [side * 0.35, 0.05, 0], ear]), False, thick * 0.9))
    inner = half - wide
    bridge = np.stack([[-inner, 0.0, front], [-inner * 0.5, 0.28, front + 0.22], [inner * 0.5, 0.28, front + 0.22], [inner, 0.0, front]])
    bridge[:, 1] += centres[:, 1].mean() + 0.15
    tubes.append((bridge, False, thick * 0.9))
    points, faces, start = [], [], 0
    for path, closed, radius in tubes:
        p, f = _tube(path, closed, radius)
        points.append(p)
        faces.append(f + start)
        start += len(p)
    return np.concatenate(points).astype(np.float32), np.concatenate(faces).astype(np.int32)


def _tube(path: np.ndarray, closed: bool, radius: float) -> tuple[np.ndarray, np.ndarray]:
    ahead = np.roll(path, -1, 0) - np.roll(path, 1, 0) if closed else np.gradient(path, axis=0)
    ahead /= np.linalg.norm(ahead, axis=1, keepdims=True)
    aside = np.cross(ahead, [0.0, 0.0, 1.0])
    weak = np.linalg.norm(aside, axis=1) < 0.5
    aside[weak] = np.cross(ahead[weak], [0.0, 1.0, 0.0])
    aside /= np.linalg.norm(aside, axis=1, keepdims=True)
    other = np.cross(ahead, aside)
    u = np.linspace(0, 2 * np.pi, _TUBE, endpoint=False)
    points = path[:, None] + radius * (np.cos(u)[:, None] * aside[:, None] + np.sin(u)[:, None] * other[:, None])
    index = np.arange(points.shape[0] * _TUBE).reshape(-1, _TUBE)
    index = np.concatenate([index, index[:, :1]], 1)
    if closed:
        index = np.concatenate([index, index[:1]])
    return points.reshape(-1, 3), _quads(index)
