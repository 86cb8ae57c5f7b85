"""A hand's paint: skin, creases, nails and sleeve, and the light that each sample of the picture sends to the camera."""
from __future__ import annotations

import math

import numba
import numpy as np

from facelab.faces.world.shade import lit, over, smooth

LOOK = ("skin_r", "skin_g", "skin_b", "palm_r", "palm_g", "palm_b", "nail_r", "nail_g", "nail_b", "polish", "age", "oil", "x", "y",
        "cuff", "cloth_r", "cloth_g", "cloth_b", "weave")  # fmt: skip
"""Names of the columns of ``FaceBatch.appearance`` in a batch of hands."""

kernel = numba.njit(cache=True, nogil=True)


@kernel
def _line(d, width):
    return math.exp(-(d * d) / (width * width))


@kernel
def _paint(look, q, across, dorsal, x, y, colour):
    """The reflectance of a point of the skin, into ``colour``; returns how glossy it is."""
    back, inner = smooth(dorsal, -0.15, 0.45), smooth(-dorsal, -0.05, 0.55)
    colour[0], colour[1], colour[2] = look.skin_r, look.skin_g, look.skin_b
    over(colour, look.palm_r, look.palm_g, look.palm_b, inner)
    u, v = 7 * (x + 40 * look.x), 7 * (y + 40 * look.y)
    grain = math.sin(u + 1.7 * math.sin(0.71 * v)) * math.sin(0.9 * v + 1.3 * math.sin(0.83 * u))
    grain += 0.6 * math.sin(0.23 * u) * math.sin(0.31 * v)
    red = 0.05 * grain + 0.25 * inner * smooth(q, 2.3, 2.8)
    dark = 0.02 * grain
    finger, near_bone = smooth(q, 0.2, 0.4), smooth(abs(across), 1.3, 0.9)
    for joint in range(3):  # knuckles behind, creases in front
        near = q - joint
        red += back * near_bone * 0.28 * _line(near, 0.17) * (1.0 if joint else 0.6)
        if joint:
            dark += back * near_bone * (0.13 + 0.10 * look.age) * _line(near, 0.11) * (1 + 0.8 * math.sin(near * 85))
        crease = near - (0.42 if joint == 0 else -0.02)
        dark += inner * finger * near_bone * (0.30 * _line(crease, 0.035) + 0.15 * _line(crease - 0.09, 0.025) * (joint == 1))
    if y > 0 and q < 0.5:
        heart = y - 7.6 + 0.07 * (x + 1.0) ** 2
        head = y - 6.4 + 0.30 * (x + 2.6) + 0.04 * (x + 2.6) ** 2
        life = math.sqrt((x + 3.9) ** 2 + (y - 2.7) ** 2) - 3.6
        lines = _line(heart, 0.10) * smooth(x, -1.6, 0.0) * smooth(x, 4.6, 3.4)
        lines += _line(head, 0.09) * smooth(x, -2.9, -2.3) * smooth(x, 2.8, 1.0)
        lines += _line(life, 0.10) * smooth(x, -2.6, -1.6) * smooth(y, 0.6, 2.4)
        dark += 0.26 * inner * min(lines, 1.0)
        tendon = abs(math.sin(math.pi * ((x - 0.3) / (1.1 + 0.10 * y) + 0.5)))  # tendons fan out from the wrist
        dark += back * (0.04 + 0.16 * look.age) * (1 - tendon) * smooth(y, 0.5, 3.0) * smooth(y, 8.5, 6.5)
    for c in range(3):
        colour[c] *= math.exp(-dark * (0.8 if c == 0 else 1.15) - red * (-0.10 if c == 0 else 0.75 if c == 1 else 0.55))
    oval = ((q - 2.70) / 0.30) ** 4 + (across / 0.78) ** 4
    nail = smooth(oval, 1.15, 0.75) * smooth(dorsal, 0.15, 0.4)
    if nail > 0:
        rim = 1 - 0.38 * smooth(oval, 0.6, 1.0)
        pale = (smooth(q, 2.92, 2.95) + 0.4 * smooth(q, 2.50, 2.46)) * 0.4 * (1 - look.polish)  # free edge and lunula
        over(colour, rim * (look.nail_r + pale * (0.66 - look.nail_r)), rim * (look.nail_g + pale * (0.60 - look.nail_g)),
             rim * (look.nail_b + pale * (0.50 - look.nail_b)), nail)  # fmt: skip
    return 0.75 * look.oil * (1 - 0.3 * inner) + nail * (0.5 + 1.8 * look.polish)


