r"""FVAE: an expression is edited by moving the photograph's own pixels.

R. Yeh, Z. Liu, D. B. Goldman and A. Agarwala. *Semantic Facial Expression Editing using Autoencoded Flow.* arXiv 1611.09961, 2016.
Derived in notebooks 06 and 07.

Departures: a width multiplier on the printed channels; the flow head says where to sample *relative to* each pixel (the printed absolute
coordinates start at the middle of the picture everywhere, and never reach its corners: ``head="absolute"``); coherence is of the
displacement, in pixels, not of absolute coordinates, and its weight ours: the printed one is next to nothing (notebook 07). Fig. 3 does
not print which features are joined where: its parameter count decided; nor biases: the codes' noise begins small. And g reads how the
code differs from the source's own, ``relative``: who it is, the light and the wall cancel, and a smile, small beside the differences
between people, is found at all (notebook 07).
"""
from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from facelab.core import FacelabError, Reading, ShapeError
from facelab.faces.batch import EXPRESSIONS
from facelab.geometry.flow import flow_coherence, upsample_flow, warp

HEADS = ("residual", "absolute", "rgb")
BLENDS = ("softmax", "linear", "logit", "literal")


class PairError(FacelabError):
    """Faces of which no pairs can be made, or an expression that they do not show."""


