r"""A z-buffer rasteriser for float attributes: exact coverage, one answer on CPU and GPU and for any order of triangles.

Vertices are snapped to a grid of 1/256 pixel, so that the edge functions of a triangle (twice the signed areas that a pixel
centre makes with its three edges) are integers and every decision about coverage is exact. A pixel centre on an edge belongs to
the triangle for which that edge is a left or a top one: two triangles that share an edge neither overlap nor leave a crack.

Nothing depends on the order of the triangles, nor on the order of the vertices within one: barycentric weights are quotients of
exact integers, sums start at the triangle's lowest vertex, and triangles at equal depth are ranked by their sorted vertices.

On the CPU a compiled kernel runs, one face a thread (``numba.set_num_threads``); on CUDA the same arithmetic in tensor operations.
"""
from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from math import inf

import numba
import numpy as np
import torch
from torch import Tensor

from facelab.core import ShapeError

LARGEST_SIZE = 2**15 - 1  # pixels; two coordinates share 32 bits
FARTHEST = np.float32(2**21)  # products of snapped coordinates stay below 2^63


def rasterize(
    vertices: Tensor, triangles: Tensor, attributes: Tensor, size: int | tuple[int, int]
) -> tuple[Tensor, Tensor, Tensor]:
    r"""Draws a mesh with its vertex attributes, nearest surface on top; both windings are drawn.

    A pixel p inside the triangle (a, b, c) has the weights :math:`w_i = E_i(p) / \sum_j E_j(p)`, where :math:`E_i` is the edge
    function opposite to vertex i, and shows :math:`w_a f_a + w_b f_b + w_c f_c`; of several triangles, the one with the larger z.

    Args:
        vertices: (N, V, 3) x and y in pixels (pixel centres at integers, y down) and depth z in any unit, larger is nearer;
            floating, all within ±2^21.
        triangles: (F, 3) vertex indices, shared by the batch; integer.
        attributes: (N, V, C) or (1, V, C) for all faces alike; floating, any range.
        size: side of the square maps in pixels, or (H, W).

    Returns:
        maps (N, C, H, W) float32, 0 where nothing is drawn; depth (N, H, W) float32, ``-inf`` where nothing is drawn;
        covered (N, H, W) bool. No gradient flows through them. The same bits on CPU and CUDA.

    Raises:
        ShapeError: a wrong shape or dtype, an index out of range, a coordinate that is not finite or beyond ±2^21.

    Source: the z rule of F3A-GAN, Sec. III ("keep the larger z"); top-left rule as in Direct3D and OpenGL.
    """
    height, width = (size, size) if isinstance(size, int) else size
    _check(vertices, triangles, attributes, height, width)
    device = vertices.device
    with torch.no_grad():
        if device.type == "cuda":
            return rasterize_tensors(vertices.float(), triangles, attributes.float(), height, width)
        vertices, attributes = vertices.cpu().float().contiguous(), attributes.cpu().float().contiguous()
        triangles = triangles.to("cpu", torch.int32).contiguous()
        maps = torch.empty(len(vertices), attributes.shape[2], height, width)
        depth = torch.empty(len(vertices), height, width)
        covered = torch.empty(len(vertices), height, width, dtype=torch.bool)
        arrays = [t.detach().numpy() for t in (vertices, triangles, attributes, maps, depth, covered)]
        threads = max(1, min(numba.get_num_threads(), len(vertices)))
        cuts = [len(vertices) * t // threads for t in range(threads + 1)]
        if threads == 1:
            finite = [_draw(*arrays, 0, len(vertices))]
        else:
            with ThreadPoolExecutor(threads) as pool:  # the kernel releases the lock; threads of our own survive fork()
                finite = list(pool.map(lambda a, b: _draw(*arrays, a, b), cuts[:-1], cuts[1:]))
        if not all(finite):
            raise ShapeError(_FAR)
        return maps.to(device), depth.to(device), covered.to(device)


_FAR = f"vertices must be finite and within ±{FARTHEST:.0f} in x, y and z: a NaN, an infinity or a runaway scale came in"


def _check(vertices: Tensor, triangles: Tensor, attributes: Tensor, height: int, width: int) -> None:
    if vertices.ndim != 3 or vertices.shape[2] != 3 or not vertices.is_floating_point():
        raise ShapeError(f"vertices must be floating (N, V, 3), got {vertices.dtype} {tuple(vertices.shape)}")
    if triangles.ndim != 2 or triangles.shape[1] != 3 or triangles.is_floating_point() or triangles.dtype == torch.bool:
        raise ShapeError(f"triangles must be integer (F, 3), got {triangles.dtype} {tuple(triangles.shape)}")
    faces, count = vertices.shape[:2]
    if attributes.ndim != 3 or attributes.shape[0] not in (1, faces) or attributes.shape[1] != count:
        raise ShapeError(f"attributes must be ({faces} or 1, {count}, C) to go with the vertices, got {tuple(attributes.shape)}")
    if not attributes.is_floating_point():
        raise ShapeError(f"attributes must be floating, got {attributes.dtype}")
    if not vertices.device == triangles.device == attributes.device:
        raise ShapeError(f"one device please: vertices {vertices.device}, triangles {triangles.device}, attributes {attributes.device}")
    if not (0 < height <= LARGEST_SIZE and 0 < width <= LARGEST_SIZE):
        raise ShapeError(f"size must be between 1 and {LARGEST_SIZE} pixels, got {height} x {width}")
    if len(triangles):
        indices = triangles.numpy() if triangles.device.type == "cpu" else triangles
        low, high = indices.min(), indices.max()
        if low < 0 or high >= count:
            raise ShapeError(f"triangles name vertices {int(low)} to {int(high)}, but there are {count}")


# ---------------------------------------------------------------------------------------------------------------- the CPU's kernels


@numba.njit(cache=True, nogil=True)
def raster_fragments(vertices, triangles, height, width, depth, triangle, bary):
    """Finds the nearest triangle at every pixel; to be called from compiled code that shades the pixels itself.

    Args:
        vertices: (V, 3) float32, as in :func:`rasterize`.
        triangles: (F, 3) int32; indices are not checked.
        height, width: picture size in pixels.
        depth: out, (H, W) float32, ``-inf`` where nothing is drawn.
        triangle: out, (H, W) int32, the triangle's index, -1 where nothing is drawn.
        bary: out, (H, W, 3) float32, weights of the triangle's vertices in the order in which it names them; 0 where nothing is drawn.

    Returns:
        False, and nothing drawn, when a coordinate is not finite or beyond ±2^21; else True.
    """
    depth[:] = -np.inf
    triangle[:] = -1
    bary[:] = 0
    points, corners = vertices.reshape(-1), triangles.reshape(-1)
    nearest, owner, weights = depth.reshape(-1), triangle.reshape(-1), bary.reshape(-1)
    fine = True
    for i in range(points.size):
        fine &= abs(points[i]) <= FARTHEST
    if not fine:
        return False

    snapped = np.empty(vertices.shape, np.int32)
    coordinates = snapped.reshape(-1)
    for i in range(points.size):
        coordinates[i] = np.int32(np.rint(points[i] * np.float32(256)))

    # A triangle owns pixel centres from the ceiling of its least coordinate up to, not including, the ceiling of its greatest
    # (right and bottom edges own none). Ceilings clipped to the picture, x and y in one word: most small triangles drop out here.
    cells = np.empty(vertices.shape[0], np.int32)
    widest, highest = np.int32(width), np.int32(height)
    for v in range(cells.size):
        x = min(max((snapped[v, 0] + np.int32(255)) >> np.int32(8), np.int32(0)), widest)
        y = min(max((snapped[v, 1] + np.int32(255)) >> np.int32(8), np.int32(0)), highest)
        cells[v] = y << np.int32(16) | x
    kept = np.empty(triangles.shape[0], np.int32)
    count = 0
    for f in range(kept.size):
        first = cells[np.uint32(corners[3 * f])]
        differ = (first ^ cells[np.uint32(corners[3 * f + 1])]) | (first ^ cells[np.uint32(corners[3 * f + 2])])
        kept[count] = f
        count += (differ & 0xFFFF != 0) & (differ >> 16 != 0)

    for k in range(count):
        f = np.uint64(kept[k])
        a, b, c = np.uint64(corners[3 * f]), np.uint64(corners[3 * f + 1]), np.uint64(corners[3 * f + 2])
        left = min(cells[a] & 0xFFFF, cells[b] & 0xFFFF, cells[c] & 0xFFFF)
        right = max(cells[a] & 0xFFFF, cells[b] & 0xFFFF, cells[c] & 0xFFFF)
        top = min(cells[a], cells[b], cells[c]) >> 16
        bottom = max(cells[a], cells[b], cells[c]) >> 16
        xa, ya = np.int64(coordinates[3 * a]), np.int64(coordinates[3 * a + 1])
        xb, yb = np.int64(coordinates[3 * b]), np.int64(coordinates[3 * b + 1])
        xc, yc = np.int64(coordinates[3 * c]), np.int64(coordinates[3 * c + 1])
        area = (xb - xa) * (yc - ya) - (yb - ya) * (xc - xa)
        if area == 0:
            continue
        second = np.uint64(1 if area > 0 else 2)  # which of the triangle's vertices b is
        if area < 0:
            b, c, xb, yb, xc, yc, area = c, b, xc, yc, xb, yb, -area
        # E = dx (y - y0) - dy (x - x0) is positive inside. Left edges (dy < 0) and top ones (dy = 0 < dx) own pixels at E = 0,
        # the others from E = 1.
        dxa, dya = xc - xb, yc - yb
        dxb, dyb = xa - xc, ya - yc
        dxc, dyc = xb - xa, yb - ya
        from_a, from_b, from_c = np.int64(dya >= (dxa > 0)), np.int64(dyb >= (dxb > 0)), np.int64(dyc >= (dxc > 0))
        if right - left == 1 and bottom - top == 1:  # the common case in a fine mesh, kept out of the loops for speed
            ea = dxa * ((top << 8) - yb) - dya * ((left << 8) - xb)
            eb = dxb * ((top << 8) - yc) - dyb * ((left << 8) - xc)
            ec = dxc * ((top << 8) - ya) - dyc * ((left << 8) - xa)
            if ((ea - from_a) | (eb - from_b) | (ec - from_c)) >= 0:
                p = np.uint64(top * width + left)
                z, wa, wb, wc = _blend(a, b, c, ea, eb, ec, area, points[3 * a + 2], points[3 * b + 2], points[3 * c + 2])
                if z > nearest[p] or (z == nearest[p] and _rank(triangles, f) > _rank(triangles, owner[p])):
                    nearest[p], owner[p] = z, f
                    weights[3 * p], weights[3 * p + second], weights[3 * p + 3 - second] = wa, wb, wc
            continue
        for y in range(top, bottom):
            ea = dxa * ((y << 8) - yb) - dya * ((left << 8) - xb)
            eb = dxb * ((y << 8) - yc) - dyb * ((left << 8) - xc)
            ec = dxc * ((y << 8) - ya) - dyc * ((left << 8) - xa)
            for i in range(y * width + left, y * width + right):
                if ((ea - from_a) | (eb - from_b) | (ec - from_c)) >= 0:
                    p = np.uint64(i)
                    z, wa, wb, wc = _blend(a, b, c, ea, eb, ec, area, points[3 * a + 2], points[3 * b + 2], points[3 * c + 2])
                    if z > nearest[p] or (z == nearest[p] and _rank(triangles, f) > _rank(triangles, owner[p])):
                        nearest[p], owner[p] = z, f
                        weights[3 * p], weights[3 * p + second], weights[3 * p + 3 - second] = wa, wb, wc
                ea -= dya << 8
                eb -= dyb << 8
                ec -= dyc << 8
    return True


@numba.njit(cache=True, nogil=True, forceinline=True)
def _blend(a, b, c, ea, eb, ec, area, za, zb, zc):
    """Depth and weights of vertices a, b, c where their edge functions are ea, eb, ec."""
    per_area = 1.0 / area
    wa, wb, wc = ea * per_area, eb * per_area, ec * per_area
    return np.float32(_mix(a, b, c, wa, wb, wc, za, zb, zc)) + np.float32(0), wa, wb, wc  # adding 0: -0 and 0 are one depth


@numba.njit(cache=True, nogil=True, forceinline=True)
def _mix(a, b, c, wa, wb, wc, fa, fb, fc):
    """Weighted mean in float64, summed from the lowest of the vertices a, b, c; constants come out unchanged."""
    fa, fb, fc = np.float64(fa), np.float64(fb), np.float64(fc)
    if a < b and a < c:
        return fa + (wb * (fb - fa) + wc * (fc - fa))
    if b < c:
        return fb + (wa * (fa - fb) + wc * (fc - fb))
    return fc + (wa * (fa - fc) + wb * (fb - fc))


@numba.njit(cache=True, nogil=True)
def _rank(triangles, f):
    """The triangle's sorted vertices: of triangles at equal depth the one where they come last is seen."""
    a, b, c = np.int64(triangles[f, 0]), np.int64(triangles[f, 1]), np.int64(triangles[f, 2])
    low, high = min(a, b, c), max(a, b, c)
    return low, a + b + c - low - high, high


@numba.njit(cache=True, nogil=True)
def _draw(vertices, triangles, attributes, maps, depth, covered, start, stop):
    """Faces start … stop - 1 of a batch; False when a vertex was unusable."""
    height, width = depth.shape[1:]
    channels = maps.shape[1]
    triangle = np.empty((height, width), np.int32)
    bary = np.empty((height, width, 3), np.float32)
    owner, weights, corners = triangle.reshape(-1), bary.reshape(-1), triangles.reshape(-1)
    for n in range(start, stop):
        if not raster_fragments(vertices[n], triangles, height, width, depth[n], triangle, bary):
            return False
        values = attributes[n if attributes.shape[0] > 1 else 0].reshape(-1)
        painted, seen = maps[n].reshape(-1), covered[n].reshape(-1)
        painted[:] = 0
        for i in range(owner.size):
            seen[i] = owner[i] >= 0
            if not seen[i]:
                continue
            f, p = np.uint64(3 * owner[i]), np.uint64(3 * i)
            a, b, c = np.uint64(corners[f]), np.uint64(corners[f + 1]), np.uint64(corners[f + 2])
            wa, wb, wc = np.float64(weights[p]), np.float64(weights[p + 1]), np.float64(weights[p + 2])
            for channel in range(channels):
                k = np.uint64(channel)
                painted[np.uint64(channel * owner.size + i)] = _mix(
                    a, b, c, wa, wb, wc, values[a * channels + k], values[b * channels + k], values[c * channels + k]
                )
    return True


# -------------------------------------------------------------------------------------------------------- the GPU's tensor operations


def rasterize_tensors(
    vertices: Tensor, triangles: Tensor, attributes: Tensor, height: int, width: int, chunk: int = 2**21
) -> tuple[Tensor, Tensor, Tensor]:
    r"""What :func:`rasterize` runs on CUDA, on any device: the same arithmetic, bit for bit, in tensor operations.

    Every pixel of every triangle's bounding box is tried, ``chunk`` of them at a time; the winner of a pixel is the greatest of
    the keys (depth, rank), 32 bits each, where the rank orders triangles by their sorted vertices.
    """
    if not bool((vertices.abs() <= float(FARTHEST)).all()):
        raise ShapeError(_FAR)
    device, faces = vertices.device, len(vertices)
    triangles = torch.unique(triangles.long().sort(dim=1).values, dim=0)  # (F, 3), an index is a rank
    snapped = torch.round(vertices[..., :2] * 256).long()  # (N, V, 2)
    limits = torch.tensor([width, height], device=device)
    ceilings = torch.minimum(((snapped + 255) >> 8).clamp(min=0), limits)[:, triangles]  # (N, F, 3, 2)
    low, high = ceilings.amin(dim=2), ceilings.amax(dim=2)  # (N, F, 2)
    face, f = ((high - low).prod(dim=-1) > 0).nonzero(as_tuple=True)  # (K,) boxes that own a pixel centre
    low, extent = low[face, f], (high - low)[face, f]  # (K, 2)
    ends = extent.prod(dim=-1).cumsum(0)  # (K,)

    nothing = torch.iinfo(torch.int64).min
    best = torch.full((faces * height * width,), nothing, dtype=torch.int64, device=device)
    for start in range(0, int(ends[-1]) if len(ends) else 0, chunk):
        i = torch.arange(start, min(start + chunk, int(ends[-1])), device=device)
        box = torch.searchsorted(ends, i, right=True)
        i = i - (ends - extent.prod(dim=-1))[box]
        x, y = low[box, 0] + i % extent[box, 0], low[box, 1] + i // extent[box, 0]
        n, rank = face[box], f[box]
        weights, inside = _weights(snapped[n[:, None], triangles[rank]], x, y)
        n, rank, x, y, weights = n[inside], rank[inside], x[inside], y[inside], weights[inside]
        z = _mix_sorted(weights, vertices[n[:, None], triangles[rank]][..., 2:]) + 0.0  # -0 and 0 are one depth
        bits = z.squeeze(-1).view(torch.int32).long()
        key = torch.where(bits < 0, bits ^ 0x7FFFFFFF, bits) << 32 | rank  # integers in the order of the floats
        best.scatter_reduce_(0, (n * height + y) * width + x, key, "amax")

    seen = (best != nothing).nonzero().squeeze(-1)  # (P,) pixels that show a triangle
    n, y, x = seen // (height * width), seen // width % height, seen % width
    corners = triangles[best[seen] & 0xFFFFFFFF]  # (P, 3)
    weights = _weights(snapped[n[:, None], corners], x, y)[0].float().double()
    bits = best[seen] >> 32
    depth = torch.full((faces, height, width), -inf, device=device)
    depth[n, y, x] = torch.where(bits < 0, bits ^ 0x7FFFFFFF, bits).int().view(torch.float32)
    values = attributes.expand(faces, -1, -1)[n[:, None], corners]  # (P, 3, C)
    maps = torch.zeros(faces, height, width, attributes.shape[2], device=device)
    maps[n, y, x] = _mix_sorted(weights, values)
    return maps.permute(0, 3, 1, 2).contiguous(), depth, depth > -inf


def _weights(corners: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Weights (P, 3) float64 of the snapped corners (P, 3, 2) at pixels (x, y), and whether each pixel is the triangle's own."""
    start, end = corners[:, [1, 2, 0]], corners[:, [2, 0, 1]]  # the edge opposite to each corner
    dx, dy = (end - start).unbind(-1)
    edges = dx * ((y << 8)[:, None] - start[..., 1]) - dy * ((x << 8)[:, None] - start[..., 0])
    area = edges.sum(dim=1, keepdim=True)
    edges, dx, dy, area = edges * area.sign(), dx * area.sign(), dy * area.sign(), area.abs()
    owned = (edges > 0) | ((edges == 0) & ((dy < 0) | ((dy == 0) & (dx > 0))))  # left and top edges own their pixels
    return edges.double() * (1.0 / area.double()), owned.all(dim=1) & (area[:, 0] > 0)


def _mix_sorted(weights: Tensor, values: Tensor) -> Tensor:
    """Weighted mean (P, C) float32 of values (P, 3, C), summed as `_mix` does for sorted vertices."""
    first, second, third = values.double().unbind(1)
    return (first + (weights[:, 1:2] * (second - first) + weights[:, 2:3] * (third - first))).float()
