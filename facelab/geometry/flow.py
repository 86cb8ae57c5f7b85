r"""The one warp: backward, bilinear, in pixels; flows of two shapes, of landmarks, of grey levels; their coherence, and other sizes."""
from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from facelab.core import LandmarkError, Reading, ShapeError
from facelab.geometry.raster import rasterize


def facial_flow(
    source: Tensor, target: Tensor, triangles: Tensor, size: int | tuple[int, int], at: str = "target"
) -> Tensor:
    r"""Where each visible point of one face lies in another: a vertex's displacement, drawn as a map.

    .. math:: f(p) = \sum_{i \in \{a, b, c\}} w_i(p)\,(X^s_i - X^t_i)

    with w the weights of pixel p in the nearest triangle (a, b, c) there. Drawn at the target, p + f(p) is where the surface seen at
    p in the target's picture lies in the source's: ``warp(source_picture, flow[:, :2])`` redraws the target, as far as the source
    shows its surface. Drawn at the source the same numbers stand where the source's surface is, and are not a sampling field.

    Args:
        source: (N, V, 3) vertices of the face to move, floating: x, y in pixels, depth z (larger is nearer) in the same unit.
        target: (N, V, 3) the same vertices in the state to move to.
        triangles: (F, 3) vertex indices, integer.
        size: side of the square map in pixels, or (H, W).
        at: "target" or "source", the shape at which the displacements are drawn.

    Returns:
        (N, 3, H, W) float32: source minus target in x, y and z, pixels; 0 off the face. No gradient flows through it.

    Raises:
        ShapeError: source and target differ in shape, ``at`` is neither of the two, or what :func:`rasterize` refuses.

    Source: F3A-GAN (Wu et al., IEEE TIP 2021), Sec. III: X_s - X_t for each vertex, drawn to three channels with a z-buffer that keeps
    the larger z. The paper does not say at which of the two shapes it draws; at the target the flow samples backwards exactly.
    """
    if source.shape != target.shape:
        raise ShapeError(f"source and target must be the same vertices in two states, got {tuple(source.shape)} and {tuple(target.shape)}")
    if at not in ("target", "source"):
        raise ShapeError(f'at must be "target" or "source", got {at!r}')
    return rasterize(target if at == "target" else source, triangles, source - target, size)[0]


def warp(image: Tensor, displacement: Tensor) -> Tensor:
    r"""Samples an image at displaced positions, bilinearly: a backward warp.

    .. math:: O(p) = \sum_{q} I(q)\,\max(0, 1 - |x_q - x_p - d_x(p)|)\,\max(0, 1 - |y_q - y_p - d_y(p)|)

    with positions beyond the border moved onto it. Differentiable in both arguments.

    Args:
        image: (N, C, H, W) floating, any range.
        displacement: (N, 2, H, W) floating, x then y, pixels (y down).

    Returns:
        (N, C, H, W) in the image's dtype. Positions are computed in float32 at least, also for half-precision inputs.

    Raises:
        ShapeError: a wrong shape or dtype, or devices that differ.

    Source: FVAE (Yeh et al., 2016), Eq. 5, whose coordinates are those of ``align_corners=True``: pixel centres at integers, the
    first and last at -1 and 1.
    """
    if image.ndim != 4 or not image.is_floating_point():
        raise ShapeError(f"image must be floating (N, C, H, W), got {image.dtype} {tuple(image.shape)}")
    batch, _, height, width = image.shape
    if displacement.shape != (batch, 2, height, width) or not displacement.is_floating_point():
        raise ShapeError(
            f"displacement must be floating {(batch, 2, height, width)}, x then y, to go with the image; "
            f"got {displacement.dtype} {tuple(displacement.shape)}"
        )
    if image.device != displacement.device:
        raise ShapeError(f"one device please: image {image.device}, displacement {displacement.device}")
    dtype = torch.promote_types(torch.promote_types(image.dtype, displacement.dtype), torch.float32)
    x = torch.arange(width, dtype=dtype, device=image.device) + displacement[:, 0].to(dtype)  # (N, H, W)
    y = torch.arange(height, dtype=dtype, device=image.device)[:, None] + displacement[:, 1].to(dtype)  # (N, H, W)
    grid = torch.stack([2 * x / max(width - 1, 1) - 1, 2 * y / max(height - 1, 1) - 1], dim=-1)  # (N, H, W, 2)
    return F.grid_sample(image.to(dtype), grid, mode="bilinear", padding_mode="border", align_corners=True).to(image.dtype)


