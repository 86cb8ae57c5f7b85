"""Expressions: displacements of the mean head, one for each muscle action that a face model needs."""

from __future__ import annotations

import numpy as np

from facelab.geometry.sculpt.head import EAR_POINTS, EAR_ROWS, TOOTH_COLUMNS, Head, head_mesh, scan
from facelab.geometry.sculpt.loft import (
    EYE_R,
    EYE_X,
    EYE_Z,
    INNER,
    LOWER_LID,
    OUTER,
    UPPER_LID,
    Array,
    bump,
    lip_line,
    lower_lip_edge,
    step,
    upper_lip_edge,
)
from facelab.geometry.sculpt.template import template

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
    t, head, mean = template(), head_mesh(), scan()
    x, y, z0 = t.rest.T
    a, s = np.abs(x), np.sign(x)
    skin = mean[head.skin]
    front = step(z0, -7.5, -4.5)
    line, top, bottom = lip_line(x), upper_lip_edge(x), lower_lip_edge(x)
    ex = a - EYE_X
    exc = np.clip(ex, INNER, OUTER)
    upper_lid, lower_lid = UPPER_LID(exc), LOWER_LID(exc)
    off_eye = np.exp(-((np.clip(np.abs(ex) - 1.35, 0, 9) / 0.35) ** 2)) * front
    zero = np.zeros_like(x)
    vec = lambda dx=zero, dy=zero, dz=zero: np.stack([dx + zero, dy + zero, dz + zero], -1)  # noqa: E731
    is_upper = y >= line

    corner = np.exp(-(((a - 2.75) / 1.5) ** 2) - ((y + 6.85) / 1.25) ** 2) * front
    mouth = np.exp(-((a / 3.6) ** 4) - ((y + 6.7) / 1.7) ** 4) * front
    upper_lip = np.where(is_upper, np.exp(-((np.clip(y - top, 0, 9) / 0.75) ** 2)), 0) * step(-a, -2.7, -1.4) * front
    lower_lip = np.where(~is_upper, np.exp(-((np.clip(bottom - y, 0, 9) / 0.8) ** 2)), 0) * step(-a, -2.7, -1.3) * front
    cheek = bump(a, y, 4.1, -2.9, 1.3, 1.1) * front
    fold_x = 1.95 + 1.35 * np.clip((-3.7 - y) / 3.4, 0, 1.1) ** 0.8
    fold = step(-y, 3.4, 4.6) * step(y, -7.6, -6.3) * front
    fold_depth = fold * (
        0.15 * step(a - fold_x, -0.35, 0.5) * np.exp(-((np.clip(a - fold_x, 0, 9) / 1.4) ** 2))
        - 0.05 * np.exp(-(((a - fold_x) / 0.26) ** 2))
    )
    lower_lid_zone = np.exp(-((np.clip(lower_lid - y, 0, 9) / 0.42) ** 2)) * (y < lower_lid + 0.03) * off_eye
    lid_reach = np.clip(1 - (y - upper_lid) / 0.85, 0, 1) * (y > upper_lid - 0.03) * off_eye

    def lids(upper: Array | float, lower: Array | float) -> Array:
        """Upper lid moved down by a share of the opening, lower lid up by another, both kept on the eyeball."""
        move = -(upper_lid - lower_lid) * upper * lid_reach + (upper_lid - lower_lid) * lower * lower_lid_zone
        ball = lambda v: EYE_R * np.sqrt(np.clip(1 - (ex / 1.92) ** 2 - (v / EYE_R) ** 2, 0.0, None))  # noqa: E731
        y_eye = np.clip(y - 0.02, -1.0, 1.0)
        near = np.maximum(lid_reach, lower_lid_zone)
        return vec(dy=move, dz=near * np.clip(EYE_Z + ball(y_eye + move) + 0.15 - skin[:, 2], 0, 0.6) * np.minimum(np.abs(move) / 0.3, 1))

    half_width = 0.15 + 0.9 * np.clip(a - 2.35, 0, None)
    jaw = step((line - y) / half_width, -1, 1) * step(z0, -10.5, -6.5) * (1 - step(t.v, 13.2, 17.5))
    right, left = (x < 0).astype(float), (x > 0).astype(float)

    def pull(side: Array | float) -> Array:
        return side * (vec(0.42 * s * corner, 0.34 * corner, -0.38 * corner) + vec(dy=0.20 * cheek, dz=0.14 * cheek + 0.7 * fold_depth))

    def blink(side: Array) -> Array:
        return side[:, None] * lids(0.93, 0.07)

    brow_inner = bump(a, y, 1.5, 2.4, 1.25, 1.15) * front
    brow_outer = bump(a, y, 4.5, 2.5, 1.35, 1.15) * front
    skin_moves = {
        "jaw_open": jaw[:, None] * _jaw_turn(skin),  # AU26, AU27
        "smile": vec((0.62 * corner + 0.05 * a * mouth) * s, 0.62 * corner, -0.50 * corner - 0.10 * mouth * step(-a, -2, -1))  # AU6+12
        + vec(dy=0.34 * cheek, dz=0.26 * cheek + 0.4 * fold_depth)
        + lids(0.04, 0.18)
        + vec(dy=0.10 * upper_lip),
        "frown": vec(0.10 * s * corner, -0.38 * corner, -0.12 * corner)  # AU15+17
        + vec(
            dy=0.14 * lower_lip + 0.16 * bump(x, y, 0, -9.6, 1.3, 0.9) * front,
            dz=0.10 * lower_lip + 0.10 * bump(x, y, 0, -9.6, 1.3, 0.7) * front,
        ),
        "pucker": vec(
            -0.38 * x * mouth, 0.10 * (y - line) * mouth, 0.62 * np.exp(-((a / 1.7) ** 2) - ((y + 6.7) / 1.3) ** 2) * front
        ),  # AU18
        "lip_press": vec(
            0.03 * x * mouth,
            -0.55 * (y - line) * np.maximum(upper_lip, lower_lip) * step(np.minimum(top - y, y - bottom), -0.6, 0.1),
            -0.20 * np.maximum(upper_lip, lower_lip) * step(np.minimum(top - y, y - bottom), -0.3, 0.2),
        ),  # AU24
        "corner_pull_left": pull(left[:, None]),  # AU14, one side
        "corner_pull_right": pull(right[:, None]),
        "brow_inner_up": vec(dy=0.50 * brow_inner, dz=0.05 * brow_inner),  # AU1
        "brow_outer_up": vec(dy=0.46 * brow_outer) + vec(dy=0.10 * bump(a, y, 3.6, 1.3, 1.3, 0.4) * front),  # AU2
        "brow_furrow": vec(
            -0.34 * s * bump(a, y, 1.7, 2.1, 1.0, 0.9) * front,
            -0.46 * bump(a, y, 1.9, 2.2, 1.5, 1.0) * front,
            0.16 * bump(a, y, 1.0, 2.1, 0.7, 0.6) * front,
        ),  # AU4
        "blink_left": blink(left),  # AU45
        "blink_right": blink(right),
        "squint": lids(0.22, 0.30) + vec(dy=0.16 * cheek - 0.14 * bump(a, y, 3.4, 2.2, 1.8, 0.7) * front, dz=0.16 * cheek),  # AU6+7
        "nose_wrinkle": vec(
            dy=0.34 * bump(a, y, 1.5, -3.9, 0.8, 0.9) * front + 0.26 * upper_lip, dz=0.10 * bump(a, y, 1.6, -3.2, 0.7, 0.8) * front
        )
        + vec(dy=-0.30 * bump(a, y, 1.6, 2.1, 1.3, 0.9) * front, dz=0.9 * fold_depth)
        + lids(0.12, 0.18),  # AU9
        "cheek_puff": vec(
            0.62 * s * bump(a, y, 4.6, -5.7, 1.5, 1.7) * front, dz=0.75 * bump(a, y, 4.0, -5.7, 1.5, 1.6) * front + 0.15 * mouth
        ),  # AU33
        "eyes_wide": lids(-0.26, -0.06) + vec(dy=0.05 * brow_outer),  # AU5
        "upper_lip_raise": vec(dy=0.48 * upper_lip, dz=0.05 * upper_lip + 0.5 * fold_depth)
        + vec(dy=0.14 * bump(a, y, 1.6, -4.1, 0.8, 0.7) * front),  # AU10
        "lip_stretch": vec(0.66 * s * corner, -0.10 * corner, -0.40 * corner),  # AU20
        "lower_lip_down": vec(dy=-0.50 * lower_lip, dz=-0.04 * lower_lip),  # AU16
    }
    return {name: _carry(head, mean, move, name == "jaw_open") for name, move in skin_moves.items()}


def _carry(head: Head, mean: Array, move: Array, with_jaw: bool) -> Array:
    """Moves of the skin carried on to ears (at rest), lid margins, rolled lips, inside of the mouth and lower teeth."""
    out = [move, np.zeros((2 * EAR_POINTS * EAR_ROWS, 3))]
    for ring in head.lids:
        out += [move[ring], move[ring] * [1, 1, 0.8]]
    lips = move[head.lip_ring]
    out += [lips, lips] + [lips * f for f in (1.0, 1.0, 0.95, 0.6)] + [0 * lips + 0.5 * lips.mean(0)]
    done = sum(len(o) for o in out)
    rest = np.zeros((len(mean) - done, 3))
    if with_jaw:
        rest[-5 * TOOTH_COLUMNS :] = _jaw_turn(mean[-5 * TOOTH_COLUMNS :])
    return np.concatenate([*out, rest])
