r"""The shader: the light that each sample of the picture sends to the camera.

Everything here handles one face, sums in a fixed order and releases the lock, so that threads render faces side by side and
a face comes out with the same bits in whatever company it is made. Directions are those of the head frame, colours linear.
"""

from __future__ import annotations

import math

import numba
import numpy as np

CHART_SHAPE = (576, 880)
A_LOW, A_HIGH, Y_LOW, Y_HIGH = -2.2, 2.2, -14.0, 9.0  # the chart's window, radians and cm
(LIPS, LIP_LINE, BROW_D, BROW_T, LASH, LID, CIRCLE, REDNESS, MOUSTACHE, GOATEE, CHEEK, CAVITY, SLOPE_X, SLOPE_Y, NOSTRIL, OIL) = range(16)
LAYERS = 16
COARSE, MIDDLE, FINE, PORE_X, PORE_Y, SPOTS, STRANDS, CURLS = range(8)
NOISES = 8
IS_SKIN, IS_EYE, IS_TEETH, IS_MOUTH, IS_NECK = range(5)  # as in geometry.morphable
HAIRLINE_STEPS = 128  # entries of the hairline table over a in [-pi, pi]

kernel = numba.njit(cache=True, nogil=True)


@kernel
def smooth(value, low, high):
    """0 below low, 1 above high, a smooth ramp between; low > high turns it round."""
    t = min(max((value - low) / (high - low), 0.0), 1.0)
    return t * t * (3 - 2 * t)


@kernel
def fetch(image, v, u, wrap, out):
    """Bilinear texel of (h, w, C) at row v, column u in [0, 1) of the image's sides, all channels."""
    h, w, channels = image.shape
    y, x = v * h - 0.5, u * w - 0.5
    y0, x0 = math.floor(y), math.floor(x)
    fy, fx = y - y0, x - x0
    if wrap:
        ya, yb, xa, xb = y0 % h, (y0 + 1) % h, x0 % w, (x0 + 1) % w
    else:
        ya, yb = min(max(y0, 0), h - 1), min(max(y0 + 1, 0), h - 1)
        xa, xb = min(max(x0, 0), w - 1), min(max(x0 + 1, 0), w - 1)
    waa, wab, wba, wbb = (1 - fy) * (1 - fx), (1 - fy) * fx, fy * (1 - fx), fy * fx
    for c in range(channels):
        out[c] = waa * image[ya, xa, c] + wab * image[ya, xb, c] + wba * image[yb, xa, c] + wbb * image[yb, xb, c]


@kernel
def lit(normal, bumped, view, lamps, colours, shadow, openness, gloss, wrap_r, wrap_g, wrap_b, out):
    """Irradiance out[0:3] (over pi) with light bleeding round the terminator, and the skin's shine out[3:6]."""
    up = 0.5 + 0.5 * bumped[1]
    soft = openness + 0.30 * openness * (1 - openness)
    for c in range(3):
        free = soft if c == 0 else openness
        out[c] = free * (colours[3, c] * up + colours[4, c] * (1 - up))
        out[3 + c] = 0.0
    ndv = max(bumped[0] * view[0] + bumped[1] * view[1] + bumped[2] * view[2], 0.0)
    rest = 1 - ndv
    edge = rest * rest * rest * rest * rest
    for k in range(3):
        smooth_cos = normal[0] * lamps[k, 0] + normal[1] * lamps[k, 1] + normal[2] * lamps[k, 2]
        cosine = bumped[0] * lamps[k, 0] + bumped[1] * lamps[k, 1] + bumped[2] * lamps[k, 2]
        both = 0.5 * (smooth_cos + cosine)
        free = shadow[k]
        out[0] += colours[k, 0] * max((0.6 * smooth_cos + 0.4 * cosine + wrap_r) / (1 + wrap_r), 0.0) * math.sqrt(free)
        out[1] += colours[k, 1] * max((both + wrap_g) / (1 + wrap_g), 0.0) * free
        out[2] += colours[k, 2] * max((both + wrap_b) / (1 + wrap_b), 0.0) * free
        if cosine > 0 and gloss > 0:
            hx, hy, hz = lamps[k, 0] + view[0], lamps[k, 1] + view[1], lamps[k, 2] + view[2]
            ndh = (bumped[0] * hx + bumped[1] * hy + bumped[2] * hz) / math.sqrt(hx * hx + hy * hy + hz * hz + 1e-9)
            if ndh > 0:
                p2 = ndh * ndh
                p4 = p2 * p2
                p8 = p4 * p4
                p16 = p8 * p8
                shine = (1.4 * p8 * p2 + 3.0 * p16 * p8) * (0.026 + 0.35 * edge) * gloss * cosine * free
                for c in range(3):
                    out[3 + c] += colours[k, c] * shine
    veil = 0.10 * edge * openness * gloss
    for c in range(3):
        out[3 + c] += veil * (colours[3, c] * up + colours[4, c] * (1 - up))