@kernel
def shade(look, depth, index, weights, triangles, normals, paint, lamps, colours, density, picture, mask):
    """Lays the hand over ``picture`` (linear light); depth, index, weights have two samples a pixel in each direction."""
    side, size = len(depth), len(picture)
    view, n, colour, light, shadow = np.array([0.0, 0.0, 1.0]), np.zeros(3), np.zeros(3), np.zeros(6), np.ones(3)
    p, total = np.zeros(5), np.zeros(3)
    ring = np.empty((32, 2))  # where to look for what hides a point: two circles, a quarter of them for each sample
    for tap in range(32):
        reach = density * (0.5 if tap // 4 % 2 else 1.3)
        ring[tap] = reach * math.sin(2 * math.pi * tap / 32), reach * math.cos(2 * math.pi * tap / 32)
    for row in range(size):
        for column in range(size):
            total[:] = 0
            cover, seen = 0, 0
            for sample in range(4):
                y, x = 2 * row + sample // 2, 2 * column + sample % 2
                f = index[y, x]
                if f < 0:
                    continue
                n[:], p[:] = 0, 0
                for k in range(3):
                    vertex, w = triangles[f, k], weights[y, x, k]
                    for c in range(3):
                        n[c] += w * normals[vertex, c]
                    for c in range(5):
                        p[c] += w * paint[vertex, c]
                length = math.sqrt(n[0] * n[0] + n[1] * n[1] + n[2] * n[2]) + 1e-9
                flip = -1 / length if n[2] < 0 else 1 / length
                for c in range(3):
                    n[c] *= flip
                hidden = 0.0  # by what stands higher nearby
                for tap in range(sample, 32, 4):
                    ty, tx = int(y + ring[tap, 0]), int(x + ring[tap, 1])
                    if 0 <= ty < side and 0 <= tx < side:
                        rise = (depth[ty, tx] - depth[y, x]) / density - 0.15
                        hidden += min(max(rise, 0.0), 1.0) / (1 + max(rise - 1.5, 0.0))
                openness = max(1 - 0.15 * hidden, 0.15)
                for lamp in range(3):  # walk towards the lamp: is anything in the way?
                    shadow[lamp] = 1.0
                    if n[0] * lamps[lamp, 0] + n[1] * lamps[lamp, 1] + n[2] * lamps[lamp, 2] < -0.35 or colours[lamp, 0] == 0:
                        continue
                    for step in range(10):
                        walk = density * (0.40 * step + 0.1 * (1 + sample))
                        ty, tx = int(y - lamps[lamp, 1] * walk), int(x + lamps[lamp, 0] * walk)
                        if not (0 <= ty < side and 0 <= tx < side):
                            break
                        rise = (depth[ty, tx] - depth[y, x] - lamps[lamp, 2] * walk) / density
                        if 0.12 < rise < 3.0:
                            shadow[lamp] = min(shadow[lamp], 1 - smooth(rise, 0.12, 0.4))
                if p[4] < look.cuff:
                    lit(n, n, view, lamps, colours, shadow, openness, 0.0, 0.1, 0.1, 0.1, light)
                    fold = 1 + 0.10 * math.sin(2.1 * p[4] + 1.4 * math.sin(1.3 * p[3] + 9 * look.weave))
                    fold += 0.08 * math.sin(40 * look.weave * p[4])
                    fold *= 0.65 + 0.35 * smooth(look.cuff - p[4], 0.0, 0.3)
                    colour[0], colour[1], colour[2] = look.cloth_r * fold, look.cloth_g * fold, look.cloth_b * fold
                else:
                    gloss = _paint(look, p[0], p[1], p[2], p[3], p[4], colour)
                    lit(n, n, view, lamps, colours, shadow, openness, gloss, 0.32, 0.16, 0.11, light)
                    seen += 1
                for c in range(3):
                    total[c] += colour[c] * light[c] + light[3 + c]
                cover += 1
            for c in range(3):
                picture[row, column, c] += 0.25 * (total[c] - cover * picture[row, column, c])
            mask[row, column] = 0.25 * seen
