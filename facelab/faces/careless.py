"""Faces as a careless photographer would take them: what networks that must also read photographs learn from."""
from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F

from facelab.faces.batch import FaceBatch
from facelab.geometry.flow import warp

Rand = Callable[..., Tensor]
"""A shape -> uniform numbers in [0, 1), such as ``partial(torch.rand, generator=generator)``."""


def reframed(batch: FaceBatch, rand: Rand) -> FaceBatch:
    """The same faces turned by up to 15°, zoomed by 0.85 to 1.2, shifted by up to 6 % of the side.

    Landmarks follow, and of made faces roll and camera; other truths in pixels, such as masks, do not.
    """
    n, side = len(batch), batch.size
    angle = (rand(n) * 2 - 1) * math.radians(15)
    zoom = 0.85 + 0.35 * rand(n)
    shift = (rand(n, 2) * 2 - 1) * 0.06 * side
    cos, sin = torch.cos(angle), torch.sin(angle)
    turn = torch.stack([torch.stack([cos, -sin], -1), torch.stack([sin, cos], -1)], 1)  # (N,2,2), clockwise in a picture: y is down
    middle = (side - 1) / 2
    moved = lambda points: zoom[:, None, None] * ((points - middle) @ turn.mT) + middle + shift[:, None]  # noqa: E731
    y, x = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    pixels = torch.stack([x, y], -1).reshape(1, -1, 2).float()
    back = (pixels - middle - shift[:, None]) @ turn / zoom[:, None, None] + middle  # where each new pixel was
    (landmarks,) = batch.require("landmarks")
    changed = {"image": warp(batch.image, (back - pixels).mT.unflatten(2, (side, side))), "landmarks": moved(landmarks)}
    if batch.pose is not None:
        changed["pose"] = batch.pose + angle[:, None] * batch.pose.new_tensor([0.0, 0.0, 1.0])
    if batch.camera is not None:
        place = (moved(batch.camera[:, None, 1:] * side - 0.5)[:, 0] + 0.5) / side
        changed["camera"] = torch.cat([batch.camera[:, :1] * zoom[:, None], place], dim=1)
    return replace(batch, **changed)


def developed(image: Tensor, rand: Rand) -> Tensor:
    """Exposure, a lamp to one side, contrast, colour cast, saturation, blur or lower resolution, noise; a grey patch over part of some.

    (N,3,H,W) in [-1, 1] -> the same."""
    n, side = len(image), image.shape[-1]
    light = (image + 1) / 2
    light = light.clamp(min=1e-4) ** torch.exp((rand(n, 1, 1, 1) - 0.5) * 1.0)
    across, down = torch.linspace(-0.5, 0.5, side).view(1, 1, 1, -1), torch.linspace(-0.5, 0.5, side).view(1, 1, -1, 1)
    light = light * (1 + (rand(n, 1, 1, 1) - 0.5) * across + (rand(n, 1, 1, 1) - 0.5) * down)
    light = light * (0.7 + 0.5 * rand(n, 1, 1, 1)) * (1 + 0.25 * (rand(n, 3, 1, 1) - 0.5)) + 0.15 * (rand(n, 1, 1, 1) - 0.5)
    grey = light.mean(dim=1, keepdim=True)
    light = grey + (light - grey) * (0.3 + 1.0 * rand(n, 1, 1, 1)) * (rand(n, 1, 1, 1) > 0.1)
    soft = F.avg_pool2d(F.pad(light, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    softer = F.interpolate(F.avg_pool2d(light, 2), size=side, mode="bilinear", align_corners=False)
    kind = rand(n, 1, 1, 1)
    light = torch.where(kind < 0.2, soft, torch.where(kind < 0.35, softer, light))
    light = light + 0.06 * rand(n, 1, 1, 1) * (rand(n, 3, side, side) * 2 - 1) * 1.7
    corner, extent = rand(n, 2) * side, (0.1 + 0.25 * rand(n, 2)) * side
    y, x = torch.arange(side).view(1, -1, 1), torch.arange(side).view(1, 1, -1)
    inside = ((x - corner[:, :1, None]).abs() < extent[:, :1, None] / 2) & ((y - corner[:, 1:, None]).abs() < extent[:, 1:, None] / 2)
    covered = inside[:, None] & (rand(n, 1, 1, 1) < 0.2)
    return torch.where(covered, rand(n, 3, 1, 1), light).clamp(0, 1) * 2 - 1
