r"""The network that finds a 3D face in a picture: stage one of F3A-GAN, and what FaceFeat-GAN reads pose and expression with."""
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from facelab.blocks.layers import Pyramid
from facelab.blocks.weights import load_weights, shipped
from facelab.core import LandmarkError
from facelab.faces.careless import developed, reframed
from facelab.geometry.flow import sample_at
from facelab.geometry.morphable import MorphableModel
from facelab.geometry.pose import CONTOUR, Parameters, landmarks_of, place


@dataclass(frozen=True)
class Config:
    """Ours: the paper names no backbone; its weights of the losses stand in a supplement that we do not have."""

    size: int = 64  # pictures of another size are resized to this side, px
    width: int = 20  # channels at half the side, doubled at the next two halvings
    hidden: int = 160  # of the readers
    looks: int = 2  # corrections after the first reading
    landmark_weight: float = 1.0  # lambda_1
    transformation_weight: float = 1.0  # lambda_2
    regularisation_weight: float = 1e-3  # lambda_3


EYES, MOUTH = slice(36, 48), slice(48, 68)


def landmark_weights() -> Tensor:
    """(68,1) w_lm of Eq. 5, not printed: 2 for eyes and mouth, "difficult to learn"; 0.5 for the contour, along which detectors slide."""
    weight = torch.ones(68, 1)
    weight[CONTOUR] = 0.5
    weight[EYES] = weight[MOUTH] = 2.0
    return weight


def _reader(before: int, hidden: int, after: int) -> list[nn.Module]:
    last = nn.Linear(hidden, after)
    nn.init.zeros_(last.weight)  # the first face is the mean face
    nn.init.zeros_(last.bias)
    return [nn.Linear(before, hidden, bias=False), nn.BatchNorm1d(hidden), nn.ReLU(), last]


