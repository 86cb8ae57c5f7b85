"""Facial flow, the warp, coherence, other sizes: identity, known shifts, brute force, a turned mesh redrawn, gradients, named errors."""
from __future__ import annotations

from math import cos, radians, sin

import pytest
import torch

from facelab.core import LandmarkError, Reading, ShapeError
from facelab.geometry.flow import facial_flow, flow_coherence, landmark_flow, optical_flow, sample_at, upsample_flow, warp
from facelab.geometry.raster import rasterize

SIZE = 96


def bump(side: int = 70):
    """A face-sized mound with a nose, in pixels, and its triangles."""
    ticks = torch.linspace(-1, 1, side)
    y, x = torch.meshgrid(ticks, ticks, indexing="ij")
    z = torch.sqrt(2.2 - x**2 - y**2) + 0.25 * torch.exp(-12 * (x**2 + y**2))
    vertices = torch.stack([30 * x, 34 * y, 30 * z], dim=-1).view(1, -1, 3)
    index = torch.arange(side**2).view(side, side)
    a, b, c, d = index[:-1, :-1].flatten(), index[:-1, 1:].flatten(), index[1:, 1:].flatten(), index[1:, :-1].flatten()
    return vertices, torch.cat([torch.stack([a, b, c], 1), torch.stack([a, c, d], 1)])


def place(vertices: torch.Tensor, yaw: float, shift: tuple[float, float] = (0.0, 0.0)) -> torch.Tensor:
    """The vertices turned about the vertical axis, into the middle of the picture."""
    turn = torch.tensor([[cos(radians(yaw)), 0, sin(radians(yaw))], [0, 1, 0], [-sin(radians(yaw)), 0, cos(radians(yaw))]])
    return vertices @ turn.T + torch.tensor([SIZE / 2 + shift[0], SIZE / 2 + shift[1], 0.0])


def skin(vertices: torch.Tensor) -> torch.Tensor:
    """A smooth pattern in [0, 1] that is fixed to the vertices."""
    x, y = vertices[..., 0], vertices[..., 1]
    return torch.stack([0.5 + 0.5 * torch.sin(x / 3), 0.5 + 0.5 * torch.cos(y / 4), 0.5 + 0.5 * torch.sin((x + 2 * y) / 7)], dim=-1)


def psnr(picture: torch.Tensor, truth: torch.Tensor, where: torch.Tensor) -> float:
    error = (picture - truth).square().mean(dim=1)[where].mean()
    return float(-10 * torch.log10(error))


@pytest.mark.parametrize("size", [(64, 64), (17, 40), (1, 1), (1, 9), (9, 1)])
def test_zero_displacement_is_the_identity(size):
    image = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(warp(image, torch.zeros(2, 2, *size)), image, rtol=0, atol=2e-6)
    image = image.double()
    torch.testing.assert_close(warp(image, torch.zeros(2, 2, *size)), image, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("dx", "dy"), [(1, 0), (0, 1), (-2, 3)])
