r"""FaceFeat-GAN: who a face is stays; everything else is made, first as features, then as a picture.

Y. Shen, B. Zhou, P. Luo and X. Tang. *FaceFeat-GAN: a Two-Stage Approach for Identity-Preserving Face Synthesis.* arXiv 1812.01288, 2018.
Derived in notebooks 08 and 09.

Departures: Eqs. 2 and 4 as printed have no lower bound; ours are the cross-entropies that they are meant to be, unless the configuration
asks for the literal reading (SPECS D1), and both discriminators pay for their slope at real ones (notebook 08). Identity features are
compared at length 1 (Eq. 11, D3); invented and rebuilt pictures together count as much to D^I as real ones. The printed weights make terms
"numerically comparable": ours let them pull equally hard, and follow the training (D4). Half of the pictures from which G^I learns to keep
an identity have others' real features, not invented ones, f_1 and f_2 of two people; and a picture is rebuilt from the f_id and f_2 of its
sibling, another of the same sitting, where there is one: nothing in the paper keeps them from telling the pose, as f_1 should. f_1 has
our 3DMM's 19 expression coefficients and, since siblings share none of them, all three angles: 22 numbers (30 in the paper), standardised
over the training faces, and on their way into G^I as long as the other features; f_2 is moved aside of the origin before it is brought to
its length (Aside). E_2 and G^I begin with Eq. 8 alone, and when all is trained the first stage goes on alone. Without phi_rec (Table 4)
E_2 still learns by its own Eq. 8.
"""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from facelab.adversarial import energy, r1_penalty, rejection
from facelab.blocks.layers import Stage
from facelab.blocks.regressor import Regressor, regressor
from facelab.blocks.weights import load_weights, shipped
from facelab.core import Reading, ShapeError
from facelab.faces.careless import developed
from facelab.geometry.pose import Parameters

TERMS = ("identity", "features", "image", "reconstruction")
"""The four energies, phi_id, phi^f, phi^I and phi_rec, any of which an ablation may leave out (Table 4)."""
PLAYERS = ("feature_discriminators", "image_discriminator", "feature_generators", "image_generator", "encoders")
IMAGE_TERMS = ("reconstruction", "image", "identity_rebuilt", "identity_invented")
"""Of Eq. 3; the first that is not left out has the weight 1."""
COEFFICIENTS = 19  # of expression, in the morphable model
LEARNT, USED = 64.0, 16.0
"""Lengths of f_id and f_2: while E_id learns, and on their way into G^I, where each of 256 numbers then has variance 1; section 4."""


