r"""FaceWorld: people who do not exist, with everything about them known."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numba
import numpy as np
import torch
from torch import Tensor

from facelab.core import ShapeError
from facelab.faces.batch import FaceBatch
from facelab.faces.world import appearance as looks
from facelab.faces.world import light as lights
from facelab.faces.world import shade
from facelab.faces.world.cache import FaceCache, fill
from facelab.faces.world.chart import harmonics, prepare
from facelab.faces.world.draws import Draws
from facelab.faces.world.expressions import EXPRESSIONS, Directions
from facelab.faces.world.hair import Locks, glasses, grow, hairline, prepare_scalp
from facelab.faces.world.vertices import face_vertices, project, vertex_normals
from facelab.geometry.morphable import MorphableModel
from facelab.geometry.pose import PIVOT, rotation
from facelab.geometry.raster import raster_fragments, rasterize

_LOOK = np.dtype([(name, np.float32) for name in looks.FIELDS])
_WEAR = np.dtype([(name, np.float32) for name in lights.BACKGROUND])
_IDENTITY, _SHOT, _MOTION, _SITTING = range(4)  # streams of random numbers
_CHANGES = ("pose", "expression_coefficients", "identity_coefficients", "appearance", "camera", "light", "gaze", "background")


def replaced(batch: FaceBatch, names: Sequence[str], changes: dict[str, Any]) -> dict[str, np.ndarray]:
    """The batch's fields of these names, those in ``changes`` replaced (by one row for all, or one each)."""
    known = dict(zip(names, batch.require(*names), strict=True))
    for name, value in changes.items():
        if name not in known:
            raise ShapeError(f"rerender cannot change {name!r}; it can change {', '.join(known)} and size")
        value = torch.as_tensor(value)
        try:
            known[name] = torch.broadcast_to(value, known[name].shape)
        except RuntimeError:
            raise ShapeError(f"{name} must have shape {tuple(known[name].shape)}, got {tuple(value.shape)}") from None
    return {name: value.detach().cpu().numpy() for name, value in known.items()}


