r"""The linear 3D morphable model: a face is a mean shape plus weighted directions of identity and expression.

.. math:: X = s\,R\,(\bar X + A_{id}\,\alpha_{id} + A_{exp}\,\alpha_{exp}) + t

(F3A-GAN Eq. 1, FaceFeat-GAN Eq. 6.) The head frame is in centimetres, +x to the viewer's right, +y up, +z towards
the viewer; its origin is the mean of the twelve eye landmarks of the mean face.
"""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from facelab.core import WEIGHTS, AssetError, ShapeError

SKIN, EYE, TEETH, MOUTH, NECK = range(5)
"""Labels of ``MorphableModel.parts``: face and scalp; eyeballs; teeth and gums; inside of the mouth; neck and shoulders."""

EYES = slice(36, 48)


@dataclass(frozen=True)
class MorphableModel:
    r"""A mean head and its linear directions.

    ``mean`` (V,3) cm; ``triangles`` (F,3); ``landmarks`` (68,) vertex indices in iBUG order; ``identity_basis``
    (K,V,3), each direction already multiplied by its standard deviation, so that ``alpha_id ~ N(0, I)``;
    ``expression_basis`` (E,V,3), where 1 is the full expression; ``expression_names`` E names; ``parts`` (V,) labels (a triangle has one,
    but where the skin goes on to the neck or into the mouth).
    """

    mean: Tensor
    triangles: Tensor
    landmarks: Tensor
    identity_basis: Tensor
    expression_basis: Tensor
    expression_names: tuple[str, ...]
    parts: Tensor

    def __post_init__(self) -> None:
        v = len(self.mean)
        for name, value, shape in (
            ("mean", self.mean, (v, 3)),
            ("identity_basis", self.identity_basis, (len(self.identity_basis), v, 3)),
            ("expression_basis", self.expression_basis, (len(self.expression_names), v, 3)),
            ("landmarks", self.landmarks, (68,)),
            ("triangles", self.triangles, (len(self.triangles), 3)),
            ("parts", self.parts, (v,)),
        ):
            if tuple(value.shape) != shape:
                raise ShapeError(f"MorphableModel.{name} must have shape {shape}, got {tuple(value.shape)}")
        for name, value in (("triangles", self.triangles), ("landmarks", self.landmarks)):
            if int(value.min()) < 0 or int(value.max()) >= v:
                raise ShapeError(f"MorphableModel.{name} names a vertex outside 0…{v - 1}")
        if not all(bool(torch.isfinite(a).all()) for a in (self.mean, self.identity_basis, self.expression_basis)):
            raise ShapeError("MorphableModel has a NaN or infinite coordinate")

    def shape(self, identity: Tensor | None = None, expression: Tensor | None = None) -> Tensor:
        r"""Vertices of faces without pose: :math:`\bar X + A_{id}\alpha_{id} + A_{exp}\alpha_{exp}`.

        Args: ``identity`` (N,k) with k <= K (missing coefficients are 0), ``expression`` (N,E); None means zero.
        Returns (N,V,3) cm. Raises ShapeError. Source: F3A-GAN Eq. 1 without s, R, t.
        """
        given = next((alpha for alpha in (identity, expression) if alpha is not None), self.mean)
        out = self.mean.flatten()[None].to(given)
        for name, alpha, basis in (("identity", identity, self.identity_basis), ("expression", expression, self.expression_basis)):
            if alpha is None:
                continue
            if alpha.ndim != 2 or alpha.shape[1] > len(basis):
                raise ShapeError(f"{name} coefficients must be (N, at most {len(basis)}), got {tuple(alpha.shape)}")
            out = out + alpha @ basis[: alpha.shape[1]].flatten(1).to(alpha)
        return out.unflatten(1, (-1, 3))

    def coefficients(self, **expression: float) -> Tensor:
        """(1,E) expression coefficients from names: ``model.coefficients(jaw_open=0.5, smile=1)``."""
        out = torch.zeros(1, len(self.expression_names))
        for name, value in expression.items():
            if name not in self.expression_names:
                raise ShapeError(f"no expression direction {name!r}; this model has {', '.join(self.expression_names)}")
            out[0, self.expression_names.index(name)] = value
        return out

    @classmethod
    def from_scans(
        cls,
        scans: Tensor,
        triangles: Tensor,
        landmarks: Tensor,
        components: int,
        *,
        expressions: dict[str, Tensor] | None = None,
        parts: Tensor | None = None,
    ) -> MorphableModel:
        r"""A model from S registered scans by principal component analysis.

        The centred scans :math:`x_i - \bar x`, rows of an S x 3V matrix, have the singular value decomposition
        :math:`U\,\mathrm{diag}(d)\,V^\top`; direction k is :math:`d_k / \sqrt{S-1}` times row k of :math:`V^\top`.

        Args: ``scans`` (S,V,3), one vertex of all scans being one point of the face; ``components`` K <= S - 1;
        ``expressions`` name -> (V,3) displacement of the full expression. Raises ShapeError.
        Source: Blanz and Vetter 1999; the sign of each direction is fixed so that its largest entry is positive.
        """
        if scans.ndim != 3 or scans.shape[2] != 3:
            raise ShapeError(f"scans must be (S, V, 3), got {tuple(scans.shape)}")
        if not 1 <= components <= len(scans) - 1:
            raise ShapeError(f"{len(scans)} scans span at most {len(scans) - 1} directions, {components} asked for")
        data = scans.double().flatten(1)
        if not bool(torch.isfinite(data).all()):
            raise ShapeError("scans have a NaN or infinite coordinate")
        mean = data.mean(0)
        _, deviation, rows = torch.linalg.svd(data - mean, full_matrices=False)
        rows, deviation = rows[:components], deviation[:components] / (len(scans) - 1) ** 0.5
        rows = rows * rows.gather(1, rows.abs().argmax(1, keepdim=True)).sign()
        basis = (deviation[:, None] * rows).unflatten(1, (-1, 3)).float()
        expressions = expressions or {}
        return cls(
            mean.reshape(-1, 3).float(),
            triangles,
            landmarks,
            basis,
            torch.stack([*expressions.values()]).float() if expressions else torch.zeros(0, scans.shape[1], 3),
            tuple(expressions),
            torch.zeros(scans.shape[1], dtype=torch.uint8) if parts is None else parts,
        )

    @classmethod
    @lru_cache(maxsize=1)
    def default(cls) -> MorphableModel:
        """facelab's own head, sculpted and analysed by ``facelab.geometry.sculpt``; shipped in ``facelab/weights``."""
        return cls.load(WEIGHTS / "head.safetensors")

    @classmethod
    def load(cls, path: str | Path, *, landmarks: Sequence[int] | None = None) -> MorphableModel:
        """Reads a model by its file: facelab's ``.safetensors``, ICT-FaceKit Light ``.npz``, Basel Face Model 2009 ``.mat``, 2017 ``.h5``.

        ``landmarks``: 68 vertex indices; the Basel files carry none, and without this argument they are found by
        aligning facelab's own head to the model (nearest vertices, about half a centimetre off on another model).
        Raises AssetError when the file is missing, truncated or of another format.
        """
        path = Path(path)
        readers = {".safetensors": _read_facelab, ".npz": _read_ict, ".mat": _read_bfm2009, ".h5": _read_bfm2017}
        if path.suffix not in readers:
            raise AssetError(f"{path.name}: a morphable model is one of {', '.join(readers)}")
        if not path.is_file():
            raise AssetError(f"no morphable model at {path}; `facelab doctor` says where each model can be had")
        try:
            model, found = readers[path.suffix](path)
        except (AssetError, ShapeError):
            raise
        except Exception as error:  # readers of four formats raise a dozen kinds of error on a damaged file
            reason = f"{type(error).__name__}: {error}"
            raise AssetError(f"{path.name} cannot be read as a morphable model ({reason}); fetch it again") from error
        if landmarks is not None:
            model = replace(model, landmarks=torch.as_tensor(landmarks))
        elif not found:
            model = replace(model, landmarks=_guess_landmarks(model.mean))
        return replace(model, mean=model.mean - model.mean[model.landmarks[EYES]].mean(0))

    def save(self, path: str | Path) -> None:
        """Writes the model as safetensors: geometry in half precision about its mean, which costs less than 0.01 mm."""
        from safetensors.torch import save_file

        if len(self.mean) > np.iinfo(np.uint16).max:
            raise ShapeError("save() keeps triangles as uint16: at most 65,535 vertices")
        save_file(
            {
                "mean": self.mean.contiguous(),
                "triangles": self.triangles.to(torch.uint16).contiguous(),
                "landmarks": self.landmarks.to(torch.int32),
                "identity_basis": self.identity_basis.half().contiguous(),
                "expression_basis": self.expression_basis.half().contiguous(),
                "parts": self.parts,
            },
            path,
            metadata={"expression_names": ",".join(self.expression_names)},
        )


