"""The rasteriser against exact rational arithmetic, and its promises: order, winding, position, batch and device do not matter."""
from __future__ import annotations

import multiprocessing
from fractions import Fraction

import numba
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from facelab.core import ShapeError
from facelab.geometry.raster import FARTHEST, LARGEST_SIZE, raster_fragments, rasterize, rasterize_tensors

SIZE = (9, 12)  # H, W


def on_tensors(vertices, triangles, attributes, size, chunk=37):
    return rasterize_tensors(vertices, triangles, attributes, *size, chunk=chunk)


def same(first, second) -> bool:
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@st.composite
def meshes(draw, step: int = 4, flat: bool = False):
    """A few triangles near a coarse grid, so that edges often pass through pixel centres or just miss; some outside, some degenerate."""
    count = draw(st.integers(3, 7))
    place = st.tuples(st.integers(-3 * step, 15 * step), st.integers(-3 * step, 12 * step), st.just(0) if flat else st.integers(-40, 40))
    vertices = torch.tensor(draw(st.lists(place, min_size=count, max_size=count)), dtype=torch.float32) / step
    nudge = st.sampled_from([0, 0, 0, -1, 1])
    vertices[:, :2] += torch.tensor(draw(st.lists(st.tuples(nudge, nudge), min_size=count, max_size=count))) / 256
    corner = st.integers(0, count - 1)
    triangles = torch.tensor(draw(st.lists(st.tuples(corner, corner, corner), min_size=1, max_size=6)))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 999)))
    return vertices[None], triangles, torch.rand(1, count, 2, generator=generator)


def exact_weights(corners, x, y):
    """Barycentric weights of a pixel in a triangle in rational arithmetic, or None outside.

    Ownership of edges is decided by moving the pixel centre right by an infinitesimal and down by a much smaller one: then it lies
    on no edge, left and top edges gain it and right and bottom ones lose it.
    """

    def weights(px, py):
        (xa, ya), (xb, yb), (xc, yc) = corners
        area = (xb - xa) * (yc - ya) - (xc - xa) * (yb - ya)
        if area == 0:
            return None
        wb = ((px - xa) * (yc - ya) - (xc - xa) * (py - ya)) / area
        wc = ((xb - xa) * (py - ya) - (px - xa) * (yb - ya)) / area
        return 1 - wb - wc, wb, wc

    moved = weights(x + Fraction(1, 2**60), y + Fraction(1, 2**200))
    return weights(Fraction(x), Fraction(y)) if moved is not None and min(moved) > 0 else None


def exact_layers(vertices, triangles, attributes, x, y):
    """(depth, attributes) of every triangle at a pixel, exactly."""
    layers = []
    for triangle in triangles.tolist():
        points = [[Fraction(v) for v in vertices[0, i].tolist()] for i in triangle]
        weights = exact_weights([p[:2] for p in points], x, y)
        if weights is not None:
            values = [[Fraction(v) for v in attributes[0, i].tolist()] for i in triangle]
            mixed = [float(sum(w * v[k] for w, v in zip(weights, values, strict=True))) for k in range(attributes.shape[2])]
            layers.append((sum(w * p[2] for w, p in zip(weights, points, strict=True)), mixed))
    return layers


@pytest.mark.parametrize("draw", [rasterize, on_tensors])
@given(mesh=meshes())
@settings(max_examples=60, deadline=None)
def test_every_pixel_as_in_rational_arithmetic(draw, mesh):
    maps, depth, covered = draw(*mesh, SIZE)
    for y in range(SIZE[0]):
        for x in range(SIZE[1]):
            layers = exact_layers(*mesh, x, y)
            assert bool(covered[0, y, x]) == bool(layers)
            if not layers:
                assert depth[0, y, x] == -float("inf") and (maps[0, :, y, x] == 0).all()
                continue
            top = max(z for z, _ in layers)
            assert float(depth[0, y, x]) == pytest.approx(float(top), rel=1e-6, abs=1e-6)
            shown = [value for z, value in layers if top - z < 1e-6]
            assert any(maps[0, :, y, x].tolist() == pytest.approx(value, abs=1e-6) for value in shown)


@given(mesh=meshes(step=256), chunk=st.sampled_from([1, 37, 4096]))
@settings(max_examples=60, deadline=None)
def test_kernel_and_tensor_operations_agree_bit_for_bit(mesh, chunk):
    assert same(rasterize(*mesh, SIZE), on_tensors(*mesh, SIZE, chunk))


