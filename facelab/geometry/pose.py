r"""A 3D face in a picture: what moves it, where its vertices then lie, and the states between two."""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from scipy.optimize import least_squares
from scipy.spatial.transform import Rotation
from torch import Tensor

from facelab.core import LandmarkError, ShapeError
from facelab.geometry.morphable import NECK, MorphableModel
from facelab.geometry.raster import rasterize

PIVOT = (0.0, -0.6, -6.5)
"""The point of the head frame, cm, about which a head turns and which the camera places: between the ears."""


class Parameters(NamedTuple):
    """P of F3A-GAN: N faces of a morphable model before a camera. A FaceBatch of made faces has fields of these names and units."""

    identity_coefficients: Tensor  # (N,K) alpha_id
    expression_coefficients: Tensor  # (N,E) alpha_exp
    pose: Tensor  # (N,3) r: yaw, pitch, roll, radians
    camera: Tensor  # (N,3) s and t: sides of the picture per cm; where the pivot lies, (x, y) over the side

    @classmethod
    def of(cls, faces: Any) -> Parameters:
        """The exact ones of made faces. Raises MissingTruthError for photographs."""
        return cls(*faces.require(*cls._fields))

    @classmethod
    def cat(cls, states: Sequence[Parameters]) -> Parameters:
        """States joined, in their order."""
        return cls(*(torch.cat(parts) for parts in zip(*states, strict=True)))

    def rows(self, index: Any) -> Parameters:
        """Some of the N, as a tensor's rows are chosen."""
        return Parameters(*(part[index] for part in self))


def rotation(pose: Tensor) -> Tensor:
    r"""Euler angles -> rotation matrices :math:`R = R_{roll} R_{pitch} R_{yaw}`.

    Args: ``pose`` (N,3) yaw, pitch, roll in radians: positive yaw turns the face to the picture's right, pitch up, roll clockwise.
    Returns (N,3,3) in the dtype given; differentiable. Raises ShapeError.
    """
    if pose.ndim != 2 or pose.shape[1] != 3:
        raise ShapeError(f"a pose is (N, 3): yaw, pitch, roll in radians, got {tuple(pose.shape)}")
    (cy, cp, cr), (sy, sp, sr) = pose.cos().T, pose.sin().T
    rows = (  # the product, written out: a matrix product's last bit may depend on the company in which it is computed
        (cr * cy - sr * sp * sy, sr * cp, cr * sy + sr * sp * cy),
        (-sr * cy - cr * sp * sy, cr * cp, cr * sp * cy - sr * sy),
        (-cp * sy, -sp, cp * cy),
    )
    return torch.stack([torch.stack(row, dim=-1) for row in rows], dim=-2)


def euler_angles(turn: Tensor) -> Tensor:
    """Rotation matrices (N,3,3) -> (N,3) yaw, pitch, roll in radians, pitch within a quarter turn; what :func:`rotation` undoes."""
    return torch.stack([
        torch.atan2(-turn[:, 2, 0], turn[:, 2, 2]), torch.asin((-turn[:, 2, 1]).clamp(-1, 1)), torch.atan2(turn[:, 0, 1], turn[:, 1, 1]),
    ], dim=1)  # fmt: skip


def place(model: MorphableModel, parameters: Parameters, size: int) -> Tensor:
    r"""Where a face's vertices lie in a picture.

    .. math:: X = s\,R\,(\bar X + A_{id}\alpha_{id} + A_{exp}\alpha_{exp} - c) + t, \qquad X_{2D} = \mathrm{Pr} \circ X

    with c the pivot, s and t in pixels of a picture of ``size``, and y turned down, as pixels count.

    Returns: (N,V,3) pixels; (x, y) is the orthographic projection, z the depth in the same unit, larger is nearer.
    Raises: ShapeError. Source: F3A-GAN (Wu et al., IEEE TIP 2021), Eqs. 1 and 2.
    """
    shape = model.shape(parameters.identity_coefficients, parameters.expression_coefficients)
    camera = parameters.camera
    if camera.shape != parameters.pose.shape:
        raise ShapeError(f"a camera is (N, 3): scale, x, y, one for each pose, got {tuple(camera.shape)}")
    scale, middle = size * camera[:, None, :1], size * camera[:, None, 1:] - 0.5
    turned = scale * ((shape - torch.tensor(PIVOT).to(shape)) @ rotation(parameters.pose).mT)
    return torch.cat([middle + turned[..., :2] * turned.new_tensor([1.0, -1.0]), turned[..., 2:]], dim=-1)


def head_mask(model: MorphableModel, parameters: Parameters, size: int) -> Tensor:
    """Where the heads show, without neck and shoulders: (N,1,size,size) bool, on the CPU. Raises ShapeError."""
    own = (model.parts != NECK).float()[None, :, None]
    return rasterize(place(model, parameters, size).cpu(), model.triangles, own.cpu(), size)[0] > 0.5


