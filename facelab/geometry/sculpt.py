r"""Sculpts heads: analytic surfaces from measured proportions, one vertex of all heads being one point of the face.

A head is drawn in three steps. (1) The **loft**: horizontal rings from crown to shoulders, each a superellipse whose
width, depth and height are splines along the head. (2) **Features** are smooth bumps and grooves on the loft: brow,
sockets and lids, nose, lips, cheeks, chin. They are written in the coordinates of the *mean* loft, so a wider nose is
the same vertices moved, and registration is exact by construction. (3) **Proportions** (below) stretch regions and
scale features. ``scan(proportions)`` is therefore what a registered 3D scan is, and principal component analysis of
many gives the identity directions of ``MorphableModel.default()``; expressions are displacements of the mean head.

Means and spreads of the proportions follow adult facial anthropometry (Farkas, *Anthropometry of the Head and Face*,
1994; Farkas et al., J. Craniofacial Surgery 16(4), 2005), widened to span the groups that those tables list.
Lengths are centimetres; +x to the viewer's right, +y up, +z to the viewer; the eyes lie at y = 0.
"""
from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline, PchipInterpolator
from scipy.spatial import Delaunay, cKDTree

from facelab.geometry.morphable import EYE, EYES, MOUTH, NECK, SKIN, TEETH, MorphableModel

Array = NDArray[np.float64]

# ---------------------------------------------------------------------------------------------------- proportions
# name: (standard deviation, what +1 means). Lengths in cm, the rest as a fraction of the mean feature.
PROPORTIONS: dict[str, tuple[float, str]] = {
    "face_width": (0.050, "bizygomatic width, fraction (mean 13.7 cm)"),
    "jaw_width": (0.070, "bigonial width, fraction (mean 10.8 cm)"),
    "skull_width": (0.040, "head breadth, fraction (mean 15.2 cm)"),
    "skull_length": (0.040, "head length, fraction (mean 19.3 cm)"),
    "forehead_height": (0.060, "brow to crown, fraction"),
    "forehead_slope": (0.50, "how far the upper forehead lies back, cm"),
    "midface_height": (0.32, "nasion to subnasale, cm (mean 5.0)"),
    "upper_lip_height": (0.22, "subnasale to stomion, cm (mean 2.2)"),
    "chin_height": (0.38, "stomion to gnathion, cm (mean 4.6)"),
    "chin_projection": (0.36, "pogonion forward, cm"),
    "chin_width": (0.25, "fraction"),
    "jaw_angle": (0.55, "gonion down, cm"),
    "eye_distance": (0.20, "half the pupil distance, cm (mean 3.2)"),
    "eye_width": (0.060, "palpebral fissure length, fraction (mean 2.8 cm)"),
    "eye_height": (0.17, "palpebral fissure height, fraction (mean 1.0 cm)"),
    "eye_tilt": (0.09, "outer corner above the inner, cm per cm"),
    "eye_depth": (0.16, "eyes set back, cm"),
    "lid_fold": (0.55, "fullness over the upper lid"),
    "brow_ridge": (0.45, "fraction"),
    "brow_height": (0.24, "cm"),
    "nose_width": (0.130, "al-al, fraction (mean 3.5 cm)"),
    "nose_projection": (0.150, "fraction (mean 2.0 cm)"),
    "nose_bridge": (0.24, "height of the bridge at the nasion, cm"),
    "nose_hump": (0.13, "dorsal hump, cm"),
    "nose_tip_up": (0.28, "tip raised, cm"),
    "nose_tip_width": (0.17, "bulbosity of the tip, fraction"),
    "bridge_width": (0.13, "fraction"),
    "mouth_width": (0.070, "ch-ch, fraction (mean 5.2 cm)"),
    "upper_lip": (0.26, "vermilion height, fraction (mean 0.8 cm)"),
    "lower_lip": (0.22, "vermilion height, fraction (mean 1.0 cm)"),
    "lip_projection": (0.22, "cm"),
    "cupid_bow": (0.45, "fraction"),
    "cheekbones": (0.28, "malar prominence, cm"),
    "cheek_fullness": (0.42, "lower cheek, cm; hollow when negative"),
    "temples": (0.22, "cm; hollow when negative"),
    "neck_width": (0.085, "fraction"),
    "ear_size": (0.075, "fraction (mean 6.2 cm)"),
    "ear_flare": (0.16, "radians"),
    "asymmetry_mouth": (0.06, "mouth shifted to the viewer's right, cm"),
    "asymmetry_eyes": (0.04, "left eye above the right, cm"),
    "asymmetry_nose": (0.07, "tip shifted to the viewer's right, cm"),
}
# Measurements that go together in people: loadings of a few common factors on the proportions' unit deviates.
_SEX = dict(jaw_width=0.55, brow_ridge=0.7, chin_projection=0.3, chin_height=0.5, nose_projection=0.35, face_width=0.35, neck_width=0.75,
            upper_lip=-0.3, lower_lip=-0.2, eye_height=-0.35, brow_height=-0.5, chin_width=0.5, midface_height=0.35, nose_width=0.3,
            forehead_slope=0.4, cheek_fullness=-0.25, jaw_angle=0.35, nose_hump=0.3, nose_tip_up=-0.35, skull_width=0.35, skull_length=0.35,
            ear_size=0.3, mouth_width=0.25)
_NOSE_AND_LIPS = dict(nose_width=0.75, nose_projection=-0.45, nose_bridge=-0.6, upper_lip=0.6, lower_lip=0.6, lip_projection=0.65,
                      nose_tip_width=0.45, bridge_width=0.35)
_FULLNESS = dict(cheek_fullness=0.75, face_width=0.45, jaw_width=0.4, neck_width=0.5, temples=0.5, chin_height=-0.1)
_LENGTH = dict(face_width=-0.4, midface_height=0.55, chin_height=0.5, upper_lip_height=0.5, forehead_height=0.25)
_FACTORS = (_SEX, _NOSE_AND_LIPS, _FULLNESS, _LENGTH)


def random_proportions(generator: np.random.Generator) -> dict[str, float]:
    """One person's proportions: deviates correlated as in people, cut at 2.3 standard deviations; see PROPORTIONS for units."""
    common = generator.standard_normal(len(_FACTORS))
    own = generator.standard_normal(len(PROPORTIONS))
    out = {}
    for (name, (spread, _)), z in zip(PROPORTIONS.items(), own, strict=True):
        loads = np.array([f.get(name, 0.0) for f in _FACTORS])
        rest = max(1 - loads @ loads, 0.2) ** 0.5
        out[name] = spread * float(np.clip(loads @ common + rest * z, -2.3, 2.3))
    return out


# ---------------------------------------------------------------------------------------------------- small shapes
def _g(x: Array, y: Array, cx: float, cy: float, sx: float, sy: float) -> Array:
    """Gaussian bump of height 1."""
    return np.exp(-0.5 * (((x - cx) / sx) ** 2 + ((y - cy) / sy) ** 2))