@pytest.mark.parametrize("draw", [rasterize, on_tensors])
@given(mesh=meshes(flat=True), random=st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None)
def test_order_and_winding_do_not_matter_even_at_equal_depth(draw, mesh, random):
    vertices, triangles, attributes = mesh
    shuffled = triangles.tolist()
    random.shuffle(shuffled)
    for triangle in shuffled:
        random.shuffle(triangle)  # rotates and turns over
    assert same(draw(*mesh, SIZE), draw(vertices, torch.tensor(shuffled), attributes, SIZE))


@given(mesh=meshes(step=256), dx=st.integers(-5, 5), dy=st.integers(-5, 5))
@settings(max_examples=40, deadline=None)
def test_whole_pixels_move_the_picture(mesh, dx, dy):
    vertices, triangles, attributes = mesh
    wide = (40, 40)
    still = rasterize(vertices + torch.tensor([12.0, 12.0, 0.0]), triangles, attributes, wide)
    moved = rasterize(vertices + torch.tensor([12.0 + dx, 12.0 + dy, 0.0]), triangles, attributes, wide)
    assert same([m.roll((dy, dx), (-2, -1)) for m in still], moved)


def grid_mesh(side: int, cells: int, seed: int):
    """The square from 0 to side, cut into jittered triangles with vertices on the 1/256 grid."""
    ticks = torch.linspace(0, side, cells + 1)
    vertices = torch.stack([*torch.meshgrid(ticks, ticks, indexing="xy"), torch.zeros(cells + 1, cells + 1)], dim=-1)
    jitter = torch.rand(cells - 1, cells - 1, 2, generator=torch.Generator().manual_seed(seed)) - 0.5
    vertices[1:-1, 1:-1, :2] += 0.45 * side / cells * jitter
    index = torch.arange((cells + 1) ** 2).view(cells + 1, cells + 1)
    a, b, c, d = index[:-1, :-1].flatten(), index[:-1, 1:].flatten(), index[1:, 1:].flatten(), index[1:, :-1].flatten()
    return vertices.view(1, -1, 3), torch.cat([torch.stack([a, b, c], 1), torch.stack([a, d, c], 1)])


@pytest.mark.parametrize("draw", [rasterize, on_tensors])
@pytest.mark.parametrize("cells", [3, 7, 16])
def test_a_cut_square_owns_each_pixel_once(draw, cells):
    vertices, triangles = grid_mesh(16, cells, seed=cells)
    ones = torch.ones(1, vertices.shape[1], 1)
    times = sum(draw(vertices, triangle[None], ones, (18, 18))[0][0, 0] for triangle in triangles)
    expected = torch.zeros(18, 18)
    expected[:16, :16] = 1  # left and top edges own their pixels, right and bottom ones do not
    assert torch.equal(times, expected)
    assert torch.equal(draw(vertices, triangles, ones, (18, 18))[2][0], expected.bool())


@pytest.mark.parametrize("draw", [rasterize, on_tensors])
def test_one_triangle_of_a_fan_owns_its_hub(draw):
    tilt = 1 / 256  # edges that leave a pixel's centre along, just above and just below the axes
    rim = [(3, 0), (3, tilt), (3, 3), (tilt, 3), (0, 3), (-tilt, 3), (-3, 3), (-3, tilt), (-3, 0), (-3, -tilt), (-3, -3), (-tilt, -3),
           (0, -3), (tilt, -3), (3, -3), (3, -tilt)]  # fmt: skip
    vertices = 4 + torch.tensor([[(0, 0, 0), *((x, y, 0) for x, y in rim)]], dtype=torch.float32)
    for step in (1, 2, 5):  # slivers, and triangles that span several edges
        for first in range(step):
            spokes = list(range(first, len(rim), step))
            triangles = torch.tensor([[0, 1 + a, 1 + b] for a, b in zip(spokes, spokes[1:] + spokes[:1], strict=True)])
            for named in (triangles, triangles.roll(1, 1), triangles.roll(2, 1)):
                drawn = [draw(vertices, t[None], torch.ones(1, len(rim) + 1, 1), (9, 9))[2][0, 4, 4] for t in named]
                assert sum(map(int, drawn)) == 1