def between(source: Parameters, target: Parameters, t: float, turn: str = "euler") -> Parameters:
    r"""A state on the way from the source (t = 0) to the target (t = 1).

    .. math:: P(t) = (1 - t)\,P_{source} + t\,P_{target}

    Shapes are linear in their coefficients, turns are not in their angles: ``turn`` "euler" goes a straight line in angles, the shorter
    way round; "slerp" turns about one axis at one speed.

    Raises ShapeError for another ``turn``. Source: F3A-GAN Eq. 3, whose theta is 1 - t: the paper counts from the target.
    """
    identity, expression, pose, camera = (torch.lerp(a, b, t) for a, b in zip(source, target, strict=True))
    if turn == "euler":
        way = torch.remainder(target.pose - source.pose + torch.pi, 2 * torch.pi) - torch.pi
        pose = source.pose + t * way
    elif turn == "slerp":
        first = Rotation.from_matrix(rotation(source.pose.detach().cpu().double()).numpy())
        way = first.inv() * Rotation.from_matrix(rotation(target.pose.detach().cpu().double()).numpy())
        pose = euler_angles(torch.from_numpy((first * Rotation.from_rotvec(t * way.as_rotvec())).as_matrix())).to(source.pose)
    else:
        raise ShapeError(f'turn must be "euler" or "slerp", got {turn!r}')
    return Parameters(identity, expression, pose, camera)


CONTOUR = slice(0, 17)


def landmarks_of(model: MorphableModel) -> MorphableModel:
    """The model of nothing but its 68 landmarks: a hundredth of the arithmetic where only they are asked for."""
    own = model.landmarks
    return MorphableModel(
        model.mean[own], torch.zeros(1, 3, dtype=torch.long), torch.arange(len(own)), model.identity_basis[:, own],
        model.expression_basis[:, own], model.expression_names, torch.zeros(len(own)),
    )  # fmt: skip


def fit_landmarks(model: MorphableModel, landmarks: Tensor, size: int, *, identity: int = 40, noise: float = 0.01) -> Parameters:
    r"""The face whose landmarks lie nearest to those given, among likely faces: regularised least squares, one face at a time.

    .. math:: \min_P \sum_l \Big\lVert \frac{w_l\,(X_{2D}(P)[l] - \hat M_l)}{\nu} \Big\rVert^2 + \lVert\alpha_{id}\rVert^2
        + \Big\lVert\frac{\alpha_{exp}}{0.3}\Big\rVert^2

    with :math:`\nu` pixels of ``noise``; the contour's weights w are a half, since detectors slide along it.

    Args:
        landmarks: (N,68,2) pixels of pictures of ``size``.
        identity: how many identity coefficients, those of the largest spread; the others stay 0.
        noise: how far landmarks are trusted, as a share of the side.

    Returns: Parameters of N faces, float32.
    Raises: LandmarkError for landmarks that are not finite or all in one place; ShapeError.
    Source: the baseline that a regressor must beat; Blanz and Vetter (SIGGRAPH 1999) fit to pixels as well.
    """
    if landmarks.ndim != 3 or landmarks.shape[1:] != (68, 2):
        raise ShapeError(f"landmarks must be (N, 68, 2) pixels, got {tuple(landmarks.shape)}")
    if not landmarks.isfinite().all() or (landmarks.std(dim=1) < 1e-3 * size).any():
        raise LandmarkError("landmarks to fit a face to must be finite and not all in one place")
    K, E = min(identity, len(model.identity_basis)), len(model.expression_basis)
    few = landmarks_of(model)
    mean, identities, expressions = (x.double() for x in (few.mean, few.identity_basis[:K], few.expression_basis))
    few = replace(few, mean=mean, identity_basis=identities, expression_basis=expressions)
    weight = torch.ones(68, 1, dtype=torch.float64)
    weight[CONTOUR] = 0.5

    def unpacked(x: Tensor) -> Parameters:
        alpha, beta, pose, camera = x.split([K, E, 3, 3])
        return Parameters(alpha[None], 0.3 * beta[None], pose[None], camera[None] * camera.new_tensor([0.1, 1, 1]))

    found = []
    for marks in landmarks.detach().cpu().double():
        def residuals(x: Tensor, marks: Tensor = marks) -> Tensor:
            off = (place(few, unpacked(x), size)[0, :, :2] - marks) * weight / (noise * size)
            return torch.cat([off.flatten(), x[: K + E]])

        start = torch.zeros(K + E + 6, dtype=torch.float64)
        spread = few.mean[:, :2].std(dim=0).norm() * size  # a frontal face of the same spread, at the same place
        start[-3] = 10 * (marks - marks.mean(dim=0)).std(dim=0).norm() / spread
        start[-2:] = (marks.mean(dim=0) + 0.5) / size
        best = least_squares(lambda x, f=residuals: f(torch.from_numpy(x)).numpy(), start.numpy(), method="lm")
        found.append(unpacked(torch.from_numpy(best.x)))
    joined = Parameters(*(part.float() for part in Parameters.cat(found)))
    rest = torch.zeros(len(landmarks), len(model.identity_basis) - K)
    return joined._replace(identity_coefficients=torch.cat([joined.identity_coefficients, rest], dim=1))
