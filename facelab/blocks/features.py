"""The network whose activations say how alike two pictures look."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from facelab.core import AssetError

TRUTHS = ("pose", "expression_coefficients", "identity_coefficients", "appearance", "light", "landmarks")
"""What the feature network learns to read off a picture, fields of a FaceBatch."""


@dataclass(frozen=True)
class Config:
    """Ours: no paper prints its feature network's size."""

    size: int = 64  # side of the training pictures, px
    width: int = 16  # channels of the first stage, doubled at each of the other three
    truths: int = 0  # numbers to predict in training, all TRUTHS together; 0: none, as it is shipped


class FeatureNetwork(nn.Module):
    r"""Features :math:`\psi_l` for feature matching, learned on made faces: four stages of two 3 x 3 convolutions.

    The network reads the renderer's own numbers (pose, expression, shape, paint, light, landmarks) off a picture; what it needs for that,
    edges of lids, the shading of a cheek, the grain of a beard, is what a face's picture is made of. Stands in where VGG19's weights
    cannot be had. Stages are joined by averages, not maxima, after Gatys et al. 2015: pictures made under max-pooled features bear a grain
    of the pools' period. Features are divided by their mean absolute value on training faces, so that all stages count alike.

    Source: AF-VAE section 3.3 after Chen and Koltun 2017 ("CRN"); the paper names neither its network nor its layers (SPECS A13).
    """

    Config = Config
    name = "FaceWorld features"

    def __init__(self, config: Config):
        super().__init__()
        self.config = config
        widths = [config.width * 2**i for i in range(4)]
        stages, before = [], 3
        for width in widths:
            stages.append(nn.Sequential(
                nn.Conv2d(before, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, width, 3, padding=1), nn.ReLU(),
            ))  # fmt: skip
            before = width
        self.stages = nn.ModuleList(stages)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                nn.init.zeros_(module.bias)
        self.read = nn.Sequential(
            nn.Flatten(), nn.Linear(widths[-1] * 16, 256), nn.ReLU(), nn.Linear(256, config.truths)
        ) if config.truths else None  # fmt: skip
        self.register_buffer("level", torch.ones(len(stages)))  # mean absolute activation of a stage
        self.register_buffer("truth_mean", torch.zeros(config.truths))
        self.register_buffer("truth_scale", torch.ones(config.truths))

    def forward(self, image: Tensor) -> list[Tensor]:
        """(N,3,H,W) in [-1, 1] -> [(N,C,H,W), (N,2C,H/2,W/2), …], each of mean absolute value about 1."""
        found, x = [], image
        for stage, level in zip(self.stages, self.level, strict=True):
            x = stage(x if x is image else F.avg_pool2d(x, 2))
            found.append(x / level)
        return found

    def readings(self, image: Tensor) -> Tensor:
        """(N,3,H,W) -> (N,truths), standardised."""
        deepest = self(image)[-1] * self.level[-1]
        return self.read(F.adaptive_avg_pool2d(deepest, 4))

    # training

    def players(self) -> dict[str, list[nn.Parameter]]:
        return {"features": list(self.parameters())}

    @staticmethod
    def truths(faces: Any) -> Tensor:
        """(N,truths): the fields TRUTHS side by side, landmarks over the picture's side."""
        fields = dict(zip(TRUTHS, faces.require(*TRUTHS), strict=True))
        fields["landmarks"] = fields["landmarks"] / faces.size
        return torch.cat([value.flatten(1).float() for value in fields.values()], dim=1)

    def standardise(self, faces: Any) -> None:
        """Sets the mean and scale of the truths from some training faces."""
        truths = self.truths(faces)
        self.truth_mean.copy_(truths.mean(dim=0))
        self.truth_scale.copy_(truths.std(dim=0).clamp(min=1e-3))

    def graduate(self) -> None:
        """After training: what it learnt to read needs no reader any more."""
        self.read, self.config = None, replace(self.config, truths=0)
        self.truth_mean, self.truth_scale = self.truth_mean[:0], self.truth_scale[:0]

    @torch.no_grad()
    def calibrate(self, image: Tensor) -> None:
        """Sets the level of every stage from some training pictures."""
        self.level.fill_(1)
        self.level.copy_(torch.stack([found.abs().mean() for found in self(image)]))

    def draw(self, faces: Any, n: int, generator: torch.Generator) -> dict[str, Tensor]:
        batch = faces[torch.randint(len(faces), (n,), generator=generator)]
        return {"image": batch.image, "truth": (self.truths(batch) - self.truth_mean.cpu()) / self.truth_scale.cpu()}

    def losses(self, batch: Mapping[str, Tensor], player: str = "features") -> dict[str, Tensor]:
        return {"truths": F.smooth_l1_loss(self.readings(batch["image"]), batch["truth"])}