@kernel
def over(colour, r, g, b, weight):
    """Lays a colour over another."""
    colour[0] += weight * (r - colour[0])
    colour[1] += weight * (g - colour[1])
    colour[2] += weight * (b - colour[2])


@kernel
def skin(look, place, turn, normal, view, lamps, colours, shadow, openness, hair_above, detail, paint, tile, grain, wide, colour, light):
    """Light from a point of the face's skin; ``place`` is where it lies on the mean face, ``colour`` out."""
    u, v = (turn - A_LOW) / (A_HIGH - A_LOW), (Y_HIGH - place[1]) / (Y_HIGH - Y_LOW)
    fetch(detail, v, u, False, paint)
    tx, ty = 0.19 * turn * 9 + look.texture_x, 0.19 * place[1] + look.texture_y
    fetch(tile, ty * 0.55, tx * 0.55, True, grain)
    coarse, middle, curl = grain[COARSE], grain[MIDDLE], grain[CURLS]
    fetch(tile, ty, tx, True, wide)
    fine, spots = wide[FINE], wide[SPOTS]
    lips = paint[LIPS]
    face = 1 - lips

    colour[0], colour[1], colour[2] = look.skin_r, look.skin_g, look.skin_b
    # blood: cheeks, nose, ears; melanin: mottling, freckles; hollows about the eyes
    pale = 1 - 0.7 * look.melanin
    red = look.redness * paint[REDNESS] * (0.85 + 0.25 * middle) + 0.30 * look.mottle * (0.7 * coarse + 0.40 * middle)
    brown = look.mottle * (0.05 * coarse + 0.04 * middle + 0.022 * fine) + look.circles * 0.16 * paint[CIRCLE]
    freckle = look.freckles * smooth(spots, 0.42 - 0.25 * look.freckles, 0.85) * (0.22 + 0.9 * min(paint[REDNESS] + 0.25, 1.0))
    brown += 0.9 * freckle + 0.55 * smooth(wide[SPOTS] * (grain[COARSE] > 1.15), 0.75, 0.95) * pale
    red += 0.30 * look.circles * paint[CIRCLE]
    colour[0] *= math.exp(-0.03 * red - 0.55 * brown)
    colour[1] *= math.exp(-0.26 * pale * red - 0.95 * brown)
    colour[2] *= math.exp(-0.20 * pale * red - 1.15 * brown)
    crease = look.wrinkles * paint[CAVITY]
    colour[0] *= 1 - 0.22 * crease
    colour[1] *= 1 - 0.36 * crease
    colour[2] *= 1 - 0.40 * crease

    # beard: bluish when shaven, strands when grown
    strand = 0.5 + 0.38 * fine + 0.25 * curl
    grown = max(look.moustache * paint[MOUSTACHE], max(look.goatee * paint[GOATEE], look.cheek_beard * paint[CHEEK]))
    grown = smooth(1.45 * grown + (0.30 * curl + 0.18 * fine) * (1.05 - 0.6 * grown), 0.30, 1.35) * min(grown * 4, 1.0)
    shaven = look.stubble * max(paint[MOUSTACHE], max(0.9 * paint[GOATEE], 0.8 * paint[CHEEK])) * (1 - grown)
    shade_of_beard = shaven * (0.42 + 0.22 * strand)
    over(
        colour,
        0.55 * look.beard_r + 0.45 * 0.30 * look.skin_r,
        0.55 * look.beard_g + 0.45 * 0.30 * look.skin_g,
        0.55 * look.beard_b + 0.45 * 0.36 * look.skin_b,
        shade_of_beard,
    )
    hairy = 0.60 + 0.75 * strand
    over(colour, look.beard_r * hairy, look.beard_g * hairy, look.beard_b * hairy, 0.90 * grown)
    # make-up and lids
    over(colour, look.eyeshadow_r, look.eyeshadow_g, look.eyeshadow_b, look.eyeshadow * 0.8 * paint[LID])
    # lips: vertical furrows, darker where they meet
    furrow = 1 + 0.10 * middle + 0.05 * fine
    over(colour, look.lip_r * furrow, look.lip_g * furrow, look.lip_b * furrow, 0.92 * lips)
    seam = min(look.lip_line * paint[LIP_LINE], 1.0) * 0.62
    colour[0] *= 1 - 0.75 * seam
    colour[1] *= 1 - 0.92 * seam
    colour[2] *= 1 - 0.90 * seam
    # brows: a tapering band of slanted strokes
    t = paint[BROW_T]
    if -0.2 < t < 1.25:
        t = t / look.brow_length
        d = paint[BROW_D] - look.brow_arch * math.sin(3.1 * min(max(t, 0.0), 1.0))
        half = 0.5 * look.brow_thickness * (0.85 + 0.5 * t) * (1 - 0.85 * smooth(t, 0.40, 1.08)) + 0.03
        fetch(
            tile,
            0.11 * (place[1] * 1.0 + 0.9 * abs(place[0])) + look.texture_y,
            0.16 * (abs(place[0]) - 0.8 * place[1]) + look.texture_x,
            True,
            wide,
        )
        stroke = wide[FINE] * 0.30 + 0.26 * wide[CURLS] + 0.22 * fine
        band = smooth(abs(d) / half + 0.30 * stroke, 1.30, 0.35) * smooth(t, -0.12, 0.16) * smooth(t, 1.12, 0.9)
        over(colour, look.brow_r, look.brow_g, look.brow_b, min(look.brow_density * band * (0.82 + 0.22 * stroke), 0.95))
    lash = min(look.lashes * 1.35 * paint[LASH], 0.93)
    over(colour, 0.012, 0.008, 0.006, lash)
    hole = min(paint[NOSTRIL], 1.0) * 0.80
    colour[0] *= 1 - 0.88 * hole
    colour[1] *= 1 - 0.95 * hole
    colour[2] *= 1 - 0.95 * hole
    # scalp under the hair
    scalp = smooth(hair_above + 0.35 * middle + 0.2 * fine, -0.35, 0.75)
    over(
        colour,
        0.8 * look.hair_r + 0.02 * look.skin_r,
        0.8 * look.hair_g + 0.02 * look.skin_g,
        0.8 * look.hair_b + 0.02 * look.skin_b,
        0.94 * scalp,
    )
    below_hair = 1 - 0.42 * smooth(hair_above, -1.3, 0.1) * (1 - scalp)

    # relief: wrinkles and pores tilt the normal within the chart's directions
    cosine, sine = math.cos(turn), math.sin(turn)
    smoothness = (1 - 0.75 * lash) * (1 - scalp)
    rough = 0.045 + 0.09 * grown + 0.025 * look.wrinkles
    tilt_x = look.wrinkles * paint[SLOPE_X] * 1.5 + rough * grain[PORE_X] + 0.5 * rough * wide[PORE_X] + lips * 0.05 * middle
    tilt_y = look.wrinkles * paint[SLOPE_Y] * 1.5 + rough * grain[PORE_Y] + 0.5 * rough * wide[PORE_Y]
    bx = normal[0] - tilt_x * cosine
    by = normal[1] - tilt_y
    bz = normal[2] + tilt_x * sine
    length = math.sqrt(bx * bx + by * by + bz * bz)
    bumped = (bx / length, by / length, bz / length)
    gloss = look.oil * paint[OIL] * 0.85 * face * (1 - grown) * (1 - 0.6 * shaven) * smoothness + lips * (0.5 + 1.1 * look.lip_gloss) * (
        1 - seam
    )
    thin = 1 - grown
    lit(
        normal,
        bumped,
        view,
        lamps,
        colours,
        shadow,
        openness * (1 - 0.5 * hole),
        gloss * (0.45 + 0.55 * pale),
        0.30 * pale * thin + 0.05,
        0.11 * thin + 0.02,
        0.07 * thin + 0.01,
        light,
    )
    for c in range(3):
        colour[c] = (colour[c] * light[c] + light[3 + c]) * below_hair


