"""The 3DMM regressor on made faces, whose truth is known, and on photographs and clips, of which only a detector's landmarks are."""
import numpy as np
import pytest
import torch
from torch.utils.data import Subset

from facelab import recipes
from facelab.blocks import load_weights, shipped
from facelab.blocks.regressor import Regressor, regressor
from facelab.core import assets_folder
from facelab.evaluation import inter_ocular, judge, landmark_error
from facelab.faces import FaceWorld, Photos
from facelab.faces.photos import Shot, prepare_shots
from facelab.geometry.morphable import SKIN
from facelab.geometry.pose import Parameters, fit_landmarks
from facelab.training import cosine, fit

PEOPLE, FITTED, STEPS = 600, 100, 150
SAME = {"id2_vcd_swwp2s": "pwij3p"}  # one man


def worth(network, found, faces):
    """Medians over made faces: landmarks in % of the distance between the eyes, angles in degrees, the face's vertices in mm."""
    model, true = network.model, Parameters.of(faces)
    shapes = [model.shape(p.identity_coefficients, p.expression_coefficients) for p in (found, true)]
    front = (model.parts == SKIN) & (model.mean[:, 2] > -4)
    angles = torch.rad2deg((found.pose - true.pose).abs()).median(dim=0).values.tolist()
    return {
        "landmarks, %": 100 * landmark_error(network.landmarks(found, faces.size), faces.landmarks, inter_ocular(faces)).median().item(),
        **dict(zip(("yaw", "pitch", "roll"), angles, strict=True)),
        "shape, mm": 10 * (shapes[0] - shapes[1])[:, front].norm(dim=2).mean(dim=1).median().item(),
    }  # fmt: skip


@pytest.mark.timeout(3000)
def test_made_faces(benchmark):
    """At most 4 % of the inter-ocular distance off; landmarks and shape better than fitting the model to the landmarks that the judge
    finds. The three angles are as good (0.9° of yaw either way): the judge knows poses well, and landmarks give them away."""
    network = regressor()
    faces = FaceWorld(0).sample(PEOPLE, size=64, start=20_000, yaw=(-60, 60))
    some = faces[torch.arange(FITTED)]

    def measured():
        found = Parameters.cat([network(part) for part in faces.image.split(200)])
        fitted = fit_landmarks(network.model, judge().look(some.image).landmarks, 64)
        return {"regressor": worth(network, found, faces), "regressor, the first 100": worth(network, found.rows(slice(0, FITTED)), some),
                "fit to the judge's landmarks, the first 100": worth(network, fitted, some)}  # fmt: skip

    found = benchmark.pedantic(measured, rounds=1)
    benchmark.extra_info.update(found)
    for name, row in found.items():
        print(f"{name:45}", {key: round(value, 2) for key, value in row.items()})
    assert found["regressor"]["landmarks, %"] <= 4
    ours, rival = (found[name] for name in list(found)[1:])
    assert all(ours[key] < rival[key] for key in ("landmarks, %", "shape, mm"))
    assert all(ours[key] < rival[key] + 0.2 for key in ("yaw", "pitch", "roll"))


def london(folder):
    marks = np.load(folder / "machine_landmarks68_512.npz")
    for kind, number in (("neutral", "03"), ("smiling", "08")):
        for person, points in zip(marks["ids"], marks[f"landmarks68_{kind}"], strict=True):
            yield Shot(folder / f"{kind}_front/{person}_{number}.jpg", f"{kind}_{person}", f"london {person}", landmarks=points)


def grid(folder):
    marks = np.load(folder / "machine_landmarks68.npz")
    for clip in sorted(marks.files):
        frames = {str(i): points for i, points in enumerate(marks[clip])}
        yield Shot(folder / f"{clip}.mpg", clip, f"grid {SAME.get(clip, clip)}", landmarks=frames)


@pytest.mark.timeout(3000)
def test_photographs_before_and_after_landmarks_alone(benchmark, tmp_path):
    """Eq. 9 on London portraits and GRID frames together, against a detector's landmarks; every person is held out once, in five rounds.

    On GRID's six speakers alone it learns the speakers: 5.4 % became 6.0 % on the one held out."""
    folder = assets_folder()
    if not (folder / "london_set").exists() or not (folder / "grid_video").exists():
        pytest.skip(f"photographs and clips are absent from {folder}")
    shots = [*london(folder / "london_set"), *grid(folder / "grid_video")]
    prepare_shots(shots, tmp_path / "faces", settings={}, size=64, every=3)
    photographs = Photos(tmp_path / "faces")
    everybody = photographs[torch.arange(len(photographs))]
    where = {set_: torch.tensor([photographs.people[i].startswith(set_) for i in photographs.identity]) for set_ in ("london", "grid")}

    def errors(network, rows):
        some = everybody[rows]
        return 100 * landmark_error(network.landmarks(network(some.image), 64), some.landmarks, inter_ocular(some))

    def measured():
        untuned = regressor()
        off = {name: torch.zeros(len(everybody)) for name in ("average of the set", "shipped", "after Eq. 9")}
        for fold in range(5):
            tested = photographs.identity % 5 == fold
            tuned = load_weights(Regressor, Regressor.Config, shipped("regressor"))
            fit(tuned, Subset(photographs, (~tested).nonzero()[:, 0]), steps=STEPS, batch=64, seed=fold, schedule=cosine, warmup=0,
                learning_rate=recipes.RECIPES["regressor"].learning_rate / 5, betas=(0.9, 0.99), progress=False)  # fmt: skip
            for here in where.values():
                rows = tested & here
                mean = everybody[~tested & here].landmarks.mean(dim=0).expand(int(rows.sum()), -1, -1)
                off["average of the set"][rows] = 100 * landmark_error(mean, everybody[rows].landmarks, inter_ocular(everybody[rows]))
                off["shipped"][rows] = errors(untuned, rows)
                with torch.no_grad():
                    off["after Eq. 9"][rows] = errors(tuned.eval(), rows)
        return {f"{set_}: {name}": value[rows].median().item() for set_, rows in where.items() for name, value in off.items()}

    found = benchmark.pedantic(measured, rounds=1)
    benchmark.extra_info.update(found)
    print(f"{len(everybody)} pictures; median landmark error, %:", {k: round(v, 2) for k, v in found.items()})
    for set_ in where:
        assert found[f"{set_}: after Eq. 9"] < min(found[f"{set_}: shipped"], found[f"{set_}: average of the set"])