@dataclass(frozen=True)
class Config:
    """Printed values are marked with their section; the rest is ours."""

    size: int = 64  # side of a picture, px; printed: 128 (4)
    width: int = 24  # channels of G^I at every level, n of BEGAN; not printed
    encoder_width: int = 12  # n of E_2 and D^I, whose levels have n, 2n, 3n, … channels; not printed
    identity: int = 256  # numbers in f_id; 4
    general: tuple[int, ...] = (256,)  # numbers in each learnt feature f_2, f_3, …; one in the paper, "but the framework is flexible"
    noise: int = 64  # numbers in each z, uniform in [-1, 1]; 4
    generator: tuple[int, ...] = (128, 256, 256)  # hidden neurons of G^f; 4
    discriminator: tuple[int, ...] = (256, 256, 128)  # and of D^f; 4
    without: tuple[str, ...] = ()  # terms left out, of TERMS
    penalties: tuple[float, float, float] = (0.5, 20.0, 0.1)  # of the slopes of D_1^f, of other D_i^f, of D^I (R1); printed: none
    reading: str = "fixed"  # or "literal": of Eqs. 2 and 4, logits clamped to ± 10
    weigh_every: int = 10  # steps between two weighings of the terms against each other; about ten of them count

    @property
    def levels(self) -> int:
        """From the picture's side down to 8 x 8."""
        count = (self.size // 8).bit_length()
        if self.size != 8 * 2 ** (count - 1) or count < 2:
            raise ShapeError(f"size must be 16, 32, 64, …, got {self.size}")
        return count


@dataclass(frozen=True)
class RecogniserConfig:
    """Printed: ResNet-50 to 256 numbers; ours has eight residual convolutions and four that halve."""

    size: int = 64
    width: int = 20  # channels at half the side; 2, 4 and 6 times as many below
    identity: int = 256  # 4
    people: int = 0  # who are told apart in training; 0: no classifier, as it is shipped


class Features(NamedTuple):
    """What a picture is taken apart into: (N,256) who it is; [(N,22) expression and pose, (N,256) everything else, …]."""

    identity: Tensor
    varied: list[Tensor]

    def joined(self) -> Tensor:
        """(N,534): G^I's input, in which f_1 is as long as the others, 16 on average: its 22 numbers would be lost among 512."""
        first, *others = self.varied
        return torch.cat([self.identity, USED / first.shape[1] ** 0.5 * first, *others], dim=1)


# ---------------------------------------------------------------------------------------------------------------------------- networks


class Recogniser(nn.Module):
    r"""E_id: pictures (N,3,H,H) -> identity features (N,256) of length 64, by telling people apart (Eq. 5):

    .. math:: L_{E_{id}} = -\overline{\log \sigma(W^T f_{id})_{j}}, \quad \lVert f_{id} \rVert = 64
    """

    Config = RecogniserConfig

    def __init__(self, config: RecogniserConfig | None = None):
        super().__init__()
        self.config = config = config or RecogniserConfig()
        widths = [config.width * k for k in (1, 2, 4, 6)]
        self.body = nn.Sequential(*(Stage(a, b) for a, b in zip([3, *widths], widths, strict=False)))
        self.out = nn.Sequential(nn.Linear(widths[-1], config.identity, bias=False), nn.BatchNorm1d(config.identity))
        self.people = self._unnamed(config.people) if config.people else None

    def forward(self, image: Tensor) -> Tensor:
        if image.shape[-1] != self.config.size:
            image = F.interpolate(image, size=self.config.size, mode="bilinear", align_corners=False, antialias=True)
        return LEARNT * F.normalize(self.out(self.body(image).mean(dim=(2, 3))), dim=1)

    def _unnamed(self, people: int) -> nn.Parameter:
        """W of Eq. 5, (people,256), before it is trained: logits with a variance of 1."""
        return nn.Parameter(torch.randn(people, self.config.identity) / LEARNT)

    def prepare(self, faces: Any) -> None:
        """Before training: (N,) who each face is, as numbers from 0."""
        who = torch.cat([faces[rows].require("identity")[0] for rows in torch.arange(len(faces)).split(1000)])
        self._who = who.unique(return_inverse=True)[1]
        self.people = self._unnamed(int(self._who.max()) + 1)
        self.config = replace(self.config, people=len(self.people))

    def graduate(self) -> None:
        """After training: whom it learnt from is nobody's business; the classifier is let go."""
        self.people, self.config = None, replace(self.config, people=0)

    def players(self) -> dict[str, list[nn.Parameter]]:
        return {"recogniser": list(self.parameters())}

    def draw(self, faces: Any, n: int, generator: torch.Generator) -> dict[str, Tensor]:
        """Pictures as a careless photographer would develop them, half of them mirrored, and who they show."""
        rows, rand = torch.randint(len(faces), (n,), generator=generator), partial(torch.rand, generator=generator)
        image = developed(faces[rows].image, rand)
        return {"image": torch.where(rand(n, 1, 1, 1) < 0.5, image.flip(-1), image), "who": self._who[rows]}

    def losses(self, batch: Mapping[str, Tensor], player: str = "recogniser") -> dict[str, Tensor]:
        """Eq. 5."""
        return {"classification": F.cross_entropy((self(batch["image"]) @ self.people.T).float(), batch["who"])}


def _perceptron(before: int, hidden: Sequence[int], after: int) -> nn.Sequential:
    widths = [before, *hidden]
    layers = [layer for a, b in zip(widths, widths[1:], strict=False) for layer in (nn.Linear(a, b), nn.LeakyReLU(0.2))]
    return nn.Sequential(*layers, nn.Linear(widths[-1], after))


def _lively(network: nn.Module) -> None:
    """He's variances: with the default ones hardly anything comes out at first, and a game begins on a point."""
    for layer in network.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, a=0.2)
            nn.init.zeros_(layer.bias)


