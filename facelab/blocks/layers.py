"""The convolutional pieces of the boundary-conditioned autoencoders."""
from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm

from facelab.core import ShapeError

NORMS = ("weight", "batch", "none")
UPSAMPLINGS = ("subpixel", "transposed")
SLOPE = 0.2


def convolution(
    before: int, after: int, kernel: int = 3, *, stride: int = 1, norm: str = "none", active: bool = True, up: str | None = None
) -> nn.Sequential:
    r"""A convolution, normalised, then LeakyReLU(0.2); padded so that the side becomes side / stride, or with ``up`` twice as large.

    Args:
        before, after: channels; kernel: odd, or even with stride 2; active: without it neither BatchNorm nor activation follows.
        norm: ``weight`` writes each filter as :math:`w = g\, v / \lVert v \rVert` (Salimans and Kingma 2016); ``batch``; ``none``.
        up: ``subpixel``: a convolution to 4 x ``after`` channels whose values PixelShuffle lays out as 2 x 2 blocks (Shi et al. 2016);
            ``transposed``: a 4 x 4 transposed convolution of stride 2, whose output pixels are covered by different numbers of taps
            only at the border, but by different *weights* everywhere: the checkerboard.
    """
    if norm not in NORMS or up not in (None, *UPSAMPLINGS):
        raise ShapeError(f"norm must be one of {NORMS} and up one of {UPSAMPLINGS} or None, got {norm!r} and {up!r}")
    if up == "transposed":
        layer: nn.Module = nn.ConvTranspose2d(before, after, 4, stride=2, padding=1)
    else:
        layer = nn.Conv2d(before, 4 * after if up else after, kernel, stride=stride, padding=(kernel - 1) // 2)
    nn.init.kaiming_normal_(layer.weight, a=SLOPE, mode="fan_out" if up == "transposed" else "fan_in")
    if up == "transposed":
        with torch.no_grad():
            layer.weight.mul_(2)  # each output pixel sees a quarter of the taps
    nn.init.zeros_(layer.bias)
    if up == "subpixel":
        with torch.no_grad():  # the four values of a block start equal: nearest-neighbour upsampling (ICNR, Aitken et al. 2017)
            layer.weight.copy_(layer.weight[::4].repeat_interleave(4, dim=0))
    # dim: a transposed convolution keeps its output channels second
    parts = [weight_norm(layer, dim=1 if up == "transposed" else 0) if norm == "weight" else layer]
    if up == "subpixel":
        parts.append(nn.PixelShuffle(2))
    if active:
        if norm == "batch":
            parts.append(nn.BatchNorm2d(after))
        parts.append(nn.LeakyReLU(SLOPE))
    return nn.Sequential(*parts)


@torch.no_grad()
def shrink_(layer: nn.Module, factor: float = 0.1) -> None:
    """Scales a layer's weight, with or without weight normalisation."""
    if hasattr(layer, "parametrizations"):
        layer.parametrizations.weight.original0.mul_(factor)  # g
    else:
        layer.weight.mul_(factor)


class Residual(nn.Module):
    """x + two 3 x 3 convolutions of x, the second of which starts at a tenth of its usual size: (N,C,H,W) -> the same."""

    def __init__(self, channels: int, norm: str):
        super().__init__()
        self.first = convolution(channels, channels, norm=norm)
        self.second = convolution(channels, channels, norm=norm, active=False)
        shrink_(self.second[0])

    def forward(self, x: Tensor) -> Tensor:
        return F.leaky_relu(x + self.second(self.first(x)), SLOPE)


class Stage(nn.Module):
    """A convolution to half the side and other channels, then a residual pair, each with BatchNorm: (N,C,H,W) -> (N,C',H/2,W/2)."""

    def __init__(self, before: int, after: int):
        super().__init__()
        self.down = nn.Sequential(nn.Conv2d(before, after, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU())
        self.pair = nn.Sequential(
            nn.Conv2d(after, after, 3, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU(),
            nn.Conv2d(after, after, 3, padding=1, bias=False), nn.BatchNorm2d(after),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        x = self.down(x)
        return F.relu(x + self.pair(x))


class Pyramid(nn.Module):
    """A network that looks at a whole picture and at places in it: four stages down, and a way back up to half the side.

    Args: ``size`` side to which pictures are resized; ``width`` channels at half of it, doubled at the next two halvings.
    Attributes: ``flat`` numbers in the deepest map; ``across`` channels of the map at half the side.
    Source: feature pyramid networks (Lin et al. 2017).
    """

    name = "network"  # who looks

    def __init__(self, size: int, width: int):
        super().__init__()
        self.size, widths = size, [width, 2 * width, 4 * width, 6 * width]
        self.flat, self.across = widths[-1] * (size // 16) ** 2, 2 * width
        self.stages = nn.ModuleList(Stage(a, b) for a, b in zip([3, *widths], widths, strict=False))  # sides /2, /4, /8, /16
        self.lateral = nn.ModuleList(nn.Conv2d(w, self.across, 1) for w in widths)

    def climb(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Square pictures (N,3,H,H) of any size -> the deepest map (N,6W,size/16,size/16), the highest (N,2W,size/2,size/2).

        Raises ShapeError."""
        if image.ndim != 4 or image.shape[1] != 3 or image.shape[2] != image.shape[3]:
            raise ShapeError(f"the {self.name} looks at square pictures (N, 3, H, H), got {tuple(image.shape)}")
        if image.shape[-1] != self.size:
            image = F.interpolate(image, size=self.size, mode="bilinear", align_corners=False, antialias=image.shape[-1] > self.size)
        maps = [image]
        for stage in self.stages:
            maps.append(stage(maps[-1]))
        top = self.lateral[-1](maps[-1])
        for lateral, feature in zip(reversed(self.lateral[:-1]), reversed(maps[1:-1]), strict=True):
            top = lateral(feature) + F.interpolate(top, scale_factor=2.0, mode="nearest")
        return maps[-1], top


class AppearanceEncoder(nn.Module):
    r"""Picture to the posterior :math:`q(z \mid x) = N(\mu_\phi, \mathrm{diag}\,\sigma_\phi^2)`.

    Args: ``widths`` channels from half the picture's side down to 4 x 4, one level each; ``code`` D; ``unit`` the length that counts as
    1 in the latent space (the prior's scale), so that codes of any prior leave the network at the same size.
    """

    def __init__(self, widths: Sequence[int], code: int, norm: str, unit: float = 1.0):
        super().__init__()
        self.unit = unit
        self.down = nn.Sequential(*_way_down(3, widths, norm), Residual(widths[-1], norm))
        self.head = nn.Linear(widths[-1] * 16, 2 * code)
        nn.init.normal_(self.head.weight, std=0.5 / (widths[-1] * 16) ** 0.5)
        nn.init.zeros_(self.head.bias)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """(N,3,H,W) in [-1, 1] -> mean (N,D), log variance (N,D)."""
        mean, log_var = self.head(self.down(image).flatten(1)).chunk(2, dim=1)  # (N,D) twice
        shift = 2 * torch.log(torch.tensor(self.unit, device=mean.device))
        return mean * self.unit, log_var.clamp(-12, 4) + shift


class StructureEncoder(nn.Module):
    """Boundary map to one feature map a level, from its own side down to 4 x 4: the U-Net's way down. ``widths`` as the encoder's."""

    def __init__(self, widths: Sequence[int], norm: str):
        super().__init__()
        self.levels = nn.ModuleList(_way_down(1, widths, norm))

    def forward(self, boundary: Tensor) -> list[Tensor]:
        """(N,1,H,W) in [0, 1] -> [(N,1,H,W) the map itself in [-1, 1], (N,C_0,H/2,W/2), …, (N,C_L,4,4)]; the last is the code y."""
        found = [boundary * 2 - 1]
        for level in self.levels:
            found.append(level(found[-1]))
        return found


def _way_down(channels: int, widths: Sequence[int], norm: str) -> list[nn.Module]:
    return [convolution(before, after, 4, stride=2, norm=norm) for before, after in zip([channels, *widths], widths, strict=False)]


class Decoder(nn.Module):
    r"""Appearance code and structure maps to a picture: the U-Net's way up, a skip joined at every level up to the picture's own side,
    where the skip is the boundary map. From level to level, [ ] joining channels:

    .. math:: h_l = \mathrm{mix}_l\,[\,\mathrm{up}_l(h_{l+1}) + T_l z,\; s_l\,]

    z enters the same at every place, at 4 x 4 and again as the tint :math:`T_l z` of every level: what a face looks like is told by z,
    where its parts are only by the structure's maps :math:`s_l`.

    Args: ``widths`` channels from the picture's side down to 4 x 4; ``structure`` those of the structure encoder's maps, the first 1.
    """

    def __init__(self, widths: Sequence[int], structure: Sequence[int], code: int, norm: str, up: str, unit: float = 1.0):
        super().__init__()
        self.unit = unit
        self.expand = nn.Linear(code, widths[-1])
        self.join = convolution(widths[-1] + structure[-1], widths[-1], norm=norm)
        self.deep = Residual(widths[-1], norm)
        self.up, self.tint, self.mix = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        for level in range(len(widths) - 2, -1, -1):
            self.up.append(convolution(widths[level + 1], widths[level], norm=norm, up=up))
            self.tint.append(nn.Linear(code, widths[level]))
            self.mix.append(convolution(widths[level] + structure[level], widths[level], norm=norm))
        self.paint = convolution(widths[0], 3, norm=norm, active=False)
        shrink_(self.paint[0])  # start near grey

    def forward(self, code: Tensor, structure: Sequence[Tensor]) -> Tensor:
        """(N,D), the structure encoder's maps -> (N,3,H,W) in [-1, 1]."""
        code, deepest = code / self.unit, structure[-1]
        x = F.leaky_relu(self.expand(code), SLOPE)[:, :, None, None].expand(-1, -1, *deepest.shape[-2:])  # (N,C_L,4,4)
        x = self.deep(self.join(torch.cat([x, deepest], dim=1)))
        for up, tint, mix, skip in zip(self.up, self.tint, self.mix, reversed(structure[:-1]), strict=True):
            x = mix(torch.cat([up(x) + tint(code)[:, :, None, None], skip], dim=1))  # (N,C_l,H_l,W_l), twice the side of the level before
        return torch.tanh(self.paint(x))


@torch.no_grad()
def lsuv_(network: nn.Module, *inputs: Tensor, tolerance: float = 0.1, iterations: int = 10) -> int:
    r"""Layer-sequential unit-variance initialisation, in place: every convolution's output gets variance 1 on one batch.

    Each weight becomes orthonormal; then, layer by layer in the order in which the network runs them,
    :math:`W \leftarrow W / \sqrt{\mathrm{Var}(Wx)}` until :math:`|\mathrm{Var} - 1| <` tolerance.

    Args: ``network`` run as ``network(*inputs)``. Returns: how many layers were set. Layers whose output is constant are left orthonormal.
    Raises: ShapeError for a network with weight normalisation.

    Source: Mishkin and Matas, "All you need is a good init" (2015), which the Equilibrium CVAE uses. With skips the order of running is
    the order that matters, so it is read off the network as it runs.
    """
    kinds = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)
    order: list[nn.Module] = []

    def note(layer: nn.Module, *_: object) -> None:
        if layer not in order:
            order.append(layer)

    hooks = [m.register_forward_hook(note) for m in network.modules() if isinstance(m, kinds)]
    network(*inputs)
    for hook in hooks:
        hook.remove()
    if any(hasattr(layer, "parametrizations") for layer in order):
        raise ShapeError("LSUV sets weights, and under weight normalisation a weight is computed: build the network with norm='none'")
    for layer in order:
        nn.init.orthogonal_(layer.weight)
        seen: list[float] = []
        hook = layer.register_forward_hook(lambda _m, _i, out, seen=seen: seen.append(out.var().item()))
        for _ in range(iterations):
            network(*inputs)
            if abs(seen[-1] - 1) < tolerance or seen[-1] < 1e-10:
                break
            layer.weight.div_(seen[-1] ** 0.5)
        hook.remove()
    return len(order)