def _step(t: Array, lo: float, hi: float) -> Array:
    """Smoothstep: 0 below lo, 1 above hi."""
    t = np.clip((t - lo) / (hi - lo), 0, 1)
    return t * t * (3 - 2 * t)


def _smax(a: Array, b: Array, k: float) -> Array:
    """Smooth maximum with a fillet of about k cm."""
    h = np.clip(0.5 + 0.5 * (a - b) / k, 0, 1)
    return b + (a - b) * h + k * h * (1 - h)


def _spline(x: list[float], y: list[float]) -> CubicSpline:
    return CubicSpline(x, y, bc_type="natural")


# ---------------------------------------------------------------------------------------------------- the loft
# ring:  y front   z front  y side  half width  z of the widest point  y back   z back  front exponent
_RINGS = np.array([
    [11.90, -8.60, 11.90, 0.05, -8.65, 11.90, -8.70, 2.0],   # crown
    [11.55, -6.20, 11.50, 2.60, -8.90, 11.50, -11.6, 2.0],
    [10.60, -3.95, 10.50, 4.75, -9.10, 10.40, -14.2, 2.05],
    [8.90, -1.75, 8.90, 6.50, -8.90, 8.60, -16.4, 2.0],
    [6.60, 0.10, 6.90, 7.35, -8.80, 6.20, -17.6, 2.02],      # hairline
    [4.30, 1.05, 4.70, 7.62, -8.70, 3.60, -18.1, 2.05],
    [2.30, 1.20, 2.40, 7.62, -8.80, 1.00, -18.0, 2.2],      # brow
    [0.30, 0.72, 0.50, 7.45, -8.80, -1.60, -17.2, 2.45],      # eyes
    [-2.00, 0.72, -1.60, 7.15, -8.60, -4.00, -15.9, 2.7],    # cheekbones
    [-4.40, 1.05, -3.60, 6.75, -8.40, -6.20, -14.6, 2.55],   # subnasale
    [-6.60, 1.30, -5.40, 6.30, -8.10, -8.20, -13.8, 2.35],   # mouth
    [-8.50, 1.00, -6.80, 5.90, -7.90, -9.90, -13.4, 2.2],    # under the lip
    [-10.1, 0.95, -7.80, 5.62, -7.80, -11.2, -13.2, 2.1],    # chin
    [-11.25, 0.05, -8.40, 5.42, -7.90, -12.2, -13.2, 1.95],  # edge of the jaw
    [-11.65, -2.00, -9.20, 5.05, -8.30, -13.0, -13.3, 1.9],
    [-12.00, -4.30, -10.6, 4.95, -8.70, -13.8, -13.5, 2.0],  # throat
    [-13.40, -5.10, -12.9, 5.15, -9.00, -14.8, -13.8, 2.1],
    [-15.80, -4.85, -15.2, 5.55, -9.20, -15.9, -14.4, 2.1],  # neck
    [-18.00, -3.90, -17.0, 7.60, -9.40, -17.0, -15.2, 2.1],
    [-19.60, -2.90, -18.1, 12.5, -9.70, -18.0, -16.0, 2.2],  # shoulders
    [-22.50, -1.60, -20.2, 17.5, -9.90, -20.0, -16.8, 2.5],
    [-28.00, -0.60, -26.0, 19.0, -10.0, -26.0, -17.0, 2.8],  # chest
])
_JAW_RING, _NECK_RING = 13, 14
_V = np.arange(len(_RINGS), dtype=float)
_RING_SPLINES = [PchipInterpolator(_V, _RINGS[:, i]) if i in (3,) else CubicSpline(_V, _RINGS[:, i]) for i in range(_RINGS.shape[1])]


def _loft(u: Array, v: Array) -> Array:
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


def _unloft(x: Array, y: Array) -> tuple[Array, Array]:
    """(u, v) of the point of the front of the loft that is seen at (x, y)."""
    gu, gv = np.meshgrid(np.linspace(-1.5, 1.5, 121), np.linspace(2, 15, 261), indexing="ij")
    tree = cKDTree(_loft(gu, gv)[..., :2].reshape(-1, 2))
    i = tree.query(np.stack([x, y], -1))[1]
    u, v = gu.ravel()[i].copy(), gv.ravel()[i].copy()
    for _ in range(12):  # Newton
        e = 1e-4
        p = _loft(u, v)[..., :2]
        du = (_loft(u + e, v)[..., :2] - p) / e
        dv = (_loft(u, v + e)[..., :2] - p) / e
        det = du[..., 0] * dv[..., 1] - du[..., 1] * dv[..., 0]
        det = np.where(np.abs(det) < 1e-9, 1e-9, det)
        rx, ry = x - p[..., 0], y - p[..., 1]
        u += np.clip((rx * dv[..., 1] - ry * dv[..., 0]) / det, -0.1, 0.1)
        v += np.clip((ry * du[..., 0] - rx * du[..., 1]) / det, -0.3, 0.3)
    return u, v


# ---------------------------------------------------------------------------------------------------- contours on the mean face
EYE_X, EYE_R, EYE_Z = 3.17, 1.32, -1.30
_LID = _spline([-1.42, -1.10, -0.45, 0.2, 0.85, 1.22, 1.46], [-0.16, 0.17, 0.47, 0.54, 0.40, 0.20, -0.02])
_LOWER_LID = _spline([-1.42, -1.15, -0.5, 0.2, 0.85, 1.25, 1.46], [-0.16, -0.27, -0.41, -0.46, -0.38, -0.18, -0.02])
MOUTH_Y, MOUTH_X, _LENS = -6.72, 2.58, 0.16


def _eye_contour(n: int) -> Array:
    """2n points of the right-hand (+x) eye opening: inner corner, over the upper lid, outer corner, back below."""
    t = 0.5 - 0.5 * np.cos(np.pi * np.arange(n) / n)
    x = -1.42 + 2.88 * t
    upper = np.stack([x, _LID(x)], -1)
    x = 1.46 - 2.88 * t
    lower = np.stack([x, _LOWER_LID(x)], -1)
    return np.concatenate([upper, lower]) + [EYE_X, 0.0]


def _lip_line(x: Array) -> Array:
    """Height of the line between the closed lips."""
    a = np.abs(x)
    return MOUTH_Y - 0.06 * np.exp(-((x / 0.45) ** 2)) + 0.05 * np.exp(-(((a - 0.9) / 0.5) ** 2)) - 0.16 * (a / MOUTH_X) ** 3


def _upper_lip_edge(x: Array) -> Array:
    t = np.clip(1 - (np.abs(x) / MOUTH_X) ** 2.0, 0, 1)
    return _lip_line(x) + 0.86 * t**0.85 - 0.10 * np.exp(-((x / 0.30) ** 2)) + 0.05 * np.exp(-(((np.abs(x) - 0.55) / 0.3) ** 2)) * t


