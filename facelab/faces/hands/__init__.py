r"""HandWorld: made hands with everything about them known, for the non-face structure of AF-VAE's Fig. 7.

A hand is one smooth surface round 21 joints: rounded cones for bones and flesh, melted together and meshed once. An identity
stretches and thickens its bones, a pose turns them, and each vertex follows up to four bones,

.. math:: x(v) = R \sum_b w_b(v) \left[G_b S_b (v - j_b) + p_b\right],

with S_b the identity's stretch of bone b, G_b its turn, j_b and p_b its joint at rest and in the pose, and R the turn of the hand.
The picture is lit by the lamps of FaceWorld's pictures, before their backgrounds.
"""
from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numba
import numpy as np
import torch
from numpy.typing import NDArray

from facelab.core import ShapeError
from facelab.faces.batch import FaceBatch
from facelab.faces.hands.paint import LOOK, shade
from facelab.faces.hands.shape import TILT, skeleton, skin, template
from facelab.faces.world import light as lights
from facelab.faces.world.appearance import skin_tone
from facelab.faces.world.draws import Draws
from facelab.faces.world.sampling import replaced
from facelab.faces.world.shade import develop
from facelab.faces.world.vertices import vertex_normals
from facelab.geometry.pose import rotation
from facelab.geometry.raster import raster_fragments

GESTURES: dict[str, tuple[float, ...]] = {  # how far thumb, index, middle, ring and little finger are bent, 0 to 1
    "open": (0.0, 0.0, 0.0, 0.0, 0.0), "relaxed": (0.3, 0.25, 0.32, 0.38, 0.42), "fist": (0.95, 1.0, 1.0, 1.0, 1.0),
    "point": (0.9, 0.0, 0.95, 1.0, 1.0), "two": (0.95, 0.0, 0.0, 0.95, 0.95), "three": (0.95, 0.0, 0.0, 0.0, 0.95),
    "four": (0.95, 0.0, 0.0, 0.0, 0.0), "thumb": (0.0, 0.95, 1.0, 1.0, 1.0), "call": (0.0, 0.95, 1.0, 0.95, 0.0),
    "pinch": (0.55, 0.55, 0.2, 0.12, 0.08), "gun": (0.0, 0.0, 0.9, 0.95, 1.0), "claw": (0.4, 0.5, 0.5, 0.5, 0.5),
}  # fmt: skip
"""What ``FaceBatch.expression`` counts in a batch of hands."""

_LOOK = np.dtype([(name, np.float32) for name in LOOK])
_IDENTITY, _SHOT = 10, 11  # streams of random numbers, apart from FaceWorld's
_CHANGES = ("pose", "expression_coefficients", "identity_coefficients", "appearance", "camera", "light", "background")