def _read_facelab(path: Path) -> tuple[MorphableModel, bool]:
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        tensor = file.get_tensor
        return MorphableModel(
            tensor("mean"),
            tensor("triangles").to(torch.int32),
            tensor("landmarks").long(),
            tensor("identity_basis").float(),
            tensor("expression_basis").float(),
            tuple(file.metadata()["expression_names"].split(",")),
            tensor("parts").clone(),  # out of the file's mapping: a file rewritten later must not change, or crash, a loaded model
        ), True


# ICT-FaceKit Light, README.md: geometry by vertex range. Fluids, occlusion shells and lashes are left out: they are
# transparent layers over the eye, and a z-buffer knows no transparency.
_ICT_PARTS = (
    (0, 11248, SKIN),
    (11248, 13294, MOUTH),
    (13294, 14062, SKIN),
    (14062, 17039, MOUTH),
    (17039, 21451, TEETH),
    (21451, 24591, EYE),
)
_ICT_USED = 24591


def _read_ict(path: Path) -> tuple[MorphableModel, bool]:
    with np.load(path, allow_pickle=False) as file:
        neutral, quads = file["neutral"], file["faces_quad"]
        identity, expression = file["identity_deltas"], file["shape_deltas"]
        names, landmarks = [str(n) for n in file["shape_names"]], file["landmarks68"]
    triangles = np.concatenate([quads[:, :3], quads[quads[:, 3] >= 0][:, [0, 2, 3]]])
    triangles = triangles[(triangles < _ICT_USED).all(1)]
    parts = np.zeros(_ICT_USED, np.uint8)
    for start, stop, label in _ICT_PARTS:
        parts[start:stop] = label
    parts[(neutral[:_ICT_USED, 1] < neutral[landmarks[8], 1] - 2.5) & (parts == SKIN)] = NECK
    as_float = lambda a: torch.from_numpy(np.ascontiguousarray(a[..., :_ICT_USED, :], np.float32))  # noqa: E731
    return MorphableModel(
        as_float(neutral),
        torch.from_numpy(triangles.astype(np.int32)),
        torch.from_numpy(landmarks.astype(np.int64)),
        as_float(identity),
        as_float(expression),
        tuple(names),
        torch.from_numpy(parts),
    ), True


