"""Facial flow and the warp: identity, known shifts, a turned mesh redrawn by its flow, gradients, named errors."""
from __future__ import annotations

from math import cos, radians, sin

import pytest
import torch

from facelab.core import ShapeError
from facelab.geometry.flow import facial_flow, warp
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