class HandWorld:
    """A world of made hands, each a pure function of (seed, number), in the batches of FaceWorld: see ``sample`` for their fields.

    Args:
        seed: which world; different seeds share no hand.
    """

    def __init__(self, seed: int = 0) -> None:
        self.seed = int(seed)

    def sample(self, n: int, *, size: int = 64, start: int = 0, people: int | None = None) -> FaceBatch:
        """Hands number start … start + n - 1: identity decides skin, proportions, nails, sleeve; a shot pose, side, light, background.

        Args:
            n: how many; start: the number of the first.
            size: side of the pictures in pixels, 16 to 1024.
            people: None makes every hand another person's (identity = its number); k draws each from persons 0 … k - 1.

        Returns:
            A batch that knows image; landmarks (N,21,2), projected joints in OpenPose's order; identity; expression, an index into
            ``GESTURES``; pose (N,3) radians, yaw 0 shows a right hand's back and pi its palm; expression_coefficients (N,22) joint angles;
            identity_coefficients (N,8) proportions; face_mask, 1 where skin is seen; landmarks_3d (N,21,3) cm before the pose;
            appearance (see ``LOOK``); camera (N,4): pixels per cm at size 1, where the wrist is over size, 1 for a right hand and -1 for
            its mirror image; light and background as in FaceWorld.

        Raises:
            ShapeError: arguments out of range.
        """
        if n < 0 or start < 0:
            raise ShapeError(f"n and start must not be negative, got n={n}, start={start}")
        if people is not None and people < 1:
            raise ShapeError(f"people must be at least 1, got {people}")
        draws = Draws(self.seed, _SHOT, range(start, start + n), 180)
        person = np.floor(draws.uniform() * (people or 1)).astype(np.int64) if people else np.arange(start, start + n)
        gesture = draws.choice(np.array([3.0, 3, 1.5, 1, 1, 1, 1, 1, 0.7, 1, 0.7, 1]))
        palm = draws.chance(0.5)
        pose = np.stack([np.pi * palm + draws.normal(0, 0.45), draws.normal(0, 0.25), draws.normal(0, 0.35)], 1)
        bent = np.clip(np.array(list(GESTURES.values()))[gesture] + 0.05 * np.stack([draws.normal() for _ in range(5)], 1), 0, 1.02)
        angles = [draws.normal(0, 0.16), draws.normal(0, 0.12)]
        spread = draws.normal(0.0, 0.45)
        for f in range(5):
            c, loose = bent[:, f], 0.05 * np.abs(draws.normal())
            if f == 0:
                full = np.radians([28, 38, 62])
                angles.append(0.35 * draws.uniform(-1, 1) * (1 - c) + np.radians(4) * c)
            else:
                full = np.radians([82, 104, 62])
                angles.append(TILT[f] * (0.8 * spread * (1 - c) - 0.85 * c) + 0.03 * draws.normal())
            angles += [c * part + loose + 0.04 * draws.normal() for part in full]
        angles = np.stack(angles, 1)
        light, background = lights.sample_light(draws), lights.sample_background(draws)
        shape, look = self._people(person)
        side = np.where(draws.chance(0.5), 1.0, -1.0)
        joints = skeleton(shape, angles)[0] * np.stack([side, np.ones(n), np.ones(n)], 1)[:, None]
        seen = np.einsum("nij,nkj->nki", rotation(torch.from_numpy(pose)).numpy(), joints)[..., :2]
        low, high = seen.min(1), seen.max(1)
        unit = draws.uniform(0.70, 0.77) / np.maximum((high - low).max(1), 13.0)
        middle = (low + high) / 2 * unit[:, None] * [1, -1]
        x, y = 0.5 - middle[:, 0] + draws.normal(0, 0.015), 0.49 - middle[:, 1] + draws.normal(0, 0.015)
        camera = np.stack([unit, x, y, side], 1)
        truth = {"identity": person, "expression": gesture, "pose": pose, "expression_coefficients": angles, "identity_coefficients": shape,
                 "appearance": look, "camera": camera, "light": light, "background": background}  # fmt: skip
        return self._render(size, truth)

    def _people(self, person: NDArray) -> tuple[NDArray, NDArray]:
        """Proportions (N,8) and looks (N, len(LOOK)) of persons."""
        unique, back = np.unique(person, return_inverse=True)
        draws = Draws(self.seed, _IDENTITY, unique, 60)
        male = draws.chance(0.5)
        long, thick = draws.normal(1 + 0.02 * male, 0.05), draws.normal(0.93 + 0.11 * male, 0.06)
        shape = [long * draws.normal(1, 0.03) for _ in range(5)] + [draws.normal(1, 0.04), draws.normal(0.95 + 0.07 * male, 0.04), thick]
        melanin = draws.uniform() ** 1.2
        skin = skin_tone(0.05 + 0.9 * melanin, draws.normal(0.2, 0.5), draws.normal(0.1, 0.6))
        palm = skin_tone(0.05 + 0.42 * melanin, draws.normal(0.9, 0.3), draws.normal(0.2, 0.4))
        polish = draws.chance(0.5 * ~male).astype(float)[:, None]
        lacquer = np.array([[0.45, 0.02, 0.03], [0.60, 0.20, 0.25], [0.03, 0.02, 0.03], [0.05, 0.12, 0.25], [0.75, 0.55, 0.50]])
        bare = 0.80 * palm + 0.20 * np.array([0.75, 0.42, 0.36])
        nail = bare * (1 - polish) + polish * lacquer[draws.choice(np.ones(5))]
        cuff = np.where(draws.chance(0.55), draws.uniform(-6.0, -1.2), -90.0)
        cloth = lights.sample_background(Draws(self.seed, _IDENTITY, unique, 200))[:, lights.BACKGROUND.index("cloth_r") :][:, :3]
        age, oil, x, y, weave = draws.uniform() ** 2, draws.uniform(0.4, 1.0), draws.uniform(), draws.uniform(), draws.uniform()
        look = np.column_stack([skin, palm, nail, polish, age, oil, x, y, cuff, cloth, weave])
        return np.stack(shape, 1)[back], look[back]

    def rerender(self, batch: FaceBatch, **changes: Any) -> FaceBatch:
        """The same hands with the named truth replaced and everything else kept; picture, mask and landmarks are made anew.

        ``changes``: new values, (N,…) or one row for all, of pose, expression_coefficients, identity_coefficients, appearance, camera,
        light, background; labels ``identity`` and ``expression`` may be given along; ``size`` in pixels. Another's pose is seen where
        it was with its pose, expression_coefficients and camera together.
        Raises ShapeError for an unknown name or a wrong shape, MissingTruthError for a batch that HandWorld did not make.
        """
        size = int(changes.pop("size", batch.size))
        return self._render(size, replaced(batch, ("identity", "expression", *_CHANGES), changes))

    def _render(self, size: int, truth: dict[str, NDArray]) -> FaceBatch:
        if not 16 <= size <= 1024:
            raise ShapeError(f"size must be between 16 and 1024 pixels, got {size}")
        kind = {"identity": np.int64, "expression": np.int64}
        truth = {name: np.ascontiguousarray(value, kind.get(name, np.float32)) for name, value in truth.items()}
        mesh, n = template(), len(truth["pose"])
        joints, matrices, shifts = skeleton(truth["identity_coefficients"].astype(float), truth["expression_coefficients"].astype(float))
        unit, x, y = (truth["camera"][:, :3].astype(float) * size).T
        turn = rotation(torch.from_numpy(truth["pose"]).double()).numpy()
        turn *= np.stack([truth["camera"][:, 3], np.ones(n), np.ones(n)], 1)[:, None]  # a left hand, mirrored
        matrices, shifts = turn[:, None] @ matrices, np.einsum("nij,nbj->nbi", turn, shifts)
        images, masks = np.empty((n, 3, size, size), np.float32), np.empty((n, 1, size, size), np.float32)

        def draw(rows: range) -> None:
            posed, placed, normals = (np.empty(mesh.vertices.shape, np.float32) for _ in range(3))
            side, picture = 2 * size, np.empty((size, size, 3))
            depth, index = np.empty((side, side), np.float32), np.empty((side, side), np.int32)
            weights = np.empty((side, side, 3), np.float32)
            for i in rows:
                look, light = truth["appearance"][i].view(_LOOK)[0], truth["light"][i].astype(float)
                skin(mesh.vertices, mesh.normals, mesh.bones, mesh.weights, matrices[i], shifts[i], float(look["cuff"]), 0.45, posed)
                vertex_normals(posed, mesh.triangles, normals)
                placed[:] = 2 * unit[i] * posed * np.float32([1, -1, 1]) + np.float32([2 * x[i] - 0.5, 2 * y[i] - 0.5, 0])
                if not raster_fragments(placed, mesh.triangles, side, side, depth, index, weights):
                    raise ShapeError("a hand's vertices are not finite or far outside the picture: check pose, camera and coefficients")
                lights.paint_background(truth["background"][i], size, picture)
                lamps = lights.directions(light[None])[0]
                colours = np.concatenate([light[:15].reshape(3, 5)[:, 2:], light[15:].reshape(2, 3)])
                shade(look, depth, index, weights, mesh.triangles, normals, mesh.paint, lamps, colours, 2 * unit[i], picture, masks[i, 0])
                develop(picture, images[i])

        threads = max(1, min(numba.get_num_threads(), n))
        with ThreadPoolExecutor(threads) as pool:  # the kernels release the lock
            list(pool.map(draw, [range(t, n, threads) for t in range(threads)]))
        seen = np.einsum("nij,nkj->nki", turn, joints)[..., :2]
        landmarks = np.stack([x, y], 1)[:, None] - 0.5 + unit[:, None, None] * seen * [1, -1]
        made = {"image": images, "face_mask": masks, "landmarks": landmarks.astype(np.float32), "landmarks_3d": joints.astype(np.float32)}
        return FaceBatch(**{name: torch.from_numpy(value) for name, value in {**truth, **made}.items()})
