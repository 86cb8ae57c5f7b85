r"""The judge: one network that says who a face is, where it looks, what it does and where its landmarks are.

Trained on a world of made faces whose people no method ever sees; its weights never enter a loss. Every notebook measures with it.
"""
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from facelab.blocks import load_weights, shipped
from facelab.blocks.layers import Pyramid
from facelab.core import ShapeError
from facelab.faces.careless import developed, reframed
from facelab.geometry.flow import sample_at


@dataclass(frozen=True)
class Config:
    """Ours; no paper prints its judge."""

    size: int = 64  # pictures of another size are resized to this side, px
    width: int = 24  # channels at half the side, doubled at every halving
    embedding: int = 64  # numbers in an identity
    people: int = 6000  # identities in training
    expressions: int = 19  # expression coefficients of the morphable model
    traits: int = 0  # numbers that make an identity: shape coefficients and paint
    sharpness: float = 12.0  # scale of the cosines between identities, one over the contrastive loss's temperature


class Verdict(NamedTuple):
    """What the judge says of N pictures."""

    identity: Tensor  # (N,D) of unit length: the cosine of two is how alike they are
    pose: Tensor  # (N,3) radians: yaw, pitch, roll
    expression: Tensor  # (N,E) coefficients of the morphable model
    landmarks: Tensor  # (N,68,2) pixels of the pictures given


class Levels(NamedTuple):
    """What the judge says of N edits in K pictures each."""

    level: Tensor  # (N,K) how far along the way to the expression: 0 at rest, 1 as people show it
    likeness: Tensor  # (N,K) cosine of the identity with the edit's first picture's