@kernel
def eye(look, offset, radius, gaze, cover, under, view, lamps, colours, shadow, openness, tile, grain, colour):
    """Light from a point of an eyeball: ``offset`` from its centre, ``gaze`` the axis, ``cover``, ``under`` cm from the lids' edges."""
    length = math.sqrt(offset[0] ** 2 + offset[1] ** 2 + offset[2] ** 2) + 1e-9
    n = (offset[0] / length, offset[1] / length, offset[2] / length)
    along = n[0] * gaze[0] + n[1] * gaze[1] + n[2] * gaze[2]
    across = radius * math.sqrt(max(2 - 2 * along, 0.0)) if along > 0 else 9.0
    lid = 1 - 0.66 * math.exp(-((max(cover, 0.0) / 0.19) ** 2)) - 0.22 * math.exp(-max(cover, 0.0) / 0.5)
    white = look.sclera * (1 - 0.15 * smooth(abs(offset[0]), 0.35, 1.1))
    colour[0], colour[1], colour[2] = 0.50 * white, 0.44 * white, 0.41 * white
    pink = smooth(abs(offset[0] * 1.0), 0.75, 1.25) * 0.5
    over(colour, 0.46, 0.22, 0.18, pink)
    edge = look.iris_radius
    inside = smooth(across, edge + 0.035, edge - 0.045)
    highlight = 0.0
    if inside > 0:
        px, py = n[0] - gaze[0] * along, n[1] - gaze[1] * along
        turn = math.atan2(py, px)
        fetch(tile, across * 0.35 + look.texture_x, turn / math.pi * 0.5 + look.texture_y, True, grain)
        rays = 1 + 0.30 * grain[MIDDLE] + 0.12 * grain[FINE]
        ring = smooth(across, edge - 0.24, edge + 0.02)
        inner = smooth(across, look.pupil_radius + 0.16, look.pupil_radius)
        value = rays * (1.25 + 0.35 * inner - 0.5 * py / radius) * (1 - 0.88 * look.iris_ring * ring)
        over(colour, look.iris_r * value * (1 + 0.4 * inner), look.iris_g * value * (1 + 0.1 * inner), look.iris_b * value, inside)
        pupil = smooth(across, look.pupil_radius + 0.03, look.pupil_radius - 0.03)
        over(colour, 0.004, 0.004, 0.005, pupil)
    # the cornea bulges: its normals turn faster than the eyeball's
    bend = 0.75 * inside
    cx, cy, cz = n[0] + bend * (n[0] - gaze[0]), n[1] + bend * (n[1] - gaze[1]), n[2] + bend * (n[2] - gaze[2])
    length = math.sqrt(cx * cx + cy * cy + cz * cz)
    wet_r = wet_g = wet_b = 0.0
    r = g = b = 0.0
    for k in range(3):
        cosine = n[0] * lamps[k, 0] + n[1] * lamps[k, 1] + n[2] * lamps[k, 2]
        diffuse = max((cosine + 0.25) / 1.25, 0.0) * (0.35 + 0.65 * shadow[k])
        r += colours[k, 0] * diffuse
        g += colours[k, 1] * diffuse
        b += colours[k, 2] * diffuse
        hx, hy, hz = lamps[k, 0] + view[0], lamps[k, 1] + view[1], lamps[k, 2] + view[2]
        ndh = (cx * hx + cy * hy + cz * hz) / (length * math.sqrt(hx * hx + hy * hy + hz * hz + 1e-9))
        highlight = smooth(ndh, 0.972, 0.992) * (0.75 if k == 0 else 0.35) + 0.04 * smooth(ndh, 0.80, 1.0)
        highlight *= smooth(cover, 0.0, 0.1) * (1.0 if k < 2 else 0.0)
        wet_r += colours[k, 0] * highlight
        wet_g += colours[k, 1] * highlight
        wet_b += colours[k, 2] * highlight
    up = 0.5 + 0.5 * n[1]
    free = 0.35 + 0.65 * openness
    tear = 0.10 * math.exp(-((under / 0.06) ** 2))
    colour[0] = colour[0] * (r + free * (colours[3, 0] * up + colours[4, 0] * (1 - up))) * lid + wet_r + tear * colours[0, 0]
    colour[1] = colour[1] * (g + free * (colours[3, 1] * up + colours[4, 1] * (1 - up))) * lid + wet_g + tear * colours[0, 1]
    colour[2] = colour[2] * (b + free * (colours[3, 2] * up + colours[4, 2] * (1 - up))) * lid + wet_b + tear * colours[0, 2]


