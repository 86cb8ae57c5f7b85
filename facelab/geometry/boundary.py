"""Landmarks to curves to a boundary map: the structure c = F_omega(x) that the boundary-conditioned methods see."""
from __future__ import annotations

import numba
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from facelab.core import ShapeError

CURVES: dict[str, tuple[int, ...]] = {
    "jaw": tuple(range(17)),
    "brow_right": tuple(range(17, 22)),
    "brow_left": tuple(range(22, 27)),
    "nose_bridge": tuple(range(27, 31)),
    "nose_base": tuple(range(31, 36)),
    "eye_right_upper": (36, 37, 38, 39),
    "eye_right_lower": (39, 40, 41, 36),
    "eye_left_upper": (42, 43, 44, 45),
    "eye_left_lower": (45, 46, 47, 42),
    "lip_outer_upper": tuple(range(48, 55)),
    "lip_outer_lower": (54, 55, 56, 57, 58, 59, 48),
    "lip_inner_upper": tuple(range(60, 65)),
    "lip_inner_lower": (64, 65, 66, 67, 60),
}
"""The 13 boundary lines and the iBUG-68 landmarks each one passes through. Right and left are the face's own. Two lids that share
their corners close an eye, and keep its corners sharp where one closed spline would round them; lips likewise."""

_FINGERS = ("thumb", "index", "middle", "ring", "little")
_HAND: dict[str, tuple[int, ...]] = {
    f"{finger}_{bone}": (bone and 4 * i + bone, 4 * i + bone + 1) for i, finger in enumerate(_FINGERS) for bone in range(4)
}  # 0 is the wrist, then four joints a finger from the palm outwards, as OpenPose and MediaPipe count them: twenty straight bones
_CAT: dict[str, tuple[int, ...]] = {
    "eyes": (0, 1), "eye_left_mouth": (0, 2), "eye_right_mouth": (1, 2), "ear_left_outer": (3, 4), "ear_left_inner": (4, 5),
    "brow": (5, 6), "ear_right_inner": (6, 7), "ear_right_outer": (7, 8),
}  # fmt: skip  # the CAT data set's points; left is the picture's left, and an ear's middle point is its tip

STRUCTURES: dict[int, dict[str, tuple[int, ...]]] = {68: CURVES, 21: _HAND, 9: _CAT}
"""The lines of each structure, by its number of landmarks: a face (iBUG), a hand (OpenPose, MediaPipe), a cat's head (CAT data set).
Two landmarks make a straight line. Another kind of thing is one more entry."""

STEPS = 16  # straight steps in which an interval between two landmarks is measured: arc length to about 1 in 10,000


