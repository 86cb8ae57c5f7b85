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


def awake(regressor, image):
    """A fresh regressor, which begins with one face for everybody, made to answer differently to every picture."""
    for layer in (regressor.read[-1], *(reader[-1] for reader in regressor.correct)):
        torch.nn.init.normal_(layer.weight, std=0.05, generator=seeded())
    with torch.no_grad():
        for _ in range(30):  # statistics of BatchNorm
            regressor.train()(image)
    return regressor.eval()