def _lower_lip_edge(x: Array) -> Array:
    t = np.clip(1 - (np.abs(x) / MOUTH_X) ** 2.4, 0, 1)
    return _lip_line(x) - 1.02 * t**0.8


def _brow(x: Array) -> Array:
    """Height of the brow's middle line over |x|."""
    a = np.abs(x)
    return 2.05 + 0.52 * np.sin(np.clip((a - 1.1) / 5.0, 0, 1) * np.pi * 0.92) - 0.10 * np.clip(a - 4.6, 0, 2) ** 1.3


# ---------------------------------------------------------------------------------------------------- the template
class _Template:
    """The mesh on the mean loft: (u, v) of every skin vertex, its mean (x, y), triangles, strips and landmark vertices."""

    def __init__(self) -> None:
        eye = _eye_contour(26)
        lens = np.linspace(-MOUTH_X, MOUTH_X, 49)
        gap = _LENS * np.clip(1 - (lens / MOUTH_X) ** 2, 0, 1)
        upper_in = np.stack([lens, _lip_line(lens) + gap], -1)
        lower_in = np.stack([lens, _lip_line(lens) - gap], -1)[1:-1]
        upper_out = np.stack([lens, _upper_lip_edge(lens)], -1)[1:-1]
        lower_out = np.stack([lens, _lower_lip_edge(lens)], -1)[1:-1]
        rings = [eye]
        centre = np.array([EYE_X, 0.05])
        for grow, lift in ((1.10, 0.0), (1.22, 0.02), (1.38, 0.05), (1.56, 0.08)):
            rings.append(centre + (eye - centre) * [1 + (grow - 1) * 0.75, grow + 0.25 * (grow - 1) * 2] + [0, lift])
        contours = [np.concatenate([r, r * [-1, 1]]) for r in rings] + [upper_in, lower_in]
        for w in (0.33, 0.66):
            contours += [(upper_in * (1 - w))[1:-1] + upper_out * w, lower_in * (1 - w) + lower_out * w]
        contours += [upper_out, lower_out]
        fixed = np.concatenate(contours)
        u, v = _unloft(fixed[:, 0], fixed[:, 1])
        self.fixed_count = len(u)
        self.u, self.v = self._fill(u, v)
        self._connect(eye, upper_in, lower_in)

    def _fill(self, u: Array, v: Array) -> tuple[Array, Array]:
        """Adds vertices with a spacing that follows the detail of the face: half of the head, then its mirror image."""
        rng = np.random.default_rng(7)
        cu = rng.uniform(0, np.pi, 600_000)
        cv = rng.uniform(0, len(_RINGS) - 1, 600_000)
        points = _loft(cu, cv)
        x, y, z = points.T
        # Candidates are uniform in (u, v); dart throwing below makes them uniform in space.
        front = _step(z, -9, -4) * _step(y, -12.5, -11)
        spacing = 1.10 - 0.72 * front
        spacing = spacing - 0.10 * front * _step(y, -12, -10) * _step(-y, -5, -3)
        detail = np.max([_g(x, y, EYE_X, 0.3, 2.1, 1.5), _g(x, y, 0, -3.2, 1.7, 2.2), _g(x, y, 0, -6.8, 2.9, 1.7)], 0) * front
        spacing = spacing - 0.18 * np.clip(detail * 1.6, 0, 1)
        spacing = np.maximum(spacing - 0.14 * front * np.clip(2 * _g(x, y, 0, -3.9, 1.1, 0.8), 0, 1), 0.11)
        spacing += 0.5 * _step(-y, 13, 18) + 1.0 * _step(-y, 19, 22)
        middle = np.arange(0, len(_RINGS) - 1, 0.02)
        middle_y = _loft(np.zeros_like(middle), middle)
        keep_middle = [0]
        for i in range(1, len(middle)):
            d = np.linalg.norm(middle_y[i] - middle_y[keep_middle[-1]])
            if d > (0.12 if -5 < middle_y[i, 1] < -2.7 else 0.24 if -10 < middle_y[i, 1] < 1 else 0.45):
                keep_middle.append(i)
        mu, mv = [0.0] * len(keep_middle), list(middle[keep_middle])
        back = np.linspace(0, len(_RINGS) - 1, 34)
        base = np.concatenate([_loft(u, v)[u > -1e-9], _loft(np.array(mu), np.array(mv)), _loft(np.full(34, np.pi), back)])
        fixed = cKDTree(_loft(u, v))
        near_fixed = fixed.query(_loft(np.array(mu), np.array(mv)))[0] < 0.14
        mu, mv = np.array(mu)[~near_fixed], np.array(mv)[~near_fixed]
        # the opening of the eye and the gap between the lips hold no skin
        eye = _eye_contour(26)
        from matplotlib.path import Path  # matplotlib is there for the notebooks anyway

        gap = _LENS * np.clip(1 - (x / MOUTH_X) ** 2, 0, 1)
        hole = (Path(eye).contains_points(np.stack([x, y], -1)) & (z > -4)) | ((np.abs(y - _lip_line(x)) < gap) & (z > -4) & (np.abs(x) < MOUTH_X))
        mid_y = _loft(np.zeros_like(mv), mv)[:, 1]
        mu, mv = mu[np.abs(mid_y - _lip_line(np.zeros(1))) > _LENS + 0.05], mv[np.abs(mid_y - _lip_line(np.zeros(1))) > _LENS + 0.05]
        taken = _dart_throw(points[~hole], spacing[~hole], base)
        hu, hv = cu[~hole][taken], cv[~hole][taken]
        su = np.concatenate([u, mu, hu, -hu, np.full(34, np.pi), np.full(34, -np.pi)])
        sv = np.concatenate([v, mv, hv, hv, back, back])
        return su, sv

    def _connect(self, eye: Array, upper_in: Array, lower_in: Array) -> None:
        # In chart units of about a centimetre, so that Delaunay triangles are well shaped on the face.
        chart = np.stack([self.u * 6.5, -self.v * 1.9], -1)
        triangles = Delaunay(chart).simplices
        p = _loft(self.u, self.v)
        self.x, self.y = p[:, 0], p[:, 1]
        centre = p[triangles].mean(1)
        from matplotlib.path import Path

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
        self.rest = _loft(self.u, self.v)
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
def _template() -> _Template:
    return _Template()