@kernel
def hair(look, curly, above, across, along, normal, tangent, view, lamps, colours, tile, grain, wide, colour):
    """Light from a point of the hair (colour, out) and how much of what is behind it hides: strands after Kajiya and Kay (1989)."""
    fetch(tile, 0.045 * along + look.texture_x, 0.16 * across + look.texture_y, True, grain)
    fetch(tile, 0.35 * along + look.texture_y, 0.35 * across + look.texture_x, True, wide)
    strand = (1 - curly) * grain[STRANDS] + curly * wide[CURLS]
    facing = normal[0] * view[0] + normal[1] * view[1] + normal[2] * view[2]
    inside = facing < 0
    sign = -1.0 if inside else 1.0
    facing = abs(facing)
    thin = above * (1.0 + 0.8 * curly) + (0.34 + 0.2 * curly) * strand + 0.15 * wide[FINE]
    alpha = smooth(thin, -0.10, 0.32)
    alpha *= smooth(facing + 0.03 * strand, -0.03, 0.06)
    if alpha <= 0:
        return 0.0
    contrast = look.hair_contrast * (1 + 0.7 * curly)
    value = max(1 + 0.32 * contrast * strand + 0.10 * contrast * wide[FINE], 0.12)
    depth = 0.55 + 0.45 * smooth(above, 0.0, 1.6)
    if inside:
        depth *= 0.20
    up = 0.5 + 0.5 * sign * normal[1]
    shift = 0.10 * strand
    r = g = b = 0.0
    white = red = 0.0
    sr = sg = sb = 0.0
    for k in range(3):
        cosine = sign * (normal[0] * lamps[k, 0] + normal[1] * lamps[k, 1] + normal[2] * lamps[k, 2])
        diffuse = max((cosine + 0.30) / 1.30, 0.0)
        r += colours[k, 0] * diffuse
        g += colours[k, 1] * diffuse
        b += colours[k, 2] * diffuse
        if not inside:
            hx, hy, hz = lamps[k, 0] + view[0], lamps[k, 1] + view[1], lamps[k, 2] + view[2]
            h = math.sqrt(hx * hx + hy * hy + hz * hz + 1e-9)
            tdh = (tangent[0] * hx + tangent[1] * hy + tangent[2] * hz) / h
            gate = smooth(cosine, -0.2, 0.5)
            s = tdh + 0.14 + shift
            first = 1 - min(s * s, 1.0)
            s = tdh - 0.12 + shift
            second = 1 - min(s * s, 1.0)
            first = first * first
            first = first * first
            first = first * first
            first = first * first
            first = first * first
            second = second * second
            second = second * second
            second = second * second
            white = 0.045 * first * gate
            red = 0.55 * second * gate
            sr += colours[k, 0] * (white + red * (look.hair_r + 0.004))
            sg += colours[k, 1] * (white + red * (look.hair_g + 0.004))
            sb += colours[k, 2] * (white + red * (look.hair_b + 0.004))
    gloss = look.hair_gloss * (1 - 0.75 * curly) * max(1 + 0.55 * strand, 0.1)
    colour[0] = depth * (look.hair_r * value * (r + colours[3, 0] * up + colours[4, 0] * (1 - up)) + gloss * sr)
    colour[1] = depth * (look.hair_g * value * (g + colours[3, 1] * up + colours[4, 1] * (1 - up)) + gloss * sg)
    colour[2] = depth * (look.hair_b * value * (b + colours[3, 2] * up + colours[4, 2] * (1 - up)) + gloss * sb)
    return alpha