def test_whole_pixels_shift_the_picture_and_the_border_is_repeated(dx, dy):
    image = torch.rand(1, 3, 12, 15, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    displacement = torch.tensor([dx, dy], dtype=torch.float64).view(1, 2, 1, 1).expand(1, 2, 12, 15)
    rows, columns = (torch.arange(12) + dy).clamp(0, 11), (torch.arange(15) + dx).clamp(0, 14)
    torch.testing.assert_close(warp(image, displacement), image[:, :, rows][..., columns], rtol=0, atol=1e-12)


def test_half_a_pixel_is_the_mean_of_two():
    image = torch.rand(1, 1, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    displacement = torch.zeros(1, 2, 8, 8, dtype=torch.float64)
    displacement[:, 0] = 0.5
    torch.testing.assert_close(warp(image, displacement)[..., :-1], (image[..., :-1] + image[..., 1:]) / 2)


def test_gradients_reach_the_picture_and_the_displacement():
    generator = torch.Generator().manual_seed(3)
    image = torch.rand(2, 2, 5, 6, dtype=torch.float64, generator=generator, requires_grad=True)
    displacement = 0.2 + 0.6 * torch.rand(2, 2, 5, 6, dtype=torch.float64, generator=generator)  # away from the kinks at whole pixels
    displacement[:, 0, :, -1] *= -1  # and from the border
    displacement[:, 1, -1] *= -1
    assert torch.autograd.gradcheck(warp, (image, displacement.requires_grad_()))


def test_half_precision_keeps_its_positions():
    image = torch.rand(1, 1, 4, 600).bfloat16()
    out = warp(image, torch.full((1, 2, 4, 600), 1.0).bfloat16())  # bfloat16 cannot tell pixel 513 from 512
    assert out.dtype == torch.bfloat16
    torch.testing.assert_close(out[..., :-1, :-1], image[..., 1:, 1:], rtol=0.01, atol=1e-3)


@pytest.mark.parametrize(("yaw", "bar"), [(5, 27), (15, 26), (30, 25)])
def test_the_source_warped_by_the_flow_is_the_target(yaw, bar):
    face, triangles = bump()
    source, target = place(face, 0), place(face, yaw, (2.0, -3.0))
    (image_s, _, _), (image_t, _, covered) = (rasterize(v, triangles, skin(face), SIZE) for v in (source, target))
    displacement = facial_flow(source, target, triangles, SIZE)[:, :2]
    moved = psnr(warp(image_s, displacement), image_t, covered)
    at_source = facial_flow(source, target, triangles, SIZE, at="source")[:, :2]
    rivals = {
        "nothing": psnr(image_s, image_t, covered),
        "the other sign": psnr(warp(image_s, -displacement), image_t, covered),
        "x and y exchanged": psnr(warp(image_s, displacement.flip(1)), image_t, covered),
        "drawn at the source": psnr(warp(image_s, at_source), image_t, covered),
    }
    assert moved > bar and all(moved > rival + 5 for rival in rivals.values()), (moved, rivals)


def test_flow_of_a_shift_is_the_shift_where_the_face_is():
    face, triangles = bump(30)
    source = place(face, 10)
    target = source + torch.tensor([4.0, -6.0, 2.0])
    flow = facial_flow(source, target, triangles, (SIZE, SIZE + 8))
    covered = rasterize(target, triangles, target, (SIZE, SIZE + 8))[2]
    on, off = flow.permute(0, 2, 3, 1)[covered], flow.permute(0, 2, 3, 1)[~covered]
    torch.testing.assert_close(on, torch.tensor([-4.0, 6.0, -2.0]).expand_as(on), rtol=0, atol=2e-5)
    assert len(on) > 1000 and not off.any()
    at_source = facial_flow(source, target, triangles, (SIZE, SIZE + 8), at="source")
    torch.testing.assert_close(at_source, flow.roll((6, -4), (2, 3)), rtol=0, atol=2e-5)


def test_no_motion_is_zero_flow():
    face, triangles = bump(30)
    assert not facial_flow(place(face, 20), place(face, 20), triangles, SIZE).any()


def test_the_nearer_surface_decides_the_flow():
    square = torch.tensor([[0.0, 0, 0], [8, 0, 0], [8, 8, 0], [0, 8, 0]])
    target = torch.cat([square, square + torch.tensor([0.0, 0, 5])])[None]
    source = target.clone()
    source[0, :4, 0] += 1
    source[0, 4:, 0] += 2
    triangles = torch.tensor([[4, 5, 6], [4, 6, 7], [0, 1, 2], [0, 2, 3]])
    assert (facial_flow(source, target, triangles, 8)[0, 0] == 2).all()


def test_wrong_inputs_are_named():
    image, displacement = torch.rand(2, 3, 8, 9), torch.zeros(2, 2, 8, 9)
    for bad in (torch.zeros(2, 3, 8, 9), torch.zeros(2, 2, 9, 8), torch.zeros(1, 2, 8, 9), displacement.long()):
        with pytest.raises(ShapeError, match="displacement must be"):
            warp(image, bad)
    for bad in (image[0], image.byte()):
        with pytest.raises(ShapeError, match="image must be"):
            warp(bad, displacement)
    with pytest.raises(ShapeError, match="one device"):
        warp(image, displacement.to("meta"))
    face, triangles = bump(5)
    with pytest.raises(ShapeError, match="two states"):
        facial_flow(face, face[:, :-1], triangles, 8)
    with pytest.raises(ShapeError, match='"target" or "source"'):
        facial_flow(face, face, triangles, 8, at="middle")


# --- coherence -------------------------------------------------------------------------------------------------------------------

def pair_by_pair(displacement, guide, alpha, window, sigma_xy=1.0, absolute=False):
    """Eq. 6 as it is printed: for every pixel, every neighbour inside the picture."""
    height, width = displacement.shape[2:]
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    flow = displacement + torch.stack([x, y]) if absolute else displacement
    reach, total = window // 2, 0.0
    for i in range(height):
        for j in range(width):
            for a in range(max(0, i - reach), min(height, i + reach + 1)):
                for b in range(max(0, j - reach), min(width, j + reach + 1)):
                    near = ((i - a) ** 2 + (j - b) ** 2) / sigma_xy**2
                    alike = alpha * (guide[:, :, i, j] - guide[:, :, a, b]).square().sum(dim=1)
                    total = total + ((flow[:, :, i, j] - flow[:, :, a, b]).square().sum(dim=1) * torch.exp(-alike - near)).sum()
    return total / len(displacement)


@pytest.fixture
def small_flow():
    generator = torch.Generator().manual_seed(0)
    displacement = torch.randn(2, 2, 5, 7, generator=generator, dtype=torch.float64, requires_grad=True)
    return displacement, torch.rand(2, 3, 5, 7, generator=generator, dtype=torch.float64) * 2 - 1


@pytest.mark.parametrize("reading", list(Reading))
@pytest.mark.parametrize(("window", "sigma_xy"), [(3, 1.0), (7, 1.0), (7, 2.5), (13, 1.3)])
def test_coherence_is_the_sum_over_pairs(small_flow, window, sigma_xy, reading):
    displacement, guide = small_flow
    ours = flow_coherence(displacement, guide, 1.5, window, sigma_xy=sigma_xy, reading=reading)
    theirs = pair_by_pair(displacement, guide, 1.5, window, sigma_xy, reading is Reading.literal)
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=0)
    gradients = [torch.autograd.grad(value, displacement)[0] for value in (ours, theirs)]
    torch.testing.assert_close(*gradients, rtol=1e-10, atol=1e-12)


def test_coherence_gradient_by_finite_differences(small_flow):
    displacement, guide = small_flow
    assert torch.autograd.gradcheck(lambda d: flow_coherence(d, guide, 1.5, 5), displacement)


def test_what_each_reading_of_coherence_calls_free(small_flow):
    """A shift of everything costs nothing when F is the displacement; the collapse to a point costs nothing when it is absolute."""
    guide = small_flow[1]
    shift = torch.tensor([3.0, -2.0], dtype=torch.float64).view(1, 2, 1, 1).expand(2, 2, 5, 7)
    y, x = torch.meshgrid(torch.arange(5.0), torch.arange(7.0), indexing="ij")
    collapse = -torch.stack([x, y]).double().expand(2, -1, -1, -1)
    assert flow_coherence(shift, guide, 1.0) == 0 and flow_coherence(collapse, guide, 1.0) > 1
    assert flow_coherence(shift, guide, 1.0, reading=Reading.literal) > 1
    assert flow_coherence(collapse, guide, 1.0, reading=Reading.literal).abs() < 1e-12


def test_the_price_of_the_identity_per_pixel():
    """C3: far from the border the absolute reading asks 3.136 pixels² for every pixel of an unmoved, even picture."""
    def price(height, width):
        still, even = torch.zeros(1, 2, height, width, dtype=torch.float64), torch.zeros(1, 3, height, width, dtype=torch.float64)
        return flow_coherence(still, even, 10.0, reading=Reading.literal).item()

    assert price(21, 21) - price(21, 20) - price(20, 21) + price(20, 20) == pytest.approx(3.136, abs=5e-4)  # what one more inside costs


def test_coherence_lets_a_flow_break_where_the_picture_does():
    guide = torch.full((1, 3, 8, 8), -1.0)
    guide[..., 4:] = 1.0
    torn = torch.zeros(1, 2, 8, 8)
    torn[..., 4:] = 2.0
    assert flow_coherence(torn, guide, 10.0) < 1e-6 * flow_coherence(torn, torch.zeros_like(guide), 10.0)


def test_coherence_in_half_precision_is_summed_in_single(small_flow):
    displacement, guide = (value.detach().float() for value in small_flow)
    half = flow_coherence(displacement.half(), guide.half(), 1.5)
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, flow_coherence(displacement, guide, 1.5), rtol=1e-2, atol=0)