# ---------------------------------------------------------------------------------------------------- the surface
def _skin(p: dict[str, float]) -> Array:
    """Skin vertices of the head with proportions p, features and all; (V_skin, 3)."""
    t = _template()
    x, y, z0 = t.rest.T
    a, s = np.abs(x), np.sign(x)
    front = _step(z0, -7.5, -4.5)
    face = front * _step(y, -12.5, -11.2)

    # depth of the features over the loft
    z = np.zeros_like(x)
    ridge = 1 + p["brow_ridge"]
    brow_y = _brow(x)
    z += 0.18 * ridge * np.exp(-(((y - brow_y + 0.30) / 0.62) ** 2)) * _step(-a, -5.9, -4.4) * (1 - 0.6 * np.exp(-((a / 0.9) ** 2)))
    z += 0.10 * ridge * _g(x, y, 0, 1.9, 1.1, 0.7)
    z -= 0.12 * _g(x, y, 0, 3.6, 2.5, 0.8)
    z -= (0.30 - p["temples"]) * _g(a, y, 6.6, 2.4, 1.1, 2.0)
    z += (0.32 + p["cheekbones"]) * _g(a, y, 4.5, -2.1, 1.7, 1.15)
    z += (-0.20 + p["cheek_fullness"]) * _g(a, y, 4.4, -5.7, 1.5, 1.9)
    z += 0.30 * _g(a, y, 2.6, -4.3, 1.1, 1.0)                                     # beside the nose
    # mouth: dental arch, groove under the lip, chin
    z += (0.62 + p["lip_projection"]) * np.exp(-((a / 2.55) ** 2.4) - ((y + 6.4) / 2.0) ** 2)
    z -= 0.42 * _g(x, y, 0, -8.55, 1.7, 0.52)
    chin = 1 + p["chin_width"]
    z += (0.62 + p["chin_projection"]) * np.exp(-((a / (1.75 * chin)) ** 2.6) - ((y + 10.1) / 1.15) ** 2)
    z -= 0.10 * _g(a, y, 2.9, -9.4, 0.7, 1.0)                                     # before the jowl
    # philtrum
    z -= 0.075 * _g(x, y, 0, -5.3, 0.20, 0.55)
    z += 0.075 * _g(a, y, 0.46, -5.35, 0.16, 0.5)
    # nasolabial fold: a step along a curve from the wing of the nose to beside the mouth
    fold_x = 1.95 + 1.35 * np.clip((-3.7 - y) / 3.4, 0, 1.1) ** 0.8
    along = _step(-y, 3.4, 4.4) * _step(y, -7.8, -6.3)
    z += 0.16 * along * _step(a - fold_x, -0.30, 0.45) * np.exp(-(np.clip(a - fold_x, 0, 9) / 1.6) ** 2)
    z -= 0.07 * along * np.exp(-(((a - fold_x + 0.05) / 0.22) ** 2))
    # eye sockets
    z -= 0.80 * _g(a, y, 2.35, 0.60, 0.85, 0.80) + 0.62 * _g(a, y, 4.1, -0.05, 1.25, 0.85)
    z -= 0.10 * np.exp(-(((y + 1.15 - 0.12 * (a - 3)) / 0.30) ** 2)) * _step(a, 1.5, 2.1) * _step(-a, -4.8, -3.6)
    z -= p["eye_depth"] * np.exp(-(((a - EYE_X) / 2.1) ** 4) - ((y - 0.1) / 1.5) ** 4)

    # nose
    q = y - 0.7 * p["nose_tip_up"] * _g(x, y, 0, -3.6, 1.2, 0.9)
    dorsum = _spline([-5.2, -4.75, -4.5, -4.2, -3.85, -3.45, -3.05, -2.5, -1.8, -1.0, -0.3, 0.5, 1.4, 2.4],
                     [0.00, 0.10, 0.55, 1.50, 2.34, 2.72, 2.70, 2.40, 1.92, 1.40, 1.00, 0.62, 0.30, 0.0])(np.clip(q, -5.2, 2.4))
    size = 1 + p["nose_projection"]
    dorsum = dorsum * size + p["nose_bridge"] * _g(x, q, 0, -0.1, 9, 1.0) + p["nose_hump"] * _g(x, q, 0, -1.6, 9, 0.75)
    half = _spline([-4.7, -4.2, -3.5, -2.6, -1.6, -0.6, 0.4, 1.6], [0.42, 0.55, 0.88, 0.80, 0.72, 0.62, 0.62, 0.95])(np.clip(q, -4.7, 1.6))
    half = half * (1 + p["bridge_width"] * _step(q, -3.2, -2.4)) * (1 + p["nose_tip_width"] * _g(x, q, 0, -3.5, 9, 0.6))
    ridge_line = dorsum * np.exp(-((a / half) ** 2.1))
    flank = 0.52 * np.clip(dorsum, 0, None) * np.exp(-((a / (half * 1.75)) ** 2.6)) * _step(q, -4.5, -3.7)
    wing = 0.98 * size * np.exp(-(np.hypot((a - 1.14) / 0.70, (q + 3.92) / 0.66) ** 3.0))
    tip = 2.70 * size * np.exp(-(np.hypot(a / 1.08, (q + 3.36) / 0.88) ** 2.5))
    nose = _smax(_smax(_smax(ridge_line, flank, 0.3), wing, 0.45), tip, 0.40)
    nose = nose - 0.34 * np.exp(-(((a - 0.64) / 0.28) ** 2) - ((q + 4.42) / 0.17) ** 2)  # nostrils
    nose = nose - 0.10 * np.exp(-(((np.hypot((a - 1.22) / 0.62, (q + 3.98) / 0.60) - 1.28) / 0.18) ** 2)) * _step(a, 1.1, 1.6)  # alar crease
    z += nose * _step(-a, -3.4, -2.4)

    # lips
    line, top, bottom = _lip_line(x), _upper_lip_edge(x), _lower_lip_edge(x)
    inside = _step(-a, -MOUTH_X - 0.05, -MOUTH_X + 0.55)
    up = np.clip((y - line - _LENS * 0.5) / np.maximum(top - line - _LENS * 0.5, 0.08), 0, 1.6)
    low = np.clip((line - _LENS * 0.5 - y) / np.maximum(line - bottom - _LENS * 0.5, 0.08), 0, 1.6)
    upper_shape = np.where(up < 1, 0.38 * np.sin(np.pi * np.clip(up * 0.74 + 0.10, 0, 1)) + 0.04 * up, 0.22 * np.exp(-(((up - 1) / 0.25) ** 2)))
    lower_shape = np.where(low < 1, 0.52 * np.sin(np.pi * np.clip(low * 0.86 + 0.10, 0, 1)), 0.07 * np.exp(-(((low - 1) / 0.3) ** 2)))
    is_upper = y >= line
    z += inside * np.where(is_upper, upper_shape * (1 + 0.6 * p["upper_lip"]), lower_shape * (1 + 0.6 * p["lower_lip"]))
    z -= 0.16 * inside * np.exp(-(((y - line) / (_LENS * 1.1)) ** 2))
    z -= 0.22 * _g(a, y, MOUTH_X + 0.12, MOUTH_Y - 0.16, 0.32, 0.28)            # corners

    # lids: the surface follows an ellipsoid around the eyeball
    ex, ey = a - EYE_X, y - 0.02
    shell = np.clip(1 - (ex / 1.92) ** 2 - (ey / EYE_R) ** 2, 0, None)
    lid_z = EYE_Z - p["eye_depth"] + EYE_R * np.sqrt(shell) + 0.02
    around = np.exp(-(np.hypot(ex / 1.86, ey / 1.06) ** 8))
    ground = z0 + z
    z = np.where(shell > 0.02, ground + around * (lid_z - ground), ground) - z0
    crease = _LID(np.clip(ex, -1.42, 1.46)) + 0.36 + 0.06 * ex
    z -= 0.13 * (1 - 0.55 * p["lid_fold"]) * np.exp(-(((y - crease) / 0.12) ** 2)) * _step(-np.abs(ex), -1.6, -1.0) * around
    z += 0.16 * (1 + p["lid_fold"]) * np.exp(-(((y - crease - 0.36) / 0.26) ** 2)) * _step(-np.abs(ex - 0.2), -1.9, -1.0)
    lower = _LOWER_LID(np.clip(ex, -1.42, 1.46))
    z += 0.05 * np.exp(-(((y - lower + 0.12) / 0.10) ** 2)) * around
    z = z * face + 0.0

    # sideways and up: lips close, then proportions
    dx, dy = np.zeros_like(x), np.zeros_like(x)
    gap = _LENS * np.clip(1 - (x / MOUTH_X) ** 2, 0, 1)
    dy -= front * np.where(a < MOUTH_X, np.sign(y - line) * (gap - 0.006) * np.exp(-(np.clip(np.abs(y - line) - gap, 0, 9) / 0.5) ** 2), 0)
    dx += s * p["nose_width"] * a * _g(a, y, 0, -3.95, 2.2, 0.95) * front
    dy += p["nose_tip_up"] * _g(x, y, 0, -3.5, 1.0, 0.9) * 0.8 * front
    dx += p["asymmetry_nose"] * _g(x, y, 0, -3.4, 1.2, 1.3) * front
    dx += s * p["eye_distance"] * np.exp(-(((a - EYE_X) / 2.3) ** 4) - ((y - 0.3) / 2.4) ** 4) * front
    near_eye = np.exp(-((np.hypot(ex / 2.0, ey / 1.15)) ** 4)) * front
    dx += s * p["eye_width"] * ex * near_eye
    dy += (p["eye_height"] * ey + p["eye_tilt"] * ex) * near_eye
    dy += 0.5 * p["eye_tilt"] * np.clip(ex, -2, 2) * np.exp(-(((y - 2.2) / 1.2) ** 2)) * np.exp(-((ex / 2.6) ** 4)) * front
    dy += s * p["asymmetry_eyes"] * np.exp(-(((a - EYE_X) / 2.3) ** 4) - ((y - 0.6) / 2.2) ** 4) * front
    dy += p["brow_height"] * np.exp(-(((y - 2.2) / 1.0) ** 2)) * front
    near_mouth = np.exp(-(((y - MOUTH_Y) / 1.5) ** 4) - (a / 4.2) ** 4) * front
    dx += s * p["mouth_width"] * a * near_mouth + p["asymmetry_mouth"] * near_mouth
    grow_up = np.where(is_upper, p["upper_lip"] * np.clip(y - line, 0, 0.9) * np.exp(-((np.clip(y - top, 0, 9) / 0.6) ** 2)), 0)
    grow_low = np.where(~is_upper, p["lower_lip"] * np.clip(line - y, 0, 1.1) * np.exp(-((np.clip(bottom - y, 0, 9) / 0.7) ** 2)), 0)
    dy += (grow_up - grow_low) * inside
    dy += 0.10 * p["cupid_bow"] * (np.exp(-(((a - 0.5) / 0.3) ** 2)) - np.exp(-((a / 0.25) ** 2))) * _g(0 * y, y, 0, -5.9, 1, 0.25) * front

    point = np.stack([x + dx, y + dy, z0 + z], -1)
    return _stretch(point, x, y, z0, p)


