"""The features of a face over the loft, and the proportions that stretch them."""

from __future__ import annotations

import numpy as np

from facelab.geometry.sculpt.loft import (
    EYE_R,
    EYE_X,
    EYE_Z,
    INNER,
    LENS,
    LOWER_LID,
    MOUTH_X,
    MOUTH_Y,
    OUTER,
    UPPER_LID,
    Array,
    brow_line,
    bump,
    lip_line,
    lower_lip_edge,
    natural_spline,
    smooth_max,
    step,
    upper_lip_edge,
)
from facelab.geometry.sculpt.template import template


def skin_surface(p: dict[str, float]) -> Array:
    """Skin vertices of the head with proportions p, features and all; (V_skin, 3)."""
    t = template()
    x, y, z0 = t.rest.T
    a, s = np.abs(x), np.sign(x)
    front = step(z0, -7.5, -4.5)
    face = front * step(y, -12.5, -11.2)

    # depth of the features over the loft
    z = np.zeros_like(x)
    ridge = 1 + p["brow_ridge"]
    brow_y = brow_line(x)
    z += 0.18 * ridge * np.exp(-(((y - brow_y + 0.30) / 0.62) ** 2)) * step(-a, -5.9, -4.4) * (1 - 0.6 * np.exp(-((a / 0.9) ** 2)))
    z += 0.10 * ridge * bump(x, y, 0, 1.9, 1.1, 0.7)
    z -= 0.12 * bump(x, y, 0, 3.6, 2.5, 0.8)
    z -= (0.30 - p["temples"]) * bump(a, y, 6.6, 2.4, 1.1, 2.0)
    z += (0.32 + p["cheekbones"]) * bump(a, y, 4.5, -2.1, 1.7, 1.15)
    z += (-0.20 + p["cheek_fullness"]) * bump(a, y, 4.4, -5.7, 1.5, 1.9)
    z += 0.30 * bump(a, y, 2.6, -4.3, 1.1, 1.0)  # beside the nose
    # mouth: dental arch, groove under the lip, chin
    z += (0.70 + p["lip_projection"]) * np.exp(-((a / 2.55) ** 2.4) - ((y + 6.2) / 2.1) ** 2)
    z -= 0.28 * bump(x, y, 0, -8.55, 1.7, 0.52)
    chin = 1 + p["chin_width"]
    z += (0.62 + p["chin_projection"]) * np.exp(-((a / (1.75 * chin)) ** 2.6) - ((y + 10.1) / 1.15) ** 2)
    z -= 0.10 * bump(a, y, 2.9, -9.4, 0.7, 1.0)  # before the jowl
    # philtrum
    z -= 0.075 * bump(x, y, 0, -5.3, 0.20, 0.55)
    z += 0.075 * bump(a, y, 0.46, -5.35, 0.16, 0.5)
    # nasolabial fold: a step along a curve from the wing of the nose to beside the mouth
    fold_x = 1.95 + 1.35 * np.clip((-3.7 - y) / 3.4, 0, 1.1) ** 0.8
    along = step(-y, 3.4, 4.4) * step(y, -7.8, -6.3)
    z += 0.13 * along * step(a - fold_x, -0.40, 0.55) * np.exp(-((np.clip(a - fold_x, 0, 9) / 1.6) ** 2))
    z -= 0.03 * along * np.exp(-(((a - fold_x + 0.05) / 0.24) ** 2))
    # eye sockets
    z -= 0.62 * bump(a, y, 2.35, 0.60, 0.85, 0.80) + 0.40 * bump(a, y, 4.1, -0.05, 1.25, 0.85)
    z -= 0.10 * np.exp(-(((y + 1.15 - 0.12 * (a - 3)) / 0.30) ** 2)) * step(a, 1.5, 2.1) * step(-a, -4.8, -3.6)
    z -= p["eye_depth"] * np.exp(-(((a - EYE_X) / 2.1) ** 4) - ((y - 0.1) / 1.5) ** 4)

    # nose
    q = y - 0.7 * p["nose_tip_up"] * bump(x, y, 0, -3.6, 1.2, 0.9)
    dorsum = natural_spline(
        [-5.2, -4.75, -4.5, -4.2, -3.85, -3.45, -3.05, -2.5, -1.8, -1.0, -0.3, 0.5, 1.4, 2.4],
        [0.00, 0.10, 0.55, 1.50, 2.34, 2.72, 2.70, 2.40, 1.92, 1.40, 1.00, 0.62, 0.30, 0.0],
    )(np.clip(q, -5.2, 2.4))
    size = 1 + p["nose_projection"]
    dorsum = dorsum * size + p["nose_bridge"] * bump(x, q, 0, -0.1, 9, 1.0) + p["nose_hump"] * bump(x, q, 0, -1.6, 9, 0.75)
    half = natural_spline([-4.7, -4.2, -3.5, -2.6, -1.6, -0.6, 0.4, 1.6], [0.55, 0.85, 1.36, 1.38, 1.30, 1.18, 1.12, 1.40])(
        np.clip(q, -4.7, 1.6)
    )
    half = half * (1 + p["bridge_width"] * step(q, -3.2, -2.4)) * (1 + p["nose_tip_width"] * bump(x, q, 0, -3.5, 9, 0.6))
    ridge_line = dorsum * np.exp(-((a / half) ** 2.3))
    wing = 0.98 * size * np.exp(-(np.hypot((a - 1.14) / 0.70, (q + 3.92) / 0.66) ** 3.0))
    tip = 2.70 * size * np.exp(-(np.hypot(a / 1.08, (q + 3.36) / 0.88) ** 2.5))
    nose = smooth_max(smooth_max(ridge_line, wing, 0.45), tip, 0.40)
    nose = nose - 0.34 * np.exp(-(((a - 0.64) / 0.28) ** 2) - ((q + 4.42) / 0.17) ** 2)  # nostrils
    nose = nose - 0.10 * np.exp(-(((np.hypot((a - 1.22) / 0.62, (q + 3.98) / 0.60) - 1.28) / 0.18) ** 2)) * step(a, 1.1, 1.6)  # alar crease
    z += nose * step(-a, -3.4, -2.4)

    # lips
    line, top, bottom = lip_line(x), upper_lip_edge(x), lower_lip_edge(x)
    inside = step(-a, -MOUTH_X - 0.05, -MOUTH_X + 0.55)
    up = np.clip((y - line - LENS * 0.5) / np.maximum(top - line - LENS * 0.5, 0.08), 0, 1.6)
    low = np.clip((line - LENS * 0.5 - y) / np.maximum(line - bottom - LENS * 0.5, 0.08), 0, 1.6)
    upper_shape = np.where(
        up < 1, 0.38 * np.sin(np.pi * np.clip(up * 0.74 + 0.10, 0, 1)) + 0.04 * up, 0.22 * np.exp(-(((up - 1) / 0.25) ** 2))
    )
    lower_shape = np.where(low < 1, 0.52 * np.sin(np.pi * np.clip(low * 0.86 + 0.10, 0, 1)), 0.07 * np.exp(-(((low - 1) / 0.3) ** 2)))
    is_upper = y >= line
    z += inside * np.where(is_upper, upper_shape * (1 + 0.6 * p["upper_lip"]), lower_shape * (1 + 0.6 * p["lower_lip"]))
    z -= 0.16 * inside * np.exp(-(((y - line) / (LENS * 1.1)) ** 2))
    z -= 0.22 * bump(a, y, MOUTH_X + 0.12, MOUTH_Y - 0.16, 0.32, 0.28)  # corners

    # lids: the surface follows an ellipsoid around the eyeball
    ex, ey = a - EYE_X, y - 0.02
    shell = np.clip(1 - (ex / 1.92) ** 2 - (ey / EYE_R) ** 2, 0, None)
    lid_z = EYE_Z - p["eye_depth"] + EYE_R * np.sqrt(shell) + 0.02
    around = np.exp(-(np.hypot(ex / 1.86, ey / 1.06) ** 8))
    ground = z0 + z
    z = np.where(shell > 0.02, ground + around * (lid_z - ground), ground) - z0
    crease = UPPER_LID(np.clip(ex, INNER, OUTER)) + 0.36 + 0.06 * ex
    z -= 0.13 * (1 - 0.55 * p["lid_fold"]) * np.exp(-(((y - crease) / 0.12) ** 2)) * step(-np.abs(ex), -1.6, -1.0) * around
    z += 0.16 * (1 + p["lid_fold"]) * np.exp(-(((y - crease - 0.36) / 0.26) ** 2)) * step(-np.abs(ex - 0.2), -1.9, -1.0)
    lower = LOWER_LID(np.clip(ex, INNER, OUTER))
    z += 0.05 * np.exp(-(((y - lower + 0.12) / 0.10) ** 2)) * around
    z = z * face + 0.0

    # sideways and up: lips close, then proportions
    dx, dy = np.zeros_like(x), np.zeros_like(x)
    gap = LENS * np.clip(1 - (x / MOUTH_X) ** 2, 0, 1)
    dy -= front * np.where(
        a < MOUTH_X, np.sign(y - line) * (gap - 0.006) * np.exp(-((np.clip(np.abs(y - line) - gap, 0, 9) / 0.5) ** 2)), 0
    )
    dx += s * p["nose_width"] * a * bump(a, y, 0, -3.95, 2.2, 0.95) * front
    dy += p["nose_tip_up"] * bump(x, y, 0, -3.5, 1.0, 0.9) * 0.8 * front
    dx += p["asymmetry_nose"] * bump(x, y, 0, -3.4, 1.2, 1.3) * front
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
    dy += (
        0.10 * p["cupid_bow"] * (np.exp(-(((a - 0.5) / 0.3) ** 2)) - np.exp(-((a / 0.25) ** 2))) * bump(0 * y, y, 0, -5.9, 1, 0.25) * front
    )

    point = np.stack([x + dx, y + dy, z0 + z], -1)
    return stretch(point, x, y, z0, p)