@pytest.mark.parametrize(("displacement", "guide", "window", "words"), [
    ((2, 3, 4, 4), (2, 3, 4, 4), 7, "displacement"), ((2, 2, 4, 4), (2, 3, 4, 5), 7, "guide"),
    ((2, 2, 4, 4), (1, 3, 4, 4), 7, "guide"), ((2, 2, 4, 4), (2, 3, 4, 4), 6, "odd"),
])  # fmt: skip
def test_coherence_names_what_is_wrong(displacement, guide, window, words):
    with pytest.raises(ShapeError, match=words):
        flow_coherence(torch.zeros(displacement), torch.zeros(guide), 1.0, window)


# --- other sizes -----------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("size", [(32, 32), (29, 57), (8, 8), (15, 11)])
def test_a_linear_flow_is_the_same_movement_at_every_size(size):
    """x' = 0.9 x + 0.05 y + 1.5 in the old pixels: bilinear resizing knows it exactly, in the new unit."""
    def flow(height, width):
        y, x = torch.meshgrid(torch.linspace(0, 14, height, dtype=torch.float64), torch.linspace(0, 10, width, dtype=torch.float64),
                              indexing="ij")  # fmt: skip
        d = torch.stack([-0.1 * x + 0.05 * y + 1.5, 0.2 * x - 0.3])[None]
        return d * torch.tensor([(width - 1) / 10, (height - 1) / 14], dtype=torch.float64).view(1, 2, 1, 1)

    torch.testing.assert_close(upsample_flow(flow(15, 11), size), flow(*size), rtol=0, atol=1e-10)