@pytest.mark.parametrize("draw", [rasterize, on_tensors])
def test_linear_attributes_and_constants_come_back(draw):
    vertices, triangles = grid_mesh(32, 9, seed=0)
    vertices = (vertices * 256).round() / 256
    x, y = vertices[..., 0], vertices[..., 1]
    vertices[..., 2] = 3 * x - y
    attributes = torch.stack([x, y, 1000 + 0.25 * x - 0.5 * y, torch.full_like(x, 0.1)], dim=-1)
    maps, depth, covered = draw(vertices, triangles, attributes, (32, 32))
    row, column = torch.meshgrid(torch.arange(32.0), torch.arange(32.0), indexing="ij")
    assert covered.all()
    torch.testing.assert_close(maps[0, :3], torch.stack([column, row, 1000 + 0.25 * column - 0.5 * row]), rtol=1e-6, atol=3e-6)
    assert (maps[0, 3] == torch.tensor(0.1)).all()
    torch.testing.assert_close(depth[0], 3 * column - row, rtol=1e-6, atol=1e-5)


def test_the_larger_z_is_seen_whichever_comes_first():
    near, far = [[0, 0, 5], [8, 0, 5], [0, 8, 5]], [[0, 0, 1], [8, 0, 1], [0, 8, 1]]
    vertices = torch.tensor([near + far], dtype=torch.float32)
    attributes = torch.tensor([1.0, 1, 1, 2, 2, 2]).view(1, 6, 1)
    for triangles in ([[0, 1, 2], [3, 4, 5]], [[3, 5, 4], [0, 1, 2]]):
        maps, depth, covered = rasterize(vertices, torch.tensor(triangles), attributes, 8)
        assert covered.sum() == 36 and (maps[0, 0][covered[0]] == 1).all() and (depth[covered] == 5).all()


def test_batches_threads_and_shared_attributes_change_nothing():
    generator = torch.Generator().manual_seed(3)
    vertices = 32 * torch.rand(5, 60, 3, generator=generator)
    triangles = torch.randint(0, 60, (80, 3), generator=generator)
    attributes = torch.rand(1, 60, 4, generator=generator)
    alone = [rasterize(v[None], triangles, attributes, 32) for v in vertices]
    alone = [torch.cat(parts) for parts in zip(*alone, strict=True)]
    before = numba.get_num_threads()
    try:
        for threads in range(1, numba.config.NUMBA_NUM_THREADS + 1):
            numba.set_num_threads(threads)
            assert same(alone, rasterize(vertices, triangles, attributes, 32))
            assert same(alone, rasterize(vertices, triangles.int(), attributes.expand(5, -1, -1), 32))
    finally:
        numba.set_num_threads(before)
    assert same(alone, rasterize(vertices.double().flip(1).flip(1), triangles, attributes, (32, 32)))


def _in_child(queue, mesh):
    queue.put([m.numpy() for m in rasterize(*mesh, 32)])


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="this system cannot fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_works_in_forked_workers_after_use_in_the_parent():
    generator = torch.Generator().manual_seed(0)
    mesh = 32 * torch.rand(4, 30, 3, generator=generator), torch.randint(0, 30, (40, 3), generator=generator), torch.rand(1, 30, 2)
    expected = rasterize(*mesh, 32)
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=_in_child, args=(queue, mesh))
    child.start()
    drawn = queue.get(timeout=60)
    child.join(timeout=60)
    assert child.exitcode == 0 and same(expected, [torch.from_numpy(m) for m in drawn])


@pytest.mark.parametrize("draw", [rasterize, on_tensors])
def test_huge_tiny_offscreen_and_degenerate_triangles(draw):
    far = float(FARTHEST)
    vertices = torch.tensor(
        [[[-far, -far, 1], [far, -far, 1], [0, far, 1],  # a huge triangle behind
          [3.9, 3.9, 2], [4.1, 3.9, 2], [4, 4.2, 2],  # a tiny one over the pixel (4, 4)
          [5.3, 5.3, 2], [5.7, 5.3, 2], [5.5, 5.7, 2],  # a tiny one between pixels
          [-20, 2, 3], [-1, 2, 3], [-9, 9, 3], [20, 2, 3], [13, 5, 3], [13, 1, 3],  # left and right of the picture
          [1, 1, 9], [2, 2, 9], [6, 6, 9]]]  # on one line
    )  # fmt: skip
    triangles = torch.tensor([[0, 1, 2], [3, 4, 5], [6, 7, 8], [9, 10, 11], [12, 13, 14], [15, 16, 17], [16, 16, 17], [17, 17, 17]])
    attributes = torch.arange(18.0).div(3).floor().view(1, 18, 1)
    maps, depth, covered = draw(vertices, triangles, attributes, SIZE)
    expected = torch.zeros(SIZE)
    expected[4, 4] = 1
    assert covered.all()
    assert torch.equal(maps[0, 0], expected) and torch.equal(depth[0], 1 + expected)


