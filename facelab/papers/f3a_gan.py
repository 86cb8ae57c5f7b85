r"""F3A-GAN: a photograph follows the flow of its 3D face.

X. Wu, Q. Zhang, Y. Wu, H. Wang, S. Li, L. Sun and X. Li. *F³A-GAN: Facial Flow for Face Animation with Generative Adversarial Networks.*
IEEE Transactions on Image Processing 30, 8658-8670, 2021 (arXiv 2205.06204). Derived in notebooks 10 and 11.

The first half, picture to 3D face, is :mod:`facelab.blocks.regressor`; faces to facial flow, :mod:`facelab.geometry`. Here is the second:
source picture and flow to picture.

Departures: the printed fusion (Eq. 4) multiplies features of the source where the source shows them with features of the flow where the
target will be; ``align`` first carries the source's features along the flow. The printed fusion also normalises the source's features,
which takes the photograph's colours away; ours does so only where ``normalise`` asks for it. What has been decoded is brought to unit
length at every pixel before it is multiplied, as in the generator whose growth the paper follows (Karras et al. 2018): six products in a
row otherwise run away. The features of Eq. 12 are compared at unit length too: nothing else holds their size, and it drifts. What is
wanting at the deepest level is a convolution of the encoder's deepest features; the scale that the flow predicts begins at 1, without
which products start the decoder at nothing (SPECS E5, E6). While a level fades in, the picture of the level below is painted by its own
last convolution and enlarged, as in Karras et al.; the formula printed after Eq. 4 uses one convolution for features of two widths. The
flow's stream has half the channels. The critic learns once for each step of the generator. Widths, sides, weights and schedules stand in
a supplement that we do not have, and are ours.
"""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from facelab.adversarial import gradient_penalty, wasserstein_critic, wasserstein_generator
from facelab.blocks.layers import SLOPE, convolution
from facelab.blocks.regressor import Regressor, regressor
from facelab.core import FacelabError, ShapeError
from facelab.faces.batch import FaceBatch
from facelab.geometry.flow import facial_flow, warp
from facelab.geometry.morphable import MorphableModel
from facelab.geometry.pose import Parameters, landmarks_of, place
from facelab.geometry.raster import rasterize

CONDITIONS = ("flow", "landmarks", "activations")
VARIANTS = ("full", "one_stream", "single_layer")
KEPT = ("identity", "expression", "pose", "camera")  # the parts of Parameters
REACH = 0.1
"""Flows enter the networks in tenths of the side."""


class ClipError(FacelabError):
    """Faces of which no pairs of frames can be made, or states that do not go with a picture."""