@kernel
def lock_light(look, curly, corners, weights, values, view, lamps, colours, tile, grain, wide, value, colour):
    """``hair`` at a point of a triangle of the hair's mesh."""
    value[:] = 0
    for k in range(3):
        for c in range(9):
            value[c] += weights[k] * values[corners[k], c]
    if value[0] < -1.5:
        return 0.0
    length = math.sqrt(value[3] ** 2 + value[4] ** 2 + value[5] ** 2) + 1e-9
    normal, tangent = (value[3] / length, value[4] / length, value[5] / length), (value[6], value[7], value[8])
    return hair(look, curly, value[0], value[1], value[2], normal, tangent, view, lamps, colours, tile, grain, wide, colour)


@kernel
def lid_distance(lids, side, x, y, scale):
    """cm from a sample down to the upper lid's edge above it and up to the lower lid's below it; ``lids`` (2,2,4,2) samples."""
    ax, ay = lids[side, 0, 3, 0] - lids[side, 0, 0, 0], lids[side, 0, 3, 1] - lids[side, 0, 0, 1]
    length = math.sqrt(ax * ax + ay * ay) + 1e-6
    ax, ay = ax / length, ay / length
    px, py = x - lids[side, 0, 0, 0], y - lids[side, 0, 0, 1]
    place, drop = px * ax + py * ay, py * ax - px * ay
    upper = lower = 0.0
    for edge in range(2):
        last_s = last_d = 0.0
        height = 0.0
        for k in range(1, 4):
            qx, qy = lids[side, edge, k, 0] - lids[side, 0, 0, 0], lids[side, edge, k, 1] - lids[side, 0, 0, 1]
            s, d = qx * ax + qy * ay, qy * ax - qx * ay
            if last_s <= place <= s and s > last_s:
                height = last_d + (d - last_d) * (place - last_s) / (s - last_s)
            last_s, last_d = s, d
        if edge == 0:
            upper = drop - height
        else:
            lower = height - drop
    return upper / scale, lower / scale