def _stretch(point: Array, x: Array, y: Array, z: Array, p: dict[str, float]) -> Array:
    """Proportions of the whole head, applied to points whose mean position is (x, y, z)."""
    out = point.copy()
    a, s = np.abs(x), np.sign(x)
    side = _step(a, 2.2, 6.5) * np.minimum(a, 7.5) / 7.0
    above_neck = _step(y, -14, -11.5)
    w_face = np.exp(-(((y + 1.0) / 4.6) ** 2)) * _step(z, -13, -8)
    w_jaw = np.exp(-(((y + 8.3) / 3.4) ** 2)) * _step(z, -13, -8) * above_neck
    w_skull = np.maximum(_step(y, 0.5, 5.0), _step(-z, 9, 13) * _step(y, -9, -3))
    out[:, 0] += s * side * 7.0 * (p["face_width"] * w_face + p["jaw_width"] * w_jaw + p["skull_width"] * w_skull)
    out[:, 0] += x * p["neck_width"] * _step(-y, 10.5, 13) * _step(y, -18.5, -16.5)
    out[:, 2] += (z + 9) * p["skull_length"] * np.maximum(_step(-z, 8, 12), _step(y, 6, 10)) * _step(y, -12, -4)
    out[:, 2] -= p["forehead_slope"] * _step(y, 2.2, 7.5) * _step(z, -9, -3)
    out[:, 1] += p["forehead_height"] * np.clip(y - 2.3, 0, None)
    forward = _step(z, -14, -7)
    out[:, 1] -= p["midface_height"] * np.clip((-0.4 - y) / 4.0, 0, 1) * forward
    out[:, 1] -= p["upper_lip_height"] * np.clip((-4.5 - y) / 2.0, 0, 1) * forward
    out[:, 1] -= p["chin_height"] * np.clip((-6.8 - y) / 4.2, 0, 1) * forward
    out[:, 1] -= p["jaw_angle"] * _g(a, y, 5.8, -7.6, 1.6, 2.2) * _step(z, -11, -8) * above_neck
    return out


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


_EAR = np.array([  # outline in ear coordinates (forward, up), fractions of the ear's height, from the top root backwards
    [0.16, 0.36], [0.10, 0.47], [-0.04, 0.52], [-0.20, 0.50], [-0.33, 0.40], [-0.38, 0.24], [-0.36, 0.06], [-0.30, -0.12],
    [-0.22, -0.26], [-0.15, -0.38], [-0.06, -0.47], [0.05, -0.49], [0.13, -0.42], [0.16, -0.30], [0.15, -0.15], [0.16, 0.02], [0.17, 0.20]])
_EAR_POINTS, _EAR_ROWS = 40, 9