class Judge(Pyramid):
    r"""Four answers from one trunk: identity, by telling two shots of a person from everybody else's in the batch and by reading off shape
    and paint; pose and expression, by regression from the trunk and the landmarks; landmarks, as the expectation of a probability map,
    :math:`\hat p = \sum_p p\, \mathrm{softmax}(h)(p)`.

    Source: supervised contrastive learning (Khosla et al. 2020) for the identity; integral regression (Sun et al. 2018) for the landmarks;
    training on made faces alone after "Fake It Till You Make It" (Wood et al. 2021).
    """

    Config = Config
    name = "judge"

    def __init__(self, config: Config | None = None):
        config = config or Config()
        super().__init__(config.size, config.width)
        self.config = config
        self.where = nn.Sequential(
            nn.Conv2d(self.across, self.across, 3, padding=1, bias=False), nn.BatchNorm2d(self.across), nn.ReLU(),
            nn.Conv2d(self.across, 68, 1),
        )  # fmt: skip
        self.who = nn.Sequential(nn.Flatten(), nn.Linear(self.flat, config.embedding, bias=False), nn.BatchNorm1d(config.embedding))
        self.near = nn.Sequential(nn.Conv1d(self.across, 12, 1, bias=False), nn.BatchNorm1d(12), nn.ReLU())
        self.what = nn.Sequential(
            nn.Linear(self.flat + 68 * (2 + 12), 192, bias=False), nn.BatchNorm1d(192), nn.ReLU(),
            nn.Linear(192, 128, bias=False), nn.BatchNorm1d(128), nn.ReLU(), nn.Linear(128, 3 + config.expressions),
        )  # fmt: skip
        self.shape = nn.BatchNorm1d(68 * 2, affine=False)
        self.traits = nn.Linear(config.embedding, config.traits)
        self.register_buffer("trait_mean", torch.zeros(config.traits))
        self.register_buffer("trait_scale", torch.ones(config.traits))
        self.register_buffer("expression_mean", torch.zeros(config.expressions))
        self.register_buffer("expression_scale", torch.ones(config.expressions))
        self.register_buffer("known", torch.zeros(config.people, config.embedding))  # identities of the people it learned from
        self._shots: dict[int, Tensor] = {}  # of each who has two or more, rows of the training faces

    def forward(self, image: Tensor) -> Verdict:
        """Verdict on (N,3,H,W) in [-1, 1], the head upright and about as large as in a made face."""
        said = self._answer(image)
        return said._replace(identity=F.normalize(said.identity, dim=1))

    def _answer(self, image: Tensor) -> Verdict:
        deepest, top = self.climb(image)
        heat = self.where(top)  # (N,68,H/2,W/2)
        given, grid = image.shape[-1], heat.shape[-1]
        mass = heat.flatten(2).softmax(dim=2).unflatten(2, (grid, grid))
        # the outermost cells lie a little beyond the picture, so that an expectation can reach its border
        place = torch.linspace(-1 / 64, 1 + 1 / 64, grid, device=image.device) * given - 0.5
        landmarks = torch.stack([(mass.sum(2) * place).sum(2), (mass.sum(3) * place).sum(2)], dim=2)
        known = torch.cat([deepest.flatten(1), self._closely(top, (landmarks.detach() + 0.5) * (grid / given) - 0.5)], dim=1)
        pose, expression = self.what(known).split([3, self.config.expressions], dim=1)
        return Verdict(self.who(deepest), pose, expression * self.expression_scale + self.expression_mean, landmarks)

    def _closely(self, top: Tensor, landmarks: Tensor) -> Tensor:
        """An expression at 64 px is a matter of half a pixel, lost in the trunk's 4 x 4 cells: the shape of the (N,68,2) landmarks,
        whatever its place and size, and what the (N,C,h,w) map shows at each; landmarks in the map's pixels."""
        shape = landmarks - landmarks.mean(dim=1, keepdim=True)
        shape = shape / shape.square().mean(dim=(1, 2), keepdim=True).sqrt().clamp(min=1e-6)
        return torch.cat([self.shape(shape.flatten(1)), self.near(sample_at(top, landmarks)).flatten(1)], dim=1)

    @torch.no_grad()
    def look(self, image: Tensor, batch: int = 256) -> Verdict:
        """The verdict on any number of pictures, in batches, without gradients."""
        said = [self(part) for part in image.split(batch)]
        return Verdict(*(torch.cat(parts) for parts in zip(*said, strict=True)))

    def levels(self, steps: Tensor, rest: Tensor, shown: Tensor) -> Levels:
        r"""How far an edit gets, and whether it stays the same person.

        .. math:: \ell_i = \frac{(e_i - \bar e_{rest}) \cdot w}{w \cdot w}, \quad w = \bar e_{shown} - \bar e_{rest},

        e the expression coefficients that the judge reads, the bars means over true pictures of people at rest and showing it.

        Args: ``steps`` (N,K,3,H,W), the K pictures of every edit; ``rest``, ``shown`` (M,3,H,W).
        """
        start, goal = (self.look(pictures).expression.mean(dim=0) for pictures in (rest, shown))
        said, way = self.look(steps.flatten(0, 1)), goal - start
        expression, identity = (x.unflatten(0, steps.shape[:2]) for x in (said.expression, said.identity))
        return Levels((expression - start) @ way / way.square().sum(), (identity * identity[:, :1]).sum(dim=2))

    @torch.no_grad()
    def features(self, image: Tensor, batch: int = 256) -> Tensor:
        """(N,3,H,W) -> (N,D): identities before they are brought to unit length, for Fréchet distances "FD (judge)"."""
        return torch.cat([self._answer(part).identity for part in image.split(batch)])

    @torch.no_grad()
    def probabilities(self, image: Tensor, batch: int = 256) -> Tensor:
        """(N,3,H,W) -> (N,people): which of the people it learned from each face resembles; for an inception score "IS (judge)"."""
        return torch.cat([(self.config.sharpness * self(part).identity @ self.known.T).softmax(dim=1) for part in image.split(batch)])

    # training

    @staticmethod
    def _traits(faces: Any) -> Tensor:
        return torch.cat([value.float() for value in faces.require("identity_coefficients", "appearance")], dim=1)

    def prepare(self, faces: Any) -> None:
        """Before training: mean and scale of the identities' numbers, and of the expressions'; which training faces show whom."""
        some = faces[torch.arange(min(2000, len(faces)))]
        (expression,) = some.require("expression_coefficients")
        for name, value in (("trait", self._traits(some)), ("expression", expression)):
            getattr(self, f"{name}_mean").copy_(value.mean(dim=0))
            getattr(self, f"{name}_scale").copy_(value.std(dim=0).clamp(min=1e-2))
        people = torch.cat([faces[rows].identity for rows in torch.arange(len(faces)).split(1000)])
        shots = {person: (people == person).nonzero()[:, 0] for person in range(self.config.people)}
        self._shots = {person: rows for person, rows in shots.items() if len(rows) > 1}
        if not self._shots:
            raise ShapeError(f"the judge learns who is who from two shots of a person; among {len(faces)} faces nobody has two")

    @torch.no_grad()
    def remember(self, faces: Any) -> None:
        """After training: the identity of everybody it learned from, the mean over up to four shots of each."""
        for person, shots in self._shots.items():
            self.known[person] = F.normalize(self(faces[shots[:4]].image.to(self.known)).identity.mean(dim=0), dim=0)

    def players(self) -> dict[str, list[nn.Parameter]]:
        return {"judge": list(self.parameters())}

    def draw(self, faces: Any, n: int, generator: torch.Generator) -> dict[str, Tensor]:
        """Two shots each of n / 2 people, as a careless photographer would take them: shifted, turned, zoomed, mirrored never; dull, dark,
        tinted, blurred, noisy, partly covered. Landmarks and roll follow."""
        rand = partial(torch.rand, generator=generator)
        batch = reframed(faces[self._pairs(n, generator)], rand)
        return {
            "image": developed(batch.image, rand),
            "identity": batch.identity,
            "traits": (self._traits(batch) - self.trait_mean.cpu()) / self.trait_scale.cpu(),
            "pose": batch.pose.float(),
            "expression": batch.expression_coefficients,
            "landmarks": batch.landmarks,
        }

    def _pairs(self, n: int, generator: torch.Generator) -> Tensor:
        people = list(self._shots)
        chosen = [people[i] for i in torch.randint(len(people), ((n + 1) // 2,), generator=generator).tolist()]
        pairs = [self._shots[person][torch.randperm(len(self._shots[person]), generator=generator)[:2]] for person in chosen]
        return torch.cat(pairs)[:n]

    def losses(self, batch: Mapping[str, Tensor], player: str = "judge") -> dict[str, Tensor]:
        said = self._answer(batch["image"])
        identity = F.normalize(said.identity, dim=1)
        off = (said.landmarks - batch["landmarks"]) / batch["image"].shape[-1]
        return {
            "traits": F.smooth_l1_loss(self.traits(said.identity), batch["traits"]),
            "identity": 0.3 * _contrast(self.config.sharpness * identity @ identity.T, batch["identity"]),
            "pose": 2 * F.smooth_l1_loss(said.pose, batch["pose"], beta=0.1),
            "expression": 2 * ((said.expression - batch["expression"]) / self.expression_scale).square().mean(),
            "landmarks": 80 * off.abs().mean(),
        }


def _contrast(logits: Tensor, people: Tensor) -> Tensor:
    r"""Supervised contrastive loss of (N,N) likenesses: :math:`-\log\frac{e^{s_{ij}}}{\sum_{k \ne i} e^{s_{ik}}}`, a mean over all pairs
    :math:`i \ne j` of one person."""
    oneself = torch.eye(len(logits), dtype=torch.bool, device=logits.device)
    same = (people[:, None] == people) & ~oneself
    return -logits.masked_fill(oneself, -torch.inf).log_softmax(dim=1)[same].mean()


def judge() -> Judge:
    """The shipped judge, frozen. Raises AssetError when its weights are missing or damaged."""
    return load_weights(Judge, Config, shipped("judge")).requires_grad_(False)