VGG19_STAGES = ((64, 64), (128, 128), (256, 256, 256, 256), (512, 512, 512, 512), (512, 512))
VGG19_INDEX = ((0, 2), (5, 7), (10, 12, 14, 16), (19, 21, 23, 25), (28, 30))  # of the convolutions in torchvision's `features`


class _Vgg19(nn.Module):
    """relu1_2, relu2_2, relu3_4, relu4_4 and relu5_2 of VGG19, of pictures in [-1, 1]."""

    name = "VGG19"

    def __init__(self):
        super().__init__()
        self.stages, before = nn.ModuleList(), 3
        for widths in VGG19_STAGES:
            layers = []
            for width in widths:
                layers += [nn.Conv2d(before, width, 3, padding=1), nn.ReLU()]
                before = width
            self.stages.append(nn.Sequential(*layers))
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1))
        self.register_buffer("std", torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1))

    def forward(self, image: Tensor) -> list[Tensor]:
        x, found = ((image + 1) / 2 - self.mean) / self.std, []
        for i, stage in enumerate(self.stages):
            x = stage(F.max_pool2d(x, 2) if i else x)
            found.append(x)
        return found


def vgg19_features(path: str | Path) -> nn.Module:
    """VGG19's features, from a file of torchvision's ``vgg19`` state dict (``vgg19-dcbb9e9d.pth``) that you have.

    Returns: frozen; (N,3,H,W) in [-1, 1] -> the five maps of ReLU 1_2, 2_2, 3_4, 4_4, 5_2.
    Raises: AssetError when the file is missing or holds another network. Nothing but tensors is read from it.
    """
    path, network = Path(path), _Vgg19()
    if not path.is_file():
        raise AssetError(f"no VGG19 weights at {path}: torchvision's file vgg19-dcbb9e9d.pth is what is read here")
    try:
        given = torch.load(path, map_location="cpu", weights_only=True)
        for stage, indices in zip(network.stages, VGG19_INDEX, strict=True):
            for layer, index in zip(stage[::2], indices, strict=True):
                layer.load_state_dict({name: given[f"features.{index}.{name}"] for name in ("weight", "bias")})
    except Exception as error:  # torch.load raises many kinds for a broken file
        raise AssetError(f"{path} does not hold torchvision's VGG19 ({error})") from None
    return network.eval().requires_grad_(False)


def feature_matching(
    network: nn.Module, image: Tensor, target: Tensor, weights: Sequence[float], near: Tensor | None = None
) -> Tensor:  # fmt: skip
    r""":math:`\sum_l \lambda_l\, \overline{a\,|\psi_l(x) - \psi_l(\hat x)|}`, a mean over elements and batch within each stage.

    Args: ``network`` picture -> list of feature maps; pictures (N,3,H,W) in [-1, 1]; ``weights`` one a stage; ``near`` a, (N,1,H,W), how
    much each place counts, averaged down to a stage's size, 1 everywhere if None. No gradient reaches target.

    Source: AF-VAE section 3.3; the weights are not printed.
    """
    with torch.no_grad():
        wanted = network(target)
    near = image.new_ones(1, 1, 1, 1) if near is None else near
    return sum(
        w * (F.adaptive_avg_pool2d(near, a.shape[-2:]) * (a - b).abs()).mean()
        for w, a, b in zip(weights, network(image), wanted, strict=True)
    )