def _ears(p: dict[str, float]) -> Array:
    """Both auricles, right-hand (+x) first: rows of shrinking outlines with the relief of helix, antihelix and concha."""
    outline = CubicSpline(np.linspace(0, 1, len(_EAR) + 1), np.concatenate([_EAR, _EAR[:1]]), bc_type="periodic")(np.arange(_EAR_POINTS) / _EAR_POINTS)
    height = 6.0 * (1 + p["ear_size"])
    rows = []
    centre = np.array([-0.02, 0.02])
    angle = np.arange(_EAR_POINTS) / _EAR_POINTS
    back = np.clip(np.sin(np.pi * np.clip((angle - 0.02) / 0.62, 0, 1)), 0, 1)  # 1 along the free rim, 0 at the root
    relief = [-0.30, 0.06, 0.17, 0.08, -0.05, 0.05, -0.12, -0.30, -0.36]
    scale = [0.97, 1.02, 0.95, 0.86, 0.76, 0.64, 0.48, 0.28, 0.06]
    for k, (r, h) in enumerate(zip(scale, relief, strict=True)):
        q = centre + (outline - centre) * r
        lobe = _step(-q[:, 1], 0.22, 0.36)
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
    ear = _stretch(ear, np.full(len(ear), 7.0), np.full(len(ear), -1.3), np.full(len(ear), -9.0), p)
    return np.concatenate([ear, ear * [-1, 1, 1]])


_EYE_RINGS, _EYE_AROUND = 11, 24


def _eyeballs(p: dict[str, float]) -> Array:
    """Front shells of both eyeballs, right-hand (+x) first, a little behind the lids."""
    r, t = np.meshgrid(np.linspace(0, 1, _EYE_RINGS) ** 0.9, np.arange(_EYE_AROUND) / _EYE_AROUND * 2 * np.pi, indexing="ij")
    r, t = r[1:], t[1:]
    x = np.concatenate([[0.0], (r * np.cos(t)).ravel()]) * 1.54
    y = np.concatenate([[0.0], (r * np.sin(t)).ravel()]) * 0.98
    z = EYE_R * np.sqrt(np.clip(1 - (x / 1.92) ** 2 - (y / EYE_R) ** 2, 0, None)) - 0.13
    z += 0.06 * np.exp(-((x**2 + y**2) / 0.34))  # cornea
    ball = np.stack([EYE_X + x, y + 0.02, EYE_Z - p["eye_depth"] + z], -1)
    ball[:, 0] += p["eye_distance"] + p["eye_width"] * x * 0.8
    ball[:, 1] += p["eye_tilt"] * x * 0.8
    both = np.concatenate([ball + [0, p["asymmetry_eyes"], 0], ball * [-1, 1, 1] - [0, p["asymmetry_eyes"], 0]])
    return both


_TOOTH_COLUMNS = 41


def _arch(p: dict[str, float], top: float, bottom: float, set_back: float, narrow: float) -> Array:
    """Front of one dental arch: five rows of vertices from the gum down (or up) over the teeth, bulging tooth by tooth."""
    u = np.linspace(-1, 1, _TOOTH_COLUMNS)
    x = 2.75 * narrow * np.sin(u * 1.35) / np.sin(1.35)
    z = 1.60 - set_back - 3.1 * (np.abs(u) ** 2.3)
    bulge = 0.07 * np.abs(np.sin(np.pi * (u * 6.0 + 0.0))) ** 0.5
    rows = []
    for k, (h, out) in enumerate(((1.35, -0.25), (1.0, -0.02), (0.5, 0.04), (0.08, 0.0), (0.0, -0.22))):
        y = bottom + (top - bottom) * h
        rows.append(np.stack([x, np.full_like(x, y) + 0.10 * np.abs(u) ** 2 * np.sign(top - bottom), z + out + (bulge if 0 < k < 4 else 0)], -1))
    arch = np.concatenate(rows)
    moved = np.stack([arch[:, 0], np.full(len(arch), MOUTH_Y), np.full(len(arch), 0.0)], -1)
    arch = arch + (_stretch(moved, *moved.T, p) - moved) * [0, 1, 0]
    arch[:, 2] += p["lip_projection"] * 0.8
    return arch


class _Head:
    """Numbers of all vertices and triangles of a head: skin, ears, rolled lips, lid margins, eyes, teeth, mouth."""

    def __init__(self) -> None:
        t = _template()
        n = len(t.u)
        blocks: list[NDArray[np.int64]] = [t.triangles]
        parts = [np.where((t.v > _NECK_RING + 0.4), NECK, SKIN)]
        tri_parts = parts[0][t.triangles]
        mixed = (tri_parts != tri_parts[:, :1]).any(1)
        parts[0][np.unique(t.triangles[mixed])] = NECK
        self.skin = slice(0, n)
        # ears
        for _ in range(2):
            first = n + np.arange(_EAR_POINTS)
            blocks.append(_strip(n + _EAR_POINTS, first, _EAR_ROWS - 1, True))
            n += _EAR_POINTS * _EAR_ROWS
        parts.append(np.full(2 * _EAR_POINTS * _EAR_ROWS, SKIN))
        # lid margins: two rows behind each eye's contour
        eye = _eye_contour(26)
        self.lids = [t.at(eye), t.at(eye * [-1, 1])]
        for ring in self.lids:
            blocks.append(_strip(n, ring, 2, True))
            parts.append(np.full(2 * len(ring), SKIN))
            n += 2 * len(ring)
        # lips: two rows rolled inwards (skin), then the inside of the mouth, sewn to copies of the last row
        lens = np.linspace(-MOUTH_X, MOUTH_X, 49)
        gap = _LENS * np.clip(1 - (lens / MOUTH_X) ** 2, 0, 1)
        upper = t.at(np.stack([lens, _lip_line(lens) + gap], -1))
        lower = t.at(np.stack([lens, _lip_line(lens) - gap], -1)[1:-1])
        self.lip_ring = np.concatenate([upper, lower[::-1]])
        self.upper_count = len(upper)
        blocks.append(_strip(n, self.lip_ring, 2, True))
        parts.append(np.full(2 * len(self.lip_ring), SKIN))
        n += 2 * len(self.lip_ring)
        m = len(self.lip_ring)
        blocks.append(_strip(n + m, n + np.arange(m), 4, True))
        parts.append(np.full(5 * m, MOUTH))
        n += 5 * m
        # eyeballs
        for _ in range(2):
            around = n + 1 + np.arange(_EYE_AROUND)
            i = np.arange(_EYE_AROUND)
            blocks.append(np.stack([np.full(_EYE_AROUND, n), around[i], around[(i + 1) % _EYE_AROUND]], -1))
            blocks.append(_strip(n + 1 + _EYE_AROUND, around, _EYE_RINGS - 2, True))
            size = 1 + _EYE_AROUND * (_EYE_RINGS - 1)
            parts.append(np.full(size, EYE))
            n += size
        # teeth
        for _ in range(2):
            blocks.append(_strip(n + _TOOTH_COLUMNS, n + np.arange(_TOOTH_COLUMNS), 4, False))
            parts.append(np.full(5 * _TOOTH_COLUMNS, TEETH))
            n += 5 * _TOOTH_COLUMNS
        self.triangles = np.concatenate(blocks)
        self.parts = np.concatenate(parts).astype(np.uint8)
        self.landmarks = self._landmarks(t)

    def _landmarks(self, t: _Template) -> NDArray[np.int64]:
        out = np.zeros(68, np.int64)
        # jaw: along the side of the face, then the edge of the jaw
        heights = [0.10, -1.9, -3.8, -5.6, -7.3]
        jaw = [(1.16 + 0.03 * i, h) for i, h in enumerate(heights)]
        for i, (u, h) in enumerate(jaw):
            v = np.interp(-h, -_loft(np.full(400, u), np.linspace(4, 14, 400))[:, 1], np.linspace(4, 14, 400))
            out[16 - i], out[i] = self._near_uv(t, u, v), self._near_uv(t, -u, v)
        for i, (u, v) in enumerate([(0.86, 12.7), (0.60, 12.9), (0.30, 13.0)]):
            out[11 - i], out[5 + i] = self._near_uv(t, u, v), self._near_uv(t, -u, v)
        out[8] = self._near_uv(t, 0.0, 13.0)
        bx = np.array([1.15, 2.2, 3.35, 4.5, 5.55])
        out[22:27] = t.at(np.stack([bx, _brow(bx) + 0.12], -1))
        out[21:16:-1] = t.at(np.stack([-bx, _brow(bx) + 0.12], -1))
        out[27:31] = t.at(np.stack([np.zeros(4), [0.30, -0.85, -2.05, -3.35]], -1))
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
        out[49:54] = line([-1.55, -0.55, 0.0, 0.55, 1.55], _upper_lip_edge)
        out[55:60] = line([1.55, 0.70, 0.0, -0.70, -1.55], _lower_lip_edge)
        lens = np.linspace(-MOUTH_X, MOUTH_X, 49)
        near = lambda v: int(np.abs(lens - v).argmin())  # noqa: E731
        out[60:65] = ring[[near(-2.15), near(-0.9), near(0.0), near(0.9), near(2.15)]]
        lower = ring[self.upper_count :][::-1]
        out[65:68] = lower[[near(0.9) - 1, near(0.0) - 1, near(-0.9) - 1]]
        return out

    @staticmethod
    def _near_uv(t: _Template, u: float, v: float) -> int:
        return int(np.linalg.norm(t.rest - _loft(np.array([u]), np.array([v])), axis=1).argmin())