@dataclass(frozen=True)
class Config:
    """None of these is printed but the size and the names of terms, variants and conditions."""

    size: int = 128  # side of a picture, px; IV-A
    width: int = 6  # channels where the side is 128, doubled at every halving, 16 times as many at most
    deepest: int = 4  # side of the deepest level
    condition: str = "flow"  # IV-E: or a heat map of the target's "landmarks", or its expression's "activations" and Euler angles
    mask: bool = False  # a fourth channel of the flow says where it is drawn: no movement is not no face (SPECS E12)
    variant: str = "full"  # IV-E: or "one_stream" (T_os), "single_layer" (T_sl)
    align: bool = True  # the source's features are carried along the flow before they are fused; False, as printed
    normalise: bool = False  # and normalised over the picture; True, as printed; "one_stream" always normalises
    grow: int = 800  # steps for which each side stays the largest, half of them fading in; 0: never grown (T_np)
    start: int = 16  # the first of those sides
    pixel_weight: float = 500.0  # lambda_4, of a mean over n numbers: its gradient's norm is lambda_4 / sqrt(n), the critic's about 1
    perceptual_weight: float = 20.0  # lambda_5, of a mean over features of unit length, summed over the levels
    penalty: float = 10.0  # of the critic's slope
    features_weight: float = 3.0  # w of Eq. 10 on eyes, nose and mouth; 1 elsewhere
    still: float = 0.1  # share of pairs that are one frame twice: the image stream reconstructs (III-B1)
    shapes: str = "exact"  # of the frames it learns from: what the renderer knows, or "regressed"; photographs have no others

    @property
    def sides(self) -> list[int]:
        """Of every level, from the picture's to the deepest."""
        count = (self.size // self.deepest).bit_length()
        sides = [self.size >> level for level in range(count)]
        if self.size != self.deepest * 2 ** (count - 1) or self.start not in sides:
            raise ShapeError(
                f"size must be {self.deepest} times a power of two, and start be the size or a half, a quarter, … of it; "
                f"got {self.size} and {self.start}"
            )
        return sides

    @property
    def channels(self) -> list[int]:
        return [round(self.width * min(128 / side, 16)) for side in self.sides]

    def stage(self, step: int) -> tuple[int, float]:
        """Step of the training -> the level whose side is the largest by then, and alpha, how far it has faded in."""
        last = (self.size // self.start).bit_length() - 1
        if not self.grow or not last:
            return 0, 1.0
        grown = min(step // self.grow, last)
        return last - grown, min(1.0, (step - grown * self.grow) / max(1, self.grow // 2)) if grown else 1.0


# ---------------------------------------------------------------------------------------------------------------------------- networks


def deconvolution(before: int, after: int) -> nn.Sequential:
    """To twice the side by a transposed convolution, which begins as bilinear upsampling of mixed channels; then a convolution.

    Begun at random, its even and odd pixels see weights that have nothing to do with each other: a grid, which training is slow to remove.
    """
    enlarge = convolution(before, after, up="transposed")
    across = torch.tensor([0.25, 0.75, 0.75, 0.25])
    mix = torch.empty(after, before)
    nn.init.kaiming_normal_(mix, a=SLOPE)
    with torch.no_grad():
        enlarge[0].weight.copy_(mix.T[:, :, None, None] * across[:, None] * across)
    return nn.Sequential(enlarge, convolution(after, after, 3))


def unit(features: Tensor) -> Tensor:
    r"""Every pixel's channels over their root mean square, :math:`h / \sqrt{\overline{h^2} + 10^{-8}}`: (N,C,h,w) -> the same.

    Source: pixel normalisation, Karras et al. 2018, in the generator that they grow.
    """
    return features * (features.square().mean(dim=1, keepdim=True) + 1e-8).rsqrt()


class Ladder(nn.Module):
    """A picture's features at every level from the current one down: T_enc, T_flow, and the body of the critic.

    A level that has just been added is faded in: what comes from it to the level below, and what that level would have made of a
    smaller picture, are mixed, alpha to 1 - alpha.
    """

    def __init__(self, before: int, channels: Sequence[int]):
        super().__init__()
        self.first = nn.ModuleList(convolution(before, c, 3) for c in channels)
        self.down = nn.ModuleList(
            nn.Sequential(convolution(a, b, 4, stride=2), convolution(b, b, 3)) for a, b in zip(channels, channels[1:], strict=False)
        )

    def forward(self, picture: Tensor, level: int, alpha: float) -> list[Tensor]:
        """(N,C,s,s), its side that of ``level`` -> [(N,C_l,s,s), (N,C_{l+1},s/2,s/2), …, the deepest]."""
        found = [self.first[level](picture)]
        for number in range(level, len(self.down)):
            below = self.down[number](found[-1])
            if number == level and alpha < 1:
                below = torch.lerp(self.first[level + 1](F.avg_pool2d(picture, 2)), below, alpha)
            found.append(below)
        return found


class Fusion(nn.Module):
    r"""Eq. 4 at one level: :math:`h_{out} = h_{dec} \cdot (\gamma(h_{flow})\, \frac{h_{enc} - \mu}{\sigma} + \beta(h_{flow}))`,
    with the mean and deviation of every channel over the picture, or 0 and 1; gamma and beta are maps. Both start at 1."""

    def __init__(self, channels: int, driver: int, normalise: bool):
        super().__init__()
        self.normalise = normalise
        self.scale, self.shift = (nn.Conv2d(driver, channels, 3, padding=1) for _ in range(2))
        for layer in (self.scale, self.shift):
            nn.init.normal_(layer.weight, std=0.02)
            nn.init.ones_(layer.bias)

    def forward(self, decoded: Tensor, encoded: Tensor, driver: Tensor) -> Tensor:
        if self.normalise:
            encoded = F.instance_norm(encoded)
        return decoded * (self.scale(driver) * encoded + self.shift(driver))


class Generator(nn.Module):
    """T: source pictures, or one, and conditions, both with the side of a level -> pictures. T_enc, T_flow and T_dec."""

    def __init__(self, config: Config, condition: int):
        super().__init__()
        self.config = config
        channels = config.channels
        drivers = [max(4, c // 2) for c in channels]
        alone = config.variant == "one_stream"
        self.encoder = Ladder(3 + condition if alone else 3, channels)
        self.driver = None if alone else Ladder(condition, drivers)
        self.bottom = nn.Sequential(convolution(channels[-1], channels[-1], 3), convolution(channels[-1], channels[-1], 3))
        fused = {"full": range(len(channels)), "single_layer": [len(channels) - 1], "one_stream": []}[config.variant]
        self.fuse = nn.ModuleDict({str(level): Fusion(channels[level], drivers[level], config.normalise) for level in fused})
        self.norm = nn.ModuleList(nn.InstanceNorm2d(c, affine=True) for c in channels) if alone else None
        rising = list(zip(channels[1:], channels, strict=False))
        self.up = nn.ModuleList(deconvolution(a, b) for a, b in rising)
        self.paint = nn.ModuleList(nn.Conv2d(c, 3, 3, padding=1) for c in channels)

    def forward(self, source: Tensor, condition: Tensor, level: int = 0, alpha: float = 1.0) -> Tensor:
        count = len(condition)  # of one source, several: then it is encoded once
        seen = source if self.driver else torch.cat([source.expand(count, -1, -1, -1), condition], dim=1)
        features = self.encoder(seen, level, alpha)
        encoded = [None] * level + [x.expand(count, -1, -1, -1) for x in features]
        driver = [None] * level + (self.driver(condition, level, alpha) if self.driver else [])
        x = self.bottom(features[-1]).expand(count, -1, -1, -1)
        before = None
        for number in range(len(self.up), level - 1, -1):
            if number < len(self.up):
                before, x = x, self.up[number](x)
            x = self._fused(number, unit(x), encoded[number], driver, condition)
        made = self.paint[level](x)
        if alpha < 1 and before is not None:  # the level below, upsampled, fades out
            smaller = self.paint[level + 1](before)
            made = torch.lerp(F.interpolate(smaller, scale_factor=2, mode="bilinear", align_corners=False), made, alpha)
        return torch.tanh(made)

    def _fused(self, number: int, x: Tensor, encoded: Tensor, driver: list[Tensor], condition: Tensor) -> Tensor:
        if self.norm is not None:
            return x * (1 + self.norm[number](encoded))
        if str(number) not in self.fuse:
            return x
        if self.config.align:
            side = x.shape[-1]
            moves = F.adaptive_avg_pool2d(condition[:, :2], side) * (REACH * side)  # (N,2,s,s) pixels of this level
            encoded = warp(encoded, moves)
        return self.fuse[str(number)](x, encoded, driver[number])


class Critic(nn.Module):
    """D, a PatchGAN: one answer for each overlapping patch, (N,3,s,s) -> (N,1,s/8,s/8), or for 4 x 4 of them where s is smaller."""

    def __init__(self, channels: Sequence[int]):
        super().__init__()
        self.body = Ladder(3, channels)
        self.answer = nn.ModuleList(nn.Conv2d(c, 1, 3, padding=1) for c in channels)

    def forward(self, picture: Tensor, level: int = 0, alpha: float = 1.0) -> Tensor:
        maps = self.body(picture, level, alpha)
        number = min(3, len(maps) - 1)
        answer = self.answer[level + number](maps[number])
        if alpha < 1 and number < len(maps) - 1:  # the level below answered from one level deeper, and fades out
            before = self.answer[level + number + 1](maps[number + 1])
            answer = torch.lerp(F.interpolate(before, scale_factor=2, mode="nearest"), answer, alpha)
        return answer


class Frames(NamedTuple):
    """Training frames, ready to be paired."""

    faces: Any
    state: Parameters  # of every frame
    order: Tensor  # rows that have a partner, those of one clip side by side
    begin: Tensor  # of each of them, where its clip begins in that order
    count: Tensor  # and how many frames it has


class Model(nn.Module):
    """Generator and critic, how they grow, and what drives them."""

    Config = Config

    def __init__(self, config: Config | None = None):
        super().__init__()
        self.config = config = config or Config()
        for name, value, known in (("condition", config.condition, CONDITIONS), ("variant", config.variant, VARIANTS),
                                   ("shapes", config.shapes, ("exact", "regressed"))):  # fmt: skip
            if value not in known:
                raise ShapeError(f"no {name} called {value!r}; there are {', '.join(known)}")
        if config.align and (config.condition != "flow" or config.variant == "one_stream"):
            raise ShapeError("only a flow, in a stream of its own, says where features go: give align=False")
        self.morphable = MorphableModel.default()
        self._marks = landmarks_of(self.morphable)
        wide = {"flow": 3 + config.mask, "landmarks": 1, "activations": len(self.morphable.expression_basis) + 3}[config.condition]
        self.generator, self.critic = Generator(config, wide), Critic(config.channels)
        self.register_buffer("step", torch.zeros((), dtype=torch.long))  # steps of training so far: what has grown by now
        self._finder: list[Regressor] = []  # in a list: not a part of this model
        self._frames: Frames | None = None

    @property
    def stage(self) -> tuple[int, float]:
        """The level of the largest side grown so far, and alpha."""
        return self.config.stage(int(self.step))

    # ---------------------------------------------------------------------------------------------------------------- what drives it

    def condition(self, source: Parameters, target: Parameters) -> Tensor:
        """What the generator is told of N states, on the CPU: (N,C,H,W).

        ``flow``: facial flow from the source's to the target's shape, drawn at the target, in tenths of the side. ``landmarks``: the
        target's, as one heat map. ``activations``: the target's expression coefficients and Euler angles, the same at every place.
        """
        size = self.config.size
        source, target = (Parameters(*(part.cpu() for part in state)) for state in (source, target))
        if self.config.condition == "flow":
            shapes = [place(self.morphable, state, size) for state in (source, target)]
            flow = facial_flow(*shapes, self.morphable.triangles, size) / (REACH * size)
            if not self.config.mask:
                return flow
            covered = rasterize(shapes[1], self.morphable.triangles, shapes[1][..., :1], size)[2]
            return torch.cat([flow, covered[:, None].to(flow)], dim=1)
        if self.config.condition == "landmarks":
            return heat_map(self._landmarks(target), size)
        values = torch.cat([target.expression_coefficients, target.pose], dim=1)
        return values[:, :, None, None].expand(-1, -1, size, size).clone()

    def _landmarks(self, state: Parameters) -> Tensor:
        return place(self._marks, state, self.config.size)[..., :2]

    def use_regressor(self, network: Regressor) -> None:
        """Lets :meth:`fit_shape` ask another network than the shipped one, such as one refined on photographs."""
        self._finder[:] = [network.eval()]

    @torch.no_grad()
    def fit_shape(self, image: Tensor) -> Parameters:
        """Pictures (N,3,H,W) in [-1, 1] of any size -> their 3D faces, on the CPU, as the regressor of stage one sees them."""
        if not self._finder:
            self.use_regressor(regressor())
        network = self._finder[0].to(image.device)
        found = [network(some) for some in image.split(256)]
        return Parameters(*(part.cpu() for part in Parameters.cat(found)))

    # --------------------------------------------------------------------------------------------------------------------- training

    def prepare(self, faces: Any) -> None:
        """Before training: which frames are of one person in one clip, and every frame's 3D face, exact or regressed.

        A clip's regressed shapes share the mean of their identity coefficients: between two frames only motion may differ.
        ClipError: nobody has two frames. MissingTruthError: it is not known who is who.
        """
        labels, states, exact = [], [], self.config.shapes == "exact"
        for rows in torch.arange(len(faces)).split(500):
            some = faces[rows]
            (who,) = some.require("identity")
            labels.append(torch.stack([who, who if some.clip is None else some.clip], dim=1))
            exact = exact and some.camera is not None  # photographs have no exact ones
            states.append(Parameters.of(some) if exact else self.fit_shape(some.image))
        state = Parameters(*(part.float() for part in Parameters.cat(states)))
        _, group, count = torch.cat(labels).unique(dim=0, return_inverse=True, return_counts=True)
        if not exact:
            sums = torch.zeros(len(count), state.identity_coefficients.shape[1]).index_add_(0, group, state.identity_coefficients)
            state = state._replace(identity_coefficients=(sums / count[:, None])[group])
        order = (count[group] > 1).nonzero()[:, 0]
        order = order[group[order].argsort(stable=True)]  # rows, those of one clip side by side
        if not len(order):
            raise ClipError(f"reenactment is learnt from two frames of one person; among these {len(faces)} faces nobody has two")
        several = count.where(count > 1, 0)
        begin = (several.cumsum(0) - several)[group[order]]
        self._frames = Frames(faces, state, order, begin, count[group[order]])

    def players(self) -> dict[str, list[nn.Parameter]]:
        """The critic first: it answers to what the generator makes before it has learnt from the answer."""
        return {"critic": list(self.critic.parameters()), "generator": list(self.generator.parameters())}

    def draw(self, faces: Any, n: int, generator: torch.Generator) -> dict[str, Tensor]:
        """Pairs of frames (I_s, I_t) of one person, the condition between them, the weights of Eq. 10; and the critic's mixing numbers."""
        if self._frames is None or self._frames.faces is not faces:
            self.prepare(faces)
        frames = self._frames
        first = torch.randint(len(frames.order), (n,), generator=generator)
        begin, count = frames.begin[first], frames.count[first]
        step = 1 + (torch.rand(n, generator=generator) * (count - 1)).long().clamp(max=count - 2)
        step = step.where(torch.rand(n, generator=generator) >= self.config.still, 0)
        sources, targets = frames.order[first], frames.order[begin + (first - begin + step) % count]
        states = [frames.state.rows(rows) for rows in (sources, targets)]
        return {
            "source": faces[sources].image, "target": faces[targets].image, "condition": self.condition(*states),
            "weight": feature_weights(self._landmarks(states[1]), self.config.size, self.config.features_weight),
            "mix": torch.rand(n, 1, 1, 1, generator=generator),
        }  # fmt: skip

    def losses(self, batch: Mapping[str, Tensor], player: str = "generator") -> dict[str, Tensor]:
        r"""Eq. 13 for the generator, its adversary's objective for the critic; pictures at the side that has grown so far:

        .. math:: L_{tot} = \underbrace{\overline{D(\hat I_t)} - \overline{D(T)}}_{\text{adversarial}}
            + \lambda_4\, \underbrace{\overline{w\,|T - \hat I_t|}}_{\text{pixels}}
            + \lambda_5 \sum_l \underbrace{\overline{|u(T_{enc}^l(T)) - u(T_{enc}^l(\hat I_t))|}}_{\text{perceptual}}

        with u of :func:`unit`. Gradients of the perceptual term go through T_enc to the made picture, never to T_enc itself,
        which could make its features alike (SPECS E9), nor along the true picture. The critic's is :func:`wasserstein_critic` and
        ten times :func:`gradient_penalty`.
        """
        config, (level, alpha) = self.config, self.stage
        side = config.sides[level]
        source, target, condition, weight = (
            F.adaptive_avg_pool2d(batch[name], side) for name in ("source", "target", "condition", "weight")
        )
        answer = lambda picture: self.critic(picture, level, alpha)  # noqa: E731
        if player == "critic":
            with torch.no_grad():
                made = self.generator(source, condition, level, alpha)
            return {
                "adversarial": wasserstein_critic(answer(target), answer(made)),
                "penalty": config.penalty * gradient_penalty(answer, target, made, batch["mix"]),
            }
        made = self.generator(source, condition, level, alpha)
        frozen = {name: value.detach() for name, value in self.generator.encoder.named_parameters()}
        told = (condition,) if config.variant == "one_stream" else ()
        features = lambda picture: functional_call(  # noqa: E731
            self.generator.encoder, frozen, (torch.cat([picture, *told], dim=1), level, alpha)
        )
        with torch.no_grad():
            wanted, judged = features(target), answer(target)
        if self.training:
            self.step += 1  # both players have seen this step's side; a resumed run goes on where it was
        return {
            "adversarial": wasserstein_generator(judged, answer(made)),
            "pixels": config.pixel_weight * (weight * (made - target).abs()).mean(),
            "perceptual": config.perceptual_weight * sum(
                (unit(a.float()) - unit(b.float())).abs().mean() for a, b in zip(features(made), wanted, strict=True)
            ),
        }

    # ------------------------------------------------------------------------------------------------------------------------ verbs

    @torch.no_grad()
    def make(self, source: Tensor, condition: Tensor) -> Tensor:
        """T(I_s, f): source pictures (N,3,H,W), or one for all, and conditions (N,C,H,W) -> (N,3,H,W). Raises ShapeError."""
        if len(source) not in (1, len(condition)):
            raise ShapeError(f"one source for all conditions or one for each, please: got {len(source)} for {len(condition)}")
        level, alpha = self.stage
        source, condition = (F.adaptive_avg_pool2d(x, self.config.sides[level]) for x in (self._checked(source), condition))
        made = self.generator(source, condition.to(source), level, alpha)
        return made if level == 0 else F.interpolate(made, size=self.config.size, mode="bilinear", align_corners=False)

    def animate(self, source: Tensor, shapes: Parameters, shape: Parameters | None = None, batch: int = 32) -> Tensor:
        r"""Continuous generation: every state is made from the one picture, never from the frame before (III-A2), so errors do not add up.

        Args: ``source`` (1,3,H,W); ``shapes`` K states of its 3D face, such as ``between(a, b, t)`` for several t; ``shape`` the
        source's own, found by :meth:`fit_shape` if not given. Returns (K,3,H,W). Raises ClipError, ShapeError.
        """
        own = self._own_shape(source, shape)
        made = []
        for rows in torch.arange(len(shapes.pose)).split(batch):
            told = self.condition(own.rows(torch.zeros_like(rows)), shapes.rows(rows))
            made.append(self.make(source, told))
        return torch.cat(made)

    def reenact(
        self, source: Tensor | FaceBatch, driver: Tensor | FaceBatch | Parameters, keep: Sequence[str] = ("identity", "camera"),
        shape: Parameters | None = None,
    ) -> Tensor:  # fmt: skip
        """The person of ``source`` does what K pictures of a driver, anybody, show: (1,3,H,W) and (K,3,H,W) -> (K,3,H,W).

        Shapes are found by :meth:`fit_shape`, unless they are given; made faces (a FaceBatch) bring their exact ones. An exact shape and a
        regressed one do not go well together: the regressor's error is then taken for a movement.

        Args:
            keep: what stays the source's, some of KEPT. ``("identity", "expression", "camera")`` follows the pose only, ``("identity",
                "pose", "camera")`` the expression only; for frames of the source's own clip, ``("identity",)``.
            driver: pictures, or shapes. shape: the source's.

        Raises: ClipError, ShapeError. Source: IV-D: alpha_id is kept, alpha_exp and r are substituted selectively.
        """
        keep = check_keep(keep)
        own = self._own_shape(source, shape)
        shapes = driver if isinstance(driver, Parameters) else self._shapes(driver)
        source = source.image if isinstance(source, FaceBatch) else source
        shapes = Parameters(*(
            mine.expand_as(theirs) if name in keep else theirs for name, mine, theirs in zip(KEPT, own, shapes, strict=True)
        ))  # fmt: skip
        return self.animate(source, shapes, own)

    def _own_shape(self, source: Tensor | FaceBatch, shape: Parameters | None) -> Parameters:
        """Of the one picture that is animated."""
        if len(source) != 1:
            raise ClipError(f"one picture is animated at a time, got {len(source)}")
        own = self._shapes(source) if shape is None else shape
        if len(own.pose) != 1:
            raise ClipError(f"one picture has one shape, got {len(own.pose)}")
        return own

    def _shapes(self, faces: Tensor | FaceBatch) -> Parameters:
        if not isinstance(faces, FaceBatch):
            return self.fit_shape(faces)
        return Parameters.of(faces) if faces.camera is not None else self.fit_shape(faces.image)

    def _checked(self, picture: Tensor) -> Tensor:
        side = self.config.size
        if picture.ndim != 4 or tuple(picture.shape[1:]) != (3, side, side):
            raise ShapeError(f"this model takes (N, 3, {side}, {side}), got {tuple(picture.shape)}")
        return picture


def check_keep(keep: Sequence[str]) -> tuple[str, ...]:
    """Parts that reenactment may keep, some of KEPT; ClipError for others."""
    keep = (keep,) if isinstance(keep, str) else tuple(keep)
    if unknown := sorted(set(keep) - set(KEPT)):
        raise ClipError(f"keep names {', '.join(unknown)}; there are {', '.join(KEPT)}")
    return keep


def heat_map(landmarks: Tensor, size: int) -> Tensor:
    """(N,68,2) pixels -> (N,1,size,size): 1 at a landmark, a Gaussian of a sixty-fourth of the side about it; of several, the highest."""
    place = torch.arange(size, dtype=landmarks.dtype, device=landmarks.device)
    across, down = ((-((place - landmarks[..., axis, None]) / (size / 64)).square() / 2).exp() for axis in (0, 1))  # (N,68,size)
    return (down[..., :, None] * across[..., None, :]).amax(dim=1, keepdim=True)


def feature_weights(landmarks: Tensor, size: int, weight: float) -> Tensor:
    """w of Eq. 10, (N,1,size,size): ``weight`` in boxes about each eye with its brow, the nose and the mouth, a twentieth of the side
    wider than their landmarks; 1 elsewhere."""
    place = torch.arange(size, dtype=landmarks.dtype, device=landmarks.device)
    inside = torch.zeros(len(landmarks), size, size, dtype=torch.bool, device=landmarks.device)
    for rows in ((*range(17, 22), *range(36, 42)), (*range(22, 27), *range(42, 48)), range(27, 36), range(48, 68)):
        part = landmarks[:, list(rows)]
        low, high = part.amin(dim=1) - size / 20, part.amax(dim=1) + size / 20  # (N,2)
        held = (place >= low[..., None]) & (place <= high[..., None])  # (N,2,size)
        inside |= held[:, 1, :, None] & held[:, 0, None, :]
    return 1 + (weight - 1) * inside[:, None].to(landmarks.dtype)