def sample_at(image: Tensor, points: Tensor) -> Tensor:
    """An image's values at points between its pixels, bilinearly, those beyond the border moved onto it.

    Args: image (N, C, H, W) floating; points (N, P, 2) floating, (x, y) pixels. Returns (N, C, P). Raises ShapeError.
    """
    if image.ndim != 4 or points.ndim != 3 or points.shape[0] != image.shape[0] or points.shape[2] != 2:
        raise ShapeError(f"image must be (N, C, H, W) and points (N, P, 2), got {tuple(image.shape)} and {tuple(points.shape)}")
    last = points.new_tensor([image.shape[3] - 1, image.shape[2] - 1]).clamp(min=1)
    return F.grid_sample(image, (2 * points / last - 1)[:, None], mode="bilinear", padding_mode="border", align_corners=True)[:, :, 0]


def landmark_flow(source: Tensor, target: Tensor, size: int, kind: str = "mesh") -> Tensor:
    r"""The displacement that carries one face's landmarks to another's, spread over the picture: the classical morphs' warp.

    Args:
        source, target: (N, P, 2) landmarks in pixels, P >= 1. size: side of the pictures, pixels.
        kind: ``mesh``: affine in every triangle of the target's Delaunay mesh (Wolberg 1998); ``spline``: the smoothest map through the
            points, a thin-plate spline (Bookstein 1989). In both the picture's corners and the middles of its sides stay.

    Returns: (N, 2, size, size) float32, backward: ``warp(source_picture, flow)`` has the target's landmarks.
    Raises: ShapeError; LandmarkError when points coincide, so that no such map exists.
    """
    from skimage.transform import PiecewiseAffineTransform, ThinPlateSplineTransform

    if source.shape != target.shape or source.ndim != 3 or source.shape[2] != 2:
        raise ShapeError(f"landmarks must be (N, P, 2), of both faces alike; got {tuple(source.shape)} and {tuple(target.shape)}")
    if kind not in ("mesh", "spline"):
        raise ShapeError(f'kind must be "mesh" or "spline", got {kind!r}')
    transform = PiecewiseAffineTransform if kind == "mesh" else ThinPlateSplineTransform
    ends = (0.0, (size - 1) / 2, size - 1.0)
    frame = torch.tensor([(x, y) for x in ends for y in ends if (x, y) != (ends[1], ends[1])])  # (8, 2)
    x, y = torch.meshgrid(torch.arange(float(size)), torch.arange(float(size)), indexing="xy")
    own = torch.stack([x, y], dim=-1).view(-1, 2)
    flows = []
    for number, (before, after) in enumerate(zip(source.detach().cpu().float(), target.detach().cpu().float(), strict=True)):
        found = transform.from_estimate(torch.cat([after, frame]).numpy(), torch.cat([before, frame]).numpy())
        if not found:
            raise LandmarkError(f"face {number}: no {kind} goes through these landmarks ({found}); do some of them coincide?")
        flows.append(torch.from_numpy(found(own.numpy())).float() - own)
    return torch.stack(flows).transpose(1, 2).reshape(-1, 2, size, size)


def optical_flow(source: Tensor, target: Tensor) -> Tensor:
    r"""The displacement that makes one picture look like another, found from their grey levels alone: TV-L1, a few iterations per pair.

    Args: ``source``, ``target`` (N, 3, H, W) in [-1, 1]. Returns (N, 2, H, W) float32, pixels, backward: ``warp(source, flow)`` resembles
    the target. Raises ShapeError.
    Source: Zach, Pock and Bischof 2007, "A duality based approach for realtime TV-L1 optical flow", as in scikit-image.
    """
    from skimage.registration import optical_flow_tvl1

    if source.shape != target.shape or source.ndim != 4 or source.shape[1] != 3:
        raise ShapeError(f"pictures must be (N, 3, H, W), of both alike; got {tuple(source.shape)} and {tuple(target.shape)}")
    grey = [((x.detach().cpu().mean(dim=1) + 1) / 2).double().numpy() for x in (target, source)]
    found = [torch.from_numpy(optical_flow_tvl1(t, s)) for t, s in zip(*grey, strict=True)]  # (row, column) each
    return torch.stack(found).flip(1).float()


def upsample_flow(displacement: Tensor, size: int | tuple[int, int]) -> Tensor:
    r"""The same movement on a finer (or coarser) grid of pixels, bilinearly.

    .. math:: d'(p') = \frac{s' - 1}{s - 1}\, d\!\left(\frac{s - 1}{s' - 1}\, p'\right)

    along each axis, s and s' its old and new length: corners stay corners, and pixels are counted in the new unit. A warp of the small
    picture by d and one of the large picture by d' show the same, but the second with the large picture's detail.

    Args:
        displacement: (N, 2, H, W) floating, x then y, pixels. size: side of the new map in pixels, or (H', W').

    Returns: (N, 2, H', W') new pixels. Raises ShapeError.
    Source: FVAE (Yeh et al., 2016), Sec. 4.3, with the coordinates of :func:`warp`.
    """
    _check_flow(displacement)
    height, width = (size, size) if isinstance(size, int) else size
    if min(height, width) < 1:
        raise ShapeError(f"size must be at least 1, got {size}")
    before = displacement.shape[-2:]
    unit = displacement.new_tensor([(width - 1) / max(before[1] - 1, 1), (height - 1) / max(before[0] - 1, 1)]).view(1, 2, 1, 1)
    return unit * F.interpolate(displacement, size=(height, width), mode="bilinear", align_corners=True)