@lru_cache(maxsize=1)
def _head() -> _Head:
    return _Head()


def scan(proportions: dict[str, float] | None = None) -> Array:
    """A head with the given proportions (missing ones are 0, the mean): (V,3) cm, registered to all other scans.

    Raises KeyError for a proportion that PROPORTIONS does not list.
    """
    p = dict.fromkeys(PROPORTIONS, 0.0)
    for name, value in (proportions or {}).items():
        if name not in p:
            raise KeyError(f"no proportion {name!r}; there are {', '.join(PROPORTIONS)}")
        p[name] = value
    head = _head()
    skin = _skin(p)
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
    for back, size, tall in ((0.0, 1.0, 0.0), (0.9, 1.03, 0.9), (2.2, 1.02, 1.8), (4.0, 0.9, 1.9), (5.0, 0.05, 0.0)):
        q = centre + (inner - centre) * [size, 1 if size > 0.5 else 0.1, 1] + lift(tall)
        q[:, 2] = inner[:, 2] * (1 - min(back, 1)) + (centre[2] - 0.5) * min(back, 1) - back
        out.append(q)
    out += [_eyeballs(p), _arch(p, -5.75, -6.92, 0.42, 1.0), _arch(p, -7.75, -6.80, 0.85, 0.92)]
    return np.concatenate(out)


# ---------------------------------------------------------------------------------------------------- expressions
_HINGE = np.array([0.0, -3.4, -8.6])  # below the joint: an opening jaw also slides forward
_JAW_OPEN = np.deg2rad(17)


def _jaw_turn(points: Array) -> Array:
    """Displacement of points that turn fully with the open jaw."""
    c, s = np.cos(_JAW_OPEN), np.sin(_JAW_OPEN)
    q = points - _HINGE
    return np.stack([q[:, 0], c * q[:, 1] - s * q[:, 2], s * q[:, 1] + c * q[:, 2]], -1) - q