class Regressor(Pyramid):
    r"""Picture -> the morphable model's parameters :math:`P = \{\alpha_{id}, \alpha_{exp}, r, t, s\}`.

    A first reading :math:`P_0` comes from the whole picture. Then the network looks at the places where the landmarks of its own face
    fall, :math:`X_{2D}(P_k)[L]`, and corrects itself: :math:`P_{k+1} = P_k + c(\text{what it sees there}, P_k)`.

    On faces of known parameters every reading is trained with

    .. math:: L_{warm} = L_{shp} + \lambda_1 L_{lm} + \lambda_2 L_{tr} + \lambda_3 L_{reg},

    on pictures of which only landmarks are known with :math:`L_{sub} = \lambda_1 L_{lm} + \lambda_3 L_{reg}`. All are means over elements
    and faces:

    ===================  ===========================================================================  ============================
    ``shape``            :math:`\overline{|X(\alpha) - X(\hat\alpha)|}`, of the unposed face            millimetres (Eq. 6)
    ``landmarks``        :math:`\overline{w_{lm} |X_{2D}[L] - \hat M|}`                                 hundredths of the side (Eq. 5)
    ``transformation``   :math:`\overline{|r - \hat r|} + \overline{|s - \hat s|} + \overline{|t - \hat t|}`   standard deviations (Eq. 7)
    ``regularisation``   :math:`\overline{|\alpha_{id}|} + \overline{|\alpha_{exp}|}`                   the model's own
    ===================  ===========================================================================  ============================

    Source: F3A-GAN (Wu et al., IEEE TIP 2021), III-C, Eqs. 5 to 9. Departures: an L1 over radians, pixels and scales adds up nothing,
    so each part is measured in its own unit (SPECS E13); the corrections are after cascaded regression (Dollár et al. 2010).
    """

    Config = Config
    name = "regressor"

    def __init__(self, config: Config | None = None):
        config = config or Config()
        super().__init__(config.size, config.width)
        self.config = config
        self.model = MorphableModel.default()
        self._marks = landmarks_of(self.model)
        self.sizes = [len(self.model.identity_basis), len(self.model.expression_basis), 3, 3]
        count = sum(self.sizes)
        self.read = nn.Sequential(nn.Flatten(), *_reader(self.flat, config.hidden, count))
        self.near = nn.Sequential(nn.Conv1d(self.across, 12, 1, bias=False), nn.BatchNorm1d(12), nn.ReLU())
        self.correct = nn.ModuleList(
            nn.Sequential(*_reader(68 * (12 + 2) + count, config.hidden, count)) for _ in range(config.looks)
        )
        self.register_buffer("mean", torch.zeros(count))  # of the training faces' parameters
        self.register_buffer("scale", torch.ones(count))

    def forward(self, image: Tensor) -> Parameters:
        """Pictures (N,3,H,W) in [-1, 1], heads upright and about as large as in a made face -> the parameters of their faces, for pictures
        of any size."""
        return self._unpacked(self._readings(image)[-1])

    def _unpacked(self, standard: Tensor) -> Parameters:
        return Parameters(*(standard * self.scale + self.mean).split(self.sizes, dim=1))

    def _standard(self, parameters: Parameters) -> Tensor:
        return (torch.cat(parameters, dim=1) - self.mean) / self.scale

    def _readings(self, image: Tensor) -> list[Tensor]:
        """The first and the corrected ones, (N,P) each, in standard deviations of the training faces."""
        (deepest, top), side = self.climb(image), self.size
        readings = [self.read(deepest)]
        for correct in self.correct:
            now = readings[-1].detach()  # where to look is not learnt by looking
            spots = place(self._marks, self._unpacked(now), side)[..., :2]  # (N,68,2) pixels
            seen = self.near(sample_at(top, (spots + 0.5) / 2 - 0.5))  # (N,12,68); the map's pixels are twice as large
            about = (spots / side - 0.5).flatten(1)
            readings.append(readings[-1] + correct(torch.cat([seen.flatten(1), 4 * about, now], dim=1)))
        return readings

    def landmarks(self, parameters: Parameters, size: int) -> Tensor:
        """(N,68,2) where the landmarks of these faces fall in pictures of ``size``, pixels: X_2D[L]."""
        return place(self._marks, parameters, size)[..., :2]

    # training

    def prepare(self, faces: Any) -> None:
        """Before training: mean and spread of the parameters of some made faces, as :meth:`draw` takes them."""
        some = reframed(faces[torch.arange(min(2000, len(faces)))], partial(torch.rand, generator=torch.Generator().manual_seed(0)))
        truth = torch.cat(Parameters.of(some), dim=1).float()
        self.mean.copy_(truth.mean(dim=0))
        self.scale.copy_(truth.std(dim=0).clamp(min=1e-3))

    def players(self) -> dict[str, list[nn.Parameter]]:
        return {"regressor": list(self.parameters())}

    def draw(self, faces: Any, n: int, generator: torch.Generator) -> dict[str, Tensor]:
        """Faces as a careless photographer would take them, their landmarks and, of made faces, their parameters.

        LandmarkError: photographs without landmarks, of which nothing can be learnt."""
        rand = partial(torch.rand, generator=generator)
        batch = faces[torch.randint(len(faces), (n,), generator=generator)]
        if batch.landmarks is None or not batch.landmarks.isfinite().all():
            raise LandmarkError("these pictures come without 68 landmarks each: prepare them again with a detector (facelab prepare)")
        batch = reframed(batch, rand)
        found = {"image": developed(batch.image, rand), "landmarks": batch.landmarks}
        if batch.camera is not None:
            found["parameters"] = torch.cat(Parameters.of(batch), dim=1).float()
        return found

    def losses(self, batch: Mapping[str, Tensor], player: str = "regressor") -> dict[str, Tensor]:
        readings = self._readings(batch["image"])
        sums: dict[str, Tensor] = {}
        for reading in readings:
            for name, value in self._terms(reading, batch).items():
                sums[name] = sums.get(name, 0) + value / len(readings)
        return sums

    def _terms(self, reading: Tensor, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        config, size, found = self.config, batch["image"].shape[-1], self._unpacked(reading)
        weight = landmark_weights().to(reading)
        off = 100 / size * (self.landmarks(found, size) - batch["landmarks"])
        terms = {"landmarks": config.landmark_weight * (weight * off).abs().mean()}
        coefficients = found.identity_coefficients.abs().mean() + found.expression_coefficients.abs().mean()
        terms["regularisation"] = config.regularisation_weight * coefficients
        if "parameters" not in batch:
            return terms
        true = Parameters(*batch["parameters"].split(self.sizes, dim=1))
        apart = self.model.shape(*(a - b for a, b in zip(found[:2], true[:2], strict=True)))  # a shape is linear in its coefficients
        terms["shape"] = 10 * (apart - self.model.mean.to(apart)).abs().mean()  # cm to mm
        moved = (reading - self._standard(true))[:, -6:].abs()  # r; s; t
        terms["transformation"] = config.transformation_weight * (moved[:, :3].mean() + moved[:, 3:4].mean() + moved[:, 4:].mean())
        return terms


def regressor() -> Regressor:
    """The shipped regressor, frozen. Raises AssetError when its weights are missing or damaged."""
    return load_weights(Regressor, Config, shipped("regressor")).requires_grad_(False)