def _pair(before: int, after: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(before, after, 3, padding=1), nn.ELU(), nn.Conv2d(after, after, 3, stride=stride, padding=1), nn.ELU()
    )


class Beside(nn.Module):
    """x -> (x + f(x)) / √2: as BEGAN's vanishing residuals, but that they stay."""

    def __init__(self, f: nn.Module):
        super().__init__()
        self.f = f

    def forward(self, x: Tensor) -> Tensor:
        return (x + self.f(x)) / 2**0.5


class Encoder(nn.Module):
    """E_2 and D^I, BEGAN's encoder: at every level two convolutions, the first to n more channels, the second to half the side;
    (N,3,H,H) -> (N,D)."""

    def __init__(self, width: int, levels: int, after: int):
        super().__init__()
        channels = [width, *(width * (level + 1) for level in range(levels))]
        body = [_pair(a, b, 2) for a, b in zip(channels, channels[1:-1], strict=False)]
        self.body = nn.Sequential(nn.Conv2d(3, width, 3, padding=1), nn.ELU(), *body, _pair(channels[-2], channels[-1]))
        self.out = nn.Linear(channels[-1] * 64, after)

    def forward(self, image: Tensor) -> Tensor:
        return self.out(self.body(image).flatten(1))


class Aside(nn.BatchNorm1d):
    """x -> (x - mean) / sd + 0.8: features that still say *how much* when they are brought to one length.

    A direction around the origin cannot say it; the farther from there, the better, and the less varied: their variance is then about
    1 / (1 + 0.8²). The statistics are running ones in training, too: those of 16 pictures would be a noise on all of them.
    """

    def __init__(self, features: int):
        super().__init__(features, momentum=0.05, affine=False)

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            with torch.no_grad():
                super().forward(x)
        return F.batch_norm(x, self.running_mean, self.running_var) + 0.8


class Decoder(nn.Module):
    """G^I, BEGAN's decoder: 8 x 8 maps of n channels, at every level two convolutions beside them, nearest upsampling;
    (N,D) -> (N,3,H,H)."""

    def __init__(self, before: int, width: int, levels: int):
        super().__init__()
        self.expand = nn.Linear(before, width * 64)
        body = [layer for _ in range(levels) for layer in (Beside(_pair(width, width)), nn.Upsample(scale_factor=2, mode="nearest"))]
        self.body = nn.Sequential(*body[:-1], nn.Conv2d(width, 3, 3, padding=1))
        self.width = width

    def forward(self, features: Tensor) -> Tensor:
        return torch.tanh(self.body(self.expand(features).unflatten(1, (self.width, 8, 8))))


class Balance(nn.Module):
    r"""The weights of a loss's terms: such that all pull equally hard at what the player makes, the first one with the weight 1,

    .. math:: \lambda_k = p_1 / p_k, \qquad p_k = \overline{\lVert \nabla_x t_k \rVert},

    gradients of each picture's (feature's) own share, averaged over a batch and over the last ten weighings or so. Equal *values*, the
    other way to read "numerically comparable", would leave a mean over 12,288 numbers with a pull that nobody feels.
    """

    def __init__(self, names: Sequence[str], every: int):
        super().__init__()
        self.names, self.every = list(names), every
        self.register_buffer("pulls", torch.zeros(len(self.names)))
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))  # of training, so far

    def note(self, terms: Mapping[str, tuple[Tensor, Tensor]]) -> None:
        """In training, every so many steps: name -> (the term, what was made); terms that are left out have the weight 1."""
        if not self.training:
            return
        if self.steps % self.every == 0:
            pulls = torch.zeros_like(self.pulls)
            for name, (term, at) in terms.items():
                (slope,) = torch.autograd.grad(term, at, retain_graph=True)
                pulls[self.names.index(name)] = len(at) * slope.flatten(1).float().norm(dim=1).mean()
            self.pulls.lerp_(pulls, 0.1 if self.steps else 1.0)
        self.steps += 1

    def weights(self) -> dict[str, float]:
        found = {name: pull for name, pull in zip(self.names, self.pulls.tolist(), strict=True) if pull > 0}
        first = next(iter(found.values()), 1.0)
        return {name: first / found.get(name, first) for name in self.names}