def test_empty_inputs():
    vertices, triangles, attributes = torch.rand(2, 5, 3), torch.zeros(0, 3, dtype=torch.long), torch.rand(2, 5, 1)
    for draw in (rasterize, on_tensors):
        assert not draw(vertices, triangles, attributes, SIZE)[2].any()
        assert draw(vertices, triangles, attributes[..., :0], SIZE)[0].shape == (2, 0, *SIZE)
        assert draw(vertices[:0], triangles, attributes[:0], SIZE)[0].shape == (0, 1, *SIZE)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), 1e9])
@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("draw", [rasterize, on_tensors])
def test_vertices_out_of_range_are_refused(draw, axis, bad):
    vertices = torch.rand(3, 5, 3)
    vertices[1, 4, axis] = bad
    with pytest.raises(ShapeError, match="finite"):
        draw(vertices, torch.tensor([[0, 1, 2]]), torch.rand(1, 5, 1), SIZE)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(vertices=torch.rand(5, 3)), "vertices must be"),
        (dict(vertices=torch.ones(2, 5, 3, dtype=torch.long)), "vertices must be"),
        (dict(triangles=torch.tensor([0, 1, 2])), "triangles must be"),
        (dict(triangles=torch.rand(4, 3)), "triangles must be"),
        (dict(triangles=torch.tensor([[0, 1, 5]])), "there are 5"),
        (dict(triangles=torch.tensor([[0, -1, 2]])), "there are 5"),
        (dict(triangles=torch.tensor([[0, 1, 2**40]])), "there are 5"),
        (dict(attributes=torch.rand(3, 5, 1)), "attributes must be"),
        (dict(attributes=torch.rand(2, 4, 1)), "attributes must be"),
        (dict(attributes=torch.ones(2, 5, 1, dtype=torch.uint8)), "attributes must be"),
        (dict(size=0), "size must be"),
        (dict(size=(8, LARGEST_SIZE + 1)), "size must be"),
        (dict(attributes=torch.rand(2, 5, 1, device="meta")), "one device"),
    ],
)
def test_wrong_inputs_are_named(change, message):
    inputs = dict(vertices=torch.rand(2, 5, 3), triangles=torch.tensor([[0, 1, 2]]), attributes=torch.rand(2, 5, 1), size=8)
    with pytest.raises(ShapeError, match=message):
        rasterize(**{**inputs, **change})


@given(mesh=meshes())
@settings(max_examples=30, deadline=None)
def test_fragments_name_the_triangle_and_weigh_its_vertices_in_order(mesh):
    vertices, triangles, _ = mesh
    (_, expected, _), triangles = rasterize(vertices, triangles, vertices, SIZE), triangles.int().numpy()
    depth, triangle = np.empty(SIZE, np.float32), np.empty(SIZE, np.int32)
    bary = np.empty((*SIZE, 3), np.float32)
    assert raster_fragments(vertices[0].numpy(), triangles, *SIZE, depth, triangle, bary)
    assert np.array_equal(depth, expected[0].numpy()) and np.array_equal(triangle < 0, np.isinf(depth))
    for y, x in zip(*np.nonzero(triangle >= 0), strict=True):
        corners = vertices[0].numpy()[triangles[triangle[y, x]]]
        assert bary[y, x] @ corners == pytest.approx([x, y, depth[y, x]], abs=2e-5)
    assert (bary >= 0).all() and not bary[triangle < 0].any()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_the_gpu_draws_the_same_bits():
    generator = torch.Generator().manual_seed(5)
    mesh = 64 * torch.rand(8, 500, 3, generator=generator), torch.randint(0, 500, (2000, 3), generator=generator), torch.rand(8, 500, 3)
    assert same(rasterize(*mesh, 64), [m.cpu() for m in rasterize(*(t.cuda() for t in mesh), 64)])
