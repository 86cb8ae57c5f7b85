"""What tests put where the real thing does not matter."""
import torch
from torch.nn import functional as F

from facelab.faces import FaceBatch


def seeded(number=0):
    return torch.Generator().manual_seed(number)


def smooth_faces(n=24, size=16, points=68):
    """Soft pictures and points anywhere in them: all that a method may see, and nothing of a face."""
    generator = seeded(n)
    coarse = torch.rand(n, 3, 4, 4, generator=generator) * 2 - 1
    image = F.interpolate(coarse, size=size, mode="bilinear", align_corners=True)
    return FaceBatch(image, torch.rand(n, points, 2, generator=generator) * size)