def stretch(point: Array, x: Array, y: Array, z: Array, p: dict[str, float]) -> Array:
    """Proportions of the whole head, applied to points whose mean position is (x, y, z)."""
    out = point.copy()
    a, s = np.abs(x), np.sign(x)
    side = step(a, 2.2, 6.5) * np.minimum(a, 7.5) / 7.0
    above_neck = step(y, -14, -11.5)
    w_face = np.exp(-(((y + 1.0) / 4.6) ** 2)) * step(z, -13, -8)
    w_jaw = np.exp(-(((y + 8.3) / 3.4) ** 2)) * step(z, -13, -8) * above_neck
    w_skull = np.maximum(step(y, 0.5, 5.0), step(-z, 9, 13) * step(y, -9, -3))
    out[:, 0] += s * side * 7.0 * (p["face_width"] * w_face + p["jaw_width"] * w_jaw + p["skull_width"] * w_skull)
    out[:, 0] += x * p["neck_width"] * step(-y, 10.5, 13) * step(y, -18.5, -16.5)
    out[:, 2] += (z + 9) * p["skull_length"] * np.maximum(step(-z, 8, 12), step(y, 6, 10)) * step(y, -12, -4)
    out[:, 2] -= p["forehead_slope"] * step(y, 2.2, 7.5) * step(z, -9, -3)
    out[:, 1] += p["forehead_height"] * np.clip(y - 2.3, 0, None)
    forward = step(z, -14, -7)
    out[:, 1] -= p["midface_height"] * np.clip((-0.4 - y) / 4.0, 0, 1) * forward
    out[:, 1] -= p["upper_lip_height"] * np.clip((-4.5 - y) / 2.0, 0, 1) * forward
    out[:, 1] -= p["chin_height"] * np.clip((-6.8 - y) / 4.2, 0, 1) * forward
    out[:, 1] -= p["jaw_angle"] * bump(a, y, 5.8, -7.6, 1.6, 2.2) * step(z, -11, -8) * above_neck
    return out
