r"""Facial flow between two shapes, and the one warp: backward, bilinear, displacement in pixels."""
from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from facelab.core import ShapeError
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