def _basel(mean, basis, deviation, expression, expression_deviation, triangles, scale) -> tuple[MorphableModel, bool]:
    """Basel matrices (3V,K), in units of ``scale`` centimetres, as a MorphableModel without landmarks."""
    directions = lambda b, s: torch.from_numpy(np.ascontiguousarray((b * s).T * scale, np.float32)).unflatten(1, (-1, 3))  # noqa: E731
    points = torch.from_numpy(np.asarray(mean, np.float32) * scale).reshape(-1, 3)
    model = MorphableModel(
        points,
        torch.from_numpy(np.ascontiguousarray(triangles, np.int32)),
        torch.zeros(68, dtype=torch.long),
        directions(basis, deviation),
        directions(expression, expression_deviation),
        tuple(f"expression_{i}" for i in range(expression.shape[1])),
        torch.zeros(len(points), dtype=torch.uint8),
    )
    return model, False


def _read_bfm2009(path: Path) -> tuple[MorphableModel, bool]:
    from scipy.io import loadmat  # comes with scikit-learn

    file = loadmat(path, variable_names=("shapeMU", "shapePC", "shapeEV", "tl"))
    none = np.zeros((file["shapePC"].shape[0], 0))
    return _basel(file["shapeMU"].ravel(), file["shapePC"], file["shapeEV"].ravel(), none, np.zeros(0), file["tl"][:, [0, 2, 1]] - 1, 1e-4)


def _read_bfm2017(path: Path) -> tuple[MorphableModel, bool]:
    try:
        import h5py
    except ImportError:
        raise AssetError(f"{path.name} is HDF5: `pip install h5py` to read the Basel Face Model 2017") from None
    with h5py.File(path) as file:
        shape, expression = file["shape/model"], file["expression/model"]
        return _basel(
            shape["mean"][:] + expression["mean"][:],
            shape["pcaBasis"][:],
            np.sqrt(shape["pcaVariance"][:]),
            expression["pcaBasis"][:],
            np.sqrt(expression["pcaVariance"][:]),
            file["shape/representer/cells"][:].T,
            0.1,
        )


def _guess_landmarks(points: Tensor, rounds: int = 30) -> Tensor:
    """68 vertices of an unlabelled head: facelab's mean face is laid onto it by similarity iterative closest points."""
    from scipy.spatial import cKDTree

    ours = MorphableModel.default()
    face = ours.mean[(ours.parts == SKIN) & (ours.mean[:, 2] > -6) & (ours.mean[:, 1] > -11)].double().numpy()
    target = points.double().numpy()
    tree = cKDTree(target)
    nose = target[target[:, 2].argmax()]
    tip = face[face[:, 2].argmax()]
    scale, rotation, shift = 1.0, np.eye(3), nose - tip
    for _ in range(rounds):
        moved = scale * face @ rotation.T + shift
        distance, index = tree.query(moved)
        near = distance <= np.quantile(distance, 0.8)
        a, b = face[near], target[index[near]]
        u, d, vt = np.linalg.svd((b - b.mean(0)).T @ (a - a.mean(0)))
        flip = np.diag([1, 1, np.sign(np.linalg.det(u @ vt))])
        rotation = u @ flip @ vt
        scale = (d * flip.diagonal()).sum() / ((a - a.mean(0)) ** 2).sum()
        shift = b.mean(0) - scale * rotation @ a.mean(0)
    moved = scale * ours.mean[ours.landmarks].double().numpy() @ rotation.T + shift
    return torch.from_numpy(tree.query(moved)[1])