@kernel
def compose(
    look,
    wear,
    curly,
    body,
    triangles,
    parts,
    mean,
    normals,
    shadows,
    openness,
    locks,
    lock_triangles,
    lining,
    lining_triangles,
    lock_values,
    frame,
    frame_triangles,
    frame_normals,
    view,
    lamps,
    colours,
    gaze,
    eyes,
    lids,
    front,
    axis,
    scale,
    hairline,
    top,
    detail,
    tile,
    rate,
    picture,
    mask,
):
    """Shades every sample of a face and lays the mean of each pixel's ``rate`` x ``rate`` samples over the background.

    ``body``, ``locks``, ``lining``, ``frame``: (depth, triangle, weights) of the head, the hair's outside and inside, and glasses;
    ``lock_values`` (V,9) above the hairline, across, along, normal, tangent; ``picture`` (H,W,3) background in,
    picture out; ``mask`` (H,W) share of seen face, out.
    """
    height, width = picture.shape[:2]
    depth, index, weights = body
    lock_depth, lock_index, lock_weights = locks
    lining_depth, lining_index, lining_weights = lining
    frame_depth, frame_index, frame_weights = frame
    paint, grain, wide = np.empty(LAYERS), np.empty(NOISES), np.empty(NOISES)
    colour, light = np.empty(3), np.empty(6)
    at, n, shadow, value = np.empty(3), np.empty(3), np.empty(3), np.empty(9)
    has_hair, has_frame = lock_values.shape[0] > 0, frame_triangles.shape[0] > 0
    per_sample = 1.0 / (rate * rate)
    for row in range(height):
        for column in range(width):
            r = g = b = cover = seen = 0.0
            for sample in range(rate * rate):
                y, x = row * rate + sample // rate, column * rate + sample % rate
                f = index[y, x]
                hair_f = lock_index[y, x] if has_hair else -1
                lining_f = lining_index[y, x] if has_hair else -1
                frame_f = frame_index[y, x] if has_frame else -1
                if f < 0 and hair_f < 0 and lining_f < 0 and frame_f < 0:
                    continue
                nearest = depth[y, x] if f >= 0 else -1e30
                alpha = 0.0
                hair_r = hair_g = hair_b = 0.0
                if frame_f >= 0 and frame_depth[y, x] > nearest and (hair_f < 0 or frame_depth[y, x] > lock_depth[y, x] - 0.4 * scale):
                    n[:] = 0
                    for k in range(3):
                        v = frame_triangles[frame_f, k]
                        for c in range(3):
                            n[c] += frame_weights[y, x, k] * frame_normals[v, c]
                    lit(n, n, view, lamps, colours, np.ones(3), 0.9, 9.0, 0.0, 0.0, 0.0, light)
                    r += look.glasses_r * light[0] + light[3]
                    g += look.glasses_g * light[1] + light[4]
                    b += look.glasses_b * light[2] + light[5]
                    cover += 1
                    continue
                if hair_f >= 0 and lock_depth[y, x] > nearest:
                    alpha = lock_light(
                        look,
                        curly,
                        lock_triangles[hair_f],
                        lock_weights[y, x],
                        lock_values,
                        view,
                        lamps,
                        colours,
                        tile,
                        grain,
                        wide,
                        value,
                        colour,
                    )
                    hair_r, hair_g, hair_b = alpha * colour[0], alpha * colour[1], alpha * colour[2]
                if lining_f >= 0 and lining_depth[y, x] > nearest and alpha < 0.99:
                    behind = (1 - alpha) * lock_light(
                        look,
                        curly,
                        lining_triangles[lining_f],
                        lining_weights[y, x],
                        lock_values,
                        view,
                        lamps,
                        colours,
                        tile,
                        grain,
                        wide,
                        value,
                        colour,
                    )
                    alpha += behind
                    hair_r += behind * colour[0]
                    hair_g += behind * colour[1]
                    hair_b += behind * colour[2]
                if f < 0 or alpha > 0.99:
                    r += hair_r
                    g += hair_g
                    b += hair_b
                    cover += alpha
                    continue
                at[:] = 0
                n[:] = 0
                shadow[:] = 0
                free = 0.0
                for k in range(3):
                    v = triangles[f, k]
                    weight = weights[y, x, k]
                    for c in range(3):
                        at[c] += weight * mean[v, c]
                        n[c] += weight * normals[v, c]
                        shadow[c] += weight * shadows[v, c]
                    free += weight * openness[v]
                length = math.sqrt(n[0] * n[0] + n[1] * n[1] + n[2] * n[2]) + 1e-9
                n[0] /= length
                n[1] /= length
                n[2] /= length
                if n[0] * view[0] + n[1] * view[1] + n[2] * view[2] < 0:
                    n[0], n[1], n[2] = -n[0], -n[1], -n[2]
                part = parts[triangles[f, 0]]
                turn = math.atan2(at[0], at[2] - axis)
                if part == IS_EYE:
                    side = 0 if at[0] < 0 else 1
                    upper, lower = lid_distance(lids, side, x, y, scale)
                    at[0] -= eyes[side, 0]
                    at[1] -= eyes[side, 1]
                    at[2] -= eyes[side, 2]
                    eye(look, at, eyes[side, 3], gaze, upper, lower, view, lamps, colours, shadow, free, tile, grain, colour)
                elif part == IS_TEETH or part == IS_MOUTH:
                    lit(n, n, view, lamps, colours, np.ones(3), 0.6, 1.0, 0.2, 0.1, 0.1, light)
                    deep = smooth(at[2] - 0.25 * abs(at[0]), front - 4.0, front - 0.6)
                    if part == IS_TEETH:
                        colour[0], colour[1], colour[2] = 0.60 * light[0], 0.53 * light[1], 0.43 * light[2]
                        deep = 0.42 + 0.55 * deep
                    else:
                        colour[0], colour[1], colour[2] = 0.22 * light[0], 0.055 * light[1], 0.05 * light[2]
                        deep = 0.16 + 0.5 * deep
                    for c in range(3):
                        colour[c] = deep * (colour[c] + 0.5 * light[3 + c])
                else:
                    ahead = 0.5 + 0.5 * math.cos(turn)
                    dip = max(1 - abs(at[0]) / 5.5, 0.0) * smooth(wear.neckline, 0.45, 0.75)
                    collar = -14.3 - 2.6 * ahead * ahead - 2.4 * dip * ahead + 1.2 * (wear.collar - 0.5)
                    if part == IS_NECK and at[1] < collar:
                        fetch(tile, 0.03 * at[1], 0.03 * at[0] + look.texture_x, True, grain)
                        hem = smooth(collar - at[1], 0.0, 0.35)
                        lit(n, n, view, lamps, colours, shadow, free, 0.0, 0.1, 0.1, 0.1, light)
                        tone = (0.72 + 0.28 * hem) * (1 + 0.10 * grain[COARSE])
                        colour[0], colour[1], colour[2] = (
                            wear.cloth_r * tone * light[0],
                            wear.cloth_g * tone * light[1],
                            wear.cloth_b * tone * light[2],
                        )
                    else:
                        place = (turn / math.pi * 0.5 + 0.5) * HAIRLINE_STEPS
                        low = min(int(place), HAIRLINE_STEPS - 1)
                        line = hairline[low] + (place - low) * (hairline[low + 1] - hairline[low])
                        above = min(at[1] - line, top - at[1])
                        skin(look, at, turn, n, view, lamps, colours, shadow, free, above, detail, paint, tile, grain, wide, colour, light)
                r += hair_r + (1 - alpha) * colour[0]
                g += hair_g + (1 - alpha) * colour[1]
                b += hair_b + (1 - alpha) * colour[2]
                cover += 1
                if part != IS_NECK:
                    seen += 1 - alpha
            if cover > 0:
                rest = 1 - cover * per_sample
                picture[row, column, 0] = rest * picture[row, column, 0] + r * per_sample
                picture[row, column, 1] = rest * picture[row, column, 1] + g * per_sample
                picture[row, column, 2] = rest * picture[row, column, 2] + b * per_sample
            mask[row, column] = seen * per_sample


@kernel
def develop(picture, out):
    """Linear light (H,W,3) to a picture (3,H,W) in [-1,1]: a soft shoulder for highlights, then the sRGB curve."""
    height, width = picture.shape[:2]
    for row in range(height):
        for column in range(width):
            for c in range(3):
                value = max(picture[row, column, c], 0.0)
                if value > 0.6:
                    value = 1 - 0.4 * math.exp(-(value - 0.6) / 0.4)
                value = 12.92 * value if value <= 0.0031308 else 1.055 * value ** (1 / 2.4) - 0.055
                out[c, row, column] = 2 * min(value, 1.0) - 1