def expressions() -> dict[str, Array]:
    """Full expressions as displacements of the mean head, name -> (V,3) cm. Left and right are the face's own.

    Named after the muscles' actions (Ekman and Friesen's action units beside each below).
    """
    t, head, mean = _template(), _head(), scan()
    x, y, z0 = t.rest.T
    a, s = np.abs(x), np.sign(x)
    skin = mean[head.skin]
    front = _step(z0, -7.5, -4.5)
    line, top, bottom = _lip_line(x), _upper_lip_edge(x), _lower_lip_edge(x)
    ex = a - EYE_X
    exc = np.clip(ex, -1.42, 1.46)
    upper_lid, lower_lid = _LID(exc), _LOWER_LID(exc)
    off_eye = np.exp(-((np.clip(np.abs(ex) - 1.35, 0, 9) / 0.35) ** 2)) * front
    zero = np.zeros_like(x)
    vec = lambda dx=zero, dy=zero, dz=zero: np.stack([dx + zero, dy + zero, dz + zero], -1)  # noqa: E731
    is_upper = y >= line

    corner = np.exp(-(((a - 2.75) / 1.5) ** 2) - ((y + 6.85) / 1.25) ** 2) * front
    mouth = np.exp(-((a / 3.6) ** 4) - ((y + 6.7) / 1.7) ** 4) * front
    upper_lip = np.where(is_upper, np.exp(-((np.clip(y - top, 0, 9) / 0.75) ** 2)), 0) * _step(-a, -2.7, -1.4) * front
    lower_lip = np.where(~is_upper, np.exp(-((np.clip(bottom - y, 0, 9) / 0.8) ** 2)), 0) * _step(-a, -2.7, -1.3) * front
    cheek = _g(a, y, 4.1, -2.9, 1.3, 1.1) * front
    fold_x = 1.95 + 1.35 * np.clip((-3.7 - y) / 3.4, 0, 1.1) ** 0.8
    fold = _step(-y, 3.4, 4.6) * _step(y, -7.6, -6.3) * front
    fold_depth = fold * (0.15 * _step(a - fold_x, -0.35, 0.5) * np.exp(-(np.clip(a - fold_x, 0, 9) / 1.4) ** 2) - 0.05 * np.exp(-(((a - fold_x) / 0.26) ** 2)))
    lower_lid_zone = np.exp(-(np.clip(lower_lid - y, 0, 9) / 0.42) ** 2) * (y < lower_lid + 0.03) * off_eye
    lid_reach = np.clip(1 - (y - upper_lid) / 0.85, 0, 1) * (y > upper_lid - 0.03) * off_eye

    def lids(upper: Array | float, lower: Array | float) -> Array:
        """Upper lid moved down by a share of the opening, lower lid up by another, both kept on the eyeball."""
        move = -(upper_lid - lower_lid) * upper * lid_reach + (upper_lid - lower_lid) * lower * lower_lid_zone
        ball = lambda v: EYE_R * np.sqrt(np.clip(1 - (ex / 1.92) ** 2 - (v / EYE_R) ** 2, 0.0, None))  # noqa: E731
        y_eye = np.clip(y - 0.02, -1.0, 1.0)
        near = np.maximum(lid_reach, lower_lid_zone)
        return vec(dy=move, dz=near * np.clip(EYE_Z + ball(y_eye + move) + 0.08 - skin[:, 2], 0, 0.6) * np.minimum(np.abs(move) / 0.3, 1))

    half_width = 0.15 + 0.9 * np.clip(a - 2.35, 0, None)
    jaw = _step((line - y) / half_width, -1, 1) * _step(z0, -10.5, -6.5) * (1 - _step(t.v, 13.2, 17.5))
    right, left = (x < 0).astype(float), (x > 0).astype(float)

    def pull(side: Array | float) -> Array:
        return side * (vec(0.42 * s * corner, 0.34 * corner, -0.38 * corner) + vec(dy=0.20 * cheek, dz=0.14 * cheek + 0.7 * fold_depth))

    def blink(side: Array) -> Array:
        return side[:, None] * lids(0.93, 0.07)

    brow_inner = _g(a, y, 1.5, 2.4, 1.25, 1.15) * front
    brow_outer = _g(a, y, 4.5, 2.5, 1.35, 1.15) * front
    skin_moves = {
        "jaw_open": jaw[:, None] * _jaw_turn(skin),                                                             # AU26, AU27
        "smile": vec((0.62 * corner + 0.05 * a * mouth) * s, 0.62 * corner, -0.50 * corner - 0.10 * mouth * _step(-a, -2, -1))  # AU6+12
        + vec(dy=0.34 * cheek, dz=0.26 * cheek + fold_depth) + lids(0.04, 0.18) + vec(dy=0.10 * upper_lip),
        "frown": vec(0.10 * s * corner, -0.50 * corner, -0.12 * corner)                                        # AU15+17
        + vec(dy=0.14 * lower_lip + 0.16 * _g(x, y, 0, -9.6, 1.3, 0.9) * front, dz=0.10 * lower_lip + 0.10 * _g(x, y, 0, -9.6, 1.3, 0.7) * front),
        "pucker": vec(-0.38 * x * mouth, 0.10 * (y - line) * mouth, 0.62 * np.exp(-((a / 1.7) ** 2) - ((y + 6.7) / 1.3) ** 2) * front),  # AU18
        "lip_press": vec(0.03 * x * mouth, -0.55 * (y - line) * np.maximum(upper_lip, lower_lip) * _step(np.minimum(top - y, y - bottom), -0.6, 0.1),
                         -0.20 * np.maximum(upper_lip, lower_lip) * _step(np.minimum(top - y, y - bottom), -0.3, 0.2)),                # AU24
        "corner_pull_left": pull(left[:, None]),                                                               # AU14, one side
        "corner_pull_right": pull(right[:, None]),
        "brow_inner_up": vec(dy=0.62 * brow_inner, dz=0.06 * brow_inner),                                      # AU1
        "brow_outer_up": vec(dy=0.60 * brow_outer) + vec(dy=0.10 * _g(a, y, 3.6, 1.3, 1.3, 0.4) * front),       # AU2
        "brow_furrow": vec(-0.34 * s * _g(a, y, 1.7, 2.1, 1.0, 0.9) * front, -0.46 * _g(a, y, 1.9, 2.2, 1.5, 1.0) * front,
                           0.16 * _g(a, y, 1.0, 2.1, 0.7, 0.6) * front),                                       # AU4
        "blink_left": blink(left),                                                                             # AU45
        "blink_right": blink(right),
        "squint": lids(0.22, 0.30) + vec(dy=0.16 * cheek - 0.14 * _g(a, y, 3.4, 2.2, 1.8, 0.7) * front, dz=0.16 * cheek),       # AU6+7
        "nose_wrinkle": vec(dy=0.34 * _g(a, y, 1.5, -3.9, 0.8, 0.9) * front + 0.26 * upper_lip, dz=0.10 * _g(a, y, 1.6, -3.2, 0.7, 0.8) * front)
        + vec(dy=-0.30 * _g(a, y, 1.6, 2.1, 1.3, 0.9) * front, dz=0.9 * fold_depth) + lids(0.12, 0.18),          # AU9
        "cheek_puff": vec(0.62 * s * _g(a, y, 4.6, -5.7, 1.5, 1.7) * front, dz=0.75 * _g(a, y, 4.0, -5.7, 1.5, 1.6) * front + 0.15 * mouth),  # AU33
        "eyes_wide": lids(-0.26, -0.06) + vec(dy=0.05 * brow_outer),                                           # AU5
        "upper_lip_raise": vec(dy=0.48 * upper_lip, dz=0.05 * upper_lip + 0.5 * fold_depth) + vec(dy=0.14 * _g(a, y, 1.6, -4.1, 0.8, 0.7) * front),  # AU10
        "lip_stretch": vec(0.66 * s * corner, -0.10 * corner, -0.40 * corner),                                 # AU20
        "lower_lip_down": vec(dy=-0.50 * lower_lip, dz=-0.04 * lower_lip),                                     # AU16
    }
    return {name: _carry(head, mean, move, name == "jaw_open") for name, move in skin_moves.items()}


def _carry(head: _Head, mean: Array, move: Array, with_jaw: bool) -> Array:
    """Moves of the skin carried on to ears (at rest), lid margins, rolled lips, inside of the mouth and lower teeth."""
    out = [move, np.zeros((2 * _EAR_POINTS * _EAR_ROWS, 3))]
    for ring in head.lids:
        out += [move[ring], move[ring] * [1, 1, 0.8]]
    lips = move[head.lip_ring]
    out += [lips, lips] + [lips * f for f in (1.0, 1.0, 0.95, 0.6, 0.3)]
    done = sum(len(o) for o in out)
    rest = np.zeros((len(mean) - done, 3))
    if with_jaw:
        rest[-5 * _TOOTH_COLUMNS :] = _jaw_turn(mean[-5 * _TOOTH_COLUMNS :])
    return np.concatenate([*out, rest])


def build(people: int = 400, components: int = 40, seed: int = 0) -> MorphableModel:
    """``MorphableModel.default()`` from scratch: sculpts ``people`` heads and analyses them; about ten seconds on two cores."""
    import torch

    rng = np.random.default_rng(seed)
    head = _head()
    scans = torch.from_numpy(np.stack([scan(random_proportions(rng)) for _ in range(people)]))
    return MorphableModel.from_scans(
        scans,
        torch.from_numpy(head.triangles.astype(np.int32)),
        torch.from_numpy(head.landmarks),
        components,
        expressions={name: torch.from_numpy(d) for name, d in expressions().items()},
        parts=torch.from_numpy(head.parts),
    )


if __name__ == "__main__":
    from facelab.core import WEIGHTS

    WEIGHTS.mkdir(exist_ok=True)
    model = build()
    model.save(WEIGHTS / "head.safetensors")
    print(f"{len(model.mean)} vertices, {len(model.identity_basis)} identity and {len(model.expression_names)} expression directions")
