"""The judge on photographs and video: its landmarks and its identities beside dlib's, and beside knowing only the average face."""
import numpy as np
import pytest
import torch

from facelab.core import assets_folder
from facelab.evaluation import judge, landmark_error
from facelab.faces import FaceWorld
from facelab.faces.photos import align_face
from facelab.faces.photos.align import to_batch
from facelab.faces.photos.read import frames, read_picture

pytest.importorskip("dlib", reason="the [offline] extra is not installed")
import realism

SIDE = 256  # dlib sees this; the judge reduces it to its own 64 px
EVERY = 15  # frames of a clip


def london():
    folder = assets_folder() / "london_set"
    if not folder.exists():
        pytest.skip(f"{folder} is absent")
    found = np.load(folder / "machine_landmarks68_512.npz")
    return {
        kind: [align_face(read_picture(folder / f"{kind}_front/{person}_{number}.jpg"), points, SIDE)
               for person, points in zip(found["ids"], found[f"landmarks68_{kind}"], strict=True)]
        for kind, number in (("neutral", "03"), ("smiling", "08"))
    }  # fmt: skip


def grid():
    folder = assets_folder() / "grid_video"
    if not folder.exists():
        pytest.skip(f"{folder} is absent")
    found, faces = np.load(folder / "machine_landmarks68.npz"), []
    for clip in found.files:
        for i, (_, frame) in enumerate(frames(folder / f"{clip}.mpg", EVERY)):
            faces.append(align_face(frame, found[clip][i * EVERY], SIDE))
    return {"grid": faces}


def errors(faces):
    """{reader: (all 68, inner 51)}: median over faces, % of the distance between the eyes' centres, against the machine landmarks.

    Those come from a detector too: a reader that shares its training, as dlib's may, is flattered.
    """
    true = torch.tensor(np.stack([face.landmarks for face in faces]), dtype=torch.float32)
    apart = (true[:, 36:42].mean(dim=1) - true[:, 42:48].mean(dim=1)).norm(dim=1)
    hog, _, predictor, _ = realism.opinion()
    by_dlib, seen = [], []
    for face in faces:
        boxes = hog(face.picture, realism.HOG_UPSAMPLING)
        seen.append(bool(boxes))
        if boxes:
            by_dlib.append([(p.x, p.y) for p in predictor(face.picture, realism._largest(boxes)).parts()])
    made = FaceWorld(0).sample(100, size=64, yaw=(0, 0), pitch=(0, 0), roll=(0, 0)).landmarks.mean(dim=0)
    world = (made + 0.5) * SIDE / 64 - 0.5
    seen = torch.tensor(seen)
    said = {
        "judge": judge().look(torch.cat([to_batch(face.picture) for face in faces])).landmarks[seen],
        "dlib": torch.tensor(by_dlib, dtype=torch.float32),
        "average made face": world.expand_as(true)[seen],
        "average of the set": true.mean(dim=0).expand_as(true)[seen],
    }
    return int(seen.sum()), {
        name: tuple(100 * float(landmark_error(points[:, part], true[seen][:, part], apart[seen]).median())
                    for part in (slice(None), slice(17, None)))
        for name, points in said.items()
    }  # fmt: skip


def accuracy(alike):
    """Balanced accuracy, chance 0.5, of same (the diagonal) and different people by (N,N) likenesses: each person's pairs are judged by
    the threshold that is best for pairs of the others."""
    n, right = len(alike), []
    for i in range(n):
        rest = np.delete(np.delete(alike, i, 0), i, 1)
        same, other = np.diag(rest), rest[~np.eye(n - 1, dtype=bool)]
        at = np.unique(rest)
        score = (1 - np.searchsorted(np.sort(same), at) / len(same)) + np.searchsorted(np.sort(other), at) / len(other)
        threshold = at[score.argmax()]
        apart = np.delete(np.concatenate([alike[i], alike[:, i]]), [i, n + i])
        right.append(((alike[i, i] >= threshold) + (apart < threshold).mean()) / 2)
    return float(np.mean(right))


@pytest.mark.timeout(3000)
@pytest.mark.parametrize("which", [london, grid], ids=["london", "grid"])
def test_landmarks(which, benchmark):
    sets = which()
    found = benchmark.pedantic(lambda: {kind: errors(faces) for kind, faces in sets.items()}, rounds=1)
    benchmark.extra_info.update({kind: told for kind, (_, told) in found.items()})
    for kind, (seen, told) in found.items():
        print(kind, f"{seen} of {len(sets[kind])} faces", {name: f"{a:.1f} % all, {b:.1f} % inner" for name, (a, b) in told.items()})
    for _, told in found.values():
        assert all(np.isfinite(pair).all() for pair in told.values())


@pytest.mark.timeout(3000)
def test_identity(benchmark):
    shots = london()

    def measured():
        hog, _, predictor, network = realism.opinion()
        by_dlib, by_judge = [], []
        for faces in shots.values():
            by_judge.append(judge().look(torch.cat([to_batch(face.picture) for face in faces])).identity.numpy())
            by_dlib.append(np.array([
                network.compute_face_descriptor(face.picture, predictor(face.picture, realism._largest(hog(face.picture, 1))))
                for face in faces
            ]))  # fmt: skip
        alike = {"judge": by_judge[0] @ by_judge[1].T, "dlib": -np.linalg.norm(by_dlib[0][:, None] - by_dlib[1][None], axis=2)}
        return {name: accuracy(table) for name, table in alike.items()}

    found = benchmark.pedantic(measured, rounds=1)
    benchmark.extra_info.update(found)
    print(found)
    assert found["dlib"] > 0.9 and found["judge"] > 0.5