class _Frame:
    """A thread's buffers for one layer of samples."""

    def __init__(self, side: int):
        self.depth, self.index = np.empty((side, side), np.float32), np.empty((side, side), np.int32)
        self.weights = np.empty((side, side, 3), np.float32)

    def draw(self, points: np.ndarray, triangles: np.ndarray) -> None:
        side = self.depth.shape[0]
        if not raster_fragments(points, triangles, side, side, self.depth, self.index, self.weights):
            raise ShapeError("a face's vertices are not finite or far outside the picture: check pose, camera and coefficients")

    @property
    def parts(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return self.depth, self.index, self.weights


@dataclass(frozen=True)
class _Scene:
    """The shapes of one face, cm in the head frame."""

    face: np.ndarray  # (V,3)
    line: np.ndarray  # hairline over the angle round the head
    top: float  # height above which no hair grows
    hair: Locks | None
    glasses: tuple[np.ndarray, np.ndarray] | None  # vertices, triangles


class FaceWorld:
    r"""A world of made faces, each a pure function of (seed, number): shape, paint, hair, light, and the truth about all of it.

    A face is a morphable model's vertices :math:`X = sR(\bar X + A_{id}\alpha_{id} + A_{exp}\alpha_{exp} - c) + t`, seen in weak
    perspective, painted by :mod:`~facelab.faces.world.appearance`, lit by :mod:`~facelab.faces.world.light`.

    Args:
        seed: which world; different seeds share no person.
        model: a :class:`~facelab.geometry.MorphableModel`; None is the package's own head.
    """

    def __init__(self, seed: int = 0, model: MorphableModel | None = None):
        self.seed = int(seed)
        self.model = MorphableModel.default() if model is None else model
        self._directions = Directions(tuple(self.model.expression_names))

    @cached_property
    def _chart(self):
        return prepare(self.model)

    @cached_property
    def _scalp(self):
        return prepare_scalp(self._chart)

    # ------------------------------------------------------------------------------------------------------------------ sampling

    def sample(
        self,
        n: int,
        *,
        size: int = 64,
        start: int = 0,
        people: int | None = None,
        expressions: str | Sequence[str] | None = None,
        yaw: tuple[float, float] = (-60, 60),
        pitch: tuple[float, float] = (-15, 15),
        roll: tuple[float, float] = (-10, 10),
        sitting: int = 1,
        still: bool = True,
    ) -> FaceBatch:
        """Faces number start … start + n - 1 of this world.

        Args:
            n: how many; start: the number of the first.
            size: side of the pictures in pixels, 16 to 1024.
            people: None makes every face another person (identity = its number); k draws each face from persons 0 … k - 1.
            expressions: one of EXPRESSIONS or several of them to draw from; None is all nine.
            yaw, pitch, roll: degrees, uniform between the two; positive yaw turns the face to the image's right, pitch up, roll clockwise.
            sitting: faces number ``k * sitting`` … ``k * sitting + sitting - 1`` are one person before one wall in one light, as still as
                pictures aligned by their landmarks are (to a quarter of a degree), who shows the expressions in turn.
            still: without it a sitting's faces are frames of a clip, far apart: each has its own pose and expression.

        Returns: a FaceBatch that knows every field. Raises ShapeError for arguments out of range.
        """
        if n < 0 or start < 0:
            raise ShapeError(f"n and start must not be negative, got n={n}, start={start}")
        if people is not None and people < 1:
            raise ShapeError(f"people must be at least 1, got {people}")
        if sitting < 1:
            raise ShapeError(f"a sitting has at least one face, got {sitting}")
        for name, span, most in (("yaw", yaw, 90), ("pitch", pitch, 60), ("roll", roll, 180)):
            if len(span) != 2 or not -most <= span[0] <= span[1] <= most:
                raise ShapeError(f"{name} must be (low, high) degrees within ±{most}, got {span}")
        chosen = self._labels(expressions)
        number = np.arange(start, start + n)
        draws = Draws(self.seed, _SHOT, number, 200)
        scene = draws if sitting == 1 else Draws(self.seed, _SITTING, number // sitting, 200)
        person = np.floor(scene.uniform() * (people or 1)).astype(np.int64) if people else number // sitting
        alone = sitting == 1 or not still
        pose = np.radians(np.stack([(draws if alone else scene).uniform(*span) for span in (yaw, pitch, roll)], 1))
        if alone:
            label = chosen[draws.choice(np.ones(len(chosen)))]
        else:
            pose += np.radians(np.stack([draws.normal(0, 0.25) for _ in range(3)], 1))
            label = chosen[number % sitting % len(chosen)]
        return self._shoot(draws, scene, person, number // sitting, pose, label, size)

    def _labels(self, expressions) -> np.ndarray:
        names = EXPRESSIONS if expressions is None else (expressions,) if isinstance(expressions, str) else tuple(expressions)
        unknown = [name for name in names if name not in EXPRESSIONS]
        if unknown or not names:
            raise ShapeError(f"expressions must be some of {', '.join(EXPRESSIONS)}; got {', '.join(map(str, unknown)) or 'none'}")
        return np.array([EXPRESSIONS.index(name) for name in names])

    def _shoot(
        self, draws: Draws, scene: Draws, person: np.ndarray, clip: np.ndarray, pose: np.ndarray, label: np.ndarray, size: int
    ) -> FaceBatch:
        """``draws`` decide what is a shot's own, ``scene`` what a sitting keeps."""
        ahead = draws.chance(0.75)
        toward = np.stack([-np.clip(pose[:, 0], -0.45, 0.45), -np.clip(pose[:, 1], -0.3, 0.3)], 1)  # at the camera …
        free = np.stack([draws.normal(0, 0.15), draws.normal(-0.03, 0.08)], 1)  # … or elsewhere
        gaze = np.clip(np.where(ahead[:, None], toward + 0.15 * free, free), -0.55, 0.55)
        scale = scene.uniform(0.0305, 0.0365)
        camera = np.stack([scale, scene.normal(0.5, 0.018), scene.normal(0.505, 0.015)], 1)
        coefficients = self._directions.sample(draws, label, gaze[:, 1])
        light, background = lights.sample_light(scene), lights.sample_background(scene)
        identity, appearance = self._people(person)
        return self._render(
            size,
            identity=person,
            clip=clip,
            expression=label,
            pose=pose,
            expression_coefficients=coefficients,
            identity_coefficients=identity,
            appearance=appearance,
            camera=camera,
            light=light,
            gaze=gaze,
            background=background,
        )

    def _people(self, person: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Shape (N,K) and appearance (N,A) of persons."""
        unique, back = np.unique(person, return_inverse=True)
        count = len(self.model.identity_basis)
        draws = Draws(self.seed, _IDENTITY, unique, looks.DRAWN + count)
        appearance = looks.sample_appearance(draws)
        return draws.normals(count, 2.2).astype(np.float32)[back], appearance[back]

    def clip(self, person: int, frames: int, size: int = 64) -> FaceBatch:
        """One person moving smoothly: pose and expression wander between expressions while light and background stay.

        Args: ``person`` number of an identity, ``frames`` how many, ``size`` pixels. Returns a FaceBatch of ``frames``.
        Raises ShapeError.
        """
        if frames < 1 or person < 0:
            raise ShapeError(f"a clip needs frames >= 1 of a person >= 0, got {frames} of {person}")
        keys = max(2, int(np.ceil((frames - 1) / 12)) + 1)  # about two expressions a second
        draws = Draws(self.seed, _MOTION, [person * 2**20 + k for k in range(keys)], 200)
        pose = np.radians(np.stack([draws.uniform(-35, 35), draws.uniform(-10, 10), draws.uniform(-8, 8)], 1))
        label = draws.choice(np.ones(len(EXPRESSIONS)))
        gaze = np.stack([draws.normal(0, 0.2), draws.normal(-0.03, 0.08)], 1)
        coefficients = self._directions.sample(draws, label, gaze[:, 1])
        light, background = lights.sample_light(draws), lights.sample_background(draws)
        time = np.linspace(0, keys - 1, frames) if frames > 1 else np.zeros(1)
        before = np.minimum(time.astype(int), keys - 2)
        part = (time - before)[:, None]
        part = part * part * (3 - 2 * part)
        between = lambda values: values[before] * (1 - part) + values[before + 1] * part  # noqa: E731
        many = lambda row: np.repeat(row[:1], frames, 0)  # noqa: E731
        identity, appearance = self._people(np.full(frames, person))
        nearest = label[np.where(part[:, 0] < 0.5, before, before + 1)]
        return self._render(
            size,
            identity=np.full(frames, person),
            clip=np.full(frames, person),
            expression=nearest,
            pose=between(pose),
            expression_coefficients=between(coefficients),
            identity_coefficients=identity,
            appearance=appearance,
            camera=many(np.array([[0.0335, 0.5, 0.505]])),
            light=many(light),
            gaze=between(gaze),
            background=many(background),
        )

    def rerender(self, batch: FaceBatch, **changes: Any) -> FaceBatch:
        """The same faces with the named truth replaced and everything else kept; picture, mask and landmarks are made anew.

        ``changes``: new values, (N,…) or one row for all, of pose (radians), expression_coefficients, identity_coefficients,
        appearance, camera, light, gaze, background; the labels identity, clip and expression may be given along; ``size`` in pixels.
        Raises ShapeError for an unknown name or a wrong shape, MissingTruthError for a batch that FaceWorld did not make.
        """
        size = int(changes.pop("size", batch.size))
        return self._render(size, **replaced(batch, ("identity", "clip", "expression", *_CHANGES), changes))

    def flow(self, a: FaceBatch, b: FaceBatch) -> tuple[Tensor, Tensor]:
        r"""The exact way back from b's pixels into a's, for the same people in two states.

        A pixel p of b shows a point of head, hair or glasses that a shows at q (or hides): the displacement is :math:`q - p`, so
        that ``warp(a.image, displacement)`` puts a's colours where b has those points.

        Returns: displacement (N,2,H,W) pixels, (x, y), 0 on the background; visible (N,1,H,W) bool, True where a shows the point too
        (within 4 mm of a's z-buffer and inside the picture).
        Raises ShapeError for different sizes or people, MissingTruthError for photographs.
        """
        names = ("identity_coefficients", "appearance", "expression_coefficients", "pose", "camera")
        first, second = ({name: value.cpu().numpy() for name, value in zip(names, batch.require(*names), strict=True)} for batch in (a, b))
        if len(a) != len(b) or a.size != b.size:
            raise ShapeError(f"flow needs two batches of one length and size, got {len(a)} at {a.size} px and {len(b)} at {b.size} px")
        if not np.array_equal(first["appearance"], second["appearance"]):
            raise ShapeError("flow needs the same people in both batches: make b with rerender(a, ...), or draw both with one appearance")
        size = a.size
        displacement, visible = torch.zeros(len(a), 2, size, size), torch.zeros(len(a), 1, size, size, dtype=torch.bool)
        column = torch.arange(size, dtype=torch.float32)
        own = torch.stack(torch.meshgrid(column, column, indexing="xy"))
        for row in range(len(a)):
            there, triangles = self._mesh(row, size, first)
            here, _ = self._mesh(row, size, second)
            maps, _, covered = rasterize(here[None], triangles, there[None], size)
            _, depth, _ = rasterize(there[None], triangles, there[None, :, :1], size)
            inside = ((maps[0, :2] >= -0.5) & (maps[0, :2] <= size - 0.5)).all(0)
            # a surface seen edge-on falls away within a pixel, so the farthest of a's four nearest samples of a surface decides
            depth = torch.where(depth[0].isinf(), torch.inf, depth[0])
            x, y = maps[0, :2].floor().long()
            corners = [depth[(y + j).clamp(0, size - 1), (x + i).clamp(0, size - 1)] for j in (0, 1) for i in (0, 1)]
            behind = torch.stack(corners).amin(0)
            tolerance = 0.4 * float(first["camera"][row, 0]) * size
            visible[row, 0] = covered[0] & inside & ((maps[0, 2] >= behind - tolerance) | behind.isinf())
            displacement[row] = torch.where(covered[0], maps[0, :2] - own, torch.zeros(()))
        return displacement, visible

    def _mesh(self, row: int, size: int, truth: dict[str, np.ndarray]) -> tuple[Tensor, Tensor]:
        """One mesh of a face, its hair where it grows, and its glasses: vertices (V,3) in pixels, triangles (F,3)."""
        scene = self._scene(row, truth)
        points, faces = [scene.face], [self._chart.triangles]
        if scene.hair is not None:
            locks = scene.hair
            faces.append(locks.triangles[(locks.values[locks.triangles, 0] > 0).all(1)] + len(points[0]))
            points.append(locks.vertices)
        if scene.glasses is not None:
            frame, triangles = scene.glasses
            faces.append(triangles + sum(map(len, points)))
            points.append(frame)
        vertices = np.concatenate(points)
        placed = np.empty_like(vertices)
        project(vertices, *self._camera(row, size, truth), placed)
        return torch.from_numpy(placed), torch.from_numpy(np.concatenate(faces))

    def cache(
        self,
        n: int,
        size: int,
        folder: str | Path | None = None,
        *,
        start: int = 0,
        people: int | None = None,
        expressions: str | Sequence[str] | None = None,
        yaw: tuple[float, float] = (-60, 60),
        pitch: tuple[float, float] = (-15, 15),
        roll: tuple[float, float] = (-10, 10),
        sitting: int = 1,
        still: bool = True,
    ) -> FaceCache:
        """What :meth:`sample` gives for the same arguments, made once, kept on disk and mapped into memory.

        Made in chunks with a progress bar; killed half-way, the next call goes on from there; finished, it opens at once.
        ``folder`` None is a folder of its own for every set of arguments inside facelab's cache folder.
        Returns a :class:`~facelab.faces.world.cache.FaceCache`, which indexes to FaceBatch. Raises ShapeError, and AssetError for a
        folder that holds other faces.
        """
        chosen = expressions if expressions is None or isinstance(expressions, str) else list(expressions)
        arguments = {"people": people, "expressions": chosen, "yaw": tuple(yaw), "pitch": tuple(pitch), "roll": tuple(roll),
                     "sitting": sitting, "still": still}  # fmt: skip
        return fill(self, n, size, folder, arguments, start)

    # ----------------------------------------------------------------------------------------------------------------- rendering

    def _render(self, size: int, **truth: np.ndarray) -> FaceBatch:
        if not 16 <= size <= 1024:
            raise ShapeError(f"size must be between 16 and 1024 pixels, got {size}")
        n = len(truth["pose"])
        kind = dict.fromkeys(("identity", "clip", "expression"), np.int64)
        truth = {name: np.ascontiguousarray(value, kind.get(name, np.float32)) for name, value in truth.items()}
        out = {
            "image": np.empty((n, 3, size, size), np.float32),
            "face_mask": np.empty((n, 1, size, size), np.float32),
            "landmarks": np.empty((n, 68, 2), np.float32),
            "landmarks_3d": np.empty((n, 68, 3), np.float32),
            "landmarks_visible": np.empty((n, 68), bool),
        }
        _ = self._scalp  # before threads ask for it
        threads = max(1, min(numba.get_num_threads(), n))
        cuts = [n * t // threads for t in range(threads + 1)]
        work = lambda a, b: self._render_some(range(a, b), size, truth, out)  # noqa: E731
        if threads == 1:
            work(0, n)
        else:
            with ThreadPoolExecutor(threads) as pool:
                list(pool.map(work, cuts[:-1], cuts[1:]))
        return FaceBatch(**{name: torch.from_numpy(value) for name, value in {**truth, **out}.items()})

    def _scene(self, row: int, truth: dict[str, np.ndarray]) -> _Scene:
        """Everything of one face that has a shape, in the head frame."""
        chart, look = self._chart, truth["appearance"][row]
        face, neutral, nothing = np.empty_like(chart.mean), np.empty_like(chart.mean), np.zeros(0, np.float32)
        face_vertices(chart.mean, chart.identity_basis, chart.expression_basis, truth["identity_coefficients"][row], nothing, neutral)
        face_vertices(neutral, chart.identity_basis, chart.expression_basis, nothing, truth["expression_coefficients"][row], face)
        line, top = hairline(look)
        return _Scene(face, line, top, grow(self._scalp, chart, neutral, look, line, top), glasses(neutral, neutral[chart.landmarks], look))

    def _camera(self, row: int, side: int, truth: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray, float, float, float]:
        """What ``project`` needs to draw a face at ``side`` samples: rotation, pivot, samples per cm, and where the pivot comes to lie."""
        scale, x, y = (float(v) for v in truth["camera"][row])
        turn = rotation(torch.from_numpy(truth["pose"][row : row + 1]).double())[0].numpy()
        return turn, np.array(PIVOT, np.float32), scale * side, x * side - 0.5, y * side - 0.5

    def _render_some(self, rows: range, size: int, truth: dict[str, np.ndarray], out: dict[str, np.ndarray]) -> None:
        chart, rate = self._chart, 2
        side = size * rate
        body, locks, lining, frame = _Frame(side), _Frame(side), _Frame(side), _Frame(side)
        normals, placed = np.empty_like(chart.mean), np.empty_like(chart.mean)
        picture, mask = np.empty((size, size, 3)), np.empty((size, size))
        none = np.zeros((0, 3), np.int32)
        for row in rows:
            look = truth["appearance"][row].view(_LOOK)[0]
            wear = truth["background"][row].view(_WEAR)[0]
            where = self._camera(row, side, truth)
            turn, density = where[0], where[2]
            scene = self._scene(row, truth)
            vertex_normals(scene.face, chart.triangles, normals)
            project(scene.face, *where, placed)
            body.draw(placed, chart.triangles)

            lock_triangles, lining_triangles, lock_values, curly = none, none, np.zeros((0, 9), np.float32), 0.0
            if scene.hair is not None:
                lock_triangles, lock_values, curly = scene.hair.triangles, scene.hair.values, scene.hair.curly
                at = np.empty_like(scene.hair.vertices)
                project(scene.hair.vertices, *where, at)
                (ax, ay), (bx, by), (cx, cy) = at[lock_triangles, :2].transpose(1, 2, 0)
                outside = (bx - ax) * (cy - ay) > (by - ay) * (
                    cx - ax
                )  # which side of a lock is seen; behind its ragged edge shows another's inside
                lock_triangles, lining_triangles = lock_triangles[outside], lock_triangles[~outside]
                locks.draw(at, lock_triangles)
                lining.draw(at, lining_triangles)
            frame_triangles, frame_normals = none, np.zeros((0, 3), np.float32)
            if scene.glasses is not None:
                points, frame_triangles = scene.glasses
                at, frame_normals = np.empty_like(points), np.empty_like(points)
                vertex_normals(points, frame_triangles, frame_normals)
                project(points, *where, at)
                frame.draw(at, frame_triangles)

            lamps = lights.directions(truth["light"][row : row + 1])[0] @ turn  # into the head frame
            colours = np.concatenate(
                [truth["light"][row, : 5 * lights.LAMPS].reshape(-1, 5)[:, 2:], truth["light"][row, 5 * lights.LAMPS :].reshape(2, 3)]
            )
            shadows = np.clip(1.6 * np.einsum("vb,lb->vl", chart.visibility, harmonics(lamps).astype(np.float32)) - 0.45, 0.0, 1.0)
            right, up = (float(v) for v in truth["gaze"][row])
            gaze = np.array([np.sin(right) * np.cos(up), np.sin(up), np.cos(right) * np.cos(up)])
            marks = placed[chart.landmarks]
            lids = np.stack(
                [np.stack([marks[[36, 37, 38, 39]], marks[[36, 41, 40, 39]]]), np.stack([marks[[42, 43, 44, 45]], marks[[42, 47, 46, 45]]])]
            )[..., :2]
            lights.paint_background(truth["background"][row], size, picture)
            detail, tile = _level(chart.layers, 26.0, density), _level(chart.noise, 60.0, density)
            front = float(chart.mean[chart.landmarks[62], 2])
            shade.compose(
                look,
                wear,
                curly,
                body.parts,
                chart.triangles,
                chart.parts,
                chart.mean,
                normals,
                shadows,
                chart.openness,
                locks.parts,
                lock_triangles,
                lining.parts,
                lining_triangles,
                lock_values,
                frame.parts,
                frame_triangles,
                frame_normals,
                turn[2].copy(),
                lamps,
                colours,
                gaze,
                chart.eyes,
                lids,
                front,
                chart.axis,
                density,
                scene.line,
                scene.top,
                detail,
                tile,
                rate,
                picture,
                mask,
            )
            shade.develop(picture, out["image"][row])
            out["face_mask"][row, 0] = mask >= 0.5
            out["landmarks"][row] = (marks[:, :2] - (rate - 1) / 2) / rate
            out["landmarks_3d"][row] = scene.face[chart.landmarks]
            out["landmarks_visible"][row] = _seen(
                marks, body, locks if scene.hair is not None else None, lock_triangles, lock_values, density
            )


def _level(levels: tuple[np.ndarray, ...], texels: float, samples: float) -> np.ndarray:
    """The level of a pyramid, ``texels`` a cm at its finest, that suits ``samples`` a cm."""
    return levels[int(np.clip(np.rint(np.log2(max(texels / samples, 1.0))), 0, len(levels) - 1))]


def _seen(
    marks: np.ndarray, body: _Frame, locks: _Frame | None, lock_triangles: np.ndarray, lock_values: np.ndarray, density: float
) -> np.ndarray:
    """(68,) bool: landmarks inside the picture, within 4 mm of the nearest surface and not under hair."""
    side = body.depth.shape[0]
    column, row = np.rint(marks[:, 0]).astype(int), np.rint(marks[:, 1]).astype(int)
    inside = (column >= 0) & (column < side) & (row >= 0) & (row < side)
    column, row = np.clip(column, 0, side - 1), np.clip(row, 0, side - 1)
    seen = inside & (marks[:, 2] >= body.depth[row, column] - 0.4 * density)
    if locks is not None:
        hair = locks.index[row, column]
        thick = lock_values[lock_triangles[hair], 0].mean(1) > 0.1
        seen &= ~((hair >= 0) & thick & (locks.depth[row, column] > marks[:, 2]))
    return seen