def test_no_movement_stays_no_movement_and_a_large_picture_keeps_its_detail():
    photograph = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(warp(photograph, upsample_flow(torch.zeros(1, 2, 16, 16), 64)), photograph, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("shape", "size"), [((1, 3, 4, 4), 8), ((2, 4, 4), 8), ((1, 2, 4, 4), 0)])
def test_upsampling_names_what_is_wrong(shape, size):
    with pytest.raises(ShapeError):
        upsample_flow(torch.zeros(shape), size)


def test_values_at_points():
    y, x = torch.meshgrid(torch.arange(5.0), torch.arange(9.0), indexing="ij")
    image = torch.stack([x, 10 * y])[None]
    points = torch.tensor([[[0.0, 0.0], [8.0, 4.0], [2.25, 3.5], [-3.0, 9.0]]])
    torch.testing.assert_close(sample_at(image, points), torch.tensor([[[0.0, 8.0, 2.25, 0.0], [0.0, 40.0, 35.0, 40.0]]]))
    with pytest.raises(ShapeError):
        sample_at(image, points[0])


# --- from landmarks --------------------------------------------------------------------------------------------------------------

def scattered(n=2, points=20, size=32):
    generator = torch.Generator().manual_seed(3)
    before = size * (0.2 + 0.6 * torch.rand(n, points, 2, generator=generator))
    return before, before + torch.randn(n, points, 2, generator=generator) * 0.3


@pytest.mark.parametrize("kind", ["mesh", "spline"])
def test_a_morph_puts_landmarks_on_landmarks(kind):
    before, after = scattered()
    after = after.round()
    keep = [torch.unique(row, dim=0, return_inverse=True)[1].bincount().max() == 1 for row in after]
    assert all(keep), "rounded landmarks coincide: draw others"
    flow = landmark_flow(before, after, 32, kind)
    found = sample_at(flow, after).transpose(1, 2) + after
    torch.testing.assert_close(found, before, atol=1e-3, rtol=0)
    assert flow[..., 0, 0].abs().max() < 1e-3 and flow[..., -1, -1].abs().max() < 1e-3  # the corners stay
    torch.testing.assert_close(landmark_flow(before, before, 32, kind), torch.zeros(2, 2, 32, 32), atol=1e-3, rtol=0)


def test_a_mesh_is_affine_in_a_triangle_and_a_spline_is_smooth():
    before, after = scattered(1)
    bend = {kind: landmark_flow(before, after, 32, kind).diff(n=2, dim=3).abs() for kind in ("mesh", "spline")}
    assert bend["mesh"].median() < 1e-4 < bend["spline"].median()
    assert bend["spline"].max() < bend["mesh"].max()


def test_landmarks_that_coincide_have_no_morph():
    before, after = scattered(1, 4)
    after[:] = after[:, :1]
    with pytest.raises(LandmarkError, match="coincide"):
        landmark_flow(before, after, 32, "spline")
    with pytest.raises(ShapeError, match="kind"):
        landmark_flow(before, before, 32, "fluid")
    with pytest.raises(ShapeError, match="alike"):
        landmark_flow(before, before[:, :3], 32)


def test_optical_flow_finds_a_known_movement():
    own = torch.arange(48.0)
    y, x = torch.meshgrid(own, own, indexing="ij")
    pattern = torch.stack([torch.sin(x / 4) * torch.cos(y / 5), torch.sin((x + y) / 6), torch.cos(x / 7 - y / 5)])[None]
    truth = torch.tensor([2.0, -1.0]).view(1, 2, 1, 1).expand(1, 2, 48, 48)
    target = warp(pattern, truth)
    found = optical_flow(torch.cat([pattern, pattern]), torch.cat([target, pattern]))
    assert found.shape == (2, 2, 48, 48) and found.dtype == torch.float32
    inner = (..., slice(8, 40), slice(8, 40))
    assert (found[:1] - truth)[inner].norm(dim=1).mean() < 0.3
    assert found[1].abs().max() < 0.1


def test_optical_flow_wants_two_pictures_alike():
    with pytest.raises(ShapeError, match="alike"):
        optical_flow(torch.zeros(1, 3, 8, 8), torch.zeros(1, 3, 8, 9))