class Model(nn.Module):
    """G^f, D^f, G^I, D^I and E_2, each of whom learns from its own loss; E_id and E_1 are given, and stay as they are."""

    Config = Config

    def __init__(self, config: Config | None = None):
        super().__init__()
        self.config = config = config or Config()
        if unknown := sorted(set(config.without) - set(TERMS)):
            raise ShapeError(f"without names {', '.join(unknown)}; the terms are {', '.join(TERMS)}")
        self.reading = Reading(config.reading)
        self.sizes = [COEFFICIENTS + 3, *config.general]  # of f_1, f_2, …
        self.encoders = nn.ModuleList(
            nn.Sequential(Encoder(config.encoder_width, config.levels, wide), Aside(wide)) for wide in config.general
        )  # fmt: skip
        self.feature_generators = nn.ModuleList(_perceptron(config.noise, config.generator, wide) for wide in self.sizes)
        self.feature_discriminators = nn.ModuleList(_perceptron(wide, config.discriminator, 1) for wide in self.sizes)
        self.image_generator = Decoder(config.identity + sum(self.sizes), config.width, config.levels)
        self.image_discriminator = Encoder(config.encoder_width, config.levels, 1)
        for network in (self.encoders, self.feature_generators, self.image_generator, self.image_discriminator):
            _lively(network)
        self.register_buffer("mean", torch.zeros(self.sizes[0]))  # of f_1 over the training faces
        self.register_buffer("scale", torch.ones(self.sizes[0]))
        self.register_buffer("hearsay", torch.eye(COEFFICIENTS + 1)[:, 1:])  # (1, true coefficients) -> what E_1 says, on average
        self.feature_balances = nn.ModuleList(Balance(("features", "image"), config.weigh_every) for _ in self.sizes)  # lambda_i of Eq. 1
        self.image_balance = Balance(IMAGE_TERMS, config.weigh_every)  # the lambdas of Eq. 3
        self.to(memory_format=torch.channels_last)  # faster on a CPU
        self._given: list[Any] = []  # E_id and E_1, in a list: not parts of this model
        self._known: tuple[Any, Tensor, Tensor, Tensor] | None = None  # faces; of each f_id, f_1, and the row of its sibling

    # ------------------------------------------------------------------------------------------------------------- what it is given

    def use_extractors(self, recogniser: Recogniser, finder: Regressor) -> None:
        """Lets it see with other networks than the shipped ones, such as ones refined on photographs."""
        self._given[:] = [network.eval().requires_grad_(False) for network in (recogniser, finder)]

    def _extractors(self, device: torch.device) -> tuple[Recogniser, Regressor]:
        if not self._given:
            self.use_extractors(load_weights(Recogniser, RecogniserConfig, shipped("recogniser")), regressor())
        recogniser, finder = (network.to(device) for network in self._given)
        return recogniser, finder

    def _seen(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """E_id and E_1: pictures -> f_id of length 16, f_1 as it is (not standardised)."""
        recogniser, finder = self._extractors(image.device)
        return recogniser(image) * (USED / LEARNT), pose_and_expression(finder(image))

    def _standard(self, first: Tensor) -> Tensor:
        return (first - self.mean) / self.scale

    # --------------------------------------------------------------------------------------------------------------------- training

    def prepare(self, faces: Any) -> None:
        """Before training: the spread of f_1, and what E_1 says of known 3D faces, where they are known."""
        _, first, _ = self._look_at(faces)
        self.mean.copy_(first.mean(dim=0))
        self.scale.copy_(first.std(dim=0).clamp(min=0.02))  # some coefficients hardly ever move
        truth = [faces[rows].expression_coefficients for rows in torch.arange(len(faces)).split(500)]
        if truth[0] is not None:
            known = F.pad(torch.cat(truth), (1, 0), value=1.0)
            self.hearsay.copy_(torch.linalg.lstsq(known, first[:, :COEFFICIENTS].cpu(), driver="gelsd").solution)

    @torch.no_grad()
    def _look_at(self, faces: Any) -> tuple[Tensor, Tensor, Tensor]:
        """What E_id and E_1, which do not change, see in every picture of a set, and the next picture of its sitting; looked up once."""
        if self._known is None or self._known[0] is not faces:
            seen, sittings = [], []
            for rows in torch.arange(len(faces)).split(500):
                some = faces[rows]
                seen.append(self._seen(some.image))
                sittings.append(rows if some.clip is None else some.clip)
            identity, first = (torch.cat(parts) for parts in zip(*seen, strict=True))
            self._known = faces, identity, first, _siblings(torch.cat(sittings))
        return self._known[1:]

    def players(self) -> dict[str, list[nn.Parameter]]:
        """Who learns from whom is in :meth:`losses`; those who judge come before those who are judged."""
        idle = {"features": "feature_discriminators", "image": "image_discriminator"}
        idle = {player for term, player in idle.items() if term in self.config.without}
        return {name: list(getattr(self, name).parameters()) for name in PLAYERS if name not in idle}

    def draw(self, faces: Any, n: int, generator: torch.Generator) -> dict[str, Tensor]:
        """Pictures with f_1, another of each one's sitting with f_id, and a z for each generator, (N,k,64) uniform in [-1, 1]."""
        identity, first, siblings = self._look_at(faces)
        rows = torch.randint(len(faces), (n,), generator=generator)
        others, first = siblings[rows], self._standard(first[rows].to(self.mean)).to(first)
        return {
            "image": faces[rows].image, "first": first, "sibling": faces[others].image, "identity": identity[others],
            "noise": self.noise(n, generator),
        }  # fmt: skip

    def noise(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """(n,k,64): a z for each feature generator, uniform in [-1, 1]."""
        return 2 * torch.rand(n, len(self.sizes), self.config.noise, generator=generator) - 1

    def losses(self, batch: Mapping[str, Tensor], player: str) -> dict[str, Tensor]:
        r"""Each player's own, with :math:`\varphi = -\overline{\log D}`, x^s the invented picture and x^rec the rebuilt one, of its own
        f_1 and its sibling's f_id and f_2:

        - ``feature_discriminators``, Eq. 2: for every i, :math:`\varphi_i^f(f_i^r)` against :math:`\varphi_i^f(f_i^s)`
        - ``image_discriminator``, Eq. 4: :math:`\varphi^I(x^r)` against :math:`\varphi^I(x^s)` and :math:`\varphi^I(x^{rec})`, half each
        - ``feature_generators``, Eq. 1: for every i, :math:`\varphi_i^f(f_i^s) + \lambda_i^f \varphi^I(x^s)`, through G^I
        - ``image_generator``, Eq. 3: :math:`\lVert x^r - x^{rec} \rVert_1 + \lambda \varphi^I(x^{rec}) + \lambda_1 \varphi_{id}(x^{rec})
          + \lambda_2 \varphi_{id}(x^s)`; half of these x^s have real features, f_1 and f_2 of two others
        - ``encoders``, Eq. 8: :math:`\lVert x^r - x^{rec} \rVert_1`, through G^I

        L1 is a mean over numbers; :math:`\varphi_{id}(x) = \lVert f_{id} / \lVert f_{id} \rVert - E_{id}(x) / \lVert E_{id}(x) \rVert
        \rVert^2` (Eq. 11). "Against" is :func:`~facelab.adversarial.rejection`, in the configuration's reading. What comes to a player
        from others is held still: made features where G^I learns (D6), pictures where a discriminator does. The weights are
        :meth:`weights`; :math:`\lambda_i^f` multiplies the gradient on its way back to f_i^s, so that all i share one picture.
        """
        if player == "feature_generators":
            return self._first_stage(batch["identity"], self._invented(batch["noise"]))
        image, known, without = batch["image"], batch["identity"], self.config.without
        if player == "encoders":
            real = self._real(batch)
            return {"reconstruction": (image - self.image_generator(real.joined())).abs().mean()}
        if player == "feature_discriminators":
            with torch.no_grad():
                real, made = self._real(batch), self._invented(batch["noise"])
            return self._judged(real.varied, made)
        with torch.no_grad():
            real, made = self._real(batch), self._invented(batch["noise"])
        if player == "image_discriminator":
            with torch.no_grad():
                invented, rebuilt = (self.image_generator(Features(known, varied).joined()) for varied in (made, real.varied))
            judge, some = self.image_discriminator, image[: -(-len(image) // 4)]  # the penalty is slow
            return {
                "real": energy(judge(image)), "invented": self._rejection(judge(invented)) / 2,
                "rebuilt": self._rejection(judge(rebuilt)) / 2, "penalty": self.config.penalties[2] * r1_penalty(judge, some),
            }  # fmt: skip
        half = len(image) // 2
        mixed = [torch.cat([f.roll(i, dims=0)[:half], s[half:]]) for i, (f, s) in enumerate(zip(real.varied, made, strict=True), 1)]
        invented, rebuilt = (self.image_generator(Features(known, varied).joined()) for varied in (mixed, real.varied))
        terms = {
            "reconstruction": (lambda: (image - rebuilt).abs().mean(), rebuilt),
            "image": (lambda: energy(self.image_discriminator(rebuilt)), rebuilt),
            "identity_rebuilt": (lambda: self._stranger(rebuilt, known), rebuilt),
            "identity_invented": (lambda: self._stranger(invented, known), invented),
        }
        kept = {name: (term(), at) for name, (term, at) in terms.items() if name.split("_")[0] not in without}
        self.image_balance.note(kept)
        weights = self.image_balance.weights()
        return {name: weights[name] * term for name, (term, _) in kept.items()}

    def _judged(self, real: Sequence[Tensor], made: Sequence[Tensor]) -> dict[str, Tensor]:
        """Eq. 2."""
        games = list(zip(self.feature_discriminators, real, made, strict=True))
        terms = {f"features_{i}": energy(judge(r)) + self._rejection(judge(s)) for i, (judge, r, s) in enumerate(games, 1)}
        first, *others = (r1_penalty(judge, r) for judge, r, _ in games)
        return terms | {"penalty": self.config.penalties[0] * first + self.config.penalties[1] * sum(others)}

    def _first_stage(self, known: Tensor, made: list[Tensor]) -> dict[str, Tensor]:
        """Eq. 1."""
        noted: list[dict[str, tuple[Tensor, Tensor]]] = [{} for _ in made]
        terms = {}
        if "features" not in self.config.without:
            for i, (judge, f) in enumerate(zip(self.feature_discriminators, made, strict=True)):
                terms[f"features_{i + 1}"] = energy(judge(f))
                noted[i]["features"] = terms[f"features_{i + 1}"], f
        if "image" not in self.config.without:
            weights = self.weights("feature_generators").values()
            led = [torch.lerp(f.detach(), f, w) for f, w in zip(made, weights, strict=True)]  # f_i^s, whose gradient is w times as long
            terms["image"] = energy(self.image_discriminator(self.image_generator(Features(known, led).joined())))
            for i, f in enumerate(led):
                noted[i]["image"] = terms["image"], f
        for balance, some in zip(self.feature_balances, noted, strict=True):
            balance.note(some)
        return terms

    def weights(self, player: str) -> dict[str, float]:
        """lambda_i^f of Eq. 1 (``feature_generators``: ``image_1``, …) or the weights of Eq. 3 (``image_generator``); see Balance."""
        if player == "image_generator":
            return self.image_balance.weights()
        return {f"image_{i}": balance.weights()["image"] for i, balance in enumerate(self.feature_balances, 1)}

    def _rejection(self, logits: Tensor) -> Tensor:
        """What the literal reading would let run away is stopped where D is e^-10, and learns no more from there."""
        literal = self.reading is Reading.literal
        return rejection(logits.clamp(-10, 10) if literal else logits, reading=self.reading)

    def _stranger(self, image: Tensor, known: Tensor) -> Tensor:
        """phi_id, Eq. 11 at length 1: twice one minus the cosine."""
        recogniser = self._extractors(image.device)[0]
        return 2 - 2 * F.cosine_similarity(recogniser(image).float(), known, dim=1).mean()

    def _real(self, batch: Mapping[str, Tensor]) -> Features:
        """f_id, f_1^r and f_2^r, …; E_2's are brought to length 16."""
        return Features(batch["identity"], [batch["first"], *self._general(batch["sibling"])])

    def _general(self, image: Tensor) -> list[Tensor]:
        """f_2, … by E_2, …"""
        return [_sized(encoder(image)) for encoder in self.encoders]

    def _invented(self, noise: Tensor) -> list[Tensor]:
        """f_1^s, f_2^s, … of (N,k,64)."""
        first, *others = (network(z) for network, z in zip(self.feature_generators, noise.unbind(dim=1), strict=True))
        return [first, *map(_sized, others)]

    # ------------------------------------------------------------------------------------------------------------------------ verbs

    @torch.no_grad()
    def features(self, image: Tensor) -> Features:
        """Pictures (N,3,H,W) in [-1, 1] -> what G^I is told of them; f_1 standardised. Raises ShapeError."""
        side = self.config.size
        if image.ndim != 4 or tuple(image.shape[1:]) != (3, side, side):
            raise ShapeError(f"this model takes (N, 3, {side}, {side}), got {tuple(image.shape)}")
        identity, first = self._seen(image)
        return self._real({"sibling": image, "identity": identity, "first": self._standard(first)})

    @torch.no_grad()
    def paint(self, features: Features) -> Tensor:
        """G^I: -> (N,3,H,W)."""
        return self.image_generator(features.joined())

    def reconstruct(self, image: Tensor) -> Tensor:
        """x^rec: (N,3,H,W) -> the same. Raises ShapeError."""
        return self.paint(self.features(image))

    @torch.no_grad()
    def invent(self, noise: Tensor) -> list[Tensor]:
        """G^f: (N,k,64) in [-1, 1], such as :meth:`noise` draws -> [f_1^s, f_2^s, …]. Raises ShapeError."""
        if noise.ndim != 3 or tuple(noise.shape[1:]) != (len(self.sizes), self.config.noise):
            raise ShapeError(f"z is (N, {len(self.sizes)}, {self.config.noise}), got {tuple(noise.shape)}")
        return self._invented(noise)

    def synthesise(self, image: Tensor, n: int, generator: torch.Generator | None = None) -> Tensor:
        """n pictures of everybody, in poses, expressions and all else as they come: (N,3,H,W) -> (N,n,3,H,W). Raises ShapeError."""
        count, who = len(image), self.features(image).identity
        noise = self.noise(n * count, generator).to(image.device)
        return self.paint(Features(who.repeat_interleave(n, dim=0), self.invent(noise))).unflatten(0, (count, n))

    def first(self, expression: Tensor, pose: Tensor) -> Tensor:
        """f_1 of a known 3D face, (N,19) expression coefficients and (N,3) radians: (N,22), standardised.

        E_1 is careful: of a broad smile it says "a little", of a neutral face never 0; and G^I knows no other voice. So the coefficients
        become what E_1 says of them on average, by least squares over the training faces."""
        return self._standard(torch.cat([F.pad(expression, (1, 0), value=1.0) @ self.hearsay, pose], dim=1))

    def transfer(self, image: Tensor, expression: Tensor, pose: Tensor, general: Sequence[Tensor] | None = None) -> Tensor:
        """Everybody with a 3D face's expression and pose (:meth:`first`): (N,3,H,W), (N,19), (N,3) radians -> (N,3,H,W).

        ``general``: [f_2, …], (1,D) each, for all; None: everybody's own. Raises ShapeError."""
        seen = self.features(image)
        others = seen.varied[1:] if general is None else [g.expand(len(image), -1) for g in general]
        return self.paint(Features(seen.identity, [self.first(expression, pose), *others]))

    def frontalise(self, image: Tensor, general: Sequence[Tensor] | None = None) -> Tensor:
        """Everybody neutral, looking ahead (Fig. 3): :meth:`transfer` to the canonical f_1, a frontal, expressionless face's.

        Source: 4.2."""
        return self.transfer(image, image.new_zeros(len(image), COEFFICIENTS), image.new_zeros(len(image), 3), general)

    def interpolate(self, a: Tensor, b: Tensor, steps: int) -> Tensor:
        """From a's identity to b's, everything else a's (Fig. 4b): (1,3,H,W) each -> (steps,3,H,W); f_id keeps its length. Raises
        ShapeError."""
        (first, second), way = (self.features(image) for image in (a, b)), torch.linspace(0, 1, steps, device=a.device)[:, None]
        identity = _sized(torch.lerp(first.identity, second.identity, way))
        return self.paint(Features(identity, [f.expand(steps, -1) for f in first.varied]))


class Rebuilding(nn.Module):
    """Eq. 8 alone, by E_2 and G^I together: where the second stage begins, some four times as cheap as the whole game."""

    def __init__(self, model: Model):
        super().__init__()
        self.config, self.given = model.config, [model]  # in a list: what is given is not trained
        self.image_generator, self.encoders = model.image_generator, model.encoders

    def players(self) -> dict[str, list[nn.Parameter]]:
        return {"rebuilding": list(self.parameters())}

    def draw(self, faces: Any, n: int, generator: torch.Generator) -> dict[str, Tensor]:
        return self.given[0].draw(faces, n, generator)

    def losses(self, batch: Mapping[str, Tensor], player: str = "rebuilding") -> dict[str, Tensor]:
        return self.given[0].losses(batch, "encoders")


class FirstStage(nn.Module):
    """The first stage alone, on features that no longer move: while E_2 learns, G^f invents what was real some time ago.

    Eqs. 1 and 2 without pictures, which makes a step some hundred times cheaper; the other networks are given and stay as they are.
    """

    def __init__(self, model: Model):
        super().__init__()
        self.config, self.given = model.config, [model]
        self.generators, self.discriminators = model.feature_generators, model.feature_discriminators
        self._real: list[Tensor] = []

    @torch.no_grad()
    def prepare(self, faces: Any) -> None:
        """Before training: f_1, f_2, … of every picture."""
        (model,) = self.given
        model.eval()
        first = model._standard(model._look_at(faces)[1].to(model.mean)).cpu()
        seen = [model._general(faces[rows].image.to(model.mean.device)) for rows in torch.arange(len(faces)).split(500)]
        self._real = [first, *(torch.cat(parts).cpu() for parts in zip(*seen, strict=True))]

    def players(self) -> dict[str, list[nn.Parameter]]:
        return {"feature_discriminators": list(self.discriminators.parameters()), "feature_generators": list(self.generators.parameters())}

    def draw(self, faces: Any, n: int, generator: torch.Generator) -> dict[str, Tensor]:
        """(N,278) f_1, f_2, … of n pictures, and a z for each generator."""
        (model,) = self.given
        rows = torch.randint(len(faces), (n,), generator=generator)
        return {"varied": torch.cat([f[rows] for f in self._real], dim=1), "noise": model.noise(n, generator)}

    def losses(self, batch: Mapping[str, Tensor], player: str) -> dict[str, Tensor]:
        (model,) = self.given
        if player == "feature_discriminators":
            with torch.no_grad():
                made = model._invented(batch["noise"])
            return model._judged(batch["varied"].split(model.sizes, dim=1), made)
        games = zip(self.discriminators, model._invented(batch["noise"]), strict=True)
        return {f"features_{i}": energy(judge(f)) for i, (judge, f) in enumerate(games, 1)}


def pose_and_expression(found: Parameters) -> Tensor:
    """f_1, (N,22): the expression's coefficients and the pose, yaw first (beta of Eq. 6), in radians."""
    return torch.cat([found.expression_coefficients, found.pose], dim=1)


def _siblings(sitting: Tensor) -> Tensor:
    """(N,) labels -> (N,) rows: the next of the same label, after the last the first; of one alone its own."""
    order = sitting.argsort(stable=True)
    label = sitting[order]
    last = torch.cat([label[1:] != label[:-1], label.new_ones(1, dtype=torch.bool)])
    following = torch.where(last, torch.searchsorted(label, label), torch.arange(1, len(label) + 1))
    return torch.empty_like(order).scatter_(0, order, order[following])


def _sized(feature: Tensor) -> Tensor:
    return USED * F.normalize(feature, dim=1)