@dataclass(frozen=True)
class Config:
    """Printed values are marked with their section; the rest is ours."""

    size: int = 128  # side of a picture, px; 5.2
    width: float = 1.0  # multiplies the channels of Fig. 3: 32 at the picture's side, doubled at every halving
    mask_width: float = 1.0  # and those of the mask network once more
    head: str = "residual"  # where to sample: tanh is a displacement; "absolute": coordinates (5.3); "rgb": no flow, the VAE of 6.1
    reach: float = 0.1  # longest displacement of the residual head, of the side
    relative: bool = True  # g and M read how a code differs from the source's own, Z - Z(S); False, as printed: Z
    prior_weight: float = 0.003  # lambda_1; 5.4
    coherence_weight: float = 0.01  # lambda_2, of displacements in pixels; printed (5.4): 0.001 in [-1, 1], 2.5e-7 in pixels at 128
    alpha: float = 10.0  # Eq. 6, not printed; colours in [-1, 1]
    window: int = 7  # 3.1.2
    reading: str = "fixed"  # of Eq. 6: "literal" is coherence of absolute coordinates

    @property
    def channels(self) -> list[int]:
        """Of every level, from the picture's side to 4 x 4."""
        levels = (self.size // 4).bit_length()
        if self.size != 4 * 2 ** (levels - 1) or levels < 2:
            raise ShapeError(f"size must be 8, 16, 32, 64, ..., got {self.size}")
        return [max(4, round(32 * self.width * 2**level)) for level in range(levels)]

    @property
    def mask_channels(self) -> list[int]:
        return replace(self, width=self.width * self.mask_width).channels


# ---------------------------------------------------------------------------------------------------------------------------- networks


def _begin(convolution: nn.Conv2d) -> None:
    """Weights from a truncated normal of 0.01 (5.3), no bias."""
    nn.init.trunc_normal_(convolution.weight, std=0.01, a=-0.02, b=0.02)
    if convolution.bias is not None:
        nn.init.zeros_(convolution.bias)


def _layer(before: int, after: int, kernel: int = 3, *, stride: int = 1, norm: bool = True, up: bool = False) -> nn.Sequential:
    """Nearest upsampling where asked, a convolution, BatchNorm, ReLU (5.3)."""
    convolution = nn.Conv2d(before, after, kernel, stride=stride, padding=kernel // 2, bias=not norm)
    _begin(convolution)
    parts = [nn.Upsample(scale_factor=2, mode="nearest")] if up else []
    return nn.Sequential(*parts, convolution, *([nn.BatchNorm2d(after)] if norm else []), nn.ReLU())


class Ladder(nn.Module):
    """A picture's features at every level, sides H, H/2, …, 4: (N,3,H,W) -> [(N,C_0,H,W), …, (N,C_L,4,4)]."""

    def __init__(self, channels: list[int]):
        super().__init__()
        self.first = _layer(3, channels[0], 5)
        self.down = nn.ModuleList(_layer(a, b, stride=2) for a, b in zip(channels, channels[1:], strict=False))

    def forward(self, image: Tensor) -> list[Tensor]:
        found = [self.first(image)]
        for layer in self.down:
            found.append(layer(found[-1]))
        return found


Seen = tuple[list[Tensor], Tensor | None]
"""What there is to know of a source: its features at every level, and its own code, with which others are compared (None: as they are)."""


class Up(nn.Module):
    """Code (N,code,4,4) and source -> (N,out,H,W) before any tanh or sigmoid; the source's features join at every level."""

    def __init__(self, code: int, channels: list[int], out: int):
        super().__init__()
        self.fuse = _layer(code + channels[-1], channels[-1])
        rising = list(zip(channels[::-1], channels[-2::-1], strict=False))
        self.up = nn.ModuleList(_layer(2 * a, b, up=True, norm=b != channels[0]) for a, b in rising)  # the last two: no BatchNorm
        self.head = nn.Conv2d(2 * channels[0], out, 5, padding=2)
        _begin(self.head)

    def forward(self, code: Tensor, seen: Seen) -> Tensor:
        features, own = seen
        code = code if own is None else code - own
        x = self.fuse(torch.cat([code, features[-1]], dim=1))  # (N,C_L,4,4)
        for layer, feature in zip(self.up, features[::-1], strict=False):
            x = layer(torch.cat([x, feature], dim=1))  # (N,C_l,2h,2w)
        return self.head(torch.cat([x, features[0]], dim=1))


class Model(nn.Module):
    """f, g and the mask network M of Fig. 3; with the head ``rgb`` the VAE of section 6.1, which has no flow and no mask."""

    Config = Config

    def __init__(self, config: Config | None = None):
        super().__init__()
        self.config = config = config or Config()
        if config.head not in HEADS:
            raise ShapeError(f"no head called {config.head!r}; there are {', '.join(HEADS)}")
        channels = config.channels
        deepest = channels[-1]
        self.target = Ladder(channels)
        self.mean, self.log_var = (nn.Conv2d(deepest, deepest, 3, padding=1) for _ in range(2))
        for layer in (self.mean, self.log_var):
            _begin(layer)
        nn.init.constant_(self.log_var.bias, -8.0)  # codes begin with little noise: at 0 the decoder learns to do without them
        self.source, self.up = Ladder(channels), Up(deepest, channels, 3 if config.head == "rgb" else 2)
        if config.head != "rgb":
            self.mask = nn.ModuleDict({"source": Ladder(config.mask_channels), "up": Up(deepest, config.mask_channels, 1)})
        self.register_buffer("places", torch.zeros(len(EXPRESSIONS), deepest, 4, 4))  # mean code of each expression
        self.register_buffer("known", torch.zeros(len(EXPRESSIONS), dtype=torch.bool))  # which of them were ever seen
        self._pairs = torch.zeros(0, 2, dtype=torch.long)  # rows of the training faces
        self.to(memory_format=torch.channels_last)  # twice as fast on a CPU

    # ---------------------------------------------------------------------------------------------------------------- the equations

    def _code(self, image: Tensor) -> tuple[Tensor, Tensor]:
        deepest = self.target(image)[-1]
        return self.mean(deepest), self.log_var(deepest).clamp(-12, 6)

    def _look(self, source: Tensor, ladder: Ladder, own: Tensor | None = None) -> Seen:
        """What g or M knows of its source before a code comes; ``own``: the source's code, where it is known already."""
        if not self.config.relative:
            return ladder(source), None
        return ladder(source), self._code(source)[0] if own is None else own

    def _flow(self, code: Tensor, seen: Seen) -> Tensor:
        out, side = torch.tanh(self.up(code, seen).float()), self.config.size
        if self.config.head == "residual":
            return out * (self.config.reach * side)
        place = torch.linspace(-1, 1, side, device=out.device)  # corners are -1 and 1
        own = torch.stack(torch.meshgrid(place, place, indexing="xy"))
        return (out - own) * ((side - 1) / 2)

    def _made(self, source: Tensor, code: Tensor, seen: Seen) -> tuple[Tensor, Tensor | None]:
        """g(S, Z), from the source and what is known of it, and the displacement by which it came about."""
        if self.config.head == "rgb":
            return torch.tanh(self.up(code, seen)), None
        displacement = self._flow(code, seen)
        return warp(source, displacement), displacement

    # --------------------------------------------------------------------------------------------------------------------- training

    def prepare(self, faces: Any) -> None:
        """Before training: all ordered pairs of two expressions of one person (5.2) among the training faces."""
        self._pairs = pairs(faces)

    def players(self) -> dict[str, list[nn.Parameter]]:
        """One player: f and g. The mask network learns afterwards, see :class:`Confidence`."""
        return {"autoencoder": [p for name, p in self.named_parameters() if not name.startswith("mask.")]}

    def draw(self, faces: Any, n: int, generator: torch.Generator) -> dict[str, Tensor]:
        """Pairs (S, T) of one person's pictures, S in T's colours, half of the pairs mirrored; and the noise of Eq. 2."""
        if not len(self._pairs):
            self.prepare(faces)
        chosen = self._pairs[torch.randint(len(self._pairs), (n,), generator=generator)]
        source, target = (faces[rows].image for rows in chosen.T)
        mirrored = torch.rand(n, 1, 1, 1, generator=generator) < 0.5
        source, target = (torch.where(mirrored, picture.flip(3), picture) for picture in (source, target))
        noise = torch.randn(n, self.config.channels[-1], 4, 4, generator=generator)
        return {"source": colour_transfer(source, target), "target": target, "noise": noise}

    def losses(self, batch: Mapping[str, Tensor], player: str = "autoencoder") -> dict[str, Tensor]:
        r"""Eq. 1, sums over the elements of one pair, mean over the batch:

        .. math:: \underbrace{\textstyle\sum \lVert T - g(S, Z(T)) \rVert^2}_{\text{pixels}} +
            \lambda_1 \underbrace{\textstyle -\sum_k 1 + \log\sigma_k^2 - \mu_k^2 - \sigma_k^2}_{\text{prior}} +
            \lambda_2 L_{flow}

        The prior lacks the usual half, as printed.
        """
        source, target = batch["source"], batch["target"]
        mean, log_var = self._code(target)
        made, displacement = self._made(source, mean + (log_var / 2).exp() * batch["noise"], self._look(source, self.source))
        terms = {
            "pixels": (target - made).square().sum() / len(target),
            "prior": -self.config.prior_weight * (1 + log_var - mean.square() - log_var.exp()).sum() / len(target),
        }
        if displacement is not None and self.config.coherence_weight:
            value = flow_coherence(displacement, target, self.config.alpha, self.config.window, reading=Reading(self.config.reading))
            terms["coherence"] = self.config.coherence_weight * value
        return terms

    @torch.no_grad()
    def remember(self, faces: Any, batch: int = 64) -> None:
        r"""After training: the mean code of every expression, :math:`\frac{1}{|D_y|} \sum_{I \in D_y} \mu(I)` (Algorithm 1, the mean over
        the class that is meant: SPECS C6)."""
        sums, counts = torch.zeros_like(self.places), torch.zeros(len(EXPRESSIONS), device=self.places.device)
        for rows in torch.arange(len(faces)).split(batch):
            some = faces[rows]
            (label,) = some.require("expression")
            label = label.to(sums.device)
            sums.index_add_(0, label, self._code(some.image.to(sums))[0])
            counts += torch.bincount(label, minlength=len(counts))
        self.known.copy_(counts > 0)
        self.places.copy_(sums / counts.clamp(min=1).view(-1, 1, 1, 1))

    # ------------------------------------------------------------------------------------------------------------------------ verbs

    @torch.no_grad()
    def encode(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Pictures (N,3,H,W) in [-1, 1] -> mean and log variance of their codes, (N,C,4,4) each: Z(I) is the mean."""
        return self._code(self._checked(image))

    @torch.no_grad()
    def flow(self, source: Tensor, code: Tensor) -> Tensor:
        """Source pictures (N,3,H,W), codes (N,C,4,4) -> backward displacement (N,2,H,W), pixels. ShapeError for the head ``rgb``."""
        if self.config.head == "rgb":
            raise ShapeError('a model with the head "rgb" paints and moves nothing: it has no flow')
        return self._flow(code, self._look(self._checked(source), self.source))

    @torch.no_grad()
    def decode(self, source: Tensor, code: Tensor) -> Tensor:
        """g(S, Z): source pictures and codes -> (N,3,H,W)."""
        return self._made(source, code, self._look(self._checked(source), self.source))[0]

    @torch.no_grad()
    def confidence(self, source: Tensor, code: Tensor) -> Tensor:
        """M(S, Z): how likely g(S, Z) is right at each pixel, (N,1,H,W) in [0, 1]; 3.2."""
        return torch.sigmoid(self._mask(code, self._mask_look(self._checked(source))))

    def _mask_look(self, source: Tensor, own: Tensor | None = None) -> Seen:
        if self.config.head == "rgb":
            raise ShapeError('a model with the head "rgb" has no confidence mask')
        features, own = self._look(source, self.mask["source"], own)
        return features, own if own is None else own.detach()  # f is frozen when the mask learns

    @torch.no_grad()
    def moves(self, source: Tensor) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
        """Code -> (:meth:`flow`, :meth:`confidence`) of one source, looked at once: for a widget, which asks again and again."""
        own = self.encode(source)[0]
        seen, masked = self._look(source, self.source, own), self._mask_look(source, own)
        return torch.no_grad()(lambda code: (self._flow(code, seen), torch.sigmoid(self._mask(code, masked))))

    def _mask(self, code: Tensor, seen: Seen) -> Tensor:
        """Logits of M."""
        return self.mask["up"](code, seen).float()

    @property
    def expressions(self) -> list[str]:
        """Those that it was trained on, in the order of EXPRESSIONS."""
        return [name for name, known in zip(EXPRESSIONS, self.known.tolist(), strict=True) if known]

    def place(self, expression: str) -> Tensor:
        """(C,4,4) the mean code of one of the expressions that it was trained on; PairError for another."""
        if expression not in self.expressions:
            there = ", ".join(self.expressions) or "no expressions yet: call remember"
            raise PairError(f"no {expression!r} among the training faces; there are {there}")
        return self.places[EXPRESSIONS.index(expression)]

    def direction(self, target: str, source: str | Tensor) -> Tensor:
        r""":math:`Z_{target} - Z_{source}` of Algorithm 1: (C,4,4), or (N,C,4,4) where ``source`` is pictures (N,3,H,W).

        A picture's own code stands in for an expression of which there are no training faces (6.1); minus a direction takes an
        expression away.
        """
        return self.place(target) - (self.place(source) if isinstance(source, str) else self.encode(source)[0])

    @torch.no_grad()
    def edit(self, source: Tensor, direction: Tensor, steps: int = 4) -> Tensor:
        r"""Algorithm 1: :math:`g(S, Z(S) + \tfrac iK (Z_{target} - Z_{source}))` for i = 0 … K.

        Args: ``source`` (N,3,H,W); ``direction`` (C,4,4) or (N,C,4,4), see :meth:`direction`, negative to suppress, longer to magnify;
        ``steps`` K. Returns (N,K+1,3,H,W); number 0, which the paper leaves out, is what the network makes of the source itself.
        """
        code = self.encode(source)[0]
        seen = self._look(source, self.source, code)
        return torch.stack([self._made(source, code + part * direction, seen)[0] for part in _parts(steps)], dim=1)

    @torch.no_grad()
    def interpolate(self, a: Tensor, b: Tensor, steps: int = 4, *, blend: str = "softmax") -> Tensor:
        r"""Algorithm 2: both pictures, moved to the codes between theirs and blended by confidence.

        With :math:`Z = (1 - t)\, Z(a) + t\, Z(b)`, :math:`O_n = g(S_n, Z)` and :math:`M_n = M(S_n, Z)` the picture is
        :math:`w_1 O_1 + w_2 O_2`, where w is

        - ``softmax``: :math:`e^{M_n} / (e^{M_1} + e^{M_2})`, never outside 0.27 … 0.73, since M is a probability;
        - ``linear``: :math:`M_n / (M_1 + M_2)`; ``logit``: the softmax of the logits of M;
        - ``literal``: :math:`e^{M_n} / e^{M_1 + M_2}` as printed, which does not sum to 1 (SPECS C7).

        Args: ``a``, ``b`` (N,3,H,W); ``steps`` K. Returns (N,K+1,3,H,W).
        """
        first, second = self.encode(a)[0], self.encode(b)[0]
        both = ((a, first), (b, second))
        sources, masks = [self._look(x, self.source, own) for x, own in both], [self._mask_look(x, own) for x, own in both]
        out = []
        for t in _parts(steps):
            code = torch.lerp(first, second, t)
            weight = blend_weights(torch.stack([self._mask(code, seen) for seen in masks]), blend)
            made = [self._made(source, code, seen)[0] for source, seen in zip((a, b), sources, strict=True)]
            out.append(weight[0] * made[0] + weight[1] * made[1])
        return torch.stack(out, dim=1)

    @torch.no_grad()
    def upsample(self, photograph: Tensor, displacement: Tensor) -> Tensor:
        """The large picture (N,3,H',W') moved by the flow (N,2,H,W) that was found on a small copy of it (4.3): (N,3,H',W')."""
        if photograph.ndim != 4:
            raise ShapeError(f"photograph must be (N, 3, H, W), got {tuple(photograph.shape)}")
        return warp(photograph, upsample_flow(displacement, tuple(photograph.shape[-2:])))

    def _checked(self, picture: Tensor) -> Tensor:
        side = self.config.size
        if picture.ndim != 4 or tuple(picture.shape[1:]) != (3, side, side):
            raise ShapeError(f"this model takes (N, 3, {side}, {side}), got {tuple(picture.shape)}")
        return picture


class Confidence(nn.Module):
    r"""The mask network's training (3.2): f and g are given and stay as they are.

    Its label is the error of g, :math:`y = \exp(-\lVert T - g \rVert^2 / \beta)` (Eq. 7), its loss the cross entropy, summed over the
    pixels, mean over the batch (Eq. 8). beta, "such that y is in [0, 1]", only sets where y falls: it is the root mean square of the
    errors of the training pairs, :math:`\sqrt{\langle \lVert T - g \rVert^4 \rangle}`. (The median is next to nothing: walls stand still.)
    """

    def __init__(self, model: Model):
        super().__init__()
        if model.config.head == "rgb":
            raise ShapeError('a model with the head "rgb" has no confidence mask')
        self.config, self.mask, self._given = model.config, model.mask, [model]  # in a list: what is given is not trained
        self.register_buffer("beta", torch.ones(()))

    @property
    def given(self) -> Model:
        return self._given[0].to(self.beta.device)

    @torch.no_grad()
    def prepare(self, faces: Any, generator: torch.Generator, count: int = 128) -> None:
        """Before training: beta from some pairs."""
        batch = self.given.draw(faces, count, generator)
        self.beta.copy_(self._error({name: value.to(self.beta.device) for name, value in batch.items()})[0].square().mean().sqrt())

    def players(self) -> dict[str, list[nn.Parameter]]:
        return {"mask": list(self.mask.parameters())}

    def draw(self, faces: Any, n: int, generator: torch.Generator) -> dict[str, Tensor]:
        return self.given.draw(faces, n, generator)

    def _error(self, batch: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        model = self.given
        for part in (model.target, model.source, model.up):
            part.eval()  # the mask, a part of the model too, is in training
        mean, log_var = model._code(batch["target"])
        code = mean + (log_var / 2).exp() * batch["noise"]
        made, _ = model._made(batch["source"], code, model._look(batch["source"], model.source))
        return (batch["target"] - made).square().sum(dim=1, keepdim=True), code  # (N,1,H,W)

    def losses(self, batch: Mapping[str, Tensor], player: str = "mask") -> dict[str, Tensor]:
        with torch.no_grad():
            error, code = self._error(batch)
            label = (-error / self.beta).exp()
        model = self._given[0]
        logits = model._mask(code, model._mask_look(batch["source"]))
        return {"mask": F.binary_cross_entropy_with_logits(logits, label, reduction="sum") / len(label)}


def _parts(steps: int) -> list[float]:
    if steps < 1:
        raise ShapeError(f"steps must be at least 1, got {steps}")
    return [i / steps for i in range(steps + 1)]


def blend_weights(logits: Tensor, blend: str = "softmax") -> Tensor:
    """Two masks' logits (2,N,1,H,W) -> the weights of the two pictures, the same shape; see :meth:`Model.interpolate`."""
    mask = torch.sigmoid(logits)
    if blend == "softmax":
        return mask.softmax(dim=0)
    if blend == "linear":
        return mask / mask.sum(dim=0).clamp(min=1e-6)
    if blend == "logit":
        return logits.softmax(dim=0)
    if blend == "literal":
        return mask.exp() / mask.sum(dim=0).exp()
    raise ShapeError(f"no blend called {blend!r}; there are {', '.join(BLENDS)}")


def pairs(faces: Any) -> Tensor:
    """(P,2) rows of all ordered pairs of two different expressions of one person; PairError when there is none."""
    known = [faces[rows].require("identity", "expression") for rows in torch.arange(len(faces)).split(1000)]
    identity, expression = (torch.cat(values) for values in zip(*known, strict=True))
    order = identity.argsort(stable=True)
    found = []
    for rows in order.split(torch.bincount(identity)[identity.unique()].tolist()):
        one, other = torch.meshgrid(rows, rows, indexing="ij")
        differ = expression[one] != expression[other]
        found.append(torch.stack([one[differ], other[differ]], dim=1))
    found = torch.cat(found) if found else torch.zeros(0, 2, dtype=torch.long)
    if not len(found):
        raise PairError(f"an edit is learnt from two expressions of one person; among these {len(faces)} faces nobody shows two")
    return found


_LMS = torch.tensor([[0.3811, 0.5783, 0.0402], [0.1967, 0.7244, 0.0782], [0.0241, 0.1288, 0.8444]])
_OPPONENT = torch.tensor([[1.0, 1.0, 1.0], [1.0, 1.0, -2.0], [1.0, -1.0, 0.0]]) / torch.tensor([3.0, 6.0, 2.0]).sqrt()[:, None]


def colour_transfer(source: Tensor, target: Tensor) -> Tensor:
    r"""The source's picture with the mean and spread of the target's colours, channel by channel in the space :math:`l\alpha\beta`.

    Args: (N,3,H,W) in [-1, 1] each. Returns (N,3,H,W) in [-1, 1].
    Source: Reinhard, Ashikhmin, Gooch and Shirley 2001, "Color transfer between images"; FVAE 5.2 [25].
    """
    to, back = _OPPONENT.to(source), torch.linalg.inv(_LMS.double()).to(source)
    both = [(to @ (_LMS.to(source) @ ((x.flatten(2) + 1) / 2)).clamp(min=1 / 255).log()) for x in (source, target)]  # (N,3,HW)
    mean, spread = ([x.mean(dim=2, keepdim=True) for x in both], [x.std(dim=2, keepdim=True).clamp(min=1e-3) for x in both])
    moved = (both[0] - mean[0]) * (spread[1] / spread[0]) + mean[1]
    colours = back @ (torch.linalg.inv(to) @ moved).exp()
    return (colours * 2 - 1).clamp(-1, 1).view_as(source)