@numba.njit(cache=True, nogil=True)
def _even_spline(points, samples):  # pragma: no cover (compiled)
    r"""(K,) points -> (samples,) on the natural cubic spline through them, evenly spaced in arc length; points are x + iy.

    Between knots t_i and t_{i+1}, h_i apart, with second derivatives m, b = (t - t_i) / h_i and a = 1 - b,

        S(t) = a y_i + b y_{i+1} + h_i^2 / 6 [(a^3 - a) m_i + (b^3 - b) m_{i+1}],

    where continuous slopes give h_{i-1} m_{i-1} + 2 (h_{i-1} + h_i) m_i + h_i m_{i+1} = 6 (d_i - d_{i-1}),
    d_i = (y_{i+1} - y_i) / h_i, and the ends are straight: m_0 = m_{K-1} = 0.
    """
    count = len(points)
    h = np.abs(points[1:] - points[:-1])
    h = np.maximum(h, 1e-6 * h.sum() + 1e-9)  # coincident points still make increasing knots
    slope = (points[1:] - points[:-1]) / h

    m = np.zeros(count, np.complex128)  # the tridiagonal system, forwards then backwards
    above = np.zeros(count)
    for i in range(1, count - 1):
        pivot = 2 * (h[i - 1] + h[i]) - h[i - 1] * above[i - 1]
        above[i] = h[i] / pivot
        m[i] = (6 * (slope[i] - slope[i - 1]) - h[i - 1] * m[i - 1]) / pivot
    for i in range(count - 2, 0, -1):
        m[i] -= above[i] * m[i + 1]

    def at(i, b):
        a = 1 - b
        return a * points[i] + b * points[i + 1] + h[i] ** 2 / 6 * ((a**3 - a) * m[i] + (b**3 - b) * m[i + 1])

    walked = np.zeros((count - 1) * STEPS + 1)  # arc length, in STEPS straight steps an interval
    last = points[0]
    for k in range(1, len(walked)):
        here = at((k - 1) // STEPS, ((k - 1) % STEPS + 1) / STEPS)
        walked[k] = walked[k - 1] + abs(here - last)
        last = here

    out = np.empty(samples, np.complex128)
    k = 0
    for s in range(samples):
        goal = walked[-1] * s / (samples - 1)
        while k < len(walked) - 2 and walked[k + 1] < goal:
            k += 1
        stride = walked[k + 1] - walked[k]
        part = min((goal - walked[k]) / stride, 1.0) if stride > 0 else 0.0
        out[s] = at(k // STEPS, (k % STEPS + part) / STEPS)
    return out


@numba.njit(cache=True, nogil=True)
def _even_splines(landmarks, curves, counts, samples):  # pragma: no cover (compiled)
    """(N, L) landmarks -> (N, C, samples): every curve of every face; points are x + iy."""
    out = np.empty((len(landmarks), len(curves), samples), np.complex128)
    for n in range(len(landmarks)):
        for c in range(len(curves)):
            out[n, c] = _even_spline(landmarks[n][curves[c, : counts[c]]], samples)
    return out


def _landmark_array(landmarks: Tensor | NDArray) -> NDArray:
    points = np.array(landmarks.detach().cpu().numpy() if isinstance(landmarks, Tensor) else landmarks, dtype=np.float64, order="C")
    points = points[None] if points.ndim == 2 else points
    if points.ndim != 3 or points.shape[1] not in STRUCTURES or points.shape[2] != 2:
        known = ", ".join(f"(N, {count}, 2)" for count in STRUCTURES)
        raise ShapeError(f"landmarks must be {known}, or one of them without N, in pixels; got {np.shape(landmarks)}")
    if not np.isfinite(points).all():
        bad = np.unique(np.nonzero(~np.isfinite(points))[0]).tolist()
        raise ShapeError(f"landmarks of face {bad[:5]} are not finite: find them again, or leave these faces out")
    spread = np.ptp(points, axis=1).max(1) if len(points) else np.ones(0)
    if (spread <= 0).any():
        raise ShapeError(f"all landmarks of face {np.nonzero(spread <= 0)[0][:5].tolist()} are one point: not a face")
    return points


def boundary_curves(landmarks: Tensor | NDArray, samples: int = 64) -> dict[str, Tensor]:
    r"""The boundary lines of a face, 13 of them, or those of another structure, as natural cubic splines through its landmarks.

    Each component's spline is parametrised by chord length, :math:`t_0 = 0,\ t_{i+1} = t_i + \lVert p_{i+1} - p_i \rVert`,
    and sampled at equal steps of arc length.

    Args:
        landmarks: (N, L, 2) or (L, 2) pixels (x, y), where L says what it is, see ``STRUCTURES``: 68 a face, 21 a hand, 9 a cat's head;
            off the picture is fine.
        samples: points on each curve, at least 2.

    Returns:
        name -> (N, samples, 2) float32 pixels, in the order of ``STRUCTURES[L]``, on the device of the landmarks.

    Raises:
        ShapeError: another shape, a coordinate that is not finite, all landmarks in one point.

    Source: Wu et al., "Look at Boundary" (CVPR 2018), which AF-VAE's F_omega uses: landmarks are interpolated to 13 lines. There
    98 landmarks are interpolated; we have 68. Natural cubic splines at even arc length as in code by an author of AF-VAE.
    AF-VAE's Fig. 7 draws hands from 21 key points and cats from 9; it does not say how these are joined, so the lines are ours.
    """
    if samples < 2:
        raise ShapeError(f"samples must be at least 2, got {samples}")
    points = _landmark_array(landmarks).view(np.complex128)[..., 0]  # (N, L), x + iy
    curves = STRUCTURES[points.shape[1]]
    counts = np.array([len(index) for index in curves.values()])
    padded = np.array([index + index[-1:] * (counts.max() - len(index)) for index in curves.values()])  # (C, longest)
    lines = _even_splines(points, padded, counts, samples)[..., None].view(np.float64)  # (N, C, S, 2)
    lines = torch.from_numpy(lines.astype(np.float32))
    device = landmarks.device if isinstance(landmarks, Tensor) else None
    return dict(zip(curves, lines.to(device).unbind(1), strict=True))


@numba.njit(cache=True, nogil=True)
def _squared_distance(lines, reach, height, width):  # pragma: no cover (compiled)
    """(N, C, S, 2) polylines -> (N, height, width) squared distance to the nearest, inf where farther than reach."""
    out = np.full((lines.shape[0], height, width), np.inf, np.float32)
    for n in range(lines.shape[0]):
        for c in range(lines.shape[1]):
            for s in range(lines.shape[2] - 1):
                ax, ay = lines[n, c, s]
                bx, by = lines[n, c, s + 1]
                left, right = min(ax, bx) - reach, max(ax, bx) + reach
                top, bottom = min(ay, by) - reach, max(ay, by) + reach
                if right < 0 or bottom < 0 or left > width - 1 or top > height - 1:
                    continue
                dx, dy = bx - ax, by - ay
                length = dx * dx + dy * dy
                for y in range(int(np.ceil(max(top, 0.0))), int(min(bottom, height - 1.0)) + 1):
                    for x in range(int(np.ceil(max(left, 0.0))), int(min(right, width - 1.0)) + 1):
                        along = ((x - ax) * dx + (y - ay) * dy) / length if length > 0 else 0.0
                        along = min(max(along, 0.0), 1.0)
                        ex, ey = x - ax - along * dx, y - ay - along * dy
                        d = ex * ex + ey * ey
                        out[n, y, x] = min(out[n, y, x], d)
    return out


def boundary_map(landmarks: Tensor | NDArray, size: int | tuple[int, int], *, sigma: float = 1.0, samples: int = 64) -> Tensor:
    r"""The boundary lines of a face, or of another structure, as a picture: a Gaussian of each pixel's distance to the nearest line.

    .. math:: M(p) = \exp\left(-\frac{D(p)^2}{2\sigma^2}\right) \text{ where } D(p) < 3\sigma, \text{ else } 0,

    with D the Euclidean distance from the pixel's centre to the nearest point of ``boundary_curves``.

    Args:
        landmarks: (N, L, 2) or (L, 2) pixels (x, y) of this picture, L of ``STRUCTURES``, pixel centres at integers; off it is fine.
        size: side of the square map in pixels, or (height, width).
        sigma: pixels of this map, whatever its size: a larger map shows thinner lines, so that lids stay apart.
        samples: points on each curve.

    Returns:
        (N, 1, H, W) float32 in [0, 1], on the device of the landmarks.

    Raises:
        ShapeError: as ``boundary_curves``; a size or sigma that is not positive.

    Source: Wu et al., "Look at Boundary" (CVPR 2018), Eq. 1, used by AF-VAE (ICCV 2019), section 3.1. Departure: the authors draw a
    binary line one pixel wide and take its distance transform; we measure the distance to the curve itself, so that the map moves
    by a tenth of a pixel when the face does, and so that there is no line to rasterise.
    """
    height, width = (size, size) if isinstance(size, int) else size
    if height < 1 or width < 1 or not sigma > 0:
        raise ShapeError(f"size and sigma must be positive, got size {size}, sigma {sigma}")
    curves = boundary_curves(landmarks, samples)
    lines = torch.stack(list(curves.values()), dim=1)  # (N, C, S, 2)
    squared = _squared_distance(lines.cpu().numpy().astype(np.float64), 3.0 * sigma, height, width)
    squared = torch.from_numpy(squared).unsqueeze(1).to(lines.device)  # (N, 1, H, W)
    return torch.where(squared < 9 * sigma**2, torch.exp(-squared / (2 * sigma**2)), 0.0)