def flow_coherence(
    displacement: Tensor, guide: Tensor, alpha: float, window: int = 7, *, sigma_xy: float = 1.0, reading: Reading = Reading.fixed
) -> Tensor:
    r"""How much a flow changes between neighbours that look alike.

    .. math:: L = \frac 1 N \sum_n \sum_i \sum_{j \in N(i)} \lVert F_i - F_j \rVert^2
        \exp\!\left(-\alpha \lVert T_i - T_j \rVert^2 - \lVert i - j \rVert^2 / \sigma_{xy}^2\right)

    over the pixels j of a square window about i that lie inside the picture, so every pair counts twice.

    Args:
        displacement: (N, 2, H, W) floating, pixels; F of the fixed reading.
        guide: (N, C, H, W) the target picture T, in [-1, 1]. It is data: no gradient flows to it.
        alpha: weight of a difference in colour; not printed.
        window: side of the neighbourhood, odd. sigma_xy: pixels; 1 as printed, which leaves 94 % of the weight to the nearest eight.
        reading: ``literal`` takes F as the absolute coordinates of Eq. 5, :math:`F_i = i + d_i`: then the identity, d = 0, has a price,
            and all that samples one point has none.

    Returns: () float32 at least, pixels²; a sum over pixels, a mean over the batch. Second derivatives are not available.
    Raises: ShapeError.
    Source: FVAE (Yeh et al., 2016), Eq. 6; SPECS C3 and C13. In the paper's normalised coordinates (5.3) it is smaller by
    ((side - 1) / 2)².
    """
    _check_flow(displacement)
    if guide.ndim != 4 or guide.shape[0] != displacement.shape[0] or guide.shape[2:] != displacement.shape[2:]:
        raise ShapeError(f"guide must be (N, C, H, W) to go with the displacement {tuple(displacement.shape)}, got {tuple(guide.shape)}")
    if window < 1 or window % 2 == 0:
        raise ShapeError(f"window must be odd, got {window}")
    dtype = torch.promote_types(displacement.dtype, torch.float32)
    absolute = reading is Reading.literal
    return _Coherence.apply(displacement.to(dtype), guide.detach().to(dtype), float(alpha), window // 2, float(sigma_xy), absolute)


def _check_flow(displacement: Tensor) -> None:
    if displacement.ndim != 4 or displacement.shape[1] != 2 or not displacement.is_floating_point():
        raise ShapeError(f"displacement must be floating (N, 2, H, W), got {displacement.dtype} {tuple(displacement.shape)}")


class _Coherence(torch.autograd.Function):
    """Value and gradient in one walk over half of the window's offsets; autograd would keep every offset's maps until the way back."""

    @staticmethod
    def forward(ctx, flow: Tensor, guide: Tensor, alpha: float, reach: int, sigma: float, absolute: bool) -> Tensor:
        gradient, total = torch.zeros_like(flow), flow.new_zeros(())
        height, width = flow.shape[2:]
        offsets = [(dy, dx) for dy in range(reach + 1) for dx in range(-reach, reach + 1) if (dy, dx) > (0, 0)]
        some = max(1, 2**14 // (height * width)) if flow.device.type == "cpu" else len(flow)  # so much stays in a core's cache
        for f, t, g in zip(flow.split(some), guide.split(some), gradient.split(some), strict=True):
            for dy, dx in offsets:
                if dy >= height or abs(dx) >= width:
                    continue
                here = (..., slice(0, height - dy), slice(max(0, -dx), width - max(0, dx)))
                there = (..., slice(dy, height), slice(max(0, dx), width + min(0, dx)))
                weight = (t[here] - t[there]).square_().sum(dim=1, keepdim=True).mul_(-alpha).sub_((dy * dy + dx * dx) / sigma**2).exp_()
                step = f[here] - f[there]
                if absolute:
                    step -= step.new_tensor([dx, dy]).view(1, 2, 1, 1)
                pull = step * weight
                total += torch.dot(pull.flatten(), step.flatten())
                g[here].add_(pull)
                g[there].sub_(pull)
        ctx.save_for_backward(gradient)
        return total * (2 / len(flow))

    @staticmethod
    @once_differentiable
    def backward(ctx, upstream: Tensor):
        (gradient,) = ctx.saved_tensors
        return gradient * (upstream * 4 / len(gradient)), None, None, None, None, None
